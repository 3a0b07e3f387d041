//! Roles and votes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::log::Position;
use super::message::{Kind, Message};
use super::progress::Progress;
use super::read::Rounds;
use super::{Configuration, Leader, News, Payload, Raft, Role, StepDown, quorum};
use crate::id::{PeerId, Term};
use crate::time::Instant;

impl Raft {
    /// Compares a message's term with ours, joining a higher one. Returns whether the message still counts.
    pub(super) fn accept_term(&mut self, from: PeerId, message: &Message) -> bool {
        match &message.kind {
            // A pre-vote is about a term that nobody has begun, and so is the consent to one.
            Kind::PreVote { .. } | Kind::PreVoteReply { granted: true } => return true,
            // Whoever has a leader, or swore itself to one, does not even look at a candidate's term: a server
            // that was cut off must not be able to disturb the others (thesis 4.2.3, 6.4.1).
            // But if the leader itself asked to be replaced, it has given up what the oath protects.
            Kind::Vote { transfer: false, .. } if self.is_sworn() => return false,
            _ => {}
        }
        if message.term > self.term {
            let leader = matches!(message.kind, Kind::Append { .. } | Kind::Heartbeat { .. }).then_some(from);
            self.become_follower(message.term, leader);
        }
        if message.term < self.term {
            match message.kind {
                // Tell a leader or candidate of the past what term it is.
                Kind::Append { .. } | Kind::Heartbeat { .. } => {
                    self.send(from, Kind::HeartbeatReply { round: crate::id::Round(0) });
                }
                Kind::Vote { .. } => self.send(from, Kind::VoteReply { granted: false }),
                _ => {}
            }
            return false;
        }
        true
    }

    /// Whether the leader that was last heard may still hold its lease: no vote until it has run out.
    fn is_sworn(&self) -> bool {
        match &self.role {
            // We count ourselves in our own lease's quorum.
            Role::Leader(leader) => self.now < leader.rounds.lease_start() + self.config.election_timeout,
            _ => self.now < self.sworn_until,
        }
    }

    /// A leader of our term spoke: follow it. Returns whether it may be believed: a term has one leader, and what comes from
    /// a second one does not count.
    pub(super) fn hear_leader(&mut self, leader: PeerId) -> bool {
        if self.leader.is_some_and(|known| known != leader) {
            return false;
        }
        if self.leader != Some(leader) || !matches!(self.role, Role::Follower) {
            self.role = Role::Follower;
            self.set_leader(Some(leader));
        }
        self.last_contact = self.now;
        self.sworn_until = self.now + self.config.election_timeout;
        self.arm_election();
        true
    }

    fn set_leader(&mut self, leader: Option<PeerId>) {
        if self.leader != leader {
            self.leader = leader;
            self.news.push(News::LeaderChanged { leader, term: self.term });
        }
    }

    /// Draws a new moment to ask for votes (thesis 3.4).
    pub(super) fn arm_election(&mut self) {
        let timeout = self.config.election_timeout;
        self.election_deadline = self.now + self.rng.duration(timeout, timeout + self.config.election_spread);
    }

    pub(super) fn become_follower(&mut self, term: Term, leader: Option<PeerId>) {
        assert!(term >= self.term, "terms go backwards: {term} after {}", self.term);
        self.resign(if term > self.term { StepDown::HigherTerm } else { StepDown::LostQuorum });
        if term > self.term {
            self.term = term;
            self.vote = None;
        }
        self.role = Role::Follower;
        self.set_leader(leader);
    }

    /// Gives up the leader's office, if it is ours.
    fn resign(&mut self, reason: StepDown) {
        let Role::Leader(leader) = &self.role else { return };
        // What our lease's quorum swore to us, we swore too.
        self.sworn_until = leader.rounds.lease_start() + self.config.election_timeout;
        self.last_contact = self.now;
        self.news.push(News::SteppedDown { term: self.term, reason });
        self.arm_election();
        self.role = Role::Follower;
    }

    /// Our own removal is committed: another must lead, and the best prepared is asked to do so at once (thesis 4.2.2).
    pub(super) fn hand_over_for_good(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let members = self.membership.latest();
        let best = members.voters().max_by_key(|id| leader.progress.get(id).map(Progress::matched));
        self.resign(StepDown::Removed);
        if let Some(best) = best {
            self.send(best, Kind::TimeoutNow);
        }
        self.set_leader(None);
    }

    /// No leader was heard for too long: ask whether an election would succeed (pre-vote, thesis 9.6).
    pub(super) fn campaign(&mut self) {
        self.arm_election();
        self.set_leader(None);
        if !self.may_lead() {
            return;
        }
        let own = Some(self.id).filter(|id| self.membership.latest().is_voter(*id));
        self.role = Role::PreCandidate { granted: own.into_iter().collect() };
        let message = Message { term: self.term.next(), kind: Kind::PreVote { last: self.log.last() } };
        for peer in self.membership.latest().voters().filter(|peer| *peer != self.id) {
            self.outbox.push((peer, message.clone()));
        }
        self.maybe_begin_term();
    }

    /// Begins a term once a majority would vote for us.
    fn maybe_begin_term(&mut self) {
        let Role::PreCandidate { granted } = &self.role else { return };
        if self.is_majority(granted) {
            self.begin_term(false);
        }
    }

    /// Whether these are enough. Who has no vote does not count, be it we ourselves: we campaign, too, while our own removal
    /// is not committed (thesis 4.2.2).
    fn is_majority(&self, granted: &BTreeSet<PeerId>) -> bool {
        let members = self.membership.latest();
        granted.iter().filter(|id| members.is_voter(**id)).count() >= quorum::majority(members.voter_count())
    }

    /// Begins a term and asks for votes; `transfer` if the leader of the term before asked us to.
    pub(super) fn begin_term(&mut self, transfer: bool) {
        self.term = self.term.next();
        self.vote = Some(self.id);
        self.role = Role::Candidate { granted: BTreeSet::new() };
        self.set_leader(None);
        self.news.push(News::Campaigning { term: self.term });
        self.arm_election();
        // The question is a promise too: were it to leave before our term, vote and log are durable, then a
        // crash could have us ask again in the same term with a shorter log, and take the answers to
        // the first question for answers to the second.
        let message = Message { term: self.term, kind: Kind::Vote { last: self.log.last(), transfer } };
        let members = Arc::clone(self.membership.latest());
        for peer in members.voters().filter(|peer| *peer != self.id) {
            self.stable.promise(peer, message.clone());
        }
    }

    pub(super) fn handle_pre_vote(&mut self, from: PeerId, term: Term, last: Position) {
        if term <= self.term {
            // It is behind: our term lets it catch up.
            self.send(from, Kind::PreVoteReply { granted: false });
            return;
        }
        let granted = !self.is_sworn() && last.is_up_to_date_with(self.log.last());
        let reply_term = if granted { term } else { self.term };
        self.outbox.push((from, Message { term: reply_term, kind: Kind::PreVoteReply { granted } }));
    }

    pub(super) fn handle_pre_vote_reply(&mut self, from: PeerId, term: Term, granted: bool) {
        if let Role::PreCandidate { granted: votes } = &mut self.role
            && granted
            && term == self.term.next()
            && self.membership.latest().is_voter(from)
        {
            votes.insert(from);
            self.maybe_begin_term();
        }
    }

    pub(super) fn handle_vote(&mut self, from: PeerId, last: Position) {
        let free = match self.vote {
            Some(vote) => vote == from,
            None => self.leader.is_none(),
        };
        if free && last.is_up_to_date_with(self.log.last()) {
            self.vote = Some(from);
            // Having voted, give the candidate time to win.
            self.arm_election();
            self.stable.promise(from, Message { term: self.term, kind: Kind::VoteReply { granted: true } });
        } else {
            self.send(from, Kind::VoteReply { granted: false });
        }
    }

    pub(super) fn handle_vote_reply(&mut self, from: PeerId, granted: bool) {
        if let Role::Candidate { granted: votes } = &mut self.role
            && granted
            && self.membership.latest().is_voter(from)
        {
            votes.insert(from);
            self.maybe_win();
        }
    }

    /// A candidate's vote for itself counts like any other: once it is durable.
    pub(super) fn count_own_vote(&mut self) {
        if let Role::Candidate { granted } = &mut self.role
            && self.stable.is_vote_durable(self.term, self.id)
            && self.membership.latest().is_voter(self.id)
        {
            granted.insert(self.id);
            self.maybe_win();
        }
    }

    fn maybe_win(&mut self) {
        let Role::Candidate { granted } = &self.role else { return };
        if self.is_majority(granted) {
            self.become_leader();
        }
    }

    fn become_leader(&mut self) {
        let last = self.log.last().index;
        let progress: BTreeMap<PeerId, Progress> =
            self.membership.latest().others(self.id).map(|peer| (peer, Progress::new(last, self.now))).collect();
        let uncommitted_bytes = self.log.from(self.log.commit().next()).map(|entry| entry.size()).sum();
        self.role = Role::Leader(Leader {
            progress,
            rounds: Rounds::default(),
            next_heartbeat: self.now,
            term_start: last.next(),
            uncommitted_bytes,
            transfer: None,
            lease_given_up: false,
        });
        self.news.push(News::BecameLeader { term: self.term });
        self.set_leader(Some(self.id));
        self.append(Payload::Noop);
        if let Some(forced) = self.membership.forced() {
            // The operator's order becomes the log's: from here on it needs no file.
            let forced = Configuration::clone(forced);
            self.append(Payload::Configuration(forced));
        }
        self.begin_round();
    }

    /// A leader that hears no majority resigns: it could not commit anything, and its clients may find another
    /// (thesis 6.2).
    pub(super) fn check_quorum(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let heard = self.membership.latest().voters().map(|id| match leader.progress.get(&id) {
            Some(progress) => progress.heard,
            None if id == self.id => self.now,
            None => Instant::ZERO,
        });
        let heard = quorum::reached(heard);
        if self.now.since(heard) >= self.config.election_timeout {
            self.become_follower(self.term, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Index, WriteSeq};
    use crate::raft::{Entry, HardState, Options, Start};
    use crate::rng::Rng;

    /// A pre-vote asks the same before, but a vote may come much later than its pre-vote: it must be enough alone.
    #[test]
    fn a_vote_is_refused_to_a_stale_log_and_within_an_oath_whatever_the_pre_vote_said() {
        let members = (1..=3).map(|n| (PeerId::numbered(n), "127.0.0.1:8300".parse().unwrap()));
        let founding = Payload::Configuration(Configuration::new(members));
        let entry = |index, term, payload| Entry { index: Index(index), term: Term(term), payload };
        let start = Start {
            hard_state: HardState { term: Term(5), ..HardState::default() },
            entries: vec![entry(1, 1, founding), entry(2, 3, Payload::Noop)],
            last_seq: WriteSeq(1),
            bootstrap: None,
            snapshot: None,
            forced: None,
        };
        let config = Options::default();
        let free = Instant::ZERO + config.election_timeout;
        let mut raft = Raft::new(PeerId::numbered(1), config, Rng::seeded(1), start, Instant::ZERO);
        let mut ask = |now, term, index, last| {
            let last = Position { index: Index(index), term: Term(last) };
            let kind = Kind::Vote { last, transfer: false };
            raft.step(now, PeerId::numbered(2), Message { term: Term(term), kind });
            raft.vote
        };
        assert_eq!(ask(Instant::ZERO, 6, 9, 5), None, "sworn");
        assert_eq!(ask(free, 6, 1, 3), None, "shorter");
        assert_eq!(ask(free, 6, 9, 2), None, "longer, but older");
        assert_eq!(ask(free, 6, 2, 3), Some(PeerId::numbered(2)));
    }

    fn member_of(log: Vec<Entry>, commit: u64) -> Raft {
        let hard_state = HardState { term: Term(5), vote: None, commit: Index(commit) };
        let start =
            Start { hard_state, entries: log, last_seq: WriteSeq(1), bootstrap: None, snapshot: None, forced: None };
        Raft::new(PeerId::numbered(1), Options::default(), Rng::seeded(1), start, Instant::ZERO)
    }

    fn naming(index: u64, voters: &[u64]) -> Entry {
        let address = "127.0.0.1:8300".parse().unwrap();
        let voters = voters.iter().map(|id| (PeerId::numbered(*id), address));
        let payload = Payload::Configuration(Configuration::new(voters));
        Entry { index: Index(index), term: Term(5), payload }
    }

    /// The other server of two lacks the entry that removed us, and cannot win against our longer log: we must.
    #[test]
    fn a_server_whose_removal_may_be_unknown_campaigns_and_does_not_vote_for_itself() {
        let log = vec![naming(1, &[1, 2]), naming(2, &[2])];
        let mut raft = member_of(log.clone(), 1);
        let due = raft.poll_timeout().expect("it asks for votes");
        raft.tick(due);
        let Role::PreCandidate { granted } = &raft.role else { panic!("{:?}", raft.role) };
        assert!(granted.is_empty());
        let granted = Message { term: Term(6), kind: Kind::PreVoteReply { granted: true } };
        raft.step(due, PeerId::numbered(2), granted);
        assert!(raft.flush(WriteSeq(9)).write.is_some());
        raft.persisted(due, WriteSeq(9));
        let Role::Candidate { granted } = &raft.role else { panic!("{:?}", raft.role) };
        assert!(granted.is_empty());
        assert_eq!(member_of(log, 2).poll_timeout(), None, "its removal is known to all");
    }

    #[test]
    fn a_server_without_a_vote_notices_that_its_leader_is_gone() {
        let mut raft = member_of(vec![naming(1, &[2])], 1);
        let heartbeat = Kind::Heartbeat { commit: Index(1), round: crate::id::Round(1) };
        raft.step(Instant::ZERO, PeerId::numbered(2), Message { term: Term(5), kind: heartbeat });
        assert_eq!(raft.leader(), Some(PeerId::numbered(2)));
        let due = raft.poll_timeout().expect("it listens");
        raft.tick(due);
        assert_eq!((raft.leader(), raft.poll_timeout()), (None, None));
    }
}
