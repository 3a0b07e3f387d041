//! What the agent still knows of its pool after a restart.
//!
//! | file | |
//! |---|---|
//! | `agent/members` | who was there, to be joined again; and whether we had left |
//! | `agent/clocks` | the Lamport clocks, so that no event comes twice |
//!
//! Members are written down at most twice a second, and less often the more there are. The clock of events is
//! written *before* an event is acted upon: an agent that crashes in between has missed it, but none ever acts twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Agent;
use super::jobs::Then;
use super::timers::Due;
use crate::file::{FileName, JobOutcome};
use crate::gossip::{Status, Tags, TimedEvent};
use crate::id::LamportTime;
use crate::io::PoolNews;
use crate::keep::{self, FOLDER};
use crate::time::{Duration, Instant};

const MEMBERS: &str = "members";
const CLOCKS: &str = "clocks";

/// Members are written down so long after a change, as one that crashes before that may know nobody, …
const REMEMBER_AFTER: Duration = Duration::from_millis(500);
/// … and a second more for each so many of them.
const MEMBERS_PER_SECOND: usize = 500;
/// What could not be written is tried again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// The most events that wait for the disk. Beyond it, they are lost to us.
const MAX_HELD: usize = 8192;

/// The content of `agent/members`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptMembers {
    /// We have left, and join nobody by ourselves.
    left: bool,
    /// All but us.
    members: Vec<KeptMember>,
}

/// A member, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptMember {
    name: String,
    pub(super) address: SocketAddr,
    tags: Tags,
    status: KeptStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum KeptStatus {
    Here,
    Failed,
    Left,
}

/// The content of `agent/clocks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptClocks {
    intents: LamportTime,
    events: LamportTime,
}

/// What is written down, and what waits for that.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Members of an earlier life that we have not met again.
    pub(super) former: Vec<KeptMember>,
    /// Until when they are looked for.
    former_until: Instant,
    /// The clock of events, as far as the disk has it.
    durable: LamportTime,
    /// The clock of events that is being written down.
    writing: Option<LamportTime>,
    /// The clock of intents that was last written down.
    intents: LamportTime,
    /// Events that are to be acted upon once their time is on the disk.
    held: VecDeque<TimedEvent>,
}

impl Agent {
    /// Goes on where an earlier life ended.
    pub(super) fn remember_earlier_life(&mut self, files: &BTreeMap<FileName, Bytes>) {
        let members: Option<KeptMembers> = self.recall(files, MEMBERS);
        let clocks: Option<KeptClocks> = self.recall(files, CLOCKS);
        if let Some(KeptClocks { intents, events }) = clocks {
            // Even if we have left since: those who join us again still know of events that we have acted upon.
            self.gossip.restore(intents, events);
            (self.pool.memory.durable, self.pool.memory.intents) = (events, intents);
        }
        let left = members.as_ref().is_some_and(|kept| kept.left);
        if left && !self.config.gossip.rejoin_after_leave {
            return;
        }
        let here = |kept: &KeptMember| kept.status == KeptStatus::Here && kept.address != self.config.gossip.address;
        let former: Vec<KeptMember> = members.into_iter().flat_map(|kept| kept.members).filter(here).collect();
        if !former.is_empty() {
            self.pool.memory.former = former;
            self.pool.memory.former_until = self.now + self.config.gossip.options.reconnect_timeout;
            self.pool.timers.set(Due::Rejoin, self.now);
        }
    }

    /// Forgets those members of an earlier life whom we have met again, whatever became of them, and those in whose place we have met
    /// another: gossip looks after them. And the others, too, when gossip would forget them.
    pub(super) fn forget_former(&mut self) {
        if self.pool.memory.former.is_empty() {
            return;
        }
        if self.pool.memory.former_until <= self.now {
            return self.pool.memory.former.clear();
        }
        let gossip = &self.gossip;
        let places: BTreeSet<SocketAddr> = gossip.members().map(|member| member.address).collect();
        let is_met = |kept: &KeptMember| gossip.member(&kept.name).is_some() || places.contains(&kept.address);
        self.pool.memory.former.retain(|kept| !is_met(kept));
    }

    fn recall<T: serde::de::DeserializeOwned>(&mut self, files: &BTreeMap<FileName, Bytes>, name: &str) -> Option<T> {
        let file = format!("{FOLDER}{name}");
        match keep::open(files.get(&file)?) {
            Ok(kept) => Some(kept),
            Err(reason) => {
                self.notice(PoolNews::Unreadable { file, reason: reason.to_string() });
                None
            }
        }
    }

    /// The members have changed: in a while they are written down.
    pub(super) fn remember_soon(&mut self) {
        if self.pool.leaving.is_none() && self.pool.timers.get(&Due::Remember).is_none() {
            let more = self.gossip.members().count() / MEMBERS_PER_SECOND;
            self.pool.timers.set(Due::Remember, self.now + REMEMBER_AFTER + Duration::from_secs(more as u64));
        }
    }

    pub(super) fn remember_members(&mut self) {
        if self.pool.leaving.is_none() {
            let kept = self.members_to_keep(false);
            self.keep(MEMBERS, &kept, Then::Nothing);
            if self.gossip.clock() != self.pool.memory.intents && self.pool.memory.writing.is_none() {
                self.remember_clocks();
            }
        }
    }

    /// Writes down that we have left.
    pub(super) fn remember_leaving(&mut self) {
        self.pool.timers.clear(&Due::Remember);
        let kept = self.members_to_keep(true);
        self.keep(MEMBERS, &kept, Then::Left);
    }

    fn members_to_keep(&mut self, left: bool) -> KeptMembers {
        self.forget_former();
        let others = self.gossip.members().filter(|member| member.name != *self.gossip.name());
        let members = others.map(|member| KeptMember {
            name: member.name.to_string(),
            address: member.address,
            tags: Tags::clone(&member.tags),
            status: match member.status() {
                Status::Alive | Status::Leaving => KeptStatus::Here,
                Status::Failed => KeptStatus::Failed,
                Status::Left => KeptStatus::Left,
            },
        });
        // Whom we have not met again we may meet in our next life.
        KeptMembers { left, members: members.chain(self.pool.memory.former.iter().cloned()).collect() }
    }

    /// An event came, or was fired here. It is acted upon once a restart cannot bring it again.
    pub(super) fn hold_event(&mut self, event: TimedEvent) {
        if event.time <= self.pool.memory.durable {
            return self.deliver_event(event);
        }
        if self.pool.memory.held.len() < MAX_HELD {
            self.pool.memory.held.push_back(event);
        }
        if self.pool.memory.writing.is_none() && self.pool.timers.get(&Due::Clocks).is_none() {
            self.remember_clocks();
        }
    }

    pub(super) fn remember_clocks(&mut self) {
        let clocks = KeptClocks { intents: self.gossip.clock(), events: self.gossip.event_clock() };
        self.pool.memory.writing = Some(clocks.events);
        self.pool.memory.intents = clocks.intents;
        self.keep(CLOCKS, &clocks, Then::Deliver);
    }

    /// The clocks are written down, or cannot be for lack of room.
    pub(super) fn clocks_remembered(&mut self, outcome: JobOutcome) {
        let Some(written) = self.pool.memory.writing.take() else { return };
        if outcome == JobOutcome::NoRoom {
            return self.pool.timers.set(Due::Clocks, self.now + AGAIN_AFTER);
        }
        self.pool.memory.durable = self.pool.memory.durable.max(written);
        let (ready, held) = std::mem::take(&mut self.pool.memory.held)
            .into_iter()
            .partition::<VecDeque<_>, _>(|event| event.time <= written);
        self.pool.memory.held = held;
        if !self.pool.memory.held.is_empty() {
            self.remember_clocks();
        }
        for event in ready {
            self.deliver_event(event);
        }
    }
}
