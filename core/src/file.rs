//! Changes of files, as the core asks for them and as every owner carries them out.

use bytes::Bytes;

use crate::id::WriteSeq;

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
}

impl FileOp {
    /// The file that is changed.
    #[must_use]
    pub fn file(&self) -> &FileName {
        match self {
            Self::Write { file, .. } | Self::Truncate { file, .. } | Self::Remove { file } => file,
        }
    }
}
