//! Every open call, the one stage it is in, and its deadline.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::api::Call;
use crate::id::{CallId, ErrandId, Index, PeerId, Round, Term, Ticket};
use crate::raft::Position;
use crate::time::{Deadlines, Duration, Instant};

/// Who waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Caller {
    /// A client of this agent.
    Client(CallId),
    /// This agent itself.
    Itself(ErrandId),
    /// Another agent, for a client of its own. It is answered at the address from which it asked: it need not be a member
    /// of raft.
    Peer { peer: PeerId, address: SocketAddr, origin: u64, id: CallId },
}

/// What a call waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// For a leader to be known.
    Held,
    /// For the answer of `to`, which leads `term`, or is any server if that is 0. Reads are asked again after `resend`,
    /// writes never.
    Forwarded { to: PeerId, term: Term, give_up: Instant, resend: Duration },
    /// For this position of the log to be applied.
    Proposed(Position),
    /// For a quorum to confirm that we lead.
    Confirming(Round),
    /// For its result to change.
    Blocked,
    /// For our own store to get as far as the leader's was.
    CatchingUp(Index),
    /// For leadership to have passed to another.
    HandingOver,
    /// For something that this very agent is about to do.
    Pending,
}

/// An open call.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) caller: Caller,
    pub(super) call: Call,
    pub(super) stage: Stage,
    /// How long it waits for a leader.
    pub(super) patience: Instant,
    /// When a blocked query is answered as it is; fixed when it first blocks.
    pub(super) block_until: Option<Instant>,
    /// Of another agent's call: the term in which that agent takes us for the leader.
    pub(super) asked_in: Term,
}

/// All open calls.
///
/// Invariants: `by_caller` and `open` hold the same calls; `proposed`, `confirming` and `catching_up` hold exactly those
/// that are in these stages.
#[derive(Debug, Default)]
pub(super) struct Calls {
    last: Ticket,
    open: BTreeMap<Ticket, Open>,
    by_caller: BTreeMap<Caller, Ticket>,
    proposed: BTreeMap<(Index, Term), Ticket>,
    confirming: BTreeMap<(Round, Ticket), ()>,
    catching_up: BTreeMap<(Index, Ticket), ()>,
    deadlines: Deadlines<Ticket>,
}

impl Calls {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Takes a call in; it waits for a leader until it is told otherwise.
    pub(super) fn open(&mut self, caller: Caller, call: Call, patience: Instant, asked_in: Term) -> Ticket {
        let ticket = self.last.next();
        self.last = ticket;
        self.by_caller.insert(caller, ticket);
        self.open.insert(ticket, Open { caller, call, stage: Stage::Held, patience, block_until: None, asked_in });
        ticket
    }

    pub(super) fn get(&self, ticket: Ticket) -> Option<&Open> {
        self.open.get(&ticket)
    }

    pub(super) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Open> {
        self.open.get_mut(&ticket)
    }

    pub(super) fn by_caller(&self, caller: &Caller) -> Option<Ticket> {
        self.by_caller.get(caller).copied()
    }

    /// Moves a call to another stage, due at `deadline` at the latest.
    pub(super) fn enter(&mut self, ticket: Ticket, stage: Stage, deadline: Option<Instant>) {
        let Some(open) = self.open.get_mut(&ticket) else { return };
        let left = std::mem::replace(&mut open.stage, stage);
        match open.stage {
            Stage::Proposed(at) => drop(self.proposed.insert((at.index, at.term), ticket)),
            Stage::Confirming(round) => drop(self.confirming.insert((round, ticket), ())),
            Stage::CatchingUp(index) => drop(self.catching_up.insert((index, ticket), ())),
            Stage::Held | Stage::Forwarded { .. } | Stage::Blocked | Stage::HandingOver | Stage::Pending => {}
        }
        if left != self.open[&ticket].stage {
            self.forget_stage(ticket, &left);
        }
        match deadline {
            Some(at) => self.deadlines.set(ticket, at),
            None => self.deadlines.clear(&ticket),
        }
    }

    fn forget_stage(&mut self, ticket: Ticket, stage: &Stage) {
        match stage {
            Stage::Proposed(at) => drop(self.proposed.remove(&(at.index, at.term))),
            Stage::Confirming(round) => drop(self.confirming.remove(&(*round, ticket))),
            Stage::CatchingUp(index) => drop(self.catching_up.remove(&(*index, ticket))),
            Stage::Held | Stage::Forwarded { .. } | Stage::Blocked | Stage::HandingOver | Stage::Pending => {}
        }
    }

    /// Sets when a call is due, if it was not due at all.
    pub(super) fn limit_deadline(&mut self, ticket: Ticket, at: Instant) {
        if self.deadlines.get(&ticket).is_none() {
            self.deadlines.set(ticket, at);
        }
    }

    /// Closes a call.
    pub(super) fn close(&mut self, ticket: Ticket) -> Option<Open> {
        let open = self.open.remove(&ticket)?;
        self.by_caller.remove(&open.caller);
        self.deadlines.clear(&ticket);
        self.forget_stage(ticket, &open.stage);
        Some(open)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Ticket> {
        self.deadlines.pop_due(now)
    }

    /// The proposals for this index, by the terms in which they were made.
    pub(super) fn proposed_at(&self, index: Index) -> Vec<(Term, Ticket)> {
        let range = (index, Term(0))..=(index, Term(u64::MAX));
        self.proposed.range(range).map(|((_, term), ticket)| (*term, *ticket)).collect()
    }

    /// The proposals for this index and all before it.
    pub(super) fn proposed_up_to(&self, index: Index) -> Vec<Ticket> {
        self.proposed.range(..=(index, Term(u64::MAX))).map(|(_, ticket)| *ticket).collect()
    }

    /// The calls that wait for our store to get to this index or one before it.
    pub(super) fn caught_up_by(&self, index: Index) -> Vec<Ticket> {
        self.catching_up.range(..=(index, Ticket(u64::MAX))).map(|((_, ticket), ())| *ticket).collect()
    }

    /// The calls that a confirmation of this round answers.
    pub(super) fn confirmed_by(&self, round: Round) -> Vec<Ticket> {
        let end = (round, Ticket(u64::MAX));
        self.confirming.range(..=end).map(|((_, ticket), ())| *ticket).collect()
    }

    /// Calls whose stage is as `wanted`, in the order in which they came.
    pub(super) fn in_stage(&self, wanted: impl Fn(&Open) -> bool) -> Vec<Ticket> {
        self.open.iter().filter(|(_, open)| wanted(open)).map(|(ticket, _)| *ticket).collect()
    }
}
