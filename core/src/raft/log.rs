//! The log in memory. What of it is on disk is `stable.rs`'s concern.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::configuration::Configuration;
use crate::id::{Index, PeerId, Term};

/// An entry's index and term. Two logs that share a position share everything before it (log matching,
/// thesis 3.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Where.
    pub index: Index,
    /// By the leader of which term.
    pub term: Term,
}

impl Position {
    /// Before the first entry.
    pub const START: Self = Self { index: Index(0), term: Term(0) };

    /// Whether a log that ends here has everything that one that ends at `other` may have committed
    /// (thesis 3.6.1).
    #[must_use]
    pub fn is_up_to_date_with(self, other: Self) -> bool {
        (self.term, self.index) >= (other.term, other.index)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// What an entry takes beside its command, at most.
const ENTRY_OVERHEAD: usize = 32;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it stands.
    pub index: Index,
    /// The term of the leader that made it.
    pub term: Term,
    /// What it says.
    pub payload: Payload,
}

impl Entry {
    /// Its place in history.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { index: self.index, term: self.term }
    }

    /// Roughly how many bytes it takes on disk, on the wire and in memory.
    #[must_use]
    pub fn size(&self) -> usize {
        match &self.payload {
            Payload::Noop => ENTRY_OVERHEAD,
            Payload::Configuration(configuration) => ENTRY_OVERHEAD + 48 * configuration.servers.len(),
            Payload::Command(bytes) => Self::size_of(bytes),
        }
    }

    /// The [`size`](Self::size) that an entry with this command will have.
    #[must_use]
    pub fn size_of(command: &Bytes) -> usize {
        ENTRY_OVERHEAD + command.len()
    }
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// Nothing: a leader's first entry, which carries the commit index into its term (thesis 6.4).
    Noop,
    /// The members from here on.
    Configuration(Configuration),
    /// A command for the state machine. Raft does not look inside.
    Command(Bytes),
}

/// What must survive a crash beside the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// The latest term that this server has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<PeerId>,
    /// What it knew to be committed when it last wrote anything. Not needed for safety: it lets a restarted
    /// server answer stale reads from a state not much older than before.
    pub commit: Index,
}

/// The entries in memory, and how far they are committed and applied.
///
/// Invariants:
/// - indexes follow `base` without a gap, terms never decrease;
/// - `base.index` ≤ `applied` ≤ `commit` ≤ the last index;
/// - an entry at or before `commit` never changes (leader completeness, thesis 3.6.3).
#[derive(Clone, Debug)]
pub struct Log {
    /// The position before the first entry held here. What lies at or before it is in a snapshot.
    base: Position,
    entries: VecDeque<Entry>,
    /// The sizes of all entries held here.
    bytes: usize,
    commit: Index,
    applied: Index,
}

impl Log {
    /// A log with what the disk had kept: a snapshot up to `base`, and the entries behind it. `commit` is a hint and may
    /// lie beyond the end.
    #[must_use]
    pub fn restored(base: Position, entries: Vec<Entry>, commit: Index) -> Self {
        let mut log = Self { base, entries: VecDeque::new(), bytes: 0, commit: base.index, applied: base.index };
        for entry in entries {
            log.push(entry);
        }
        log.commit = commit.min(log.last().index).max(base.index);
        log
    }

    /// The position before the first entry held here: what lies at or before it is in a snapshot.
    #[must_use]
    pub const fn base(&self) -> Position {
        self.base
    }

    /// What the entries held here take, roughly.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The end of the log.
    #[must_use]
    pub fn last(&self) -> Position {
        self.entries.back().map_or(self.base, Entry::position)
    }

    /// Everything up to here is committed, as far as this server knows.
    #[must_use]
    pub const fn commit(&self) -> Index {
        self.commit
    }

    /// Everything up to here was handed to the state machine.
    #[must_use]
    pub const fn applied(&self) -> Index {
        self.applied
    }

    /// The term of the entry at `index`, that of the base included; `None` if it is not here.
    #[must_use]
    pub fn term(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.get(index).map(|entry| entry.term)
    }

    /// Whether the log holds this very entry.
    #[must_use]
    pub fn has(&self, position: Position) -> bool {
        self.term(position.index) == Some(position.term)
    }

    /// The entry at `index`.
    #[must_use]
    pub fn get(&self, index: Index) -> Option<&Entry> {
        let offset = index.0.checked_sub(self.base.index.0 + 1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// All entries from `index` on, in order.
    pub fn from(&self, index: Index) -> impl Iterator<Item = &Entry> + '_ {
        let skip = index.0.saturating_sub(self.base.index.0 + 1);
        self.entries.range(usize::try_from(skip).unwrap_or(usize::MAX).min(self.entries.len())..)
    }

    /// Entries from `index` on, up to `max_bytes` of them, but at least one if there is one.
    #[must_use]
    pub fn batch(&self, index: Index, max_bytes: usize) -> Vec<Entry> {
        let mut bytes = 0;
        let mut batch = Vec::new();
        for entry in self.from(index) {
            bytes += entry.size();
            if bytes > max_bytes && !batch.is_empty() {
                break;
            }
            batch.push(entry.clone());
        }
        batch
    }

    /// Adds an entry at the end.
    pub fn push(&mut self, entry: Entry) {
        let last = self.last();
        assert_eq!(entry.index, last.index.next(), "a gap in the log after {last}");
        assert!(entry.term >= last.term, "terms go backwards in the log: {} after {last}", entry.position());
        self.bytes += entry.size();
        self.entries.push_back(entry);
    }

    /// Forgets the entries up to and including `index`, all of which were applied; a snapshot has them.
    pub fn compact(&mut self, index: Index) {
        assert!(index <= self.applied, "entry {index} was not applied, and cannot be forgotten");
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.index <= index) {
            self.bytes -= entry.size();
            self.base = entry.position();
        }
    }

    /// A snapshot up to `position` has come from elsewhere, and the state machine holds it. Entries behind it stay if
    /// they follow it, and go if our log contradicts it (thesis 5.3). Returns whether they stayed.
    pub fn install(&mut self, position: Position) -> bool {
        assert!(position.index > self.commit, "a snapshot up to {position} is older than what is committed");
        let follows = self.has(position);
        self.commit = position.index;
        self.applied = position.index;
        if follows {
            self.compact(position.index);
        } else {
            self.entries.clear();
            self.bytes = 0;
            self.base = position;
        }
        follows
    }

    /// The first index behind `floor` from which on the entries take no more than `bytes`.
    #[must_use]
    pub fn tail_within(&self, floor: Index, bytes: usize) -> Index {
        let mut left = bytes;
        for entry in self.entries.iter().rev() {
            match left.checked_sub(entry.size()) {
                Some(rest) if entry.index > floor => left = rest,
                _ => return entry.index.next(),
            }
        }
        self.base.index.next().max(floor.next())
    }

    /// Makes `entries`, which follow a position that the log has, part of the log. What contradicts them is
    /// cut off; what is there already stays, so that a message that arrives late or twice changes nothing.
    /// Returns the first index that was cut off, if any.
    pub fn merge(&mut self, entries: Vec<Entry>) -> Option<Index> {
        let mut cut = None;
        for entry in entries {
            match self.term(entry.index) {
                Some(term) if term == entry.term => continue,
                Some(_) => {
                    self.truncate(entry.index);
                    cut = Some(entry.index);
                }
                None => {}
            }
            self.push(entry);
        }
        cut
    }

    /// Cuts off everything from `index` on.
    fn truncate(&mut self, index: Index) {
        assert!(index > self.commit, "entry {index} is committed (up to {}) and cannot be cut off", self.commit);
        while let Some(entry) = self.entries.pop_back_if(|entry| entry.index >= index) {
            self.bytes -= entry.size();
        }
    }

    /// Where a log that ends at or before `position` may agree with this one: our last entry at or before it
    /// whose term is not above its term. Everything behind that entry contradicts a log that has `position`.
    #[must_use]
    pub fn agreement_hint(&self, position: Position) -> Position {
        let mut index = position.index.min(self.last().index);
        loop {
            match self.term(index) {
                Some(term) if term <= position.term => return Position { index, term },
                _ if index <= self.base.index => return self.base,
                _ => index = index.prev(),
            }
        }
    }

    /// Moves the commit index forward; it never goes back.
    pub fn advance_commit(&mut self, to: Index) {
        if to > self.commit {
            let last = self.last();
            assert!(to <= last.index, "commit {to} lies beyond the end of the log, {last}");
            self.commit = to;
        }
    }

    /// Takes the next committed entry that was not applied yet, and counts it as applied.
    pub fn next_to_apply(&mut self) -> Option<Entry> {
        if self.applied >= self.commit {
            return None;
        }
        let entry = self.get(self.applied.next()).cloned();
        assert!(entry.is_some(), "committed entry {} is missing", self.applied.next());
        self.applied = self.applied.next();
        entry
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index: Index(index), term: Term(term), payload: Payload::Noop }
    }

    fn log(terms: &[u64]) -> Log {
        let entries = (1..).zip(terms).map(|(index, term)| entry(index, *term)).collect();
        Log::restored(Position::START, entries, Index(0))
    }

    fn terms(log: &Log) -> Vec<u64> {
        log.from(Index(1)).map(|entry| entry.term.0).collect()
    }

    #[test]
    fn merge_keeps_what_agrees_and_cuts_what_does_not() {
        let mut log = log(&[1, 1, 2]);
        assert_eq!(log.merge(vec![entry(2, 1), entry(3, 2)]), None);
        assert_eq!(terms(&log), [1, 1, 2]);
        // An old message says less than the log has: nothing is lost.
        assert_eq!(log.merge(vec![entry(2, 1)]), None);
        assert_eq!(terms(&log), [1, 1, 2]);
        assert_eq!(log.merge(vec![entry(3, 3), entry(4, 3)]), Some(Index(3)));
        assert_eq!(terms(&log), [1, 1, 3, 3]);
    }

    #[test]
    #[should_panic(expected = "is committed")]
    fn a_committed_entry_is_never_cut_off() {
        let mut log = log(&[1, 1]);
        log.advance_commit(Index(2));
        log.merge(vec![entry(2, 2)]);
    }

    #[test]
    fn what_is_forgotten_is_the_beginning_and_only_what_was_applied() {
        let mut log = log(&[1, 1, 2, 3]);
        log.advance_commit(Index(3));
        while log.next_to_apply().is_some() {}
        log.compact(Index(2));
        assert_eq!((log.base(), log.last()), (entry(2, 1).position(), entry(4, 3).position()));
        assert_eq!((log.term(Index(2)), log.term(Index(1))), (Some(Term(1)), None));
        assert_eq!(log.bytes(), 2 * ENTRY_OVERHEAD);
        assert_eq!(log.agreement_hint(Position { index: Index(1), term: Term(9) }), log.base());
    }

    #[test]
    #[should_panic(expected = "was not applied")]
    fn what_was_not_applied_cannot_be_forgotten() {
        let mut log = log(&[1, 1]);
        log.advance_commit(Index(2));
        log.compact(Index(1));
    }

    #[test]
    fn an_installed_snapshot_keeps_what_follows_it_and_drops_what_contradicts_it() {
        let position = |index, term| Position { index: Index(index), term: Term(term) };
        let mut follows = log(&[1, 1, 2]);
        assert!(follows.install(position(2, 1)));
        assert_eq!((terms(&follows), follows.base(), follows.commit()), (vec![2], position(2, 1), Index(2)));
        let mut contradicts = log(&[1, 1, 2]);
        assert!(!contradicts.install(position(2, 3)));
        assert_eq!((terms(&contradicts), contradicts.last(), contradicts.bytes()), (vec![], position(2, 3), 0));
        let mut ahead = log(&[1, 1, 2]);
        assert!(!ahead.install(position(9, 4)));
        assert_eq!((ahead.last(), ahead.applied()), (position(9, 4), Index(9)));
    }

    #[test]
    fn a_tail_is_as_long_as_its_bytes_allow() {
        let log = log(&[1, 1, 1, 1]);
        assert_eq!(log.tail_within(Index(0), 2 * ENTRY_OVERHEAD), Index(3));
        assert_eq!(log.tail_within(Index(3), 2 * ENTRY_OVERHEAD), Index(4));
        assert_eq!(log.tail_within(Index(0), usize::MAX), Index(1));
        assert_eq!(log.tail_within(Index(0), 0), Index(5));
    }

    #[test]
    fn batch_holds_at_least_one_entry() {
        let log = log(&[1, 1, 1]);
        assert_eq!(log.batch(Index(2), 0).len(), 1);
        assert_eq!(log.batch(Index(1), 64).len(), 2);
        assert_eq!(log.batch(Index(4), 64).len(), 0);
    }

    #[test]
    fn applied_follows_commit_one_by_one() {
        let mut log = log(&[1, 1, 2]);
        assert_eq!(log.next_to_apply(), None);
        log.advance_commit(Index(2));
        log.advance_commit(Index(1));
        assert_eq!(log.next_to_apply().map(|e| e.index), Some(Index(1)));
        assert_eq!(log.next_to_apply().map(|e| e.index), Some(Index(2)));
        assert_eq!(log.next_to_apply(), None);
    }

    proptest! {
        /// The hint never skips a position at which the two logs agree.
        #[test]
        fn the_hint_never_skips_an_agreement(
            ours in prop::collection::vec(1u64..5, 0..8),
            theirs in prop::collection::vec(1u64..5, 0..8),
        ) {
            let sorted = |mut terms: Vec<u64>| { terms.sort_unstable(); terms };
            let (ours, theirs) = (log(&sorted(ours)), log(&sorted(theirs)));
            let hint = ours.agreement_hint(theirs.last());
            let agreed = (0..=8).rev().map(Index).find(|i| ours.term(*i).is_some() && ours.term(*i) == theirs.term(*i));
            prop_assert!(hint.index >= agreed.unwrap_or_default());
            // The leader's own step from the hint does not skip it either.
            prop_assert!(theirs.agreement_hint(hint).index >= agreed.unwrap_or_default());
        }
    }
}
