//! A fingerprint of everything that happened in a run: which event, when, with what content, in which order.
//! Two runs with the same hash were the same run. madsim's own determinism check sees only its own dice.

use std::fmt;

/// A running hash. Not for enemies, only for accidents: a multiply and a fold for each word, the same on
/// every machine and in every build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    state: u64,
    events: u64,
}

impl Default for Trace {
    fn default() -> Self {
        Self { state: 0x9e37_79b9_7f4a_7c15, events: 0 }
    }
}

impl Trace {
    /// An event: when it happened, a number for what it is, and what it is about.
    pub fn event(&mut self, at_nanos: u64, kind: u64, subject: u64) {
        self.events += 1;
        self.word(at_nanos);
        self.word(kind << 56 ^ subject);
    }

    /// More of the content of the last event.
    pub fn word(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * 0xd6e8_feb8_6659_fd93_u128;
        self.state = (product as u64) ^ ((product >> 64) as u64) ^ 0xa076_1d64_78bd_642f;
    }

    /// More of the content of the last event, of any length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64 ^ u64::from(crc32c::crc32c(bytes)) << 32);
    }

    /// The fingerprint.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.state
    }

    /// How many events it covers.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(events: &[(u64, u64, u64, &[u8])]) -> u64 {
        let mut trace = Trace::default();
        for (at, kind, subject, content) in events {
            trace.event(*at, *kind, *subject);
            trace.bytes(content);
        }
        trace.hash()
    }

    #[test]
    fn order_time_and_content_all_count() {
        let base = of(&[(1, 1, 1, b"a"), (2, 1, 1, b"b")]);
        assert_eq!(base, of(&[(1, 1, 1, b"a"), (2, 1, 1, b"b")]));
        assert_ne!(base, of(&[(1, 1, 1, b"b"), (2, 1, 1, b"a")]));
        assert_ne!(base, of(&[(1, 1, 1, b"a"), (3, 1, 1, b"b")]));
        assert_ne!(base, of(&[(1, 1, 1, b"a"), (2, 2, 1, b"b")]));
        assert_ne!(base, of(&[(1, 1, 1, b"a"), (2, 1, 1, b"c")]));
        assert_ne!(base, of(&[(1, 1, 1, b"a")]));
    }
}
