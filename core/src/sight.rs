//! What an agent last saw of its gossip pool: a picture, as [`View`](crate::view::View) is one of the store.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::agent::Member;
use crate::coordinate::Coordinate;
use crate::id::PeerId;

/// A section of statistics.
pub(crate) type Section = BTreeMap<String, String>;

/// What was seen of the pool. It is shared, and replaced by another when that would say something else.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sight {
    /// We ourselves.
    pub(crate) member: Member,
    /// Where in the network we believe to be.
    pub(crate) coordinate: Coordinate,
    /// The node names of the servers that are known.
    pub(crate) names: BTreeMap<PeerId, String>,
    /// Those of them that have failed.
    pub(crate) failed: BTreeSet<PeerId>,
    /// How many servers are there.
    pub(crate) live_servers: usize,
    /// What statistics tell of the pool.
    pub(crate) lan: Section,
    /// What they tell of the pool of all datacenters' servers; `None` on an agent that is no server.
    pub(crate) wan: Option<Section>,
}
