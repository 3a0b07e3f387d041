//! How fast output goes out: a bucket that leaks at a rate, and holds so much at first.

use crate::time::{Duration, Instant};

/// A bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Bytes in a second.
    rate: u64,
    burst: u64,
    /// As if all had gone out evenly, it would be up to here by now.
    evenly: Instant,
    until: Instant,
}

impl Pace {
    /// So many bytes in a second, once the first `burst` of them have gone.
    pub(super) fn new(rate: u32, burst: u64) -> Self {
        Self { rate: u64::from(rate.max(1)), burst, evenly: Instant::ZERO, until: Instant::ZERO }
    }

    /// So much goes out now.
    pub(super) fn spend(&mut self, now: Instant, bytes: usize) {
        let time_of = |bytes: u64| Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.rate);
        self.evenly = self.evenly.max(now) + time_of(bytes as u64);
        self.until = self.evenly - time_of(self.burst);
    }

    /// When more may go out.
    pub(super) const fn until(&self) -> Instant {
        self.until
    }
}
