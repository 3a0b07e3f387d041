//! One agent whose disk takes its time.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::api::event::{Event, Request};
use crate::config::{self, Config};
use crate::exec::layout::{self, Place};
use crate::id::{CallId, PeerId, SessionId};
use crate::io::{FileOp, Input, Job, JobOutcome};
use crate::recovery::Recovered;
use crate::time::Instant;

fn agent(files: &BTreeMap<String, Bytes>) -> Agent {
    let local = config::Local { sync_interval: crate::time::Duration::ZERO, ..config::Local::default() };
    let exec = config::Exec { enabled: true, ..config::Exec::default() };
    let address = "127.0.0.1:8300".parse().unwrap();
    let config = Config { local, exec, ..Config::new(PeerId::numbered(1), "n1", address) };
    Agent::new(config, 7, Recovered { files: files.clone(), ..Recovered::default() }, Instant::ZERO)
}

/// Feeds it something; gives what it wants done to its small files.
fn feed(agent: &mut Agent, input: Input) -> Vec<Job> {
    agent.handle_input(Instant::ZERO, input);
    std::iter::from_fn(|| agent.poll_output())
        .filter_map(|output| match output {
            Output::Job(job) => Some(job),
            _ => None,
        })
        .collect()
}

/// An agent that crashes before the disk has the event's time may hear of it again: so it must not have done anything yet.
#[test]
fn nothing_is_begun_before_the_disk_knows_that_it_is() {
    let mut files = BTreeMap::new();
    let mut before = agent(&files);
    feed(&mut before, Input::Timeout);
    let place = Place::new("p", SessionId::parse("adf4238a-882b-9ddc-4a9d-5b6758e4159e").unwrap());
    let event = Event { name: layout::EVENT.to_owned(), payload: place.summons(), ..Event::default() };
    let call = Call::new(Request::Fire(event));
    let jobs = feed(&mut before, Input::Call { id: CallId(1), call });
    assert!(!jobs.is_empty() && before.exec.is_empty(), "it has begun");
    for job in jobs {
        for op in &job.ops {
            match op {
                FileOp::Write { file, bytes, .. } => drop(files.insert(file.clone(), bytes.clone())),
                FileOp::Rename { file, to } => {
                    let bytes = files.remove(file).expect("a draft");
                    files.insert(to.clone(), bytes);
                }
                _ => {}
            }
        }
        feed(&mut before, Input::JobDone { id: job.id, outcome: JobOutcome::Done });
    }
    assert_eq!(before.exec.len(), 1);
    // Its next life has the clock, by which gossip drops what comes again.
    let after = agent(&files);
    assert_eq!(after.gossip.event_clock(), before.gossip.event_clock());
    assert!(after.exec.is_empty());
}
