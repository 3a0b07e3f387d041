//! The log in memory. What of it is on disk is [`stable`](super::stable)'s concern.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::membership::Configuration;
use crate::id::{Index, PeerId, Term};

/// An entry's index and term. Two logs that share a position share everything before it (log matching,
/// thesis 3.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Where.
    pub index: Index,
    /// By the leader of which term.
    pub term: Term,
}

impl Position {
    /// Before the first entry.
    pub const START: Self = Self { index: Index(0), term: Term(0) };

    /// Whether a log that ends here has everything that one that ends at `other` may have committed
    /// (thesis 3.6.1).
    #[must_use]
    pub fn is_up_to_date_with(self, other: Self) -> bool {
        (self.term, self.index) >= (other.term, other.index)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it stands.
    pub index: Index,
    /// The term of the leader that made it.
    pub term: Term,
    /// What it says.
    pub payload: Payload,
}

impl Entry {
    /// Its place in history.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { index: self.index, term: self.term }
    }

    /// Roughly how many bytes it takes on disk, on the wire and in memory.
    #[must_use]
    pub fn size(&self) -> usize {
        32 + match &self.payload {
            Payload::Noop => 0,
            Payload::Configuration(configuration) => 48 * configuration.voters.len(),
            Payload::Command(bytes) => bytes.len(),
        }
    }
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// Nothing: a leader's first entry, which carries the commit index into its term (thesis 6.4).
    Noop,
    /// The members from here on.
    Configuration(Configuration),
    /// A command for the state machine. Raft does not look inside.
    Command(Bytes),
}

/// What must survive a crash beside the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// The latest term that this server has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<PeerId>,
    /// What it knew to be committed when it last wrote anything. Not needed for safety: it lets a restarted
    /// server answer stale reads from a state not much older than before.
    pub commit: Index,
}
