//! The troubles that befall a cluster, as data. Each carries its own end, so that any of them can be taken
//! out of a plan without leaving something broken for good.

use lictor_core::rng::Rng;
use serde::{Deserialize, Serialize};

use crate::dice::Dice as _;

/// A fault and when it begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trouble {
    /// Milliseconds after the world began.
    pub at_ms: u64,
    /// What happens.
    pub fault: Fault,
}

/// Whom a fault hits. Roles are looked up when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This host.
    Host(usize),
    /// The leader of the highest term; some host if there is none.
    Leader,
    /// Some host that does not lead.
    Follower,
}

/// Where a network is cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// These hosts on one side, the others on the other.
    Halves(Vec<usize>),
    /// From these hosts nothing reaches the others; the way back is open.
    OneWay(Vec<usize>),
    /// One host alone.
    Alone(Target),
    /// What one host says reaches nobody.
    Mute(Target),
    /// One host hears nobody.
    Deaf(Target),
    /// Two halves that see each other only through one host.
    Bridge(usize),
    /// Each host sees only its two neighbours.
    Ring,
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A process dies, its machine goes on; it is started again later.
    Crash {
        /// Whose.
        target: Target,
        /// For how long it is down.
        down_ms: u64,
    },
    /// A machine loses power; what it had not synced is lost in part.
    PowerCut {
        /// Whose.
        target: Target,
        /// For how long it is down.
        down_ms: u64,
    },
    /// All machines lose power at once, and come back one after the other within some time.
    PowerLoss {
        /// When the last is back.
        down_ms: u64,
    },
    /// A host stands still: nothing runs, messages wait, its clock goes on.
    Pause {
        /// Which.
        target: Target,
        /// For how long.
        ms: u64,
    },
    /// An agent's thread gets no time, while the threads that answer reads from its last view do.
    Stall {
        /// Whose.
        target: Target,
        /// For how long.
        ms: u64,
    },
    /// The network is cut.
    Partition {
        /// Where.
        cut: Cut,
        /// For how long.
        ms: u64,
    },
    /// The network is bad.
    Weather {
        /// Lost messages in a million.
        loss_ppm: u32,
        /// Messages that arrive twice, in a million.
        duplicate_ppm: u32,
        /// Messages that are held back, in a million.
        held_ppm: u32,
        /// For how long at most they are held back.
        held_ms: u64,
        /// For how long.
        ms: u64,
    },
    /// All that one host sends takes longer.
    SlowLink {
        /// Which host.
        target: Target,
        /// How much longer.
        extra_ms: u64,
        /// For how long.
        ms: u64,
    },
    /// A disk takes many times longer for each sync.
    SlowDisk {
        /// Whose.
        target: Target,
        /// How many times.
        factor: u32,
        /// For how long.
        ms: u64,
    },
    /// A disk is full.
    FullDisk {
        /// Whose.
        target: Target,
        /// Bytes that still fit.
        spare: u64,
        /// For how long.
        ms: u64,
    },
    /// A clock runs at another rate from now on.
    Drift {
        /// Whose.
        target: Target,
        /// How much it gains, in millionths.
        ppm: i32,
    },
}

/// The names of all faults.
pub const NAMES: [&str; 11] = [
    "crash",
    "power cut",
    "power loss",
    "pause",
    "stall",
    "partition",
    "bad weather",
    "slow link",
    "slow disk",
    "full disk",
    "drift",
];

impl Fault {
    /// What it is called in summaries: one of [`NAMES`].
    #[must_use]
    pub fn name(&self) -> &'static str {
        NAMES[self.number()]
    }

    /// Its place in [`NAMES`].
    #[must_use]
    pub fn number(&self) -> usize {
        match self {
            Self::Crash { .. } => 0,
            Self::PowerCut { .. } => 1,
            Self::PowerLoss { .. } => 2,
            Self::Pause { .. } => 3,
            Self::Stall { .. } => 4,
            Self::Partition { .. } => 5,
            Self::Weather { .. } => 6,
            Self::SlowLink { .. } => 7,
            Self::SlowDisk { .. } => 8,
            Self::FullDisk { .. } => 9,
            Self::Drift { .. } => 10,
        }
    }
}

impl Trouble {
    /// Whether all hosts that it names exist.
    pub(crate) fn check(&self, hosts: usize) -> Result<(), String> {
        let named: Vec<usize> = match &self.fault {
            Fault::Crash { target, .. }
            | Fault::PowerCut { target, .. }
            | Fault::Pause { target, .. }
            | Fault::Stall { target, .. }
            | Fault::SlowLink { target, .. }
            | Fault::SlowDisk { target, .. }
            | Fault::FullDisk { target, .. }
            | Fault::Drift { target, .. } => target.host().into_iter().collect(),
            Fault::Partition { cut, .. } => match cut {
                Cut::Halves(side) | Cut::OneWay(side) => side.clone(),
                Cut::Alone(target) | Cut::Mute(target) | Cut::Deaf(target) => target.host().into_iter().collect(),
                Cut::Bridge(host) => vec![*host],
                Cut::Ring => Vec::new(),
            },
            Fault::PowerLoss { .. } | Fault::Weather { .. } => Vec::new(),
        };
        match named.into_iter().find(|host| *host >= hosts) {
            Some(host) => {
                Err(format!("the trouble at {} ms names host {host}, but there are {hosts} hosts", self.at_ms))
            }
            None => Ok(()),
        }
    }
}

impl Target {
    fn host(self) -> Option<usize> {
        match self {
            Self::Host(host) => Some(host),
            Self::Leader | Self::Follower => None,
        }
    }
}

/// Draws a schedule. A seed prefers a few kinds of faults, so that some runs are all crashes and some all
/// partitions; faults overlap as they like.
pub(crate) fn draw(dice: &mut Rng, hosts: usize, trouble_ms: u64, election_ms: u64) -> Vec<Trouble> {
    if dice.one_in(20) {
        // Quiet runs, for what must not happen when nothing does.
        return Vec::new();
    }
    let mut weights = [0; NAMES.len()];
    for weight in &mut weights {
        *weight = *dice.pick(&[0, 1, 1, 4]);
    }
    weights[2] /= 2;
    weights[0] += 1;
    let gap = dice.between(election_ms * 2, election_ms * 20).min(trouble_ms / 3);
    let mut troubles = Vec::new();
    let mut at_ms = dice.between(0, gap);
    while at_ms < trouble_ms {
        let fault = draw_fault(dice, &weights, hosts, election_ms);
        troubles.push(Trouble { at_ms, fault });
        // Sometimes troubles come together.
        at_ms += if dice.one_in(3) { dice.between(0, 50) } else { dice.between(0, gap * 2) };
    }
    troubles
}

fn draw_fault(dice: &mut Rng, weights: &[u64; NAMES.len()], hosts: usize, election_ms: u64) -> Fault {
    let target = draw_target(dice, hosts);
    // Around the election timeout is where the edges are.
    let ms = match dice.below(4) {
        0 => dice.between(1, election_ms),
        1 | 2 => dice.between(election_ms / 2, election_ms * 4),
        _ => dice.between(election_ms, election_ms * 20),
    };
    let down_ms = if dice.one_in(3) { dice.between(0, 50) } else { ms };
    let mut left = dice.below(weights.iter().sum());
    let mut kind = 0;
    while left >= weights[kind] {
        left -= weights[kind];
        kind += 1;
    }
    match kind {
        0 => Fault::Crash { target, down_ms },
        1 => Fault::PowerCut { target, down_ms },
        2 => Fault::PowerLoss { down_ms },
        3 => Fault::Pause { target, ms },
        4 => Fault::Stall { target, ms },
        5 => Fault::Partition { cut: draw_cut(dice, hosts), ms },
        6 => Fault::Weather {
            loss_ppm: *dice.pick(&[0, 10_000, 100_000, 400_000]),
            duplicate_ppm: *dice.pick(&[0, 10_000, 200_000]),
            held_ppm: *dice.pick(&[0, 10_000, 200_000]),
            held_ms: dice.between(1, election_ms * 3),
            ms,
        },
        7 => Fault::SlowLink { target, extra_ms: dice.between(1, election_ms), ms },
        8 => Fault::SlowDisk { target, factor: *dice.pick(&[10, 100, 1_000]), ms },
        9 => Fault::FullDisk { target, spare: *dice.pick(&[0, 100, 2_000]), ms },
        _ => Fault::Drift { target, ppm: *dice.pick(&[-20_000, 20_000, 0, 5_000, -7_000]) },
    }
}

fn draw_target(dice: &mut Rng, hosts: usize) -> Target {
    match dice.below(5) {
        0 | 1 => Target::Leader,
        2 => Target::Follower,
        _ => Target::Host(dice.below(hosts as u64) as usize),
    }
}

fn draw_cut(dice: &mut Rng, hosts: usize) -> Cut {
    let mut side: Vec<usize> = (0..hosts).filter(|_| dice.one_in(2)).collect();
    if side.is_empty() || side.len() == hosts {
        side = vec![dice.below(hosts as u64) as usize];
    }
    match dice.below(9) {
        0 | 1 => Cut::Halves(side),
        2 => Cut::OneWay(side),
        3 => Cut::Alone(draw_target(dice, hosts)),
        4 => Cut::Alone(Target::Leader),
        5 => Cut::Mute(draw_target(dice, hosts)),
        6 => Cut::Deaf(draw_target(dice, hosts)),
        7 => Cut::Bridge(dice.below(hosts as u64) as usize),
        _ => Cut::Ring,
    }
}
