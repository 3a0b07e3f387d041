//! The duties of a leader: this exists only while we lead. A duty names commands, which then go through the log like
//! any client's; a leader that loses its office midway leaves nothing undone that its successor would not do.

mod autopilot;
mod reap;
mod restoration;

use autopilot::{Autopilot, Scene};
use reap::Reaper;
use restoration::Restoration;

use crate::api::operator::Health;
use crate::config::{Config, Limits};
use crate::raft::{Change, Raft};
use crate::sight::Sight;
use crate::store::{Command, Store};
use crate::time::Instant;

/// What a leader does of its own accord.
#[derive(Debug)]
pub(crate) struct Duties {
    autopilot: Autopilot,
    reaper: Reaper,
    restoration: Restoration,
}

impl Duties {
    /// The duties of a server that was just elected.
    #[must_use]
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            autopilot: Autopilot::new(now),
            reaper: Reaper::new(limits.tombstone_ttl),
            restoration: Restoration::default(),
        }
    }

    /// Looks at the store after a batch.
    pub(crate) fn observe(&mut self, now: Instant, store: &Store) {
        self.reaper.observe(now, store);
        self.restoration.observe(now, store);
    }

    /// When [`poll_command`](Self::poll_command) or [`poll_change`](Self::poll_change) has something to say.
    #[must_use]
    pub(crate) fn poll_timeout(&self, raft: &Raft) -> Option<Instant> {
        let due = [self.reaper.poll_timeout(), self.restoration.poll_timeout(), self.autopilot.poll_timeout(raft)];
        due.into_iter().flatten().min()
    }

    /// The next command that is due.
    pub(crate) fn poll_command(&mut self, now: Instant) -> Option<Command> {
        self.reaper.poll_command(now).or_else(|| self.restoration.poll_command(now))
    }

    /// The change of the members that is due.
    pub(crate) fn poll_change(
        &mut self,
        now: Instant,
        config: &Config,
        raft: &Raft,
        store: &Store,
        sight: &Sight,
    ) -> Option<Change> {
        self.autopilot.poll_change(&Scene { now, config, raft, settings: store.autopilot(), sight })
    }

    /// How the servers are.
    pub(crate) fn health(&self, now: Instant, config: &Config, raft: &Raft, store: &Store, sight: &Sight) -> Health {
        self.autopilot.health(&Scene { now, config, raft, settings: store.autopilot(), sight })
    }
}
