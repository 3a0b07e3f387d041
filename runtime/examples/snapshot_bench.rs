//! What snapshots cost the writers: the latency of PUT with three servers on one machine and one disk, undisturbed, while
//! all three cut a snapshot, and while the leader sends one to a fourth server, which joins with an empty disk and installs
//! it.
//!
//! `cargo run --release -p lictor-runtime --example snapshot_bench -- <directory> [keys] [value bytes] [writes/s] [seconds]`
//!
//! The directory decides which disk is measured. A million keys of 1024 bytes by default, 2000 writes per second, and 20
//! seconds for what is undisturbed. Each phase is measured twice, at the fixed rate and with 16 writers that
//! write as fast as they are answered. A latency counts from when the write was due, so that writes which had to queue up
//! behind a slow one are not left out. The aim is a p99 of less than 5 times the undisturbed one.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lictor_core::api::kv::{self, PutMode};
use lictor_core::api::{Call, Response, agent, operator, status};
use lictor_core::config::Config;
use lictor_core::id::PeerId;
use lictor_core::raft::Configuration;
use lictor_runtime::{DataDir, GossipSockets, Handle, Options, Runtime};
use tokio::task::JoinHandle;

/// Writers of the closed loop, and of the filling.
const WRITERS: u64 = 16;

/// The servers of the cluster, but for one that joins and leaves.
const FOUNDERS: usize = 3;

struct Parameters {
    directory: PathBuf,
    keys: u64,
    value: Vec<u8>,
    rate: u64,
    undisturbed: Duration,
}

#[derive(Clone, Copy)]
enum Pace {
    /// So many writes per second, whether or not those before are answered.
    Fixed(u64),
    /// So many writers, each of which writes again when it is answered.
    Closed(u64),
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().expect("a directory to measure in is given").into();
    let mut number = |default: u64| arguments.next().map_or(default, |text| text.parse().expect("a number"));
    let (keys, bytes) = (number(1_000_000), number(1024));
    let value: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
    let (rate, undisturbed) = (number(2000), Duration::from_secs(number(20)));
    let parameters = Parameters { directory, keys, value, rate, undisturbed };
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    tokio.block_on(measure(&parameters));
}

async fn measure(parameters: &Parameters) {
    let root = tempfile::tempdir_in(&parameters.directory).expect("a directory to write in");
    let mut cluster = Cluster::start(root.path());
    let begun = Instant::now();
    fill(&cluster.leader().await.1, parameters).await;
    for n in 0..FOUNDERS {
        while last_snapshot(&cluster.handle(n)).await == 0 {
            grow(&cluster.leader().await.1).await;
        }
    }
    println!("{} keys of {} bytes filled in {:.0?}", parameters.keys, parameters.value.len(), begun.elapsed());
    print_row(["pace", "phase", "seconds", "writes/s", "p50 ms", "p99 ms", "max ms", "ratio"].map(str::to_owned));
    for (name, pace) in [
        (format!("{} writes/s", parameters.rate), Pace::Fixed(parameters.rate)),
        (format!("{WRITERS} writers"), Pace::Closed(WRITERS)),
    ] {
        cluster.all_are_quiet().await;
        let (leader, handle) = cluster.leader().await;
        let load = Load::start(&handle, pace, parameters);
        tokio::time::sleep(parameters.undisturbed).await;
        let undisturbed = load.stop().await;
        undisturbed.print(&name, "undisturbed", undisturbed.percentile(99));

        make_a_snapshot_due(&handle, || cluster.is_cutting(leader)).await;
        let load = Load::start(&handle, pace, parameters);
        cluster.all_are_quiet().await;
        load.stop().await.print(&name, "all three cut one", undisturbed.percentile(99));

        let new = cluster.start_empty();
        let load = Load::start(&handle, pace, parameters);
        cluster.join(new, &handle).await;
        load.stop().await.print(&name, "one is sent and installed", undisturbed.percentile(99));
        cluster.leave(new, &handle).await;
    }
    cluster.stop().await;
}

/// Writes every key once.
async fn fill(handle: &Handle, parameters: &Parameters) {
    let value = bytes::Bytes::from(parameters.value.clone());
    let keys = parameters.keys;
    let writers: Vec<_> = (0..WRITERS * 4)
        .map(|writer| {
            let (handle, value) = (handle.clone(), value.clone());
            tokio::spawn(async move {
                for n in (writer..keys).step_by(usize::try_from(WRITERS * 4).expect("a small number")) {
                    handle.call(put(n, value.clone())).await.expect("an answer");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer's task");
    }
}

/// Lets the log grow until a snapshot is begun.
async fn make_a_snapshot_due(handle: &Handle, is_cutting: impl Fn() -> bool) {
    while !is_cutting() {
        grow(handle).await;
    }
}

/// Lets the log grow by 2 MiB, and the store by no more than that, however often.
async fn grow(handle: &Handle) {
    let value = bytes::Bytes::from(vec![b'g'; 256 << 10]);
    let writes: Vec<_> = (0..8)
        .map(|n| {
            let (handle, value) = (handle.clone(), value.clone());
            tokio::spawn(async move { handle.call(put_under(format!("growth/{n}"), value)).await })
        })
        .collect();
    for write in writes {
        write.await.expect("a writer's task").expect("an answer");
    }
}

fn put(n: u64, value: bytes::Bytes) -> Call {
    put_under(format!("bench/{n:08}"), value)
}

fn put_under(key: String, value: bytes::Bytes) -> Call {
    Call::new(kv::Request::Put { key: key.into(), value, flags: 0, mode: PutMode::Set })
}

/// Writers at work.
struct Load {
    stop: Arc<AtomicBool>,
    begun: Instant,
    tasks: Vec<JoinHandle<Vec<Duration>>>,
}

impl Load {
    fn start(handle: &Handle, pace: Pace, parameters: &Parameters) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let value = bytes::Bytes::from(parameters.value.clone());
        let (begun, keys) = (Instant::now(), parameters.keys);
        let tasks = match pace {
            Pace::Fixed(rate) => {
                vec![tokio::spawn(write_at_a_rate(handle.clone(), rate, keys, value, stop.clone()))]
            }
            Pace::Closed(writers) => (0..writers)
                .map(|n| tokio::spawn(write_when_answered(handle.clone(), n, keys, value.clone(), stop.clone())))
                .collect(),
        };
        Self { stop, begun, tasks }
    }

    async fn stop(self) -> Figures {
        let seconds = self.begun.elapsed().as_secs_f64();
        self.stop.store(true, Ordering::Relaxed);
        let mut latencies = Vec::new();
        for task in self.tasks {
            latencies.extend(task.await.expect("a writer's task"));
        }
        latencies.sort_unstable();
        Figures { seconds, latencies }
    }
}

/// A key that is far from the one before it.
fn scattered(n: u64, keys: u64) -> u64 {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % keys
}

async fn write_at_a_rate(
    handle: Handle,
    rate: u64,
    keys: u64,
    value: bytes::Bytes,
    stop: Arc<AtomicBool>,
) -> Vec<Duration> {
    let begun = Instant::now();
    let mut writes = tokio::task::JoinSet::new();
    let mut latencies = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let due = begun + Duration::from_secs(n) / u32::try_from(rate).expect("a rate that a machine can keep");
        tokio::time::sleep_until(due.into()).await;
        let (handle, call) = (handle.clone(), put(scattered(n, keys), value.clone()));
        writes.spawn(async move {
            handle.call(call).await.expect("an answer");
            due.elapsed()
        });
        while let Some(latency) = writes.try_join_next() {
            latencies.push(latency.expect("a writer's task"));
        }
    }
    latencies.extend(writes.join_all().await);
    latencies
}

async fn write_when_answered(
    handle: Handle,
    writer: u64,
    keys: u64,
    value: bytes::Bytes,
    stop: Arc<AtomicBool>,
) -> Vec<Duration> {
    let mut latencies = Vec::new();
    let mut n = writer << 32;
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        handle.call(put(scattered(n, keys), value.clone())).await.expect("an answer");
        latencies.push(asked.elapsed());
        n += 1;
    }
    latencies
}

/// What a load met, its latencies in order.
struct Figures {
    seconds: f64,
    latencies: Vec<Duration>,
}

impl Figures {
    fn percentile(&self, percent: usize) -> f64 {
        let last = self.latencies.len().checked_sub(1).expect("something was written");
        self.latencies[last * percent / 100].as_secs_f64() * 1000.0
    }

    fn print(&self, pace: &str, phase: &str, undisturbed: f64) {
        let rate = self.latencies.len() as f64 / self.seconds;
        print_row([
            pace.to_owned(),
            phase.to_owned(),
            format!("{:.1}", self.seconds),
            format!("{rate:.0}"),
            format!("{:.2}", self.percentile(50)),
            format!("{:.2}", self.percentile(99)),
            format!("{:.2}", self.percentile(100)),
            format!("{:.1}", self.percentile(99) / undisturbed),
        ]);
    }
}

fn print_row([pace, phase, seconds, rate, median, high, highest, ratio]: [String; 8]) {
    println!("{pace:<14} {phase:<26} {seconds:>8} {rate:>9} {median:>8} {high:>8} {highest:>8} {ratio:>6}");
}

/// The servers, on one disk.
struct Cluster {
    root: PathBuf,
    addresses: Vec<std::net::SocketAddr>,
    servers: Vec<Option<Runtime>>,
}

impl Cluster {
    fn start(root: &Path) -> Self {
        let listeners: Vec<_> = (0..FOUNDERS).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let addresses = listeners.iter().map(|listener| listener.local_addr().expect("bound")).collect();
        let mut cluster = Self { root: root.to_owned(), addresses, servers: Vec::new() };
        for (n, listener) in listeners.into_iter().enumerate() {
            let server = cluster.server(n, listener);
            cluster.servers.push(Some(server));
        }
        cluster
    }

    fn server(&self, n: usize, listener: TcpListener) -> Runtime {
        let id = id(n);
        let founders = Configuration::new((0..FOUNDERS).map(|n| (self::id(n), self.addresses[n])));
        let mut config = Config {
            bootstrap: founders.is_member(id).then_some(founders),
            ..Config::new(id, format!("node-{id}"), self.addresses[n])
        };
        let gossip = GossipSockets::bind(SocketAddr::new(self.addresses[n].ip(), 0)).expect("a free port");
        config.gossip.address = gossip.address().expect("bound");
        let storage = DataDir::open_as(self.directory(n), id).expect("a data directory").into();
        Runtime::start(Options { config, storage, listener: Some(listener), gossip, seed: n as u64, guard: None })
            .expect("a server")
    }

    fn directory(&self, n: usize) -> PathBuf {
        self.root.join(format!("server-{n}"))
    }

    fn handle(&self, n: usize) -> Handle {
        self.servers[n].as_ref().expect("it is up").handle()
    }

    async fn leader(&self) -> (usize, Handle) {
        loop {
            for (n, server) in self.servers.iter().enumerate() {
                let Some(server) = server else { continue };
                let reply = server.handle().call(Call::new(status::Request::Leader)).await;
                if matches!(reply, Ok(Response::Leader(Some(leader))) if leader == self.addresses[n]) {
                    return (n, server.handle());
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn is_cutting(&self, n: usize) -> bool {
        self.directory(n).join("raft/snapshot.new").exists()
    }

    /// Waits until nobody cuts a snapshot.
    async fn all_are_quiet(&self) {
        while (0..FOUNDERS).any(|n| self.is_cutting(n)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Starts another server, on an empty disk.
    fn start_empty(&mut self) -> usize {
        let (n, listener) = (self.servers.len(), TcpListener::bind("127.0.0.1:0").expect("a free port"));
        self.addresses.push(listener.local_addr().expect("bound"));
        let server = self.server(n, listener);
        self.servers.push(Some(server));
        n
    }

    /// Adds a server, and waits until it has installed a snapshot.
    async fn join(&self, n: usize, leader: &Handle) {
        let request = operator::Request::AddPeer { id: id(n), address: self.addresses[n] };
        leader.call(Call::new(request)).await.expect("it may join");
        while last_snapshot(&self.handle(n)).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Removes a server, with all that it has.
    async fn leave(&mut self, n: usize, leader: &Handle) {
        let request = operator::Request::RemovePeer(operator::Peer::Id(id(n).0.to_string()));
        leader.call(Call::new(request)).await.expect("it may leave");
        self.servers[n].take().expect("it is up").abort().await;
        std::fs::remove_dir_all(self.directory(n)).expect("its directory can be removed");
    }

    async fn stop(self) {
        for server in self.servers.into_iter().flatten() {
            server.shutdown().await;
        }
    }
}

fn id(n: usize) -> PeerId {
    PeerId::numbered(n as u64 + 1)
}

async fn last_snapshot(handle: &Handle) -> u64 {
    match handle.call(Call::new(agent::Request::Itself)).await {
        Ok(Response::Itself(itself)) => itself.stats["raft"]["last_snapshot_index"].parse().expect("a number"),
        other => panic!("unexpected: {other:?}"),
    }
}
