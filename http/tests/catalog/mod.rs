//! The catalog, health and places, over connections.

use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lictor_core::api::catalog::{self, Check, Deregistration, Filter, Node, NodeServices, Registration, Service};
use lictor_core::api::{Call, Error, Read, ReadMeta, ReadOptions, Reply, Request, Response, coordinate, health};
use lictor_core::coordinate::Coordinate;
use lictor_core::id::Index;
use lictor_http::Options;

use crate::client::{Answer, Server};
use crate::recorder;

/// What is answered to whatever is asked, and what was asked.
async fn answered(reply: Reply, method: &str, target: &str, body: &str) -> (Answer, Option<Call>) {
    let asked = Arc::new(Mutex::new(None));
    let note = asked.clone();
    let call = move |call| {
        *note.lock().unwrap() = Some(call);
        ready(reply.clone())
    };
    let server = Server::start_with(&Options { datacenter: "dc1".into(), ..Options::default() }, call);
    let answer = server.client().request(method, target, body.as_bytes()).await;
    let asked = asked.lock().unwrap().take();
    (answer, asked)
}

async fn shown(reply: Response, target: &str) -> String {
    let (answer, _) = answered(Ok(reply), "GET", target, "").await;
    assert_eq!(answer.status, 200);
    answer.text().to_owned()
}

fn read<T>(value: T) -> Read<T> {
    Read { meta: ReadMeta { index: Index(7), known_leader: true, last_contact: Duration::ZERO }, value }
}

fn node() -> Node {
    Node {
        name: "n".into(),
        address: "10.0.0.1".into(),
        create_index: Index(2),
        modify_index: Index(3),
        ..Node::default()
    }
}

fn service() -> Service {
    Service {
        node: "n".into(),
        id: "s1".into(),
        name: "s".into(),
        port: 80,
        create_index: Index(3),
        modify_index: Index(4),
        ..Service::default()
    }
}

fn check() -> Check {
    let (node, id, status) = ("n".into(), "c".into(), "passing".into());
    Check {
        node,
        id,
        name: "c name".into(),
        status,
        create_index: Index(5),
        modify_index: Index(6),
        ..Check::default()
    }
}

const NODE: &str = r#"{"ID":"","Node":"n","Address":"10.0.0.1","Datacenter":"dc1","TaggedAddresses":null,"Meta":{},"CreateIndex":2,"ModifyIndex":3}"#;
const SERVICE: &str = r#"{"ID":"s1","Service":"s","Tags":null,"Meta":{},"Address":"","Port":80,"Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,"CreateIndex":3,"ModifyIndex":4}"#;
const CHECK: &str = r#"{"Node":"n","CheckID":"c","Name":"c name","Status":"passing","Notes":"","Output":"","ServiceID":"","ServiceName":"","CreateIndex":5,"ModifyIndex":6}"#;

#[tokio::test]
async fn a_registration_is_read_from_the_body() {
    let body = r#"{"Datacenter": "dc2", "Node": "n", "address": "10.0.0.1", "TaggedAddresses": {"wan": "1.2.3.4"}, "Bogus": 1,
        "Service": {"ID": "s1", "Service": "s", "Port": 80}, "Check": {"CheckID": "last", "Name": "l"},
        "Checks": [{"Name": "first", "ServiceID": "s1", "Status": "passing"}]}"#;
    let (answer, asked) = answered(Ok(Response::Done(true)), "PUT", "/v1/catalog/register?token=t", body).await;
    assert_eq!((answer.status, answer.text(), answer.header("x-consul-index")), (200, "true", None));
    let registration = Registration {
        node: Node {
            name: "n".into(),
            address: "10.0.0.1".into(),
            tagged_addresses: Some([("wan".to_owned(), "1.2.3.4".to_owned())].into()),
            ..Node::default()
        },
        service: Some(Service { id: "s1".into(), name: "s".into(), port: 80, ..Service::default() }),
        checks: vec![
            Check { name: "first".into(), service_id: "s1".into(), status: "passing".into(), ..Check::default() },
            Check { id: "last".into(), name: "l".into(), ..Check::default() },
        ],
    };
    let request = Request::Catalog(catalog::Request::Register(Box::new(registration)));
    assert_eq!(asked, Some(Call { datacenter: Some("dc2".into()), token: Some("t".into()), request }));

    let body = r#"{"Node": "n", "CheckID": "c"}"#;
    let (_, asked) = answered(Ok(Response::Done(true)), "PUT", "/v1/catalog/deregister?dc=dc3", body).await;
    let deregistration = Deregistration { node: "n".into(), check_id: "c".into(), ..Deregistration::default() };
    let request = Request::Catalog(catalog::Request::Deregister(deregistration));
    assert_eq!(asked, Some(Call { datacenter: Some("dc3".into()), token: None, request }));
}

#[tokio::test]
async fn what_is_no_registration_reaches_nobody() {
    let (calls, call) = recorder();
    let server = Server::start(call);
    let mut client = server.client();
    for (body, why) in [
        ("", "EOF"),
        ("{", "unexpected EOF"),
        ("x", "invalid character 'x' looking for beginning of value"),
        ("[]", "'' expected a map, got 'slice'"),
        (
            r#"{"Node": 5, "Service": {"Port": "80"}}"#,
            "2 error(s) decoding:\n\n* 'Node' expected type 'string', got unconvertible type 'float64'\n\
             * 'Service.Port' expected type 'int', got unconvertible type 'string'",
        ),
    ] {
        let answer = client.request("PUT", "/v1/catalog/register", body.as_bytes()).await;
        assert_eq!((answer.status, answer.text()), (400, &*format!("Request decode failed: {why}")));
    }
    assert_eq!(client.get("/v1/catalog/deregister").await.status, 400);
    assert!(calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn reads_have_their_parameters() {
    let asked = async |target: &str| answered(Err(Error::NoLeader), "GET", target, "").await.1.unwrap();
    let meta = [("a".to_owned(), "b:c".to_owned()), ("d".to_owned(), String::new())];
    let call = asked("/v1/catalog/service/a%2Fb?tag=&near=_agent&node-meta=a:b:c&node-meta=d&index=5&dc=dc2").await;
    let request = catalog::Request::Service {
        name: "a/b".into(),
        tag: Some(String::new()),
        filter: Filter { near: Some("_agent".into()), node_meta: meta.into() },
        read: ReadOptions { index: Index(5), ..ReadOptions::default() },
    };
    assert_eq!(call, Call { datacenter: Some("dc2".into()), token: None, request: Request::Catalog(request) });
    let call = asked("/v1/health/service/s?passing=false").await;
    let Request::Health(health::Request::Service { passing: true, tag: None, .. }) = call.request else {
        panic!("{call:?}")
    };
    assert_eq!(asked("/v1/catalog/datacenters?dc=nosuch").await.datacenter, None);
    for (target, why) in [
        ("/v1/catalog/service/", "Missing service name"),
        ("/v1/catalog/node/", "Missing node name"),
        ("/v1/health/node/", "Missing node name"),
        ("/v1/health/checks/", "Missing service name"),
        ("/v1/health/service/", "Missing service name"),
        ("/v1/health/state/", "Missing check state"),
        ("/v1/coordinate/nodes?index=x", "Invalid index"),
    ] {
        let (answer, asked) = answered(Err(Error::NoLeader), "GET", target, "").await;
        assert_eq!((answer.status, answer.text(), asked), (400, why, None), "{target}");
        assert_eq!(answer.header("x-consul-index"), None);
    }
}

#[tokio::test]
async fn a_read_that_fails_has_its_headers_all_the_same() {
    for target in ["/v1/catalog/nodes?dc=x", "/v1/health/state/any?dc=x", "/v1/coordinate/nodes?dc=x"] {
        let (answer, _) = answered(Err(Error::NoPathToDatacenter), "GET", target, "").await;
        assert_eq!((answer.status, answer.text()), (500, "No path to datacenter"));
        assert_eq!(answer.header("x-consul-index"), Some("0"));
        assert_eq!(answer.header("x-consul-knownleader"), Some("false"));
        assert_eq!(answer.header("x-consul-lastcontact"), Some("0"));
    }
    let failed = answered(Err(Error::MissingNode), "PUT", "/v1/catalog/deregister", "{}").await.0;
    assert_eq!((failed.status, failed.header("x-consul-index")), (500, None));
}

#[tokio::test]
async fn nodes_and_services_are_shown_as_people_know_them() {
    let node = Arc::new(node());
    let service = Arc::new(service());
    assert_eq!(shown(Response::Nodes(read(vec![node.clone()])), "/v1/catalog/nodes").await, format!("[{NODE}]"));
    assert_eq!(shown(Response::Nodes(read(vec![])), "/v1/catalog/nodes").await, "[]");
    let services = NodeServices { node: node.clone(), services: vec![service.clone()] };
    let expected = format!(r#"{{"Node":{NODE},"Services":{{"s1":{SERVICE}}}}}"#);
    assert_eq!(shown(Response::NodeServices(read(Some(services))), "/v1/catalog/node/n").await, expected);
    assert_eq!(shown(Response::NodeServices(read(None)), "/v1/catalog/node/x").await, "null");
    let instance = catalog::Instance { node: node.clone(), service: service.clone() };
    assert_eq!(
        shown(Response::Instances(read(vec![instance])), "/v1/catalog/service/s").await,
        r#"[{"ID":"","Node":"n","Address":"10.0.0.1","Datacenter":"dc1","TaggedAddresses":null,"NodeMeta":{},"ServiceID":"s1","ServiceName":"s","ServiceTags":[],"ServiceAddress":"","ServicePort":80,"ServiceWeights":{"Passing":1,"Warning":1},"ServiceMeta":{},"ServiceEnableTagOverride":false,"CreateIndex":3,"ModifyIndex":4}]"#
    );
    let names = [("a".to_owned(), vec![]), ("b".to_owned(), vec!["t".to_owned()])].into();
    assert_eq!(shown(Response::ServiceNames(read(names)), "/v1/catalog/services").await, r#"{"a":[],"b":["t"]}"#);
    let checks = vec![Arc::new(check())];
    assert_eq!(shown(Response::Checks(read(checks.clone())), "/v1/health/node/n").await, format!("[{CHECK}]"));
    let healthy = health::Instance { node, service, checks };
    let expected = format!(r#"[{{"Node":{NODE},"Service":{SERVICE},"Checks":[{CHECK}]}}]"#);
    assert_eq!(shown(Response::HealthOf(read(vec![healthy])), "/v1/health/service/s").await, expected);
}

#[tokio::test]
async fn a_node_of_another_datacenter_is_shown_with_it() {
    let reply = Response::Nodes(read(vec![Arc::new(node())]));
    assert!(shown(reply, "/v1/catalog/nodes?dc=dc9").await.contains(r#""Datacenter":"dc9""#));
}

#[tokio::test]
async fn places_are_shown_with_plain_numbers() {
    let mut coordinate = Coordinate { error: 1.5, height: 0.25, ..Coordinate::default() };
    coordinate.vector[1] = -0.5;
    let places = vec![coordinate::Place { node: "n".into(), coordinate }];
    let place =
        r#"{"Node":"n","Segment":"","Coord":{"Vec":[0,-0.5,0,0,0,0,0,0],"Error":1.5,"Adjustment":0,"Height":0.25}}"#;
    let answer = shown(Response::NodePlaces(read(places.clone())), "/v1/coordinate/nodes").await;
    assert_eq!(answer, format!("[{place}]"));
    let datacenters = vec![coordinate::Datacenter { name: "dc1".into(), places }];
    let expected = format!(r#"[{{"Datacenter":"dc1","AreaID":"wan","Coordinates":[{place}]}}]"#);
    assert_eq!(shown(Response::Places(datacenters), "/v1/coordinate/datacenters").await, expected);
}
