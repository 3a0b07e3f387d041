//! Commands on many nodes, over connections.

use std::future::ready;

use lictor_core::api::{Call, Error};
use lictor_http::Options;
use serde_json::{Value, json};

use crate::client::Server;

fn server() -> Server {
    let options = Options { remote_exec: true, ..Options::default() };
    Server::start_with(&options, |_: Call| ready(Err(Error::NoLeader)))
}

#[tokio::test]
async fn an_agent_that_keeps_out_of_it_says_so() {
    let server = Server::start(|_: Call| ready(Err(Error::NoLeader)));
    let answer = server.client().request("PUT", "/v1/exec", br#"{"Command":"uptime"}"#).await;
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("disable_remote_exec"), "{}", answer.text());
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_anybody_is_asked() {
    let server = server();
    for (body, status, text) in [
        (&b"{}"[..], 400, "Must specify a command to execute"),
        (br#"{"Command":"a","Tag":"x"}"#, 400, "Cannot provide tag filter without service filter."),
        (b"{", 400, "Request decode failed"),
    ] {
        let answer = server.client().request("PUT", "/v1/exec", body).await;
        assert_eq!(answer.status, status);
        assert!(answer.text().contains(text), "{}", answer.text());
    }
    assert_eq!(server.client().request("DELETE", "/v1/exec", b"").await.status, 405);
    assert_eq!(server.client().get("/v1/exec").await.text(), "[]");
}

#[tokio::test]
async fn a_job_is_told_line_by_line_and_listed_when_it_is_over() {
    let server = server();
    let answer = server.client().request("PUT", "/v1/exec", br#"{"Command":"uptime","Node":"^a"}"#).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/x-ndjson")));
    let told: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let why = "Error querying Consul agent: No cluster leader";
    assert_eq!(told, [json!({ "Event": "failed", "Error": why }), json!({ "Event": "over", "Outcome": "failed" })]);
    let listed: Value = serde_json::from_str(server.client().get("/v1/exec").await.text()).unwrap();
    assert_eq!((&listed[0]["Command"], &listed[0]["Node"]), (&json!("uptime"), &json!("^a")));
    assert_eq!((&listed[0]["Outcome"], &listed[0]["Error"]), (&json!("failed"), &json!(why)));
}
