//! `/v1/kv/<key>`: the key-value store.

use std::borrow::Cow;

use bytes::Bytes;
use lictor_core::api::Read;
use lictor_core::api::kv::{Entries, Entry, Key, PutMode, Request};
use lictor_core::id::{Index, SessionId};
use serde::{Serialize, Serializer};
use warp::http::Method;

use crate::json::Base64;
use crate::params::Params;
use crate::reply::{self, HttpResponse, Layout, Refusal};

/// The methods of this endpoint.
pub(crate) const METHODS: &str = "GET, PUT, DELETE";

/// What a request to this endpoint asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Complete as it is.
    Ready(Request),
    /// A put that is still to get its value from the body.
    Put { key: Key, flags: u64, mode: PutMode },
    /// Nothing that this endpoint has.
    WrongMethod,
}

/// Reads method, key and parameters. They are looked at in Consul's order, which decides what is said
/// when more than one thing is wrong.
pub(crate) fn operation(method: &Method, key: &[u8], params: &Params<'_>) -> Result<Operation, Refusal> {
    let read = params.read_options()?;
    let own_key = || Key::copy_from_slice(key);
    Ok(match *method {
        Method::GET if params.has("keys") => {
            let separator = params.first("separator").map(Bytes::copy_from_slice).unwrap_or_default();
            Operation::Ready(Request::Keys { prefix: own_key(), separator, read })
        }
        Method::GET if params.has("recurse") => Operation::Ready(Request::List { prefix: own_key(), read }),
        Method::GET => {
            require_key(key)?;
            Operation::Ready(Request::Get { key: own_key(), read })
        }
        Method::PUT => {
            require_key(key)?;
            let (flags, mode) = put_condition(params)?;
            Operation::Put { key: own_key(), flags, mode }
        }
        Method::DELETE => {
            params.exclusive(&["recurse", "cas"])?;
            if params.has("recurse") {
                return Ok(Operation::Ready(Request::DeleteTree { prefix: own_key() }));
            }
            require_key(key)?;
            Operation::Ready(Request::Delete { key: own_key(), cas: params.number("cas")?.map(Index) })
        }
        _ => Operation::WrongMethod,
    })
}

/// `?raw` is for single keys alone.
pub(crate) fn layout(request: &Request, params: &Params<'_>) -> Layout {
    Layout { raw: matches!(request, Request::Get { .. }) && params.has("raw"), ..params.layout() }
}

fn require_key(key: &[u8]) -> Result<(), Refusal> {
    if key.is_empty() { Err(Refusal::bad_request("Missing key name")) } else { Ok(()) }
}

fn put_condition(params: &Params<'_>) -> Result<(u64, PutMode), Refusal> {
    params.exclusive(&["cas", "acquire", "release"])?;
    let flags = params.number("flags")?.unwrap_or(0);
    let session = |name| params.first(name).map(|text| String::from_utf8_lossy(text).into_owned());
    let mode = if let Some(index) = params.number("cas")? {
        PutMode::Cas(Index(index))
    } else if let Some(session) = session("acquire") {
        PutMode::Acquire(session)
    } else if let Some(session) = session("release") {
        PutMode::Release(session)
    } else {
        PutMode::Set
    };
    Ok((flags, mode))
}

/// The answer to a read of entries.
pub(crate) fn entries(read: &Read<Entries>, layout: Layout) -> HttpResponse {
    match read.value.first() {
        None => reply::nothing(&read.meta),
        Some(entry) if layout.raw => reply::raw(&read.meta, entry.value.clone()),
        Some(_) => reply::read(&read.meta, &AllShown(&read.value), layout),
    }
}

/// The answer to a read of keys.
pub(crate) fn keys(read: &Read<Vec<Key>>, layout: Layout) -> HttpResponse {
    if read.value.is_empty() {
        return reply::nothing(&read.meta);
    }
    let keys: Vec<_> = read.value.iter().map(|key| shown_key(key)).collect();
    reply::read(&read.meta, &keys, layout)
}

/// Entries as JSON.
struct AllShown<'e>(&'e Entries);

impl Serialize for AllShown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|entry| Shown::new(entry)))
    }
}

/// An entry as JSON, its fields in the order that people know.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Shown<'e> {
    lock_index: u64,
    key: Cow<'e, str>,
    flags: u64,
    value: Option<Base64<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Session>,
    create_index: u64,
    modify_index: u64,
}

impl<'e> Shown<'e> {
    pub(crate) fn new(entry: &'e Entry) -> Self {
        Self {
            lock_index: entry.lock_index,
            key: shown_key(&entry.key),
            flags: entry.flags,
            value: (!entry.value.is_empty()).then_some(Base64(&entry.value)),
            session: entry.session.map(Session),
            create_index: entry.create_index.0,
            modify_index: entry.modify_index.0,
        }
    }
}

struct Session(SessionId);

impl Serialize for Session {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A key as text. JSON has no bytes: as in Go, each byte that is no UTF-8 is shown as U+FFFD.
fn shown_key(key: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(key) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(key.len() + 8);
    for chunk in key.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lictor_core::api::{Consistency, ReadOptions};

    use super::*;
    use crate::json;

    fn read(method: &Method, key: &str, query: &str) -> Result<Operation, Refusal> {
        operation(method, key.as_bytes(), &Params::parse(query))
    }

    fn ready(method: &Method, key: &str, query: &str) -> Request {
        match read(method, key, query) {
            Ok(Operation::Ready(request)) => request,
            other => panic!("expected a complete request, got {other:?}"),
        }
    }

    fn refused(method: &Method, key: &str, query: &str) -> (u16, String) {
        let refusal = read(method, key, query).unwrap_err();
        (refusal.status.as_u16(), refusal.text.into_owned())
    }

    #[test]
    fn gets_are_by_key_by_prefix_or_of_keys() {
        let options = ReadOptions::default();
        let key = Key::from_static(b"a/b");
        assert_eq!(ready(&Method::GET, "a/b", ""), Request::Get { key: key.clone(), read: options.clone() });
        assert_eq!(ready(&Method::GET, "a/b", "recurse"), Request::List { prefix: key.clone(), read: options.clone() });
        let keys = |separator| Request::Keys { prefix: key.clone(), separator, read: options.clone() };
        assert_eq!(ready(&Method::GET, "a/b", "keys&recurse"), keys(Bytes::new()));
        assert_eq!(ready(&Method::GET, "a/b", "keys&separator=%FF/"), keys(Bytes::from_static(b"\xff/")));
        let stale = ready(&Method::GET, "a", "stale&index=7");
        assert!(
            matches!(stale, Request::Get { read, .. } if read.consistency == Consistency::Stale && read.index == Index(7))
        );
    }

    #[test]
    fn puts_have_flags_and_at_most_one_condition() {
        let put = |flags, mode| Ok(Operation::Put { key: Key::from_static(b"k"), flags, mode });
        assert_eq!(read(&Method::PUT, "k", ""), put(0, PutMode::Set));
        assert_eq!(read(&Method::PUT, "k", "flags=18446744073709551615"), put(u64::MAX, PutMode::Set));
        assert_eq!(read(&Method::PUT, "k", "cas=0"), put(0, PutMode::Cas(Index(0))));
        assert_eq!(read(&Method::PUT, "k", "acquire="), put(0, PutMode::Acquire(String::new())));
        assert_eq!(read(&Method::PUT, "k", "release=s&flags=1"), put(1, PutMode::Release("s".into())));
        assert_eq!(refused(&Method::PUT, "k", "release=s&cas=0"), (400, "Conflicting flags: cas=0&release=s".into()));
        assert_eq!(refused(&Method::PUT, "k", "cas=").0, 500);
    }

    #[test]
    fn deletes_are_by_key_by_index_or_by_prefix() {
        let key = Key::from_static(b"k");
        assert_eq!(ready(&Method::DELETE, "k", ""), Request::Delete { key: key.clone(), cas: None });
        assert_eq!(ready(&Method::DELETE, "k", "cas=5"), Request::Delete { key: key.clone(), cas: Some(Index(5)) });
        assert_eq!(ready(&Method::DELETE, "k", "recurse"), Request::DeleteTree { prefix: key });
        assert_eq!(ready(&Method::DELETE, "", "recurse"), Request::DeleteTree { prefix: Key::new() });
        assert_eq!(refused(&Method::DELETE, "k", "recurse&cas=1"), (400, "Conflicting flags: cas=1&recurse=".into()));
    }

    #[test]
    fn a_key_is_needed_unless_a_prefix_will_do() {
        for (method, query) in [(Method::GET, ""), (Method::GET, "raw"), (Method::PUT, ""), (Method::DELETE, "")] {
            assert_eq!(refused(&method, "", query), (400, "Missing key name".into()));
        }
        assert!(read(&Method::GET, "", "keys").is_ok() && read(&Method::GET, "", "recurse").is_ok());
        assert_eq!(read(&Method::POST, "k", ""), Ok(Operation::WrongMethod));
    }

    #[test]
    fn raw_is_for_single_keys() {
        let raw = |query: &str| {
            let params = Params::parse(query);
            layout(&ready(&Method::GET, "k", query), &params).raw
        };
        assert!(raw("raw") && raw("raw=no&pretty"));
        assert!(!raw("raw&recurse") && !raw("raw&keys") && !raw(""));
    }

    fn entry(key: &'static [u8], value: &'static [u8]) -> Entry {
        Entry {
            key: Key::from_static(key),
            value: Bytes::from_static(value),
            flags: u64::MAX,
            create_index: Index(4),
            modify_index: Index(9),
            lock_index: 2,
            session: None,
        }
    }

    fn shown(entry: Entry) -> String {
        String::from_utf8(json::to_vec(&AllShown(&vec![Arc::new(entry)]), false)).unwrap()
    }

    #[test]
    fn entries_are_shown_as_consul_shows_them() {
        assert_eq!(
            shown(entry(b"zip", b"\xff\xfe\xfd\xfb\xff")),
            "[{\"LockIndex\":2,\"Key\":\"zip\",\"Flags\":18446744073709551615,\"Value\":\"//79+/8=\",\
             \"CreateIndex\":4,\"ModifyIndex\":9}]"
        );
        let session = SessionId::parse("adf4238a-882b-9ddc-4a9d-5b6758e4159e");
        let held = Entry { session, ..entry(b"<k>", b"") };
        assert_eq!(
            shown(held),
            "[{\"LockIndex\":2,\"Key\":\"\\u003ck\\u003e\",\"Flags\":18446744073709551615,\"Value\":null,\
             \"Session\":\"adf4238a-882b-9ddc-4a9d-5b6758e4159e\",\"CreateIndex\":4,\"ModifyIndex\":9}]"
        );
    }

    #[test]
    fn each_byte_of_a_key_that_is_no_utf_8_is_shown_as_a_replacement() {
        assert_eq!(shown_key(b"a\xe2\x82b\xff"), "a\u{fffd}\u{fffd}b\u{fffd}");
        assert_eq!(shown_key("\u{20ac}".as_bytes()), "\u{20ac}");
    }
}
