//! What a node has on its disk, and what is under way to it.

use std::collections::VecDeque;

use lictor_core::id::{Index, WriteSeq};
use lictor_core::raft::{Entry, HardState, Position, SnapshotMeta};

/// A write on its way to a disk.
pub(crate) struct Write {
    pub(crate) seq: WriteSeq,
    pub(crate) hard_state: HardState,
    pub(crate) base: Option<Position>,
    pub(crate) entries: Vec<Entry>,
}

/// A snapshot: what raft must know of it, and the positions of all that was applied.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) meta: SnapshotMeta,
    pub(crate) applied: Vec<Position>,
}

#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: Option<Snapshot>,
    /// What the log follows.
    base: Position,
    log: Vec<Entry>,
    pub(crate) last_seq: WriteSeq,
    pub(crate) under_way: VecDeque<Write>,
}

impl Disk {
    pub(crate) fn complete(&mut self, write: Write) {
        self.hard_state = write.hard_state;
        if let Some(base) = write.base {
            self.rebase(base);
        }
        if let Some(first) = write.entries.first() {
            self.log.retain(|entry| entry.index < first.index);
            let last = self.log.last().map_or(self.base, Entry::position);
            assert_eq!(first.index, last.index.next(), "a gap in the log on the disk, which ends at {last}");
        }
        self.log.extend(write.entries);
        self.last_seq = write.seq;
    }

    /// The log goes on behind `base`, and keeps what follows that.
    fn rebase(&mut self, base: Position) {
        if base != self.base && !self.log.iter().any(|entry| entry.position() == base) {
            self.log.clear();
        }
        self.log.retain(|entry| entry.index > base.index);
        self.base = base;
    }

    /// What a node starts from: the log behind the snapshot, if there is one.
    pub(crate) fn recover(&mut self) -> Vec<Entry> {
        if let Some(base) = self.snapshot.as_ref().map(|snapshot| snapshot.meta.position) {
            self.rebase(base);
        }
        self.log.clone()
    }

    /// Whether a crash now would leave this entry.
    pub(crate) fn holds(&self, position: Position) -> bool {
        let snapshot = self.snapshot.as_ref().map_or(Index(0), |snapshot| snapshot.meta.position.index);
        position.index <= snapshot || self.log.iter().any(|entry| entry.position() == position)
    }
}
