//! Am I the slow one? (Lifeguard, section IV-A: local health aware probe.)
//!
//! A member that cannot process its messages in time sees everybody fail. What it can notice is that it misses even
//! answers which it should get from *several* others, or that others suspect it. Each such sign raises a score, each
//! probe that is answered lowers it, and the higher it is, the more time the member gives to others.

use crate::time::Duration;

/// A member's opinion of its own health: 0 is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awareness {
    score: u32,
    /// One above the highest score.
    max: u32,
}

impl Awareness {
    /// A member that thinks well of itself, and will multiply its times by at most `max`.
    #[must_use]
    pub fn new(max: u32) -> Self {
        Self { score: 0, max: max.max(1) }
    }

    /// A bad sign, or several.
    pub fn worsen(&mut self, by: u32) {
        self.score = self.score.saturating_add(by).min(self.max - 1);
    }

    /// A good sign.
    pub fn improve(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    /// The score: 0 is sound.
    #[must_use]
    pub const fn score(self) -> u32 {
        self.score
    }

    /// How long to wait where a sound member would wait for `time`.
    #[must_use]
    pub fn scale(self, time: Duration) -> Duration {
        time * (self.score + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_stays_within_its_bounds_and_scales_time() {
        let mut health = Awareness::new(8);
        health.improve();
        assert_eq!((health.score(), health.scale(Duration::from_secs(1))), (0, Duration::from_secs(1)));
        health.worsen(3);
        health.improve();
        assert_eq!(health.scale(Duration::from_secs(1)), Duration::from_secs(3));
        health.worsen(u32::MAX);
        assert_eq!(health.scale(Duration::from_millis(500)), Duration::from_secs(4));
    }

    #[test]
    fn at_a_maximum_of_one_a_member_always_trusts_itself() {
        let mut health = Awareness::new(1);
        health.worsen(5);
        assert_eq!(health.score(), 0);
        assert_eq!(Awareness::new(0), Awareness::new(1));
    }
}
