//! Reads: answered at once, after a quorum has confirmed that we lead, or once something has changed.

use super::Agent;
use super::calls::{Caller, Stage};
use crate::api::{Consistency, Error, ReadOptions, Request, Response, acl, prepared, session};
use crate::authorize::{self, filter};
use crate::error::Busy;
use crate::id::Ticket;
use crate::store::Question;
use crate::time::{Duration, Instant};
use crate::view::{is_news, query, respond};
use crate::watch::Interest;

impl Agent {
    /// For how long a query may block: what it asks for, within the limit, and up to a sixteenth more, so that
    /// those that began together do not all come back together (as Consul does).
    pub(super) fn longest_block(&mut self, wait: Option<Duration>) -> Duration {
        let limit = self.config.limits.max_wait;
        let wait = match wait {
            None | Some(Duration::ZERO) => limit,
            Some(wait) => wait.min(limit),
        };
        wait + self.rng.duration(Duration::ZERO, wait / 16)
    }

    /// Answers a read as soon as it is certain that we know all that is committed: a stale one at once, a default
    /// one within our lease, and otherwise after a quorum has confirmed that we lead.
    pub(super) fn read_when_sure(&mut self, ticket: Ticket) {
        let Some(open) = self.calls.get(ticket) else { return };
        let consistency = match &open.call.request {
            // It writes nothing, but whoever does not lead any more must not promise anything.
            Request::Session(session::Request::Renew { .. }) => Consistency::Default,
            request => match request.read_options() {
                Some(read) => read.consistency,
                None => return,
            },
        };
        let sure = match consistency {
            Consistency::Stale => true,
            Consistency::Default => self.now < self.raft.lease_until(),
            Consistency::Consistent => self.raft.lease_until() == Instant::NEVER,
        };
        if sure {
            return self.evaluate(ticket);
        }
        self.watches.remove(ticket);
        match self.raft.want_round() {
            Some(round) => {
                // A quorum that hears us and yet writes nothing leaves us in office, unsure of what is committed.
                let give_up = self.now + self.config.limits.leader_wait;
                self.calls.enter(ticket, Stage::Confirming(round), Some(give_up));
            }
            None => self.route(ticket),
        }
    }

    /// Answers a read from the store as far as its token may see, or lets it block.
    pub(super) fn evaluate(&mut self, ticket: Ticket) {
        let Some(open) = self.calls.get(ticket) else { return };
        let authority = match self.judge(&open.call) {
            Ok(authority) => authority,
            Err(error) => return self.reply(ticket, Err(error)),
        };
        match open.call.request {
            Request::Session(session::Request::Renew { .. }) => return self.renew(ticket),
            Request::Acl(acl::Request::Permit(permission)) => {
                return self.reply(ticket, Ok(Response::Done(authorize::permits(&authority, permission))));
            }
            _ => {}
        }
        let Some(ReadOptions { index, wait, .. }) = open.call.request.read_options().cloned() else { return };
        if let Request::Operator(_) | Request::Snapshot(_) = open.call.request {
            return self.show(ticket);
        }
        if let Request::Prepared(prepared::Request::Execute { .. } | prepared::Request::Explain { .. }) =
            open.call.request
        {
            return self.ask_query(ticket);
        }
        let Some(mut answer) = query(&self.store, &open.call.request) else { return };
        let from_peer = matches!(open.caller, Caller::Peer { .. });
        let until = match (open.block_until, wait) {
            _ if is_news(answer.changed, index) => self.now,
            (Some(until), _) => until,
            // The agent that asked has drawn its share, and gives up soon after: neither more nor less is wanted.
            (None, Some(wait)) if from_peer => self.now + wait.min(self.config.limits.max_wait * 17 / 16),
            (None, wait) => self.now + self.longest_block(wait),
        };
        if until <= self.now {
            let known_leader = self.raft.leader().is_some();
            let last_contact = self.now.since(self.raft.last_contact());
            let Some(open) = self.calls.get(ticket) else { return };
            let seen = filter(&authority, &self.store, &open.call.request, &mut answer);
            return self.reply(ticket, seen.and_then(|()| respond(answer, known_leader, last_contact)));
        }
        self.block(ticket, until);
    }

    /// Answers a read that never blocks.
    fn show(&mut self, ticket: Ticket) {
        let Some(open) = self.calls.get(ticket) else { return };
        let commit = self.raft.log().commit();
        if self.store.index() < commit {
            // Who the members were as of what is applied is forgotten once more is committed. It is a matter of this batch.
            return self.calls.enter(ticket, Stage::CatchingUp(commit), None);
        }
        let reply = match (&open.call.request, &open.caller) {
            // It makes its own copy, when it has got as far as we are now.
            (Request::Snapshot(_), Caller::Peer { .. }) => Some(Response::CaughtUpAt(self.store.index())),
            (request, _) => self.picture().look(self.now, request),
        };
        self.reply(ticket, reply.ok_or(Error::NoLeader));
    }

    fn block(&mut self, ticket: Ticket, until: Instant) {
        let limit = self.config.limits.blocked_queries;
        if self.watches.len() >= limit {
            let busy = Error::Busy { what: Busy::BlockedQueries, limit: limit as u64 };
            return self.reply(ticket, Err(busy));
        }
        let Some(open) = self.calls.get_mut(ticket) else { return };
        open.block_until = Some(until);
        if let Some(interest) = Question::of(&open.call.request).and_then(Interest::of) {
            self.watches.add(ticket, interest);
        }
        self.calls.enter(ticket, Stage::Blocked, Some(until));
    }

    /// Whether a blocked call's result is newer than what it asked for.
    pub(super) fn has_news(&self, ticket: Ticket) -> bool {
        let Some(open) = self.calls.get(ticket) else { return false };
        let Some(read) = open.call.request.read_options() else { return false };
        open.stage == Stage::Blocked
            && Question::of(&open.call.request)
                .and_then(|question| self.store.changed(question))
                .is_some_and(|changed| is_news(changed, read.index))
    }
}
