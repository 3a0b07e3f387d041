//! Three agents in memory, on a network that loses, delays, doubles and cuts, with disks that lag and crashes that forget.
//! Each seed is one schedule. What the clients saw is compared with the order in which the log put their writes, and in
//! the end, once all is whole again, every call must have been answered.

mod disk;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use disk::{InMemory, break_off, carry_out};
use lictor_core::agent::Agent;
use lictor_core::api::{Call, Consistency, ReadOptions, Reply, Response, kv};
use lictor_core::config::{Config, Limits, Snapshots};
use lictor_core::id::{CallId, Index, PeerId};
use lictor_core::io::{Input, Job, JobOutcome, Output, Write};
use lictor_core::peer::Envelope;
use lictor_core::raft::{Configuration, Entry, Payload};
use lictor_core::recovery::recover;
use lictor_core::rng::Rng;
use lictor_core::store::{self, Command};
use lictor_core::time::{Duration, Instant};
use lictor_core::wire;

const HOSTS: u64 = 3;
const KEYS: [&str; 2] = ["a", "b"];

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Something on its way to a host. Events of a crashed host's earlier life (disk, clients) reach nobody.
enum Event {
    Input(u64, Input),
    Written(u64, Write),
    Worked(u64, Job),
    Message(Envelope),
}

struct Host {
    agent: Option<Agent>,
    life: u64,
    files: BTreeMap<String, Vec<u8>>,
    /// The disk completes its writes in order.
    disk_free: Instant,
    /// It takes what has come by then in one batch.
    busy_until: Instant,
}

struct Op {
    key: &'static str,
    /// What is written; `None` for a read.
    put: Option<Bytes>,
    begun: Instant,
    /// When it was answered, and for a read the index of what it found; a failed write has none.
    ended: Option<(Instant, Option<Index>)>,
    failed: bool,
}

struct World {
    now: Instant,
    rng: Rng,
    hosts: BTreeMap<PeerId, Host>,
    events: BTreeMap<(Instant, PeerId, u64), Event>,
    count: u64,
    cut: BTreeSet<(PeerId, PeerId)>,
    /// Trouble is over: nothing gets lost any more.
    calm: bool,
    /// The disks have no room for reservations.
    full: bool,
    ops: BTreeMap<CallId, Op>,
    /// Calls whose host crashed under them.
    orphans: BTreeSet<CallId>,
    /// What is committed.
    history: Vec<Entry>,
}

fn config(id: PeerId) -> Config {
    let address = |id: PeerId| format!("10.0.0.{}:8300", id.0.as_u128()).parse().unwrap();
    Config {
        bootstrap: Some(Configuration::new((1..=HOSTS).map(PeerId::numbered).map(|id| (id, address(id))))),
        // Small, so that all of it happens all the time.
        snapshots: Snapshots { entries: 40, trailing_entries: 10, piece_bytes: 100, ..Snapshots::default() },
        limits: Limits { max_wait: Duration::from_secs(60), ..Limits::default() },
        ..Config::new(id, id.to_string(), address(id))
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            now: Instant::ZERO,
            rng: Rng::seeded(seed),
            hosts: BTreeMap::new(),
            events: BTreeMap::new(),
            count: 0,
            cut: BTreeSet::new(),
            calm: false,
            full: false,
            ops: BTreeMap::new(),
            orphans: BTreeSet::new(),
            history: Vec::new(),
        };
        for id in (1..=HOSTS).map(PeerId::numbered) {
            let host =
                Host { agent: None, life: 0, files: BTreeMap::new(), disk_free: world.now, busy_until: world.now };
            world.hosts.insert(id, host);
            world.start(id);
        }
        world
    }

    fn start(&mut self, id: PeerId) {
        let (now, seed) = (self.now, self.rng.u64());
        let host = self.hosts.get_mut(&id).unwrap();
        let recovered = recover(&mut InMemory(&host.files)).unwrap();
        assert_eq!(recovered.warnings, [""; 0]);
        recovered.repairs.iter().for_each(|op| carry_out(&mut host.files, op));
        host.life += 1;
        host.agent = Some(Agent::new(config(id), seed, recovered, now));
        self.drain(id);
    }

    fn crash(&mut self, id: PeerId) {
        let host = self.hosts.get_mut(&id).unwrap();
        host.agent = None;
        host.disk_free = self.now;
        // The disk was somewhere in its queues: one of the log, and one of all else.
        let of_host = |(_, to, _): &(Instant, PeerId, u64)| *to == id;
        let queued = self.events.iter().filter(|(key, _)| of_host(key)).map(|(_, event)| event);
        let (mut log, mut other) = (Vec::new(), Vec::new());
        for event in queued {
            match event {
                Event::Written(life, write) if *life == host.life => log.extend(&write.ops),
                Event::Worked(life, job) if *life == host.life => other.extend(&job.ops),
                _ => {}
            }
        }
        for ops in [log, other] {
            break_off(&mut host.files, &ops, &mut self.rng);
        }
        // Their calls go with them: whether their writes took place is not known.
        for (call, op) in &self.ops {
            if op.ended.is_none() && call.0 % HOSTS == host_number(id) {
                self.orphans.insert(*call);
            }
        }
    }

    fn schedule(&mut self, to: PeerId, at: Instant, event: Event) {
        self.count += 1;
        self.events.insert((at, to, self.count), event);
    }

    /// A message leaves: it may be lost, doubled, late.
    fn post(&mut self, from: PeerId, envelope: &Envelope) {
        let to = envelope.to;
        if self.cut.contains(&(from, to)) || (!self.calm && self.rng.one_in(50)) {
            return;
        }
        let copies = if !self.calm && self.rng.one_in(10) { 2 } else { 1 };
        for _ in 0..copies {
            let late = if !self.calm && self.rng.one_in(20) { ms(3000) } else { ms(10) };
            let at = self.now + self.rng.duration(ms(1), late);
            self.schedule(to, at, Event::Message(envelope.clone()));
        }
    }

    fn drain(&mut self, id: PeerId) {
        loop {
            let Some(agent) = &mut self.hosts.get_mut(&id).unwrap().agent else { return };
            let Some(output) = agent.poll_output() else { break };
            match output {
                Output::Reply { id: call, reply } => self.end(call, &reply),
                Output::Message { envelope, .. } => self.post(id, &envelope),
                Output::Persist(write) => {
                    let slow = if !self.calm && self.rng.one_in(30) { ms(2500) } else { ms(8) };
                    let took = self.rng.duration(ms(1), slow);
                    let host = self.hosts.get_mut(&id).unwrap();
                    host.disk_free = host.disk_free.max(self.now) + took;
                    let (at, life) = (host.disk_free, host.life);
                    self.schedule(id, at, Event::Written(life, write));
                }
                Output::Job(job) => {
                    // In their order, as one takes as long as the other.
                    let (at, life) = (self.now + ms(5), self.hosts[&id].life);
                    self.schedule(id, at, Event::Worked(life, job));
                }
                Output::Reserve { file, size } => {
                    let life = self.hosts[&id].life;
                    let granted = Input::Reserved { file, size, granted: !self.full };
                    self.schedule(id, self.now + ms(1), Event::Input(life, granted));
                }
                _ => {}
            }
        }
    }

    /// Goes on to the next moment at which anything happens, and lets all that has come to one host happen in one batch.
    fn step(&mut self, until: Instant) -> bool {
        let event = self.events.keys().map(|(at, id, _)| (self.hosts[id].busy_until.max(*at), *id));
        let due = self.hosts.iter().filter_map(|(id, host)| {
            let at = host.agent.as_ref()?.poll_timeout()?;
            Some((at.max(host.busy_until), *id))
        });
        let Some((at, id)) = event.chain(due).min().filter(|(at, _)| *at <= until) else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(at);
        let now = self.now;
        let mine: Vec<_> = self.events.keys().filter(|(at, host, _)| *host == id && *at <= now).copied().collect();
        let mut inputs: Vec<Input> = Vec::new();
        for key in mine {
            let host = self.hosts.get_mut(&id).unwrap();
            match self.events.remove(&key).unwrap() {
                Event::Message(envelope) => inputs.push(Input::Message(envelope)),
                Event::Input(life, input) if life == host.life => inputs.push(input),
                Event::Written(life, write) if life == host.life && host.agent.is_some() => {
                    write.ops.iter().for_each(|op| carry_out(&mut host.files, op));
                    inputs.push(Input::Persisted(write.seq));
                }
                Event::Worked(life, job) if life == host.life && host.agent.is_some() => {
                    let outcome = if !self.calm && self.rng.one_in(40) {
                        break_off(&mut host.files, &job.ops.iter().collect::<Vec<_>>(), &mut self.rng);
                        JobOutcome::NoRoom
                    } else {
                        job.ops.iter().for_each(|op| carry_out(&mut host.files, op));
                        JobOutcome::Done
                    };
                    inputs.push(Input::JobDone { id: job.id, outcome });
                }
                Event::Input(..) | Event::Written(..) | Event::Worked(..) => {}
            }
        }
        let busy = if self.rng.one_in(4) { self.rng.duration(ms(0), ms(40)) } else { ms(0) };
        let host = self.hosts.get_mut(&id).unwrap();
        host.busy_until = now + busy;
        let Some(agent) = &mut host.agent else { return true };
        inputs.push(Input::Timeout);
        inputs.into_iter().for_each(|input| agent.handle_input(now, input));
        self.drain(id);
        self.note_history(id);
        let agent = self.hosts[&id].agent.as_ref().unwrap();
        assert!(agent.poll_timeout().is_none_or(|due| due > now), "{id} is due again at once");
        true
    }

    /// Takes note of what a host has committed: logs forget it once a snapshot has it.
    fn note_history(&mut self, id: PeerId) {
        let log = self.hosts[&id].agent.as_ref().unwrap().raft().log();
        let next = self.history.last().map_or(Index(1), |entry| entry.index.next());
        self.history.extend(log.from(next).take_while(|entry| entry.index <= log.commit()).cloned());
        let at = |index: Index| usize::try_from(index.0 - 1).unwrap();
        if let Some(last) = log.get(log.commit()) {
            assert_eq!(self.history[at(last.index)], *last, "{id} committed something else than the others");
        }
    }

    fn run_until(&mut self, until: Instant) {
        while self.step(until) {}
    }

    fn leader(&self) -> PeerId {
        let leads = |host: &Host| host.agent.as_ref().is_some_and(|agent| agent.raft().is_leader());
        *self.hosts.iter().find(|(_, host)| leads(host)).expect("there is a leader").0
    }

    /// A client asks a host: at its view first, as the owners of agents do.
    fn call(&mut self, id: PeerId, key: &'static str, put: Option<Bytes>, read: ReadOptions) {
        let (now, life) = (self.now, self.hosts[&id].life);
        let Some(agent) = &self.hosts[&id].agent else { return };
        self.count += 1;
        let call = CallId(self.count * HOSTS + host_number(id));
        let request = match &put {
            Some(value) => kv::Request::Put { key: key.into(), value: value.clone(), flags: 0, mode: kv::PutMode::Set },
            None => kv::Request::Get { key: key.into(), read },
        };
        let request = Call::new(request);
        let at_once = agent.view().answer(now, &request);
        self.ops.insert(call, Op { key, put, begun: now, ended: None, failed: false });
        match at_once {
            Some(reply) => self.end(call, &reply),
            None => self.schedule(id, now, Event::Input(life, Input::Call { id: call, call: request })),
        }
    }

    fn end(&mut self, call: CallId, reply: &Reply) {
        let op = self.ops.get_mut(&call).unwrap();
        assert!(op.ended.is_none(), "{call} is answered twice");
        let found = match reply {
            Ok(Response::KvEntries(read)) => Some(read.value.first().map_or(Index(0), |entry| entry.modify_index)),
            Ok(Response::Done(true)) => None,
            Ok(other) => panic!("{call}: {other:?}"),
            Err(_) => {
                op.failed = true;
                None
            }
        };
        op.ended = Some((self.now, found));
    }

    /// Draws what happens next: mostly a client's call, now and then a fault.
    fn disturb(&mut self) {
        let ids: Vec<PeerId> = self.hosts.keys().copied().collect();
        let mut pick = || ids[usize::try_from(self.rng.below(HOSTS)).unwrap()];
        let (id, other) = (pick(), pick());
        let key = KEYS[usize::try_from(self.rng.below(2)).unwrap()];
        match self.rng.below(200) {
            0..=1 => self.crash(id),
            2..=5 if self.hosts[&id].agent.is_none() => self.start(id),
            6 => drop(self.cut.insert((id, other))),
            7 => ids.iter().filter(|peer| **peer != id).for_each(|peer| {
                self.cut.extend([(id, *peer), (*peer, id)]);
            }),
            8..=10 => self.cut.clear(),
            11..=90 => {
                let value = format!("{}", self.count).into();
                self.call(id, key, Some(value), ReadOptions::default());
            }
            n => {
                let consistency = if n % 4 == 0 { Consistency::Consistent } else { Consistency::Default };
                let index = if n % 5 == 0 { Index(self.rng.below(200)) } else { Index(0) };
                let wait = Some(self.rng.duration(ms(1), ms(20_000)));
                self.call(id, key, None, ReadOptions { consistency, index, wait });
            }
        }
    }

    /// Everything comes back, and in good time every call is answered.
    fn heal(&mut self) {
        (self.calm, self.cut) = (true, BTreeSet::new());
        for id in (1..=HOSTS).map(PeerId::numbered) {
            if self.hosts[&id].agent.is_none() {
                self.start(id);
            }
        }
        self.run_until(self.now + Duration::from_secs(40));
        for (call, op) in &self.ops {
            assert!(op.ended.is_some() || self.orphans.contains(call), "{call} hangs, begun {}", op.begun);
        }
        // A crashed server's reads may block on the leader for as long as they asked.
        for (id, host) in &self.hosts {
            assert_eq!(host.agent.as_ref().unwrap().open_calls(), (0, 0), "{id} has open calls");
        }
        let leading = self.hosts[&self.leader()].agent.as_ref().unwrap().store();
        for (id, host) in &self.hosts {
            let agent = host.agent.as_ref().unwrap();
            assert!(agent.store() == leading, "{id} is not as the leader is: {}", agent.raft_status());
        }
    }

    /// Compares what the clients saw with the log.
    fn check(&self) {
        let mut order: BTreeMap<Bytes, Index> = BTreeMap::new();
        for entry in &self.history {
            if let Payload::Command(bytes) = &entry.payload
                && let Command::Kv(store::kv::Command::Put { value, .. }) = wire::decode(bytes).unwrap()
            {
                let twice = order.insert(value.clone(), entry.index);
                assert_eq!(twice, None, "the write of {value:?} took place twice, at {}", entry.index);
            }
        }
        for key in KEYS {
            self.check_key(key, &order);
        }
    }

    fn check_key(&self, key: &str, order: &BTreeMap<Bytes, Index>) {
        let ops: Vec<&Op> = self.ops.values().filter(|op| op.key == key).collect();
        let begun: BTreeMap<Index, Instant> =
            ops.iter().filter_map(|op| Some((*order.get(op.put.as_ref()?)?, op.begun))).collect();
        // What is known to have happened: by when, what index, and whether it was a write.
        let mut done: Vec<(Instant, Index)> = Vec::new();
        for op in &ops {
            match (&op.put, op.ended) {
                (Some(value), Some((at, _))) if !op.failed => {
                    done.push((at, *order.get(value).unwrap_or_else(|| panic!("the write of {value:?} is lost"))));
                }
                (None, Some((at, Some(index)))) => {
                    let source = begun.get(&index);
                    assert!(index == Index(0) || source.is_some_and(|begun| *begun <= at), "{key} read {index} early");
                    done.push((at, index));
                }
                _ => {}
            }
        }
        done.sort_unstable();
        let mut newest = Index(0);
        let newest: Vec<(Instant, Index)> = done
            .into_iter()
            .map(|(at, index)| {
                newest = newest.max(index);
                (at, newest)
            })
            .collect();
        for op in &ops {
            let before = newest.partition_point(|(at, _)| *at < op.begun);
            let seen = before.checked_sub(1).map_or(Index(0), |last| newest[last].1);
            match (&op.put, op.ended) {
                (None, Some((at, Some(index)))) => {
                    assert!(index >= seen, "{key} read {index} between {} and {at}, after {seen} was seen", op.begun);
                }
                (Some(value), _) => {
                    let index = order.get(value);
                    assert!(index.is_none_or(|index| *index > seen), "{value:?} went before {seen}");
                }
                _ => {}
            }
        }
    }
}

fn host_number(id: PeerId) -> u64 {
    u64::try_from(id.0.as_u128()).unwrap() % HOSTS
}

/// A new leader needs room for its first entry before it can answer anything.
#[test]
fn reads_go_on_under_a_new_leader_though_all_disks_are_full() {
    let mut world = World::new(1);
    world.calm = true;
    world.run_until(Instant::from_millis(5000));
    world.full = true;
    // Larger writes are refused while there is still room for smaller ones.
    for size in [200 << 10, 10 << 10, 500, 1] {
        let mut refused = false;
        while !refused {
            assert!(world.ops.len() < 500, "the disks are never full");
            let leader = world.leader();
            world.call(leader, "a", Some(vec![0; size].into()), ReadOptions::default());
            world.run_until(world.now + ms(100));
            refused = world.ops.last_key_value().unwrap().1.failed;
        }
    }
    let leader = world.leader();
    world.crash(leader);
    world.run_until(world.now + Duration::from_secs(5));
    let leader = world.leader();
    for consistency in [Consistency::Default, Consistency::Consistent] {
        world.call(leader, "a", None, ReadOptions { consistency, ..ReadOptions::default() });
        world.run_until(world.now + ms(500));
        let (_, read) = world.ops.last_key_value().unwrap();
        assert!(read.ended.is_some() && !read.failed, "{consistency:?}: {:?}", read.ended);
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..400 {
        let pause = world.rng.duration(ms(1), ms(120));
        world.run_until(world.now + pause);
        world.disturb();
    }
    world.heal();
    world.check();
}

#[test]
fn clients_see_one_history_whatever_happens() {
    for seed in 0..200 {
        // The seed of a failure is the last one that was printed.
        println!("seed {seed}");
        run(seed);
    }
}
