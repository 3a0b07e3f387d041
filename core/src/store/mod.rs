//! The replicated state: what a server becomes by applying the log, entry by entry.
//!
//! [`Store::apply`] is a total function of the state, an index and a command; it knows no time and no dice,
//! so every server that applies the same log holds the same store. [`Store::query`] only looks.
//!
//! All tables are persistent maps: a clone costs a few reference counts and shares everything with the
//! original, and a later change copies no more than the path to what it changes. So a published view, a
//! snapshot and a blocked query's second look each take a clone and never wait for anyone.
//!
//! # Indexes
//!
//! Every change is stamped with the (visible) index of the log entry that made it. An [`Answer`] carries two indexes:
//! the one that is reported to the client, who gives it back as `?index=` to wait for something newer, and
//! the precise one, by which a waiting query is judged. They differ only where nothing was found: there the
//! client is told the index of the table's last change, which may be far ahead of anything that concerns its
//! query. That is safe, as whatever changes the result later is stamped with a higher index still. Neither
//! ever goes backwards for the same query, deletes included: see `tombstone.rs`.
//!
//! A client is never told an index below 1, as 0 means "do not wait". So a change at index 1 would go
//! unnoticed by one that waits; the log's first entry is a configuration and never a command.
//!
//! # Restorations
//!
//! A restoration puts an image in the place of all tables, be it of this cluster or of another. The image's entries
//! keep their indexes, which may be higher than any of this cluster; yet for clients, none may go back. So the index that
//! they see of a log entry, its *visible* index, is the log's plus a *shift*, which each restoration raises as far as it
//! must: its own visible index is above every one in the image, and above every one that was seen before. As of
//! then, every answer's two indexes are at least that one, so that all who wait are answered.
//!
//! All stamps, conditions (`cas`) and tombstones are of visible indexes; only [`Store::index`] and what is said to be of
//! the log are not. A restoration forgets the deletions before it: nobody is told an index below its own any more.
//!
//! A condition that a client took from a read before the restoration may hold by accident afterwards, if an entry of the image
//! was last written at the very same index: entries keep the indexes that the image has, as users of archives expect.

pub mod acl;
pub mod catalog;
pub mod command;
pub mod image;
pub mod kv;
mod lock;
pub mod prepared;
mod question;
mod restore;
mod session;
mod table;
mod tombstone;
pub mod txn;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::api;
use crate::api::catalog::{Check, Node, Registration, Service};
use crate::api::health::CRITICAL;
use crate::api::operator::Autopilot;
use crate::api::session::Session;
use crate::coordinate::Coordinate;
use crate::id::{Index, SessionId};

pub use command::Command;
pub use lock::Delay;
pub use question::{Question, Topic};
pub use session::Scope;

use acl::Tokens;
use catalog::{Catalog, Name, Subject};
use prepared::{Part, Queries};
use restore::Staging;
use session::Sessions;
use uuid::Uuid;

/// The replicated state. Cloning is O(1).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Store {
    /// The last entry that was applied. Never goes back.
    applied: Index,
    /// What clients see of a log entry is its index plus this. Never goes back.
    shift: u64,
    /// The visible index of the last restoration; 0 if there was none.
    restored_at: Index,
    /// The last restoration; `None` if there was none.
    restored: Option<Uuid>,
    /// The restoration that is under way.
    staging: Option<Staging>,
    kv: kv::Table,
    catalog: Catalog,
    sessions: Sessions,
    queries: Queries,
    tokens: Tokens,
    /// How the leader looks after the servers.
    autopilot: Autopilot,
}

/// What came of applying a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// For the client whose command it was.
    pub response: Result<api::Response, api::Error>,
    /// What changed, each thing once; empty if nothing did. For those who watch.
    pub touched: Vec<Touch>,
}

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touch {
    /// This key was written, locked, unlocked or deleted.
    Key(api::kv::Key),
    /// What is found under this topic.
    Topic(Topic),
    /// All of it: the state was replaced by another.
    Everything,
}

/// What a query found.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What the client is told (`X-Consul-Index`). At least 1, and at least `changed`.
    pub index: Index,
    /// The last index at which this result may have changed: a query that waits for something newer than
    /// `asked` is answered once `changed > asked`. It moves exactly when the result does, except that
    /// reaping tombstones may raise it (not beyond the last change of the table), that a restoration
    /// counts as a change of everything, that a question which never waits says the highest index there is, and that of the catalog a change counts that a filter hides: see
    /// [`Subject`].
    pub changed: Index,
    /// What was found.
    pub body: Body,
}

/// What a query found.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// To [`api::kv::Request::Get`] and `List`: in the byte order of the keys, shared with the store.
    Entries(api::kv::Entries),
    /// To [`api::kv::Request::Keys`]: in byte order.
    Keys(Vec<api::kv::Key>),
    /// To [`api::catalog::Request::Nodes`].
    Nodes(Vec<Arc<Node>>),
    /// To [`api::catalog::Request::Services`]: with all their tags, each once, in byte order.
    ServiceNames(BTreeMap<String, Vec<String>>),
    /// To [`api::catalog::Request::Service`].
    Instances(Vec<api::catalog::Instance>),
    /// To [`api::catalog::Request::Node`].
    NodeServices(Option<api::catalog::NodeServices>),
    /// To [`api::health::Request::Node`], `Checks` and `State`.
    Checks(Vec<Arc<Check>>),
    /// To [`api::health::Request::Service`].
    HealthOf(Vec<api::health::Instance>),
    /// To [`api::coordinate::Request::Nodes`].
    Places(Vec<api::coordinate::Place>),
    /// To [`api::session::Request::Info`], `Node` and `List`, by ID.
    Sessions(Vec<Arc<Session>>),
    /// To [`api::Request::Txn`].
    Txn(api::txn::Outcome),
    /// To [`api::prepared::Request::Get`] and `List`, by ID.
    Queries(api::prepared::Queries),
    /// To [`api::acl::Request::Info`] and `List`, by ID.
    Tokens(Vec<Arc<api::acl::Token>>),
    /// To [`api::prepared::Request::Get`] of one that does not exist.
    NoSuchQuery,
}

impl Body {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Entries(entries) => entries.is_empty(),
            Self::Keys(keys) => keys.is_empty(),
            Self::Nodes(nodes) => nodes.is_empty(),
            Self::ServiceNames(names) => names.is_empty(),
            Self::Instances(instances) => instances.is_empty(),
            Self::NodeServices(node) => node.is_none(),
            Self::Checks(checks) => checks.is_empty(),
            Self::HealthOf(instances) => instances.is_empty(),
            Self::Places(places) => places.is_empty(),
            Self::Sessions(sessions) => sessions.is_empty(),
            Self::Txn(outcome) => outcome.results.is_empty(),
            Self::Queries(queries) => queries.is_empty(),
            Self::Tokens(tokens) => tokens.is_empty(),
            Self::NoSuchQuery => true,
        }
    }
}

impl Store {
    /// Applies the command that the log holds at `index`, of the log. Any command can be applied to any store: what
    /// makes no sense (any more) is answered and changes nothing.
    ///
    /// # Panics
    /// If `index` was applied before: raft hands out each entry once.
    pub fn apply(&mut self, index: Index, command: Command) -> Applied {
        self.note_applied(index);
        let index = self.visible_index();
        match command {
            Command::Kv(command) => self.kv.apply(index, command, &self.sessions),
            Command::SetAutopilot { mut settings, cas } => {
                let done = cas.is_none_or(|cas| cas == self.autopilot.modify_index);
                if done {
                    let created = self.autopilot.create_index;
                    settings.create_index = if created == Index(0) { index } else { created };
                    settings.modify_index = index;
                    self.autopilot = settings;
                }
                Applied { response: Ok(api::Response::Done(done)), touched: Vec::new() }
            }
            // Consul answers "true" whatever becomes of it, and clients know no other answer.
            Command::Register(registration) => {
                let suspects = self.sessions_that_may_fail(&registration);
                let touched = self.catalog.register(index, *registration);
                done(self.end_unsound(index, suspects), touched)
            }
            Command::Deregister(what) => {
                let suspects = self.sessions.of_node(&Name::of(&what.node)).collect();
                let touched = self.catalog.deregister(index, &what);
                done(self.end_unsound(index, suspects), touched)
            }
            Command::UpdateCoordinates(places) => {
                done(Ended::default(), self.catalog.update_coordinates(index, places))
            }
            Command::CreateSession(session) => self.create_session(index, *session),
            Command::DestroySession { id, .. } => {
                let mut ended = Ended::default();
                self.end_session(index, id, &mut ended);
                done(ended, BTreeSet::new())
            }
            Command::EndLockDelays(keys) => {
                keys.iter().for_each(|(key, since)| self.kv.locks_mut().end_delay(key, *since));
                Applied { response: Ok(api::Response::Done(true)), touched: Vec::new() }
            }
            Command::Txn(ops) => self.transact(index, ops),
            Command::Prepared(command) => self.prepare(index, command),
            Command::Acl(command) => self.change_tokens(index, command),
            Command::Restore { id, step } => self.apply_restore(id, step),
            Command::ReapTombstones { up_to } => {
                self.kv.reap_tombstones(up_to);
                self.catalog.reap_tombstones(up_to);
                self.tokens.reap_tombstones(up_to);
                Applied { response: Ok(api::Response::Done(true)), touched: Vec::new() }
            }
        }
    }

    fn create_session(&mut self, index: Index, session: Session) -> Applied {
        let id = session.id;
        if let Err(error) = session::examine(&session, &self.catalog) {
            return Applied { response: Err(error), touched: Vec::new() };
        }
        let touched = Scope::all_of(&session).map(|scope| Touch::Topic(Topic::Sessions(scope))).to_vec();
        self.sessions.insert(index, session);
        Applied { response: Ok(api::Response::SessionCreated(id)), touched }
    }

    /// The sessions that rely on a check which a registration says is critical.
    fn sessions_that_may_fail(&self, registration: &Registration) -> BTreeSet<SessionId> {
        let critical = registration.checks.iter().filter(|check| check.status.is_empty() || check.status == CRITICAL);
        let paths = critical.map(|check| {
            let node = if check.node.is_empty() { &registration.node.name } else { &check.node };
            (Name::of(node), Name::of(&check.id))
        });
        paths.flat_map(|path| self.sessions.of_check(&path).collect::<Vec<_>>()).collect()
    }

    /// Ends those of the sessions that the catalog does not bear any more.
    fn end_unsound(&mut self, index: Index, suspects: BTreeSet<SessionId>) -> Ended {
        let mut ended = Ended::default();
        for id in suspects {
            let session = self.sessions.get(id);
            if session.is_some_and(|session| session::examine(session, &self.catalog).is_err()) {
                self.end_session(index, id, &mut ended);
            }
        }
        ended
    }

    /// Ends a session, if it exists: what it holds is released or deleted, and delayed.
    fn end_session(&mut self, index: Index, id: SessionId, ended: &mut Ended) {
        let Some(session) = self.sessions.remove(index, id) else { return };
        self.kv.end_session(index, &session, &mut ended.touched);
        ended.scopes.extend(Scope::all_of(&session));
        self.end_queries(index, id, ended);
    }

    /// Notes that the log's entry at `index` is none for the store (raft's own), and is dealt with.
    ///
    /// # Panics
    /// If `index` was applied before: raft hands out each entry once.
    pub fn note_applied(&mut self, index: Index) {
        assert!(index > self.applied, "entry {index} comes after entry {} was applied", self.applied);
        self.applied = index;
    }

    /// The last entry of the log that was applied; 0 if none was.
    #[must_use]
    pub fn index(&self) -> Index {
        self.applied
    }

    /// What clients see of the last entry that was applied. At least [`index`](Self::index).
    #[must_use]
    pub fn visible_index(&self) -> Index {
        Index(self.applied.0.saturating_add(self.shift))
    }

    /// The visible index of the last restoration; 0 if there was none.
    #[must_use]
    pub fn restored_at(&self) -> Index {
        self.restored_at
    }

    /// The answer to a read as of now; `None` if the request is a write, or none about the store.
    #[must_use]
    pub fn query<'a>(&self, question: impl Into<Question<'a>>) -> Option<Answer> {
        match question.into() {
            Question::Kv(request) => self.query_kv(request),
            Question::Session(request) => self.query_sessions(request),
            Question::Txn(request) => self.query_txn(request),
            Question::Prepared(request) => self.query_queries(request),
            Question::Acl(request) => self.query_tokens(request),
            question => self.query_catalog(question),
        }
    }

    /// As [`Answer::changed`], for whoever does not need the rest. Of the catalog it is known without a search.
    #[must_use]
    pub fn changed<'a>(&self, question: impl Into<Question<'a>>) -> Option<Index> {
        match question.into() {
            Question::Kv(request) => self.query_kv(request).map(|answer| answer.changed),
            Question::Txn(_) => None,
            question => Topic::of(question).map(|topic| self.changed_at(&topic)),
        }
    }

    fn changed_at(&self, topic: &Topic) -> Index {
        let changed = match topic {
            Topic::Catalog(subject) => self.catalog.changed_at(subject),
            Topic::Sessions(scope) => self.sessions.changed_at(scope),
            Topic::Queries(part) => self.queries.changed_at(part),
            Topic::Tokens(which) => self.tokens.changed_at(which),
        };
        changed.max(self.restored_at)
    }

    fn query_sessions(&self, request: &api::session::Request) -> Option<Answer> {
        let scope = Scope::of(request)?;
        let changed = self.sessions.changed_at(&scope).max(self.restored_at);
        let index = self.sessions.changed().max(changed).max(Index(1));
        Some(Answer { index, changed, body: self.sessions.find(&scope) })
    }

    fn query_kv(&self, request: &api::kv::Request) -> Option<Answer> {
        use api::kv::Request;
        let (changed, body) = match request {
            Request::Get { key, .. } => self.kv.get(key),
            Request::List { prefix, .. } => self.kv.list(prefix),
            Request::Keys { prefix, separator, .. } => self.kv.keys(prefix, separator),
            Request::Put { .. } | Request::Delete { .. } | Request::DeleteTree { .. } => return None,
        };
        let changed = changed.max(self.restored_at);
        let index = if body.is_empty() { self.kv.changed() } else { changed };
        Some(Answer { index: index.max(Index(1)), changed, body })
    }

    fn query_catalog(&self, question: Question<'_>) -> Option<Answer> {
        let subject = Subject::of(question)?;
        let changed = self.catalog.changed_at(&subject).max(self.restored_at);
        // What a filter alone keeps back is found: else an index that belongs to one service would move with all others.
        let index = if self.catalog.is_vacant(&subject) { self.catalog.changed() } else { changed };
        Some(Answer { index: index.max(changed).max(Index(1)), changed, body: self.catalog.find(question)? })
    }

    /// A node of the catalog, its name in whatever case.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.catalog.node(name)
    }

    /// All nodes of the catalog, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.catalog.nodes()
    }

    /// The services of a node, by ID; none if there is no such node.
    pub fn services_of(&self, node: &str) -> impl Iterator<Item = &Arc<Service>> {
        self.catalog.services_of(node)
    }

    /// The checks of a node and of its services, by ID; none if there is no such node.
    pub fn checks_of(&self, node: &str) -> impl Iterator<Item = &Arc<Check>> {
        self.catalog.checks_of(node)
    }

    /// Where a node of the catalog is, if it has told.
    #[must_use]
    pub fn coordinate(&self, node: &str) -> Option<&Coordinate> {
        self.catalog.coordinate(node)
    }

    /// The index of the last change of the catalog, coordinates apart; 0 if there was none.
    #[must_use]
    pub fn catalog_changed(&self) -> Index {
        self.catalog.changed()
    }

    /// Whether this session exists, so that it may take locks.
    #[must_use]
    pub fn session_exists(&self, session: SessionId) -> bool {
        self.sessions.exists(session)
    }

    /// The session with this ID.
    #[must_use]
    pub fn session(&self, session: SessionId) -> Option<&Arc<Session>> {
        self.sessions.get(session)
    }

    /// All sessions, by ID.
    pub fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.sessions.iter()
    }

    /// That a key cannot be locked for a while; `None` if it can be at once, if nobody holds it.
    #[must_use]
    pub fn lock_delay(&self, key: &[u8]) -> Option<Delay> {
        self.kv.locks().delay_of(key)
    }

    /// All keys that cannot be locked for a while, in byte order.
    pub fn lock_delays(&self) -> impl Iterator<Item = (&api::kv::Key, Delay)> {
        self.kv.locks().delays_after(None).map(|(key, delay)| (key, *delay))
    }

    /// How the leader looks after the servers.
    #[must_use]
    pub fn autopilot(&self) -> &Autopilot {
        &self.autopilot
    }

    /// How many keys there are.
    #[must_use]
    pub fn kv_len(&self) -> usize {
        self.kv.len()
    }

    /// The index of the last change of any key; 0 if there was none.
    #[must_use]
    pub fn kv_changed(&self) -> Index {
        self.kv.changed()
    }

    /// How many things that were deleted are still remembered: keys, tokens, and subjects of the catalog that nothing is found
    /// under any more.
    #[must_use]
    pub fn tombstone_len(&self) -> usize {
        self.kv.tombstones().len() + self.catalog.tombstone_len() + self.tokens.tombstones().len()
    }

    /// The index of the last deletion that is still remembered; `None` if nothing is to be reaped.
    #[must_use]
    pub fn newest_tombstone(&self) -> Option<Index> {
        self.kv.tombstones().newest().max(self.catalog.newest_tombstone()).max(self.tokens.tombstones().newest())
    }

    /// The index of the first deletion that is still remembered; `None` if nothing is to be reaped.
    #[must_use]
    pub fn oldest_tombstone(&self) -> Option<Index> {
        let oldest =
            [self.kv.tombstones().oldest(), self.catalog.oldest_tombstone(), self.tokens.tombstones().oldest()];
        oldest.into_iter().flatten().min()
    }
}

/// What the end of sessions has changed.
#[derive(Debug, Default)]
struct Ended {
    scopes: BTreeSet<Scope>,
    parts: BTreeSet<Part>,
    touched: Vec<Touch>,
}

/// What came of a command that cannot fail.
fn done(ended: Ended, touched: BTreeSet<Subject>) -> Applied {
    let scopes = ended.scopes.into_iter().map(|scope| Touch::Topic(Topic::Sessions(scope)));
    let subjects = touched.into_iter().map(|subject| Touch::Topic(Topic::Catalog(subject)));
    let parts = ended.parts.into_iter().map(|part| Touch::Topic(Topic::Queries(part)));
    let touched = subjects.chain(scopes).chain(parts).chain(ended.touched).collect();
    Applied { response: Ok(api::Response::Done(true)), touched }
}

/// Figures only: a store may hold gigabytes, and ends up in the `Debug` of whatever holds a clone.
impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("applied", &self.applied.0)
            .field("kv_len", &self.kv_len())
            .field("kv_changed", &self.kv_changed().0)
            .field("tombstone_len", &self.tombstone_len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_raft_move_the_index_and_nothing_else() {
        let mut store = Store::default();
        store.note_applied(Index(1));
        store.note_applied(Index(4));
        assert_eq!(store.index(), Index(4));
        assert_eq!(store.kv_changed(), Index(0));
    }

    #[test]
    #[should_panic(expected = "entry 4 comes after entry 4 was applied")]
    fn an_entry_is_applied_once() {
        let mut store = Store::default();
        store.note_applied(Index(4));
        store.apply(Index(4), Command::ReapTombstones { up_to: Index(2) });
    }

    #[test]
    fn any_thread_may_read_a_clone() {
        fn shared<T: Clone + Send + Sync + 'static>() {}
        shared::<Store>();
    }

    #[test]
    fn debug_gives_figures_and_no_data() {
        assert_eq!(
            format!("{:?}", Store::default()),
            "Store { applied: 0, kv_len: 0, kv_changed: 0, tombstone_len: 0, .. }"
        );
    }
}
