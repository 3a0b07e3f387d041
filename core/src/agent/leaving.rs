//! Leaving the pool for good, in an order that harms nobody:
//!
//! 1. who leads hands leadership over, so that nobody has to find out that there is no leader;
//! 2. the pool is told, and tells the others: the leader takes one who left out of raft when that is safe;
//! 3. a server waits for that a while, as it still counts for the quorum until then;
//! 4. that we have left is written down, so that a restart does not join again by itself;
//! 5. whoever asked for it is answered, and the owner told to stop.
//!
//! Nothing of this can fail so that we stay: what does not succeed in time is left to those who remain.

use super::Agent;
use super::calls::Stage;
use super::timers::Due;
use crate::api::Response;
use crate::id::Ticket;
use crate::io::{Notice, Output};
use crate::time::{Duration, Instant};

/// How long it is tried to hand leadership over.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to be taken out of raft (Consul's grace period).
const REMOVED_WITHIN: Duration = Duration::from_secs(5);
/// All steps together take less.
const PATIENCE: Duration = Duration::from_secs(60);

/// What leaving waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// For somebody else to lead.
    HandingOver { give_up: Instant },
    /// For the farewell to be said.
    Departing,
    /// For the leader to take us out of raft.
    AwaitingRemoval,
    /// For it to be written down.
    Remembering,
}

/// How far we are.
#[derive(Debug)]
pub(super) struct Leaving {
    step: Step,
    /// Who has asked for it.
    callers: Vec<Ticket>,
}

impl Agent {
    /// A client wants us to leave.
    pub(super) fn serve_leave(&mut self, ticket: Ticket) {
        self.calls.enter(ticket, Stage::Pending, Some(self.now + PATIENCE));
        if let Some(leaving) = &mut self.pool.leaving {
            return leaving.callers.push(ticket);
        }
        // The leader strikes our node out: what we have still to say of it must not come after that.
        self.give_up_anti_entropy();
        let give_up = self.now + HAND_OVER_WITHIN;
        self.pool.leaving = Some(Leaving { step: Step::HandingOver { give_up }, callers: vec![ticket] });
        self.maybe_leave_on();
    }

    /// Takes the next step of leaving, if what the last one waited for has come.
    pub(super) fn maybe_leave_on(&mut self) {
        match self.pool.leaving.as_ref().map(|leaving| leaving.step) {
            Some(Step::HandingOver { give_up }) => self.hand_over_or_depart(give_up),
            Some(Step::AwaitingRemoval) if !self.is_needed() => self.remember_that_we_left(),
            _ => {}
        }
    }

    pub(super) fn leave_step_timed_out(&mut self) {
        if self.pool.leaving.as_ref().is_some_and(|leaving| leaving.step == Step::AwaitingRemoval) {
            self.remember_that_we_left();
        }
    }

    fn enter_step(&mut self, step: Step) {
        if let Some(leaving) = &mut self.pool.leaving {
            leaving.step = step;
        }
    }

    /// Whether we take part in raft beside others.
    fn is_needed(&self) -> bool {
        let members = self.raft.members();
        members.is_member(self.config.id) && members.servers.len() > 1
    }

    fn hand_over_or_depart(&mut self, give_up: Instant) {
        let others_may_lead = self.raft.members().voters().any(|id| id != self.config.id);
        if self.raft.is_leader() && others_may_lead && self.now < give_up {
            if !self.raft.is_handing_over() {
                // Nobody may be prepared just now: then it is tried again.
                self.raft.transfer_leadership(None);
            }
            let look = give_up.min(self.now + self.config.raft.heartbeat_interval);
            return self.pool.timers.set(Due::Leave, look);
        }
        self.pool.timers.clear(&Due::Leave);
        self.enter_step(Step::Departing);
        self.gossip.leave(self.now);
    }

    /// The pool knows that we have left.
    pub(super) fn farewell_said(&mut self) {
        if self.is_needed() {
            self.enter_step(Step::AwaitingRemoval);
            self.pool.timers.set(Due::Leave, self.now + REMOVED_WITHIN);
        } else {
            self.remember_that_we_left();
        }
    }

    fn remember_that_we_left(&mut self) {
        self.pool.timers.clear(&Due::Leave);
        self.enter_step(Step::Remembering);
        self.remember_leaving();
    }

    /// It is written down that we have left, or cannot be.
    pub(super) fn leaving_remembered(&mut self) {
        let callers = self.pool.leaving.as_mut().map(|leaving| std::mem::take(&mut leaving.callers));
        for ticket in callers.into_iter().flatten() {
            self.reply(ticket, Ok(Response::Done(true)));
        }
        self.pool.has_left = true;
    }

    /// Tells the owner to stop, once all who asked for it are answered.
    pub(super) fn say_goodbye(&mut self) {
        if std::mem::take(&mut self.pool.has_left) {
            self.outputs.push_back(Output::Notice(Notice::Left));
        }
    }
}
