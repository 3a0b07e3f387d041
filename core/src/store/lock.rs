//! The locks on keys: which session holds which, and which keys cannot be locked for a while.
//!
//! A key that a session held when it ended cannot be locked for the session's *lock delay*: whoever held the lock may not
//! know yet that it has lost it, and is given time to stop (Chubby's lock-delay; Burrows, OSDI 2006, section 2.4). How long
//! that is, is up to clocks, of which a store knows nothing. So it keeps the fact: this key, since this index, for so long. Each
//! server measures the time from when it learnt of it (`agent/lock_delay.rs`), the leader judges by its own measure before
//! it brings an attempt into the log, and has delays struck out that are over.
//!
//! What the leader could not know when it judged is judged here: an attempt says up to which index its judge had seen, and is
//! refused if the key was delayed later.

use imbl::ordmap::Entry;
use imbl::{OrdMap, OrdSet};

use super::table::after;
use crate::api::kv::Key;
use crate::id::{Index, SessionId};
use crate::time::Duration;

/// That a key cannot be locked for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// The visible index at which its holder ended.
    pub since: Index,
    /// For how long from then on. Never zero.
    pub length: Duration,
}

/// Who holds what, and what is delayed. Invariants: no set in `held` is empty; what is in it is what the entries say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Locks {
    held: OrdMap<SessionId, OrdSet<Key>>,
    delays: OrdMap<Key, Delay>,
}

impl Locks {
    /// Notes that the holder of a key has changed.
    pub(super) fn hand_over(&mut self, key: &Key, from: Option<SessionId>, to: Option<SessionId>) {
        if from == to {
            return;
        }
        if let Some(from) = from
            && let Entry::Occupied(mut keys) = self.held.entry(from)
        {
            keys.get_mut().remove(key);
            if keys.get().is_empty() {
                keys.remove();
            }
        }
        if let Some(to) = to {
            self.held.entry(to).or_default().insert(key.clone());
        }
    }

    /// What a session holds, in byte order.
    pub(super) fn held_by(&self, session: SessionId) -> Vec<Key> {
        self.held.get(&session).into_iter().flatten().cloned().collect()
    }

    /// Delays a key.
    pub(super) fn delay(&mut self, key: Key, delay: Delay) {
        self.delays.insert(key, delay);
    }

    /// The delay of a key.
    pub(super) fn delay_of(&self, key: &[u8]) -> Option<Delay> {
        self.delays.get(key).copied()
    }

    /// Strikes out the delay of a key, if it is the one since then.
    pub(super) fn end_delay(&mut self, key: &[u8], since: Index) {
        if self.delay_of(key).is_some_and(|delay| delay.since == since) {
            self.delays.remove(key);
        }
    }

    /// Strikes out the delay of a key, as it was locked.
    pub(super) fn lift_delay(&mut self, key: &[u8]) {
        if self.delays.contains_key(key) {
            self.delays.remove(key);
        }
    }

    /// The delays of the keys that follow this one; of all without one. Finds the first in O(log n).
    pub(super) fn delays_after(&self, key: Option<&Key>) -> impl Iterator<Item = (&Key, &Delay)> {
        after(&self.delays, key)
    }

    /// The locks as they are after a restoration at `index`: nobody has judged anything about them yet.
    pub(super) fn restored(self, index: Index) -> Self {
        let delays = self.delays.into_iter().map(|(key, delay)| (key, Delay { since: index, ..delay }));
        Self { held: self.held, delays: delays.collect() }
    }
}
