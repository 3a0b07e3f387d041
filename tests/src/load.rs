//! A steady load of writes, and what became of each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::http::Http;

/// How often a key is written, if the answers come in time.
const PACE: Duration = Duration::from_millis(10);

/// A client that writes one key after the other, each once.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    writer: Option<JoinHandle<Written>>,
}

/// What it has seen.
#[derive(Debug, Default)]
pub struct Written {
    /// The numbers of the keys whose writes were acknowledged.
    pub acknowledged: Vec<u64>,
    /// How many were not.
    pub refused: u64,
    /// The longest time between two acknowledgements.
    pub longest_pause: Duration,
}

impl Load {
    /// Writes `load/0`, `load/1` and so on through an agent until it is told to stop.
    #[must_use]
    pub fn start(agent: &Agent) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (address, stopped) = (agent.address(), Arc::clone(&stop));
        let writer = thread::spawn(move || write(address, &stopped));
        Self { stop, writer: Some(writer) }
    }

    /// Ends it.
    ///
    /// # Panics
    /// If the client did.
    #[must_use]
    pub fn stop(mut self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.writer.take().expect("it is stopped once").join().expect("the client does not panic")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // The test has failed: the client must not go on without it.
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn write(address: SocketAddr, stopped: &AtomicBool) -> Written {
    let mut written = Written::default();
    let mut connection = None;
    let (mut last, mut next) = (Instant::now(), Instant::now());
    let mut number = 0;
    while !stopped.load(Ordering::Relaxed) {
        let (target, body) = (format!("/v1/kv/load/{number}"), format!("value {number}"));
        let answer = match connection.take() {
            Some(http) => Ok(http),
            None => Http::connect(address),
        };
        let answer = answer.and_then(|mut http| {
            let answer = http.request("PUT", &target, body.as_bytes())?;
            Ok((http, answer))
        });
        match answer {
            Ok((http, answer)) => {
                connection = Some(http);
                if answer.status == 200 && answer.body == b"true" {
                    written.acknowledged.push(number);
                    written.longest_pause = written.longest_pause.max(last.elapsed());
                    last = Instant::now();
                } else {
                    written.refused += 1;
                }
            }
            Err(_) => written.refused += 1,
        }
        number += 1;
        // A client that was held up does not make up for it: the pace is a pace, not a debt.
        next = (next + PACE).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    written.longest_pause = written.longest_pause.max(last.elapsed());
    written
}
