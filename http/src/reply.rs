//! From replies to HTTP: the one place where an error gets its status code, and where headers are made.

use std::borrow::Cow;
use std::io;

use bytes::Bytes;
use futures_util::Stream;
use lictor_core::api::{Error, ReadMeta};
use lictor_core::error::Busy;
use serde::Serialize;
use warp::Reply as _;
use warp::http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use warp::http::{Method, StatusCode};

use crate::{json, path};

/// An HTTP response.
pub(crate) type HttpResponse = warp::reply::Response;

const INDEX: HeaderName = HeaderName::from_static("x-consul-index");
const KNOWN_LEADER: HeaderName = HeaderName::from_static("x-consul-knownleader");
const LAST_CONTACT: HeaderName = HeaderName::from_static("x-consul-lastcontact");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");
const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// A request that is answered without asking the agent, because something is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) text: Cow<'static, str>,
    /// What to use instead of a method that is not there.
    allowed: Option<&'static str>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, text: text.into(), allowed: None }
    }

    pub(crate) fn bad_request(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// What the agent would say, where it need not be asked.
    pub(crate) fn of(error: &Error) -> Self {
        Self::new(status_of(error), error.to_string())
    }

    /// A method that the endpoint does not have.
    pub(crate) fn wrong_method(method: &Method, allowed: &'static str) -> Self {
        let text = format!("method {method} not allowed here: use one of {allowed}");
        Self { allowed: Some(allowed), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, text) }
    }

    pub(crate) fn into_response(self) -> HttpResponse {
        let mut response = plain(self.status, self.text);
        if let Some(allowed) = self.allowed {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        }
        response
    }
}

/// How a successful answer is to be laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// `?pretty`: for people.
    pub(crate) pretty: bool,
    /// `?raw`: the bytes of the value alone.
    pub(crate) raw: bool,
}

/// The status code of an error. Consul answers most of them with 500.
fn status_of(error: &Error) -> StatusCode {
    match error {
        Error::BadDefinition(_) | Error::BadCheckStatus(_) | Error::NoServiceNamed => StatusCode::BAD_REQUEST,
        Error::ServiceNotRegistered(_)
        | Error::NoSuchSession(_)
        | Error::NoSuchQuery
        | Error::NoTokenToClone
        | Error::NotCollected => StatusCode::NOT_FOUND,
        Error::AclDisabled => StatusCode::UNAUTHORIZED,
        Error::PermissionDenied | Error::UnknownToken | Error::RootToken | Error::RootStays | Error::AnonymousStays => {
            StatusCode::FORBIDDEN
        }
        Error::ValueTooLarge { .. }
        | Error::RegistrationTooLarge { .. }
        | Error::TokenTooLarge { .. }
        | Error::TxnTooLong { .. }
        | Error::TxnTooLarge { .. }
        | Error::TxnValueTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Error::KeyTooLarge { .. } => StatusCode::URI_TOO_LONG,
        Error::Busy { what: Busy::UncommittedBytes, .. } | Error::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        Error::Busy { .. } => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Whether what failed so may succeed when it is tried again, as clients judge it, who see the status alone.
pub(crate) fn may_pass(error: &Error) -> bool {
    let status = status_of(error);
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// The answer to a call that failed.
pub(crate) fn failed(error: &Error) -> HttpResponse {
    let status = status_of(error);
    let mut response = plain(status, error.to_string());
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// The answer to a read that failed: the headers say that nothing is known.
pub(crate) fn failed_read(error: &Error) -> HttpResponse {
    let mut response = failed(error);
    set_meta(&mut response, &ReadMeta::default());
    response
}

/// A JSON answer.
pub(crate) fn json(value: &impl Serialize, layout: Layout) -> HttpResponse {
    let mut response = HttpResponse::new(json::to_vec(value, layout.pretty).into());
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// The answer to a read: JSON with its headers.
pub(crate) fn read(meta: &ReadMeta, value: &impl Serialize, layout: Layout) -> HttpResponse {
    let mut response = json(value, layout);
    set_meta(&mut response, meta);
    response
}

/// A JSON answer with an index, which is no read of replicated data.
pub(crate) fn indexed(index: u64, value: &impl Serialize, layout: Layout) -> HttpResponse {
    let mut response = json(value, layout);
    response.headers_mut().insert(INDEX, HeaderValue::from(index));
    response
}

/// The answer to what was done and leaves nothing to be said.
pub(crate) fn empty() -> HttpResponse {
    HttpResponse::new(Bytes::new().into())
}

/// The answer to a read of `kind` that comes piece by piece.
pub(crate) fn stream<S>(meta: &ReadMeta, kind: &'static str, pieces: S) -> HttpResponse
where
    S: Stream<Item = io::Result<Bytes>> + Send + Sync + 'static,
{
    let mut response = warp::reply::stream(pieces).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    set_meta(&mut response, meta);
    response
}

/// Text that goes on and on.
pub(crate) fn log<S>(pieces: S) -> HttpResponse
where
    S: Stream<Item = io::Result<Bytes>> + Send + Sync + 'static,
{
    let mut response = warp::reply::stream(pieces).into_response();
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// JSON objects, one on each line, as they come to be.
pub(crate) fn lines<S>(pieces: S) -> HttpResponse
where
    S: Stream<Item = io::Result<Bytes>> + Send + Sync + 'static,
{
    let mut response = warp::reply::stream(pieces).into_response();
    response.headers_mut().insert(CONTENT_TYPE, LINES);
    response
}

/// The answer to a read that found nothing. It has no body: clients look at the index alone.
pub(crate) fn nothing(meta: &ReadMeta) -> HttpResponse {
    let mut response = HttpResponse::new(Bytes::new().into());
    *response.status_mut() = StatusCode::NOT_FOUND;
    set_meta(&mut response, meta);
    response
}

/// A stored value as it is. Its kind is text or bytes and nothing else: a browser must not take what
/// somebody stored for a page.
pub(crate) fn raw(meta: &ReadMeta, value: Bytes) -> HttpResponse {
    let kind = if is_text(&value) { TEXT } else { BINARY };
    let mut response = HttpResponse::new(value.into());
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    set_meta(&mut response, meta);
    response
}

fn set_meta(response: &mut HttpResponse, meta: &ReadMeta) {
    response.headers_mut().insert(INDEX, HeaderValue::from(meta.index.0));
    set_contact(response, meta);
}

/// The headers of a read that has no index to wait for.
pub(crate) fn set_contact(response: &mut HttpResponse, meta: &ReadMeta) {
    let headers = response.headers_mut();
    headers.insert(KNOWN_LEADER, HeaderValue::from_static(if meta.known_leader { "true" } else { "false" }));
    let contact = u64::try_from(meta.last_contact.as_millis()).unwrap_or(u64::MAX);
    headers.insert(LAST_CONTACT, HeaderValue::from(contact));
}

/// What a body says of the read that it answers, where it does. No index: such reads never wait.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownMeta {
    index: u64,
    /// In nanoseconds.
    last_contact: u64,
    known_leader: bool,
}

impl From<&ReadMeta> for ShownMeta {
    fn from(meta: &ReadMeta) -> Self {
        let last_contact = u64::try_from(meta.last_contact.as_nanos()).unwrap_or(u64::MAX);
        Self { index: 0, last_contact, known_leader: meta.known_leader }
    }
}

/// Whether the beginning looks like text, by the rule of the WHATWG's "MIME Sniffing": no control
/// characters but those that occur in text.
fn is_text(value: &[u8]) -> bool {
    let control = |b: &u8| matches!(b, 0x00..=0x08 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    !value[..value.len().min(512)].iter().any(control)
}

/// A plain sentence.
pub(crate) fn plain(status: StatusCode, text: impl Into<Cow<'static, str>>) -> HttpResponse {
    let body = match text.into() {
        Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
        Cow::Owned(text) => Bytes::from(text),
    };
    let mut response = HttpResponse::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

/// The answer to a method that the endpoint does not have.
pub(crate) fn wrong_method(method: &Method, allowed: &'static str) -> HttpResponse {
    Refusal::wrong_method(method, allowed).into_response()
}

/// Sends the client to another path with the same query. Only a GET gets a page to look at.
pub(crate) fn moved(method: &Method, to: &[u8], query: &str) -> HttpResponse {
    let mut location = path::encode(to);
    if !query.is_empty() {
        location.push('?');
        location.push_str(query);
    }
    let page = match *method {
        Method::GET => {
            format!("<a href=\"{}\">Moved Permanently</a>.\n\n", location.replace('&', "&amp;").replace('"', "&#34;"))
        }
        _ => String::new(),
    };
    let mut response = HttpResponse::new(page.into());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let headers = response.headers_mut();
    if *method == Method::GET {
        headers.insert(CONTENT_TYPE, HTML);
    }
    // An encoded path and a query that came in a request line hold nothing that a header may not.
    if let Ok(location) = HeaderValue::try_from(location) {
        headers.insert(LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lictor_core::id::Index;

    use super::*;

    fn header(response: &HttpResponse, name: &str) -> Option<String> {
        response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn errors_have_the_status_codes_of_consul() {
        let busy = |what| Error::Busy { what, limit: 1 };
        let cases = [
            (Error::NoLeader, 500),
            (Error::NoPathToDatacenter, 500),
            (Error::MissingSession, 500),
            (Error::NoSuchSession("s".into()), 404),
            (Error::BadBehavior("b".into()), 500),
            (Error::DiskFull, 500),
            (Error::MissingNodeOrAddress, 500),
            (Error::BadDefinition("Missing check name".into()), 400),
            (Error::BadCheckStatus("bogus".into()), 400),
            (Error::ServiceNotRegistered("s".into()), 404),
            (Error::NoTtl("c".into()), 500),
            (Error::NoSuchQuery, 404),
            (Error::BadQuery("x".into()), 500),
            (Error::RegistrationTooLarge { limit: 1 }, 413),
            (Error::ValueTooLarge { limit: 524_288 }, 413),
            (Error::TxnTooLong { count: 65, limit: 64 }, 413),
            (Error::TxnTooLarge { limit: 1 }, 413),
            (Error::TxnValueTooLarge { key: "k".into(), size: 2, limit: 1 }, 413),
            (Error::KeyTooLarge { limit: 1 }, 414),
            (busy(Busy::OpenCalls), 429),
            (busy(Busy::BlockedQueries), 429),
            (busy(Busy::Services), 429),
            (busy(Busy::UncommittedBytes), 503),
            (Error::ShuttingDown, 503),
        ];
        for (error, status) in cases {
            let response = failed(&error);
            assert_eq!(response.status().as_u16(), status, "{error}");
            assert_eq!(header(&response, "retry-after").is_some(), matches!(status, 429 | 503), "{error}");
        }
    }

    #[test]
    fn reads_carry_index_leader_and_contact() {
        let meta = ReadMeta { index: Index(7), known_leader: true, last_contact: Duration::from_micros(12_900) };
        let response = nothing(&meta);
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(header(&response, "x-consul-index").as_deref(), Some("7"));
        assert_eq!(header(&response, "x-consul-knownleader").as_deref(), Some("true"));
        assert_eq!(header(&response, "x-consul-lastcontact").as_deref(), Some("12"));
    }

    #[test]
    fn raw_values_are_text_or_bytes() {
        for (value, text) in
            [(&b"a\n\tb\x1b[0m"[..], true), (b"", true), (b"<html>", true), (b"\0", false), (b"a\x01", false)]
        {
            assert_eq!(is_text(value), text, "{value:?}");
        }
        assert!(is_text("\u{17e}lu\u{165}".as_bytes()));
    }

    #[test]
    fn a_redirect_keeps_the_query_and_has_a_page_for_get_only() {
        let get = moved(&Method::GET, b"/v1/kv/a b", "recurse&x=1");
        assert_eq!(get.status(), StatusCode::MOVED_PERMANENTLY);
        assert_eq!(header(&get, "location").as_deref(), Some("/v1/kv/a%20b?recurse&x=1"));
        assert_eq!(header(&get, "content-type").as_deref(), Some("text/html; charset=utf-8"));
        let put = moved(&Method::PUT, b"/v1/kv/\xff", "");
        assert_eq!(header(&put, "location").as_deref(), Some("/v1/kv/%FF"));
        assert_eq!(header(&put, "content-type"), None);
    }
}
