//! The log on disk: its format, the writer that fills it and the recovery that reads it, as pure functions
//! over bytes.

use crate::io::FileOp;
use crate::raft::{Entry, HardState};

/// What recovery found.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Term, vote and commit index as last written.
    pub hard_state: HardState,
    /// The entries of the log, in order.
    pub entries: Vec<Entry>,
    /// Changes that the owner carries out, and makes durable, before the agent starts: a torn tail is cut.
    pub repairs: Vec<FileOp>,
}
