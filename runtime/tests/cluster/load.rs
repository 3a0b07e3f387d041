//! A steady load of writes, which remembers what was acknowledged and when.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{eventually, keys_on, put_call, soon};
use lictor_core::api::{Error, Response};
use lictor_runtime::Handle;

/// A writer that is not answered turns to another server after this.
const WRITER_PATIENCE: Duration = Duration::from_secs(1);

/// How long each writer rests between two writes.
const REST: Duration = Duration::from_millis(2);

/// Writers that go on, whatever happens to the servers, until they are stopped.
pub(crate) struct Load {
    shared: Arc<Mutex<Shared>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

struct Shared {
    /// Whom the writers ask.
    servers: Vec<Handle>,
    acknowledged: BTreeSet<String>,
    last: Instant,
    longest_pause: Duration,
    stopped: bool,
}

/// What a load brought about.
pub(crate) struct Outcome {
    /// The keys of the writes that were acknowledged.
    pub(crate) acknowledged: BTreeSet<String>,
    /// The longest time without an acknowledgement.
    pub(crate) longest_pause: Duration,
}

impl Load {
    /// Begins, with so many writers, each of which asks the servers in turn.
    pub(crate) async fn start(writers: usize, servers: Vec<Handle>) -> Self {
        let shared = Shared {
            servers,
            acknowledged: BTreeSet::new(),
            last: Instant::now(),
            longest_pause: Duration::ZERO,
            stopped: false,
        };
        let shared = Arc::new(Mutex::new(shared));
        let tasks = (0..writers).map(|writer| tokio::spawn(write_on(writer, shared.clone()))).collect();
        let load = Self { shared, tasks };
        load.goes_on().await;
        // What went before was the wait for the first leader.
        load.shared.lock().unwrap().longest_pause = Duration::ZERO;
        load
    }

    /// From now on the writers ask these servers.
    pub(crate) fn turn_to(&self, servers: Vec<Handle>) {
        self.shared.lock().unwrap().servers = servers;
    }

    /// How many writes were acknowledged until now.
    pub(crate) fn count(&self) -> usize {
        self.shared.lock().unwrap().acknowledged.len()
    }

    /// Waits until so many more writes were acknowledged that every writer had its share.
    pub(crate) async fn goes_on(&self) {
        let enough = self.count() + 20 * self.tasks.len();
        eventually("writes go on", || async { (self.count() >= enough).then_some(()) }).await;
    }

    /// Ends it.
    pub(crate) async fn stop(self) -> Outcome {
        self.shared.lock().unwrap().stopped = true;
        for task in self.tasks {
            soon("a writer stops", task).await.unwrap();
        }
        let mut shared = self.shared.lock().unwrap();
        Outcome { acknowledged: std::mem::take(&mut shared.acknowledged), longest_pause: shared.longest_pause }
    }
}

async fn write_on(writer: usize, shared: Arc<Mutex<Shared>>) {
    for n in 0.. {
        let handle = {
            let shared = shared.lock().unwrap();
            if shared.stopped {
                return;
            }
            shared.servers[(writer + n) % shared.servers.len()].clone()
        };
        let key = format!("load/{writer}/{n:06}");
        let call = handle.call(put_call(&key, key.as_str()));
        match tokio::time::timeout(WRITER_PATIENCE, call).await {
            Ok(Ok(Response::Done(true))) => shared.lock().unwrap().acknowledge(key),
            // What comes of it if a server leaves, or the leadership passes to another: the write happened or not.
            Err(_)
            | Ok(Err(Error::LeaderUnreachable | Error::LeadershipLost | Error::NoLeader | Error::ShuttingDown)) => {}
            Ok(other) => panic!("{key}: {other:?}"),
        }
        tokio::time::sleep(REST).await;
    }
}

impl Shared {
    fn acknowledge(&mut self, key: String) {
        let now = Instant::now();
        self.longest_pause = self.longest_pause.max(now - self.last);
        self.last = now;
        self.acknowledged.insert(key);
    }
}

impl Outcome {
    /// Asserts that a server has, before long, everything that was acknowledged.
    pub(crate) async fn is_all_on(&self, handle: &Handle) {
        eventually("a server has all that was acknowledged", || async {
            let found = keys_on(handle, "load/").await;
            self.acknowledged.is_subset(&found).then_some(())
        })
        .await;
    }
}
