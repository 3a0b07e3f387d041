//! `lictor version`.

use std::ffi::OsString;
use std::process::ExitCode;

/// The version of this build.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, if the build was told.
pub(crate) const REVISION: &str = match option_env!("LICTOR_REVISION") {
    Some(revision) => revision,
    None => "",
};

/// Prints the version
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Anything more is ignored.
    #[arg(hide = true)]
    _rest: Vec<OsString>,
}

pub(crate) fn run() -> ExitCode {
    say!("Lictor v{VERSION}");
    if !REVISION.is_empty() {
        say!("Revision {REVISION}");
    }
    say!("Speaks the Consul HTTP API, v1");
    ExitCode::SUCCESS
}
