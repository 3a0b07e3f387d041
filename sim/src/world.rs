//! The world: all hosts, all clients, the network between them, and one heap of everything that is to happen.
//! It is plain data and moves only when it is told to, by [`World::step`].

mod agents;
mod calm;
mod children;
mod clients;
mod damage;
mod disks;
mod executors;
mod gossip;
mod lockers;
mod operator;
mod registrar;
mod tokens;
mod troubles;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use bytes::Bytes;
use lictor_core::id::RunId;
use lictor_core::io::FileName;
use lictor_core::rng::Rng;
use lictor_core::time::{Duration, Instant};

use crate::check::Verdict;
use crate::check::model::Model;
use crate::check::raft::Watcher;
use crate::check::stale::Reads;
use crate::dice::{Concern, stream};
use crate::history::{Op, OpId};
use crate::host::Host;
use crate::net::{Narrow, Net, Weather};
use crate::plan::Plan;
use crate::stats::Stats;
use crate::trace::Trace;
use crate::workload::Client;
use executors::Executors;
use lockers::Lockers;
use operator::Operator;
use registrar::Registrar;
use tokens::Holders;

/// Something that is to happen.
#[derive(Debug)]
pub(super) enum Event {
    /// An agent works on its inbox.
    Run { host: usize, life: u64 },
    /// The time has come that an agent named.
    Wake { host: usize, life: u64 },
    /// A frame arrives.
    Deliver { from: usize, to: usize, frame: Bytes },
    /// A packet of gossip arrives.
    Gossip { from: usize, to: usize, packet: Packet },
    /// An agent hears that nobody took what it sent over a stream.
    Unreachable { host: usize, life: u64, to: SocketAddr },
    /// A disk has synced a group of writes.
    Synced { host: usize, life: u64 },
    /// A disk has, or has not, set room aside.
    Reserved { host: usize, life: u64, file: FileName, size: u64, granted: bool },
    /// A disk has done a job, or found no room for it.
    JobDone { host: usize, life: u64 },
    /// The operator looks after the members.
    Operate,
    /// The operator's patience with an order ends.
    OrderLate(u64),
    /// Users register, or fire an event.
    Register,
    /// Something happens to one that takes locks.
    Locker { locker: usize, step: lockers::Step },
    /// The patience of one that takes locks ends.
    LockLate(u64),
    /// One who uses tokens asks for something.
    Holder(usize),
    /// The patience of one who uses tokens ends.
    HolderLate(u64),
    /// A command does its next step.
    Child { host: usize, id: RunId },
    /// Something happens to a job on many agents.
    Exec(executors::Step),
    /// A trouble of the plan begins.
    Trouble(usize),
    /// A trouble is over.
    Over(Over),
    /// A client asks for something.
    Ask { client: usize },
    /// A client's patience ends.
    Impatient(OpId),
    /// All troubles are over.
    Heal,
    /// Clients stop, and each server must take a write.
    Probe { host: usize },
    /// Is all well?
    Look,
}

/// A packet of gossip on its way.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    /// Whether it came over a stream.
    pub(super) is_stream: bool,
    pub(super) bytes: Bytes,
}

/// What is over.
#[derive(Debug)]
pub(super) enum Over {
    Down {
        host: usize,
    },
    Pause {
        host: usize,
    },
    Partition(Vec<(usize, usize)>),
    Weather(Weather),
    SlowLink {
        host: usize,
    },
    SlowDisk {
        host: usize,
    },
    FullDisk {
        host: usize,
    },
    NarrowLink(Narrow),
    Echo(Duration),
    SlowJobs {
        host: usize,
    },
    /// The operator has come to a host whose disk is damaged or empty.
    Replace {
        host: usize,
        moves: bool,
    },
    Dismissal {
        host: usize,
    },
}

/// When something happens: the time and, of two things at the same time, which was scheduled first. Behind it,
/// where the event lies: events are large, and a heap moves what it holds.
type Scheduled = Reverse<(Instant, u64, usize)>;

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Things go wrong.
    Trouble,
    /// Nothing goes wrong any more, since then.
    Calm { since: Instant },
    /// Each server must take a write.
    Probing { since: Instant, left: usize },
    /// All must become equal.
    Settling { since: Instant },
    /// All is done.
    Over,
}

/// The world.
#[derive(Debug)]
pub(crate) struct World {
    plan: Plan,
    now: Instant,
    scheduled: u64,
    heap: BinaryHeap<Scheduled>,
    events: Vec<Option<Event>>,
    /// Places in `events` that are free.
    free: Vec<usize>,
    hosts: Vec<Host>,
    /// Which host each server was or is on.
    host_of: Vec<usize>,
    operator: Option<Operator>,
    registrar: Option<Registrar>,
    lockers: Lockers,
    executors: Option<Executors>,
    holders: Holders,
    net: Net,
    clients: Vec<Client>,
    fault_dice: Rng,
    phase: Phase,
    pub(crate) history: Vec<Op>,
    /// The blocked queries that each host's agent knows of and nobody has answered.
    blocked: Vec<Vec<OpId>>,
    watcher: Watcher,
    model: Model,
    /// When each entry was first seen to be committed.
    committed_at: Vec<Instant>,
    reads: Reads,
    pub(crate) trace: Trace,
    pub(crate) stats: Stats,
    /// What happened, line by line, if anybody wants to read it.
    pub(crate) story: Option<Vec<String>>,
}

/// Adds a line to the story, if there is one. The line is made only then.
macro_rules! tell {
    ($world:expr, $($line:tt)+) => {
        if $world.story.is_some() {
            let line = format!($($line)+);
            $world.tell_line(&line);
        }
    };
}
use tell;

impl World {
    /// The world as the plan has it, before anything happens.
    pub(crate) fn new(plan: &Plan, with_story: bool) -> Self {
        let seed = plan.seed;
        let servers = plan.hosts.len();
        let client = |(n, client)| Client::new(client, plan.keys, stream(seed, Concern::Client(n)));
        Self {
            now: Instant::ZERO,
            scheduled: 0,
            heap: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            hosts: (0..servers).map(|n| Host::new(plan, n)).collect(),
            host_of: (0..servers).collect(),
            operator: plan.operator.as_ref().map(|operator| Operator::new(operator, servers, seed)),
            registrar: plan.registrar.as_ref().map(|registrar| Registrar::new(registrar, servers, seed)),
            lockers: Lockers::new(plan),
            executors: plan.exec.as_ref().map(|exec| Executors::new(exec, seed)),
            holders: Holders::new(plan),
            net: Net::new(&plan.network, servers, stream(seed, Concern::Network)),
            clients: plan.clients.iter().enumerate().map(client).collect(),
            fault_dice: stream(seed, Concern::Faults),
            phase: Phase::Trouble,
            history: Vec::new(),
            blocked: vec![Vec::new(); servers],
            watcher: Watcher::new(servers),
            model: Model::default(),
            committed_at: Vec::new(),
            reads: Reads::new(plan.servers()),
            trace: Trace::default(),
            stats: Stats::default(),
            story: with_story.then(Vec::new),
            plan: plan.clone(),
        }
    }

    /// Starts all servers and clients.
    pub(crate) fn begin(&mut self) -> Verdict {
        for host in 0..self.hosts.len() {
            self.start_host(host)?;
        }
        for client in 0..self.clients.len() {
            let think = self.clients[client].think();
            self.after(think, Event::Ask { client });
        }
        for trouble in 0..self.plan.troubles.len() {
            self.at(Instant::from_millis(self.plan.troubles[trouble].at_ms), Event::Trouble(trouble));
        }
        if self.operator.is_some() {
            self.after(Duration::from_millis(1), Event::Operate);
        }
        if self.registrar.is_some() {
            self.after(Duration::from_millis(1), Event::Register);
        }
        self.start_lockers();
        self.start_holders();
        if self.executors.is_some() {
            // Nobody has anything run before there is a cluster.
            self.after(Duration::from_secs(2), Event::Exec(executors::Step::Begin));
        }
        self.at(Instant::from_millis(self.plan.trouble_ms), Event::Heal);
        Ok(())
    }

    /// What the clock shows.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// When something happens next; `None` if the run is over.
    pub(crate) fn next(&self) -> Option<Instant> {
        if self.phase == Phase::Over {
            return None;
        }
        self.heap.peek().map(|Reverse((at, _, _))| *at)
    }

    /// The next thing happens.
    pub(crate) fn step(&mut self) -> Verdict {
        let Some(Reverse((at, _, place))) = self.heap.pop() else { return Ok(()) };
        self.free.push(place);
        let event = self.events[place].take().expect("what is scheduled has an event");
        debug_assert!(at >= self.now, "time goes forward");
        self.now = at;
        match event {
            Event::Run { host, life } => self.on_run(host, life),
            Event::Wake { host, life } => self.on_wake(host, life),
            Event::Deliver { from, to, frame } => {
                self.on_frame(from, to, &frame);
                Ok(())
            }
            Event::Gossip { from, to, packet } => {
                self.on_packet(from, to, packet);
                Ok(())
            }
            Event::Unreachable { host, life, to } => {
                self.on_unreachable(host, life, to);
                Ok(())
            }
            Event::Synced { host, life } => self.on_synced(host, life),
            Event::Reserved { host, life, file, size, granted } => {
                self.on_reserved(host, life, file, size, granted);
                Ok(())
            }
            Event::JobDone { host, life } => {
                self.on_job_done(host, life);
                Ok(())
            }
            Event::Operate => self.on_operate(),
            Event::OrderLate(id) => {
                self.on_order_late(id);
                Ok(())
            }
            Event::Register => self.on_register(),
            Event::Locker { locker, step } => self.on_locker(locker, step),
            Event::LockLate(id) => {
                self.on_lock_late(id);
                Ok(())
            }
            Event::Holder(n) => self.on_holder(n),
            Event::HolderLate(id) => {
                self.on_holder_late(id);
                Ok(())
            }
            Event::Child { host, id } => self.on_child(host, id),
            Event::Exec(step) => self.on_exec(step),
            Event::Trouble(number) => self.on_trouble(number),
            Event::Over(over) => self.on_over(over),
            Event::Ask { client } => self.on_ask(client),
            Event::Impatient(op) => {
                self.on_impatient(op);
                Ok(())
            }
            Event::Heal => self.on_heal(),
            Event::Probe { host } => self.on_probe(host),
            Event::Look => self.on_look(),
        }
    }

    /// The hosts that are servers, with their numbers.
    fn servers(&self) -> impl Iterator<Item = (usize, &Host)> {
        self.hosts.iter().enumerate().filter(|(_, host)| !host.plan.client)
    }

    /// Adds what only the checkers counted, once the run is over.
    pub(crate) fn finish_stats(&mut self) {
        let stats = &mut self.stats;
        stats.elections = self.watcher.elections;
        stats.inherited_logs = self.watcher.inherited;
        stats.entries_cut_off = self.watcher.cut_off;
        stats.committed = self.watcher.commit().0;
        stats.members += &self.watcher.changes;
        stats.snapshots.compacted = self.watcher.compactions;
        stats.snapshots.replaced = self.watcher.installs;
        stats.events = self.trace.events();
        stats.simulated = self.now.since(Instant::ZERO);
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.scheduled += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.heap.push(Reverse((at, self.scheduled, place)));
    }

    fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    /// Notes an event in the fingerprint.
    fn note(&mut self, kind: u64, subject: u64) {
        self.trace.event(self.now.as_nanos(), kind, subject);
    }

    fn tell_line(&mut self, line: &str) {
        let now = self.now;
        if let Some(story) = &mut self.story {
            story.push(format!("{now} {line}"));
        }
    }
}
