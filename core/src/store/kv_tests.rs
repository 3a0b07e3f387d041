//! Locks, conditions and listings by hand. `core/tests/store.rs` compares the rest with a model.

use uuid::Uuid;

use super::*;
use crate::api::kv::Request;
use crate::store::{Answer, Store};

const A: SessionId = SessionId(Uuid::from_u128(0xa));
const B: SessionId = SessionId(Uuid::from_u128(0xb));
const GONE: SessionId = SessionId(Uuid::from_u128(0xdead));

/// A store in which the sessions `A` and `B` exist, and whose next index is 11.
fn store() -> Store {
    let mut store = Store::default();
    for id in [A, B] {
        store.sessions.insert(Index(1), Session { id, ..Session::plain() });
    }
    store.note_applied(Index(10));
    store
}

fn lock(session: SessionId) -> Mode {
    Mode::Lock { session, judged_at: Index(10) }
}

fn key(text: &str) -> Key {
    Key::copy_from_slice(text.as_bytes())
}

fn apply(store: &mut Store, command: Command) -> Result<bool, Error> {
    let before = store.clone();
    let applied = store.apply(store.index().next(), command.into());
    if !matches!(applied.response, Ok(Response::Done(true))) {
        assert!(applied.touched.is_empty(), "a write that did not take place touches nothing");
        assert!(store.kv == before.kv, "a write that did not take place changes nothing");
    }
    applied.response.map(|response| response == Response::Done(true))
}

fn put(store: &mut Store, text: &str, value: &'static str, flags: u64, mode: Mode) -> Result<bool, Error> {
    let value = Bytes::from_static(value.as_bytes());
    apply(store, Command::Put { key: key(text), value, flags, mode })
}

/// The answer to a read of one key.
fn get(store: &Store, text: &str) -> Answer {
    store.query(&Request::Get { key: key(text), read: Default::default() }).expect("a get is a read")
}

/// An entry as a row: value, flags, create index, modify index, lock index, holder.
fn row(store: &Store, text: &str) -> Option<(String, u64, u64, u64, u64, Option<SessionId>)> {
    let Body::Entries(entries) = get(store, text).body else { panic!("a get answers with entries") };
    entries.first().map(|e| {
        let value = String::from_utf8(e.value.to_vec()).expect("these tests put text");
        (value, e.flags, e.create_index.0, e.modify_index.0, e.lock_index, e.session)
    })
}

fn folded(store: &Store, prefix: &str, separator: &'static str) -> Vec<String> {
    let (prefix, separator) = (key(prefix), Bytes::from_static(separator.as_bytes()));
    let answer = store.query(&Request::Keys { prefix, separator, read: Default::default() });
    let Some(Answer { body: Body::Keys(keys), .. }) = answer else { panic!("keys are answered with keys") };
    keys.iter().map(|key| key.escape_ascii().to_string()).collect()
}

#[test]
fn a_lock_is_taken_kept_overwritten_and_released() {
    let mut s = store();
    assert_eq!(put(&mut s, "l", "holder", 0, lock(A)), Ok(true));
    assert_eq!(row(&s, "l"), Some(("holder".into(), 0, 11, 11, 1, Some(A))));
    assert_eq!(put(&mut s, "l", "again", 4, lock(A)), Ok(true));
    assert_eq!(row(&s, "l"), Some(("again".into(), 4, 11, 12, 1, Some(A))));
    // A plain write keeps the holder and resets the count; so does a check-and-set.
    assert_eq!(put(&mut s, "l", "plain", 0, Mode::Set), Ok(true));
    assert_eq!(row(&s, "l"), Some(("plain".into(), 0, 11, 13, 0, Some(A))));
    assert_eq!(put(&mut s, "l", "no", 5, Mode::Cas(Index(0))), Ok(false));
    assert_eq!(put(&mut s, "l", "cas", 6, Mode::Cas(Index(13))), Ok(true));
    assert_eq!(row(&s, "l"), Some(("cas".into(), 6, 11, 15, 0, Some(A))));
    assert_eq!(put(&mut s, "l", "released", 0, Mode::Unlock(A)), Ok(true));
    assert_eq!(row(&s, "l"), Some(("released".into(), 0, 11, 16, 0, None)));
    assert_eq!(put(&mut s, "l", "twice", 0, Mode::Unlock(A)), Ok(false));
    assert_eq!(put(&mut s, "l", "next", 3, lock(A)), Ok(true));
    assert_eq!(row(&s, "l"), Some(("next".into(), 3, 11, 18, 1, Some(A))));
}

#[test]
fn one_of_two_sessions_holds_a_lock_and_the_count_goes_on() {
    let mut s = store();
    assert_eq!(put(&mut s, "l", "before", 0, Mode::Set), Ok(true));
    assert_eq!(put(&mut s, "l", "a", 0, lock(A)), Ok(true));
    assert_eq!(put(&mut s, "l", "b", 0, lock(B)), Ok(false));
    assert_eq!(put(&mut s, "l", "b", 0, Mode::Unlock(B)), Ok(false));
    assert_eq!(row(&s, "l"), Some(("a".into(), 0, 11, 12, 1, Some(A))));
    assert_eq!(put(&mut s, "l", "a done", 2, Mode::Unlock(A)), Ok(true));
    assert_eq!(row(&s, "l"), Some(("a done".into(), 2, 11, 15, 1, None)));
    assert_eq!(put(&mut s, "l", "b", 0, lock(B)), Ok(true));
    assert_eq!(row(&s, "l"), Some(("b".into(), 0, 11, 16, 2, Some(B))));
    // A session can hold several; a locked key can be deleted, and counts anew when it returns.
    assert_eq!(put(&mut s, "other", "b", 0, lock(B)), Ok(true));
    assert_eq!(apply(&mut s, Command::Delete { key: key("l"), cas: None }), Ok(true));
    assert_eq!(put(&mut s, "l", "fresh", 0, lock(A)), Ok(true));
    assert_eq!(row(&s, "l"), Some(("fresh".into(), 0, 19, 19, 1, Some(A))));
}

#[test]
fn a_session_that_does_not_exist_takes_no_lock() {
    let mut s = store();
    assert!(s.session_exists(A) && !s.session_exists(GONE));
    let refused = Err(Error::InvalidSession(GONE.to_string()));
    assert_eq!(put(&mut s, "l", "x", 0, lock(GONE)), refused);
    assert_eq!(put(&mut s, "l", "x", 0, Mode::Unlock(GONE)), Ok(false));
    assert_eq!(row(&s, "l"), None);
    assert_eq!(put(&mut s, "l", "free", 0, Mode::Set), Ok(true));
    assert_eq!(put(&mut s, "l", "x", 0, lock(GONE)), refused);
    assert_eq!(put(&mut s, "l", "x", 0, Mode::Unlock(GONE)), Ok(false));
    assert_eq!(row(&s, "l"), Some(("free".into(), 0, 13, 13, 0, None)));
}

#[test]
fn separators_fold_as_consul_does() {
    let mut s = store();
    for name in ["web/bar", "web/foo", "web/subdir/a", "web/subdir/b", "web/subdir/deep/c", "web", "web/zed/q"] {
        assert_eq!(put(&mut s, name, "v", 0, Mode::Set), Ok(true));
    }
    assert_eq!(folded(&s, "web/", "/"), ["web/bar", "web/foo", "web/subdir/", "web/zed/"]);
    assert_eq!(folded(&s, "web", "/"), ["web", "web/"]);
    assert_eq!(folded(&s, "", "/"), ["web", "web/"]);
    assert_eq!(folded(&s, "web/subdir", "/"), ["web/subdir/"]);
    assert_eq!(folded(&s, "web/subdir/", "/"), ["web/subdir/a", "web/subdir/b", "web/subdir/deep/"]);
    assert_eq!(folded(&s, "web/", "d"), ["web/bar", "web/foo", "web/subd", "web/zed"]);
    assert_eq!(folded(&s, "web/", "ub"), ["web/bar", "web/foo", "web/sub", "web/zed/q"]);
    assert_eq!(folded(&s, "web/", "").len(), 6);
    assert!(folded(&s, "none", "/").is_empty());
}

#[test]
fn a_missing_key_reports_the_table_and_is_judged_by_itself() {
    let mut s = store();
    assert_eq!((get(&s, "a").index, get(&s, "a").changed), (Index(1), Index(0)));
    assert_eq!(put(&mut s, "b", "v", 0, Mode::Set), Ok(true));
    assert_eq!((get(&s, "a").index, get(&s, "a").changed), (Index(11), Index(0)));
    assert_eq!(put(&mut s, "a", "v", 0, Mode::Set), Ok(true));
    assert_eq!(apply(&mut s, Command::Delete { key: key("a"), cas: None }), Ok(true));
    assert_eq!(put(&mut s, "b", "v", 0, Mode::Set), Ok(true));
    assert_eq!((get(&s, "a").index, get(&s, "a").changed), (Index(14), Index(13)));
    assert_eq!((get(&s, "b").index, get(&s, "b").changed), (Index(14), Index(14)));
}

#[test]
fn overwriting_a_clone_leaves_the_original() {
    let mut s = store();
    assert_eq!(put(&mut s, "a", "old", 0, Mode::Set), Ok(true));
    let before = s.clone();
    assert!(before == s);
    assert_eq!(put(&mut s, "a", "new", 0, Mode::Set), Ok(true));
    assert_eq!(row(&before, "a"), Some(("old".into(), 0, 11, 11, 0, None)));
    assert_eq!(row(&s, "a"), Some(("new".into(), 0, 11, 12, 0, None)));
}
