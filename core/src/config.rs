//! What an agent must know before it starts. Consul's defaults, unless something is known to be better.

use std::net::SocketAddr;

use crate::api::agent::Settings;
use crate::id::PeerId;
use crate::raft::Configuration;
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
    pub raft: Raft,
    /// Sizes of the log's files.
    pub wal: wal::Options,
    /// What is too much.
    pub limits: Limits,
    /// What `/v1/agent/self` shows.
    pub settings: Settings,
}

/// Raft's timing and batch sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raft {
    /// A follower that has not heard from a leader for a random time between this and twice this asks for
    /// votes. Until this has passed, it gives none: that is what the leader's lease rests on.
    pub election_timeout: Duration,
    /// How often a leader speaks to its followers if it has nothing else to say. At most a fifth of the
    /// election timeout, so that a few lost messages change nothing.
    pub heartbeat_interval: Duration,
    /// How far two clocks may run apart, in percent of the time passed. The lease is shorter than the
    /// election timeout by twice this.
    pub clock_drift_percent: u32,
    /// The most entries' bytes in one append message. A larger single entry travels alone.
    pub append_bytes: usize,
    /// The most append messages on their way to one follower.
    pub inflight_messages: usize,
    /// The most entries' bytes on their way to one follower.
    pub inflight_bytes: usize,
}

impl Raft {
    /// Consul's `performance.raft_multiplier`: 1 is the fastest, 5 the default, 10 the slowest. The times
    /// themselves are a fifth of Consul's: at the default, a leader is missed after 1 to 2 seconds.
    #[must_use]
    pub fn with_multiplier(multiplier: u32) -> Self {
        let multiplier = multiplier.clamp(1, 10);
        Self {
            election_timeout: Duration::from_millis(200) * multiplier,
            heartbeat_interval: Duration::from_millis(20) * multiplier,
            clock_drift_percent: 5,
            append_bytes: 1 << 20,
            inflight_messages: 64,
            inflight_bytes: 16 << 20,
        }
    }

    /// For how long after a quorum heard from it a leader may answer reads on its own: the time for which no
    /// voter will elect another, less what clocks may differ (DESIGN, decision 6).
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.election_timeout * (100 - 2 * self.clock_drift_percent) / 100
    }
}

impl Default for Raft {
    fn default() -> Self {
        Self::with_multiplier(5)
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
            tombstone_ttl: Duration::from_secs(900),
        }
    }
}
