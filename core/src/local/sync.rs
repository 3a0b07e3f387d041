//! Anti-entropy: what the servers' catalog says of this node is made to agree with what is registered here.
//!
//! What is registered here is the truth. A change is told at once. From time to time everything that the catalog says of this
//! node is read and compared, and what differs is put right: what is missing or different is registered, what is unknown
//! here is deregistered. Three things are left to others: the check that says whether gossip finds this agent alive, the
//! service that every server is an instance of, and the tags of services that let them be overridden.
//!
//! - Reads for a comparison begin once all writes have been answered, and writes begin once all reads have: so what is read
//!   holds all that was written.
//! - Writes of the same service, or of checks of it, go one after the other, in the order: service, checks.
//! - After a failure nothing is written before a comparison has succeeded: what became of the failed write is unknown.
//! - A few calls are under way at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::Error;
use crate::api::catalog::{Check, NodeServices};
use crate::rng::Rng;
use crate::time::{Duration, Instant};

/// How long after a failure it is tried again (Consul's `syncRetryIntv`), and up to as much longer.
const RETRY: Duration = Duration::from_secs(15);
/// How long after a leader has come back it is tried again, at the most (Consul's `syncStaggerIntv`).
const STAGGER: Duration = Duration::from_secs(2);
/// How long calls are waited for. They give up by themselves long before.
const PATIENCE: Duration = Duration::from_secs(60);
/// Writes under way at a time.
pub(super) const WRITES: usize = 8;
/// Checks in one write, at the most, and …
pub(super) const CHECKS_IN_WRITE: usize = 64;
/// … their bytes, unless it is a single one: a registration has its limit.
pub(super) const BYTES_IN_WRITE: usize = 256 << 10;
/// Things taken back that are remembered until the catalog knows. It may not be there, and users may go on.
const GONE: usize = 1 << 17;
/// A cluster of up to so many agents is small.
const SMALL: usize = 128;

/// Something that the catalog may have to be told. Services come before checks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    Service(String),
    Check(String),
}

impl Item {
    /// Whether both are the same to the catalog.
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Service(a), Self::Service(b)) | (Self::Check(a), Self::Check(b)) => is_same_id(a, b),
            _ => false,
        }
    }
}

/// Whether two IDs are the same to the catalog, which does not tell them apart by their case.
pub(super) fn is_same_id(a: &str, b: &str) -> bool {
    a == b || a.chars().flat_map(char::to_lowercase).eq(b.chars().flat_map(char::to_lowercase))
}

/// Something that was taken back, and may still be in the catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Gone {
    /// On whose behalf it was there.
    pub(super) token: String,
    /// Of a check: the service that it was of.
    pub(super) service: String,
}

/// A write under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    /// The service that it, or checks of it, are written of; empty for the node.
    pub(super) service: String,
    /// What is written, and in which revision.
    pub(super) items: Vec<(Item, u64)>,
    /// It enters something, and with it the node.
    pub(super) enters: bool,
    pub(super) since: Instant,
}

/// What a comparison has read so far.
#[derive(Debug, Default)]
struct Reads {
    services: Option<Option<NodeServices>>,
    checks: Option<Vec<Arc<Check>>>,
    numbers: [u64; 2],
    since: Instant,
}

/// What a comparison has read.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) node: Option<NodeServices>,
    pub(super) checks: Vec<Arc<Check>>,
}

/// What came of an answer.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Nothing to be done.
    Nothing,
    /// All is there to compare.
    Compare(Remote),
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Wait.
    Nothing,
    /// Read what the catalog says. The numbers are of the calls for the services and the checks.
    Read([u64; 2]),
    /// Write what differs.
    Write,
}

/// How far the catalog is known to agree.
///
/// Invariant: what is in `gone` is in `dirty`.
#[derive(Debug)]
pub(super) struct Sync {
    /// What may differ in the catalog, with the number of its last change.
    dirty: BTreeMap<Item, u64>,
    gone: BTreeMap<Item, Gone>,
    /// The catalog has the node as it should be.
    node_known: bool,
    writes: BTreeMap<u64, Write>,
    reads: Option<Reads>,
    /// The last comparison succeeded, and no write has failed since.
    sound: bool,
    /// Whether it was told that something is wrong.
    trouble_told: bool,
    /// Something was refused since the last comparison, and something before it.
    refused: (bool, bool),
    next_full: Instant,
    revision: u64,
    number: u64,
    cluster: usize,
}

impl Sync {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            dirty: BTreeMap::new(),
            gone: BTreeMap::new(),
            node_known: false,
            writes: BTreeMap::new(),
            reads: None,
            sound: false,
            trouble_told: false,
            refused: (false, false),
            next_full: now,
            revision: 0,
            number: 0,
            cluster: 1,
        }
    }

    /// How many agents there are.
    pub(super) fn note_cluster(&mut self, agents: usize) {
        self.cluster = agents;
    }

    /// Something that is registered may differ in the catalog.
    pub(super) fn touch(&mut self, item: Item) {
        self.gone.remove(&item);
        self.revision += 1;
        self.dirty.insert(item, self.revision);
    }

    /// Something is not registered any more.
    pub(super) fn gone(&mut self, item: Item, gone: Gone) {
        if self.gone.len() >= GONE && !self.gone.contains_key(&item) {
            // The next comparison will find it.
            self.dirty.remove(&item);
            return;
        }
        self.revision += 1;
        self.dirty.insert(item.clone(), self.revision);
        self.gone.insert(item, gone);
    }

    pub(super) fn is_dirty(&self, item: &Item) -> bool {
        self.dirty.contains_key(item)
    }

    pub(super) fn what_is_gone(&self, item: &Item) -> Option<&Gone> {
        self.gone.get(item)
    }

    pub(super) fn gone_items(&self) -> Vec<Item> {
        self.gone.keys().cloned().collect()
    }

    /// The catalog agrees in this.
    pub(super) fn settle(&mut self, item: &Item) {
        self.dirty.remove(item);
        self.gone.remove(item);
    }

    /// What may differ, services first.
    pub(super) fn dirty(&self) -> impl Iterator<Item = (&Item, u64)> {
        self.dirty.iter().map(|(item, revision)| (item, *revision))
    }

    pub(super) fn revision_of(&self, item: &Item) -> Option<u64> {
        self.dirty.get(item).copied()
    }

    pub(super) fn note_node(&mut self, known: bool) {
        self.node_known = known;
    }

    /// Whether nothing but the node itself is to be entered.
    pub(super) fn lacks_node_only(&self) -> bool {
        !self.node_known && self.dirty.is_empty() && self.writes.is_empty()
    }

    /// Whether a write of this service, or of something of it, or of this check is under way.
    pub(super) fn is_busy(&self, service: &str, check: Option<&Item>) -> bool {
        self.writes.values().any(|write| {
            (!service.is_empty() && is_same_id(&write.service, service))
                || check.is_some_and(|check| write.items.iter().any(|(item, _)| item.is_same(check)))
        })
    }

    pub(super) fn begin_write(&mut self, write: Write) -> u64 {
        self.number += 1;
        self.writes.insert(self.number, write);
        self.number
    }

    /// What is to be done now.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        if self.reads.is_some() {
            return Next::Nothing;
        }
        if now >= self.next_full {
            if !self.writes.is_empty() {
                return Next::Nothing;
            }
            let numbers = [self.number + 1, self.number + 2];
            self.number += 2;
            self.reads = Some(Reads { numbers, since: now, ..Reads::default() });
            return Next::Read(numbers);
        }
        let idle = self.dirty.is_empty() && self.node_known;
        if self.sound && !idle && self.writes.len() < WRITES { Next::Write } else { Next::Nothing }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        let since = match &self.reads {
            Some(reads) => Some(reads.since),
            None => self.writes.values().map(|write| write.since).min(),
        };
        since.map_or(self.next_full, |since| since + PATIENCE)
    }

    /// Gives up calls that nobody has answered for a long time.
    pub(super) fn give_up(&mut self, now: Instant, rng: &mut Rng) -> Option<Error> {
        let late = |since: Instant| since + PATIENCE <= now;
        let reads = self.reads.as_ref().is_some_and(|reads| late(reads.since));
        let writes: Vec<_> = self.writes.iter().filter(|(_, write)| late(write.since)).map(|(n, _)| *n).collect();
        if !reads && writes.is_empty() {
            return None;
        }
        writes.iter().for_each(|number| drop(self.writes.remove(number)));
        self.fail(now, Error::NoAnswer, rng)
    }

    /// The answer to a read of a comparison: the services or the checks.
    pub(super) fn read(&mut self, number: u64, answer: Read) -> Outcome {
        let Some(reads) = &mut self.reads else { return Outcome::Nothing };
        match answer {
            Read::Services(services) if number == reads.numbers[0] => reads.services = Some(services),
            Read::Checks(checks) if number == reads.numbers[1] => reads.checks = Some(checks),
            _ => return Outcome::Nothing,
        }
        match (reads.services.take(), reads.checks.take()) {
            (Some(node), Some(checks)) => {
                self.reads = None;
                Outcome::Compare(Remote { node, checks })
            }
            (services, checks) => {
                (reads.services, reads.checks) = (services, checks);
                Outcome::Nothing
            }
        }
    }

    /// Whether this call is one of the reads under way.
    pub(super) fn is_read(&self, number: u64) -> bool {
        self.reads.as_ref().is_some_and(|reads| reads.numbers.contains(&number))
    }

    /// A write has been answered.
    pub(super) fn take_write(&mut self, number: u64) -> Option<Write> {
        self.writes.remove(&number)
    }

    /// A write took place. Whatever was changed since is still to be told.
    pub(super) fn written(&mut self, write: &Write) {
        if write.enters {
            self.node_known = true;
        }
        for (item, revision) in &write.items {
            if self.dirty.get(item) == Some(revision) {
                self.settle(item);
            }
            let Item::Service(id) = item else { continue };
            if !write.enters {
                // With a service its checks are struck out.
                let with_it: Vec<_> =
                    self.gone.iter().filter(|(_, gone)| gone.service == *id).map(|(item, _)| item.clone()).collect();
                with_it.iter().for_each(|item| self.settle(item));
            }
        }
    }

    /// A write was refused for good: until a comparison shows that it still differs, it is let be. For the first time that
    /// comes soon.
    pub(super) fn refused(&mut self, now: Instant, write: &Write, rng: &mut Rng) {
        for (item, revision) in &write.items {
            if self.dirty.get(item) == Some(revision) {
                self.settle(item);
            }
        }
        self.node_known |= write.enters;
        self.refused.0 = true;
        if !self.refused.1 {
            self.next_full = self.next_full.min(now + RETRY + rng.duration(Duration::ZERO, self.scaled(RETRY)));
        }
    }

    /// A call failed, but may succeed later. Gives the error if it is to be told.
    pub(super) fn fail(&mut self, now: Instant, error: Error, rng: &mut Rng) -> Option<Error> {
        self.reads = None;
        let again = now + RETRY + rng.duration(Duration::ZERO, self.scaled(RETRY));
        if self.sound || self.next_full <= now {
            self.next_full = again;
        }
        self.sound = false;
        let told = std::mem::replace(&mut self.trouble_told, true);
        (!told).then_some(error)
    }

    /// A comparison has succeeded. True if it is to be told that all is well again.
    pub(super) fn compared(&mut self, now: Instant, interval: Duration, rng: &mut Rng) -> bool {
        let interval = self.scaled(interval);
        self.next_full = now + interval + rng.duration(Duration::ZERO, interval);
        self.sound = true;
        self.refused = (false, self.refused.0);
        std::mem::take(&mut self.trouble_told)
    }

    /// There is a leader again: after a failure it is tried soon, but not by all agents at once.
    pub(super) fn leader_returned(&mut self, now: Instant, rng: &mut Rng) {
        if !self.sound && self.reads.is_none() {
            let soon = now + rng.duration(Duration::ZERO, self.scaled(STAGGER));
            self.next_full = self.next_full.min(soon);
        }
    }

    /// In a large cluster everything happens less often, so that the servers have about as much to do.
    fn scaled(&self, interval: Duration) -> Duration {
        interval * growth(self.cluster)
    }

    /// Whether the catalog is known to agree with everything.
    pub(super) fn is_settled(&self) -> bool {
        self.sound && self.node_known && self.dirty.is_empty() && self.writes.is_empty() && self.reads.is_none()
    }

    /// Panics if an invariant does not hold.
    pub(super) fn assert_invariants(&self) {
        assert!(self.gone.keys().all(|item| self.dirty.contains_key(item)));
        assert!(self.reads.is_none() || self.writes.is_empty());
        assert!(self.writes.len() <= WRITES);
        let services: Vec<_> = self.writes.values().map(|write| &write.service).filter(|id| !id.is_empty()).collect();
        assert_eq!(
            services.iter().collect::<std::collections::BTreeSet<_>>().len(),
            services.len(),
            "two writes of one service"
        );
    }
}

/// What a comparison's calls bring.
pub(super) enum Read {
    Services(Option<NodeServices>),
    Checks(Vec<Arc<Check>>),
}

/// Whether a call that failed so may succeed when it is made again.
pub(super) fn may_pass(error: &Error) -> bool {
    matches!(
        error,
        Error::NoLeader
            | Error::LeadershipLost
            | Error::LeaderUnreachable
            | Error::NoPathToDatacenter
            | Error::Busy { .. }
            | Error::DiskFull
            | Error::NoServers
            | Error::NoAnswer
            | Error::ShuttingDown
    )
}

/// By how much intervals grow in a cluster of so many agents: by one with every doubling beyond [`SMALL`].
fn growth(agents: usize) -> u32 {
    if agents <= SMALL {
        return 1;
    }
    let log2_rounded_up = usize::BITS - (agents - 1).leading_zeros();
    log2_rounded_up - SMALL.ilog2() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_grow_with_the_logarithm_of_the_cluster() {
        for (agents, times) in
            [(0, 1), (1, 1), (128, 1), (129, 2), (256, 2), (257, 3), (512, 3), (1_000, 4), (8_192, 7)]
        {
            assert_eq!(growth(agents), times, "{agents} agents");
        }
    }
}
