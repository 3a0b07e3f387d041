//! What a server does with its files when it starts: all decisions, and nothing but decisions. Owners list and read
//! files, and carry out the repairs before the agent starts.
//!
//! | name below the data directory | |
//! |---|---|
//! | `raft/wal-…` | segments of the [log](crate::wal) |
//! | `raft/snapshot-…` | [snapshots](crate::snapshot), the newest two |
//! | `raft/snapshot.new`, `raft/snapshot.received` | unfinished snapshots; worth nothing after a crash, and removed |
//! | `raft/peers.json` | the operator's word on who the members are, after most of them are lost for good |
//! | `raft/peers.info` | explains `raft/peers.json` to the operator |
//! | `agent/…` | small files that the agent keeps beside the log: see [`crate::keep`] |
//!
//! Anything else is left alone, with a warning.
//!
//! # Snapshots
//!
//! The newest snapshot that is whole counts, and the log behind it. No crash damages a snapshot that has its final name,
//! for it gets it only once it is durable; but disks do. A damaged one may be survived with an older one, or with none, if
//! the log goes back far enough *and* holds the very entry that the damaged one ended with: then nothing is lost.
//! Else this server may have acknowledged what is gone, and recovery refuses.
//!
//! # Segments
//!
//! What is needed of the log is its last segments without a gap in their numbers, if they go on where the snapshot
//! ends. Segments before a gap are then of no use and removed; if the snapshot does not reach that far, a segment is
//! missing, and recovery refuses. Where there is a snapshot there is a log: what this server voted for is in it.

mod failure;
mod peers;
mod snapshots;

pub use failure::Failure;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::file::{FileName, FileOp};
use crate::keep;
use crate::raft::{Configuration, Payload, Position};
use crate::snapshot::{self, Snapshot};
use crate::wal;
use snapshots::Found;

/// The operator's word on who the members are.
pub const PEERS: &str = "raft/peers.json";

/// The file that explains [`PEERS`] to the operator.
pub const PEERS_INFO: &str = "raft/peers.info";

/// The files of a server that is about to start. Nothing is changed through it.
pub trait Files {
    /// What goes wrong when a file cannot be read.
    type Error;

    /// The names of all files below `raft/` and `agent/`, relative to the data directory, in any order.
    ///
    /// # Errors
    /// If the directory cannot be read.
    fn names(&mut self) -> Result<Vec<FileName>, Self::Error>;

    /// Reads a file from its beginning to its end, in blocks of any size.
    ///
    /// # Errors
    /// If it cannot be read.
    fn read(&mut self, name: &str, take: &mut dyn FnMut(&[u8])) -> Result<(), Self::Error>;

    /// How long a file is, in bytes. Reads it all, unless there is a better way.
    ///
    /// # Errors
    /// If it cannot be read.
    fn size(&mut self, name: &str) -> Result<u64, Self::Error> {
        let mut size = 0;
        self.read(name, &mut |block| size += block.len() as u64)?;
        Ok(size)
    }
}

/// What a server had kept. The default is what a new server has: nothing.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The log behind the snapshot. Its repairs are among [`repairs`](Self::repairs).
    pub log: wal::Recovered,
    /// The newest whole snapshot.
    pub snapshot: Option<Snapshot>,
    /// The snapshots that are left on disk, the newest first, with their sizes in bytes. The first one is
    /// [`snapshot`](Self::snapshot); the others were not read and may be damaged.
    pub kept: Vec<(Position, u64)>,
    /// Changes that the owner carries out, in this order, and makes durable before the agent starts.
    pub repairs: Vec<FileOp>,
    /// The members by order of the operator, if the log does not say so already. Once they are committed,
    /// [`PEERS`] is to be removed.
    pub forced: Option<Configuration>,
    /// The small files that the agent keeps, by their names, as they are: see [`crate::keep`].
    pub files: BTreeMap<FileName, Bytes>,
    /// What the operator should know, a line each.
    pub warnings: Vec<String>,
}

impl Recovered {
    /// The latest members that the log or the snapshot names.
    #[must_use]
    pub fn configuration(&self) -> Option<&Configuration> {
        let in_log = self.log.entries.iter().rev().find_map(|entry| match &entry.payload {
            Payload::Configuration(configuration) => Some(configuration),
            _ => None,
        });
        in_log.or_else(|| self.snapshot.as_ref().map(|snapshot| &snapshot.meta.configuration))
    }
}

/// Reads what a server had kept, and says what is to be done about it. Of the log, one segment at a time is in memory.
///
/// # Errors
/// If a file cannot be read, or what is there cannot be trusted: then nothing must be changed.
pub fn recover<F: Files>(files: &mut F) -> Result<Recovered, Failure<F::Error>> {
    let listing = Listing::of(files.names().map_err(Failure::Files)?);
    let found = snapshots::find(files, &listing.snapshots)?;
    let (log, stale) = read_log(files, &listing.segments, &found)?;
    found.check_survived(&log)?;

    let mut recovered = Recovered { log, ..Recovered::default() };
    recovered.repairs.clone_from(&recovered.log.repairs);
    recovered.repairs.extend(remove(listing.drafts));
    found.settle(files, &mut recovered)?;
    recovered.repairs.extend(remove(stale.iter().map(|number| wal::segment_name(*number)).collect()));
    for name in listing.agent {
        match small(files, &name).map_err(Failure::Files)? {
            Some(bytes) => drop(recovered.files.insert(name, bytes)),
            None => recovered.warnings.push(format!("{name} is too large for a file of this agent and is not read")),
        }
    }
    for name in listing.unknown {
        recovered.warnings.push(format!("{name} is none of this server's files and is left alone"));
    }
    if listing.has_peers {
        let mut text = Vec::new();
        files.read(PEERS, &mut |block| peers::take(&mut text, block)).map_err(Failure::Files)?;
        peers::force(&text, &mut recovered).map_err(Failure::Peers)?;
    }
    Ok(recovered)
}

/// The files below `raft/`, by what they are.
#[derive(Debug, Default)]
struct Listing {
    /// In order.
    segments: Vec<u64>,
    /// The newest first.
    snapshots: Vec<Position>,
    drafts: Vec<FileName>,
    has_peers: bool,
    agent: Vec<FileName>,
    unknown: Vec<FileName>,
}

impl Listing {
    fn of(mut names: Vec<FileName>) -> Self {
        names.sort();
        let mut listing = Self::default();
        for name in names {
            if let Some(number) = wal::segment_number(&name) {
                listing.segments.push(number);
            } else if let Some(position) = snapshot::position_of(&name) {
                listing.snapshots.push(position);
            } else if name == snapshot::DRAFT || name == snapshot::RECEIVED {
                listing.drafts.push(name);
            } else if let Some(below) = name.strip_prefix(keep::FOLDER) {
                if below.ends_with(keep::DRAFT) {
                    listing.drafts.push(name);
                } else {
                    listing.agent.push(name);
                }
            } else if name == PEERS {
                listing.has_peers = true;
            } else if name != PEERS_INFO {
                listing.unknown.push(name);
            }
        }
        listing.snapshots.sort_by(|a, b| b.cmp(a));
        listing
    }
}

/// A whole file, unless it is too large to be one of the agent's small ones.
fn small<F: Files>(files: &mut F, name: &str) -> Result<Option<Bytes>, F::Error> {
    if files.size(name)? > keep::MAX_BYTES {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    files.read(name, &mut |block| bytes.extend_from_slice(block))?;
    Ok(Some(bytes.into()))
}

/// Reads the segments behind the last gap in their numbers. Gives the numbers of those before it, too.
fn read_log<'a, F: Files>(
    files: &mut F,
    segments: &'a [u64],
    found: &Found,
) -> Result<(wal::Recovered, &'a [u64]), Failure<F::Error>> {
    let gap = segments.windows(2).rposition(|pair| pair[1] != pair[0] + 1).map_or(0, |at| at + 1);
    let (stale, needed) = segments.split_at(gap);
    if needed.is_empty() && found.is_any() {
        return Err(Failure::NoLog);
    }
    let mut recovery = wal::Recovery::new();
    let mut bytes = Vec::new();
    for number in needed {
        let name = wal::segment_name(*number);
        bytes.clear();
        files.read(&name, &mut |block| bytes.extend_from_slice(block)).map_err(Failure::Files)?;
        recovery.segment(&name, &bytes).map_err(|corrupt| missing(corrupt, stale, needed))?;
    }
    match recovery.finish(found.position()) {
        Ok(log) => Ok((log, stale)),
        Err(wal::Corrupt { problem: wal::Problem::NeedsSnapshot { up_to, named }, .. }) if stale.is_empty() => {
            Err(found.refuse(up_to, named))
        }
        // Without a snapshot the log must begin at its beginning.
        Err(corrupt) if stale.is_empty() && matches!(corrupt.problem, wal::Problem::Missing(_)) => {
            Err(found.first_damaged().unwrap_or(Failure::Corrupt(corrupt)))
        }
        Err(corrupt) => Err(missing(corrupt, stale, needed)),
    }
}

/// What is wrong if the log cannot do without a segment that is in a gap.
fn missing<E>(mut corrupt: wal::Corrupt, stale: &[u64], needed: &[u64]) -> Failure<E> {
    use wal::Problem::{FirstWrite, Missing, NeedsSnapshot};
    if let (false, Some(first)) = (stale.is_empty(), needed.first())
        && matches!(corrupt.problem, FirstWrite | NeedsSnapshot { .. })
    {
        let problem = Missing(wal::segment_name(first.saturating_sub(1)));
        corrupt = wal::Corrupt { file: wal::segment_name(*first), offset: 0, problem };
    }
    Failure::Corrupt(corrupt)
}

fn remove(files: Vec<FileName>) -> impl Iterator<Item = FileOp> {
    files.into_iter().map(|file| FileOp::Remove { file })
}
