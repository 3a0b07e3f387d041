//! `lictor operator`: tools for those who run a cluster.

mod autopilot;
mod raft;

use std::process::ExitCode;

use clap::Subcommand;

use crate::{failed, help};

/// Tools for those who run a cluster
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    disable_help_subcommand = true,
    long_about = "Tools for those who run a cluster. Use them with care: a cluster that lost too many servers is \
                  down,\nand data may be lost.\n\n    $ lictor operator raft list-peers\n    $ lictor operator \
                  autopilot get-config"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Commands>,
}

#[derive(Debug, Subcommand)]
enum Commands {
    Raft(raft::Args),
    Autopilot(autopilot::Args),
}

pub(crate) fn run(args: Args) -> ExitCode {
    match args.command {
        Some(Commands::Raft(args)) => raft::run(args),
        Some(Commands::Autopilot(args)) => autopilot::run(args),
        None => failed::status(Err(help::after("A subcommand must be specified", &["operator"]))),
    }
}
