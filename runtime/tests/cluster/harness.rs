//! Clusters of real agents in this process: real sockets, real disks, and a deadline for everything.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lictor_core::api::agent::{Itself, Settings};
use lictor_core::api::kv::{self, Entries, PutMode};
use lictor_core::api::operator::{self, RaftServer};
use lictor_core::api::{Call, Consistency, Error, Read, ReadOptions, Response, agent, status};
use lictor_core::config::Config;
use lictor_core::id::{Index, PeerId};
use lictor_core::io::Notice;
use lictor_core::raft::{self, Configuration};
use lictor_runtime::{DataDir, GossipSockets, Handle, Options, Quota, Runtime, StartError, Storage};

/// Everything that is waited for comes within this time, or the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How a test wants its servers to differ from the others'.
pub(crate) type Tune = fn(&mut Config);

/// Servers that founded a cluster together and others that came later, some of which may be down.
pub(crate) struct Cluster {
    root: tempfile::TempDir,
    addresses: Vec<SocketAddr>,
    founders: Configuration,
    tune: Tune,
    servers: Vec<Option<Runtime>>,
    pub(crate) quotas: Vec<Quota>,
}

impl Cluster {
    /// A cluster of `count` servers, all of which are up.
    pub(crate) async fn start(count: usize) -> Self {
        Self::start_tuned(count, |_| {}).await
    }

    /// As [`start`](Self::start), with servers that differ.
    pub(crate) async fn start_tuned(count: usize, tune: Tune) -> Self {
        let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let mut cluster = Self {
            root: tempfile::tempdir().unwrap(),
            founders: Configuration::new(addresses.iter().enumerate().map(|(n, address)| (id(n), *address))),
            addresses,
            tune,
            servers: (0..count).map(|_| None).collect(),
            quotas: (0..count).map(|_| Quota::default()).collect(),
        };
        for (n, listener) in listeners.into_iter().enumerate() {
            cluster.servers[n] = Some(cluster.try_start(n, listener).unwrap());
        }
        cluster
    }

    /// Starts one more server, on an empty disk, that nobody knows of yet.
    pub(crate) fn start_another(&mut self) -> usize {
        let (n, listener) = (self.addresses.len(), TcpListener::bind("127.0.0.1:0").unwrap());
        self.addresses.push(listener.local_addr().unwrap());
        self.quotas.push(Quota::default());
        let server = self.try_start(n, listener).unwrap();
        self.servers.push(Some(server));
        n
    }

    /// Starts a server that is down, on its old address and in its old directory.
    pub(crate) async fn restart(&mut self, n: usize) {
        let server = self.try_restart(n).await.unwrap();
        self.servers[n] = Some(server);
    }

    /// As [`restart`](Self::restart), for a server that may refuse.
    pub(crate) async fn try_restart(&self, n: usize) -> Result<Runtime, StartError> {
        let address = self.addresses[n];
        // Another connection of this machine may be passing through on the same port.
        let bind = || async { TcpListener::bind(address).ok() };
        self.try_start(n, eventually("the old port is free again", bind).await)
    }

    /// Starts a server that is down in its old directory, but on another port.
    pub(crate) fn restart_elsewhere(&mut self, n: usize) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        self.addresses[n] = listener.local_addr().unwrap();
        self.servers[n] = Some(self.try_start(n, listener).unwrap());
    }

    fn try_start(&self, n: usize, listener: TcpListener) -> Result<Runtime, StartError> {
        let directory = DataDir::open_as(self.directory(n), id(n))?;
        let mut config = config(id(n), self.addresses[n], self.founders.clone());
        config.bootstrap = config.bootstrap.filter(|founders| founders.is_member(id(n)));
        (self.tune)(&mut config);
        start(config, Storage::Directory(directory, self.quotas[n].clone()), listener, n as u64)
    }

    pub(crate) fn directory(&self, n: usize) -> PathBuf {
        self.root.path().join(format!("server-{n}"))
    }

    pub(crate) fn address(&self, n: usize) -> SocketAddr {
        self.addresses[n]
    }

    /// Where a server's gossip is, as long as it is up.
    pub(crate) fn gossip_address(&self, n: usize) -> SocketAddr {
        self.servers[n].as_ref().expect("the server is up").gossip_address()
    }

    /// Waits until a server wants to be stopped.
    pub(crate) fn ended(&self, n: usize) -> impl Future<Output = Notice> + use<> {
        self.servers[n].as_ref().expect("the server is up").ended()
    }

    /// A way to call a server that is up.
    pub(crate) fn handle(&self, n: usize) -> Handle {
        self.servers[n].as_ref().expect("the server is up").handle()
    }

    /// Kills a server.
    pub(crate) async fn kill(&mut self, n: usize) {
        self.servers[n].take().expect("the server is up").abort().await;
    }

    /// Stops a server in good order.
    pub(crate) async fn stop(&mut self, n: usize) {
        self.servers[n].take().expect("the server is up").shutdown().await;
    }

    /// The servers that are up.
    pub(crate) fn up(&self) -> Vec<usize> {
        (0..self.servers.len()).filter(|n| self.servers[*n].is_some()).collect()
    }

    /// The server that all that are up take for the leader, once they agree and it is up too.
    pub(crate) async fn leader(&self) -> usize {
        eventually("all servers agree on a leader that is up", || async {
            let mut agreed = None;
            for n in self.up() {
                let leader = leader_known_to(&self.handle(n)).await?;
                if *agreed.get_or_insert(leader) != leader {
                    return None;
                }
            }
            self.up().into_iter().find(|n| Some(self.addresses[*n]) == agreed)
        })
        .await
    }

    /// A server that is up and does not lead.
    pub(crate) async fn follower(&self) -> usize {
        let leader = self.leader().await;
        self.up().into_iter().find(|n| *n != leader).expect("a leader alone has no followers")
    }
}

/// Starts a server whose gossip has a port of its own.
pub(crate) fn start(
    mut config: Config,
    storage: Storage,
    listener: TcpListener,
    seed: u64,
) -> Result<Runtime, StartError> {
    let gossip = GossipSockets::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    config.gossip.address = gossip.address().unwrap();
    Runtime::start(Options { config, storage, listener: Some(listener), gossip, seed, guard: None })
}

/// The ID of a cluster's server.
pub(crate) fn id(n: usize) -> PeerId {
    PeerId::numbered(n as u64 + 1)
}

/// A configuration with quick elections, for a machine that may be busy with other tests.
pub(crate) fn config(id: PeerId, address: SocketAddr, members: Configuration) -> Config {
    Config {
        bootstrap: Some(members),
        raft: raft::Options::with_multiplier(2),
        settings: Settings { server: true, ..Settings::default() },
        ..Config::new(id, format!("node-{id}"), address)
    }
}

/// Asks again until there is an answer.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < deadline, "it never came to pass that {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for something that must end on its own.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("it took too long: {what}"),
    }
}

pub(crate) async fn leader_known_to(handle: &Handle) -> Option<SocketAddr> {
    match handle.call(Call::new(status::Request::Leader)).await {
        Ok(Response::Leader(leader)) => leader,
        other => panic!("unexpected: {other:?}"),
    }
}

pub(crate) async fn itself(handle: &Handle) -> Itself {
    match handle.call(Call::new(agent::Request::Itself)).await {
        Ok(Response::Itself(itself)) => *itself,
        other => panic!("unexpected: {other:?}"),
    }
}

/// Asks something of the cluster's leader, over and over while there is none.
pub(crate) async fn operate(handle: &Handle, request: operator::Request) -> Response {
    eventually("the operator is answered", || async {
        match soon("the operator is answered", handle.call(Call::new(request.clone()))).await {
            Ok(response) => Some(response),
            Err(Error::NoLeader | Error::LeaderUnreachable | Error::LeadershipLost) => None,
            Err(error) => panic!("{request:?}: {error}"),
        }
    })
    .await
}

/// Who takes part, as the leader has it.
pub(crate) async fn members(handle: &Handle) -> Vec<RaftServer> {
    let request = operator::Request::RaftConfiguration { read: ReadOptions::default() };
    match operate(handle, request).await {
        Response::RaftConfiguration(configuration) => configuration.servers,
        other => panic!("unexpected: {other:?}"),
    }
}

pub(crate) fn put_call(key: &str, value: impl Into<Vec<u8>>) -> Call {
    let (key, value) = (key.to_owned().into(), value.into().into());
    Call::new(kv::Request::Put { key, value, flags: 0, mode: PutMode::Set })
}

pub(crate) async fn try_put(handle: &Handle, key: &str, value: &str) -> Result<(), Error> {
    match soon("a put is answered", handle.call(put_call(key, value))).await? {
        Response::Done(true) => Ok(()),
        other => panic!("unexpected: {other:?}"),
    }
}

/// Puts, over and over while there is no leader to do it.
pub(crate) async fn put(handle: &Handle, key: &str, value: &str) {
    eventually("a put succeeds", || async { try_put(handle, key, value).await.ok() }).await;
}

pub(crate) fn get_call(key: &str, consistency: Consistency, index: Index) -> Call {
    let read = ReadOptions { consistency, index, wait: None };
    Call::new(kv::Request::Get { key: key.to_owned().into(), read })
}

pub(crate) async fn read(handle: &Handle, call: Call) -> Result<Read<Entries>, Error> {
    match soon("a read is answered", handle.call(call)).await? {
        Response::KvEntries(read) => Ok(read),
        other => panic!("unexpected: {other:?}"),
    }
}

/// What a key holds.
pub(crate) async fn get(handle: &Handle, key: &str, consistency: Consistency) -> Option<String> {
    let read =
        read(handle, get_call(key, consistency, Index(0))).await.unwrap_or_else(|error| panic!("{key}: {error}"));
    value(&read)
}

pub(crate) fn value(read: &Read<Entries>) -> Option<String> {
    read.value.first().map(|entry| String::from_utf8(entry.value.to_vec()).unwrap())
}

/// The keys that begin with `prefix`, as far as this very server has come.
pub(crate) async fn keys_on(handle: &Handle, prefix: &str) -> BTreeSet<String> {
    let read = ReadOptions { consistency: Consistency::Stale, ..ReadOptions::default() };
    let request = kv::Request::Keys { prefix: prefix.to_owned().into(), separator: "".into(), read };
    match handle.call(Call::new(request)).await {
        Ok(Response::KvKeys(read)) => {
            read.value.into_iter().map(|key| String::from_utf8(key.to_vec()).unwrap()).collect()
        }
        other => panic!("unexpected: {other:?}"),
    }
}
