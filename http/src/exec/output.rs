//! `/v1/exec/output/<session>`: what a job's commands write, as far as it does not go through the store, for whoever has them run by
//! way of this agent.
//!
//! `PUT` has it collected here and says where, for the job; `POST` says what has been dealt with, and blocks for more; `DELETE` ends it. All
//! take `?prefix=`, what the job's keys begin with: whoever may read those may read this.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lictor_core::api::exec::{Inbox, Piece, Progress, Request};
use lictor_core::exec::layout::DEFAULT_PREFIX;
use lictor_core::id::SessionId;
use serde::Serialize;
use warp::http::Method;

use crate::ask::{Ask, Asked, Form, Shape, decoded, text};
use crate::decode::Fields;
use crate::reply::Refusal;

/// The methods of this endpoint.
const METHODS: &str = "DELETE, POST, PUT";

/// What a request asks for.
pub(crate) fn ask<'f>(session: &[u8], form: Form<'f>) -> Result<Asked<'f>, Refusal> {
    let session = text(session);
    let session = SessionId::parse(&session).ok_or_else(|| Refusal::bad_request("the path must name a session"))?;
    let prefix = form.params.first("prefix").map_or_else(|| DEFAULT_PREFIX.to_owned(), text);
    match *form.method {
        Method::PUT => Ok(Ask::here(Request::Open { prefix, session }, Shape::Json).into()),
        Method::DELETE => Ok(Ask::here(Request::Close { prefix, session }, Shape::Json).into()),
        Method::POST => {
            let (wait, _) = form.params.waiting()?;
            Ok(Asked::body(move |body| {
                let progress = decoded(body, |fields| fields.objects("Nodes", progress))?;
                let progress = progress.into_iter().collect();
                Ok(Ask::here(Request::Collect { prefix, session, progress, wait }, Shape::Json))
            }))
        }
        _ => Err(Refusal::wrong_method(form.method, METHODS)),
    }
}

/// How far a node is.
fn progress(fields: &Fields<'_>) -> (String, Progress) {
    let number = |name| u32::try_from(fields.unsigned(name)).unwrap_or(u32::MAX);
    (fields.text("Node"), Progress { taken: number("Taken"), have: number("Have") })
}

/// Where something is collected.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownInbox {
    #[serde(rename = "ID")]
    id: String,
    peer: String,
    address: String,
}

impl From<Inbox> for ShownInbox {
    fn from(Inbox { id, peer, address }: Inbox) -> Self {
        Self { id: id.to_string(), peer: peer.0.to_string(), address: address.to_string() }
    }
}

/// A piece of output.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownPiece<'p> {
    node: &'p str,
    number: u32,
    output: String,
}

/// What has come.
pub(crate) fn pieces(pieces: &[Piece]) -> Vec<ShownPiece<'_>> {
    let shown = pieces.iter().map(|Piece { node, number, output }| {
        let output = STANDARD.encode(output);
        ShownPiece { node, number: *number, output }
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lictor_core::api;
    use std::time::Duration;

    use super::*;
    use crate::params::Params;

    const SESSION: &str = "adf4238a-882b-9ddc-4a9d-5b6758e4159e";

    fn read(method: &Method, query: &'static str, body: &str) -> Result<api::Request, String> {
        let params = Params::parse(query);
        let form = Form { method, params: &params, token: None };
        let asked = match ask(SESSION.as_bytes(), form) {
            Ok(Asked::Ready(asked)) => Ok(asked),
            Ok(Asked::Body(complete)) => complete(&Bytes::copy_from_slice(body.as_bytes())),
            Ok(_) => panic!("neither"),
            Err(refusal) => Err(refusal),
        };
        asked.map(|ask| ask.request).map_err(|refusal| refusal.text.into_owned())
    }

    #[test]
    fn requests_are_read() {
        let session = SessionId::parse(SESSION).unwrap();
        let prefix = || "_rexec".to_owned();
        assert_eq!(read(&Method::PUT, "", ""), Ok(Request::Open { prefix: prefix(), session }.into()));
        let closed = Request::Close { prefix: "a/b".to_owned(), session };
        assert_eq!(read(&Method::DELETE, "prefix=a%2Fb", ""), Ok(closed.into()));
        let body = r#"{"Nodes": [{"Node": "n", "Taken": 3, "Have": 70}, {"node": "m"}]}"#;
        let progress = [("n".to_owned(), Progress { taken: 3, have: 70 }), ("m".to_owned(), Progress::default())];
        let wait = Some(Duration::from_secs(3));
        let collected = Request::Collect { prefix: prefix(), session, progress: progress.into(), wait };
        assert_eq!(read(&Method::POST, "wait=3s", body), Ok(collected.into()));
        assert!(read(&Method::POST, "", r#"{"Nodes": 3}"#).is_err());
        assert!(read(&Method::POST, "wait=x", "{}").is_err());
        assert!(read(&Method::GET, "", "").unwrap_err().contains("not allowed"));
        let params = Params::parse("");
        assert!(ask(b"x", Form { method: &Method::PUT, params: &params, token: None }).is_err());
    }

    #[test]
    fn answers_are_shown() {
        let piece = Piece { node: "n".to_owned(), number: 7, output: Bytes::from_static(b"hi\n") };
        let shown = serde_json::to_string(&pieces(&[piece])).unwrap();
        assert_eq!(shown, r#"[{"Node":"n","Number":7,"Output":"aGkK"}]"#);
    }
}
