//! Prepared queries: which there are, by what they are found, and the sessions with which they end. What asking one
//! means is up to [`crate::prepared`].
//!
//! The list of all changes with each of them. Whoever asks for one waits for that alone; one that is gone is no answer to wait
//! for. So no tombstones are needed.

use std::sync::Arc;

use imbl::ordmap::Entry;
use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::catalog::Name;
use super::session::Sessions;
use super::table::after;
use super::{Answer, Applied, Body, Ended, Store, Topic, Touch};
use crate::api::prepared::{Query, Request};
use crate::api::{Error, Response};
use crate::id::{Index, SessionId};

/// A change of the prepared queries. What is wrong with a query on its own was found before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Enters one, with an ID of its own.
    Create(Box<Query>),
    /// Puts one in the place of that with its ID.
    Update(Box<Query>),
    /// Strikes one out.
    Delete(Uuid),
}

/// A part of the prepared queries that questions are about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// All of them.
    All,
    /// One of them.
    One(Uuid),
}

impl Part {
    /// What could change the answer to a question; `None` if it is a write, never waits, or names no query at all.
    #[must_use]
    pub fn of(request: &Request) -> Option<Self> {
        match request {
            Request::Get { id, .. } => parse(id).map(Self::One),
            Request::List { .. } => Some(Self::All),
            Request::Create(_)
            | Request::Update { .. }
            | Request::Delete { .. }
            | Request::Execute { .. }
            | Request::Explain { .. } => None,
        }
    }

    fn all_of(id: Uuid) -> [Touch; 2] {
        [Self::All, Self::One(id)].map(|part| Touch::Topic(Topic::Queries(part)))
    }
}

/// Reads the ID of a query: the form with hyphens, as for sessions.
#[must_use]
pub fn parse(id: &str) -> Option<Uuid> {
    SessionId::parse(id).map(|id| id.0)
}

/// The queries that exist. Invariants:
///
/// - `by_name` holds every query that has a name by that, `templates` every template by its name or the lack of one, and
///   `by_session` every query that is tied to a session; nothing else is in them;
/// - for each query `1 <= create_index <= modify_index <= changed`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Queries {
    by_id: OrdMap<Uuid, Arc<Query>>,
    by_name: OrdMap<Name, Uuid>,
    templates: OrdMap<Name, Uuid>,
    by_session: OrdMap<SessionId, OrdSet<Uuid>>,
    /// When any of them last changed.
    changed: Index,
}

impl Queries {
    /// When any of them last changed; 0 if there never was one.
    pub(super) fn changed(&self) -> Index {
        self.changed
    }

    /// The last index at which what is found there may have changed.
    pub(super) fn changed_at(&self, part: &Part) -> Index {
        let precise = match part {
            Part::All => None,
            Part::One(id) => self.by_id.get(id).map(|query| query.modify_index),
        };
        precise.unwrap_or(self.changed)
    }

    /// The query with this ID.
    pub(super) fn get(&self, id: Uuid) -> Option<&Arc<Query>> {
        self.by_id.get(&id)
    }

    /// All of them, by ID.
    fn iter(&self) -> impl Iterator<Item = &Arc<Query>> {
        self.by_id.values()
    }

    /// The query with this name, in whatever case.
    fn named(&self, name: &Name) -> Option<&Arc<Query>> {
        self.by_name.get(name).and_then(|id| self.by_id.get(id))
    }

    /// The template with the longest name that this name begins with, in whatever case.
    fn template_for(&self, name: &Name) -> Option<&Arc<Query>> {
        let text = name.as_str();
        let ends = (0..=text.len()).rev().filter(|end| text.is_char_boundary(*end));
        let found = ends.filter_map(|end| self.templates.get(&Name::of(&text[..end]))).next();
        found.and_then(|id| self.by_id.get(id))
    }

    /// Refuses a query that has something in common with another which it must not have, or is tied to a session that does not
    /// exist.
    fn examine(&self, query: &Query, sessions: &Sessions) -> Result<(), Error> {
        let bad = |text: String| Err(Error::BadQuery(text));
        let is_other = |id: Option<&Uuid>| id.is_some_and(|id| *id != query.id);
        let name = Name::of(&query.name);
        if !name.is_empty() && is_other(self.by_name.get(&name)) {
            return bad(format!("name '{}' aliases an existing query name", query.name));
        }
        if name.is_empty() && query.is_template() && is_other(self.templates.get(&name)) {
            return bad("a query template with an empty name already exists".to_owned());
        }
        if parse(&query.name).is_some_and(|id| self.by_id.contains_key(&id)) {
            return bad(format!("name '{}' aliases an existing query ID", query.name));
        }
        if query.session.is_empty() {
            return Ok(());
        }
        match SessionId::parse(&query.session) {
            None => Err(Error::MalformedSession),
            Some(session) if !sessions.exists(session) => Err(Error::InvalidSession(query.session.clone())),
            Some(_) => Ok(()),
        }
    }

    /// Takes in a query as of `index`, in the place of the one with its ID.
    fn insert(&mut self, index: Index, mut query: Query) {
        let before = self.leave(query.id);
        query.create_index = before.map_or(index, |before| before.create_index);
        query.modify_index = index;
        self.changed = index;
        self.enter(query);
    }

    fn enter(&mut self, query: Query) {
        let (id, name) = (query.id, Name::of(&query.name));
        if query.is_template() {
            self.templates.insert(name.clone(), id);
        }
        if !name.is_empty() {
            self.by_name.insert(name, id);
        }
        if let Some(session) = SessionId::parse(&query.session) {
            self.by_session.entry(session).or_default().insert(id);
        }
        self.by_id.insert(id, Arc::new(query));
    }

    fn leave(&mut self, id: Uuid) -> Option<Arc<Query>> {
        let query = self.by_id.remove(&id)?;
        let name = Name::of(&query.name);
        if query.is_template() {
            self.templates.remove(&name);
        }
        if !name.is_empty() {
            self.by_name.remove(&name);
        }
        if let Some(session) = SessionId::parse(&query.session)
            && let Entry::Occupied(mut ids) = self.by_session.entry(session)
        {
            ids.get_mut().remove(&id);
            if ids.get().is_empty() {
                ids.remove();
            }
        }
        Some(query)
    }

    /// Strikes out a query as of `index`, and says whether it was there.
    fn remove(&mut self, index: Index, id: Uuid) -> bool {
        let there = self.leave(id).is_some();
        if there {
            self.changed = index;
        }
        there
    }

    /// A session has ended: the queries that are tied to it go with it.
    pub(super) fn end_session(&mut self, index: Index, session: SessionId) -> Vec<Uuid> {
        let ids: Vec<Uuid> = self.by_session.get(&session).into_iter().flatten().copied().collect();
        for id in &ids {
            self.remove(index, *id);
        }
        ids
    }

    /// The queries as they are after a restoration at `index`, which changes all of them.
    pub(super) fn restored(self, index: Index) -> Self {
        Self { changed: index, ..self }
    }

    /// The queries that follow this one, by ID; all of them without one. Finds the first in O(log n).
    pub(super) fn after(&self, id: Option<Uuid>) -> impl Iterator<Item = (&Uuid, &Arc<Query>)> {
        after(&self.by_id, id.as_ref())
    }

    /// None, but some may have been there up to `changed`: as an image describes them before they come.
    pub(super) fn bare(changed: Index) -> Self {
        Self { changed, ..Self::default() }
    }

    /// Takes in a query of an image. They come by ID.
    pub(super) fn load(&mut self, query: Query, sessions: &Sessions) -> Result<(), &'static str> {
        if self.by_id.get_max().is_some_and(|(last, _)| *last >= query.id) {
            return Err("prepared queries do not come in their order");
        }
        let (created, modified) = (query.create_index, query.modify_index);
        if created == Index(0) || created > modified || modified > self.changed {
            return Err("a prepared query was written at an index that cannot be");
        }
        let name = Name::of(&query.name);
        let is_taken = !name.is_empty() && self.by_name.contains_key(&name)
            || query.is_template() && self.templates.contains_key(&name);
        if is_taken {
            return Err("two prepared queries have one name");
        }
        if !query.session.is_empty() && !SessionId::parse(&query.session).is_some_and(|id| sessions.exists(id)) {
            return Err("a prepared query is tied to a session that does not exist");
        }
        self.enter(query);
        Ok(())
    }
}

impl Store {
    /// Applies a change of the prepared queries.
    pub(super) fn prepare(&mut self, index: Index, command: Command) -> Applied {
        let (id, done) = match command {
            Command::Create(query) => {
                let id = query.id;
                (id, self.enter_query(index, *query).map(|()| Response::QueryCreated(id)))
            }
            Command::Update(query) if self.queries.get(query.id).is_none() => (query.id, Err(no_query(query.id))),
            Command::Update(query) => (query.id, self.enter_query(index, *query).map(|()| Response::Done(true))),
            Command::Delete(id) if self.queries.remove(index, id) => (id, Ok(Response::Done(true))),
            Command::Delete(id) => (id, Err(no_query(id))),
        };
        let touched = if done.is_ok() { Part::all_of(id).to_vec() } else { Vec::new() };
        Applied { response: done, touched }
    }

    fn enter_query(&mut self, index: Index, query: Query) -> Result<(), Error> {
        self.queries.examine(&query, &self.sessions)?;
        self.queries.insert(index, query);
        Ok(())
    }

    /// Deletes the queries that are tied to a session which has ended.
    pub(super) fn end_queries(&mut self, index: Index, session: SessionId, ended: &mut Ended) {
        for id in self.queries.end_session(index, session) {
            ended.parts.extend([Part::All, Part::One(id)]);
        }
    }

    /// The prepared query with this ID.
    #[must_use]
    pub fn prepared_query(&self, id: Uuid) -> Option<&Arc<Query>> {
        self.queries.get(id)
    }

    /// The prepared query with this name, or else the template for it: the one with the longest name that this one begins with.
    /// Case does not matter.
    #[must_use]
    pub fn prepared_query_for(&self, name: &str) -> Option<&Arc<Query>> {
        let name = Name::of(name);
        self.queries.named(&name).or_else(|| self.queries.template_for(&name))
    }

    /// The index of the last change of any prepared query; 0 if there was none.
    #[must_use]
    pub fn prepared_changed(&self) -> Index {
        self.queries.changed()
    }

    /// The answer to a question for queries themselves; `None` if it is another. That for one which does not exist is answered
    /// whatever index is known.
    pub(super) fn query_queries(&self, request: &Request) -> Option<Answer> {
        let part = Part::of(request)?;
        let changed = self.queries.changed_at(&part).max(self.restored_at);
        let body = match part {
            Part::All => Some(Body::Queries(self.queries.iter().cloned().collect())),
            Part::One(id) => self.queries.get(id).map(|query| Body::Queries(vec![Arc::clone(query)])),
        };
        let index = changed.max(Index(1));
        Some(match body {
            Some(body) => Answer { index, changed, body },
            None => Answer { index, changed: Index(u64::MAX), body: Body::NoSuchQuery },
        })
    }
}

/// There is no query with this ID.
#[must_use]
pub fn no_query(id: Uuid) -> Error {
    Error::BadQuery(format!("Cannot modify non-existent prepared query: '{id}'"))
}

#[cfg(test)]
#[path = "prepared_tests.rs"]
mod tests;
