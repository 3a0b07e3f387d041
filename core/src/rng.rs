//! The agent's own dice: a seeded ChaCha stream, the same on every machine and in every build.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use uuid::Uuid;

use crate::time::Duration;

/// A seeded generator. `StdRng` would do today, but is documented as free to change its algorithm.
#[derive(Clone, Debug)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// A generator whose every draw is a function of `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Any 64 bits.
    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`, which must not be 0. Multiply-and-shift: the bias is below 2⁻³² for every
    /// bound that is used here, and one draw is always enough, so that streams stay easy to follow.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a number below 0 was asked for");
        ((u128::from(self.u64()) * u128::from(bound)) >> 64) as u64
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A duration from `low` up to, not including, `high`; `low` if there is nothing between them.
    pub fn duration(&mut self, low: Duration, high: Duration) -> Duration {
        let span = u64::try_from(high.saturating_sub(low).as_nanos()).unwrap_or(u64::MAX);
        if span == 0 { low } else { low + Duration::from_nanos(self.below(span)) }
    }

    /// A random (version 4) UUID.
    pub fn uuid(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        self.0.fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_stream_for_ever() {
        let mut rng = Rng::seeded(1);
        // Written down once: a change of these numbers makes every recorded seed worthless.
        let drawn = [rng.u64(), rng.u64()];
        let mut again = Rng::seeded(1);
        assert_eq!(drawn, [again.u64(), again.u64()]);
        assert_ne!(drawn[0], Rng::seeded(2).u64());
    }

    #[test]
    fn below_stays_below_and_reaches_all() {
        let mut rng = Rng::seeded(7);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[usize::try_from(rng.below(5)).unwrap()] = true;
        }
        assert_eq!(seen, [true; 5]);
    }

    #[test]
    fn durations_stay_within_their_bounds() {
        let mut rng = Rng::seeded(3);
        let (low, high) = (Duration::from_millis(150), Duration::from_millis(300));
        for _ in 0..100 {
            let drawn = rng.duration(low, high);
            assert!(low <= drawn && drawn < high);
        }
        assert_eq!(rng.duration(high, low), high);
    }
}
