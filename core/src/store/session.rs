//! Sessions: who may hold locks. What becomes of the locks is up to `kv.rs` and `lock.rs`.
//!
//! A session never changes: it comes and it goes. So all that is asked of sessions changes only when one of them does. The
//! client is always told the index of the last change of any, as Consul does; a waiting query is judged by what it asks for.
//! Where nothing is found, that is the last change of any session too, so no tombstones are needed: the index cannot go
//! back, and it is safe to answer once too often.

use std::sync::Arc;

use imbl::ordmap::Entry;
use imbl::{OrdMap, OrdSet};

use super::Body;
use super::catalog::{Catalog, Name};
use super::table::after;
use crate::api::Error;
use crate::api::health::CRITICAL;
use crate::api::session::{Request, Session};
use crate::id::{Index, SessionId};

/// A part of the sessions that questions are about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// All of them.
    All,
    /// Those of a node.
    Node(Name),
    /// One of them.
    One(SessionId),
}

impl Scope {
    /// What could change the answer to a question; `None` if it is a write, or names no session at all.
    #[must_use]
    pub fn of(request: &Request) -> Option<Self> {
        match request {
            Request::Info { id, .. } => SessionId::parse(id).map(Self::One),
            Request::Node { node, .. } => Some(Self::Node(Name::of(node))),
            Request::List { .. } => Some(Self::All),
            Request::Create(_) | Request::Destroy { .. } | Request::Renew { .. } => None,
        }
    }

    /// All parts that a session is of.
    pub(super) fn all_of(session: &Session) -> [Self; 3] {
        [Self::All, Self::Node(Name::of(&session.node)), Self::One(session.id)]
    }
}

/// The sessions of a node, of which there is at least one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct OfNode {
    ids: OrdSet<SessionId>,
    /// When one of them last came or went.
    changed: Index,
}

/// A check by its node and its ID.
type Path = (Name, Name);

/// The sessions that exist. Invariants:
///
/// - `by_node` and `by_check` hold every session by its node and by each of its checks, and nothing else;
/// - for each session `1 <= create_index <= changed of its node <= changed`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sessions {
    by_id: OrdMap<SessionId, Arc<Session>>,
    by_node: OrdMap<Name, OfNode>,
    by_check: OrdMap<Path, OrdSet<SessionId>>,
    /// When any of them last came or went.
    changed: Index,
}

impl Sessions {
    /// Whether this session exists.
    pub(super) fn exists(&self, session: SessionId) -> bool {
        self.by_id.contains_key(&session)
    }

    /// The session with this ID.
    pub(super) fn get(&self, session: SessionId) -> Option<&Arc<Session>> {
        self.by_id.get(&session)
    }

    /// All of them, by ID.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.by_id.values()
    }

    /// When any of them last came or went; 0 if there never was one.
    pub(super) fn changed(&self) -> Index {
        self.changed
    }

    /// The last index at which what is found there may have changed.
    pub(super) fn changed_at(&self, scope: &Scope) -> Index {
        let precise = match scope {
            Scope::All => None,
            Scope::Node(name) => self.by_node.get(name).map(|node| node.changed),
            Scope::One(id) => self.by_id.get(id).map(|session| session.create_index),
        };
        precise.unwrap_or(self.changed)
    }

    /// What is found there, by ID.
    pub(super) fn find(&self, scope: &Scope) -> Body {
        Body::Sessions(match scope {
            Scope::All => self.by_id.values().cloned().collect(),
            Scope::Node(name) => self.of_node(name).filter_map(|id| self.by_id.get(&id).cloned()).collect(),
            Scope::One(id) => self.by_id.get(id).cloned().into_iter().collect(),
        })
    }

    /// The sessions of a node, by ID.
    pub(super) fn of_node(&self, name: &Name) -> impl Iterator<Item = SessionId> {
        self.by_node.get(name).into_iter().flat_map(|node| node.ids.iter().copied())
    }

    /// The sessions that rely on a check, by ID.
    pub(super) fn of_check(&self, path: &Path) -> impl Iterator<Item = SessionId> {
        self.by_check.get(path).into_iter().flatten().copied()
    }

    /// Takes in a session as of `index`.
    pub(super) fn insert(&mut self, index: Index, mut session: Session) {
        session.create_index = index;
        self.changed = index;
        let node = self.enter(session);
        node.changed = index;
    }

    fn enter(&mut self, session: Session) -> &mut OfNode {
        let name = Name::of(&session.node);
        for check in &session.checks {
            self.by_check.entry((name.clone(), Name::of(check))).or_default().insert(session.id);
        }
        let id = session.id;
        self.by_id.insert(id, Arc::new(session));
        let node = self.by_node.entry(name).or_default();
        node.ids.insert(id);
        node
    }

    /// Strikes out a session as of `index`.
    pub(super) fn remove(&mut self, index: Index, id: SessionId) -> Option<Arc<Session>> {
        let session = self.by_id.remove(&id)?;
        self.changed = index;
        let name = Name::of(&session.node);
        for check in &session.checks {
            if let Entry::Occupied(mut ids) = self.by_check.entry((name.clone(), Name::of(check))) {
                ids.get_mut().remove(&id);
                if ids.get().is_empty() {
                    ids.remove();
                }
            }
        }
        if let Entry::Occupied(mut node) = self.by_node.entry(name) {
            node.get_mut().ids.remove(&id);
            node.get_mut().changed = index;
            if node.get().ids.is_empty() {
                node.remove();
            }
        }
        Some(session)
    }

    /// The sessions as they are after a restoration at `index`, which changes all of them.
    pub(super) fn restored(self, index: Index) -> Self {
        Self { changed: index, ..self }
    }

    /// The sessions that follow this one, by ID; all of them without one. Finds the first in O(log n).
    pub(super) fn after(&self, id: Option<SessionId>) -> impl Iterator<Item = (&SessionId, &Arc<Session>)> {
        after(&self.by_id, id.as_ref())
    }

    /// When those of each node last came or went, of the nodes that follow this one; of all of them without one.
    pub(super) fn marks_after(&self, name: Option<&Name>) -> impl Iterator<Item = (&Name, Index)> {
        after(&self.by_node, name).map(|(name, node)| (name, node.changed))
    }

    /// Takes in a session of an image. They come by ID.
    pub(super) fn load(&mut self, session: Session) -> Result<(), &'static str> {
        if self.by_id.get_max().is_some_and(|(last, _)| *last >= session.id) {
            return Err("sessions do not come in their order");
        }
        if session.create_index == Index(0) {
            return Err("a session was created at an index that cannot be");
        }
        let created = session.create_index;
        self.changed = self.changed.max(created);
        let node = self.enter(session);
        node.changed = node.changed.max(created);
        Ok(())
    }

    /// Takes in when any session last came or went, of an image. They were loaded before.
    pub(super) fn load_changed(&mut self, changed: Index) -> Result<(), &'static str> {
        if changed < self.changed {
            return Err("a session came after the last of them did");
        }
        self.changed = changed;
        Ok(())
    }

    /// Takes in when a session of a node last came or went, of an image. They were loaded before.
    pub(super) fn load_mark(&mut self, name: &Name, changed: Index) -> Result<(), &'static str> {
        let limit = self.changed;
        let node = self.by_node.get_mut(name).filter(|node| (node.changed..=limit).contains(&changed));
        node.ok_or("sessions of a node changed at an index that cannot be")?.changed = changed;
        Ok(())
    }
}

/// Whether a session can live with what the catalog says of its node and its checks.
pub(super) fn examine(session: &Session, catalog: &Catalog) -> Result<(), Error> {
    if catalog.node(&session.node).is_none() {
        return Err(Error::MissingNodeRegistration);
    }
    for id in &session.checks {
        match catalog.check(&session.node, id) {
            None => return Err(Error::MissingCheckRegistration(id.clone())),
            Some(check) if check.status == CRITICAL => return Err(Error::CriticalCheck(id.clone())),
            Some(_) => {}
        }
    }
    Ok(())
}
