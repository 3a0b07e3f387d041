//! What the frames of a log say, one after the other, and how that fits a snapshot.

use super::Problem;
use super::format::Preface;
use crate::id::{Index, Term};
use crate::raft::{Entry, HardState, Position};

/// A log as far as it was replayed.
///
/// Invariants: indexes of `entries` follow `before` without a gap, terms never decrease; `base.index` ≤ `before`. They
/// are equal unless segments at the beginning were removed.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) hard_state: HardState,
    /// The last base that the log names.
    pub(super) base: Position,
    pub(super) entries: Vec<Entry>,
    /// The index before the first entry; whatever lies up to here must be in a snapshot.
    before: Index,
    /// Its term, if the log tells.
    before_term: Option<Term>,
}

impl Default for Replay {
    fn default() -> Self {
        Self {
            hard_state: HardState::default(),
            base: Position::START,
            entries: Vec::new(),
            before: Index(0),
            before_term: Some(Term(0)),
        }
    }
}

/// How a log and a snapshot fit together.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// The entries go on behind the snapshot.
    Follows,
    /// The snapshot was put in place of the log, and the log does not say so yet.
    Replaced,
}

impl Replay {
    /// Where the log ends; `None` if it has no entries and does not tell the term of what was before them.
    pub(super) fn last(&self) -> Option<Position> {
        let before = || self.before_term.map(|term| Position { index: self.before, term });
        self.entries.last().map(Entry::position).or_else(before)
    }

    /// Begins with a segment that is not the log's first one, by what its first frame says. Whether that frame
    /// says what it must.
    pub(super) fn begin(&mut self, preface: &Preface) -> bool {
        let (Some(_), Some(base), Some(end)) = (preface.hard_state, preface.base, preface.end) else { return false };
        self.base = base;
        self.before = end.index;
        self.before_term = Some(end.term);
        base.index <= end.index && base.term <= end.term
    }

    /// Replays a frame.
    pub(super) fn apply(&mut self, preface: &Preface, entries: Vec<Entry>) -> Result<(), Problem> {
        self.hard_state = preface.hard_state.unwrap_or(self.hard_state);
        if let Some(base) = preface.base {
            self.cover(base)?;
        }
        if let Some(first) = entries.first() {
            self.cut(first.index)?;
        }
        for entry in entries {
            self.check_order(&entry)?;
            self.entries.push(entry);
        }
        Ok(())
    }

    /// Everything up to `base` is in a snapshot.
    fn cover(&mut self, base: Position) -> Result<(), Problem> {
        if base == self.base {
            return Ok(());
        }
        if base.index <= self.base.index || base.term < self.base.term {
            return Err(Problem::Base { last: self.base, found: base });
        }
        self.base = base;
        if base.index < self.before && self.first_term() >= Some(base.term) {
            // The log was cut off further than that already.
            return Ok(());
        }
        self.settle_on(base);
        Ok(())
    }

    /// Keeps what lies behind `position`, if the log goes on from there, and nothing else. Whether it does.
    fn settle_on(&mut self, position: Position) -> bool {
        let follows = if position.index == self.before {
            // An entry of this term or a later one, whose leader had all that was committed, stands behind
            // what was committed in this term (leader completeness, thesis 3.6.3).
            self.before_term.map_or_else(|| self.first_term() >= Some(position.term), |term| term == position.term)
        } else {
            self.at(position.index).is_some_and(|entry| entry.term == position.term)
        };
        if follows {
            self.entries.drain(..self.place(position.index.next()));
        } else {
            self.entries.clear();
        }
        self.before = position.index;
        self.before_term = Some(position.term);
        follows
    }

    /// Drops all entries from `index` on.
    fn cut(&mut self, index: Index) -> Result<(), Problem> {
        if index <= self.base.index {
            return Err(Problem::EntryIndex { last: self.base.index, found: index });
        }
        self.entries.truncate(self.place(index));
        if index <= self.before {
            // The entries before this one are in segments that were removed.
            self.before = index.prev();
            self.before_term = None;
        }
        Ok(())
    }

    /// Whether `entry` may come next.
    fn check_order(&self, entry: &Entry) -> Result<(), Problem> {
        let (index, term) = self
            .entries
            .last()
            .map_or_else(|| (self.before, self.before_term.unwrap_or(self.base.term)), |last| (last.index, last.term));
        if entry.index != index.next() {
            return Err(Problem::EntryIndex { last: index, found: entry.index });
        }
        if entry.term < term {
            return Err(Problem::EntryTerm { index: entry.index, found: entry.term, other: term });
        }
        Ok(())
    }

    /// Leaves the entries behind `snapshot`, the newest that there is.
    pub(super) fn join(&mut self, snapshot: Position) -> Result<Fit, Problem> {
        let contradicts = snapshot.index == self.base.index && snapshot.term != self.base.term;
        if snapshot.index < self.before || contradicts {
            return Err(self.gap());
        }
        // A leader of the snapshot's term had sent it, and this server may not have noted the term before.
        if self.hard_state.term < snapshot.term {
            self.hard_state = HardState { term: snapshot.term, vote: None, ..self.hard_state };
        }
        Ok(if self.settle_on(snapshot) { Fit::Follows } else { Fit::Replaced })
    }

    /// Without a snapshot a log must begin at its beginning.
    pub(super) fn stand_alone(&self) -> Result<(), Problem> {
        if self.base == Position::START && self.before == Index(0) { Ok(()) } else { Err(self.gap()) }
    }

    fn gap(&self) -> Problem {
        let named = Some(self.base).filter(|base| base.index == self.before && base.index > Index(0));
        Problem::NeedsSnapshot { up_to: self.before, named }
    }

    /// The lowest term that is known of what the log holds; `None` if nothing is known.
    fn first_term(&self) -> Option<Term> {
        self.before_term.or_else(|| self.entries.first().map(|entry| entry.term))
    }

    fn at(&self, index: Index) -> Option<&Entry> {
        if index <= self.before { None } else { self.entries.get(self.place(index)) }
    }

    /// Where in `entries` the one with this index is or would be.
    fn place(&self, index: Index) -> usize {
        let place = index.0.saturating_sub(self.before.next().0);
        usize::try_from(place).unwrap_or(usize::MAX).min(self.entries.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Payload;

    fn position(index: u64, term: u64) -> Position {
        Position { index: Index(index), term: Term(term) }
    }

    fn entries(from: u64, terms: &[u64]) -> Vec<Entry> {
        let entry =
            |(index, term): (u64, &u64)| Entry { index: Index(index), term: Term(*term), payload: Payload::Noop };
        (from..).zip(terms).map(entry).collect()
    }

    fn says(base: Option<Position>) -> Preface {
        let hard_state = HardState { term: Term(9), ..HardState::default() };
        Preface { hard_state: Some(hard_state), base, end: None }
    }

    /// A log whose first segments are gone: they ended with `end`.
    fn cut_log(base: Position, end: Position) -> Replay {
        let mut replay = Replay::default();
        assert!(replay.begin(&Preface { end: Some(end), ..says(Some(base)) }));
        replay
    }

    fn found(replay: &Replay) -> Vec<(u64, u64)> {
        replay.entries.iter().map(|entry| (entry.index.0, entry.term.0)).collect()
    }

    #[test]
    fn a_base_keeps_what_follows_it_and_drops_what_contradicts_it() {
        for (base, kept) in [
            (position(2, 1), vec![(3, 2), (4, 2)]),
            (position(4, 2), vec![]),
            (position(2, 3), vec![]),
            (position(9, 3), vec![]),
        ] {
            let mut replay = Replay::default();
            replay.apply(&says(None), entries(1, &[1, 1, 2, 2])).unwrap();
            replay.apply(&says(Some(base)), Vec::new()).unwrap();
            assert_eq!(found(&replay), kept, "{base}");
            let next = replay.last().unwrap().index.0 + 1;
            replay.apply(&says(Some(base)), entries(next, &[3])).unwrap();
            assert_eq!(found(&replay).len(), kept.len() + 1, "what is said again changes nothing");
            assert!(replay.apply(&says(None), entries(base.index.0, &[9])).is_err(), "{base} cannot be replaced");
        }
    }

    #[test]
    fn a_base_never_goes_back() {
        let mut replay = Replay::default();
        replay.apply(&says(Some(position(5, 3))), Vec::new()).unwrap();
        for base in [position(4, 3), position(5, 4), position(6, 2)] {
            let refused = replay.apply(&says(Some(base)), Vec::new());
            assert_eq!(refused, Err(Problem::Base { last: position(5, 3), found: base }));
        }
    }

    #[test]
    fn a_log_without_its_beginning_goes_on_where_that_ended_or_replaces_some_of_it() {
        let mut replay = cut_log(Position::START, position(10, 2));
        replay.apply(&says(None), entries(11, &[2])).unwrap();
        replay.apply(&says(None), entries(8, &[3, 3])).unwrap();
        assert_eq!(found(&replay), [(8, 3), (9, 3)]);
        let named = None;
        assert_eq!(replay.join(position(6, 1)), Err(Problem::NeedsSnapshot { up_to: Index(7), named }));
        assert_eq!(replay.join(position(7, 2)), Ok(Fit::Follows));

        let mut gap = cut_log(Position::START, position(10, 2));
        assert!(gap.apply(&says(None), entries(12, &[2])).is_err());
        let mut nothing = cut_log(Position::START, position(10, 2));
        assert_eq!(nothing.join(position(9, 2)), Err(Problem::NeedsSnapshot { up_to: Index(10), named }));
        assert_eq!(nothing.join(position(10, 2)), Ok(Fit::Follows));
        assert!(!Replay::default().begin(&says(Some(Position::START))), "the end is not said");
    }

    #[test]
    fn terms_tell_whether_a_log_without_its_beginning_is_of_a_snapshots_history() {
        for (term, fit) in [(3, Fit::Follows), (2, Fit::Follows), (1, Fit::Replaced)] {
            let mut replay = cut_log(Position::START, position(10, 1));
            replay.apply(&says(None), entries(8, &[term])).unwrap();
            assert_eq!(replay.join(position(7, 2)), Ok(fit), "term {term}");
        }
        // A base that lies in what is gone is as good as said before, or contradicts all that is left.
        for (term, kept) in [(2, vec![(11, 2)]), (3, vec![])] {
            let mut replay = cut_log(Position::START, position(10, 2));
            replay.apply(&says(None), entries(11, &[2])).unwrap();
            replay.apply(&says(Some(position(5, term))), Vec::new()).unwrap();
            assert_eq!(found(&replay), kept, "term {term}");
        }
    }

    #[test]
    fn a_snapshot_brings_its_term() {
        let mut replay = Replay::default();
        let hard_state = HardState { term: Term(1), vote: Some(crate::id::PeerId::numbered(1)), commit: Index(0) };
        replay.apply(&Preface { hard_state: Some(hard_state), base: None, end: None }, entries(1, &[1])).unwrap();
        assert_eq!(replay.join(position(7, 2)), Ok(Fit::Replaced));
        assert_eq!((replay.hard_state.term, replay.hard_state.vote), (Term(2), None));
    }
}
