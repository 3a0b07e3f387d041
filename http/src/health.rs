//! `/v1/health/*`: what checks say.

use lictor_core::api::health::{Instance, Request};
use serde::Serialize;

use crate::ask::{Ask, Asked, Form, Shape, needed, text};
use crate::catalog::filter;
use crate::reply::Refusal;
use crate::shown::{ShownChecks, ShownNode, ShownService};

/// What a path of this subject names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint<'p> {
    Node(&'p [u8]),
    Checks(&'p [u8]),
    Service(&'p [u8]),
    State(&'p [u8]),
}

/// What a request asks for. Every method will do.
pub(crate) fn ask<'f>(endpoint: Endpoint<'_>, form: Form<'f>) -> Result<Asked<'f>, Refusal> {
    let params = form.params;
    let read = params.read_options()?;
    let filter = filter(params);
    let request = match endpoint {
        Endpoint::Node(name) => Request::Node { name: needed(name, "Missing node name")?, read },
        Endpoint::Checks(name) => Request::Checks { service: needed(name, "Missing service name")?, filter, read },
        Endpoint::Service(name) => Request::Service {
            name: needed(name, "Missing service name")?,
            tag: params.first("tag").map(text),
            // Its being there counts, as with every mode of a read: `?passing=false` is passing.
            passing: params.has("passing"),
            filter,
            read,
        },
        Endpoint::State(state) => Request::State { state: needed(state, "Missing check state")?, filter, read },
    };
    Ok(Ask::new(request, Shape::Read, params).into())
}

/// The instances of a service, as JSON.
pub(crate) fn instances<'i>(instances: &'i [Instance], datacenter: &'i str) -> Vec<ShownInstance<'i>> {
    let shown = instances.iter().map(|instance| ShownInstance {
        node: ShownNode::new(&instance.node, datacenter),
        service: ShownService::from(&*instance.service),
        checks: ShownChecks(&instance.checks),
    });
    shown.collect()
}

/// An instance with its node and the checks of both.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownInstance<'i> {
    node: ShownNode<'i>,
    service: ShownService<'i>,
    checks: ShownChecks<'i>,
}
