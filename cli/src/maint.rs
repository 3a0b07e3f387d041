//! `lictor maint`.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use crate::client::{Agent, Answer, Client, Error, Options};
use crate::failed::{self, Failed};

/// The check that is there while the node is in maintenance.
const NODE_CHECK: &str = "_node_maintenance";
/// What such a check of a service has in front of the service's ID.
const SERVICE_CHECK: &str = "_service_maintenance:";

/// Begins and ends maintenance of the node or a service
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Begins and ends maintenance of the node or one of its services: as long as it lasts, nobody finds \
                  them who asks for\nwhat is healthy. Without options it shows what is in maintenance.\n\n    $ lictor \
                  maint\n    $ lictor maint -enable -reason=\"new disk\"\n    $ lictor maint -disable -service=web1"
)]
pub(crate) struct Args {
    #[command(flatten)]
    client: Agent,
    /// End maintenance.
    #[arg(long)]
    disable: bool,
    /// Begin maintenance.
    #[arg(long)]
    enable: bool,
    /// With -enable: why, for people.
    #[arg(long, value_name = "text", default_value = "")]
    reason: String,
    /// The ID of one of the agent's services. [default: the whole node]
    #[arg(long, value_name = "id", default_value = "")]
    service: String,
    /// Anything more is ignored.
    #[arg(hide = true)]
    _rest: Vec<String>,
}

pub(crate) fn run(args: Args) -> ExitCode {
    failed::status(maintain(args).map(|text| show!("{text}")))
}

/// Gives what is to be said then.
fn maintain(args: Args) -> Result<String, Failed> {
    if args.enable && args.disable {
        return Err(Failed("Only one of -enable or -disable may be provided".to_owned()));
    }
    if !args.enable && !args.reason.is_empty() {
        return Err(Failed("Reason may only be provided with -enable".to_owned()));
    }
    let change = args.enable || args.disable;
    if !change && !args.service.is_empty() {
        return Err(Failed("Service requires either -enable or -disable".to_owned()));
    }
    let failed = |error: Error| Failed(format!("Error querying Consul agent: {error}"));
    let client = Client::new(Options::from(args.client)).map_err(failed)?;
    if !change {
        return list(&client).map_err(failed);
    }
    let (path, what, of) = match &*args.service {
        "" => ("agent/maintenance".to_owned(), "Node", String::new()),
        id => (format!("agent/service/maintenance/{id}"), "Service", format!(" for \"{id}\"")),
    };
    let (flag, begins, doing) =
        if args.enable { ("true", "enabled", "enabling") } else { ("false", "disabled", "disabling") };
    let mut query = vec![("enable", flag)];
    if args.enable && !args.reason.is_empty() {
        query.push(("reason", &args.reason));
    }
    let doing = format!("{doing} {} maintenance", what.to_lowercase());
    client.put(&path, &query, "").and_then(Answer::ok).map_err(|error| Failed(error.told_by_http(&doing)))?;
    Ok(format!("{what} maintenance is now {begins}{of}\n"))
}

fn list(client: &Client) -> Result<String, Error> {
    let read = |path| -> Result<Value, Error> {
        let body = client.get(path, &[]).and_then(Answer::ok)?;
        serde_json::from_slice(&body).map_err(|error| Error::Unsupported(format!("unreadable answer: {error}")))
    };
    let itself = read("agent/self")?;
    Ok(shown(itself["Config"]["NodeName"].as_str().unwrap_or_default(), &read("agent/checks")?))
}

/// What is in maintenance, by the agent's checks.
fn shown(node: &str, checks: &Value) -> String {
    let mut text = String::new();
    let mut checks: Vec<_> = checks.as_object().into_iter().flatten().collect();
    checks.sort_unstable_by_key(|(id, _)| *id);
    for (id, check) in checks {
        let reason = check["Notes"].as_str().unwrap_or_default();
        if id == NODE_CHECK {
            let _ = writeln!(text, "Node:\n  Name:   {node}\n  Reason: {reason}\n");
        } else if let Some(service) = id.strip_prefix(SERVICE_CHECK) {
            let _ = writeln!(text, "Service:\n  ID:     {service}\n  Reason: {reason}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_before_anybody_is_asked() {
        let refused = |enable, disable, reason: &str, service: &str| {
            let (reason, service) = (reason.to_owned(), service.to_owned());
            maintain(Args { client: Agent::default(), disable, enable, reason, service, _rest: Vec::new() })
                .unwrap_err()
                .0
        };
        assert_eq!(refused(true, true, "", ""), "Only one of -enable or -disable may be provided");
        assert_eq!(refused(false, true, "x", ""), "Reason may only be provided with -enable");
        assert_eq!(refused(false, false, "x", "y"), "Reason may only be provided with -enable");
        assert_eq!(refused(false, false, "", "y"), "Service requires either -enable or -disable");
    }

    #[test]
    fn what_is_in_maintenance_is_shown() {
        let checks = json!({
            "_node_maintenance": { "Notes": "broken disk" }, "_service_maintenance:m1": { "Notes": "why" }, "mem": {}
        });
        assert_eq!(
            shown("foobar", &checks),
            "Node:\n  Name:   foobar\n  Reason: broken disk\n\nService:\n  ID:     m1\n  Reason: why\n\n"
        );
        assert_eq!(shown("foobar", &json!({})), "");
    }
}
