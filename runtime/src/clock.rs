//! The core's clock: nanoseconds since this process took it up.

use lictor_core::time::{Duration, Instant};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// A monotonic clock that also runs while the machine is suspended (`CLOCK_BOOTTIME`): a leader that
/// slept for a minute must find that its lease has run out, or it would answer reads that its successor
/// has long overtaken.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Timespec,
}

impl Clock {
    /// A clock that begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { origin: clock_gettime(ClockId::Boottime) }
    }

    /// How late it is.
    #[must_use]
    pub fn now(&self) -> Instant {
        let passed = clock_gettime(ClockId::Boottime) - self.origin;
        // The clock never runs backwards, so neither part can be negative.
        let seconds = u64::try_from(passed.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(passed.tv_nsec).unwrap_or(0);
        Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }

    /// How long it is until `deadline`; zero once it has come.
    #[must_use]
    pub fn until(&self, deadline: Instant) -> Duration {
        deadline.since(self.now())
    }
}

/// The time of day, since the beginning of 1970; `None` if the machine believes to be before that.
pub(crate) fn time_of_day() -> Option<Duration> {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_begins_near_zero_and_only_moves_forward() {
        let clock = Clock::start();
        let mut before = clock.now();
        assert!(before < Instant::from_millis(60_000), "the clock began at {before}");
        for _ in 0..1_000 {
            let now = clock.now();
            assert!(now >= before);
            before = now;
        }
        assert_eq!(clock.until(Instant::ZERO), Duration::ZERO);
        assert!(clock.until(before + Duration::from_secs(60)) > Duration::from_secs(1));
    }
}
