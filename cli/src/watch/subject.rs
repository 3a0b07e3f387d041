//! What can be watched: where it is asked for, and how it is shown.

use bytes::Bytes;
use lictor_core::api::event::index_of;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// The options that say what is meant.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) key: String,
    pub(super) name: String,
    pub(super) passing_only: String,
    pub(super) prefix: String,
    pub(super) service: String,
    pub(super) state: String,
    pub(super) tag: String,
}

/// What is watched.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Key(String),
    KeyPrefix(String),
    Services,
    Nodes,
    Service { name: String, tag: String, passing: bool },
    ChecksOf(String),
    ChecksIn(String),
    Event(String),
}

/// An entry of the key-value store, with its fields in the order in which watches show them.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    key: String,
    create_index: u64,
    modify_index: u64,
    lock_index: u64,
    flags: u64,
    value: Option<String>,
    #[serde(default)]
    session: String,
}

impl Subject {
    /// What the options mean. The error is a text for the user.
    pub(super) fn of(kind: &str, words: Words) -> Result<Self, String> {
        let Words { key, name, passing_only, prefix, service, state, tag } = words;
        let needed = |what: &str, text: String| match text.is_empty() {
            true => Err(format!("Must specify a single {what} to watch")),
            false => Ok(text),
        };
        match kind {
            "key" => needed("key", key).map(Self::Key),
            "keyprefix" => needed("prefix", prefix).map(Self::KeyPrefix),
            "services" => Ok(Self::Services),
            "nodes" => Ok(Self::Nodes),
            "service" => {
                let passing = match &*passing_only {
                    "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                    "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                    other => {
                        return Err(format!(
                            "Failed to parse passingonly: strconv.ParseBool: parsing {other:?}: invalid syntax"
                        ));
                    }
                };
                Ok(Self::Service { name: needed("service", service)?, tag, passing })
            }
            "checks" if !service.is_empty() && !state.is_empty() => Err("Cannot specify service and state".to_owned()),
            "checks" if !service.is_empty() => Ok(Self::ChecksOf(service)),
            "checks" if state.is_empty() => Ok(Self::ChecksIn("any".to_owned())),
            "checks" => Ok(Self::ChecksIn(state)),
            "event" => Ok(Self::Event(name)),
            other => Err(format!("Unsupported watch type: {other}")),
        }
    }

    /// Its name.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::KeyPrefix(_) => "keyprefix",
            Self::Services => "services",
            Self::Nodes => "nodes",
            Self::Service { .. } => "service",
            Self::ChecksOf(_) | Self::ChecksIn(_) => "checks",
            Self::Event(_) => "event",
        }
    }

    /// Whether it is events: their indexes have no order.
    pub(super) fn is_events(&self) -> bool {
        matches!(self, Self::Event(_))
    }

    /// Path and query.
    pub(super) fn target(&self) -> (String, Vec<(&str, &str)>) {
        match self {
            Self::Key(key) => (format!("kv/{key}"), vec![]),
            Self::KeyPrefix(prefix) => (format!("kv/{prefix}"), vec![("recurse", "")]),
            Self::Services => ("catalog/services".to_owned(), vec![]),
            Self::Nodes => ("catalog/nodes".to_owned(), vec![]),
            Self::Service { name, tag, passing } => {
                let tag = (!tag.is_empty()).then_some(("tag", &**tag));
                let passing = passing.then_some(("passing", "1"));
                (format!("health/service/{name}"), tag.into_iter().chain(passing).collect())
            }
            Self::ChecksOf(service) => (format!("health/checks/{service}"), vec![]),
            Self::ChecksIn(state) => (format!("health/state/{state}"), vec![]),
            Self::Event(name) => {
                let named = (!name.is_empty()).then_some(("name", &**name));
                ("event/list".to_owned(), named.into_iter().collect())
            }
        }
    }

    /// An answer as it is shown: JSON in one line. Of events only those that have come after the one with index `before`.
    pub(super) fn since(&self, before: u64, answer: &Option<Bytes>) -> Result<String, String> {
        let Some(body) = answer else { return Ok("null".to_owned()) };
        let unreadable = |error| format!("Error encoding output: unreadable answer: {error}");
        match self {
            Self::Key(_) => {
                let entries: Vec<Entry> = serde_json::from_slice(body).map_err(unreadable)?;
                serde_json::to_string(&entries.first()).map_err(unreadable)
            }
            Self::KeyPrefix(_) => {
                let entries: Vec<Entry> = serde_json::from_slice(body).map_err(unreadable)?;
                serde_json::to_string(&entries).map_err(unreadable)
            }
            Self::Event(_) => {
                let events: Vec<Value> = serde_json::from_slice(body).map_err(unreadable)?;
                let index = |event: &Value| event["ID"].as_str().and_then(|id| Uuid::try_parse(id).ok()).map(index_of);
                let after = events.iter().position(|event| index(event) == Some(before)).map_or(0, |at| at + 1);
                serde_json::to_string(&events[after..]).map_err(unreadable)
            }
            _ => Ok(String::from_utf8_lossy(body.trim_ascii()).into_owned()),
        }
    }
}

/// JSON in one line, laid out for people: with four blanks, and nothing else changed.
pub(super) fn for_people(line: &str) -> String {
    let (mut text, mut depth, mut quoted, mut escaped) = (String::with_capacity(line.len() * 2), 0, false, false);
    let mut letters = line.chars().peekable();
    let turn = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("    ", depth));
    };
    while let Some(letter) = letters.next() {
        if quoted {
            text.push(letter);
            quoted = escaped || letter != '"';
            escaped = !escaped && letter == '\\';
            continue;
        }
        match letter {
            '{' | '[' => {
                text.push(letter);
                match letters.next_if(|next| matches!(next, '}' | ']')) {
                    Some(end) => text.push(end),
                    None => {
                        depth += 1;
                        turn(&mut text, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                turn(&mut text, depth);
                text.push(letter);
            }
            ',' => {
                text.push(letter);
                turn(&mut text, depth);
            }
            ':' => text.push_str(": "),
            '"' => {
                text.push(letter);
                quoted = true;
            }
            blank if blank.is_ascii_whitespace() => {}
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(kind: &str, change: impl FnOnce(&mut Words)) -> Result<Subject, String> {
        let mut words = Words::default();
        change(&mut words);
        Subject::of(kind, words)
    }

    #[test]
    fn what_is_missing_is_told_in_the_words_of_consul() {
        let told = |kind| of(kind, |_| ()).unwrap_err();
        assert_eq!(told("nosuch"), "Unsupported watch type: nosuch");
        assert_eq!(told("key"), "Must specify a single key to watch");
        assert_eq!(told("keyprefix"), "Must specify a single prefix to watch");
        assert_eq!(told("service"), "Must specify a single service to watch");
        let both = of("checks", |words| (words.service, words.state) = ("a".into(), "b".into()));
        assert_eq!(both.unwrap_err(), "Cannot specify service and state");
        assert!(of("service", |words| words.passing_only = "x".into()).unwrap_err().contains("passingonly"));
    }

    #[test]
    fn each_subject_has_its_path() {
        let target = |kind: &str, change: fn(&mut Words)| {
            let subject = of(kind, change).unwrap();
            let (path, query) = subject.target();
            let query: Vec<_> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{path}?{}", query.join("&"))
        };
        assert_eq!(target("key", |words| words.key = "a/b".into()), "kv/a/b?");
        assert_eq!(target("keyprefix", |words| words.prefix = "a/".into()), "kv/a/?recurse=");
        assert_eq!(target("checks", |_| ()), "health/state/any?");
        assert_eq!(target("checks", |words| words.service = "web".into()), "health/checks/web?");
        let passing = |words: &mut Words| {
            (words.service, words.tag, words.passing_only) = ("web".into(), "t".into(), "true".into());
        };
        assert_eq!(target("service", passing), "health/service/web?tag=t&passing=1");
        assert_eq!(target("event", |words| words.name = "e".into()), "event/list?name=e");
    }

    #[test]
    fn entries_are_shown_in_the_order_of_watches() {
        let body = r#"[{"LockIndex":0,"Key":"k","Flags":7,"Value":null,"CreateIndex":3,"ModifyIndex":4}]"#;
        let shown = Subject::Key("k".into()).since(0, &Some(Bytes::from(body))).unwrap();
        assert_eq!(
            shown,
            r#"{"Key":"k","CreateIndex":3,"ModifyIndex":4,"LockIndex":0,"Flags":7,"Value":null,"Session":""}"#
        );
        assert_eq!(Subject::Key("k".into()).since(0, &None).unwrap(), "null");
    }

    #[test]
    fn events_are_shown_once() {
        let ids = [Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3)];
        let events: Vec<_> = ids.iter().map(|id| json!({ "ID": id.to_string() })).collect();
        let body = Some(Bytes::from(serde_json::to_vec(&events).unwrap()));
        let since = |before| {
            let shown = Subject::Event(String::new()).since(before, &body).unwrap();
            serde_json::from_str::<Vec<Value>>(&shown).unwrap().len()
        };
        assert_eq!((since(0), since(index_of(ids[0])), since(index_of(ids[2]))), (3, 2, 0));
    }

    #[test]
    fn layout_for_people_changes_nothing_else() {
        let value = json!({ "a,b": ["x\"{", {}, [], null], "c": { "d": -1.5, "e": "\\" } });
        let line = value.to_string();
        let text = for_people(&line);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert!(text.starts_with("{\n    \"a,b\": [\n        \"x\\\"{\",\n        {},\n        [],\n"), "{text}");
        assert_eq!(for_people("[]"), "[]");
        assert_eq!(for_people("null"), "null");
    }
}
