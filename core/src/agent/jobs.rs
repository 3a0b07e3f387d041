//! What is under way on files beside the log, and what for.

use std::collections::BTreeMap;

use super::{Agent, keep, snapshot};
use crate::file::{FileOp, Job, JobOutcome};
use crate::id::JobId;
use crate::io::Output;

/// What a job is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Snapshots.
    Snapshot(snapshot::Purpose),
    /// A small file that is kept.
    Keep(keep::Then),
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
