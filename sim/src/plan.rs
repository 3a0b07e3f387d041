//! What a run will be, as data: the cluster, its clients and its troubles. Drawn from a seed, printed as
//! JSON, edited, and run again.
//!
//! The seed stays in the plan. What the plan leaves open (each message's latency, each client's next key) is
//! drawn from streams that the seed starts, one stream for each concern.

mod draw;

use std::fmt;
use std::str::FromStr;

use lictor_core::config::Snapshots;
use lictor_core::time::Duration;
use serde::{Deserialize, Serialize};

use crate::faults::Trouble;

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Where the dice start.
    pub seed: u64,
    /// What is exercised.
    pub scenario: Scenario,
    /// Raft's timing, as in `performance.raft_multiplier`.
    pub raft_multiplier: u32,
    /// The servers.
    pub hosts: Vec<HostPlan>,
    /// What lies between them.
    pub network: NetworkPlan,
    /// Those who use them.
    pub clients: Vec<ClientPlan>,
    /// How many different keys there are, at most [`crate::plan::KEYS`]'s length.
    pub keys: usize,
    /// For how long there is trouble. Then everything heals.
    pub trouble_ms: u64,
    /// For how long clients work on after that.
    pub calm_ms: u64,
    /// When the servers' logs are cut off; as in an agent by default if absent.
    #[serde(default)]
    pub snapshots: Option<SnapshotPlan>,
    /// How the agents find each other; they do not if absent.
    #[serde(default)]
    pub pool: Option<PoolPlan>,
    /// The one who looks after the members; nobody if absent.
    #[serde(default)]
    pub operator: Option<OperatorPlan>,
    /// Those who register services with agents and fire events; nobody if absent.
    #[serde(default)]
    pub registrar: Option<RegistrarPlan>,
    /// Those who take locks; nobody if absent.
    #[serde(default)]
    pub lockers: Option<LockersPlan>,
    /// Those who have commands run on many agents; nobody if absent.
    #[serde(default)]
    pub exec: Option<ExecPlan>,
    /// Those who use tokens; there is no access control if absent.
    #[serde(default)]
    pub tokens: Option<TokensPlan>,
    /// The troubles, by the time at which they begin.
    pub troubles: Vec<Trouble>,
}

/// Which kinds of clients and troubles a plan is drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// Clients of the key-value store, all troubles of machines that stay members.
    Kv,
    /// The same, while logs are cut off all the time, and servers join, leave, move and lose their disks.
    Members,
    /// A whole cluster, from the first join on: servers that found it together, client agents, and all troubles.
    Cluster,
    /// Clients that take locks with sessions, work, pause and lose them, and move money between accounts in transactions; the
    /// troubles of `kv`, and longer ones.
    Locks,
    /// As `cluster`, and users have commands run on many agents, which write, hang, and do not listen.
    Exec,
    /// Access control: tokens whose rules change all the time, and clients that do with them what they may, or may not; the troubles of
    /// `kv`, with some client agents.
    Acl,
    /// Always five servers and five clients under troubles: to measure the simulator's speed.
    Bench,
}

/// How agents find each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolPlan {
    /// Whether the servers found the cluster once they have found each other; else each is told of the others at its start.
    pub expects: bool,
    /// How long an agent that nobody answered waits before it tries again.
    pub retry_ms: u64,
    /// How often full states are exchanged.
    pub push_pull_ms: u64,
    /// How often failed members are tried again.
    pub reconnect_ms: u64,
    /// How often each agent compares what is registered with it with the catalog; 0 for never.
    #[serde(default)]
    pub sync_ms: u64,
    /// How many services the files of each agent define.
    #[serde(default)]
    pub services: usize,
}

/// What a cluster is to be like, in place of what its seed says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// How many client agents there are.
    pub agents: Option<usize>,
    /// How many services the files of each agent define.
    pub services: usize,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostPlan {
    /// Whether it is a client of the servers, and none itself. Servers come first.
    #[serde(default)]
    pub client: bool,
    /// What its clock shows when the world begins.
    pub clock_ms: u64,
    /// How much its clock gains, in millionths.
    pub drift_ppm: i32,
    /// From an input's arrival to its processing, from … to.
    pub step_us: (u64, u64),
    /// A sync of the disk, from … to.
    pub sync_us: (u64, u64),
    /// Whether it does not found the cluster, but is added by the operator.
    #[serde(default)]
    pub joins: bool,
    /// Whether the operator has no use for it in the end. It goes on running then.
    #[serde(default)]
    pub retires: bool,
}

/// When a server's log is cut off, as in [`lictor_core::config::Snapshots`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotPlan {
    /// A snapshot is due after so many entries …
    pub entries: u64,
    /// … or so many bytes.
    pub bytes: u64,
    /// Entries that stay behind it.
    pub trailing_entries: u64,
    /// Bytes that stay for a server which catches up.
    pub kept_bytes: usize,
    /// Bytes of a piece.
    pub piece_bytes: usize,
    /// Pieces on their way at a time.
    pub inflight_pieces: u32,
    /// Bytes of a file of the log.
    pub segment_bytes: u64,
}

impl SnapshotPlan {
    pub(crate) fn config(&self) -> Snapshots {
        Snapshots {
            entries: self.entries,
            bytes: self.bytes,
            trailing_entries: self.trailing_entries,
            kept_bytes: self.kept_bytes,
            piece_bytes: self.piece_bytes,
            inflight_pieces: self.inflight_pieces,
        }
    }
}

/// The operator, who stands in for what agents do as they find each other, and for people with tools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperatorPlan {
    /// The pause between two calls, from … to.
    pub pause_ms: (u64, u64),
    /// How long it waits for an answer, from … to.
    pub patience_ms: (u64, u64),
    /// How often, in percent of its calls, it asks any host and not the leader.
    pub strays_percent: u64,
    /// How often, in percent of its calls, it hands leadership over.
    pub transfers_percent: u64,
    /// How often, in percent of its calls, it does something useless or wrong.
    pub meddles_percent: u64,
    /// Whether it leaves it to the leader to remove servers that are dead.
    pub cleanup_dead_servers: bool,
    /// After how long a silence a server is dead.
    pub dead_ms: u64,
    /// How long a server must be healthy before it gets a vote.
    pub stabilization_ms: u64,
    /// For how long a healthy server may be silent.
    pub last_contact_ms: u64,
    /// How many entries a healthy server may lack.
    pub max_trailing_logs: u64,
}

/// Those who register services with agents, tell how their checks are, set maintenance, and fire events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegistrarPlan {
    /// The pause between two calls, from … to.
    pub pause_ms: (u64, u64),
}

/// Those who have commands run on many agents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecPlan {
    /// The pause between two jobs, from … to.
    pub pause_ms: (u64, u64),
    /// How many bytes of a command's output are told.
    pub output_bytes: u64,
    /// After how many bytes output goes past the log, and how many in a second.
    pub direct_after: u64,
    /// As above.
    pub direct_rate: u32,
    /// How much of a job's output waits for its user.
    pub inbox_bytes: usize,
    /// How many jobs an agent carries out at a time.
    pub jobs: usize,
    /// The hosts whose agents run nothing for others.
    pub disabled: Vec<usize>,
}

/// Those who use tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokensPlan {
    /// Whether what no rule speaks of is denied.
    pub denies: bool,
    /// How many tokens there may be at a time, those apart that always are.
    pub tokens: usize,
    /// How many change tokens.
    pub managers: usize,
    /// The pause between two of their calls, from … to.
    pub change_ms: (u64, u64),
    /// How many use them.
    pub bearers: usize,
    /// The pause between two of their calls, from … to.
    pub pause_ms: (u64, u64),
    /// How long all of them wait for an answer, from … to.
    pub patience_ms: (u64, u64),
}

/// Those who take locks, and what they take them on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LockersPlan {
    /// How many locks there are, at most [`LOCKS`]'s length.
    pub locks: usize,
    /// How many accounts there are between which some of them move money.
    pub accounts: usize,
    /// The clients.
    pub clients: Vec<LockerPlan>,
}

/// A client that takes locks. It renews its session as long as it has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LockerPlan {
    /// The host that it begins with.
    pub host: usize,
    /// Its sessions' time to live, in seconds; 0 for none.
    pub ttl_s: u64,
    /// How much of that passes, in percent, until it renews.
    pub renews_percent: u64,
    /// Its sessions' lock delay.
    pub lock_delay_ms: u64,
    /// Whether the keys that its sessions hold are deleted with them.
    pub ephemeral: bool,
    /// What its sessions rely on.
    pub tie: Tie,
    /// Whether it asks for a lock that it cannot have again and again, and does not wait until the lock is free.
    pub hammers: bool,
    /// The pause between two steps, from … to.
    pub step_ms: (u64, u64),
    /// How long it waits for an answer, from … to.
    pub patience_ms: (u64, u64),
    /// How often, in percent of its steps, something becomes of it or its session: it stands still, loses its connections,
    /// forgets to renew, its check fails …
    pub mishaps_percent: u64,
    /// How often, in percent of its steps, it moves money.
    pub moves_percent: u64,
}

/// What a session relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tie {
    /// The node of the agent that is asked, whatever its health.
    Nothing,
    /// That agent's being alive.
    Agent,
    /// A node of the client's own, and a check of it.
    Own,
}

/// The network in fair weather.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkPlan {
    /// Each link's latency is drawn once from … to.
    pub latency_us: (u64, u64),
    /// What each message may take longer, at most.
    pub jitter_us: u64,
    /// Whether messages of one link keep their order, as in one TCP connection.
    pub in_order: bool,
    /// Lost messages in a million.
    pub loss_ppm: u32,
    /// Messages that arrive twice, in a million.
    pub duplicate_ppm: u32,
    /// Messages that arrive damaged, in a million.
    pub damage_ppm: u32,
}

/// A client: it does one thing after the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientPlan {
    /// The server it begins with.
    pub host: usize,
    /// How often, in percent of its operations, it goes to another server afterwards.
    pub roams_percent: u64,
    /// The pause between two operations, from … to.
    pub think_us: (u64, u64),
    /// How long it waits for an answer, beyond the time for which it asked to be blocked, from … to.
    pub patience_ms: (u64, u64),
    /// How often it does what.
    pub mix: Mix,
}

/// How often a client does what, as weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mix {
    /// Unconditional puts.
    pub put: u32,
    /// Puts with `?cas`.
    pub cas: u32,
    /// Deletes, half of them with `?cas`.
    pub delete: u32,
    /// Deletes of a prefix.
    pub delete_tree: u32,
    /// Reads of one key.
    pub get: u32,
    /// Reads of a prefix.
    pub list: u32,
    /// Blocking reads of a key or a prefix.
    pub watch: u32,
    /// Of the reads, how many of a hundred are `?stale`.
    pub stale_percent: u64,
    /// Of the reads, how many of a hundred are `?consistent`.
    pub consistent_percent: u64,
}

/// The keys that clients use; a plan takes the first few. Few, so that they get into each other's way, and
/// with prefixes in common.
pub const KEYS: [&str; 6] = ["a/1", "b", "a/2", "a", "c/1/x", "c/1"];

/// The prefixes that clients list, watch and delete.
pub const PREFIXES: [&str; 5] = ["", "a", "a/", "c/", "b"];

/// The keys that locks are taken on; a plan takes the first few.
pub const LOCKS: [&str; 3] = ["lock/a", "lock/b", "lock/c"];

/// The token that may do everything, and is there from the beginning.
pub const MASTER: &str = "root";

/// What the accounts' keys begin with.
pub const ACCOUNTS: &str = "money/";

/// The most hosts.
pub const MAX_HOSTS: usize = 4096;

impl Plan {
    /// How many of the hosts are servers.
    #[must_use]
    pub fn servers(&self) -> usize {
        self.hosts.iter().filter(|host| !host.client).count()
    }

    /// What is wrong with a plan that was written by hand, if anything.
    ///
    /// # Errors
    /// A sentence that names the first mistake.
    pub fn check(&self) -> Result<(), String> {
        let servers = self.servers();
        if servers == 0 || servers > 7 {
            return Err(format!("a plan has 1 to 7 servers, this one has {servers}"));
        }
        if self.hosts.len() > MAX_HOSTS {
            return Err(format!("a plan has at most {MAX_HOSTS} hosts, this one has {}", self.hosts.len()));
        }
        if self.hosts[..servers].iter().any(|host| host.client) {
            return Err("a client agent stands before a server: servers come first".to_owned());
        }
        if self.pool.is_none() && servers < self.hosts.len() {
            return Err("there are client agents, which need a pool to find servers in".to_owned());
        }
        if self.keys == 0 || self.keys > KEYS.len() {
            return Err(format!("`keys` must be from 1 to {}, it is {}", KEYS.len(), self.keys));
        }
        if let Some(client) = self.clients.iter().find(|client| client.host >= self.hosts.len()) {
            return Err(format!("a client begins at host {}, but there are {} hosts", client.host, self.hosts.len()));
        }
        if let Some(client) = self.clients.iter().find(|client| client.mix.total() == 0) {
            return Err(format!("the mix of a client at host {} has no weight above 0", client.host));
        }
        if let Some(lockers) = &self.lockers {
            lockers.check(self.hosts.len())?;
        }
        if self.tokens.as_ref().is_some_and(|tokens| tokens.tokens == 0) {
            return Err("those who use tokens need at least one: `tokens` is 0".to_owned());
        }
        if self.hosts.iter().all(|host| host.joins) {
            return Err("every host joins, and none is there to be joined: let one found the cluster".to_owned());
        }
        if self.hosts.iter().all(|host| host.retires) {
            return Err("every host retires: keep one".to_owned());
        }
        let (operated, pooled) = (self.operator.is_some(), self.registrar.is_some());
        if let Some(trouble) = self.troubles.iter().find(|trouble| !trouble.is_possible(operated, pooled)) {
            let (at_ms, name) = (trouble.at_ms, trouble.fault.name());
            return Err(format!("the trouble at {at_ms} ms, {name}, needs an operator, or registrars in its place"));
        }
        if self.operator.is_none() && self.hosts.iter().any(|host| host.joins || host.retires) {
            return Err("a host joins or retires, which needs an operator".to_owned());
        }
        let fast = |ppm: i32| !(-900_000..=900_000).contains(&ppm);
        if let Some(host) = self.hosts.iter().find(|host| fast(host.drift_ppm)) {
            return Err(format!("a drift of {} ppm is beyond ±900000", host.drift_ppm));
        }
        self.troubles.iter().try_for_each(|trouble| trouble.check(self.hosts.len()))
    }
}

impl LockersPlan {
    fn check(&self, hosts: usize) -> Result<(), String> {
        if self.locks == 0 || self.locks > LOCKS.len() {
            return Err(format!("`locks` must be from 1 to {}, it is {}", LOCKS.len(), self.locks));
        }
        if !(2..=16).contains(&self.accounts) {
            return Err(format!("there are from 2 to 16 accounts, not {}", self.accounts));
        }
        match self.clients.iter().find(|client| client.host >= hosts || client.ttl_s > 86_400) {
            Some(LockerPlan { host, ttl_s, .. }) => {
                Err(format!("a locker begins at host {host} of {hosts}, with a TTL of {ttl_s} s"))
            }
            None => Ok(()),
        }
    }

    /// The longest time to live of a session.
    pub(crate) fn longest_ttl(&self) -> Duration {
        Duration::from_secs(self.clients.iter().map(|client| client.ttl_s).max().unwrap_or_default())
    }

    /// The longest lock delay.
    pub(crate) fn longest_delay(&self) -> Duration {
        Duration::from_millis(self.clients.iter().map(|client| client.lock_delay_ms).max().unwrap_or_default())
    }
}

impl Mix {
    fn total(&self) -> u32 {
        [self.put, self.cas, self.delete, self.delete_tree, self.get, self.list, self.watch].iter().sum()
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kv => "kv",
            Self::Members => "members",
            Self::Cluster => "cluster",
            Self::Locks => "locks",
            Self::Exec => "exec",
            Self::Acl => "acl",
            Self::Bench => "bench",
        })
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "kv" => Ok(Self::Kv),
            "members" => Ok(Self::Members),
            "cluster" => Ok(Self::Cluster),
            "locks" => Ok(Self::Locks),
            "exec" => Ok(Self::Exec),
            "acl" => Ok(Self::Acl),
            "bench" => Ok(Self::Bench),
            _ => Err(format!(
                "there is no scenario `{text}`: use `kv`, `members`, `cluster`, `locks`, `exec`, `acl` or `bench`"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults;

    #[test]
    fn a_plan_is_a_function_of_its_seed_and_survives_being_written_down() {
        for seed in 0..50 {
            let scenario =
                [Scenario::Kv, Scenario::Members, Scenario::Cluster, Scenario::Locks, Scenario::Exec, Scenario::Acl]
                    [seed as usize % 6];
            let plan = Plan::draw(seed, scenario);
            assert_eq!(plan, Plan::draw(seed, scenario));
            assert_eq!(plan.check(), Ok(()));
            let text = serde_json::to_string_pretty(&plan).unwrap();
            assert_eq!(plan, serde_json::from_str(&text).unwrap());
        }
    }

    #[test]
    fn every_kind_of_trouble_and_cluster_is_drawn() {
        let mut kinds = std::collections::BTreeSet::new();
        let mut sizes = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let plan = Plan::draw(seed, Scenario::Kv);
            sizes.insert(plan.hosts.len());
            kinds.extend(plan.troubles.iter().map(|trouble| trouble.fault.name()));
        }
        assert_eq!(sizes.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(kinds.len(), faults::WITHOUT_OPERATOR, "{kinds:?}");
        for seed in 0..300 {
            for scenario in [Scenario::Members, Scenario::Cluster] {
                kinds.extend(Plan::draw(seed, scenario).troubles.iter().map(|trouble| trouble.fault.name()));
            }
        }
        assert_eq!(kinds.len(), faults::NAMES.len(), "{kinds:?}");
    }

    #[test]
    fn a_plan_with_a_mistake_is_refused_with_a_sentence() {
        let mut plan = Plan::draw(1, Scenario::Bench);
        plan.clients[0].host = 9;
        assert!(plan.check().unwrap_err().contains("host 9"));
        plan.hosts.clear();
        assert!(plan.check().unwrap_err().contains("1 to 7 servers"));
        let mut plan = Plan::draw(1, Scenario::Members);
        plan.hosts.iter_mut().for_each(|host| host.joins = true);
        assert!(plan.check().unwrap_err().contains("let one found the cluster"));
        let mut plan = Plan::draw(1, Scenario::Bench);
        let fault = faults::Fault::Move { target: faults::Target::Leader, down_ms: 1 };
        plan.troubles = vec![Trouble { at_ms: 5, fault }];
        assert!(plan.check().unwrap_err().contains("needs an operator"));
    }
}
