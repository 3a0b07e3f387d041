//! The services and checks that are registered with this agent, their states, and how the catalog learns of them.
//!
//! One machine, pure like all others, that knows nothing of the agent around it. Its doors:
//!
//! - Calls: [`Local::register_service`] and the like. Each takes effect at once, and gives what is to be kept on the disk
//!   ([`Change`]); the client is answered once it is.
//! - News of what was ordered: [`Local::handle_probed`], [`Local::handle_answer`], [`Local::states_kept`].
//! - [`Local::tick`] for what is due, [`Local::pump`] once all news of a batch is in.
//! - [`Local::poll_order`]: probes to run, calls to make on the servers, states to keep, [`News`] to tell.
//!
//! | file | subject |
//! |---|---|
//! | `definition.rs` | what a definition says, and whether it says enough |
//! | `registry.rs` | what is registered |
//! | `register.rs` | registering and taking back |
//! | `maintenance.rs` | services and nodes under maintenance |
//! | `redefine.rs` | what the configuration files define |
//! | `restore.rs`, `kept.rs` | what is on the disk, and coming back from it |
//! | `state.rs` | states: told, found out, expired, critical for too long |
//! | `schedule.rs` | when a check is run or expires |
//! | `verdict.rs` | what a finding says of a check |
//! | `sync.rs`, `compare.rs` | making the catalog agree |

mod compare;
mod definition;
mod kept;
mod maintenance;
mod news;
mod redefine;
mod register;
mod registry;
mod restore;
mod schedule;
mod state;
mod sync;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

pub use definition::check_definitions;
pub use kept::Change;
pub use maintenance::{NODE_MAINTENANCE, SERVICE_MAINTENANCE};
pub use news::News;
pub use registry::Counts;

use crate::api;
use crate::api::catalog::{Check, Node, Service};
use crate::config::{self, Config};
use crate::file::FileName;
use crate::id::ProbeId;
use crate::probe::Probe;
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use registry::Registry;
use schedule::{Due, Schedule};
use sync::Sync;

/// Something that the machine wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Run a check; [`Local::handle_probed`] takes the finding.
    Probe(Probe),
    /// End a run whose finding is not wanted any more.
    Cancel(ProbeId),
    /// Ask the servers; [`Local::handle_answer`] takes the answer.
    Ask {
        /// The question's number.
        number: u64,
        /// On whose behalf; empty for the agent's own.
        token: String,
        /// The question.
        request: Box<api::Request>,
    },
    /// Keep what was told of checks, then say so to [`Local::states_kept`].
    KeepStates(Vec<Change>),
    /// Keep this; nobody waits for it.
    Keep(Vec<Change>),
    /// Tell whoever watches.
    Tell(News),
}

/// What is registered with this agent.
#[derive(Debug)]
pub struct Local {
    options: config::Local,
    /// What the catalog is to say of this node.
    me: Node,
    registry: Registry,
    schedule: Schedule,
    sync: Sync,
    rng: Rng,
    /// The time of day when the agent came into being, if it knows.
    dawn: Option<(Instant, Duration)>,
    /// Checks whose state is not on the disk as it is.
    stale: BTreeSet<String>,
    /// States are being kept.
    keeping: bool,
    /// The servers are not told anything.
    silent: bool,
    orders: VecDeque<Order>,
}

impl Local {
    /// What is registered when an agent starts: what its files define, and what it had kept.
    #[must_use]
    pub fn new(config: &Config, files: &BTreeMap<FileName, Bytes>, rng: Rng, now: Instant) -> Self {
        let mut options = config.local.clone();
        let definitions = std::mem::take(&mut options.definitions);
        let mut local = Self {
            me: node(config),
            dawn: options.time_of_day.map(|time| (now, time)),
            options,
            registry: Registry::default(),
            schedule: Schedule::default(),
            sync: Sync::new(now),
            rng,
            stale: BTreeSet::new(),
            keeping: false,
            silent: config.local.sync_interval.is_zero(),
            orders: VecDeque::new(),
        };
        local.restore(now, &definitions, files);
        local
    }

    /// The services, in the order of their IDs.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.registry.services().values().map(|service| &service.shown)
    }

    /// The checks, in the order of their IDs.
    pub fn checks(&self) -> impl Iterator<Item = &Check> {
        self.registry.checks().values().map(|check| &check.shown)
    }

    /// How much is registered.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.registry.counts()
    }

    /// Whether the catalog is known to say of this node what it should, and nothing is under way.
    #[must_use]
    pub fn is_in_sync(&self) -> bool {
        self.sync.is_settled()
    }

    /// How many agents there are in the cluster: the more, the less often each of them looks at the whole.
    pub fn note_cluster(&mut self, agents: usize) {
        self.sync.note_cluster(agents);
    }

    /// A leader is known again, or for a client a server: what failed without one is tried soon.
    pub fn leader_returned(&mut self, now: Instant) {
        self.sync.leader_returned(now, &mut self.rng);
    }

    /// Whether the servers are to be told nothing for now: the agent is about to leave.
    pub const fn set_silent(&mut self, silent: bool) {
        self.silent = silent || self.options.sync_interval.is_zero();
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        while let Some(due) = self.schedule.pop_due(now) {
            match due {
                Due::Expiry(check) => self.expire(now, &check),
                Due::Run(check) => self.schedule.ready(check, now),
                Due::Output(check) => self.sync.touch(sync::Item::Check(check)),
                Due::Answer(probe) => self.give_up(now, probe),
                Due::Reap => self.reap(now),
            }
        }
    }

    /// Orders what all news of a batch together leads to.
    pub fn pump(&mut self, now: Instant) {
        self.begin_probes(now);
        self.keep_states();
        if !self.silent {
            self.tell_servers(now);
        }
    }

    /// When [`tick`](Self::tick) and [`pump`](Self::pump) are to be called next, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sync = self.sync.poll_timeout();
        match self.schedule.next() {
            due if self.silent => due,
            Some(due) => Some(due.min(sync)),
            None => Some(sync),
        }
    }

    /// The next thing to be done.
    pub fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    fn tell(&mut self, news: News) {
        self.orders.push_back(Order::Tell(news));
    }

    /// The time of day, if the agent knows it, since the beginning of 1970.
    fn time_of_day(&self, now: Instant) -> Option<Duration> {
        self.dawn.map(|(dawn, time)| time + now.since(dawn))
    }

    /// Checks the invariants, for tests and simulations.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn assert_invariants(&self) {
        self.registry.assert_invariants();
        self.sync.assert_invariants();
    }
}

/// What the catalog is to say of the node.
fn node(config: &Config) -> Node {
    let address = config.gossip.address.ip();
    let wan = config.local.wan_address.unwrap_or(address);
    let addresses = [("lan", address), ("wan", wan)];
    Node {
        name: config.name.clone(),
        id: config.id.0.to_string(),
        address: address.to_string(),
        tagged_addresses: Some(addresses.map(|(kind, address)| (kind.to_owned(), address.to_string())).into()),
        meta: config.local.node_meta.clone(),
        ..Node::default()
    }
}
