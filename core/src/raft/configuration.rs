//! The members of a cluster, as an entry of the log names them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::id::PeerId;

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

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("voters=(")?;
        for (n, id) in self.voters.keys().enumerate() {
            write!(f, "{}{id}", if n == 0 { "" } else { " " })?;
        }
        f.write_str(")")
    }
}
