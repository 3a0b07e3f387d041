//! Tombstones: what remains of deleted rows, so that indexes never run backwards.
//!
//! The index of a listing is the highest of its rows. If the newest row were deleted and nothing remained of
//! it, the index would fall back to that of an older row: a client that waits with the index it was last
//! told would miss the deletion, and what changes next could even carry an index that it has seen.
//!
//! Tombstones are reaped once they are old. Of all that were, one index is kept, the floor: any result may
//! have lost a row as late as that.

use imbl::{OrdMap, OrdSet};

use super::table::{after, under};
use crate::api::kv::Key;
use crate::id::Index;

/// The deletions of one table. Invariants:
///
/// - `by_key` and `by_index` hold the same pairs;
/// - a key that has a tombstone is not in the table;
/// - all indexes are above `floor`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tombstones {
    by_key: OrdMap<Key, Index>,
    by_index: OrdSet<(Index, Key)>,
    floor: Index,
}

impl Tombstones {
    /// None, but all that were up to `floor` have been reaped.
    pub(super) fn above(floor: Index) -> Self {
        Self { floor, ..Self::default() }
    }

    /// The last index of those that were reaped; 0 if none was.
    pub(super) fn floor(&self) -> Index {
        self.floor
    }

    /// The deletions of keys that follow this one, by key; all of them without one. Finds the first in O(log n).
    pub(super) fn after(&self, key: Option<&Key>) -> impl Iterator<Item = (&Key, &Index)> {
        after(&self.by_key, key)
    }

    /// Remembers that `key` was deleted at `index`.
    pub(super) fn bury(&mut self, key: Key, index: Index) {
        let earlier = self.by_key.insert(key.clone(), index);
        debug_assert_eq!(earlier, None, "a key was deleted that was not there");
        self.by_index.insert((index, key));
    }

    /// Forgets the deletion of `key`, which is there again: its own index is higher.
    pub(super) fn lift(&mut self, key: &Key) {
        // Most keys that are put were never deleted; asking first spares the copy of a path.
        if let Some(&index) = self.by_key.get(key) {
            self.by_key.remove(key);
            self.by_index.remove(&(index, key.clone()));
        }
    }

    /// The last index at which `key`, which is not in the table, may have been deleted.
    pub(super) fn of(&self, key: &[u8]) -> Index {
        self.by_key.get(key).copied().unwrap_or(self.floor)
    }

    /// The last index at which a key that begins with `prefix` may have been deleted, or `known` if that is
    /// higher.
    ///
    /// Two searches run side by side, and the first to end decides: through all deletions below the prefix,
    /// and through the deletions of the whole table from the newest on. The first is short if little was
    /// deleted below the prefix, the second if something was only recently (a queue's entries come and go
    /// under one prefix, and leave a tombstone each).
    pub(super) fn latest_under(&self, prefix: &[u8], known: Index) -> Index {
        let mut latest = known.max(self.floor);
        let below = under(&self.by_key, prefix);
        for ((_, &index), (newest, key)) in below.zip(self.by_index.iter().rev()) {
            if *newest <= latest {
                return latest;
            }
            if key.starts_with(prefix) {
                return *newest;
            }
            latest = latest.max(index);
        }
        latest
    }

    /// Forgets all deletions up to and including `up_to`, and keeps the last of their indexes as the floor.
    pub(super) fn reap(&mut self, up_to: Index) {
        while self.by_index.get_min().is_some_and(|(index, _)| *index <= up_to) {
            let (index, key) = self.by_index.remove_min().expect("a set with a least element is not empty");
            self.by_key.remove(&key);
            self.floor = index;
        }
    }

    /// The index of the last deletion that is remembered.
    pub(super) fn newest(&self) -> Option<Index> {
        self.by_index.get_max().map(|(index, _)| *index)
    }

    /// The index of the first deletion that is remembered.
    pub(super) fn oldest(&self) -> Option<Index> {
        self.by_index.get_min().map(|(index, _)| *index)
    }

    /// How many deletions are remembered.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &'static str) -> Key {
        Key::from_static(text.as_bytes())
    }

    fn buried(keys: &[(&'static str, u64)]) -> Tombstones {
        let mut tombstones = Tombstones::default();
        for (text, index) in keys {
            tombstones.bury(key(text), Index(*index));
        }
        tombstones
    }

    #[test]
    fn the_newest_below_a_prefix_is_found_from_either_side() {
        let tombstones = buried(&[("a/1", 9), ("a/2", 3), ("a/3", 7), ("b/1", 4), ("c/1", 12), ("c/2", 11)]);
        for (prefix, latest) in [("", 12), ("a/", 9), ("a/2", 3), ("b/", 4), ("c", 12), ("c/2", 11), ("d", 0)] {
            assert_eq!(tombstones.latest_under(prefix.as_bytes(), Index(0)), Index(latest), "{prefix}");
            assert_eq!(tombstones.latest_under(prefix.as_bytes(), Index(10)), Index(latest.max(10)), "{prefix}");
        }
    }

    #[test]
    fn reaping_leaves_the_floor() {
        let mut tombstones = buried(&[("a", 3), ("b", 5), ("c", 5), ("d", 8)]);
        assert_eq!(tombstones.oldest(), Some(Index(3)));
        tombstones.reap(Index(7));
        assert_eq!(tombstones, Tombstones { floor: Index(5), ..buried(&[("d", 8)]) });
        assert_eq!(tombstones.of(b"a"), Index(5));
        assert_eq!(tombstones.of(b"never"), Index(5));
        assert_eq!(tombstones.of(b"d"), Index(8));
        // An index from the future reaps all and claims no deletion that did not happen.
        tombstones.reap(Index(u64::MAX));
        assert_eq!(tombstones, Tombstones { floor: Index(8), ..Tombstones::default() });
        assert_eq!((tombstones.len(), tombstones.oldest()), (0, None));
    }

    #[test]
    fn a_key_that_returns_leaves_nothing() {
        let mut tombstones = buried(&[("a", 3), ("b", 3)]);
        tombstones.lift(&key("a"));
        tombstones.lift(&key("never"));
        assert_eq!(tombstones, buried(&[("b", 3)]));
        tombstones.lift(&key("b"));
        assert_eq!(tombstones, Tombstones::default());
    }
}
