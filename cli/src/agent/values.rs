//! Values of configuration files: what must be of which kind, and what is said of one that is not.

use std::collections::BTreeMap;
use std::time::Duration;

use lictor_core::duration;
use serde_json::Value;

/// `null` says nothing, as with Consul.
fn said<T>(
    key: &str,
    value: &Value,
    expected: &str,
    read: impl FnOnce(&Value) -> Option<T>,
) -> Result<Option<T>, String> {
    if value.is_null() {
        return Ok(None);
    }
    read(value).map(Some).ok_or_else(|| wrong(key, expected, value))
}

/// The same of what Consul's own keys are of. A value of another kind is told of in Consul's words, which do not repeat it.
fn typed<T>(
    key: &str,
    value: &Value,
    expected: &str,
    kind: &str,
    read: impl FnOnce(&Value) -> Option<T>,
) -> Result<Option<T>, String> {
    let other = match value {
        Value::Null => "",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    said(key, value, expected, read).map_err(|told| match key.contains('.') {
        true => told,
        false => {
            format!("1 error(s) decoding:\n\n* '{key}' expected type '{kind}', got unconvertible type '{other}'")
        }
    })
}

pub(super) fn text(key: &str, value: &Value) -> Result<Option<String>, String> {
    typed(key, value, "a text", "string", |value| value.as_str().map(str::to_owned))
}

/// A text that is not told when something is wrong with it.
pub(super) fn secret(key: &str, value: &Value) -> Result<Option<String>, String> {
    text(key, value).map_err(|told| if key.contains('.') { format!("'{key}' must be a text") } else { told })
}

pub(super) fn truth(key: &str, value: &Value) -> Result<Option<bool>, String> {
    typed(key, value, "true or false", "bool", Value::as_bool)
}

pub(super) fn number<N: TryFrom<i64>>(key: &str, value: &Value) -> Result<Option<N>, String> {
    let range = "a whole number in its range";
    let read = |value: &Value| N::try_from(value.as_i64()?).ok();
    if value.is_number() { said(key, value, range, read) } else { typed(key, value, range, "int", read) }
}

pub(super) fn duration(key: &str, value: &Value) -> Result<Option<Duration>, String> {
    said(key, value, "a duration such as \"10s\"", |value| {
        duration::parse_positive(value.as_str()?).map(Option::unwrap_or_default)
    })
}

/// A list of texts; a single text stands for a list of one.
pub(super) fn texts(key: &str, value: &Value) -> Result<Vec<String>, String> {
    let read = |value: &Value| match value {
        Value::String(text) => Some(vec![text.clone()]),
        _ => value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
    };
    said(key, value, "a list of texts", read).map(Option::unwrap_or_default)
}

pub(super) fn texts_by_name(key: &str, value: &Value) -> Result<BTreeMap<String, String>, String> {
    let pair = |(name, text): (&String, &Value)| Some((name.clone(), text.as_str()?.to_owned()));
    let read = |value: &Value| value.as_object()?.iter().map(pair).collect();
    said(key, value, "an object of texts", read).map(Option::unwrap_or_default)
}

pub(super) fn wrong(key: &str, expected: &str, value: &Value) -> String {
    format!("'{key}' must be {expected}, not {value}")
}
