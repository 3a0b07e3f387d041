//! `/v1/agent/*`: the agent that is asked. Whatever datacenter the parameters name, it is this one.

pub(crate) mod check;
pub(crate) mod itself;
pub(crate) mod members;
pub(crate) mod process;
pub(crate) mod service;

use lictor_core::api::agent::Request;
use warp::http::Method;

use crate::ask::{Ask, Asked, Form, Shape, text};
use crate::reply::Refusal;

/// What a path of this subject names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint<'p> {
    Itself,
    Members,
    Join(&'p [u8]),
    ForceLeave(&'p [u8]),
    Leave,
    Reload,
    Monitor,
    Maintenance,
    Services,
    Service(service::Endpoint<'p>),
    Checks,
    Check(check::Endpoint<'p>),
}

/// What a request asks for. What changes nothing, and some of the rest, takes every method: here older and newer clients
/// do not agree.
pub(crate) fn ask<'f>(endpoint: Endpoint<'_>, form: Form<'f>) -> Result<Asked<'f>, Refusal> {
    let params = form.params;
    // Any text will do, but there must be one.
    let wan = params.text("wan").is_some();
    let (request, shape) = match endpoint {
        Endpoint::Itself => (Request::Itself, Shape::Json),
        Endpoint::Members => (Request::Members { wan }, Shape::Json),
        Endpoint::Services => (Request::Services, Shape::Json),
        Endpoint::Checks => (Request::Checks, Shape::Json),
        Endpoint::Join(address) => (Request::Join { addresses: vec![text(address)], wan }, Shape::Empty),
        Endpoint::ForceLeave(node) => {
            (Request::ForceLeave { node: text(node), prune: params.has("prune") }, Shape::Empty)
        }
        Endpoint::Leave => {
            form.only(&Method::PUT, "PUT")?;
            (Request::Leave, Shape::Empty)
        }
        Endpoint::Maintenance => {
            form.only(&Method::PUT, "PUT")?;
            let (enable, reason) = maintenance(form)?;
            (Request::NodeMaintenance { enable, reason }, Shape::Empty)
        }
        Endpoint::Reload => {
            form.only(&Method::PUT, "PUT")?;
            return Ok(Asked::Reload);
        }
        Endpoint::Monitor => {
            form.only(&Method::GET, "GET")?;
            return process::level(params).map(Asked::Monitor);
        }
        Endpoint::Service(endpoint) => return service::ask(endpoint, form),
        Endpoint::Check(endpoint) => return check::ask(endpoint, form),
    };
    Ok(Ask::here(request, shape).into())
}

/// `?enable`, which must be there, and `?reason`.
fn maintenance(form: Form<'_>) -> Result<(bool, String), Refusal> {
    let Some(enable) = form.params.first("enable").map(text) else {
        return Err(Refusal::bad_request("Missing value for enable"));
    };
    let enable = match &*enable {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        other => return Err(Refusal::bad_request(format!("Invalid value for enable: {other:?}"))),
    };
    Ok((enable, form.params.text("reason").unwrap_or_default().into_owned()))
}
