//! The agent.
mod view;

pub use view::View;

use crate::config::Config;
use crate::io::{Input, Output};
use crate::time::Instant;
use crate::wal::Recovered;

/// An agent: see [`crate::io`] for the contract with its owner.
#[derive(Debug)]
pub struct Agent {}

impl Agent {
    /// An agent that wakes up at `now` with what its disk had kept ([`Recovered::default`] if it is new).
    /// Everything random in it follows from `seed`.
    #[must_use]
    pub fn new(_config: Config, _seed: u64, _recovered: Recovered, _now: Instant) -> Self {
        Self {}
    }

    /// Tells the agent that something happened. Nothing comes back: see [`poll_output`](Self::poll_output).
    pub fn handle_input(&mut self, _now: Instant, _input: Input) {}

    /// The next thing to be done. The first call after an input closes the batch.
    pub fn poll_output(&mut self) -> Option<Output> {
        None
    }

    /// When to feed [`Input::Timeout`] if nothing else happens before; `None` for never.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The picture of the store that was last published.
    #[must_use]
    pub fn view(&self) -> &View {
        todo!()
    }
}
