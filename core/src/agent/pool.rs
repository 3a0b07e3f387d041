//! The agent in its gossip pool: who else is there, joining and leaving.

use super::Agent;
use crate::api::{self, Error, agent};
use crate::config::Config;
use crate::gossip::{Gossip, News, Transmit};
use crate::id::Ticket;
use crate::io::Output;
use crate::rng::Rng;
use crate::time::Instant;

/// What we are in our pool, until we have joined others.
///
/// # Panics
/// If others could not take us in, which [`Config::check`] tells beforehand.
pub(super) fn gossip(config: &Config, rng: Rng, now: Instant) -> Gossip {
    Gossip::new(config.gossip.options.clone(), config.identity(), rng, now).expect("the configuration was checked")
}

impl Agent {
    /// Carries out what is asked of the pool.
    pub(super) fn serve_pool(&mut self, ticket: Ticket) {
        let Some(open) = self.calls.get(ticket) else { return };
        let api::Request::Agent(agent::Request::Members { .. }) = &open.call.request else { return };
        self.reply(ticket, Err(Error::NoServers));
    }

    /// Takes note of what has happened in the pool, and sends what gossip wants sent.
    pub(super) fn tend_pool(&mut self) {
        while let Some(transmit) = self.gossip.poll_transmit() {
            self.outputs.push_back(match transmit {
                Transmit::Datagram { to, bytes } => Output::Datagram { to, bytes },
                Transmit::Stream { to, bytes } => Output::Stream { to, bytes },
            });
        }
        while let Some(news) = self.gossip.poll_news() {
            if let News::UserEvent(event) = news {
                self.deliver_event(event);
            }
        }
    }
}
