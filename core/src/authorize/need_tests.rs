use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::*;
use crate::acl::Policy;
use crate::api::catalog::{Deregistration, Filter, Meta, Node, Registration, Service};
use crate::api::event::Event;
use crate::api::operator::Autopilot;
use crate::api::prepared::{Query, Template};
use crate::api::{
    ReadOptions, agent, catalog, coordinate, event, exec, health, kv, operator, prepared, session, snapshot,
};
use crate::api::{status, txn};
use crate::id::{Index, PeerId, SessionId};
use crate::store::Command;
use crate::store::prepared::Command as Change;

fn read() -> ReadOptions {
    ReadOptions::default()
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn put(mode: kv::PutMode) -> kv::Request {
    kv::Request::Put { key: "k".into(), value: "v".into(), flags: 0, mode }
}

fn registration(service: &str) -> catalog::Request {
    let node = Node { name: text("n"), address: text("10.0.0.1"), ..Node::default() };
    let service = Some(Service { name: text(service), ..Service::default() });
    catalog::Request::Register(Box::new(Registration { node, service, checks: Vec::new() }))
}

fn keys() -> Vec<(Request, Need<'static>)> {
    let session = || text("5c1e5ca3-6e55-4d0c-8d55-9a8d3a0c4e11");
    vec![
        (kv::Request::Get { key: "k".into(), read: read() }.into(), Need::Token),
        (kv::Request::List { prefix: "k".into(), read: read() }.into(), Need::Token),
        (kv::Request::Keys { prefix: "k".into(), separator: "/".into(), read: read() }.into(), Need::Token),
        (put(kv::PutMode::Set).into(), Need::WriteKey(b"k")),
        (put(kv::PutMode::Cas(Index(0))).into(), Need::WriteKey(b"k")),
        (put(kv::PutMode::Acquire(session())).into(), Need::WriteKey(b"k")),
        (put(kv::PutMode::Release(session())).into(), Need::WriteKey(b"k")),
        (kv::Request::Delete { key: "k".into(), cas: None }.into(), Need::WriteKey(b"k")),
        (kv::Request::DeleteTree { prefix: "k".into() }.into(), Need::WriteKeysBelow(b"k")),
        (txn::Request { ops: Vec::new(), read: read() }.into(), Need::Token),
    ]
}

fn the_agent() -> Vec<(Request, Need<'static>)> {
    let requests = [
        agent::Request::Itself,
        agent::Request::Members { wan: false },
        agent::Request::Join { addresses: Vec::new(), wan: false },
        agent::Request::ForceLeave { node: text("n"), prune: false },
        agent::Request::Leave,
        agent::Request::Services,
        agent::Request::Checks,
        agent::Request::RegisterService(Box::default()),
        agent::Request::DeregisterService { id: text("s") },
        agent::Request::RegisterCheck(Box::default()),
        agent::Request::DeregisterCheck { id: text("c") },
        agent::Request::UpdateCheck { id: text("c"), status: text("passing"), output: String::new() },
        agent::Request::ServiceMaintenance { id: text("s"), enable: true, reason: String::new() },
        agent::Request::NodeMaintenance { enable: true, reason: String::new() },
        agent::Request::Redefine(Box::default()),
    ];
    requests.into_iter().map(|request| (request.into(), Need::Nothing)).collect()
}

fn the_cluster() -> Vec<(Request, Need<'static>)> {
    let address = "10.0.0.1:8300".parse().unwrap();
    let settings = Autopilot::default();
    let restore = snapshot::Request::Restore { id: Uuid::nil(), step: snapshot::Step::Abort };
    vec![
        (status::Request::Leader.into(), Need::Nothing),
        (status::Request::Peers.into(), Need::Nothing),
        (operator::Request::RaftConfiguration { read: read() }.into(), Need::ReadOperator),
        (operator::Request::AutopilotConfiguration { read: read() }.into(), Need::ReadOperator),
        (operator::Request::AutopilotHealth.into(), Need::ReadOperator),
        (operator::Request::RemovePeer(operator::Peer::Address(text("x"))).into(), Need::WriteOperator),
        (operator::Request::AddPeer { id: PeerId::numbered(1), address }.into(), Need::WriteOperator),
        (operator::Request::TransferLeader { to: None }.into(), Need::WriteOperator),
        (operator::Request::SetAutopilotConfiguration { settings, cas: None }.into(), Need::WriteOperator),
        (snapshot::Request::Save { read: read() }.into(), Need::Manage),
        (restore.into(), Need::Manage),
        (event::Request::Fire(Event { name: text("deploy"), ..Event::default() }).into(), Need::FireEvent("deploy")),
        (events_listed().into(), Need::Nothing),
    ]
}

fn events_listed() -> event::Request {
    event::Request::List {
        name: String::new(),
        node_filter: String::new(),
        service_filter: String::new(),
        tag_filter: String::new(),
        index: 0,
        wait: None,
    }
}

fn the_catalog() -> Vec<(Request, Need<'static>)> {
    let (name, filter) = (text("web"), Filter::default());
    let place = coordinate::Place { node: text("n"), coordinate: crate::coordinate::Coordinate::default() };
    vec![
        (registration("web").into(), Need::WriteService("web")),
        (registration("").into(), Need::Token),
        (catalog::Request::Deregister(Deregistration::default()).into(), Need::Token),
        (catalog::Request::Datacenters.into(), Need::Nothing),
        (catalog::Request::Nodes { filter: filter.clone(), read: read() }.into(), Need::Token),
        (catalog::Request::Services { node_meta: Meta::new(), read: read() }.into(), Need::Token),
        (
            catalog::Request::Service { name: name.clone(), tag: None, filter: filter.clone(), read: read() }.into(),
            Need::Token,
        ),
        (catalog::Request::Node { name: text("n"), read: read() }.into(), Need::Token),
        (health::Request::Node { name: text("n"), read: read() }.into(), Need::Token),
        (health::Request::Checks { service: name.clone(), filter: filter.clone(), read: read() }.into(), Need::Token),
        (
            health::Request::Service { name, tag: None, passing: true, filter: filter.clone(), read: read() }.into(),
            Need::Token,
        ),
        (health::Request::State { state: text("any"), filter, read: read() }.into(), Need::Token),
        (coordinate::Request::Datacenters.into(), Need::Nothing),
        (coordinate::Request::Nodes { read: read() }.into(), Need::Token),
        (coordinate::Request::Update(place).into(), Need::Token),
        (session::Request::Create(session::Wanted::default()).into(), Need::Token),
        (session::Request::Destroy { id: text("s") }.into(), Need::Token),
        (session::Request::Renew { id: text("s") }.into(), Need::Token),
        (session::Request::Info { id: text("s"), read: read() }.into(), Need::Token),
        (session::Request::Node { node: text("n"), read: read() }.into(), Need::Token),
        (session::Request::List { read: read() }.into(), Need::Token),
    ]
}

fn queries() -> Vec<(Request, Need<'static>)> {
    let named = |name: &str| Box::new(Query { name: text(name), ..Query::default() });
    let template = Template { kind: text("name_prefix_match"), regexp: String::new() };
    let for_all = Box::new(Query { template, ..Query::default() });
    let update = |query| prepared::Request::Update { id: text("i"), query };
    let execute = prepared::Request::Execute { name: text("q"), limit: 0, near: None, agent: text("n"), read: read() };
    vec![
        (prepared::Request::Create(named("q")).into(), Need::WriteQuery { name: Some("q"), id: None }),
        (prepared::Request::Create(named("")).into(), Need::WriteQuery { name: None, id: None }),
        (prepared::Request::Create(for_all).into(), Need::WriteQuery { name: Some(""), id: None }),
        (update(named("q")).into(), Need::WriteQuery { name: Some("q"), id: Some("i") }),
        (prepared::Request::Delete { id: text("i") }.into(), Need::WriteQuery { name: None, id: Some("i") }),
        (prepared::Request::Get { id: text("i"), read: read() }.into(), Need::Token),
        (prepared::Request::List { read: read() }.into(), Need::Token),
        (execute.into(), Need::Nothing),
        (prepared::Request::Explain { name: text("q"), agent: text("n"), read: read() }.into(), Need::Nothing),
    ]
}

fn jobs() -> Vec<(Request, Need<'static>)> {
    let (prefix, session) = (text("_rexec"), SessionId(Uuid::nil()));
    let collect = exec::Request::Collect { prefix: prefix.clone(), session, progress: BTreeMap::default(), wait: None };
    vec![
        (exec::Request::Open { prefix: prefix.clone(), session }.into(), Need::Nothing),
        (collect.into(), Need::Nothing),
        (exec::Request::Close { prefix, session }.into(), Need::Nothing),
    ]
}

fn tokens() -> Vec<(Request, Need<'static>)> {
    let id = || text("t");
    vec![
        (acl::Request::Set(acl::Wanted::default()).into(), Need::Manage),
        (acl::Request::Clone { id: id() }.into(), Need::CopyToken("t")),
        (acl::Request::Destroy { id: id() }.into(), Need::Manage),
        (acl::Request::Info { id: id(), read: read() }.into(), Need::Nothing),
        (acl::Request::List { read: read() }.into(), Need::Manage),
        (acl::Request::Permit(Permission::WriteExec).into(), Need::Token),
    ]
}

/// Subject and variant: the first two words of what a request says of itself.
fn variant(request: &Request) -> String {
    let shown = format!("{request:?}");
    let words = shown.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.take(2).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_request_needs_what_the_table_says() {
    let table = [keys(), the_agent(), the_cluster(), the_catalog(), queries(), tokens(), jobs()].concat();
    for (request, need) in &table {
        assert_eq!(Need::of(request), *need, "{request:?}");
    }
    let variants: BTreeSet<String> = table.iter().map(|(request, _)| variant(request)).collect();
    // As many as there are: whoever adds one finds that its line is missing here.
    assert_eq!(variants.len(), 71, "{variants:#?}");
}

fn limited(policy: Policy) -> Authority {
    Authority::limited(Arc::new(policy), false)
}

#[test]
fn rules_decide_about_each_need() {
    let mut policy = Policy { operator: Some(Access::Read), ..Policy::default() };
    policy.keys.insert("app/", Access::Write);
    policy.keys.insert("app/fixed", Access::Read);
    policy.services.insert("web", Access::Write);
    policy.services.insert("db", Access::Read);
    policy.events.insert("deploy", Access::Write);
    policy.events.insert("alarm", Access::Read);
    let (authority, store) = (limited(policy), Store::default());
    let met = [
        Need::Nothing,
        Need::Token,
        Need::WriteKey(b"app/a"),
        Need::WriteKeysBelow(b"app/x"),
        Need::WriteService("web"),
        Need::WriteService("consul"),
        Need::FireEvent("deploy"),
        Need::ReadOperator,
        Need::WriteQuery { name: None, id: None },
    ];
    let unmet = [
        Need::WriteKey(b"app/fixed"),
        Need::WriteKey(b"other"),
        Need::WriteKeysBelow(b"app/"),
        Need::WriteService("db"),
        Need::FireEvent("alarm"),
        Need::WriteOperator,
        Need::WriteQuery { name: Some("q"), id: None },
        Need::Manage,
        Need::CopyToken("t"),
    ];
    for need in met {
        assert!(need.is_met(&authority, &store), "{need:?}");
    }
    for need in unmet {
        assert!(!need.is_met(&authority, &store), "{need:?}");
        assert!(need.is_met(&Authority::everything(), &store), "{need:?}");
    }
}

#[test]
fn a_query_is_written_by_who_may_write_its_name_as_it_is_and_as_it_is_to_be() {
    let id = Uuid::from_u128(7);
    let mut store = Store::default();
    let query = Query { id, name: text("prod-a"), ..Query::default() };
    store.apply(Index(1), Command::Prepared(Change::Create(Box::new(query))));
    let mut policy = Policy::default();
    policy.queries.insert("test-", Access::Write);
    let authority = limited(policy);
    let (known, unknown) = (id.to_string(), Uuid::from_u128(8).to_string());
    let is_met = |name, id| Need::WriteQuery { name, id }.is_met(&authority, &store);
    assert!(is_met(Some("test-a"), None));
    assert!(!is_met(Some("prod-b"), None));
    assert!(!is_met(Some("test-a"), Some(&known)), "it would take the name away from others");
    assert!(!is_met(None, Some(&known)));
    assert!(is_met(None, Some(&unknown)), "that there is none is said by who would delete it");
}

#[test]
fn where_tokens_are_kept_elsewhere_the_down_policy_decides() {
    let mut config = Config::new(PeerId::numbered(1), "n", "10.0.0.1:8300".parse().unwrap());
    let store = Store::default();
    let allowed = |config: &Config, request: &Request| judge(config, &store, Some("whatever"), request).map(drop);
    let (write, list) = (put(kv::PutMode::Set).into(), acl::Request::List { read: read() }.into());
    assert_eq!(allowed(&config, &write), Ok(()), "without access control");
    config.acl.datacenter = Some(text("elsewhere"));
    for (policy, expected) in [
        (DownPolicy::Allow, Ok(())),
        (DownPolicy::Deny, Err(Error::PermissionDenied)),
        (DownPolicy::ExtendCache, Err(Error::PermissionDenied)),
    ] {
        config.acl.when_down = policy;
        assert_eq!(allowed(&config, &write), expected, "{policy:?}");
        assert_eq!(allowed(&config, &list), Err(Error::PermissionDenied), "{policy:?}");
        assert_eq!(allowed(&config, &agent::Request::Leave.into()), Ok(()), "{policy:?}");
    }
    let list = acl::Request::List { read: read() };
    assert_eq!(without_tokens(&config, &list), Some(Err(Error::NoPathToDatacenter)));
    assert_eq!(without_tokens(&config, &acl::Request::Permit(Permission::ReadExec)), None);
    config.acl.datacenter = Some(config.datacenter.clone());
    assert_eq!(without_tokens(&config, &list), None);
    config.acl.datacenter = None;
    assert_eq!(without_tokens(&config, &list), Some(Err(Error::AclDisabled)));
    assert_eq!(without_tokens(&config, &acl::Request::Permit(Permission::ReadExec)), Some(Ok(Response::Done(true))));
}

#[test]
fn permissions_are_rules_of_their_own() {
    let policy = Policy { exec: Some(Access::Read), keyring: Some(Access::Write), ..Policy::default() };
    let authority = limited(policy);
    assert!(permits(&authority, Permission::ReadExec) && !permits(&authority, Permission::WriteExec));
    assert!(permits(&authority, Permission::ReadKeyring) && permits(&authority, Permission::WriteKeyring));
    let nothing = limited(Policy::default());
    for permission in [Permission::ReadExec, Permission::WriteExec, Permission::ReadKeyring, Permission::WriteKeyring] {
        assert!(!permits(&nothing, permission) && permits(&Authority::everything(), permission), "{permission:?}");
    }
}
