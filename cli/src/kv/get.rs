//! `lictor kv get`.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Failed, only_key, path};
use crate::client::{self, Client};

/// Prints a key's value, or all entries or keys below a prefix
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    #[command(flatten)]
    client: client::Options,
    /// Show all that is stored with the value.
    #[arg(long)]
    detailed: bool,
    /// Show the keys that begin with the prefix, without values.
    #[arg(long)]
    keys: bool,
    /// Show all entries whose keys begin with the prefix.
    #[arg(long)]
    recurse: bool,
    /// With -keys: fold what follows the first of these behind the prefix into one line.
    #[arg(long, value_name = "text", default_value = "/")]
    separator: String,
    /// The key or prefix.
    key: Vec<String>,
}

pub(super) fn run(args: Args) -> Result<(), Failed> {
    let key = only_key(args.key)?;
    if key.is_empty() && !args.keys && !args.recurse {
        return Err(Failed::error("Missing KEY argument"));
    }
    let client = Client::new(args.client).map_err(failed)?;
    let query = match (args.keys, args.recurse) {
        (true, _) => vec![("keys", ""), ("separator", &*args.separator)],
        (false, true) => vec![("recurse", "")],
        (false, false) => vec![],
    };
    let answer = client.get(&path(&key), &query).and_then(client::Answer::found).map_err(failed)?;
    let found = match answer {
        Some(body) => serde_json::from_slice(&body).map_err(|error| failed(format!("unreadable answer: {error}")))?,
        None if query.is_empty() => return Err(Failed::error(format!("No key exists at: {key}"))),
        None => Vec::new(),
    };
    let printed = if args.keys { print_keys(&found) } else { print_entries(&found, args.detailed, args.recurse) };
    // Whoever reads has gone away: nothing is left to be said.
    printed.or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(Failed::error(format!("Cannot print: {error}"))),
    })
}

fn failed(why: impl std::fmt::Display) -> Failed {
    Failed(format!("Error querying Consul agent: {why}"))
}

fn print_keys(keys: &[Value]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    keys.iter().filter_map(Value::as_str).try_for_each(|key| writeln!(out, "{key}"))
}

fn print_entries(entries: &[Value], detailed: bool, recurse: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (n, entry) in entries.iter().enumerate() {
        if detailed {
            if n > 0 {
                writeln!(out)?;
            }
            write_detailed(&mut out, entry)?;
        } else {
            if recurse {
                write!(out, "{}:", text(entry, "Key"))?;
            }
            out.write_all(&value(entry))?;
            writeln!(out)?;
        }
    }
    out.flush()
}

/// All of an entry, one line each.
fn write_detailed(out: &mut impl Write, entry: &Value) -> io::Result<()> {
    for name in ["CreateIndex", "Flags", "Key", "LockIndex", "ModifyIndex", "Session"] {
        writeln!(out, "{name:<17}{}", text(entry, name))?;
    }
    write!(out, "{:<17}", "Value")?;
    out.write_all(&value(entry))?;
    writeln!(out)
}

/// A field for people: a dash if it is not there.
fn text(entry: &Value, name: &str) -> String {
    match &entry[name] {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// The bytes of an entry's value.
fn value(entry: &Value) -> Vec<u8> {
    entry["Value"].as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_are_shown_in_detail() {
        let entry = json!({
            "CreateIndex": 5, "Flags": 18446744073709551615u64, "Key": "a", "LockIndex": 0, "ModifyIndex": 7,
            "Value": "//79+/8="
        });
        let mut out = Vec::new();
        write_detailed(&mut out, &entry).unwrap();
        let expected = b"CreateIndex      5\nFlags            18446744073709551615\nKey              a\n\
            LockIndex        0\nModifyIndex      7\nSession          -\nValue            \xff\xfe\xfd\xfb\xff\n";
        assert_eq!(out, expected);
    }

    #[test]
    fn a_value_of_null_is_empty() {
        assert_eq!(value(&json!({ "Value": null })), b"");
    }
}
