//! The leader's entries, on their way to the followers' logs.

use super::log::{Entry, Payload, Position};
use super::message::{Kind, Message};
use super::{Raft, Role, quorum};
use crate::id::{Index, PeerId};
use crate::time::Duration;

impl Raft {
    /// Adds an entry to the leader's own log; it is sent and written when the batch is closed.
    pub(super) fn append(&mut self, payload: Payload) -> Option<Position> {
        let Role::Leader(leader) = &mut self.role else { return None };
        let entry = Entry { index: self.log.last().index.next(), term: self.term, payload };
        let position = entry.position();
        leader.uncommitted_bytes += entry.size();
        self.membership.appended(&entry);
        self.log.push(entry);
        Some(position)
    }

    /// How long to wait for an answer before something is sent anew.
    fn patience(&self) -> Duration {
        self.config.election_timeout / 2
    }

    /// Sends every follower what it lacks, as far as its window allows.
    pub(super) fn send_appends(&mut self) {
        let patience = self.patience();
        let Role::Leader(leader) = &mut self.role else { return };
        let (last, commit) = (self.log.last().index, self.log.commit());
        for (peer, progress) in &mut leader.progress {
            while progress.may_send(last, self.now, &self.config) {
                let prev_index = progress.next().prev();
                let Some(term) = self.log.term(prev_index) else {
                    // What it needs is in a snapshot.
                    progress.lag_behind();
                    break;
                };
                let prev = Position { index: prev_index, term };
                let entries = self.log.batch(progress.next(), self.config.append_bytes);
                let sent_to = entries.last().map_or(prev_index, |entry| entry.index);
                progress.sent(sent_to, entries.iter().map(Entry::size).sum(), self.now, patience);
                progress.commit_told = commit;
                self.outbox.push((*peer, Message { term: self.term, kind: Kind::Append { prev, entries, commit } }));
            }
            // A follower that has everything still waits to hear that it is committed.
            if progress.commit_told < commit.min(progress.matched()) {
                progress.commit_told = commit.min(progress.matched());
                let kind = Kind::Heartbeat { commit: progress.commit_told, round: leader.rounds.current() };
                self.outbox.push((*peer, Message { term: self.term, kind }));
            }
        }
    }

    /// Goes back to what a follower is known to have if nothing came of what was sent.
    pub(super) fn retry_stalled(&mut self) {
        let patience = self.patience();
        let Role::Leader(leader) = &mut self.role else { return };
        for progress in leader.progress.values_mut() {
            progress.retry_if_stalled(self.now, patience);
        }
    }

    pub(super) fn handle_append(&mut self, leader: PeerId, prev: Position, entries: Vec<Entry>, commit: Index) {
        if !self.hear_leader(leader) {
            return;
        }
        if prev.index < self.log.commit() {
            // An old message. Everything committed is the same everywhere, so that much is certain.
            let kind = Kind::Appended { matched: self.log.commit() };
            self.stable.promise(leader, Message { term: self.term, kind });
            return;
        }
        if !self.log.has(prev) {
            let hint = self.log.agreement_hint(prev);
            self.send(leader, Kind::Rejected { prev: prev.index, hint });
            return;
        }
        if !follow_each_other(prev, &entries) || entries.last().is_some_and(|last| last.term > self.term) {
            // No leader of ours says such a thing; it is not worth a panic.
            return;
        }
        let matched = entries.last().map_or(prev.index, |entry| entry.index);
        if let Some(cut) = self.log.merge(entries) {
            self.stable.truncated(cut);
            self.membership.truncated(cut);
        }
        self.membership.catch_up(&self.log);
        self.advance_commit(commit.min(matched));
        self.stable.promise(leader, Message { term: self.term, kind: Kind::Appended { matched } });
    }

    pub(super) fn handle_appended(&mut self, from: PeerId, matched: Index) {
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        if matched <= last && progress.appended(matched, self.now) {
            self.maybe_commit();
            if !self.membership.latest().is_member(from) {
                self.part_from_removed();
            }
        }
    }

    pub(super) fn handle_rejected(&mut self, from: PeerId, prev: Index, hint: Position) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        // Our own last entry that its log may share: we skip whole terms, too.
        let agreement = self.log.agreement_hint(hint);
        progress.rejected(prev, agreement.index);
    }

    pub(super) fn handle_heartbeat(&mut self, leader: PeerId, commit: Index, round: crate::id::Round) {
        if !self.hear_leader(leader) {
            return;
        }
        // The leader names no more than what it knows us to have, durable and the same as its own.
        self.advance_commit(commit.min(self.log.last().index));
        if self.stable.is_anything_durable() {
            self.send(leader, Kind::HeartbeatReply { round });
        } else {
            // A crash now would make us a new server again, which knows of no oath (see `Raft::new`).
            self.stable.promise(leader, Message { term: self.term, kind: Kind::HeartbeatReply { round } });
        }
    }

    /// Commits what a majority has on disk (thesis 3.5), if it is of our own term (thesis 3.6.2).
    pub(super) fn maybe_commit(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let matched = self.membership.latest().voters().map(|id| match leader.progress.get(&id) {
            Some(progress) => progress.matched(),
            None if id == self.id => self.stable.durable(),
            None => Index(0),
        });
        let reached = quorum::reached(matched);
        if reached > self.log.commit() && self.log.term(reached) == Some(self.term) {
            let from = self.log.commit().next();
            let newly = self.log.from(from).take_while(|entry| entry.index <= reached);
            leader.uncommitted_bytes -= newly.map(Entry::size).sum::<usize>();
            self.advance_commit(reached);
            self.settle_change();
        }
    }

    fn advance_commit(&mut self, to: Index) {
        self.log.advance_commit(to);
        // A snapshot names the members as of what is applied, which may be less.
        self.membership.committed(self.log.applied());
    }
}

/// Whether these could stand behind `prev` in a log: without a gap, and with terms that do not go back.
fn follow_each_other(prev: Position, entries: &[Entry]) -> bool {
    let before = std::iter::once(prev).chain(entries.iter().map(Entry::position));
    before.zip(entries).all(|(before, entry)| entry.index == before.index.next() && entry.term >= before.term)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Term, WriteSeq};
    use crate::raft::{Configuration, HardState, Options, Start};
    use crate::rng::Rng;
    use crate::time::Instant;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index: Index(index), term: Term(term), payload: Payload::Noop }
    }

    #[test]
    fn malformed_entries_are_dropped_and_never_a_panic() {
        let members = (1..=3).map(|n| (PeerId::numbered(n), "127.0.0.1:8300".parse().unwrap()));
        let start = Start {
            hard_state: HardState { term: Term(5), ..HardState::default() },
            entries: vec![
                Entry { payload: Payload::Configuration(Configuration::new(members)), ..entry(1, 1) },
                entry(2, 3),
            ],
            last_seq: WriteSeq(1),
            bootstrap: None,
            snapshot: None,
            forced: None,
        };
        let now = Instant::ZERO;
        let mut raft = Raft::new(PeerId::numbered(1), Options::default(), Rng::seeded(1), start, now);
        let prev = Position { index: Index(2), term: Term(3) };
        for entries in [
            vec![entry(4, 5)],
            vec![entry(3, 5), entry(5, 5)],
            vec![entry(3, 6)],
            vec![entry(3, 2)],
            vec![entry(3, 5), entry(4, 4)],
        ] {
            let kind = Kind::Append { prev, entries, commit: Index(9) };
            raft.step(now, PeerId::numbered(2), Message { term: Term(5), kind });
            assert_eq!((raft.log().last(), raft.log().commit()), (prev, Index(0)));
        }
    }
}
