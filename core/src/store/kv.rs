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
    /// Applies a command.
    pub(super) fn apply(&mut self, index: Index, command: Command, sessions: &Sessions) -> Applied {
        let mut touched = Vec::new();
        let done = match command {
            Command::Put { key, value, flags, mode } => {
                let touch = Touch::Key(key.clone());
                let done = self.put(index, key, value, flags, mode, sessions);
                touched.extend((done == Ok(true)).then_some(touch));
                done
            }
            Command::Delete { key, cas } => Ok(self.delete(index, &key, cas, &mut touched)),
            Command::DeleteTree { prefix } => {
                self.delete_tree(index, &prefix, &mut touched);
                Ok(true)
            }
        };
        if !touched.is_empty() {
            self.changed = index;
        }
        Applied { response: done.map(Response::Done), touched }
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
    ) -> Result<bool, Error> {
        let existing = self.entries.get(&key).map(|entry| &**entry);
        let Some((lock_index, session)) = lock_after(mode, existing, sessions)? else {
            return Ok(false);
        };
        if let Mode::Lock { judged_at, .. } = mode {
            if self.locks.delay_of(&key).is_some_and(|delay| delay.since > judged_at) {
                return Ok(false);
            }
            self.locks.lift_delay(&key);
        }
        self.locks.hand_over(&key, existing.and_then(|entry| entry.session), session);
        let create_index = existing.map_or(index, |entry| entry.create_index);
        let entry = Entry { key: key.clone(), value, flags, create_index, modify_index: index, lock_index, session };
        if existing.is_none() {
            self.tombstones.lift(&key);
        }
        self.entries.insert(key, Arc::new(entry));
        Ok(true)
    }

    fn delete(&mut self, index: Index, key: &[u8], cas: Option<Index>, touched: &mut Vec<Touch>) -> bool {
        let Some(existing) = self.entries.get(key) else {
            return true;
        };
        if cas.is_some_and(|expected| expected != existing.modify_index) {
            return false;
        }
        self.remove(index, key, touched);
        true
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

/// The lock index and the holder that a put leaves behind, or `None` if it must not take place.
fn lock_after(
    mode: Mode,
    existing: Option<&Entry>,
    sessions: &Sessions,
) -> Result<Option<(u64, Option<SessionId>)>, Error> {
    let holder = existing.and_then(|entry| entry.session);
    let lock_index = existing.map_or(0, |entry| entry.lock_index);
    // No entry has modify index 0, so `cas=0` holds for missing keys alone.
    let modify_index = existing.map_or(Index(0), |entry| entry.modify_index);
    Ok(match mode {
        // Consul writes the entry that the client sent, whose lock index is 0, and keeps the holder.
        Mode::Set => Some((0, holder)),
        Mode::Cas(expected) => (expected == modify_index).then_some((0, holder)),
        Mode::Lock { session, .. } => {
            if !sessions.exists(session) {
                return Err(Error::InvalidSession(session.to_string()));
            }
            match holder {
                None => Some((lock_index.saturating_add(1), Some(session))),
                Some(holder) if holder == session => Some((lock_index, holder.into())),
                Some(_) => None,
            }
        }
        Mode::Unlock(session) => (holder == Some(session)).then_some((lock_index, None)),
    })
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
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::api::kv::Request;
    use crate::store::{Answer, Store};

    const A: SessionId = SessionId(Uuid::from_u128(0xa));
    const B: SessionId = SessionId(Uuid::from_u128(0xb));
    const GONE: SessionId = SessionId(Uuid::from_u128(0xdead));

    /// A store in which the sessions `A` and `B` exist, and whose next index is 11.
    fn store() -> Store {
        let mut store = Store::default();
        for id in [A, B] {
            store.sessions.insert(Index(1), Session { id, ..Session::plain() });
        }
        store.note_applied(Index(10));
        store
    }

    fn lock(session: SessionId) -> Mode {
        Mode::Lock { session, judged_at: Index(10) }
    }

    fn key(text: &str) -> Key {
        Key::copy_from_slice(text.as_bytes())
    }

    fn apply(store: &mut Store, command: Command) -> Result<bool, Error> {
        let before = store.clone();
        let applied = store.apply(store.index().next(), command.into());
        if !matches!(applied.response, Ok(Response::Done(true))) {
            assert!(applied.touched.is_empty(), "a write that did not take place touches nothing");
            assert!(store.kv == before.kv, "a write that did not take place changes nothing");
        }
        applied.response.map(|response| response == Response::Done(true))
    }

    fn put(store: &mut Store, text: &str, value: &'static str, flags: u64, mode: Mode) -> Result<bool, Error> {
        let value = Bytes::from_static(value.as_bytes());
        apply(store, Command::Put { key: key(text), value, flags, mode })
    }

    /// The answer to a read of one key.
    fn get(store: &Store, text: &str) -> Answer {
        store.query(&Request::Get { key: key(text), read: Default::default() }).expect("a get is a read")
    }

    /// An entry as a row: value, flags, create index, modify index, lock index, holder.
    fn row(store: &Store, text: &str) -> Option<(String, u64, u64, u64, u64, Option<SessionId>)> {
        let Body::Entries(entries) = get(store, text).body else { panic!("a get answers with entries") };
        entries.first().map(|e| {
            let value = String::from_utf8(e.value.to_vec()).expect("these tests put text");
            (value, e.flags, e.create_index.0, e.modify_index.0, e.lock_index, e.session)
        })
    }

    fn folded(store: &Store, prefix: &str, separator: &'static str) -> Vec<String> {
        let (prefix, separator) = (key(prefix), Bytes::from_static(separator.as_bytes()));
        let answer = store.query(&Request::Keys { prefix, separator, read: Default::default() });
        let Some(Answer { body: Body::Keys(keys), .. }) = answer else { panic!("keys are answered with keys") };
        keys.iter().map(|key| key.escape_ascii().to_string()).collect()
    }

    #[test]
    fn a_lock_is_taken_kept_overwritten_and_released() {
        let mut s = store();
        assert_eq!(put(&mut s, "l", "holder", 0, lock(A)), Ok(true));
        assert_eq!(row(&s, "l"), Some(("holder".into(), 0, 11, 11, 1, Some(A))));
        assert_eq!(put(&mut s, "l", "again", 4, lock(A)), Ok(true));
        assert_eq!(row(&s, "l"), Some(("again".into(), 4, 11, 12, 1, Some(A))));
        // A plain write keeps the holder and resets the count; so does a check-and-set.
        assert_eq!(put(&mut s, "l", "plain", 0, Mode::Set), Ok(true));
        assert_eq!(row(&s, "l"), Some(("plain".into(), 0, 11, 13, 0, Some(A))));
        assert_eq!(put(&mut s, "l", "no", 5, Mode::Cas(Index(0))), Ok(false));
        assert_eq!(put(&mut s, "l", "cas", 6, Mode::Cas(Index(13))), Ok(true));
        assert_eq!(row(&s, "l"), Some(("cas".into(), 6, 11, 15, 0, Some(A))));
        assert_eq!(put(&mut s, "l", "released", 0, Mode::Unlock(A)), Ok(true));
        assert_eq!(row(&s, "l"), Some(("released".into(), 0, 11, 16, 0, None)));
        assert_eq!(put(&mut s, "l", "twice", 0, Mode::Unlock(A)), Ok(false));
        assert_eq!(put(&mut s, "l", "next", 3, lock(A)), Ok(true));
        assert_eq!(row(&s, "l"), Some(("next".into(), 3, 11, 18, 1, Some(A))));
    }

    #[test]
    fn one_of_two_sessions_holds_a_lock_and_the_count_goes_on() {
        let mut s = store();
        assert_eq!(put(&mut s, "l", "before", 0, Mode::Set), Ok(true));
        assert_eq!(put(&mut s, "l", "a", 0, lock(A)), Ok(true));
        assert_eq!(put(&mut s, "l", "b", 0, lock(B)), Ok(false));
        assert_eq!(put(&mut s, "l", "b", 0, Mode::Unlock(B)), Ok(false));
        assert_eq!(row(&s, "l"), Some(("a".into(), 0, 11, 12, 1, Some(A))));
        assert_eq!(put(&mut s, "l", "a done", 2, Mode::Unlock(A)), Ok(true));
        assert_eq!(row(&s, "l"), Some(("a done".into(), 2, 11, 15, 1, None)));
        assert_eq!(put(&mut s, "l", "b", 0, lock(B)), Ok(true));
        assert_eq!(row(&s, "l"), Some(("b".into(), 0, 11, 16, 2, Some(B))));
        // A session can hold several; a locked key can be deleted, and counts anew when it returns.
        assert_eq!(put(&mut s, "other", "b", 0, lock(B)), Ok(true));
        assert_eq!(apply(&mut s, Command::Delete { key: key("l"), cas: None }), Ok(true));
        assert_eq!(put(&mut s, "l", "fresh", 0, lock(A)), Ok(true));
        assert_eq!(row(&s, "l"), Some(("fresh".into(), 0, 19, 19, 1, Some(A))));
    }

    #[test]
    fn a_session_that_does_not_exist_takes_no_lock() {
        let mut s = store();
        assert!(s.session_exists(A) && !s.session_exists(GONE));
        let refused = Err(Error::InvalidSession(GONE.to_string()));
        assert_eq!(put(&mut s, "l", "x", 0, lock(GONE)), refused);
        assert_eq!(put(&mut s, "l", "x", 0, Mode::Unlock(GONE)), Ok(false));
        assert_eq!(row(&s, "l"), None);
        assert_eq!(put(&mut s, "l", "free", 0, Mode::Set), Ok(true));
        assert_eq!(put(&mut s, "l", "x", 0, lock(GONE)), refused);
        assert_eq!(put(&mut s, "l", "x", 0, Mode::Unlock(GONE)), Ok(false));
        assert_eq!(row(&s, "l"), Some(("free".into(), 0, 13, 13, 0, None)));
    }

    #[test]
    fn separators_fold_as_consul_does() {
        let mut s = store();
        for name in ["web/bar", "web/foo", "web/subdir/a", "web/subdir/b", "web/subdir/deep/c", "web", "web/zed/q"] {
            assert_eq!(put(&mut s, name, "v", 0, Mode::Set), Ok(true));
        }
        assert_eq!(folded(&s, "web/", "/"), ["web/bar", "web/foo", "web/subdir/", "web/zed/"]);
        assert_eq!(folded(&s, "web", "/"), ["web", "web/"]);
        assert_eq!(folded(&s, "", "/"), ["web", "web/"]);
        assert_eq!(folded(&s, "web/subdir", "/"), ["web/subdir/"]);
        assert_eq!(folded(&s, "web/subdir/", "/"), ["web/subdir/a", "web/subdir/b", "web/subdir/deep/"]);
        assert_eq!(folded(&s, "web/", "d"), ["web/bar", "web/foo", "web/subd", "web/zed"]);
        assert_eq!(folded(&s, "web/", "ub"), ["web/bar", "web/foo", "web/sub", "web/zed/q"]);
        assert_eq!(folded(&s, "web/", "").len(), 6);
        assert!(folded(&s, "none", "/").is_empty());
    }

    #[test]
    fn a_missing_key_reports_the_table_and_is_judged_by_itself() {
        let mut s = store();
        assert_eq!((get(&s, "a").index, get(&s, "a").changed), (Index(1), Index(0)));
        assert_eq!(put(&mut s, "b", "v", 0, Mode::Set), Ok(true));
        assert_eq!((get(&s, "a").index, get(&s, "a").changed), (Index(11), Index(0)));
        assert_eq!(put(&mut s, "a", "v", 0, Mode::Set), Ok(true));
        assert_eq!(apply(&mut s, Command::Delete { key: key("a"), cas: None }), Ok(true));
        assert_eq!(put(&mut s, "b", "v", 0, Mode::Set), Ok(true));
        assert_eq!((get(&s, "a").index, get(&s, "a").changed), (Index(14), Index(13)));
        assert_eq!((get(&s, "b").index, get(&s, "b").changed), (Index(14), Index(14)));
    }

    #[test]
    fn overwriting_a_clone_leaves_the_original() {
        let mut s = store();
        assert_eq!(put(&mut s, "a", "old", 0, Mode::Set), Ok(true));
        let before = s.clone();
        assert!(before == s);
        assert_eq!(put(&mut s, "a", "new", 0, Mode::Set), Ok(true));
        assert_eq!(row(&before, "a"), Some(("old".into(), 0, 11, 11, 0, None)));
        assert_eq!(row(&s, "a"), Some(("new".into(), 0, 11, 12, 0, None)));
    }
}
