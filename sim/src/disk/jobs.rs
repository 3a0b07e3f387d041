//! Jobs: changes of files beside the log's writes, one job after the other.

use bytes::Bytes;
use lictor_core::id::JobId;
use lictor_core::io::{FileOp, Job, JobOutcome};
use lictor_core::rng::Rng;

use super::Disk;
use super::file::{Change, File};

impl Disk {
    /// Hands a job over. True if none was under way: then [`Self::begin_job`] is due.
    pub(crate) fn submit_job(&mut self, job: Job) -> bool {
        self.jobs.push_back(job);
        !self.is_at_job && self.jobs.len() == 1
    }

    /// The next job is taken up. The number of its bytes; none if nothing waits.
    pub(crate) fn begin_job(&mut self) -> Option<usize> {
        debug_assert!(!self.is_at_job, "one job is done at a time");
        let job = self.jobs.front()?;
        self.is_at_job = true;
        Some(job.ops.iter().map(|op| if let FileOp::Write { bytes, .. } = op { bytes.len() } else { 0 }).sum())
    }

    /// The job is done and durable, or the disk had no room for all of it.
    pub(crate) fn complete_job(&mut self) -> Option<(JobId, JobOutcome)> {
        let job = self.jobs.pop_front()?;
        self.is_at_job = false;
        for op in &job.ops {
            if !self.apply_if_room(op) {
                return Some((job.id, JobOutcome::NoRoom));
            }
        }
        for op in &job.ops {
            self.sync(op);
        }
        Some((job.id, JobOutcome::Done))
    }

    /// The process dies: of the job that was under way, some changes had been made, the last of them in part.
    pub(super) fn break_off_jobs(&mut self, dice: &mut Rng) {
        let job = self.jobs.pop_front().filter(|_| self.is_at_job);
        self.is_at_job = false;
        self.jobs.clear();
        let Some(job) = job else { return };
        let made = dice.below(job.ops.len() as u64 + 1) as usize;
        for op in &job.ops[..made] {
            if !self.apply_if_room(op) {
                return;
            }
        }
        if let Some(FileOp::Write { file, offset, bytes }) = job.ops.get(made) {
            let part = bytes.slice(..dice.below(bytes.len() as u64 + 1) as usize);
            self.apply_if_room(&FileOp::Write { file: file.clone(), offset: *offset, bytes: part });
        }
    }

    /// Makes a change as far as there is room for it. False if there is not.
    fn apply_if_room(&mut self, op: &FileOp) -> bool {
        if let (FileOp::Write { file, offset, bytes }, Some(capacity)) = (op, self.capacity) {
            let length = self.files.get(file).filter(|file| !file.is_removed()).map_or(0, File::length);
            let end = length.max(offset + bytes.len() as u64);
            let lacking = (self.used() + end - length).saturating_sub(capacity).min(bytes.len() as u64);
            if lacking > 0 {
                let part: Bytes = bytes.slice(..bytes.len() - lacking as usize);
                if !part.is_empty() {
                    let change = Change::Write { offset: *offset, bytes: part };
                    self.files.entry(file.clone()).or_default().change(change);
                }
                return false;
            }
        }
        self.apply(op);
        true
    }
}
