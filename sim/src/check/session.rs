//! Sessions, from outside: what the committed log says of them, and what clients were promised.

use std::collections::{BTreeMap, BTreeSet};

use lictor_core::api::catalog::{Deregistration, Registration};
use lictor_core::api::health::CRITICAL;
use lictor_core::api::session::Session;
use lictor_core::id::{Index, SessionId};
use lictor_core::time::{Duration, Instant};

use super::{Verdict, ensure};

/// Clocks that measure sessions and lock delays differ from the world's by at most this many percent: two, and some
/// rounding.
pub(crate) const DRIFT_PERCENT: u32 = 3;

/// Why a session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A client wanted it.
    Destroyed,
    /// It was not renewed.
    Expired,
    /// Its node or one of its checks has gone, or the check has become critical.
    Unsound,
}

/// A session from its beginning to its end.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) session: Session,
    pub(crate) ended: Option<(Index, End)>,
}

/// What is known of a node: its services' IDs, and its checks with their states.
#[derive(Clone, Debug, Default)]
struct Node {
    services: BTreeSet<String>,
    checks: BTreeMap<String, Check>,
}

#[derive(Clone, Debug)]
struct Check {
    service: String,
    is_critical: bool,
}

/// All sessions that ever were, and as much of the catalog as they rely on. An implementation of our own, of the simplest
/// kind: after each change of the catalog it looks at all sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    nodes: BTreeMap<String, Node>,
    lives: BTreeMap<SessionId, Life>,
    alive: BTreeSet<SessionId>,
}

impl Sessions {
    /// Enters a registration, all of it or nothing.
    pub(crate) fn register(&mut self, what: &Registration) {
        let name = what.node.name.to_lowercase();
        let mut services = self.nodes.get(&name).map(|node| node.services.clone()).unwrap_or_default();
        if let Some(service) = &what.service {
            if service.id.is_empty() || service.name.is_empty() {
                return;
            }
            services.insert(service.id.to_lowercase());
        }
        let mut checks = Vec::new();
        for check in &what.checks {
            let node = if check.node.is_empty() { name.clone() } else { check.node.to_lowercase() };
            let has = |service: &String| match node == name {
                true => services.contains(service),
                false => self.nodes.get(&node).is_some_and(|node| node.services.contains(service)),
            };
            let service = check.service_id.to_lowercase();
            let is_known = node == name || self.nodes.contains_key(&node);
            if check.id.is_empty() || !is_known || !service.is_empty() && !has(&service) {
                return;
            }
            let is_critical = check.status.is_empty() || check.status == CRITICAL;
            checks.push((node, check.id.to_lowercase(), Check { service, is_critical }));
        }
        if !name.is_empty() {
            self.nodes.entry(name).or_default().services = services;
            for (node, id, check) in checks {
                self.nodes.entry(node).or_default().checks.insert(id, check);
            }
        }
    }

    /// Strikes out what is named.
    pub(crate) fn deregister(&mut self, what: &Deregistration) {
        let name = what.node.to_lowercase();
        let (service, check) = (what.service_id.to_lowercase(), what.check_id.to_lowercase());
        let Some(node) = self.nodes.get_mut(&name) else { return };
        if !service.is_empty() {
            node.services.remove(&service);
            node.checks.retain(|_, check| check.service != service);
        } else if !check.is_empty() {
            node.checks.remove(&check);
        } else {
            self.nodes.remove(&name);
        }
    }

    /// Begins a session at this index, if what it relies on is there. Gives whether it does.
    pub(crate) fn create(&mut self, index: Index, session: &Session) -> bool {
        if !self.bears(session) {
            return false;
        }
        let session = Session { create_index: index, ..session.clone() };
        self.alive.insert(session.id);
        self.lives.insert(session.id, Life { session, ended: None });
        true
    }

    /// Ends a session at this index, if it is alive, and gives it.
    pub(crate) fn end(&mut self, index: Index, id: SessionId, why: End) -> Option<Session> {
        if !self.alive.remove(&id) {
            return None;
        }
        let life = self.lives.get_mut(&id)?;
        life.ended = Some((index, why));
        Some(life.session.clone())
    }

    /// The sessions that are alive and that the catalog does not bear any more.
    pub(crate) fn unsound(&self) -> Vec<SessionId> {
        let unsound = |id: &&SessionId| self.lives.get(*id).is_some_and(|life| !self.bears(&life.session));
        self.alive.iter().filter(unsound).copied().collect()
    }

    fn bears(&self, session: &Session) -> bool {
        let Some(node) = self.nodes.get(&session.node.to_lowercase()) else { return false };
        let passes = |id: &String| node.checks.get(&id.to_lowercase()).is_some_and(|check| !check.is_critical);
        session.checks.iter().all(passes)
    }

    /// Whether a session is alive by all that is committed.
    pub(crate) fn is_alive(&self, id: SessionId) -> bool {
        self.alive.contains(&id)
    }

    /// The sessions that are alive by all that is committed.
    pub(crate) fn alive(&self) -> impl Iterator<Item = &Session> {
        self.alive.iter().filter_map(|id| self.lives.get(id)).map(|life| &life.session)
    }

    /// What is known of a session, if there ever was one of this ID.
    pub(crate) fn life(&self, id: SessionId) -> Option<&Life> {
        self.lives.get(&id)
    }

    /// The sessions that were alive at an index, by ID.
    pub(crate) fn alive_at(&self, at: Index) -> impl Iterator<Item = &Session> {
        let is_alive =
            move |life: &&Life| life.session.create_index <= at && life.ended.is_none_or(|(ended, _)| ended > at);
        self.lives.values().filter(is_alive).map(|life| &life.session)
    }

    /// The first change after an index and up to `until` for which one may be woken who waits for all sessions, or for this
    /// one. If this one was not there at that index, that is any change.
    pub(crate) fn may_wake(&self, of: Option<SessionId>, after: Index, until: Index) -> Option<Index> {
        match of.and_then(|id| self.alive_one(id, after)) {
            Some(life) => life.ended.map(|(ended, _)| ended).filter(|at| *at > after && *at <= until),
            None => self.changed(after, until),
        }
    }

    /// The first change after an index and up to `until` for which one must be woken who waits for all sessions, or for this
    /// one, if it was there at that index.
    pub(crate) fn must_wake(&self, of: Option<SessionId>, after: Index, until: Index) -> Option<Index> {
        match of {
            Some(id) => self.alive_one(id, after).and_then(|_| self.may_wake(of, after, until)),
            None => self.changed(after, until),
        }
    }

    fn alive_one(&self, id: SessionId, at: Index) -> Option<&Life> {
        let life = self.lives.get(&id).filter(|life| life.session.create_index <= at)?;
        life.ended.is_none_or(|(ended, _)| ended > at).then_some(life)
    }

    fn changed(&self, after: Index, until: Index) -> Option<Index> {
        let changes = self.lives.values().flat_map(|life| [Some(life.session.create_index), life.ended.map(|at| at.0)]);
        changes.flatten().filter(|at| *at > after && *at <= until).min()
    }

    /// Whether this is what could be said of one session at some index from `low` to `high`: itself or nothing.
    pub(crate) fn find_one(&self, id: SessionId, found: &[std::sync::Arc<Session>], low: Index, high: Index) -> bool {
        let life = self.lives.get(&id);
        match found {
            [] => life.is_none_or(|life| {
                life.session.create_index > low || life.ended.is_some_and(|(ended, _)| ended <= high)
            }),
            [one] => life.is_some_and(|life| {
                life.session == **one
                    && life.session.create_index <= high
                    && life.ended.is_none_or(|(ended, _)| ended > low)
            }),
            _ => false,
        }
    }

    /// Whether these are just the sessions that were alive at some index from `low` to `high`.
    pub(crate) fn find(&self, found: &[std::sync::Arc<Session>], low: Index, high: Index) -> Option<Index> {
        let changes = self.lives.values().flat_map(|life| [Some(life.session.create_index), life.ended.map(|at| at.0)]);
        let mut candidates: BTreeSet<Index> = changes.flatten().filter(|at| (low..=high).contains(at)).collect();
        candidates.insert(low);
        candidates.into_iter().find(|at| self.alive_at(*at).eq(found.iter().map(|session| &**session)))
    }
}

/// What clients were promised of a session.
#[derive(Clone, Debug)]
struct Promise {
    ttl: Option<Duration>,
    /// It does not expire before this.
    until: Instant,
    /// Until then it may have been renewed; [`Instant::NEVER`] as long as a renewal is under way.
    renewals: BTreeMap<u64, Instant>,
    /// When it ended, and why.
    ended: Option<(Instant, End)>,
}

/// What clients were promised of their sessions: that they live on for twice their TTL after each renewal, counted from
/// when it was asked for, unless something else ends them; and, at last, that they end.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    by_id: BTreeMap<SessionId, Promise>,
}

impl Promises {
    /// A session was created at this time.
    pub(crate) fn created(&mut self, session: &Session, at: Instant) {
        let ttl = session.ttl.duration();
        let until = at + ttl.map_or(Duration::ZERO, shortest_life);
        let renewals = BTreeMap::from([(u64::MAX, at)]);
        self.by_id.insert(session.id, Promise { ttl, until, renewals, ended: None });
    }

    /// A client begins to renew a session.
    pub(crate) fn renewal_begins(&mut self, id: SessionId, call: u64) {
        if let Some(promise) = self.by_id.get_mut(&id) {
            promise.renewals.insert(call, Instant::NEVER);
        }
    }

    /// A client has been told that its session is renewed, which it began to ask for at `asked`.
    pub(crate) fn renewed(&mut self, id: SessionId, asked: Instant) -> Verdict {
        let Some(promise) = self.by_id.get_mut(&id) else {
            return Err(format!("session {id} was renewed and never created"));
        };
        promise.until = promise.until.max(asked + promise.ttl.map_or(Duration::ZERO, shortest_life));
        if let Some((ended, why)) = promise.ended {
            ensure!(
                asked <= ended,
                "session {id} was renewed by a client that asked at {asked}, and it had ended ({why:?}) at {ended}"
            );
            return promise.check(id);
        }
        Ok(())
    }

    /// Whether a session was promised to be there at this time.
    pub(crate) fn lasts(&self, id: SessionId, at: Instant) -> bool {
        self.by_id.get(&id).is_some_and(|promise| at < promise.until)
    }

    /// A renewal is answered, or the client does not wait any more.
    pub(crate) fn renewal_ends(&mut self, id: SessionId, call: u64, at: Instant) {
        if let Some(promise) = self.by_id.get_mut(&id) {
            promise.renewals.insert(call, at);
        }
    }

    /// A session has ended at this time, by an entry of a leader whose first entry was committed at `office`: until then
    /// nobody could renew, so every session got its full time anew.
    pub(crate) fn ended(&mut self, id: SessionId, at: Instant, why: End, office: Instant) -> Verdict {
        let Some(promise) = self.by_id.get_mut(&id) else { return Ok(()) };
        promise.until = promise.until.max(office + promise.ttl.map_or(Duration::ZERO, shortest_life));
        promise.ended = Some((at, why));
        promise.check(id)
    }

    /// Nothing has gone wrong since `since`: no session has outlived its time by more than `slack`.
    pub(crate) fn none_outlives(&self, now: Instant, since: Instant, slack: Duration) -> Verdict {
        for (id, promise) in self.by_id.iter().filter(|(_, promise)| promise.ended.is_none()) {
            let Some(ttl) = promise.ttl else { continue };
            let renewed = promise.renewals.values().max().copied().unwrap_or_default();
            if renewed == Instant::NEVER {
                continue;
            }
            let latest = since.max(renewed) + ttl * 2 * (100 + DRIFT_PERCENT) / 100 + slack;
            ensure!(
                now <= latest,
                "session {id} with a TTL of {ttl:?}, which nobody can have renewed after {renewed}, is still there"
            );
        }
        Ok(())
    }

    /// How many sessions with a TTL have not ended.
    pub(crate) fn left(&self) -> usize {
        self.by_id.values().filter(|promise| promise.ttl.is_some() && promise.ended.is_none()).count()
    }
}

impl Promise {
    fn check(&self, id: SessionId) -> Verdict {
        let Some((ended, End::Expired)) = self.ended else { return Ok(()) };
        ensure!(
            ended >= self.until,
            "session {id} expired at {ended}, and by its renewals and the leader's own time it had to live until {}",
            self.until
        );
        Ok(())
    }
}

/// How long, on the world's clock, a session lives at least that is not renewed.
fn shortest_life(ttl: Duration) -> Duration {
    ttl * 2 * (100 - DRIFT_PERCENT) / 100
}

#[cfg(test)]
mod tests;
