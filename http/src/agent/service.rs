//! Services that are registered with the agent.

use lictor_core::api::agent::{Request, ServiceDefinition};
use lictor_core::api::catalog::Service;
use serde::{Serialize, Serializer};
use warp::http::Method;

use super::maintenance;
use crate::ask::{Ask, Asked, Form, Shape, needed, parsed, text};
use crate::definition;
use crate::reply::Refusal;
use crate::shown::ShownService;

/// What a path below `/v1/agent/service/` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint<'p> {
    Register,
    Deregister(&'p [u8]),
    Maintenance(&'p [u8]),
}

/// What a request asks for.
pub(crate) fn ask<'f>(endpoint: Endpoint<'_>, form: Form<'f>) -> Result<Asked<'f>, Refusal> {
    let request = match endpoint {
        Endpoint::Register => {
            return Ok(Asked::body(move |body| {
                let definition = parsed(body, definition::service)?;
                let token = form.token.map_or(definition.token, str::to_owned);
                let definition = ServiceDefinition { token, ..definition };
                Ok(Ask::here(Request::RegisterService(Box::new(definition)), Shape::Empty))
            }));
        }
        Endpoint::Deregister(id) => Request::DeregisterService { id: text(id) },
        Endpoint::Maintenance(id) => {
            form.only(&Method::PUT, "PUT")?;
            let id = needed(id, "Missing service ID")?;
            let (enable, reason) = maintenance(form)?;
            Request::ServiceMaintenance { id, enable, reason }
        }
    };
    Ok(Ask::here(request, Shape::Empty).into())
}

/// The services by their IDs, as JSON.
pub(crate) struct ShownServices<'s>(pub(crate) &'s [Service]);

impl Serialize for ShownServices<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|service| (&service.id, ShownService::from(service))))
    }
}
