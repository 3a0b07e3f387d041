//! A host: an agent, the clock it sees, the disk it writes to, and what is on its way into it.

use std::net::SocketAddr;

use bytes::Bytes;
use lictor_core::agent::{Agent, View};
use lictor_core::config::{self, Config};
use lictor_core::id::PeerId;
use lictor_core::io::Input;
use lictor_core::raft::Configuration;
use lictor_core::rng::Rng;
use lictor_core::time::Instant;
use lictor_core::wal::{self, Recovered, Recovery};

use crate::clock::Clock;
use crate::dice::{Concern, Dice as _, stream};
use crate::disk::Disk;
use crate::history::OpId;
use crate::plan::{HostPlan, Plan};

/// A host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) plan: HostPlan,
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
    /// How many times longer the disk takes.
    pub(crate) disk_factor: u32,
    /// What was on the disk when the process stopped, and nothing has happened to it since.
    recovered: Option<Recovered>,
}

/// The name of the host in raft.
pub(crate) fn peer(host: usize) -> PeerId {
    PeerId::numbered(host as u64 + 1)
}

/// The host of that name.
pub(crate) fn host_of(peer: PeerId) -> usize {
    usize::try_from(peer.0.as_u128()).expect("hosts are few") - 1
}

/// Where a host is.
pub(crate) fn address(host: usize) -> SocketAddr {
    let last = u8::try_from(host + 1).expect("hosts are few");
    SocketAddr::from(([10, 0, 0, last], 8300))
}

/// The host that is there.
pub(crate) fn host_at(address: SocketAddr) -> usize {
    match address {
        SocketAddr::V4(address) => usize::from(address.ip().octets()[3]) - 1,
        SocketAddr::V6(_) => unreachable!("hosts have addresses of version 4"),
    }
}

impl Host {
    pub(crate) fn new(plan: &Plan, number: usize) -> Self {
        let host = plan.hosts[number].clone();
        let members = Configuration::new((0..plan.hosts.len()).map(|n| (peer(n), address(n))));
        let config = config(plan, number, members);
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

    /// What its disk tells: a process that stopped, of what is left; it is kept for the next start.
    pub(crate) fn recover(&mut self) -> Result<&Recovered, wal::Corrupt> {
        let recovered = self.read_log()?;
        Ok(self.recovered.insert(recovered))
    }

    /// What its disk would tell a new process.
    fn read_log(&mut self) -> Result<Recovered, wal::Corrupt> {
        let files = self.disk.read_all();
        let mut segments: Vec<(u64, &str, &Bytes)> =
            files.iter().filter_map(|(name, bytes)| Some((wal::segment_number(name)?, name.as_str(), bytes))).collect();
        segments.sort_by_key(|(number, _, _)| *number);
        let mut recovery = Recovery::new();
        for (_, name, bytes) in segments {
            recovery.segment(name, bytes)?;
        }
        recovery.finish(None)
    }

    /// A process is started on what the disk holds. With bad luck the power fails once more while it repairs
    /// its log. The repairs are durable before the agent starts.
    pub(crate) fn start(&mut self, now: Instant) -> Result<(), wal::Corrupt> {
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
        self.paused_until = Instant::ZERO;
        self.stalled_until = Instant::ZERO;
    }

    /// How long an input lies before the agent sees it.
    pub(crate) fn step_delay(&mut self) -> lictor_core::time::Duration {
        self.dice.micros(self.plan.step_us)
    }
}

/// Small, so that segments fill up and disks run full within a short run.
fn log_options() -> wal::Options {
    wal::Options {
        segment_bytes: 64 << 10,
        first_quantum: 4 << 10,
        min_quantum: 2 << 10,
        max_quantum: 16 << 10,
        emergency_bytes: 2 << 10,
        ..wal::Options::default()
    }
}

fn config(plan: &Plan, number: usize, members: Configuration) -> Config {
    Config {
        id: peer(number),
        name: format!("n{}", number + 1),
        datacenter: "dc1".to_owned(),
        address: address(number),
        bootstrap: Some(members),
        raft: lictor_core::raft::Options::with_multiplier(plan.raft_multiplier),
        snapshots: config::Snapshots::default(),
        limits: config::Limits::default(),
        wal: log_options(),
        settings: lictor_core::api::agent::Settings::default(),
    }
}
