//! Questions to the agent about itself (`agent-http.txt`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A question that only the agent that is asked can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// `/v1/agent/self`.
    Itself,
}

/// The agent's view of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Itself {
    /// How it was configured.
    pub config: Settings,
    /// How it appears to others.
    pub member: Member,
    /// Operating figures by subject, for human eyes: `raft` → `term` → `"3"`.
    pub stats: BTreeMap<String, BTreeMap<String, String>>,
}

/// The part of the configuration that `/v1/agent/self` shows, whether or not the core looks at it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Whether the agent may elect itself when it is alone.
    pub bootstrap: bool,
    /// How many servers to wait for before the first election; 0 if not used.
    pub bootstrap_expect: u32,
    /// Whether it takes part in raft.
    pub server: bool,
    /// Development mode: everything in memory.
    pub dev_mode: bool,
    /// Its datacenter.
    pub datacenter: String,
    /// Its node name.
    pub node_name: String,
    /// Its stable ID.
    pub node_id: String,
    /// Where it keeps its data; empty if nowhere.
    pub data_dir: String,
    /// DNS recursors.
    pub dns_recursors: Vec<String>,
    /// The DNS domain, with its final dot.
    pub domain: String,
    /// The lowest level that is logged.
    pub log_level: String,
    /// Where clients are served.
    pub client_addr: String,
    /// Where peers are served.
    pub bind_addr: String,
    /// What peers are told.
    pub advertise_addr: String,
    /// Ports by their key in `/v1/agent/self`: `HTTP` → 8500. A port that is off is -1.
    pub ports: BTreeMap<String, i32>,
    /// Whether SIGTERM leaves the cluster.
    pub leave_on_term: bool,
    /// Whether SIGINT does not leave the cluster.
    pub skip_leave_on_int: bool,
    /// Raft timing in multiples of the fastest setting; see [`crate::raft::Options::with_multiplier`].
    pub raft_multiplier: u32,
    /// The file that holds the process id; empty if none.
    pub pid_file: String,
    /// The program's version.
    pub version: String,
    /// The commit it was built from, if known.
    pub revision: String,
}

/// A member of the cluster as gossip sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its node name.
    pub name: String,
    /// Its address in the gossip pool.
    pub address: IpAddr,
    /// Its port in the gossip pool.
    pub port: u16,
    /// What it says of itself: role, dc, port, vsn …
    pub tags: BTreeMap<String, String>,
    /// Whether it is there.
    pub status: MemberStatus,
}

/// Serf's member states, by their numbers in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberStatus {
    /// Nothing known.
    None = 0,
    /// Answers.
    Alive = 1,
    /// Said that it leaves.
    Leaving = 2,
    /// Left of its own will.
    Left = 3,
    /// Does not answer.
    Failed = 4,
}
