//! User events: fired here, heard here, listed here.

use super::Agent;
use crate::api::Error;
use crate::id::Ticket;

impl Agent {
    /// Carries out what is asked of user events.
    pub(super) fn serve_event(&mut self, ticket: Ticket) {
        self.reply(ticket, Err(Error::NoServers));
    }
}
