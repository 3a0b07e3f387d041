//! Writes and reads per second through [`Handle`], without HTTP: one server and three, on a real disk or
//! in memory.
//!
//! `cargo run --release -p lictor-runtime --example bench -- [directory] [seconds] [servers] [callers]`
//!
//! The directory decides which disk is measured; without one, or with `-`, nothing is written.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use lictor_core::api::kv::{self, PutMode};
use lictor_core::api::{Call, Consistency, ReadOptions, Response, status};
use lictor_core::config::Config;
use lictor_core::id::PeerId;
use lictor_core::raft::Configuration;
use lictor_runtime::{DataDir, GossipSockets, Handle, Options, Runtime, Storage};

const VALUE: &[u8] = &[b'v'; 64];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().filter(|argument| argument != "-");
    let seconds = arguments.next().map_or(3.0, |text| text.parse().expect("seconds are a number"));
    let length = Duration::from_secs_f64(seconds);
    let mut number = || arguments.next().map(|text| text.parse().expect("a number"));
    let servers: Option<usize> = number();
    let callers: Option<usize> = number();
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    tokio.block_on(async {
        for count in servers.map_or(vec![1, 3], |count| vec![count]) {
            let callers = callers.map_or(vec![1, 16, 64, 256], |count| vec![count]);
            measure(count, &callers, directory.as_deref().map(Path::new), length).await;
        }
    });
}

async fn measure(count: usize, callers: &[usize], directory: Option<&Path>, length: Duration) {
    let root = directory.map(|path| tempfile::tempdir_in(path).expect("a directory to write in"));
    let servers = start(count, root.as_ref().map(tempfile::TempDir::path));
    let handle = leader(&servers).await;
    let place = if root.is_some() { "disk" } else { "memory" };
    for callers in callers {
        let figures = run(&handle, *callers, length, put).await;
        println!("{count} server(s), {place}: PUT from {callers:3} callers: {figures}");
    }
    for (name, consistency) in
        [("default", Consistency::Default), ("stale", Consistency::Stale), ("consistent", Consistency::Consistent)]
    {
        let figures = run(&handle, 64, length / 3, move |n| get(n, consistency)).await;
        println!("{count} server(s), {place}: GET {name} from 64 callers: {figures}");
    }
    for server in servers {
        server.shutdown().await;
    }
}

fn start(count: usize, root: Option<&Path>) -> Vec<Runtime> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().expect("bound")).collect();
    let ids = || (1..).map(PeerId::numbered);
    let members = Configuration::new(ids().zip(addresses.iter().copied()));
    let server = |((id, listener), address)| {
        let storage = root.map_or(Storage::Memory, |root| {
            DataDir::open_as(root.join(format!("{id}")), id).expect("a data directory").into()
        });
        let mut config = Config { bootstrap: Some(members.clone()), ..Config::new(id, format!("node-{id}"), address) };
        let gossip = GossipSockets::bind(SocketAddr::new(address.ip(), 0)).expect("a free port");
        config.gossip.address = gossip.address().expect("bound");
        Runtime::start(Options {
            config,
            storage,
            listener: Some(listener),
            gossip,
            seed: address.port().into(),
            guard: None,
        })
        .expect("a server")
    };
    ids().zip(listeners).zip(addresses.iter().copied()).map(server).collect()
}

async fn leader(servers: &[Runtime]) -> Handle {
    loop {
        for server in servers {
            let reply = server.handle().call(Call::new(status::Request::Leader)).await;
            if matches!(reply, Ok(Response::Leader(Some(leader))) if leader == server.address()) {
                return server.handle();
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn put(n: u64) -> Call {
    let key = format!("bench/{:04}", n % 1000).into();
    Call::new(kv::Request::Put { key, value: VALUE.into(), flags: 0, mode: PutMode::Set })
}

fn get(n: u64, consistency: Consistency) -> Call {
    let read = ReadOptions { consistency, ..ReadOptions::default() };
    Call::new(kv::Request::Get { key: format!("bench/{:04}", n % 1000).into(), read })
}

/// Lets callers call one after the other for a while.
async fn run(
    handle: &Handle,
    callers: usize,
    length: Duration,
    call: impl Fn(u64) -> Call + Copy + Send + 'static,
) -> String {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let handle = handle.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                let mut n = caller as u64 * 7919;
                while begun.elapsed() < length {
                    let asked = Instant::now();
                    handle.call(call(n)).await.expect("an answer");
                    latencies.push(asked.elapsed());
                    n += 1;
                    // Reads never wait, and would keep their thread from the other callers.
                    if n.is_multiple_of(64) {
                        tokio::task::yield_now().await;
                    }
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("a caller's task"));
    }
    let rate = latencies.len() as f64 / begun.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
    format!("{rate:9.0}/s, p50 {:?}, p99 {:?}", at(50), at(99))
}
