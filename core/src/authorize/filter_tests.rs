use std::collections::BTreeMap;

use super::*;
use crate::acl::{Access, Policy};
use crate::api::ReadOptions;
use crate::api::catalog::{Check, Filter, Instance, Node, NodeServices, Registration, Service};
use crate::api::kv::Entry;
use crate::api::prepared::Template;
use crate::api::txn::{Op, Told};
use crate::api::{self, kv};
use crate::store::{Command, kv as stored};

/// May read keys below `pub/`, write those below `own/`, see the service `web`, and see queries whose names begin with `prod-`.
fn somebody() -> Authority {
    let mut policy = Policy::default();
    policy.keys.insert("pub/", Access::Read);
    policy.keys.insert("own/", Access::Write);
    policy.services.insert("web", Access::Read);
    policy.queries.insert("prod-", Access::Read);
    Authority::limited(Arc::new(policy), false)
}

fn read() -> ReadOptions {
    ReadOptions::default()
}

fn list() -> Request {
    kv::Request::List { prefix: "".into(), read: read() }.into()
}

/// What is left of an answer, with its index.
fn seen_in(store: &Store, request: &Request, body: Body) -> Result<(Body, Index), Error> {
    let mut answer = Answer { index: Index(5), changed: Index(5), body };
    let mut untouched = answer.clone();
    filter(&Authority::everything(), store, request, &mut untouched)?;
    assert_eq!(untouched, answer, "who manages sees all");
    filter(&somebody(), store, request, &mut answer)?;
    Ok((answer.body, answer.index))
}

fn seen(request: &Request, body: Body) -> Body {
    seen_in(&Store::default(), request, body).unwrap().0
}

fn entry(key: &'static str) -> Arc<Entry> {
    Arc::new(Entry {
        key: key.into(),
        value: "v".into(),
        flags: 0,
        create_index: Index(1),
        modify_index: Index(1),
        lock_index: 0,
        session: None,
    })
}

fn service(name: &str) -> Arc<Service> {
    Arc::new(Service { name: name.to_owned(), id: format!("{name}-1"), ..Service::default() })
}

fn check(service: &str) -> Arc<Check> {
    Arc::new(Check { id: service.to_owned(), service_name: service.to_owned(), ..Check::default() })
}

fn query(name: &str, token: &str) -> Arc<Query> {
    Arc::new(Query { name: name.to_owned(), token: token.to_owned(), ..Query::default() })
}

#[test]
fn keys_that_may_not_be_read_are_not_there() {
    let entries = Body::Entries(vec![entry("own/a"), entry("pub"), entry("pub/b"), entry("secret")]);
    assert_eq!(seen(&list(), entries), Body::Entries(vec![entry("own/a"), entry("pub/b")]));
    let keys = Body::Keys(vec!["own/".into(), "pu".into(), "pub/".into()]);
    assert_eq!(seen(&list(), keys), Body::Keys(vec!["own/".into(), "pub/".into()]));
}

#[test]
fn a_key_that_may_not_be_read_has_the_index_of_one_that_is_not_there() {
    let mut store = Store::default();
    for (index, key) in [(2, "secret"), (9, "other")] {
        let mode = stored::Mode::Set;
        let put = stored::Command::Put { key: key.into(), value: "v".into(), flags: 0, mode };
        store.apply(Index(index), Command::Kv(put));
    }
    let get = |key: &'static str| Request::Kv(kv::Request::Get { key: key.into(), read: read() });
    let (hidden, absent) = (get("secret"), get("nosuch"));
    let mut answer = crate::view::query(&store, &hidden).unwrap();
    assert_eq!(answer.index, Index(2));
    filter(&somebody(), &store, &hidden, &mut answer).unwrap();
    let nothing = crate::view::query(&store, &absent).unwrap();
    assert_eq!((answer.index, answer.body), (nothing.index, nothing.body));
}

#[test]
fn a_service_that_may_not_be_seen_has_the_index_of_one_that_is_not_there() {
    let mut store = Store::default();
    for (index, name) in [(2, "db"), (9, "web")] {
        let node = Node { name: "n".to_owned(), address: "10.0.0.1".to_owned(), ..Node::default() };
        let service = Some(Service::clone(&service(name)));
        let registration = Registration { node, service, checks: Vec::new() };
        store.apply(Index(index), Command::Register(Box::new(registration)));
    }
    let of = |name: &str| {
        let name = name.to_owned();
        Request::Catalog(catalog::Request::Service { name, tag: None, filter: Filter::default(), read: read() })
    };
    let mut answer = crate::view::query(&store, &of("db")).unwrap();
    assert_eq!(answer.index, Index(2));
    filter(&somebody(), &store, &of("db"), &mut answer).unwrap();
    let nothing = crate::view::query(&store, &of("nosuch")).unwrap();
    assert_eq!((answer.index, answer.body), (nothing.index, nothing.body));
}

#[test]
fn of_services_only_those_are_seen_that_may_be_and_that_of_the_servers() {
    let request = Request::Catalog(catalog::Request::Services { node_meta: BTreeMap::new(), read: read() });
    let names =
        |names: &[&str]| Body::ServiceNames(names.iter().map(|name| ((*name).to_owned(), Vec::new())).collect());
    assert_eq!(seen(&request, names(&["consul", "db", "web"])), names(&["consul", "web"]));
    let node = Arc::new(Node::default());
    let instances = |names: &[&str]| {
        let of = |name: &&str| Instance { node: Arc::clone(&node), service: service(name) };
        Body::Instances(names.iter().map(of).collect())
    };
    assert_eq!(seen(&request, instances(&["db", "web-2"])), instances(&["web-2"]));
    let on_node = |names: &[&str]| {
        let services = names.iter().map(|name| service(name)).collect();
        Body::NodeServices(Some(NodeServices { node: Arc::clone(&node), services }))
    };
    assert_eq!(seen(&request, on_node(&["db", "web", "consul"])), on_node(&["web", "consul"]));
    assert_eq!(seen(&request, on_node(&["db"])), on_node(&[]), "the node itself may be seen");
    let health = |names: &[&str]| {
        let of =
            |name: &&str| api::health::Instance { node: Arc::clone(&node), service: service(name), checks: vec![] };
        Body::HealthOf(names.iter().map(of).collect())
    };
    assert_eq!(seen(&request, health(&["web", "db"])), health(&["web"]));
}

#[test]
fn checks_go_with_their_service_and_those_of_nodes_stay() {
    let request = Request::Health(health::Request::Node { name: "n".to_owned(), read: read() });
    let checks = |names: &[&str]| Body::Checks(names.iter().map(|name| check(name)).collect());
    assert_eq!(seen(&request, checks(&["", "db", "web", "consul"])), checks(&["", "web", "consul"]));
}

#[test]
fn nodes_places_and_sessions_are_open() {
    let request = Request::Catalog(catalog::Request::Nodes { filter: Filter::default(), read: read() });
    let nodes = Body::Nodes(vec![Arc::new(Node::default())]);
    assert_eq!(seen(&request, nodes.clone()), nodes);
    let sessions = Body::Sessions(Vec::new());
    assert_eq!(seen(&request, sessions.clone()), sessions);
    assert_eq!(seen(&request, Body::Places(Vec::new())), Body::Places(Vec::new()));
}

fn op(verb: Verb, key: &'static str) -> Op {
    Op { verb, key: key.into(), value: "".into(), flags: 0, index: Index(0), session: String::new() }
}

fn denied(ops: Vec<Op>) -> Vec<usize> {
    let faults = denied_ops(&somebody(), &txn::Request { ops, read: read() });
    assert!(faults.iter().all(|fault| fault.what == "Permission denied"), "{faults:?}");
    faults.into_iter().map(|fault| fault.op).collect()
}

#[test]
fn each_operation_of_a_transaction_needs_what_it_needs_alone() {
    let writes = [Verb::Set, Verb::Cas, Verb::Lock, Verb::Unlock, Verb::Delete, Verb::DeleteCas];
    for verb in writes.into_iter().chain([Verb::DeleteTree, Verb::Unknown("bogus".to_owned())]) {
        let ops = ["own/a", "pub/b", "secret"].map(|key| op(verb.clone(), key)).to_vec();
        assert_eq!(denied(ops), [1, 2], "{verb:?}");
    }
    for verb in [Verb::CheckIndex, Verb::CheckSession, Verb::CheckNotExists] {
        let ops = ["own/a", "pub/b", "secret"].map(|key| op(verb.clone(), key)).to_vec();
        assert_eq!(denied(ops), [2], "{verb:?}");
    }
    assert!(denied(vec![op(Verb::Get, "secret"), op(Verb::GetTree, "")]).is_empty());
    assert_eq!(denied(vec![op(Verb::DeleteTree, ""), op(Verb::Set, "")]), [0], "what lacks a key is told as that");
}

#[test]
fn a_transaction_tells_what_is_not_allowed_and_else_what_may_be_seen() {
    let told = |key| Told { entry: entry(key), with_value: true };
    let outcome = || Outcome { results: vec![told("pub/a"), told("secret"), told("own/b")], ..Outcome::default() };
    let request = |ops| Request::Txn(txn::Request { ops, read: read() });
    let reads = request(vec![op(Verb::Get, "pub/a"), op(Verb::Get, "secret"), op(Verb::GetTree, "own/")]);
    let expected = Outcome { results: vec![told("pub/a"), told("own/b")], ..Outcome::default() };
    assert_eq!(seen(&reads, Body::Txn(outcome())), Body::Txn(expected));
    let checks = request(vec![op(Verb::Get, "pub/a"), op(Verb::CheckIndex, "secret"), op(Verb::Get, "")]);
    let fault = |op, what: &str| Fault { op, what: what.to_owned() };
    let faults = vec![fault(1, "Permission denied"), fault(2, "Must provide key")];
    assert_eq!(seen(&checks, Body::Txn(outcome())), Body::Txn(Outcome { faults, ..Outcome::default() }));
}

#[test]
fn what_is_not_allowed_counts_before_what_else_is_wrong() {
    let fault = |op, what: &str| Fault { op, what: what.to_owned() };
    let merged = merge(vec![fault(0, "a"), fault(2, "c")], vec![fault(1, "no"), fault(2, "no")]);
    assert_eq!(merged, [fault(0, "a"), fault(1, "no"), fault(2, "no")]);
}

#[test]
fn queries_are_listed_by_their_names_and_without_their_tokens() {
    let request = Request::Prepared(prepared::Request::List { read: read() });
    let template = Template { kind: "name_prefix_match".to_owned(), regexp: String::new() };
    let for_all = Arc::new(Query { template, ..Query::default() });
    let all = vec![query("prod-a", "secret"), query("prod-b", ""), query("test", "secret"), query("", ""), for_all];
    let left = vec![query("prod-a", "<hidden>"), query("prod-b", "")];
    assert_eq!(seen(&request, Body::Queries(all)), Body::Queries(left));
}

#[test]
fn one_query_is_shown_by_its_name_or_to_whoever_has_the_id_of_one_without_a_name() {
    let request = Request::Prepared(prepared::Request::Get { id: "x".to_owned(), read: read() });
    let shown = |query| seen_in(&Store::default(), &request, Body::Queries(vec![query])).map(|(body, _)| body);
    assert_eq!(shown(query("prod-a", "secret")), Ok(Body::Queries(vec![query("prod-a", "<hidden>")])));
    assert_eq!(shown(query("", "secret")), Ok(Body::Queries(vec![query("", "<hidden>")])));
    assert_eq!(shown(query("test", "")), Err(Error::PermissionDenied));
}

#[test]
fn a_query_is_explained_to_who_may_see_it() {
    let explained = |authority: &Authority, query| show_query(authority, query);
    assert_eq!(explained(&somebody(), query("prod-a", "secret")), Ok(query("prod-a", "<hidden>")));
    assert_eq!(explained(&somebody(), query("test", "")), Err(Error::PermissionDenied));
    assert_eq!(explained(&somebody(), query("", "")), Err(Error::PermissionDenied));
    assert_eq!(explained(&Authority::everything(), query("", "secret")), Ok(query("", "secret")));
}
