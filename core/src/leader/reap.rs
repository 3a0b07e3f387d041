//! Tombstones that are due to go.
//!
//! A deletion is remembered so that a client that waits with an older index hears of it, and so that no index runs
//! backwards. After a while (Consul's 15 minutes, longer than any query may block) nobody can still wait for it.

use std::collections::BTreeMap;

use crate::id::Index;
use crate::store::{Command, Store};
use crate::time::{Duration, Instant};

/// Deletions are gathered into this many steps of their lifetime, so that one command reaps many.
const STEPS: u32 = 30;

/// Knows which deletions are due when.
///
/// Invariant: later deadlines belong to later deletions.
#[derive(Debug)]
pub(super) struct Reaper {
    ttl: Duration,
    /// The last deletion that is accounted for.
    seen: Index,
    /// By deadline: the last deletion that is due then.
    due: BTreeMap<Instant, Index>,
}

impl Reaper {
    pub(super) const fn new(ttl: Duration) -> Self {
        Self { ttl, seen: Index(0), due: BTreeMap::new() }
    }

    /// Takes note of new deletions.
    pub(super) fn observe(&mut self, now: Instant, store: &Store) {
        if let Some(newest) = store.newest_tombstone().filter(|newest| *newest > self.seen) {
            self.seen = newest;
            self.due.insert(self.deadline(now), newest);
        }
    }

    /// The end of the step in which a deletion of now is due.
    fn deadline(&self, now: Instant) -> Instant {
        let step = u64::try_from((self.ttl / STEPS).as_nanos()).unwrap_or(u64::MAX).max(1);
        let due = (now + self.ttl).as_nanos();
        Instant::from_nanos((due / step).saturating_add(1).saturating_mul(step))
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.keys().next().copied()
    }

    pub(super) fn poll_command(&mut self, now: Instant) -> Option<Command> {
        let mut reap = None;
        while let Some(step) = self.due.first_entry().filter(|step| *step.key() <= now) {
            reap = Some(step.remove());
        }
        reap.map(|up_to| Command::ReapTombstones { up_to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::kv;

    fn delete(store: &mut Store, index: u64) {
        let put = kv::Command::Put { key: "a".into(), value: "1".into(), flags: 0, mode: kv::Mode::Set };
        store.apply(Index(index - 1), put.into());
        store.apply(Index(index), kv::Command::Delete { key: "a".into(), cas: None }.into());
    }

    #[test]
    fn deletions_are_reaped_together_once_they_are_old_enough() {
        let (mut store, mut reaper) = (Store::default(), Reaper::new(Duration::from_secs(900)));
        assert_eq!(reaper.poll_timeout(), None);
        delete(&mut store, 2);
        reaper.observe(Instant::from_millis(1000), &store);
        delete(&mut store, 4);
        reaper.observe(Instant::from_millis(2000), &store);
        let due = reaper.poll_timeout().unwrap();
        assert!(due >= Instant::from_millis(902_000) && due <= Instant::from_millis(932_000), "{due}");
        assert_eq!(reaper.poll_command(due - Duration::from_nanos(1)), None);
        assert_eq!(reaper.poll_command(due), Some(Command::ReapTombstones { up_to: Index(4) }));
        // Until the command is applied the tombstone is still there, and is not counted twice.
        reaper.observe(due, &store);
        assert_eq!(reaper.poll_timeout(), None);
    }
}
