//! Questions to the agent about itself (`agent-http.txt`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::coordinate::Coordinate;
use crate::time::Duration;

/// What only the agent that is asked can answer or do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// `/v1/agent/self`.
    Itself,
    /// The members of a gossip pool, as this agent sees them.
    Members {
        /// The pool of all datacenters' servers instead of this datacenter's.
        wan: bool,
    },
    /// Contacts other agents to become one pool with theirs. Answered once every one of them has answered or failed to.
    Join {
        /// IP addresses or names of hosts, each with or without a port.
        addresses: Vec<String>,
        /// As above.
        wan: bool,
    },
    /// Says of a member that has failed that it has left.
    ForceLeave {
        /// Its name.
        node: String,
        /// Also forgets it at once (`?prune`).
        prune: bool,
    },
    /// Leaves the pool for good. Answered once that is said; then the agent stops.
    Leave,
    /// The services that were registered with this agent.
    Services,
    /// The checks that were registered with this agent.
    Checks,
    /// Registers a service, with checks of it, in place of an older one with its ID.
    RegisterService(Box<ServiceDefinition>),
    /// Takes back a service with its checks.
    DeregisterService {
        /// Its ID.
        id: String,
    },
    /// Registers a check, in place of an older one with its ID.
    RegisterCheck(Box<CheckDefinition>),
    /// Takes back a check.
    DeregisterCheck {
        /// Its ID.
        id: String,
    },
    /// Tells how a check with a time to live is.
    UpdateCheck {
        /// Its ID.
        id: String,
        /// "passing", "warning" or "critical".
        status: String,
        /// For people; cut off at 4 KiB.
        output: String,
    },
    /// Begins or ends maintenance of a service.
    ServiceMaintenance {
        /// Its ID.
        id: String,
        /// Begins.
        enable: bool,
        /// For people; empty for a default.
        reason: String,
    },
    /// Begins or ends maintenance of the whole node.
    NodeMaintenance {
        /// Begins.
        enable: bool,
        /// For people; empty for a default.
        reason: String,
    },
    /// Takes over what the configuration files define now, in place of what they defined before. There is no such call over
    /// HTTP: whoever reads the files makes it.
    Redefine(Box<Definitions>),
}

/// What the configuration files define.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definitions {
    /// Services, with their checks.
    pub services: Vec<ServiceDefinition>,
    /// Other checks.
    pub checks: Vec<CheckDefinition>,
}

/// A service, as it is defined in a request or a file, before anybody has checked it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceDefinition {
    /// Empty: as the name.
    pub id: String,
    /// Needed.
    pub name: String,
    /// `None` is shown as `null`.
    pub tags: Option<Vec<String>>,
    /// Empty: as the node's.
    pub address: String,
    /// Any number.
    pub port: i64,
    /// Whether others may change its tags for good.
    pub enable_tag_override: bool,
    /// What users say of it.
    pub meta: BTreeMap<String, String>,
    /// Its checks: those of `Checks` and then that of `Check`. Those that define nothing do not count.
    pub checks: Vec<CheckDefinition>,
    /// On whose behalf it is kept in the catalog; empty for the agent's own.
    pub token: String,
}

/// A check, as it is defined in a request or a file, before anybody has checked it. What kind of check it is follows
/// from which fields are not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckDefinition {
    /// Empty: as the name.
    pub id: String,
    /// For people.
    pub name: String,
    /// For people.
    pub notes: String,
    /// The service of this agent that it is of; empty if it is of the node.
    pub service_id: String,
    /// The state to begin with; empty for "critical".
    pub status: String,
    /// A shell's command, run every `interval`.
    pub script: String,
    /// A program with its arguments, run every `interval`.
    pub args: Vec<String>,
    /// A URL, asked every `interval`.
    pub http: String,
    /// The method to ask with; empty for GET.
    pub method: String,
    /// Headers to send along.
    pub header: BTreeMap<String, Vec<String>>,
    /// A body to send along.
    pub body: String,
    /// Whether to take any certificate for good.
    pub tls_skip_verify: bool,
    /// A host and a port, connected to every `interval`.
    pub tcp: String,
    /// A container in which `script` or `args` are run.
    pub docker_container_id: String,
    /// The shell for that; empty for `/bin/sh`.
    pub shell: String,
    /// How often to run it.
    pub interval: Duration,
    /// How long one run may take; zero for a default.
    pub timeout: Duration,
    /// For how long what was last told of it holds.
    pub ttl: Duration,
    /// After how long in the critical state its service is taken back; zero for never.
    pub deregister_critical_service_after: Duration,
    /// On whose behalf it is kept in the catalog; empty for the agent's own.
    pub token: String,
}

/// The agent's view of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Itself {
    /// How it was configured.
    pub config: Settings,
    /// How it appears to others.
    pub member: Member,
    /// Where it believes to be in the network.
    pub coordinate: Coordinate,
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
    /// The datacenter whose servers keep the tokens; empty without access control.
    pub acl_datacenter: String,
    /// What holds where no rule does: `allow` or `deny`.
    pub acl_default_policy: String,
    /// What holds as long as nothing can be learnt of a token: `allow`, `deny` or `extend-cache`.
    pub acl_down_policy: String,
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
