//! The duties of a leader: this exists only while we lead. A duty names commands, which then go through the log like
//! any client's; a leader that loses its office midway leaves nothing undone that its successor would not do.

mod autopilot;
mod coordinates;
mod lease;
mod reap;
mod reconcile;
mod restoration;
mod tokens;

use autopilot::{Autopilot, Scene};
use coordinates::Coordinates;
use lease::Leases;
use reap::Reaper;
use reconcile::Reconcile;
pub(crate) use reconcile::{Step, Surroundings};
use restoration::Restoration;
use tokens::Provider;

use crate::api::coordinate::Place;
use crate::api::operator::Health;
use crate::api::session::Session;
use crate::config::Config;
use crate::id::{Index, PeerId, SessionId};
use crate::raft::{Change, Raft};
use crate::sight::Sight;
use crate::store::{Command, Store};
use crate::time::Instant;

/// What a leader does of its own accord.
#[derive(Debug)]
pub(crate) struct Duties {
    autopilot: Autopilot,
    coordinates: Coordinates,
    leases: Leases,
    reaper: Reaper,
    restoration: Restoration,
    reconcile: Reconcile,
    provider: Provider,
}

impl Duties {
    /// The duties of a server that was just elected.
    #[must_use]
    pub(crate) fn new(config: &Config, now: Instant) -> Self {
        Self {
            autopilot: Autopilot::new(now),
            coordinates: Coordinates::default(),
            leases: Leases::default(),
            reaper: Reaper::new(config.limits.tombstone_ttl),
            restoration: Restoration::default(),
            reconcile: Reconcile::new(now),
            provider: Provider::new(config),
        }
    }

    /// Looks at the store after a batch.
    pub(crate) fn observe(&mut self, now: Instant, raft: &Raft, store: &Store) {
        let caught_up = raft.applied().term == raft.status().term;
        if self.leases.is_unarmed() && caught_up {
            self.leases.arm(now, store);
        }
        self.provider.observe(now, caught_up, store);
        self.reaper.observe(now, store);
        self.restoration.observe(now, store);
    }

    /// When [`poll_command`](Self::poll_command) or [`poll_change`](Self::poll_change) has something to say.
    #[must_use]
    pub(crate) fn poll_timeout(&self, raft: &Raft) -> Option<Instant> {
        let due = [
            self.coordinates.poll_timeout(),
            self.leases.poll_timeout(),
            self.reaper.poll_timeout(),
            self.restoration.poll_timeout(),
            self.autopilot.poll_timeout(raft),
            self.provider.poll_timeout(),
        ];
        due.into_iter().flatten().min().into_iter().chain([self.reconcile.poll_timeout()]).min()
    }

    /// There is news of a member of the pool.
    pub(crate) fn note_member(&mut self, name: &str) {
        self.reconcile.note_member(name);
    }

    /// A member of the pool is forgotten; it was this server, if it was one.
    pub(crate) fn note_forgotten(&mut self, name: &str, server: Option<PeerId>) {
        self.reconcile.note_forgotten(name, server);
    }

    /// A step that was due is in the log, at this index.
    pub(crate) fn note_proposed(&mut self, index: Index) {
        self.reconcile.note_proposed(index);
    }

    /// A step that was due could not be taken just now.
    pub(crate) fn note_undone(&mut self, now: Instant) {
        self.reconcile.note_undone(now);
    }

    /// Something was registered on the node of one that has left.
    pub(crate) fn note_ghost(&mut self, now: Instant) {
        self.reconcile.note_ghost(now);
    }

    /// A step that was due on account of this member was refused, and time alone does not help.
    pub(crate) fn note_refused(&mut self, name: String) {
        self.reconcile.note_refused(name);
    }

    /// What follows for raft and the catalog from who is in the pool. To be asked once all is applied that was committed.
    pub(crate) fn poll_steps(&mut self, now: Instant, around: Surroundings<'_>) -> Vec<Step> {
        self.reconcile.poll(now, around)
    }

    /// The next command that is due.
    pub(crate) fn poll_command(&mut self, now: Instant) -> Option<Command> {
        self.reaper
            .poll_command(now)
            .or_else(|| self.restoration.poll_command(now))
            .or_else(|| self.coordinates.poll_command(now))
            .or_else(|| self.leases.poll_command(now))
            .or_else(|| self.provider.poll_command(now))
    }

    /// An agent tells where it is.
    pub(crate) fn gather(&mut self, now: Instant, place: Place) {
        self.coordinates.gather(now, place);
    }

    /// A session has come or gone.
    pub(crate) fn note_session(&mut self, now: Instant, store: &Store, id: SessionId) {
        self.leases.note(now, store, id);
    }

    /// All sessions were replaced.
    pub(crate) fn arm_sessions(&mut self, now: Instant, store: &Store) {
        self.leases.arm(now, store);
    }

    /// A session is renewed. Gives whether it still can be.
    pub(crate) fn renew(&mut self, now: Instant, session: &Session) -> bool {
        self.leases.renew(now, session)
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
