//! Transactions, over connections.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lictor_core::api::kv::Entry;
use lictor_core::api::txn::{Fault, Op, Outcome, Request, Told, Verb};
use lictor_core::api::{Call, Consistency, Error, ReadMeta, ReadOptions, Response};
use lictor_core::id::Index;

use crate::client::Server;
use crate::recorder;

fn told(value: &'static [u8]) -> Told {
    let entry = Entry {
        key: "a".into(),
        value: Bytes::from_static(value),
        flags: 7,
        create_index: Index(4),
        modify_index: Index(5),
        lock_index: 0,
        session: None,
    };
    Told { entry: Arc::new(entry), with_value: !value.is_empty() }
}

/// What is answered to an outcome: status, type of the content, whether a leader is known, body.
async fn shown(outcome: Outcome) -> (u16, String, Option<String>, String) {
    let server = Server::start(move |_| ready(Ok(Response::Txn(outcome.clone()))));
    let answer = server.client().request("PUT", "/v1/txn", b"[]").await;
    let kind = answer.header("content-type").unwrap_or_default().to_owned();
    let leader = answer.header("x-consul-knownleader").map(str::to_owned);
    assert_eq!(answer.header("x-consul-index"), None, "nobody can wait for it");
    (answer.status, kind, leader, answer.text().to_owned())
}

#[tokio::test]
async fn a_transaction_is_read_from_its_body() {
    let (calls, call) = recorder();
    let server = Server::start(call);
    let body = br#"[{"KV": {"Verb": "set", "Key": "a", "Value": "dg==", "Flags": 7}}, {"KV": {"Verb": "get", "Key": "b"}}, {}]"#;
    server.client().request("PUT", "/v1/txn?dc=dc2&stale&token=t", body).await;
    server.client().request("PUT", "/v1/txn?stale&index=5", br#"[{"KV": {"Verb": "get", "Key": "b"}}]"#).await;
    server.client().request("PUT", "/v1/txn", b"[]").await;
    let get = || Op {
        verb: Verb::Get,
        key: "b".into(),
        value: Bytes::new(),
        flags: 0,
        index: Index(0),
        session: String::new(),
    };
    let set = Op { verb: Verb::Set, key: "a".into(), value: "v".into(), flags: 7, ..get() };
    let stale = ReadOptions { consistency: Consistency::Stale, ..ReadOptions::default() };
    let both = Request { ops: vec![set, get()], read: ReadOptions::default() };
    let first = Call { datacenter: Some("dc2".into()), token: Some("t".into()), request: both.into() };
    let second = Call::new(Request { ops: vec![get()], read: stale });
    let third = Call::new(Request { ops: vec![], read: ReadOptions::default() });
    assert_eq!(*calls.lock().unwrap(), [first, second, third]);
}

#[tokio::test]
async fn what_is_no_transaction_reaches_nobody() {
    let (calls, call) = recorder();
    let server = Server::start(call);
    let mut client = server.client();
    for (body, why) in [
        ("", "EOF"),
        ("x", "invalid character 'x' looking for beginning of value"),
        ("{}", "unexpected raw type: map[]"),
        (r#"[{"KV": {"Value": "not base64!"}}]"#, "failed to decode value: illegal base64 data at input byte 3"),
        (r#"[{"KV": {"Value": 5}}]"#, "unexpected value type: float64"),
    ] {
        let answer = client.request("PUT", "/v1/txn", body.as_bytes()).await;
        assert_eq!((answer.status, answer.text()), (400, &*format!("Failed to parse body: {why}")));
    }
    for method in ["GET", "POST", "DELETE"] {
        assert_eq!(client.request(method, "/v1/txn", b"").await.status, 405);
    }
    let both = client.request("PUT", "/v1/txn?stale&consistent", b"[]").await;
    assert_eq!(both.status, 400);
    assert!(calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_transaction_may_be_larger_than_a_value_but_not_without_end() {
    let (calls, call) = recorder();
    let server = Server::start(call);
    let body = format!(r#"[{{"KV": {{"Verb": "set", "Key": "a", "Value": "{}"}}}}]"#, "A".repeat(4 * (400 << 10)));
    assert_eq!(server.client().request("PUT", "/v1/txn", body.as_bytes()).await.status, 200);
    let body = " ".repeat(4 << 20);
    assert_eq!(server.client().request("PUT", "/v1/txn", format!("{body}[]").as_bytes()).await.status, 413);
    assert_eq!(calls.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn outcomes_are_shown_as_consul_shows_them() {
    let (meta, json) =
        (ReadMeta { index: Index(9), known_leader: true, last_contact: Duration::from_millis(3) }, "application/json");
    let fault = || Fault { op: 1, what: "key \"x\" doesn't exist".into() };
    let entry = r#"{"KV":{"LockIndex":0,"Key":"a","Flags":7,"Value":null,"CreateIndex":4,"ModifyIndex":5}}"#;
    let of_value = entry.replace("null", "\"dg==\"");
    let tail = r#","Index":0,"LastContact":3000000,"KnownLeader":true}"#;
    let written = shown(Outcome { results: vec![told(b"")], ..Outcome::default() }).await;
    assert_eq!(written, (200, json.into(), None, format!(r#"{{"Results":[{entry}],"Errors":null}}"#)));
    let read = shown(Outcome { results: vec![told(b"v")], faults: vec![], read: Some(meta) }).await;
    let body = format!(r#"{{"Results":[{of_value}],"Errors":null{tail}"#);
    assert_eq!(read, (200, json.into(), Some("true".into()), body));
    let failed = shown(Outcome { faults: vec![fault()], ..Outcome::default() }).await;
    let errors = r#"{"Results":null,"Errors":[{"OpIndex":1,"What":"key \"x\" doesn't exist"}]"#;
    assert_eq!(failed, (409, json.into(), None, format!("{errors}}}")));
    let failed = shown(Outcome { faults: vec![fault()], read: Some(meta), ..Outcome::default() }).await;
    assert_eq!(failed, (409, json.into(), Some("true".into()), format!("{errors}{tail}")));
}

#[tokio::test]
async fn too_much_is_told_as_such() {
    let server = Server::start(|_| ready(Err(Error::TxnTooLong { count: 65, limit: 64 })));
    let answer = server.client().request("PUT", "/v1/txn", b"[]").await;
    assert_eq!((answer.status, answer.text()), (413, "Transaction contains too many operations (65 > 64)"));
}
