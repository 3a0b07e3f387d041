//! What checks say (`http-api.txt`, "Health").

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ReadOptions;
use super::catalog::{Check, Filter, Node, Service};

/// All is well.
pub const PASSING: &str = "passing";
/// Something is odd.
pub const WARNING: &str = "warning";
/// It does not work.
pub const CRITICAL: &str = "critical";
/// Nobody knows.
pub const UNKNOWN: &str = "unknown";

/// In place of a state: all of them.
pub const ANY: &str = "any";

/// The check that tells whether gossip finds a node's agent alive; nobody registers it but the leader.
pub const SERF_CHECK_ID: &str = "serfHealth";
/// Its name.
pub const SERF_CHECK_NAME: &str = "Serf Health Status";
/// Its output as long as the agent answers.
pub const SERF_ALIVE: &str = "Agent alive and reachable";
/// Its output once the agent has failed.
pub const SERF_FAILED: &str = "Agent not live or unreachable";

/// The service that every server is an instance of.
pub const SERVER_SERVICE: &str = "consul";

/// A question about health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// All checks of a node.
    Node {
        /// Its name.
        name: String,
        /// How.
        read: ReadOptions,
    },
    /// All checks of the instances of a service.
    Checks {
        /// Its name.
        service: String,
        /// Which of them.
        filter: Filter,
        /// How.
        read: ReadOptions,
    },
    /// The instances of a service, with their nodes and with the checks of both.
    Service {
        /// Its name.
        name: String,
        /// `?tag=`: only those with this tag, in whatever case.
        tag: Option<String>,
        /// `?passing`: only those all of whose checks, and their node's, pass.
        passing: bool,
        /// Which of them.
        filter: Filter,
        /// How.
        read: ReadOptions,
    },
    /// All checks in a state, or in [`ANY`].
    State {
        /// The state.
        state: String,
        /// Which of them.
        filter: Filter,
        /// How.
        read: ReadOptions,
    },
}

/// An instance of a service with all that bears on its health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The node.
    pub node: Arc<Node>,
    /// The instance.
    pub service: Arc<Service>,
    /// The node's checks and the instance's own, by their IDs.
    pub checks: Vec<Arc<Check>>,
}
