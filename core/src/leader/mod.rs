//! The duties of a leader: this exists only while we lead. A duty names commands, which then go through the log like
//! any client's; a leader that loses its office midway leaves nothing undone that its successor would not do.

mod reap;

use reap::Reaper;

use crate::store::{Command, Store};
use crate::time::{Duration, Instant};

/// What a leader does of its own accord.
#[derive(Debug)]
pub(crate) struct Duties {
    reaper: Reaper,
}

impl Duties {
    /// The duties of a server that was just elected.
    #[must_use]
    pub(crate) fn new(tombstone_ttl: Duration) -> Self {
        Self { reaper: Reaper::new(tombstone_ttl) }
    }

    /// Looks at the store after a batch.
    pub(crate) fn observe(&mut self, now: Instant, store: &Store) {
        self.reaper.observe(now, store);
    }

    /// When [`poll_command`](Self::poll_command) has something to say.
    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.reaper.poll_timeout()
    }

    /// The next command that is due.
    pub(crate) fn poll_command(&mut self, now: Instant) -> Option<Command> {
        self.reaper.poll_command(now)
    }
}
