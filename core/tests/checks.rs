//! Services and checks as users see them: the states of checks, when they are run, maintenance, and what a restart brings back.

#![allow(dead_code, reason = "the harness serves several tests")]

mod registrar;

use std::collections::BTreeSet;

use lictor_core::api::Error;
use lictor_core::api::agent::{CheckDefinition, Definitions, ServiceDefinition};
use lictor_core::config::{self, Config};
use lictor_core::local::{NODE_MAINTENANCE, News};
use lictor_core::probe::Finding;
use lictor_core::time::{Duration, Instant};
use registrar::{Bench, config, seconds, service, tcp, ttl};

const DEFAULT_REASON: &str =
    "Maintenance mode is enabled for this service, but no reason was provided. This is a default message.";

fn is(status: &str, output: &str) -> (String, String) {
    (status.to_owned(), output.to_owned())
}

fn with_options(change: impl FnOnce(&mut config::Local)) -> Bench {
    let mut config = config();
    change(&mut config.local);
    Bench::with(config)
}

#[test]
fn a_check_that_nobody_tells_of_turns_critical() {
    let mut bench = Bench::new();
    bench.register_check(&CheckDefinition { status: "passing".into(), ..ttl("exp", 1) }).unwrap();
    assert_eq!(bench.status("exp"), is("passing", ""));
    bench.wait(Duration::from_millis(999));
    assert_eq!(bench.status("exp"), is("passing", ""));
    bench.wait(Duration::from_millis(1));
    assert_eq!(bench.status("exp"), is("critical", "TTL expired"));
    bench.tell("exp", "passing", "back").unwrap();
    assert_eq!(bench.status("exp"), is("passing", "back"));
    bench.wait(Duration::from_millis(600));
    bench.tell("exp", "warning", "w2").unwrap();
    bench.wait(Duration::from_millis(600));
    assert_eq!(bench.status("exp"), is("warning", "w2"), "the second word restarted the clock");
    bench.wait(Duration::from_millis(400));
    assert_eq!(bench.status("exp"), is("critical", "TTL expired (last output before timeout follows): w2"));
    assert_eq!(bench.catalog_check("exp").unwrap().status, "critical");
}

#[test]
fn only_checks_with_a_time_to_live_can_be_told_of() {
    let mut bench = Bench::new();
    bench.register_check(&tcp("probed", 10)).unwrap();
    for id in ["probed", "nosuch", ""] {
        let error = bench.tell(id, "passing", "").unwrap_err();
        assert_eq!(error, Error::NoTtl(id.into()));
        assert_eq!(error.to_string(), format!("CheckID \"{id}\" does not have associated TTL"));
    }
    bench.register_check(&ttl("a", 10)).unwrap();
    let error = bench.tell("a", "bogus", "").unwrap_err();
    assert_eq!(error.to_string(), "Invalid check status: 'bogus'");
}

#[test]
fn a_check_registered_again_keeps_what_was_told_of_it() {
    let mut bench = Bench::new();
    bench.register_check(&CheckDefinition { id: "i".into(), status: "passing".into(), ..ttl("name", 30) }).unwrap();
    bench.tell("i", "passing", "").unwrap();
    bench.register_check(&CheckDefinition { id: "i".into(), status: "warning".into(), ..ttl("renamed", 30) }).unwrap();
    assert_eq!(bench.status("i").0, "passing");
    assert_eq!(bench.local.checks().next().unwrap().name, "renamed");
    // Nothing was told of this one.
    bench.register_check(&CheckDefinition { status: "passing".into(), ..ttl("j", 30) }).unwrap();
    bench.register_check(&CheckDefinition { status: "warning".into(), ..ttl("j", 30) }).unwrap();
    assert_eq!(bench.status("j").0, "warning");
}

#[test]
fn a_check_of_an_unknown_service_is_refused() {
    let mut bench = Bench::new();
    let check = CheckDefinition { service_id: "nosuch".into(), ..ttl("a", 10) };
    assert_eq!(bench.register_check(&check).unwrap_err().to_string(), "ServiceID \"nosuch\" does not exist");
    bench.register(&service("nosuch", "web"));
    bench.register_check(&check).unwrap();
    let check = bench.local.checks().next().unwrap();
    assert_eq!((check.service_id.as_str(), check.service_name.as_str()), ("nosuch", "web"));
    bench.register(&service("nosuch", "renamed"));
    assert_eq!(bench.local.checks().next().unwrap().service_name, "renamed");
    bench.assert_agreement();
}

#[test]
fn checks_run_at_drawn_times_within_their_interval_and_one_at_a_time() {
    let mut bench = Bench::new();
    let began = bench.now;
    for n in 0..40 {
        bench.register_check(&tcp(&format!("c{n}"), 10)).unwrap();
    }
    let mut first = BTreeSet::new();
    while bench.now < began + seconds(10) {
        let before = bench.probes.len();
        bench.wait(Duration::from_millis(100));
        first.extend((bench.probes.len() > before).then_some(bench.now));
    }
    assert_eq!(bench.probes.len(), 40, "each once, as none was answered");
    assert!(first.len() > 20, "they begin at different times: {first:?}");
    let probe = bench.probes[0].clone();
    bench.probes.clear();
    bench.found(probe.id, Finding::Connected);
    bench.wait(Duration::from_millis(9_900));
    assert_eq!(bench.probes.len(), 0);
    bench.wait(Duration::from_millis(100));
    assert_eq!(bench.probes.len(), 1, "an interval after the last run has ended");
    assert_ne!(bench.probes[0].id, probe.id);
}

#[test]
fn no_more_probes_run_than_there_are_places() {
    let mut bench = with_options(|options| options.probes = 2);
    for n in 0..5 {
        bench.register_check(&tcp(&format!("c{n}"), 10)).unwrap();
    }
    bench.wait(seconds(10));
    assert_eq!(bench.probes.len(), 2);
    let ids: Vec<_> = bench.probes.iter().map(|probe| probe.id).collect();
    bench.found(ids[0], Finding::Connected);
    assert_eq!(bench.probes.len(), 3, "the next one takes its place");
    let waiting = bench.check_ids().into_iter().find(|id| bench.status(id) == is("critical", "")).unwrap();
    bench.call(|local, _| local.deregister_check(&waiting)).unwrap();
    bench.found(ids[1], Finding::Connected);
    assert_eq!(bench.probes.len(), 4);
}

#[test]
fn a_probe_that_never_comes_back_is_given_up() {
    let mut bench = Bench::new();
    bench.register_check(&CheckDefinition { timeout: seconds(2), status: "passing".into(), ..tcp("c", 10) }).unwrap();
    while bench.probes.is_empty() {
        bench.wait(Duration::from_millis(1));
    }
    let probe = bench.probes.remove(0);
    assert_eq!(probe.timeout, seconds(2));
    bench.wait(Duration::from_millis(6_900));
    assert_eq!(bench.status("c"), is("passing", ""), "its owner may say so itself");
    bench.wait(Duration::from_millis(101));
    assert_eq!(bench.cancelled, [probe.id]);
    assert_eq!(bench.status("c"), is("critical", "Timed out (2s) running check"));
    bench.found(probe.id, Finding::Connected);
    assert_eq!(bench.status("c").0, "critical", "its answer comes too late");
    bench.wait(seconds(10));
    assert_eq!(bench.probes.len(), 1, "the check goes on");
}

#[test]
fn a_check_that_is_taken_back_or_replaced_is_not_run_any_more() {
    let mut bench = Bench::new();
    bench.register_check(&tcp("c", 10)).unwrap();
    bench.wait(seconds(10));
    let probe = bench.probes.remove(0);
    bench.register_check(&CheckDefinition { tcp: "other:1".into(), ..tcp("c", 10) }).unwrap();
    assert_eq!(bench.cancelled, [probe.id]);
    bench.found(probe.id, Finding::Connected);
    assert_eq!(bench.status("c").0, "critical", "what was found out is of another address");
    bench.wait(seconds(10));
    let probe = bench.probes.remove(0);
    bench.call(|local, _| local.deregister_check("c")).unwrap();
    assert_eq!(bench.cancelled.last(), Some(&probe.id));
    bench.wait(seconds(100));
    assert_eq!(bench.probes.len(), 0);
}

#[test]
fn registering_again_and_again_does_not_keep_a_check_from_being_run() {
    let mut bench = Bench::new();
    let mut web = service("web", "web");
    web.checks = vec![tcp("", 30)];
    for _ in 0..31 {
        if bench.probes.is_empty() {
            bench.register(&web);
            bench.wait(seconds(1));
        }
    }
    assert_eq!(bench.probes.len(), 1);
    bench.found(bench.probes[0].id, Finding::Connected);
    bench.register(&web);
    assert_eq!(bench.status("service:web").0, "passing");
}

#[test]
fn what_only_a_run_says_is_told_later() {
    let mut bench = Bench::new();
    bench.register_check(&CheckDefinition { status: "passing".into(), ..ttl("c", 10_000) }).unwrap();
    bench.tell("c", "passing", "one").unwrap();
    bench.tell("c", "passing", "two").unwrap();
    assert_eq!(bench.status("c").1, "two");
    bench.wait(seconds(149));
    assert_eq!(bench.catalog_check("c").unwrap().output, "", "not even a comparison tells it");
    bench.wait(seconds(301));
    assert_eq!(bench.catalog_check("c").unwrap().output, "two");
    bench.tell("c", "passing", "three").unwrap();
    bench.tell("c", "warning", "four").unwrap();
    let check = bench.catalog_check("c").unwrap();
    assert_eq!((check.status.as_str(), check.output.as_str()), ("warning", "four"), "a state is told at once");
    let mut eager = with_options(|options| options.output_interval = Duration::ZERO);
    eager.register_check(&CheckDefinition { status: "passing".into(), ..ttl("c", 10_000) }).unwrap();
    eager.tell("c", "passing", "one").unwrap();
    assert_eq!(eager.catalog_check("c").unwrap().output, "one");
}

#[test]
fn a_service_that_is_critical_for_too_long_is_taken_back() {
    let mut bench = Bench::new();
    let mut web = service("web", "web");
    // The minimum is a minute.
    web.checks = vec![CheckDefinition { deregister_critical_service_after: seconds(1), ..ttl("", 100_000) }];
    bench.register(&web);
    bench.register_check(&CheckDefinition { service_id: "web".into(), ..ttl("other", 100_000) }).unwrap();
    let alone = CheckDefinition { deregister_critical_service_after: seconds(60), ..ttl("alone", 100_000) };
    bench.register_check(&alone).unwrap();
    bench.wait(seconds(50));
    bench.tell("service:web", "passing", "").unwrap();
    bench.wait(seconds(200));
    assert_eq!(bench.service_ids(), ["web"]);
    bench.tell("service:web", "critical", "").unwrap();
    bench.wait(seconds(60));
    assert_eq!(bench.service_ids(), ["web"]);
    bench.wait(seconds(16));
    assert_eq!(bench.service_ids(), [""; 0]);
    assert_eq!(bench.check_ids(), ["alone"], "a check of the node takes nothing with it");
    assert!(bench.news.contains(&News::Reaped { service: "web".into(), check: "service:web".into() }));
    bench.assert_agreement();
    bench.restart();
    assert_eq!(bench.service_ids(), [""; 0], "nor does it come back");
}

#[test]
fn maintenance_is_a_critical_check_that_comes_back_after_a_restart() {
    let mut bench = Bench::new();
    bench.register(&service("web", "www"));
    let set = |bench: &mut Bench, id: &str, enable, reason| {
        bench.call(|local, now| local.set_service_maintenance(now, id, enable, (reason, "")))
    };
    let error = set(&mut bench, "nosuch", true, "").unwrap_err();
    assert_eq!(error.to_string(), "No service registered with ID \"nosuch\"");
    assert_eq!(set(&mut bench, "", true, "").unwrap_err().to_string(), "Missing service ID");
    set(&mut bench, "web", false, "").unwrap();
    set(&mut bench, "web", true, "").unwrap();
    set(&mut bench, "web", true, "another reason").unwrap();
    bench.call(|local, now| local.set_node_maintenance(now, true, ("disk", ""))).unwrap();
    for _ in 0..2 {
        let checks: Vec<_> = bench.local.checks().cloned().collect();
        let [node, web] = &checks[..] else { panic!("{checks:?}") };
        assert_eq!((node.id.as_str(), node.name.as_str()), (NODE_MAINTENANCE, "Node Maintenance Mode"));
        assert_eq!((node.notes.as_str(), node.status.as_str()), ("disk", "critical"));
        assert_eq!((web.id.as_str(), web.name.as_str()), ("_service_maintenance:web", "Service Maintenance Mode"));
        assert_eq!((web.notes.as_str(), web.status.as_str()), (DEFAULT_REASON, "critical"));
        assert_eq!((web.service_id.as_str(), web.service_name.as_str()), ("web", "www"));
        bench.assert_agreement();
        bench.restart();
    }
    bench.call(|local, now| local.set_node_maintenance(now, false, ("", ""))).unwrap();
    bench.call(|local, _| local.deregister_service("web")).unwrap();
    assert_eq!(bench.check_ids(), [""; 0]);
    bench.assert_agreement();
    assert_eq!(bench.files.len(), 0, "nothing is left on the disk");
}

#[test]
fn a_restart_brings_everything_back() {
    let mut bench = Bench::new();
    let mut web =
        ServiceDefinition { tags: Some(vec!["t".into()]), port: 1, token: "x".into(), ..service("web", "www") };
    web.checks = vec![ttl("", 300)];
    bench.register(&web);
    bench.register(&service("gone", "gone"));
    bench.register_check(&CheckDefinition { notes: "n".into(), ..ttl("told", 300) }).unwrap();
    bench.register_check(&ttl("untold", 300)).unwrap();
    bench.register_check(&CheckDefinition { status: "passing".into(), ..tcp("probed", 10) }).unwrap();
    bench.tell("service:web", "passing", "fine").unwrap();
    bench.tell("told", "warning", "hm").unwrap();
    bench.call(|local, _| local.deregister_service("gone")).unwrap();
    let before: Vec<_> = bench.local.services().cloned().collect();
    bench.restart();
    assert_eq!(bench.local.services().cloned().collect::<Vec<_>>(), before);
    assert_eq!(bench.check_ids(), ["probed", "service:web", "told", "untold"]);
    assert_eq!(bench.status("service:web"), is("passing", "fine"));
    assert_eq!(bench.status("told"), is("warning", "hm"));
    assert_eq!(bench.status("untold").0, "critical");
    assert_eq!(bench.status("probed").0, "critical", "until it is known to be well");
    bench.assert_agreement();
    bench.wait(seconds(10));
    assert_eq!(bench.probes.len(), 1);
    bench.tell("told", "critical", "still told of").unwrap();
}

#[test]
fn what_was_told_long_ago_does_not_come_back() {
    let mut bench = with_options(|options| options.time_of_day = Some(seconds(1_000_000)));
    bench.register_check(&ttl("a", 10)).unwrap();
    bench.tell("a", "passing", "fine").unwrap();
    bench.config.local.time_of_day = Some(seconds(1_000_009));
    bench.restart();
    assert_eq!(bench.status("a"), is("passing", "fine"));
    assert_eq!(bench.files.len(), 2, "the check, and what was told of it");
    bench.config.local.time_of_day = Some(seconds(1_000_010));
    bench.restart();
    assert_eq!(bench.status("a"), is("critical", ""), "a restart makes nothing hold for longer");
    bench.call(|local, _| local.deregister_check("a")).unwrap();
    assert_eq!(bench.files.len(), 0);
    // Nor does what expired while the agent was there, even if it does not know the time.
    let mut bench = Bench::new();
    bench.register_check(&ttl("a", 10)).unwrap();
    bench.tell("a", "passing", "fine").unwrap();
    bench.wait(seconds(10));
    bench.restart();
    assert_eq!(bench.status("a"), is("critical", ""));
}

#[test]
fn a_heartbeat_is_not_worth_a_write_each() {
    let mut bench = with_options(|options| options.time_of_day = Some(seconds(1_000_000)));
    bench.register_check(&ttl("a", 100)).unwrap();
    bench.tell("a", "passing", "fine").unwrap();
    let kept = bench.files.clone();
    for _ in 0..4 {
        bench.wait(seconds(5));
        bench.tell("a", "passing", "fine").unwrap();
    }
    assert_eq!(bench.files, kept);
    bench.wait(seconds(5));
    bench.tell("a", "passing", "fine").unwrap();
    assert_ne!(bench.files, kept, "but one is, before what is kept expires");
}

#[test]
fn states_are_kept_a_batch_at_a_time() {
    let mut bench = Bench::new();
    bench.keeps_states = false;
    for id in ["a", "b"] {
        bench.register_check(&ttl(id, 100)).unwrap();
        bench.tell(id, "passing", "").unwrap();
    }
    let before = bench.files.len();
    bench.keeps_states = true;
    bench.local.states_kept();
    bench.settle();
    assert_eq!(bench.files.len(), before + 1, "what came while the disk was busy goes next");
}

#[test]
fn damaged_files_are_told_and_left_alone() {
    let mut bench = Bench::new();
    bench.register(&service("a", "a"));
    bench.register(&service("b", "b"));
    let (file, bytes) = bench.files.pop_first().unwrap();
    bench.files.insert(file.clone(), bytes.slice(..bytes.len() - 1));
    bench.files.insert("agent/checks/nonsense".into(), "x".into());
    bench.news.clear();
    bench.restart();
    assert_eq!(bench.service_ids().len(), 1);
    let told =
        |wanted: &str| bench.news.iter().any(|news| matches!(news, News::Unreadable { file, .. } if file == wanted));
    assert!(told(&file) && told("agent/checks/nonsense"), "{:?}", bench.news);
    assert!(bench.files.contains_key(&file));
}

fn defined(services: Vec<ServiceDefinition>, checks: Vec<CheckDefinition>) -> Config {
    let mut config = config();
    config.local.definitions = Definitions { services, checks };
    config
}

#[test]
fn what_the_files_define_comes_before_what_was_kept_and_is_not_kept() {
    let mut bench = Bench::new();
    bench.register(&ServiceDefinition { port: 1, ..service("web", "client") });
    bench.register_check(&CheckDefinition { notes: "client".into(), ..ttl("c", 10) }).unwrap();
    bench.config = defined(vec![ServiceDefinition { port: 2, ..service("web", "file") }], vec![ttl("c", 10)]);
    bench.restart();
    assert_eq!(bench.local.services().map(|service| service.port).collect::<Vec<_>>(), [2]);
    assert_eq!(bench.local.checks().next().unwrap().notes, "");
    assert_eq!(bench.files.len(), 0);
    bench.assert_agreement();
    bench.config = config();
    bench.restart();
    assert_eq!((bench.service_ids().len(), bench.check_ids().len()), (0, 0));
    bench.assert_agreement();
}

#[test]
fn definitions_are_taken_over_anew() {
    let mut web = service("web", "web");
    web.checks = vec![ttl("", 100)];
    let of_web = CheckDefinition { service_id: "web".into(), ..ttl("of web", 100) };
    let mut bench = Bench::with(defined(vec![web.clone(), service("old", "old")], vec![of_web, ttl("node", 100)]));
    assert_eq!(bench.service_ids(), ["old", "web"]);
    bench.register(&service("mine", "mine"));
    bench.register(&service("both", "mine"));
    bench.tell("service:web", "passing", "fine").unwrap();
    let new = Definitions {
        services: vec![web, service("both", "file"), service("new", "new")],
        checks: vec![CheckDefinition { service_id: "mine".into(), ..ttl("of mine", 100) }],
    };
    bench.call(|local, now| local.redefine(now, &new)).unwrap();
    assert_eq!(bench.service_ids(), ["both", "mine", "new", "web"]);
    assert_eq!(bench.check_ids(), ["of mine", "service:web"]);
    assert_eq!(bench.status("service:web"), is("passing", "fine"));
    bench.assert_agreement();
    assert_eq!(bench.files.len(), 2, "a service of the client's, and what was told of a check");
    // What is wrong changes nothing.
    let stray = CheckDefinition { service_id: "nosuch".into(), ..ttl("stray", 100) };
    let wrong = Definitions { services: Vec::new(), checks: vec![stray] };
    let refused = bench.call(|local, now| local.redefine(now, &wrong));
    assert_eq!(refused, Err(Error::NoSuchService("nosuch".into())));
    assert_eq!(bench.service_ids().len(), 4);
    bench.call(|local, now| local.redefine(now, &Definitions::default())).unwrap();
    assert_eq!(bench.service_ids(), ["mine"]);
    assert_eq!(bench.check_ids(), [""; 0]);
    bench.assert_agreement();
}

#[test]
fn wrong_definitions_in_the_files_are_left_out_and_told() {
    let config = defined(vec![service("", ""), service("a", "a")], vec![ttl("", 10)]);
    let bench = Bench::with(config);
    assert_eq!(bench.service_ids(), ["a"]);
    assert_eq!(bench.news.iter().filter(|news| matches!(news, News::LeftOut { .. })).count(), 2);
}

#[test]
fn there_is_a_limit_to_what_can_be_registered() {
    let mut bench = with_options(|options| (options.services, options.checks) = (2, 2));
    let mut a = service("a", "a");
    a.checks = vec![ttl("", 10), ttl("", 10)];
    bench.register(&a);
    bench.register(&a);
    assert!(matches!(bench.register_check(&ttl("c", 10)), Err(Error::Busy { .. })));
    assert!(matches!(
        bench.call(|local, now| local.set_node_maintenance(now, true, ("", ""))),
        Err(Error::Busy { .. })
    ));
    bench.register(&service("b", "b"));
    let refused = bench.call(|local, now| local.register_service(now, &service("c", "c")));
    assert!(matches!(refused, Err(Error::Busy { .. })));
    assert_eq!((bench.service_ids().len(), bench.check_ids().len()), (2, 2));
}

#[test]
fn nothing_is_taken_back_without_a_name() {
    let mut bench = Bench::new();
    let error = bench.call(|local, _| local.deregister_service("")).unwrap_err();
    assert_eq!(error.to_string(), "ServiceID missing");
    let error = bench.call(|local, _| local.deregister_check("")).unwrap_err();
    assert_eq!(error.to_string(), "CheckID missing");
    bench.call(|local, _| local.deregister_service("nosuch")).unwrap();
    bench.call(|local, _| local.deregister_check("nosuch")).unwrap();
    assert!(bench.now > Instant::ZERO);
}
