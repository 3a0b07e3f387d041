//! Bodies of requests, read as loosely as Consul reads them: names in any case and with underscores between their words,
//! unknown ones left alone, `null` as good as nothing; but every value of the right type. What is wrong is collected, and
//! told in Consul's words all at once.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use lictor_core::duration;

/// Reads an object with `read`. The error names everything that does not fit. `null` is an empty object.
pub(crate) fn object<T>(value: &Value, read: impl FnOnce(&Fields<'_>) -> T) -> Result<T, String> {
    let empty = Map::new();
    let map = match value {
        Value::Null => &empty,
        Value::Object(map) => map,
        other => return Err(format!("'' expected a map, got '{}'", kind(other))),
    };
    let faults = Faults::default();
    let read = read(&Fields { map, path: String::new(), faults: &faults });
    faults.verdict()?;
    Ok(read)
}

/// Reads a list of objects with `read`, as [`object`] does. `null` in it is an empty object.
pub(crate) fn objects<T>(value: &Value, read: impl Fn(&Fields<'_>) -> T) -> Result<Vec<T>, String> {
    let Value::Array(values) = value else {
        return Err(format!("'': source data must be an array or slice, got {}", kind(value)));
    };
    let (faults, empty) = (Faults::default(), Map::new());
    let mut all = Vec::with_capacity(values.len());
    for (at, value) in values.iter().enumerate() {
        let path = format!("[{at}]");
        match value {
            Value::Object(map) => all.push(read(&Fields { map, path, faults: &faults })),
            Value::Null => all.push(read(&Fields { map: &empty, path, faults: &faults })),
            other => faults.add(format!("'{path}' expected a map, got '{}'", kind(other))),
        }
    }
    faults.verdict()?;
    Ok(all)
}

/// What is wrong.
#[derive(Debug, Default)]
struct Faults {
    /// A duration that is none: Consul looks at them before everything else, and at nothing else then.
    first: RefCell<Option<String>>,
    others: RefCell<Vec<String>>,
}

impl Faults {
    fn add(&self, fault: String) {
        self.others.borrow_mut().push(fault);
    }

    fn verdict(self) -> Result<(), String> {
        if let Some(fault) = self.first.into_inner() {
            return Err(fault);
        }
        let mut faults = self.others.into_inner();
        if faults.is_empty() {
            return Ok(());
        }
        faults.sort();
        Err(format!("{} error(s) decoding:\n\n* {}", faults.len(), faults.join("\n* ")))
    }
}

/// The fields of an object.
pub(crate) struct Fields<'v> {
    map: &'v Map<String, Value>,
    /// The object's own name, with those of all around it; empty for the outermost.
    path: String,
    faults: &'v Faults,
}

impl Fields<'_> {
    /// Whether a field is there, and not `null`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// A text; empty if it is not there.
    pub(crate) fn text(&self, name: &str) -> String {
        self.text_of("string", name)
    }

    /// The ID of a check, which is a text of a type of its own.
    pub(crate) fn check_id(&self, name: &str) -> String {
        self.text_of("types.CheckID", name)
    }

    /// A text of a type of its own.
    pub(crate) fn text_of(&self, wanted: &str, name: &str) -> String {
        match self.value(name) {
            None => String::new(),
            Some(value) => self.as_text(value, wanted, &self.path_of(name)),
        }
    }

    /// A whole number, what follows its point cut off; 0 if it is not there.
    pub(crate) fn number(&self, name: &str) -> i64 {
        match self.value(name) {
            None => 0,
            Some(value) => whole(value).unwrap_or_else(|| {
                self.misfit(value, "int", &self.path_of(name));
                0
            }),
        }
    }

    /// A whole number that is not less than zero, what follows its point cut off; 0 if it is not there.
    pub(crate) fn unsigned(&self, name: &str) -> u64 {
        let Some(value) = self.value(name) else { return 0 };
        let path = self.path_of(name);
        match (value.as_u64(), value.as_f64()) {
            (Some(number), _) => number,
            (None, Some(float)) if float < 0.0 => {
                self.faults.add(format!("cannot parse '{path}', {float:.6} overflows uint"));
                0
            }
            (None, Some(float)) => float as u64,
            (None, None) => {
                self.misfit(value, "uint64", &path);
                0
            }
        }
    }

    /// Yes or no; no if it is not there.
    pub(crate) fn flag(&self, name: &str) -> bool {
        match self.value(name) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(value) => {
                self.misfit(value, "bool", &self.path_of(name));
                false
            }
        }
    }

    /// A duration in nanoseconds, which may be less than zero; 0 if it is not there.
    pub(crate) fn nanos(&self, name: &str) -> i64 {
        let nanos = match self.value(name) {
            None => Some(0),
            Some(Value::String(text)) => duration::parse_nanos(text).or_else(|| {
                self.faults.first.borrow_mut().get_or_insert_with(|| duration::why_not(text));
                None
            }),
            Some(value) => whole(value).or_else(|| {
                self.misfit(value, "time.Duration", &self.path_of(name));
                None
            }),
        };
        nanos.unwrap_or(0)
    }

    /// A list of texts; `None` if it is not there.
    pub(crate) fn texts(&self, name: &str) -> Option<Vec<String>> {
        let path = self.path_of(name);
        self.value(name).map(|value| self.as_texts(value, &path))
    }

    /// A list of checks' IDs; `None` if it is not there.
    pub(crate) fn check_ids(&self, name: &str) -> Option<Vec<String>> {
        let path = self.path_of(name);
        let elements = self.elements(self.value(name)?, &path).iter().enumerate();
        Some(elements.map(|(at, value)| self.as_text(value, "types.CheckID", &format!("{path}[{at}]"))).collect())
    }

    /// Texts by name; `None` if they are not there.
    pub(crate) fn pairs(&self, name: &str) -> Option<BTreeMap<String, String>> {
        self.entries(name, |value, path| self.as_text(value, "string", path))
    }

    /// Lists of texts by name.
    pub(crate) fn lists(&self, name: &str) -> BTreeMap<String, Vec<String>> {
        self.entries(name, |value, path| self.as_texts(value, path)).unwrap_or_default()
    }

    fn entries<T>(&self, name: &str, read: impl Fn(&Value, &str) -> T) -> Option<BTreeMap<String, T>> {
        let path = self.path_of(name);
        let value = self.value(name)?;
        let Value::Object(map) = value else {
            self.no_map(value, &path);
            return None;
        };
        Some(map.iter().map(|(key, value)| (key.clone(), read(value, &format!("{path}[{key}]")))).collect())
    }

    /// An object; `None` if it is not there.
    pub(crate) fn object<T>(&self, name: &str, read: impl FnOnce(&Fields<'_>) -> T) -> Option<T> {
        self.value(name).and_then(|value| self.as_object(value, self.path_of(name), read))
    }

    /// A list of objects, without those that are `null`.
    pub(crate) fn objects<T>(&self, name: &str, read: impl Fn(&Fields<'_>) -> T) -> Vec<T> {
        let path = self.path_of(name);
        let Some(value) = self.value(name) else { return Vec::new() };
        let elements = self.elements(value, &path).iter().enumerate().filter(|(_, value)| !value.is_null());
        elements.filter_map(|(at, value)| self.as_object(value, format!("{path}[{at}]"), &read)).collect()
    }

    /// The value of a field: of the one with this very name, else of one in another case, else of one with underscores.
    fn value(&self, name: &str) -> Option<&Value> {
        let in_any_case = || self.map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        let underscored = || self.map.iter().find(|(key, _)| key.replace('_', "").eq_ignore_ascii_case(name));
        let found = self.map.get(name);
        let found = found.or_else(|| in_any_case().map(|(_, value)| value));
        found.or_else(|| underscored().map(|(_, value)| value)).filter(|value| !value.is_null())
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn as_object<T>(&self, value: &Value, path: String, read: impl FnOnce(&Fields<'_>) -> T) -> Option<T> {
        let Value::Object(map) = value else {
            self.no_map(value, &path);
            return None;
        };
        Some(read(&Fields { map, path, faults: self.faults }))
    }

    fn as_text(&self, value: &Value, wanted: &str, path: &str) -> String {
        match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => {
                self.misfit(other, wanted, path);
                String::new()
            }
        }
    }

    fn as_texts(&self, value: &Value, path: &str) -> Vec<String> {
        let elements = self.elements(value, path).iter().enumerate();
        elements.map(|(at, value)| self.as_text(value, "string", &format!("{path}[{at}]"))).collect()
    }

    fn elements<'v>(&self, value: &'v Value, path: &str) -> &'v [Value] {
        match value {
            Value::Array(elements) => elements,
            other => {
                let kind = kind(other);
                self.faults.add(format!("'{path}': source data must be an array or slice, got {kind}"));
                &[]
            }
        }
    }

    fn misfit(&self, value: &Value, wanted: &str, path: &str) {
        let found = go_type(value);
        self.faults.add(format!("'{path}' expected type '{wanted}', got unconvertible type '{found}'"));
    }

    fn no_map(&self, value: &Value, path: &str) {
        self.faults.add(format!("'{path}' expected a map, got '{}'", kind(value)));
    }
}

/// A number without what follows its point.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().map(|float| float as i64))
}

/// What Go calls the type of a value.
pub(crate) fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        other => kind(other),
    }
}

/// What Go calls values of this kind.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fault<T: std::fmt::Debug>(value: &Value, read: impl FnOnce(&Fields<'_>) -> T) -> String {
        object(value, read).unwrap_err()
    }

    #[test]
    fn names_are_found_in_any_spelling_the_exact_one_first() {
        let found = |value: Value| object(&value, |fields| fields.text("ServiceID")).unwrap();
        assert_eq!(found(json!({"serviceid": "a", "ServiceID": "b"})), "b");
        assert_eq!(found(json!({"service_id": "c", "SERVICEID": "a"})), "a");
        assert_eq!(found(json!({"service_id": "c", "Service": "d"})), "c");
        assert_eq!(found(json!({"ServiceID": null})), "");
        assert_eq!(found(Value::Null), "");
    }

    #[test]
    fn values_have_their_types() {
        let value = json!({"N": 80.9, "B": true, "T": ["x", null], "P": {"a": "b", "c": null}, "S": "1m", "I": 1500, "M": "-5s",
            "L": {"h": ["v"]}, "O": {"N": -3}, "A": [{"N": 1}, null, {}]});
        object(&value, |fields| {
            assert_eq!((fields.number("N"), fields.number("Z")), (80, 0));
            assert!(fields.flag("B") && !fields.flag("Z"));
            assert_eq!(fields.texts("T"), Some(vec!["x".to_owned(), String::new()]));
            assert_eq!(fields.texts("Z"), None);
            assert_eq!(fields.pairs("P").unwrap()["c"], "");
            assert_eq!(fields.lists("L")["h"], ["v"]);
            assert_eq!((fields.nanos("S"), fields.nanos("I")), (60_000_000_000, 1500));
            assert_eq!((fields.nanos("M"), fields.nanos("Z")), (-5_000_000_000, 0));
            assert_eq!(fields.object("O", |inner| inner.number("N")), Some(-3));
            assert_eq!(fields.objects("A", |inner| inner.number("N")), [1, 0]);
            assert!(fields.has("B") && !fields.has("Z"));
        })
        .unwrap();
    }

    #[test]
    fn misfits_are_told_in_the_words_of_consul() {
        assert_eq!(fault(&json!([]), |_| ()), "'' expected a map, got 'slice'");
        assert_eq!(fault(&json!("x"), |_| ()), "'' expected a map, got 'string'");
        type Read = fn(&Fields<'_>);
        let cases: [(Value, Read, &str); 10] = [
            (json!(5), |f| _ = f.text("F"), "'F' expected type 'string', got unconvertible type 'float64'"),
            (json!([]), |f| _ = f.number("F"), "'F' expected type 'int', got unconvertible type '[]interface {}'"),
            (
                json!({}),
                |f| _ = f.flag("F"),
                "'F' expected type 'bool', got unconvertible type 'map[string]interface {}'",
            ),
            (json!(true), |f| _ = f.nanos("F"), "'F' expected type 'time.Duration', got unconvertible type 'bool'"),
            (json!(1), |f| _ = f.check_id("F"), "'F' expected type 'types.CheckID', got unconvertible type 'float64'"),
            (json!("x"), |f| _ = f.texts("F"), "'F': source data must be an array or slice, got string"),
            (json!([1]), |f| _ = f.texts("F"), "'F[0]' expected type 'string', got unconvertible type 'float64'"),
            (json!("x"), |f| _ = f.pairs("F"), "'F' expected a map, got 'string'"),
            (json!({"k": 1}), |f| _ = f.pairs("F"), "'F[k]' expected type 'string', got unconvertible type 'float64'"),
            (json!(["x"]), |f| _ = f.objects("F", |_| ()), "'F[0]' expected a map, got 'string'"),
        ];
        for (value, read, why) in cases {
            assert_eq!(fault(&json!({ "f": value }), read), format!("1 error(s) decoding:\n\n* {why}"));
        }
    }

    #[test]
    fn all_misfits_are_told_in_order_but_a_bad_duration_alone() {
        let value = json!({"B": 1, "O": {"A": 2}, "D": "abc"});
        let both = |fields: &Fields<'_>| (fields.object("O", |inner| inner.text("A")), fields.text("B"));
        assert_eq!(
            fault(&value, both),
            "2 error(s) decoding:\n\n* 'B' expected type 'string', got unconvertible type 'float64'\n\
             * 'O.A' expected type 'string', got unconvertible type 'float64'"
        );
        assert_eq!(fault(&value, |fields| (both(fields), fields.nanos("D"))), "time: invalid duration \"abc\"");
    }
}
