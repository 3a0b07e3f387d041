//! `lictor force-leave`.

use std::process::ExitCode;

use crate::client::{AgentOptions, Answer, Client};
use crate::failed::{self, Failed};
use crate::help;

/// Says of a failed member that it has left
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Says of a member that has failed that it has left, so that nobody tries to reach it any more. One \
                  that is alive\nobjects.\n\n    $ lictor force-leave node5"
)]
pub(crate) struct Args {
    #[command(flatten)]
    client: AgentOptions,
    /// Also forget it at once, so that it is not listed any more.
    #[arg(long)]
    prune: bool,
    /// The member's node name.
    node: Vec<String>,
}

pub(crate) fn run(args: Args) -> ExitCode {
    failed::status_on_stdout(force_leave(args))
}

fn force_leave(args: Args) -> Result<(), Failed> {
    let [node] = &args.node[..] else {
        return Err(help::after("A single node name must be specified to force leave.", &["force-leave"]));
    };
    let query: &[(&str, &str)] = if args.prune { &[("prune", "")] } else { &[] };
    Client::of_agent(args.client)
        .and_then(|client| client.put(&format!("agent/force-leave/{node}"), query, ""))
        .and_then(Answer::ok)
        .map_err(|error| Failed(error.told("force leaving")))?;
    Ok(())
}
