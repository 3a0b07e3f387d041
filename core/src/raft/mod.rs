//! Raft: a cluster agrees on one log, whatever crashes, as long as a majority comes back.
//!
//! After Ongaro's thesis ("Consensus: Bridging Theory and Practice", 2014), whose sections are cited beside
//! the branches that obey them. In short:
//!
//! - **Terms.** Time is cut into terms; each has at most one leader, as each server votes once a term and a
//!   leader needs a majority. Whoever hears of a higher term joins it. (`election.rs`)
//! - **Elections.** A follower that hears of no leader for a random time asks the others whether they would
//!   vote for it (*pre-vote*), and only if a majority would, begins a term and asks in earnest. A voter
//!   refuses a candidate whose log lacks what it has itself, so a leader always has every committed entry.
//! - **Replication.** The leader appends what is proposed and sends it on. A follower takes entries only
//!   behind one that it shares with the leader; if it does not, the leader goes back to where they agree,
//!   in steps of a term. (`replication.rs`, `progress.rs`)
//! - **Commitment.** An entry is committed once a majority has it *on disk* and it, or one behind it, is of
//!   the leader's own term (thesis 3.6.2: counting alone is not enough for older ones). Each leader
//!   therefore begins with an empty entry.
//! - **The disk.** Nothing is promised before it is durable, but nothing else waits: the leader's disk and the
//!   network work at the same time, and one write carries all that a batch of inputs brought. (`stable.rs`)
//! - **Reads** do not go through the log. A round of heartbeats that a majority answers proves that nobody
//!   else led when it began. That makes a `consistent` read; and as no voter elects another within an
//!   election timeout of hearing the leader, it also gives the leader a *lease*, during which default reads need
//!   no question at all. (`read.rs`)
//! - **Check-quorum.** A leader that hears no majority for an election timeout resigns, so that its clients go
//!   elsewhere.
//!
//! The machine knows its peers by [`PeerId`], carries opaque bytes, and has no clock or disk: see
//! [`Raft::step`], [`Raft::tick`], [`Raft::persisted`] for what happens to it, and [`Raft::flush`] for what it wants.
//! The agent drains committed entries by [`Raft::next_to_apply`].
//!
//! - **Members** change one vote at a time, by entries of the log that hold from the moment they are in it. A server
//!   joins without a vote and gets one when it has caught up (thesis 4.1, 4.2.1). (`change.rs`, `membership.rs`)
//! - **Handing over.** A leader may ask a follower to take its place, and gives up its lease first. (`transfer.rs`)
//! - **Snapshots** take the place of the log's beginning. Raft knows which part of the log one stands for, and carries
//!   its pieces to followers whose next entry is gone; what is in them is the owner's. (`snapshot.rs`)
//!
//! What is left out: joint consensus (members change one at a time), and pipelining of pre-votes.

mod change;
mod configuration;
mod election;
mod founding;
pub mod log;
pub mod membership;
pub mod message;
mod news;
mod options;
pub mod progress;
pub mod quorum;
mod read;
mod replication;
mod snapshot;
mod stable;
#[cfg(test)]
mod tests;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

pub use change::{Change, Refused};
pub use configuration::{Configuration, Server};
pub use log::{Entry, HardState, Log, Payload, Position};
pub use membership::Membership;
pub use message::{Kind, Message, Piece};
pub use news::{News, StepDown};
pub use options::Options;
pub use progress::Progress;
use read::Rounds;
pub use snapshot::{Due, SnapshotMeta};
use stable::Stable;
pub use stable::Unwritten;
use transfer::Transfer;

use crate::id::{Index, PeerId, Term, WriteSeq};
use crate::rng::Rng;
use crate::time::Instant;

/// What a server is in its current term.
#[derive(Clone, Debug)]
pub enum Role {
    /// Takes entries from a leader, if there is one.
    Follower,
    /// Asks whether the others would vote for it.
    PreCandidate {
        /// Who would, itself included. A set: an answer may come twice.
        granted: BTreeSet<PeerId>,
    },
    /// Asks for votes.
    Candidate {
        /// Who voted for it; itself once that is durable. A set: an answer may come twice.
        granted: BTreeSet<PeerId>,
    },
    /// Leads.
    Leader(Leader),
}

/// What only a leader knows.
#[derive(Clone, Debug)]
pub struct Leader {
    /// How far the others are.
    pub progress: BTreeMap<PeerId, Progress>,
    rounds: Rounds,
    next_heartbeat: Instant,
    /// Where this term begins: the index of our no-op. Until it is committed we do not know what is (thesis 6.4).
    term_start: Index,
    /// Bytes of entries that are in the log and not committed.
    uncommitted_bytes: usize,
    /// It is about to hand over.
    transfer: Option<Transfer>,
    /// Another was asked to take over in this term, and may still do so: there is no lease any more.
    lease_given_up: bool,
}

/// The consensus machine of one server.
///
/// Invariants: `term` never decreases; `vote` changes at most once a term; only a leader has a term of its own in the
/// log's last entries; `leader` is the sender of this term's entries.
#[derive(Clone, Debug)]
pub struct Raft {
    id: PeerId,
    config: Options,
    rng: Rng,
    now: Instant,
    term: Term,
    vote: Option<PeerId>,
    log: Log,
    membership: Membership,
    stable: Stable,
    role: Role,
    leader: Option<PeerId>,
    /// When to ask for votes if no leader is heard; of no meaning on a leader.
    election_deadline: Instant,
    /// No vote is given to anyone before this: the leader that was heard last may hold a lease until then.
    sworn_until: Instant,
    /// When the leader was last heard.
    last_contact: Instant,
    outbox: Vec<(PeerId, Message)>,
    /// Pieces of snapshots that came from the leader, for the owner.
    pieces: Vec<(PeerId, Piece)>,
    news: Vec<News>,
}

/// What a batch came to: to be written, and sent.
#[derive(Debug, Default)]
pub struct Flushed {
    /// What must be written, if anything.
    pub write: Option<Unwritten>,
    /// News.
    pub news: Vec<News>,
}

/// What raft looks like from outside, for statistics, checkers and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// `follower`, `pre-candidate`, `candidate` or `leader`.
    pub role: &'static str,
    /// The current term.
    pub term: Term,
    /// Whom it voted for in this term.
    pub vote: Option<PeerId>,
    /// The leader of this term, if known.
    pub leader: Option<PeerId>,
    /// Everything up to here is committed.
    pub commit: Index,
    /// Everything up to here was applied.
    pub applied: Index,
    /// The end of the log.
    pub last: Position,
    /// Everything up to here is durable.
    pub durable: Index,
}

/// What a server starts from.
#[derive(Debug)]
pub struct Start {
    /// What the disk had kept of term, vote and commit.
    pub hard_state: HardState,
    /// The latest snapshot on the disk, if there is one. The owner's state machine holds it already.
    pub snapshot: Option<SnapshotMeta>,
    /// What the disk had kept of the log, behind the snapshot.
    pub entries: Vec<Entry>,
    /// The last write that is durable.
    pub last_seq: WriteSeq,
    /// The members of a new cluster, if the log is empty and this server may found it.
    pub bootstrap: Option<Configuration>,
    /// The members by order of the operator, after most of them are lost for good.
    pub forced: Option<Configuration>,
}

impl Raft {
    /// A server that wakes up at `now`.
    #[must_use]
    pub fn new(id: PeerId, config: Options, rng: Rng, start: Start, now: Instant) -> Self {
        let mut hard_state = start.hard_state;
        let base = start.snapshot.as_ref().map_or(Position::START, |meta| meta.position);
        let log = Log::restored(base, start.entries, hard_state.commit);
        // A snapshot may have come in a later term than the disk's log knows of.
        hard_state.term = hard_state.term.max(log.last().term);
        if hard_state.term > start.hard_state.term {
            hard_state.vote = None;
        }
        let stable = Stable::new(start.hard_state, log.last().index, start.last_seq);
        let mut membership = Membership::default();
        if let Some(meta) = &start.snapshot {
            membership.installed(meta, false);
        }
        membership.catch_up(&log);
        if let Some(forced) = start.forced {
            membership.force(forced, hard_state.term);
        }
        let mut raft = Self {
            id,
            rng,
            now,
            term: hard_state.term,
            vote: hard_state.vote,
            // In an earlier life this server may have sworn itself to a leader that still holds its lease. A
            // server that never wrote anything has sworn nothing.
            sworn_until: if start.hard_state.term > Term(0) { now + config.election_timeout } else { now },
            config,
            log,
            membership,
            stable,
            role: Role::Follower,
            leader: None,
            election_deadline: now,
            last_contact: now,
            outbox: Vec::new(),
            pieces: Vec::new(),
            news: Vec::new(),
        };
        if let Some(configuration) = start.bootstrap.filter(|_| raft.is_blank()) {
            raft.found(configuration);
        }
        if !raft.is_sole_voter() {
            raft.arm_election();
        }
        raft
    }

    /// Something came from a peer.
    pub fn step(&mut self, now: Instant, from: PeerId, message: Message) {
        self.now = now;
        // We do not talk to ourselves: whoever says so is somebody else.
        if from == self.id || !self.accept_term(from, &message) {
            return;
        }
        // Only answers show that we are heard, too: to hear one that does not hear us is no use (check-quorum).
        let is_answer = matches!(
            message.kind,
            Kind::Appended { .. } | Kind::Rejected { .. } | Kind::HeartbeatReply { .. } | Kind::PieceReply { .. }
        );
        if is_answer
            && let Role::Leader(leader) = &mut self.role
            && let Some(progress) = leader.progress.get_mut(&from)
        {
            progress.heard = now;
        }
        match message.kind {
            Kind::PreVote { last } => self.handle_pre_vote(from, message.term, last),
            Kind::PreVoteReply { granted } => self.handle_pre_vote_reply(from, message.term, granted),
            Kind::Vote { last, .. } => self.handle_vote(from, last),
            Kind::VoteReply { granted } => self.handle_vote_reply(from, granted),
            Kind::Append { prev, entries, commit } => self.handle_append(from, prev, entries, commit),
            Kind::Appended { matched } => self.handle_appended(from, matched),
            Kind::Rejected { prev, hint } => self.handle_rejected(from, prev, hint),
            Kind::Piece(piece) => self.handle_piece(from, piece),
            Kind::PieceReply { snapshot, next } => self.handle_piece_reply(from, snapshot, next),
            Kind::TimeoutNow => self.handle_timeout_now(from),
            Kind::Heartbeat { commit, round } => self.handle_heartbeat(from, commit, round),
            Kind::HeartbeatReply { round } => self.handle_heartbeat_reply(from, round),
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        self.now = now;
        match &self.role {
            Role::Leader(leader) => {
                let heartbeat_due = leader.next_heartbeat <= now;
                self.check_quorum();
                self.maybe_give_up_transfer();
                if heartbeat_due && self.is_leader() {
                    self.part_from_removed();
                    self.retry_stalled();
                    self.begin_round();
                }
            }
            _ if self.election_deadline <= now => self.campaign(),
            _ => {}
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.role {
            Role::Leader(leader) if leader.progress.is_empty() && leader.transfer.is_none() => None,
            Role::Leader(leader) => Some(leader.next_heartbeat),
            // Who has no vote must notice, too, that its leader is gone.
            _ if self.may_lead() || self.leader.is_some() => Some(self.election_deadline),
            _ => None,
        }
    }

    /// The disk has everything up to this write.
    pub fn persisted(&mut self, now: Instant, seq: WriteSeq) {
        self.now = now;
        self.stable.persisted(seq, &mut self.outbox);
        match self.role {
            Role::Candidate { .. } => self.count_own_vote(),
            Role::Leader(_) => self.maybe_commit(),
            _ => {}
        }
    }

    /// Adds a command to the log. Its fate is known when an entry with this index is applied: it is this one
    /// if the term is the same, and otherwise it never happened.
    ///
    /// Returns `None` if this server does not lead, or is about to hand over.
    pub fn propose(&mut self, command: bytes::Bytes) -> Option<Position> {
        if self.is_handing_over() {
            return None;
        }
        self.append(Payload::Command(command))
    }

    /// Closes a batch: appends for every follower, and what must be written. If there is a write, the owner
    /// gives it the number `next_seq`. Messages are then taken by [`drain_messages`](Self::drain_messages).
    /// Before this, the owner answers [`poll_snapshot`](Self::poll_snapshot) until there is no more.
    pub fn flush(&mut self, next_seq: WriteSeq) -> Flushed {
        self.send_appends();
        self.maybe_hand_over();
        let hard_state = self.hard_state();
        let write = self.stable.unwritten(hard_state, &self.log);
        if write.is_some() {
            self.stable.submitted(next_seq, hard_state, &self.log);
        }
        self.stable.close_batch(&mut self.outbox);
        Flushed { write, news: std::mem::take(&mut self.news) }
    }

    /// The messages that may leave now.
    pub fn drain_messages(&mut self) -> std::vec::Drain<'_, (PeerId, Message)> {
        self.outbox.drain(..)
    }

    /// The next committed entry, which is thereby counted as applied.
    pub fn next_to_apply(&mut self) -> Option<Entry> {
        self.log.next_to_apply()
    }

    /// The log, for the writer and for checkers.
    #[must_use]
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// The members, as the latest entry of our log says.
    #[must_use]
    pub fn members(&self) -> &Arc<Configuration> {
        self.membership.latest()
    }

    /// Who was a member when, as far as our log knows.
    #[must_use]
    pub const fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The last entry that was applied.
    #[must_use]
    pub fn applied(&self) -> Position {
        let index = self.log.applied();
        let term = self.log.term(index);
        Position { index, term: term.expect("the log begins at or before what was applied") }
    }

    /// The leader of this term, if known.
    #[must_use]
    pub const fn leader(&self) -> Option<PeerId> {
        self.leader
    }

    /// Whether this server leads, as far as it knows.
    #[must_use]
    pub const fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// What the server is in its term.
    #[must_use]
    pub const fn role(&self) -> &Role {
        &self.role
    }

    /// The time of what happened last.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// When the leader was last heard; now, on the leader itself.
    #[must_use]
    pub const fn last_contact(&self) -> Instant {
        if self.is_leader() { self.now } else { self.last_contact }
    }

    /// Bytes of entries that this leader has in its log and not yet committed; 0 on others.
    #[must_use]
    pub const fn uncommitted_bytes(&self) -> usize {
        match &self.role {
            Role::Leader(leader) => leader.uncommitted_bytes,
            _ => 0,
        }
    }

    /// Everything up to this write is durable.
    #[must_use]
    pub const fn persisted_seq(&self) -> WriteSeq {
        self.stable.persisted_seq()
    }

    /// What it looks like from outside.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            role: match self.role {
                Role::Follower => "follower",
                Role::PreCandidate { .. } => "pre-candidate",
                Role::Candidate { .. } => "candidate",
                Role::Leader(_) => "leader",
            },
            term: self.term,
            vote: self.vote,
            leader: self.leader,
            commit: self.log.commit(),
            applied: self.log.applied(),
            last: self.log.last(),
            durable: self.stable.durable(),
        }
    }

    fn hard_state(&self) -> HardState {
        HardState { term: self.term, vote: self.vote, commit: self.log.commit() }
    }

    fn may_lead(&self) -> bool {
        self.membership.may_lead(self.id, self.log.commit())
    }

    fn is_sole_voter(&self) -> bool {
        let members = self.membership.latest();
        members.voter_count() == 1 && members.is_voter(self.id)
    }

    fn send(&mut self, to: PeerId, kind: Kind) {
        self.outbox.push((to, Message { term: self.term, kind }));
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, term, commit, applied, last, durable, .. } = self;
        write!(f, "{role} term={term} leader=")?;
        match self.leader {
            Some(leader) => write!(f, "{leader}")?,
            None => f.write_str("none")?,
        }
        write!(f, " commit={commit} applied={applied} last={last} durable={durable}")
    }
}
