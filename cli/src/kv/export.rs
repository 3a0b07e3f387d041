//! `lictor kv export`.

use std::io::{self, Write as _};

use serde::{Deserialize, Serialize};
use serde_json::ser::{PrettyFormatter, Serializer};

use super::{Failed, only_key, path};
use crate::client::{self, Client};

/// Prints a tree of the key-value store as JSON
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Prints all entries whose keys begin with a prefix as JSON, for lictor kv import.\n\n    $ lictor kv export \
                  config/ > config.json"
)]
pub(crate) struct Args {
    #[command(flatten)]
    client: client::Options,
    /// The prefix. [default: all]
    prefix: Vec<String>,
}

/// An entry as it is exported.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Exported {
    pub(super) key: String,
    #[serde(default)]
    pub(super) flags: u64,
    /// In base64.
    #[serde(default)]
    pub(super) value: String,
}

/// An entry as the agent shows it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    key: String,
    flags: u64,
    value: Option<String>,
}

pub(super) fn run(args: Args) -> Result<(), Failed> {
    let prefix = only_key(args.prefix)?;
    let failed = |error: client::Error| Failed(format!("Error querying Consul agent: {error}"));
    let client = Client::new(args.client).map_err(failed)?;
    let found = client.get(&path(&prefix), &[("recurse", "")]).and_then(client::Answer::found).map_err(failed)?;
    let entries: Vec<Shown> = match found {
        None => Vec::new(),
        Some(body) => serde_json::from_slice(&body)
            .map_err(|error| Failed(format!("Error querying Consul agent: unreadable answer: {error}")))?,
    };
    let exported: Vec<Exported> = entries
        .into_iter()
        .map(|Shown { key, flags, value }| Exported { key, flags, value: value.unwrap_or_default() })
        .collect();
    match print(&exported) {
        // Whoever reads has gone away: nothing is left to be said.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(|error| Failed::error(format!("Cannot print: {error}"))),
    }
}

fn print(entries: &[Exported]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(&laid_out(entries))?;
    writeln!(out)?;
    out.flush()
}

/// As JSON with tabs.
fn laid_out(entries: &[Exported]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"\t"));
    entries.serialize(&mut serializer).expect("memory takes every write");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_laid_out_with_tabs() {
        let entry = Exported { key: "a".into(), flags: 7, value: "MQ==".into() };
        let expected = "[\n\t{\n\t\t\"key\": \"a\",\n\t\t\"flags\": 7,\n\t\t\"value\": \"MQ==\"\n\t}\n]";
        assert_eq!(String::from_utf8(laid_out(&[entry])).unwrap(), expected);
        assert_eq!(laid_out(&[]), b"[]");
    }
}
