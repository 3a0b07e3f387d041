//! What an operator may want to know of the services and checks of an agent.

use std::fmt;

use crate::api::Error;
use crate::file::FileName;
use crate::keep::Unreadable;

/// Something that happened to a service or a check, or did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A check is now in another state.
    Changed {
        /// The check's ID.
        check: String,
        /// Its new state.
        status: String,
    },
    /// A definition names more than one kind of check: it is of the first of them.
    SeveralKinds {
        /// The check's ID.
        check: String,
    },
    /// A check of this service was critical for too long: the service is taken back.
    Reaped {
        /// The service's ID.
        service: String,
        /// The check's ID.
        check: String,
    },
    /// Something that the configuration files define, or that was kept, cannot be registered, and is left out.
    LeftOut {
        /// What it is.
        what: String,
        /// Why not.
        error: Error,
    },
    /// A file that the agent kept cannot be read, and is left alone.
    Unreadable {
        /// The file.
        file: FileName,
        /// Why not.
        reason: Unreadable,
    },
    /// A check was kept whose service is gone: it is forgotten.
    Orphan {
        /// The check's ID.
        check: String,
    },
    /// The servers refuse to enter or strike out something; it is tried again with the next full comparison.
    Refused {
        /// What.
        what: String,
        /// Why.
        error: Error,
    },
    /// The servers cannot be told what is registered here; it is tried again until they can.
    OutOfTouch {
        /// Why not.
        error: Error,
    },
    /// The servers can be told again.
    InTouch,
}

impl News {
    /// Whether somebody should look after it.
    #[must_use]
    pub const fn is_trouble(&self) -> bool {
        !matches!(self, Self::Changed { .. } | Self::InTouch)
    }
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { check, status } => write!(f, "check '{check}' is now {status}"),
            Self::SeveralKinds { check } => {
                write!(
                    f,
                    "check '{check}' is defined as more than one kind: the first of TTL, HTTP, TCP, script counts"
                )
            }
            Self::Reaped { service, check } => {
                write!(f, "service '{service}' is deregistered: check '{check}' was critical for too long")
            }
            Self::LeftOut { what, error } => write!(f, "{what} is left out: {error}"),
            Self::Unreadable { file, reason } => write!(f, "{file} cannot be used and is left alone: {reason}"),
            Self::Orphan { check } => write!(f, "check '{check}' is forgotten: its service is not registered any more"),
            Self::Refused { what, error } => write!(f, "the servers refused {what}: {error}"),
            Self::OutOfTouch { error } => {
                write!(f, "the servers cannot be told of this agent's services and checks, it is tried again: {error}")
            }
            Self::InTouch => f.write_str("the servers are told of this agent's services and checks again"),
        }
    }
}
