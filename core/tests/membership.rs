//! Agents in one pool: they find each other, lose each other, leave, come back, and quarrel about names.

mod members;

use lictor_core::api::agent::{MemberStatus, Request};
use lictor_core::api::operator::Request as Operator;
use lictor_core::api::{Error, ReadOptions, Response, event};
use lictor_core::config::Config;
use lictor_core::id::PeerId;
use lictor_core::io::{Notice, PoolNews};
use lictor_core::raft::Configuration;
use members::{SECOND, World, config, gossip_of};

const DONE: Result<Response, Error> = Ok(Response::Done(true));

fn force_leave(node: &str, prune: bool) -> Request {
    Request::ForceLeave { node: node.to_owned(), prune }
}

/// Servers that found a cluster together.
fn founders(count: u64) -> Vec<Config> {
    let members = Configuration::new((1..=count).map(|n| (PeerId::numbered(n), config(n).address)));
    (1..=count).map(|n| Config { bootstrap: Some(members.clone()), ..config(n) }).collect()
}

#[test]
fn agents_become_one_pool_by_one_address() {
    let mut world = World::of(3);
    assert_eq!(world.join(2, &["10.0.0.1"]), Ok(Response::Joined(1)));
    assert_eq!(world.join(3, &["10.0.0.1:8301"]), Ok(Response::Joined(1)));
    world.elapse(SECOND * 5);
    for n in 1..=3 {
        let members = world.members(n);
        let seen: Vec<_> = members.iter().map(|member| (member.name.as_str(), member.status)).collect();
        assert_eq!(seen, ["n1", "n2", "n3"].map(|name| (name, MemberStatus::Alive)));
        assert_eq!((members[1].address, members[1].port), (gossip_of(2).ip(), 8301));
        assert_eq!(members[1].tags["role"], "consul");
        assert_eq!(members[1].tags["port"], "8300");
    }
    let joined = PoolNews::Joined { name: "n3".into(), address: gossip_of(3) };
    assert_eq!(world.pool_news(2).iter().filter(|news| **news == joined).count(), 1);
    let Ok(Response::Members(wan)) = world.ask(1, Request::Members { wan: true }) else { panic!("no members") };
    assert_eq!(wan.iter().map(|member| (member.name.as_str(), member.port)).collect::<Vec<_>>(), [("n1.dc1", 8302)]);
}

#[test]
fn who_cannot_be_joined_is_named_with_the_reason() {
    let mut world = World::of(2);
    world.names.insert("two.example".into(), vec![gossip_of(9).ip(), gossip_of(2).ip()]);
    let mut error = |addresses: &[&str]| world.join(1, addresses).unwrap_err().to_string();
    assert_eq!(
        error(&["10.0.0.9"]),
        "1 error(s) occurred:\n\n* Failed to join 10.0.0.9: dial tcp 10.0.0.9:8301: connect: connection refused"
    );
    assert_eq!(
        error(&["not an address", "nowhere:99"]),
        "2 error(s) occurred:\n\n* Failed to resolve not an address: lookup not an address: no such host\n\
         * Failed to resolve nowhere:99: lookup nowhere: no such host"
    );
    assert_eq!(error(&[""]), "1 error(s) occurred:\n\n* Failed to resolve : lookup : no such host");
    // To join oneself works, and whoever else answers makes up for those who do not.
    assert_eq!(world.join(1, &["10.0.0.1", "10.0.0.9"]), Ok(Response::Joined(1)));
    assert_eq!(world.join(1, &["two.example"]), Ok(Response::Joined(1)));
    assert_eq!(world.members(2).len(), 2);
    for (address, is_own) in [("10.0.0.1", true), ("10.0.0.2", false)] {
        let reply = world.ask(1, Request::Join { addresses: vec![address.into()], wan: true });
        assert_eq!(reply.is_ok(), is_own, "{reply:?}");
    }
}

#[test]
fn who_leaves_is_seen_to_have_left_and_does_not_come_back_by_itself() {
    let mut world = World::joined(3);
    assert_eq!(world.ask(2, Request::Leave), DONE);
    assert_eq!(world.notices.last(), Some(&(2, Notice::Left)));
    assert!(world.has_ended(2));
    world.elapse(SECOND * 2);
    assert!(world.all_see(&[1, 3], "n2", Some(MemberStatus::Left)));
    world.restart(2);
    world.elapse(SECOND * 60);
    assert_eq!(world.members(2).len(), 1);
    assert!(world.all_see(&[1, 3], "n2", Some(MemberStatus::Left)));
    // Unless it was told to.
    let mut config = config(2);
    config.gossip.rejoin_after_leave = true;
    world.start(2, config);
    world.await_that("it is back", SECOND * 5, |world| world.all_see(&[1, 2, 3], "n2", Some(MemberStatus::Alive)));
}

#[test]
fn who_is_silent_has_failed_and_can_be_made_to_leave_and_to_be_forgotten() {
    let mut world = World::joined(4);
    // Long enough to have written down who is there.
    world.elapse(SECOND * 5);
    world.kill(4);
    world.await_that("n4 fails", SECOND * 40, |world| world.all_see(&[1, 2, 3], "n4", Some(MemberStatus::Failed)));
    let failed = PoolNews::Failed { name: "n4".into(), address: gossip_of(4) };
    assert!((1..=3).all(|n| world.pool_news(n).contains(&failed)));
    assert_eq!(world.ask(1, force_leave("nobody", false)), DONE);
    assert_eq!(world.ask(1, force_leave("n4", false)), DONE);
    world.await_that("n4 has left", SECOND * 3, |world| world.all_see(&[1, 2, 3], "n4", Some(MemberStatus::Left)));
    assert_eq!(world.ask(2, force_leave("n4", true)), DONE);
    world.await_that("n4 is forgotten", SECOND * 3, |world| world.all_see(&[1, 2, 3], "n4", None));
    // Nor does anybody bring it back who has not heard of it.
    world.elapse(SECOND * 120);
    assert!(world.all_see(&[1, 2, 3], "n4", None));
    world.restart(4);
    world.await_that("it may come back", SECOND * 5, |world| {
        world.all_see(&[1, 2, 3, 4], "n4", Some(MemberStatus::Alive))
    });
}

#[test]
fn one_that_is_alive_objects_to_being_made_to_leave() {
    let mut world = World::joined(3);
    assert_eq!(world.ask(1, force_leave("n2", true)), DONE);
    world.elapse(SECOND * 5);
    assert!(world.all_see(&[1, 2, 3], "n2", Some(MemberStatus::Alive)));
}

#[test]
fn what_is_configured_is_tried_until_it_answers() {
    let mut world = World::default();
    let mut first = config(1);
    first.gossip.retry_join = vec!["10.0.0.1".into(), "10.0.0.2".into()];
    world.start(1, first);
    world.elapse(SECOND * 100);
    let attempts: Vec<u32> = (world.pool_news(1).into_iter())
        .filter_map(|news| if let PoolNews::RetryFailed { attempt, .. } = news { Some(attempt) } else { None })
        .collect();
    assert_eq!(attempts, [1, 2, 3, 4], "that it is among those who are named does not count");
    world.start(2, config(2));
    world.await_that("they meet", SECOND * 31, |world| world.members(2).len() == 2);
    assert_eq!(world.pool_news(1).last(), Some(&PoolNews::RetrySucceeded { contacted: 2 }));
    world.notices.clear();
    world.elapse(SECOND * 100);
    assert_eq!(world.notices, []);
}

#[test]
fn what_is_configured_is_given_up_after_as_many_attempts() {
    let mut world = World::default();
    let mut lonely = config(1);
    (lonely.gossip.retry_join, lonely.gossip.retry_max) = (vec!["10.0.0.2".into()], 3);
    world.start(1, lonely);
    world.elapse(SECOND * 59);
    assert!(!world.has_ended(1));
    world.elapse(SECOND * 2);
    assert!(world.has_ended(1));
    let Some(PoolNews::GaveUp { attempts: 3, reason }) = world.pool_news(1).last().cloned() else {
        panic!("{:?}", world.notices)
    };
    assert!(reason.contains("10.0.0.2:8301"), "{reason}");
}

#[test]
fn who_restarts_finds_its_former_company() {
    let mut world = World::joined(4);
    world.elapse(SECOND * 10);
    assert!(world.files(2).contains("agent/members"));
    // Those it had known are not all there.
    for n in [1, 2, 4] {
        world.kill(n);
    }
    world.restart(2);
    world.await_that("it is back", SECOND * 10, |world| world.status(2, "n3") == Some(MemberStatus::Alive));
    assert!(world.pool_news(2).contains(&PoolNews::Rejoined { address: gossip_of(3) }));
    // All are gone: it tries again as long as it is alone.
    world.kill(2);
    world.kill(3);
    world.notices.clear();
    world.restart(2);
    world.elapse(SECOND * 45);
    assert_eq!(world.pool_news(2).len(), 1, "{:?}", world.notices);
    assert!(matches!(world.pool_news(2)[0], PoolNews::RejoinFailed { .. }));
    world.restart(3);
    world.await_that("they meet again", SECOND * 31, |world| world.status(2, "n3") == Some(MemberStatus::Alive));
}

/// How many events an agent has heard in this life of its.
/// Two of three find each other again, and a third one that knows of nobody any more is found by them.
#[test]
fn who_was_away_when_the_others_met_again_is_looked_for() {
    let mut world = World::joined(3);
    world.elapse(SECOND * 5);
    (1..=3).for_each(|n| world.kill(n));
    world.restart(1);
    world.restart(2);
    world.await_that("two meet again", SECOND * 60, |world| world.members(1).len() == 2 && world.members(2).len() == 2);
    world.elapse(SECOND * 5);
    // Nobody forgets it over another restart either.
    world.kill(1);
    world.restart(1);
    world.elapse(SECOND * 5);
    world.forget_everything(3);
    world.restart(3);
    world.await_that("all know each other", SECOND * 120, |world| (1..=3).all(|n| world.members(n).len() == 3));
}

fn listed(world: &mut World, n: u64) -> usize {
    let list = event::Request::List {
        name: String::new(),
        node_filter: String::new(),
        service_filter: String::new(),
        tag_filter: String::new(),
        index: 0,
        wait: None,
    };
    let Ok(Response::Events(listed)) = world.ask(n, list) else { panic!("no list") };
    listed.events.len()
}

#[test]
fn who_has_left_and_joins_again_does_not_hear_what_it_has_heard() {
    let mut world = World::joined(2);
    let event = event::Event { name: "deploy".into(), ..event::Event::default() };
    assert!(world.ask(1, event::Request::Fire(event)).is_ok());
    world.elapse(SECOND * 2);
    assert_eq!(listed(&mut world, 2), 1);
    assert_eq!(world.ask(2, Request::Leave), DONE);
    world.restart(2);
    assert_eq!(world.join(2, &["10.0.0.1"]), Ok(Response::Joined(1)));
    world.elapse(SECOND * 60);
    assert_eq!(world.members(2).len(), 2);
    assert_eq!(listed(&mut world, 2), 0);
}

#[test]
fn no_event_is_acted_upon_twice() {
    let mut world = World::joined(2);
    let event = event::Event { name: "deploy".into(), ..event::Event::default() };
    assert!(world.ask(1, event::Request::Fire(event.clone())).is_ok());
    world.elapse(SECOND * 2);
    assert_eq!((listed(&mut world, 1), listed(&mut world, 2)), (1, 1));
    world.restart(2);
    world.await_that("it is back", SECOND * 10, |world| world.members(2).len() == 2);
    world.elapse(SECOND * 60);
    assert_eq!(listed(&mut world, 2), 0, "what an earlier life has seen does not come again");
    world.kill(2);
    assert!(world.ask(1, event::Request::Fire(event)).is_ok());
    world.restart(2);
    world.await_that("what it has missed comes", SECOND * 60, |world| listed(world, 2) == 1);
}

#[test]
fn another_datacenter_is_kept_out_and_told_of_once() {
    let mut world = World::joined(2);
    let stranger = Config { datacenter: "dc2".into(), ..config(3) };
    let stranger = Config { gossip: lictor_core::config::Gossip::new(gossip_of(3), "dc2"), ..stranger };
    world.start(3, stranger);
    let error = world.join(3, &["10.0.0.1"]).unwrap_err().to_string();
    assert!(error.contains("10.0.0.1:8301"), "{error}");
    assert!(world.join(3, &["10.0.0.1"]).is_err());
    assert_eq!((world.members(1).len(), world.members(3).len()), (2, 1));
    assert!(world.agent(1).gossip().counters().strangers >= 2);
    assert_eq!(world.pool_news(1), [PoolNews::Stranger { from: gossip_of(3).ip() }]);
}

#[test]
fn who_comes_with_a_name_that_is_taken_has_to_go() {
    for (members, through) in [(1, "10.0.0.1"), (2, "10.0.0.2"), (4, "10.0.0.3")] {
        let mut world = World::joined(members);
        world.start(9, Config { name: "n1".into(), ..config(9) });
        let _ = world.join(9, &[through]);
        world.await_that("the latecomer goes", SECOND * 60, |world| world.has_ended(9));
        let lost = PoolNews::NameLost { name: "n1".into(), holder: gossip_of(1) };
        assert_eq!(world.pool_news(9).last(), Some(&lost), "in a pool of {members}");
        world.elapse(SECOND * 60);
        assert!(!world.has_ended(1));
        for n in 1..=members {
            assert!(world.all_see(&[n], "n1", Some(MemberStatus::Alive)), "n{n} of {members}");
            assert_eq!(world.members(n).len() as u64, members);
        }
    }
}

#[test]
fn who_comes_back_with_another_address_keeps_its_name() {
    let mut world = World::joined(4);
    world.kill(4);
    world.start(14, Config { name: "n4".into(), ..config(14) });
    assert_eq!(world.join(14, &["10.0.0.1"]), Ok(Response::Joined(1)));
    world.await_that("they know where it is", SECOND * 90, |world| {
        (1..=3).all(|n| world.members(n)[3].address == gossip_of(14).ip())
    });
    world.elapse(SECOND * 60);
    assert!(!world.has_ended(14));
    assert!(world.all_see(&[1, 2, 3, 14], "n4", Some(MemberStatus::Alive)));
}

/// Founders that are in one pool and have a leader.
fn cluster(count: u64) -> World {
    let mut world = World::default();
    for (n, mut config) in (1..).zip(founders(count)) {
        config.gossip.retry_join = vec!["10.0.0.1".into()];
        config.gossip.retry_interval = SECOND;
        world.start(n, config);
    }
    world.await_that("all know each other, and a leader", SECOND * 30, |world| {
        (1..=count).all(|n| world.members(n).len() as u64 == count && world.agent(n).raft().leader().is_some())
    });
    world.elapse(SECOND * 2);
    world
}

fn leader(world: &World, among: std::ops::RangeInclusive<u64>) -> Option<u64> {
    among.into_iter().find(|n| !world.has_ended(*n) && world.agent(*n).raft().is_leader())
}

#[test]
fn a_leader_hands_over_before_it_leaves() {
    let mut world = cluster(3);
    let old = leader(&world, 1..=3).unwrap();
    let others: Vec<u64> = (1..=3).filter(|n| *n != old).collect();
    assert_eq!(world.ask(old, Request::Leave), DONE);
    assert!(world.has_ended(old));
    let new = leader(&world, 1..=3).expect("somebody leads already when it goes");
    assert!(others.contains(&new));
    world.elapse(SECOND * 2);
    assert!(world.all_see(&others, &format!("n{old}"), Some(MemberStatus::Left)));
}

#[test]
fn servers_are_shown_with_their_names() {
    let mut world = cluster(3);
    let leader = leader(&world, 1..=3).unwrap();
    for n in 1..=3 {
        let read = ReadOptions { consistency: lictor_core::api::Consistency::Stale, ..ReadOptions::default() };
        let Ok(Response::RaftConfiguration(raft)) = world.ask(n, Operator::RaftConfiguration { read }) else {
            panic!("no configuration")
        };
        let names: Vec<_> = raft.servers.iter().map(|server| server.node.as_deref()).collect();
        assert_eq!(names, [Some("n1"), Some("n2"), Some("n3")]);
        let Ok(Response::Itself(itself)) = world.ask(n, Request::Itself) else { panic!("no self") };
        assert_eq!(itself.member.name, format!("n{n}"));
        assert_eq!((itself.member.address, itself.member.port), (gossip_of(n).ip(), 8301));
        assert_eq!(itself.stats["serf_lan"]["members"], "3");
        assert_eq!(itself.stats["serf_wan"]["members"], "1");
        assert!(itself.coordinate.error < 1.5, "it has learnt where it is");
    }
    let Ok(Response::Health(health)) = world.ask(leader, Operator::AutopilotHealth) else { panic!("no health") };
    assert!(health.servers.iter().all(|server| server.node.is_some() && !server.dead));
    // What gossip knows of a death is not waited for any longer.
    let dead = (1..=3).find(|n| *n != leader).unwrap();
    world.kill(dead);
    world.await_that("gossip knows", SECOND * 29, |world| {
        world.status(leader, &format!("n{dead}")) == Some(MemberStatus::Failed)
    });
    let Ok(Response::Health(health)) = world.ask(leader, Operator::AutopilotHealth) else { panic!("no health") };
    let dead: Vec<bool> = health.servers.iter().map(|server| server.dead).collect();
    assert_eq!(dead.iter().filter(|dead| **dead).count(), 1);
}

#[test]
fn servers_learn_where_everybody_is() {
    let mut world = cluster(3);
    world.await_that("all have told", SECOND * 40, |world| {
        let read = ReadOptions { consistency: lictor_core::api::Consistency::Stale, ..ReadOptions::default() };
        let nodes = lictor_core::api::coordinate::Request::Nodes { read };
        let Ok(Response::NodePlaces(read)) = world.ask(1, nodes) else { return false };
        read.value.len() == 3
    });
}
