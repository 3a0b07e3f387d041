//! `lictor event`.

use std::process::ExitCode;

use serde_json::Value;

use crate::client::{Answer, Client, Error, Options};
use crate::failed::{self, Failed};
use crate::{help, regexp};

/// Fires a user event
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Fires a user event, which gossip brings to every agent of the datacenter. What it carries is small: \
                  a few hundred\nbytes.\n\n    $ lictor event -name=deploy 1.2.3\n    $ lictor event -name=deploy \
                  -service=web -tag=canary 1.2.3"
)]
pub(crate) struct Args {
    #[command(flatten)]
    client: Options,
    /// The event's name.
    #[arg(long, value_name = "name", default_value = "")]
    name: String,
    /// Only for nodes whose names match this regular expression.
    #[arg(long, value_name = "regexp", default_value = "")]
    node: String,
    /// Only for nodes with a service whose name matches this regular expression.
    #[arg(long, value_name = "regexp", default_value = "")]
    service: String,
    /// With -service: only for nodes where a tag of it matches this regular expression.
    #[arg(long, value_name = "regexp", default_value = "")]
    tag: String,
    /// What the event carries.
    payload: Vec<String>,
}

pub(crate) fn run(args: Args) -> ExitCode {
    failed::status(fire(args).map(|id| say!("Event ID: {id}")))
}

/// Gives the event's ID.
fn fire(args: Args) -> Result<String, Failed> {
    if args.name.is_empty() {
        return Err(help::after("Event name must be specified", &["event"]));
    }
    if !args.tag.is_empty() && args.service.is_empty() {
        return Err(Failed("Cannot provide tag filter without service filter.".to_owned()));
    }
    let filters = [("node", &args.node), ("service", &args.service), ("tag", &args.tag)];
    let mut query = Vec::new();
    for (name, filter) in filters.into_iter().filter(|(_, filter)| !filter.is_empty()) {
        regexp::compile(filter).map_err(|error| Failed(format!("Failed to compile {name} filter regexp: {error}")))?;
        query.push((name, filter.as_str()));
    }
    if args.payload.len() > 1 {
        return Err(help::after("Too many command line arguments.", &["event"]));
    }
    let failed = |error: Error| Failed(error.told_by_http("firing event"));
    let payload = args.payload.into_iter().next().unwrap_or_default();
    let fired = Client::new(args.client)
        .and_then(|client| client.put(&format!("event/fire/{}", args.name), &query, payload))
        .and_then(Answer::ok)
        .map_err(failed)?;
    let event: Value = serde_json::from_slice(&fired)
        .map_err(|error| Failed(format!("Error firing event: unreadable answer: {error}")))?;
    Ok(event["ID"].as_str().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Args)) -> String {
        let name = "deploy".to_owned();
        let mut args = Args {
            client: Options::default(),
            name,
            node: String::new(),
            service: String::new(),
            tag: String::new(),
            payload: Vec::new(),
        };
        change(&mut args);
        fire(args).unwrap_err().0
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anybody_is_asked() {
        assert!(refused(|args| args.name.clear()).starts_with("Event name must be specified"));
        assert!(refused(|args| args.payload = vec!["a".into(), "b".into()]).starts_with("Too many"));
        let both = refused(|args| (args.payload, args.tag) = (vec!["a".into(), "b".into()], "x".into()));
        assert_eq!(both, "Cannot provide tag filter without service filter.");
        assert_eq!(refused(|args| args.tag = "x".into()), "Cannot provide tag filter without service filter.");
        assert_eq!(
            refused(|args| args.node = "(".into()),
            "Failed to compile node filter regexp: error parsing regexp: missing closing ): `(`"
        );
    }
}
