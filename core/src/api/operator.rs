//! Tools of the cluster's operators (`operator-http.txt`): who takes part in raft, and how the leader looks after them.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::ReadOptions;
use crate::id::{Index, PeerId, Term};
use crate::time::Duration;

/// An operation on the cluster itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Who takes part in raft. `?stale` asks any server.
    RaftConfiguration {
        /// How; it never blocks.
        read: ReadOptions,
    },
    /// Removes a server from raft.
    RemovePeer(Peer),
    /// Adds a server to raft, without a vote at first, or tells that it has another address. Agents ask for it as they
    /// find each other; there is no such call over HTTP.
    AddPeer {
        /// The server's stable ID.
        id: PeerId,
        /// Where it is.
        address: SocketAddr,
    },
    /// Hands leadership over to this server, or to the one that is best prepared.
    TransferLeader {
        /// To whom.
        to: Option<PeerId>,
    },
    /// How the leader looks after the servers.
    AutopilotConfiguration {
        /// How; it never blocks.
        read: ReadOptions,
    },
    /// Changes how the leader looks after the servers.
    SetAutopilotConfiguration {
        /// The new settings, whole.
        settings: Autopilot,
        /// `?cas=`: only if this is their modify index.
        cas: Option<Index>,
    },
    /// How the servers are.
    AutopilotHealth,
}

/// A server, as operators name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Peer {
    /// By its address, as the operator wrote it.
    Address(String),
    /// By its stable ID, as the operator wrote it.
    Id(String),
}

/// Who takes part in raft.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftConfiguration {
    /// The servers.
    pub servers: Vec<RaftServer>,
    /// The log entry that says so. It may not be committed yet.
    pub index: Index,
}

/// A server that takes part in raft.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftServer {
    /// Its stable ID.
    pub id: PeerId,
    /// Its node name; `None` if it is not known.
    pub node: Option<String>,
    /// Where it is.
    pub address: SocketAddr,
    /// Whether it leads.
    pub leader: bool,
    /// Whether it has a vote.
    pub voter: bool,
}

/// How the leader looks after the servers: the settings of Consul's `autopilot`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Autopilot {
    /// Whether a dead server is removed once another can take its place.
    pub cleanup_dead_servers: bool,
    /// A server that has not been in contact with the leader for longer than this is not healthy.
    pub last_contact_threshold: Duration,
    /// A server that lacks more entries than this is not healthy.
    pub max_trailing_logs: u64,
    /// How long a new server must be healthy before it gets a vote.
    pub server_stabilization_time: Duration,
    /// When they were first set; 0 if never.
    pub create_index: Index,
    /// When they were last set; 0 if never.
    pub modify_index: Index,
}

impl Default for Autopilot {
    fn default() -> Self {
        Self {
            cleanup_dead_servers: true,
            last_contact_threshold: Duration::from_millis(200),
            max_trailing_logs: 250,
            server_stabilization_time: Duration::from_secs(10),
            create_index: Index(0),
            modify_index: Index(0),
        }
    }
}

/// How the servers are, as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether all are healthy.
    pub healthy: bool,
    /// How many voters may fail before there is no quorum of healthy ones.
    pub failure_tolerance: usize,
    /// Each of them.
    pub servers: Vec<ServerHealth>,
}

/// How one server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerHealth {
    /// Its stable ID.
    pub id: PeerId,
    /// Its node name; `None` if it is not known.
    pub node: Option<String>,
    /// Where it is.
    pub address: SocketAddr,
    /// Whether it leads.
    pub leader: bool,
    /// Whether it has a vote.
    pub voter: bool,
    /// Whether it is healthy.
    pub healthy: bool,
    /// Whether it has been silent for so long that it counts as dead.
    pub dead: bool,
    /// How long ago it was in contact with the leader; zero on the leader itself.
    pub last_contact: Duration,
    /// The term of the last entry that it is known to have.
    pub last_term: Term,
    /// The last entry that it is known to have.
    pub last_index: Index,
    /// For how long it has been as it is.
    pub stable_for: Duration,
}
