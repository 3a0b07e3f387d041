//! What a command makes of keys, before it is certain that it takes place.

use std::collections::BTreeMap;

use bytes::Bytes;
use lictor_core::id::Index;
use lictor_core::store::{kv, txn::Op};

use super::{Model, Row};

/// What a command has made of keys, and whether it has locked them.
pub(crate) type Changed = BTreeMap<Bytes, (Option<Row>, bool)>;

/// A model with changes that may yet be dropped. The changes are of the model's last index.
pub(crate) struct Draft<'a> {
    model: &'a Model,
    changed: Changed,
}

impl<'a> Draft<'a> {
    pub(crate) fn of(model: &'a Model) -> Self {
        Self { model, changed: Changed::new() }
    }

    /// What was changed.
    pub(crate) fn changed(self) -> Changed {
        self.changed
    }

    /// All operations one after the other; `None` if any of them fails.
    pub(crate) fn all(mut self, ops: &[Op]) -> Option<Changed> {
        ops.iter().all(|op| self.one(op)).then_some(self.changed)
    }

    fn one(&mut self, op: &Op) -> bool {
        match op {
            Op::Write(command) => self.write(command),
            Op::Get(key) => self.row(key).is_some(),
            Op::GetTree(_) => true,
            Op::CheckIndex { key, index } => self.row(key).is_some_and(|(modified, _)| modified == *index),
            Op::CheckSession { key, session } => self
                .row(key)
                .is_some_and(|(_, row)| row.holder.map(|holder| holder.to_string()).unwrap_or_default() == *session),
            Op::CheckNotExists(key) => self.row(key).is_none(),
            Op::Refused(_) => false,
        }
    }

    /// A single change; false if its condition does not hold.
    pub(crate) fn write(&mut self, command: &kv::Command) -> bool {
        match command {
            kv::Command::Put { key, value, flags, mode } => {
                let Some((locked, holder)) = self.lock_after(key, *mode) else { return false };
                let created = self.row(key).map_or(self.model.applied(), |(_, row)| row.created);
                let row = Row { value: value.clone(), flags: *flags, created, locked, holder };
                let is_locked = matches!(mode, kv::Mode::Lock { .. });
                self.change(key, Some(row), is_locked);
            }
            kv::Command::Delete { key, cas } => {
                let Some((modified, _)) = self.row(key) else { return true };
                if cas.is_some_and(|expected| expected != modified) {
                    return false;
                }
                self.change(key, None, false);
            }
            kv::Command::DeleteTree { prefix } => {
                let model = self.model.keys().chain(self.changed.keys());
                let keys: Vec<Bytes> = model.filter(|key| key.starts_with(prefix)).cloned().collect();
                for key in keys {
                    if self.row(&key).is_some() {
                        self.change(&key, None, false);
                    }
                }
            }
        }
        true
    }

    fn change(&mut self, key: &Bytes, row: Option<Row>, is_locked: bool) {
        let is_locked = is_locked || self.is_locked(key);
        self.changed.insert(key.clone(), (row, is_locked));
    }

    /// How often the key was locked and who holds it after a put, if the put takes place.
    fn lock_after(&self, key: &Bytes, mode: kv::Mode) -> Option<(u64, Option<lictor_core::id::SessionId>)> {
        let row = self.row(key);
        let modified = row.map_or(Index(0), |(modified, _)| modified);
        let (locked, holder) = row.map_or((0, None), |(_, row)| (row.locked, row.holder));
        match mode {
            kv::Mode::Set => Some((0, holder)),
            kv::Mode::Cas(expected) => (modified == expected).then_some((0, holder)),
            kv::Mode::Lock { session, judged_at } => {
                let delay = self.model.delay(key, self.model.applied());
                let is_free = delay.is_none_or(|delay| delay.since <= judged_at) || self.is_locked(key);
                let may = is_free && self.model.sessions.is_alive(session);
                match holder {
                    None => may.then_some((locked + 1, Some(session))),
                    Some(holder) => (may && holder == session).then_some((locked, Some(session))),
                }
            }
            kv::Mode::Unlock(session) => (holder == Some(session)).then_some((locked, None)),
        }
    }

    /// Whether an earlier operation has locked a key.
    fn is_locked(&self, key: &Bytes) -> bool {
        self.changed.get(key).is_some_and(|(_, is_locked)| *is_locked)
    }

    fn row(&self, key: &Bytes) -> Option<(Index, &Row)> {
        match self.changed.get(key) {
            Some((row, _)) => row.as_ref().map(|row| (self.model.applied(), row)),
            None => self.model.row(key),
        }
    }
}
