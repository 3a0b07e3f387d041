//! Nodes, services and checks as JSON, wherever they appear: borrowed from what the agent answered, as there may be
//! thousands of them, and with their fields in the order that people know. Fields of later releases that say nothing here
//! are there, too, for clients that look for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use lictor_core::api::catalog::{Check, Node, Service};
use serde::{Serialize, Serializer};

/// What weighs how much in DNS answers.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Weights {
    passing: u32,
    warning: u32,
}

/// All weigh the same.
pub(crate) const WEIGHTS: Weights = Weights { passing: 1, warning: 1 };

/// A node.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownNode<'n> {
    #[serde(rename = "ID")]
    id: &'n str,
    node: &'n str,
    address: &'n str,
    #[serde(skip_serializing_if = "str::is_empty")]
    datacenter: &'n str,
    tagged_addresses: Option<&'n BTreeMap<String, String>>,
    meta: &'n BTreeMap<String, String>,
    create_index: u64,
    modify_index: u64,
}

impl<'n> ShownNode<'n> {
    /// A node of this datacenter; empty if it is not known.
    pub(crate) fn new(node: &'n Node, datacenter: &'n str) -> Self {
        Self {
            id: &node.id,
            node: &node.name,
            address: &node.address,
            datacenter,
            tagged_addresses: node.tagged_addresses.as_ref(),
            meta: &node.meta,
            create_index: node.create_index.0,
            modify_index: node.modify_index.0,
        }
    }
}

/// An instance of a service, without its node.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownService<'s> {
    #[serde(rename = "ID")]
    id: &'s str,
    service: &'s str,
    tags: Option<&'s [String]>,
    meta: &'s BTreeMap<String, String>,
    address: &'s str,
    port: i64,
    weights: Weights,
    enable_tag_override: bool,
    create_index: u64,
    modify_index: u64,
}

impl<'s> From<&'s Service> for ShownService<'s> {
    fn from(service: &'s Service) -> Self {
        Self {
            id: &service.id,
            service: &service.name,
            tags: service.tags.as_deref(),
            meta: &service.meta,
            address: &service.address,
            port: service.port,
            weights: WEIGHTS,
            enable_tag_override: service.enable_tag_override,
            create_index: service.create_index.0,
            modify_index: service.modify_index.0,
        }
    }
}

/// A check.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownCheck<'c> {
    node: &'c str,
    #[serde(rename = "CheckID")]
    id: &'c str,
    name: &'c str,
    status: &'c str,
    notes: &'c str,
    output: &'c str,
    #[serde(rename = "ServiceID")]
    service_id: &'c str,
    service_name: &'c str,
    create_index: u64,
    modify_index: u64,
}

impl<'c> From<&'c Check> for ShownCheck<'c> {
    fn from(check: &'c Check) -> Self {
        Self {
            node: &check.node,
            id: &check.id,
            name: &check.name,
            status: &check.status,
            notes: &check.notes,
            output: &check.output,
            service_id: &check.service_id,
            service_name: &check.service_name,
            create_index: check.create_index.0,
            modify_index: check.modify_index.0,
        }
    }
}

/// Checks in a list.
pub(crate) struct ShownChecks<'c>(pub(crate) &'c [Arc<Check>]);

impl Serialize for ShownChecks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|check| ShownCheck::from(&**check)))
    }
}
