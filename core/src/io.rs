//! The doors of an [`Agent`](crate::agent::Agent): what can happen to it, and what it wants done.
//!
//! An owner (a simulator, or a program with sockets and disks) feeds every [`Input`] that is at hand,
//! then drains every [`Output`]. The first poll after an input closes the batch: one [`Write`], one append
//! for each follower, each watcher asked once. Outputs may be carried out in any order and at the same
//! time, with two exceptions that the owner must keep:
//!
//! - writes reach the disk in the order of their [`WriteSeq`], and
//! - a [`View`] is published before the replies and messages that follow it are sent, so that a client that
//!   has its acknowledgement also finds its write, and a lease that was given up is not used any more.
//!
//! Each input comes with the time: read the clock *after* an input is at hand, as what is answered within a
//! leader's lease rests on it.
//!
//! What must wait for something (a vote for the disk, an answer for a quorum) waits inside.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;

use crate::api::{Call, Reply};
use crate::exec;
pub use crate::file::{FileName, FileOp, Job, JobOutcome, Write};
use crate::id::{CallId, JobId, PeerId, ProbeId, RunId, WriteSeq};
use crate::local;
use crate::peer::Envelope;
pub use crate::probe::{Finding, Probe};
use crate::raft;
use crate::store::Store;
use crate::time::Duration;
use crate::view::View;
use crate::wire::Malformed;

/// Something that happens to an agent.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client asks for something.
    Call {
        /// Chosen by the owner, different from those of all open calls.
        id: CallId,
        /// What is asked.
        call: Call,
    },
    /// The client of this call has gone; its answer is not wanted any more. A write may still happen.
    Hangup {
        /// The call that was given up.
        id: CallId,
    },
    /// A peer says something.
    Message(Envelope),
    /// A member of the gossip pool, or who claims to be one, sends a datagram.
    Datagram {
        /// Where it came from.
        from: SocketAddr,
        /// What came.
        bytes: Bytes,
    },
    /// The same, over a stream.
    Stream {
        /// Where it came from. Its port is of no use.
        from: SocketAddr,
        /// What came.
        bytes: Bytes,
    },
    /// What [`Output::Stream`] was to bring there could not be delivered.
    Unreachable {
        /// Where to.
        to: SocketAddr,
        /// Why, in a few words for an operator ("connect: connection refused").
        reason: String,
    },
    /// The answer to [`Output::Resolve`].
    Resolved {
        /// The name.
        name: String,
        /// Its addresses; none if it has none, or nobody could be asked.
        addresses: Vec<IpAddr>,
    },
    /// The answer to [`Output::Probe`].
    Probed {
        /// The probe.
        id: ProbeId,
        /// What came of it.
        finding: Finding,
    },
    /// Something has become of a command that [`Output::Child`] had started.
    Child {
        /// The command.
        id: RunId,
        /// What.
        event: exec::child::Event,
    },
    /// Bytes arrived that are no message of ours. They are counted.
    Garbage {
        /// Who sent them, if known.
        from: Option<SocketAddr>,
        /// What was wrong with them.
        reason: Malformed,
    },
    /// All writes up to and including this one are on disk and survive a power loss.
    Persisted(WriteSeq),
    /// The answer to [`Output::Job`]. Jobs are answered in their order.
    JobDone {
        /// The job.
        id: JobId,
        /// What became of it.
        outcome: JobOutcome,
    },
    /// The answer to [`Output::Reserve`].
    Reserved {
        /// The file that was named.
        file: FileName,
        /// The size that was asked for.
        size: u64,
        /// Whether the disk had the room. If not, the file is as it was.
        granted: bool,
    },
    /// The time that [`poll_timeout`](crate::agent::Agent::poll_timeout) named has come. Feeding it early or
    /// twice does no harm.
    Timeout,
}

/// Something that an agent wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// The answer to a call, which is closed with it.
    Reply {
        /// The call.
        id: CallId,
        /// Its answer.
        reply: Reply,
    },
    /// To be sent to a peer. It may get lost, arrive twice or out of order.
    Message {
        /// Where the peer is.
        to: SocketAddr,
        /// What to send.
        envelope: Envelope,
    },
    /// To be sent to a member of the gossip pool in one datagram. It may get lost.
    Datagram {
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Bytes,
    },
    /// The same, over a stream, as it may be large. Nothing is expected back on it.
    Stream {
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Bytes,
    },
    /// To find out what addresses a host has, answered by [`Input::Resolved`].
    Resolve {
        /// Its name.
        name: String,
    },
    /// To run a check, answered by [`Input::Probed`].
    Probe(Probe),
    /// To end a probe that is under way. It is not answered then, unless it was already.
    CancelProbe(ProbeId),
    /// Something to be done about a command that is run for others. Those about one command are carried out in their order.
    Child(exec::child::Action),
    /// To be written and made durable, then answered by [`Input::Persisted`].
    Persist(Write),
    /// To be done to files beside the log's writes, which it must not hold up, and answered by [`Input::JobDone`].
    Job(Job),
    /// To set disk space aside, so that later appends cannot fail for lack of room: make `file` (which
    /// may not exist yet) at least `size` bytes long, reading as zeros beyond what was written. Answered by
    /// [`Input::Reserved`]. It needs no sync and may overtake writes.
    Reserve {
        /// The file, relative to the data directory.
        file: FileName,
        /// Its size in bytes.
        size: u64,
    },
    /// A state that nobody needs any more. To drop it takes time in proportion to what it alone still holds: for a large
    /// one that is better done on a thread that nobody waits for.
    Discard(Box<Store>),
    /// A newer picture of the store, for reads that need not enter the core.
    Publish(Arc<View>),
    /// Something that an operator, a test or a checker may want to know. It asks for nothing.
    Notice(Notice),
}

/// News of snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotNews {
    /// One of our own is on the disk, and the log before it can go.
    Cut {
        /// The entry that it ends with.
        position: raft::Position,
        /// What it takes on the disk.
        bytes: u64,
    },
    /// One is sent to a follower that lacks what our log has forgotten.
    Sending {
        /// The follower.
        to: PeerId,
        /// The entry that it ends with.
        position: raft::Position,
    },
    /// A leader's has taken the place of our log and store.
    Installed {
        /// The leader.
        from: PeerId,
        /// The entry that it ends with.
        position: raft::Position,
        /// What it takes on the disk.
        bytes: u64,
    },
    /// What a leader sent is no snapshot that this program can read.
    Refused {
        /// The leader.
        from: PeerId,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk has no room for one; it is tried again later.
    NoRoom,
}

/// News of the servers that make up a cluster. Its text is for operators.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerNews {
    /// We have founded a cluster.
    #[error("founded a cluster of {members} servers")]
    Founded {
        /// How many servers it begins with.
        members: usize,
    },
    /// No cluster is founded, as a server founds one all alone.
    #[error("no cluster is founded: {name} has -bootstrap set, and founds one alone")]
    FoundsAlone {
        /// Which.
        name: String,
    },
    /// No cluster is founded, as servers do not agree on how many there are to be.
    #[error("no cluster is founded: {name} expects {expects} servers, this agent expects {we}")]
    ExpectsOthers {
        /// Which server.
        name: String,
        /// How many it expects; 0 if it does not wait for others.
        expects: u32,
        /// How many we expect.
        we: u32,
    },
    /// No cluster is founded, as there is one: it will add us.
    #[error("no cluster is founded: {name} belongs to one already, or once did")]
    Settled {
        /// Who belongs to it.
        name: String,
    },
    /// No cluster is founded before a failed server comes back, or is declared gone (`force-leave`).
    #[error("no cluster is founded while {name} is failed: it may belong to one")]
    AwaitsFailed {
        /// Which.
        name: String,
    },
    /// A server is not added to the cluster, as it founds one alone, and another one does so too.
    #[error("{name} is not added to the cluster: more than one server has -bootstrap set, but only one may")]
    SecondBootstrap {
        /// Which.
        name: String,
    },
}

/// News of the gossip pool. Its text is for operators.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolNews {
    /// A member is here that was not before.
    #[error("{name} at {address} has joined")]
    Joined {
        /// Its name.
        name: String,
        /// Where its gossip is.
        address: SocketAddr,
    },
    /// A member says something else of itself than before.
    #[error("{name} at {address} has new tags or another address")]
    Updated {
        /// Its name.
        name: String,
        /// Where its gossip is.
        address: SocketAddr,
    },
    /// A member is gone, and nobody knows why.
    #[error("{name} at {address} has failed")]
    Failed {
        /// Its name.
        name: String,
        /// Where its gossip was.
        address: SocketAddr,
    },
    /// A member left on purpose, or was made to after it failed.
    #[error("{name} at {address} has left")]
    Left {
        /// Its name.
        name: String,
        /// Where its gossip was.
        address: SocketAddr,
    },
    /// A member that was gone is forgotten.
    #[error("{name}, which is gone, is forgotten")]
    Reaped {
        /// Its name.
        name: String,
    },
    /// Others took us for dead, and we objected.
    #[error("others took this agent for failed, and it objected: are datagrams lost, or is this machine too busy?")]
    Refuted,
    /// Two agents have one name, or one has moved and not all have noticed yet. The one that was known before stays.
    #[error("two agents claim the name {name}: {known}, which keeps it, and {claimed}")]
    Conflict {
        /// The name: ours, or that of another member.
        name: String,
        /// Who has it.
        known: SocketAddr,
        /// Who claims it.
        claimed: SocketAddr,
    },
    /// Most of the members mean another agent by our name, and that agent answers to it. We are out of the pool and silent;
    /// the agent ends ([`Notice::ends_the_agent`]).
    #[error("the node name {name} belongs to the agent at {holder}: give this one another name")]
    NameLost {
        /// Our name.
        name: String,
        /// Who has it.
        holder: SocketAddr,
    },
    /// Somebody of another pool speaks to us, most likely an agent of another datacenter. Told once for each address.
    #[error(
        "an agent at {from} is not of this pool: it has another datacenter, and what it sends is dropped from now on"
    )]
    Stranger {
        /// Its address.
        from: IpAddr,
    },
    /// What the configuration told us to join is joined.
    #[error("joined the pool: {contacted} of the configured agents answered")]
    RetrySucceeded {
        /// How many of the agents that it names have answered.
        contacted: usize,
    },
    /// Nobody whom the configuration told us to join has answered. It is tried again.
    #[error("attempt {attempt} to join the configured agents failed, the next one follows in {again_in:.1?}: {reason}")]
    RetryFailed {
        /// Which attempt that was, the first being 1.
        attempt: u32,
        /// What went wrong with each of them.
        reason: String,
        /// When the next attempt follows.
        again_in: Duration,
    },
    /// As above, once too often. The agent ends ([`Notice::ends_the_agent`]).
    #[error("gave up joining the configured agents after {attempts} attempts: {reason}")]
    GaveUp {
        /// How many there were.
        attempts: u32,
        /// What went wrong with each of them in the last one.
        reason: String,
    },
    /// The members of an earlier life are members with us again.
    #[error("joined the members of an earlier life again, through {address}")]
    Rejoined {
        /// Who answered.
        address: SocketAddr,
    },
    /// None of the members of an earlier life has answered. It is tried again as long as we are alone.
    #[error("none of the {asked} members of an earlier life answers; it is tried again every {again_in:.1?}")]
    RejoinFailed {
        /// How many were asked.
        asked: usize,
        /// How often they are asked.
        again_in: Duration,
    },
    /// What was kept of an earlier life in the pool is of no use.
    #[error("{file}: cannot be read, and is begun anew: {reason}")]
    Unreadable {
        /// The file.
        file: FileName,
        /// What is wrong with it.
        reason: String,
    },
}

/// News for those who watch an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Of consensus.
    Raft(raft::News),
    /// Of the gossip pool.
    Pool(PoolNews),
    /// The agent has left the pool for good: the owner stops it ([`Notice::ends_the_agent`]).
    Left,
    /// Of snapshots.
    Snapshot(SnapshotNews),
    /// Of the servers that make up the cluster.
    Servers(ServerNews),
    /// Of the services and checks of this agent.
    Local(local::News),
    /// Of commands that others have this agent run.
    Exec(exec::News),
    /// The members are now those that the operator named in `raft/peers.json`, which is removed.
    OrderObeyed,
    /// A message was thrown away.
    Dropped {
        /// Who sent it, if known.
        from: Option<SocketAddr>,
        /// What was wrong with it.
        reason: Malformed,
    },
    /// The disk has no room for more log: writes are refused until it has.
    DiskFull,
    /// The disk has room for the log again, after this long.
    DiskHasRoom {
        /// How long writes were refused.
        after: Duration,
    },
}

impl Notice {
    /// Whether the agent's life ends with it: the owner carries out what else is at hand, and stops it.
    #[must_use]
    pub const fn ends_the_agent(&self) -> bool {
        matches!(self, Self::Left | Self::Pool(PoolNews::NameLost { .. } | PoolNews::GaveUp { .. }))
    }
}
