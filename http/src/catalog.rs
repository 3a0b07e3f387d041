//! `/v1/catalog/*`: nodes and services, as the whole datacenter knows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use lictor_core::api::catalog::{
    Check, Deregistration, Filter, Instance, Node, NodeServices, Registration, Request, Service,
};
use serde::{Serialize, Serializer};

use crate::ask::{Ask, Asked, Form, Shape, decoded, needed};
use crate::decode::Fields;
use crate::params::Params;
use crate::reply::Refusal;
use crate::shown::{ShownNode, ShownService, WEIGHTS, Weights};

/// What a path of this subject names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint<'p> {
    Register,
    Deregister,
    Datacenters,
    Nodes,
    Services,
    Service(&'p [u8]),
    Node(&'p [u8]),
}

/// What a request asks for. Every method will do.
pub(crate) fn ask<'f>(endpoint: Endpoint<'_>, form: Form<'f>) -> Result<Asked<'f>, Refusal> {
    let params = form.params;
    let request = match endpoint {
        Endpoint::Register => {
            return Ok(Asked::body(move |body| {
                let (datacenter, registration) =
                    decoded(body, |fields| (fields.text("Datacenter"), registration(fields)))?;
                Ok(write(Request::Register(Box::new(registration)), datacenter, params))
            }));
        }
        Endpoint::Deregister => {
            return Ok(Asked::body(move |body| {
                let (datacenter, deregistration) =
                    decoded(body, |fields| (fields.text("Datacenter"), deregistration(fields)))?;
                Ok(write(Request::Deregister(deregistration), datacenter, params))
            }));
        }
        Endpoint::Datacenters => return Ok(Ask::here(Request::Datacenters, Shape::Json).into()),
        Endpoint::Nodes => Request::Nodes { read: params.read_options()?, filter: filter(params) },
        Endpoint::Services => Request::Services { read: params.read_options()?, node_meta: filter(params).node_meta },
        Endpoint::Service(name) => Request::Service {
            read: params.read_options()?,
            name: needed(name, "Missing service name")?,
            tag: params.first("tag").map(crate::ask::text),
            filter: filter(params),
        },
        Endpoint::Node(name) => {
            Request::Node { read: params.read_options()?, name: needed(name, "Missing node name")? }
        }
    };
    Ok(Ask::new(request, Shape::Read, params).into())
}

/// A write goes to the datacenter that the body names, if it names one.
fn write(request: Request, datacenter: String, params: &Params<'_>) -> Ask {
    let named = Some(datacenter).filter(|name| !name.is_empty());
    let ask = Ask::new(request, Shape::Json, params);
    Ask { datacenter: named.or(ask.datacenter), ..ask }
}

/// `?near` and `?node-meta`.
pub(crate) fn filter(params: &Params<'_>) -> Filter {
    let pair = |text: &[u8]| {
        let text = crate::ask::text(text);
        let (name, value) = text.split_once(':').unwrap_or((&text, ""));
        (name.to_owned(), value.to_owned())
    };
    Filter {
        near: params.text("near").map(std::borrow::Cow::into_owned),
        node_meta: params.all("node-meta").map(pair).collect(),
    }
}

fn registration(fields: &Fields<'_>) -> Registration {
    Registration {
        node: Node {
            id: fields.text("ID"),
            name: fields.text("Node"),
            address: fields.text("Address"),
            tagged_addresses: fields.pairs("TaggedAddresses"),
            meta: fields.pairs("NodeMeta").unwrap_or_default(),
            ..Node::default()
        },
        service: fields.object("Service", service),
        checks: fields.objects("Checks", check).into_iter().chain(fields.object("Check", check)).collect(),
    }
}

fn service(fields: &Fields<'_>) -> Service {
    Service {
        id: fields.text("ID"),
        name: fields.text("Service"),
        tags: fields.texts("Tags"),
        address: fields.text("Address"),
        port: fields.number("Port"),
        enable_tag_override: fields.flag("EnableTagOverride"),
        meta: fields.pairs("Meta").unwrap_or_default(),
        ..Service::default()
    }
}

fn check(fields: &Fields<'_>) -> Check {
    Check {
        node: fields.text("Node"),
        id: fields.check_id("CheckID"),
        name: fields.text("Name"),
        status: fields.text("Status"),
        notes: fields.text("Notes"),
        output: fields.text("Output"),
        service_id: fields.text("ServiceID"),
        service_name: fields.text("ServiceName"),
        ..Check::default()
    }
}

fn deregistration(fields: &Fields<'_>) -> Deregistration {
    Deregistration {
        node: fields.text("Node"),
        service_id: fields.text("ServiceID"),
        check_id: fields.check_id("CheckID"),
    }
}

/// All nodes, as JSON.
pub(crate) fn nodes<'n>(nodes: &'n [Arc<Node>], datacenter: &'n str) -> Vec<ShownNode<'n>> {
    nodes.iter().map(|node| ShownNode::new(node, datacenter)).collect()
}

/// The instances of a service, as JSON.
pub(crate) fn instances<'i>(instances: &'i [Instance], datacenter: &'i str) -> Vec<ShownInstance<'i>> {
    instances.iter().map(|instance| ShownInstance::new(instance, datacenter)).collect()
}

/// An instance with its node, side by side; the indexes are the instance's.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownInstance<'i> {
    #[serde(rename = "ID")]
    id: &'i str,
    node: &'i str,
    address: &'i str,
    #[serde(skip_serializing_if = "str::is_empty")]
    datacenter: &'i str,
    tagged_addresses: Option<&'i BTreeMap<String, String>>,
    node_meta: &'i BTreeMap<String, String>,
    #[serde(rename = "ServiceID")]
    service_id: &'i str,
    service_name: &'i str,
    service_tags: &'i [String],
    service_address: &'i str,
    service_port: i64,
    service_weights: Weights,
    service_meta: &'i BTreeMap<String, String>,
    service_enable_tag_override: bool,
    create_index: u64,
    modify_index: u64,
}

impl<'i> ShownInstance<'i> {
    fn new(instance: &'i Instance, datacenter: &'i str) -> Self {
        let Instance { node, service } = instance;
        Self {
            id: &node.id,
            node: &node.name,
            address: &node.address,
            datacenter,
            tagged_addresses: node.tagged_addresses.as_ref(),
            node_meta: &node.meta,
            service_id: &service.id,
            service_name: &service.name,
            service_tags: service.tags.as_deref().unwrap_or_default(),
            service_address: &service.address,
            service_port: service.port,
            service_weights: WEIGHTS,
            service_meta: &service.meta,
            service_enable_tag_override: service.enable_tag_override,
            create_index: service.create_index.0,
            modify_index: service.modify_index.0,
        }
    }
}

/// A node with its services, as JSON.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownNodeServices<'n> {
    node: ShownNode<'n>,
    #[serde(serialize_with = "by_id")]
    services: &'n [Arc<Service>],
}

impl<'n> ShownNodeServices<'n> {
    pub(crate) fn new(shown: &'n NodeServices, datacenter: &'n str) -> Self {
        Self { node: ShownNode::new(&shown.node, datacenter), services: &shown.services }
    }
}

fn by_id<S: Serializer>(services: &[Arc<Service>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(services.iter().map(|service| (&service.id, ShownService::from(&**service))))
}
