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
//! If only the process dies, the page cache lives on: whatever the process had handed over is there.

mod file;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lictor_core::id::WriteSeq;
use lictor_core::io::{FileName, FileOp, Write};
use lictor_core::rng::Rng;

pub(crate) use file::Survival;
use file::{Change, File};

/// A host's disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    files: BTreeMap<FileName, File>,
    /// Writes that wait for the disk thread.
    queue: VecDeque<Write>,
    /// The group that the disk thread is writing and syncing.
    active: Vec<Write>,
    /// Bytes that fit; none if it is not limited.
    capacity: Option<u64>,
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
        let touched = group.iter().flat_map(|write| &write.ops).map(FileOp::file);
        for name in touched {
            Self::sync(&mut self.files, name);
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
        self.files.retain(|_, file| file.survive(survival, dice));
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
            Self::sync(&mut self.files, op.file());
        }
    }

    /// The files as a program reads them.
    pub(crate) fn read_all(&mut self) -> Vec<(FileName, Bytes)> {
        self.files
            .iter_mut()
            .filter(|(_, file)| !file.is_removed())
            .map(|(name, file)| (name.clone(), file.read()))
            .collect()
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
            FileOp::Rename { .. } => unreachable!("no agent asks for it yet"),
        }
    }

    fn sync(files: &mut BTreeMap<FileName, File>, name: &FileName) {
        if let Some(file) = files.get_mut(name)
            && !file.sync()
        {
            files.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "log";

    fn write(seq: u64, offset: u64, bytes: &[u8]) -> Write {
        let bytes = Bytes::copy_from_slice(bytes);
        Write { seq: WriteSeq(seq), ops: vec![FileOp::Write { file: LOG.into(), offset, bytes }] }
    }

    fn settle(disk: &mut Disk) -> Option<WriteSeq> {
        disk.begin();
        disk.complete().expect("the disk is not limited")
    }

    fn contents(disk: &mut Disk) -> Option<Bytes> {
        disk.read_all().into_iter().find(|(name, _)| name == LOG).map(|(_, bytes)| bytes)
    }

    #[test]
    fn a_group_takes_all_that_waits_and_completes_with_its_last_write() {
        let mut disk = Disk::default();
        assert!(disk.submit(write(1, 0, b"a")));
        assert_eq!(disk.begin(), Some(1));
        assert!(!disk.submit(write(2, 1, b"b")));
        assert!(!disk.submit(write(3, 2, b"c")));
        assert_eq!(disk.complete().unwrap(), Some(WriteSeq(1)));
        assert_eq!(settle(&mut disk), Some(WriteSeq(3)));
        assert_eq!(disk.begin(), None);
        assert_eq!(contents(&mut disk).unwrap().as_ref(), b"abc");
    }

    #[test]
    fn what_was_synced_survives_every_power_loss() {
        for seed in 0..200 {
            let mut disk = Disk::default();
            disk.submit(write(1, 0, &[1; 2000]));
            settle(&mut disk);
            disk.submit(write(2, 2000, &[2; 2000]));
            disk.begin();
            disk.lose_power(&mut Rng::seeded(seed));
            assert_eq!(&contents(&mut disk).expect("the file was synced")[..2000], &[1; 2000]);
        }
    }

    #[test]
    fn an_unsynced_write_may_be_lost_or_kept_or_torn_at_sectors() {
        let (mut lost, mut kept, mut torn) = (0, 0, 0);
        for seed in 0..400 {
            let mut disk = Disk::default();
            disk.submit(write(1, 0, &[1; 512]));
            settle(&mut disk);
            disk.submit(write(2, 512, &[2; 2048]));
            disk.begin();
            disk.lose_power(&mut Rng::seeded(seed));
            let bytes = contents(&mut disk).expect("the file was synced");
            let tail = &bytes[512..];
            for sector in tail.chunks(512) {
                assert!(sector.iter().all(|b| *b == sector[0]), "a sector is written as a whole");
            }
            match tail.iter().filter(|b| **b == 2).count() {
                0 => lost += 1,
                2048 => kept += 1,
                _ => torn += 1,
            }
        }
        assert!(lost > 20 && kept > 20 && torn > 20, "lost {lost}, kept {kept}, torn {torn}");
    }

    #[test]
    fn a_later_write_may_survive_an_earlier_one_of_the_same_group() {
        let overtaken = (0..400).filter(|seed| {
            let mut disk = Disk::default();
            disk.submit(write(1, 0, &[0; 2048]));
            settle(&mut disk);
            disk.submit(write(2, 0, &[2; 512]));
            disk.submit(write(3, 1024, &[3; 512]));
            disk.begin();
            disk.lose_power(&mut Rng::seeded(*seed));
            let bytes = contents(&mut disk).expect("the file was synced");
            bytes[0] == 0 && bytes[1024] == 3
        });
        assert!(overtaken.count() > 10);
    }

    #[test]
    fn a_file_that_was_never_synced_may_be_gone_and_a_removed_one_may_be_back() {
        let (mut gone, mut back) = (0, 0);
        for seed in 0..200 {
            let mut dice = Rng::seeded(seed);
            let mut disk = Disk::default();
            disk.submit(write(1, 0, b"new"));
            disk.begin();
            disk.lose_power(&mut dice);
            gone += usize::from(contents(&mut disk).is_none());

            let mut disk = Disk::default();
            disk.submit(write(1, 0, b"old"));
            settle(&mut disk);
            disk.submit(Write { seq: WriteSeq(2), ops: vec![FileOp::Remove { file: LOG.into() }] });
            disk.begin();
            disk.lose_power(&mut dice);
            back += usize::from(contents(&mut disk).is_some_and(|bytes| bytes.as_ref() == b"old"));
        }
        assert!((20..180).contains(&gone), "{gone}");
        assert!((20..180).contains(&back), "{back}");
    }

    #[test]
    fn a_process_that_dies_leaves_what_it_had_handed_over() {
        let mut all = 0;
        for seed in 0..100 {
            let mut disk = Disk::default();
            disk.submit(write(1, 0, b"a"));
            disk.submit(write(2, 1, b"b"));
            disk.begin();
            disk.submit(write(3, 2, b"c"));
            disk.crash_process(&mut Rng::seeded(seed));
            let bytes = contents(&mut disk).unwrap_or_default();
            assert!(b"ab".starts_with(&bytes), "the queue dies with the process");
            all += usize::from(bytes.len() == 2);
        }
        assert!((40..100).contains(&all), "{all}");
    }

    #[test]
    fn room_is_reserved_only_if_there_is_any() {
        let mut disk = Disk::default();
        assert!(disk.reserve(&LOG.into(), 4096));
        disk.limit(Some(100));
        assert!(disk.reserve(&LOG.into(), 4096), "it is long enough already");
        assert!(!disk.reserve(&LOG.into(), 4197));
        disk.submit(write(1, 0, &[1; 4096]));
        assert_eq!(settle(&mut disk), Some(WriteSeq(1)));
        disk.submit(write(2, 4096, &[1; 101]));
        disk.begin();
        assert!(disk.complete().is_err());
        disk.limit(None);
        assert!(disk.reserve(&LOG.into(), 8192));
        assert_eq!(contents(&mut disk).unwrap().len(), 8192);
    }
}
