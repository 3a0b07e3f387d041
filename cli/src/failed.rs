//! How commands end.

use std::fmt::Display;
use std::process::ExitCode;

/// Why a command did not do what it was asked to, as a text for the user.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failed(pub(crate) String);

impl Failed {
    /// With the opening of most of Consul's error texts.
    pub(crate) fn error(what: impl Display) -> Self {
        Self(format!("Error! {what}"))
    }
}

/// As [`status`], for the commands that Consul 0.7 has no HTTP for: it tells of their failures on standard output, and
/// there are programs that look for them there.
pub(crate) fn status_on_stdout(done: Result<(), Failed>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed(why)) => {
            say!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Says why, if it failed; gives the status to exit with.
pub(crate) fn status(done: Result<(), Failed>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed(why)) => {
            complain!("{why}");
            ExitCode::FAILURE
        }
    }
}
