//! Queries that are asked of a store with a few instances.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::*;
use crate::api::catalog::{Check, Node, Registration, Service};
use crate::api::coordinate::Place;
use crate::api::health::WARNING;
use crate::api::prepared::{self, Template};
use crate::coordinate::Coordinate;
use crate::store::Command;
use crate::store::prepared::Command as Change;

/// Enters an instance of `web` on a node, with a check in this state.
fn register(store: &mut Store, node: &str, tags: &[&str], status: &str) {
    let service = Service {
        id: "web".to_owned(),
        name: "web".to_owned(),
        tags: Some(tags.iter().map(|tag| (*tag).to_owned()).collect()),
        ..Service::default()
    };
    let check = Check { id: "up".to_owned(), status: status.to_owned(), ..Check::default() };
    let registration = Registration {
        node: Node { name: node.to_owned(), address: "x".to_owned(), ..Node::default() },
        service: Some(service),
        checks: vec![check],
    };
    store.apply(store.index().next(), Command::Register(Box::new(registration)));
}

/// A store in which `web` is on the nodes `a` to `d`, the last of which is critical, and on `w`, with a warning.
fn store() -> Store {
    let mut store = Store::default();
    store.note_applied(crate::id::Index(1));
    for (node, tags, status) in [
        ("a", &["Master", "v1"][..], PASSING),
        ("b", &["v1"], PASSING),
        ("c", &["slave", "v2"], PASSING),
        ("d", &["master"], CRITICAL),
        ("w", &["v2"], WARNING),
    ] {
        register(&mut store, node, tags, status);
    }
    store
}

/// Keeps a query of this name for `web`.
fn keep(store: &mut Store, name: &str, service: prepared::Service, template: &str) -> Uuid {
    let id = Uuid::from_u128(u128::from(store.index().0));
    let template = Template { kind: template.to_owned(), regexp: String::new() };
    let query = Query { id, name: name.to_owned(), template, service, ..Query::default() };
    let applied = store.apply(store.index().next(), Command::Prepared(Change::Create(Box::new(query))));
    applied.response.expect("it can be kept");
    id
}

fn web() -> prepared::Service {
    prepared::Service { service: "web".to_owned(), ..prepared::Service::default() }
}

fn asking(name: &str) -> Asking<'_> {
    Asking { name, limit: 0, near: None, agent: "c", datacenter: "dc1", others: &[] }
}

fn nodes(found: &Found) -> Vec<&str> {
    found.instances.iter().map(|instance| instance.node.name.as_str()).collect()
}

/// Those that are found, in the order of their names.
fn sorted(store: &Store, name: &str) -> String {
    let found = execute(store, asking(name), &mut Rng::seeded(1)).unwrap();
    nodes(&found).into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().concat()
}

#[test]
fn instances_are_chosen_by_health_and_tags() {
    let mut s = store();
    let tagged =
        |tags: &[&str]| prepared::Service { tags: Some(tags.iter().map(|tag| (*tag).to_owned()).collect()), ..web() };
    keep(&mut s, "all", web(), "");
    keep(&mut s, "passing", prepared::Service { only_passing: true, ..web() }, "");
    keep(&mut s, "master", tagged(&["master"]), "");
    keep(&mut s, "not-v1", tagged(&["!V1"]), "");
    keep(&mut s, "both", tagged(&["v1", "!master"]), "");
    keep(&mut s, "none", prepared::Service { service: "nope".to_owned(), ..web() }, "");
    let found = ["all", "passing", "master", "not-v1", "both", "none"].map(|name| sorted(&s, name));
    assert_eq!(found, ["abcw", "abc", "a", "cw", "b", ""]);
}

#[test]
fn queries_are_found_by_id_by_name_and_by_the_longest_prefix() {
    let mut s = store();
    let id = keep(&mut s, "Exact", web(), "");
    assert_eq!(execute(&s, asking("nope"), &mut Rng::seeded(1)), Err(Error::NoSuchQuery));
    assert_eq!(execute(&s, asking(""), &mut Rng::seeded(1)), Err(Error::NoSuchQuery));
    let suffix = prepared::Service { service: "${name.suffix}".to_owned(), ..web() };
    keep(&mut s, "", prepared::Service { service: "caught-${name.full}".to_owned(), ..web() }, "name_prefix_match");
    keep(&mut s, "geo-", suffix, "name_prefix_match");
    let longest = keep(&mut s, "geo-db-", web(), "name_prefix_match");
    let service = |name: &str| explain(&s, name).unwrap().service.service.clone();
    assert_eq!([id.to_string(), "exact".to_owned()].map(|name| service(&name)), ["web", "web"]);
    assert_eq!(
        ["geo-web", "geo-", "geo-db-x", "ge", "exactly"].map(service),
        ["web", "", "web", "caught-ge", "caught-exactly"]
    );
    assert_eq!(sorted(&s, "geo-WEB"), "abcw");
    let by_id = explain(&s, &longest.to_string()).unwrap_err();
    assert_eq!(by_id.to_string(), "prepared query templates can only be resolved up by name, not by ID");
}

#[test]
fn instances_come_in_any_order_but_the_nearest_first_where_that_is_wanted() {
    let mut s = store();
    let place = |node: &str, x: f64| {
        let coordinate = Coordinate { vector: [x, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], ..Coordinate::default() };
        Place { node: node.to_owned(), coordinate }
    };
    let places = vec![place("a", 3.0), place("b", 1.0), place("c", 2.0)];
    s.apply(s.index().next(), Command::UpdateCoordinates(places));
    keep(&mut s, "any", web(), "");
    keep(&mut s, "near", prepared::Service { near: "a".to_owned(), ..web() }, "");
    let mut rng = Rng::seeded(7);
    let mut ask = |name, near| {
        let found = execute(&s, Asking { near, ..asking(name) }, &mut rng).unwrap();
        nodes(&found).concat()
    };
    let orders: BTreeSet<String> = (0..400).map(|_| ask("any", None)).collect();
    assert_eq!(orders.len(), 24, "each order of four comes");
    for _ in 0..10 {
        assert_eq!(ask("near", None), "acbw");
        assert_eq!(ask("near", Some("b")), "bcaw");
        assert_eq!(&ask("near", Some("_agent"))[..1], "c", "the agent that was asked");
        assert_eq!(&ask("any", Some("w"))[..1], "w", "it is near itself, though nobody knows its place");
    }
    let few = execute(&s, Asking { limit: 2, ..asking("near") }, &mut rng).unwrap();
    assert_eq!(nodes(&few), ["a", "c"]);
}

#[test]
fn other_datacenters_are_named_or_near_and_must_be_known() {
    let known = ["dc3", "dc2", "dc5"].map(str::to_owned);
    let choose = |nearest_n, named: &[&str]| {
        let datacenters = Some(named.iter().map(|name| (*name).to_owned()).collect());
        candidates(&Failover { nearest_n, datacenters }, &known).join(" ")
    };
    assert_eq!(choose(0, &[]), "");
    assert_eq!(choose(2, &["dc5", "dc3", "dc9", "dc5"]), "dc3 dc2 dc5");
    assert_eq!(choose(9, &["dc2"]), "dc3 dc2 dc5");
    let mut s = store();
    let failover = Failover { nearest_n: 3, datacenters: Some(vec!["dc2".to_owned()]) };
    keep(&mut s, "far", prepared::Service { service: "nope".to_owned(), failover, ..web() }, "");
    let found = execute(&s, asking("far"), &mut Rng::seeded(1)).unwrap();
    assert_eq!((found.failovers, &*found.datacenter), (0, "dc1"), "none is known");
}
