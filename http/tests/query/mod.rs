//! Prepared queries, over connections.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use lictor_core::api::catalog::{Node, Service};
use lictor_core::api::health::Instance;
use lictor_core::api::prepared::{self, Failover, Found, Query, Request, Template};
use lictor_core::api::{Call, Error, Read, ReadMeta, ReadOptions, Response};
use lictor_core::id::Index;
use uuid::Uuid;

use crate::client::Server;
use crate::recorder;

const ID: &str = "00000000-0000-0000-0000-000000000007";

fn query() -> Query {
    Query {
        name: "geo-".into(),
        session: "s".into(),
        token: "t".into(),
        template: Template { kind: "name_prefix_match".into(), regexp: "^(.*)$".into() },
        service: prepared::Service {
            service: "web".into(),
            failover: Failover { nearest_n: 2, datacenters: Some(vec!["dc2".into()]) },
            only_passing: true,
            near: "_agent".into(),
            tags: Some(vec!["a".into(), "!b".into()]),
        },
        dns_ttl: "10s".into(),
        ..Query::default()
    }
}

const BODY: &str = r#"{"Name": "geo-", "Session": "s", "Token": "t", "Template": {"Type": "name_prefix_match", "Regexp": "^(.*)$"},
    "Service": {"Service": "web", "Failover": {"NearestN": 2, "Datacenters": ["dc2"]}, "OnlyPassing": true, "Near": "_agent",
        "Tags": ["a", "!b"]}, "DNS": {"TTL": "10s"}}"#;

const SHOWN: &str = r#"{"ID":"00000000-0000-0000-0000-000000000007","Name":"geo-","Session":"s","Token":"t","Template":{"Type":"name_prefix_match","Regexp":"^(.*)$"},"Service":{"Service":"web","Failover":{"NearestN":2,"Datacenters":["dc2"]},"OnlyPassing":true,"Near":"_agent","Tags":["a","!b"]},"DNS":{"TTL":"10s"},"CreateIndex":3,"ModifyIndex":4}"#;

const EMPTY: &str = r#"{"ID":"00000000-0000-0000-0000-000000000000","Name":"","Session":"","Token":"","Template":{"Type":"","Regexp":""},"Service":{"Service":"","Failover":{"NearestN":0,"Datacenters":null},"OnlyPassing":false,"Near":"","Tags":null},"DNS":{"TTL":""},"CreateIndex":0,"ModifyIndex":0}"#;

fn kept() -> Query {
    Query { id: Uuid::from_u128(7), create_index: Index(3), modify_index: Index(4), ..query() }
}

fn read<T>(value: T) -> Read<T> {
    Read { meta: ReadMeta { index: Index(9), known_leader: true, last_contact: Duration::ZERO }, value }
}

#[tokio::test]
async fn requests_have_their_paths_and_parameters() {
    let (calls, call) = recorder();
    let server = Server::start(call);
    let mut client = server.client();
    let (id, name) = (|| ID.to_owned(), || "a/b".to_owned());
    let options = |index| ReadOptions { index: Index(index), ..ReadOptions::default() };
    let of_one = format!("/v1/query/{ID}");
    let cases: [(&str, &str, Request); 7] = [
        ("POST", "/v1/query", Request::Create(Box::new(query()))),
        ("GET", "/v1/query?index=5", Request::List { read: options(5) }),
        ("GET", &format!("{of_one}?index=6"), Request::Get { id: id(), read: options(6) }),
        ("PUT", &of_one, Request::Update { id: id(), query: Box::new(query()) }),
        ("DELETE", &of_one, Request::Delete { id: id() }),
        (
            "GET",
            "/v1/query/a/b/execute?limit=3&near=n&index=7",
            Request::Execute { name: name(), limit: 3, near: Some("n".into()), agent: String::new(), read: options(0) },
        ),
        ("GET", "/v1/query/a/b/explain", Request::Explain { name: name(), agent: String::new(), read: options(0) }),
    ];
    for (method, target, _) in &cases {
        // The recorder's answer fits none of the reads' forms, and that is shown all the same.
        client.request(method, target, BODY.as_bytes()).await;
    }
    let expected = cases.map(|(_, _, request)| Call::new(request));
    assert_eq!(*calls.lock().unwrap(), expected);
}

#[tokio::test]
async fn what_is_no_query_reaches_nobody() {
    let (calls, call) = recorder();
    let server = Server::start(call);
    let mut client = server.client();
    let of_one = format!("/v1/query/{ID}");
    for (method, target) in [("PUT", "/v1/query"), ("DELETE", "/v1/query"), ("POST", &*of_one)] {
        assert_eq!(client.request(method, target, b"{}").await.status, 405, "{method} {target}");
    }
    for (method, target, body, status, text) in [
        ("POST", "/v1/query", "x", 400, "Request decode failed: invalid character 'x' looking for beginning of value"),
        (
            "PUT",
            &of_one,
            r#"{"Service": {"Failover": {"NearestN": "x"}}}"#,
            400,
            "Request decode failed: 1 error(s) decoding:\n\n\
             * 'Service.Failover.NearestN' expected type 'int', got unconvertible type 'string'",
        ),
        ("POST", "/v1/query", r#"{"ID": "x"}"#, 500, "ID must be empty when creating a new prepared query"),
        ("GET", "/v1/query/x/execute?limit=y", "", 500, "Bad limit: strconv.ParseInt: parsing \"y\": invalid syntax"),
    ] {
        let answer = client.request(method, target, body.as_bytes()).await;
        assert_eq!((answer.status, answer.text()), (status, text));
    }
    assert!(calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn queries_are_shown_as_consul_shows_them() {
    let server = Server::start(|_| ready(Ok(Response::QueryCreated(Uuid::from_u128(7)))));
    let answer = server.client().request("POST", "/v1/query", b"{}").await;
    assert_eq!(answer.text(), format!(r#"{{"ID":"{ID}"}}"#));
    let server = Server::start(|_| ready(Ok(Response::Queries(read(vec![Arc::new(kept()), Arc::default()])))));
    let answer = server.client().get("/v1/query").await;
    assert_eq!((answer.text(), answer.header("x-consul-index")), (&*format!("[{SHOWN},{EMPTY}]"), Some("9")));
    let server = Server::start(|_| ready(Ok(Response::Explained(read(Arc::new(kept()))))));
    let answer = server.client().get("/v1/query/geo-x/explain").await;
    let meta = r#""Index":0,"LastContact":0,"KnownLeader":true"#;
    assert_eq!(answer.text(), format!(r#"{{"Query":{SHOWN},{meta}}}"#));
    let server = Server::start(|_| ready(Ok(Response::Done(true))));
    let answer = server.client().request("DELETE", &format!("/v1/query/{ID}"), b"").await;
    assert_eq!((answer.status, answer.text()), (200, ""));
    let server = Server::start(|_| ready(Err(Error::NoSuchQuery)));
    let answer = server.client().get(&format!("/v1/query/{ID}")).await;
    assert_eq!((answer.status, answer.text()), (404, "Query not found"));
}

#[tokio::test]
async fn what_is_found_is_shown_with_where_it_was_found() {
    let instance = Instance {
        node: Arc::new(Node { name: "n".into(), ..Node::default() }),
        service: Arc::new(Service { name: "web".into(), ..Service::default() }),
        checks: vec![],
    };
    let found = |instances| Found {
        service: "web".into(),
        instances,
        dns_ttl: "10s".into(),
        datacenter: "dc1".into(),
        failovers: 0,
    };
    let reply = read(found(vec![instance]));
    let server = Server::start(move |_| ready(Ok(Response::Executed(reply.clone()))));
    let answer = server.client().get("/v1/query/web/execute").await;
    let (head, nodes) = answer.text().split_once(r#""Nodes":"#).unwrap();
    assert_eq!(head, r#"{"Service":"web","#);
    assert!(nodes.starts_with(r#"[{"Node":{"ID":"","Node":"n","Address":"","Datacenter":"dc1","#), "{nodes}");
    let tail = r#""DNS":{"TTL":"10s"},"Datacenter":"dc1","Failovers":0,"Index":0,"LastContact":0,"KnownLeader":true}"#;
    assert!(nodes.ends_with(&format!(r#""Checks":[]}}],{tail}"#)), "{nodes}");
    assert_eq!((answer.header("x-consul-knownleader"), answer.header("x-consul-index")), (Some("true"), None));
    let server = Server::start(move |_| ready(Ok(Response::Executed(read(found(vec![]))))));
    assert!(server.client().get("/v1/query/web/execute").await.text().contains(r#""Nodes":[],"#));
}
