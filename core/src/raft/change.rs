//! Changes of who takes part, one vote at a time (thesis 4.1).
//!
//! Any majority of a configuration shares a server with any majority of one that differs by a single vote; so a change
//! may hold from the moment that it is in a log. It takes two rules for that: a change waits until the one before is
//! committed, and a new leader waits until an entry of its own term is (or two leaders could each build on another's
//! uncommitted change, and have nobody in common).

use std::net::SocketAddr;
use std::sync::Arc;

use super::configuration::{Configuration, Server};
use super::log::{Payload, Position};
use super::message::{Kind, Message};
use super::progress::Progress;
use super::{Raft, Role};
use crate::id::PeerId;

/// A change of who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A server joins, without a vote.
    Add {
        /// Which.
        id: PeerId,
        /// Where it is.
        address: SocketAddr,
    },
    /// A member gets a vote.
    Promote(PeerId),
    /// A member, with a vote or without, is one no more.
    Remove(PeerId),
    /// A member has another address.
    Move {
        /// Which.
        id: PeerId,
        /// Where it is now.
        address: SocketAddr,
    },
}

/// Why a change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// This server does not lead, or is about to hand over.
    NotLeader,
    /// The change before is not committed, or nothing of this leader's term is: later it may be made.
    TooSoon,
    /// It is so already.
    Unchanged,
    /// There is no such member.
    Unknown,
    /// Another member has this address.
    AddressTaken,
    /// Nobody would have a vote.
    LastVoter,
}

impl Raft {
    /// Changes who takes part, by an entry of the log.
    ///
    /// # Errors
    /// If the change cannot be made, or not now; nothing was done then.
    pub fn change_members(&mut self, change: Change) -> Result<Position, Refused> {
        let Role::Leader(leader) = &self.role else { return Err(Refused::NotLeader) };
        if leader.transfer.is_some() {
            return Err(Refused::NotLeader);
        }
        let configuration = changed(self.membership.latest(), change)?;
        let commit = self.log.commit();
        if self.membership.latest_index() > commit || leader.term_start > commit {
            return Err(Refused::TooSoon);
        }
        let position = self.append(Payload::Configuration(configuration)).ok_or(Refused::NotLeader)?;
        self.meet_members();
        Ok(position)
    }

    /// A leader looks after every member. Those that were removed are still sent the entry that says so.
    fn meet_members(&mut self) {
        let members = Arc::clone(self.membership.latest());
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        for id in members.others(self.id) {
            leader.progress.entry(id).or_insert_with(|| Progress::new(last, self.now));
        }
    }

    /// Something was committed: if that settles who takes part, those who do not may go, and a leader that is one of them
    /// resigns (thesis 4.2.2).
    pub(super) fn settle_change(&mut self) {
        if self.membership.latest_index() > self.log.commit() {
            return;
        }
        self.part_from_removed();
        if !self.membership.latest().is_voter(self.id) {
            self.hand_over_for_good();
        }
    }

    /// Those who are members no more are looked after until they know that, so that they need not ask for votes; or until they
    /// are not heard any more.
    pub(super) fn part_from_removed(&mut self) {
        let (settled, commit) = (self.membership.latest_index(), self.log.commit());
        if settled > commit {
            return;
        }
        let members = Arc::clone(self.membership.latest());
        let Role::Leader(leader) = &mut self.role else { return };
        let round = leader.rounds.current();
        leader.progress.retain(|id, progress| {
            if members.is_member(*id) {
                return true;
            }
            let knows = progress.matched() >= settled;
            if knows {
                // The last word.
                let kind = Kind::Heartbeat { commit: commit.min(progress.matched()), round };
                self.outbox.push((*id, Message { term: self.term, kind }));
            }
            !knows && progress.snapshot().is_none() && self.now.since(progress.heard) < self.config.election_timeout
        });
    }
}

/// The configuration after a change.
fn changed(members: &Configuration, change: Change) -> Result<Configuration, Refused> {
    let mut after = members.clone();
    let taken = |id: PeerId, address| members.servers.iter().any(|(other, at)| *other != id && at.address == address);
    match change {
        Change::Add { id, .. } if members.is_member(id) => return Err(Refused::Unchanged),
        Change::Add { id, address } | Change::Move { id, address } if taken(id, address) => {
            return Err(Refused::AddressTaken);
        }
        Change::Add { id, address } => {
            after.servers.insert(id, Server { address, voter: false });
        }
        Change::Promote(id) => after.servers.get_mut(&id).ok_or(Refused::Unknown)?.voter = true,
        Change::Remove(id) => {
            after.servers.remove(&id).ok_or(Refused::Unknown)?;
        }
        Change::Move { id, address } => after.servers.get_mut(&id).ok_or(Refused::Unknown)?.address = address,
    }
    if after.voter_count() == 0 {
        return Err(Refused::LastVoter);
    }
    if after == *members { Err(Refused::Unchanged) } else { Ok(after) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], n))
    }

    #[test]
    fn a_change_touches_one_vote_and_makes_sense() {
        let [one, two, three] = [1, 2, 3].map(PeerId::numbered);
        let lone = Configuration::new([(one, address(1))]);
        assert_eq!(changed(&lone, Change::Remove(one)), Err(Refused::LastVoter));
        assert_eq!(changed(&lone, Change::Remove(two)), Err(Refused::Unknown));
        assert_eq!(changed(&lone, Change::Promote(one)), Err(Refused::Unchanged));
        assert_eq!(changed(&lone, Change::Add { id: one, address: address(9) }), Err(Refused::Unchanged));
        assert_eq!(changed(&lone, Change::Add { id: two, address: address(1) }), Err(Refused::AddressTaken));
        let joined = changed(&lone, Change::Add { id: two, address: address(2) }).unwrap();
        assert_eq!((joined.voter_count(), joined.servers.len()), (1, 2));
        assert_eq!(changed(&joined, Change::Remove(one)), Err(Refused::LastVoter));
        let promoted = changed(&joined, Change::Promote(two)).unwrap();
        assert_eq!(promoted.voters().collect::<Vec<_>>(), [one, two]);
        let moved = changed(&promoted, Change::Move { id: two, address: address(7) }).unwrap();
        assert_eq!(moved.address(two), Some(address(7)));
        assert_eq!(changed(&moved, Change::Move { id: three, address: address(8) }), Err(Refused::Unknown));
    }
}
