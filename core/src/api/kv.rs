//! The key-value store's operations (`http-api.txt`, "KV").

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ReadOptions;
use crate::id::{Index, SessionId};

/// A key: any bytes, ordered as bytes. Paths are decoded into them and need not be UTF-8.
pub type Key = Bytes;

/// Entries shared with the store they were read from.
pub type Entries = Vec<Arc<Entry>>;

/// One key and what is stored under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The full path.
    pub key: Key,
    /// What the client stored; empty reads back as JSON `null`.
    pub value: Bytes,
    /// Opaque to us, the whole range of 64 bits.
    pub flags: u64,
    /// When the key came into being; a deleted key that is put again is a new one.
    pub create_index: Index,
    /// When the key was last written, locked or unlocked.
    pub modify_index: Index,
    /// How many times the lock was acquired. A plain put resets it, as Consul's does.
    pub lock_index: u64,
    /// Who holds the lock.
    pub session: Option<SessionId>,
}

/// An operation on the key-value store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// One key.
    Get {
        /// Which.
        key: Key,
        /// How.
        read: ReadOptions,
    },
    /// All entries whose keys begin with a prefix (`?recurse`).
    List {
        /// A string prefix, not a directory; empty for all.
        prefix: Key,
        /// How.
        read: ReadOptions,
    },
    /// The keys alone (`?keys`).
    Keys {
        /// A string prefix, not a directory; empty for all.
        prefix: Key,
        /// `?separator=`: what follows its first occurrence behind the prefix is folded into one entry
        /// that ends with it. Empty for no folding.
        separator: Bytes,
        /// How.
        read: ReadOptions,
    },
    /// Writes one key.
    Put {
        /// Which.
        key: Key,
        /// At most [`crate::config::Limits::value_bytes`].
        value: Bytes,
        /// `?flags=`; 0 unless given on this very put.
        flags: u64,
        /// `?cas=`, `?acquire=`, `?release=`, or none of them.
        mode: PutMode,
    },
    /// Removes one key.
    Delete {
        /// Which.
        key: Key,
        /// `?cas=`: only if this is its modify index. A missing key counts as deleted.
        cas: Option<Index>,
    },
    /// Removes all keys with a prefix (`DELETE ?recurse`).
    DeleteTree {
        /// A string prefix, not a directory; empty for all.
        prefix: Key,
    },
}

/// Under which condition a put takes place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PutMode {
    /// Always.
    Set,
    /// `?cas=`: if the key's modify index is this one; 0 means "if there is no such key".
    Cas(Index),
    /// `?acquire=`: if nobody else holds the lock and the session exists. The text as the client gave it.
    Acquire(String),
    /// `?release=`: if this session holds the lock. The text as the client gave it.
    Release(String),
}
