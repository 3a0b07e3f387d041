//! What was exercised: a run that found nothing says something only together with what it tried.

use std::fmt;
use std::ops::AddAssign;

use lictor_core::api::Consistency;
use lictor_core::api::kv::{PutMode, Request};
use lictor_core::raft::Kind;
use lictor_core::time::Duration;

use crate::faults;
use crate::history::{Op, Outcome, read_options};

/// The kinds of operations that are counted apart.
const KINDS: [&str; 12] = [
    "put",
    "put cas",
    "delete",
    "delete cas",
    "delete tree",
    "read default",
    "read consistent",
    "read stale",
    "blocking read",
    "blocking stale read",
    "acquire",
    "release",
];

/// The ways in which operations end.
const ENDS: [&str; 4] = ["answered", "answered false", "refused", "unknown"];

/// Counts of what happened in one run or many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Runs.
    pub runs: u64,
    /// Leaders.
    pub elections: u64,
    /// Requests for votes.
    pub campaigns: u64,
    /// Leaders that gave up.
    pub step_downs: u64,
    /// Leaders that began with entries that were not committed yet.
    pub inherited_logs: u64,
    /// Entries that were cut off a log.
    pub entries_cut_off: u64,
    /// Committed entries.
    pub committed: u64,
    /// Faults, as in [`faults::NAMES`].
    pub faults: [u64; faults::NAMES.len()],
    /// Messages sent.
    pub messages: u64,
    /// Messages that never arrived.
    pub messages_lost: u64,
    /// Messages that arrived twice.
    pub messages_doubled: u64,
    /// Messages that arrived damaged.
    pub messages_damaged: u64,
    /// Messages that an agent threw away.
    pub messages_dropped: u64,
    /// Packets of gossip sent.
    pub packets: u64,
    /// Packets that never arrived.
    pub packets_lost: u64,
    /// Groups of writes that were synced.
    pub syncs: u64,
    /// Reservations for which there was no room.
    pub reservations_refused: u64,
    /// Times that an agent said that its disk is full.
    pub disks_full: u64,
    /// Processes that stopped as a write failed.
    pub disk_failures: u64,
    /// Jobs that were done, with or without room.
    pub jobs: u64,
    /// Jobs for which there was no room.
    pub jobs_without_room: u64,
    /// What became of logs' beginnings.
    pub snapshots: Snapshots,
    /// Changes of who takes part.
    pub members: Members,
    /// What the operator asked for.
    pub orders: Orders,
    /// Damage that lasted.
    pub damage: Damage,
    /// What the users of agents asked for.
    pub local: Local,
    /// What became of sessions and locks.
    pub locks: Locks,
    /// What became of jobs on many agents.
    pub exec: Exec,
    /// What became of those who use tokens.
    pub tokens: Tokens,
    /// Requests for votes by servers that have none, as far as the cluster has agreed.
    pub outsiders_campaigns: u64,
    /// Reads that were answered without the agent's thread.
    pub views_asked: u64,
    /// Blocked queries that were woken by a change.
    pub wakes: u64,
    /// Requests to a host that was down.
    pub connections_refused: u64,
    /// Histories that were too tangled to judge.
    pub undecided: u64,
    /// Operations by kind and end.
    pub(crate) operations: [[u64; ENDS.len()]; KINDS.len()],
    /// Events.
    pub events: u64,
    /// Virtual time.
    pub simulated: Duration,
}

/// A group of counts: their names, and how groups are summed up.
macro_rules! counts {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: u64,)+
        }

        impl $name {
            /// The counts with what they are called.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$(($text, self.$field)),+]
            }
        }

        impl AddAssign<&Self> for $name {
            fn add_assign(&mut self, other: &Self) {
                $(self.$field += other.$field;)+
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let list: Vec<String> = self.named().iter().map(|(name, count)| format!("{count} {name}")).collect();
                f.write_str(&list.join(", "))
            }
        }
    };
}

counts! {
    /// What became of jobs on many agents.
    Exec {
        /// Jobs that began.
        begun: "jobs begun",
        /// Commands that were started.
        started: "commands started",
        /// Acknowledgements that were told of.
        acknowledged: "acknowledged",
        /// Commands of whose end was told.
        ended: "ended",
        /// Commands that were ended.
        killed: "killed",
        /// Bytes that commands wrote.
        bytes: "bytes",
        /// Bytes that came to users past the log, …
        collected: "bytes collected",
        /// … and by way of the store.
        read: "bytes read",
        /// Commands whose output went past the log, and then into the store after all.
        turned_back: "turned back",
        /// Jobs that were told to be over.
        finished: "jobs finished",
        /// Jobs that failed.
        failed: "jobs failed",
        /// Users who vanished.
        vanished: "users vanished",
    }
}

counts! {
    /// What became of logs' beginnings.
    Snapshots {
        /// Snapshots that servers made of their own state.
        cut: "cut",
        /// Logs whose beginning was forgotten.
        compacted: "logs compacted",
        /// Snapshots for which there was no room.
        no_room: "without room",
        /// Snapshots that a leader began to send.
        begun: "begun to be sent",
        /// Messages with a piece of a snapshot.
        pieces: "pieces",
        /// Snapshots of which the last piece was sent.
        sent: "sent to the end",
        /// Snapshots from elsewhere that took the place of a log.
        installed: "installed",
        /// Those of them behind which nothing of the log was left.
        replaced: "in place of another log",
    }
}

counts! {
    /// Changes of who takes part, once they were committed.
    Members {
        /// Servers that joined, without a vote.
        joined: "joined",
        /// Members that got a vote.
        promoted: "promoted",
        /// Members that were removed.
        removed: "removed",
        /// Members that have another address.
        moved: "moved",
        /// Leaders that told another to take over.
        transfers: "handovers",
        /// Requests for votes that followed from that.
        transferred: "votes asked for by successors",
    }
}

counts! {
    /// What the operator asked for.
    Orders {
        /// Orders.
        asked: "asked",
        /// Orders that were carried out.
        done: "done",
        /// Orders that were refused.
        refused: "refused",
        /// Orders of which nothing is known.
        unknown: "unknown",
    }
}

counts! {
    /// What users of agents asked for.
    Local {
        /// Calls.
        asked: "asked",
        /// Calls that were carried out.
        done: "done",
        /// Calls that were refused.
        refused: "refused",
        /// User events that were fired.
        events_fired: "events fired",
        /// User events that came to agents.
        events_heard: "heard",
        /// Agents that left the pool.
        left: "agents left",
    }
}

counts! {
    /// What became of sessions and locks, and of those that take them.
    Locks {
        /// Sessions that were created.
        sessions: "sessions",
        /// Renewals that clients were told of.
        renewed: "renewed",
        /// Sessions that nobody renewed.
        expired: "expired",
        /// Sessions whose check or node failed or went.
        unsound: "unsound",
        /// Sessions that clients ended.
        destroyed: "destroyed",
        /// Sessions that their clients did not count on any more.
        given_up: "given up",
        /// Locks that clients were told to have.
        taken: "taken",
        /// Of those, locks that they still had when they looked.
        held: "held",
        /// Keys that were free for all after a lock delay.
        delays: "after delays",
        /// Times that a client with a lock worked.
        worked: "worked",
        /// Times that one was stopped, as another had worked since.
        fenced: "fenced off",
        /// What became of clients.
        mishaps: "mishaps",
        /// Times that all accounts were read.
        counted: "counts of money",
        /// Transactions that wrote something.
        moved: "transactions",
        /// Transactions that failed.
        failed: "that failed",
    }
}

counts! {
    /// What tokens were used for.
    Tokens {
        /// Tokens that were created or changed.
        set: "set",
        /// Tokens that were copied.
        cloned: "cloned",
        /// Tokens that were destroyed.
        destroyed: "destroyed",
        /// What was done as a token allowed it.
        allowed: "allowed",
        /// What was denied.
        denied: "denied",
        /// Calls with tokens that were not there.
        unknown: "with unknown tokens",
        /// Reads.
        read: "reads",
        /// Of those, reads from which something was left out.
        filtered: "filtered",
    }
}

counts! {
    /// Damage that lasted.
    Damage {
        /// Disks that were emptied.
        wiped: "wiped",
        /// Disks of which a bit turned that mattered.
        rotted: "rotted",
        /// Bits that turned and did not matter.
        harmless_rot: "turned in vain",
        /// Starts that were refused on a rotten disk.
        refused_starts: "refused starts",
        /// Hosts that came back elsewhere.
        moved: "moved",
        /// Damage that was not done, as it could have taken a quorum.
        spared: "spared",
    }
}

impl Stats {
    /// An operation has ended.
    pub(crate) fn count(&mut self, op: &Op, outcome: &Outcome) {
        let end = match outcome {
            Outcome::Answer(lictor_core::api::Response::Done(false)) => 1,
            Outcome::Answer(_) => 0,
            Outcome::Refused(_) => 2,
            Outcome::Unknown(_) => 3,
        };
        self.operations[kind(op)][end] += 1;
    }

    /// A message between servers is sent.
    pub(crate) fn count_message(&mut self, kind: &Kind) {
        match kind {
            Kind::Piece(piece) => {
                self.snapshots.pieces += 1;
                self.snapshots.sent += u64::from(piece.last);
            }
            Kind::TimeoutNow => self.members.transfers += 1,
            Kind::Vote { transfer, .. } => self.members.transferred += u64::from(*transfer),
            _ => {}
        }
    }

    /// How many operations were asked for.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.operations.iter().flatten().sum()
    }
}

fn kind(op: &Op) -> usize {
    match &op.request {
        Request::Put { mode: PutMode::Cas(_), .. } => 1,
        Request::Put { mode: PutMode::Acquire(_), .. } => 10,
        Request::Put { mode: PutMode::Release(_), .. } => 11,
        Request::Put { .. } => 0,
        Request::Delete { cas: None, .. } => 2,
        Request::Delete { cas: Some(_), .. } => 3,
        Request::DeleteTree { .. } => 4,
        read => match (op.blocks().is_some(), read_options(read).map(|read| read.consistency)) {
            (true, Some(Consistency::Stale)) => 9,
            (true, _) => 8,
            (false, Some(Consistency::Stale)) => 7,
            (false, Some(Consistency::Consistent)) => 6,
            (false, _) => 5,
        },
    }
}

impl AddAssign<&Self> for Stats {
    fn add_assign(&mut self, other: &Self) {
        self.runs += other.runs;
        self.elections += other.elections;
        self.campaigns += other.campaigns;
        self.step_downs += other.step_downs;
        self.inherited_logs += other.inherited_logs;
        self.entries_cut_off += other.entries_cut_off;
        self.committed += other.committed;
        for (sum, count) in self.faults.iter_mut().zip(other.faults) {
            *sum += count;
        }
        self.messages += other.messages;
        self.messages_lost += other.messages_lost;
        self.messages_doubled += other.messages_doubled;
        self.messages_damaged += other.messages_damaged;
        self.messages_dropped += other.messages_dropped;
        self.packets += other.packets;
        self.packets_lost += other.packets_lost;
        self.syncs += other.syncs;
        self.reservations_refused += other.reservations_refused;
        self.disks_full += other.disks_full;
        self.disk_failures += other.disk_failures;
        self.jobs += other.jobs;
        self.jobs_without_room += other.jobs_without_room;
        self.snapshots += &other.snapshots;
        self.members += &other.members;
        self.orders += &other.orders;
        self.damage += &other.damage;
        self.local += &other.local;
        self.locks += &other.locks;
        self.exec += &other.exec;
        self.tokens += &other.tokens;
        self.outsiders_campaigns += other.outsiders_campaigns;
        self.views_asked += other.views_asked;
        self.wakes += other.wakes;
        self.connections_refused += other.connections_refused;
        self.undecided += other.undecided;
        for (sums, counts) in self.operations.iter_mut().zip(other.operations) {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        self.events += other.events;
        self.simulated += other.simulated;
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "raft        {} elections, {} campaigns, {} resignations, {} leaders with uncommitted entries",
            self.elections, self.campaigns, self.step_downs, self.inherited_logs
        )?;
        writeln!(f, "log         {} committed entries, {} cut off", self.committed, self.entries_cut_off)?;
        let faults: Vec<String> = faults::NAMES
            .iter()
            .zip(self.faults)
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        writeln!(f, "faults      {}", if faults.is_empty() { "none".to_owned() } else { faults.join(", ") })?;
        writeln!(
            f,
            "network     {} messages, {} lost, {} doubled, {} damaged, {} dropped by agents",
            self.messages, self.messages_lost, self.messages_doubled, self.messages_damaged, self.messages_dropped
        )?;
        writeln!(f, "gossip      {} packets, {} lost", self.packets, self.packets_lost)?;
        writeln!(
            f,
            "disk        {} syncs, {} reservations refused, {} times full, {} failed writes, {} jobs, {} without room",
            self.syncs,
            self.reservations_refused,
            self.disks_full,
            self.disk_failures,
            self.jobs,
            self.jobs_without_room
        )?;
        writeln!(f, "snapshots   {}", self.snapshots)?;
        writeln!(f, "members     {}, {} campaigns of others", self.members, self.outsiders_campaigns)?;
        writeln!(f, "operator    {}", self.orders)?;
        writeln!(f, "damage      {}", self.damage)?;
        writeln!(f, "agents      {}", self.local)?;
        writeln!(f, "locks       {}", self.locks)?;
        writeln!(f, "exec        {}", self.exec)?;
        writeln!(f, "tokens      {}", self.tokens)?;
        writeln!(
            f,
            "clients     {} operations, {} answered from views, {} wakes, {} connections refused, {} histories undecided",
            self.operations(),
            self.views_asked,
            self.wakes,
            self.connections_refused,
            self.undecided
        )?;
        for (kind, counts) in KINDS.iter().zip(self.operations) {
            let ends: Vec<String> = ENDS
                .iter()
                .zip(counts)
                .filter(|(_, count)| *count > 0)
                .map(|(end, count)| format!("{end} {count}"))
                .collect();
            if !ends.is_empty() {
                writeln!(f, "  {kind:<20} {}", ends.join(", "))?;
            }
        }
        write!(f, "time        {:.0} simulated seconds, {} events", self.simulated.as_secs_f64(), self.events)
    }
}
