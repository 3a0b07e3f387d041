//! What an agent must know before it starts. Consul's defaults, unless something is known to be better.

use std::net::SocketAddr;

use crate::api::agent::Settings;
use crate::id::PeerId;
use crate::raft::{self, Configuration};
use crate::time::Duration;
use crate::wal;

/// The configuration of an agent.
#[derive(Clone, Debug)]
pub struct Config {
    /// The stable ID from the data directory.
    pub id: PeerId,
    /// The node name.
    pub name: String,
    /// The datacenter.
    pub datacenter: String,
    /// Where peers reach this agent (Consul's server port, 8300).
    pub address: SocketAddr,
    /// The first members of the cluster, if this server may found it: with an empty log, this becomes the
    /// first entry. Every founding server must be given the very same members.
    pub bootstrap: Option<Configuration>,
    /// Consensus.
    pub raft: raft::Options,
    /// Sizes of the log's files.
    pub wal: wal::Options,
    /// When the log is cut off, and how.
    pub snapshots: Snapshots,
    /// What is too much.
    pub limits: Limits,
    /// What `/v1/agent/self` shows.
    pub settings: Settings,
}

/// When a snapshot takes the place of the log's beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshots {
    /// A snapshot is due after so many entries since the last one (Consul's 8192, doubled), or …
    pub entries: u64,
    /// … so many bytes of them; but in any case not before they take half of what the last snapshot took: so the writing
    /// of snapshots never costs more than twice what the log does, however large the store is.
    pub bytes: u64,
    /// Entries that stay in memory behind a snapshot, so that a server which is a little late needs none
    /// (Consul's 10240).
    pub trailing_entries: u64,
    /// Bytes of entries that are kept in memory for a server which is on its way to catch up, beyond the trailing ones.
    pub kept_bytes: usize,
    /// Bytes of a piece, in which snapshots are written and sent. A single larger row travels alone.
    pub piece_bytes: usize,
    /// Pieces that are on their way to one server at a time.
    pub inflight_pieces: u32,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self {
            entries: 16_384,
            bytes: 64 << 20,
            trailing_entries: 10_240,
            kept_bytes: 256 << 20,
            piece_bytes: 256 << 10,
            inflight_pieces: 8,
        }
    }
}

/// What is too much. Beyond a limit a call is answered with a clear error; memory stays bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a value (Consul's 512 KiB).
    pub value_bytes: usize,
    /// Bytes of a key.
    pub key_bytes: usize,
    /// Calls without an answer yet, blocked queries apart.
    pub open_calls: usize,
    /// Blocked queries.
    pub blocked_queries: usize,
    /// Bytes of entries proposed here and not yet committed.
    pub uncommitted_bytes: usize,
    /// How long a call waits for a leader (Consul's `RPCHoldTimeout`).
    pub leader_wait: Duration,
    /// How long a call waits for the leader to answer it, beyond the time for which it may block.
    pub forward_wait: Duration,
    /// The longest time for which a query may block; also the default.
    pub max_wait: Duration,
    /// A server that the leader has not heard for so long is dead, and may be replaced.
    pub dead_after: Duration,
    /// How long a deletion is remembered; longer than any query may block.
    pub tombstone_ttl: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            value_bytes: 512 << 10,
            key_bytes: 64 << 10,
            open_calls: 16_384,
            blocked_queries: 65_536,
            uncommitted_bytes: 64 << 20,
            leader_wait: Duration::from_secs(7),
            forward_wait: Duration::from_secs(7),
            max_wait: Duration::from_secs(600),
            dead_after: Duration::from_secs(30),
            tombstone_ttl: Duration::from_secs(900),
        }
    }
}
