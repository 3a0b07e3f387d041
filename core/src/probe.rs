//! Checks that are run: what an owner is to find out, and what it found. What that means for anybody's health is decided by
//! the agent.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::id::ProbeId;
use crate::time::Duration;

/// The most output that an owner hands back; what is beyond it is counted.
pub const OUTPUT_BYTES: usize = 4096;

/// One run of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// No two probes under way have the same.
    pub id: ProbeId,
    /// What to find out.
    pub question: Question,
    /// How long it may take. A command that takes longer is killed with its whole process group.
    pub timeout: Duration,
}

/// What to find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// What a server answers to a request.
    Http {
        /// Where to.
        url: String,
        /// `GET`, or another.
        method: String,
        /// To be sent along, beside the usual ones.
        header: BTreeMap<String, Vec<String>>,
        /// To be sent along.
        body: String,
        /// Whether to take any certificate for good.
        tls_skip_verify: bool,
    },
    /// Whether something takes connections. A name stands for all its addresses: one that works will do.
    Tcp {
        /// A host and a port.
        address: String,
    },
    /// How a command ends. Its standard input is closed, and it has a process group of its own.
    Command(Command),
    /// How a command ends that is run in a container.
    Docker {
        /// The container.
        container: String,
        /// The command; a shell's is run by `shell`.
        command: Command,
        /// The shell, such as `/bin/sh`.
        shell: String,
    },
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A line for the shell.
    Shell(String),
    /// A program and its arguments.
    Program(Vec<String>),
}

/// What an owner found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// To [`Question::Http`]: a server answered.
    Answered {
        /// The status, as a number.
        status: u16,
        /// The status, in words.
        reason: String,
        /// The body's beginning, up to [`OUTPUT_BYTES`].
        body: Bytes,
    },
    /// To [`Question::Tcp`]: something took the connection.
    Connected,
    /// To the commands: it ended.
    Exited {
        /// With this code; `None` if a signal ended it.
        code: Option<i32>,
        /// What it wrote to its standard output and error: the last [`OUTPUT_BYTES`] of it.
        output: Bytes,
        /// How much it wrote in all.
        total: u64,
    },
    /// It took too long, and was ended.
    TimedOut,
    /// There is nothing that could answer.
    Failed {
        /// Why, for people.
        reason: String,
    },
}
