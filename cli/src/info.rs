//! `lictor info`.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use crate::client::{AgentOptions, Answer, Client, Error};
use crate::failed::{self, Failed};

/// Prints what the agent counts and knows of itself
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Prints what the agent counts and knows of itself, by subject. People who look for a fault begin \
                  here:\n\n    $ lictor info -http-addr=10.0.0.1:8500"
)]
pub(crate) struct Args {
    #[command(flatten)]
    client: AgentOptions,
    /// Anything more is ignored.
    #[arg(hide = true)]
    _rest: Vec<String>,
}

pub(crate) fn run(args: Args) -> ExitCode {
    failed::status_on_stdout(ask(args.client).map(|stats| show!("{stats}")))
}

fn ask(options: AgentOptions) -> Result<String, Failed> {
    let failed = |error: Error| Failed(error.told("querying agent"));
    let client = Client::of_agent(options).map_err(failed)?;
    let body = client.get("agent/self", &[]).and_then(Answer::ok).map_err(failed)?;
    let itself: Value = serde_json::from_slice(&body)
        .map_err(|error| Failed(format!("Error querying agent: unreadable answer: {error}")))?;
    Ok(shown(&itself["Stats"]))
}

/// What an agent tells beyond what Consul's does, and only over HTTP: tools read this command's lines one by one.
const MORE: [(&str, Option<&str>); 3] = [("exec", None), ("peers", None), ("raft", Some("durable_index"))];

/// Sections and lines in the order of their names.
fn shown(stats: &Value) -> String {
    let mut text = String::new();
    let mut sections: Vec<_> = stats.as_object().into_iter().flatten().collect();
    sections.retain(|(name, _)| !MORE.contains(&(name.as_str(), None)));
    sections.sort_unstable_by_key(|(name, _)| *name);
    for (name, section) in sections {
        let _ = writeln!(text, "{name}:");
        let mut lines: Vec<_> = section.as_object().into_iter().flatten().collect();
        lines.retain(|(line, _)| !MORE.contains(&(name.as_str(), Some(line.as_str()))));
        lines.sort_unstable_by_key(|(name, _)| *name);
        for (name, value) in lines {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let _ = writeln!(text, "\t{name} = {value}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sections_and_lines_are_sorted() {
        let stats = json!({ "raft": { "term": "3", "state": "Leader" }, "consul": { "leader_addr": "" } });
        assert_eq!(shown(&stats), "consul:\n\tleader_addr = \nraft:\n\tstate = Leader\n\tterm = 3\n");
        assert_eq!(
            shown(
                &json!({ "exec": { "collects": "true" }, "peers": { "dropped_messages": "1" }, "raft": { "durable_index": "7" } })
            ),
            "raft:\n"
        );
        assert_eq!(shown(&Value::Null), "");
    }
}
