//! JSON as Go's decoder reads it: the first value counts, whatever comes after it; what is no UTF-8 is replaced; and what
//! is wrong is said in Go's words, which clients show to people.

use serde_json::{Map, Number, Value};

/// How deep values may be nested: far deeper than any request is, and not so deep that the stack could end.
const DEPTH: usize = 128;

/// Reads the first value of `text`.
///
/// # Errors
/// If there is none: a sentence without a full stop; that of nothing at all is `EOF`.
pub fn value(text: &[u8]) -> Result<Value, String> {
    let mut reader = Reader { text, at: 0 };
    if reader.peek().is_none() {
        return Err("EOF".to_owned());
    }
    reader.value(0)
}

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
}

impl Reader<'_> {
    /// The next byte that is not blank; it stays where it is.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.here() {
            self.at += 1;
        }
        self.here()
    }

    fn here(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// What is to be said of the byte that is next, or of its not being there.
    fn unexpected(&self, context: &str) -> String {
        match self.here() {
            Some(byte) => format!("invalid character {} {context}", quoted(byte)),
            None => "unexpected EOF".to_owned(),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > DEPTH {
            return Err("exceeded max depth".to_owned());
        }
        match self.peek() {
            Some(b'{') => self.object(depth).map(Value::Object),
            Some(b'[') => self.array(depth).map(Value::Array),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true", Value::Bool(true)),
            Some(b'f') => self.literal("false", Value::Bool(false)),
            Some(b'n') => self.literal("null", Value::Null),
            _ => Err(self.unexpected("looking for beginning of value")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Map<String, Value>, String> {
        let mut map = Map::new();
        self.at += 1;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(map);
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("looking for beginning of object key string"));
            }
            let key = self.string()?;
            if self.peek() != Some(b':') {
                return Err(self.unexpected("after object key"));
            }
            self.at += 1;
            map.insert(key, self.value(depth + 1)?);
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.unexpected("after object key:value pair")),
            }
        }
        self.at += 1;
        Ok(map)
    }

    fn array(&mut self, depth: usize) -> Result<Vec<Value>, String> {
        let mut values = Vec::new();
        self.at += 1;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(values);
        }
        loop {
            values.push(self.value(depth + 1)?);
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.unexpected("after array element")),
            }
        }
        self.at += 1;
        Ok(values)
    }

    fn literal(&mut self, word: &'static str, value: Value) -> Result<Value, String> {
        for expected in word.bytes() {
            if self.here() != Some(expected) {
                let context = format!("in literal {word} (expecting {})", quoted(expected));
                return Err(self.unexpected(&context));
            }
            self.at += 1;
        }
        Ok(value)
    }

    fn number(&mut self) -> Result<Value, String> {
        let start = self.at;
        if self.here() == Some(b'-') {
            self.at += 1;
        }
        // No digit may follow a leading zero: it ends the number.
        if self.here() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.here() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if let Some(b'e' | b'E') = self.here() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.here() {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        // All of it is ASCII.
        let text = std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default();
        let whole = text.parse::<i64>().ok().map(Number::from).or_else(|| text.parse::<u64>().ok().map(Number::from));
        let number = whole.or_else(|| text.parse().ok().and_then(Number::from_f64));
        number
            .map(Value::Number)
            .ok_or_else(|| format!("json: cannot unmarshal number {text} into Go value of type float64"))
    }

    /// One digit or more.
    fn digits(&mut self, context: &str) -> Result<(), String> {
        if !self.here().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.unexpected(context));
        }
        while self.here().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<String, String> {
        let mut text = String::new();
        self.at += 1;
        loop {
            let start = self.at;
            while self.here().is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)) {
                self.at += 1;
            }
            push_bytes(&mut text, &self.text[start..self.at]);
            match self.here() {
                Some(b'"') => break,
                Some(b'\\') => self.escape(&mut text)?,
                _ => return Err(self.unexpected("in string literal")),
            }
        }
        self.at += 1;
        Ok(text)
    }

    /// What a backslash begins.
    fn escape(&mut self, text: &mut String) -> Result<(), String> {
        self.at += 1;
        let plain = match self.here() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                let unit = self.unit()?;
                return self.surrogates(unit, text);
            }
            _ => return Err(self.unexpected("in string escape code")),
        };
        self.at += 1;
        text.push(plain);
        Ok(())
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Result<u16, String> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.here().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else { return Err(self.unexpected("in \\u hexadecimal character escape")) };
            unit = unit << 4 | digit as u16;
            self.at += 1;
        }
        Ok(unit)
    }

    /// A character of which `unit` is the first half or all; half a character is replaced.
    fn surrogates(&mut self, unit: u16, text: &mut String) -> Result<(), String> {
        let rest = self.at;
        if (0xd800..0xdc00).contains(&unit) && self.text[rest..].starts_with(b"\\u") {
            self.at += 2;
            let low = self.unit()?;
            if let Some(Ok(whole)) = char::decode_utf16([unit, low]).next() {
                text.push(whole);
                return Ok(());
            }
            // The second one stands for itself.
            self.at = rest;
        }
        text.push(char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER));
        Ok(())
    }
}

/// Appends bytes as text: each that is no UTF-8 is replaced.
fn push_bytes(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
}

/// A byte as Go shows a character.
fn quoted(byte: u8) -> String {
    let shown = match byte {
        b'\'' => "\\'".to_owned(),
        b'\\' => "\\\\".to_owned(),
        0x07 => "\\a".to_owned(),
        0x08 => "\\b".to_owned(),
        0x0b => "\\v".to_owned(),
        0x0c => "\\f".to_owned(),
        b'\n' => "\\n".to_owned(),
        b'\r' => "\\r".to_owned(),
        b'\t' => "\\t".to_owned(),
        0..0x20 | 0x7f => format!("\\x{byte:02x}"),
        0x80..=0xa0 | 0xad => format!("\\u{byte:04x}"),
        _ => char::from(byte).to_string(),
    };
    format!("'{shown}'")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Value, String> {
        value(text.as_bytes())
    }

    #[test]
    fn the_first_value_counts() {
        let cases = [
            (" {} x", json!({})),
            ("null", Value::Null),
            ("[1, -2.5, 1e3, 18446744073709551615]{", json!([1, -2.5, 1000.0, u64::MAX])),
            ("01", json!(0)),
            ("\t\"a\\u00e9\\/\\n\\ud83d\\ude00\"\"b\"", json!("a\u{e9}/\n\u{1f600}")),
            ("{\"a\":{\"b\":[true,false]},\"a\":2}", json!({"a": 2})),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_go() {
        let cases = [
            ("", "EOF"),
            (" \n", "EOF"),
            ("{", "unexpected EOF"),
            ("{\"a\":", "unexpected EOF"),
            ("\"a", "unexpected EOF"),
            ("tru", "unexpected EOF"),
            ("-", "unexpected EOF"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("nonsense", "invalid character 'o' in literal null (expecting 'u')"),
            ("{'a':1}", "invalid character '\\'' looking for beginning of object key string"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[-x]", "invalid character 'x' in numeric literal"),
            ("[1.e]", "invalid character 'e' after decimal point in numeric literal"),
            ("[1ex]", "invalid character 'x' in exponent of numeric literal"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            ("\"\\u12g4\"", "invalid character 'g' in \\u hexadecimal character escape"),
            ("1e999", "json: cannot unmarshal number 1e999 into Go value of type float64"),
            ("\u{1}", "invalid character '\\x01' looking for beginning of value"),
        ];
        for (text, why) in cases {
            assert_eq!(read(text), Err(why.to_owned()), "{text}");
        }
    }

    #[test]
    fn broken_characters_are_replaced() {
        assert_eq!(value(b"\"a\xff\xc3b\""), Ok(json!("a\u{fffd}\u{fffd}b")));
        assert_eq!(read("\"\\ud83dx\""), Ok(json!("\u{fffd}x")));
        assert_eq!(read("\"\\ud83d\\u0041\\ude00\""), Ok(json!("\u{fffd}A\u{fffd}")));
    }

    #[test]
    fn nesting_has_an_end() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(read(&nested(DEPTH)).is_ok());
        assert_eq!(read(&nested(100_000)), Err("exceeded max depth".to_owned()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = value(&bytes);
        }

        #[test]
        fn what_others_write_is_read(text in ".{0,20}", number: i64, float in -1e9..1e9f64, flag: bool) {
            let written = json!({ "text": [number, float], text: "\u{1}\u{fffd}", "flag": [flag, {}] });
            prop_assert_eq!(value(written.to_string().as_bytes()), Ok(written.clone()));
            prop_assert_eq!(value(&serde_json::to_vec_pretty(&written).unwrap()), Ok(written));
        }

        #[test]
        fn it_takes_what_others_take(text in "[\\[\\]{}:,\"0-9eE.+\\-a\\\\ untrlfs]{0,12}") {
            let other = serde_json::from_str::<Value>(&text);
            if other.is_ok() {
                prop_assert!(read(&text).is_ok(), "{}", text);
            }
        }
    }
}
