//! `lictor members`.

use std::process::ExitCode;

use serde_json::Value;

use crate::client::{AgentOptions, Answer, Client};
use crate::failed::{self, Failed};
use crate::regexp;
use crate::table::table;

/// Lists the members of the cluster
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Lists the members of the cluster, as the agent sees them. Ends with status 2 if there is none to \
                  list.\n\n    $ lictor members\n    $ lictor members -status=failed\n    $ lictor members -detailed"
)]
pub(crate) struct Args {
    #[command(flatten)]
    client: AgentOptions,
    /// Show all that each member says of itself.
    #[arg(long)]
    detailed: bool,
    /// Only members whose status matches this regular expression: alive, leaving, left or failed.
    #[arg(long, value_name = "regexp", default_value = ".*")]
    status: String,
    /// The servers of all datacenters instead of the members of this one.
    #[arg(long)]
    wan: bool,
    /// Anything more is ignored.
    #[arg(hide = true)]
    _rest: Vec<String>,
}

pub(crate) fn run(args: Args) -> ExitCode {
    match listed(args) {
        Ok(Some(text)) => {
            show!("{text}");
            ExitCode::SUCCESS
        }
        Ok(None) => ExitCode::from(2),
        Err(failed) => failed::status_on_stdout(Err(failed)),
    }
}

/// The table; none if nobody is in it.
fn listed(args: Args) -> Result<Option<String>, Failed> {
    let status =
        regexp::compile(&args.status).map_err(|error| Failed(format!("Failed to compile status regexp: {error}")))?;
    let query: &[(&str, &str)] = if args.wan { &[("wan", "1")] } else { &[] };
    let members = Client::of_agent(args.client)
        .and_then(|client| client.get("agent/members", query))
        .and_then(Answer::ok)
        .map_err(|error| Failed(error.told("retrieving members")))?;
    let members: Vec<Value> = serde_json::from_slice(&members)
        .map_err(|error| Failed(format!("Error retrieving members: unreadable answer: {error}")))?;
    let mut members: Vec<_> = members.iter().map(Member::of).filter(|member| status.is_match(member.status)).collect();
    members.sort_by(|a, b| a.name.cmp(b.name));
    let titles: &[&str] = match args.detailed {
        true => &["Node", "Address", "Status", "Tags"],
        false => &["Node", "Address", "Status", "Type", "Build", "Protocol", "DC"],
    };
    let titles = titles.iter().map(|title| (*title).to_owned()).collect();
    let rows = members.iter().map(|member| if args.detailed { member.detailed() } else { member.standard() });
    let rows: Vec<_> = std::iter::once(titles).chain(rows).collect();
    Ok((!members.is_empty()).then(|| table(&rows)))
}

/// A member as it is shown.
struct Member<'v> {
    name: &'v str,
    address: String,
    status: &'static str,
    tags: &'v Value,
}

impl<'v> Member<'v> {
    fn of(value: &'v Value) -> Self {
        let address = value["Addr"].as_str().unwrap_or_default();
        let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        Self {
            name: value["Name"].as_str().unwrap_or_default(),
            address: format!("{address}:{}", value["Port"]),
            status: match value["Status"].as_u64() {
                Some(1) => "alive",
                Some(2) => "leaving",
                Some(3) => "left",
                Some(4) => "failed",
                _ => "none",
            },
            tags: &value["Tags"],
        }
    }

    fn tag(&self, name: &str) -> &'v str {
        self.tags[name].as_str().unwrap_or_default()
    }

    fn standard(&self) -> Vec<String> {
        let role = match self.tag("role") {
            "consul" => "server",
            "node" => "client",
            _ => "unknown",
        };
        // What follows the colon is the commit that it was built from.
        let build = self.tag("build").split(':').next().unwrap_or_default();
        let cells = [self.name, &self.address, self.status, role, build, self.tag("vsn"), self.tag("dc")];
        cells.map(str::to_owned).to_vec()
    }

    fn detailed(&self) -> Vec<String> {
        let tags = self.tags.as_object().into_iter().flatten();
        let mut tags: Vec<_> =
            tags.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect();
        tags.sort_unstable();
        [self.name, &self.address, self.status, &tags.join(",")].map(str::to_owned).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_shown_in_short_and_in_full() {
        let server = json!({
            "Name": "foobar", "Addr": "10.0.0.1", "Port": 8301, "Status": 1,
            "Tags": { "role": "consul", "dc": "dc1", "build": "0.7.2:abc", "vsn": "2" }
        });
        let member = Member::of(&server);
        assert_eq!(member.standard(), ["foobar", "10.0.0.1:8301", "alive", "server", "0.7.2", "2", "dc1"]);
        let tags = "build=0.7.2:abc,dc=dc1,role=consul,vsn=2";
        assert_eq!(member.detailed(), ["foobar", "10.0.0.1:8301", "alive", tags]);
        let client = json!({ "Name": "c", "Addr": "::1", "Port": 1, "Status": 4, "Tags": { "role": "node" } });
        assert_eq!(Member::of(&client).standard(), ["c", "[::1]:1", "failed", "client", "", "", ""]);
    }
}
