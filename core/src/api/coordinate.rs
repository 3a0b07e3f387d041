//! Where the agents are in the network (`/v1/coordinate/*`).

use serde::{Deserialize, Serialize};

use super::ReadOptions;
use crate::coordinate::Coordinate;

/// An operation on coordinates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// The servers of each datacenter, as gossip between datacenters knows them.
    Datacenters,
    /// All nodes of the datacenter that have told where they are.
    Nodes {
        /// How.
        read: ReadOptions,
    },
    /// An agent tells where it is. There is no such call over HTTP.
    Update(Place),
}

/// A node's place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The node's name.
    pub node: String,
    /// Where it is.
    pub coordinate: Coordinate,
}

/// A datacenter's servers and their places.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Datacenter {
    /// Its name.
    pub name: String,
    /// Its servers.
    pub places: Vec<Place>,
}
