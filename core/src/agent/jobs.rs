//! What is under way on files beside the log, and what for.

use std::collections::BTreeMap;

use super::Agent;
use crate::file::{FileOp, Job, JobOutcome};
use crate::id::{JobId, Ticket};
use crate::io::Output;
use crate::raft::Position;

/// What a job is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Snapshots.
    Snapshot(SnapshotJob),
    /// A small file that is kept.
    Keep(Then),
}

/// What a job for a snapshot is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SnapshotJob {
    /// A piece of our own snapshot.
    Cut,
    /// The name of our own snapshot, which is whole then.
    CutWhole(Position),
    /// A piece of a leader's snapshot: all before `next` are durable then.
    Received { position: Position, next: u32 },
    /// The name of a leader's snapshot, which is whole then.
    ReceivedWhole(Position),
    /// Something goes that nobody needs.
    Tidy,
}

/// What happens once a file is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing: it is written again sooner or later.
    Nothing,
    /// This call has had its effect.
    Answer(Ticket),
    /// Events up to the clock that was kept are acted upon.
    Deliver,
    /// We have left.
    Left,
    /// We are pledged to found a cluster: see `founding.rs`.
    Pledge(u64),
    /// The next states of checks may follow.
    States,
}

/// The jobs that are not answered.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    pending: BTreeMap<JobId, Purpose>,
    last: JobId,
}

impl Jobs {
    /// The job that was given last.
    pub(super) fn last(&self) -> JobId {
        self.last
    }

    /// What jobs are under way for.
    pub(super) fn purposes(&self) -> impl Iterator<Item = &Purpose> {
        self.pending.values()
    }
}

impl Agent {
    /// Has changes made to files. They are answered in the order in which they are asked for.
    pub(super) fn do_job(&mut self, purpose: Purpose, ops: Vec<FileOp>) {
        if ops.is_empty() {
            return;
        }
        self.jobs.last = self.jobs.last.next();
        let id = self.jobs.last;
        self.jobs.pending.insert(id, purpose);
        self.outputs.push_back(Output::Job(Job { id, ops }));
    }

    pub(super) fn job_done(&mut self, id: JobId, outcome: JobOutcome) {
        match self.jobs.pending.remove(&id) {
            None => {}
            Some(Purpose::Snapshot(purpose)) => self.snapshot_job_done(id, purpose, outcome),
            Some(Purpose::Keep(then)) => self.kept(then, outcome),
        }
    }
}
