//! Which snapshot counts, and which ones go.

use super::failure::SnapshotProblem;
use super::{Failure, Files, Recovered, remove};
use crate::id::Index;
use crate::raft::Position;
use crate::snapshot::{self, Decoder, Snapshot};
use crate::wal;

/// How many snapshots are kept.
const KEPT: usize = 2;

/// The snapshots on disk, as far as they had to be read.
#[derive(Debug, Default)]
pub(super) struct Found {
    snapshot: Option<Snapshot>,
    /// Newer ones, the newest first.
    damaged: Vec<(Position, SnapshotProblem)>,
    /// Older ones, the newest first, that were not read.
    unread: Vec<Position>,
}

/// Reads snapshots, the newest first, until one is whole.
pub(super) fn find<F: Files>(files: &mut F, newest_first: &[Position]) -> Result<Found, Failure<F::Error>> {
    let mut found = Found::default();
    for (n, position) in newest_first.iter().enumerate() {
        match read(files, *position)? {
            Ok(snapshot) => {
                found.snapshot = Some(snapshot);
                found.unread = newest_first[n + 1..].to_vec();
                break;
            }
            Err(problem) => found.damaged.push((*position, problem)),
        }
    }
    Ok(found)
}

type Read = Result<Snapshot, SnapshotProblem>;

fn read<F: Files>(files: &mut F, position: Position) -> Result<Read, Failure<F::Error>> {
    let (mut decoder, mut problem) = (Decoder::new(), None);
    let mut take = |block: &[u8]| {
        if problem.is_none() {
            problem = decoder.feed(block).err();
        }
    };
    files.read(&snapshot::file_name(position), &mut take).map_err(Failure::Files)?;
    if let Some(problem) = problem {
        return Ok(Err(problem.into()));
    }
    Ok(match decoder.finish() {
        Ok(snapshot) if snapshot.meta.position == position => Ok(snapshot),
        Ok(snapshot) => Err(SnapshotProblem::Renamed(snapshot::file_name(snapshot.meta.position))),
        Err(problem) => Err(problem.into()),
    })
}

impl Found {
    /// Whether there is any, whole or not.
    pub(super) fn is_any(&self) -> bool {
        self.snapshot.is_some() || !self.damaged.is_empty()
    }

    /// Where the newest whole one ends.
    pub(super) fn position(&self) -> Option<Position> {
        self.snapshot.as_ref().map(|snapshot| snapshot.meta.position)
    }

    /// The newest one is damaged, and without it something would be lost.
    pub(super) fn first_damaged<E>(&self) -> Option<Failure<E>> {
        let (position, problem) = self.damaged.first()?;
        Some(Failure::SnapshotDamaged { file: snapshot::file_name(*position), problem: problem.clone() })
    }

    /// The log goes on behind `up_to`, or behind the snapshot that it names, and there is none that is whole.
    pub(super) fn refuse<E>(&self, up_to: Index, named: Option<Position>) -> Failure<E> {
        let missing = Failure::SnapshotMissing { file: named.map(snapshot::file_name), up_to };
        let reaches = self.damaged.iter().any(|(position, _)| position.index >= up_to);
        self.first_damaged().filter(|_| reaches).unwrap_or(missing)
    }

    /// Whether the log holds the last entry of each damaged snapshot: else something may be lost with it that this
    /// server has acknowledged.
    pub(super) fn check_survived<E>(&self, log: &wal::Recovered) -> Result<(), Failure<E>> {
        let holds = |position: &Position| log.entries.iter().any(|entry| entry.position() == *position);
        if self.damaged.iter().all(|(position, _)| holds(position)) {
            return Ok(());
        }
        self.first_damaged().map_or(Ok(()), Err)
    }

    /// Says what is kept and what is removed, and why.
    pub(super) fn settle<F: Files>(
        mut self,
        files: &mut F,
        recovered: &mut Recovered,
    ) -> Result<(), Failure<F::Error>> {
        for (position, problem) in &self.damaged {
            let older = match self.position() {
                Some(older) => format!("The older one, {}, and the log are used", snapshot::file_name(older)),
                None => "The log alone is used".to_owned(),
            };
            let name = snapshot::file_name(*position);
            recovered.warnings.push(format!(
                "snapshot {name} is damaged ({problem}) and is removed. {older}; nothing is lost. Check the disk"
            ));
        }
        let damaged = self.damaged.iter().map(|(position, _)| snapshot::file_name(*position)).collect();
        recovered.repairs.extend(remove(damaged));

        let surplus = self.unread.split_off(self.unread.len().min(KEPT - 1));
        recovered.repairs.extend(remove(surplus.into_iter().map(snapshot::file_name).collect()));
        recovered.kept.extend(self.snapshot.iter().map(|snapshot| (snapshot.meta.position, snapshot.bytes)));
        for position in self.unread {
            let bytes = files.size(&snapshot::file_name(position)).map_err(Failure::Files)?;
            recovered.kept.push((position, bytes));
        }
        recovered.snapshot = self.snapshot;
        Ok(())
    }
}
