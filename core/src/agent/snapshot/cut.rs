//! A snapshot of our own store on its way to the disk.

use crate::file::FileOp;
use crate::id::Index;
use crate::raft::{Position, SnapshotMeta};
use crate::snapshot::{self, Encoder};
use crate::store::Store;

/// Writes a clone of the store, a piece at a time, into a draft that gets its name once all pieces are on the disk.
#[derive(Debug)]
pub(super) struct Cut {
    position: Position,
    encoder: Encoder,
    bytes: u64,
    /// Why it was due.
    growth: Growth,
}

impl Cut {
    pub(super) fn new(meta: &SnapshotMeta, store: Store, piece_bytes: usize, growth: Growth) -> Self {
        Self { position: meta.position, encoder: Encoder::new(meta, store, piece_bytes), bytes: 0, growth }
    }

    /// The clone of the store, which is not needed any more.
    pub(super) fn into_store(self) -> Store {
        self.encoder.into_store()
    }

    /// What had been applied when it was begun.
    pub(super) const fn growth(&self) -> Growth {
        self.growth
    }

    /// The entry that it ends with.
    pub(super) const fn position(&self) -> Position {
        self.position
    }

    /// What it takes on the disk, as far as it was written.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What brings the next piece to the disk; `None` if the last one was asked for already.
    pub(super) fn next_ops(&mut self) -> Option<Vec<FileOp>> {
        let bytes = self.encoder.next_piece()?;
        let file = snapshot::DRAFT.to_owned();
        let mut ops = Vec::new();
        if self.bytes == 0 {
            // Of an earlier attempt that was given up.
            ops.push(FileOp::Remove { file: file.clone() });
        }
        let offset = self.bytes;
        self.bytes += bytes.len() as u64;
        ops.push(FileOp::Write { file, offset, bytes });
        Some(ops)
    }

    /// Whether the last piece was asked for.
    pub(super) fn is_finished(&self) -> bool {
        self.encoder.is_finished()
    }

    /// Gives the draft its name. That must wait until all pieces are on the disk: where one of them found no room, the
    /// next one may well find some, and recovery trusts the name.
    pub(super) fn naming(&self) -> FileOp {
        FileOp::Rename { file: snapshot::DRAFT.to_owned(), to: snapshot::file_name(self.position) }
    }
}

/// What was applied since the last snapshot was begun.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Growth {
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

impl Growth {
    /// The snapshot that was begun `before` does not come to its end: the next one is due for all that is not in any.
    pub(super) const fn take_back(&mut self, before: Self) {
        self.entries += before.entries;
        self.bytes += before.bytes;
    }

    /// Whether the next snapshot is due; see [`crate::config::Snapshots`].
    pub(super) const fn is_due(self, options: &crate::config::Snapshots, last_bytes: u64) -> bool {
        let grown = self.entries >= options.entries || self.bytes >= options.bytes;
        grown && self.bytes >= last_bytes / 2
    }
}

/// The snapshots on the disk, the newest first.
#[derive(Debug, Default)]
pub(super) struct Kept {
    files: Vec<(Position, u64)>,
    /// The disk's log still has all entries behind this one.
    log_from: Index,
}

/// How many snapshots are kept: should the newest turn out to be damaged, the one before and the log behind it give
/// the same state.
const KEPT: usize = 2;

impl Kept {
    pub(super) fn new(files: Vec<(Position, u64)>) -> Self {
        Self { files, log_from: Index(0) }
    }

    /// The newest one, with its size in bytes.
    pub(super) fn newest(&self) -> Option<(Position, u64)> {
        self.files.first().copied()
    }

    /// Whether the snapshot at `position` is one of them.
    pub(super) fn holds(&self, position: Position) -> bool {
        self.files.iter().any(|(at, _)| *at == position)
    }

    /// A snapshot of our own is on the disk. Gives the removal of those that are too many.
    pub(super) fn cut(&mut self, position: Position, bytes: u64) -> Vec<FileOp> {
        self.files.insert(0, (position, bytes));
        let gone = self.files.split_off(self.files.len().min(KEPT));
        if self.files.len() == KEPT {
            self.log_from = self.log_from.max(self.files[KEPT - 1].0.index);
        }
        removal(gone)
    }

    /// A leader's snapshot is on the disk, and nothing leads from the others to it. Gives their removal.
    pub(super) fn received(&mut self, position: Position, bytes: u64) -> Vec<FileOp> {
        let gone = std::mem::replace(&mut self.files, vec![(position, bytes)]);
        self.log_from = position.index;
        removal(gone.into_iter().filter(|(at, _)| *at != position).collect())
    }

    /// What of the disk's log nobody needs any more: everything up to here.
    pub(super) const fn needless_log(&self) -> Index {
        self.log_from
    }
}

fn removal(gone: Vec<(Position, u64)>) -> Vec<FileOp> {
    gone.into_iter().map(|(position, _)| FileOp::Remove { file: snapshot::file_name(position) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Snapshots;
    use crate::id::Term;

    fn position(index: u64) -> Position {
        Position { index: Index(index), term: Term(1) }
    }

    #[test]
    fn two_snapshots_are_kept_and_the_log_from_the_older_one_on() {
        let mut kept = Kept::default();
        assert!(kept.cut(position(10), 5).is_empty());
        assert_eq!(kept.needless_log(), Index(0), "the log alone leads to what an older snapshot would hold");
        assert!(kept.cut(position(20), 5).is_empty());
        assert_eq!(kept.needless_log(), Index(10));
        assert_eq!(kept.cut(position(30), 5), [FileOp::Remove { file: snapshot::file_name(position(10)) }]);
        assert_eq!((kept.needless_log(), kept.newest()), (Index(20), Some((position(30), 5))));
        assert_eq!(kept.received(position(90), 7).len(), 2);
        assert_eq!((kept.needless_log(), kept.newest()), (Index(90), Some((position(90), 7))));
    }

    #[test]
    fn a_large_snapshot_waits_for_a_large_log() {
        let options = Snapshots { entries: 100, bytes: 1000, ..Snapshots::default() };
        let grown = |entries, bytes| Growth { entries, bytes };
        assert!(!grown(99, 999).is_due(&options, 0));
        assert!(grown(100, 10).is_due(&options, 20));
        assert!(grown(1, 1000).is_due(&options, 2000));
        assert!(!grown(1000, 1000).is_due(&options, 2002));
    }
}
