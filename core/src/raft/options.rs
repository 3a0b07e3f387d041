//! What a server of raft is told about time and sizes.

use crate::time::Duration;

/// Raft's timing and batch sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// A follower that has not heard from a leader for a random time of at least this asks for votes. Until this has passed, it gives none: that is what the leader's lease rests on.
    pub election_timeout: Duration,
    /// How widely the time is spread that a follower waits for a leader: from the election timeout to that much
    /// more. The wider, the rarer two ask for votes at once; the narrower, the sooner one asks (thesis 9.3).
    pub election_spread: Duration,
    /// How often a leader speaks to its followers if it has nothing else to say. At most a fifth of the
    /// election timeout, so that a few lost messages change nothing.
    pub heartbeat_interval: Duration,
    /// How far two clocks may run apart, in percent of the time passed. The lease is shorter than the
    /// election timeout by twice this.
    pub clock_drift_percent: u32,
    /// The most entries' bytes in one append message. A larger single entry travels alone.
    pub append_bytes: usize,
    /// The most append messages on their way to one follower.
    pub inflight_messages: usize,
    /// The most entries' bytes on their way to one follower.
    pub inflight_bytes: usize,
}

impl Options {
    /// Consul's `performance.raft_multiplier`: 1 is the fastest, 5 the default, 10 the slowest. The times
    /// themselves are a fifth of Consul's: at the default, a leader is missed after 1 to 2 seconds.
    #[must_use]
    pub fn with_multiplier(multiplier: u32) -> Self {
        let multiplier = multiplier.clamp(1, 10);
        Self {
            election_timeout: Duration::from_millis(200) * multiplier,
            election_spread: Duration::from_millis(200) * multiplier,
            heartbeat_interval: Duration::from_millis(20) * multiplier,
            clock_drift_percent: 5,
            append_bytes: 1 << 20,
            inflight_messages: 64,
            inflight_bytes: 16 << 20,
        }
    }

    /// For how long after a quorum heard from it a leader may answer reads on its own: the time for which no
    /// voter will elect another, less what clocks may differ (DESIGN, decision 6).
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.election_timeout * (100 - 2 * self.clock_drift_percent) / 100
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::with_multiplier(5)
    }
}
