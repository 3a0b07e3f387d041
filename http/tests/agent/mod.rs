//! The agent that is asked, and the process around it, over connections.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::stream;
use lictor_core::api::agent::{CheckDefinition, Member, MemberStatus, Request, ServiceDefinition};
use lictor_core::api::catalog::{Check, Service};
use lictor_core::api::{Call, Error, Response};
use lictor_http::{Hooks, Options};

use crate::client::{Server, until};
use crate::{blocker, recorder};

/// The call that a request makes.
async fn asked(method: &str, target: &str, body: &str) -> Call {
    let (calls, call) = recorder();
    let server = Server::start(call);
    let answer = server.client().request(method, target, body.as_bytes()).await;
    assert_eq!((answer.status, answer.text()), (200, ""), "{target}");
    assert_eq!(answer.header("content-type"), None);
    calls.lock().unwrap().pop().unwrap()
}

async fn asks(method: &str, target: &str, request: Request) {
    assert_eq!(asked(method, target, "").await, Call::new(request), "{target}");
}

#[tokio::test]
async fn each_path_asks_for_its_own() {
    let (addresses, wan) = (|to: &str| vec![to.to_owned()], false);
    asks("GET", "/v1/agent/join/10.0.0.1:8301", Request::Join { addresses: addresses("10.0.0.1:8301"), wan }).await;
    asks("PUT", "/v1/agent/join/?wan=1&dc=x", Request::Join { addresses: addresses(""), wan: true }).await;
    asks("GET", "/v1/agent/force-leave/a%20b", Request::ForceLeave { node: "a b".into(), prune: false }).await;
    asks("PUT", "/v1/agent/force-leave/a?prune", Request::ForceLeave { node: "a".into(), prune: true }).await;
    asks("PUT", "/v1/agent/leave", Request::Leave).await;
    asks("GET", "/v1/agent/service/deregister/s/1", Request::DeregisterService { id: "s/1".into() }).await;
    asks("PUT", "/v1/agent/check/deregister/service:s", Request::DeregisterCheck { id: "service:s".into() }).await;
    let told = |status: &str, output: &str| Request::UpdateCheck {
        id: "c".into(),
        status: status.into(),
        output: output.into(),
    };
    asks("GET", "/v1/agent/check/pass/c", told("passing", "")).await;
    asks("PUT", "/v1/agent/check/warn/c?note=hm+hm%0A", told("warning", "hm hm\n")).await;
    asks("GET", "/v1/agent/check/fail/c?note=down%21", told("critical", "down!")).await;
    let reason = || String::from("a b");
    asks(
        "PUT",
        "/v1/agent/maintenance?enable=1&reason=a%20b",
        Request::NodeMaintenance { enable: true, reason: reason() },
    )
    .await;
    let ended = Request::ServiceMaintenance { id: "s".into(), enable: false, reason: String::new() };
    asks("PUT", "/v1/agent/service/maintenance/s?enable=False", ended).await;
}

#[tokio::test]
async fn bodies_are_definitions_and_reports() {
    let call = asked("PUT", "/v1/agent/service/register?token=t", r#"{"Name": "s", "Check": {}, "Token": "u"}"#).await;
    let checks = vec![CheckDefinition::default()];
    let definition = ServiceDefinition { name: "s".into(), token: "t".into(), checks, ..ServiceDefinition::default() };
    assert_eq!(call.request, Request::RegisterService(Box::new(definition)).into());
    assert_eq!(call.token.as_deref(), Some("t"));
    let call = asked("POST", "/v1/agent/check/register", r#"{"name": "c", "tcp": "x:1"}"#).await;
    let definition = CheckDefinition { name: "c".into(), tcp: "x:1".into(), ..CheckDefinition::default() };
    assert_eq!(call.request, Request::RegisterCheck(Box::new(definition)).into());
    let call = asked("PUT", "/v1/agent/check/update/c", r#"{"status": "passing", "Output": "o"}"#).await;
    let told = Request::UpdateCheck { id: "c".into(), status: "passing".into(), output: "o".into() };
    assert_eq!(call.request, told.into());
}

#[tokio::test]
async fn what_is_wrong_is_refused_in_the_words_of_consul() {
    let (calls, call) = recorder();
    let server = Server::start(call);
    let mut client = server.client();
    for (request, body, status, text) in [
        ("PUT /v1/agent/maintenance", "", 400, "Missing value for enable"),
        ("PUT /v1/agent/maintenance?enable=", "", 400, "Invalid value for enable: \"\""),
        ("PUT /v1/agent/service/maintenance/?enable=true", "", 400, "Missing service ID"),
        ("PUT /v1/agent/service/maintenance/s?enable=x", "", 400, "Invalid value for enable: \"x\""),
        ("PUT /v1/agent/service/register", "", 400, "Request decode failed: EOF"),
        ("GET /v1/agent/check/register", "", 400, "Request decode failed: EOF"),
        (
            "PUT /v1/agent/check/register",
            r#"{"TTL": "10"}"#,
            400,
            "Request decode failed: time: missing unit in duration \"10\"",
        ),
        ("GET /v1/agent/monitor?loglevel=nosuch", "", 400, "Unknown log level: NOSUCH"),
    ] {
        let (method, target) = request.split_once(' ').unwrap();
        let answer = client.request(method, target, body.as_bytes()).await;
        assert_eq!((answer.status, answer.text()), (status, text), "{request}");
    }
    for request in [
        "GET /v1/agent/leave",
        "POST /v1/agent/leave",
        "GET /v1/agent/maintenance?enable=true",
        "GET /v1/agent/service/maintenance/s?enable=true",
        "GET /v1/agent/check/update/c",
        "GET /v1/agent/reload",
        "PUT /v1/agent/monitor",
    ] {
        let (method, target) = request.split_once(' ').unwrap();
        let answer = client.request(method, target, b"").await;
        assert_eq!(answer.status, 405, "{request}");
        assert!(answer.header("allow").is_some());
    }
    assert!(calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn errors_of_the_agent_have_their_status() {
    for (target, error, status) in [
        ("/v1/agent/check/pass/c", Error::NoTtl("c".into()), 500),
        ("/v1/agent/service/maintenance/s?enable=true", Error::ServiceNotRegistered("s".into()), 404),
    ] {
        let text = error.to_string();
        let server = Server::start(move |_| ready(Err(error.clone())));
        let answer = server.client().request("PUT", target, b"").await;
        assert_eq!((answer.status, answer.text()), (status, &*text));
        assert_eq!(answer.header("x-consul-index"), None);
    }
}

#[tokio::test]
async fn what_is_registered_is_shown_by_its_id() {
    async fn shown(reply: Response, target: &str) -> String {
        let server = Server::start(move |_| ready(Ok(reply.clone())));
        server.client().get(target).await.text().to_owned()
    }
    let service = Service { id: "s1".into(), name: "s".into(), tags: Some(vec![]), ..Service::default() };
    assert_eq!(
        shown(Response::LocalServices(vec![service]), "/v1/agent/services").await,
        r#"{"s1":{"ID":"s1","Service":"s","Tags":[],"Meta":{},"Address":"","Port":0,"Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,"CreateIndex":0,"ModifyIndex":0}}"#
    );
    let check = Check { node: "n".into(), id: "c".into(), output: "o".into(), ..Check::default() };
    assert_eq!(
        shown(Response::LocalChecks(vec![check]), "/v1/agent/checks").await,
        r#"{"c":{"Node":"n","CheckID":"c","Name":"","Status":"","Notes":"","Output":"o","ServiceID":"","ServiceName":"","CreateIndex":0,"ModifyIndex":0}}"#
    );
    assert_eq!(shown(Response::LocalChecks(vec![]), "/v1/agent/checks").await, "{}");
    let member = Member {
        name: "n.dc1".into(),
        address: [10, 0, 0, 1].into(),
        port: 8302,
        tags: [("dc".to_owned(), "dc1".to_owned())].into(),
        status: MemberStatus::Failed,
    };
    assert_eq!(
        shown(Response::Members(vec![member]), "/v1/agent/members?wan=0").await,
        r#"[{"Name":"n.dc1","Addr":"10.0.0.1","Port":8302,"Tags":{"dc":"dc1"},"Status":4,"ProtocolMin":1,"ProtocolMax":5,"ProtocolCur":2,"DelegateMin":2,"DelegateMax":4,"DelegateCur":4}]"#
    );
}

#[tokio::test]
async fn the_pool_of_all_datacenters_needs_any_text() {
    for (target, wan) in [("members", false), ("members?wan", false), ("members?wan=", false), ("members?wan=0", true)]
    {
        let (calls, call) = recorder();
        let server = Server::start(call);
        server.client().get(&format!("/v1/agent/{target}")).await;
        assert_eq!(calls.lock().unwrap()[0].request, Request::Members { wan }.into(), "{target}");
    }
}

#[tokio::test]
async fn a_reload_goes_to_the_process() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let hooks = Hooks::default().on_reload(move || {
        let nth = counted.fetch_add(1, Ordering::SeqCst);
        ready(if nth == 0 { Ok(()) } else { Err("a.json: no such key".to_owned()) })
    });
    let server = Server::start_hooked(&Options::default(), hooks, recorder().1);
    let mut client = server.client();
    let done = client.request("PUT", "/v1/agent/reload", b"").await;
    assert_eq!((done.status, done.text()), (200, ""));
    let failed = client.request("PUT", "/v1/agent/reload", b"").await;
    assert_eq!((failed.status, failed.text()), (500, "a.json: no such key"));
    assert_eq!(count.load(Ordering::SeqCst), 2);

    let bare = Server::start(recorder().1);
    assert_eq!(bare.client().request("PUT", "/v1/agent/reload", b"").await.status, 501);
    assert_eq!(bare.client().get("/v1/agent/monitor").await.status, 501);
}

/// Counts what is dropped with it.
struct Listening(Arc<AtomicUsize>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn the_log_is_sent_as_it_comes_until_the_client_goes() {
    let open = Arc::new(AtomicUsize::new(0));
    let opened = open.clone();
    let hooks = Hooks::default().on_monitor(move |level| {
        opened.fetch_add(1, Ordering::SeqCst);
        let (first, listening) = (format!("from {level} on\n"), Listening(opened.clone()));
        stream::unfold((Some(first), listening), |(line, listening)| async move {
            match line {
                Some(line) => Some((Bytes::from(line), (None, listening))),
                None => std::future::pending().await,
            }
        })
    });
    let server = Server::start_hooked(&Options::default(), hooks, blocker().1);
    let mut client = server.client();
    client.write(b"GET /v1/agent/monitor?loglevel=warn HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let (status, head) = client.read_head().await.unwrap();
    assert_eq!(status, 200);
    assert!(head.contains("text/plain"), "{head}");
    assert_eq!(client.read_chunk().await.as_deref(), Some(&b"from WARN on\n"[..]));
    assert_eq!(open.load(Ordering::SeqCst), 1);
    drop(client);
    until(|| open.load(Ordering::SeqCst) == 0).await;
}
