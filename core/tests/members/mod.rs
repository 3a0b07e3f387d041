//! A small world: agents with their disks, on a network that loses nothing but what is sent to those who are not there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use lictor_core::agent::Agent;
use lictor_core::api::agent::{Member, MemberStatus, Request};
use lictor_core::api::{self, Call, Reply, Response};
use lictor_core::config::Config;
use lictor_core::id::{CallId, PeerId};
use lictor_core::io::{FileOp, Input, JobOutcome, Notice, Output, PoolNews};
use lictor_core::peer::Envelope;
use lictor_core::recovery::Recovered;
use lictor_core::time::{Duration, Instant};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// What is on its way.
enum Flight {
    Message(Box<Envelope>),
    Datagram(Bytes),
    Stream(Bytes),
}

/// A machine with an agent, which may be off.
struct Host {
    agent: Option<Agent>,
    config: Config,
    files: BTreeMap<String, Bytes>,
    starts: u64,
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) now: Instant,
    hosts: BTreeMap<u64, Host>,
    flights: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Flight)>,
    count: u64,
    replies: BTreeMap<CallId, Reply>,
    /// What the agents told, by the machines' numbers.
    pub(crate) notices: Vec<(u64, Notice)>,
    /// Names of hosts.
    pub(crate) names: BTreeMap<String, Vec<IpAddr>>,
}

pub(crate) fn gossip_of(n: u64) -> SocketAddr {
    format!("10.0.0.{n}:8301").parse().unwrap()
}

fn number_of(address: SocketAddr) -> u64 {
    address.ip().to_string().rsplit('.').next().unwrap().parse().unwrap()
}

/// A server on the machine with this number, as yet without a cluster.
pub(crate) fn config(n: u64) -> Config {
    let address = format!("10.0.0.{n}:8300").parse().unwrap();
    Config::new(PeerId::numbered(n), format!("n{n}"), address)
}

impl World {
    /// Servers on so many machines, which do not know of each other.
    pub(crate) fn of(count: u64) -> Self {
        let mut world = Self::default();
        (1..=count).for_each(|n| world.start(n, config(n)));
        world
    }

    /// The same, once they all have joined the first one.
    pub(crate) fn joined(count: u64) -> Self {
        let mut world = Self::of(count);
        for n in 2..=count {
            assert_eq!(world.join(n, &["10.0.0.1"]), Ok(Response::Joined(1)));
        }
        world.await_that("all know each other", SECOND * 20, |world| {
            (1..=count).all(|n| world.members(n).len() as u64 == count)
        });
        world.notices.clear();
        world
    }

    /// Switches a machine on, with what its disk has kept.
    pub(crate) fn start(&mut self, n: u64, config: Config) {
        let (files, starts) = self.hosts.remove(&n).map_or_else(Default::default, |host| (host.files, host.starts + 1));
        let recovered = Recovered { files: files.clone(), ..Recovered::default() };
        let agent = Agent::new(config.clone(), n + 100 * starts, recovered, self.now);
        self.hosts.insert(n, Host { agent: Some(agent), config, files, starts });
        self.input(n, Input::Timeout);
    }

    pub(crate) fn restart(&mut self, n: u64) {
        let config = self.hosts[&n].config.clone();
        self.start(n, config);
    }

    /// Empties the disk of a machine that is off.
    pub(crate) fn forget_everything(&mut self, n: u64) {
        self.hosts.get_mut(&n).unwrap().files.clear();
    }

    /// Pulls the plug.
    pub(crate) fn kill(&mut self, n: u64) {
        self.hosts.get_mut(&n).unwrap().agent = None;
    }

    pub(crate) fn agent(&self, n: u64) -> &Agent {
        self.hosts[&n].agent.as_ref().unwrap()
    }

    fn input(&mut self, n: u64, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let Some(agent) = self.hosts.get_mut(&n).and_then(|host| host.agent.as_mut()) else { return };
            agent.handle_input(self.now, input);
            agent.gossip().assert_invariants();
            let outputs: Vec<Output> = std::iter::from_fn(|| agent.poll_output()).collect();
            for output in outputs {
                inputs.extend(self.carry_out(n, output));
            }
        }
    }

    fn carry_out(&mut self, n: u64, output: Output) -> Option<Input> {
        let (peers, gossip) = (self.hosts[&n].config.address, self.hosts[&n].config.gossip.address);
        match output {
            Output::Reply { id, reply } => drop(self.replies.insert(id, reply)),
            Output::Persist(write) => return Some(Input::Persisted(write.seq)),
            Output::Job(job) => {
                job.ops.into_iter().for_each(|op| self.write(n, op));
                return Some(Input::JobDone { id: job.id, outcome: JobOutcome::Done });
            }
            Output::Reserve { file, size } => return Some(Input::Reserved { file, size, granted: true }),
            Output::Resolve { name } => {
                let addresses = self.names.get(&name).cloned().unwrap_or_default();
                return Some(Input::Resolved { name, addresses });
            }
            Output::Message { to, envelope } => self.send(peers, to, Flight::Message(Box::new(envelope))),
            Output::Datagram { to, bytes } => self.send(gossip, to, Flight::Datagram(bytes)),
            Output::Stream { to, bytes } => {
                // The port of a connection says nothing.
                self.send(SocketAddr::new(gossip.ip(), 50_000), to, Flight::Stream(bytes));
            }
            Output::Notice(notice) => {
                let ends = notice.ends_the_agent();
                self.notices.push((n, notice));
                if ends {
                    self.kill(n);
                }
            }
            _ => {}
        }
        None
    }

    fn write(&mut self, n: u64, op: FileOp) {
        let files = &mut self.hosts.get_mut(&n).unwrap().files;
        match op {
            FileOp::Write { file, offset: 0, bytes } if file.starts_with("agent/") => drop(files.insert(file, bytes)),
            FileOp::Rename { file, to } if file.starts_with("agent/") => {
                let content = files.remove(&file).unwrap();
                files.insert(to, content);
            }
            FileOp::Remove { file } => drop(files.remove(&file)),
            _ => {}
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, flight: Flight) {
        self.count += 1;
        self.flights.insert((self.now + Duration::from_millis(1), self.count), (from, to, flight));
    }

    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, flight: Flight) {
        let n = number_of(to);
        let is_there = self.hosts.get(&n).is_some_and(|host| {
            host.agent.is_some() && (to == host.config.gossip.address || to == host.config.address)
        });
        match flight {
            Flight::Message(envelope) if is_there => self.input(n, Input::Message(*envelope)),
            Flight::Datagram(bytes) if is_there => self.input(n, Input::Datagram { from, bytes }),
            Flight::Stream(bytes) if is_there => self.input(n, Input::Stream { from, bytes }),
            Flight::Stream(_) => {
                let reason = "connect: connection refused".to_owned();
                self.input(number_of(from), Input::Unreachable { to, reason });
            }
            Flight::Message(_) | Flight::Datagram(_) => {}
        }
    }

    /// All that happens in this time, happens.
    pub(crate) fn elapse(&mut self, time: Duration) {
        let until = self.now + time;
        let mut spins = 0;
        loop {
            let flight = self.flights.keys().next().map(|(at, _)| *at);
            let due = (self.hosts.iter())
                .filter_map(|(n, host)| Some((host.agent.as_ref()?.poll_timeout()?.max(self.now), *n)))
                .min();
            match (flight, due) {
                (Some(at), due) if at <= until && due.is_none_or(|(due, _)| at <= due) => {
                    self.now = self.now.max(at);
                    let (_, (from, to, flight)) = self.flights.pop_first().unwrap();
                    self.arrive(from, to, flight);
                }
                (_, Some((at, n))) if at <= until => {
                    // One who is elected has duties at once; but nobody should go on like that.
                    spins = if at > self.now { 0 } else { spins + 1 };
                    assert!(spins < 100, "n{n} is due again and again at {at}");
                    self.now = at;
                    self.input(n, Input::Timeout);
                }
                _ => break,
            }
        }
        self.now = until;
    }

    pub(crate) fn await_that(&mut self, what: &str, limit: Duration, is_so: impl Fn(&mut Self) -> bool) {
        let begun = self.now;
        while !is_so(self) {
            assert!(self.now.since(begun) < limit, "not within {limit:?}: {what}\n{:#?}", self.notices);
            self.elapse(Duration::from_millis(100));
        }
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, n: u64, request: impl Into<api::Request>) -> Reply {
        self.count += 1;
        let id = CallId(self.count);
        self.input(n, Input::Call { id, call: Call::new(request) });
        let begun = self.now;
        loop {
            if let Some(reply) = self.replies.remove(&id) {
                return reply;
            }
            assert!(self.now.since(begun) < SECOND * 130, "no answer");
            self.elapse(Duration::from_millis(100));
        }
    }

    pub(crate) fn join(&mut self, n: u64, addresses: &[&str]) -> Reply {
        let addresses = addresses.iter().map(|text| (*text).to_owned()).collect();
        self.ask(n, Request::Join { addresses, wan: false })
    }

    pub(crate) fn members(&mut self, n: u64) -> Vec<Member> {
        match self.ask(n, Request::Members { wan: false }) {
            Ok(Response::Members(members)) => members,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn status(&mut self, n: u64, name: &str) -> Option<MemberStatus> {
        self.members(n).into_iter().find(|member| member.name == name).map(|member| member.status)
    }

    /// Whether all these agents see a member so.
    pub(crate) fn all_see(&mut self, seers: &[u64], name: &str, status: Option<MemberStatus>) -> bool {
        seers.iter().all(|n| self.status(*n, name) == status)
    }

    /// What an agent told of its pool.
    pub(crate) fn pool_news(&self, n: u64) -> Vec<PoolNews> {
        let pool = |notice: &Notice| if let Notice::Pool(news) = notice { Some(news.clone()) } else { None };
        self.notices.iter().filter(|(at, _)| *at == n).filter_map(|(_, notice)| pool(notice)).collect()
    }

    pub(crate) fn has_ended(&self, n: u64) -> bool {
        self.hosts[&n].agent.is_none()
    }

    pub(crate) fn files(&self, n: u64) -> BTreeSet<&str> {
        self.hosts[&n].files.keys().map(String::as_str).collect()
    }
}
