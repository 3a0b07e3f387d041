//! Who takes part. The configuration is part of the log, and a server uses the latest one that its log
//! holds, committed or not (thesis 4.1).

use std::sync::Arc;

use super::configuration::Configuration;
use super::log::{Entry, Log, Payload};
use crate::id::Index;

/// The configurations in the log, so that a cut brings the one before back.
///
/// Invariant: `history` is ordered by index, all at or before `seen`.
#[derive(Clone, Debug, Default)]
pub struct Membership {
    history: Vec<(Index, Arc<Configuration>)>,
    /// Entries up to here were looked at.
    seen: Index,
    nobody: Arc<Configuration>,
}

impl Membership {
    /// The configuration in force: the latest in the log.
    #[must_use]
    pub fn latest(&self) -> &Arc<Configuration> {
        self.history.last().map_or(&self.nobody, |(_, configuration)| configuration)
    }

    /// The configuration in force at `index`, with the entry that named it; index 0 if none did.
    #[must_use]
    pub fn at(&self, index: Index) -> (Index, &Arc<Configuration>) {
        let known = self.history.iter().rev().find(|(at, _)| *at <= index);
        known.map_or((Index(0), &self.nobody), |(at, configuration)| (*at, configuration))
    }

    /// The entry that named the configuration in force; 0 if none did.
    #[must_use]
    pub fn latest_index(&self) -> Index {
        self.history.last().map_or(Index(0), |(at, _)| *at)
    }

    /// An entry joined the log.
    pub fn appended(&mut self, entry: &Entry) {
        self.seen = entry.index;
        if let Payload::Configuration(configuration) = &entry.payload {
            self.history.push((entry.index, Arc::new(configuration.clone())));
        }
    }

    /// Looks at the entries that joined the log since the last time.
    pub fn catch_up(&mut self, log: &Log) {
        for entry in log.from(self.seen.next()) {
            self.appended(entry);
        }
    }

    /// The entries from `index` on were cut off.
    pub fn truncated(&mut self, index: Index) {
        self.history.retain(|(at, _)| *at < index);
        self.seen = self.seen.min(index.prev());
    }
}
