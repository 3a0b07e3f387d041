//! What is wrong with a log that cannot be trusted, in words for the operator.

use crate::file::FileName;
use crate::id::{Index, Term, WriteSeq};
use crate::raft::Position;

/// A log that cannot be trusted. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the raft log is damaged: {file}, byte {offset}: {problem}. Nothing was changed. {}", problem.advice())]
pub struct Corrupt {
    /// The file, relative to the data directory.
    pub file: FileName,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub problem: Problem,
}

/// What may be wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A file that is not named as segments are.
    #[error("this is not the name of a segment of the log")]
    Name,
    /// A segment is missing.
    #[error("the segment before this one is missing: there is no {0}")]
    Missing(FileName),
    /// A segment has no valid header.
    #[error("the header of the segment is damaged")]
    SegmentHeader,
    /// A format that this program does not read.
    #[error("the segment has version {0} of the format, which this program does not read")]
    Version(u32),
    /// A file with a header that belongs to another one.
    #[error("the file holds segment {0}: was it renamed?")]
    Renamed(u64),
    /// A frame has no valid header.
    #[error("the header of a write is damaged")]
    FrameHeader,
    /// A frame's body is not what was written.
    #[error("the checksum of write {0} does not match its data")]
    Checksum(WriteSeq),
    /// A write out of order.
    #[error("write {expected} should be here, but write {found} is")]
    Sequence {
        /// What should be there.
        expected: WriteSeq,
        /// What is.
        found: WriteSeq,
    },
    /// A write is gone that had been durable.
    #[error(
        "write {missing} should be here and is gone, although {file}, byte {offset}, says that it had been on disk"
    )]
    Lost {
        /// What is gone.
        missing: WriteSeq,
        /// Where the proof is.
        file: FileName,
        /// Where the proof is, in bytes.
        offset: u64,
    },
    /// The log ends, and yet there is a segment that is only made when the log has gone further.
    #[error("write {missing} should be here and is gone, although the later segment {later} exists")]
    EndsEarly {
        /// What is gone.
        missing: WriteSeq,
        /// The segment that should not exist.
        later: FileName,
    },
    /// A body with a good checksum that is no record.
    #[error("write {0} has a good checksum but is not a record that this program understands")]
    Record(WriteSeq),
    /// Entries that do not follow the ones before them.
    #[error("an entry with index {found} follows the entry with index {last}")]
    EntryIndex {
        /// The last entry so far.
        last: Index,
        /// The one that cannot follow it.
        found: Index,
    },
    /// An entry with a lower term than the one before it, or with a higher term than the server has seen.
    #[error("the entry with index {index} has term {found}, which cannot be together with term {other}")]
    EntryTerm {
        /// The entry.
        index: Index,
        /// Its term.
        found: Term,
        /// That of the entry before it, or of the hard state.
        other: Term,
    },
    /// A snapshot's position that goes back.
    #[error("the log says that it builds on a snapshot at {found}, after it had built on a newer one at {last}")]
    Base {
        /// The newest so far.
        last: Position,
        /// The one that cannot follow it.
        found: Position,
    },
    /// The segments before this one are gone, and its first write, which alone says how the log stood, is not whole.
    #[error("the first write of the oldest segment is damaged, and it should stand for those that were removed")]
    FirstWrite,
    /// The log goes on behind something that is nowhere.
    #[error("the log goes on behind index {up_to}, and no whole snapshot reaches that far")]
    NeedsSnapshot {
        /// What a snapshot must reach up to.
        up_to: Index,
        /// Just which one the log names, if it names one.
        named: Option<Position>,
    },
}

impl Problem {
    fn advice(&self) -> &'static str {
        match self {
            Self::Version(_) => "Start the version of the program that wrote it, or a newer one.",
            Self::Name | Self::Renamed(_) => {
                "If files in the data directory were renamed or copied, put them back and start again."
            }
            Self::Missing(_) | Self::EndsEarly { .. } => {
                "If files were moved out of the data directory, put them back and start again; else, if the \
                 other servers of the cluster are healthy, move the whole data directory away and let this \
                 server join again and copy their data; a single server needs a backup."
            }
            _ => {
                "If the other servers of the cluster are healthy, move the whole data directory away and let \
                 this server join again and copy their data; a single server needs a backup. Check the disk."
            }
        }
    }
}
