//! What the agents of a cluster say to each other over a reliable-ish stream: raft's messages, and the
//! calls that one agent makes on behalf of its clients on another.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::api::{Call, Reply};
use crate::id::{CallId, PeerId, Term};
use crate::raft::{self, Configuration};

/// A message with its sender and its receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// Who sent it.
    pub from: PeerId,
    /// Whom it is for. Whoever else receives it drops it.
    pub to: PeerId,
    /// Where the sender is. A server may come back with another address than the cluster's configuration says.
    pub address: SocketAddr,
    /// A checksum of the datacenter's name: strangers are dropped.
    pub cluster: u32,
    /// The message.
    pub body: Body,
}

/// What one agent may say to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Body {
    /// Consensus.
    Raft(raft::Message),
    /// A client's call, for the leader to answer, or for any server.
    Forward(Forward),
    /// The answer to a [`Forward`].
    Answer {
        /// The sender's call, as in [`Forward::id`].
        id: CallId,
        /// As in [`Forward::origin`].
        origin: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// "Here I am", of a member that hears of no leader: the envelope says where. The leader finds it by that, should it
    /// have come back with another address.
    Announce,
    /// A member was heard from an address that is not in the members' list. Told to the leader, whom that member may not
    /// find, nor it the member, when both have moved.
    Moved {
        /// Which member.
        id: PeerId,
        /// Where it was heard from.
        address: SocketAddr,
    },
    /// The client of a forwarded call has gone.
    Abandon {
        /// The sender's call, as in [`Forward::id`].
        id: CallId,
        /// As in [`Forward::origin`].
        origin: u64,
    },
    /// An agent that takes no part in raft asks a server who leads.
    WhoLeads,
    /// The answer to [`Body::WhoLeads`]; `None` if the server knows of no leader.
    Leads(Option<Leading>),
    /// Servers that have found each other are about to found a cluster.
    Founding(Founding),
}

/// Who leads, as a server knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leading {
    /// The leader.
    pub id: PeerId,
    /// Where it is.
    pub address: SocketAddr,
    /// The term that it leads.
    pub term: Term,
}

/// How servers without a cluster agree on one: see `founding.rs` of [`crate::agent`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Founding {
    /// "Let us be these."
    Proposed {
        /// Drawn by the founder; each of its proposals has another one.
        number: u64,
        /// The first members.
        configuration: Configuration,
    },
    /// The sender will not be in any other cluster, unless this proposal is withdrawn.
    Pledged {
        /// The proposal.
        number: u64,
    },
    /// The sender cannot pledge itself to this.
    Declined {
        /// The proposal.
        number: u64,
        /// It belongs to a cluster, or once did: nothing is to be founded beside that.
        settled: bool,
    },
    /// The proposal does not stand any more, and never will again.
    Withdrawn {
        /// The proposal.
        number: u64,
    },
}

/// A call on behalf of another agent's client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forward {
    /// The sender's own number for the call.
    pub id: CallId,
    /// A random number that the sender drew when it started: its earlier life's calls are not this one's.
    pub origin: u64,
    /// The term in which the sender takes the receiver for the leader. A server leads a term in one life only, so
    /// that it can tell a copy of this message that comes late from a call that it has not seen. 0 if any server may
    /// answer.
    pub term: Term,
    /// What is asked.
    pub call: Call,
}

/// What came of a forwarded call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was answered.
    Reply(Reply),
    /// Nothing was done, as the receiver does not lead (any more): ask elsewhere.
    NotLeader {
        /// As in [`Forward::term`]: what is said of one attempt is not true of the next.
        term: Term,
        /// Who does lead, if the receiver knows.
        leader: Option<Leading>,
    },
}
