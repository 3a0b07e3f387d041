//! What becomes of gossip: news for the owner, and packets to be sent.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::member::{Member, Name};
use super::user_event::TimedEvent;
use crate::id::Incarnation;

/// What may interest the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A member is here that was not before.
    Joined(Member),
    /// The tags of a member have changed.
    Updated(Member),
    /// A member is gone, and nobody knows why.
    Failed(Member),
    /// A member left on purpose, or was made to after it failed.
    Left(Member),
    /// A member that was gone is forgotten.
    Reaped(Member),
    /// Somebody did not get an answer from a member.
    Suspected {
        /// From whom.
        name: Name,
        /// Who says so.
        from: Name,
    },
    /// Others took us for dead, or for about to be, and we objected.
    Refuted {
        /// The incarnation in which we did.
        incarnation: Incarnation,
    },
    /// Somebody elsewhere claims a name that is taken. The one that was known before stays.
    Conflict {
        /// The name: ours, or that of another member.
        name: Name,
        /// Who has it.
        known: SocketAddr,
        /// Who claims it.
        claimed: SocketAddr,
    },
    /// A user event arrived, or was fired here. Never the same twice.
    UserEvent(TimedEvent),
    /// The pool was joined through a member at this address.
    JoinSucceeded {
        /// The address.
        address: SocketAddr,
    },
    /// No member answered at this address.
    JoinFailed {
        /// The address.
        address: SocketAddr,
        /// What went wrong.
        reason: NoJoin,
    },
    /// Most of the members mean another by our name, and that one answers to it. From now on we are silent, without a
    /// farewell: it would be taken for that of the other.
    NameLost {
        /// Who has our name.
        holder: SocketAddr,
    },
    /// A packet of another pool came from this address, for the first time.
    Stranger {
        /// The address.
        from: IpAddr,
    },
    /// The farewell is said: the owner may stop.
    LeaveDone,
}

/// Why nobody was joined at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoJoin {
    /// Nothing could be sent there, for what the owner calls this reason.
    Unreachable(String),
    /// There was no answer in time.
    Silent,
}

impl fmt::Display for NoJoin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(reason) => reason.fmt(f),
            Self::Silent => f.write_str("i/o timeout"),
        }
    }
}

/// A packet that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// In one datagram. It may get lost.
    Datagram {
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Bytes,
    },
    /// Over a connection, which the owner opens or has. Nothing is expected back on it.
    Stream {
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Bytes,
    },
}

/// What was counted since the start, for operators and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that were dropped as they are no packets, damaged, or hold what is not a message.
    pub malformed: u64,
    /// Packets dropped for their protocol version.
    pub version: u64,
    /// Packets dropped as they are of another pool.
    pub strangers: u64,
    /// Messages that were dropped: pings for others, answers nobody asked for, messages that came on the wrong way.
    pub unexpected: u64,
    /// User events that were dropped as too old, or too many of one time.
    pub events_dropped: u64,
    /// Members that were not taken in as there are too many.
    pub members_refused: u64,
    /// Broadcasts that were dropped as too many waited, and packets that were not sent for the same reason.
    pub overflowed: u64,
    /// Probes that nobody answered.
    pub probes_failed: u64,
}
