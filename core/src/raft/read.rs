//! Linearizable reads outside the log, and the leader's lease.
//!
//! Each broadcast of heartbeats is a *round*. Once a majority has answered a round, nobody else was leader when it
//! began, so that whatever was committed then is all there was: a read that arrived before the round began may
//! be answered (ReadIndex, thesis 6.4). And since none of that majority votes for anyone within an election
//! timeout of hearing us, nobody else can become leader until then: that is the lease (thesis 6.4.1), shortened by
//! what clocks may differ.

use std::collections::VecDeque;

use super::message::{Kind, Message};
use super::{Raft, Role, quorum};
use crate::id::{Index, PeerId, Round};
use crate::time::Instant;

/// The rounds of heartbeats of one term.
///
/// Invariant: `open` is ordered by round, all above `confirmed` and none above `current`.
#[derive(Clone, Debug, Default)]
pub(super) struct Rounds {
    /// The last round that began.
    current: Round,
    /// The last round that a majority answered.
    confirmed: Round,
    /// When the confirmed round began.
    confirmed_start: Instant,
    /// When the rounds after it began.
    open: VecDeque<(Round, Instant)>,
    /// A read waits for a round that has not begun.
    wanted: bool,
}

impl Rounds {
    pub(super) const fn current(&self) -> Round {
        self.current
    }

    /// From when on a majority is known to have sworn itself to us.
    pub(super) const fn lease_start(&self) -> Instant {
        self.confirmed_start
    }

    fn begin(&mut self, now: Instant) -> Round {
        self.current = self.current.next();
        self.open.push_back((self.current, now));
        self.wanted = false;
        self.current
    }

    fn confirm(&mut self, round: Round) {
        while let Some((round, start)) = self.open.pop_front_if(|(open, _)| *open <= round) {
            self.confirmed = round;
            self.confirmed_start = start;
        }
    }
}

impl Raft {
    /// Asks all peers to confirm that we lead.
    pub(super) fn begin_round(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let round = leader.rounds.begin(self.now);
        leader.next_heartbeat = self.now + self.config.heartbeat_interval;
        let commit = self.log.commit();
        for (peer, progress) in &mut leader.progress {
            let commit = commit.min(progress.matched());
            progress.commit_told = progress.commit_told.max(commit);
            self.outbox.push((*peer, Message { term: self.term, kind: Kind::Heartbeat { commit, round } }));
        }
        self.confirm_rounds();
    }

    pub(super) fn handle_heartbeat_reply(&mut self, from: PeerId, round: Round) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        if round > progress.round && round <= leader.rounds.current {
            progress.round = round;
            self.confirm_rounds();
        }
    }

    fn confirm_rounds(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let answered = self.membership.latest().voters().map(|id| match leader.progress.get(&id) {
            Some(progress) => progress.round,
            None if id == self.id => leader.rounds.current,
            None => Round(0),
        });
        let confirmed = quorum::reached(answered);
        leader.rounds.confirm(confirmed);
    }

    /// The round that, once confirmed, will prove that we lead now; it begins when the batch is closed. `None` if
    /// we do not lead.
    pub fn want_round(&mut self) -> Option<Round> {
        let Role::Leader(leader) = &mut self.role else { return None };
        leader.rounds.wanted = true;
        Some(leader.rounds.current.next())
    }

    /// Begins the round that reads of this batch asked for. To be called before [`Raft::flush`].
    pub fn begin_wanted_round(&mut self) {
        if let Role::Leader(leader) = &self.role
            && leader.rounds.wanted
        {
            self.begin_round();
        }
    }

    /// The last round that a majority answered, if what is committed is known: a leader knows it only once an
    /// entry of its own term is (thesis 6.4). And applied, too: what former leaders acknowledged may be
    /// committed here by that very entry, and a read of the same batch must not miss it.
    #[must_use]
    pub fn confirmed_round(&self) -> Option<Round> {
        match &self.role {
            Role::Leader(leader) if self.log.applied() >= leader.term_start => Some(leader.rounds.confirmed),
            _ => None,
        }
    }

    /// The first entry of the term in which we lead; `None` if we do not. Once it is applied, so is all that was ever
    /// acknowledged to anybody.
    #[must_use]
    pub fn first_of_office(&self) -> Option<Index> {
        match &self.role {
            Role::Leader(leader) => Some(leader.term_start),
            _ => None,
        }
    }

    /// Until when reads may be answered without a question: [`Instant::NEVER`] (no end) on the only voter of a
    /// cluster, [`Instant::ZERO`] (not at all) on a follower.
    #[must_use]
    pub fn lease_until(&self) -> Instant {
        let Role::Leader(leader) = &self.role else { return Instant::ZERO };
        // As in `confirmed_round`.
        if self.log.applied() < leader.term_start {
            return Instant::ZERO;
        }
        if self.is_sole_voter() {
            return Instant::NEVER;
        }
        if leader.rounds.confirmed == Round(0) || leader.lease_given_up {
            return Instant::ZERO;
        }
        leader.rounds.confirmed_start + self.config.lease()
    }

    /// Who leads, as far as this server knows, with its address.
    #[must_use]
    pub fn leader_address(&self) -> Option<(PeerId, std::net::SocketAddr)> {
        let leader = self.leader?;
        Some((leader, self.membership.address(leader)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Index, Term, WriteSeq};
    use crate::raft::{Configuration, HardState, Options, Start};
    use crate::rng::Rng;

    /// A server of which nothing is durable would come back as one that never was, and free to vote for anyone: it
    /// must not be part of a lease.
    #[test]
    fn a_new_server_confirms_no_leader_before_anything_is_durable() {
        let members = (1..=3).map(|n| (PeerId::numbered(n), "127.0.0.1:8300".parse().unwrap()));
        let start = Start {
            hard_state: HardState::default(),
            entries: Vec::new(),
            last_seq: WriteSeq(0),
            bootstrap: Some(Configuration::new(members)),
            snapshot: None,
            forced: None,
        };
        let now = Instant::ZERO;
        let mut raft = Raft::new(PeerId::numbered(2), Options::default(), Rng::seeded(1), start, now);
        assert!(raft.flush(WriteSeq(1)).write.is_some());
        let heartbeat = |round| {
            let kind = Kind::Heartbeat { commit: Index(0), round: Round(round) };
            Message { term: Term(2), kind }
        };
        raft.step(now, PeerId::numbered(1), heartbeat(1));
        assert!(raft.flush(WriteSeq(2)).write.is_some());
        assert_eq!(raft.drain_messages().count(), 0);
        raft.persisted(now, WriteSeq(2));
        assert_eq!(raft.drain_messages().count(), 1);
        // Later it answers at once, though its disk may be busy: it comes back as one that may have sworn itself.
        raft.step(now, PeerId::numbered(1), heartbeat(2));
        assert_eq!(raft.drain_messages().count(), 1);
    }
}
