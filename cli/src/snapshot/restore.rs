//! `lictor snapshot restore`.

use std::ffi::OsString;
use std::process::ExitCode;

use super::{only_file, open};
use crate::client::{Answer, Client, Error, Options};
use crate::failed::{self, Failed};

/// Replaces the cluster's state by a snapshot's
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Replaces the cluster's state by a snapshot's. The agent verifies the snapshot first; if anything is \
                  wrong,\nnothing changes. The file may be - for what comes from standard input.\n\n    $ lictor \
                  snapshot restore backup.snap\n    $ lictor snapshot restore - < backup.snap"
)]
pub(crate) struct Args {
    #[command(flatten)]
    client: Options,
    /// The file.
    file: Vec<OsString>,
}

pub(super) fn run(args: Args) -> ExitCode {
    failed::status(restore(args))
}

fn restore(args: Args) -> Result<(), Failed> {
    let failed = |error: Error| Failed(format!("Error restoring snapshot: {error}"));
    let name = only_file(args.file)?;
    let answer = if name == "-" {
        Client::new(args.client).and_then(|client| client.upload("snapshot", std::io::stdin(), None))
    } else {
        let file = open(&name)?;
        // A length is known of ordinary files alone.
        let length = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|data| data.len());
        Client::new(args.client).and_then(|client| client.upload("snapshot", file, length))
    };
    answer.and_then(Answer::ok).map_err(failed)?;
    say!("Restored snapshot");
    Ok(())
}
