//! Six agents that fire user events at each other, on a network that loses, doubles and delays datagrams, with crashes in
//! between: no agent ever hears of an event twice, not even in two lives, and in the end all have heard of each that was
//! fired while they were there. Each seed is one schedule.

mod disk;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bytes::Bytes;
use disk::{InMemory, break_off, carry_out};
use lictor_core::agent::Agent;
use lictor_core::api::event::{self, Event, Listed};
use lictor_core::api::{Call, Response};
use lictor_core::config::Config;
use lictor_core::id::{CallId, PeerId};
use lictor_core::io::{Input, Job, JobOutcome, Output};
use lictor_core::recovery::recover;
use lictor_core::rng::Rng;
use lictor_core::time::{Duration, Instant};
use uuid::Uuid;

const HOSTS: usize = 6;
/// Each host keeps asking for what is new, with this call.
const LISTEN: CallId = CallId(1);
const FIRE: CallId = CallId(2);

/// Something on its way to a host. What was meant for an earlier life reaches nobody.
enum Coming {
    Input(Box<Input>),
    Worked(u64, Job),
}

struct Host {
    agent: Option<Agent>,
    life: u64,
    started: Instant,
    files: BTreeMap<String, Vec<u8>>,
    /// What it listed when it was last asked, in this life.
    listed: Vec<Uuid>,
    /// All that it ever heard of.
    heard: BTreeSet<Uuid>,
}

struct World {
    now: Instant,
    rng: Rng,
    hosts: Vec<Host>,
    coming: BTreeMap<(Instant, u64), (usize, Coming)>,
    count: u64,
    /// Nothing gets lost any more.
    calm: bool,
    /// What was fired, by whom and when.
    fired: Vec<(Uuid, usize, Instant)>,
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn address(host: usize, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(host + 1).unwrap()], port))
}

fn config(host: usize) -> Config {
    let mut config = Config::new(PeerId::numbered(host as u64 + 1), format!("n{host}"), address(host, 8300));
    config.gossip.address = address(host, 8301);
    config.gossip.retry_join = vec![address(0, 8301).to_string(), address(1, 8301).to_string()];
    config.gossip.retry_interval = Duration::from_secs(2);
    config
}

fn listing(index: u64) -> Call {
    let none = String::new;
    Call::new(event::Request::List {
        name: none(),
        node_filter: none(),
        service_filter: none(),
        tag_filter: none(),
        index,
        wait: None,
    })
}

impl World {
    fn new(seed: u64) -> Self {
        let host = || Host {
            agent: None,
            life: 0,
            started: Instant::ZERO,
            files: BTreeMap::new(),
            listed: Vec::new(),
            heard: BTreeSet::new(),
        };
        let mut world = Self {
            now: Instant::ZERO,
            rng: Rng::seeded(seed),
            hosts: (0..HOSTS).map(|_| host()).collect(),
            coming: BTreeMap::new(),
            count: 0,
            calm: false,
            fired: Vec::new(),
        };
        (0..HOSTS).for_each(|host| world.start(host));
        world
    }

    fn start(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        let recovered = recover(&mut InMemory(&host.files)).unwrap();
        recovered.repairs.iter().for_each(|op| carry_out(&mut host.files, op));
        let recovered = recover(&mut InMemory(&host.files)).unwrap();
        host.agent = Some(Agent::new(config(number), self.rng.u64(), recovered, self.now));
        (host.life, host.started) = (host.life + 1, self.now);
        host.listed.clear();
        self.feed(number, Input::Call { id: LISTEN, call: listing(1) });
    }

    fn crash(&mut self, number: usize) {
        let life = self.hosts[number].life;
        self.hosts[number].agent = None;
        let mine = |(host, coming): &(usize, Coming)| {
            *host == number && matches!(coming, Coming::Worked(of, _) if *of == life)
        };
        let unfinished: Vec<_> = self.coming.iter().filter(|(_, coming)| mine(coming)).map(|(key, _)| *key).collect();
        let jobs: Vec<Job> = unfinished
            .iter()
            .filter_map(|key| match self.coming.remove(key) {
                Some((_, Coming::Worked(_, job))) => Some(job),
                _ => None,
            })
            .collect();
        let ops: Vec<_> = jobs.iter().flat_map(|job| &job.ops).collect();
        break_off(&mut self.hosts[number].files, &ops, &mut self.rng);
    }

    fn feed(&mut self, number: usize, input: Input) {
        let now = self.now;
        let Some(agent) = &mut self.hosts[number].agent else { return };
        agent.handle_input(now, input);
        let mut outputs = Vec::new();
        while let Some(output) = agent.poll_output() {
            outputs.push(output);
        }
        outputs.into_iter().for_each(|output| self.carry_out(number, output));
    }

    fn schedule(&mut self, after: Duration, host: usize, coming: Coming) {
        self.count += 1;
        self.coming.insert((self.now + after, self.count), (host, coming));
    }

    fn carry_out(&mut self, number: usize, output: Output) {
        let (from, life) = (address(number, 8301), self.hosts[number].life);
        match output {
            Output::Datagram { to, bytes } => {
                if !self.calm && self.rng.below(100) < 25 {
                    return;
                }
                let copies = if self.rng.one_in(10) { 2 } else { 1 };
                for _ in 0..copies {
                    let late = if !self.calm && self.rng.one_in(20) { ms(3_000) } else { ms(20) };
                    let after = self.rng.duration(ms(1), late);
                    let input = Input::Datagram { from, bytes: bytes.clone() };
                    self.schedule(after, host_at(to), Coming::Input(Box::new(input)));
                }
            }
            Output::Stream { to, bytes } => {
                let after = self.rng.duration(ms(1), ms(30));
                if self.hosts[host_at(to)].agent.is_some() {
                    self.schedule(after, host_at(to), Coming::Input(Box::new(Input::Stream { from, bytes })));
                } else {
                    self.schedule(
                        after,
                        number,
                        Coming::Input(Box::new(Input::Unreachable { to, reason: "nobody listens there".to_owned() })),
                    );
                }
            }
            Output::Persist(write) => {
                write.ops.iter().for_each(|op| carry_out(&mut self.hosts[number].files, op));
                self.schedule(ms(2), number, Coming::Input(Box::new(Input::Persisted(write.seq))));
            }
            // In their order, as one takes as long as the other.
            Output::Job(job) => self.schedule(ms(15), number, Coming::Worked(life, job)),
            Output::Reserve { file, size } => {
                self.schedule(ms(1), number, Coming::Input(Box::new(Input::Reserved { file, size, granted: true })));
            }
            Output::Reply { id: FIRE, reply } => match reply {
                Ok(Response::Fired(event)) => self.fired.push((event.id, number, self.now)),
                other => panic!("{other:?}"),
            },
            Output::Reply { id: LISTEN, reply } => match reply {
                Ok(Response::Events(listed)) => self.note(number, listed),
                other => panic!("{other:?}"),
            },
            _ => {}
        }
    }

    /// What is listed is new to the host, but for what it had listed before in the same life.
    fn note(&mut self, number: usize, Listed { index, events }: Listed) {
        let host = &mut self.hosts[number];
        let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
        assert_eq!(ids[..host.listed.len()], host.listed, "what was listed stays as it was");
        for id in &ids[host.listed.len()..] {
            assert!(host.heard.insert(*id), "n{number} hears of {id} twice, in its life {}", host.life);
        }
        host.listed = ids;
        self.feed(number, Input::Call { id: LISTEN, call: listing(index) });
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let due = self.hosts.iter().enumerate().filter_map(|(number, host)| {
                let at = host.agent.as_ref()?.poll_timeout()?;
                Some((at.max(self.now), number))
            });
            let (due, next) = (due.min(), self.coming.keys().next().copied());
            match (due, next) {
                (due, Some((at, count))) if at <= until && due.is_none_or(|(due, _)| at <= due) => {
                    self.now = at;
                    let (host, coming) = self.coming.remove(&(at, count)).unwrap();
                    self.arrive(host, coming);
                }
                (Some((at, host)), _) if at <= until => {
                    self.now = at;
                    self.feed(host, Input::Timeout);
                    let next = self.hosts[host].agent.as_ref().unwrap().poll_timeout();
                    assert!(next.is_none_or(|next| next > at), "n{host} is due again at once");
                }
                _ => break,
            }
        }
        self.now = until;
    }

    fn arrive(&mut self, host: usize, coming: Coming) {
        match coming {
            Coming::Input(input) => self.feed(host, *input),
            Coming::Worked(life, job) if life == self.hosts[host].life => {
                job.ops.iter().for_each(|op| carry_out(&mut self.hosts[host].files, op));
                self.feed(host, Input::JobDone { id: job.id, outcome: JobOutcome::Done });
            }
            Coming::Worked(..) => {}
        }
    }

    fn fire(&mut self, number: usize) {
        let payload = Bytes::from(format!("{}", self.rng.u64()));
        let event = Event { name: "deploy".to_owned(), payload, ..Event::default() };
        self.feed(number, Input::Call { id: FIRE, call: Call::new(event::Request::Fire(event)) });
    }

    /// Whether all who are up see each other.
    fn all_meet(&self) -> bool {
        self.hosts.iter().filter_map(|host| host.agent.as_ref()).all(|agent| agent.gossip().live() == HOSTS)
    }

    fn run_until_all_meet(&mut self) {
        for _ in 0..600 {
            if self.all_meet() {
                return;
            }
            self.run(ms(200));
        }
        panic!("they do not find each other");
    }

    fn check_all_heard(&self) {
        for (id, by, at) in &self.fired {
            if self.hosts[*by].started > *at {
                continue;
            }
            for (number, host) in self.hosts.iter().enumerate() {
                let missed = host.started <= *at && !host.heard.contains(id);
                assert!(!missed, "n{number} has not heard of what n{by} fired at {at}");
            }
        }
    }
}

fn host_at(address: SocketAddr) -> usize {
    match address {
        SocketAddr::V4(address) => usize::from(address.ip().octets()[3]) - 1,
        SocketAddr::V6(_) => unreachable!(),
    }
}

#[test]
fn events_reach_all_once_whatever_befalls_agents_and_network() {
    let (mut restarts, mut fired) = (0, 0);
    for seed in 0..8 {
        println!("seed {seed}");
        let mut world = World::new(seed);
        world.run_until_all_meet();
        for _ in 0..60 {
            let (host, dice) = (world.rng.below(HOSTS as u64) as usize, world.rng.below(10));
            match (dice, world.hosts[host].agent.is_some()) {
                (0, true) => world.crash(host),
                (_, true) => world.fire(host),
                (_, false) => {
                    world.start(host);
                    restarts += 1;
                }
            }
            let pause = world.rng.duration(ms(0), ms(2_000));
            world.run(pause);
        }
        world.calm = true;
        for host in 0..HOSTS {
            if world.hosts[host].agent.is_none() {
                world.start(host);
            }
        }
        world.run_until_all_meet();
        // Whoever missed it by chance hears of it when states are exchanged.
        world.run(Duration::from_secs(120));
        world.check_all_heard();
        fired += world.fired.len();
        let before = world.fired.len();
        world.fire(0);
        world.run(Duration::from_secs(10));
        assert_eq!(world.fired.len(), before + 1);
        let (last, ..) = world.fired[before];
        assert!(world.hosts.iter().all(|host| host.heard.contains(&last)), "all hear again");
    }
    assert!(restarts > 20 && fired > 200, "too little happens: {restarts} restarts, {fired} events");
}
