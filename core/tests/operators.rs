//! What operators ask of agents, alone and in a cluster, on a network and disks that do nothing worse than to be cut off.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lictor_core::agent::Agent;
use lictor_core::api::operator::{Autopilot, Health, Peer, Request};
use lictor_core::api::snapshot::Step;
use lictor_core::api::{self, Call, Consistency, Error, ReadOptions, Reply, Response, kv, snapshot};
use lictor_core::config::{Config, Snapshots};
use lictor_core::id::{CallId, Index, PeerId};
use lictor_core::io::{Input, JobOutcome, Output};
use lictor_core::peer::Envelope;
use lictor_core::raft::Configuration;
use lictor_core::recovery::Recovered;
use lictor_core::snapshot::Decoder;
use lictor_core::time::{Duration, Instant};
use uuid::Uuid;

const SECOND: Duration = Duration::from_secs(1);

struct Cluster {
    now: Instant,
    agents: BTreeMap<PeerId, Agent>,
    /// By when they arrive.
    messages: BTreeMap<(Instant, u64), Envelope>,
    count: u64,
    /// Nothing reaches these, or comes from them.
    cut_off: BTreeSet<PeerId>,
    replies: BTreeMap<CallId, Reply>,
}

fn id(n: u64) -> PeerId {
    PeerId::numbered(n)
}

fn address(n: u64) -> std::net::SocketAddr {
    format!("10.0.0.{n}:8300").parse().unwrap()
}

impl Cluster {
    fn of(servers: u64) -> Self {
        let mut cluster = Self {
            now: Instant::ZERO,
            agents: BTreeMap::new(),
            messages: BTreeMap::new(),
            count: 0,
            cut_off: BTreeSet::new(),
            replies: BTreeMap::new(),
        };
        let members = Configuration::new((1..=servers).map(|n| (id(n), address(n))));
        (1..=servers).for_each(|n| cluster.start(n, Some(members.clone())));
        cluster.elapse(SECOND * 5);
        cluster
    }

    fn start(&mut self, n: u64, bootstrap: Option<Configuration>) {
        let config = Config {
            bootstrap,
            snapshots: Snapshots { entries: 40, trailing_entries: 10, piece_bytes: 100, ..Snapshots::default() },
            ..Config::new(id(n), format!("n{n}"), address(n))
        };
        self.agents.insert(id(n), Agent::new(config, n, Recovered::default(), self.now));
        self.input(id(n), Input::Timeout);
    }

    fn input(&mut self, to: PeerId, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let agent = self.agents.get_mut(&to).unwrap();
            agent.handle_input(self.now, input);
            while let Some(output) = agent.poll_output() {
                match output {
                    Output::Reply { id, reply } => drop(self.replies.insert(id, reply)),
                    Output::Persist(write) => inputs.push(Input::Persisted(write.seq)),
                    Output::Job(job) => inputs.push(Input::JobDone { id: job.id, outcome: JobOutcome::Done }),
                    Output::Reserve { file, size } => inputs.push(Input::Reserved { file, size, granted: true }),
                    Output::Message { to: at, envelope } => {
                        let n = u64::try_from(envelope.to.0.as_u128()).unwrap();
                        assert_eq!(at, address(n), "{to} looks for {} elsewhere", envelope.to);
                        if !self.cut_off.contains(&to) {
                            self.count += 1;
                            self.messages.insert((self.now + Duration::from_millis(1), self.count), envelope);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// All that happens in this time, happens.
    fn elapse(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let message = self.messages.keys().next().map(|(at, _)| *at);
            let due = self.agents.iter().filter_map(|(id, agent)| Some((agent.poll_timeout()?, *id))).min();
            let next = message.into_iter().chain(due.map(|(at, _)| at)).min();
            let Some(at) = next.filter(|at| *at <= until) else { break };
            self.now = self.now.max(at);
            if message == Some(at) {
                let (_, envelope) = self.messages.pop_first().unwrap();
                if self.agents.contains_key(&envelope.to) && !self.cut_off.contains(&envelope.to) {
                    self.input(envelope.to, Input::Message(envelope));
                }
            } else if let Some((_, id)) = due {
                self.input(id, Input::Timeout);
                let due = self.agents[&id].poll_timeout();
                assert!(due.is_none_or(|due| due > self.now), "{id} is due again at once");
            }
        }
        self.now = until;
    }

    fn leader(&self) -> PeerId {
        let leads = |(id, agent): &(&PeerId, &Agent)| agent.raft().is_leader() && !self.cut_off.contains(id);
        *self.agents.iter().find(leads).expect("there is a leader").0
    }

    fn follower(&self) -> PeerId {
        let leader = self.leader();
        *self.agents.keys().find(|id| **id != leader).unwrap()
    }

    fn call(&mut self, at: PeerId, request: impl Into<api::Request>) -> CallId {
        self.count += 1;
        let id = CallId(self.count);
        self.input(at, Input::Call { id, call: Call::new(request) });
        id
    }

    /// Asks, and waits for the answer.
    fn ask(&mut self, at: PeerId, request: impl Into<api::Request>) -> Reply {
        let call = self.call(at, request);
        for _ in 0..100 {
            if let Some(reply) = self.replies.remove(&call) {
                return reply;
            }
            self.elapse(Duration::from_millis(100));
        }
        panic!("no answer");
    }

    fn put(&mut self, key: &str) {
        let leader = self.leader();
        let put = kv::Request::Put {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: vec![1; 50].into(),
            flags: 0,
            mode: kv::PutMode::Set,
        };
        assert_eq!(self.ask(leader, put), Ok(Response::Done(true)));
    }

    fn set(&mut self, change: impl FnOnce(&mut Autopilot)) {
        let leader = self.leader();
        let mut settings = Autopilot::default();
        change(&mut settings);
        let set = Request::SetAutopilotConfiguration { settings, cas: None };
        assert_eq!(self.ask(leader, set), Ok(Response::Done(true)));
    }

    fn health(&mut self, at: PeerId) -> Health {
        match self.ask(at, Request::AutopilotHealth) {
            Ok(Response::Health(health)) => health,
            other => panic!("{other:?}"),
        }
    }

    /// Who takes part, as the leader knows it: with a vote, and without.
    fn members(&self) -> (Vec<u64>, Vec<u64>) {
        let members = self.agents[&self.leader()].raft().members();
        let numbers = |voters| {
            let servers = members.servers.iter().filter(|(_, server)| server.voter == voters);
            servers.map(|(id, _)| u64::try_from(id.0.as_u128()).unwrap()).collect()
        };
        (numbers(true), numbers(false))
    }

    fn save(&mut self, at: PeerId, consistency: Consistency) -> lictor_core::snapshot::Snapshot {
        let read = ReadOptions { consistency, ..ReadOptions::default() };
        let Ok(Response::Snapshot(image)) = self.ask(at, snapshot::Request::Save { read }) else { panic!("no image") };
        let mut decoder = Decoder::new();
        image.value.pieces().for_each(|piece| decoder.feed(&piece).unwrap());
        decoder.finish().unwrap()
    }
}

fn done() -> Reply {
    Ok(Response::Done(true))
}

fn remove(text: &str) -> Request {
    Request::RemovePeer(Peer::Id(text.to_owned()))
}

#[test]
fn a_lone_server_refuses_what_makes_no_sense() {
    let mut cluster = Cluster::of(1);
    let one = id(1);
    let nobody = id(9).0.to_string();
    assert_eq!(cluster.ask(one, remove(&nobody)), Err(Error::NoSuchPeerId(nobody)));
    assert_eq!(cluster.ask(one, remove("rubbish")), Err(Error::NoSuchPeerId("rubbish".into())));
    for text in ["10.0.0.9:8300", "rubbish", ""] {
        let request = Request::RemovePeer(Peer::Address(text.into()));
        assert_eq!(cluster.ask(one, request), Err(Error::NoSuchPeerAddress(text.into())));
    }
    assert_eq!(cluster.ask(one, remove(&one.0.to_string())), Err(Error::LastVoter));
    assert_eq!(cluster.ask(one, Request::TransferLeader { to: None }), Err(Error::NoSuccessor));
    assert_eq!(cluster.ask(one, Request::TransferLeader { to: Some(id(9)) }), Err(Error::NoSuccessor));
    assert_eq!(cluster.ask(one, Request::TransferLeader { to: Some(one) }), done());
    assert_eq!(cluster.ask(one, Request::AddPeer { id: one, address: address(1) }), done());
    let health = cluster.health(one);
    assert!(health.healthy && health.failure_tolerance == 0 && health.servers.len() == 1);
    assert_eq!(cluster.members(), (vec![1], vec![]));
    cluster.put("a");
}

#[test]
fn a_server_joins_gets_a_vote_and_leaves_again() {
    let mut cluster = Cluster::of(1);
    // More than what the log keeps, so that the new one needs a snapshot.
    (0..100).for_each(|n| cluster.put(&n.to_string()));
    cluster.start(2, None);
    assert_eq!(cluster.ask(id(1), Request::AddPeer { id: id(2), address: address(2) }), done());
    cluster.elapse(SECOND * 3);
    assert_eq!(cluster.members(), (vec![1], vec![2]));
    assert!(*cluster.agents[&id(2)].store() == *cluster.agents[&id(1)].store());
    cluster.elapse(SECOND * 12);
    assert_eq!(cluster.members(), (vec![1, 2], vec![]), "it was stable for long enough");
    assert_eq!(cluster.health(id(2)).failure_tolerance, 0);
    // The leader itself goes, by its address; the other is asked.
    assert_eq!(cluster.ask(id(2), Request::RemovePeer(Peer::Address(address(1).to_string()))), done());
    cluster.elapse(SECOND * 5);
    assert_eq!((cluster.leader(), cluster.members()), (id(2), (vec![2], vec![])));
    cluster.put("a");
}

#[test]
fn who_never_said_anything_gets_no_vote() {
    let mut cluster = Cluster::of(1);
    cluster.set(|settings| settings.server_stabilization_time = Duration::ZERO);
    cluster.put("a");
    assert_eq!(cluster.ask(id(1), Request::AddPeer { id: id(2), address: address(2) }), done());
    cluster.elapse(SECOND * 5);
    assert_eq!(cluster.members(), (vec![1], vec![2]));
    cluster.put("a");
}

#[test]
fn settings_without_sense_do_no_harm() {
    let mut cluster = Cluster::of(3);
    cluster.start(4, None);
    for (time, logs) in [(Duration::MAX, u64::MAX), (Duration::ZERO, 0)] {
        cluster.set(|settings| {
            settings.server_stabilization_time = time;
            settings.last_contact_threshold = time;
            settings.max_trailing_logs = logs;
        });
        let leader = cluster.leader();
        assert_eq!(cluster.ask(leader, Request::AddPeer { id: id(4), address: address(4) }), done());
        cluster.elapse(SECOND * 20);
        assert!(cluster.health(leader).healthy);
        assert_eq!(cluster.members().1.is_empty(), time == Duration::ZERO);
        cluster.put("a");
    }
}

/// The leader was stopped, and not the others.
#[test]
fn a_leader_that_slept_removes_nobody() {
    let mut cluster = Cluster::of(1);
    cluster.set(|settings| settings.server_stabilization_time = SECOND * 1000);
    cluster.start(2, None);
    assert_eq!(cluster.ask(id(1), Request::AddPeer { id: id(2), address: address(2) }), done());
    cluster.elapse(SECOND * 5);
    cluster.now = cluster.now + SECOND * 100;
    cluster.input(id(1), Input::Timeout);
    cluster.elapse(SECOND * 5);
    assert_eq!(cluster.members(), (vec![1], vec![2]));
    // Who is really gone loses its seat.
    cluster.cut_off.insert(id(2));
    cluster.elapse(SECOND * 32);
    assert_eq!(cluster.members(), (vec![1], vec![]));
}

#[test]
fn a_dead_voter_goes_once_another_can_take_its_seat() {
    let mut cluster = Cluster::of(3);
    let dead = cluster.follower();
    cluster.cut_off.insert(dead);
    cluster.elapse(SECOND * 60);
    assert_eq!(cluster.members().0.len(), 3, "a cluster does not shrink by itself");
    let leader = cluster.leader();
    assert_eq!(cluster.health(leader).failure_tolerance, 0);
    cluster.start(4, None);
    assert_eq!(cluster.ask(leader, Request::AddPeer { id: id(4), address: address(4) }), done());
    cluster.elapse(SECOND * 20);
    let (voters, others) = cluster.members();
    assert!(voters.len() == 3 && voters.contains(&4) && others.is_empty(), "{voters:?} {others:?}");
    let health = cluster.health(id(4));
    assert!(health.healthy && health.failure_tolerance == 1);
    cluster.put("a");
}

#[test]
fn an_address_that_is_taken_leads_no_message_astray() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.leader();
    let mut others: Vec<PeerId> = cluster.agents.keys().copied().filter(|id| *id != leader).collect();
    let (at, taken) = (others.pop().unwrap(), cluster.agents[&leader].raft().address(others[0]).unwrap());
    let wrong = Err(Error::AddressTaken(taken.to_string()));
    assert_eq!(cluster.ask(leader, Request::AddPeer { id: at, address: taken }), wrong);
    assert_eq!(cluster.ask(leader, Request::AddPeer { id: id(9), address: taken }), wrong);
    // The network itself looks where messages go.
    cluster.elapse(SECOND * 5);
    cluster.put("a");
    assert_eq!(cluster.leader(), leader);
}

#[test]
fn leadership_passes_to_whom_it_is_given() {
    let mut cluster = Cluster::of(3);
    for _ in 0..3 {
        let (to, old) = (cluster.follower(), cluster.leader());
        let asked = *cluster.agents.keys().find(|id| **id != to && **id != old).unwrap();
        assert_eq!(cluster.ask(asked, Request::TransferLeader { to: Some(to) }), done());
        cluster.elapse(SECOND);
        assert_eq!(cluster.leader(), to);
        cluster.put("a");
    }
    assert_eq!(cluster.ask(cluster.leader(), Request::TransferLeader { to: Some(id(9)) }), Err(Error::NoSuccessor));
}

#[test]
fn leadership_that_is_lost_has_not_passed_to_anybody() {
    let mut cluster = Cluster::of(3);
    let (leader, to) = (cluster.leader(), cluster.follower());
    cluster.cut_off.insert(leader);
    let request = Request::TransferLeader { to: Some(to) };
    assert_eq!(cluster.ask(leader, request), Err(Error::NoSuccessor));
    let agent = &cluster.agents[&leader];
    assert_eq!(agent.open_calls(), (0, 0));
}

#[test]
fn the_state_is_saved_by_any_server_and_restored_by_any() {
    let mut cluster = Cluster::of(3);
    (0..100).for_each(|n| cluster.put(&n.to_string()));
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let images =
        [(leader, Consistency::Default), (follower, Consistency::Default), (follower, Consistency::Consistent)]
            .map(|(at, consistency)| cluster.save(at, consistency));
    for image in &images {
        assert_eq!(image.store.kv_len(), 100);
        assert_eq!(image.meta.configuration.voter_count(), 3);
    }
    cluster.put("late");
    let read = ReadOptions { index: Index(cluster.agents[&leader].store().kv_changed().0), ..ReadOptions::default() };
    let blocked = cluster.call(follower, kv::Request::Get { key: "late".into(), read });
    cluster.elapse(SECOND);
    assert!(!cluster.replies.contains_key(&blocked));

    let step = |step| snapshot::Request::Restore { id: Uuid::from_u128(7), step };
    let meta = &images[0].meta;
    let encoder = lictor_core::snapshot::Encoder::new(meta, images[0].store.clone(), 1000);
    let mut count = 0;
    for (number, bytes) in (0..).zip(encoder) {
        assert_eq!(cluster.ask(follower, step(Step::Piece { number, bytes })), done());
        count = number + 1;
    }
    assert_eq!(cluster.ask(follower, step(Step::Finish { pieces: count })), done());
    cluster.elapse(SECOND);
    for agent in cluster.agents.values() {
        assert_eq!((agent.store().kv_len(), agent.open_calls()), (100, (0, 0)));
        assert!(agent.store().visible_index() > images[0].store.visible_index());
    }
    let Some(Ok(Response::KvEntries(woken))) = cluster.replies.remove(&blocked) else { panic!("it sleeps on") };
    assert!(woken.value.is_empty() && woken.meta.index > images[2].store.visible_index());
}

#[test]
fn a_step_of_a_restoration_is_bounded_and_one_that_stands_still_is_given_up() {
    let mut cluster = Cluster::of(3);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let step = |step| snapshot::Request::Restore { id: Uuid::from_u128(7), step };
    for at in [leader, follower] {
        let large = step(Step::Piece { number: 0, bytes: vec![0; (1 << 20) + 1].into() });
        assert!(matches!(cluster.ask(at, large), Err(Error::MalformedImage(text)) if text.contains("1048576")));
    }
    let first = cluster.save(leader, Consistency::Default);
    let first = lictor_core::snapshot::Encoder::new(&first.meta, first.store, 100).next().unwrap();
    assert_eq!(cluster.ask(follower, step(Step::Piece { number: 0, bytes: first })), done());
    cluster.elapse(SECOND);
    assert!(cluster.agents.values().all(|agent| agent.store().restoring().is_some()));
    cluster.elapse(SECOND * 70);
    assert!(cluster.agents.values().all(|agent| agent.store().restoring().is_none()));
    assert_eq!(cluster.ask(follower, step(Step::Finish { pieces: 1 })), Err(Error::RestoreInterrupted));
}

#[test]
fn a_server_that_was_away_for_long_is_sent_a_snapshot_though_leaders_change() {
    let mut cluster = Cluster::of(3);
    let away = cluster.follower();
    cluster.cut_off.insert(away);
    (0..200).for_each(|n| cluster.put(&n.to_string()));
    cluster.cut_off.clear();
    cluster.elapse(Duration::from_millis(30));
    let leader = cluster.leader();
    let to = *cluster.agents.keys().find(|id| **id != leader && **id != away).unwrap();
    let _ = cluster.ask(leader, Request::TransferLeader { to: Some(to) });
    cluster.elapse(SECOND * 10);
    assert_eq!(cluster.agents[&away].store().kv_len(), 200);
    cluster.put("a");
    cluster.elapse(SECOND);
    assert_eq!(cluster.agents[&away].store().kv_len(), 201);
    assert!(cluster.agents.values().all(|agent| agent.raft().log().base().index > Index(0)));
}
