//! Who takes part. The configuration is part of the log, and a server uses the latest one that its log
//! holds, committed or not (thesis 4.1).

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::log::{Entry, Log, Payload};
use crate::id::{Index, PeerId};

/// The members of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Those whose votes and disks count, with their addresses.
    pub voters: BTreeMap<PeerId, SocketAddr>,
}

impl Configuration {
    /// A cluster of these voters.
    pub fn new(voters: impl IntoIterator<Item = (PeerId, SocketAddr)>) -> Self {
        Self { voters: voters.into_iter().collect() }
    }

    /// Whether `id` has a vote.
    #[must_use]
    pub fn is_voter(&self, id: PeerId) -> bool {
        self.voters.contains_key(&id)
    }

    /// Where `id` is.
    #[must_use]
    pub fn address(&self, id: PeerId) -> Option<SocketAddr> {
        self.voters.get(&id).copied()
    }

    /// Everyone but `me`.
    pub fn others(&self, me: PeerId) -> impl Iterator<Item = PeerId> + '_ {
        self.voters.keys().copied().filter(move |id| *id != me)
    }
}

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

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("voters=(")?;
        for (n, id) in self.voters.keys().enumerate() {
            write!(f, "{}{id}", if n == 0 { "" } else { " " })?;
        }
        f.write_str(")")
    }
}
