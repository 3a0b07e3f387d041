//! What of raft's state is on disk, and what waits for it.
//!
//! A leader sends its entries while its own disk still writes them (thesis 10.2.1), and counts itself only
//! once they are durable. A follower's promises (votes, and "I have these entries") leave only when
//! what they promise is durable. Both sides of that bargain are kept here.

use std::collections::VecDeque;

use super::log::{HardState, Log, Position};
use super::message::Message;
use crate::id::{Index, PeerId, Term, WriteSeq};

/// A write on its way to the disk.
#[derive(Clone, Copy, Debug)]
struct Pending {
    seq: WriteSeq,
    /// With this write, entries up to here are durable as they are now.
    covers: Index,
    hard_state: HardState,
}

/// What a batch asks to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwritten {
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// If a snapshot took the place of the log: its position. What the disk's log has up to there, and all that does not
    /// follow it, counts no more.
    pub base: Option<Position>,
    /// The entries from here on.
    pub first: Index,
}

/// The boundary between memory and disk.
///
/// Invariants: `durable` ≤ `written` ≤ the last index of the log; `pending` is ordered by `seq`, all of them above
/// `persisted`; a message in `waiting` is sent exactly once, after its write.
#[derive(Clone, Debug)]
pub(super) struct Stable {
    /// Entries up to here were handed to the disk, as they are now.
    written: Index,
    /// Entries up to here are durable, as they are now.
    durable: Index,
    /// A snapshot took the place of the log, and the disk's log does not know.
    unwritten_base: Option<Position>,
    /// The hard state as it was last handed to the disk.
    hard_state: HardState,
    /// The hard state that is durable.
    durable_hard_state: HardState,
    last_seq: WriteSeq,
    persisted: WriteSeq,
    pending: VecDeque<Pending>,
    /// To be sent once everything up to the write is durable.
    waiting: VecDeque<(WriteSeq, PeerId, Message)>,
    /// Promises made in this batch; they join `waiting` with the batch's write.
    promises: Vec<(PeerId, Message)>,
}

impl Stable {
    /// After a start: everything that was recovered is durable.
    #[must_use]
    pub(super) fn new(hard_state: HardState, last: Index, last_seq: WriteSeq) -> Self {
        Self {
            written: last,
            durable: last,
            unwritten_base: None,
            hard_state,
            durable_hard_state: hard_state,
            last_seq,
            persisted: last_seq,
            pending: VecDeque::new(),
            waiting: VecDeque::new(),
            promises: Vec::new(),
        }
    }

    /// Entries up to here are durable.
    #[must_use]
    pub(super) const fn durable(&self) -> Index {
        self.durable
    }

    /// Everything up to this write is durable.
    #[must_use]
    pub(super) const fn persisted_seq(&self) -> WriteSeq {
        self.persisted
    }

    /// Whether a crash would leave anything of this server.
    #[must_use]
    pub(super) fn is_anything_durable(&self) -> bool {
        self.durable_hard_state.term > Term(0)
    }

    /// Whether this term and vote survive a crash.
    #[must_use]
    pub(super) fn is_vote_durable(&self, term: Term, vote: PeerId) -> bool {
        self.durable_hard_state.term == term && self.durable_hard_state.vote == Some(vote)
    }

    /// Sends `message` once all that this batch changes is durable.
    pub(super) fn promise(&mut self, to: PeerId, message: Message) {
        self.promises.push((to, message));
    }

    /// The entries from `index` on were cut off and replaced.
    pub(super) fn truncated(&mut self, index: Index) {
        self.written = self.written.min(index.prev());
        self.durable = self.durable.min(index.prev());
        // Writes on their way still bring the old entries to the disk, not the ones that replaced them.
        for write in &mut self.pending {
            write.covers = write.covers.min(index.prev());
        }
    }

    /// A durable snapshot takes the place of the log up to `position`; the entries behind it stay if they follow it.
    pub(super) fn installed(&mut self, position: Position, follows: bool) {
        if !follows {
            self.truncated(position.index.next());
            self.written = position.index;
        }
        self.written = self.written.max(position.index);
        self.durable = self.durable.max(position.index);
        self.unwritten_base = Some(position);
    }

    /// What the disk must be told, if anything. The commit index alone is not worth a write.
    #[must_use]
    pub(super) fn unwritten(&self, hard_state: HardState, log: &Log) -> Option<Unwritten> {
        let due = self.written < log.last().index
            || self.unwritten_base.is_some()
            || (self.hard_state.term, self.hard_state.vote) != (hard_state.term, hard_state.vote);
        due.then(|| Unwritten { hard_state, base: self.unwritten_base, first: self.written.next() })
    }

    /// The batch's write `seq` leaves, with all that memory holds.
    pub(super) fn submitted(&mut self, seq: WriteSeq, hard_state: HardState, log: &Log) {
        assert!(seq > self.last_seq, "writes leave in order: {seq} after {}", self.last_seq);
        self.last_seq = seq;
        self.written = log.last().index;
        self.unwritten_base = None;
        self.hard_state = hard_state;
        self.pending.push_back(Pending { seq, covers: self.written, hard_state });
    }

    /// Closes the batch: promises wait for the last write; those that need not wait are added to `outbox`.
    pub(super) fn close_batch(&mut self, outbox: &mut Vec<(PeerId, Message)>) {
        if self.persisted == self.last_seq {
            outbox.append(&mut self.promises);
        } else {
            let seq = self.last_seq;
            self.waiting.extend(self.promises.drain(..).map(|(to, message)| (seq, to, message)));
        }
    }

    /// Everything up to `seq` is durable: what waited for it joins `outbox`.
    pub(super) fn persisted(&mut self, seq: WriteSeq, outbox: &mut Vec<(PeerId, Message)>) {
        assert!(seq <= self.last_seq, "write {seq} was never asked for, the last was {}", self.last_seq);
        self.persisted = self.persisted.max(seq);
        while let Some(write) = self.pending.pop_front_if(|write| write.seq <= seq) {
            self.durable_hard_state = write.hard_state;
            self.durable = self.durable.max(write.covers);
        }
        while let Some((_, to, message)) = self.waiting.pop_front_if(|(wait, _, _)| *wait <= seq) {
            outbox.push((to, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::{Entry, Kind, Payload};

    fn log(terms: &[u64]) -> Log {
        let entry =
            |(index, term): (u64, &u64)| Entry { index: Index(index), term: Term(*term), payload: Payload::Noop };
        Log::restored(Position::START, (1..).zip(terms).map(entry).collect(), Index(0))
    }

    fn promise() -> Message {
        Message { term: Term(1), kind: Kind::Appended { matched: Index(2) } }
    }

    #[test]
    fn a_promise_leaves_with_its_write_and_not_before() {
        let (log, mut out) = (log(&[1, 1]), Vec::new());
        let mut stable = Stable::new(HardState::default(), Index(0), WriteSeq(0));
        stable.promise(PeerId::numbered(2), promise());
        stable.submitted(WriteSeq(1), HardState::default(), &log);
        stable.close_batch(&mut out);
        assert_eq!((out.len(), stable.durable()), (0, Index(0)));
        stable.persisted(WriteSeq(1), &mut out);
        assert_eq!((out.len(), stable.durable()), (1, Index(2)));
        // With nothing on its way to the disk there is nothing to wait for.
        stable.promise(PeerId::numbered(2), promise());
        stable.close_batch(&mut out);
        assert_eq!(out.len(), 2);
    }

    #[test]
    fn an_old_write_does_not_make_its_replacement_durable() {
        let mut out = Vec::new();
        let mut stable = Stable::new(HardState::default(), Index(0), WriteSeq(0));
        stable.submitted(WriteSeq(1), HardState::default(), &log(&[1, 1, 1]));
        stable.truncated(Index(2));
        stable.submitted(WriteSeq(2), HardState::default(), &log(&[1, 2, 2]));
        stable.persisted(WriteSeq(1), &mut out);
        assert_eq!(stable.durable(), Index(1));
        stable.persisted(WriteSeq(2), &mut out);
        assert_eq!(stable.durable(), Index(3));
    }
}
