//! What is registered with an agent, without the agent: its disk is a map, the servers' catalog a store at hand, and its probes
//! are answered by the test.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use lictor_core::api::agent::{CheckDefinition, ServiceDefinition};
use lictor_core::api::catalog::{Check, Deregistration, Node, NodeServices, Registration, Service};
use lictor_core::api::{Error, Read, ReadMeta, Reply, Request, Response, catalog, health};
use lictor_core::config::Config;
use lictor_core::id::{Index, PeerId, ProbeId};
use lictor_core::keep::FOLDER;
use lictor_core::local::{Change, Local, News, Order};
use lictor_core::probe::{Finding, Probe};
use lictor_core::rng::Rng;
use lictor_core::store::{Body, Command, Question, Store};
use lictor_core::time::{Duration, Instant};

pub(crate) const NODE: &str = "foobar";

pub(crate) struct Bench {
    pub(crate) local: Local,
    pub(crate) config: Config,
    pub(crate) now: Instant,
    pub(crate) store: Store,
    pub(crate) files: BTreeMap<String, Bytes>,
    pub(crate) probes: Vec<Probe>,
    pub(crate) cancelled: Vec<ProbeId>,
    pub(crate) news: Vec<News>,
    /// What the servers were asked, and was not answered yet.
    pub(crate) open: Vec<(u64, Request)>,
    /// What the servers were asked in all.
    pub(crate) asked: Vec<Request>,
    /// The servers answer at once; else the test does.
    pub(crate) prompt: bool,
    /// The servers answer this.
    pub(crate) outage: Option<Error>,
    /// What was told of checks is kept at once.
    pub(crate) keeps_states: bool,
    index: u64,
    seed: u64,
}

pub(crate) fn config() -> Config {
    Config::new(PeerId::numbered(1), NODE, "10.0.0.1:8300".parse().unwrap())
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    pub(crate) fn with(config: Config) -> Self {
        let mut bench = Self::stopped(config);
        bench.settle();
        bench
    }

    /// Nothing has been ordered yet.
    pub(crate) fn stopped(config: Config) -> Self {
        let now = Instant::from_millis(1_000);
        Self {
            local: Local::new(&config, &BTreeMap::new(), Rng::seeded(7), now),
            config,
            now,
            store: Store::default(),
            files: BTreeMap::new(),
            probes: Vec::new(),
            cancelled: Vec::new(),
            news: Vec::new(),
            open: Vec::new(),
            asked: Vec::new(),
            prompt: true,
            outage: None,
            keeps_states: true,
            index: 0,
            seed: 7,
        }
    }

    /// The agent is killed, and starts again on its disk.
    pub(crate) fn restart(&mut self) {
        self.seed += 1;
        self.open.clear();
        self.probes.clear();
        self.cancelled.clear();
        self.local = Local::new(&self.config, &self.files, Rng::seeded(self.seed), self.now);
        self.settle();
    }

    fn write(&mut self, changes: Vec<Change>) {
        for Change { name, content } in changes {
            let file = format!("{FOLDER}{name}");
            match content {
                Some(bytes) => drop(self.files.insert(file, bytes.into())),
                None => drop(self.files.remove(&file)),
            }
        }
    }

    /// A call that changes something; what it has kept is on the disk then.
    pub(crate) fn call(
        &mut self,
        change: impl FnOnce(&mut Local, Instant) -> Result<Vec<Change>, Error>,
    ) -> Result<(), Error> {
        let changed = change(&mut self.local, self.now);
        let done = changed.map(|changes| self.write(changes));
        self.settle();
        done
    }

    pub(crate) fn register(&mut self, definition: &ServiceDefinition) {
        self.call(|local, now| local.register_service(now, definition)).unwrap();
    }

    pub(crate) fn register_check(&mut self, definition: &CheckDefinition) -> Result<(), Error> {
        self.call(|local, now| local.register_check(now, definition))
    }

    pub(crate) fn tell(&mut self, id: &str, status: &str, output: &str) -> Result<(), Error> {
        let done = self.local.update_check(self.now, id, status, output.to_owned());
        self.settle();
        done
    }

    pub(crate) fn found(&mut self, probe: ProbeId, finding: Finding) {
        self.local.handle_probed(self.now, probe, finding);
        self.settle();
    }

    /// Carries out all orders.
    pub(crate) fn settle(&mut self) {
        loop {
            self.local.pump(self.now);
            self.local.assert_invariants();
            while let Some(order) = self.local.poll_order() {
                match order {
                    Order::Probe(probe) => self.probes.push(probe),
                    Order::Cancel(probe) => self.cancelled.push(probe),
                    Order::Ask { number, request, .. } => {
                        self.asked.push((*request).clone());
                        self.open.push((number, *request));
                    }
                    Order::KeepStates(changes) => {
                        if self.keeps_states {
                            self.write(changes);
                            self.local.states_kept();
                        }
                    }
                    Order::Keep(changes) => self.write(changes),
                    Order::Tell(news) => self.news.push(news),
                }
            }
            if !self.prompt || self.open.is_empty() {
                return;
            }
            for (number, request) in mem::take(&mut self.open) {
                let reply = self.answer(&request);
                self.local.handle_answer(self.now, number, reply);
            }
        }
    }

    /// The servers answer.
    pub(crate) fn answer(&mut self, request: &Request) -> Reply {
        if let Some(error) = &self.outage {
            return Err(error.clone());
        }
        match request {
            Request::Catalog(catalog::Request::Register(registration)) => {
                self.apply(Command::Register(registration.clone()))
            }
            Request::Catalog(catalog::Request::Deregister(deregistration)) => {
                self.apply(Command::Deregister(deregistration.clone()))
            }
            request => {
                let answer = self.store.query(Question::of(request).expect("a read")).expect("an answer");
                let meta = ReadMeta::default();
                Ok(match answer.body {
                    Body::NodeServices(value) => Response::NodeServices(Read { meta, value }),
                    Body::Checks(value) => Response::Checks(Read { meta, value }),
                    other => panic!("{other:?} to {request:?}"),
                })
            }
        }
    }

    pub(crate) fn apply(&mut self, command: Command) -> Reply {
        self.index += 1;
        self.store.apply(Index(self.index), command).response
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, wait: Duration) {
        let until = self.now + wait;
        let mut steps = 0;
        while let Some(due) = self.local.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.local.tick(self.now);
            self.settle();
            steps += 1;
            assert!(steps < 100_000, "no end of what is due at {}", self.now);
        }
        self.now = until;
    }

    /// What the catalog says of the node.
    pub(crate) fn node(&self) -> Option<NodeServices> {
        let request = catalog::Request::Node { name: NODE.to_owned(), read: Default::default() }.into();
        match self.store.query(Question::of(&request).unwrap()).unwrap().body {
            Body::NodeServices(node) => node,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn catalog_services(&self) -> Vec<Arc<Service>> {
        self.node().map(|node| node.services).unwrap_or_default()
    }

    pub(crate) fn catalog_checks(&self) -> Vec<Arc<Check>> {
        let request = health::Request::Node { name: NODE.to_owned(), read: Default::default() }.into();
        match self.store.query(Question::of(&request).unwrap()).unwrap().body {
            Body::Checks(checks) => checks,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn catalog_check(&self, id: &str) -> Option<Arc<Check>> {
        self.catalog_checks().into_iter().find(|check| check.id == id)
    }

    /// Somebody else enters something in the catalog.
    pub(crate) fn enter(&mut self, service: Option<Service>, checks: Vec<Check>) {
        let node = Node { name: NODE.to_owned(), address: "10.0.0.1".to_owned(), ..Node::default() };
        let registration = Registration { node, service, checks };
        self.apply(Command::Register(Box::new(registration))).unwrap();
    }

    /// Somebody else strikes something out of the catalog; two empty IDs stand for the node.
    pub(crate) fn strike(&mut self, service: &str, check: &str) {
        let (node, service_id, check_id) = (NODE.to_owned(), service.to_owned(), check.to_owned());
        self.apply(Command::Deregister(Deregistration { node, service_id, check_id })).unwrap();
    }

    pub(crate) fn status(&self, id: &str) -> (String, String) {
        let check = self.local.checks().find(|check| check.id == id).unwrap_or_else(|| panic!("no check {id}"));
        (check.status.clone(), check.output.clone())
    }

    pub(crate) fn check_ids(&self) -> Vec<String> {
        self.local.checks().map(|check| check.id.clone()).collect()
    }

    pub(crate) fn service_ids(&self) -> Vec<String> {
        self.local.services().map(|service| service.id.clone()).collect()
    }

    /// Panics unless the catalog says of the node what is registered, and nothing else but what is left to others.
    pub(crate) fn assert_agreement(&self) {
        let node = self.node().expect("the node is in the catalog").node;
        assert_eq!(node.tagged_addresses.as_ref().map(|kinds| kinds["lan"].as_str()), Some("10.0.0.1"));
        assert_eq!(node.id, self.config.id.0.to_string());
        let bare = |service: &Service| Service {
            tags: Some(service.tags.clone().unwrap_or_default()),
            create_index: Index(0),
            modify_index: Index(0),
            ..service.clone()
        };
        let mine: Vec<_> = self.local.services().map(bare).collect();
        let theirs: Vec<_> = self
            .catalog_services()
            .iter()
            .filter(|service| service.id != "consul")
            .map(|service| bare(service))
            .collect();
        assert_eq!(mine, theirs);
        let bare = |check: &Check| Check { create_index: Index(0), modify_index: Index(0), ..check.clone() };
        let mine: Vec<_> = self.local.checks().map(bare).collect();
        let theirs: Vec<_> =
            self.catalog_checks().iter().filter(|check| check.id != "serfHealth").map(|check| bare(check)).collect();
        assert_eq!(mine, theirs);
    }
}

pub(crate) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) fn service(id: &str, name: &str) -> ServiceDefinition {
    ServiceDefinition { id: id.to_owned(), name: name.to_owned(), ..ServiceDefinition::default() }
}

pub(crate) fn ttl(name: &str, ttl: u64) -> CheckDefinition {
    CheckDefinition { name: name.to_owned(), ttl: seconds(ttl), ..CheckDefinition::default() }
}

pub(crate) fn tcp(name: &str, interval: u64) -> CheckDefinition {
    CheckDefinition {
        name: name.to_owned(),
        tcp: "h:1".to_owned(),
        interval: seconds(interval),
        ..CheckDefinition::default()
    }
}
