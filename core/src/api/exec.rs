//! What commands on many nodes write, collected on the agent that is asked to: for whoever has them run.
//!
//! Who may see it is who may read the job's keys: each request names the prefix that these begin with.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{PeerId, SessionId};
use crate::time::Duration;

/// An operation on what a job's commands write, of the agent that is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Has the output of a job collected here, as far as agents send it. Once more does no harm.
    Open {
        /// What the job's keys begin with.
        prefix: String,
        /// The session that they are locked with.
        session: SessionId,
    },
    /// What has come and is not known yet; blocks as long as there is nothing.
    Collect {
        /// As above.
        prefix: String,
        /// As above.
        session: SessionId,
        /// By the name of a node: how far that is. Nodes of which nothing has come are left out.
        progress: BTreeMap<String, Progress>,
        /// For how long it may block; as long as a blocking query may, if absent.
        wait: Option<Duration>,
    },
    /// Nothing of a job is collected any more.
    Close {
        /// As above.
        prefix: String,
        /// As above.
        session: SessionId,
    },
}

impl Request {
    /// What the keys of the job begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        match self {
            Self::Open { prefix, .. } | Self::Collect { prefix, .. } | Self::Close { prefix, .. } => prefix,
        }
    }

    /// The session of the job.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        match self {
            Self::Open { session, .. } | Self::Collect { session, .. } | Self::Close { session, .. } => *session,
        }
    }
}

/// How much of what a node sends is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// All pieces before this one have been dealt with. Only then the command may write more.
    pub taken: u32,
    /// All pieces before this one have been received, and are not wanted again.
    pub have: u32,
}

/// Where the output of a job is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbox {
    /// Its own ID, which only those know who may read the job.
    pub id: Uuid,
    /// The agent.
    pub peer: PeerId,
    /// Where other agents reach it.
    pub address: SocketAddr,
}

/// A piece of what a command wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// The name of the node that it runs on.
    pub node: String,
    /// The piece's number among all pieces of this command, those in the store included.
    pub number: u32,
    /// What it wrote; nothing if it is only still there.
    pub output: Bytes,
}
