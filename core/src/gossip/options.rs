//! What a member of the pool is told about time and sizes, and how they grow with the pool.

use crate::time::Duration;

/// Gossip's timing and limits. The defaults are those of Serf's LAN profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The pool, such as `lan:dc1`. Packets of another pool are dropped and counted.
    pub pool: String,
    /// The most bytes in one datagram. Room for what wraps it (encryption) is the owner's to subtract.
    pub datagram_bytes: usize,
    /// How often a member probes another, while it has no doubt about its own health.
    pub probe_interval: Duration,
    /// How long it waits for an answer before it asks others to try. Less than half the interval leaves those no time.
    pub probe_timeout: Duration,
    /// How many others it asks.
    pub indirect_checks: usize,
    /// Whether it also tries a stream: some networks lose datagrams and nothing else.
    pub stream_probe: bool,
    /// How bad a member may think of its own health: intervals and timeouts grow up to this many times. 1 makes it
    /// trust itself always (plain SWIM).
    pub awareness_max: u32,
    /// How many probe intervals, times log10 of the pool's size, a suspicion lasts at least.
    pub suspicion_mult: u32,
    /// How many times longer a suspicion lasts that nobody confirms. 1 makes all last equally long (plain SWIM).
    pub suspicion_max_mult: u32,
    /// Whether a suspected member is told before others (Lifeguard's buddy system).
    pub buddy: bool,
    /// How many times a broadcast is sent, times log10 of the pool's size, rounded up.
    pub retransmit_mult: u32,
    /// How often broadcasts are sent on their own, not riding on probes.
    pub gossip_interval: Duration,
    /// To how many members.
    pub gossip_nodes: usize,
    /// For how long the dead are still sent broadcasts, so that those who are not may object.
    pub gossip_to_dead: Duration,
    /// How often the full state is exchanged with another member, in a pool of up to 32.
    pub push_pull_interval: Duration,
    /// How long an exchange may take before it is given up.
    pub push_pull_timeout: Duration,
    /// How often a failed member is tried again.
    pub reconnect_interval: Duration,
    /// For how long failed members are tried and remembered.
    pub reconnect_timeout: Duration,
    /// For how long those who left are remembered.
    pub tombstone_timeout: Duration,
    /// How often it is looked whom to forget.
    pub reap_interval: Duration,
    /// For how long an intent is kept whose member is not known yet.
    pub intent_timeout: Duration,
    /// How long each of the two steps of leaving may take: to announce it, and to be gone.
    pub leave_timeout: Duration,
    /// The most broadcasts that wait in one queue. Beyond it, the most often sent are dropped.
    pub queue_depth: usize,
    /// The most bytes in the name and the payload of a user event.
    pub user_event_bytes: usize,
    /// The most members, at most [`MAX_RECORDS`](super::packet::MAX_RECORDS), as a full state has no room for more. Beyond
    /// it, new ones are not taken in, and counted.
    pub max_members: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pool: "lan:dc1".to_owned(),
            datagram_bytes: 1400,
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(500),
            indirect_checks: 3,
            stream_probe: true,
            awareness_max: 8,
            suspicion_mult: 4,
            suspicion_max_mult: 6,
            buddy: true,
            retransmit_mult: 4,
            gossip_interval: Duration::from_millis(200),
            gossip_nodes: 3,
            gossip_to_dead: Duration::from_secs(30),
            push_pull_interval: Duration::from_secs(30),
            push_pull_timeout: Duration::from_secs(10),
            reconnect_interval: Duration::from_secs(30),
            reconnect_timeout: Duration::from_secs(72 * 3600),
            tombstone_timeout: Duration::from_secs(24 * 3600),
            reap_interval: Duration::from_secs(15),
            intent_timeout: Duration::from_secs(300),
            leave_timeout: Duration::from_secs(5),
            queue_depth: 4096,
            user_event_bytes: 512,
            max_members: super::packet::MAX_RECORDS,
        }
    }
}

impl Options {
    /// The mark of our pool in every packet.
    #[must_use]
    pub fn pool_tag(&self) -> u32 {
        crc32c::crc32c(self.pool.as_bytes())
    }

    /// How often a broadcast is sent in a pool of `live` members: rumours reach all with O(log n) sends each. As in Serf, the
    /// logarithm is rounded up before it is multiplied: in a small pool the few sends that this adds make it much rarer that an
    /// event has to wait for an exchange of full states.
    #[must_use]
    pub fn retransmit_limit(&self, live: usize) -> u32 {
        // A little is taken off before rounding up, so that a whole result stays what it is.
        let nodes = (log10(live + 1) - 1e-9).ceil().max(1.0);
        self.retransmit_mult.saturating_mul(nodes as u32).max(1)
    }

    /// How long a suspicion lasts, at least and at most, in a pool of `live` members (Lifeguard, section IV-B).
    #[must_use]
    pub fn suspicion_bounds(&self, live: usize) -> (Duration, Duration) {
        let nodes = log10(live.max(1)).max(1.0);
        let least = (self.probe_interval * self.suspicion_mult).mul_f64(nodes);
        (least, least * self.suspicion_max_mult.max(1))
    }

    /// How many confirmations bring a suspicion to its least time; none where there are too few who could confirm.
    #[must_use]
    pub fn confirmations(&self, live: usize) -> u32 {
        let wanted = self.suspicion_mult.saturating_sub(2);
        // Neither the suspected nor we ourselves can confirm.
        if live.saturating_sub(2) < wanted as usize { 0 } else { wanted }
    }

    /// How often the full state is exchanged in a pool of `live` members: beyond 32, every doubling adds an
    /// interval, as there is more to send.
    #[must_use]
    pub fn push_pull_every(&self, live: usize) -> Duration {
        const THRESHOLD: usize = 32;
        let doublings = live.div_ceil(THRESHOLD).max(1).next_power_of_two().trailing_zeros();
        self.push_pull_interval * (doublings + 1)
    }
}

/// The natural logarithm of a number of at least 1. The standard library's may differ between machines in the last
/// digit, and so would simulations; this uses nothing but the four operations.
pub(super) fn ln(x: f64) -> f64 {
    debug_assert!(x >= 1.0 && x.is_finite());
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    // ln m = 2·artanh((m-1)/(m+1)), whose series gains a digit with every term as m is below 2.
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let (mut power, mut sum) = (z, 0.0);
    for odd in (1..41).step_by(2) {
        sum += power / f64::from(odd);
        power *= z * z;
    }
    f64::from(exponent) * std::f64::consts::LN_2 + 2.0 * sum
}

fn log10(n: usize) -> f64 {
    ln(n as f64) / std::f64::consts::LN_10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_logarithm_is_the_logarithm() {
        for n in 1_u32..20_000 {
            let x = f64::from(n) * 1.37;
            assert!((ln(x) - x.ln()).abs() < 1e-12, "{x}: {} {}", ln(x), x.ln());
        }
        assert!(ln(1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn what_grows_grows_with_the_logarithm() {
        let options = Options::default();
        let limits: Vec<u32> = [1, 2, 3, 9, 10, 99, 999].into_iter().map(|n| options.retransmit_limit(n)).collect();
        assert_eq!(limits, [4, 4, 4, 4, 8, 8, 12]);
        assert_eq!(options.suspicion_bounds(3), (Duration::from_secs(4), Duration::from_secs(24)));
        let (least, most) = options.suspicion_bounds(100);
        assert!((least.as_secs_f64() - 8.0).abs() < 1e-6 && (most.as_secs_f64() - 48.0).abs() < 1e-6);
        let pushes: Vec<u64> =
            [1, 32, 33, 64, 65, 128, 1000].into_iter().map(|n| options.push_pull_every(n).as_secs()).collect();
        assert_eq!(pushes, [30, 30, 60, 60, 90, 90, 180]);
    }

    #[test]
    fn nobody_waits_for_confirmations_that_cannot_come() {
        let options = Options::default();
        assert_eq!([2, 3, 4, 5, 100].map(|n| options.confirmations(n)), [0, 0, 2, 2, 2]);
    }
}
