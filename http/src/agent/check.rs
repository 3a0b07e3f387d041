//! Checks that are registered with the agent.

use lictor_core::api::agent::{CheckDefinition, Request};
use lictor_core::api::catalog::Check;
use lictor_core::api::health::{CRITICAL, PASSING, WARNING};
use serde::{Serialize, Serializer};
use warp::http::Method;

use crate::ask::{Ask, Asked, Form, Shape, decoded, parsed, text};
use crate::definition;
use crate::reply::Refusal;
use crate::shown::ShownCheck;

/// What a path below `/v1/agent/check/` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint<'p> {
    Register,
    Deregister(&'p [u8]),
    Pass(&'p [u8]),
    Warn(&'p [u8]),
    Fail(&'p [u8]),
    Update(&'p [u8]),
}

/// What a request asks for.
pub(crate) fn ask<'f>(endpoint: Endpoint<'_>, form: Form<'f>) -> Result<Asked<'f>, Refusal> {
    let told = |id, status: &str| Request::UpdateCheck {
        id: text(id),
        status: status.to_owned(),
        output: form.params.text("note").unwrap_or_default().into_owned(),
    };
    let request = match endpoint {
        Endpoint::Register => {
            return Ok(Asked::body(move |body| {
                let definition = parsed(body, definition::check)?;
                let token = form.token.map_or(definition.token, str::to_owned);
                let definition = CheckDefinition { token, ..definition };
                Ok(Ask::here(Request::RegisterCheck(Box::new(definition)), Shape::Empty))
            }));
        }
        Endpoint::Deregister(id) => Request::DeregisterCheck { id: text(id) },
        Endpoint::Pass(id) => told(id, PASSING),
        Endpoint::Warn(id) => told(id, WARNING),
        Endpoint::Fail(id) => told(id, CRITICAL),
        Endpoint::Update(id) => {
            form.only(&Method::PUT, "PUT")?;
            let id = text(id);
            return Ok(Asked::body(move |body| {
                let (status, output) = decoded(body, |fields| (fields.text("Status"), fields.text("Output")))?;
                Ok(Ask::here(Request::UpdateCheck { id, status, output }, Shape::Empty))
            }));
        }
    };
    Ok(Ask::here(request, Shape::Empty).into())
}

/// The checks by their IDs, as JSON.
pub(crate) struct ShownLocalChecks<'c>(pub(crate) &'c [Check]);

impl Serialize for ShownLocalChecks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|check| (&check.id, ShownCheck::from(check))))
    }
}
