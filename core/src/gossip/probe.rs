//! Failure detection: one member is probed at a time, in an order drawn anew for each round (SWIM, sections 3.1, 4.3).
//!
//! - A **ping**. If it is not answered within the probe timeout,
//! - a few others are asked to **ping for us**, and we try a stream: one bad path between two machines is not a death.
//!   Who cannot reach it either says so with a **nack**: if even those are missing, it is us who are slow (Lifeguard).
//! - If nobody got an answer by the end of the interval, the member is suspected.
//!
//! As the order is a shuffled list, every member is probed once in each round, and the time until a failure
//! is noticed has a bound, not just a mean.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::member::{Claim, Member, Name, State};
use super::message::Message;
use super::{Due, Gossip};
use crate::coordinate::Coordinate;
use crate::id::Incarnation;
use crate::time::{Duration, Instant};

/// The most pings under way that others asked for. Beyond it, they are not made.
const MAX_RELAYS: usize = 1024;
/// The most draws in search of a few members in a large pool.
const DRAWS: usize = 64;
/// The share of the probe timeout after which one who was asked to ping gives up, in percent: his nack must be
/// back before the prober's own time is over (Lifeguard, section IV-A).
const NACK_AFTER_PERCENT: u32 = 80;

/// The probe under way.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    seq: u64,
    target: Name,
    /// The incarnation that failed to answer, if it does.
    incarnation: Incarnation,
    sent: Instant,
    /// When the next probe begins.
    ends: Instant,
    /// What has become of it.
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// It was pinged.
    Direct,
    /// Others were asked: how many, and who of them said that they got no answer.
    Indirect { asked: usize, nacks: BTreeSet<SocketAddr> },
    /// It has answered.
    Answered,
}

/// A ping that somebody asked for.
#[derive(Clone, Debug)]
pub(super) struct Relay {
    origin: SocketAddr,
    origin_seq: u64,
}

impl Gossip {
    /// A step of the probe is due: the next one, or what follows when there is no answer.
    pub(super) fn advance_probe(&mut self) {
        match self.probe.take() {
            Some(probe) if matches!(probe.stage, Stage::Direct) => return self.probe_indirectly(probe),
            Some(probe) => self.conclude_probe(&probe),
            None => {}
        }
        let Some(target) = self.next_target() else {
            return self.timers.set(Due::Probe, self.now + self.options.probe_interval);
        };
        let seq = self.next_seq();
        let Member { address, incarnation, state, .. } = self.members[&target];
        let messages = self.with_suspicion(self.ping(seq, target.clone()), &target);
        if state == State::Alive {
            self.send(address, &messages);
        } else {
            self.send_uncounted(address, &messages);
        }
        let ends = self.now + self.health.scale(self.options.probe_interval);
        self.probe = Some(Probe { seq, target, incarnation, sent: self.now, ends, stage: Stage::Direct });
        self.timers.set(Due::Probe, self.now + self.health.scale(self.options.probe_timeout));
    }

    fn ping(&self, seq: u64, target: Name) -> Message {
        Message::Ping { seq, target, from: self.name.clone(), reply_to: self.address() }
    }

    /// The buddy system (Lifeguard, section IV-C): who is suspected hears it first, with the ping itself.
    fn with_suspicion(&self, ping: Message, target: &Name) -> Vec<Message> {
        let mut messages = vec![ping];
        if self.options.buddy
            && let Some(suspicion) = self.suspicions.get(target)
        {
            let (name, incarnation) = (target.clone(), suspicion.incarnation);
            messages.push(Message::Suspect { name, incarnation, from: self.name.clone() });
        }
        messages
    }

    fn next_target(&mut self) -> Option<Name> {
        for _ in 0..self.roster.len() {
            if self.cursor >= self.roster.len() {
                self.cursor = 0;
                self.shuffle_roster();
            }
            let name = &self.roster[self.cursor];
            self.cursor += 1;
            if self.members[name].state.is_live() {
                return Some(name.clone());
            }
        }
        None
    }

    fn shuffle_roster(&mut self) {
        for last in (1..self.roster.len()).rev() {
            let at = self.rng.below(last as u64 + 1) as usize;
            self.roster.swap(last, at);
        }
    }

    fn probe_indirectly(&mut self, mut probe: Probe) {
        let Some(target) = self.members.get(&probe.target) else {
            return self.timers.set(Due::Probe, probe.ends.max(self.now));
        };
        let address = target.address;
        let helpers = self
            .pick(self.options.indirect_checks, |member| member.state == State::Alive && member.name != probe.target);
        for helper in &helpers {
            let to = self.members[helper].address;
            self.send(to, &[Message::IndirectPing { seq: probe.seq, target: probe.target.clone(), address }]);
        }
        if self.options.stream_probe {
            let ping = self.ping(probe.seq, probe.target.clone());
            self.send_stream(address, &self.with_suspicion(ping, &probe.target));
        }
        // If we come late to this, because the machine was busy, the others get their time all the same.
        probe.ends = probe.ends.max(self.now + self.health.scale(self.options.probe_timeout));
        self.timers.set(Due::Probe, probe.ends);
        probe.stage = Stage::Indirect { asked: helpers.len(), nacks: BTreeSet::new() };
        self.probe = Some(probe);
    }

    fn conclude_probe(&mut self, probe: &Probe) {
        let Stage::Indirect { asked, nacks } = &probe.stage else { return };
        self.counters.probes_failed += 1;
        // Missing nacks tell of our own health; where nobody was asked, the failure itself is all there is.
        let missing = if *asked == 0 { 1 } else { asked.saturating_sub(nacks.len()) };
        self.health.worsen(u32::try_from(missing).unwrap_or(u32::MAX));
        let claim = Claim { incarnation: probe.incarnation, state: State::Suspect, profile: None };
        let us = self.name.clone();
        self.hear(&probe.target, &claim, &us);
    }

    /// Somebody asks whether we are there.
    pub(super) fn handle_ping(&mut self, seq: u64, target: &Name, from: &Name, answer_to: SocketAddr, by_stream: bool) {
        if *target != self.name {
            self.counters.unexpected += 1;
            return;
        }
        self.may_be_an_echo(seq, from);
        let ack = Message::Ack { seq, coordinate: Some(Box::new(self.place.coordinate().clone())) };
        if by_stream {
            return self.send_stream(answer_to, &[ack]);
        }
        let doubted = self.members.get(from).filter(|member| self.options.buddy && member.state != State::Alive);
        match doubted.and_then(|member| self.claim_message(member, &self.name)) {
            // The buddy system, the other way round: who asks and is not thought to be alive should know.
            Some(claim) => self.send(answer_to, &[ack, claim]),
            None => self.send(answer_to, &[ack]),
        }
    }

    /// Somebody wants us to ping another.
    pub(super) fn handle_indirect_ping(&mut self, from: SocketAddr, seq: u64, target: Name, address: SocketAddr) {
        if self.relays.len() >= MAX_RELAYS {
            self.counters.overflowed += 1;
            return;
        }
        let own_seq = self.next_seq();
        self.relays.insert(own_seq, Relay { origin: from, origin_seq: seq });
        self.timers.set(Due::Relay(own_seq), self.now + self.options.probe_timeout * NACK_AFTER_PERCENT / 100);
        let ping = self.ping(own_seq, target);
        self.send(address, &[ping]);
    }

    /// A ping that somebody asked for was not answered.
    pub(super) fn relay_failed(&mut self, own_seq: u64) {
        if let Some(relay) = self.relays.remove(&own_seq) {
            self.send(relay.origin, &[Message::Nack { seq: relay.origin_seq }]);
        }
    }

    /// A ping is answered: ours, or one for another.
    pub(super) fn handle_ack(
        &mut self,
        from: SocketAddr,
        seq: u64,
        coordinate: Option<Box<Coordinate>>,
        by_stream: bool,
    ) {
        if let Some(relay) = self.relays.remove(&seq) {
            self.timers.clear(&Due::Relay(seq));
            return self.send(relay.origin, &[Message::Ack { seq: relay.origin_seq, coordinate }]);
        }
        if self.rival_answers(seq) {
            return;
        }
        let Some(probe) = self.probe.as_mut().filter(|probe| probe.seq == seq) else {
            self.counters.unexpected += 1;
            return;
        };
        if matches!(probe.stage, Stage::Answered) {
            return;
        }
        probe.stage = Stage::Answered;
        let (target, round_trip, ends) = (probe.target.clone(), self.now.since(probe.sent), probe.ends);
        self.timers.set(Due::Probe, ends.max(self.now));
        self.health.improve();
        // What came by others, or over a stream, says nothing of the way between us.
        let is_direct = !by_stream && self.members.get(&target).is_some_and(|member| member.address == from);
        if let Some(coordinate) = coordinate
            && is_direct
        {
            self.place.learn(&target, &coordinate, round_trip, &mut self.rng);
            self.coordinates.insert(target, *coordinate);
        }
    }

    /// One who was asked to ping for us got no answer.
    pub(super) fn handle_nack(&mut self, from: SocketAddr, seq: u64) {
        match &mut self.probe {
            Some(Probe { seq: ours, stage: Stage::Indirect { nacks, asked }, .. }) if *ours == seq => {
                if nacks.len() < *asked {
                    nacks.insert(from);
                }
            }
            // It may well come after the answer.
            Some(probe) if probe.seq == seq => {}
            _ => self.counters.unexpected += 1,
        }
    }

    /// Up to `count` different other members, drawn at random among those that will do.
    pub(super) fn pick(&mut self, count: usize, will_do: impl Fn(&Member) -> bool) -> Vec<Name> {
        let mut picked: Vec<Name> = Vec::with_capacity(count);
        if self.roster.len() <= 4 * count {
            // In a small pool, draws would often meet the same ones: look at all, in random order.
            let mut all: Vec<usize> = (0..self.roster.len()).collect();
            while picked.len() < count && !all.is_empty() {
                let name = &self.roster[all.swap_remove(self.rng.below(all.len() as u64) as usize)];
                if will_do(&self.members[name]) {
                    picked.push(name.clone());
                }
            }
            return picked;
        }
        // A few draws too many cost less than to look at every member of a large pool.
        for _ in 0..DRAWS {
            if picked.len() == count {
                break;
            }
            let name = &self.roster[self.rng.below(self.roster.len() as u64) as usize];
            if !picked.contains(name) && will_do(&self.members[name]) {
                picked.push(name.clone());
            }
        }
        picked
    }

    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// A number for an exchange, from the same count.
    pub(super) fn exchange_seq(&mut self) -> u64 {
        self.next_seq()
    }

    /// A number for a vote, from the same count.
    pub(super) fn vote_seq(&mut self) -> u64 {
        self.next_seq()
    }

    /// The longest that a direct answer may take, as our health is.
    #[must_use]
    pub fn probe_timeout(&self) -> Duration {
        self.health.scale(self.options.probe_timeout)
    }
}
