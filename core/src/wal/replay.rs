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
