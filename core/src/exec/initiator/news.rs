//! What an initiator wants, and what it has to tell.

use std::fmt;

use bytes::Bytes;

use crate::api::{Call, Response};
use crate::id::SessionId;
use crate::time::Duration;

/// The number of something that is asked. No two of one initiator are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskId(pub(super) u64);

/// What an initiator wants of its owner.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Ask this; the answer belongs to [`Initiator::handle_answer`](super::Initiator::handle_answer).
    Ask {
        /// Comes back with the answer.
        id: AskId,
        /// What.
        call: Box<Call>,
    },
    /// The answer to this is no longer waited for: hang up.
    Forget(AskId),
    /// Tell the user. Once that is done, [`Initiator::told`](super::Initiator::told) is to hear of it: nothing more is asked before.
    Tell(News),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// For the user.
    pub text: String,
    /// Whether it may be better soon, so that it is worth trying again: nobody leads, say.
    pub may_pass: bool,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What came of a question.
pub type Answer = Result<Response, Trouble>;

/// What there is to tell of a job, in the order in which it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Who will answer, by name.
    Expected {
        /// The live nodes that are meant.
        nodes: Vec<String>,
        /// Whether these are all, so that the job is over when they have all ended.
        certain: bool,
    },
    /// In another datacenter the session lives on a server there.
    Bound {
        /// The server.
        node: String,
        /// Its datacenter.
        datacenter: String,
    },
    /// The session is there.
    Session(SessionId),
    /// The job is in the store.
    JobWritten,
    /// The event is on its way.
    Fired {
        /// Its ID.
        event: uuid::Uuid,
        /// The nodes that it is for, if they are told one after another; none if it is for all that the filters mean.
        nodes: Vec<String>,
    },
    /// A node has the job, and begins.
    Acknowledged(String),
    /// A node is still at work.
    Heartbeat(String),
    /// A piece of what the command wrote on a node, in order, without gaps.
    Wrote {
        /// Which.
        node: String,
        /// Never empty. Lines may be cut: see [`Lines`](super::Lines).
        output: Bytes,
    },
    /// The command has ended on a node. Nothing more comes of that node.
    Ended {
        /// Which.
        node: String,
        /// 0 for success; -1 if it was killed.
        code: i32,
    },
    /// A node has failed, or has not been heard of for too long: no further ones are told.
    Stopped {
        /// Which.
        node: String,
    },
    /// It is over. What was written into the store is now removed.
    Finished(Summary),
    /// It has failed. What was written into the store is now removed.
    Failed(String),
    /// Something stays in the store until the session's time is over, for this reason.
    LeftBehind(String),
}

/// How a job went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many nodes have told how it ended there.
    pub completed: usize,
    /// How many have acknowledged it.
    pub acknowledged: usize,
    /// On how many of them it did not succeed.
    pub failed: usize,
    /// The nodes that acknowledged it and did not tell how it ended.
    pub unfinished: Vec<String>,
    /// Those that were expected to acknowledge it, and did not.
    pub silent: Vec<String>,
    /// Those that were not told, as it had failed elsewhere.
    pub not_started: Vec<String>,
    /// Since the event.
    pub took: Duration,
}

impl Summary {
    /// Whether it succeeded on every node that acknowledged it, and nothing was stopped.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.failed == 0 && self.unfinished.is_empty() && self.not_started.is_empty()
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// On every node that acknowledged it with success; if nodes were told by their names, on all of these.
    Success,
    /// Not with success everywhere.
    Unsuccessful,
    /// There was something that made it impossible.
    Failed,
    /// It was interrupted.
    Interrupted,
}
