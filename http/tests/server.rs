//! The front end over real sockets, with a backend made up for the purpose.

mod acl;
mod agent;
mod catalog;
mod client;
mod event;
mod exec;
mod operator;
mod query;
mod session;
mod snapshot;
mod txn;

use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use client::{Client, Server};
use lictor_core::api::kv::{self, PutMode};
use lictor_core::api::{Call, Error, Read, ReadMeta, Reply, Request, Response};
use lictor_core::id::Index;

/// Answers every get with the same entry.
async fn one_entry(_: Call) -> Reply {
    let entry = kv::Entry {
        key: Bytes::from_static(b"zip"),
        value: Bytes::from_static(b"test"),
        flags: 42,
        create_index: Index(4),
        modify_index: Index(5),
        lock_index: 0,
        session: None,
    };
    let meta = ReadMeta { index: Index(5), known_leader: true, last_contact: Duration::ZERO };
    Ok(Response::KvEntries(Read { meta, value: vec![Arc::new(entry)] }))
}

/// Remembers all calls and answers that they were done.
fn recorder() -> (Arc<Mutex<Vec<Call>>>, impl Fn(Call) -> Ready<Reply> + Send + Sync) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let record = calls.clone();
    let call = move |call| {
        record.lock().unwrap().push(call);
        ready(Ok(Response::Done(true)))
    };
    (calls, call)
}

#[tokio::test]
async fn a_get_is_answered_with_headers_and_json() {
    let server = Server::start(one_entry);
    let answer = server.client().get("/v1/kv/zip").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.text(),
        r#"[{"LockIndex":0,"Key":"zip","Flags":42,"Value":"dGVzdA==","CreateIndex":4,"ModifyIndex":5}]"#
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-consul-index"), Some("5"));
    assert_eq!(answer.header("x-consul-knownleader"), Some("true"));
    assert_eq!(answer.header("x-consul-lastcontact"), Some("0"));
    assert!(answer.head.contains("\r\nX-Consul-Index: 5\r\n"), "header names are written as people search for them");

    let pretty = server.client().get("/v1/kv/zip?pretty").await;
    assert!(pretty.text().starts_with("[\n    {\n        \"LockIndex\": 0,\n        \"Key\": \"zip\","));
    let raw = server.client().get("/v1/kv/zip?raw").await;
    assert_eq!((raw.text(), raw.header("content-type")), ("test", Some("text/plain; charset=utf-8")));
}

#[tokio::test]
async fn a_put_carries_key_value_and_parameters() {
    let (calls, call) = recorder();
    let server = Server::start(call);
    let request = "PUT /v1/kv/a%2Fb%20c+d?flags=7&cas=3&dc=dc2 HTTP/1.1\r\nHost: x\r\nX-Consul-Token: secret\r\nContent-Length: 5\r\n\r\nhello";
    let answer = server.client().send(request.as_bytes()).await;
    assert_eq!((answer.status, answer.text()), (200, "true"));
    let expected = Call {
        datacenter: Some("dc2".into()),
        token: Some("secret".into()),
        request: Request::Kv(kv::Request::Put {
            key: Bytes::from_static(b"a/b c+d"),
            value: Bytes::from_static(b"hello"),
            flags: 7,
            mode: PutMode::Cas(Index(3)),
        }),
    };
    assert_eq!(*calls.lock().unwrap(), [expected]);
}

#[tokio::test]
async fn a_connection_survives_refusals_and_large_bodies() {
    let (calls, call) = recorder();
    let server = Server::start(call);
    let mut client = server.client();
    for (request, status) in [
        ("GET /v1/kv/a?index=x", 400),
        ("POST /v1/kv/a", 405),
        ("OPTIONS /v1/kv/a", 405),
        ("GET /v1/nosuch", 404),
        ("PUT /v1/kv//a", 301),
        ("GET /v1/kv/%zz", 400),
        ("GET /", 200),
        ("HEAD /v1/kv/a", 405),
    ] {
        let (method, target) = request.split_once(' ').unwrap();
        assert_eq!(client.request(method, target, b"").await.status, status, "{request}");
    }
    let body = vec![b'v'; 512 * 1024 + 1];
    for _ in 0..3 {
        let answer = client.request("PUT", "/v1/kv/big", &body).await;
        assert_eq!((answer.status, answer.text()), (413, "Value exceeds 524288 byte limit"));
    }
    assert_eq!(client.request("PUT", "/v1/kv/big", &[b'v'; 2_000_000]).await.status, 413);
    assert!(calls.lock().unwrap().is_empty(), "nothing of all that may have reached the agent");
    assert_eq!(client.request("PUT", "/v1/kv/big", &body[1..]).await.status, 200);
    assert_eq!(calls.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_body_that_is_cut_short_or_badly_chunked_changes_nothing() {
    let (calls, call) = recorder();
    let server = Server::start(call);
    for request in [
        "PUT /v1/kv/cut HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf",
        "PUT /v1/kv/cut HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "PUT /v1/kv/bad HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n0\r\n\r\n",
    ] {
        let mut client = server.client();
        client.write(request.as_bytes()).await;
        client.finish_writing().await;
        let answer = client.read().await.unwrap_or_else(|| panic!("no answer to {request:?}"));
        assert_eq!(answer.status, 400, "{request:?}");
        assert!(answer.text().contains("nothing was changed"), "{}", answer.text());
    }
    assert!(calls.lock().unwrap().is_empty());
    assert_eq!(server.client().get("/v1/kv/ok").await.status, 200);
}

#[tokio::test]
async fn leave_to_send_is_given_only_for_what_will_be_taken() {
    let (calls, call) = recorder();
    let server = Server::start(call);
    let mut client = server.client();
    client.write(b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
    assert_eq!(client.read_head().await.unwrap().0, 100);
    client.write(b"abc").await;
    assert_eq!(client.read().await.unwrap().status, 200);
    client.write(b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 600000\r\n\r\n").await;
    assert_eq!(client.read().await.unwrap().status, 413);
    assert_eq!(calls.lock().unwrap().len(), 1);
}

type Waiter = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// Counts the calls that are waiting, and never answers them.
fn blocker() -> (Arc<AtomicUsize>, impl Fn(Call) -> Waiter + Send + Sync) {
    struct Waiting(Arc<AtomicUsize>);
    impl Drop for Waiting {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let waiting = Arc::new(AtomicUsize::new(0));
    let count = waiting.clone();
    let call = move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let waiting = Waiting(count.clone());
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(waiting);
            Err(Error::ShuttingDown)
        }) as Waiter
    };
    (waiting, call)
}

#[tokio::test]
async fn a_client_that_goes_away_hangs_up() {
    let (waiting, call) = blocker();
    let server = Server::start(call);
    let mut reader = server.client();
    reader.write(b"GET /v1/kv/a?index=5 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut writer = server.client();
    writer.write(b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx").await;
    client::until(|| waiting.load(Ordering::SeqCst) == 2).await;
    drop(reader);
    client::until(|| waiting.load(Ordering::SeqCst) == 1).await;
    drop(writer);
    client::until(|| waiting.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn shutdown_closes_idle_connections_at_once_and_blocked_ones_in_time() {
    let (waiting, call) = blocker();
    let server = Server::start(call);
    let mut idle = server.client();
    assert_eq!(idle.get("/").await.status, 200);
    let mut blocked = server.client();
    blocked.write(b"GET /v1/kv/a?index=5 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client::until(|| waiting.load(Ordering::SeqCst) == 1).await;
    server.shutdown(Duration::from_millis(50)).await;
    assert!(idle.read().await.is_none());
    assert!(blocked.read().await.is_none());
    assert_eq!(waiting.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let server = Server::start_with(&lictor_http::Options { max_connections: 1, ..Default::default() }, one_entry);
    let mut first = server.client();
    assert_eq!(first.get("/").await.status, 200);
    let mut second = server.client();
    second.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(second.is_silent(Duration::from_millis(100)).await);
    drop(first);
    assert_eq!(second.read().await.unwrap().status, 200);
}

#[tokio::test]
async fn a_client_that_never_finishes_its_head_is_cut_off() {
    let options = lictor_http::Options { header_timeout: Duration::from_millis(100), ..Default::default() };
    let server = Server::start_with(&options, one_entry);
    let mut slow: Client = server.client();
    slow.write(b"P").await;
    while slow.read().await.is_some() {}
}
