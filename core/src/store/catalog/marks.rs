//! When each subject of the catalog was last changed, and what remains of those that have gone.
//!
//! The mark of a subject that nothing is found under any more is its tombstone: see `store/tombstone.rs` for why there must
//! be one. It is reaped once it is old, and of all that were, one index is kept: the floor.

use imbl::{OrdMap, OrdSet};

use super::subject::Subject;
use crate::id::Index;
use crate::store::table::after;

/// The marks of all subjects. Invariants:
///
/// - `vacant` holds the marks of subjects under which nothing is found, and only those;
/// - all indexes in `vacant` are above `floor`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    by_subject: OrdMap<Subject, Index>,
    vacant: OrdSet<(Index, Subject)>,
    floor: Index,
}

impl Marks {
    /// None, but all tombstones that were up to `floor` have been reaped.
    pub(super) fn above(floor: Index) -> Self {
        Self { floor, ..Self::default() }
    }

    /// The last index at which this subject may have been changed.
    pub(super) fn of(&self, subject: &Subject) -> Index {
        self.by_subject.get(subject).copied().unwrap_or(self.floor)
    }

    /// Notes that the subject was changed at `index`, and whether anything is found under it now.
    pub(super) fn set(&mut self, subject: Subject, index: Index, vacant: bool) {
        if let Some(earlier) = self.by_subject.insert(subject.clone(), index) {
            // Most were not vacant; asking first spares the copy of a path.
            let earlier = (earlier, subject.clone());
            if self.vacant.contains(&earlier) {
                self.vacant.remove(&earlier);
            }
        }
        if vacant {
            self.vacant.insert((index, subject));
        }
    }

    /// Forgets the tombstones up to and including `up_to`.
    pub(super) fn reap(&mut self, up_to: Index) {
        while self.vacant.get_min().is_some_and(|(index, _)| *index <= up_to) {
            let (index, subject) = self.vacant.remove_min().expect("a set with a least element is not empty");
            self.by_subject.remove(&subject);
            self.floor = index;
        }
    }

    /// The last index of the tombstones that were reaped; 0 if none was.
    pub(super) fn floor(&self) -> Index {
        self.floor
    }

    /// The index of the last tombstone.
    pub(super) fn newest(&self) -> Option<Index> {
        self.vacant.get_max().map(|(index, _)| *index)
    }

    /// The index of the first tombstone.
    pub(super) fn oldest(&self) -> Option<Index> {
        self.vacant.get_min().map(|(index, _)| *index)
    }

    /// How many tombstones there are.
    pub(super) fn tombstones(&self) -> usize {
        self.vacant.len()
    }

    /// The last subject that has a mark.
    pub(super) fn last(&self) -> Option<&Subject> {
        self.by_subject.get_max().map(|(subject, _)| subject)
    }

    /// The marks that follow this subject's, by subject; all of them without one.
    pub(super) fn after(&self, subject: Option<&Subject>) -> impl Iterator<Item = (&Subject, &Index)> {
        after(&self.by_subject, subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::catalog::Name;

    fn web(n: u8) -> Subject {
        Subject::Service(Name::of(&format!("web{n}")))
    }

    #[test]
    fn a_tombstone_is_reaped_and_leaves_the_floor_and_a_living_mark_stays() {
        let mut marks = Marks::default();
        marks.set(web(1), Index(3), false);
        marks.set(web(2), Index(4), true);
        marks.set(web(3), Index(6), true);
        assert_eq!((marks.oldest(), marks.newest(), marks.tombstones()), (Some(Index(4)), Some(Index(6)), 2));
        marks.reap(Index(5));
        assert_eq!([1, 2, 3, 9].map(|n| marks.of(&web(n)).0), [3, 4, 6, 4]);
        assert_eq!((marks.floor(), marks.tombstones()), (Index(4), 1));
        marks.set(web(3), Index(7), false);
        marks.reap(Index(u64::MAX));
        assert_eq!(marks.of(&web(3)), Index(7), "it has come back, and is no tombstone any more");
        assert_eq!(marks.floor(), Index(4));
    }
}
