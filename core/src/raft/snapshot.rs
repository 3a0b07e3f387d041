//! Snapshots, as far as consensus is concerned: which part of the log one stands for, and how it travels.
//!
//! The leader sends its snapshot in pieces, a window of them at a time; the follower acknowledges what is on its disk. What
//! gets lost is sent again from where the follower stands. Heartbeats and the terms of all messages go their own way beside
//! it, so that a transfer of any length disturbs nobody. The pieces come from the owner and go to the owner.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::configuration::Configuration;
use super::log::Position;
use super::message::{Kind, Message, Piece};
use super::{Raft, Role};
use crate::id::{Index, PeerId};
use crate::time::Duration;

/// What raft must know of a snapshot (thesis 5.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// The last entry that it stands for. The log goes on behind it.
    pub position: Position,
    /// The members as of that entry. The log that named them may be gone.
    pub configuration: Configuration,
    /// The entry that named them.
    pub configuration_index: Index,
}

/// What a leader wants of its owner for a follower that needs a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A snapshot: see [`Raft::begin_transfer`].
    Begin(PeerId),
    /// A piece of the one that was begun: see [`Raft::send_piece`].
    Piece {
        /// For whom.
        peer: PeerId,
        /// Which.
        number: u32,
        /// Pieces before this one are not wanted again.
        acked: u32,
    },
}

/// A follower that was not heard for so many election timeouts holds nothing back, and its transfer is given up.
const FORGET_AFTER: u32 = 10;

impl Raft {
    /// What a snapshot of the state as it is applied now stands for.
    #[must_use]
    pub fn snapshot_meta(&self) -> SnapshotMeta {
        let position = self.applied();
        let (configuration_index, configuration) = self.membership.at(position.index);
        SnapshotMeta { position, configuration: Configuration::clone(configuration), configuration_index }
    }

    /// The next thing that a follower in need of a snapshot is due, with at most `window` pieces on their way.
    #[must_use]
    pub fn poll_snapshot(&self, window: u32) -> Option<Due> {
        let Role::Leader(leader) = &self.role else { return None };
        let forget = self.forget_after();
        leader.progress.iter().find_map(|(peer, progress)| {
            if self.now.since(progress.heard) >= forget {
                return None;
            }
            match progress.snapshot()? {
                None => Some(Due::Begin(*peer)),
                Some(transfer) if transfer.end.is_none() && transfer.next - transfer.acked < window => {
                    Some(Due::Piece { peer: *peer, number: transfer.next, acked: transfer.acked })
                }
                Some(_) => None,
            }
        })
    }

    /// The snapshot that is on its way to `peer`, if any, by the entry that it ends with.
    #[must_use]
    pub fn snapshot_on_its_way(&self, peer: PeerId) -> Option<Position> {
        let Role::Leader(leader) = &self.role else { return None };
        Some(leader.progress.get(&peer)?.snapshot()??.position)
    }

    /// A snapshot that ends at `position`, which is applied, is ready to be sent to `peer`; `None` gives up the one that was.
    pub fn begin_transfer(&mut self, peer: PeerId, position: Option<Position>) {
        let now = self.now;
        if let Role::Leader(leader) = &mut self.role
            && let Some(progress) = leader.progress.get_mut(&peer)
        {
            progress.begin_transfer(position, now);
        }
    }

    /// Sends the piece that [`poll_snapshot`](Self::poll_snapshot) asked for.
    pub fn send_piece(&mut self, peer: PeerId, bytes: bytes::Bytes, last: bool) {
        let (now, term) = (self.now, self.term);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&peer) else { return };
        let Some(Some(transfer)) = progress.snapshot() else { return };
        let piece = Piece { snapshot: transfer.position, number: transfer.next, last, bytes };
        progress.sent_piece(last, now);
        self.outbox.push((peer, Message { term, kind: Kind::Piece(piece) }));
    }

    pub(super) fn handle_piece_reply(&mut self, from: PeerId, snapshot: Position, next: u32) {
        let now = self.now;
        if let Role::Leader(leader) = &mut self.role
            && let Some(progress) = leader.progress.get_mut(&from)
        {
            progress.acked_piece(snapshot, next, now);
        }
    }

    pub(super) fn handle_piece(&mut self, leader: PeerId, piece: Piece) {
        if !self.hear_leader(leader) {
            return;
        }
        if piece.snapshot.index <= self.log.commit() {
            // We have all that it stands for, and perhaps more: it must not take the place of that.
            let kind = Kind::Appended { matched: self.log.commit() };
            self.stable.promise(leader, Message { term: self.term, kind });
            return;
        }
        self.pieces.push((leader, piece));
    }

    /// The pieces that came, with the leader that sent them. Pieces of an earlier leader's snapshot count no more.
    pub fn take_pieces(&mut self) -> Vec<(PeerId, Piece)> {
        std::mem::take(&mut self.pieces)
    }

    /// Tells the leader that all pieces of its snapshot before `next` are on our disk.
    pub fn acknowledge_pieces(&mut self, leader: PeerId, snapshot: Position, next: u32) {
        if self.leader == Some(leader) && !self.is_leader() {
            self.send(leader, Kind::PieceReply { snapshot, next });
        }
    }

    /// A whole snapshot is on our disk, and takes the place of the log (thesis 5.3). Returns whether it did: it must not if
    /// we have come further by other ways meanwhile.
    pub fn install(&mut self, meta: &SnapshotMeta) -> bool {
        let position = meta.position;
        if self.is_leader() || position.index <= self.log.commit() || position.term > self.term {
            return false;
        }
        // Whoever was asked for a vote before was told of another log, and perhaps by other members.
        self.role = Role::Follower;
        let follows = self.log.install(position);
        self.membership.installed(meta, follows);
        self.stable.installed(position, follows);
        if let Some(leader) = self.leader {
            let kind = Kind::Appended { matched: position.index };
            self.stable.promise(leader, Message { term: self.term, kind });
        }
        true
    }

    /// A durable snapshot stands for everything up to `snapshot`: forgets the entries that nobody needs any more. The last
    /// `trailing` of them stay, and so does what a follower lacks that is catching up, within `kept_bytes`.
    pub fn compact(&mut self, snapshot: Index, trailing: u64, kept_bytes: usize) {
        let mut from = Index(snapshot.0.saturating_sub(trailing)).next();
        if let Role::Leader(leader) = &self.role {
            let forget = self.forget_after();
            let alive = leader.progress.values().filter(|progress| self.now.since(progress.heard) < forget);
            let needed = alive.map(super::Progress::needs_from).min().unwrap_or(from);
            if needed < from {
                from = needed.max(self.log.tail_within(needed.prev(), kept_bytes)).min(from);
            }
        }
        let up_to = from.prev().min(self.log.applied());
        if up_to > self.log.base().index {
            self.log.compact(up_to);
        }
    }

    fn forget_after(&self) -> Duration {
        self.config.election_timeout * FORGET_AFTER
    }

    /// Where `id` is, or was when it last was a member.
    #[must_use]
    pub fn address(&self, id: PeerId) -> Option<std::net::SocketAddr> {
        self.membership.address(id)
    }

    /// The operator's order of who takes part, while it is not in the log.
    #[must_use]
    pub fn forced_members(&self) -> Option<&Arc<Configuration>> {
        self.membership.forced()
    }
}
