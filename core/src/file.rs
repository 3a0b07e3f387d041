//! Changes of files, as the core asks for them and as every owner carries them out.

use bytes::Bytes;

use crate::id::{JobId, WriteSeq};

/// The name of a file below the agent's data directory, with `/` between its parts.
pub type FileName = String;

/// Changes to files that become durable together or, if the machine fails first, in part: recovery copes
/// with whatever prefix, torn or not, survived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Grows by one with each write.
    pub seq: WriteSeq,
    /// To be carried out in this order.
    pub ops: Vec<FileOp>,
}

/// Changes to files beside the log, which may be large and are in nobody's way: a snapshot comes to the disk by such jobs,
/// a piece at a time, while the log's writes go on. Jobs are carried out one after the other, in the order of their
/// numbers; once one is answered, all its changes survive a power loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Grows by one with each job.
    pub id: JobId,
    /// To be carried out in this order. If one finds no room, the rest is left undone.
    pub ops: Vec<FileOp>,
}

/// What became of a [`Job`]. A disk that fails in any other way ends the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobOutcome {
    /// All its changes are durable.
    Done,
    /// The disk has no room. Some of the changes may have been made, in part.
    NoRoom,
}

/// One change of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileOp {
    /// Writes `bytes` at `offset`. Creates the file, and makes its directory entry durable, if it is new.
    Write {
        /// Which file.
        file: FileName,
        /// Where in it, in bytes.
        offset: u64,
        /// What.
        bytes: Bytes,
    },
    /// Cuts the file to `size` bytes.
    Truncate {
        /// Which file.
        file: FileName,
        /// What is left of it, in bytes.
        size: u64,
    },
    /// Removes the file, if it is there.
    Remove {
        /// Which file.
        file: FileName,
    },
    /// Makes the file durable with all that was written to it, then gives it another name, in place of whatever had
    /// that name.
    Rename {
        /// Which file.
        file: FileName,
        /// Its new name, in the same directory.
        to: FileName,
    },
}

impl FileOp {
    /// The file that is changed; of a renamed one, its old name.
    #[must_use]
    pub fn file(&self) -> &FileName {
        match self {
            Self::Write { file, .. }
            | Self::Truncate { file, .. }
            | Self::Remove { file }
            | Self::Rename { file, .. } => file,
        }
    }
}
