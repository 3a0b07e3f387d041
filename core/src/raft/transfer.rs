//! Handing leadership over (thesis 3.10).
//!
//! The leader stops taking proposals, brings the successor's log up to its own, and tells it to begin a term at once.
//! Voters that swore themselves to this leader are free to vote for the successor, for the leader has given up the lease
//! that the oath protects *before* it said so. As the message may arrive at any time later, it never takes a lease
//! again in this term, even if the successor seems to fail: its reads then ask a quorum.

use super::message::Kind;
use super::{Raft, Role};
use crate::id::PeerId;
use crate::time::Instant;

/// A leader about to hand over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    to: PeerId,
    /// When to go on leading if nothing came of it.
    give_up: Instant,
    asked: bool,
}

impl Raft {
    /// Begins to hand leadership over: to `to`, or to the voter that is best prepared. Returns to whom; `None` if this
    /// server does not lead, or if there is no such voter that was heard of late.
    pub fn transfer_leadership(&mut self, to: Option<PeerId>) -> Option<PeerId> {
        let members = self.membership.latest();
        let Role::Leader(leader) = &mut self.role else { return None };
        let alive = |id: &PeerId| {
            let recently = |heard: Instant| self.now.since(heard) < self.config.election_timeout;
            leader.progress.get(id).is_some_and(|progress| recently(progress.heard))
        };
        let candidates = members.voters().filter(|id| to.is_none_or(|to| to == *id)).filter(alive);
        let to = candidates.max_by_key(|id| leader.progress[id].matched())?;
        leader.transfer = Some(Transfer { to, give_up: self.now + self.config.election_timeout, asked: false });
        Some(to)
    }

    /// Whether leadership is being handed over: nothing new enters the log meanwhile.
    #[must_use]
    pub const fn is_handing_over(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if leader.transfer.is_some())
    }

    /// Tells the successor to take over, once its log is as long as ours.
    pub(super) fn maybe_hand_over(&mut self) {
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(transfer) = leader.transfer.as_mut().filter(|transfer| !transfer.asked) else { return };
        let to = transfer.to;
        if leader.progress.get(&to).is_some_and(|progress| progress.matched() == last) {
            transfer.asked = true;
            leader.lease_given_up = true;
            self.send(to, Kind::TimeoutNow);
        }
    }

    /// Goes on leading if the successor did not take over in time.
    pub(super) fn maybe_give_up_transfer(&mut self) {
        if let Role::Leader(leader) = &mut self.role
            && leader.transfer.is_some_and(|transfer| transfer.give_up <= self.now)
        {
            leader.transfer = None;
        }
    }

    /// The leader asks us to take over.
    pub(super) fn handle_timeout_now(&mut self, from: PeerId) {
        let may_lead = self.membership.latest().is_voter(self.id);
        if may_lead && self.leader == Some(from) && matches!(self.role, Role::Follower) {
            self.begin_term(true);
        }
    }
}
