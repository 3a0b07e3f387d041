//! The clocks. The world has one, which only the simulation sees; each host has its own, which began at
//! another time and runs a little too fast or too slow. Both are counted in [`Instant`]s: `world` and `local`
//! in the names tell them apart.

use lictor_core::time::Instant;

const MILLION: u128 = 1_000_000;

/// A host's clock as a straight line over the world's time. A change of its rate begins a new line.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    world_start: Instant,
    local_start: Instant,
    /// Local nanoseconds in a million nanoseconds of the world.
    rate: u128,
}

impl Clock {
    /// A clock that shows `local` at the world's beginning and gains `drift_ppm` nanoseconds in a million.
    pub(crate) fn new(local: Instant, drift_ppm: i32) -> Self {
        Self { world_start: Instant::ZERO, local_start: local, rate: rate(drift_ppm) }
    }

    /// What the clock shows.
    pub(crate) fn local(&self, world: Instant) -> Instant {
        let passed = u128::from(world.as_nanos() - self.world_start.as_nanos());
        let shown = u128::from(self.local_start.as_nanos()) + passed * self.rate / MILLION;
        Instant::from_nanos(u64::try_from(shown).unwrap_or(u64::MAX))
    }

    /// The first time at which the clock shows `local` or more; [`Instant::NEVER`] for never.
    pub(crate) fn world(&self, local: Instant) -> Instant {
        if local == Instant::NEVER {
            return Instant::NEVER;
        }
        let ahead = u128::from(local.as_nanos().saturating_sub(self.local_start.as_nanos()));
        let passed = (ahead * MILLION).div_ceil(self.rate);
        let world = u128::from(self.world_start.as_nanos()) + passed;
        Instant::from_nanos(u64::try_from(world).unwrap_or(u64::MAX))
    }

    /// From now on the clock runs at another rate. It does not jump.
    pub(crate) fn set_drift(&mut self, world: Instant, drift_ppm: i32) {
        *self = Self { world_start: world, local_start: self.local(world), rate: rate(drift_ppm) };
    }
}

fn rate(drift_ppm: i32) -> u128 {
    u128::try_from(1_000_000 + i64::from(drift_ppm)).expect("a clock never runs backwards")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_a_time_at_the_moment_that_it_named_and_not_before() {
        for drift in [-20_000, -3, 0, 7, 19_999] {
            let mut clock = Clock::new(Instant::from_millis(12_345), drift);
            clock.set_drift(Instant::from_millis(100), drift / 2);
            for ahead in [0, 1, 999, 1_000_003, 5_000_000_007] {
                let local = Instant::from_nanos(clock.local(Instant::from_millis(200)).as_nanos() + ahead);
                let world = clock.world(local);
                assert!(clock.local(world) >= local);
                assert!(clock.local(Instant::from_nanos(world.as_nanos() - 1)) < local);
            }
        }
    }

    #[test]
    fn a_change_of_rate_is_no_jump() {
        let mut clock = Clock::new(Instant::ZERO, 20_000);
        let world = Instant::from_millis(1_000);
        let before = clock.local(world);
        assert_eq!(before, Instant::from_millis(1_020));
        clock.set_drift(world, -20_000);
        assert_eq!(clock.local(world), before);
        assert_eq!(clock.local(Instant::from_millis(2_000)), Instant::from_millis(2_000));
    }
}
