//! Query strings: what every endpoint takes from them, and how each piece may be wrong.

use std::borrow::Cow;
use std::time::Duration;

use lictor_core::api::{Call, Consistency, ReadOptions, Request};
use lictor_core::id::Index;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use warp::http::StatusCode;

use crate::path::hex;
use crate::reply::{Layout, Refusal};
use lictor_core::duration;

/// Name and value.
type Pair<'q> = (Cow<'q, [u8]>, Cow<'q, [u8]>);

/// The parameters of a query string, decoded, in their order. Of a parameter that occurs twice the first
/// counts. A pair with a malformed escape is left out, as Go leaves it out.
#[derive(Debug, Default)]
pub(crate) struct Params<'q> {
    pairs: Vec<Pair<'q>>,
}

impl<'q> Params<'q> {
    pub(crate) fn parse(query: &'q str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        });
        Self { pairs: pairs.collect() }
    }

    /// Whether the parameter is there, with whatever value: `?pretty=false` is pretty.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// The value of a parameter, if it is there.
    pub(crate) fn first(&self, name: &str) -> Option<&[u8]> {
        self.pairs.iter().find(|(n, _)| **n == *name.as_bytes()).map(|(_, value)| &**value)
    }

    /// All values of a parameter.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.pairs.iter().filter(move |(n, _)| **n == *name.as_bytes()).map(|(_, value)| &**value)
    }

    /// The value of a parameter as text, if it is there and not empty.
    pub(crate) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.first(name).filter(|value| !value.is_empty()).map(String::from_utf8_lossy)
    }

    /// A number that may be left out but, if given, must be one.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        self.first(name).map(parse_number).transpose()
    }

    /// At most one of `names` may be there.
    pub(crate) fn exclusive(&self, names: &[&str]) -> Result<(), Refusal> {
        if names.iter().filter(|name| self.has(name)).count() < 2 {
            return Ok(());
        }
        Err(Refusal::new(StatusCode::BAD_REQUEST, format!("Conflicting flags: {}", self.encode())))
    }

    /// How a successful answer is to be laid out, a raw value apart.
    pub(crate) fn layout(&self) -> Layout {
        Layout { pretty: self.has("pretty"), raw: false }
    }

    /// What belongs to every read: consistency, `index` and `wait`, refused in the order of Consul.
    pub(crate) fn read_options(&self) -> Result<ReadOptions, Refusal> {
        if self.pairs.is_empty() {
            return Ok(ReadOptions::default());
        }
        Ok(ReadOptions { consistency: self.consistency()?, wait: self.wait()?, index: self.index()? })
    }

    /// The same for a read that never blocks.
    pub(crate) fn read_at_once(&self) -> Result<ReadOptions, Refusal> {
        self.read_options().map(|read| ReadOptions { consistency: read.consistency, ..ReadOptions::default() })
    }

    /// How long to wait for news of what: `wait` and `index` alone, where consistency means nothing.
    pub(crate) fn waiting(&self) -> Result<(Option<Duration>, Index), Refusal> {
        Ok((self.wait()?, self.index()?))
    }

    /// The datacenter that is meant; `None` for the agent's own.
    pub(crate) fn datacenter(&self) -> Option<String> {
        self.text("dc").map(Cow::into_owned)
    }

    /// On whose behalf: a token in the query goes before one in the header.
    pub(crate) fn token<'t>(&'t self, header: Option<&'t str>) -> Option<Cow<'t, str>> {
        self.text("token").or(header.filter(|token| !token.is_empty()).map(Cow::Borrowed))
    }

    /// The call for `request`, to the datacenter and with the token that the parameters name.
    pub(crate) fn call(&self, request: impl Into<Request>, header_token: Option<&str>) -> Call {
        Call {
            datacenter: self.datacenter(),
            token: self.token(header_token).map(Cow::into_owned),
            request: request.into(),
        }
    }

    fn consistency(&self) -> Result<Consistency, Refusal> {
        match (self.has("stale"), self.has("consistent")) {
            (false, false) => Ok(Consistency::Default),
            (true, false) => Ok(Consistency::Stale),
            (false, true) => Ok(Consistency::Consistent),
            (true, true) => Err(Refusal::bad_request("Cannot specify ?stale with ?consistent, conflicting semantics.")),
        }
    }

    fn wait(&self) -> Result<Option<Duration>, Refusal> {
        let Some(text) = self.text("wait") else { return Ok(None) };
        duration::parse_positive(&text).ok_or_else(|| Refusal::bad_request("Invalid wait time"))
    }

    fn index(&self) -> Result<Index, Refusal> {
        let Some(text) = self.first("index").filter(|text| !text.is_empty()) else { return Ok(Index(0)) };
        digits(text).ok().map(Index).ok_or_else(|| Refusal::bad_request("Invalid index"))
    }

    /// The parameters as a query string, sorted by name.
    fn encode(&self) -> String {
        let mut sorted: Vec<_> = self.pairs.iter().collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        let encoded = sorted.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value)));
        encoded.collect::<Vec<_>>().join("&")
    }
}

/// Why a text is no unsigned number of 64 bits.
enum NotANumber {
    Syntax,
    Range,
}

/// Reads decimal digits and nothing else: no sign, no blanks.
fn digits(text: &[u8]) -> Result<u64, NotANumber> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(NotANumber::Syntax);
    }
    text.iter()
        .try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
        .ok_or(NotANumber::Range)
}

/// A number or the refusal that Consul passes on from Go's number parser, as an internal error.
fn parse_number(text: &[u8]) -> Result<u64, Refusal> {
    digits(text).map_err(|why| {
        let why = match why {
            NotANumber::Syntax => "invalid syntax",
            NotANumber::Range => "value out of range",
        };
        let text = String::from_utf8_lossy(text);
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("strconv.ParseUint: parsing {text:?}: {why}"))
    })
}

/// Undoes form-encoding: a plus is a blank here. `None` if an escape is malformed.
fn decode(text: &str) -> Option<Cow<'_, [u8]>> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|b| matches!(b, b'%' | b'+')) {
        return Some(Cow::Borrowed(bytes));
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        rest = match rest {
            [] => return Some(Cow::Owned(decoded)),
            [b'%', high, low, tail @ ..] => {
                decoded.push(hex(*high)? << 4 | hex(*low)?);
                tail
            }
            [b'%', ..] => return None,
            [byte, tail @ ..] => {
                decoded.push(if *byte == b'+' { b' ' } else { *byte });
                tail
            }
        };
    }
}

/// Form-encodes one name or value.
fn escape(text: &[u8]) -> String {
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b' ');
    percent_encode(text, ESCAPED).to_string().replace(' ', "+")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal<T: std::fmt::Debug>(result: Result<T, Refusal>) -> (u16, String) {
        let refusal = result.unwrap_err();
        (refusal.status.as_u16(), refusal.text.into_owned())
    }

    #[test]
    fn names_and_values_are_form_decoded() {
        let params = Params::parse("a=1+2%2B3&pretty&x%3Dy=%26&a=later&bad=%zz&=nameless&");
        assert_eq!(params.first("a"), Some(&b"1 2+3"[..]));
        assert_eq!(params.first("x=y"), Some(&b"&"[..]));
        assert_eq!(params.first("pretty"), Some(&b""[..]));
        assert_eq!(params.first(""), Some(&b"nameless"[..]));
        assert!(!params.has("bad") && !params.has("b"));
    }

    #[test]
    fn presence_counts_for_modes() {
        let mode = |query: &str| Params::parse(query).read_options().unwrap().consistency;
        assert_eq!(mode(""), Consistency::Default);
        assert_eq!(mode("stale=false"), Consistency::Stale);
        assert_eq!(mode("consistent"), Consistency::Consistent);
        let both = refusal(Params::parse("stale&consistent").read_options());
        assert_eq!(both, (400, "Cannot specify ?stale with ?consistent, conflicting semantics.".into()));
    }

    #[test]
    fn index_is_an_unsigned_number_of_64_bits() {
        let read = |query: &str| Params::parse(query).read_options();
        assert_eq!(read("index=18446744073709551615").unwrap().index, Index(u64::MAX));
        assert_eq!(read("index=").unwrap().index, Index(0));
        for wrong in ["abc", "-1", "1.5", "18446744073709551616", "%2B1", "1_0", "\u{661}"] {
            assert_eq!(refusal(read(&format!("index={wrong}"))), (400, "Invalid index".into()), "{wrong}");
        }
    }

    #[test]
    fn wait_is_a_duration() {
        let read = |query: &str| Params::parse(query).read_options();
        assert_eq!(read("wait=1m30s").unwrap().wait, Some(Duration::from_secs(90)));
        assert_eq!(read("wait=").unwrap().wait, None);
        assert_eq!(read("wait=-5s").unwrap().wait, None);
        for wrong in ["abc", "10", "10+s", "%FFs"] {
            assert_eq!(refusal(read(&format!("wait={wrong}"))), (400, "Invalid wait time".into()), "{wrong}");
        }
    }

    #[test]
    fn numbers_fail_with_the_words_of_go() {
        let number = |query: &str| Params::parse(query).number("flags");
        assert_eq!(number("flags=42").unwrap(), Some(42));
        assert_eq!(number("").unwrap(), None);
        let cases = [
            ("", "parsing \"\": invalid syntax"),
            ("-1", "parsing \"-1\": invalid syntax"),
            ("0x10", "parsing \"0x10\": invalid syntax"),
            ("18446744073709551616", "parsing \"18446744073709551616\": value out of range"),
        ];
        for (text, why) in cases {
            let query = format!("flags={text}");
            assert_eq!(refusal(number(&query)), (500, format!("strconv.ParseUint: {why}")), "{text}");
        }
    }

    #[test]
    fn exclusive_parameters_are_named_in_order() {
        let params = Params::parse("release=b&cas=0&pretty&acquire=a%20b");
        assert_eq!(params.exclusive(&["cas", "recurse"]), Ok(()));
        let (status, text) = refusal(params.exclusive(&["cas", "acquire", "release"]));
        assert_eq!((status, &*text), (400, "Conflicting flags: acquire=a+b&cas=0&pretty=&release=b"));
    }

    #[test]
    fn the_token_of_the_query_goes_before_the_header_s() {
        let token = |query: &str, header: &str| {
            Params::parse(query).call(lictor_core::api::status::Request::Leader, Some(header)).token
        };
        assert_eq!(token("token=q", "h").as_deref(), Some("q"));
        assert_eq!(token("token=", "h").as_deref(), Some("h"));
        assert_eq!(token("", "").as_deref(), None);
    }

    proptest! {
        #[test]
        fn any_query_is_read_without_panic(query in ".{0,40}") {
            let params = Params::parse(&query);
            let _ = params.read_options();
            let _ = params.exclusive(&["a", "b"]);
        }

        #[test]
        fn every_number_of_64_bits_is_read(number: u64) {
            let query = format!("n={number}");
            prop_assert_eq!(Params::parse(&query).number("n"), Ok(Some(number)));
        }
    }
}
