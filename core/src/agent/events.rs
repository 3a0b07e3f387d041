//! User events: fired here, heard here, listed here.
//!
//! What is fired goes into the pool and comes back from there as news, as it does on every other agent. Whoever waits for an event
//! waits beside those who wait for a change of the store, within the same limits, but for this agent alone: nothing is
//! asked of a leader.

use super::Agent;
use super::calls::Stage;
use crate::api::event::{self as api, Event};
use crate::api::{Error, Reply, Request, Response};
use crate::error::Busy;
use crate::event::buffer::Selection;
use crate::event::{self, Audience, REMOTE_EXECUTION, Target};
use crate::gossip::{CannotFire, TimedEvent};
use crate::id::{LamportTime, Ticket};
use crate::watch::Interest;

/// The ID of the service that every server has.
const CONSUL: &str = "consul";

impl Agent {
    /// Carries out what is asked of user events.
    pub(super) fn serve_event(&mut self, ticket: Ticket) {
        let Some(open) = self.calls.get(ticket) else { return };
        match &open.call.request {
            Request::Event(api::Request::Fire(event)) => {
                let reply = self.may_fire(event).and_then(|()| self.judge(&open.call)).map(|_| event.clone());
                let reply = reply.and_then(|event| self.fire(event));
                self.reply(ticket, reply);
            }
            Request::Event(api::Request::List { .. }) => self.list_or_wait(ticket),
            _ => {}
        }
    }

    /// Whether an event can be fired, whoever wants it.
    fn may_fire(&self, event: &Event) -> Result<(), Error> {
        let limit = self.config.gossip.options.user_event_bytes;
        if event.node_filter.len() + event.service_filter.len() + event.tag_filter.len() > limit {
            // It need not be read to know that.
            return Err(Error::EventTooLarge { limit });
        }
        Audience::of(event).map(drop)
    }

    fn fire(&mut self, event: Event) -> Reply {
        let event = Event { id: self.rng.uuid(), time: LamportTime::default(), ..event };
        let fired = self.gossip.fire(self.now, event::encode(&event));
        fired.map(|_| Response::Fired(event)).map_err(|why| match why {
            CannotFire::TooLarge { limit, .. } => Error::EventTooLarge { limit },
            CannotFire::Leaving => Error::Leaving,
        })
    }

    /// An event has come, for the first and only time, and will not come again after a restart. If it is meant for us, it
    /// is kept, and told to those who wait for it.
    pub(super) fn deliver_event(&mut self, timed: TimedEvent) {
        let Some(event) = event::decode(timed) else { return };
        // What others fire need not have passed our own examination.
        let Ok(audience) = Audience::of(&event) else { return };
        let services = self.own_services();
        if !audience.has(&Target { node: &self.config.name, services: &services }) {
            return;
        }
        if event.name == REMOTE_EXECUTION {
            return self.summon(&event.payload);
        }
        let forgotten = self.heard.push(event.clone());
        let concerned = |ticket: &Ticket| {
            let Some((selection, index)) = self.listing(*ticket) else { return false };
            let may_differ = selection.has(&event) || forgotten.as_ref().is_some_and(|event| selection.has(event));
            may_differ && self.heard.index(selection) != index
        };
        let concerned: Vec<Ticket> = self.watches.for_events().filter(concerned).collect();
        for ticket in concerned {
            self.answer_listing(ticket);
        }
    }

    /// The services of this agent, each with its ID and tags.
    fn own_services(&self) -> Vec<(&str, &[String])> {
        let consul = self.config.server.then_some((CONSUL, &[] as &[String]));
        let registered =
            self.local.services().map(|service| (service.id.as_str(), service.tags.as_deref().unwrap_or_default()));
        consul.into_iter().chain(registered).collect()
    }

    /// What a call wants listed, and the index that it knows.
    fn listing(&self, ticket: Ticket) -> Option<(Selection<'_>, u64)> {
        match &self.calls.get(ticket)?.call.request {
            Request::Event(api::Request::List { name, node_filter, service_filter, tag_filter, index, wait: _ }) => {
                Some((Selection { name, node_filter, service_filter, tag_filter }, *index))
            }
            _ => None,
        }
    }

    /// Answers a listing, or lets it block as long as it would say nothing new.
    fn list_or_wait(&mut self, ticket: Ticket) {
        let Some((selection, index)) = self.listing(ticket) else { return };
        if index == 0 || self.heard.index(selection) != index {
            return self.answer_listing(ticket);
        }
        let limit = self.config.limits.blocked_queries;
        if self.watches.len() >= limit {
            let busy = Error::Busy { what: Busy::BlockedQueries, limit: limit as u64 };
            return self.reply(ticket, Err(busy));
        }
        let wait = match self.calls.get(ticket).map(|open| &open.call.request) {
            Some(Request::Event(api::Request::List { wait, .. })) => *wait,
            _ => None,
        };
        let until = self.now + self.longest_block(wait);
        self.watches.add(ticket, Interest::Event);
        self.calls.enter(ticket, Stage::Blocked, Some(until));
    }

    /// Answers a listing as it is now.
    pub(super) fn answer_listing(&mut self, ticket: Ticket) {
        let Some((selection, _)) = self.listing(ticket) else { return };
        let listed = self.heard.list(selection);
        self.reply(ticket, Ok(Response::Events(listed)));
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
