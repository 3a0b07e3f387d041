//! What the agents of a cluster say to each other over a reliable-ish stream: raft's messages, and the
//! calls that one agent makes on behalf of its clients on another.

use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::{Call, Reply};
use crate::id::{CallId, PeerId, RunId, Term};
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
    /// What a command writes that is run for others, on its way past the log.
    Exec(Exec),
}

/// Between an agent that runs a command for others and the one where what it writes is asked for: see `stream.rs` and
/// `collector.rs` of [`crate::exec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exec {
    /// The command has written this.
    Piece {
        /// Which command, and where it is collected.
        source: Source,
        /// The piece's number among all pieces of this command, whichever way they go.
        number: u32,
        /// What it wrote, up to [`MAX_PIECE_BYTES`]; nothing if that is all there is to say: the command is still there.
        bytes: Bytes,
    },
    /// How far has it come?
    HowFar(Source),
    /// The answer to both, and news when it has come further.
    Taken(Taken),
}

/// The most that one [`Exec::Piece`] carries.
pub const MAX_PIECE_BYTES: usize = 32 << 10;

/// A command whose output is collected elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Source {
    /// Where it is collected.
    pub inbox: Uuid,
    /// The node that it runs on, by name.
    pub node: String,
    /// That agent's own number for it.
    pub run: RunId,
    /// The number of the first piece that came this way: those before it are in the store.
    pub first: u32,
}

/// How far a command's output has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// As in [`Source::inbox`].
    pub inbox: Uuid,
    /// As in [`Source::run`].
    pub run: RunId,
    /// Whether it is collected here at all (any more). If not, nothing else here means anything.
    pub open: bool,
    /// Whoever wanted it has taken all pieces before this one.
    pub taken: u32,
    /// All pieces before this one have arrived.
    pub have: u32,
    /// For how many bytes of pieces that are not taken yet there is room.
    pub room: u32,
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
