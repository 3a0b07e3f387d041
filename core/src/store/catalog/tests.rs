//! Each rule of Consul's catalog by itself, as the recordings of 0.7.2 show it.

use crate::api::ReadOptions;
use crate::api::catalog::{Check, Deregistration, Filter, Node, Registration, Request, Service};
use crate::api::coordinate::Place;
use crate::api::health;
use crate::coordinate::Coordinate;
use crate::id::Index;
use crate::store::{Answer, Body, Command, Store};

fn node(name: &str, address: &str) -> Node {
    Node { name: name.to_owned(), address: address.to_owned(), ..Node::default() }
}

fn service(id: &str, name: &str) -> Service {
    Service { id: id.to_owned(), name: name.to_owned(), ..Service::default() }
}

fn check(id: &str, service_id: &str, status: &str) -> Check {
    let [id, service_id, status] = [id, service_id, status].map(str::to_owned);
    Check { id, service_id, status, ..Check::default() }
}

/// Registers, and returns the index of that.
fn register(store: &mut Store, node: Node, service: Option<Service>, checks: Vec<Check>) -> u64 {
    let registration = Registration { node, service, checks };
    store.apply(store.index().next(), Command::Register(Box::new(registration)));
    store.index().0
}

fn deregister(store: &mut Store, node: &str, service_id: &str, check_id: &str) -> u64 {
    let [node, service_id, check_id] = [node, service_id, check_id].map(str::to_owned);
    store.apply(store.index().next(), Command::Deregister(Deregistration { node, service_id, check_id }));
    store.index().0
}

fn store() -> Store {
    let mut store = Store::default();
    store.note_applied(Index(10));
    store
}

fn instances(store: &Store, name: &str) -> Answer {
    let (name, read) = (name.to_owned(), ReadOptions::default());
    store.query(&Request::Service { name, tag: None, filter: Filter::default(), read }).unwrap()
}

/// Node and service indexes: `(create, modify)`.
fn node_indexes(store: &Store, name: &str) -> (u64, u64) {
    let node = store.node(name).unwrap();
    (node.create_index.0, node.modify_index.0)
}

#[test]
fn the_same_registration_again_changes_no_index() {
    let mut s = store();
    let again = |s: &mut Store| {
        register(s, node("a", "x"), Some(service("w", "web")), vec![check("c", "w", "passing")]);
    };
    again(&mut s);
    let (before, answer) = (s.clone(), instances(&s, "web"));
    again(&mut s);
    assert!(s.catalog == before.catalog);
    assert_eq!(instances(&s, "web"), answer);
}

#[test]
fn a_nodes_modify_index_moves_with_what_is_registered_on_it() {
    let mut s = store();
    assert_eq!(register(&mut s, node("a", "x"), None, vec![]), 11);
    assert_eq!(node_indexes(&s, "a"), (11, 11));
    register(&mut s, node("a", "x"), Some(service("w", "web")), vec![]);
    assert_eq!(node_indexes(&s, "a"), (11, 12));
    register(&mut s, node("a", "x"), None, vec![check("c", "w", "passing")]);
    assert_eq!(node_indexes(&s, "a"), (11, 13));
    deregister(&mut s, "a", "w", "");
    assert_eq!(node_indexes(&s, "a"), (11, 13), "what is struck out does not move it");
}

#[test]
fn a_registration_that_cannot_be_leaves_nothing_behind() {
    let mut s = store();
    register(&mut s, node("a", "x"), None, vec![]);
    let before = s.clone();
    let unnamed = Some(Service::default());
    register(&mut s, node("new", "x"), unnamed, vec![]);
    register(&mut s, node("new", "x"), None, vec![check("", "", "passing")]);
    register(&mut s, node("new", "x"), Some(service("w", "web")), vec![check("c", "other", "passing")]);
    let elsewhere = Check { node: "nowhere".to_owned(), ..check("c", "", "passing") };
    register(&mut s, node("a", "changed"), None, vec![elsewhere]);
    assert!(s.catalog == before.catalog);
}

#[test]
fn a_check_is_critical_until_told_and_knows_its_services_name_of_then() {
    let mut s = store();
    register(&mut s, node("a", "x"), Some(service("w", "web")), vec![check("c", "w", "")]);
    let of = |s: &Store| s.checks_of("A").map(|check| (**check).clone()).collect::<Vec<_>>();
    assert_eq!((of(&s)[0].status.as_str(), of(&s)[0].service_name.as_str()), ("critical", "web"));
    register(&mut s, node("a", "x"), Some(service("w", "renamed")), vec![]);
    assert_eq!(of(&s)[0].service_name, "web");
    register(&mut s, node("a", "x"), None, vec![check("c", "w", "")]);
    assert_eq!(of(&s)[0].service_name, "renamed");
    let elsewhere = Check { node: "a".to_owned(), ..check("d", "", "passing") };
    register(&mut s, node("b", "y"), None, vec![elsewhere]);
    assert_eq!(of(&s).len(), 2, "a check may name another node that is there");
    assert_eq!(s.checks_of("b").count(), 0);
}

#[test]
fn a_service_takes_its_checks_along_and_a_node_takes_all() {
    let mut s = store();
    let checks = vec![check("c", "w", "passing"), check("n", "", "passing")];
    register(&mut s, node("a", "x"), Some(service("w", "web")), checks);
    register(&mut s, node("a", "x"), Some(service("v", "other")), vec![check("o", "v", "passing")]);
    let place = Place { node: "a".to_owned(), coordinate: Coordinate::default() };
    s.apply(s.index().next(), Command::UpdateCoordinates(vec![place]));
    deregister(&mut s, "a", "w", "n");
    assert_eq!(s.services_of("a").map(|service| &*service.id).collect::<Vec<_>>(), ["v"]);
    let left: Vec<_> = s.checks_of("a").map(|check| check.id.clone()).collect();
    assert_eq!(left, ["n", "o"], "with both named the service goes");
    assert!(s.coordinate("A").is_some());
    deregister(&mut s, "a", "", "");
    assert_eq!((s.nodes().count(), s.checks_of("a").count(), s.coordinate("a")), (0, 0, None));
    let state = health::Request::State {
        state: health::ANY.to_owned(),
        filter: Filter::default(),
        read: ReadOptions::default(),
    };
    assert_eq!(s.query(&state).unwrap().body, Body::Checks(Vec::new()));
}

#[test]
fn what_has_gone_keeps_an_index_that_is_reaped_in_time() {
    let mut s = store();
    register(&mut s, node("a", "x"), Some(service("w", "web")), vec![]);
    let gone = deregister(&mut s, "a", "w", "");
    register(&mut s, node("b", "y"), None, vec![]);
    let answer = instances(&s, "web");
    assert_eq!((answer.changed.0, answer.index.0), (gone, gone + 1), "told is the last change of the catalog");
    assert_eq!(s.newest_tombstone(), Some(Index(gone)));
    let reap = Command::ReapTombstones { up_to: Index(gone) };
    s.apply(s.index().next(), reap);
    assert_eq!(s.newest_tombstone(), None);
    assert_eq!(instances(&s, "web").changed.0, gone);
}

#[test]
fn a_check_of_the_node_concerns_its_services_and_no_others() {
    let mut s = store();
    for name in ["a", "b"] {
        register(
            &mut s,
            node(name, "x"),
            Some(service("w", &format!("web-{name}"))),
            vec![check("serfHealth", "", "passing")],
        );
    }
    let changed = |s: &Store, name: &str| {
        let (name, read) = (name.to_owned(), ReadOptions::default());
        let request = health::Request::Service { name, tag: None, passing: true, filter: Filter::default(), read };
        s.query(&request).unwrap().changed.0
    };
    let (before, names) = (changed(&s, "web-b"), instances(&s, "web-a").changed);
    let failed = register(&mut s, node("a", "x"), None, vec![check("serfHealth", "", "critical")]);
    assert_eq!((changed(&s, "web-a"), changed(&s, "web-b")), (failed, before));
    assert_eq!(instances(&s, "web-a").changed, names, "the catalog's own list does not show checks");
    let list = Request::Services { node_meta: Default::default(), read: ReadOptions::default() };
    assert!(s.query(&list).unwrap().index.0 < failed, "nor does the list of services");
}
