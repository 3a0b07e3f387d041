//! User events: fired here, heard here, listed here.

use super::Agent;
use crate::api::Error;
use crate::gossip::TimedEvent;
use crate::id::Ticket;

impl Agent {
    /// Carries out what is asked of user events.
    pub(super) fn serve_event(&mut self, ticket: Ticket) {
        self.reply(ticket, Err(Error::NoServers));
    }

    /// An event has come, or was fired here: each at most once in all lives of this agent, for that it came is on the disk.
    pub(super) fn deliver_event(&mut self, event: TimedEvent) {
        drop(event);
    }
}
