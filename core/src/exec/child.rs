//! Commands that an owner runs: what it is told to do with them, and what it tells of them. It decides nothing.
//!
//! A command has a process group of its own, nothing to read, and one pipe for both its outputs, so that they stay in order. It
//! is over when it has ended *and* nobody holds the pipe any more: what it left running in the background with the same output
//! belongs to it, as with Consul. What it left behind on purpose, with an output of its own, is left alone, unless the group is
//! killed.

use bytes::Bytes;

use super::layout::Order;
use crate::id::RunId;

/// What the owner is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// To start a command. It is told of ([`Event`]) until it is over.
    Start {
        /// No two commands of one agent's life have the same.
        id: RunId,
        /// What to run. A line is one for `/bin/sh -c`. A script is put into a file that only the agent's user can read, and that
        /// is there as long as the command runs; `/bin/sh` reads it, unless it begins with `#!`.
        order: Order,
        /// How many bytes of its output the owner may tell, before it is told to read on. What is beyond waits in the pipe, and
        /// the command waits with it.
        credit: usize,
    },
    /// The owner may tell so many bytes more of this command's output.
    Read {
        /// Which.
        id: RunId,
        /// How many.
        bytes: usize,
    },
    /// What this command writes from now on is to be read and thrown away.
    Discard {
        /// Which.
        id: RunId,
    },
    /// To send a signal to a command's whole process group. Nothing happens if it is over.
    Signal {
        /// Which.
        id: RunId,
        /// What.
        signal: Signal,
    },
}

/// A signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `SIGTERM`: a request to end.
    Terminate,
    /// `SIGKILL`. The command is over then as soon as it is dead, whoever still holds the pipe; what it has written and was not
    /// told is lost.
    Kill,
}

/// What an owner tells of a command. Nothing comes after its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It has written this; never empty. In the order in which it was written.
    Wrote(Bytes),
    /// It is over.
    Ended(Ended),
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this code; `None` if a signal ended it.
    Exited {
        /// What it said.
        code: Option<i32>,
    },
    /// It could not be started, or not be followed to its end.
    Failed {
        /// Why, for people.
        reason: String,
    },
}
