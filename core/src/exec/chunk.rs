//! What a command has written and nobody has been told yet, in pieces of some size or of half a second.

use bytes::{Bytes, BytesMut};

use crate::time::{Duration, Instant};

/// What is there is passed on after this, even if more would fit.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// Output that waits. It is bounded by whoever says how much may be read.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    waiting: BytesMut,
    /// Nothing in `waiting` came before that.
    since: Instant,
    /// When the last of it came.
    last: Instant,
}

impl Chunks {
    /// The command has written this.
    pub(super) fn push(&mut self, now: Instant, bytes: &[u8]) {
        if self.waiting.is_empty() {
            self.since = now;
        }
        self.last = now;
        self.waiting.extend_from_slice(bytes);
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When the next piece is due, which is full with so many bytes; `None` if nothing waits.
    pub(super) fn due(&self, full: usize) -> Option<Instant> {
        match self.waiting.len() {
            0 => None,
            waiting if waiting >= full => Some(self.since),
            _ => Some(self.since + PATIENCE),
        }
    }

    /// The next piece of up to so many bytes, whether it is due or not; empty if nothing waits.
    pub(super) fn take(&mut self, full: usize) -> Bytes {
        let piece = self.waiting.split_to(self.waiting.len().min(full)).freeze();
        // Of what is left, only the last is known to have come then; the rest came a little earlier.
        self.since = self.last;
        // Whoever keeps the piece must not keep the whole buffer with it.
        Bytes::copy_from_slice(&piece)
    }

    /// Nobody wants it any more.
    pub(super) fn clear(&mut self) {
        self.waiting = BytesMut::new();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FULL: usize = 4096;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn a_piece_is_due_when_it_is_full_or_has_waited_for_half_a_second() {
        let mut chunks = Chunks::default();
        assert_eq!((chunks.due(FULL), chunks.take(FULL).len()), (None, 0));
        chunks.push(at(100), b"a");
        chunks.push(at(500), b"b");
        assert_eq!(chunks.due(FULL), Some(at(600)), "it is the first byte that counts");
        assert_eq!(chunks.take(FULL), "ab");
        chunks.push(at(1000), &[b'x'; 10_000]);
        assert!(chunks.due(FULL) <= Some(at(1000)));
        assert_eq!(chunks.take(FULL).len(), 4096);
        assert!(chunks.due(FULL) <= Some(at(1000)));
        assert_eq!(chunks.take(FULL).len(), 4096);
        assert_eq!(chunks.due(FULL), Some(at(1500)), "what is left may be joined by more");
        assert_eq!((chunks.take(FULL).len(), chunks.is_empty()), (1808, true));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_turned_round(written: Vec<(u8, bool)>) {
            let (mut chunks, mut read) = (Chunks::default(), Vec::new());
            for (length, take) in &written {
                chunks.push(at(0), &vec![*length; usize::from(*length) * 40]);
                if *take {
                    let piece = chunks.take(FULL);
                    prop_assert!(piece.len() <= FULL);
                    read.extend_from_slice(&piece);
                }
            }
            while !chunks.is_empty() {
                read.extend_from_slice(&chunks.take(FULL));
            }
            let expected: Vec<u8> = written.iter().flat_map(|(n, _)| vec![*n; usize::from(*n) * 40]).collect();
            prop_assert_eq!(read, expected);
        }
    }
}
