//! JSON as Go lays it out: compact or with four blanks, and with `<`, `>`, `&`, U+2028 and U+2029 escaped
//! so that it can stand in a page.

use std::io;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// Writes `value` as JSON; `pretty` for people, with a final newline.
pub(crate) fn to_vec(value: &impl Serialize, pretty: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let written = if pretty {
        let inner = PrettyFormatter::with_indent(b"    ");
        let written = value.serialize(&mut Serializer::with_formatter(&mut out, Escaping { inner }));
        out.push(b'\n');
        written
    } else {
        value.serialize(&mut Serializer::with_formatter(&mut out, Escaping { inner: CompactFormatter }))
    };
    // Memory takes every write, and no answer has a map with keys that are no strings.
    written.expect("an answer can be written as JSON");
    out
}

/// Bytes, as text.
pub(crate) struct Base64<'b>(pub(crate) &'b [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

/// Another formatter with Go's escapes.
struct Escaping<F> {
    inner: F,
}

/// Passes the layout on to the inner formatter.
macro_rules! layout {
    ($($method:ident($($arg:ident: $type:ty),*);)*) => {
        $(fn $method<W: ?Sized + io::Write>(&mut self, writer: &mut W $(, $arg: $type)*) -> io::Result<()> {
            self.inner.$method(writer $(, $arg)*)
        })*
    };
}

impl<F: Formatter> Formatter for Escaping<F> {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let bytes = fragment.as_bytes();
        let mut start = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let escape = match byte {
                b'<' => "\\u003c",
                b'>' => "\\u003e",
                b'&' => "\\u0026",
                // U+2028 and U+2029 are E2 80 A8 and E2 80 A9.
                0xa8 if bytes[..at].ends_with(&[0xe2, 0x80]) => "\\u2028",
                0xa9 if bytes[..at].ends_with(&[0xe2, 0x80]) => "\\u2029",
                _ => continue,
            };
            let end = if escape.starts_with("\\u2") { at - 2 } else { at };
            writer.write_all(&bytes[start..end])?;
            writer.write_all(escape.as_bytes())?;
            start = at + 1;
        }
        writer.write_all(&bytes[start..])
    }

    fn write_char_escape<W: ?Sized + io::Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        self.inner.write_char_escape(writer, escape)
    }

    layout! {
        begin_array();
        end_array();
        begin_array_value(first: bool);
        end_array_value();
        begin_object();
        end_object();
        begin_object_key(first: bool);
        end_object_key();
        begin_object_value();
        end_object_value();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn text(value: &serde_json::Value, pretty: bool) -> String {
        String::from_utf8(to_vec(value, pretty)).unwrap()
    }

    #[test]
    fn compact_json_has_no_blanks_and_escapes_what_a_page_would_misread() {
        let value = json!(["<a href=\"x\">&\u{2028}\u{2029}\u{20ac}\n"]);
        assert_eq!(text(&value, false), "[\"\\u003ca href=\\\"x\\\"\\u003e\\u0026\\u2028\\u2029\u{20ac}\\n\"]");
    }

    #[test]
    fn pretty_json_is_indented_by_four_blanks() {
        assert_eq!(text(&json!({"a": [1, {}], "b": []}), true), {
            "{\n    \"a\": [\n        1,\n        {}\n    ],\n    \"b\": []\n}\n"
        });
        assert_eq!(text(&json!(true), true), "true\n");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(value in ".{0,40}", pretty: bool) {
            let value = json!({ "k": value });
            prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&to_vec(&value, pretty)).unwrap(), value);
        }
    }
}
