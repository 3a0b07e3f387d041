//! Three agents in one thread, with instant disks and links: what the engine itself costs per write, without any I/O.
//!
//!     cargo bench -p lictor-core

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lictor_core::agent::Agent;
use lictor_core::api::{Call, kv};
use lictor_core::config::Config;
use lictor_core::id::{CallId, PeerId};
use lictor_core::io::{Input, JobOutcome, Output};
use lictor_core::raft::{Configuration, Server};
use lictor_core::recovery::Recovered;
use lictor_core::time::{Duration, Instant};

struct Cluster {
    agents: BTreeMap<SocketAddr, Agent>,
    inputs: VecDeque<(SocketAddr, Input)>,
    now: Instant,
    replies: usize,
    calls: u64,
}

impl Cluster {
    fn new(servers: u64) -> Self {
        let members = Configuration::new((1..=servers).map(|n| (PeerId::numbered(n), address(n))));
        let agents = members.servers.iter().map(|(id, Server { address, .. })| {
            let config = Config { bootstrap: Some(members.clone()), ..Config::new(*id, id.to_string(), *address) };
            (*address, Agent::new(config, u64::from(address.port()), Recovered::default(), Instant::ZERO))
        });
        let mut cluster =
            Self { agents: agents.collect(), inputs: VecDeque::new(), now: Instant::ZERO, replies: 0, calls: 0 };
        while cluster.leader().is_none() {
            cluster.now = cluster.now + Duration::from_millis(50);
            cluster.inputs.extend((1..=servers).map(|n| (address(n), Input::Timeout)));
            cluster.run();
        }
        cluster
    }

    fn leader(&self) -> Option<SocketAddr> {
        self.agents.iter().find(|(_, agent)| agent.raft().is_leader()).map(|(address, _)| *address)
    }

    /// Feeds each agent all that waits for it, drains it, and goes on until nothing waits any more.
    fn run(&mut self) {
        while let Some((to, _)) = self.inputs.front() {
            let (to, mut rest) = (*to, VecDeque::new());
            let agent = self.agents.get_mut(&to).expect("messages go to members");
            for (address, input) in self.inputs.drain(..) {
                if address == to {
                    agent.handle_input(self.now, input);
                } else {
                    rest.push_back((address, input));
                }
            }
            self.inputs = rest;
            while let Some(output) = agent.poll_output() {
                match output {
                    Output::Message { to, envelope } => self.inputs.push_back((to, Input::Message(envelope))),
                    Output::Persist(write) => self.inputs.push_back((to, Input::Persisted(write.seq))),
                    Output::Job(job) => {
                        self.inputs.push_back((to, Input::JobDone { id: job.id, outcome: JobOutcome::Done }));
                    }
                    Output::Reserve { file, size } => {
                        self.inputs.push_back((to, Input::Reserved { file, size, granted: true }));
                    }
                    Output::Reply { reply, .. } => {
                        reply.expect("a healthy cluster takes writes");
                        self.replies += 1;
                    }
                    _ => {}
                }
            }
        }
    }

    /// `writes` puts that arrive together; all are answered.
    fn put(&mut self, writes: u64) {
        let leader = self.leader().expect("a leader was elected");
        let before = self.replies;
        for _ in 0..writes {
            self.calls += 1;
            let key = Bytes::from(format!("bench/{}", self.calls % 10_000));
            let value = Bytes::from_static(&[7; 64]);
            let request = kv::Request::Put { key, value, flags: 0, mode: kv::PutMode::Set };
            self.inputs.push_back((leader, Input::Call { id: CallId(self.calls), call: Call::new(request) }));
        }
        self.run();
        assert_eq!(self.replies - before, usize::try_from(writes).expect("few"));
    }
}

fn address(n: u64) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8300 + u16::try_from(n).expect("few servers")))
}

fn put(c: &mut Criterion) {
    for servers in [1, 3, 5] {
        let mut group = c.benchmark_group(format!("put on {servers} agents"));
        for together in [1, 64] {
            let mut cluster = Cluster::new(servers);
            group.throughput(Throughput::Elements(together));
            group.bench_with_input(BenchmarkId::new("together", together), &together, |b, together| {
                b.iter(|| cluster.put(*together));
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(2));
    targets = put
}
criterion_main!(benches);
