//! Snapshots: cut from our own store, sent to followers that lack what our log has forgotten, and received from a leader.
//!
//! All three are read or written a piece at a time, beside everything else. Cutting and sending each hold a clone of the
//! store, which costs nothing; the store goes on changing under them.

mod cut;
mod receive;
mod send;

use cut::{Cut, Growth, Kept};
use receive::{Receiver, Taken};
use send::Senders;

use super::Agent;
use super::jobs::{Purpose, SnapshotJob};
use crate::api::Error;
use crate::file::{FileOp, JobOutcome};
use crate::id::{JobId, PeerId, WriteSeq};
use crate::io::{Notice, Output, SnapshotNews};
use crate::raft::{Due, Piece, Position};
use crate::snapshot::{DRAFT, RECEIVED, Snapshot};
use crate::store::{Store, Touch};
use crate::time::{Duration, Instant};

/// How long to wait after the disk had no room for a snapshot.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(5);

/// What is on its way to a follower that was not heard for so many election timeouts is given up.
const FORGET_AFTER: u32 = 10;

/// How many pieces of our own snapshot are on their way to the disk: one is being written while the next one waits.
const CUT_AHEAD: usize = 2;

/// What we do about snapshots.
///
#[derive(Debug)]
pub(super) struct Snapshots {
    growth: Growth,
    kept: Kept,
    cut: Option<Cut>,
    senders: Senders,
    receiver: Option<Receiver>,
    /// No room was left a moment ago: until then none is looked for.
    pause_until: Instant,
    /// The snapshot whose part of the log is being forgotten.
    compacting: Option<Position>,
    /// Stores to be dropped elsewhere.
    needless: Vec<Store>,
}

impl Snapshots {
    pub(super) fn new(kept: Vec<(Position, u64)>) -> Self {
        Self {
            growth: Growth::default(),
            kept: Kept::new(kept),
            cut: None,
            senders: Senders::default(),
            receiver: None,
            pause_until: Instant::ZERO,
            compacting: None,
            needless: Vec::new(),
        }
    }

    /// An entry of this size was applied.
    pub(super) fn applied(&mut self, bytes: usize) {
        self.growth.entries += 1;
        self.growth.bytes += bytes as u64;
    }

    /// The newest snapshot on the disk.
    pub(super) fn newest(&self) -> Option<Position> {
        self.kept.newest().map(|(position, _)| position)
    }

    /// How many snapshots are on their way to followers.
    #[cfg(test)]
    pub(super) fn sending(&self) -> usize {
        self.senders.len()
    }

    fn give_up_cut(&mut self) {
        if let Some(cut) = self.cut.take() {
            self.growth.take_back(cut.growth());
            self.needless.push(cut.into_store());
        }
    }
}

impl Agent {
    /// Does what is due about snapshots, once all that was committed is applied.
    pub(super) fn tend_snapshots(&mut self) {
        for (leader, piece) in self.raft.take_pieces() {
            self.take_piece(leader, piece);
        }
        let (term, commit) = (self.raft.status().term, self.raft.log().commit());
        // Of an earlier leader; or we have come as far by other ways, and nobody will send the rest.
        let is_idle = |receiver: &mut Receiver| receiver.term() != term || receiver.position().index <= commit;
        self.snapshots.receiver.take_if(is_idle);
        self.maybe_cut();
        let patience = self.config.raft.election_timeout * FORGET_AFTER;
        let gone = self.snapshots.senders.retain_wanted(&self.raft, patience);
        self.snapshots.needless.extend(gone);
        while let Some(due) = self.raft.poll_snapshot(self.config.snapshots.inflight_pieces) {
            self.send_due(due);
        }
        self.maybe_compact();
        self.maybe_drop_order();
    }

    /// Hands over the stores that nobody needs any more. To be called once the view of the current one is published, as
    /// the one before may hold what is handed over.
    pub(super) fn discard_needless(&mut self) {
        self.outputs.extend(self.snapshots.needless.drain(..).map(|store| Output::Discard(Box::new(store))));
    }

    /// Forgets the log that the newest snapshot covers, a part in each batch: to free a million entries at once would take
    /// longer than clients like to wait.
    fn maybe_compact(&mut self) {
        let options = &self.config.snapshots;
        if let Some(position) = self.snapshots.compacting
            && !self.raft.compact(position.index, options.trailing_entries, options.kept_bytes)
        {
            self.snapshots.compacting = None;
        }
    }

    fn cuts_under_way(&self) -> usize {
        let is_cut =
            |purpose: &&Purpose| matches!(purpose, Purpose::Snapshot(SnapshotJob::Cut | SnapshotJob::CutWhole(_)));
        self.jobs.purposes().filter(is_cut).count()
    }

    pub(super) fn snapshot_job_done(&mut self, id: JobId, purpose: SnapshotJob, outcome: JobOutcome) {
        match (purpose, outcome) {
            (SnapshotJob::Cut, JobOutcome::Done) => self.maybe_name_cut(),
            (SnapshotJob::CutWhole(position), JobOutcome::Done) => self.cut_written(position),
            (SnapshotJob::Received { position, next }, JobOutcome::Done) => self.piece_written(id, position, next),
            (SnapshotJob::ReceivedWhole(position), JobOutcome::Done) => self.received(id, position),
            (SnapshotJob::Tidy, _) => {}
            (SnapshotJob::Cut | SnapshotJob::CutWhole(_), JobOutcome::NoRoom) => {
                self.give_up(DRAFT, Snapshots::give_up_cut);
            }
            (SnapshotJob::Received { .. } | SnapshotJob::ReceivedWhole(_), JobOutcome::NoRoom) => {
                // Even if it was of an earlier attempt: the draft that is removed is that of the latest one.
                self.give_up(RECEIVED, |snapshots| snapshots.receiver = None);
            }
        }
    }

    fn do_snapshot_job(&mut self, purpose: SnapshotJob, ops: Vec<FileOp>) {
        self.do_job(Purpose::Snapshot(purpose), ops);
    }

    fn give_up(&mut self, draft: &str, forget: impl FnOnce(&mut Snapshots)) {
        forget(&mut self.snapshots);
        self.snapshots.pause_until = self.now + NO_ROOM_PAUSE;
        self.do_snapshot_job(SnapshotJob::Tidy, vec![FileOp::Remove { file: draft.to_owned() }]);
        self.outputs.push_back(Output::Notice(Notice::Snapshot(SnapshotNews::NoRoom)));
    }

    /// Begins a snapshot if one is due, and keeps the disk busy with the one that is under way.
    fn maybe_cut(&mut self) {
        let is_cutting = self.cuts_under_way() > 0;
        let snapshots = &mut self.snapshots;
        let last_bytes = snapshots.kept.newest().map_or(0, |(_, bytes)| bytes);
        // A snapshot without any log beside it is none to recovery: this server's votes would be missing.
        let has_log = self.raft.persisted_seq() > WriteSeq(0);
        let is_free = has_log && snapshots.cut.is_none() && snapshots.receiver.is_none() && !is_cutting;
        let is_due = snapshots.growth.is_due(&self.config.snapshots, last_bytes) && snapshots.pause_until <= self.now;
        if is_free && is_due {
            let meta = self.raft.snapshot_meta();
            let growth = std::mem::take(&mut snapshots.growth);
            snapshots.cut = Some(Cut::new(&meta, self.store.clone(), self.config.snapshots.piece_bytes, growth));
        }
        while self.cuts_under_way() < CUT_AHEAD {
            let Some(ops) = self.snapshots.cut.as_mut().and_then(Cut::next_ops) else { return };
            self.do_snapshot_job(SnapshotJob::Cut, ops);
        }
    }

    /// All pieces of our snapshot that were asked for may be on the disk: if that is all there are, it gets its name.
    fn maybe_name_cut(&mut self) {
        if let Some(cut) = self.snapshots.cut.as_ref().filter(|cut| cut.is_finished())
            && self.cuts_under_way() == 0
        {
            let (position, naming) = (cut.position(), cut.naming());
            self.do_snapshot_job(SnapshotJob::CutWhole(position), vec![naming]);
        }
    }

    fn cut_written(&mut self, position: Position) {
        let Some(cut) = self.snapshots.cut.take_if(|cut| cut.position() == position) else {
            // A leader's newer one came in between.
            return self.remove_unless_kept(position);
        };
        let mut ops = self.snapshots.kept.cut(position, cut.bytes());
        ops.extend(self.writer.discard(self.snapshots.kept.needless_log()));
        self.do_snapshot_job(SnapshotJob::Tidy, ops);
        self.snapshots.compacting = Some(position);
        let news = SnapshotNews::Cut { position, bytes: cut.bytes() };
        self.outputs.push_back(Output::Notice(Notice::Snapshot(news)));
        self.snapshots.needless.push(cut.into_store());
    }

    fn send_due(&mut self, due: Due) {
        match due {
            Due::Begin(peer) => {
                let meta = self.raft.snapshot_meta();
                self.raft.begin_transfer(peer, Some(meta.position));
                self.snapshots.senders.begin(peer, &meta, self.store.clone(), self.config.snapshots.piece_bytes);
                let news = SnapshotNews::Sending { to: peer, position: meta.position };
                self.outputs.push_back(Output::Notice(Notice::Snapshot(news)));
            }
            Due::Piece { peer, number, acked } => match self.snapshots.senders.piece(peer, number, acked) {
                Some((bytes, is_last)) => self.raft.send_piece(peer, bytes, is_last),
                None => self.raft.begin_transfer(peer, None),
            },
        }
    }

    fn take_piece(&mut self, leader: PeerId, piece: Piece) {
        let term = self.raft.status().term;
        let has_log = self.raft.persisted_seq() > WriteSeq(0);
        if self.raft.leader() != Some(leader) || !has_log || self.snapshots.pause_until > self.now {
            return;
        }
        let position = piece.snapshot;
        let receiver = self.snapshots.receiver.as_ref();
        if !receiver.is_some_and(|receiver| receiver.is_of(leader, term, position)) {
            // Whatever we cut ourselves would be older, and the disk has better things to do.
            self.snapshots.give_up_cut();
            self.snapshots.receiver = Some(Receiver::new(leader, term, position, self.jobs.last()));
        }
        let Some(receiver) = &mut self.snapshots.receiver else { return };
        let next = piece.number.saturating_add(1);
        match receiver.take(piece) {
            Ok(Taken::Write(ops)) => self.do_snapshot_job(SnapshotJob::Received { position, next }, ops),
            Ok(Taken::OutOfOrder) => {
                let next = receiver.acknowledged();
                self.raft.acknowledge_pieces(leader, position, next);
            }
            Err(damaged) => self.refuse_snapshot(leader, damaged.to_string()),
        }
    }

    /// What a leader sends is no snapshot to us: another version, perhaps. It tries again, and an operator should know.
    fn refuse_snapshot(&mut self, leader: PeerId, reason: String) {
        self.snapshots.receiver = None;
        self.snapshots.pause_until = self.now + NO_ROOM_PAUSE;
        let news = SnapshotNews::Refused { from: leader, reason };
        self.outputs.push_back(Output::Notice(Notice::Snapshot(news)));
    }

    fn piece_written(&mut self, job: JobId, position: Position, next: u32) {
        // It may be of an attempt that was given up.
        let Some(receiver) = self.snapshots.receiver.as_mut().filter(|receiver| receiver.asked_for(job)) else {
            return;
        };
        let (leader, naming) = (receiver.leader(), receiver.written(next));
        let next = receiver.acknowledged();
        match naming {
            Ok(naming) => {
                self.raft.acknowledge_pieces(leader, position, next);
                self.do_snapshot_job(SnapshotJob::ReceivedWhole(position), naming.into_iter().collect());
            }
            Err(reason) => self.refuse_snapshot(leader, reason),
        }
    }

    /// The whole snapshot is on our disk: it takes the place of log and store.
    fn received(&mut self, job: JobId, position: Position) {
        let Some(receiver) = self.snapshots.receiver.take_if(|receiver| receiver.asked_for(job)) else {
            // Of an attempt that was given up: nobody knows of the file.
            return self.remove_unless_kept(position);
        };
        let (leader, bytes) = (receiver.leader(), receiver.bytes());
        let Some(Snapshot { meta, store, .. }) = receiver.into_snapshot() else { return };
        if !self.raft.install(&meta) {
            // We have come further by other ways.
            return self.remove_unless_kept(position);
        }
        let old = std::mem::replace(&mut self.store, store);
        self.snapshots.needless.push(old);
        self.snapshots.compacting = None;
        self.snapshots.growth = Growth::default();
        let mut ops = self.snapshots.kept.received(position, bytes);
        ops.extend(self.writer.discard(self.snapshots.kept.needless_log()));
        self.do_snapshot_job(SnapshotJob::Tidy, ops);
        self.watches.touched(&Touch::Everything, &mut self.woken);
        self.follow_sessions(&Touch::Everything);
        for ticket in self.calls.proposed_up_to(position.index) {
            // The snapshot may include it or not: nobody can tell.
            self.reply(ticket, Err(Error::LeadershipLost));
        }
        self.answer_caught_up();
        let news = SnapshotNews::Installed { from: leader, position, bytes };
        self.outputs.push_back(Output::Notice(Notice::Snapshot(news)));
    }

    fn remove_unless_kept(&mut self, position: Position) {
        if !self.snapshots.kept.holds(position) {
            let file = crate::snapshot::file_name(position);
            self.do_snapshot_job(SnapshotJob::Tidy, vec![FileOp::Remove { file }]);
        }
    }

    /// Once the operator's order of who takes part is in the log and committed, its file has done its service.
    fn maybe_drop_order(&mut self) {
        let committed = self.raft.membership().latest_index() <= self.raft.log().commit();
        if self.obeys_order && self.raft.forced_members().is_none() && committed {
            self.obeys_order = false;
            self.do_snapshot_job(SnapshotJob::Tidy, vec![FileOp::Remove { file: crate::recovery::PEERS.to_owned() }]);
            self.outputs.push_back(Output::Notice(Notice::OrderObeyed));
        }
    }
}
