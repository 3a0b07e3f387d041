//! `lictor configtest`, which later Consuls call `validate`.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::agent::files;
use crate::failed::{self, Failed};

/// Checks configuration files without starting an agent
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Checks configuration files without starting an agent, in the order in which they are given. Says what \
                  is wrong with\nthem, and nothing if nothing is.\n\n    $ lictor configtest -config-dir=/etc/lictor"
)]
pub(crate) struct Args {
    /// A JSON file, or a directory of them. May be given several times.
    #[arg(long, value_name = "path", visible_alias = "config-dir")]
    config_file: Vec<PathBuf>,
    /// As -config-file.
    path: Vec<PathBuf>,
}

/// Checks configuration files
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Checks configuration files without starting an agent, in the order in which they are given.\n\n    $ \
                  lictor validate /etc/lictor"
)]
pub(crate) struct Validate {
    /// Say nothing if nothing is wrong.
    #[arg(long)]
    quiet: bool,
    /// A JSON file, or a directory of them. May be given several times.
    #[arg(long, value_name = "path", visible_alias = "config-dir")]
    config_file: Vec<PathBuf>,
    /// As -config-file.
    path: Vec<PathBuf>,
}

pub(crate) fn run(args: Args) -> ExitCode {
    failed::status(check(&[args.config_file, args.path].concat()))
}

pub(crate) fn validate(args: Validate) -> ExitCode {
    let checked = check(&[args.config_file, args.path].concat());
    if checked.is_ok() && !args.quiet {
        say!("Configuration is valid!");
    }
    failed::status(checked)
}

fn check(paths: &[PathBuf]) -> Result<(), Failed> {
    if paths.is_empty() {
        return Err(Failed("Must specify config using -config-file or -config-dir".to_owned()));
    }
    files::read(paths).map_err(|why| Failed(format!("Config validation failed: {why}")))?;
    Ok(())
}
