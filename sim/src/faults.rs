//! The troubles that befall a cluster, as data. Each carries its own end, so that any of them can be taken
//! out of a plan without leaving something broken for good.

mod draw;

use serde::{Deserialize, Serialize};

pub(crate) use draw::{Frame, draw};

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
    /// What one host sends gets through badly if it is large.
    NarrowLink {
        /// Which host.
        target: Target,
        /// Messages of more bytes than this are large.
        above: usize,
        /// Of those, how many in a million are lost.
        loss_ppm: u32,
        /// How much longer each byte of them takes.
        byte_us: u64,
        /// For how long.
        ms: u64,
    },
    /// A disk takes many times longer for all that is not its log.
    SlowJobs {
        /// Whose.
        target: Target,
        /// How many times.
        factor: u32,
        /// For how long.
        ms: u64,
    },
    /// All that is sent arrives once more, later, in the same order.
    Echo {
        /// How much later.
        after_ms: u64,
        /// For how long.
        ms: u64,
    },
    /// A machine gets an empty disk, and comes back as another server. Only while a quorum's disks are left.
    Wipe {
        /// Which.
        target: Target,
        /// For how long it is down.
        down_ms: u64,
        /// Whether it also comes back elsewhere.
        moves: bool,
    },
    /// A machine loses power, and a bit turns in one of its files. It must not start on that; the operator gives it an
    /// empty disk. Only while a quorum's disks are left.
    Rot {
        /// Whose.
        target: Target,
        /// In what.
        file: Rotten,
        /// When the operator comes.
        wipe_ms: u64,
        /// Whether the machine then also gets another address.
        moves: bool,
    },
    /// A machine goes down and comes back with another address. Only while a quorum is where it was.
    Move {
        /// Which.
        target: Target,
        /// For how long it is down.
        down_ms: u64,
    },
    /// A host is not wanted as a server for a while; it goes on running.
    Dismissal {
        /// Which.
        target: Target,
        /// For how long.
        ms: u64,
    },
    /// An agent is asked to leave the pool, and stops. Servers leave only while a quorum is left, and always come back.
    Leave {
        /// Which.
        target: Target,
        /// For how long it is gone.
        down_ms: u64,
        /// What then.
        then: Return,
    },
}

/// How an agent comes back that has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Return {
    /// With all that it had.
    Same,
    /// With an empty disk, as another agent.
    Wiped,
    /// Never.
    Never,
}

/// What rots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotten {
    /// A file of the log.
    Log,
    /// Any other file: snapshots.
    Snapshot,
}

/// The names of all faults.
pub const NAMES: [&str; 19] = [
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
    "narrow link",
    "slow jobs",
    "echo",
    "wipe",
    "rot",
    "move",
    "dismissal",
    "leave",
];

/// How many of them need nobody who looks after the members, be it an operator or the agents themselves: the first ones.
pub const WITHOUT_OPERATOR: usize = 14;

/// The one that only an operator can undo, …
const DISMISSAL: usize = 17;
/// … and the one that only agents can that find each other.
const LEAVE: usize = 18;

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
            Self::NarrowLink { .. } => 11,
            Self::SlowJobs { .. } => 12,
            Self::Echo { .. } => 13,
            Self::Wipe { .. } => 14,
            Self::Rot { .. } => 15,
            Self::Move { .. } => 16,
            Self::Dismissal { .. } => DISMISSAL,
            Self::Leave { .. } => LEAVE,
        }
    }
}

impl Trouble {
    /// Whether somebody is there who can undo it.
    pub(crate) fn is_possible(&self, has_operator: bool, has_pool: bool) -> bool {
        match self.fault.number() {
            DISMISSAL => has_operator,
            LEAVE => has_pool,
            WITHOUT_OPERATOR.. => has_operator || has_pool,
            _ => true,
        }
    }

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
            | Fault::NarrowLink { target, .. }
            | Fault::SlowJobs { target, .. }
            | Fault::Wipe { target, .. }
            | Fault::Rot { target, .. }
            | Fault::Move { target, .. }
            | Fault::Dismissal { target, .. }
            | Fault::Leave { target, .. }
            | Fault::Drift { target, .. } => target.host().into_iter().collect(),
            Fault::Partition { cut, .. } => match cut {
                Cut::Halves(side) | Cut::OneWay(side) => side.clone(),
                Cut::Alone(target) | Cut::Mute(target) | Cut::Deaf(target) => target.host().into_iter().collect(),
                Cut::Bridge(host) => vec![*host],
                Cut::Ring => Vec::new(),
            },
            Fault::PowerLoss { .. } | Fault::Weather { .. } | Fault::Echo { .. } => Vec::new(),
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
