//! What is registered with this agent.

use super::Agent;
use crate::api::Error;
use crate::id::Ticket;

impl Agent {
    /// Carries out what is asked of the services and checks of this agent.
    pub(super) fn serve_local(&mut self, ticket: Ticket) {
        self.reply(ticket, Err(Error::NoServers));
    }
}
