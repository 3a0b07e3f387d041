//! A small network in memory: machines of gossip, links that lose and delay, and a clock that jumps from one event to
//! the next. Everything follows from the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;

use bytes::Bytes;
use lictor_core::gossip::message::Message;
use lictor_core::gossip::{Gossip, ID_TAG, Identity, Member, News, Options, Status, Transmit, UserEvent, packet};
use lictor_core::id::LamportTime;
use lictor_core::rng::Rng;
use lictor_core::time::{Duration, Instant};
use uuid::Uuid;

/// A machine, and what its owner has seen of it.
pub(crate) struct Machine {
    /// None while it is down.
    pub(crate) gossip: Option<Gossip>,
    pub(crate) address: SocketAddr,
    pub(crate) news: Vec<(Instant, News)>,
    /// The clocks, as a snapshot of the members would keep them.
    kept: (LamportTime, LamportTime),
    /// It neither receives nor acts before this.
    stalled_until: Instant,
    /// It acts, but its packets, in and out, wait until this.
    blocked_until: Instant,
    side: u32,
}

struct Flight {
    from: SocketAddr,
    transmit: Transmit,
}

pub(crate) struct Pool {
    pub(crate) machines: BTreeMap<String, Machine>,
    pub(crate) now: Instant,
    pub(crate) loss_percent: u64,
    pub(crate) latency: (Duration, Duration),
    /// Machines that datagrams do not reach.
    pub(crate) deaf: BTreeSet<String>,
    /// Pairs of machines that nothing gets through between, while both reach the others.
    pub(crate) separate: BTreeSet<(String, String)>,
    pub(crate) traced: bool,
    pub(crate) options: Options,
    pub(crate) bytes_sent: usize,
    flights: BTreeMap<(Instant, u64), Flight>,
    by_address: BTreeMap<SocketAddr, String>,
    sent: u64,
    rng: Rng,
    out: String,
}

impl Pool {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            machines: BTreeMap::new(),
            now: Instant::ZERO,
            loss_percent: 0,
            latency: (Duration::from_micros(200), Duration::from_millis(2)),
            deaf: BTreeSet::new(),
            separate: BTreeSet::new(),
            traced: false,
            options: Options::default(),
            bytes_sent: 0,
            flights: BTreeMap::new(),
            by_address: BTreeMap::new(),
            sent: 0,
            rng: Rng::seeded(seed),
            out: String::new(),
        }
    }

    /// A pool of machines `n1` … that have all joined `n1`, and know each other.
    pub(crate) fn joined(seed: u64, count: usize) -> Self {
        let mut pool = Self::new(seed);
        for n in 1..=count {
            pool.start(&format!("n{n}"), address(n), false);
        }
        for n in 2..=count {
            pool.join(&format!("n{n}"), "n1");
        }
        pool.run(Duration::from_secs(20));
        pool.check_all_know_each_other();
        pool.out.clear();
        pool
    }

    pub(crate) fn start(&mut self, name: &str, address: SocketAddr, restored: bool) {
        self.start_as(name, name, None, address, restored);
    }

    /// Starts a machine, known by `machine` to tests and by `name` to others, perhaps with an ID of its own.
    pub(crate) fn start_as(
        &mut self,
        machine: &str,
        name: &str,
        id: Option<&str>,
        address: SocketAddr,
        restored: bool,
    ) {
        let id = id.map(|id| (ID_TAG.to_owned(), id.to_owned()));
        let tags = [("role".to_owned(), "node".to_owned())].into_iter().chain(id).collect();
        let (name, me) = (machine, Identity { name: name.to_owned(), address, tags });
        let seed = Rng::seeded(self.rng.u64());
        let mut gossip = Gossip::new(self.options.clone(), me, seed, self.now).unwrap();
        let earlier = self.machines.remove(name);
        let kept = earlier.as_ref().map_or_else(Default::default, |machine| machine.kept);
        if restored {
            gossip.restore(kept.0, kept.1);
        }
        if let Some(machine) = &earlier {
            self.by_address.remove(&machine.address);
        }
        self.by_address.insert(address, name.to_owned());
        let (news, side) = earlier.map_or_else(Default::default, |machine| (machine.news, machine.side));
        let machine = Machine {
            gossip: Some(gossip),
            address,
            news,
            kept,
            stalled_until: Instant::ZERO,
            blocked_until: Instant::ZERO,
            side,
        };
        self.machines.insert(name.to_owned(), machine);
    }

    /// Does something with a machine, and takes what comes of it.
    pub(crate) fn with<T>(&mut self, name: &str, act: impl FnOnce(&mut Gossip, Instant) -> T) -> T {
        let now = self.now;
        let machine = self.machines.get_mut(name).unwrap_or_else(|| panic!("no machine {name}"));
        let gossip = machine.gossip.as_mut().unwrap_or_else(|| panic!("{name} is down"));
        let result = act(gossip, now);
        gossip.assert_invariants();
        let mut sent = Vec::new();
        while let Some(transmit) = gossip.poll_transmit() {
            sent.push(transmit);
        }
        machine.kept = (gossip.clock(), gossip.event_clock());
        let from = machine.address;
        while let Some(news) = gossip.poll_news() {
            writeln!(self.out, "{} {name}: {}", seconds(now), show(&news)).unwrap();
            machine.news.push((now, news));
        }
        for transmit in sent {
            self.send(from, transmit);
        }
        result
    }

    fn send(&mut self, from: SocketAddr, transmit: Transmit) {
        if self.traced {
            self.trace(from, &transmit);
        }
        let (Transmit::Datagram { bytes, .. } | Transmit::Stream { bytes, .. }) = &transmit;
        self.bytes_sent += bytes.len();
        let is_datagram = matches!(transmit, Transmit::Datagram { .. });
        assert!(!is_datagram || bytes.len() <= 1400, "a datagram of {} bytes", bytes.len());
        if is_datagram && self.rng.below(100) < self.loss_percent {
            return;
        }
        let sender = self.by_address.get(&from).map(|name| self.machines[name].blocked_until);
        let leaves = sender.unwrap_or(Instant::ZERO).max(self.now);
        let arrives = leaves + self.rng.duration(self.latency.0, self.latency.1);
        self.sent += 1;
        self.flights.insert((arrives, self.sent), Flight { from, transmit });
    }

    fn trace(&mut self, from: SocketAddr, transmit: &Transmit) {
        let (way, to, bytes) = match transmit {
            Transmit::Datagram { to, bytes } => ("→", to, bytes),
            Transmit::Stream { to, bytes } => ("⇒", to, bytes),
        };
        let name = |address| self.by_address.get(address).map_or("?", String::as_str);
        for message in packet::open(self.options.pool_tag(), bytes).unwrap() {
            let quiet = matches!(message, Message::Ping { .. } | Message::Ack { .. } | Message::PushPull(_));
            if !quiet {
                let line = format!("{} {} {way} {}: {message}", seconds(self.now), name(&from), name(to));
                writeln!(self.out, "{line}").unwrap();
            }
        }
    }

    fn arrive(&mut self, Flight { from, transmit }: Flight) {
        let (to, bytes, is_stream) = match transmit {
            Transmit::Datagram { to, bytes } => (to, bytes, false),
            Transmit::Stream { to, bytes } => (to, bytes, true),
        };
        let sender = self.by_address.get(&from).cloned();
        let side = sender.as_ref().map(|name| self.machines[name].side);
        let target = self.by_address.get(&to).cloned();
        let up = target.as_ref().filter(|name| self.machines[*name].gossip.is_some());
        let Some(name) = up.cloned() else {
            // A connection is refused; a datagram vanishes.
            if let Some(sender) = sender.filter(|name| is_stream && self.machines[name].gossip.is_some()) {
                self.with(&sender, |gossip, now| gossip.handle_unreachable(now, to, "connection refused"));
            }
            return;
        };
        let machine = &self.machines[&name];
        if side.is_some_and(|side| side != machine.side) || (!is_stream && self.deaf.contains(&name)) {
            return;
        }
        let is_between = |(one, other): &(String, String)| {
            sender.as_ref().is_some_and(|sender| (one, other) == (sender, &name) || (other, one) == (sender, &name))
        };
        if self.separate.iter().any(is_between) {
            return;
        }
        let ready = machine.stalled_until.max(machine.blocked_until);
        if ready > self.now {
            self.sent += 1;
            let transmit = if is_stream { Transmit::Stream { to, bytes } } else { Transmit::Datagram { to, bytes } };
            self.flights.insert((ready, self.sent), Flight { from, transmit });
            return;
        }
        self.with(&name, |gossip, now| {
            if is_stream { gossip.handle_stream(now, from, &bytes) } else { gossip.handle_datagram(now, from, &bytes) }
        });
    }

    /// A packet arrives from nowhere.
    pub(crate) fn inject(&mut self, to: &str, message: &Message) {
        let mut packer = packet::Packer::new(self.options.pool_tag(), 1400);
        assert!(packer.push(&packet::encode(message)));
        let bytes: Bytes = packer.finish();
        self.with(to, |gossip, now| gossip.handle_datagram(now, address(999), &bytes));
    }

    /// Time passes.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = self.machines.iter().filter_map(|(name, machine)| {
                let at = machine.gossip.as_ref()?.poll_timeout()?.max(machine.stalled_until);
                Some((at.max(self.now), name))
            });
            let timer = due.min().map(|(at, name)| (at, name.clone()));
            let flight = self.flights.first_key_value().map(|(key, _)| key.0.max(self.now));
            match (timer, flight) {
                (timer, Some(at)) if at <= end && timer.as_ref().is_none_or(|(due, _)| at <= *due) => {
                    self.now = at;
                    let (_, flight) = self.flights.pop_first().unwrap();
                    self.arrive(flight);
                }
                (Some((at, name)), _) if at <= end => {
                    self.now = at;
                    self.with(&name, |gossip, now| gossip.tick(now));
                    let next = self.machines[&name].gossip.as_ref().unwrap().poll_timeout();
                    assert!(next.is_none_or(|next| next > at), "{name} spins at {at}");
                }
                _ => break,
            }
        }
        self.now = end;
    }

    /// Runs until `is_so`, for at most `limit`; how long it took.
    pub(crate) fn run_until(&mut self, limit: Duration, is_so: impl Fn(&Self) -> bool) -> Duration {
        let begun = self.now;
        while !is_so(self) {
            assert!(self.now.since(begun) < limit, "not within {limit:?}:\n{}", self.views());
            self.run(Duration::from_millis(100));
        }
        self.now.since(begun)
    }

    pub(crate) fn join(&mut self, name: &str, other: &str) {
        let address = self.machines[other].address;
        self.with(name, |gossip, now| gossip.join(now, [address]));
    }

    pub(crate) fn kill(&mut self, name: &str) {
        self.machines.get_mut(name).unwrap().gossip = None;
    }

    pub(crate) fn block(&mut self, name: &str, time: Duration) {
        self.machines.get_mut(name).unwrap().blocked_until = self.now + time;
    }

    pub(crate) fn stall(&mut self, name: &str, time: Duration) {
        self.machines.get_mut(name).unwrap().stalled_until = self.now + time;
    }

    /// These machines do not hear the others any more, nor are they heard.
    pub(crate) fn partition(&mut self, names: &[String]) {
        for (name, machine) in &mut self.machines {
            machine.side = u32::from(names.contains(name));
        }
    }

    pub(crate) fn fire(&mut self, name: &str, event: &str) {
        let id = Uuid::from_u128(self.rng.u64().into());
        let event = UserEvent { id, name: event.to_owned(), payload: Bytes::new() };
        self.with(name, |gossip, now| gossip.fire(now, event)).unwrap();
    }

    pub(crate) fn up(&self) -> impl Iterator<Item = (&String, &Gossip)> {
        self.machines.iter().filter_map(|(name, machine)| Some((name, machine.gossip.as_ref()?)))
    }

    /// Whether everybody who is up sees exactly those who are up as alive.
    pub(crate) fn agree(&self) -> bool {
        let up: Vec<&str> = self.up().map(|(name, _)| name.as_str()).collect();
        self.up().all(|(_, gossip)| {
            let alive = gossip.members().filter(|member| member.status() == Status::Alive);
            alive.map(|member| member.name.as_str()).eq(up.iter().copied())
        })
    }

    fn check_all_know_each_other(&self) {
        assert!(self.agree(), "they do not know each other:\n{}", self.views());
    }

    /// Whether everybody who is up, save itself, sees this machine so.
    pub(crate) fn all_see(&self, name: &str, status: Status) -> bool {
        let mut others = self.up().filter(|(other, _)| *other != name);
        others.all(|(_, gossip)| gossip.member(name).is_some_and(|member| member.status() == status))
    }

    pub(crate) fn views(&self) -> String {
        let mut text = String::new();
        for (name, gossip) in self.up() {
            let odd = gossip.members().filter(|member| {
                let up = self.machines.get(member.name.as_str()).is_some_and(|machine| machine.gossip.is_some());
                up != (member.status() == Status::Alive)
            });
            let odd: Vec<String> = odd.map(|member| format!("{} {}", member.name, member.status())).collect();
            let known = gossip.members().count();
            writeln!(text, "{name} knows {known}, odd: {}", odd.join(", ")).unwrap();
        }
        text
    }

    /// How often news of this kind came to all machines together.
    pub(crate) fn count(&self, is: impl Fn(&News) -> bool) -> usize {
        self.machines.values().flat_map(|machine| &machine.news).filter(|(_, news)| is(news)).count()
    }

    pub(crate) fn forget_news(&mut self) {
        self.machines.values_mut().for_each(|machine| machine.news.clear());
    }

    pub(crate) fn show_members(&mut self, name: &str) {
        let gossip = self.machines[name].gossip.as_ref().unwrap();
        let text: String = gossip.members().map(|member| line(name, member)).collect();
        self.out.push_str(&text);
    }

    /// The packets that are under way.
    pub(crate) fn in_flight(&self) -> Vec<Vec<u8>> {
        let bytes = |flight: &Flight| match &flight.transmit {
            Transmit::Datagram { bytes, .. } | Transmit::Stream { bytes, .. } => bytes.to_vec(),
        };
        self.flights.values().map(bytes).collect()
    }

    pub(crate) fn take_output(&mut self) -> String {
        std::mem::take(&mut self.out)
    }
}

fn line(name: &str, member: &Member) -> String {
    let tags: Vec<String> = member.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let Member { name: other, address, incarnation, .. } = member;
    format!("{name} sees {other} {} inc={incarnation} {address} {}\n", member.status(), tags.join(" "))
}

pub(crate) fn address(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, u8::try_from(n / 256).unwrap(), u8::try_from(n % 256).unwrap()], 8301))
}

fn seconds(at: Instant) -> String {
    format!("{:.3}", at.since(Instant::ZERO).as_secs_f64())
}

fn show(news: &News) -> String {
    match news {
        News::Joined(member) => format!("{} joined", member.name),
        News::Updated(member) => format!("{} updated", member.name),
        News::Failed(member) => format!("{} failed", member.name),
        News::Left(member) => format!("{} left", member.name),
        News::Reaped(member) => format!("{} reaped", member.name),
        News::Suspected { name, from } => format!("{name} suspected by {from}"),
        News::Refuted { incarnation } => format!("refuted inc={incarnation}"),
        News::Conflict { name, known, claimed } => format!("conflict of {name}: {known}, not {claimed}"),
        News::UserEvent(timed) => format!("event {}@{}", timed.event.name, timed.time),
        News::JoinSucceeded { address } => format!("join of {address} succeeded"),
        News::JoinFailed { address, reason } => format!("join of {address} failed: {reason}"),
        News::NameLost { holder } => format!("name lost to {holder}"),
        News::Stranger { from } => format!("a stranger at {from}"),
        News::LeaveDone => "leave done".to_owned(),
    }
}
