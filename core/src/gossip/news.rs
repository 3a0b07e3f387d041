//! What becomes of gossip: news for the owner, and packets to be sent.

use std::net::SocketAddr;

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
    },
    /// The farewell is said: the owner may stop.
    LeaveDone,
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
