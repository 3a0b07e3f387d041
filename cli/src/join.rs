//! `lictor join`.

use std::process::ExitCode;

use crate::client::{AgentOptions, Answer, Client, Error};
use crate::failed::{self, Failed};
use crate::help;

/// Makes the agent join a cluster
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Makes the agent join a cluster by way of any of its members. One that answers is enough.\n\n    $ \
                  lictor join 10.0.0.1 10.0.0.2:8301"
)]
pub(crate) struct Args {
    #[command(flatten)]
    client: AgentOptions,
    /// Join servers of other datacenters.
    #[arg(long)]
    wan: bool,
    /// Members of the cluster: addresses or names, each with or without the port of its gossip.
    address: Vec<String>,
}

pub(crate) fn run(args: Args) -> ExitCode {
    let joined = join(args);
    failed::status_on_stdout(joined.map(|number| say!("Successfully joined cluster by contacting {number} nodes.")))
}

/// Gives how many answered, if any did.
fn join(args: Args) -> Result<usize, Failed> {
    if args.address.is_empty() {
        return Err(help::after("At least one address to join must be specified.", &["join"]));
    }
    let client = Client::of_agent(args.client).map_err(|error| Failed(error.told("joining the cluster")))?;
    let query: &[(&str, &str)] = if args.wan { &[("wan", "1")] } else { &[] };
    let ask = |address| client.put(&format!("agent/join/{address}"), query, "").and_then(Answer::ok).map(drop);
    answered(args.address.iter().map(ask))
}

/// How many of those who were to be joined were, or why none was. One with several addresses may have failed several times.
fn answered(joined: impl Iterator<Item = Result<(), Error>>) -> Result<usize, Failed> {
    let (mut number, mut errors) = (0, Vec::new());
    for one in joined {
        match one {
            Ok(()) => number += 1,
            Err(error @ Error::Status { .. }) => errors.extend(each(&error.text())),
            Err(error) => return Err(Failed(error.told("joining the cluster"))),
        }
    }
    if number > 0 {
        return Ok(number);
    }
    let failed = errors.len();
    Err(Failed(format!("Error joining the cluster: {failed} error(s) occurred:\n\n* {}", errors.join("\n* "))))
}

/// The error, or the errors, that an agent told.
fn each(text: &str) -> Vec<String> {
    match text.split_once(" error(s) occurred:") {
        Some((_, list)) => {
            list.split("\n* ").map(str::trim).filter(|error| !error.is_empty()).map(str::to_owned).collect()
        }
        None => vec![text.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    #[test]
    fn one_that_fails_at_each_of_its_addresses_does_not_hide_one_that_answers() {
        let refused = || {
            let text = "2 error(s) occurred:\n\n* Failed to join 10.0.0.1: a\n* Failed to join 10.0.0.2: b".to_owned();
            Err(Error::Status { status: StatusCode::INTERNAL_SERVER_ERROR, text })
        };
        assert_eq!(answered([refused(), Ok(())].into_iter()), Ok(1));
        let Failed(why) = answered([refused(), refused()].into_iter()).unwrap_err();
        assert!(why.starts_with("Error joining the cluster: 4 error(s) occurred:\n\n* Failed to join 10.0.0.1: a\n* "));
    }

    #[test]
    fn errors_are_taken_from_the_agent_s_list() {
        assert_eq!(each("1 error(s) occurred:\n\n* Failed to join x: a\n"), ["Failed to join x: a"]);
        assert_eq!(each("2 error(s) occurred:\n\n* a\n* b"), ["a", "b"]);
        assert_eq!(each("No path"), ["No path"]);
    }
}
