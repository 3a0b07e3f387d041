//! `lictor leave`.

use std::process::ExitCode;

use crate::client::{AgentOptions, Answer, Client};
use crate::failed::{self, Failed};

/// Makes the agent leave the cluster and end
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Makes the agent leave the cluster for good, and end. The others do not take it for failed \
                  then.\n\n    $ lictor leave -http-addr=10.0.0.5:8500"
)]
pub(crate) struct Args {
    #[command(flatten)]
    client: AgentOptions,
    /// Anything more is ignored.
    #[arg(hide = true)]
    _rest: Vec<String>,
}

pub(crate) fn run(args: Args) -> ExitCode {
    let left = Client::of_agent(args.client)
        .and_then(|client| client.put("agent/leave", &[], ""))
        .and_then(Answer::ok)
        .map_err(|error| Failed(error.told("leaving")));
    failed::status_on_stdout(left.map(|_| say!("Graceful leave complete")))
}
