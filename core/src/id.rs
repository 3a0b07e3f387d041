//! Newtypes for everything that is counted or named, so that a term is never passed for an index.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after this. Saturates: nothing here is ever counted that far in earnest, but a
            /// hostile message may claim to be.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }

            /// The one before this; zero has none and stays.
            #[must_use]
            pub const fn prev(self) -> Self {
                Self(self.0.saturating_sub(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// A position in the replicated log; the first entry is 1, 0 is "before the log". It is also what
    /// the API calls `CreateIndex`, `ModifyIndex` and `X-Consul-Index`.
    Index
}
counter! {
    /// A raft term (Raft thesis, section 3.3): at most one leader each. 0 is "before any election".
    Term
}
counter! {
    /// One call of a client on this agent. The owner chooses it; no two open calls share one.
    CallId
}
counter! {
    /// An agent's own number for an open call, be it of a client or of another agent.
    Ticket
}
counter! {
    /// One write to disk, in the order in which they were asked for. See [`crate::io::Write`].
    WriteSeq
}
counter! {
    /// One job of the agent for its owner's files, in the order in which they were given. See [`crate::file::Job`].
    JobId
}
counter! {
    /// One run of a check, in the order in which they were begun. See [`crate::probe::Probe`].
    ProbeId
}
counter! {
    /// One command of remote execution on this agent, in the order in which jobs were heard of. See [`crate::exec`].
    RunId
}
counter! {
    /// A call that the agent itself makes on its cluster.
    ErrandId
}
counter! {
    /// A round of heartbeats, counted anew by each leader. What a quorum answers to a round proves that
    /// the leader still led when the round began.
    Round
}
counter! {
    /// How often a member of the gossip pool has spoken up for itself (SWIM, section 4.2): what is claimed of
    /// a member in a lower incarnation is out of date.
    Incarnation
}
counter! {
    /// A time of Lamport's (1978): later than everything that its author had heard of. 0 is before everything.
    LamportTime
}

/// The stable name of a server in raft: a UUID that lives in its data directory, so that a server may
/// come back with another address and is still the same.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerId(pub Uuid);

impl PeerId {
    /// A small readable identifier for tests and simulations: `PeerId::numbered(3)` prints as `n3`.
    #[must_use]
    pub const fn numbered(n: u64) -> Self {
        Self(Uuid::from_u128(n as u128))
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_u128() {
            n @ 0..=0xffff => write!(f, "n{n}"),
            _ => self.0.fmt(f),
        }
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A session, by its UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub Uuid);

impl SessionId {
    /// Reads the 36-character form with hyphens; nothing else is a session to the API.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 36).then(|| Uuid::try_parse(text).ok()).flatten().map(Self)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_id_takes_the_hyphenated_form_only() {
        let text = "adf4238a-882b-9ddc-4a9d-5b6758e4159e";
        assert_eq!(SessionId::parse(text).map(|s| s.to_string()).as_deref(), Some(text));
        assert_eq!(SessionId::parse("adf4238a882b9ddc4a9d5b6758e4159e"), None);
        assert_eq!(SessionId::parse("nosuch"), None);
        assert_eq!(SessionId::parse(""), None);
    }

    #[test]
    fn counters_stop_at_their_ends() {
        assert_eq!(Index(0).prev(), Index(0));
        assert_eq!(Index(u64::MAX).next(), Index(u64::MAX));
        assert_eq!(Index(7).next().prev(), Index(7));
    }
}
