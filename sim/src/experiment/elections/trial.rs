//! One election: a leader of five has crashed, and four servers find another.
//!
//! The four are `lictor_core::raft::Raft`, the machine that agents run. What the old leader did last (a heartbeat to
//! all, and then its crash) is given; nothing else of it is needed. The network is the simulator's own, the disks
//! write one thing after the other, and all of it is a function of a seed.

use std::collections::BTreeMap;

use lictor_core::id::{Index, PeerId, Round, Term, WriteSeq};
use lictor_core::raft::{Configuration, Entry, HardState, Kind, Message, News, Options, Payload, Raft, Start};
use lictor_core::rng::Rng;
use lictor_core::time::{Duration, Instant};

use super::{Election, Surroundings};
use crate::dice::{Concern, Dice as _, stream};
use crate::host::{address, peer, server_of};
use crate::net::Net;
use crate::plan::NetworkPlan;

/// The cluster, the crashed leader included.
const SERVERS: usize = 5;
/// The server that crashes; the others are 1 to 4.
const OLD_LEADER: usize = 0;
const OLD_TERM: Term = Term(2);
/// The shortest log, and by how much each other one is longer than the next shorter.
const SHORTEST_LOG: u64 = 4;
const LONGER_BY: u64 = 3;
/// When the old leader's last heartbeat leaves it.
const LAST_HEARTBEAT: Instant = Instant::from_millis(1);

/// What an election came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// From the crash until there was a leader again; `None` if there was none within the patience.
    pub downtime: Option<Duration>,
    /// How many terms were begun.
    pub terms: u64,
    /// How often the winner's timeout ran out: more than once if an attempt came to nothing, be it for want of votes or
    /// already of pre-votes.
    pub attempts: u64,
    /// How long the winner's last step took, from the beginning of its term to its majority.
    pub ballot: Option<Duration>,
}

/// What is to happen.
#[derive(Debug)]
enum Event {
    /// A message arrives.
    Deliver { from: usize, to: usize, message: Message },
    /// A disk has this write.
    Synced { server: usize, seq: WriteSeq },
    /// The time has come that a server named.
    Wake { server: usize },
}

/// A surviving server.
struct Server {
    raft: Raft,
    /// For how late its thread runs.
    dice: Rng,
    disk_dice: Rng,
    /// When its disk is done with everything that it was given.
    disk_free: Instant,
    last_seq: WriteSeq,
    /// The earliest wake-up that is under way.
    armed: Instant,
    attempts: u64,
    /// When it last began a term.
    term_began: Instant,
}

struct Trial<'a> {
    election: &'a Election,
    surroundings: &'a Surroundings,
    now: Instant,
    /// By time and, of two things at the same time, by which was scheduled first.
    events: BTreeMap<(Instant, u64), Event>,
    scheduled: u64,
    net: Net,
    servers: BTreeMap<usize, Server>,
    first_victory: Option<usize>,
}

/// Holds one election.
pub(super) fn hold(election: &Election, surroundings: &Surroundings, seed: u64) -> Outcome {
    let mut dice = stream(seed, Concern::Plan);
    let crash = LAST_HEARTBEAT + dice.duration(Duration::ZERO, election.heartbeat_interval());
    let mut trial = Trial::new(election, surroundings, seed, &mut dice);
    trial.run(crash + surroundings.patience);
    trial.outcome(crash)
}

impl<'a> Trial<'a> {
    fn new(election: &'a Election, surroundings: &'a Surroundings, seed: u64, dice: &mut Rng) -> Self {
        let plan = NetworkPlan {
            latency_us: surroundings.latency_us,
            jitter_us: surroundings.jitter_us,
            in_order: true,
            loss_ppm: 0,
            duplicate_ppm: 0,
            damage_ppm: 0,
        };
        let mut trial = Self {
            election,
            surroundings,
            now: Instant::ZERO,
            events: BTreeMap::new(),
            scheduled: 0,
            net: Net::new(&plan, SERVERS, stream(seed, Concern::Network)),
            servers: BTreeMap::new(),
            first_victory: None,
        };
        // Who has which log is drawn, so that no place in the cluster is special.
        let longer_by = if surroundings.equal_logs { 0 } else { LONGER_BY };
        let mut lengths: Vec<u64> = (0..SERVERS as u64 - 1).map(|n| SHORTEST_LOG + n * longer_by).collect();
        for server in (0..SERVERS).filter(|server| *server != OLD_LEADER) {
            let length = lengths.swap_remove(dice.below(lengths.len() as u64) as usize);
            let mut dice = stream(seed, Concern::Host(server));
            let rng = Rng::seeded(dice.u64());
            let raft = Raft::new(peer(server), election.options(), rng, follower_of_old_leader(length), trial.now);
            let disk_dice = stream(seed, Concern::Disk(server));
            trial.servers.insert(server, Server::new(raft, dice, disk_dice));
            trial.settle(server);
        }
        trial.now = LAST_HEARTBEAT;
        for server in 1..SERVERS {
            // The leader names no more as committed than what all have: nobody's log is cut short by it.
            let kind = Kind::Heartbeat { commit: Index(SHORTEST_LOG), round: Round(1) };
            trial.send(OLD_LEADER, server, &Message { term: OLD_TERM, kind });
        }
        trial
    }

    /// Until there is a leader, or patience ends.
    fn run(&mut self, until: Instant) {
        while self.first_victory.is_none()
            && let Some(((at, _), event)) = self.events.pop_first()
            && at <= until
        {
            self.now = at;
            match event {
                Event::Deliver { from, to, message } => {
                    self.server(to).raft.step(at, peer(from), message);
                    self.settle(to);
                }
                Event::Synced { server, seq } => {
                    self.server(server).raft.persisted(at, seq);
                    self.settle(server);
                }
                Event::Wake { server } => {
                    let woken = self.server(server);
                    woken.armed = Instant::NEVER;
                    woken.raft.tick(at);
                    self.settle(server);
                }
            }
        }
    }

    fn outcome(&self, crash: Instant) -> Outcome {
        let last_term = self.servers.values().map(|server| server.raft.status().term).max().unwrap_or(OLD_TERM);
        let terms = last_term.0 - OLD_TERM.0;
        match self.first_victory.and_then(|winner| self.servers.get(&winner)) {
            Some(winner) => Outcome {
                downtime: Some(self.now.since(crash)),
                terms: winner.raft.status().term.0 - OLD_TERM.0,
                attempts: winner.attempts,
                ballot: Some(self.now.since(winner.term_began)),
            },
            None => Outcome { downtime: None, terms, attempts: 0, ballot: None },
        }
    }

    fn server(&mut self, server: usize) -> &mut Server {
        self.servers.get_mut(&server).expect("only survivors are scheduled")
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.scheduled += 1;
        self.events.insert((at, self.scheduled), event);
    }

    fn send(&mut self, from: usize, to: usize, message: &Message) {
        // The old leader hears nothing any more.
        if to != OLD_LEADER {
            // How large a message is matters only to narrow links, of which there are none here.
            for at in self.net.send(self.now, from, to, 0).arrivals.into_iter().flatten() {
                self.schedule(at, Event::Deliver { from, to, message: message.clone() });
            }
        }
    }

    /// Does what a server wants done.
    fn settle(&mut self, server: usize) {
        loop {
            self.write_and_note(server);
            let messages: Vec<(PeerId, Message)> = self.server(server).raft.drain_messages().collect();
            let mut consents = Vec::new();
            for (to, message) in messages {
                let is_question = matches!(message.kind, Kind::PreVote { .. });
                if is_question && server_of(to) == OLD_LEADER {
                    self.server(server).attempts += 1;
                }
                if is_question && !self.election.pre_vote {
                    consents.push((to, message.term));
                } else {
                    self.send(server, server_of(to), &message);
                }
            }
            if consents.is_empty() {
                break;
            }
            // Raft without pre-votes: whoever's timeout runs out has everyone's consent, at once and for nothing.
            let now = self.now;
            for (from, term) in consents {
                let consent = Message { term, kind: Kind::PreVoteReply { granted: true } };
                self.server(server).raft.step(now, from, consent);
            }
        }
        let (now, late_us) = (self.now, self.surroundings.late_us);
        let this = self.server(server);
        let wanted = this.raft.poll_timeout().unwrap_or(Instant::NEVER);
        if wanted < this.armed {
            this.armed = wanted;
            let at = wanted.max(now) + this.dice.micros((0, late_us));
            self.schedule(at, Event::Wake { server });
        }
    }

    /// Closes the server's batch: its write goes to its disk, its news are taken down.
    fn write_and_note(&mut self, server: usize) {
        let (now, disk_us) = (self.now, self.surroundings.disk_us);
        let this = self.server(server);
        let flushed = this.raft.flush(this.last_seq.next());
        let mut synced = None;
        if flushed.write.is_some() {
            this.last_seq = this.last_seq.next();
            this.disk_free = this.disk_free.max(now) + this.disk_dice.micros(disk_us);
            synced = Some((this.disk_free, this.last_seq));
        }
        let mut won = false;
        for news in flushed.news {
            match news {
                News::Campaigning { .. } => this.term_began = now,
                News::BecameLeader { .. } => won = true,
                News::SteppedDown { .. } | News::LeaderChanged { .. } => {}
            }
        }
        if won {
            self.first_victory = self.first_victory.or(Some(server));
        }
        if let Some((at, seq)) = synced {
            self.schedule(at, Event::Synced { server, seq });
        }
    }
}

impl Server {
    fn new(raft: Raft, dice: Rng, disk_dice: Rng) -> Self {
        Self {
            raft,
            dice,
            disk_dice,
            disk_free: Instant::ZERO,
            last_seq: WriteSeq(0),
            armed: Instant::NEVER,
            attempts: 0,
            term_began: Instant::ZERO,
        }
    }
}

/// What the disk of a server holds that voted for the old leader and has the first `length` of its entries.
fn follower_of_old_leader(length: u64) -> Start {
    let members = Configuration::new((0..SERVERS).map(|server| (peer(server), address(server, 0))));
    let founding = Entry { index: Index(1), term: Term(1), payload: Payload::Configuration(members) };
    let entries = (2..=length).map(|index| Entry { index: Index(index), term: OLD_TERM, payload: Payload::Noop });
    Start {
        hard_state: HardState { term: OLD_TERM, vote: Some(peer(OLD_LEADER)), commit: Index(1) },
        snapshot: None,
        entries: std::iter::once(founding).chain(entries).collect(),
        last_seq: WriteSeq(0),
        bootstrap: None,
        forced: None,
    }
}

impl Election {
    /// Half of the shortest timeout, as in the paper.
    pub(super) fn heartbeat_interval(&self) -> Duration {
        self.timeout / 2
    }

    fn options(&self) -> Options {
        Options {
            election_timeout: self.timeout,
            election_spread: self.spread,
            heartbeat_interval: self.heartbeat_interval(),
            ..Options::default()
        }
    }
}
