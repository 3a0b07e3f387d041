//! Paths as Go's request multiplexer treats them: decoded once, cleaned by a redirect.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// What stands in a path as it is; all else is escaped when a path is written.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// Undoes percent-encoding, once. `None` if an escape is malformed. A plus stays a plus.
pub(crate) fn decode(raw: &str) -> Option<Cow<'_, [u8]>> {
    let bytes = raw.as_bytes();
    let Some(first) = bytes.iter().position(|b| *b == b'%') else {
        return Some(Cow::Borrowed(bytes));
    };
    let mut decoded = Vec::with_capacity(bytes.len());
    decoded.extend_from_slice(&bytes[..first]);
    let mut rest = &bytes[first..];
    while let [byte, tail @ ..] = rest {
        if *byte != b'%' {
            decoded.push(*byte);
            rest = tail;
            continue;
        }
        let [high, low, tail @ ..] = tail else { return None };
        decoded.push(hex(*high)? << 4 | hex(*low)?);
        rest = tail;
    }
    Some(Cow::Owned(decoded))
}

/// Percent-encodes a decoded path.
#[must_use]
pub fn encode(path: &[u8]) -> String {
    percent_encode(path, ESCAPED).to_string()
}

/// The shortest path that means the same: no doubled slashes, no `.` and `..`, and a trailing slash if
/// there was one. `None` if `path` is clean already.
pub(crate) fn clean(path: &[u8]) -> Option<Vec<u8>> {
    if is_clean(path) {
        return None;
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in path.split(|b| *b == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    let mut cleaned = vec![b'/'];
    cleaned.extend_from_slice(&kept.join(&b'/'));
    // Only a slash at the very end survives: `/a/.` becomes `/a`.
    if path.ends_with(b"/") && cleaned.len() > 1 {
        cleaned.push(b'/');
    }
    Some(cleaned)
}

fn is_clean(path: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(b"/") else { return false };
    let mut segments = rest.split(|b| *b == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        if segment == b"." || segment == b".." || (segment.is_empty() && !last) {
            return false;
        }
    }
    true
}

pub(crate) fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|d| d as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cleaned(path: &str) -> String {
        clean(path.as_bytes()).map_or_else(|| path.to_owned(), |p| String::from_utf8(p).unwrap())
    }

    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        let cases = [
            ("/", "/"),
            ("", "/"),
            ("a", "/a"),
            ("//", "/"),
            ("/a/", "/a/"),
            ("/a//b", "/a/b"),
            ("/a/b//", "/a/b/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a"),
            ("/a/b/../", "/a/"),
            ("/a/.", "/a"),
            ("/a/./", "/a/"),
            ("/..", "/"),
            ("/../../a", "/a"),
            ("/a/...", "/a/..."),
            ("/.hidden/..a", "/.hidden/..a"),
        ];
        for (path, want) in cases {
            assert_eq!(cleaned(path), want, "{path}");
        }
    }

    #[test]
    fn escapes_are_undone_once() {
        assert_eq!(decode("/a%2Fb+c").as_deref(), Some(&b"/a/b+c"[..]));
        assert_eq!(decode("/%2525").as_deref(), Some(&b"/%25"[..]));
        assert_eq!(decode("/%e2%82%AC%ff").as_deref(), Some(&b"/\xe2\x82\xac\xff"[..]));
        assert_eq!(decode("/plain"), Some(Cow::Borrowed(&b"/plain"[..])));
        for malformed in ["/%", "/%2", "/%zz", "/%2g", "/ok%20then%"] {
            assert_eq!(decode(malformed), None, "{malformed}");
        }
    }

    proptest! {
        #[test]
        fn encoding_is_undone_by_decoding(path in proptest::collection::vec(any::<u8>(), 0..40)) {
            let encoded = encode(&path);
            prop_assert_eq!(decode(&encoded).unwrap(), Cow::<[u8]>::Owned(path));
        }

        #[test]
        fn a_cleaned_path_is_clean(path in "[/.a]{0,16}") {
            if let Some(cleaned) = clean(path.as_bytes()) {
                prop_assert_eq!(clean(&cleaned), None);
                prop_assert!(cleaned.starts_with(b"/"));
            }
        }
    }
}
