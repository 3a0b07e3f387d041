//! What raft's peers say to each other. Each variant tells its part of the protocol.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::log::{Entry, Position};
use crate::id::{Index, Round, Term};

/// A message of one peer to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The sender's term; of a pre-vote and of a granted answer to it, the term that the sender would
    /// campaign for.
    pub term: Term,
    /// What is said.
    pub kind: Kind,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// "Would you vote for me?" Asked before a term is begun, so that a server that cannot win does not
    /// push the others' terms up (thesis 9.6). Nothing is promised and nothing becomes durable.
    PreVote {
        /// The end of the sender's log.
        last: Position,
    },
    /// The answer to a pre-vote.
    PreVoteReply {
        /// Whether the sender would vote so.
        granted: bool,
    },
    /// "Vote for me." Sent only once the candidate's own term, vote and log are durable (thesis 3.4).
    Vote {
        /// The end of the candidate's log: voters refuse one that lacks entries they have (thesis 3.6.1).
        last: Position,
        /// The leader itself asked the sender to take over, and has given up its lease: voters that swore themselves
        /// to that leader are free (thesis 3.10, 4.2.3).
        transfer: bool,
    },
    /// The answer to a vote. A granted one leaves only once the vote is durable.
    VoteReply {
        /// Whether the sender voted so.
        granted: bool,
    },
    /// The leader's entries, to follow those up to `prev` (thesis 3.5).
    Append {
        /// What the follower must already have.
        prev: Position,
        /// What it shall have then. Their indexes follow `prev` without a gap.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit: Index,
    },
    /// All entries up to here are in the follower's log, durable, and the same as the leader's.
    Appended {
        /// The last of them.
        matched: Index,
    },
    /// The follower does not have `prev`.
    Rejected {
        /// The index of the `prev` that was refused.
        prev: Index,
        /// Where the logs may agree: the follower's last entry at or before `prev` whose term is not
        /// above that of `prev`. It saves the leader from stepping back one by one (thesis 3.5, end).
        hint: Position,
    },
    /// "I lead." Keeps followers from campaigning, and asks them to confirm it.
    Heartbeat {
        /// What the follower may commit: the leader's commit index or, if smaller, what it is known to have.
        commit: Index,
        /// Given back in the answer.
        round: Round,
    },
    /// A piece of a snapshot, for a follower whose next entry the leader's log does not hold any more (thesis 5.3).
    Piece(Piece),
    /// All pieces of this snapshot before `next` are on the follower's disk. When the last one is, and the snapshot took
    /// the place of its log, the follower says [`Kind::Appended`].
    PieceReply {
        /// Which snapshot.
        snapshot: Position,
        /// The piece that should come next.
        next: u32,
    },
    /// "Take over": the follower begins a term at once, without asking whether it would win (thesis 3.10).
    TimeoutNow,
    /// "You lead, as far as I know." It does not wait for the disk: it promises nothing that a crash
    /// could break, as a restarted voter gives no vote for an election timeout. (A server that never made
    /// anything durable waits all the same: nobody could tell it from one that never was.)
    HeartbeatReply {
        /// The round that is answered.
        round: Round,
    },
}

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Which snapshot: the last entry that it stands for.
    pub snapshot: Position,
    /// The number of the piece, from 0.
    pub number: u32,
    /// Whether it is the last one.
    pub last: bool,
    /// What it holds. Raft does not look inside.
    pub bytes: Bytes,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let term = self.term;
        match &self.kind {
            Kind::PreVote { last } => write!(f, "PreVote term={term} last={last}"),
            Kind::PreVoteReply { granted } => write!(f, "PreVoteReply term={term} granted={granted}"),
            Kind::Vote { last, transfer } => {
                write!(f, "Vote term={term} last={last}{}", if *transfer { " transfer" } else { "" })
            }
            Kind::VoteReply { granted } => write!(f, "VoteReply term={term} granted={granted}"),
            Kind::Append { prev, entries, commit } => {
                write!(f, "Append term={term} prev={prev} commit={commit} entries=[")?;
                for (n, entry) in entries.iter().enumerate() {
                    let gap = if n == 0 { "" } else { " " };
                    write!(f, "{gap}{}", entry.position())?;
                }
                f.write_str("]")
            }
            Kind::Appended { matched } => write!(f, "Appended term={term} matched={matched}"),
            Kind::Rejected { prev, hint } => write!(f, "Rejected term={term} prev={prev} hint={hint}"),
            Kind::Heartbeat { commit, round } => write!(f, "Heartbeat term={term} commit={commit} round={round}"),
            Kind::Piece(Piece { snapshot, number, last, bytes }) => {
                let (size, end) = (bytes.len(), if *last { " last" } else { "" });
                write!(f, "Piece term={term} snapshot={snapshot} number={number} bytes={size}{end}")
            }
            Kind::PieceReply { snapshot, next } => write!(f, "PieceReply term={term} snapshot={snapshot} next={next}"),
            Kind::TimeoutNow => write!(f, "TimeoutNow term={term}"),
            Kind::HeartbeatReply { round } => write!(f, "HeartbeatReply term={term} round={round}"),
        }
    }
}
