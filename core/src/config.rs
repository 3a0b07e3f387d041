//! What an agent must know before it starts. Consul's defaults, unless something is known to be better.

use std::net::{IpAddr, SocketAddr};

use crate::api::agent::{Definitions, Settings};
use crate::api::catalog::Meta;
use crate::api::{Error, txn};
use crate::gossip;
use crate::id::PeerId;
use crate::raft::{self, Configuration};
use crate::time::Duration;
use crate::wal;

/// What agents say of their build in the pool (tag `build`): the release of Consul whose interface they have, as tools take
/// it for one and compare it with others.
pub const COMPATIBLE_BUILD: &str = "0.7.2";

/// Consul's port for gossip between datacenters.
const WAN_PORT: u16 = 8302;

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
    /// Whether it is a server, and takes part in raft; else it forwards its clients' calls to servers.
    pub server: bool,
    /// Finding the other agents.
    pub gossip: Gossip,
    /// What is registered with this agent, and its checks.
    pub local: Local,
    /// Running commands for others.
    pub exec: Exec,
    /// Access control.
    pub acl: Acl,
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

/// Finding the other agents, and losing sight of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gossip {
    /// Where others reach this agent's gossip (Consul's `serf_lan` port, 8301): datagrams and streams.
    pub address: SocketAddr,
    /// Timing and limits.
    pub options: gossip::Options,
    /// How many servers found the cluster together, once they have found each other; 0 if it is founded some other way.
    pub bootstrap_expect: u32,
    /// Agents to join, tried until one answers. IP addresses or names of hosts, each with or without a port.
    pub retry_join: Vec<String>,
    /// How long to wait between two tries.
    pub retry_interval: Duration,
    /// How many tries there are before the agent gives up; 0 for any number.
    pub retry_max: u32,
    /// Whether the members of an earlier life are joined although it had left.
    pub rejoin_after_leave: bool,
    /// Whether to tell the servers where in the network we are.
    pub send_coordinates: bool,
}

impl Gossip {
    /// Consul's defaults.
    #[must_use]
    pub fn new(address: SocketAddr, datacenter: &str) -> Self {
        Self {
            address,
            options: gossip::Options { pool: format!("lan:{datacenter}"), ..gossip::Options::default() },
            bootstrap_expect: 0,
            retry_join: Vec::new(),
            retry_interval: Duration::from_secs(30),
            retry_max: 0,
            rejoin_after_leave: false,
            send_coordinates: true,
        }
    }
}

/// What is registered with this agent, and its checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// What the configuration files define.
    pub definitions: Definitions,
    /// Whether checks may run commands.
    pub script_checks: bool,
    /// How often the catalog is compared with what is registered here, in a cluster of up to 128 agents; every doubling
    /// adds as much again (Consul's minute). Zero: never, nor is the catalog told of any change; for an agent that is to keep
    /// to itself, such as one whose every message a test counts.
    pub sync_interval: Duration,
    /// A check whose output alone changed is not told to the catalog before this has passed (`check_update_interval`, Consul's
    /// five minutes); zero tells every change at once.
    pub output_interval: Duration,
    /// The shortest interval between two runs of a check.
    pub min_interval: Duration,
    /// How often it is looked whether a service has been critical for too long.
    pub reap_interval: Duration,
    /// A service is critical for so long, at least, before it is taken back.
    pub min_deregister_after: Duration,
    /// What users say of this node in the catalog (`node_meta`).
    pub node_meta: Meta,
    /// The address that other datacenters reach this node at (`advertise_addr_wan`), if it is not the one of the gossip pool.
    pub wan_address: Option<IpAddr>,
    /// The time of day when the agent comes into being, since the beginning of 1970. Without it, what was told of a check in
    /// an earlier life holds however long ago that was.
    pub time_of_day: Option<Duration>,
    /// Probes that run at a time.
    pub probes: usize,
    /// Services that can be registered.
    pub services: usize,
    /// Checks that can be registered.
    pub checks: usize,
}

impl Default for Local {
    fn default() -> Self {
        Self {
            definitions: Definitions::default(),
            script_checks: true,
            sync_interval: Duration::from_secs(60),
            output_interval: Duration::from_secs(300),
            min_interval: Duration::from_secs(1),
            reap_interval: Duration::from_secs(15),
            min_deregister_after: Duration::from_secs(60),
            node_meta: Meta::new(),
            wan_address: None,
            time_of_day: None,
            probes: 128,
            services: 65_536,
            checks: 65_536,
        }
    }
}

impl Config {
    /// Whether an agent can be that.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn check(&self) -> Result<(), gossip::BadIdentity> {
        self.identity().check()
    }

    /// Where the pool of all datacenters' servers meets.
    #[must_use]
    pub fn wan_port(&self) -> u16 {
        self.settings.ports.get("SerfWan").and_then(|port| u16::try_from(*port).ok()).unwrap_or(WAN_PORT)
    }

    /// Who we are to others in the pool.
    #[must_use]
    pub fn identity(&self) -> gossip::Identity {
        gossip::Identity { name: self.name.clone(), address: self.gossip.address, tags: self.tags() }
    }

    /// What we say of ourselves. `port` is where peers reach a server.
    fn tags(&self) -> gossip::Tags {
        let id = self.id.0.to_string();
        let common = [
            ("role", if self.server { "consul" } else { "node" }),
            ("dc", self.datacenter.as_str()),
            (gossip::ID_TAG, id.as_str()),
            ("vsn", "2"),
            ("vsn_min", "2"),
            ("vsn_max", "3"),
            ("build", COMPATIBLE_BUILD),
        ];
        let mut tags: gossip::Tags =
            common.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        if self.server {
            tags.insert("port".to_owned(), self.address.port().to_string());
            if self.settings.bootstrap {
                tags.insert("bootstrap".to_owned(), "1".to_owned());
            }
            if self.gossip.bootstrap_expect > 0 {
                tags.insert("expect".to_owned(), self.gossip.bootstrap_expect.to_string());
            }
        }
        tags
    }

    /// A server with Consul's defaults that founds nothing. Others reach its gossip one port above the one for peers.
    #[must_use]
    pub fn new(id: PeerId, name: impl Into<String>, address: SocketAddr) -> Self {
        let datacenter = "dc1".to_owned();
        let gossip = SocketAddr::new(address.ip(), address.port().wrapping_add(1));
        Self {
            id,
            name: name.into(),
            address,
            server: true,
            gossip: Gossip::new(gossip, &datacenter),
            datacenter,
            local: Local::default(),
            exec: Exec::default(),
            acl: Acl::default(),
            bootstrap: None,
            raft: raft::Options::default(),
            wal: wal::Options::default(),
            snapshots: Snapshots::default(),
            limits: Limits::default(),
            settings: Settings::default(),
        }
    }
}

/// Access control. It is there if a datacenter is named that is the authority on tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    /// The datacenter whose servers keep the tokens (`acl_datacenter`); `None` for no access control.
    pub datacenter: Option<String>,
    /// What holds where no rule does (`acl_default_policy`).
    pub by_default: DefaultPolicy,
    /// What holds as long as nothing can be learnt of a token (`acl_down_policy`).
    pub when_down: DownPolicy,
    /// A management token that the leader creates if it is not there (`acl_master_token`).
    pub master_token: Option<String>,
    /// The token of clients that give none (`acl_token`); the anonymous one if there is none.
    pub token: Option<String>,
    /// The token that the agent itself uses (`acl_agent_token`); [`Acl::token`] if there is none.
    pub agent_token: Option<String>,
}

/// What holds where no rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultPolicy {
    /// Everything is allowed but to manage tokens.
    #[default]
    Allow,
    /// Nothing is.
    Deny,
}

/// What holds as long as nothing can be learnt of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DownPolicy {
    /// Everything is allowed but to manage tokens.
    Allow,
    /// Nothing is.
    Deny,
    /// What was last learnt; where nothing was, nothing is allowed.
    #[default]
    ExtendCache,
}

impl Acl {
    /// Whether there is access control.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.datacenter.is_some()
    }
}

/// Running commands for others (`exec`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// Whether it is done at all: whoever may write below the jobs' prefix may run anything as this agent's user. Off unless said
    /// otherwise, as with Consul since 0.8 (`disable_remote_exec`).
    pub enabled: bool,
    /// Jobs at a time. One more is not acknowledged.
    pub jobs: usize,
    /// Bytes of output of one job that are told. What is beyond is thrown away, and a line says so in its place.
    pub output_bytes: u64,
    /// How many bytes of output a job tells the servers in a second, once it has told the first mebibyte; not zero. Its command
    /// waits meanwhile: all of it goes through the servers' log, which is there for others, too.
    pub output_rate: u32,
    /// After so many bytes the output of a job goes past the log to the agent that its initiator asks, if it says so in the job.
    pub direct_after: u64,
    /// How many bytes of output go that way in a second, of one job; not zero. Its command waits meanwhile: the agents have other
    /// things to do, too.
    pub direct_rate: u32,
    /// What is collected of one job's output for a client of this agent, and not asked for yet: all nodes share so many bytes. At least
    /// 64 KiB.
    pub inbox_bytes: usize,
}

impl Default for Exec {
    fn default() -> Self {
        Self {
            enabled: false,
            jobs: 32,
            output_bytes: 64 << 20,
            output_rate: 2 << 20,
            direct_after: 64 << 10,
            direct_rate: 4 << 20,
            inbox_bytes: 4 << 20,
        }
    }
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
    /// The operations of a transaction (Consul's 64).
    pub txn_ops: usize,
    /// Bytes of all keys, values and whatever else is text of a transaction together: it is one entry of the log.
    pub txn_bytes: usize,
    /// The shortest time to live of a session (`session_ttl_min`, Consul's 10 s).
    pub session_ttl_min: Duration,
    /// The longest time to live of a session (Consul's day, although its document says an hour).
    pub session_ttl_max: Duration,
    /// How long a deletion is remembered; longer than any query may block.
    pub tombstone_ttl: Duration,
}

impl Limits {
    /// Refuses a transaction that is too long or too large.
    ///
    /// # Errors
    /// What is too much, in Consul's words where it has the same limit.
    pub fn check_txn(&self, txn: &txn::Request) -> Result<(), Error> {
        let (count, limit) = (txn.ops.len(), self.txn_ops);
        if count > limit {
            return Err(Error::TxnTooLong { count, limit });
        }
        let mut total: usize = 0;
        for txn::Op { verb, key, value, session, .. } in &txn.ops {
            let (size, limit) = (value.len(), self.value_bytes);
            if size > limit {
                let key = String::from_utf8_lossy(key).into_owned();
                return Err(Error::TxnValueTooLarge { key, size, limit });
            }
            if key.len() > self.key_bytes {
                return Err(Error::KeyTooLarge { limit: self.key_bytes });
            }
            let word = if let txn::Verb::Unknown(word) = verb { word.len() } else { 0 };
            total = total.saturating_add(key.len() + size + session.len() + word);
        }
        if total > self.txn_bytes { Err(Error::TxnTooLarge { limit: self.txn_bytes }) } else { Ok(()) }
    }
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
            txn_ops: 64,
            txn_bytes: 2 << 20,
            session_ttl_min: Duration::from_secs(10),
            session_ttl_max: Duration::from_secs(86_400),
            tombstone_ttl: Duration::from_secs(900),
        }
    }
}
