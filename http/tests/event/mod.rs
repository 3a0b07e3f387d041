//! User events, over connections.

use std::future::ready;
use std::time::Duration;

use bytes::Bytes;
use lictor_core::api::event::{Event, Listed, Request};
use lictor_core::api::{Call, Error, EventFilter, Response};
use lictor_core::id::LamportTime;
use uuid::Uuid;

use crate::client::Server;
use crate::recorder;

fn event(payload: &'static [u8]) -> Event {
    Event {
        id: Uuid::from_u128(7),
        name: "deploy".into(),
        payload: Bytes::from_static(payload),
        time: LamportTime(3),
        ..Event::default()
    }
}

const SHOWN: &str = r#"{"ID":"00000000-0000-0000-0000-000000000007","Name":"deploy","Payload":null,"NodeFilter":"","ServiceFilter":"","TagFilter":"","Version":1,"LTime":3}"#;

#[tokio::test]
async fn an_event_is_fired_with_its_bytes_and_filters() {
    let (calls, call) = recorder();
    let server = Server::start(call);
    let target = "/v1/event/fire/ev%20x/y?node=%5Eweb&service=s&tag=t&dc=dc2";
    server.client().request("PUT", target, b"\x00\x01\xff").await;
    let fired = Event {
        name: "ev x/y".into(),
        payload: Bytes::from_static(b"\x00\x01\xff"),
        node_filter: "^web".into(),
        service_filter: "s".into(),
        tag_filter: "t".into(),
        ..Event::default()
    };
    let expected = Call { datacenter: Some("dc2".into()), token: None, request: Request::Fire(fired).into() };
    assert_eq!(*calls.lock().unwrap(), [expected]);
    let nameless = server.client().request("PUT", "/v1/event/fire/", b"").await;
    assert_eq!((nameless.status, nameless.text()), (400, "Missing name"));
    for method in ["GET", "POST"] {
        assert_eq!(server.client().request(method, "/v1/event/fire/x", b"").await.status, 405);
    }
    assert_eq!(calls.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_event_is_shown_with_its_payload_in_base64() {
    let server = Server::start(|_| ready(Ok(Response::Fired(event(b"")))));
    let answer = server.client().request("PUT", "/v1/event/fire/deploy", b"").await;
    assert_eq!((answer.text(), answer.header("x-consul-index")), (SHOWN, None));
    let server = Server::start(|_| ready(Ok(Response::Fired(event(b"1609030")))));
    let answer = server.client().request("PUT", "/v1/event/fire/deploy", b"").await;
    assert!(answer.text().contains(r#""Payload":"MTYwOTAzMA==""#));
}

#[tokio::test]
async fn a_list_has_an_index_and_nothing_else_of_a_read() {
    let listed = Listed { index: u64::MAX, events: vec![event(b"")] };
    let server = Server::start(move |_| ready(Ok(Response::Events(listed.clone()))));
    let answer = server.client().get("/v1/event/list").await;
    assert_eq!((answer.status, answer.text()), (200, &*format!("[{SHOWN}]")));
    assert_eq!(answer.header("x-consul-index"), Some("18446744073709551615"));
    assert_eq!(answer.header("x-consul-knownleader"), None);
}

#[tokio::test]
async fn a_list_waits_for_what_it_is_narrowed_to() {
    let (calls, call) = recorder();
    let server = Server::start(call);
    server.client().get("/v1/event/list?name=a&node=n&service=s&tag=t&index=9&wait=20s&stale&consistent&dc=x").await;
    let request = Request::List {
        name: "a".into(),
        node_filter: "n".into(),
        service_filter: "s".into(),
        tag_filter: "t".into(),
        index: 9,
        wait: Some(Duration::from_secs(20)),
    };
    assert_eq!(*calls.lock().unwrap(), [Call::new(request)]);
    for (query, why) in [("index=x", "Invalid index"), ("wait=x", "Invalid wait time")] {
        let answer = server.client().get(&format!("/v1/event/list?{query}")).await;
        assert_eq!((answer.status, answer.text()), (400, why));
    }
}

#[tokio::test]
async fn a_filter_that_is_none_is_an_internal_error() {
    let why = "error parsing regexp: missing closing ): `(`".to_owned();
    let error = Error::InvalidEventFilter { which: EventFilter::Node, why };
    let server = Server::start(move |_| ready(Err(error.clone())));
    let answer = server.client().request("PUT", "/v1/event/fire/x?node=(", b"").await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.text(), "Invalid node filter: error parsing regexp: missing closing ): `(`");
}
