//! Nodes, their services and the checks of both, as the whole datacenter knows them (`http-api.txt`, "Catalog"), and how
//! they come and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ReadOptions;
use crate::id::Index;

/// Names and values that users give to nodes and services.
pub type Meta = BTreeMap<String, String>;

/// A machine, by the name under which its agent, or whoever else, registered it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Unique in the datacenter.
    pub name: String,
    /// The stable ID of its agent; empty if whoever registered it gave none.
    pub id: String,
    /// Whatever was registered; agents register their IP address.
    pub address: String,
    /// Other addresses by their kind (`lan`, `wan`); `None` is shown as `null`.
    pub tagged_addresses: Option<Meta>,
    /// What users said of it.
    pub meta: Meta,
    /// When it came into being.
    pub create_index: Index,
    /// When it was last changed; a new service of its own counts.
    pub modify_index: Index,
}

/// An instance of a service, on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// The node's name.
    pub node: String,
    /// Unique on its node.
    pub id: String,
    /// The service that it is an instance of.
    pub name: String,
    /// `None` is shown as `null`, or as `[]`, depending on where.
    pub tags: Option<Vec<String>>,
    /// Empty: as the node's.
    pub address: String,
    /// Any number: nobody checks it.
    pub port: i64,
    /// Whether others may change its tags for good: see `agent-http.txt`.
    pub enable_tag_override: bool,
    /// What users said of it.
    pub meta: Meta,
    /// When it came into being.
    pub create_index: Index,
    /// When it was last changed.
    pub modify_index: Index,
}

/// What is known of the health of a node, or of one of its services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The node's name.
    pub node: String,
    /// Unique on its node.
    pub id: String,
    /// For people.
    pub name: String,
    /// [`PASSING`](crate::api::health::PASSING) and the like; any text, as nobody checks it.
    pub status: String,
    /// For people.
    pub notes: String,
    /// What the check said when it was last run.
    pub output: String,
    /// The service that it is of; empty if it is of the whole node.
    pub service_id: String,
    /// The name of that service.
    pub service_name: String,
    /// When it came into being.
    pub create_index: Index,
    /// When it was last changed.
    pub modify_index: Index,
}

/// What is to be entered: a node and, with it, a service and checks of it. Whatever is there already and differs is changed;
/// all other services and checks stay. Indexes in it are not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The node. Its name and address are needed.
    pub node: Node,
    /// A service of this node; its `node` is not looked at, and an empty ID stands for its name.
    pub service: Option<Service>,
    /// Checks. An empty `node` stands for the registration's, an empty ID for the name, an empty status for "critical".
    pub checks: Vec<Check>,
}

/// What is to be struck out: the service if one is named, else the check if one is named, else the node with all it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deregistration {
    /// The node's name. Needed.
    pub node: String,
    /// A service of this node, with its checks; empty for none.
    pub service_id: String,
    /// A check of this node; empty for none.
    pub check_id: String,
}

/// In place of a node's name in [`Filter::near`]: the agent that is asked.
pub const THIS_AGENT: &str = "_agent";

/// What a list is narrowed down to, and how it is ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// `?near=`: the nearest to this node first, as far as coordinates tell; or to [`THIS_AGENT`].
    pub near: Option<String>,
    /// `?node-meta=key:value`: nodes that have all of these.
    pub node_meta: Meta,
}

/// An operation on the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Enters something.
    Register(Box<Registration>),
    /// Strikes something out.
    Deregister(Deregistration),
    /// The names of all datacenters that the agent knows, the nearest first.
    Datacenters,
    /// All nodes.
    Nodes {
        /// Which of them.
        filter: Filter,
        /// How.
        read: ReadOptions,
    },
    /// The names of all services, each with all tags of its instances.
    Services {
        /// Only those on nodes that have all of these.
        node_meta: Meta,
        /// How.
        read: ReadOptions,
    },
    /// The instances of a service, with their nodes.
    Service {
        /// Its name.
        name: String,
        /// `?tag=`: only those with this tag, in whatever case.
        tag: Option<String>,
        /// Which of them.
        filter: Filter,
        /// How.
        read: ReadOptions,
    },
    /// A node with its services.
    Node {
        /// Its name.
        name: String,
        /// How.
        read: ReadOptions,
    },
}

/// An instance of a service with its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The node.
    pub node: Arc<Node>,
    /// The instance.
    pub service: Arc<Service>,
}

/// A node with its services, by their IDs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeServices {
    /// The node.
    pub node: Arc<Node>,
    /// Its services, in the order of their IDs.
    pub services: Vec<Arc<Service>>,
}
