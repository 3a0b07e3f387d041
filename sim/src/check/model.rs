//! What the key-value store should hold at each index: an implementation of our own, of the simplest kind,
//! fed by the committed log. It keeps all versions of all keys.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lictor_core::api::kv::Entry;
use lictor_core::api::operator::Autopilot;
use lictor_core::id::Index;
use lictor_core::raft::{self, Payload};
use lictor_core::store::{Command, kv};
use lictor_core::wire;

use super::{Verdict, ensure};
use crate::history::writer_of;

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
    value: Bytes,
    flags: u64,
    created: Index,
}

/// All versions of all keys.
#[derive(Debug, Default)]
pub(crate) struct Model {
    keys: BTreeMap<Bytes, Vec<Version>>,
    /// Values that were written: each is proposed once, so it is written once.
    written: BTreeSet<usize>,
    /// The settings of the autopilot, and since when they hold.
    autopilot: Vec<Autopilot>,
    applied: Index,
}

impl Model {
    /// The next committed entry.
    pub(crate) fn apply(&mut self, entry: &raft::Entry) -> Verdict {
        assert_eq!(entry.index, self.applied.next(), "the model takes the committed log in order");
        self.applied = entry.index;
        let Payload::Command(bytes) = &entry.payload else { return Ok(()) };
        let command = wire::decode(bytes).map_err(|why| format!("committed entry {}: {why}", entry.index))?;
        let command = match command {
            Command::Kv(command) => command,
            Command::SetAutopilot { settings, cas } => {
                self.set_autopilot(&settings, cas);
                return Ok(());
            }
            Command::ReapTombstones { .. }
            | Command::Restore { .. }
            | Command::Register(_)
            | Command::Deregister(_)
            | Command::UpdateCoordinates(_)
            | Command::CreateSession(_)
            | Command::DestroySession { .. }
            | Command::EndLockDelays(_)
            | Command::Txn(_)
            | Command::Prepared(_) => return Ok(()),
        };
        match command {
            kv::Command::Put { key, value, flags, mode } => {
                let proceed = match mode {
                    kv::Mode::Set => true,
                    kv::Mode::Cas(expected) => self.modified(&key) == expected,
                    kv::Mode::Lock { .. } | kv::Mode::Unlock(_) => false,
                };
                if proceed {
                    self.put(key, value, flags)?;
                }
            }
            kv::Command::Delete { key, cas } => {
                if cas.is_none_or(|expected| self.modified(&key) == expected) {
                    self.delete(&key);
                }
            }
            kv::Command::DeleteTree { prefix } => {
                let keys: Vec<Bytes> = self.keys.keys().filter(|key| key.starts_with(&prefix)).cloned().collect();
                keys.iter().for_each(|key| self.delete(key));
            }
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

    fn put(&mut self, key: Bytes, value: Bytes, flags: u64) -> Verdict {
        if let Some(writer) = writer_of(&value) {
            ensure!(self.written.insert(writer), "the write #{writer} took place twice, again at {}", self.applied);
        }
        let index = self.applied;
        let created = self.latest(&key).and_then(|version| version.row.as_ref()).map_or(index, |row| row.created);
        let row = Some(Row { value, flags, created });
        self.keys.entry(key).or_default().push(Version { index, row });
        Ok(())
    }

    fn delete(&mut self, key: &Bytes) {
        let index = self.applied;
        if self.latest(key).is_some_and(|version| version.row.is_some())
            && let Some(versions) = self.keys.get_mut(key)
        {
            versions.push(Version { index, row: None });
        }
    }

    fn latest(&self, key: &Bytes) -> Option<&Version> {
        self.keys.get(key)?.last()
    }

    /// The modify index of a key; 0 if there is no such key.
    fn modified(&self, key: &Bytes) -> Index {
        self.latest(key).filter(|version| version.row.is_some()).map_or(Index(0), |version| version.index)
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
        let same = entries.next().is_some_and(|entry| {
            entry.key == **key
                && entry.value == row.value
                && entry.flags == row.flags
                && entry.create_index == row.created
                && entry.modify_index == *index
        });
        if !same {
            return false;
        }
    }
    entries.next().is_none()
}

#[cfg(test)]
impl Model {
    /// The next committed entry is this command.
    pub(crate) fn push(&mut self, command: kv::Command) -> Verdict {
        let command = Bytes::from(wire::encode(&Command::Kv(command)));
        let (index, payload) = (self.applied.next(), Payload::Command(command));
        self.apply(&raft::Entry { index, term: lictor_core::id::Term(1), payload })
    }
}
