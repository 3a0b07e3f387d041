//! `lictor snapshot`: the replicated state in a file, and back.

mod inspect;
mod restore;
mod save;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::process::ExitCode;

use clap::Subcommand;

use crate::client::go_file_reason;
use crate::failed::Failed;

/// Saves, restores and inspects snapshots of the cluster's state
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    disable_help_subcommand = true,
    long_about = "Saves, restores and inspects snapshots of the cluster's state, for disasters and for moves to \
                  another\ncluster.\n\n    $ lictor snapshot save backup.snap\n    $ lictor snapshot inspect \
                  backup.snap\n    $ lictor snapshot restore backup.snap"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Subcommand)]
enum Commands {
    Save(save::Args),
    Restore(restore::Args),
    Inspect(inspect::Args),
}

pub(crate) fn run(args: Args) -> ExitCode {
    match args.command {
        Commands::Save(args) => save::run(args),
        Commands::Restore(args) => restore::run(args),
        Commands::Inspect(args) => inspect::run(args),
    }
}

/// The one file that a command takes.
fn only_file(args: Vec<OsString>) -> Result<OsString, Failed> {
    let number = args.len();
    match <[OsString; 1]>::try_from(args) {
        Ok([file]) => Ok(file),
        Err(_) if number == 0 => Err(Failed("Missing FILE argument".to_owned())),
        Err(_) => Err(Failed(format!("Too many arguments (expected 1, got {number})"))),
    }
}

fn open(file: &OsStr) -> Result<File, Failed> {
    File::open(file).map_err(|error| Failed(cannot("opening", file, &error)))
}

fn cannot(what: &str, file: &OsStr, error: &io::Error) -> String {
    format!("Error {what} snapshot file: open {}: {}", file.display(), go_file_reason(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_is_taken() {
        let file = |args: &[&str]| only_file(args.iter().map(OsString::from).collect()).map_err(|failed| failed.0);
        assert_eq!(file(&["a.snap"]).unwrap(), "a.snap");
        assert_eq!(file(&[]).unwrap_err(), "Missing FILE argument");
        assert_eq!(file(&["a", "b"]).unwrap_err(), "Too many arguments (expected 1, got 2)");
        let missing = open(OsStr::new("no/such.snap")).unwrap_err().0;
        assert_eq!(missing, "Error opening snapshot file: open no/such.snap: no such file or directory");
    }
}
