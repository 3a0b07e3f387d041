//! `/v1/session/*`: who may hold locks, and for how long.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lictor_core::api::Error;
use lictor_core::api::session::{DEFAULT_LOCK_DELAY, Request, Session, Ttl, Wanted};
use lictor_core::duration;
use lictor_core::id::SessionId;
use serde::{Serialize, Serializer};
use warp::http::Method;

use crate::ask::{Ask, Asked, Form, Shape, decoded, needed};
use crate::decode::Fields;
use crate::reply::Refusal;

/// Below so many nanoseconds a lock delay is meant in seconds, whichever way it was written.
const SMALL: u64 = 1000;

/// What a path of this subject names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint<'p> {
    Create,
    Destroy(&'p [u8]),
    Renew(&'p [u8]),
    Info(&'p [u8]),
    Node(&'p [u8]),
    List,
}

/// What a request asks for. Reads take every method.
pub(crate) fn ask<'f>(endpoint: Endpoint<'_>, form: Form<'f>) -> Result<Asked<'f>, Refusal> {
    let params = form.params;
    let id_of = |name| needed(name, "Missing session");
    let write = || form.only(&Method::PUT, "PUT");
    let (request, shape) = match endpoint {
        Endpoint::Create => {
            write()?;
            return Ok(Asked::body(move |body| Ok(Ask::new(Request::Create(wanted(body)?), Shape::Json, params))));
        }
        Endpoint::Destroy(id) => {
            write()?;
            (Request::Destroy { id: id_of(id)? }, Shape::Json)
        }
        Endpoint::Renew(id) => {
            write()?;
            (Request::Renew { id: id_of(id)? }, Shape::Json)
        }
        Endpoint::Info(id) => {
            let read = params.read_options()?;
            (Request::Info { id: id_of(id)?, read }, Shape::Read)
        }
        Endpoint::Node(name) => {
            let read = params.read_options()?;
            (Request::Node { node: needed(name, "Missing node name")?, read }, Shape::Read)
        }
        Endpoint::List => (Request::List { read: params.read_options()? }, Shape::Read),
    };
    Ok(Ask::new(request, shape, params).into())
}

/// What a body asks for; one without a body takes all that is usual.
fn wanted(body: &Bytes) -> Result<Wanted, Refusal> {
    if body.is_empty() {
        return Ok(Wanted::default());
    }
    let (wanted, ttl) = decoded(body, |fields| {
        let wanted = Wanted {
            name: fields.text("Name"),
            node: fields.has("Node").then(|| fields.text("Node")),
            checks: fields.check_ids("Checks"),
            lock_delay: lock_delay(fields),
            behavior: fields.text("Behavior"),
            ttl: Ttl::default(),
        };
        (wanted, fields.text("TTL"))
    })?;
    Ok(Wanted { ttl: self::ttl(ttl)?, ..wanted })
}

fn lock_delay(fields: &Fields<'_>) -> Duration {
    if !fields.has("LockDelay") {
        return DEFAULT_LOCK_DELAY;
    }
    // Less than nothing is nothing.
    let nanos = u64::try_from(fields.nanos("LockDelay")).unwrap_or(0);
    if nanos < SMALL { Duration::from_secs(nanos) } else { Duration::from_nanos(nanos) }
}

fn ttl(text: String) -> Result<Ttl, Refusal> {
    if text.is_empty() {
        return Ok(Ttl::default());
    }
    match duration::parse_nanos(&text) {
        Some(nanos) => Ok(Ttl { text, nanos }),
        None => Err(Refusal::of(&Error::BadSessionTtl { why: duration::why_not(&text), text })),
    }
}

/// The ID of what was created, as JSON.
#[derive(Serialize)]
pub(crate) struct ShownCreated {
    #[serde(rename = "ID", serialize_with = "as_text")]
    id: SessionId,
}

/// The answer to a creation.
pub(crate) fn created(id: SessionId) -> ShownCreated {
    ShownCreated { id }
}

/// Sessions, as JSON.
pub(crate) fn sessions(sessions: &[Arc<Session>]) -> Vec<ShownSession<'_>> {
    sessions.iter().map(|session| ShownSession::from(&**session)).collect()
}

/// A session, as JSON.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownSession<'s> {
    #[serde(rename = "ID", serialize_with = "as_text")]
    id: SessionId,
    name: &'s str,
    node: &'s str,
    checks: &'s [String],
    /// Nanoseconds.
    lock_delay: u64,
    #[serde(serialize_with = "as_text")]
    behavior: lictor_core::api::session::Behavior,
    #[serde(rename = "TTL")]
    ttl: &'s str,
    create_index: u64,
    modify_index: u64,
}

impl<'s> From<&'s Session> for ShownSession<'s> {
    fn from(session: &'s Session) -> Self {
        Self {
            id: session.id,
            name: &session.name,
            node: &session.node,
            checks: &session.checks,
            lock_delay: u64::try_from(session.lock_delay.as_nanos()).unwrap_or(u64::MAX),
            behavior: session.behavior,
            ttl: &session.ttl.text,
            create_index: session.create_index.0,
            // It never changes.
            modify_index: session.create_index.0,
        }
    }
}

fn as_text<S: Serializer>(value: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &'static str) -> Wanted {
        wanted(&Bytes::from_static(body.as_bytes())).unwrap()
    }

    fn refused(body: &'static str) -> (u16, String) {
        let refusal = wanted(&Bytes::from_static(body.as_bytes())).unwrap_err();
        (refusal.status.as_u16(), refusal.text.into_owned())
    }

    #[test]
    fn what_is_not_said_is_as_usual() {
        for body in ["", "{}", "null", r#"{"Node": null, "Checks": null, "LockDelay": null, "TTL": "", "ID": "x"}"#] {
            assert_eq!(read(body), Wanted::default(), "{body}");
        }
    }

    #[test]
    fn everything_can_be_said() {
        let expected = Wanted {
            name: "lock".into(),
            node: Some("foobar".into()),
            checks: Some(vec!["a".into(), String::new()]),
            lock_delay: Duration::from_secs(5),
            behavior: "delete".into(),
            ttl: Ttl { text: "1m30s".into(), nanos: 90_000_000_000 },
        };
        assert_eq!(
            read(
                r#"{"LockDelay": "5s", "Name": "lock", "node": "foobar", "checks": ["a", null], "Behavior": "delete",
                    "TTL": "1m30s"}"#
            ),
            expected
        );
        let nothing = read(r#"{"Node": "", "Checks": [], "TTL": "0"}"#);
        assert_eq!((nothing.node.as_deref(), nothing.checks), (Some(""), Some(vec![])));
        assert_eq!(nothing.ttl, Ttl { text: "0".into(), nanos: 0 });
    }

    #[test]
    fn small_lock_delays_are_seconds() {
        for (written, delay) in [
            ("0", Duration::ZERO),
            ("1", Duration::from_secs(1)),
            ("1.5", Duration::from_secs(1)),
            ("999", Duration::from_secs(999)),
            ("1000", Duration::from_micros(1)),
            ("1.5e+10", Duration::from_secs(15)),
            ("-1", Duration::ZERO),
            (r#""0s""#, Duration::ZERO),
            (r#""20ns""#, Duration::from_secs(20)),
            (r#""2ms""#, Duration::from_millis(2)),
            (r#""-5s""#, Duration::ZERO),
        ] {
            let body = Bytes::from(format!(r#"{{"lockdelay": {written}}}"#));
            assert_eq!(wanted(&body).unwrap().lock_delay, delay, "{written}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_in_the_words_of_consul() {
        let decoding = |why: &str| (400, format!("Request decode failed: {why}"));
        assert_eq!(refused("{"), decoding("unexpected EOF"));
        assert_eq!(refused("[]"), decoding("'' expected a map, got 'slice'"));
        let several = "2 error(s) decoding:\n\n* 'Checks[0]' expected type 'types.CheckID', got unconvertible type 'float64'\n\
                       * 'LockDelay' expected type 'time.Duration', got unconvertible type 'bool'";
        assert_eq!(refused(r#"{"LockDelay": true, "Checks": [5]}"#), decoding(several));
        assert_eq!(refused(r#"{"LockDelay": "5", "Name": 1}"#), decoding("time: missing unit in duration \"5\""));
        assert_eq!(
            refused(r#"{"TTL": "10"}"#),
            (500, "Session TTL '10' invalid: time: missing unit in duration \"10\"".into())
        );
        assert_eq!(
            refused(r#"{"TTL": 15}"#),
            decoding("1 error(s) decoding:\n\n* 'TTL' expected type 'string', got unconvertible type 'float64'")
        );
    }
}
