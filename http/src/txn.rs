//! `/v1/txn`: several operations on keys at once.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use lictor_core::api::txn::{Fault, Op, Outcome, Request, Told, Verb};
use lictor_core::id::Index;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use warp::http::{Method, StatusCode};

use crate::ask::{Ask, Asked, Form, Shape};
use crate::decode::{self, Fields};
use crate::kv::Shown;
use crate::params::Params;
use crate::parse;
use crate::reply::{self, HttpResponse, Layout, Refusal};

/// What a request asks for.
pub(crate) fn ask<'f>(form: Form<'f>) -> Result<Asked<'f>, Refusal> {
    form.only(&Method::PUT, "PUT")?;
    let params = form.params;
    Ok(Asked::Transaction(Box::new(move |body| request(body, params))))
}

fn request(body: &Bytes, params: &Params<'_>) -> Result<Ask, Refusal> {
    let ops = parse::value(body).and_then(|value| ops(&value));
    let ops = ops.map_err(|why| Refusal::bad_request(format!("Failed to parse body: {why}")))?;
    let mut request = Request { ops, read: Default::default() };
    if request.is_read_only() {
        request.read = params.read_at_once()?;
    }
    Ok(Ask::new(request, Shape::Json, params))
}

/// The operations in a body. Consul looks at all values before anything else.
fn ops(body: &Value) -> Result<Vec<Op>, String> {
    let Value::Array(raw) = body else { return Err(format!("unexpected raw type: {}", as_flag(body))) };
    let values = raw.iter().map(value_of).collect::<Result<Vec<Bytes>, String>>()?;
    let ops = decode::objects(body, |fields| fields.object("KV", op))?;
    // Whatever is no operation on a key is left out.
    Ok(ops.into_iter().zip(values).filter_map(|(op, value)| op.map(|op| Op { value, ..op })).collect())
}

fn op(fields: &Fields<'_>) -> Op {
    Op {
        verb: Verb::named(&fields.text_of("api.KVOp", "Verb")),
        key: fields.text("Key").into(),
        value: Bytes::new(),
        flags: fields.unsigned("Flags"),
        index: Index(fields.unsigned("Index")),
        session: fields.text("Session"),
    }
}

/// What an operation of a transaction stores; nothing if it does not say.
fn value_of(op: &Value) -> Result<Bytes, String> {
    let kv = match op {
        Value::Null => return Err("unexpected raw op type: <nil>".to_owned()),
        Value::Object(op) => field(op, "kv"),
        other => return Err(format!("unexpected raw op type: {}", decode::go_type(other))),
    };
    let value = match kv {
        None | Some(Value::Null) => None,
        Some(Value::Object(kv)) => field(kv, "value"),
        Some(other) => return Err(format!("unexpected raw KV type: {}", decode::go_type(other))),
    };
    match value {
        None | Some(Value::Null) => Ok(Bytes::new()),
        Some(Value::String(text)) => {
            decoded(text).map_err(|at| format!("failed to decode value: illegal base64 data at input byte {at}"))
        }
        Some(other) => Err(format!("unexpected value type: {}", decode::go_type(other))),
    }
}

fn field<'m>(map: &'m Map<String, Value>, name: &str) -> Option<&'m Value> {
    map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// As Go's: padding is needed, what its last bits say is not looked at.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// What a text stands for; line breaks in it say nothing. The error is the place at which Go finds fault with it.
fn decoded(text: &str) -> Result<Bytes, usize> {
    let is_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let decoded = if text.bytes().any(|byte| is_break(&byte)) {
        BASE64.decode(text.bytes().filter(|byte| !is_break(byte)).collect::<Vec<u8>>())
    } else {
        BASE64.decode(text)
    };
    decoded.map(Bytes::from).map_err(|_| fault(text.as_bytes()))
}

/// Where a text ceases to be base64.
fn fault(text: &[u8]) -> usize {
    let mut signs = text.iter().enumerate().filter(|(_, byte)| !matches!(byte, b'\r' | b'\n'));
    // How many signs of a group of four came before.
    let mut before = 0;
    while let Some((at, sign)) = signs.next() {
        match sign {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => before = (before + 1) % 4,
            b'=' if before >= 2 => {
                if before == 2 {
                    match signs.next() {
                        None => return text.len(),
                        Some((_, b'=')) => {}
                        Some(_) => return at,
                    }
                }
                return signs.next().map_or(text.len(), |(at, _)| at);
            }
            _ => return at,
        }
    }
    text.len() - before
}

/// What Go makes of a value that it is told to show as a yes or no, as Consul tells it.
fn as_flag(value: &Value) -> String {
    match value {
        Value::Null => "%!t(<nil>)".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::String(text) => format!("%!t(string={text})"),
        Value::Number(number) => format!("%!t(float64={number})"),
        Value::Array(values) => format!("[{}]", values.iter().map(as_flag).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs = map.iter().map(|(key, value)| format!("%!t(string={key}):{}", as_flag(value)));
            format!("map[{}]", pairs.collect::<Vec<_>>().join(" "))
        }
    }
}

/// The answer: a conflict if it did not take place.
pub(crate) fn outcome(outcome: &Outcome, layout: Layout) -> HttpResponse {
    let failed = !outcome.faults.is_empty();
    let shown = ShownOutcome {
        results: (!failed).then_some(&outcome.results),
        errors: failed.then(|| outcome.faults.iter().map(ShownFault::from).collect()),
        meta: outcome.read.as_ref().map(reply::ShownMeta::from),
    };
    let mut response = reply::json(&shown, layout);
    if failed {
        *response.status_mut() = StatusCode::CONFLICT;
    }
    if let Some(meta) = &outcome.read {
        reply::set_contact(&mut response, meta);
    }
    response
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownOutcome<'o> {
    #[serde(serialize_with = "results")]
    results: Option<&'o Vec<Told>>,
    errors: Option<Vec<ShownFault<'o>>>,
    #[serde(flatten)]
    meta: Option<reply::ShownMeta>,
}

fn results<S: Serializer>(told: &Option<&Vec<Told>>, serializer: S) -> Result<S::Ok, S::Error> {
    match told {
        None => serializer.serialize_none(),
        Some(told) => serializer.collect_seq(told.iter().map(|told| ShownResult { entry: Shown::new(&told.entry) })),
    }
}

#[derive(Serialize)]
struct ShownResult<'o> {
    #[serde(rename = "KV")]
    entry: Shown<'o>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownFault<'o> {
    op_index: usize,
    what: &'o str,
}

impl<'o> From<&'o Fault> for ShownFault<'o> {
    fn from(fault: &'o Fault) -> Self {
        Self { op_index: fault.op, what: &fault.what }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn base64_fails_where_go_says() {
        let cases = [
            ("not base64!", 3),
            ("A", 0),
            ("AB", 0),
            ("ABC", 0),
            ("ABCDE", 4),
            ("=", 0),
            ("A=", 1),
            ("AB=", 3),
            ("AB=C", 2),
            ("AB==C", 4),
            ("ABC=D", 4),
            ("ABC==", 4),
            ("AB-_", 2),
            ("\u{e4}", 0),
        ];
        for (text, at) in cases {
            assert_eq!(decoded(text), Err(at), "{text}");
        }
        for (text, value) in
            [("", &b""[..]), ("dg==", b"v"), ("d\r\ng=\n=", b"v"), ("dh==", b"v"), ("//79", b"\xff\xfe\xfd")]
        {
            assert_eq!(decoded(text), Ok(Bytes::from_static(value)), "{text}");
        }
    }

    #[test]
    fn what_is_no_transaction_is_told_in_the_words_of_consul() {
        let cases = [
            (json!({}), "unexpected raw type: map[]"),
            (json!({"a": [1, null]}), "unexpected raw type: map[%!t(string=a):[%!t(float64=1) %!t(<nil>)]]"),
            (json!("x"), "unexpected raw type: %!t(string=x)"),
            (json!(null), "unexpected raw type: %!t(<nil>)"),
            (json!([5]), "unexpected raw op type: float64"),
            (json!([null]), "unexpected raw op type: <nil>"),
            (json!([{"KV": []}]), "unexpected raw KV type: []interface {}"),
            (json!([{"kv": {"VALUE": {}}}]), "unexpected value type: map[string]interface {}"),
            (json!([{"KV": {"Value": "!"}}]), "failed to decode value: illegal base64 data at input byte 0"),
            (
                json!([{"KV": {"Key": "a"}}, {"KV": {"Key": 5, "Index": -1, "Flags": "x"}}]),
                "3 error(s) decoding:\n\n* '[1].KV.Flags' expected type 'uint64', got unconvertible type 'string'\n\
                 * '[1].KV.Key' expected type 'string', got unconvertible type 'float64'\n\
                 * cannot parse '[1].KV.Index', -1.000000 overflows uint",
            ),
        ];
        for (body, why) in cases {
            assert_eq!(ops(&body), Err(why.to_owned()), "{body}");
        }
    }

    #[test]
    fn operations_are_read_and_what_is_none_is_left_out() {
        let body = json!([{}, {"KV": null}, {"kv": {"verb": "cas", "KEY": "k", "Value": "dg==", "Flags": u64::MAX,
            "index": 7, "Session": "s", "Bogus": 1}}, {"KV": {"Verb": "bogus"}}]);
        let cas = Op {
            verb: Verb::Cas,
            key: "k".into(),
            value: "v".into(),
            flags: u64::MAX,
            index: Index(7),
            session: "s".into(),
        };
        let bogus = Op {
            verb: Verb::Unknown("bogus".into()),
            key: Bytes::new(),
            value: Bytes::new(),
            flags: 0,
            index: Index(0),
            session: String::new(),
        };
        assert_eq!(ops(&body), Ok(vec![cas, bogus]));
    }

    proptest! {
        #[test]
        fn every_value_comes_through(value: Vec<u8>) {
            prop_assert_eq!(decoded(&BASE64.encode(&value)), Ok(Bytes::from(value)));
        }

        #[test]
        fn a_fault_lies_within_the_text(text in "[A-D=\\r\\n!]{0,9}") {
            if let Err(at) = decoded(&text) {
                prop_assert!(at <= text.len());
            }
        }
    }
}
