//! What is registered with a lone server, by calls, with a disk that may be slow or full: how the machine of the registrations is
//! wired to the agent around it.

#[allow(dead_code, reason = "the disk also serves tests that break it")]
mod disk;

use std::collections::BTreeMap;

use disk::{InMemory, carry_out};
use lictor_core::agent::Agent;
use lictor_core::api::agent::{CheckDefinition, Request, ServiceDefinition};
use lictor_core::api::{Call, Error, Reply, Response, catalog};
use lictor_core::config::Config;
use lictor_core::id::{CallId, PeerId};
use lictor_core::io::{Finding, Input, Job, JobOutcome, Output, Probe};
use lictor_core::raft::Configuration;
use lictor_core::recovery::recover;
use lictor_core::time::{Duration, Instant};

struct Lone {
    agent: Agent,
    now: Instant,
    life: u64,
    calls: u64,
    files: BTreeMap<String, Vec<u8>>,
    /// Jobs wait here while the disk is slow.
    jobs: Vec<Job>,
    slow: bool,
    full: bool,
    replies: BTreeMap<CallId, Reply>,
    probes: Vec<Probe>,
}

fn config() -> Config {
    let (id, address) = (PeerId::numbered(1), "10.0.0.1:8300".parse().unwrap());
    Config { bootstrap: Some(Configuration::new([(id, address)])), ..Config::new(id, "foobar", address) }
}

fn agent(files: &mut BTreeMap<String, Vec<u8>>, seed: u64, now: Instant) -> Agent {
    let recovered = recover(&mut InMemory(files)).unwrap();
    recovered.repairs.iter().for_each(|op| carry_out(files, op));
    Agent::new(config(), seed, recovered, now)
}

impl Lone {
    fn new() -> Self {
        let mut files = BTreeMap::new();
        let agent = agent(&mut files, 0, Instant::ZERO);
        let mut lone = Self {
            agent,
            now: Instant::ZERO,
            life: 0,
            calls: 0,
            files,
            jobs: Vec::new(),
            slow: false,
            full: false,
            replies: BTreeMap::new(),
            probes: Vec::new(),
        };
        lone.input(Input::Timeout);
        lone
    }

    fn restart(&mut self) {
        self.life += 1;
        self.jobs.clear();
        self.agent = agent(&mut self.files, self.life, self.now);
        self.input(Input::Timeout);
    }

    fn input(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.agent.handle_input(self.now, input);
            while let Some(output) = self.agent.poll_output() {
                match output {
                    Output::Reply { id, reply } => drop(self.replies.insert(id, reply)),
                    Output::Persist(write) => {
                        write.ops.iter().for_each(|op| carry_out(&mut self.files, op));
                        inputs.push(Input::Persisted(write.seq));
                    }
                    Output::Reserve { file, size } => inputs.push(Input::Reserved { file, size, granted: true }),
                    Output::Job(job) if self.slow => self.jobs.push(job),
                    Output::Job(job) => inputs.push(self.work(&job)),
                    Output::Probe(probe) => self.probes.push(probe),
                    _ => {}
                }
            }
        }
    }

    fn work(&mut self, job: &Job) -> Input {
        if self.full {
            return Input::JobDone { id: job.id, outcome: JobOutcome::NoRoom };
        }
        job.ops.iter().for_each(|op| carry_out(&mut self.files, op));
        Input::JobDone { id: job.id, outcome: JobOutcome::Done }
    }

    fn call(&mut self, request: impl Into<lictor_core::api::Request>) -> CallId {
        self.calls += 1;
        let id = CallId(self.calls);
        self.input(Input::Call { id, call: Call::new(request) });
        id
    }

    fn ask(&mut self, request: impl Into<lictor_core::api::Request>) -> Reply {
        let id = self.call(request);
        self.replies.remove(&id).expect("an answer at once")
    }

    fn wait(&mut self, wait: Duration) {
        let until = self.now + wait;
        while let Some(due) = self.agent.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.input(Input::Timeout);
        }
        self.now = until;
    }

    fn instances(&mut self, name: &str) -> usize {
        let (name, tag) = (name.to_owned(), None);
        let request = catalog::Request::Service { name, tag, filter: Default::default(), read: Default::default() };
        match self.ask(request) {
            Ok(Response::Instances(read)) => read.value.len(),
            other => panic!("{other:?}"),
        }
    }

    fn checks(&mut self) -> Vec<(String, String)> {
        match self.ask(Request::Checks) {
            Ok(Response::LocalChecks(checks)) => checks.into_iter().map(|check| (check.id, check.status)).collect(),
            other => panic!("{other:?}"),
        }
    }
}

fn web() -> Request {
    let check = CheckDefinition { ttl: Duration::from_secs(30), ..CheckDefinition::default() };
    let web = ServiceDefinition { name: "web".into(), checks: vec![check], ..ServiceDefinition::default() };
    Request::RegisterService(Box::new(web))
}

#[test]
fn a_registration_is_in_the_catalog_once_it_is_answered() {
    let mut lone = Lone::new();
    lone.wait(Duration::from_secs(1));
    assert_eq!(lone.ask(web()), Ok(Response::Done(true)));
    assert_eq!(lone.instances("web"), 1);
    let told = Request::UpdateCheck { id: "service:web".into(), status: "passing".into(), output: String::new() };
    assert_eq!(lone.ask(told), Ok(Response::Done(true)));
    lone.restart();
    lone.wait(Duration::from_secs(1));
    assert_eq!(lone.checks(), [("service:web".to_owned(), "passing".to_owned())]);
    assert_eq!(lone.ask(Request::DeregisterService { id: "web".into() }), Ok(Response::Done(true)));
    assert_eq!(lone.instances("web"), 0);
    lone.restart();
    assert_eq!(lone.checks(), []);
}

#[test]
fn a_registration_is_answered_once_it_is_on_the_disk() {
    let mut lone = Lone::new();
    lone.slow = true;
    let id = lone.call(web());
    lone.wait(Duration::from_secs(20));
    assert_eq!(lone.replies.get(&id), None);
    for job in std::mem::take(&mut lone.jobs) {
        let done = lone.work(&job);
        lone.input(done);
    }
    assert_eq!(lone.replies.get(&id), Some(&Ok(Response::Done(true))));
    let id = lone.call(Request::NodeMaintenance { enable: true, reason: String::new() });
    lone.slow = false;
    assert_eq!(lone.replies.get(&id), None);
    lone.restart();
    assert_eq!(lone.checks().len(), 1, "what was not answered need not be kept, what was is");
    lone.full = true;
    assert_eq!(lone.ask(web()), Err(Error::DiskFull));
}

#[test]
fn what_is_as_it_was_is_answered_at_once() {
    let mut lone = Lone::new();
    lone.slow = true;
    assert_eq!(lone.ask(Request::NodeMaintenance { enable: false, reason: String::new() }), Ok(Response::Done(true)));
    assert_eq!(lone.ask(Request::DeregisterCheck { id: "nosuch".into() }), Ok(Response::Done(true)));
    assert_eq!(lone.ask(Request::Redefine(Box::default())), Ok(Response::Done(true)));
}

#[test]
fn probes_go_out_and_findings_come_back() {
    let mut lone = Lone::new();
    let tcp = CheckDefinition {
        name: "c".into(),
        tcp: "h:1".into(),
        interval: Duration::from_secs(5),
        ..CheckDefinition::default()
    };
    assert_eq!(lone.ask(Request::RegisterCheck(Box::new(tcp))), Ok(Response::Done(true)));
    lone.wait(Duration::from_secs(5));
    let probe = lone.probes.remove(0);
    lone.input(Input::Probed { id: probe.id, finding: Finding::Connected });
    assert_eq!(lone.checks(), [("c".to_owned(), "passing".to_owned())]);
}
