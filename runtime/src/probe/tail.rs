//! The end of a long output.

use bytes::Bytes;
use lictor_core::io::Finding;
use lictor_core::probe::OUTPUT_BYTES;

/// The last [`OUTPUT_BYTES`] of an output, and how long it was in all.
#[derive(Debug, Default)]
pub(super) struct Tail {
    last: Vec<u8>,
    total: u64,
}

impl Tail {
    /// Takes the next piece.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.total += piece.len() as u64;
        let piece = &piece[piece.len().saturating_sub(OUTPUT_BYTES)..];
        let excess = (self.last.len() + piece.len()).saturating_sub(OUTPUT_BYTES);
        self.last.drain(..excess);
        self.last.extend_from_slice(piece);
    }

    /// What is found of a command that wrote this.
    pub(super) fn exited(self, code: Option<i32>) -> Finding {
        Finding::Exited { code, output: Bytes::from(self.last), total: self.total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_end_of_all_that_came_however_it_was_cut() {
        let all: Vec<u8> = (0..30_000_u32).map(|n| (n % 251) as u8).collect();
        for size in [1, 100, 4095, 4096, 4097, 10_000, 30_000] {
            for length in [0, 5, 4096, 30_000] {
                let mut tail = Tail::default();
                all[..length].chunks(size).for_each(|piece| tail.push(piece));
                let Finding::Exited { code: Some(0), output, total } = tail.exited(Some(0)) else { panic!() };
                assert_eq!(total, length as u64);
                assert!(output == all[length.saturating_sub(OUTPUT_BYTES)..length], "{length} by {size}");
            }
        }
    }
}
