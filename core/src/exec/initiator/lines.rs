//! Pieces of output put together to lines.

use std::collections::BTreeMap;

use memchr::memchr;

/// A line without an end is told in parts of so many bytes.
const LONGEST: usize = 16 << 10;

/// Puts what nodes wrote together to lines: pieces are cut wherever they happen to be full.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// What has come of each node's last line. Never a whole line, and at most [`LONGEST`] bytes.
    begun: BTreeMap<String, Vec<u8>>,
}

impl Lines {
    /// Takes a piece, and has `each` take the lines that it completes, without their newlines. Nothing is copied but what
    /// lies in more than one piece: lines may come by the million.
    pub fn push(&mut self, node: &str, output: &[u8], mut each: impl FnMut(&[u8])) {
        let mut rest = output;
        let mut begun = self.begun.remove(node).unwrap_or_default();
        loop {
            let room = LONGEST - begun.len();
            let (taken, skipped) = match memchr(b'\n', &rest[..rest.len().min(room + 1)]) {
                Some(at) => (at, 1),
                None if rest.len() > room => (room, 0),
                None => break,
            };
            let (part, more) = rest.split_at(taken);
            rest = &more[skipped..];
            if begun.is_empty() {
                each(part);
            } else {
                begun.extend_from_slice(part);
                each(&begun);
                begun.clear();
            }
        }
        begun.extend_from_slice(rest);
        if !begun.is_empty() {
            self.begun.insert(node.to_owned(), begun);
        }
    }

    /// The last line of a node, if it has begun one: nothing more comes, or not for a while.
    pub fn finish(&mut self, node: &str) -> Option<Vec<u8>> {
        self.begun.remove(node)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn push_of(lines: &mut Lines, node: &str, text: &[u8]) -> Vec<String> {
        let mut told = Vec::new();
        lines.push(node, text, |line| told.push(String::from_utf8(line.to_vec()).unwrap()));
        told
    }

    fn push(lines: &mut Lines, text: &str) -> Vec<String> {
        push_of(lines, "a", text.as_bytes())
    }

    #[test]
    fn lines_are_put_together() {
        let mut lines = Lines::default();
        assert_eq!(push(&mut lines, "one\ntw"), ["one"]);
        assert_eq!(push_of(&mut lines, "b", b"x\n"), ["x"]);
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
            let (mut rest, mut told) = (&*text, Vec::new());
            for cut in cuts {
                let (piece, more) = rest.split_at(cut.min(rest.len()));
                rest = more;
                told.extend(push(&mut lines, piece));
            }
            told.extend(push(&mut lines, rest));
            let last = lines.finish("a");
            let mut again = told.iter().map(|line| format!("{line}\n")).collect::<String>();
            again.push_str(&last.map(|line| String::from_utf8_lossy(&line).into_owned()).unwrap_or_default());
            prop_assert_eq!(again, text);
        }

        #[test]
        fn a_line_without_end_comes_in_parts(sizes in prop::collection::vec(1usize..9000, 1..12)) {
            let mut lines = Lines::default();
            let mut told = 0;
            for size in &sizes {
                for part in push(&mut lines, &"x".repeat(*size)) {
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
