//! Sessions, over connections.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use lictor_core::api::session::{Behavior, Request, Session, Ttl, Wanted};
use lictor_core::api::{Call, Consistency, Error, Read, ReadMeta, ReadOptions, Response};
use lictor_core::id::{Index, SessionId};

use crate::client::Server;
use crate::recorder;

const ID: &str = "adf4238a-882b-9ddc-4a9d-5b6758e4159e";

fn session() -> Session {
    Session {
        id: SessionId::parse(ID).unwrap(),
        name: "s".into(),
        node: "n".into(),
        checks: vec!["serfHealth".into()],
        lock_delay: Duration::from_secs(15),
        behavior: Behavior::Delete,
        ttl: Ttl { text: "1m30s".into(), nanos: 90_000_000_000 },
        create_index: Index(8),
    }
}

const SHOWN: &str = r#"[{"ID":"adf4238a-882b-9ddc-4a9d-5b6758e4159e","Name":"s","Node":"n","Checks":["serfHealth"],"LockDelay":15000000000,"Behavior":"delete","TTL":"1m30s","CreateIndex":8,"ModifyIndex":8}]"#;

#[tokio::test]
async fn a_session_is_created_from_a_body_or_without_one() {
    let (calls, call) = recorder();
    let server = Server::start(call);
    let mut client = server.client();
    client.request("PUT", "/v1/session/create?dc=dc2&token=t", b"").await;
    client
        .request("PUT", "/v1/session/create", br#"{"Node": "x", "Checks": [], "TTL": "10s", "Datacenter": "dc9"}"#)
        .await;
    let said = Wanted {
        node: Some("x".into()),
        checks: Some(vec![]),
        ttl: Ttl { text: "10s".into(), nanos: 10_000_000_000 },
        ..Wanted::default()
    };
    let expected = [
        Call {
            datacenter: Some("dc2".into()),
            token: Some("t".into()),
            request: Request::Create(Wanted::default()).into(),
        },
        Call { datacenter: None, token: None, request: Request::Create(said).into() },
    ];
    assert_eq!(*calls.lock().unwrap(), expected);

    let created = Response::SessionCreated(SessionId::parse(ID).unwrap());
    let server = Server::start(move |_| ready(Ok(created.clone())));
    let answer = server.client().request("PUT", "/v1/session/create", b"").await;
    assert_eq!((answer.status, answer.text()), (200, &*format!(r#"{{"ID":"{ID}"}}"#)));
    assert_eq!(answer.header("x-consul-index"), None);
}

#[tokio::test]
async fn writes_are_put_and_reads_have_their_parameters() {
    let (calls, call) = recorder();
    let server = Server::start(call);
    let mut client = server.client();
    for target in ["create", "destroy/x", "renew/x"] {
        for method in ["GET", "POST", "DELETE"] {
            let answer = client.request(method, &format!("/v1/session/{target}"), b"").await;
            assert_eq!((answer.status, answer.header("allow")), (405, Some("PUT")), "{method} {target}");
        }
    }
    for (method, target, why) in [
        ("PUT", "destroy/", "Missing session"),
        ("PUT", "renew/", "Missing session"),
        ("GET", "info/", "Missing session"),
        ("GET", "node/", "Missing node name"),
        ("GET", "node/?index=x", "Invalid index"),
        ("GET", "list?wait=x", "Invalid wait time"),
    ] {
        let answer = client.request(method, &format!("/v1/session/{target}"), b"").await;
        assert_eq!((answer.status, answer.text()), (400, why), "{target}");
    }
    assert!(calls.lock().unwrap().is_empty());

    for (method, target) in [
        ("PUT", "destroy/a"),
        ("PUT", "renew/a/b"),
        ("GET", "info/a?stale"),
        ("GET", "node/n%20m?index=7"),
        ("GET", "list"),
    ] {
        client.request(method, &format!("/v1/session/{target}"), b"").await;
    }
    let asked: Vec<_> = calls.lock().unwrap().iter().map(|call| call.request.clone()).collect();
    let plain = ReadOptions::default();
    let expected = [
        Request::Destroy { id: "a".into() },
        Request::Renew { id: "a/b".into() },
        Request::Info { id: "a".into(), read: ReadOptions { consistency: Consistency::Stale, ..plain.clone() } },
        Request::Node { node: "n m".into(), read: ReadOptions { index: Index(7), ..plain.clone() } },
        Request::List { read: plain },
    ];
    assert_eq!(asked, expected.map(Into::into));
}

#[tokio::test]
async fn sessions_are_shown_as_people_know_them() {
    let meta = ReadMeta { index: Index(9), known_leader: true, last_contact: Duration::ZERO };
    let one = Response::Sessions(Read { meta, value: vec![Arc::new(session())] });
    let server = Server::start(move |_| ready(Ok(one.clone())));
    let answer = server.client().get("/v1/session/list").await;
    assert_eq!((answer.text(), answer.header("x-consul-index")), (SHOWN, Some("9")));

    let server = Server::start(move |_| ready(Ok(Response::Sessions(Read { meta, value: vec![] }))));
    assert_eq!(server.client().get("/v1/session/info/x").await.text(), "[]");

    let server = Server::start(|_| ready(Ok(Response::Renewed(Arc::new(session())))));
    let answer = server.client().request("PUT", "/v1/session/renew/x", b"").await;
    assert_eq!((answer.text(), answer.header("x-consul-index")), (SHOWN, None));
}

#[tokio::test]
async fn failures_have_the_status_codes_of_consul() {
    let server = Server::start(|_| ready(Err(Error::NoSuchSession("x".into()))));
    let answer = server.client().request("PUT", "/v1/session/renew/x", b"").await;
    assert_eq!((answer.status, answer.text()), (404, "Session id 'x' not found"));
    let server = Server::start(|_| ready(Err(Error::MalformedSession)));
    let answer = server.client().get("/v1/session/info/x").await;
    assert_eq!((answer.status, answer.header("x-consul-index")), (500, Some("0")));
}
