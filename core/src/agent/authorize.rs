//! Calls held against their tokens: which token a call has, and when this agent can say what it allows. What is needed, and what is
//! seen, is up to [`crate::authorize`].

use super::Agent;
use super::calls::{Caller, Stage};
use crate::acl::Authority;
use crate::api::{Call, Error, Reply, Request, Response};
use crate::authorize;
use crate::id::Ticket;
use crate::prepared;

impl Agent {
    /// Gives a call that begins here the token of those who give none, or our own if it is ours. Whoever it is handed to adds
    /// nothing.
    pub(super) fn give_token(&self, caller: Caller, call: &mut Call) {
        if let Request::Agent(_) = call.request {
            // It stays here, and what it registers without a token is told to the catalog with whatever token we have then.
            return;
        }
        if call.token.as_ref().is_none_or(String::is_empty) {
            let acl = &self.config.acl;
            call.token = match caller {
                Caller::Itself(_) => acl.agent_token.as_ref().or(acl.token.as_ref()),
                Caller::Client(_) | Caller::Peer { .. } => acl.token.as_ref(),
            }
            .cloned();
        }
    }

    /// What a call may do and see, by our store as it is now.
    pub(super) fn judge(&self, call: &Call) -> Result<Authority, Error> {
        authorize::judge(&self.config, &self.store, call.token.as_deref(), &call.request)
    }

    /// What a token allows, by our store as it is now.
    pub(super) fn authority_of(&self, token: Option<&str>) -> Result<Authority, Error> {
        authorize::authority(&self.config, &self.store, token)
    }

    /// What asking a prepared query may find: with the token that it has itself, or else with the caller's.
    pub(super) fn authority_of_query(&self, name: &str, call: &Call) -> Result<Authority, Error> {
        let query = prepared::explain(&self.store, name)?;
        let token = if query.token.is_empty() { call.token.as_deref() } else { Some(query.token.as_str()) };
        self.authority_of(token)
    }

    /// Judges a write as soon as it is certain that we lead: within our lease, or once a quorum has confirmed it. Whoever was deposed and
    /// does not know it can write nothing, but would deny what the tokens of its successor allow.
    pub(super) fn write_when_sure(&mut self, ticket: Ticket) {
        if !self.config.acl.is_on() || self.now < self.raft.lease_until() {
            return self.write(ticket);
        }
        match self.raft.want_round() {
            Some(round) => {
                let give_up = self.now + self.config.limits.leader_wait;
                self.calls.enter(ticket, Stage::Confirming(round), Some(give_up));
            }
            None => self.route(ticket),
        }
    }

    /// What a write may do. We lead. `None` if it was refused, or has to wait: until the first entry of our own term is applied, we may
    /// not know that a token was destroyed.
    pub(super) fn judge_write(&mut self, ticket: Ticket) -> Option<Authority> {
        let open = self.calls.get(ticket)?;
        if self.config.acl.is_on()
            && let Some(first) = self.raft.first_of_office()
            && self.store.index() < first
        {
            let patience = open.patience;
            self.calls.enter(ticket, Stage::CatchingUp(first), Some(patience));
            return None;
        }
        self.judge(&open.call).map_err(|error| self.reply(ticket, Err(error))).ok()
    }

    /// What a write has told, without what may not be seen: in a transaction, reads may stand beside writes.
    pub(super) fn conceal(&self, ticket: Ticket, mut reply: Reply) -> Reply {
        if self.config.acl.is_on()
            && let Ok(Response::Txn(outcome)) = &mut reply
            && let Some(open) = self.calls.get(ticket)
        {
            match self.authority_of(open.call.token.as_deref()) {
                Ok(authority) => authorize::conceal(&authority, outcome),
                // It was destroyed while the write was on its way.
                Err(_) => outcome.results.clear(),
            }
        }
        reply
    }
}
