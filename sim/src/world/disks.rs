//! Disks at work: the log's writes in groups, room that is set aside, and jobs beside them.

use lictor_core::io::{FileName, FileOp, Input, Job, JobOutcome, Write};
use lictor_core::time::Duration;

use super::{Event, World, tell};
use crate::check::Verdict;
use crate::dice::Dice as _;

/// Even the slowest disk is done at some time, and well within the calm.
const SLOWEST_SYNC: Duration = Duration::from_secs(2);

impl World {
    pub(super) fn write(&mut self, host: usize, write: Write) {
        self.note(4, host as u64);
        self.trace_ops(&write.ops);
        tell!(self, "{host} writes {} with {} changes", write.seq, write.ops.len());
        self.watcher.writing(self.hosts[host].server, write.seq);
        if self.hosts[host].disk.submit(write) {
            self.begin_sync(host);
        }
    }

    /// The disk thread takes what waits.
    fn begin_sync(&mut self, host: usize) {
        let target = &mut self.hosts[host];
        let Some(bytes) = target.disk.begin() else { return };
        // A hundred megabytes a second, and a sync.
        let transfer = Duration::from_nanos(bytes as u64 * 10);
        let sync = (target.disk_dice.micros(target.plan.sync_us) * target.disk_factor).min(SLOWEST_SYNC);
        let life = target.life;
        self.after(transfer + sync, Event::Synced { host, life });
    }

    pub(super) fn on_synced(&mut self, host: usize, life: u64) -> Verdict {
        if self.hosts[host].life != life || self.hosts[host].agent.is_none() {
            return Ok(());
        }
        let at = self.hosts[host].paused_until;
        if at > self.now {
            // The disk may be done, but nobody is there to notice.
            self.at(at, Event::Synced { host, life });
            return Ok(());
        }
        self.note(5, host as u64);
        match self.hosts[host].disk.complete() {
            Ok(Some(seq)) => {
                self.stats.syncs += 1;
                self.watcher.wrote(self.hosts[host].server, seq);
                tell!(self, "{host} has {seq} on disk");
                self.feed(host, Input::Persisted(seq));
            }
            Ok(None) => {}
            // A write has failed: the process stops rather than to go on with a disk of which it knows nothing.
            Err(crate::disk::NoRoom) => {
                self.stats.disk_failures += 1;
                tell!(self, "{host} cannot write: its disk is full");
                return self.fail_disk(host);
            }
        }
        self.begin_sync(host);
        Ok(())
    }

    pub(super) fn reserve(&mut self, host: usize, file: FileName, size: u64) {
        self.note(6, size);
        let target = &mut self.hosts[host];
        let granted = target.disk.reserve(&file, size);
        let wait = target.disk_dice.micros(target.plan.sync_us);
        let life = target.life;
        self.stats.reservations_refused += u64::from(!granted);
        self.after(wait, Event::Reserved { host, life, file, size, granted });
    }

    pub(super) fn on_reserved(&mut self, host: usize, life: u64, file: FileName, size: u64, granted: bool) {
        if self.hosts[host].life == life && self.hosts[host].agent.is_some() {
            self.note(7, host as u64);
            self.feed(host, Input::Reserved { file, size, granted });
        }
    }

    pub(super) fn job(&mut self, host: usize, job: Job) {
        self.note(15, host as u64);
        self.trace_ops(&job.ops);
        tell!(self, "{host} has job {}: {}", job.id, describe(&job.ops));
        if self.hosts[host].disk.submit_job(job) {
            self.begin_job(host);
        }
    }

    /// The next job is taken up.
    fn begin_job(&mut self, host: usize) {
        let target = &mut self.hosts[host];
        let Some(bytes) = target.disk.begin_job() else { return };
        let transfer = Duration::from_nanos(bytes as u64 * 10);
        let sync = (target.disk_dice.micros(target.plan.sync_us) * target.job_factor).min(SLOWEST_SYNC);
        let life = target.life;
        self.after(transfer + sync, Event::JobDone { host, life });
    }

    pub(super) fn on_job_done(&mut self, host: usize, life: u64) {
        if self.hosts[host].life != life || self.hosts[host].agent.is_none() {
            return;
        }
        let at = self.hosts[host].paused_until;
        if at > self.now {
            self.at(at, Event::JobDone { host, life });
            return;
        }
        self.note(16, host as u64);
        if let Some((id, outcome)) = self.hosts[host].disk.complete_job() {
            self.stats.jobs += 1;
            self.stats.jobs_without_room += u64::from(outcome == JobOutcome::NoRoom);
            tell!(self, "{host} has done job {id}: {outcome:?}");
            self.feed(host, Input::JobDone { id, outcome });
        }
        self.begin_job(host);
    }

    fn trace_ops(&mut self, ops: &[FileOp]) {
        for op in ops {
            if let FileOp::Write { offset, bytes, .. } = op {
                self.trace.word(*offset);
                self.trace.bytes(bytes);
            }
        }
    }
}

/// What a job does, in short.
fn describe(ops: &[FileOp]) -> String {
    let one = |op: &FileOp| match op {
        FileOp::Write { file, offset, bytes } => format!("write {} bytes at {offset} of {file}", bytes.len()),
        FileOp::Truncate { file, size } => format!("cut {file} to {size}"),
        FileOp::Remove { file } => format!("remove {file}"),
        FileOp::Rename { file, to } => format!("rename {file} to {to}"),
    };
    ops.iter().map(one).collect::<Vec<_>>().join(", ")
}
