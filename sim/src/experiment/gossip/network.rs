//! Gossip machines on a network in memory: links with a latency, a clock that jumps from one event to the next, and
//! members that die, or whose messages do not get through for a while.
//!
//! The machines are `lictor_core::gossip::Gossip`, what agents run, with nothing of an agent around them, so that a few thousand fit into
//! one process.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use lictor_core::gossip::message::{Message, PushPull, Record};
use lictor_core::gossip::{Gossip, Identity, Name, News, Options, Profile, State, Tags, Transmit, UserEvent, packet};
use lictor_core::id::{Incarnation, LamportTime};
use lictor_core::rng::Rng;
use lictor_core::time::{Duration, Instant};

use crate::dice::{Concern, Dice as _, stream};

/// What a packet takes from one member to another, in microseconds.
const LATENCY_US: (u64, u64) = (500, 1_500);

/// Something that a member has noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) at: Instant,
    /// Who noticed it.
    pub(super) by: usize,
    pub(super) what: Sight,
}

/// What there is to notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// This member is suspected.
    Suspected(usize),
    /// This member is declared dead.
    Failed(usize),
    /// A user event is here.
    Event,
}

struct Member {
    /// None once it is dead.
    gossip: Option<Box<Gossip>>,
    /// The wake-up that counts; others that are under way do not.
    armed: Instant,
    /// Nothing that it sends leaves it before this, and nothing that arrives is looked at.
    blocked_until: Instant,
}

#[derive(Debug)]
enum Event {
    Deliver { from: usize, to: usize, is_stream: bool, bytes: Bytes },
    Unreachable { to: usize, address: SocketAddr },
    Wake { member: usize },
}

/// An event with its time; of two at the same time, the one that was scheduled first comes first.
struct Scheduled {
    key: Reverse<(Instant, u64)>,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

/// A pool of members that all know each other from the beginning.
pub(super) struct Network {
    pub(super) now: Instant,
    /// What was noticed since it was last taken.
    pub(super) seen: Vec<Seen>,
    /// Packets and bytes that were sent.
    pub(super) sent: (u64, u64),
    members: Vec<Member>,
    events: BinaryHeap<Scheduled>,
    scheduled: u64,
    latencies: Rng,
}

impl Network {
    pub(super) fn new(size: usize, options: &Options, seed: u64) -> Self {
        let latencies = stream(seed, Concern::Network);
        let mut network = Self {
            now: Instant::ZERO,
            seen: Vec::new(),
            sent: (0, 0),
            members: Vec::with_capacity(size),
            events: BinaryHeap::new(),
            scheduled: 0,
            latencies,
        };
        for number in 0..size {
            let rng = Rng::seeded(stream(seed, Concern::Host(number)).u64());
            let me = Identity { name: name(number), address: address(number), tags: Tags::new() };
            let mut gossip = Gossip::new(options.clone(), me, rng, network.now).expect("a short name");
            if size > 1 {
                // As if it had joined: who was alone passes nothing on of what it is told first.
                let told_by = usize::from(number == 0);
                gossip.handle_stream(network.now, address(told_by), &introduction(size, told_by, options));
                while gossip.poll_transmit().is_some() {}
                while gossip.poll_news().is_some() {}
            }
            let member = Member { gossip: Some(Box::new(gossip)), armed: Instant::NEVER, blocked_until: Instant::ZERO };
            network.members.push(member);
            network.settle(number);
        }
        network
    }

    pub(super) fn size(&self) -> usize {
        self.members.len()
    }

    pub(super) fn is_up(&self, member: usize) -> bool {
        self.members[member].gossip.is_some()
    }

    /// Carries out the next event, if there is one up to `until`; else the clock moves there.
    pub(super) fn step(&mut self, until: Instant) -> bool {
        match self.events.peek() {
            Some(Scheduled { key: Reverse((at, _)), .. }) if *at <= until => self.now = *at,
            _ => {
                self.now = self.now.max(until);
                return false;
            }
        }
        match self.events.pop().map(|scheduled| scheduled.event) {
            Some(Event::Deliver { from, to, is_stream, bytes }) => self.deliver(from, to, is_stream, bytes),
            Some(Event::Unreachable { to, address }) => {
                self.with(to, |gossip, now| gossip.handle_unreachable(now, address, "nobody listens there"));
            }
            Some(Event::Wake { member }) if self.members[member].armed == self.now => {
                self.members[member].armed = Instant::NEVER;
                self.with(member, Gossip::tick);
            }
            Some(Event::Wake { .. }) | None => {}
        }
        true
    }

    pub(super) fn run(&mut self, until: Instant) {
        while self.step(until) {}
    }

    /// A member fires a user event.
    pub(super) fn fire(&mut self, member: usize) {
        let event =
            UserEvent { id: self.latencies.uuid(), name: "deploy".to_owned(), payload: Bytes::from_static(&[0; 64]) };
        self.with(member, |gossip, now| gossip.fire(now, event).map(drop).expect("it is small, and nobody leaves"));
    }

    /// A member dies, and says nothing.
    pub(super) fn kill(&mut self, member: usize) {
        self.members[member].gossip = None;
    }

    /// A member's messages, in and out, wait until then. Its clock goes on: it sees itself unanswered.
    pub(super) fn block(&mut self, member: usize, until: Instant) {
        self.members[member].blocked_until = until;
    }

    fn with(&mut self, member: usize, act: impl FnOnce(&mut Gossip, Instant)) {
        let now = self.now;
        if let Some(gossip) = &mut self.members[member].gossip {
            act(gossip, now);
            self.settle(member);
        }
    }

    fn deliver(&mut self, from: usize, to: usize, is_stream: bool, bytes: Bytes) {
        let target = &mut self.members[to];
        if target.gossip.is_none() {
            if is_stream {
                let at = self.now + self.latencies.micros(LATENCY_US);
                self.schedule(at, Event::Unreachable { to: from, address: address(to) });
            }
            return;
        }
        if target.blocked_until > self.now {
            let at = target.blocked_until;
            return self.schedule(at, Event::Deliver { from, to, is_stream, bytes });
        }
        let from = address(from);
        self.with(to, |gossip, now| {
            if is_stream { gossip.handle_stream(now, from, &bytes) } else { gossip.handle_datagram(now, from, &bytes) }
        });
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.scheduled += 1;
        self.events.push(Scheduled { key: Reverse((at, self.scheduled)), event });
    }

    /// Takes what a member wants sent, and what it has noticed.
    fn settle(&mut self, number: usize) {
        let (now, leaves) = (self.now, self.now.max(self.members[number].blocked_until));
        loop {
            let Some(transmit) = self.members[number].gossip.as_mut().and_then(|gossip| gossip.poll_transmit()) else {
                break;
            };
            let (to, bytes, is_stream) = match transmit {
                Transmit::Datagram { to, bytes } => (to, bytes, false),
                Transmit::Stream { to, bytes } => (to, bytes, true),
            };
            self.sent.0 += 1;
            self.sent.1 += bytes.len() as u64;
            let at = leaves + self.latencies.micros(LATENCY_US);
            self.schedule(at, Event::Deliver { from: number, to: number_of(to), is_stream, bytes });
        }
        let member = &mut self.members[number];
        let Some(gossip) = &mut member.gossip else { return };
        while let Some(news) = gossip.poll_news() {
            let what = match news {
                News::Suspected { name, .. } => {
                    gossip.member(name.as_str()).map(|m| Sight::Suspected(number_of(m.address)))
                }
                News::Failed(member) => Some(Sight::Failed(number_of(member.address))),
                News::UserEvent(_) => Some(Sight::Event),
                _ => None,
            };
            self.seen.extend(what.map(|what| Seen { at: now, by: number, what }));
        }
        let wanted = gossip.poll_timeout().unwrap_or(Instant::NEVER).max(now);
        if wanted < member.armed {
            member.armed = wanted;
            self.schedule(wanted, Event::Wake { member: number });
        }
    }
}

fn name(number: usize) -> String {
    format!("m{number:05}")
}

fn address(number: usize) -> SocketAddr {
    let [_, a, b, c] = u32::try_from(number).expect("a small pool").to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, a, b, c)), 8301)
}

fn number_of(address: SocketAddr) -> usize {
    match address.ip() {
        IpAddr::V4(ip) => {
            let [_, a, b, c] = ip.octets();
            u32::from_be_bytes([0, a, b, c]) as usize
        }
        IpAddr::V6(_) => unreachable!("all members have IPv4 addresses"),
    }
}

/// A full state in which all members are alive, told by one of them.
fn introduction(size: usize, told_by: usize, options: &Options) -> Bytes {
    let tags = Arc::new(Tags::new());
    let record = |number: usize| Record {
        name: Name::from(name(number).as_str()),
        incarnation: Incarnation(1),
        state: State::Alive,
        profile: Profile { address: address(number), tags: Arc::clone(&tags) },
        age: Duration::ZERO,
        intent: None,
    };
    let state = PushPull {
        seq: 0,
        is_reply: false,
        from: Name::from(name(told_by).as_str()),
        reply_to: address(told_by),
        clock: LamportTime(0),
        event_clock: LamportTime(0),
        members: (0..size).map(record).collect(),
        events: Vec::new(),
    };
    let mut packer = packet::Packer::new(options.pool_tag(), packet::MAX_STREAM_BYTES);
    assert!(packer.push(&packet::encode(&Message::PushPull(Box::new(state)))), "a full state fits into a stream");
    packer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_know_each_other_and_a_quiet_network_stays_quiet() {
        let mut network = Network::new(20, &Options::default(), 3);
        network.run(Instant::from_millis(60_000));
        assert_eq!(network.seen, []);
        for member in &network.members {
            assert_eq!(member.gossip.as_ref().map(|gossip| gossip.live()), Some(20));
        }
        let (packets, _) = network.sent;
        assert!((2_000..4_000).contains(&packets), "a ping and an answer a second each, and little else: {packets}");
    }

    #[test]
    fn a_blocked_member_keeps_what_comes_and_goes_for_later() {
        let mut network = Network::new(5, &Options::default(), 3);
        network.run(Instant::from_millis(1_000));
        network.block(0, Instant::from_millis(4_000));
        network.fire(0);
        network.run(Instant::from_millis(4_000));
        let heard = |network: &Network| network.seen.iter().filter(|seen| seen.what == Sight::Event).count();
        assert_eq!(heard(&network), 1, "only the member itself");
        network.run(Instant::from_millis(6_000));
        assert_eq!(heard(&network), 5);
    }

    #[test]
    fn addresses_are_numbers() {
        for number in [0, 7, 300, 70_000] {
            assert_eq!(number_of(address(number)), number);
        }
    }
}
