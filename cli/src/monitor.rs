//! `lictor monitor`.

use std::io;
use std::process::ExitCode;

use crate::client::{AgentOptions, Answer, Client, Error};
use crate::failed::{self, Failed};

/// Shows the agent's log as it comes
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Shows the agent's log as it comes, until it is interrupted. It may show more than the agent itself \
                  prints.\n\n    $ lictor monitor -log-level=debug"
)]
pub(crate) struct Args {
    #[command(flatten)]
    client: AgentOptions,
    /// trace, debug, info, warn or err.
    #[arg(long, value_name = "level", default_value = "info")]
    log_level: String,
    /// Anything more is ignored.
    #[arg(hide = true)]
    _rest: Vec<String>,
}

pub(crate) fn run(args: Args) -> ExitCode {
    failed::status(follow(args))
}

fn follow(args: Args) -> Result<(), Failed> {
    let failed = |error: Error| Failed(error.told("starting monitor"));
    let client = Client::of_agent(args.client).map_err(failed)?;
    let mut out = io::stdout().lock();
    match client.follow("agent/monitor", &[("loglevel", &*args.log_level)], &mut out) {
        Ok(None) => Ok(()),
        // Whoever reads has gone away: nothing is left to be said.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Ok(Some(answer)) => {
            // A level that there is none of is told of as it was by the older protocol.
            Answer::ok(answer).map_err(|error| Failed(format!("Error starting monitor: {}", error.text())))?;
            Err(ended())
        }
        Err(Error::Broken { .. }) => Err(ended()),
        Err(error) => Err(failed(error)),
    }
}

/// The log has no end but the agent's.
fn ended() -> Failed {
    Failed("the agent ended the log: it has stopped, or crashed".to_owned())
}
