//! What operators are answered.

use std::future::ready;

use lictor_core::api::operator::{Autopilot, Health, Peer, Request};
use lictor_core::api::{Call, Error, Reply, Response};
use lictor_core::id::Index;

use crate::client::Server;
use crate::recorder;

#[tokio::test]
async fn what_was_done_is_answered_as_consul_answers_it() {
    let (calls, call) = recorder();
    let server = Server::start(call);
    let mut client = server.client();
    let removed = client.request("DELETE", "/v1/operator/raft/peer?address=10.0.0.1:8300&dc=dc2", b"").await;
    assert_eq!((removed.status, removed.text()), (200, ""));
    let transferred = client.request("PUT", "/v1/operator/raft/transfer-leader?pretty", b"").await;
    assert_eq!((transferred.status, transferred.text()), (200, "{\n    \"Success\": true\n}\n"));
    let set = client.request("PUT", "/v1/operator/autopilot/configuration?cas=7", br#"{"MaxTrailingLogs": 9}"#).await;
    assert_eq!((set.status, set.text()), (200, "true"));
    let calls = calls.lock().unwrap();
    let expected = Request::RemovePeer(Peer::Address("10.0.0.1:8300".into()));
    assert_eq!(calls[0], Call { datacenter: Some("dc2".into()), token: None, request: expected.into() });
    assert_eq!(calls[1], Call::new(Request::TransferLeader { to: None }));
    let settings = Autopilot { max_trailing_logs: 9, ..Autopilot::default() };
    assert_eq!(calls[2], Call::new(Request::SetAutopilotConfiguration { settings, cas: Some(Index(7)) }));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_and_the_agent_not_asked() {
    let (calls, call) = recorder();
    let server = Server::start(call);
    let mut client = server.client();
    let cases: [(&str, &str, &[u8], u16, &str); 11] = [
        ("PUT", "/v1/operator/raft/configuration", b"", 405, "use one of GET"),
        ("GET", "/v1/operator/raft/peer?address=a", b"", 405, "use one of DELETE"),
        ("DELETE", "/v1/operator/raft/peer", b"", 400, "Must specify ?address with IP:port of peer to remove"),
        ("DELETE", "/v1/operator/raft/peer?id=a&address=b", b"", 400, "not both"),
        ("GET", "/v1/operator/raft/transfer-leader", b"", 405, "use one of POST, PUT"),
        ("PUT", "/v1/operator/raft/transfer-leader?id=x", b"", 400, "it must be a UUID"),
        ("PUT", "/v1/operator/autopilot/configuration", b"{", 400, "Error parsing autopilot config: "),
        ("PUT", "/v1/operator/autopilot/configuration?cas=x", b"{}", 400, "Error parsing cas value: "),
        ("GET", "/v1/operator/keyring", b"", 500, "there is no keyring"),
        ("PUT", "/v1/operator/keyring", b"x", 400, "Request decode failed: "),
        ("PATCH", "/v1/operator/keyring", b"", 405, "use one of"),
    ];
    for (method, target, body, status, text) in cases {
        let answer = client.request(method, target, body).await;
        assert_eq!(answer.status, status, "{method} {target}");
        assert!(answer.text().contains(text), "{method} {target}: {}", answer.text());
    }
    assert!(calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_unhealthy_cluster_is_told_by_the_status_too() {
    let health = |healthy| Response::Health(Health { healthy, failure_tolerance: 0, servers: Vec::new() });
    for (reply, status) in [(Ok(health(true)), 200), (Ok(health(false)), 429), (Err(Error::NoLeader), 500)] {
        let server = Server::start(move |_| ready(reply.clone() as Reply));
        let answer = server.client().get("/v1/operator/autopilot/health").await;
        assert_eq!(answer.status, status);
        let healthy = format!("{{\"Healthy\":{},\"FailureTolerance\":0,\"Servers\":[]}}", status == 200);
        assert_eq!(answer.text(), if status == 500 { "No cluster leader" } else { &*healthy });
    }
}
