//! What tokens allow, wherever one asks: on leaders, followers and client agents, before and after they are destroyed.

use lictor_core::api::acl::{Permission, Request as Acl, Wanted};
use lictor_core::api::agent::ServiceDefinition;
use lictor_core::api::catalog::{Node, Registration, Service};
use lictor_core::api::event::{Event, Request as Events};
use lictor_core::api::prepared::{Found, Query, Request as Queries};
use lictor_core::api::txn::{self, Op, Verb};
use lictor_core::api::{
    Consistency, Error, ReadOptions, Reply, Response, agent, catalog, coordinate, kv, operator, session, snapshot,
};
use lictor_core::config::{Acl as Config, DefaultPolicy, DownPolicy};
use lictor_core::id::{CallId, Index};
use lictor_core::local::News;
use lictor_core::time::Duration;

use super::world::{SECOND, World, client, done, get, put, value};

/// A client agent.
const ME: u64 = 9;
const ROOT: &str = "root";

fn strict() -> Config {
    Config {
        datacenter: Some("dc1".to_owned()),
        by_default: DefaultPolicy::Deny,
        master_token: Some(ROOT.to_owned()),
        ..Config::default()
    }
}

/// Three servers that deny what no rule allows, each with these changes of its configuration.
fn strict_world(seed: u64, change: impl Fn(&mut Config)) -> World {
    let mut acl = strict();
    change(&mut acl);
    let mut world = World::of_three_with(seed, |config| config.acl = acl.clone());
    assert!(matches!(world.ask_as(1, ROOT, Acl::List { read: read() }), Ok(Response::Tokens(_))));
    world
}

/// As above, with a client agent.
fn with_client(seed: u64, acl: Config) -> World {
    let mut world = strict_world(seed, |_| {});
    let mut config = client(ME);
    config.acl = acl;
    world.start(config);
    world.join(ME, 1);
    world.run(SECOND * 2);
    world
}

fn read() -> ReadOptions {
    ReadOptions::default()
}

fn set(world: &mut World, id: &str, rules: &str) {
    let wanted = Wanted { id: id.to_owned(), kind: "client".to_owned(), rules: rules.to_owned(), ..Wanted::default() };
    let reply = world.ask_as(1, ROOT, Acl::Set(wanted));
    assert!(matches!(&reply, Ok(Response::TokenSet { id: set, .. }) if set == id), "{reply:?}");
}

fn destroy(world: &mut World, id: &str) {
    assert_eq!(world.ask_as(1, ROOT, Acl::Destroy { id: id.to_owned() }), done());
}

fn index(reply: &Reply) -> Index {
    match reply {
        Ok(Response::KvEntries(read)) => read.meta.index,
        other => panic!("no entries: {other:?}"),
    }
}

const ALL: [Consistency; 3] = [Consistency::Default, Consistency::Consistent, Consistency::Stale];

#[test]
fn what_a_token_allows_it_allows_on_every_agent_and_no_more() {
    let mut world = with_client(1, strict());
    set(&mut world, "app", r#"key "app/" { policy = "write" } key "pub/" { policy = "read" }"#);
    for key in ["app/a", "pub/a", "secret"] {
        assert_eq!(world.ask_as(2, ROOT, put(key, "1")), done());
    }
    world.run(SECOND);
    for at in [1, 2, 3, ME] {
        assert_eq!(world.ask_as(at, "app", put("app/a", "2")), done());
        for key in ["pub/a", "secret"] {
            assert_eq!(world.ask_as(at, "app", put(key, "2")), Err(Error::PermissionDenied), "{key} at {at}");
            assert_eq!(world.ask(at, put(key, "2")), Err(Error::PermissionDenied), "{key} at {at}");
        }
        assert_eq!(world.ask_as(at, "nosuch", put("app/a", "2")), Err(Error::UnknownToken), "at {at}");
        world.run(SECOND);
        for consistency in ALL {
            let seen = |world: &mut World, token, key| value(&world.ask_as(at, token, get(key, consistency)));
            assert_eq!(seen(&mut world, "app", "app/a").as_deref(), Some("2"), "{consistency:?} at {at}");
            assert_eq!(seen(&mut world, "app", "pub/a").as_deref(), Some("1"), "{consistency:?} at {at}");
            assert_eq!(seen(&mut world, ROOT, "secret").as_deref(), Some("1"), "{consistency:?} at {at}");
            for (token, key) in [("app", "secret"), ("", "app/a"), ("", "secret")] {
                assert_eq!(seen(&mut world, token, key), None, "{key} for {token}, {consistency:?} at {at}");
            }
            let unknown = world.ask_as(at, "nosuch", get("app/a", consistency));
            assert_eq!(unknown, Err(Error::UnknownToken), "{consistency:?} at {at}");
        }
    }
}

#[test]
fn a_key_that_may_not_be_read_cannot_be_told_from_one_that_is_not_there() {
    let mut world = strict_world(2, |_| {});
    assert_eq!(world.ask_as(1, ROOT, put("secret", "1")), done());
    assert_eq!(world.ask_as(1, ROOT, put("other", "1")), done());
    let leader = world.leader().unwrap();
    let [hidden, absent] = ["secret", "nosuch"].map(|key| world.ask(leader, get(key, Consistency::Default)));
    assert_eq!(index(&hidden), index(&absent));
    let known = world.ask_as(leader, ROOT, get("secret", Consistency::Default));
    assert!(index(&known) < index(&hidden));
}

#[test]
fn the_agent_that_is_asked_gives_its_token_and_no_other_adds_one() {
    // Servers whose own clients may do everything.
    let mut world = strict_world(3, |acl| acl.token = Some(ROOT.to_owned()));
    let (leader, follower) = (world.leader().unwrap(), world.follower());
    for at in [leader, follower] {
        assert_eq!(world.put(at, "a", "1"), done());
        assert_eq!(world.ask_as(at, "anonymous", put("a", "2")), Err(Error::PermissionDenied));
        for consistency in ALL {
            world.run(SECOND);
            assert_eq!(value(&world.ask(at, get("a", consistency))).as_deref(), Some("1"), "{consistency:?}");
            assert_eq!(value(&world.ask_as(at, "anonymous", get("a", consistency))), None, "{consistency:?}");
        }
    }
    let mut config = client(ME);
    config.acl = Config { token: None, ..strict() };
    world.start(config);
    world.join(ME, 1);
    world.run(SECOND * 2);
    assert_eq!(world.put(ME, "a", "2"), Err(Error::PermissionDenied), "servers give their tokens to their own clients");
    assert_eq!(value(&world.ask(ME, get("a", Consistency::Default))), None);
    assert_eq!(value(&world.ask_as(ME, ROOT, get("a", Consistency::Default))).as_deref(), Some("1"));
}

#[test]
fn a_destroyed_token_is_dead_at_once_but_for_stale_reads_of_those_who_have_not_heard() {
    let mut world = strict_world(4, |_| {});
    set(&mut world, "app", r#"key "" { policy = "write" }"#);
    assert_eq!(world.ask_as(1, "app", put("a", "1")), done());
    world.run(SECOND);
    let follower = world.follower();
    world.cut_off(follower);
    let others: Vec<u64> = (1..=3).filter(|n| *n != follower).collect();
    let wanted = Acl::Destroy { id: "app".to_owned() };
    assert_eq!(world.ask_as(others[0], ROOT, wanted), done());
    for at in others {
        assert_eq!(world.ask_as(at, "app", put("a", "2")), Err(Error::UnknownToken));
        for consistency in [Consistency::Default, Consistency::Consistent] {
            assert_eq!(world.ask_as(at, "app", get("a", consistency)), Err(Error::UnknownToken));
        }
    }
    let stale = world.ask_as(follower, "app", get("a", Consistency::Stale));
    assert_eq!(value(&stale).as_deref(), Some("1"), "it knows no better");
    world.walls.clear();
    world.run(SECOND * 5);
    assert_eq!(world.ask_as(follower, "app", get("a", Consistency::Stale)), Err(Error::UnknownToken));
}

fn block(world: &mut World, at: u64, key: &'static str, wait: Duration) -> CallId {
    let now = index(&world.ask_as(at, "app", get(key, Consistency::Default)));
    let read = ReadOptions { index: now, wait: Some(wait), ..read() };
    let call = world.call_as(at, "app", kv::Request::Get { key: key.into(), read });
    world.run(SECOND);
    assert!(!world.has_reply(call), "it does not block");
    call
}

#[test]
fn a_query_that_waited_is_answered_by_what_its_token_allows_then() {
    let mut world = strict_world(5, |_| {});
    let all = r#"key "" { policy = "write" }"#;
    for at in [world.leader().unwrap(), world.follower()] {
        set(&mut world, "app", all);
        assert_eq!(world.ask_as(1, ROOT, put("a", "1")), done());
        let (narrowed, _) =
            (block(&mut world, at, "a", SECOND * 60), set(&mut world, "app", r#"key "b" { policy = "read" }"#));
        assert_eq!(world.ask_as(1, ROOT, put("a", "2")), done());
        assert_eq!(value(&world.answer(narrowed)), None, "at {at}");

        set(&mut world, "app", all);
        let woken = block(&mut world, at, "a", SECOND * 60);
        let late = block(&mut world, at, "b", SECOND * 5);
        destroy(&mut world, "app");
        world.run(SECOND);
        assert_eq!(world.ask_as(1, ROOT, put("a", "3")), done());
        assert_eq!(world.answer(woken), Err(Error::UnknownToken), "at {at}");
        assert_eq!(world.answer(late), Err(Error::UnknownToken), "it is judged when it gives up, too, at {at}");
    }
}

#[test]
fn a_leader_judges_no_write_before_it_knows_which_tokens_were_destroyed() {
    let mut lagged = 0;
    for seed in 10..16 {
        let mut world = strict_world(seed, |_| {});
        set(&mut world, "app", r#"key "" { policy = "write" }"#);
        world.run(SECOND);
        let before = world.leader().unwrap();
        let gone = world.call_as(before, ROOT, Acl::Destroy { id: "app".to_owned() });
        assert!(world.run_until(SECOND * 5, |world| world.has_reply(gone)));
        world.kill(before);
        assert!(world.run_until(SECOND * 20, |world| world.leader().is_some()), "nobody leads");
        let leader = world.leader().unwrap();
        let knows_better = world.hosts[&leader].agent.store().token("app").is_none();
        lagged += u32::from(!knows_better);
        let dead = world.call_as(leader, "app", put("a", "1"));
        let alive = world.call_as(leader, ROOT, put("b", "1"));
        assert_eq!(world.answer(dead), Err(Error::UnknownToken), "seed {seed}");
        assert_eq!(world.answer(alive), done());
        assert_eq!(value(&world.ask_as(leader, ROOT, get("a", Consistency::Default))), None);
    }
    assert!(lagged > 0, "no new leader ever lacked anything: this shows nothing");
}

#[test]
fn a_write_that_waits_to_be_judged_goes_on_elsewhere_if_the_leader_is_lost() {
    let mut world = strict_world(20, |_| {});
    world.run(SECOND);
    world.kill(world.leader().unwrap());
    assert!(world.run_until(SECOND * 20, |world| world.leader().is_some()), "nobody leads");
    let (leader, follower) = (world.leader().unwrap(), world.follower());
    // Nothing that it proposes is ever committed.
    world.cut_off(leader);
    let waiting = world.call_as(leader, ROOT, put("a", "1"));
    world.run(SECOND * 2);
    assert!(!world.has_reply(waiting));
    world.walls.clear();
    assert_eq!(world.answer(waiting), done());
    assert_eq!(value(&world.ask_as(follower, ROOT, get("a", Consistency::Default))).as_deref(), Some("1"));
}

#[test]
fn where_tokens_are_kept_elsewhere_the_down_policy_decides() {
    for (when_down, written) in [
        (DownPolicy::Allow, done()),
        (DownPolicy::Deny, Err(Error::PermissionDenied)),
        (DownPolicy::ExtendCache, Err(Error::PermissionDenied)),
    ] {
        let elsewhere = Config { datacenter: Some("elsewhere".to_owned()), when_down, ..strict() };
        let mut world = World::of_three_with(6, |config| config.acl = elsewhere.clone());
        for at in [world.leader().unwrap(), world.follower()] {
            for token in ["", ROOT] {
                assert_eq!(world.ask_as(at, token, put("a", "1")), written, "{when_down:?}");
                let saved = world.ask_as(at, token, snapshot::Request::Save { read: read() });
                assert!(matches!(saved, Err(Error::PermissionDenied)), "{when_down:?}: {saved:?}");
            }
            let listed = world.ask_as(at, ROOT, Acl::List { read: read() });
            assert_eq!(listed, Err(Error::NoPathToDatacenter));
            let info =
                Acl::Info { id: ROOT.to_owned(), read: ReadOptions { consistency: Consistency::Stale, ..read() } };
            assert_eq!(world.ask_as(at, ROOT, info), Err(Error::NoPathToDatacenter));
        }
    }
}

#[test]
fn without_access_control_tokens_do_not_matter() {
    let mut world = World::of_three(7);
    for at in [world.leader().unwrap(), world.follower()] {
        assert_eq!(world.ask_as(at, "nosuch", put("a", "1")), done());
        assert_eq!(world.ask_as(at, "nosuch", Acl::List { read: read() }), Err(Error::AclDisabled));
        let stale = ReadOptions { consistency: Consistency::Stale, ..read() };
        assert_eq!(world.ask(at, Acl::Info { id: ROOT.to_owned(), read: stale }), Err(Error::AclDisabled));
        assert_eq!(world.ask(at, Acl::Permit(Permission::WriteExec)), done());
    }
}

fn op(verb: Verb, key: &'static str) -> Op {
    Op { verb, key: key.into(), value: "2".into(), flags: 0, index: Index(0), session: String::new() }
}

#[test]
fn a_transaction_says_which_of_its_operations_are_not_allowed_and_tells_what_may_be_read() {
    let mut world = strict_world(8, |_| {});
    set(&mut world, "app", r#"key "app/" { policy = "write" }"#);
    for key in ["app-x", "app/a", "secret"] {
        assert_eq!(world.ask_as(1, ROOT, put(key, "1")), done());
    }
    let mut ask = |ops| match world.ask_as(1, "app", txn::Request { ops, read: read() }) {
        Ok(Response::Txn(outcome)) => {
            let told = outcome.results.iter().map(|told| String::from_utf8_lossy(&told.entry.key).into_owned());
            let faults = outcome.faults.iter().map(|fault| format!("{}: {}", fault.op, fault.what));
            (told.collect::<Vec<_>>(), faults.collect::<Vec<_>>())
        }
        other => panic!("no outcome: {other:?}"),
    };
    let none: Vec<String> = Vec::new();
    let denied =
        ask(vec![op(Verb::Set, "app/b"), op(Verb::Set, "secret"), op(Verb::Get, ""), op(Verb::DeleteTree, "")]);
    let faults = ["1: Permission denied", "2: Must provide key", "3: Permission denied"].map(str::to_owned);
    assert_eq!(denied, (none.clone(), faults.to_vec()));
    let mixed = ask(vec![op(Verb::Set, "app/a"), op(Verb::Get, "secret"), op(Verb::GetTree, "app")]);
    assert_eq!(mixed, (vec!["app/a".to_owned(), "app/a".to_owned()], none.clone()), "beside a write");
    let reads = ask(vec![op(Verb::Get, "secret"), op(Verb::GetTree, "app")]);
    assert_eq!(reads, (vec!["app/a".to_owned()], none));
    assert_eq!(value(&world.ask_as(1, ROOT, get("app/b", Consistency::Default))), None, "all or nothing");
    assert_eq!(value(&world.ask_as(1, ROOT, get("secret", Consistency::Default))).as_deref(), Some("1"));
}

fn fire(name: &str) -> Events {
    Events::Fire(Event { name: name.to_owned(), ..Event::default() })
}

fn heard(world: &mut World, at: u64) -> Vec<String> {
    let list = Events::List {
        name: String::new(),
        node_filter: String::new(),
        service_filter: String::new(),
        tag_filter: String::new(),
        index: 0,
        wait: None,
    };
    match world.ask(at, list) {
        Ok(Response::Events(listed)) => listed.events.into_iter().map(|event| event.name).collect(),
        other => panic!("no events: {other:?}"),
    }
}

#[test]
fn events_are_fired_by_who_may_and_once_though_a_client_agent_hands_them_to_a_server() {
    let mut world = with_client(9, strict());
    set(&mut world, "app", r#"event "deploy" { policy = "write" } event "alarm" { policy = "read" }"#);
    world.run(SECOND);
    let mut fired = 0;
    for at in [world.leader().unwrap(), world.follower(), ME] {
        for (token, name, refused) in [
            ("app", "alarm", Error::PermissionDenied),
            ("", "deploy", Error::PermissionDenied),
            ("nosuch", "deploy", Error::UnknownToken),
        ] {
            assert_eq!(world.ask_as(at, token, fire(name)), Err(refused), "{name} for {token} at {at}");
        }
        let reply = world.ask_as(at, "app", fire("deploy"));
        assert!(matches!(&reply, Ok(Response::Fired(event)) if event.name == "deploy"), "{reply:?}");
        fired += 1;
        world.run(SECOND * 5);
        for hearer in [1, 2, 3, ME] {
            assert_eq!(heard(&mut world, hearer), vec!["deploy"; fired], "at {hearer}");
        }
    }
}

#[test]
fn an_event_whose_server_is_lost_is_not_fired_by_another_one() {
    let mut world = with_client(21, strict());
    set(&mut world, "app", r#"event "" { policy = "write" }"#);
    world.run(SECOND);
    // Servers hear what the client agent says, and cannot answer it.
    world.walls.extend((1..=3).map(|n| (n, ME)));
    let reply = world.ask_as(ME, "app", fire("deploy"));
    assert_eq!(reply, Err(Error::LeaderUnreachable));
    world.walls.clear();
    world.run(SECOND * 10);
    assert_eq!(heard(&mut world, 1), ["deploy"]);
}

fn service(name: &str, token: &str) -> agent::Request {
    let definition =
        ServiceDefinition { name: name.to_owned(), token: token.to_owned(), ..ServiceDefinition::default() };
    agent::Request::RegisterService(Box::new(definition))
}

fn registered(world: &mut World, name: &str) -> usize {
    let request = catalog::Request::Service {
        name: name.to_owned(),
        tag: None,
        filter: catalog::Filter::default(),
        read: read(),
    };
    match world.ask_as(1, ROOT, request) {
        Ok(Response::Instances(read)) => read.value.len(),
        other => panic!("no instances: {other:?}"),
    }
}

#[test]
fn services_are_told_to_the_catalog_with_their_own_token_or_the_agents() {
    let acl = Config { agent_token: Some("agent".to_owned()), ..strict() };
    let mut world = with_client(22, acl);
    set(&mut world, "agent", r#"service "by-agent" { policy = "write" } service "" { policy = "read" }"#);
    set(&mut world, "app", r#"service "by-app" { policy = "write" }"#);
    assert_eq!(world.ask(ME, service("by-agent", "")), done());
    assert_eq!(world.ask_as(ME, "app", service("by-app", "")), done(), "the caller's");
    assert_eq!(world.ask(ME, service("by-app-2", "app")), done(), "the definition's");
    world.local_news.clear();
    assert_eq!(world.ask(ME, service("other", "")), done());
    assert_eq!(world.ask_as(ME, "nosuch", service("by-app-3", "")), done());
    world.run(SECOND * 120);
    let found = ["by-agent", "by-app", "by-app-2", "other", "by-app-3"].map(|name| registered(&mut world, name));
    assert_eq!(found, [1, 1, 1, 0, 0]);
    let refused: Vec<&Error> = (world.local_news.iter())
        .filter_map(|(at, news)| match news {
            News::Refused { error, .. } if *at == ME => Some(error),
            _ => None,
        })
        .collect();
    assert!(refused.contains(&&Error::PermissionDenied) && refused.contains(&&Error::UnknownToken), "{refused:?}");
    assert!(refused.len() <= 10, "it is not tried all the time: {}", refused.len());

    // It keeps them over a restart, and uses them anew.
    set(&mut world, "app", r#"service "" { policy = "read" }"#);
    set(&mut world, "agent", r#"service "" { policy = "write" }"#);
    world.restart(ME);
    world.join(ME, 1);
    let gone = Node { name: "n9".to_owned(), ..Node::default() }.name;
    let deregistration = catalog::Deregistration { node: gone, ..catalog::Deregistration::default() };
    assert_eq!(world.ask_as(1, ROOT, catalog::Request::Deregister(deregistration)), done());
    world.run(SECOND * 200);
    let found = ["by-agent", "by-app", "by-app-2", "other"].map(|name| registered(&mut world, name));
    assert_eq!(found, [1, 0, 0, 1], "what was registered with a token of its own is told with that");
}

#[test]
fn without_a_token_of_their_own_services_are_told_with_that_of_clients_if_there_is_one() {
    let acl = Config { agent_token: Some("agent".to_owned()), token: Some("clients".to_owned()), ..strict() };
    let mut world = with_client(23, acl);
    set(&mut world, "agent", r#"service "" { policy = "read" }"#);
    set(&mut world, "clients", r#"service "web" { policy = "write" }"#);
    assert_eq!(world.ask(ME, service("web", "")), done());
    world.run(SECOND * 60);
    assert_eq!(registered(&mut world, "web"), 1);
}

fn register(name: &str) -> catalog::Request {
    let node = Node { name: "x".to_owned(), address: "10.1.1.1".to_owned(), ..Node::default() };
    let service = (!name.is_empty()).then(|| Service { name: name.to_owned(), ..Service::default() });
    catalog::Request::Register(Box::new(Registration { node, service, checks: Vec::new() }))
}

fn executed(reply: Reply) -> Result<Found, Error> {
    reply.map(|response| match response {
        Response::Executed(read) => read.value,
        other => panic!("not executed: {other:?}"),
    })
}

#[test]
fn prepared_queries_find_what_their_own_token_may_see_or_else_the_callers() {
    let mut world = strict_world(24, |_| {});
    set(&mut world, "see-web", r#"service "web" { policy = "read" }"#);
    set(&mut world, "ops", r#"query "q" { policy = "write" }"#);
    assert_eq!(world.ask_as(1, ROOT, register("web")), done());
    let query = |name: &str, token: &str| {
        let mut query = Query { name: name.to_owned(), token: token.to_owned(), ..Query::default() };
        query.service.service = "web".to_owned();
        Queries::Create(Box::new(query))
    };
    for (name, token) in [("q-own", "see-web"), ("q-callers", ""), ("q-dead", "nosuch")] {
        assert!(matches!(world.ask_as(2, "ops", query(name, token)), Ok(Response::QueryCreated(_))));
        assert_eq!(world.ask(2, query(&format!("{name}-2"), token)), Err(Error::PermissionDenied));
    }
    world.run(SECOND);
    let mut found = |token: &str, name: &str, consistency| {
        let read = ReadOptions { consistency, ..read() };
        let (name, agent) = (name.to_owned(), String::new());
        let execute = Queries::Execute { name, limit: 0, near: None, agent, read };
        executed(world.ask_as(3, token, execute)).map(|found| found.instances.len())
    };
    for consistency in ALL {
        assert_eq!(found("", "q-own", consistency), Ok(1));
        assert_eq!(found("nosuch", "q-own", consistency), Ok(1), "the caller's does not count");
        assert_eq!(found("", "q-callers", consistency), Ok(0));
        assert_eq!(found("see-web", "q-callers", consistency), Ok(1));
        assert_eq!(found("nosuch", "q-callers", consistency), Err(Error::UnknownToken));
        assert_eq!(found(ROOT, "q-dead", consistency), Err(Error::UnknownToken));
        assert_eq!(found("nosuch", "nosuch", consistency), Err(Error::NoSuchQuery), "that there is none is said first");
    }
    let explain = |name: &str| Queries::Explain { name: name.to_owned(), agent: String::new(), read: read() };
    assert_eq!(world.ask(1, explain("q-own")), Err(Error::PermissionDenied));
    match world.ask_as(1, "ops", explain("q-own")) {
        Ok(Response::Explained(read)) => assert_eq!(read.value.token, "<hidden>"),
        other => panic!("not explained: {other:?}"),
    }
}

#[test]
fn what_is_not_governed_by_rules_needs_a_token_that_exists_and_some_not_even_that() {
    let mut world = strict_world(25, |_| {});
    set(&mut world, "none", "");
    set(&mut world, "operator", r#"operator = "read" exec = "read""#);
    for at in [world.leader().unwrap(), world.follower()] {
        let open: Vec<lictor_core::api::Request> = vec![
            catalog::Request::Nodes { filter: catalog::Filter::default(), read: read() }.into(),
            session::Request::List { read: read() }.into(),
            coordinate::Request::Nodes { read: read() }.into(),
            register("").into(),
        ];
        for request in open {
            assert!(world.ask_as(at, "none", request.clone()).is_ok(), "{request:?}");
            assert!(world.ask(at, request.clone()).is_ok(), "{request:?}");
            assert_eq!(world.ask_as(at, "nosuch", request.clone()), Err(Error::UnknownToken), "{request:?}");
        }
        assert!(world.ask_as(at, "nosuch", agent::Request::Itself).is_ok());
        assert!(world.ask_as(at, "nosuch", catalog::Request::Datacenters).is_ok());
        assert!(world.ask_as(at, "nosuch", Acl::Info { id: ROOT.to_owned(), read: read() }).is_ok());
        let copy = |id: &str| Acl::Clone { id: id.to_owned() };
        assert_eq!(world.ask_as(at, "nosuch", copy("nosuch")), Err(Error::NoTokenToClone));
        assert_eq!(world.ask_as(at, "none", copy("none")), Err(Error::PermissionDenied));
        let raft = operator::Request::RaftConfiguration { read: read() };
        assert!(world.ask_as(at, "operator", raft.clone()).is_ok());
        assert_eq!(world.ask_as(at, "none", raft), Err(Error::PermissionDenied));
        let transfer = operator::Request::TransferLeader { to: None };
        assert_eq!(world.ask_as(at, "operator", transfer), Err(Error::PermissionDenied));
        for (token, permission, allowed) in [
            ("operator", Permission::ReadExec, Ok(Response::Done(true))),
            ("operator", Permission::WriteExec, Ok(Response::Done(false))),
            ("none", Permission::ReadKeyring, Ok(Response::Done(false))),
            (ROOT, Permission::WriteKeyring, Ok(Response::Done(true))),
            ("nosuch", Permission::ReadExec, Err(Error::UnknownToken)),
        ] {
            assert_eq!(world.ask_as(at, token, Acl::Permit(permission)), allowed, "{permission:?} for {token}");
        }
        let saved = world.ask_as(at, "operator", snapshot::Request::Save { read: read() });
        assert!(matches!(saved, Err(Error::PermissionDenied)), "{saved:?}");
        assert!(matches!(world.ask_as(at, ROOT, snapshot::Request::Save { read: read() }), Ok(Response::Snapshot(_))));
    }
}
