//! Anti-entropy: whatever is registered with an agent and whatever the catalog says of its node, the catalog comes to agree, and
//! then nothing is said any more.

#![allow(dead_code, reason = "the harness serves several tests")]

mod registrar;

use lictor_core::api::agent::{CheckDefinition, ServiceDefinition};
use lictor_core::api::catalog::{Check, Service};
use lictor_core::api::{Error, Request, catalog};
use lictor_core::local::News;
use lictor_core::time::Duration;
use proptest::prelude::*;
use registrar::{Bench, config, seconds, service, ttl};

/// Longer than any time between two comparisons in a small cluster.
const ROUND: Duration = Duration::from_secs(121);

fn writes(asked: &[Request]) -> usize {
    let is_write = |request: &&Request| {
        matches!(request, Request::Catalog(catalog::Request::Register(_) | catalog::Request::Deregister(_)))
    };
    asked.iter().filter(is_write).count()
}

fn foreign(id: &str) -> Service {
    Service { id: id.into(), name: id.into(), ..Service::default() }
}

#[test]
fn an_agent_without_services_enters_its_node() {
    let bench = Bench::new();
    let node = bench.node().expect("it is there").node;
    assert_eq!(node.address, "10.0.0.1");
    let kinds: Vec<_> = node.tagged_addresses.iter().flatten().collect();
    assert_eq!(kinds, [(&"lan".to_owned(), &"10.0.0.1".to_owned()), (&"wan".to_owned(), &"10.0.0.1".to_owned())]);
    assert_eq!(writes(&bench.asked), 1);
    assert!(bench.local.is_in_sync());
}

#[test]
fn a_change_is_told_at_once_and_a_service_with_its_checks() {
    let mut bench = Bench::new();
    bench.asked.clear();
    let mut web = service("web", "web");
    web.checks = vec![ttl("", 100), ttl("", 100)];
    bench.register(&web);
    assert_eq!(bench.asked.len(), 1, "{:?}", bench.asked);
    bench.assert_agreement();
    bench.tell("service:web:1", "passing", "").unwrap();
    bench.assert_agreement();
    bench.asked.clear();
    bench.call(|local, _| local.deregister_service("web")).unwrap();
    assert_eq!(bench.asked.len(), 1, "its checks go with it: {:?}", bench.asked);
    bench.assert_agreement();
}

#[test]
fn what_others_change_is_put_right_but_for_tags_that_they_may_override() {
    let mut bench = Bench::new();
    let tags = |tag: &str| Some(vec![tag.to_owned()]);
    let one = |id, enable_tag_override| ServiceDefinition {
        tags: tags("orig"),
        port: 1,
        enable_tag_override,
        ..service(id, "s")
    };
    bench.register(&one("over", true));
    bench.register(&one("strict", false));
    let mut gone = service("gone", "gone");
    gone.checks = vec![CheckDefinition { status: "passing".into(), ..ttl("", 1_000) }];
    bench.register(&gone);
    for (id, enable_tag_override) in [("over", true), ("strict", false)] {
        let changed = Service { tags: tags("new"), port: 99, enable_tag_override, name: "s".into(), ..foreign(id) };
        bench.enter(Some(changed), Vec::new());
    }
    let check = Check {
        id: "foreign check".into(),
        service_id: "foreign".into(),
        status: "passing".into(),
        ..Check::default()
    };
    bench.enter(Some(foreign("foreign")), vec![check, Check { id: "serfHealth".into(), ..Check::default() }]);
    bench.enter(Some(foreign("consul")), Vec::new());
    bench.strike("gone", "");
    bench.wait(ROUND);
    bench.assert_agreement();
    let mine: Vec<_> = bench.local.services().map(|it| (it.id.as_str(), it.port, it.tags.clone())).collect();
    assert_eq!(mine, [("gone", 0, None), ("over", 1, tags("new")), ("strict", 1, tags("orig"))]);
    assert!(bench.catalog_services().iter().any(|service| service.id == "consul"));
    assert!(bench.catalog_check("serfHealth").is_some());
    bench.asked.clear();
    bench.wait(ROUND * 3);
    assert_eq!(writes(&bench.asked), 0, "{:?}", bench.asked);
}

#[test]
fn servers_that_do_not_answer_are_asked_again_later_and_soon_once_they_are_back() {
    let mut bench = Bench::stopped(config());
    bench.outage = Some(Error::NoLeader);
    bench.settle();
    bench.register(&service("web", "web"));
    assert_eq!(bench.asked.len(), 2, "the two reads of one comparison");
    bench.wait(seconds(14));
    assert_eq!(bench.asked.len(), 2);
    bench.wait(seconds(100));
    let tries = bench.asked.len() / 2;
    assert!((4..=8).contains(&tries), "{tries} tries");
    let told = bench.news.iter().filter(|news| matches!(news, News::OutOfTouch { .. })).count();
    assert_eq!(told, 1, "{:?}", bench.news);
    bench.outage = None;
    bench.local.leader_returned(bench.now);
    bench.wait(seconds(2));
    bench.assert_agreement();
    assert!(bench.news.contains(&News::InTouch));
}

#[test]
fn after_a_failed_write_nothing_is_written_before_a_comparison() {
    let mut bench = Bench::new();
    bench.outage = Some(Error::LeaderUnreachable);
    bench.register(&service("a", "a"));
    bench.outage = None;
    bench.asked.clear();
    bench.register(&service("b", "b"));
    bench.wait(seconds(14));
    assert_eq!(bench.asked.len(), 0);
    bench.wait(seconds(17));
    assert!(!matches!(bench.asked[0], Request::Catalog(catalog::Request::Register(_))), "{:?}", bench.asked);
    bench.assert_agreement();
}

#[test]
fn what_is_refused_is_let_be_until_the_next_comparison() {
    let mut bench = Bench::new();
    bench.outage = Some(Error::BadDefinition("Permission denied".into()));
    bench.register(&service("a", "a"));
    bench.outage = None;
    bench.asked.clear();
    assert!(bench.news.iter().any(|news| matches!(news, News::Refused { .. })));
    bench.register(&service("b", "b"));
    assert_eq!(bench.asked.len(), 1, "others go on: {:?}", bench.asked);
    bench.wait(seconds(31));
    bench.assert_agreement();
}

#[test]
fn writes_of_one_service_go_one_after_the_other_and_only_a_few_at_a_time() {
    let mut bench = Bench::new();
    bench.prompt = false;
    let mut web = service("web", "web");
    web.checks = vec![ttl("", 100)];
    bench.register(&web);
    bench.call(|local, _| local.deregister_service("web")).unwrap();
    bench.register(&web);
    bench.tell("service:web", "passing", "").unwrap();
    assert_eq!(bench.open.len(), 1, "{:?}", bench.open);
    for n in 0..50 {
        bench.register(&service(&format!("s{n}"), "s"));
    }
    assert_eq!(bench.open.len(), 8);
    // Answered in whatever order, all is well in the end.
    while let Some((number, request)) = bench.open.pop() {
        let reply = bench.answer(&request);
        bench.local.handle_answer(bench.now, number, reply);
        bench.settle();
        assert!(bench.open.len() <= 8);
    }
    bench.assert_agreement();
}

#[test]
fn calls_that_nobody_answers_are_given_up() {
    let mut bench = Bench::new();
    bench.prompt = false;
    bench.register(&service("a", "a"));
    assert_eq!(bench.open.len(), 1);
    bench.open.clear();
    bench.wait(seconds(60));
    bench.prompt = true;
    bench.wait(seconds(31));
    bench.assert_agreement();
}

/// Something that happens to the agent or to the catalog.
#[derive(Clone, Debug)]
enum Step {
    Register { id: u8, name: u8, port: i64, tag: Option<u8>, over: bool, checks: u8 },
    Deregister(u8),
    Check { id: u8, service: Option<u8> },
    DeregisterCheck(u8),
    Tell { id: u8, status: u8, output: u8 },
    Maintenance { service: Option<u8>, enable: bool },
    Foreign { id: u8, port: i64, tag: Option<u8>, over: bool },
    ForeignCheck { id: u8, service: Option<u8> },
    Strike(u8),
    StrikeCheck(u8),
    StrikeNode,
    Answer { which: u8, lost: bool },
    Fail { which: u8 },
    Wait(u16),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..4_u8;
    let some = || proptest::option::of(0..4_u8);
    prop_oneof![
        4 => (id.clone(), 0..2_u8, 0..2_i64, some(), any::<bool>(), 0..3_u8)
            .prop_map(|(id, name, port, tag, over, checks)| Step::Register { id, name, port, tag, over, checks }),
        2 => id.clone().prop_map(Step::Deregister),
        2 => (id.clone(), some()).prop_map(|(id, service)| Step::Check { id, service }),
        1 => id.clone().prop_map(Step::DeregisterCheck),
        3 => (id.clone(), 0..3_u8, 0..3_u8).prop_map(|(id, status, output)| Step::Tell { id, status, output }),
        1 => (some(), any::<bool>()).prop_map(|(service, enable)| Step::Maintenance { service, enable }),
        2 => (id.clone(), 0..2_i64, some(), any::<bool>())
            .prop_map(|(id, port, tag, over)| Step::Foreign { id, port, tag, over }),
        1 => (id.clone(), some()).prop_map(|(id, service)| Step::ForeignCheck { id, service }),
        1 => id.clone().prop_map(Step::Strike),
        1 => id.prop_map(Step::StrikeCheck),
        1 => Just(Step::StrikeNode),
        8 => (any::<u8>(), prop::bool::weighted(0.1)).prop_map(|(which, lost)| Step::Answer { which, lost }),
        1 => any::<u8>().prop_map(|which| Step::Fail { which }),
        2 => (0..40_000_u16).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ]
}

fn take(bench: &mut Bench, which: u8) -> Option<(u64, Request)> {
    let at = usize::from(which) % bench.open.len().max(1);
    (at < bench.open.len()).then(|| bench.open.remove(at))
}

fn carry_out(bench: &mut Bench, step: &Step) {
    let tags = |tag: Option<u8>| tag.map(|tag| vec![tag.to_string()]);
    let of = |service: Option<u8>| service.map(|id| id.to_string()).unwrap_or_default();
    match *step {
        Step::Register { id, name, port, tag, over, checks } => {
            let mut it = service(&id.to_string(), &format!("name {name}"));
            (it.port, it.tags, it.enable_tag_override) = (port, tags(tag), over);
            it.checks = (0..checks).map(|_| ttl("", 50)).collect();
            bench.register(&it);
        }
        Step::Deregister(id) => bench.call(|local, _| local.deregister_service(&id.to_string())).unwrap(),
        Step::Check { id, service } => {
            let check = CheckDefinition { service_id: of(service), ..ttl(&format!("c{id}"), 50) };
            let _ = bench.register_check(&check);
        }
        Step::DeregisterCheck(id) => bench.call(|local, _| local.deregister_check(&format!("c{id}"))).unwrap(),
        Step::Tell { id, status, output } => {
            let status = ["passing", "warning", "critical"][usize::from(status)];
            for id in [format!("c{id}"), format!("service:{id}")] {
                let _ = bench.tell(&id, status, &output.to_string());
            }
        }
        Step::Maintenance { service: None, enable } => {
            bench.call(|local, now| local.set_node_maintenance(now, enable, ("", ""))).unwrap();
        }
        Step::Maintenance { service, enable } => {
            let _ = bench.call(|local, now| local.set_service_maintenance(now, &of(service), enable, ("", "")));
        }
        Step::Foreign { id, port, tag, over } => {
            let service = Service { port, tags: tags(tag), enable_tag_override: over, ..foreign(&id.to_string()) };
            bench.enter(Some(service), Vec::new());
        }
        Step::ForeignCheck { id, service } => {
            let service = bench.catalog_services().iter().map(|it| it.id.clone()).find(|it| *it == of(service));
            let service_id = service.unwrap_or_default();
            let check = Check { id: format!("c{id}"), service_id, status: "passing".into(), ..Check::default() };
            bench.enter(None, vec![check]);
        }
        Step::Strike(id) => bench.strike(&id.to_string(), ""),
        Step::StrikeCheck(id) => bench.strike("", &format!("c{id}")),
        Step::StrikeNode => bench.strike("", ""),
        Step::Answer { which, lost } => {
            let Some((number, request)) = take(bench, which) else { return };
            let reply = bench.answer(&request);
            let reply = if lost { Err(Error::LeaderUnreachable) } else { reply };
            bench.local.handle_answer(bench.now, number, reply);
            bench.settle();
        }
        Step::Fail { which } => {
            let Some((number, _)) = take(bench, which) else { return };
            bench.local.handle_answer(bench.now, number, Err(Error::NoLeader));
            bench.settle();
        }
        Step::Wait(ms) => bench.wait(Duration::from_millis(ms.into())),
        Step::Restart => bench.restart(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_catalog_comes_to_agree_whatever_happened(steps in prop::collection::vec(step(), 0..60)) {
        let mut bench = Bench::stopped(config());
        bench.prompt = false;
        bench.settle();
        for step in &steps {
            carry_out(&mut bench, step);
        }
        bench.prompt = true;
        bench.settle();
        // Time for all checks to expire, for calls whose answer was lost, for outputs that wait, and for comparisons.
        bench.wait(seconds(900));
        bench.assert_agreement();
        prop_assert!(bench.local.is_in_sync());
        bench.asked.clear();
        let (services, checks) = (bench.service_ids(), bench.check_ids());
        bench.wait(ROUND * 3);
        prop_assert_eq!(writes(&bench.asked), 0, "{:?}", bench.asked);
        bench.restart();
        prop_assert_eq!((services, checks), (bench.service_ids(), bench.check_ids()));
    }
}

#[test]
fn who_leaves_says_nothing_more() {
    let mut bench = Bench::new();
    bench.asked.clear();
    bench.local.set_silent(true);
    bench.register(&service("a", "a"));
    bench.strike("", "");
    bench.wait(ROUND * 3);
    assert_eq!((bench.asked.len(), bench.node()), (0, None));
    bench.local.set_silent(false);
    bench.settle();
    bench.wait(ROUND);
    bench.assert_agreement();
}

#[test]
fn many_large_checks_go_in_several_writes() {
    let mut bench = Bench::new();
    bench.prompt = false;
    for n in 0..10 {
        let check = CheckDefinition { notes: "x".repeat(100_000), ..ttl(&format!("c{n}"), 1_000) };
        bench.register_check(&check).unwrap();
    }
    for n in 0..200 {
        bench.register_check(&ttl(&format!("s{n}"), 1_000)).unwrap();
    }
    let mut largest = 0;
    while let Some((number, request)) = bench.open.pop() {
        if let Request::Catalog(catalog::Request::Register(registration)) = &request {
            assert!(registration.checks.len() <= 64);
        }
        largest = largest.max(lictor_core::wire::size(&request));
        let reply = bench.answer(&request);
        bench.local.handle_answer(bench.now, number, reply);
        bench.settle();
    }
    assert!((200_000..300_000).contains(&largest), "{largest} bytes");
    bench.assert_agreement();
}

/// The catalog does not tell IDs apart by their case: what strikes out the one strikes out the other.
#[test]
fn a_service_that_is_spelt_otherwise_now_is_not_struck_out_with_what_it_was() {
    for (before, after) in [("web", "Web"), ("Web", "web")] {
        let mut bench = Bench::new();
        let with_check = |id: &str| ServiceDefinition { checks: vec![ttl("", 100)], ..service(id, "w") };
        let is_there = |bench: &Bench| {
            let (services, checks) = (bench.catalog_services(), bench.catalog_checks());
            assert_eq!(services.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), [after]);
            assert_eq!(checks.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), [format!("service:{after}")]);
        };
        bench.register(&with_check(before));
        // The client is answered before the servers are told.
        bench.local.deregister_service(before).unwrap();
        bench.register(&with_check(after));
        is_there(&bench);
        // An agent that was stopped, and comes back with the other spelling.
        bench.strike(after, "");
        bench.enter(Some(Service { name: "w".into(), ..foreign(before) }), Vec::new());
        bench.wait(ROUND);
        is_there(&bench);
        assert!(bench.local.is_in_sync());
    }
}
