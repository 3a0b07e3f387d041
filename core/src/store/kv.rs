//! The key-value store: entries, locks on them, and what remains of deleted ones.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::lock::{Delay, Locks};
use super::session::Sessions;
use super::table::{after, under};
use super::tombstone::Tombstones;
use super::{Applied, Body, Touch};
use crate::api::kv::{Entry, Key};
use crate::api::session::{Behavior, Session};
use crate::api::{Error, Response};
use crate::id::{Index, SessionId};

/// A change of the key-value store: a write of [`api::kv::Request`](crate::api::kv::Request), checked and
/// with its session understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Writes one key.
    Put {
        /// Which.
        key: Key,
        /// What.
        value: Bytes,
        /// Opaque; replaces what was there.
        flags: u64,
        /// Under which condition, and what becomes of the lock.
        mode: Mode,
    },
    /// Removes one key; a missing one counts as removed.
    Delete {
        /// Which.
        key: Key,
        /// Only if this is its modify index.
        cas: Option<Index>,
    },
    /// Removes all keys with a prefix.
    DeleteTree {
        /// A string prefix; empty for all.
        prefix: Key,
    },
}

/// Under which condition a put takes place, and what becomes of the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Always. Whoever holds the lock goes on holding it: locks are advisory.
    Set,
    /// If this is the key's modify index, 0 meaning that there is no such key; then as [`Mode::Set`].
    Cas(Index),
    /// If the session exists, no other holds the lock, and the key was not delayed after `judged_at`, the visible index up to
    /// which whoever proposed this knew of delays; then it holds it.
    Lock {
        /// Who wants it.
        session: SessionId,
        /// What its judge knew of.
        judged_at: Index,
    },
    /// If the session holds the lock; then nobody does.
    Unlock(SessionId),
}

/// Why a write did not take place: what it takes for granted is not so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The key's modify index is not the one given.
    Stale,
    /// The session that wants the lock does not exist.
    NoSession(SessionId),
    /// Another session holds the lock.
    Held,
    /// Nobody can have the lock for a while.
    Delayed,
    /// The session that gives the lock back does not hold it.
    NotHeld,
}

/// The table of keys. Invariants:
///
/// - each entry lies under its own key, and `1 <= create_index <= modify_index <= changed`;
/// - no key has both an entry and a tombstone;
/// - `locks` knows the holder of every entry that has one.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    entries: OrdMap<Key, Arc<Entry>>,
    tombstones: Tombstones,
    locks: Locks,
    /// The index of the last change of any key.
    changed: Index,
}

impl Table {
    /// Applies a command on its own.
    pub(super) fn apply(&mut self, index: Index, command: Command, sessions: &Sessions) -> Applied {
        let mut touched = Vec::new();
        let response = match self.write(index, command, sessions, &mut touched) {
            Ok(_) => Ok(Response::Done(true)),
            Err(Refusal::NoSession(session)) => Err(Error::InvalidSession(session.to_string())),
            Err(Refusal::Stale | Refusal::Held | Refusal::Delayed | Refusal::NotHeld) => Ok(Response::Done(false)),
        };
        Applied { response, touched }
    }

    /// Applies a command, alone or as one of several at the same index, and adds what it changes to `touched`. Tells the entry
    /// that it has written, if any.
    pub(super) fn write(
        &mut self,
        index: Index,
        command: Command,
        sessions: &Sessions,
        touched: &mut Vec<Touch>,
    ) -> Result<Option<Arc<Entry>>, Refusal> {
        let before = touched.len();
        let written = match command {
            Command::Put { key, value, flags, mode } => {
                let entry = self.put(index, key, value, flags, mode, sessions)?;
                touched.push(Touch::Key(entry.key.clone()));
                Some(entry)
            }
            Command::Delete { key, cas } => {
                self.delete(index, &key, cas, touched)?;
                None
            }
            Command::DeleteTree { prefix } => {
                self.delete_tree(index, &prefix, touched);
                None
            }
        };
        if touched.len() > before {
            self.changed = index;
        }
        Ok(written)
    }

    /// The entry under a key.
    pub(super) fn entry(&self, key: &[u8]) -> Option<&Arc<Entry>> {
        self.entries.get(key)
    }

    /// All entries whose keys begin with `prefix`, in byte order.
    pub(super) fn entries_under<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = &'a Arc<Entry>> {
        under(&self.entries, prefix).map(|(_, entry)| entry)
    }

    /// One key, as a listing of at most one entry.
    pub(super) fn get(&self, key: &[u8]) -> (Index, Body) {
        match self.entries.get(key) {
            Some(entry) => (entry.modify_index, Body::Entries(vec![entry.clone()])),
            None => (self.tombstones.of(key), Body::Entries(Vec::new())),
        }
    }

    /// All entries whose keys begin with `prefix`.
    pub(super) fn list(&self, prefix: &[u8]) -> (Index, Body) {
        let mut latest = Index(0);
        let mut found = Vec::new();
        for (_, entry) in under(&self.entries, prefix) {
            latest = latest.max(entry.modify_index);
            found.push(entry.clone());
        }
        (self.tombstones.latest_under(prefix, latest), Body::Entries(found))
    }

    /// The keys that begin with `prefix`, cut behind the first `separator` that follows it.
    ///
    /// What is cut off is still visited: the index of the listing is that of its latest write, as Consul's,
    /// wherever in a folded subtree that was. Nothing is allocated for it, and the search for the separator
    /// is spared, as all keys that begin with a folded one are folded into it and stand beside each other.
    pub(super) fn keys(&self, prefix: &[u8], separator: &[u8]) -> (Index, Body) {
        let mut latest = Index(0);
        let mut found = Vec::new();
        let mut folded: Option<Key> = None;
        for (key, entry) in under(&self.entries, prefix) {
            latest = latest.max(entry.modify_index);
            if folded.as_ref().is_some_and(|folded| key.starts_with(folded)) {
                continue;
            }
            match position(&key[prefix.len()..], separator) {
                Some(at) => {
                    let fold = key.slice(..prefix.len() + at + separator.len());
                    folded = Some(fold.clone());
                    found.push(fold);
                }
                None => found.push(key.clone()),
            }
        }
        (self.tombstones.latest_under(prefix, latest), Body::Keys(found))
    }

    /// The entries whose keys follow this one; all of them without one. Finds the first in O(log n).
    pub(super) fn entries_after(&self, key: Option<&Key>) -> impl Iterator<Item = (&Key, &Arc<Entry>)> {
        after(&self.entries, key)
    }

    /// A table without rows, as an image describes it before they come.
    pub(super) fn bare(changed: Index, floor: Index) -> Self {
        Self { tombstones: Tombstones::above(floor), changed, ..Self::default() }
    }

    /// Takes in an entry of an image, if it goes with the rest.
    pub(super) fn load(&mut self, entry: Entry, sessions: &Sessions) -> Result<(), &'static str> {
        let Entry { create_index, modify_index, session, .. } = entry;
        if create_index == Index(0) || create_index > modify_index || modify_index > self.changed {
            return Err("an entry was written at an index that cannot be");
        }
        if session.is_some_and(|session| !sessions.exists(session)) {
            return Err("a lock is held by a session that does not exist");
        }
        self.locks.hand_over(&entry.key, None, session);
        self.entries.insert(entry.key.clone(), Arc::new(entry));
        Ok(())
    }

    /// Takes in a tombstone of an image, if it goes with the rest. The entries were loaded before.
    pub(super) fn load_tombstone(&mut self, key: Key, index: Index) -> Result<(), &'static str> {
        if self.entries.contains_key(&key) {
            return Err("a key is both there and deleted");
        }
        if index <= self.tombstones.floor() || index > self.changed {
            return Err("a key was deleted at an index that cannot be");
        }
        self.tombstones.bury(key, index);
        Ok(())
    }

    /// The table as it is after a restoration at `index`, which changes every key. No index from before is ever reported
    /// again, so no deletion from before needs to be remembered.
    pub(super) fn restored(self, index: Index) -> Self {
        Self { tombstones: Tombstones::default(), locks: self.locks.restored(index), changed: index, ..self }
    }

    /// A session has ended: what it holds is released or deleted, and delayed.
    pub(super) fn end_session(&mut self, index: Index, session: &Session, touched: &mut Vec<Touch>) {
        for key in self.locks.held_by(session.id) {
            match session.behavior {
                Behavior::Release => {
                    let entry = self.entries.get(&key).expect("what is held is there");
                    let entry = Entry { session: None, modify_index: index, ..Entry::clone(entry) };
                    self.locks.hand_over(&key, Some(session.id), None);
                    self.entries.insert(key.clone(), Arc::new(entry));
                    touched.push(Touch::Key(key.clone()));
                }
                Behavior::Delete => self.remove(index, &key, touched),
            }
            self.changed = index;
            if !session.lock_delay.is_zero() {
                self.locks.delay(key, Delay { since: index, length: session.lock_delay });
            }
        }
    }

    /// Who holds what, and what is delayed.
    pub(super) fn locks(&self) -> &Locks {
        &self.locks
    }

    /// As above, for delays to be struck out or loaded.
    pub(super) fn locks_mut(&mut self) -> &mut Locks {
        &mut self.locks
    }

    /// Forgets the deletions up to and including `up_to`.
    pub(super) fn reap_tombstones(&mut self, up_to: Index) {
        self.tombstones.reap(up_to);
    }

    /// The deletions that are remembered.
    pub(super) fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The index of the last change of any key; 0 if there was none.
    pub(super) fn changed(&self) -> Index {
        self.changed
    }

    fn put(
        &mut self,
        index: Index,
        key: Key,
        value: Bytes,
        flags: u64,
        mode: Mode,
        sessions: &Sessions,
    ) -> Result<Arc<Entry>, Refusal> {
        let existing = self.entries.get(&key).map(|entry| &**entry);
        let (lock_index, session) = lock_after(mode, existing, sessions)?;
        if let Mode::Lock { judged_at, .. } = mode {
            if self.locks.delay_of(&key).is_some_and(|delay| delay.since > judged_at) {
                return Err(Refusal::Delayed);
            }
            self.locks.lift_delay(&key);
        }
        self.locks.hand_over(&key, existing.and_then(|entry| entry.session), session);
        let create_index = existing.map_or(index, |entry| entry.create_index);
        let entry = Entry { key: key.clone(), value, flags, create_index, modify_index: index, lock_index, session };
        if existing.is_none() {
            self.tombstones.lift(&key);
        }
        let entry = Arc::new(entry);
        self.entries.insert(key, Arc::clone(&entry));
        Ok(entry)
    }

    fn delete(
        &mut self,
        index: Index,
        key: &[u8],
        cas: Option<Index>,
        touched: &mut Vec<Touch>,
    ) -> Result<(), Refusal> {
        let Some(existing) = self.entries.get(key) else { return Ok(()) };
        if cas.is_some_and(|expected| expected != existing.modify_index) {
            return Err(Refusal::Stale);
        }
        self.remove(index, key, touched);
        Ok(())
    }

    fn delete_tree(&mut self, index: Index, prefix: &[u8], touched: &mut Vec<Touch>) {
        let doomed: Vec<Key> = under(&self.entries, prefix).map(|(key, _)| key.clone()).collect();
        touched.reserve_exact(doomed.len());
        for key in doomed {
            self.remove(index, &key, touched);
        }
    }

    fn remove(&mut self, index: Index, key: &[u8], touched: &mut Vec<Touch>) {
        let (key, entry) = self.entries.remove_with_key(key).expect("only what is there is removed");
        self.locks.hand_over(&key, entry.session, None);
        self.tombstones.bury(key.clone(), index);
        touched.push(Touch::Key(key));
    }
}

/// The lock index and the holder that a put leaves behind, or why it must not take place.
fn lock_after(mode: Mode, existing: Option<&Entry>, sessions: &Sessions) -> Result<(u64, Option<SessionId>), Refusal> {
    let holder = existing.and_then(|entry| entry.session);
    let lock_index = existing.map_or(0, |entry| entry.lock_index);
    // No entry has modify index 0, so `cas=0` holds for missing keys alone.
    let modify_index = existing.map_or(Index(0), |entry| entry.modify_index);
    match mode {
        // Consul writes the entry that the client sent, whose lock index is 0, and keeps the holder.
        Mode::Set => Ok((0, holder)),
        Mode::Cas(expected) if expected == modify_index => Ok((0, holder)),
        Mode::Cas(_) => Err(Refusal::Stale),
        Mode::Lock { session, .. } if !sessions.exists(session) => Err(Refusal::NoSession(session)),
        Mode::Lock { session, .. } => match holder {
            None => Ok((lock_index.saturating_add(1), Some(session))),
            Some(holder) if holder == session => Ok((lock_index, Some(holder))),
            Some(_) => Err(Refusal::Held),
        },
        Mode::Unlock(session) if holder == Some(session) => Ok((lock_index, None)),
        Mode::Unlock(_) => Err(Refusal::NotHeld),
    }
}

/// Where `needle` first occurs in `text`. An empty one occurs nowhere.
fn position(text: &[u8], needle: &[u8]) -> Option<usize> {
    match needle {
        [] => None,
        [byte] => text.iter().position(|b| b == byte),
        _ => text.windows(needle.len()).position(|window| window == needle),
    }
}

/// One line for logs and traces, without values.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { key, value, flags, mode } => {
                write!(f, "put {} bytes={} flags={flags}", key.escape_ascii(), value.len())?;
                match mode {
                    Mode::Set => Ok(()),
                    Mode::Cas(index) => write!(f, " cas={index}"),
                    Mode::Lock { session, judged_at } => write!(f, " lock={session} judged_at={judged_at}"),
                    Mode::Unlock(session) => write!(f, " unlock={session}"),
                }
            }
            Self::Delete { key, cas: None } => write!(f, "delete {}", key.escape_ascii()),
            Self::Delete { key, cas: Some(index) } => write!(f, "delete {} cas={index}", key.escape_ascii()),
            Self::DeleteTree { prefix } => write!(f, "delete-tree {}", prefix.escape_ascii()),
        }
    }
}

#[cfg(test)]
#[path = "kv_tests.rs"]
mod tests;
