//! What was acknowledged is kept, however the process ends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use lictor_tests::agent::Signal;
use lictor_tests::{Agent, Http, until};

const KILLS: u64 = 50;
const WRITERS: usize = 4;
/// Each writer goes round this many keys.
const KEYS: u64 = 16;

/// What one writer knows: of each key the last number that was sent and the last that was acknowledged.
/// What was sent later may have been written before the process died, or not.
#[derive(Default)]
struct Knowledge {
    sent: BTreeMap<u64, u64>,
    acknowledged: BTreeMap<u64, u64>,
}

/// What writers and test share.
struct Load {
    address: Mutex<Option<SocketAddr>>,
    acknowledged: AtomicU64,
    stop: AtomicBool,
    writers: Vec<Mutex<Knowledge>>,
}

impl Load {
    /// Writes growing numbers until told to stop, each key one at a time.
    fn write(&self, writer: usize) {
        let mut http: Option<(SocketAddr, Http)> = None;
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let address = *self.address.lock().unwrap();
            let Some(address) = address else {
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            if http.as_ref().is_none_or(|(connected, _)| *connected != address) {
                http = Http::connect(address).ok().map(|http| (address, http));
            }
            let Some((_, connection)) = &mut http else { continue };
            number += 1;
            let key = number % KEYS;
            self.writers[writer].lock().unwrap().sent.insert(key, number);
            let target = format!("/v1/kv/w{writer}/{key}");
            match connection.request("PUT", &target, number.to_string().as_bytes()) {
                Ok(answer) if answer.status == 200 && answer.text() == "true" => {
                    self.writers[writer].lock().unwrap().acknowledged.insert(key, number);
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) => {}
                Err(_) => http = None,
            }
        }
    }

    /// Every acknowledged number is there, or one that was sent after it.
    fn check(&self, agent: &Agent) {
        for (writer, knowledge) in self.writers.iter().enumerate() {
            let knowledge = knowledge.lock().unwrap();
            for (key, acknowledged) in &knowledge.acknowledged {
                let answer = agent.get(&format!("/v1/kv/w{writer}/{key}?raw"));
                assert_eq!(answer.status, 200, "w{writer}/{key} is gone, {acknowledged} had been acknowledged");
                let found: u64 = answer.text().parse().unwrap();
                let expected = *acknowledged..=knowledge.sent[key];
                assert!(
                    expected.contains(&found),
                    "w{writer}/{key} is {found}, although {acknowledged} had been acknowledged"
                );
            }
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed_fifty_times_under_load() {
    let directory = tempfile::tempdir().unwrap();
    let load = Arc::new(Load {
        address: Mutex::new(None),
        acknowledged: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        writers: (0..WRITERS).map(|_| Mutex::default()).collect(),
    });
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let load = Arc::clone(&load);
            thread::spawn(move || load.write(writer))
        })
        .collect();
    for kill in 0..KILLS {
        let agent = Agent::on(directory.path());
        agent.wait_for_leader();
        load.check(&agent);
        // From a few writes to a few hundred, so that the end comes in all kinds of moments.
        let enough = load.acknowledged.load(Ordering::Relaxed) + 5 + kill * kill % 293;
        *load.address.lock().unwrap() = Some(agent.address());
        until("writes are acknowledged", || (load.acknowledged.load(Ordering::Relaxed) >= enough).then_some(()));
        let killed = agent.end(Signal::KILL);
        assert!(killed.code().is_none(), "it was killed and had no say in it: {killed}");
        *load.address.lock().unwrap() = None;
    }
    load.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().unwrap();
    }
    let agent = Agent::on(directory.path());
    agent.wait_for_leader();
    load.check(&agent);
    println!("{} writes were acknowledged over {KILLS} kills", load.acknowledged.load(Ordering::Relaxed));
}

#[test]
fn an_orderly_end_keeps_all_and_is_quick_even_with_blocked_readers() {
    let directory = tempfile::tempdir().unwrap();
    let agent = Agent::on(directory.path());
    agent.wait_for_leader();
    agent.put("/v1/kv/kept", b"1");
    let index = agent.get("/v1/kv/kept").index();
    let mut blocked = agent.http();
    blocked.send("GET", &format!("/v1/kv/kept?index={index}&wait=9m"), b"").unwrap();
    assert!(blocked.is_silent(Duration::from_millis(50)));
    assert_eq!(agent.end(Signal::TERM).code(), Some(1));
    let agent = Agent::on(directory.path());
    agent.wait_for_leader();
    assert_eq!(agent.get("/v1/kv/kept?raw").text(), "1");
}
