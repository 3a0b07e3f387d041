//! Rules, as they are written: HCL, or JSON of the same form.
//!
//! Each is read into a tree first, in which the many forms of one rule are few: see `hcl.rs` for what is taken of HCL.

use serde_json::Value;

use super::hcl;
use super::policy::{Access, Policy, Prefixes};
use super::tree::{BadRules, Tree};

/// Rules that are longer than this, in bytes, are refused: each server reads them when it applies the log.
pub const MAX_RULES_BYTES: usize = 64 << 10;

/// The rules of one kind, in Consul's words for what is wrong with one.
struct Kind {
    name: &'static str,
    go_type: &'static str,
    go_field: &'static str,
}

const KEY: Kind = Kind { name: "key", go_type: "KeyPolicy", go_field: "Prefix" };
const SERVICE: Kind = Kind { name: "service", go_type: "ServicePolicy", go_field: "Name" };
const EVENT: Kind = Kind { name: "event", go_type: "EventPolicy", go_field: "Event" };
const QUERY: Kind = Kind { name: "query", go_type: "PreparedQueryPolicy", go_field: "Prefix" };

impl Policy {
    /// Reads rules. A text that begins with `{` is JSON, any other HCL. Names may be in whatever case. Of two rules for one prefix
    /// the later one holds.
    ///
    /// # Errors
    /// If they are not of the form, name an access that there is not, or are longer than [`MAX_RULES_BYTES`]. What they speak of
    /// and is not known is passed over, as with Consul.
    pub fn parse(rules: &str) -> Result<Self, BadRules> {
        if rules.len() > MAX_RULES_BYTES {
            return Err(BadRules(format!("Failed to parse ACL rules: they exceed the {MAX_RULES_BYTES} byte limit")));
        }
        let tree = if rules.trim_start().starts_with('{') {
            let value = serde_json::from_str(rules);
            tree_of(value.map_err(|error| BadRules(format!("Failed to parse ACL rules: {error}")))?)
        } else {
            hcl::read(rules)?
        };
        let mut policy = Self::default();
        if let Tree::Fields(fields) = tree {
            fields.into_iter().try_for_each(|(name, rule)| policy.take(&name, rule))?;
        }
        Ok(policy)
    }

    fn take(&mut self, name: &str, rule: Tree) -> Result<(), BadRules> {
        match name.to_ascii_lowercase().as_str() {
            "key" => take_rules(&KEY, &mut self.keys, rule),
            "service" => take_rules(&SERVICE, &mut self.services, rule),
            "event" => take_rules(&EVENT, &mut self.events, rule),
            "query" => take_rules(&QUERY, &mut self.queries, rule),
            "keyring" => take_whole("keyring", &mut self.keyring, rule),
            "operator" => take_whole("operator", &mut self.operator, rule),
            "exec" => take_whole("exec", &mut self.exec, rule),
            _ => Ok(()),
        }
    }
}

/// Takes in what is said by prefix: of each one, or in a list.
fn take_rules(kind: &Kind, into: &mut Prefixes, rules: Tree) -> Result<(), BadRules> {
    match rules {
        Tree::List(items) => items.into_iter().try_for_each(|rules| take_rules(kind, into, rules)),
        Tree::Fields(fields) => fields.into_iter().try_for_each(|(prefix, body)| take_rule(kind, into, &prefix, body)),
        Tree::Text(_) | Tree::Other => Err(misshapen(kind)),
    }
}

fn take_rule(kind: &Kind, into: &mut Prefixes, prefix: &str, body: Tree) -> Result<(), BadRules> {
    let fields = match body {
        Tree::List(items) => return items.into_iter().try_for_each(|body| take_rule(kind, into, prefix, body)),
        Tree::Fields(fields) => fields,
        Tree::Text(_) | Tree::Other => return Err(misshapen(kind)),
    };
    let mut access = String::new();
    for (name, value) in fields {
        match value {
            Tree::Text(text) if name.eq_ignore_ascii_case("policy") => access = text,
            // A second prefix, or a policy that is no text.
            Tree::Fields(_) | Tree::List(_) | Tree::Other if name.eq_ignore_ascii_case("policy") => {
                return Err(misshapen(kind));
            }
            Tree::Fields(_) => return Err(misshapen(kind)),
            _ => {}
        }
    }
    let Kind { name, go_type, go_field } = kind;
    let bad = || BadRules(format!("Invalid {name} policy: acl.{go_type}{{{go_field}:{prefix:?}, Policy:{access:?}}}"));
    into.insert(prefix, Access::parse(&access).ok_or_else(bad)?);
    Ok(())
}

fn misshapen(kind: &Kind) -> BadRules {
    let Kind { name, .. } = kind;
    BadRules(format!(
        "Failed to parse ACL rules: {name} needs one prefix and a policy, as in {name} \"\" {{ policy = \"read\" }}"
    ))
}

/// Takes in what is said of the whole of something. Nothing is said by an empty text.
fn take_whole(name: &str, into: &mut Option<Access>, rule: Tree) -> Result<(), BadRules> {
    match rule {
        Tree::Text(text) if text.is_empty() => *into = None,
        Tree::Text(text) => {
            let access = Access::parse(&text);
            *into = Some(access.ok_or_else(|| BadRules(format!("Invalid {name} policy: {text:?}")))?);
        }
        _ => return Err(BadRules(format!("Failed to parse ACL rules: {name} needs a text, as in {name} = \"read\""))),
    }
    Ok(())
}

/// The depth of JSON is bounded by its parser.
fn tree_of(value: Value) -> Tree {
    match value {
        Value::String(text) => Tree::Text(text),
        Value::Array(items) => Tree::List(items.into_iter().map(tree_of).collect()),
        Value::Object(fields) => Tree::Fields(fields.into_iter().map(|(name, value)| (name, tree_of(value))).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) => Tree::Other,
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
