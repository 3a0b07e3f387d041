//! What the key-value store should hold at each index, and the sessions that hold its locks: an implementation of our own, of
//! the simplest kind, fed by the committed log. It keeps all versions of all keys.

mod draft;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lictor_core::api::kv::Entry;
use lictor_core::api::operator::Autopilot;
use lictor_core::api::session::Behavior;
use lictor_core::exec::layout::DEFAULT_PREFIX;
use lictor_core::id::{Index, SessionId, Term};
use lictor_core::raft::{self, Payload};
use lictor_core::store::Command;
use lictor_core::time::Duration;
use lictor_core::wire;

use super::acl::Tokens;
use super::lock::Token;
use super::session::{End, Sessions};
use super::{Verdict, ensure};
use crate::history::writer_of;
use draft::{Changed, Draft};

/// A key from one index on.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) index: Index,
    /// `None` if it was deleted.
    pub(crate) row: Option<Row>,
}

/// What is stored under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(super) value: Bytes,
    pub(super) flags: u64,
    pub(super) created: Index,
    pub(super) locked: u64,
    pub(super) holder: Option<SessionId>,
}

impl Row {
    /// Who holds the lock on the key, and by which token.
    pub(crate) fn held(&self) -> Option<(SessionId, Token)> {
        self.holder.map(|holder| (holder, Token::new(self.created, self.locked)))
    }

    /// Whether an entry is this row as written at an index, its value apart.
    pub(crate) fn is_told_by(&self, entry: &Entry, written: Index) -> bool {
        entry.flags == self.flags
            && entry.create_index == self.created
            && entry.modify_index == written
            && entry.lock_index == self.locked
            && entry.session == self.holder
    }
}

/// That a key could not be locked for a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delayed {
    pub(crate) since: Index,
    pub(crate) length: Duration,
    /// When that was struck out.
    until: Option<Index>,
}

/// Something about sessions and locks that is worth a look at the clock.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// A session has begun.
    Created(SessionId),
    /// A session has ended, by an entry of the leader whose first entry is at this index.
    Ended(SessionId, End, Index),
    /// A key that was free was locked; the last holder whose session had ended left this delay behind.
    Locked(Bytes, Option<Delayed>),
    /// A key may be locked again.
    Freed(Bytes, Delayed),
}

/// All versions of all keys.
#[derive(Debug, Default)]
pub(crate) struct Model {
    keys: BTreeMap<Bytes, Vec<Version>>,
    /// Values that were written: each is proposed once, so it is written once.
    written: BTreeSet<usize>,
    /// The settings of the autopilot, and since when they hold.
    autopilot: Vec<Autopilot>,
    pub(crate) sessions: Sessions,
    pub(crate) tokens: Tokens,
    delays: BTreeMap<Bytes, Vec<Delayed>>,
    /// What nobody has looked at yet, and the index of each.
    news: Vec<(Index, News)>,
    applied: Index,
    /// The last leader's term, and its first entry.
    office: (Term, Index),
}

impl Model {
    /// The next committed entry.
    pub(crate) fn apply(&mut self, entry: &raft::Entry) -> Verdict {
        assert_eq!(entry.index, self.applied.next(), "the model takes the committed log in order");
        self.applied = entry.index;
        if entry.term > self.office.0 {
            self.office = (entry.term, entry.index);
        }
        let Payload::Command(bytes) = &entry.payload else { return Ok(()) };
        let command = wire::decode(bytes).map_err(|why| format!("committed entry {}: {why}", entry.index))?;
        match command {
            Command::Kv(command) => {
                let mut draft = Draft::of(self);
                if draft.write(&command) {
                    let changed = draft.changed();
                    return self.enter(changed);
                }
            }
            Command::Txn(ops) => {
                if let Some(changed) = Draft::of(self).all(&ops) {
                    return self.enter(changed);
                }
            }
            Command::SetAutopilot { settings, cas } => {
                self.set_autopilot(&settings, cas);
            }
            Command::Register(registration) => {
                self.sessions.register(&registration);
                self.end_unsound();
            }
            Command::Deregister(what) => {
                self.sessions.deregister(&what);
                self.end_unsound();
            }
            Command::CreateSession(session) => {
                if self.sessions.create(self.applied, &session) {
                    self.news.push((self.applied, News::Created(session.id)));
                }
            }
            Command::DestroySession { id, expired } => {
                self.end_session(id, if expired { End::Expired } else { End::Destroyed });
            }
            Command::EndLockDelays(keys) => keys.iter().for_each(|(key, since)| self.end_delay(key, *since)),
            Command::ReapTombstones { .. }
            | Command::Restore { .. }
            | Command::UpdateCoordinates(_)
            | Command::Prepared(_) => {}
            Command::Acl(command) => self.tokens.apply(self.applied, command),
        }
        Ok(())
    }

    /// Takes in what a command has made of keys.
    fn enter(&mut self, changed: Changed) -> Verdict {
        for (key, (row, is_locked)) in changed {
            if is_locked {
                self.lift_delay(&key);
            }
            if let Some(row) = &row {
                self.note_written(&key, row)?;
            }
            self.add_version(key, row);
        }
        Ok(())
    }

    fn note_written(&mut self, key: &Bytes, row: &Row) -> Verdict {
        // What agents write for jobs is not a client's, and may be written again.
        if !key.starts_with(DEFAULT_PREFIX.as_bytes())
            && let Some(writer) = writer_of(&row.value)
        {
            ensure!(self.written.insert(writer), "the write #{writer} took place twice, again at {}", self.applied);
        }
        let holder = self.row(key).and_then(|(_, before)| before.holder);
        if row.holder.is_some() && row.holder != holder {
            self.news.push((self.applied, News::Locked(key.clone(), self.last_delay(key))));
        }
        Ok(())
    }

    fn set_autopilot(&mut self, settings: &Autopilot, cas: Option<Index>) {
        let before = self.autopilot(self.applied);
        if cas.is_none_or(|cas| cas == before.modify_index) {
            let create_index = if before.modify_index == Index(0) { self.applied } else { before.create_index };
            self.autopilot.push(Autopilot { create_index, modify_index: self.applied, ..settings.clone() });
        }
    }

    /// The settings of the autopilot as of an index.
    pub(crate) fn autopilot(&self, at: Index) -> Autopilot {
        let known = self.autopilot.partition_point(|settings| settings.modify_index <= at);
        known.checked_sub(1).map_or_else(Autopilot::default, |last| self.autopilot[last].clone())
    }

    /// The last change up to `until` of anything that a request reads; 0 if there was none.
    pub(crate) fn last_change(&self, concerns: impl Fn(&[u8]) -> bool, until: Index) -> Index {
        let last = |versions: &Vec<Version>| {
            let known = versions.partition_point(|version| version.index <= until);
            known.checked_sub(1).map(|last| versions[last].index)
        };
        let concerned = self.keys.iter().filter(|(key, _)| concerns(key));
        concerned.filter_map(|(_, versions)| last(versions)).max().unwrap_or_default()
    }

    fn add_version(&mut self, key: Bytes, row: Option<Row>) {
        self.keys.entry(key).or_default().push(Version { index: self.applied, row });
    }

    fn end_unsound(&mut self) {
        self.sessions.unsound().into_iter().for_each(|id| self.end_session(id, End::Unsound));
    }

    /// A session ends: its keys are free or gone, and delayed.
    fn end_session(&mut self, id: SessionId, why: End) {
        let Some(session) = self.sessions.end(self.applied, id, why) else { return };
        self.news.push((self.applied, News::Ended(id, why, self.office.1)));
        let holds = |versions: &Vec<Version>| {
            let row = versions.last().and_then(|version| version.row.clone());
            row.filter(|row| row.holder == Some(id))
        };
        let held: Vec<(Bytes, Row)> =
            self.keys.iter().filter_map(|(key, versions)| Some((key.clone(), holds(versions)?))).collect();
        for (key, row) in held {
            if !session.lock_delay.is_zero() {
                let delay = Delayed { since: self.applied, length: session.lock_delay, until: None };
                self.lift_delay(&key);
                self.delays.entry(key.clone()).or_default().push(delay);
            }
            let left = (session.behavior == Behavior::Release).then_some(Row { holder: None, ..row });
            self.add_version(key, left);
        }
    }

    /// Notes that a key may be locked again, if its delay is the one since then.
    fn end_delay(&mut self, key: &Bytes, since: Index) {
        if let Some(delay) = self.delay(key, self.applied).filter(|delay| delay.since == since) {
            self.news.push((self.applied, News::Freed(key.clone(), delay)));
            self.lift_delay(key);
        }
    }

    fn lift_delay(&mut self, key: &Bytes) {
        if let Some(last) = self.delays.get_mut(key).and_then(|delays| delays.last_mut()) {
            last.until = last.until.or(Some(self.applied));
        }
    }

    /// The delay of a key as of an index.
    pub(crate) fn delay(&self, key: &Bytes, at: Index) -> Option<Delayed> {
        let delays = self.delays.get(key)?;
        delays.iter().rev().find(|delay| delay.since <= at).copied().filter(|d| d.until.is_none_or(|until| until > at))
    }

    /// All delays as of an index, by key.
    pub(crate) fn delays_at(&self, at: Index) -> impl Iterator<Item = (&Bytes, Delayed)> {
        self.delays.keys().filter_map(move |key| Some((key, self.delay(key, at)?)))
    }

    /// The last delay of a key, whether or not it is over.
    pub(crate) fn last_delay(&self, key: &Bytes) -> Option<Delayed> {
        self.delays.get(key)?.last().copied()
    }

    /// All keys that are there.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.keys.keys().filter(|key| self.row(key).is_some())
    }

    /// Whether a key is there, or was at any time.
    pub(crate) fn was_ever(&self, key: &Bytes) -> bool {
        self.keys.contains_key(key)
    }

    /// How long the longest value was that a key has or had; `None` if it never was.
    pub(crate) fn longest_ever(&self, key: &Bytes) -> Option<u64> {
        let rows = self.keys.get(key)?.iter().filter_map(|version| version.row.as_ref());
        rows.map(|row| row.value.len() as u64).max()
    }

    /// A key with this prefix that is there.
    pub(crate) fn key_under(&self, prefix: &[u8]) -> Option<&Bytes> {
        self.keys().find(|key| key.starts_with(prefix))
    }

    /// What was stored under a key at an index, and since when.
    pub(crate) fn row_at(&self, key: &Bytes, at: Index) -> Option<(Index, &Row)> {
        let versions = self.keys.get(key)?;
        let last = versions.partition_point(|version| version.index <= at).checked_sub(1)?;
        Some((versions[last].index, versions[last].row.as_ref()?))
    }

    /// What is stored under a key by all that is committed, and since when.
    pub(crate) fn row(&self, key: &Bytes) -> Option<(Index, &Row)> {
        self.latest(key).and_then(|version| Some((version.index, version.row.as_ref()?)))
    }

    /// Whether nobody but this session has held a key since an index.
    pub(crate) fn is_free_for(&self, key: &Bytes, session: SessionId, since: Index) -> bool {
        let versions = self.keys.get(key).map(Vec::as_slice).unwrap_or_default();
        let before = versions.partition_point(|version| version.index <= since).saturating_sub(1);
        let holder = |version: &Version| version.row.as_ref().and_then(|row| row.holder);
        versions[before..].iter().all(|version| holder(version).is_none_or(|holder| holder == session))
    }

    /// What has happened to sessions and locks since this was last asked.
    pub(crate) fn take_news(&mut self) -> Vec<(Index, News)> {
        std::mem::take(&mut self.news)
    }

    fn latest(&self, key: &Bytes) -> Option<&Version> {
        self.keys.get(key)?.last()
    }

    /// How far the committed log was taken.
    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    /// Whether this write has taken place.
    pub(crate) fn has_written(&self, writer: usize) -> bool {
        self.written.contains(&writer)
    }

    /// At which index a value was written.
    pub(crate) fn index_of(&self, key: &Bytes, value: &Bytes) -> Option<Index> {
        let versions = self.keys.get(key)?;
        versions.iter().rev().find(|v| v.row.as_ref().is_some_and(|row| row.value == value)).map(|v| v.index)
    }

    /// Whether anything that a request reads changed after `after` and up to `until`.
    pub(crate) fn changed(&self, concerns: impl Fn(&[u8]) -> bool, after: Index, until: Index) -> Option<Index> {
        let in_range = |versions: &Vec<Version>| {
            let next = versions.partition_point(|version| version.index <= after);
            versions.get(next).map(|version| version.index).filter(|index| *index <= until)
        };
        self.keys.iter().filter(|(key, _)| concerns(key)).filter_map(|(_, versions)| in_range(versions)).min()
    }

    /// The indexes after `low` and up to `high` at which any of these keys changed.
    pub(crate) fn changes(
        &self,
        concerns: impl Fn(&[u8]) -> bool,
        low: Index,
        high: Index,
    ) -> impl Iterator<Item = Index> {
        let concerned = self.keys.iter().filter(move |(key, _)| concerns(key));
        let indexes = concerned.flat_map(|(_, versions)| versions.iter().map(|version| version.index));
        indexes.filter(move |index| low < *index && *index <= high)
    }

    /// Whether just these entries were under these keys at an index.
    pub(crate) fn is_shown(
        &self,
        concerns: impl Fn(&[u8]) -> bool,
        entries: &[std::sync::Arc<Entry>],
        at: Index,
    ) -> bool {
        let keys: Vec<(&Bytes, &Vec<Version>)> = self.keys.iter().filter(|(key, _)| concerns(key)).collect();
        matches(&keys, entries, at)
    }

    /// Which of these keys were there at an index.
    pub(crate) fn keys_at(&self, concerns: impl Fn(&[u8]) -> bool, at: Index) -> impl Iterator<Item = &Bytes> {
        self.keys.keys().filter(move |key| concerns(key) && self.row_at(key, at).is_some())
    }

    /// The first index from `low` to `high` at which a read would have found just these entries.
    pub(crate) fn find(
        &self,
        concerns: impl Fn(&[u8]) -> bool,
        entries: &[std::sync::Arc<Entry>],
        low: Index,
        high: Index,
    ) -> Option<Index> {
        let keys: Vec<(&Bytes, &Vec<Version>)> = self.keys.iter().filter(|(key, _)| concerns(key)).collect();
        let mut at = low;
        loop {
            if at > high {
                return None;
            }
            if matches(&keys, entries, at) {
                return Some(at);
            }
            // Nothing can be different before the next change.
            let next = |versions: &Vec<Version>| {
                versions.get(versions.partition_point(|v| v.index <= at)).map(|version| version.index)
            };
            at = keys.iter().filter_map(|(_, versions)| next(versions)).min()?;
        }
    }
}

fn matches(keys: &[(&Bytes, &Vec<Version>)], entries: &[std::sync::Arc<Entry>], at: Index) -> bool {
    let mut entries = entries.iter();
    for (key, versions) in keys {
        let current = versions.partition_point(|version| version.index <= at).checked_sub(1).map(|n| &versions[n]);
        let Some(Version { index, row: Some(row) }) = current else { continue };
        let same = entries
            .next()
            .is_some_and(|entry| entry.key == **key && entry.value == row.value && row.is_told_by(entry, *index));
        if !same {
            return false;
        }
    }
    entries.next().is_none()
}

#[cfg(test)]
impl Model {
    /// The next committed entry is this command.
    pub(crate) fn push(&mut self, command: lictor_core::store::kv::Command) -> Verdict {
        self.push_command(&Command::Kv(command))
    }

    /// As above, of any kind.
    pub(crate) fn push_command(&mut self, command: &Command) -> Verdict {
        let command = Bytes::from(wire::encode(command));
        let (index, payload) = (self.applied.next(), Payload::Command(command));
        self.apply(&raft::Entry { index, term: Term(1), payload })
    }
}
