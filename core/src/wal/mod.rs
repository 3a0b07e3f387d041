//! The log on disk: its format, the writer that fills it and the recovery that reads it, as pure functions
//! over bytes. Owners only carry out [`FileOp`]s and reservations, so that a simulated disk and a real one
//! share everything but the system calls.
//!
//! # Format
//!
//! Segments are files `raft/wal-<number>`, numbered from 1 on with 20 digits, so that names sort as numbers do.
//! A segment begins with a header and goes on with frames, each at a multiple of 32 bytes; behind the last
//! frame it reads as zeros, for space is reserved ahead and files are never recycled. All numbers are little
//! endian, all checksums CRC-32C.
//!
//! | segment header | | frame header | |
//! |---|---|---|---|
//! | 0–7 | the letters `LICTORWL` | 0–3 | the letters `LWRT` |
//! | 8–11 | version of the format | 4–7 | length of the body |
//! | 12–19 | the segment's number | 8–15 | the write's [`WriteSeq`] |
//! | 20–27 | the first frame's [`WriteSeq`] | 16–23 | `stable`, see below |
//! | 28–31 | checksum of bytes 0–27 | 24–27 | checksum of the body |
//! | | | 28–31 | checksum of bytes 0–27, the segment's number and the frame's offset |
//!
//! The place of a frame goes into its checksum, so that bytes which a client stored (a copy of such a log,
//! say) never pass for a frame. The body is
//!
//! | part | on replay |
//! |---|---|
//! | an optional [`HardState`] | replaces the former one |
//! | an optional [`Position`], the *base* | everything up to it is in a snapshot: the entries up to it are dropped, and if the log does not hold just that entry, *all* entries are; the log goes on behind it |
//! | an optional [`Position`], the *end* | where the log ended before the entries that follow |
//! | the entries | replace everything from the index of the first of them on |
//! | one byte 255 | |
//!
//! The first frame of a segment has the three optional parts always, so that the segments before it can be removed.
//!
//! # How it fits a snapshot
//!
//! Full segments are removed, the oldest first, once a durable snapshot covers all entries in them. So a log may begin
//! with any segment. Its first frame tells the hard state, the base, and the end of what was removed; when entries
//! replace some of those that were removed, the log begins with these.
//!
//! Whatever lies before the log's first entry must be in a snapshot. Without one, the log must begin with segment 1,
//! at index 1, and name no base. With one, the entries behind it are left: if the log holds the snapshot's last
//! entry, or begins right behind it in the same term or a later one. (An entry of a later term, or of the same, was
//! made by a leader that had all that was committed in that term; so it stands behind the snapshot's last entry.) If
//! the log ends before the snapshot does, or holds another entry at its end, the snapshot was put in place of it by a
//! leader, and the machine failed before the log could say so; nothing of it is left, and the next write says so.
//! A log that goes on later than the snapshot ends misses another snapshot, and recovery refuses to go on.
//!
//! # What a crash may leave behind
//!
//! One frame is one [`Write`](crate::file::Write); several may be on their way to the disk when the machine
//! fails. Disks write sectors of 512 bytes whole or not at all, in any order. So of each frame that was not
//! yet durable, any sectors may be missing and read as zeros (or lie beyond the end of the file). A header
//! never crosses a sector: it is there or reads as zeros. A frame whose body lacks sectors is *torn*.
//!
//! Damage to data that had been durable must never look like that, or acknowledged writes would be cut off
//! in silence. Therefore each frame carries `stable`, the highest write that was known to be durable when
//! the frame was made. Where the log seems to end, recovery looks on: a later frame whose `stable` covers
//! the missing one proves a loss, and recovery refuses to go on. Later frames without such proof are the
//! rest of an unfinished group of writes, none of which was acknowledged; they are cut off.
//!
//! A new segment is begun, or reserved, only when the first write of the one before it is known to be
//! durable. So the file of a segment proves that its predecessor is not missing or empty by accident.
//!
//! A segment is removed only when the first write of the one after it is known to be durable, and the oldest goes first;
//! so of the segments at the beginning any number may be gone, but the one that is the oldest then begins with a whole
//! frame. If that one is damaged, no crash explains it.
//!
//! What was written by a process that was killed may be in the operating system's memory and not on the
//! disk, and after a failed sync it may look clean there and never reach it. Recovered data counts as durable
//! from the start. Hence all frames at the end that are not covered by a `stable` are written once more:
//! they are part of [`Recovered::repairs`].
//!
//! # Limits
//!
//! Damage that cannot be told from a crash, all of it in what no later `stable` covers, the last group of
//! writes: a sector that turned into zeros; a damaged body that also holds a whole sector of zeros, as a client's
//! value may; a file that was cut at its end.

mod corrupt;
mod format;
mod recovery;
mod replay;
mod room;
mod writer;

pub use corrupt::{Corrupt, Problem};
pub use format::{DIRECTORY, segment_name, segment_number};
pub use recovery::Recovery;
pub use room::Options;
pub use writer::Writer;

use crate::file::FileOp;
use crate::id::{Index, WriteSeq};
use crate::raft::{Entry, HardState, Position};

/// What recovery found. The default is what a new server has: nothing.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Term, vote and commit index as last written.
    pub hard_state: HardState,
    /// What the entries follow: the snapshot's position, or the start if there is no snapshot.
    pub base: Position,
    /// The entries of the log behind `base`, in order.
    pub entries: Vec<Entry>,
    /// Whether the log on disk does not know yet that a snapshot up to `base` took its place. The [`Writer`] sees to it
    /// that the next write names the base, whether it is told to or not.
    pub needs_base: bool,
    /// Changes that the owner carries out, in this order, and makes durable before the agent starts: a torn
    /// tail is cut, and what may not have reached the disk is written again. After any start but the first
    /// there is something to do.
    pub repairs: Vec<FileOp>,
    /// Where the [`Writer`] goes on.
    pub end: LogEnd,
}

/// Where a log ends, and what its files are.
#[derive(Clone, Debug, Default)]
pub struct LogEnd {
    last_seq: WriteSeq,
    current: Segment,
    /// The length of the next segment's file, which holds only zeros; 0 if there is none.
    next_reserved: u64,
    old: Vec<OldSegment>,
    /// What the first frame of the next segment repeats.
    standing: Standing,
}

/// How a log stands, beside its entries.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    hard_state: HardState,
    /// The last base that the log names.
    base: Position,
    /// Its end.
    end: Position,
}

impl Standing {
    /// Everything up to `base` is in a snapshot; entries behind it go on only if they are of its history.
    fn cover(&mut self, base: Position) {
        self.base = base;
        if self.end.index < base.index || self.end.term < base.term {
            self.end = base;
        }
    }
}

/// The segment that is being filled.
#[derive(Clone, Debug)]
struct Segment {
    number: u64,
    /// The first write in it, there already or to come.
    first_seq: WriteSeq,
    /// Where the next frame goes; 0 if not even the header is there.
    used: u64,
    /// How long the file is.
    reserved: u64,
    /// The highest index of an entry that was written to it.
    last_index: Index,
}

impl Default for Segment {
    fn default() -> Self {
        Self::new(format::FIRST_SEGMENT, WriteSeq(1), 0)
    }
}

impl Segment {
    fn new(number: u64, first_seq: WriteSeq, reserved: u64) -> Self {
        Self { number, first_seq, used: 0, reserved, last_index: Index(0) }
    }

    fn name(&self) -> crate::file::FileName {
        segment_name(self.number)
    }
}

/// A segment that is full. It can be removed once a snapshot covers its entries and the first write of the next one is
/// durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldSegment {
    /// Its number.
    pub number: u64,
    /// The highest index of an entry in it; 0 if it has none.
    pub last_index: Index,
}
