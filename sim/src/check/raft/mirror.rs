//! What was last seen of one server: its log as terms and checksums, the configurations in it, and how much of it is on
//! its disk.

use std::collections::VecDeque;
use std::sync::Arc;

use lictor_core::id::{Index, Term, WriteSeq};
use lictor_core::raft::{Configuration, Entry, Payload, Position, Raft};

/// An entry as the watcher remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) term: Term,
    /// Of its content.
    pub(crate) sum: u64,
}

impl Mark {
    pub(crate) fn of(entry: &Entry) -> Self {
        let sum = match &entry.payload {
            Payload::Noop => 1,
            Payload::Configuration(configuration) => {
                2 << 32 | u64::from(crc32c::crc32c(format!("{configuration:?}").as_bytes()))
            }
            Payload::Command(bytes) => 3 << 32 ^ (bytes.len() as u64) << 34 ^ u64::from(crc32c::crc32c(bytes)),
        };
        Self { term: entry.term, sum }
    }
}

/// What can be read of a log: of an agent's, or of what a disk had kept of one.
pub(crate) trait ReadLog {
    /// What lies up to here is in a snapshot, and cannot be read.
    fn base(&self) -> Position;

    /// The entry at an index behind the base.
    fn entry(&self, index: Index) -> Option<&Entry>;

    /// The members as the server has them, and the entry that named them; `None` if there is nobody to say.
    fn members(&self) -> Option<(Index, &Configuration)>;
}

impl ReadLog for Raft {
    fn base(&self) -> Position {
        self.log().base()
    }

    fn entry(&self, index: Index) -> Option<&Entry> {
        self.log().get(index)
    }

    fn members(&self) -> Option<(Index, &Configuration)> {
        Some((self.membership().latest_index(), self.members()))
    }
}

/// What a disk had kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) term: Term,
    pub(crate) base: Position,
    pub(crate) entries: Vec<Entry>,
}

/// A configuration and the entry that named it.
pub(super) type Named = (Index, Arc<Configuration>);

/// What was last seen of one server.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    pub(super) alive: bool,
    /// Its disk is lost: it will never come back, and what it had on its disk binds nobody any more.
    pub(super) lost: bool,
    pub(super) term: Term,
    pub(super) leads: bool,
    pub(super) commit: Index,
    /// All of its log; what lies in its snapshot is as the cluster has agreed.
    pub(super) log: Vec<Mark>,
    /// How much of the log lies in a snapshot.
    pub(super) base: Index,
    /// The configurations in the log, in order.
    pub(super) configurations: Vec<Named>,
    /// Its log up to here is on its disk.
    pub(super) durable: Index,
    /// Writes on their way to its disk, with how far the log is durable with each.
    pub(super) writes: VecDeque<(WriteSeq, Index)>,
    /// The highest term in which it promised something that must survive a crash.
    pub(super) promised: Term,
}

impl Server {
    /// The configuration that it acts on: the latest in its log.
    pub(super) fn in_force(&self) -> Option<&Named> {
        self.configurations.last()
    }

    /// Whether this entry is on its disk, or was when the disk was lost.
    pub(super) fn keeps(&self, at: usize, mark: Mark) -> bool {
        self.log.get(at) == Some(&mark) && self.durable.0 as usize > at
    }

    /// Cuts its log to its first `length` entries.
    pub(super) fn cut(&mut self, length: usize) {
        let end = Index(length as u64);
        self.log.truncate(length);
        self.configurations.retain(|(at, _)| *at <= end);
        self.durable = self.durable.min(end);
        for (_, covers) in &mut self.writes {
            *covers = (*covers).min(end);
        }
    }

    /// A snapshot of what was agreed took the place of its log.
    pub(super) fn replace(&mut self, agreed: &[Mark], configurations: &[Named]) {
        let end = Index(agreed.len() as u64);
        self.log = agreed.to_vec();
        self.configurations = configurations.iter().filter(|(at, _)| *at <= end).cloned().collect();
        self.durable = end;
        for (_, covers) in &mut self.writes {
            *covers = end;
        }
    }

    /// Adds an entry.
    pub(super) fn push(&mut self, entry: &Entry, mark: Mark) {
        self.log.push(mark);
        if let Payload::Configuration(configuration) = &entry.payload {
            self.configurations.push((entry.index, Arc::new(configuration.clone())));
        }
    }
}
