//! Transactions: several operations on keys that take place all together or not at all (`PUT /v1/txn`).

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::kv::{Entry, Key};
use super::{ReadMeta, ReadOptions};
use crate::id::Index;

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What is to be done, in this order. At most [`crate::config::Limits::txn_ops`].
    pub ops: Vec<Op>,
    /// How it is read, if all of it only reads. It never blocks.
    pub read: ReadOptions,
}

impl Request {
    /// Whether it changes nothing, whatever comes of it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.ops.iter().all(|op| op.verb.is_read_only())
    }
}

/// An operation on a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// What is to be done.
    pub verb: Verb,
    /// The key, or the prefix of a tree.
    pub key: Key,
    /// What is written.
    pub value: Bytes,
    /// What is written, opaque.
    pub flags: u64,
    /// The modify index of a condition.
    pub index: Index,
    /// The session of a lock, as the client gave it.
    pub session: String,
}

/// What is to be done with a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verb {
    /// Writes it.
    Set,
    /// Writes it if its modify index is the one given; 0 if there must be no such key.
    Cas,
    /// Writes it and takes the lock on it; fails if another session holds it.
    Lock,
    /// Writes it and gives the lock back; fails if the session does not hold it.
    Unlock,
    /// Reads it; fails if it is not there.
    Get,
    /// Reads all keys with a prefix.
    GetTree,
    /// Fails unless its modify index is the one given.
    CheckIndex,
    /// Fails unless the session holds the lock on it.
    CheckSession,
    /// Fails if it is there.
    CheckNotExists,
    /// Removes it; a missing one counts as removed.
    Delete,
    /// Removes all keys with a prefix.
    DeleteTree,
    /// Removes it if its modify index is the one given, else fails.
    DeleteCas,
    /// A word that is none of these: it fails.
    Unknown(String),
}

impl Verb {
    /// All verbs and their names.
    const NAMES: [(&str, Self); 12] = [
        ("set", Self::Set),
        ("cas", Self::Cas),
        ("lock", Self::Lock),
        ("unlock", Self::Unlock),
        ("get", Self::Get),
        ("get-tree", Self::GetTree),
        ("check-index", Self::CheckIndex),
        ("check-session", Self::CheckSession),
        ("check-not-exists", Self::CheckNotExists),
        ("delete", Self::Delete),
        ("delete-tree", Self::DeleteTree),
        ("delete-cas", Self::DeleteCas),
    ];

    /// The verb of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let known = Self::NAMES.into_iter().find(|(known, _)| *known == name);
        known.map_or_else(|| Self::Unknown(name.to_owned()), |(_, verb)| verb)
    }

    /// Whether it changes nothing.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        matches!(self, Self::Get | Self::GetTree | Self::CheckIndex | Self::CheckSession | Self::CheckNotExists)
    }
}

/// What came of a transaction. It took place if and only if there are no faults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What the operations tell, in their order; a tree tells any number of entries, and some operations nothing.
    pub results: Vec<Told>,
    /// Why it did not take place: every operation that failed, in their order.
    pub faults: Vec<Fault>,
    /// For the body of one that only reads; `None` for one that writes.
    pub read: Option<ReadMeta>,
}

/// What an operation of a transaction tells of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The entry as it is then.
    pub entry: Arc<Entry>,
    /// Whether its value is told too. What was just written is not repeated.
    pub with_value: bool,
}

/// Why an operation of a transaction failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The operation's place, from 0.
    pub op: usize,
    /// The reason, in Consul's words.
    pub what: String,
}
