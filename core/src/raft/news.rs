//! What may interest those who watch a server: operators, tests, checkers.

use crate::id::{PeerId, Term};

/// News of consensus. It asks for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// This server was elected.
    BecameLeader {
        /// For which term.
        term: Term,
    },
    /// This server led and does so no more.
    SteppedDown {
        /// The term in which it led.
        term: Term,
        /// Why.
        reason: StepDown,
    },
    /// Another leader is known now, or none.
    LeaderChanged {
        /// The leader.
        leader: Option<PeerId>,
        /// The term.
        term: Term,
    },
    /// This server asks for votes.
    Campaigning {
        /// The term it would lead.
        term: Term,
    },
}

/// Why a leader gave up its office.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepDown {
    /// A message came with a higher term.
    HigherTerm,
    /// No quorum was heard for an election timeout (check-quorum).
    LostQuorum,
    /// It was removed from the cluster, or has lost its vote.
    Removed,
}
