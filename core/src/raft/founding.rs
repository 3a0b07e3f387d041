//! The first entry of a new cluster's log.

use super::log::{Entry, Payload, Position};
use super::{Configuration, Raft};
use crate::id::{Index, Term};
use crate::time::Instant;

impl Raft {
    /// Whether this server has nothing of any cluster: no entry, no term, no leader.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.log.last() == Position::START
            && self.term == Term(0)
            && self.leader.is_none()
            && self.membership.latest().servers.is_empty()
    }

    /// Founds a cluster of these members, of whom we are one, and asks for their votes at once. It is the caller's to make sure
    /// that none of them is, or ever comes to be, in a cluster that was founded otherwise. Whether it was done: only a
    /// server that [is blank](Self::is_blank) can.
    pub fn bootstrap(&mut self, now: Instant, configuration: Configuration) -> bool {
        if !self.is_blank() || !configuration.is_voter(self.id) {
            return false;
        }
        self.now = now;
        self.found(configuration);
        self.election_deadline = now;
        true
    }

    /// Writes the first entry. All that found the same cluster write the same, so it is as good as committed.
    pub(super) fn found(&mut self, configuration: Configuration) {
        self.log.push(Entry { index: Index(1), term: Term(1), payload: Payload::Configuration(configuration) });
        self.term = Term(1);
        self.membership.catch_up(&self.log);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{PeerId, WriteSeq};
    use crate::raft::{HardState, Kind, Message, Options, Start};
    use crate::rng::Rng;

    fn blank(id: u64) -> Raft {
        let start = Start {
            hard_state: HardState::default(),
            snapshot: None,
            entries: Vec::new(),
            last_seq: WriteSeq(0),
            bootstrap: None,
            forced: None,
        };
        Raft::new(PeerId::numbered(id), Options::default(), Rng::seeded(id), start, Instant::ZERO)
    }

    fn members(ids: &[u64]) -> Configuration {
        Configuration::new(ids.iter().map(|id| (PeerId::numbered(*id), "127.0.0.1:8300".parse().unwrap())))
    }

    #[test]
    fn a_blank_server_does_nothing_until_it_founds_and_then_asks_for_votes_at_once() {
        let mut raft = blank(1);
        assert_eq!(raft.poll_timeout(), None);
        raft.tick(Instant::from_millis(60_000));
        assert!(raft.flush(WriteSeq(1)).write.is_none());
        let now = Instant::from_millis(60_000);
        assert!(!raft.bootstrap(now, members(&[2, 3])), "without us");
        assert!(raft.bootstrap(now, members(&[1, 2, 3])));
        assert_eq!(raft.poll_timeout(), Some(now));
        raft.tick(now);
        assert!(raft.flush(WriteSeq(1)).write.is_some());
        assert_eq!(raft.drain_messages().count(), 2);
        assert!(!raft.bootstrap(now, members(&[1])), "twice");
    }

    #[test]
    fn a_server_that_knows_of_a_cluster_founds_none() {
        let mut raft = blank(1);
        let heartbeat = Kind::Heartbeat { commit: Index(0), round: crate::id::Round(1) };
        raft.step(Instant::ZERO, PeerId::numbered(2), Message { term: Term(3), kind: heartbeat });
        assert!(!raft.is_blank() && !raft.bootstrap(Instant::ZERO, members(&[1])));
    }
}
