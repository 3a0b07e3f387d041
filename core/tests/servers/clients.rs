//! Agents that are no servers.

use lictor_core::api::{Consistency, Error, ReadOptions, Response, kv, snapshot, status};
use lictor_core::id::{Index, Round, Term};
use lictor_core::io::Input;
use lictor_core::raft::{Kind, Position};
use lictor_core::time::Duration;

use super::world::{SECOND, World, client, done, get, put, value};

const ME: u64 = 9;

fn with_client(seed: u64) -> World {
    let mut world = World::of_three(seed);
    world.start(client(ME));
    world.join(ME, 1);
    world.run(SECOND * 2);
    world
}

#[test]
fn what_a_client_agent_is_asked_servers_answer() {
    let mut world = with_client(1);
    assert_eq!(world.put(ME, "a", "1"), done());
    for consistency in [Consistency::Default, Consistency::Consistent] {
        assert_eq!(value(&world.ask(ME, get("a", consistency))).as_deref(), Some("1"));
    }
    world.run(SECOND);
    let Ok(Response::KvEntries(read)) = world.ask(ME, get("a", Consistency::Stale)) else { panic!("no entries") };
    assert!(read.meta.known_leader && read.value.len() == 1);
    let leader = format!("10.0.0.{}:8300", world.leader().unwrap()).parse().unwrap();
    assert_eq!(world.ask(ME, status::Request::Leader), Ok(Response::Leader(Some(leader))));
    assert!(matches!(world.ask(ME, status::Request::Peers), Ok(Response::Peers(peers)) if peers.len() == 3));
    for consistency in [Consistency::Default, Consistency::Stale] {
        let read = ReadOptions { consistency, index: read.meta.index, wait: Some(SECOND * 60) };
        let blocked = world.call(ME, kv::Request::Get { key: "a".into(), read });
        world.run(SECOND * 20);
        assert!(world.reply(blocked).is_none(), "nothing has changed");
        let text = if consistency == Consistency::Stale { "3" } else { "2" };
        assert_eq!(world.put(1, "a", text), done());
        world.run(Duration::from_millis(500));
        let (_, reply) = world.reply(blocked).expect("it has changed");
        assert_eq!(value(&reply).as_deref(), Some(text));
        let index = ReadOptions { consistency: Consistency::Default, index: Index(0), wait: None };
        let Ok(Response::KvEntries(_)) = world.ask(ME, kv::Request::Get { key: "a".into(), read: index }) else {
            panic!("no entries")
        };
        if consistency == Consistency::Default {
            break;
        }
    }
    let me = &world.hosts[&ME];
    assert_eq!((me.writes, me.agent.store().index(), me.agent.open_calls()), (0, Index(0), (0, 0)));
}

#[test]
fn the_state_is_not_saved_through_a_client_agent_which_says_who_has_it() {
    let mut world = with_client(1);
    let read = ReadOptions::default();
    let refused = world.ask(ME, snapshot::Request::Save { read });
    let leader = format!("10.0.0.{}", world.leader().unwrap()).parse().unwrap();
    assert_eq!(refused, Err(Error::NoStateHere(leader)));
}

#[test]
fn without_servers_a_call_fails_after_a_while_and_with_one_in_time_it_does_not() {
    let mut world = World::new(1);
    world.start(client(ME));
    let began = world.now;
    for request in [put("a", "1"), get("a", Consistency::Default), get("a", Consistency::Stale)] {
        let (began, refused) = (world.now, world.ask(ME, request));
        assert_eq!(refused, Err(Error::NoServers));
        assert!(world.now.since(began) >= SECOND * 7);
    }
    assert!(world.now.since(began) >= SECOND * 21);
    let mut world = World::of_three(1);
    world.start(client(ME));
    let write = world.call(ME, put("a", "1"));
    world.run(SECOND * 3);
    world.join(ME, 1);
    world.run(SECOND);
    assert_eq!(world.reply(write).map(|(_, reply)| reply), Some(done()));
}

/// Gossip takes longer to notice than the servers take to elect another leader.
#[test]
fn writes_go_on_soon_after_the_leader_is_lost() {
    for seed in 0..6 {
        let mut world = with_client(seed);
        assert_eq!(world.put(ME, "a", "0"), done());
        world.kill(world.leader().unwrap());
        let lost = world.now;
        let mut calls = Vec::new();
        while world.now < lost + SECOND * 10 {
            calls.push((world.now, world.call(ME, put("a", "1"))));
            world.run(Duration::from_millis(50));
        }
        world.run(SECOND * 10);
        let mut first = None;
        for (begun, call) in calls {
            let (at, reply) = world.reply(call).expect("an answer");
            match reply {
                Ok(_) => {
                    first = Some(first.unwrap_or(at).min(at));
                    assert!(at.since(begun) < SECOND * 3, "seed {seed}: {:?}", at.since(begun));
                }
                // Only those that were on their way to it.
                Err(error) => {
                    assert_eq!(error, Error::LeaderUnreachable);
                    assert!(begun.since(lost) <= Duration::from_millis(600), "seed {seed}: {:?}", begun.since(lost));
                }
            }
        }
        let pause = first.expect("writes go on").since(lost);
        assert!(pause < SECOND * 3, "seed {seed}: a pause of {pause:?}");
        assert_eq!(world.hosts[&ME].agent.open_calls(), (0, 0));
    }
}

#[test]
fn any_servers_loss_is_survived() {
    for lost in 1..=3 {
        let mut world = with_client(lost);
        assert_eq!(world.put(ME, "a", "1"), done());
        world.run(SECOND);
        let read = ReadOptions { consistency: Consistency::Stale, index: Index(10_000), wait: Some(SECOND * 30) };
        let blocked = world.call(ME, kv::Request::Get { key: "a".into(), read });
        world.run(SECOND);
        world.kill(lost);
        for _ in 0..5 {
            let began = world.now;
            assert_eq!(value(&world.ask(ME, get("a", Consistency::Stale))).as_deref(), Some("1"));
            assert!(world.now.since(began) < SECOND, "server {lost}: {:?}", world.now.since(began));
        }
        assert_eq!(value(&world.ask(ME, get("a", Consistency::Default))).as_deref(), Some("1"));
        world.run(SECOND * 45);
        assert!(matches!(world.reply(blocked), Some((_, Ok(_)))), "server {lost}: the query waits for ever");
        assert_eq!(world.hosts[&ME].agent.open_calls(), (0, 0));
    }
}

#[test]
fn a_client_agent_neither_votes_nor_keeps_a_log() {
    let mut world = with_client(1);
    let envelope = |kind| lictor_core::peer::Envelope {
        from: super::world::id(1),
        to: super::world::id(ME),
        address: "10.0.0.1:8300".parse().unwrap(),
        cluster: lictor_core::wire::cluster_tag("dc1"),
        body: lictor_core::peer::Body::Raft(lictor_core::raft::Message { term: Term(90), kind }),
    };
    let last = Position { index: Index(9), term: Term(9) };
    for kind in [
        Kind::PreVote { last },
        Kind::Vote { last, transfer: true },
        Kind::Heartbeat { commit: Index(0), round: Round(1) },
        Kind::TimeoutNow,
    ] {
        let agent = &mut world.hosts.get_mut(&ME).unwrap().agent;
        agent.handle_input(world.now, Input::Message(envelope(kind)));
        while agent.poll_output().is_some() {}
        let status = agent.raft_status();
        assert_eq!((status.term, status.vote, status.leader, status.role), (Term(0), None, None, "follower"));
        assert_eq!(agent.raft().poll_timeout(), None);
    }
}

#[test]
fn a_query_that_blocks_stays_with_the_server_that_has_it() {
    let mut world = with_client(1);
    assert_eq!(world.put(ME, "a", "1"), done());
    let read = ReadOptions { consistency: Consistency::Stale, index: Index(10_000), wait: Some(SECOND * 120) };
    world.call(ME, kv::Request::Get { key: "a".into(), read });
    world.run(SECOND);
    let holders = |world: &World| -> Vec<u64> { (1..=3).filter(|n| world.hosts[n].agent.open_calls().0 > 0).collect() };
    let first = holders(&world);
    assert_eq!(first.len(), 1);
    for _ in 0..100 {
        world.run(SECOND);
        assert_eq!(holders(&world), first, "nothing is wrong with it");
    }
}
