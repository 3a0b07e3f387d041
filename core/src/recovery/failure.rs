//! Why a server cannot start on its files, in words for the operator.

use crate::file::FileName;
use crate::id::Index;
use crate::snapshot::Damaged;
use crate::wal::Corrupt;

const ADVICE: &str = "If the other servers of the cluster are healthy, move the whole data directory away and let this \
    server join again and copy their data; a single server needs a backup.";

/// Why recovery refuses. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure<E> {
    /// A file could not be read.
    #[error("the server's files cannot be read")]
    Files(E),
    /// The log cannot be trusted.
    #[error(transparent)]
    Corrupt(Corrupt),
    /// A snapshot is damaged, and without it something would be lost.
    #[error(
        "snapshot {file}, which the log builds on, is damaged: {problem}. Nothing was changed. {ADVICE} Check the disk."
    )]
    SnapshotDamaged {
        /// The file, relative to the data directory.
        file: FileName,
        /// What is wrong with it.
        problem: SnapshotProblem,
    },
    /// There is no snapshot where the log goes on.
    #[error(
        "snapshot {}, which the log builds on, is missing or damaged. Nothing was changed. If files were moved out of \
         the data directory, put them back and start again. {ADVICE}",
        .file.clone().unwrap_or_else(|| format!("of the log up to index {up_to} or further"))
    )]
    SnapshotMissing {
        /// The file, relative to the data directory, if the log says just which one it was.
        file: Option<FileName>,
        /// How far it must reach.
        up_to: Index,
    },
    /// There are snapshots and no log.
    #[error(
        "the raft log is missing: there are snapshots, and not a single segment raft/wal-…, which would say how this \
         server voted. Nothing was changed. If files were moved out of the data directory, put them back and start \
         again. {ADVICE}"
    )]
    NoLog,
    /// `raft/peers.json` is not what it should be.
    #[error("raft/peers.json: {0}. Nothing was changed. Correct the file, or remove it, and start again.")]
    Peers(String),
}

/// What is wrong with a snapshot's file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotProblem {
    /// It is no snapshot, or not whole.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// It is a whole snapshot of another place of the log.
    #[error("it is the snapshot {0} under another name")]
    Renamed(FileName),
}
