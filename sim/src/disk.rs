//! A disk that forgets. What an agent wants written goes through a queue, in groups that become durable
//! together; what was not durable when the power fails survives in part, as the dice say:
//!
//! - Pages reach the platter in any order, sector by sector: of two writes in one unsynced group the later
//!   may survive without the earlier, and of one write any subset of its sectors.
//! - One sector is written as a whole, with what the page cache held at that time: it shows some prefix of the
//!   changes that were made to it.
//! - The length of a file, and its entry in the directory, are written when the file system likes, or at the
//!   sync. A file that was never synced may be gone; a removed one may be back.
//!
//! - A renamed file is whole, under its new name or, if the power fails before the directory is synced, under its
//!   old one; then what had the new name is back.
//!
//! If only the process dies, the page cache lives on: whatever the process had handed over is there.
//!
//! Jobs go through a queue of their own, one after the other, beside the writes.

mod file;
mod jobs;
mod rot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lictor_core::id::WriteSeq;
use lictor_core::io::{FileName, FileOp, Job, Write};
use lictor_core::rng::Rng;

pub(crate) use file::Survival;
use file::{Change, File};

/// A host's disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    files: BTreeMap<FileName, File>,
    /// Writes that wait for the disk thread.
    queue: VecDeque<Write>,
    /// The group that the disk thread is writing and syncing.
    active: Vec<Write>,
    /// Jobs. The first is being done if `is_at_job`.
    jobs: VecDeque<Job>,
    is_at_job: bool,
    /// Renames that a power loss may undo, in their order.
    renames: Vec<Renamed>,
    /// Bytes that fit; none if it is not limited.
    capacity: Option<u64>,
}

/// A rename that is not durable yet.
#[derive(Clone, Debug)]
struct Renamed {
    from: FileName,
    to: FileName,
    /// What had the new name before.
    displaced: Option<File>,
}

/// The disk has no room for a write that was not reserved.
#[derive(Debug)]
pub(crate) struct NoRoom;

impl Disk {
    /// Hands a write to the disk thread. True if the thread was idle: then [`Self::begin`] is due.
    pub(crate) fn submit(&mut self, write: Write) -> bool {
        self.queue.push_back(write);
        self.active.is_empty() && self.queue.len() == 1
    }

    /// The disk thread takes all that waits as one group. The number of bytes in it; none if nothing waits.
    pub(crate) fn begin(&mut self) -> Option<usize> {
        debug_assert!(self.active.is_empty(), "the disk thread does one group at a time");
        self.active.extend(self.queue.drain(..));
        let bytes = |op: &FileOp| if let FileOp::Write { bytes, .. } = op { bytes.len() } else { 0 };
        let total = self.active.iter().flat_map(|write| &write.ops).map(bytes).sum();
        (!self.active.is_empty()).then_some(total)
    }

    /// The group is synced. The last of its writes.
    pub(crate) fn complete(&mut self) -> Result<Option<WriteSeq>, NoRoom> {
        let group = std::mem::take(&mut self.active);
        for write in &group {
            for op in &write.ops {
                self.apply(op);
            }
        }
        if self.capacity.is_some_and(|capacity| self.used() > capacity) {
            return Err(NoRoom);
        }
        for op in group.iter().flat_map(|write| &write.ops) {
            self.sync(op);
        }
        Ok(group.last().map(|write| write.seq))
    }

    /// Sets room aside, if there is any. A file that is long enough needs none.
    pub(crate) fn reserve(&mut self, name: &FileName, size: u64) -> bool {
        let length = self.files.get(name).map_or(0, File::length);
        let used = self.used();
        if self.capacity.is_some_and(|capacity| used + size.saturating_sub(length) > capacity) {
            return false;
        }
        self.files.entry(name.clone()).or_default().change(Change::Extend { size });
        true
    }

    /// Leaves room for `spare` bytes more than there are; none takes the limit away.
    pub(crate) fn limit(&mut self, spare: Option<u64>) {
        self.capacity = spare.map(|spare| self.used() + spare);
    }

    /// The process dies. Its queue dies with it; of the group that was being written, the first few changes
    /// had been handed to the system.
    pub(crate) fn crash_process(&mut self, dice: &mut Rng) {
        self.break_off_jobs(dice);
        self.queue.clear();
        let ops: Vec<FileOp> = std::mem::take(&mut self.active).into_iter().flat_map(|write| write.ops).collect();
        if ops.is_empty() {
            return;
        }
        // Mostly all of them: writing is quick, and the sync is slow.
        let handed_over = if dice.one_in(3) { dice.below(ops.len() as u64 + 1) as usize } else { ops.len() };
        for op in &ops[..handed_over] {
            self.apply(op);
        }
    }

    /// The power fails: of what was not synced, some survives.
    pub(crate) fn lose_power(&mut self, dice: &mut Rng) {
        self.crash_process(dice);
        let survival = Survival::draw(dice);
        self.undo_renames(survival, dice);
        self.files.retain(|_, file| file.survive(survival, dice));
    }

    /// What would be left if the power failed now, at the worst: only what was synced.
    pub(crate) fn durable(&self) -> Self {
        let mut left = Self { files: self.files.clone(), renames: self.renames.clone(), ..Self::default() };
        let mut dice = Rng::seeded(0);
        left.undo_renames(Survival::Nothing, &mut dice);
        left.files.retain(|_, file| file.survive(Survival::Nothing, &mut dice));
        left
    }

    /// Carries out what recovery asks for, without making it durable.
    pub(crate) fn repair(&mut self, repairs: &[FileOp]) {
        for op in repairs {
            self.apply(op);
        }
    }

    /// Makes durable what the repairs touched, and nothing else: what recovery trusts without having it
    /// written again stays as uncertain as it was.
    pub(crate) fn sync_repairs(&mut self, repairs: &[FileOp]) {
        for op in repairs {
            self.sync(op);
        }
    }

    /// Everything is gone.
    pub(crate) fn wipe(&mut self) {
        *self = Self { capacity: self.capacity, ..Self::default() };
    }

    /// The names of all files, as a program lists them.
    pub(crate) fn list(&self) -> Vec<FileName> {
        self.files.iter().filter(|(_, file)| !file.is_removed()).map(|(name, _)| name.clone()).collect()
    }

    /// A file, as a program reads it.
    pub(crate) fn contents(&mut self, name: &str) -> Option<Bytes> {
        self.files.get_mut(name).filter(|file| !file.is_removed()).map(File::read)
    }

    fn used(&self) -> u64 {
        self.files.values().filter(|file| !file.is_removed()).map(File::length).sum()
    }

    fn apply(&mut self, op: &FileOp) {
        match op {
            FileOp::Write { file, offset, bytes } => {
                let change = Change::Write { offset: *offset, bytes: bytes.clone() };
                self.files.entry(file.clone()).or_default().change(change);
            }
            FileOp::Truncate { file, size } => {
                self.files.entry(file.clone()).or_default().change(Change::Truncate { size: *size });
            }
            FileOp::Remove { file } => {
                if let Some(file) = self.files.get_mut(file) {
                    file.remove();
                }
            }
            FileOp::Rename { file, to } => self.rename(file, to),
        }
    }

    fn rename(&mut self, from: &FileName, to: &FileName) {
        let moved = self.files.remove(from).filter(|file| !file.is_removed());
        let mut moved = moved.unwrap_or_else(|| panic!("{from} is to be renamed and does not exist"));
        // Whatever was written to it is made durable first.
        moved.sync();
        let displaced = self.files.insert(to.clone(), moved);
        self.renames.push(Renamed { from: from.clone(), to: to.clone(), displaced });
    }

    /// The power fails: each rename that was not synced has happened, or not.
    fn undo_renames(&mut self, survival: Survival, dice: &mut Rng) {
        for Renamed { from, to, displaced } in std::mem::take(&mut self.renames).into_iter().rev() {
            let undone = match survival {
                Survival::Nothing => true,
                Survival::Everything => false,
                Survival::Prefix | Survival::Sectors => dice.one_in(2),
            };
            // One whose old name is in use again, or that has moved on, has certainly happened.
            if undone
                && !self.files.contains_key(&from)
                && let Some(moved) = self.files.remove(&to)
            {
                self.files.insert(from, moved);
                if let Some(displaced) = displaced {
                    self.files.insert(to, displaced);
                }
            }
        }
    }

    /// What an operation changed becomes durable.
    fn sync(&mut self, op: &FileOp) {
        let name = match op {
            FileOp::Rename { file, to } => {
                self.renames.retain(|renamed| renamed.from != *file || renamed.to != *to);
                to
            }
            op => op.file(),
        };
        if let Some(file) = self.files.get_mut(name)
            && !file.sync()
        {
            self.files.remove(name);
        }
    }
}
