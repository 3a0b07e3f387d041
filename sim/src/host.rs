//! A host: an agent, the clock it sees, the disk it writes to, and what is on its way into it.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use lictor_core::agent::{Agent, View};
use lictor_core::api::agent::{CheckDefinition, Definitions, ServiceDefinition};
use lictor_core::config::{self, Config};
use lictor_core::id::PeerId;
use lictor_core::io::{FileName, Input};
use lictor_core::raft::Configuration;
use lictor_core::recovery::{self, Files, Recovered};
use lictor_core::rng::Rng;
use lictor_core::time::{Duration, Instant};
use lictor_core::wal;

use crate::check::raft::mirror::Kept;
use crate::clock::Clock;
use crate::dice::{Concern, Dice as _, stream};
use crate::disk::Disk;
use crate::faults::Return;
use crate::history::OpId;
use crate::plan::{HostPlan, MASTER, Plan, SnapshotPlan, TokensPlan};

/// With this begin the IDs of services that files define.
pub(crate) const FROM_FILE: &str = "file-";

/// A host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) plan: HostPlan,
    /// The number of the server that it is. Another one once its disk was wiped.
    pub(crate) server: usize,
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
    pub(crate) dice: Rng,
    pub(crate) disk_dice: Rng,
    /// `None` while it is down.
    pub(crate) agent: Option<Agent>,
    /// What readers see, as last published.
    pub(crate) view: Option<std::sync::Arc<View>>,
    /// Counts its starts: what was meant for an earlier life is dropped.
    pub(crate) life: u64,
    /// What the agent will be told when it runs next.
    pub(crate) inbox: Vec<Input>,
    /// Calls that arrived while the host stood still.
    pub(crate) waiting: Vec<OpId>,
    /// A run of the agent is under way.
    pub(crate) is_scheduled: bool,
    /// The earliest wake-up that is under way.
    pub(crate) armed: Instant,
    /// Nothing runs before this.
    pub(crate) paused_until: Instant,
    /// The agent's thread does not run before this.
    pub(crate) stalled_until: Instant,
    /// How many times longer the disk takes for writes of the log.
    pub(crate) disk_factor: u32,
    /// How many times longer it takes for jobs.
    pub(crate) job_factor: u32,
    /// What it holds is damaged, and its agent refuses to start.
    pub(crate) refuses: bool,
    /// Its agent was asked to leave: for how long it is then gone, and how it comes back.
    pub(crate) leaving: Option<(u64, Return)>,
    /// Its agent has left the pool, and is to be stopped.
    pub(crate) has_left: bool,
    /// It does not come back.
    pub(crate) departed: bool,
    /// How often it changed its address.
    moves: u8,
    /// What was on the disk when the process stopped, and nothing has happened to it since.
    recovered: Option<Recovered>,
}

/// The ID of a server. Servers are numbered from 0 in the order in which they come into being; at first, hosts and servers
/// have the same numbers.
pub(crate) fn peer(server: usize) -> PeerId {
    PeerId::numbered(server as u64 + 1)
}

/// The number of the server with that ID.
pub(crate) fn server_of(peer: PeerId) -> usize {
    usize::try_from(peer.0.as_u128()).expect("servers are few") - 1
}

/// Where a host is after so many moves.
pub(crate) fn address(host: usize, moves: u8) -> SocketAddr {
    let [high, low] = u16::try_from(host + 1).expect("hosts are few").to_be_bytes();
    SocketAddr::from(([10, moves, high, low], 8300))
}

/// Which host an address is of, wherever that host is now. It need not exist.
pub(crate) fn host_at(address: SocketAddr) -> Option<usize> {
    match address.ip() {
        IpAddr::V4(ip) => {
            let [_, _, high, low] = ip.octets();
            usize::from(u16::from_be_bytes([high, low])).checked_sub(1)
        }
        IpAddr::V6(_) => None,
    }
}

impl Host {
    pub(crate) fn new(plan: &Plan, number: usize) -> Self {
        let host = plan.hosts[number].clone();
        let founders = (0..plan.servers()).filter(|n| !plan.hosts[*n].joins);
        let members = Configuration::new(founders.map(|n| (peer(n), address(n, 0))));
        let expects = plan.pool.as_ref().is_some_and(|pool| pool.expects);
        let founds = !host.client && !host.joins && !expects;
        let config = config(plan, number, founds.then_some(members));
        Self {
            config,
            clock: Clock::new(Instant::from_millis(host.clock_ms), host.drift_ppm),
            plan: host,
            disk: Disk::default(),
            dice: stream(plan.seed, Concern::Host(number)),
            disk_dice: stream(plan.seed, Concern::Disk(number)),
            agent: None,
            view: None,
            life: 0,
            inbox: Vec::new(),
            waiting: Vec::new(),
            is_scheduled: false,
            armed: Instant::NEVER,
            paused_until: Instant::ZERO,
            stalled_until: Instant::ZERO,
            disk_factor: 1,
            job_factor: 1,
            refuses: false,
            leaving: None,
            has_left: false,
            departed: false,
            moves: 0,
            server: number,
            recovered: None,
        }
    }

    /// Whether nothing runs at all.
    pub(crate) fn is_paused(&self, now: Instant) -> bool {
        self.paused_until > now
    }

    /// When the agent's thread runs again: now, or later.
    pub(crate) fn runs_at(&self, now: Instant) -> Instant {
        now.max(self.paused_until).max(self.stalled_until)
    }

    /// What a process that stopped left on its disk. It is read once, and kept for the next start.
    pub(crate) fn keeps(&mut self) -> Result<Kept, Refusal> {
        let recovered = self.read_log()?;
        let kept = kept(&recovered);
        self.recovered = Some(recovered);
        Ok(kept)
    }

    /// Something has happened to its disk since it stopped.
    pub(crate) fn forget_kept(&mut self) {
        self.recovered = None;
    }

    /// What its disk would tell a new process.
    fn read_log(&mut self) -> Result<Recovered, Refusal> {
        recover(&mut self.disk)
    }

    /// A process is started on what the disk holds. With bad luck the power fails once more while it repairs
    /// its log. The repairs are durable before the agent starts.
    pub(crate) fn start(&mut self, now: Instant) -> Result<(), Refusal> {
        let mut recovered = match self.recovered.take() {
            Some(recovered) => recovered,
            None => self.read_log()?,
        };
        if self.disk_dice.one_in(8) {
            self.disk.repair(&recovered.repairs);
            self.disk.lose_power(&mut self.disk_dice);
            recovered = self.read_log()?;
        }
        self.disk.repair(&recovered.repairs);
        self.disk.sync_repairs(&recovered.repairs);
        let agent = Agent::new(self.config.clone(), self.dice.u64(), recovered, self.clock.local(now));
        self.view = Some(agent.view().clone());
        self.agent = Some(agent);
        self.life += 1;
        Ok(())
    }

    /// The process is gone, and all that was on its way into it.
    pub(crate) fn stop(&mut self) {
        self.agent = None;
        self.view = None;
        self.inbox.clear();
        self.waiting.clear();
        self.is_scheduled = false;
        self.armed = Instant::NEVER;
        (self.leaving, self.has_left) = (None, false);
        self.paused_until = Instant::ZERO;
        self.stalled_until = Instant::ZERO;
    }

    /// Its disk is replaced by an empty one: it will be another server, which has to join.
    pub(crate) fn wipe(&mut self, server: usize) {
        self.disk.wipe();
        self.recovered = None;
        self.refuses = false;
        self.server = server;
        self.config.id = peer(server);
        self.config.name = format!("n{}", server + 1);
        self.config.bootstrap = None;
    }

    /// It comes back with another address.
    pub(crate) fn change_address(&mut self, host: usize) {
        self.moves += 1;
        self.config.address = address(host, self.moves);
        self.config.gossip.address.set_ip(self.config.address.ip());
    }

    /// Where its gossip is.
    pub(crate) fn gossip_address(&self) -> SocketAddr {
        self.config.gossip.address
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.config.address
    }

    /// How long an input lies before the agent sees it.
    pub(crate) fn step_delay(&mut self) -> Duration {
        self.dice.micros(self.plan.step_us)
    }
}

/// As much of it as the checkers want to know.
pub(crate) fn kept(recovered: &Recovered) -> Kept {
    let log = &recovered.log;
    Kept { term: log.hard_state.term, base: log.base, entries: log.entries.clone() }
}

/// Why a server refuses to start.
pub(crate) type Refusal = recovery::Failure<Infallible>;

/// What a disk would tell a new process.
pub(crate) fn recover(disk: &mut Disk) -> Result<Recovered, Refusal> {
    recovery::recover(disk)
}

impl Files for Disk {
    type Error = Infallible;

    fn names(&mut self) -> Result<Vec<FileName>, Infallible> {
        Ok(self.list())
    }

    fn read(&mut self, name: &str, take: &mut dyn FnMut(&[u8])) -> Result<(), Infallible> {
        take(&self.contents(name).unwrap_or_default());
        Ok(())
    }

    fn size(&mut self, name: &str) -> Result<u64, Infallible> {
        Ok(self.contents(name).unwrap_or_default().len() as u64)
    }
}

/// Small, so that segments fill up and disks run full within a short run.
fn log_options(plan: &Plan) -> wal::Options {
    let segment_bytes = plan.snapshots.as_ref().map_or(64 << 10, |snapshots| snapshots.segment_bytes);
    wal::Options {
        segment_bytes,
        first_quantum: 4 << 10,
        min_quantum: 2 << 10,
        max_quantum: segment_bytes.min(16 << 10),
        emergency_bytes: 2 << 10,
        ..wal::Options::default()
    }
}

fn config(plan: &Plan, number: usize, bootstrap: Option<Configuration>) -> Config {
    Config {
        bootstrap,
        raft: lictor_core::raft::Options::with_multiplier(plan.raft_multiplier),
        snapshots: plan.snapshots.as_ref().map_or_else(config::Snapshots::default, SnapshotPlan::config),
        limits: limits(plan),
        server: !plan.hosts[number].client,
        gossip: gossip(plan, number),
        wal: log_options(plan),
        local: config::Local {
            sync_interval: Duration::from_millis(plan.pool.as_ref().map_or(0, |pool| pool.sync_ms)),
            definitions: definitions(plan.pool.as_ref().map_or(0, |pool| pool.services)),
            ..config::Local::default()
        },
        exec: config::Exec {
            enabled: plan.exec.as_ref().is_some_and(|exec| !exec.disabled.contains(&number)),
            jobs: plan.exec.as_ref().map_or(0, |exec| exec.jobs),
            output_bytes: plan.exec.as_ref().map_or(0, |exec| exec.output_bytes),
            direct_after: plan.exec.as_ref().map_or(0, |exec| exec.direct_after),
            direct_rate: plan.exec.as_ref().map_or(1, |exec| exec.direct_rate),
            inbox_bytes: plan.exec.as_ref().map_or(0, |exec| exec.inbox_bytes),
            ..config::Exec::default()
        },
        acl: plan.tokens.as_ref().map_or_else(config::Acl::default, access_control),
        ..Config::new(peer(number), format!("n{}", number + 1), address(number, 0))
    }
}

fn access_control(tokens: &TokensPlan) -> config::Acl {
    let by_default = if tokens.denies { config::DefaultPolicy::Deny } else { config::DefaultPolicy::Allow };
    config::Acl {
        datacenter: Some("dc1".to_owned()),
        by_default,
        master_token: Some(MASTER.to_owned()),
        ..config::Acl::default()
    }
}

/// So many services that a file defines, of fifty names.
fn definitions(count: usize) -> Definitions {
    let ttl = Duration::from_secs(3_600);
    let service = |number: usize| ServiceDefinition {
        id: format!("{FROM_FILE}{number}"),
        name: format!("many-{}", number % 50),
        port: number as i64,
        checks: vec![CheckDefinition { ttl, ..CheckDefinition::default() }],
        ..ServiceDefinition::default()
    };
    Definitions { services: (0..count).map(service).collect(), checks: Vec::new() }
}

/// An agent's, but for what would take longer than a run. It looks for the others at all servers, itself among them.
fn gossip(plan: &Plan, number: usize) -> config::Gossip {
    let mut gossip = config::Gossip::new(pool_address(number), "dc1");
    let Some(pool) = &plan.pool else { return gossip };
    gossip.retry_join = (0..plan.servers()).map(host_name).collect();
    gossip.retry_interval = Duration::from_millis(pool.retry_ms);
    gossip.options.push_pull_interval = Duration::from_millis(pool.push_pull_ms);
    gossip.options.reconnect_interval = Duration::from_millis(pool.reconnect_ms);
    if pool.expects && !plan.hosts[number].client {
        gossip.bootstrap_expect = plan.servers() as u32;
    }
    gossip
}

/// What a host is called, wherever it is.
fn host_name(host: usize) -> String {
    format!("host-{host}")
}

/// Which host is called so.
pub(crate) fn host_named(name: &str) -> Option<usize> {
    name.strip_prefix("host-")?.parse().ok()
}

/// Where the gossip of a host is that has not moved.
fn pool_address(host: usize) -> SocketAddr {
    SocketAddr::new(address(host, 0).ip(), 8301)
}

/// An agent's, but for servers that are dead soon, as runs are short.
fn limits(plan: &Plan) -> config::Limits {
    let mut limits = config::Limits::default();
    if let Some(operator) = &plan.operator {
        limits.dead_after = Duration::from_millis(operator.dead_ms);
    }
    limits
}
