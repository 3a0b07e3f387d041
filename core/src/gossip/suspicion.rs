//! A suspicion: a deadline that confirmations shorten (Lifeguard, section IV-B: local health aware suspicion).
//!
//! Plain SWIM gives a suspected member one fixed time to object. Lifeguard begins with a long time and shortens it as
//! *others* come to suspect the same member: a slow accuser stays alone, and its victim has time to object; a
//! member that is dead is soon suspected by all who probe it. With `c` of `k` hoped-for confirmations the time is
//!
//! > max − (max − min) · log(c + 1) / log(k + 1), but at least min
//!
//! so that the first confirmation counts most.

use std::collections::BTreeSet;

use super::member::Name;
use super::options::ln;
use crate::id::Incarnation;
use crate::time::{Duration, Instant};

/// A suspicion of one member, as one other keeps it.
///
/// Invariants: `accusers` holds whoever began it and at most `wanted` others; the deadline never moves back in time past
/// `begun + least`, and only ever gets earlier.
#[derive(Clone, Debug)]
pub struct Suspicion {
    /// Of which incarnation. A higher one clears it.
    pub incarnation: Incarnation,
    begun: Instant,
    least: Duration,
    most: Duration,
    wanted: u32,
    accusers: BTreeSet<Name>,
}

impl Suspicion {
    /// A suspicion that `accuser` began. It lasts from `least`, once `wanted` others confirm it, to `most`.
    #[must_use]
    pub fn new(
        incarnation: Incarnation,
        accuser: Name,
        wanted: u32,
        (least, most): (Duration, Duration),
        now: Instant,
    ) -> Self {
        Self { incarnation, begun: now, least, most, wanted, accusers: BTreeSet::from([accuser]) }
    }

    /// Somebody suspects the same. True if that is news, and brings the deadline closer: then others should hear of it.
    pub fn confirm(&mut self, accuser: &Name) -> bool {
        self.confirmations() < self.wanted && self.accusers.insert(accuser.clone())
    }

    /// How many have confirmed it.
    #[must_use]
    pub fn confirmations(&self) -> u32 {
        u32::try_from(self.accusers.len() - 1).unwrap_or(u32::MAX)
    }

    /// When the suspected is declared dead if it does not object.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        if self.wanted == 0 {
            return self.begun + self.least;
        }
        let share = ln(f64::from(self.confirmations()) + 1.0) / ln(f64::from(self.wanted) + 1.0);
        let saved = self.most.saturating_sub(self.least).mul_f64(share.clamp(0.0, 1.0));
        self.begun + self.most.saturating_sub(saved).max(self.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspicion(wanted: u32) -> Suspicion {
        let bounds = (Duration::from_secs(2), Duration::from_secs(30));
        Suspicion::new(Incarnation(1), Name::from("a"), wanted, bounds, Instant::from_millis(1000))
    }

    fn seconds(suspicion: &Suspicion) -> f64 {
        suspicion.deadline().since(Instant::from_millis(1000)).as_secs_f64()
    }

    #[test]
    fn each_confirmation_brings_the_deadline_closer_the_first_most() {
        let mut s = suspicion(3);
        assert!((seconds(&s) - 30.0).abs() < 1e-6);
        assert!(s.confirm(&Name::from("b")));
        assert!((seconds(&s) - 16.0).abs() < 1e-6, "{}", seconds(&s));
        assert!(s.confirm(&Name::from("c")));
        assert!((seconds(&s) - 7.81).abs() < 1e-2, "{}", seconds(&s));
        assert!(s.confirm(&Name::from("d")));
        assert!((seconds(&s) - 2.0).abs() < 1e-6);
        assert!(!s.confirm(&Name::from("e")), "more than wanted");
    }

    #[test]
    fn an_accuser_counts_once_and_the_first_is_no_confirmation() {
        let mut s = suspicion(3);
        assert!(!s.confirm(&Name::from("a")));
        assert!(s.confirm(&Name::from("b")));
        assert!(!s.confirm(&Name::from("b")));
        assert_eq!(s.confirmations(), 1);
    }

    #[test]
    fn where_nobody_can_confirm_the_least_time_holds() {
        let mut s = suspicion(0);
        assert!((seconds(&s) - 2.0).abs() < 1e-6);
        assert!(!s.confirm(&Name::from("b")));
    }
}
