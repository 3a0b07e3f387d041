//! `lictor reload`.

use std::process::ExitCode;

use crate::client::{AgentOptions, Answer, Client};
use crate::failed::{self, Failed};

/// Makes the agent read its configuration files again
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Makes the agent read its configuration files again: the log level, services and checks may change while \
                  it runs.\nThe same as SIGHUP, but that the agent says what is wrong with the files.\n\n    $ lictor \
                  reload"
)]
pub(crate) struct Args {
    #[command(flatten)]
    client: AgentOptions,
    /// Anything more is ignored.
    #[arg(hide = true)]
    _rest: Vec<String>,
}

pub(crate) fn run(args: Args) -> ExitCode {
    let reloaded = Client::of_agent(args.client)
        .and_then(|client| client.put("agent/reload", &[], ""))
        .and_then(Answer::ok)
        .map_err(|error| Failed(error.told("reloading")));
    failed::status_on_stdout(reloaded.map(|_| say!("Configuration reload triggered")))
}
