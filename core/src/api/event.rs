//! User events (`http-api.txt`, "Event"): fired by anybody, told to every agent by gossip, at most once.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::LamportTime;
use crate::time::Duration;

/// An event, as it is shown, and as it travels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Drawn when it is fired.
    pub id: Uuid,
    /// Its name. Names that begin with `_` are set aside for the system's own use.
    pub name: String,
    /// What it carries; empty is shown as `null`.
    pub payload: Bytes,
    /// A regular expression for the names of the nodes that it is meant for; empty for all.
    pub node_filter: String,
    /// A regular expression for the names of services: meant for nodes that have one; empty for all.
    pub service_filter: String,
    /// A regular expression for a tag of such a service; empty for all.
    pub tag_filter: String,
    /// When it was fired: 0 in the answer to who fires it.
    pub time: LamportTime,
}

/// An operation on user events, of the agent that is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Fires an event. `id` and `time` in it are not looked at.
    Fire(Event),
    /// The last events that this agent has seen, the newest last.
    List {
        /// `?name=`: only those with this name; empty for all.
        name: String,
        /// `?node=`, `?service=`, `?tag=` as newer Consul: only those with these very filters; empty for all.
        node_filter: String,
        /// As above.
        service_filter: String,
        /// As above.
        tag_filter: String,
        /// `?index=`: blocks as long as the newest event of those is the one that this index stands for; 0 does not block.
        index: u64,
        /// `?wait=`: how long, within the limits of every blocking query.
        wait: Option<Duration>,
    },
}

/// The answer to [`Request::List`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Stands for the newest event of the list. It says nothing about order: to be given back, no more.
    pub index: u64,
    /// The newest last.
    pub events: Vec<Event>,
}

/// The index that stands for an event: the two halves of its ID, laid over each other. Never 0.
#[must_use]
pub fn index_of(id: Uuid) -> u64 {
    let (high, low) = id.as_u64_pair();
    (high ^ low).max(1)
}
