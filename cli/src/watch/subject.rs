//! What can be watched: where it is asked for, and how it is shown.

use std::sync::LazyLock;

use bytes::Bytes;
use lictor_core::api::event::index_of;
use regex::bytes::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::flags;

/// Members of objects that tell when something was written. No text can look like one: a quote in it would have a backslash.
static INDEXES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#",\s*"(?:Create|Modify)Index":\s*[0-9]+"#).expect("it is well-formed"));

/// The options that say what is meant.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) key: String,
    pub(super) name: String,
    pub(super) passing_only: String,
    pub(super) prefix: String,
    pub(super) service: String,
    pub(super) stale: bool,
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

impl Words {
    /// The names of those that were given.
    fn given(&self) -> Vec<&'static str> {
        let all = [
            ("key", !self.key.is_empty()),
            ("name", !self.name.is_empty()),
            ("passingonly", !self.passing_only.is_empty()),
            ("prefix", !self.prefix.is_empty()),
            ("service", !self.service.is_empty()),
            ("stale", self.stale),
            ("state", !self.state.is_empty()),
            ("tag", !self.tag.is_empty()),
        ];
        all.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
    }
}

impl Subject {
    /// What the options mean. The error is a text for the user.
    pub(super) fn of(kind: &str, words: Words) -> Result<Self, String> {
        let passing = flags::truth(&words.passing_only);
        if passing.is_none() && !words.passing_only.is_empty() {
            let what = format!("strconv.ParseBool: parsing {:?}: invalid syntax", words.passing_only);
            return Err(format!("Failed to parse passingonly: {what}"));
        }
        let given = words.given();
        let subject = Self::named(kind, words, passing.unwrap_or(false))?;
        let unused: Vec<_> = given.into_iter().filter(|word| !subject.takes(word)).collect();
        match unused.is_empty() {
            true => Ok(subject),
            // As Go shows a list.
            false => Err(format!("Invalid parameters: [{}]", unused.join(" "))),
        }
    }

    /// Whether an option says something of it.
    fn takes(&self, word: &str) -> bool {
        match self {
            Self::Key(_) => matches!(word, "key" | "stale"),
            Self::KeyPrefix(_) => matches!(word, "prefix" | "stale"),
            Self::Services | Self::Nodes => word == "stale",
            Self::Service { .. } => matches!(word, "service" | "tag" | "passingonly" | "stale"),
            Self::ChecksOf(_) | Self::ChecksIn(_) => matches!(word, "service" | "state" | "stale"),
            // Every agent has its own events: no server is asked for them.
            Self::Event(_) => word == "name",
        }
    }

    fn named(kind: &str, words: Words, passing: bool) -> Result<Self, String> {
        let Words { key, name, prefix, service, state, tag, .. } = words;
        let needed = |what: &str, text: String| match text.is_empty() {
            true => Err(format!("Must specify a single {what} to watch")),
            false => Ok(text),
        };
        match kind {
            "key" => needed("key", key).map(Self::Key),
            "keyprefix" => needed("prefix", prefix).map(Self::KeyPrefix),
            "services" => Ok(Self::Services),
            "nodes" => Ok(Self::Nodes),
            "service" => Ok(Self::Service { name: needed("service", service)?, tag, passing }),
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

    /// What of an answer is compared with the one before, and shown. Of nodes, instances and checks that is not when they were
    /// written: to write once more what is there already is no change.
    pub(super) fn compared(&self, answer: Option<Bytes>) -> Option<Bytes> {
        match self {
            Self::Nodes | Self::Service { .. } | Self::ChecksOf(_) | Self::ChecksIn(_) => {
                answer.map(|body| INDEXES.replace_all(&body, &b""[..]).into_owned().into())
            }
            Self::Key(_) | Self::KeyPrefix(_) | Self::Services | Self::Event(_) => answer,
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
        for kind in ["service", "nodes", "nosuch"] {
            assert!(of(kind, |words| words.passing_only = "x".into()).unwrap_err().contains("passingonly"));
        }
    }

    #[test]
    fn options_that_say_nothing_of_the_subject_are_refused() {
        let refused = |kind: &str, change: fn(&mut Words)| of(kind, change).unwrap_err();
        assert_eq!(refused("nodes", |words| words.key = "a".into()), "Invalid parameters: [key]");
        assert_eq!(refused("event", |words| words.stale = true), "Invalid parameters: [stale]");
        assert_eq!(
            refused("services", |words| words.passing_only = "false".into()),
            "Invalid parameters: [passingonly]"
        );
        assert_eq!(refused("key", |words| words.prefix = "a".into()), "Must specify a single key to watch");
        let both = |words: &mut Words| (words.key, words.name, words.tag) = ("k".into(), "n".into(), "t".into());
        assert_eq!(refused("key", both), "Invalid parameters: [name tag]");
        let all = |words: &mut Words| {
            (words.service, words.tag, words.passing_only, words.stale) = ("s".into(), "t".into(), "1".into(), true);
        };
        assert!(of("service", all).is_ok());
        assert_eq!(refused("checks", all), "Invalid parameters: [passingonly tag]");
    }

    #[test]
    fn to_write_the_same_once_more_changes_nothing() {
        let checks = |index: u64| {
            let text = format!(
                r#"[{{"Node":"n","Output":",\"CreateIndex\":1","CreateIndex":{index},"ModifyIndex":{index}}},{{"ID":"a"}}]"#
            );
            Subject::ChecksIn("any".into()).compared(Some(text.into())).unwrap()
        };
        assert_eq!(checks(7), checks(8));
        assert_eq!(checks(7), r#"[{"Node":"n","Output":",\"CreateIndex\":1"},{"ID":"a"}]"#);
        let key = Some(Bytes::from(r#"[{"Key":"k","CreateIndex":3}]"#));
        assert_eq!(Subject::Key("k".into()).compared(key.clone()), key);
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
