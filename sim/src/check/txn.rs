//! Transactions, from outside: all of one takes place or nothing of it, at one index, and what they tell is of one index.
//!
//! Money is moved between accounts, so that there is always the same sum of it. Who believes nobody but clients sees from that
//! alone whether transactions are whole.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use lictor_core::api::kv::Entry;
use lictor_core::api::txn::Outcome;
use lictor_core::id::Index;
use lictor_core::store::{kv, txn::Op};

use super::model::{Model, Row};
use super::{Verdict, ensure};
use crate::history::writer_of;

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

/// What an account holds: who wrote it, so that values are unique, and how much.
pub(crate) fn balance_of(writer: usize, balance: u64) -> Bytes {
    let mut value = BytesMut::with_capacity(16);
    value.put_u64_le(writer as u64);
    value.put_u64_le(balance);
    value.freeze()
}

/// How much an account holds.
pub(crate) fn balance(entry: &Entry) -> u64 {
    let bytes = entry.value.get(8..16).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

/// A client has read all accounts: nothing is lost, whenever that was.
pub(crate) fn nothing_is_lost(entries: &[&Entry], accounts: usize, sum: u64) -> Verdict {
    if entries.is_empty() {
        return Ok(());
    }
    let found: u64 = entries.iter().map(|entry| balance(entry)).sum();
    ensure!(
        entries.len() == accounts && found == sum,
        "{} of {accounts} accounts are seen, with {found} of {sum}",
        entries.len()
    );
    Ok(())
}

/// A transaction that was to write these values is answered. The index at which it took place, if it did.
pub(crate) fn answered(model: &Model, writes: &[(Bytes, Bytes)], outcome: &Outcome) -> Result<Option<Index>, String> {
    let mut places = writes.iter().map(|(key, value)| model.index_of(key, value));
    let first = places.next().flatten();
    ensure!(places.all(|place| place == first), "a transaction was taken apart: {writes:?}");
    let Some(index) = first else {
        ensure!(!outcome.faults.is_empty(), "a transaction was acknowledged and is not in the committed log");
        return Ok(None);
    };
    ensure!(outcome.faults.is_empty(), "a transaction failed and took place at {index}: {:?}", outcome.faults);
    for told in &outcome.results {
        // Of a key that is written by a later operation, the row before is told.
        let rows = [index, Index(index.0 - 1)].map(|at| model.row_at(&told.entry.key, at));
        let is_told = |(since, row): &(Index, &Row)| {
            row.is_told_by(&told.entry, *since) && (!told.with_value || row.value == told.entry.value)
        };
        ensure!(
            rows.iter().flatten().any(is_told),
            "a transaction of index {index} tells of {:?}, and there was {rows:?}",
            told.entry
        );
    }
    Ok(Some(index))
}

/// At the very end: what failed has left nothing behind.
pub(crate) fn left_nothing(model: &Model, writes: &[(Bytes, Bytes)]) -> Verdict {
    for (key, value) in writes {
        let writer = writer_of(value).unwrap_or_default();
        ensure!(!model.has_written(writer), "a transaction failed, and its write of {key:?} took place all the same");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
