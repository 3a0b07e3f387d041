//! The dice. Each concern has a stream of its own, so that one more draw for the network does not change
//! what a client does next: runs of similar plans stay similar, and a schedule can be cut down.

use lictor_core::rng::Rng;
use lictor_core::time::Duration;

/// What a stream of dice is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Concern {
    /// Drawing the plan.
    Plan,
    /// Latencies, losses.
    Network,
    /// Which of several possible targets a fault hits, and how.
    Faults,
    /// A host's processing times and its agents' seeds.
    Host(usize),
    /// A host's disk.
    Disk(usize),
    /// What a client does.
    Client(usize),
    /// What the operator does.
    Operator,
    /// What the users of agents do.
    Registrar,
    /// What one who takes locks does.
    Locker(usize),
    /// Those who have commands run.
    Executors,
    /// What one who uses tokens does.
    Holder(usize),
}

/// The stream of a concern.
pub(crate) fn stream(seed: u64, concern: Concern) -> Rng {
    let (kind, number) = match concern {
        Concern::Plan => (1, 0),
        Concern::Network => (2, 0),
        Concern::Faults => (3, 0),
        Concern::Host(n) => (4, n),
        Concern::Disk(n) => (5, n),
        Concern::Client(n) => (6, n),
        Concern::Operator => (7, 0),
        Concern::Registrar => (8, 0),
        Concern::Locker(n) => (9, n),
        Concern::Executors => (10, 0),
        Concern::Holder(n) => (11, n),
    };
    let mut root = Rng::seeded(seed ^ (kind << 56) ^ ((number as u64) << 40));
    Rng::seeded(root.u64())
}

/// What is often wanted of dice.
pub(crate) trait Dice {
    /// A number from `low` up to and including `high`.
    fn between(&mut self, low: u64, high: u64) -> u64;

    /// True with a chance in parts per million.
    fn chance_ppm(&mut self, ppm: u32) -> bool;

    /// True with a chance in percent.
    fn percent(&mut self, percent: u64) -> bool;

    /// Microseconds from `low` up to and including `high`.
    fn micros(&mut self, range: (u64, u64)) -> Duration;

    /// One of them.
    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T;
}

impl Dice for Rng {
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    fn chance_ppm(&mut self, ppm: u32) -> bool {
        // Most chances are none: do not spend a draw on them.
        ppm > 0 && self.below(1_000_000) < u64::from(ppm)
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn micros(&mut self, (low, high): (u64, u64)) -> Duration {
        if low >= high {
            return Duration::from_micros(low);
        }
        self.duration(Duration::from_micros(low), Duration::from_micros(high + 1))
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}
