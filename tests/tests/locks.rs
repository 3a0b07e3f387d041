//! Locks and semaphores under fire: leaders that are killed, holders that are stopped, contenders that crowd.

use std::cell::Cell;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lictor_client::client::{self, Client};
use lictor_client::recipe::{Error, Lock, Recipe, Semaphore, Terms};
use lictor_tests::agent::{Process, Signal};
use lictor_tests::cluster::{client as client_options, joining, leader, server_of, wait_for_members, wait_for_voters};
use lictor_tests::wait::until_within;
use lictor_tests::{Agent, binary, until};
use rustix::process::{Pid, kill_process_group};
use serde_json::json;

/// The leader is killed so often.
const KILLS: usize = 10;
const TTL: Duration = Duration::from_secs(4);
const LOCK_DELAY: Duration = Duration::from_secs(1);
/// A lock that nobody gives back can be had after twice the TTL and the lock delay; then somebody must notice, on a machine
/// that has other things to do.
const SLACK: Duration = Duration::from_secs(4);

/// Three servers that lose no time, and two clients of theirs whose sessions no server's death ends.
struct Cluster {
    directory: tempfile::TempDir,
    servers: Vec<Agent>,
    /// Where the servers are, whenever they are: those of raft and of gossip.
    ports: Vec<[String; 2]>,
    clients: Vec<Agent>,
}

impl Cluster {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = json!({ "session_ttl_min": "1s", "performance": { "raft_multiplier": 1 } });
        fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
        let mut cluster = Self { directory, servers: Vec::new(), ports: Vec::new(), clients: Vec::new() };
        for at in 0..3 {
            let server = cluster.server(at);
            let shown = server.get("/v1/agent/self").json();
            let raft = shown["Member"]["Tags"]["port"].as_str().unwrap().to_owned();
            cluster.ports.push([raft, server.gossip().port().to_string()]);
            cluster.servers.push(server);
        }
        for name in ["c0", "c1"] {
            let options = joining(client_options(name, cluster.directory.path()), &cluster.servers[0]);
            cluster.clients.push(Agent::start(&options));
        }
        for agent in cluster.servers.iter().chain(&cluster.clients) {
            wait_for_members(agent, &["s0", "s1", "s2", "c0", "c1"]);
            agent.wait_for_leader();
        }
        for agent in &cluster.clients {
            let created = || agent.ask("PUT", "/v1/session/create", b"");
            until("its node can have sessions", || (created().status == 200).then_some(()));
        }
        cluster
    }

    /// A server, new or back.
    fn server(&self, at: usize) -> Agent {
        let mut options = server_of(3, &format!("s{at}"), self.directory.path());
        if let Some([raft, gossip]) = self.ports.get(at) {
            options.extend([format!("-server-port={raft}"), format!("-serf-lan-port={gossip}")]);
        }
        options.push(format!("-config-file={}", self.directory.path().join("config.json").display()));
        match self.clients.first().or(self.servers.first()) {
            Some(whom) => Agent::start(&joining(options, whom)),
            None => Agent::start(&options),
        }
    }

    /// Kills whoever leads, sees that another one does, and brings the killed one back.
    fn kill_the_leader(&mut self) {
        let at = until("a leader is known", || leader(&self.clients[0], &self.servers));
        self.servers.remove(at).end(Signal::KILL);
        until("another one takes writes", || {
            (self.clients[0].ask("PUT", "/v1/kv/alive", b"").status == 200).then_some(())
        });
        let back = self.server(at);
        self.servers.insert(at, back);
        wait_for_voters(&self.clients[0], &self.servers.iter().collect::<Vec<_>>());
    }
}

/// A resource that everybody may write to at any time, and that knows by the sequence of locks whom to believe.
struct Journal(PathBuf);

/// A line of it: with the index of which tenure it was written, and by whom.
type Line = (u64, String);

impl Journal {
    fn in_folder(folder: &Path) -> Self {
        let path = folder.join("journal");
        fs::write(&path, "").unwrap();
        Self(path)
    }

    fn lines(&self) -> Vec<Line> {
        let text = fs::read_to_string(&self.0).unwrap();
        let line = |line: &str| line.split_once(' ').map(|(index, who)| (index.parse().unwrap(), who.to_owned()));
        text.lines().filter_map(line).collect()
    }

    /// The lines that a fence lets pass, which has never seen a greater index before, and those that it refuses.
    fn fenced(&self) -> (Vec<Line>, Vec<Line>) {
        let mut greatest = 0;
        self.lines().into_iter().partition(|(index, _)| {
            greatest = greatest.max(*index);
            *index == greatest
        })
    }

    /// The command that writes a line.
    fn writing(&self, who: &str) -> String {
        format!("echo $LICTOR_LOCK_INDEX {who} >> {}", self.0.display())
    }
}

fn lock(address: SocketAddr, command: &str) -> Command {
    let mut lock = Command::new(binary::lictor());
    lock.arg("lock").arg(format!("-http-addr={address}"));
    lock.arg(format!("-ttl={}s", TTL.as_secs())).arg(format!("-lock-delay={}s", LOCK_DELAY.as_secs()));
    lock.args(["-verbose", "job", command]);
    lock
}

/// Takes the lock again and again, each time for a moment of work.
fn contend(address: SocketAddr, command: &str, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        // Without a leader it may fail, which costs a turn and no more.
        let _ = lock(address, command).output().unwrap();
    }
}

#[test]
fn locks_hold_while_leaders_are_killed_and_holders_are_stopped() {
    let mut cluster = Cluster::start();
    let journal = Journal::in_folder(cluster.directory.path());
    no_two_work_at_once_while_leaders_are_killed(&mut cluster, &journal);
    a_holder_that_is_stopped_is_succeeded_in_time(&cluster, &journal);
}

fn no_two_work_at_once_while_leaders_are_killed(cluster: &mut Cluster, journal: &Journal) {
    let start = Instant::now();
    let stop = AtomicBool::new(false);
    let addresses: Vec<_> = cluster.clients.iter().map(Agent::address).collect();
    thread::scope(|scope| {
        for (who, address) in ["a", "b"].into_iter().zip(addresses) {
            let writing = journal.writing(who);
            let work = format!("for n in 1 2 3 4 5; do {writing}; sleep 0.05; done");
            let stop = &stop;
            scope.spawn(move || contend(address, &work, stop));
        }
        // Whatever fails here, those who contend are to end.
        let _end = Raise(&stop);
        for _ in 0..KILLS {
            let before = journal.lines().len();
            cluster.kill_the_leader();
            until("work goes on", || (journal.lines().len() > before).then_some(()));
        }
    });
    let (passed, refused) = journal.fenced();
    println!("{KILLS} leaders were killed in {:?}; {} lines were written", start.elapsed(), passed.len());
    assert_eq!(refused, [], "nobody was stopped, so nobody may have worked beyond his time");
    for pair in passed.windows(2) {
        assert!(pair[0].0 < pair[1].0 || pair[0].1 == pair[1].1, "two in one tenure: {pair:?}");
    }
    for who in ["a", "b"] {
        assert!(passed.iter().any(|(_, writer)| writer == who), "{who} never had the lock");
    }
}

/// Raises a flag when it is dropped.
struct Raise<'f>(&'f AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn a_holder_that_is_stopped_is_succeeded_in_time(cluster: &Cluster, journal: &Journal) {
    let folder = cluster.directory.path().display();
    let work = |who: &str| {
        let writing = journal.writing(who);
        // It ends with the folder at the latest.
        format!("echo $$ > {folder}/{who}.pid; while [ -e {folder}/config.json ]; do {writing}; sleep 0.02; done")
    };
    let first_of = |who: &str| journal.lines().into_iter().find(|(_, writer)| writer == who).map(|(index, _)| index);
    let mut holder = Process::run(lock(cluster.clients[0].address(), &work("stopped")));
    let held = until("the first one works", || first_of("stopped"));
    let group: i32 = fs::read_to_string(cluster.directory.path().join("stopped.pid")).unwrap().trim().parse().unwrap();
    let group = Pid::from_raw(group).unwrap();
    let mut successor = Process::run(lock(cluster.clients[1].address(), &work("next")));
    until("the second one waits", || successor.output().contains("Attempting lock acquisition").then_some(()));

    let stopped = Instant::now();
    holder.signal(Signal::STOP);
    kill_process_group(group, Signal::STOP).unwrap();
    let bound = TTL * 2 + LOCK_DELAY + SLACK;
    let next = until_within(bound, "the second one works", || first_of("next"));
    let pause = stopped.elapsed();
    println!("a stopped holder was succeeded after {pause:?}");
    assert!(pause > TTL + LOCK_DELAY, "the session of one that renewed it in time ended too soon: {pause:?}");
    assert!(next > held, "{next} > {held}");

    // Back again, the first one works on until it hears that it must not. The fence knows.
    let seen = journal.lines().len();
    kill_process_group(group, Signal::CONT).unwrap();
    until("the first one works beyond its time", || {
        journal.lines()[seen..].iter().any(|(_, who)| who == "stopped").then_some(())
    });
    holder.signal(Signal::CONT);
    let _ = holder.wait();
    assert!(holder.output().contains("Lock lost, killing child"), "{}", holder.output());
    until("its work has ended with it", || kill_process_group(group, Signal::CONT).is_err().then_some(()));
    let (passed, refused) = journal.fenced();
    assert!(!refused.is_empty() && refused.iter().all(|(_, who)| who == "stopped"), "{refused:?}");
    let after = passed.iter().skip_while(|(_, who)| who != "next");
    assert!(after.clone().all(|(_, who)| who == "next") && after.count() > 0);

    successor.signal(Signal::TERM);
    assert_eq!(successor.wait().code(), Some(0), "{}", successor.output());
}

/// A client and what it runs in.
fn alone<T>(agent: &Agent, run: impl AsyncFnOnce(&Client) -> T) -> T {
    let client = Client::at(agent.address().to_string());
    client::runtime().unwrap().block_on(run(&client))
}

#[test]
fn a_semaphore_has_as_many_holders_as_it_is_told() {
    let agent = Agent::dev();
    agent.wait_for_leader();
    let (inside, most, turns) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let contender = async |client: &Client| {
        let semaphore = Semaphore::new(client, "slots", 2, Terms::default());
        for _ in 0..3 {
            let mut held = semaphore.acquire(std::future::pending()).await.unwrap().unwrap();
            inside.set(inside.get() + 1);
            most.set(most.get().max(inside.get()));
            tokio::select! {
                () = held.lost() => panic!("lost a place for no reason"),
                () = tokio::time::sleep(Duration::from_millis(30)) => {}
            }
            inside.set(inside.get() - 1);
            turns.set(turns.get() + 1);
            held.release().await.unwrap();
        }
    };
    alone(&agent, async |client| {
        tokio::join!(contender(client), contender(client), contender(client), contender(client), contender(client));
        let semaphore = Semaphore::new(client, "slots", 2, Terms::default());
        let held = semaphore.acquire(std::future::pending()).await.unwrap().unwrap();
        let lock = Lock::new(client, "slots", Terms::default());
        let conflict = lock.acquire(std::future::pending()).await.unwrap_err();
        assert_eq!(conflict.to_string(), "Existing key does not match lock use");
        let others = Semaphore::new(client, "slots", 3, Terms::default());
        let conflict = others.acquire(std::future::pending()).await.unwrap_err();
        assert_eq!(conflict.to_string(), "semaphore limit conflict (lock: 2, local: 3)");
        held.release().await.unwrap();
    });
    assert_eq!((most.get(), turns.get()), (2, 15));
    assert_eq!(agent.get("/v1/kv/slots?keys").status, 404, "nothing is left over");
    assert_eq!(agent.get("/v1/session/list").json(), json!([]));
}

#[test]
fn a_lock_has_one_holder_whose_index_grows() {
    let agent = Agent::dev();
    agent.wait_for_leader();
    alone(&agent, async |client| {
        let terms = Terms { lock_delay: Some(Duration::from_secs(1)), ..Terms::default() };
        let lock = Lock::new(client, "lead", terms);
        let mut first = lock.acquire(std::future::pending()).await.unwrap().unwrap();
        let sequencer = first.sequencer().unwrap().clone();
        assert_eq!((&*sequencer.key, &*sequencer.session), ("lead/.lock", first.session()));
        let enough = tokio::time::sleep(Duration::from_millis(50));
        assert!(lock.acquire(enough).await.unwrap().is_none(), "it is held");
        assert!(matches!(lock.clean_up().await, Err(Error::InUse(_))));

        agent.put(&format!("/v1/session/destroy/{}", sequencer.session), b"");
        let told = tokio::time::timeout(Duration::from_secs(20), first.lost()).await;
        assert!(told.is_ok(), "whoever loses a lock hears of it");
        let start = Instant::now();
        let second = lock.acquire(std::future::pending()).await.unwrap().unwrap();
        assert!(start.elapsed() > Duration::from_millis(500), "the lock delay is waited for");
        assert!(second.sequencer().unwrap().index > sequencer.index);
        second.release().await.unwrap();
        lock.clean_up().await.unwrap();

        // The key is gone, and with it the count of its acquisitions. The index goes on.
        let third = lock.acquire(std::future::pending()).await.unwrap().unwrap();
        assert_eq!(third.sequencer().unwrap().lock_index, 1);
        assert!(third.sequencer().unwrap().index > sequencer.index);
        third.release().await.unwrap();
    });
}
