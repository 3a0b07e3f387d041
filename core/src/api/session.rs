//! Sessions: who may hold locks, and for how long (`http-api.txt`, "Session").
//!
//! A session lives on a node. It ends when it is destroyed, when it was not renewed for twice its TTL, when one of its checks
//! becomes critical or is taken back, or when its node is: then each key that it holds is released or deleted, and
//! nobody can take the lock on it for [`Session::lock_delay`].

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ReadOptions;
use crate::id::{Index, SessionId};
use crate::time::Duration;

/// The longest lock delay. A longer one becomes this.
pub const MAX_LOCK_DELAY: Duration = Duration::from_secs(60);

/// The lock delay of sessions that ask for none.
pub const DEFAULT_LOCK_DELAY: Duration = Duration::from_secs(15);

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Drawn when it is created.
    pub id: SessionId,
    /// For people; need not be unique.
    pub name: String,
    /// The node that it lives on.
    pub node: String,
    /// The IDs of the checks of that node without which it ends, as they were given.
    pub checks: Vec<String>,
    /// For how long a key that it held when it ended cannot be locked. At most [`MAX_LOCK_DELAY`].
    pub lock_delay: Duration,
    /// What becomes of the keys that it holds when it ends.
    pub behavior: Behavior,
    /// It ends if it is not renewed for twice as long; without one, it need not be renewed.
    pub ttl: Ttl,
    /// When it was created. It never changes afterwards.
    pub create_index: Index,
}

#[cfg(test)]
impl Session {
    /// One without anything special.
    pub(crate) fn plain() -> Self {
        Self {
            id: SessionId(uuid::Uuid::nil()),
            name: String::new(),
            node: "n".to_owned(),
            checks: Vec::new(),
            lock_delay: Duration::ZERO,
            behavior: Behavior::Release,
            ttl: Ttl::default(),
            create_index: Index(1),
        }
    }
}

/// What becomes of the keys that a session holds when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Behavior {
    /// They are there for whoever takes the lock next.
    #[default]
    Release,
    /// They are deleted: such keys are called ephemeral.
    Delete,
}

impl Behavior {
    /// The behaviour of this name; an empty one is the default.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "" | "release" => Some(Self::Release),
            "delete" => Some(Self::Delete),
            _ => None,
        }
    }
}

impl fmt::Display for Behavior {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Release => "release",
            Self::Delete => "delete",
        })
    }
}

/// A time to live, as the client wrote it and as it is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ttl {
    /// Go's notation; shown as it was given.
    pub text: String,
    /// Nanoseconds. 0 for none; what is out of bounds is refused.
    pub nanos: i64,
}

impl Ttl {
    /// How long it is; `None` if there is none.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        u64::try_from(self.nanos).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    }
}

/// What a client says of a session that it wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// For people.
    pub name: String,
    /// The node that it is to live on; the agent that is asked if absent.
    pub node: Option<String>,
    /// See [`Session::checks`]; [`SERF_CHECK_ID`](super::health::SERF_CHECK_ID) alone if absent.
    pub checks: Option<Vec<String>>,
    /// See [`Session::lock_delay`].
    pub lock_delay: Duration,
    /// The name of a [`Behavior`], or empty.
    pub behavior: String,
    /// See [`Session::ttl`].
    pub ttl: Ttl,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            name: String::new(),
            node: None,
            checks: None,
            lock_delay: DEFAULT_LOCK_DELAY,
            behavior: String::new(),
            ttl: Ttl::default(),
        }
    }
}

/// An operation on sessions. Their IDs are the text that the client gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Creates one.
    Create(Wanted),
    /// Ends one. That it does not exist is no error.
    Destroy {
        /// Which.
        id: String,
    },
    /// Lets one with a TTL live on. Writes nothing.
    Renew {
        /// Which.
        id: String,
    },
    /// One of them.
    Info {
        /// Which.
        id: String,
        /// How.
        read: ReadOptions,
    },
    /// Those of a node.
    Node {
        /// Its name.
        node: String,
        /// How.
        read: ReadOptions,
    },
    /// All of them.
    List {
        /// How.
        read: ReadOptions,
    },
}
