//! How much disk space to set aside ahead of the log's end, and when to ask for more, so that a full disk
//! is noticed while there still is room to say so.
//!
//! Space is asked for when less than half a quantum is left, and then as much that two quanta are. The quantum
//! begins small, for the sake of servers that write little, and doubles with each reservation. A refused one
//! is tried again with half the quantum at once. From the first refusal until the full quantum is granted the
//! policy is cautious: only space that is really reserved counts, and the full quantum is tried every second.

use crate::time::{Duration, Instant};

/// Sizes for the writer. Only tests and simulations have reason to change them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// A frame that would make a segment longer than this begins a new one.
    pub segment_bytes: u64,
    /// The first quantum of reservations.
    pub first_quantum: u64,
    /// The smallest quantum that is tried when the disk refuses larger ones.
    pub min_quantum: u64,
    /// The largest quantum; a quarter of a segment if that is less.
    pub max_quantum: u64,
    /// Kept back for what must be written even if the disk is full: terms, votes, no-ops.
    pub emergency_bytes: u64,
    /// How long to wait before a refused reservation is tried again.
    pub retry_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            first_quantum: 1 << 20,
            min_quantum: 64 << 10,
            max_quantum: 16 << 20,
            emergency_bytes: 64 << 10,
            retry_after: Duration::from_secs(1),
        }
    }
}

/// Decides when to ask for how much. "Ahead" is the number of bytes that are reserved and not yet used.
///
/// Invariants: `min_quantum <= step <= goal <= max_quantum`; `step == goal` unless cautious; `full` and
/// `retry_at` only if cautious.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    min_quantum: u64,
    max_quantum: u64,
    retry_after: Duration,
    /// The quantum that is wanted.
    goal: u64,
    /// The quantum that is being tried.
    step: u64,
    /// Something was refused and not made good since.
    cautious: bool,
    /// Even the smallest quantum was refused.
    full: bool,
    /// When to try the full quantum again.
    retry_at: Option<Instant>,
}

impl Policy {
    pub(super) fn new(options: &Options) -> Self {
        let max_quantum = options.max_quantum.min(options.segment_bytes / 4).max(options.min_quantum);
        let goal = options.first_quantum.clamp(options.min_quantum, max_quantum);
        Self {
            min_quantum: options.min_quantum,
            max_quantum,
            retry_after: options.retry_after,
            goal,
            step: goal,
            cautious: false,
            full: false,
            retry_at: None,
        }
    }

    /// How much there should be ahead, if that is to be asked for now.
    pub(super) fn wanted(&mut self, now: Instant, ahead: u64) -> Option<u64> {
        if !self.cautious {
            return (ahead < self.goal / 2).then_some(2 * self.goal);
        }
        if let Some(at) = self.retry_at {
            if now < at {
                return None;
            }
            self.retry_at = None;
            self.step = self.goal;
        }
        if ahead >= 2 * self.step {
            self.succeed(now);
            return None;
        }
        Some(2 * self.step)
    }

    /// Something was granted: all that was wanted, or the part of it that fits into the segment.
    pub(super) fn granted(&mut self, now: Instant, whole: bool) {
        self.full = false;
        if whole {
            self.succeed(now);
        }
    }

    fn succeed(&mut self, now: Instant) {
        if self.step == self.goal {
            self.cautious = false;
            self.full = false;
            self.goal = (2 * self.goal).min(self.max_quantum);
            self.step = self.goal;
        } else {
            self.retry_at = Some(now + self.retry_after);
        }
    }

    /// Something was refused while there is so much ahead.
    pub(super) fn refused(&mut self, now: Instant, ahead: u64) {
        self.cautious = true;
        let half = (self.step / 2).max(self.min_quantum);
        let smallest = self.step == self.min_quantum;
        self.full |= smallest;
        if smallest || ahead >= 2 * half {
            self.retry_at = Some(now + self.retry_after);
        }
        self.step = half;
    }

    /// When [`wanted`](Self::wanted) may have something to say though nothing else happened.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Whether only what is really reserved counts.
    pub(super) fn is_cautious(&self) -> bool {
        self.cautious
    }

    /// Whether even the smallest quantum was refused.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;

    fn policy() -> Policy {
        Policy::new(&Options::default())
    }

    #[test]
    fn the_quantum_doubles_with_each_reservation_up_to_its_limit() {
        let (mut policy, now) = (policy(), Instant::ZERO);
        let mut wanted = Vec::new();
        for _ in 0..7 {
            wanted.push(policy.wanted(now, 0).unwrap() / MIB);
            policy.granted(now, true);
        }
        assert_eq!(wanted, [2, 4, 8, 16, 32, 32, 32]);
        assert_eq!(policy.wanted(now, 8 * MIB), None, "half a quantum is left");
        assert_eq!(policy.wanted(now, 8 * MIB - 1), Some(32 * MIB));
    }

    #[test]
    fn refusals_halve_the_quantum_down_to_full_and_are_tried_again_every_second() {
        let mut policy = policy();
        for second in 0..3 {
            let now = Instant::from_millis(1000 * second);
            let mut wanted = Vec::new();
            while let Some(bytes) = policy.wanted(now, 0) {
                wanted.push(bytes / KIB);
                policy.refused(now, 0);
            }
            assert_eq!(wanted, [2048, 1024, 512, 256, 128]);
            assert!(policy.is_full() && policy.is_cautious());
            assert_eq!(policy.retry_at(), Some(Instant::from_millis(1000 * (second + 1))));
        }
        let now = Instant::from_millis(3000);
        assert_eq!(policy.wanted(now, 0), Some(2 * MIB));
        assert!(policy.is_full(), "until something is granted");
        policy.granted(now, true);
        assert!(!policy.is_full() && !policy.is_cautious());
        assert_eq!(policy.retry_at(), None);
    }

    #[test]
    fn less_than_wanted_is_taken_and_more_is_tried_later() {
        let (mut policy, now) = (policy(), Instant::ZERO);
        assert_eq!(policy.wanted(now, 0), Some(2 * MIB));
        policy.refused(now, 0);
        assert_eq!(policy.wanted(now, 0), Some(MIB));
        policy.granted(now, true);
        assert!(policy.is_cautious() && !policy.is_full());
        assert_eq!(policy.wanted(now, MIB), None);
        let later = now + Duration::from_secs(1);
        assert_eq!(policy.wanted(later, MIB), Some(2 * MIB));
        // What is ahead would satisfy half of it: no need to ask for less.
        policy.refused(later, MIB);
        assert_eq!(policy.wanted(later, MIB), None);
        assert_eq!(policy.retry_at(), Some(later + Duration::from_secs(1)));
        assert!(!policy.is_full());
    }
}
