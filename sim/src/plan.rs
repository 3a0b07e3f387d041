//! What a run will be, as data: the cluster, its clients and its troubles. Drawn from a seed, printed as
//! JSON, edited, and run again.
//!
//! The seed stays in the plan. What the plan leaves open (each message's latency, each client's next key) is
//! drawn from streams that the seed starts, one stream for each concern.

use std::fmt;
use std::str::FromStr;

use lictor_core::rng::Rng;
use serde::{Deserialize, Serialize};

use crate::dice::{Concern, Dice as _, stream};
use crate::faults::{self, Trouble};

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
    /// The troubles, by the time at which they begin.
    pub troubles: Vec<Trouble>,
}

/// Which kinds of clients and troubles a plan is drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// Clients of the key-value store, all troubles.
    Kv,
    /// Always five servers and five clients under troubles: to measure the simulator's speed.
    Bench,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostPlan {
    /// What its clock shows when the world begins.
    pub clock_ms: u64,
    /// How much its clock gains, in millionths.
    pub drift_ppm: i32,
    /// From an input's arrival to its processing, from … to.
    pub step_us: (u64, u64),
    /// A sync of the disk, from … to.
    pub sync_us: (u64, u64),
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

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn draw(seed: u64, scenario: Scenario) -> Self {
        let mut dice = stream(seed, Concern::Plan);
        let dice = &mut dice;
        let servers = match scenario {
            Scenario::Kv => *dice.pick(&[1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7]),
            Scenario::Bench => 5,
        };
        let hosts = (0..servers).map(|_| draw_host(dice)).collect::<Vec<_>>();
        let network = draw_network(dice);
        let raft_multiplier = match scenario {
            Scenario::Kv => *dice.pick(&[1, 1, 1, 2, 3, 5]),
            Scenario::Bench => 5,
        };
        let election_ms = 200 * u64::from(raft_multiplier);
        let (clients, trouble_ms) = match scenario {
            Scenario::Kv => (dice.between(2, 8), dice.between(8_000, 40_000)),
            Scenario::Bench => (5, 60_000),
        };
        // Some of the calm passes before anything can be demanded of it.
        let calm_ms = 2_000 + 15 * election_ms + dice.between(2_000, 6_000);
        let clients = (0..clients).map(|_| draw_client(dice, servers)).collect();
        let troubles = faults::draw(dice, servers, trouble_ms, election_ms);
        let keys = dice.between(1, KEYS.len() as u64) as usize;
        Self { seed, scenario, raft_multiplier, hosts, network, clients, keys, trouble_ms, calm_ms, troubles }
    }

    /// What is wrong with a plan that was written by hand, if anything.
    ///
    /// # Errors
    /// A sentence that names the first mistake.
    pub fn check(&self) -> Result<(), String> {
        if self.hosts.is_empty() || self.hosts.len() > 7 {
            return Err(format!("a plan has 1 to 7 hosts, this one has {}", self.hosts.len()));
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
        let fast = |ppm: i32| !(-900_000..=900_000).contains(&ppm);
        if let Some(host) = self.hosts.iter().find(|host| fast(host.drift_ppm)) {
            return Err(format!("a drift of {} ppm is beyond ±900000", host.drift_ppm));
        }
        self.troubles.iter().try_for_each(|trouble| trouble.check(self.hosts.len()))
    }
}

impl Mix {
    fn total(&self) -> u32 {
        [self.put, self.cas, self.delete, self.delete_tree, self.get, self.list, self.watch].iter().sum()
    }
}

fn draw_host(dice: &mut Rng) -> HostPlan {
    let step = *dice.pick(&[0, 10, 50, 200, 2_000]);
    let sync = *dice.pick(&[50, 200, 1_000, 5_000, 20_000]);
    HostPlan {
        clock_ms: dice.below(100_000),
        drift_ppm: i32::try_from(dice.below(40_001)).expect("it is below 40001") - 20_000,
        step_us: (step / 4, step),
        sync_us: (sync / 4, sync),
    }
}

fn draw_network(dice: &mut Rng) -> NetworkPlan {
    let latency = *dice.pick(&[50, 100, 300, 1_000, 5_000, 15_000]);
    NetworkPlan {
        latency_us: (latency / 2, latency),
        jitter_us: dice.below(latency * 2),
        in_order: dice.one_in(2),
        loss_ppm: *dice.pick(&[0, 0, 0, 1_000, 10_000]),
        duplicate_ppm: *dice.pick(&[0, 0, 1_000, 10_000]),
        damage_ppm: *dice.pick(&[0, 0, 0, 500]),
    }
}

fn draw_client(dice: &mut Rng, servers: usize) -> ClientPlan {
    let think = *dice.pick(&[20_000, 50_000, 100_000, 300_000]);
    let patience = *dice.pick(&[100, 1_000, 4_000, 20_000]);
    // Some only watch, some never do; the rest do everything.
    let mut mix = Mix {
        put: 30,
        cas: dice.below(20) as u32,
        delete: dice.below(10) as u32,
        delete_tree: u32::from(dice.one_in(3)),
        get: 30,
        list: dice.below(15) as u32,
        watch: dice.below(10) as u32,
        stale_percent: dice.below(40),
        consistent_percent: dice.below(40),
    };
    match dice.below(4) {
        0 => mix = Mix { watch: 1, ..mix.reads_only() },
        1 => mix = mix.reads_only(),
        _ => {}
    }
    ClientPlan {
        host: dice.below(servers as u64) as usize,
        roams_percent: *dice.pick(&[0, 1, 5, 20]),
        think_us: (think / 10, think),
        patience_ms: (patience / 2, patience),
        mix,
    }
}

impl Mix {
    fn reads_only(self) -> Self {
        Self { put: 0, cas: 0, delete: 0, delete_tree: 0, get: 1, list: u32::from(self.list > 7), watch: 0, ..self }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kv => "kv",
            Self::Bench => "bench",
        })
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "kv" => Ok(Self::Kv),
            "bench" => Ok(Self::Bench),
            _ => Err(format!("there is no scenario `{text}`: use `kv` or `bench`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_a_function_of_its_seed_and_survives_being_written_down() {
        for seed in 0..50 {
            let plan = Plan::draw(seed, Scenario::Kv);
            assert_eq!(plan, Plan::draw(seed, Scenario::Kv));
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
        assert_eq!(kinds.len(), faults::NAMES.len(), "{kinds:?}");
    }

    #[test]
    fn a_plan_with_a_mistake_is_refused_with_a_sentence() {
        let mut plan = Plan::draw(1, Scenario::Bench);
        plan.clients[0].host = 9;
        assert!(plan.check().unwrap_err().contains("host 9"));
        plan.hosts.clear();
        assert!(plan.check().unwrap_err().contains("1 to 7 hosts"));
    }
}
