//! Prepared queries: questions for a service that are kept under a name, and asked by it (`/v1/query`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ReadOptions, health};
use crate::id::Index;

/// A prepared query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Drawn when it is created.
    pub id: Uuid,
    /// By which it can be asked too; empty for none. No two have the same, nor one that is another's ID.
    pub name: String,
    /// The session with which it ends, as it was given; empty for none.
    pub session: String,
    /// The token with which it is asked; empty for that of whoever asks.
    pub token: String,
    /// Whether it stands for many queries.
    pub template: Template,
    /// What is asked.
    pub service: Service,
    /// For answers to it by DNS: Go's notation; empty for the agent's setting.
    pub dns_ttl: String,
    /// When it was created.
    pub create_index: Index,
    /// When it was last changed.
    pub modify_index: Index,
}

impl Query {
    /// Whether it stands for many queries.
    #[must_use]
    pub fn is_template(&self) -> bool {
        !self.template.kind.is_empty()
    }
}

/// How a query stands for many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// Empty for a query that is no template, or `name_prefix_match`: it stands for all names that begin with its own, the
    /// longest such name first.
    pub kind: String,
    /// Finds the parts of the name that `${match(N)}` stands for; empty for none.
    pub regexp: String,
}

/// What a query asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// The service's name.
    pub service: String,
    /// Where else to look if nothing is found.
    pub failover: Failover,
    /// Whether instances with a warning are left out too; critical ones always are.
    pub only_passing: bool,
    /// The nearest to this node come first; `_agent` for the one that is asked; empty for no order.
    pub near: String,
    /// Tags that instances must have, or must not if a `!` stands before; `None` if none were given.
    pub tags: Option<Vec<String>>,
}

/// Where else to look if nothing is found in this datacenter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failover {
    /// In so many of the nearest datacenters.
    pub nearest_n: i64,
    /// Then in these; `None` if none were given.
    pub datacenters: Option<Vec<String>>,
}

/// An operation on prepared queries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Creates one. Its ID and indexes are not looked at.
    Create(Box<Query>),
    /// Puts another in its place.
    Update {
        /// The ID, as the client gave it.
        id: String,
        /// What it becomes. Its ID and indexes are not looked at.
        query: Box<Query>,
    },
    /// Deletes one.
    Delete {
        /// The ID, as the client gave it.
        id: String,
    },
    /// One of them.
    Get {
        /// The ID, as the client gave it.
        id: String,
        /// How.
        read: ReadOptions,
    },
    /// All of them.
    List {
        /// How.
        read: ReadOptions,
    },
    /// Asks one. It never blocks.
    Execute {
        /// Its ID or its name, or a name that a template stands for.
        name: String,
        /// `?limit=`: how many instances at most; 0 for all.
        limit: usize,
        /// `?near=`: as [`Service::near`], before it.
        near: Option<String>,
        /// The agent that the client asked: `_agent` stands for it. Filled in by that agent.
        agent: String,
        /// How.
        read: ReadOptions,
    },
    /// What would be asked. It never blocks.
    Explain {
        /// As for [`Request::Execute`].
        name: String,
        /// As for [`Request::Execute`].
        agent: String,
        /// How.
        read: ReadOptions,
    },
}

/// What asking a prepared query found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The service that was asked for.
    pub service: String,
    /// Its instances.
    pub instances: Vec<health::Instance>,
    /// See [`Query::dns_ttl`].
    pub dns_ttl: String,
    /// Where they were found.
    pub datacenter: String,
    /// How many other datacenters were asked.
    pub failovers: usize,
}

/// Queries shared with the store they were read from.
pub type Queries = Vec<Arc<Query>>;
