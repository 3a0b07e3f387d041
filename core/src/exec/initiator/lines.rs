//! Pieces of output put together to lines.

use std::collections::BTreeMap;

use bytes::Bytes;

/// A line without an end is told in parts of so many bytes.
const LONGEST: usize = 16 << 10;

/// Puts what nodes wrote together to lines: pieces are cut wherever they happen to be full.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// What has come of each node's last line. Never a whole line, and at most [`LONGEST`] bytes.
    begun: BTreeMap<String, Vec<u8>>,
}

impl Lines {
    /// Takes a piece, and gives the lines that it completes, without their newlines.
    pub fn push(&mut self, node: &str, output: &Bytes) -> Vec<Bytes> {
        let mut lines = Vec::new();
        let mut rest = output.clone();
        let mut begun = self.begun.remove(node).unwrap_or_default();
        loop {
            let room = LONGEST - begun.len();
            let newline = rest.iter().take(room + 1).position(|byte| *byte == b'\n');
            let (taken, skipped) = match newline {
                Some(at) => (at, 1),
                None if rest.len() > room => (room, 0),
                None => break,
            };
            let part = rest.split_to(taken);
            let _ = rest.split_to(skipped);
            lines.push(if begun.is_empty() {
                part
            } else {
                begun.extend_from_slice(&part);
                std::mem::take(&mut begun).into()
            });
        }
        begun.extend_from_slice(&rest);
        if !begun.is_empty() {
            self.begun.insert(node.to_owned(), begun);
        }
        lines
    }

    /// The last line of a node, if it has begun one: nothing more comes, or not for a while.
    pub fn finish(&mut self, node: &str) -> Option<Bytes> {
        self.begun.remove(node).map(Bytes::from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn push(lines: &mut Lines, text: &'static str) -> Vec<Bytes> {
        lines.push("a", &Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn lines_are_put_together() {
        let mut lines = Lines::default();
        assert_eq!(push(&mut lines, "one\ntw"), ["one"]);
        assert_eq!(lines.push("b", &Bytes::from_static(b"x\n")), ["x"]);
        assert_eq!(push(&mut lines, "o\n\nthree"), ["two", ""]);
        assert_eq!(lines.finish("a").as_deref(), Some(&b"three"[..]));
        assert_eq!(lines.finish("a"), None);
        assert_eq!(push(&mut lines, "end\n"), ["end"]);
        assert_eq!(lines.finish("a"), None);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_made_up(text in "[ab\n]{0,60}", cuts in prop::collection::vec(0usize..9, 0..20)) {
            let mut lines = Lines::default();
            let (mut rest, mut told) = (Bytes::from(text.clone()), Vec::new());
            for cut in cuts {
                let piece = rest.split_to(cut.min(rest.len()));
                told.extend(lines.push("a", &piece));
            }
            told.extend(lines.push("a", &rest));
            let last = lines.finish("a");
            let mut again = told.iter().map(|line| String::from_utf8_lossy(line).into_owned() + "\n").collect::<String>();
            again.push_str(&last.map(|line| String::from_utf8_lossy(&line).into_owned()).unwrap_or_default());
            prop_assert_eq!(again, text);
        }

        #[test]
        fn a_line_without_end_comes_in_parts(sizes in prop::collection::vec(1usize..9000, 1..12)) {
            let mut lines = Lines::default();
            let mut told = 0;
            for size in &sizes {
                for part in lines.push("a", &vec![b'x'; *size].into()) {
                    prop_assert_eq!(part.len(), LONGEST);
                    told += part.len();
                }
            }
            let last = lines.finish("a").map_or(0, |last| last.len());
            prop_assert!(last <= LONGEST);
            prop_assert_eq!(told + last, sizes.iter().sum::<usize>());
        }
    }
}
