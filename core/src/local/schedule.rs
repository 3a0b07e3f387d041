//! When something is due, and which checks are being run.
//!
//! A check runs for the first time after a part of its interval that is drawn, so that checks that were registered together
//! do not all run together; then an interval after each run has ended. So it never runs twice at the same time. No more than
//! so many run at once; those that are due and find no place wait for one, the longest due first.

use std::collections::BTreeMap;

use crate::id::ProbeId;
use crate::time::{Deadlines, Duration, Instant};

/// How long the owner may take to end a probe that takes too long and to say so.
const GRACE: Duration = Duration::from_secs(5);

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// What was told of this check holds no longer.
    Expiry(String),
    /// This check is to be run.
    Run(String),
    /// The catalog is to be told this check's output.
    Output(String),
    /// The answer to this probe should have come long ago.
    Answer(ProbeId),
    /// It is looked for services that have been critical for too long.
    Reap,
}

#[derive(Debug, Default)]
pub(super) struct Schedule {
    deadlines: Deadlines<Due>,
    /// Checks that wait for a place, by when they were due.
    ready: Deadlines<String>,
    /// Probes under way, and the checks that they are of.
    running: BTreeMap<ProbeId, String>,
    /// The same, turned round.
    probes: BTreeMap<String, ProbeId>,
    last: ProbeId,
}

impl Schedule {
    pub(super) fn set(&mut self, due: Due, at: Instant) {
        self.deadlines.set(due, at);
    }

    pub(super) fn clear(&mut self, due: &Due) {
        self.deadlines.clear(due);
    }

    pub(super) fn is_set(&self, due: &Due) -> bool {
        self.deadlines.get(due).is_some()
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Due> {
        self.deadlines.pop_due(now)
    }

    /// A check is to be run as soon as there is a place.
    pub(super) fn ready(&mut self, check: String, now: Instant) {
        self.ready.set(check, now);
    }

    /// The next check to be run, if there is a place for it.
    pub(super) fn begin(&mut self, now: Instant, places: usize) -> Option<(ProbeId, String)> {
        if self.running.len() >= places {
            return None;
        }
        let check = self.ready.pop_due(now)?;
        self.last = self.last.next();
        self.running.insert(self.last, check.clone());
        self.probes.insert(check.clone(), self.last);
        Some((self.last, check))
    }

    /// From now on the probe's answer is waited for, but not for ever.
    pub(super) fn expect_answer(&mut self, probe: ProbeId, now: Instant, timeout: Duration) {
        self.deadlines.set(Due::Answer(probe), now + timeout + GRACE);
    }

    /// A probe is over. Gives the check that it was of; `None` if it was given up before.
    pub(super) fn end(&mut self, probe: ProbeId) -> Option<String> {
        let check = self.running.remove(&probe)?;
        self.probes.remove(&check);
        self.deadlines.clear(&Due::Answer(probe));
        Some(check)
    }

    /// Nothing of a check is due any more. Gives the probe that is to be given up, if it is being run.
    pub(super) fn forget(&mut self, check: &str) -> Option<ProbeId> {
        for due in [Due::Expiry(check.to_owned()), Due::Run(check.to_owned()), Due::Output(check.to_owned())] {
            self.deadlines.clear(&due);
        }
        self.ready.clear(&check.to_owned());
        let probe = *self.probes.get(check)?;
        self.end(probe);
        Some(probe)
    }

    #[cfg(test)]
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_longest_due_run_first_and_no_more_than_there_are_places() {
        let mut schedule = Schedule::default();
        let at = Instant::from_millis;
        schedule.ready("late".into(), at(2));
        schedule.ready("early".into(), at(1));
        schedule.ready("later".into(), at(3));
        let (first, check) = schedule.begin(at(5), 2).unwrap();
        assert_eq!(check, "early");
        assert_eq!(schedule.begin(at(5), 2).unwrap().1, "late");
        assert_eq!(schedule.begin(at(5), 2), None);
        assert_eq!(schedule.end(first).as_deref(), Some("early"));
        assert_eq!(schedule.end(first), None, "an end is told once");
        assert_eq!(schedule.begin(at(5), 2).unwrap().1, "later");
    }

    #[test]
    fn a_forgotten_check_leaves_nothing() {
        let mut schedule = Schedule::default();
        let now = Instant::from_millis(1);
        schedule.ready("a".into(), now);
        let (probe, _) = schedule.begin(now, 1).unwrap();
        schedule.expect_answer(probe, now, Duration::from_secs(1));
        for due in [Due::Expiry("a".into()), Due::Run("a".into()), Due::Output("a".into())] {
            schedule.set(due, now);
        }
        assert_eq!(schedule.forget("a"), Some(probe));
        assert_eq!((schedule.next(), schedule.running(), schedule.end(probe)), (None, 0, None));
        schedule.ready("a".into(), now);
        assert_eq!(schedule.forget("a"), None);
        assert_eq!(schedule.begin(now, 1), None);
    }
}
