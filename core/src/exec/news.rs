//! What an operator may want to know of the commands that others have an agent run.

use std::fmt;

use super::layout::{Malformed, Order, Place};
use crate::api::Error;

/// Something that became of a job, or did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// This agent runs nothing for others.
    Disabled,
    /// An event that is none for remote execution by its content.
    NoSummons {
        /// What is wrong with it.
        why: Malformed,
    },
    /// There are too many jobs here at this time: another one is not taken on.
    TooMany {
        /// The other one.
        place: Place,
        /// How many there may be.
        limit: usize,
    },
    /// A job that was taken on before, in this life or an earlier one, is not taken on again.
    Known {
        /// Which.
        place: Place,
    },
    /// A job cannot be read, and is not taken on.
    Unread {
        /// Which.
        place: Place,
        /// Why not.
        error: Error,
    },
    /// There is no such job (any more).
    NoJob {
        /// Which.
        place: Place,
    },
    /// A job is not of the form that jobs have.
    Malformed {
        /// Which.
        place: Place,
        /// What is wrong with it.
        why: Malformed,
    },
    /// A job's session has ended before it was taken on.
    TooLate {
        /// Which.
        place: Place,
    },
    /// A job was taken on, and its command is started.
    Started {
        /// Which.
        place: Place,
        /// What is run.
        order: Order,
    },
    /// The command could not be started, or not be followed to its end.
    Failed {
        /// Of which job.
        place: Place,
        /// Why not.
        reason: String,
    },
    /// The command has written more than anybody is told.
    Cut {
        /// Of which job.
        place: Place,
        /// How much is told.
        limit: u64,
    },
    /// Nobody collects a command's output any more who did, or was to: it goes into the store from now on.
    Uncollected {
        /// Of which job.
        place: Place,
    },
    /// A job is given up, and what is left of its command is killed.
    Lost {
        /// Which.
        place: Place,
        /// Why.
        why: Loss,
    },
    /// A job has come to its end, and all of it is told.
    Ended {
        /// Which.
        place: Place,
        /// How the command ended.
        code: i32,
    },
}

/// Why a job is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Its session has ended: nobody wants it any more.
    SessionEnded,
    /// The servers could not be told of it for too long.
    OutOfTouch(Error),
    /// This agent's token does not allow it to say what becomes of the job: the agent's configuration, or the token's
    /// rules, are to be changed.
    Denied(Error),
    /// This agent leaves.
    Leaving,
}

impl News {
    /// Whether somebody should look after it.
    #[must_use]
    pub const fn is_trouble(&self) -> bool {
        match self {
            Self::TooMany { .. }
            | Self::Unread { .. }
            | Self::Malformed { .. }
            | Self::NoSummons { .. }
            | Self::Failed { .. }
            | Self::Cut { .. }
            | Self::Lost { .. } => true,
            Self::Disabled
            | Self::Known { .. }
            | Self::NoJob { .. }
            | Self::TooLate { .. }
            | Self::Started { .. }
            | Self::Uncollected { .. }
            | Self::Ended { .. } => false,
        }
    }
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("remote exec: ignored, as disable_remote_exec is set"),
            Self::NoSummons { why } => write!(f, "remote exec: an event is of no use: {why}"),
            Self::TooMany { place, limit } => write!(f, "remote exec {place}: refused, {limit} jobs are under way"),
            Self::Known { place } => write!(f, "remote exec {place}: was taken on before, and is not again"),
            Self::Unread { place, error } => write!(f, "remote exec {place}: the job cannot be read: {error}"),
            Self::NoJob { place } => write!(f, "remote exec {place}: there is no such job"),
            Self::Malformed { place, why } => write!(f, "remote exec {place}: the job is of no use: {why}"),
            Self::TooLate { place } => write!(f, "remote exec {place}: not run, its session has ended"),
            Self::Started { place, order } => match order {
                Order::Command(line) => write!(f, "remote exec {place}: runs '{line}'"),
                Order::Program(words) => write!(f, "remote exec {place}: runs {words:?}"),
                Order::Script(bytes) => write!(f, "remote exec {place}: runs a script of {} bytes", bytes.len()),
            },
            Self::Failed { place, reason } => write!(f, "remote exec {place}: cannot be run: {reason}"),
            Self::Cut { place, limit } => write!(f, "remote exec {place}: its output is cut off after {limit} bytes"),
            Self::Uncollected { place } => {
                write!(f, "remote exec {place}: its output is not collected any more, and goes into the store")
            }
            Self::Lost { place, why: Loss::SessionEnded } => {
                write!(f, "remote exec {place}: its session has ended, it is killed")
            }
            Self::Lost { place, why: Loss::OutOfTouch(error) } => {
                write!(f, "remote exec {place}: the servers cannot be told of it, it is killed: {error}")
            }
            Self::Lost { place, why: Loss::Denied(error) } => write!(
                f,
                "remote exec {place}: given up, as the token of this agent (acl_agent_token, or else acl_token) may not answer it: {error}"
            ),
            Self::Lost { place, why: Loss::Leaving } => {
                write!(f, "remote exec {place}: killed, as this agent leaves")
            }
            Self::Ended { place, code } => write!(f, "remote exec {place}: finished with exit code {code}"),
        }
    }
}
