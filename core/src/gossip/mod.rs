//! Gossip: a pool of members that know of each other, notice deaths, and spread news, without any centre.
//!
//! After SWIM (Das, Gupta, Motivala: "SWIM: Scalable Weakly-consistent Infection-style Process Group Membership
//! Protocol", 2002) with Lifeguard (Dadgar, Phillips, Currey: "Lifeguard: Local Health Awareness for More Accurate Failure
//! Detection", 2017), and coordinates after Vivaldi (Dabek, Cox, Kaashoek, Morris, 2004) and Ledlie, Gardner, Seltzer
//! ("Network Coordinates in the Wild", 2007). Sections are cited beside the branches that obey them. In short:
//!
//! - **Probing.** Each member pings one other at a time, in an order that visits all before it begins anew. Who does
//!   not answer is pinged by a few others, too, and over a stream. The load on each member does not depend on the
//!   size of the pool, and neither does the expected time to the first suspicion. (`probe.rs`)
//! - **Suspicion.** Who answers nobody is first only suspected, and has time to object. The time is long while there is
//!   one accuser, and shrinks with every other one. (`suspicion.rs`)
//! - **Incarnations.** A member objects by speaking up in a higher incarnation, which nobody else may raise. So what
//!   is claimed of it has an order, and all who have heard the same believe the same, in whatever order it came.
//!   (`member.rs`, `rumour.rs`)
//! - **Local health.** A member that gets no answers where it should get several thinks that it is slow itself, and gives others
//!   more time. It takes a slow machine to see everybody fail at once. (`awareness.rs`)
//! - **Broadcasts** ride on probes and are sent to a few random members several times a second; each is sent a number of times
//!   that grows with the logarithm of the pool, which is enough to reach everybody almost surely. (`broadcast.rs`)
//! - **Push/pull.** Now and then two members exchange all that they know. That repairs the "almost"; it is also how one joins, and how the
//!   parts of a broken network find each other again. (`sync.rs`)
//! - **Leaving** is no failure: who leaves says so, and an operator may say so for one that failed. Such intents, and
//!   user events, are ordered by Lamport clocks. (`leave.rs`, `user_event.rs`)
//! - **Names** are unique. The first to come keeps its name; who finds its own in other hands asks around. An agent that comes back
//!   elsewhere is no conflict, as its ID tells. (`conflict.rs`)
//! - **Coordinates** are learnt from the round trips of pings, and tell how far apart two members are that never spoke. (`place.rs`)
//!
//! The machine has no clock, sockets or dice of its own. What happens to it goes in by [`Gossip::handle_datagram`],
//! [`Gossip::handle_stream`] and [`Gossip::tick`]; what it wants comes out of [`Gossip::poll_transmit`], [`Gossip::poll_news`] and
//! [`Gossip::poll_timeout`]. Its owner drains the first two after everything that it feeds. A stream carries one
//! packet one way: requests and answers are messages of their own, sent to an address.
//!
//! Everything that others can make grow has a limit: members, queues, relayed pings, remembered intents, conflicts and
//! events. Packets that are malformed, of another version or of another pool are counted and dropped. (`packet.rs`)
//!
//! Encryption wraps whole packets between this machine and the network: [`Options::datagram_bytes`] leaves it room.
//!
//! What is left out: time is not adapted to measured round trips, as the paper on SWIM suggests in passing.

mod awareness;
mod broadcast;
mod conflict;
mod leave;
pub mod member;
pub mod message;
mod news;
mod options;
pub mod packet;
mod place;
mod probe;
mod rumour;
mod suspicion;
mod sync;
mod user_event;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use awareness::Awareness;
pub use broadcast::{Broadcasts, Queue};
use conflict::Vote;
pub use member::{BadIdentity, ID_TAG, Identity, Member, Name, Profile, State, Status, Tags};
use member::{Claim, Intent};
use message::Message;
pub use news::{Counters, News, NoJoin, Transmit};
pub use options::Options;
use packet::Malformed;
pub use place::Place;
use probe::{Probe, Relay};
pub use suspicion::Suspicion;
use sync::Exchange;
pub use user_event::{CannotFire, EventBuffer, LamportClock, PER_TIME, TimedEvent, UserEvent, Verdict, WINDOW};

use crate::coordinate::Coordinate;
use crate::id::{Incarnation, LamportTime};
use crate::rng::Rng;
use crate::time::{Deadlines, Duration, Instant};

/// What is to be done at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// The next step of the probe under way, or the next probe.
    Probe,
    /// A ping for another is given up.
    Relay(u64),
    /// A suspected member is declared dead.
    Suspicion(Name),
    /// Broadcasts are sent.
    Gossip,
    /// A full state is exchanged with somebody.
    PushPull,
    /// An exchange is given up.
    Exchange(u64),
    /// A failed member is tried again.
    Reconnect,
    /// Those who are gone for long are forgotten.
    Reap,
    /// A step of leaving has taken too long.
    Leave,
    /// A vote on our name begins, or ends.
    Vote,
}

/// The most addresses of strangers that are remembered.
const MAX_STRANGERS: usize = 256;

/// How far we are with leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// We are here to stay.
    Here,
    /// We say that we are about to leave.
    Announcing,
    /// We say that we are gone.
    Departing,
    /// We are gone, and silent.
    Gone,
}

/// One member's view of a pool, and its part in it.
///
/// Invariants (see [`Gossip::assert_invariants`]): we are among the members; `roster` holds all the others, each once; `live`
/// counts those who are here; there is a suspicion, with its deadline, for exactly those others who are suspected.
#[derive(Clone, Debug)]
pub struct Gossip {
    options: Options,
    pool: u32,
    rng: Rng,
    now: Instant,
    /// Our own.
    name: Name,
    members: BTreeMap<Name, Member>,
    /// All the others, in the order in which they are probed.
    roster: Vec<Name>,
    /// Whose turn in the roster it is.
    cursor: usize,
    /// How many are here, ourselves included.
    live: usize,
    suspicions: BTreeMap<Name, Suspicion>,
    health: Awareness,
    probe: Option<Probe>,
    relays: BTreeMap<u64, Relay>,
    /// The last number of a probe, relayed ping or exchange.
    seq: u64,
    exchanges: BTreeMap<u64, Exchange>,
    broadcasts: Broadcasts,
    next_gossip: Instant,
    /// What is heard is not passed on just now: we were alone.
    quiet: bool,
    /// Orders intents.
    clock: LamportClock,
    events: EventBuffer,
    /// We are joining, and do not know yet which events are from before that.
    awaits_events: bool,
    /// Our clocks are those of an earlier life, so that events missed since then are still for us.
    restored: bool,
    /// Intents that were faster than the news of their members.
    early_intents: BTreeMap<Name, (Intent, Instant)>,
    /// Conflicts of names that were told lately.
    conflicts: BTreeMap<Name, (SocketAddr, Instant)>,
    /// Whether our name is ours: a vote that is under way, or about to begin.
    vote: Option<Vote>,
    /// What is being heard answers our request to join, and we were alone.
    arriving: bool,
    /// When we first met another member, in this life.
    met: Option<Instant>,
    /// From where packets of other pools came.
    strangers: BTreeSet<IpAddr>,
    place: Place,
    /// Where others say they are.
    coordinates: BTreeMap<Name, Coordinate>,
    phase: Phase,
    timers: Deadlines<Due>,
    outbox: VecDeque<Transmit>,
    news: VecDeque<News>,
    counters: Counters,
}

impl Gossip {
    /// A member that is alone until it joins others, or is joined.
    ///
    /// # Errors
    /// If its name or its tags cannot travel.
    pub fn new(options: Options, me: Identity, mut rng: Rng, now: Instant) -> Result<Self, BadIdentity> {
        me.check()?;
        let name = Name::from(me.name.as_str());
        let profile = Profile { address: me.address, tags: Arc::new(me.tags) };
        let us = Member::new(name.clone(), profile, Incarnation(1), State::Alive, now);
        // Members that start at once should not all speak at once.
        let mut timers = Deadlines::default();
        let mut stagger = |interval: Duration| now + rng.duration(Duration::ZERO, interval);
        timers.set(Due::Probe, stagger(options.probe_interval));
        timers.set(Due::PushPull, stagger(options.push_pull_interval));
        timers.set(Due::Reconnect, stagger(options.reconnect_interval));
        timers.set(Due::Reap, now + options.reap_interval);
        Ok(Self {
            pool: options.pool_tag(),
            // An answer to an earlier life of ours should not be taken for one to this.
            seq: rng.below(1 << 32),
            rng,
            now,
            members: BTreeMap::from([(name.clone(), us)]),
            name,
            roster: Vec::new(),
            cursor: 0,
            live: 1,
            suspicions: BTreeMap::new(),
            health: Awareness::new(options.awareness_max),
            probe: None,
            relays: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            broadcasts: Broadcasts::default(),
            next_gossip: now,
            quiet: false,
            clock: LamportClock::default(),
            events: EventBuffer::default(),
            awaits_events: false,
            restored: false,
            early_intents: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            vote: None,
            arriving: false,
            met: None,
            strangers: BTreeSet::new(),
            place: Place::default(),
            coordinates: BTreeMap::new(),
            phase: Phase::Here,
            timers,
            outbox: VecDeque::new(),
            news: VecDeque::new(),
            counters: Counters::default(),
            options,
        })
    }

    /// Goes on with the clocks of an earlier life ([`clock`](Self::clock), [`event_clock`](Self::event_clock)), before
    /// anything is joined: no event that was fired by then comes again, and those fired since do come.
    pub fn restore(&mut self, clock: LamportTime, event_clock: LamportTime) {
        self.clock.witness(clock);
        self.events.ignore_until(event_clock);
        self.restored = true;
    }

    /// Fires no event at `time` or before.
    pub fn skip_event_times(&mut self, time: LamportTime) {
        self.events.witness(time);
    }

    /// A datagram came.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        self.now = now;
        let Some(messages) = self.open(from, bytes) else { return };
        for message in messages {
            self.handle_message(from, message);
        }
    }

    /// The content of a stream came.
    pub fn handle_stream(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        self.now = now;
        let Some(messages) = self.open(from, bytes) else { return };
        // One request, one answer: more would let a small packet ask for many full states. A ping may bring along that
        // we are suspected.
        for message in messages.into_iter().take(2) {
            match message {
                Message::PushPull(state) => return self.handle_push_pull(&state),
                Message::Suspect { name, incarnation, from } => {
                    self.hear(&name, &Claim { incarnation, state: State::Suspect, profile: None }, &from);
                }
                Message::Ping { seq, target, from, reply_to } => self.handle_ping(seq, &target, &from, reply_to, true),
                Message::Ack { seq, coordinate } => self.handle_ack(from, seq, coordinate, true),
                _ => self.counters.unexpected += 1,
            }
        }
    }

    fn open(&mut self, from: SocketAddr, bytes: &[u8]) -> Option<Vec<Message>> {
        if self.phase == Phase::Gone {
            return None;
        }
        let opened = packet::open(self.pool, bytes);
        match opened {
            Ok(_) => {}
            Err(Malformed::Version(_)) => self.counters.version += 1,
            Err(Malformed::Stranger) => {
                self.counters.strangers += 1;
                if self.strangers.len() < MAX_STRANGERS && self.strangers.insert(from.ip()) {
                    self.news.push_back(News::Stranger { from: from.ip() });
                }
            }
            Err(Malformed::Magic | Malformed::Checksum | Malformed::Body) => self.counters.malformed += 1,
        }
        opened.ok()
    }

    fn handle_message(&mut self, from: SocketAddr, message: Message) {
        let claim = |incarnation, state, profile| Claim { incarnation, state, profile };
        match message {
            Message::Ping { seq, target, from: asker, reply_to } => {
                self.handle_ping(seq, &target, &asker, from, false);
                self.meet(&asker, reply_to);
            }
            Message::Ack { seq, coordinate } => self.handle_ack(from, seq, coordinate, false),
            Message::IndirectPing { seq, target, address } => self.handle_indirect_ping(from, seq, target, address),
            Message::Nack { seq } => self.handle_nack(from, seq),
            Message::Alive { name, incarnation, profile } => {
                self.hear(&name, &claim(incarnation, State::Alive, Some(profile)), &name);
            }
            Message::Suspect { name, incarnation, from } => {
                self.hear(&name, &claim(incarnation, State::Suspect, None), &from);
            }
            Message::Dead { name, incarnation, from } => {
                self.hear(&name, &claim(incarnation, State::Dead, None), &from);
            }
            Message::Left { name, incarnation } => self.hear(&name, &claim(incarnation, State::Left, None), &name),
            Message::Intent { name, intent } => self.hear_intent(&name, intent),
            Message::Event(event) => self.hear_event(&event),
            Message::WhoIs { seq, name } => self.tell_whose_name(from, seq, &name),
            Message::Known { seq, address } => self.count_vote(from, seq, address),
            Message::PushPull(_) => self.counters.unexpected += 1,
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        self.now = now;
        while let Some(due) = self.timers.pop_due(now) {
            match due {
                Due::Probe => self.advance_probe(),
                Due::Relay(seq) => self.relay_failed(seq),
                Due::Suspicion(name) => self.suspicion_expired(&name),
                Due::Gossip => self.gossip(),
                Due::PushPull => self.sync(),
                Due::Exchange(seq) => self.exchange_failed(seq, NoJoin::Silent),
                Due::Reconnect => self.reconnect(),
                Due::Reap => self.reap(),
                Due::Leave => self.leave_timed_out(),
                Due::Vote => self.advance_vote(),
            }
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next packet to be sent.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.outbox.pop_front()
    }

    /// What has happened.
    pub fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// Our own name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    fn address(&self) -> SocketAddr {
        self.members[&self.name].address
    }

    /// All members that are known, ourselves and those who are gone included, by name.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// A member, if it is known.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.get(name)
    }

    /// How many members are here, ourselves included.
    #[must_use]
    pub const fn live(&self) -> usize {
        self.live
    }

    /// What we think of our own health: 0 is sound.
    #[must_use]
    pub const fn health(&self) -> u32 {
        self.health.score()
    }

    /// Where in the network we believe to be.
    #[must_use]
    pub const fn coordinate(&self) -> &Coordinate {
        self.place.coordinate()
    }

    /// Where in the network a member last said to be: ourselves, or one that answered us.
    #[must_use]
    pub fn coordinate_of(&self, name: &str) -> Option<&Coordinate> {
        if name == self.name.as_str() { Some(self.coordinate()) } else { self.coordinates.get(name) }
    }

    /// The latest time of an intent. To be kept for [`restore`](Self::restore).
    #[must_use]
    pub const fn clock(&self) -> LamportTime {
        self.clock.latest()
    }

    /// The latest time of a user event. To be kept for [`restore`](Self::restore), before an event's news are acted upon.
    #[must_use]
    pub const fn event_clock(&self) -> LamportTime {
        self.events.latest()
    }

    /// The broadcasts that wait, for statistics.
    #[must_use]
    pub const fn broadcasts(&self) -> &Broadcasts {
        &self.broadcasts
    }

    /// The suspicion of a member, if it is suspected.
    #[must_use]
    pub fn suspicion(&self, name: &str) -> Option<&Suspicion> {
        self.suspicions.get(name)
    }

    /// What was counted since the start.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Checks what must hold between any two inputs. It looks at every member: for tests and simulations.
    ///
    /// # Panics
    /// If it does not hold, which is a bug.
    pub fn assert_invariants(&self) {
        let others: Vec<&Name> = self.members.keys().filter(|name| **name != self.name).collect();
        let mut roster: Vec<&Name> = self.roster.iter().collect();
        roster.sort();
        assert_eq!(roster, others, "the roster is not the other members");
        let live = others.iter().filter(|name| self.members[**name].status().is_live()).count();
        assert_eq!(self.live, live + 1, "the living are miscounted");
        let suspects: Vec<&Name> =
            others.into_iter().filter(|name| self.members[*name].state == State::Suspect).collect();
        assert_eq!(self.suspicions.keys().collect::<Vec<_>>(), suspects, "suspicions are not of the suspected");
        if self.phase != Phase::Gone {
            for name in suspects {
                let deadline = self.timers.get(&Due::Suspicion(name.clone()));
                assert_eq!(deadline, Some(self.suspicions[name].deadline()), "the suspicion of {name} never ends");
            }
        }
        let longest =
            self.broadcasts.members.len().max(self.broadcasts.intents.len()).max(self.broadcasts.events.len());
        assert!(longest <= self.options.queue_depth.max(1), "a queue is too deep");
    }
}
