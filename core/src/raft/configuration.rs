//! The members of a cluster, as an entry of the log names them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::id::PeerId;

/// A member of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Where it is.
    pub address: SocketAddr,
    /// Whether its vote and its disk count. One that has no vote is sent the log all the same, so that it may
    /// catch up before anything depends on it (thesis 4.2.1).
    pub voter: bool,
}

/// The members of a cluster. Two configurations that follow each other in a log differ in one vote at most, so that any
/// majority of the one shares a server with any majority of the other (thesis 4.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// The members.
    pub servers: BTreeMap<PeerId, Server>,
}

impl Configuration {
    /// A cluster of these voters.
    pub fn new(voters: impl IntoIterator<Item = (PeerId, SocketAddr)>) -> Self {
        let voter = |(id, address)| (id, Server { address, voter: true });
        Self { servers: voters.into_iter().map(voter).collect() }
    }

    /// Those whose votes and disks count.
    pub fn voters(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.servers.iter().filter(|(_, server)| server.voter).map(|(id, _)| *id)
    }

    /// How many have a vote.
    #[must_use]
    pub fn voter_count(&self) -> usize {
        self.voters().count()
    }

    /// Whether `id` has a vote.
    #[must_use]
    pub fn is_voter(&self, id: PeerId) -> bool {
        self.servers.get(&id).is_some_and(|server| server.voter)
    }

    /// Whether `id` belongs to the cluster, with a vote or without.
    #[must_use]
    pub fn is_member(&self, id: PeerId) -> bool {
        self.servers.contains_key(&id)
    }

    /// Where `id` is.
    #[must_use]
    pub fn address(&self, id: PeerId) -> Option<SocketAddr> {
        self.servers.get(&id).map(|server| server.address)
    }

    /// Every member but `me`.
    pub fn others(&self, me: PeerId) -> impl Iterator<Item = PeerId> + '_ {
        self.servers.keys().copied().filter(move |id| *id != me)
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, voter: bool| {
            let ids = self.servers.iter().filter(|(_, server)| server.voter == voter).map(|(id, _)| id);
            for (n, id) in ids.enumerate() {
                write!(f, "{}{id}", if n == 0 { "" } else { " " })?;
            }
            Ok(())
        };
        f.write_str("voters=(")?;
        list(f, true)?;
        f.write_str(")")?;
        if self.voter_count() < self.servers.len() {
            f.write_str(" others=(")?;
            list(f, false)?;
            f.write_str(")")?;
        }
        Ok(())
    }
}
