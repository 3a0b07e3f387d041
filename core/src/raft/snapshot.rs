//! Snapshots, as far as consensus is concerned: which part of the log one stands for, and how it travels.

use serde::{Deserialize, Serialize};

use super::configuration::Configuration;
use super::log::Position;
use crate::id::Index;

/// What raft must know of a snapshot (thesis 5.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// The last entry that it stands for. The log goes on behind it.
    pub position: Position,
    /// The members as of that entry. The log that named them may be gone.
    pub configuration: Configuration,
    /// The entry that named them.
    pub configuration_index: Index,
}
