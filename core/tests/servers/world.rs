//! Agents that find each other by gossip, on a network that loses what it is told to lose.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bytes::Bytes;
use lictor_core::agent::Agent;
use lictor_core::api::catalog::Check;
use lictor_core::api::health::SERF_CHECK_ID;
use lictor_core::api::{self, Call, Consistency, ReadOptions, Reply, Response, agent, kv};
use lictor_core::config::Config;
use lictor_core::exec::{self, child};
use lictor_core::id::{CallId, Index, PeerId, SessionId};
use lictor_core::io::{FileOp, Input, JobOutcome, Notice, Output, ServerNews};
use lictor_core::local;
use lictor_core::raft::Payload;
use lictor_core::recovery::Recovered;
use lictor_core::rng::Rng;
use lictor_core::store::Command;
use lictor_core::time::{Duration, Instant};
use lictor_core::wire;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) struct Host {
    pub(crate) agent: Agent,
    config: Config,
    /// The small files that it keeps.
    files: BTreeMap<String, Bytes>,
    /// How often it asked for something of its disk, but for small files.
    pub(crate) writes: usize,
    /// It has left, and is to be stopped.
    ended: bool,
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) hosts: BTreeMap<u64, Host>,
    flights: BTreeMap<(Instant, u64), (u64, u64, Input)>,
    count: u64,
    /// Nothing gets from the one to the other.
    pub(crate) walls: BTreeSet<(u64, u64)>,
    /// One in so many messages gets lost; 0 for none.
    pub(crate) loss: u64,
    rng: Rng,
    replies: BTreeMap<CallId, (Instant, Reply)>,
    pub(crate) news: Vec<(u64, ServerNews)>,
    /// What is to be done about commands that are run for others.
    pub(crate) children: Vec<(u64, child::Action)>,
    pub(crate) exec_news: Vec<(u64, exec::News)>,
    pub(crate) local_news: Vec<(u64, local::News)>,
}

pub(crate) fn id(n: u64) -> PeerId {
    PeerId::numbered(n)
}

fn number(at: SocketAddr) -> u64 {
    match at.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3].into(),
        std::net::IpAddr::V6(_) => panic!("{at}"),
    }
}

/// A server that waits for `expect` others, or for being added.
pub(crate) fn server(n: u64, expect: u32) -> Config {
    let address = format!("10.0.0.{n}:8300").parse().unwrap();
    let mut config = Config::new(id(n), format!("n{n}"), address);
    config.gossip.bootstrap_expect = expect;
    // They would be written now and then though nothing happens.
    config.gossip.send_coordinates = false;
    config
}

pub(crate) fn client(n: u64) -> Config {
    Config { server: false, ..server(n, 0) }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: Instant::ZERO,
            hosts: BTreeMap::new(),
            flights: BTreeMap::new(),
            count: 0,
            walls: BTreeSet::new(),
            loss: 0,
            rng: Rng::seeded(seed),
            replies: BTreeMap::new(),
            news: Vec::new(),
            children: Vec::new(),
            exec_news: Vec::new(),
            local_news: Vec::new(),
        }
    }

    /// Three servers that have founded a cluster.
    pub(crate) fn of_three(seed: u64) -> Self {
        Self::of_three_with(seed, |_| {})
    }

    /// The same, each configured in this way.
    pub(crate) fn of_three_with(seed: u64, configure: impl Fn(&mut Config)) -> Self {
        let mut world = Self::new(seed);
        for n in 1..=3 {
            let mut config = server(n, 3);
            configure(&mut config);
            world.start(config);
        }
        world.join(2, 1);
        world.join(3, 1);
        world.run(SECOND * 5);
        assert!(world.leader().is_some(), "no cluster was founded");
        world
    }

    pub(crate) fn start(&mut self, config: Config) {
        let n = number(config.address);
        let seed = self.rng.u64();
        let files = self.hosts.remove(&n).map(|host| host.files).unwrap_or_default();
        let recovered = Recovered { files: files.clone(), ..Recovered::default() };
        let agent = Agent::new(config.clone(), seed, recovered, self.now);
        self.hosts.insert(n, Host { agent, config, files, writes: 0, ended: false });
        self.input(n, Input::Timeout);
    }

    /// Starts a server anew with the small files that it had kept, and without a log.
    pub(crate) fn restart(&mut self, n: u64) {
        let config = self.hosts[&n].config.clone();
        self.start(config);
    }

    pub(crate) fn kill(&mut self, n: u64) {
        self.hosts.remove(&n);
    }

    /// Nothing reaches it, or comes from it.
    pub(crate) fn cut_off(&mut self, n: u64) {
        let others: Vec<u64> = self.hosts.keys().copied().filter(|other| *other != n).collect();
        self.walls.extend(others.iter().flat_map(|other| [(n, *other), (*other, n)]));
    }

    pub(crate) fn wall(&mut self, some: &[u64], others: &[u64]) {
        for (one, other) in some.iter().flat_map(|one| others.iter().map(move |other| (*one, *other))) {
            self.walls.extend([(one, other), (other, one)]);
        }
    }

    pub(crate) fn join(&mut self, n: u64, other: u64) {
        let addresses = vec![format!("10.0.0.{other}:8301")];
        self.call(n, agent::Request::Join { addresses, wan: false });
    }

    pub(crate) fn input(&mut self, n: u64, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let Some(host) = self.hosts.get_mut(&n) else { return };
            host.agent.handle_input(self.now, input);
            while let Some(output) = self.hosts.get_mut(&n).and_then(|host| host.agent.poll_output()) {
                self.carry_out(n, output, &mut inputs);
            }
            if self.hosts.get(&n).is_some_and(|host| host.ended) {
                return self.kill(n);
            }
        }
    }

    fn carry_out(&mut self, n: u64, output: Output, inputs: &mut Vec<Input>) {
        let from = |port: u16| SocketAddr::from(([10, 0, 0, u8::try_from(n).unwrap()], port));
        let host = self.hosts.get_mut(&n).unwrap();
        match output {
            Output::Reply { id, reply } => drop(self.replies.insert(id, (self.now, reply))),
            Output::Persist(write) => {
                host.writes += 1;
                inputs.insert(0, Input::Persisted(write.seq));
            }
            Output::Reserve { file, size } => {
                host.writes += 1;
                inputs.insert(0, Input::Reserved { file, size, granted: true });
            }
            Output::Job(job) => {
                job.ops.into_iter().for_each(|op| host.change_file(op));
                inputs.insert(0, Input::JobDone { id: job.id, outcome: JobOutcome::Done });
            }
            Output::Message { to, envelope } => self.send(n, to, Input::Message(envelope)),
            Output::Datagram { to, bytes } => self.send(n, to, Input::Datagram { from: from(8301), bytes }),
            Output::Stream { to, bytes } => self.send(n, to, Input::Stream { from: from(9999), bytes }),
            Output::Notice(Notice::Servers(news)) => self.news.push((n, news)),
            Output::Child(action) => self.children.push((n, action)),
            Output::Notice(Notice::Exec(news)) => self.exec_news.push((n, news)),
            Output::Notice(Notice::Local(news)) => self.local_news.push((n, news)),
            Output::Notice(Notice::Left) => host.ended = true,
            _ => {}
        }
    }

    fn send(&mut self, from: u64, to: SocketAddr, input: Input) {
        self.count += 1;
        if self.loss > 0 && self.rng.one_in(self.loss) {
            return;
        }
        let at = self.now + self.rng.duration(Duration::from_millis(1), Duration::from_millis(3));
        self.flights.insert((at, self.count), (from, number(to), input));
    }

    /// All that happens in this time, happens.
    pub(crate) fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Runs until it is so, for at most that long. Whether it came to be.
    pub(crate) fn run_until(&mut self, limit: Duration, is_so: impl Fn(&Self) -> bool) -> bool {
        let until = self.now + limit;
        loop {
            if is_so(self) {
                return true;
            }
            let flight = self.flights.keys().next().map(|(at, _)| *at);
            let due = self.hosts.iter().filter_map(|(n, host)| Some((host.agent.poll_timeout()?, *n))).min();
            let next = flight.into_iter().chain(due.map(|(at, _)| at)).min();
            let Some(at) = next.filter(|at| *at <= until) else { break };
            self.now = self.now.max(at);
            if flight == Some(at) {
                let (_, (from, to, input)) = self.flights.pop_first().unwrap();
                if !self.walls.contains(&(from, to)) {
                    self.input(to, input);
                }
            } else if let Some((_, n)) = due {
                self.input(n, Input::Timeout);
                let due = self.hosts.get(&n).and_then(|host| host.agent.poll_timeout());
                assert!(due.is_none_or(|due| due > self.now), "{n} is due again at once");
            }
        }
        self.now = until;
        is_so(self)
    }

    pub(crate) fn call(&mut self, at: u64, request: impl Into<api::Request>) -> CallId {
        self.call_as(at, "", request)
    }

    /// As [`call`](Self::call), with a token unless it is empty.
    pub(crate) fn call_as(&mut self, at: u64, token: &str, request: impl Into<api::Request>) -> CallId {
        self.count += 1;
        let id = CallId(self.count);
        let token = (!token.is_empty()).then(|| token.to_owned());
        let call = Call { token, ..Call::new(request) };
        let at_once = self.hosts[&at].agent.view().answer(self.now, &call);
        match at_once {
            Some(reply) => drop(self.replies.insert(id, (self.now, reply))),
            None => self.input(at, Input::Call { id, call }),
        }
        id
    }

    /// The answer, if there is one, and when it came.
    pub(crate) fn reply(&mut self, id: CallId) -> Option<(Instant, Reply)> {
        self.replies.remove(&id)
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, at: u64, request: impl Into<api::Request>) -> Reply {
        self.ask_as(at, "", request)
    }

    /// As [`ask`](Self::ask), with a token unless it is empty.
    pub(crate) fn ask_as(&mut self, at: u64, token: &str, request: impl Into<api::Request>) -> Reply {
        let call = self.call_as(at, token, request);
        self.answer(call)
    }

    /// Waits for the answer to a call.
    pub(crate) fn answer(&mut self, call: CallId) -> Reply {
        assert!(self.run_until(SECOND * 20, |world| world.replies.contains_key(&call)), "no answer");
        self.replies.remove(&call).unwrap().1
    }

    pub(crate) fn put(&mut self, at: u64, key: &'static str, value: &'static str) -> Reply {
        self.ask(at, put(key, value))
    }

    pub(crate) fn leader(&self) -> Option<u64> {
        let leaders = self.hosts.iter().filter(|(_, host)| host.agent.raft().is_leader());
        leaders.max_by_key(|(_, host)| host.agent.raft_status().term).map(|(n, _)| *n)
    }

    pub(crate) fn follower(&self) -> u64 {
        let leader = self.leader();
        *self.hosts.iter().find(|(n, host)| Some(**n) != leader && host.config.server).unwrap().0
    }

    fn led(&self) -> &Agent {
        &self.hosts[&self.leader().expect("there is a leader")].agent
    }

    /// Who takes part, as the leader knows it: with a vote, and without.
    pub(crate) fn members(&self) -> (Vec<u64>, Vec<u64>) {
        let members = self.led().raft().members();
        let numbers = |voters| {
            let servers = members.servers.iter().filter(|(_, server)| server.voter == voters);
            servers.map(|(id, _)| u64::try_from(id.0.as_u128()).unwrap()).collect()
        };
        (numbers(true), numbers(false))
    }

    /// What the leader's catalog says of the agents: the state of each one's check, and whether it is a server.
    pub(crate) fn catalog(&self) -> BTreeMap<String, (String, bool)> {
        let store = self.led().store();
        let of = |name: &str| {
            let check: Option<&std::sync::Arc<Check>> = store.checks_of(name).find(|check| check.id == SERF_CHECK_ID);
            let serves = store.services_of(name).any(|service| service.name == "consul");
            (check.map_or_else(String::new, |check| check.status.clone()), serves)
        };
        store.nodes().map(|node| (node.name.clone(), of(&node.name))).collect()
    }

    pub(crate) fn last_index(&self) -> Index {
        self.led().raft().log().last().index
    }

    /// What the leader's log has behind an index.
    pub(crate) fn log_behind(&self, index: Index) -> Vec<String> {
        let entries = self.led().raft().log().from(index.next());
        let text = |payload: &Payload| match payload {
            Payload::Command(bytes) => wire::decode::<Command>(bytes).unwrap().to_string(),
            other => format!("{other:?}"),
        };
        entries.map(|entry| text(&entry.payload)).collect()
    }

    /// Whether the leader's store does not know this session.
    pub(crate) fn session_is_gone(&self, id: SessionId) -> bool {
        self.leader().is_some() && self.led().store().session(id).is_none()
    }

    /// How many keys cannot be locked for a while, as the leader's store has it.
    pub(crate) fn lock_delays(&self) -> usize {
        self.led().store().lock_delays().count()
    }

    /// Whether a call was answered.
    pub(crate) fn has_reply(&self, id: CallId) -> bool {
        self.replies.contains_key(&id)
    }

    /// How clusters were founded: the first entries that there are, each once.
    pub(crate) fn foundations(&self) -> BTreeSet<String> {
        let first = self.hosts.values().filter_map(|host| host.agent.raft().log().get(Index(1)));
        first
            .map(|entry| match &entry.payload {
                Payload::Configuration(configuration) => configuration.to_string(),
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

impl Host {
    fn change_file(&mut self, op: FileOp) {
        match op {
            FileOp::Write { file, bytes, .. } => drop(self.files.insert(file, bytes)),
            FileOp::Rename { file, to } => {
                let bytes = self.files.remove(&file);
                self.files.extend(bytes.map(|bytes| (to, bytes)));
            }
            FileOp::Remove { file } => drop(self.files.remove(&file)),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn keeps(&self, file: &str) -> bool {
        self.files.contains_key(file)
    }
}

pub(crate) fn done() -> Reply {
    Ok(Response::Done(true))
}

pub(crate) fn put(key: &'static str, value: &'static str) -> kv::Request {
    kv::Request::Put { key: key.into(), value: value.into(), flags: 0, mode: kv::PutMode::Set }
}

pub(crate) fn get(key: &'static str, consistency: Consistency) -> kv::Request {
    kv::Request::Get { key: key.into(), read: ReadOptions { consistency, ..ReadOptions::default() } }
}

pub(crate) fn value(reply: &Reply) -> Option<String> {
    match reply {
        Ok(Response::KvEntries(read)) => {
            read.value.first().map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
        }
        other => panic!("no entries: {other:?}"),
    }
}
