//! `/v1/event/*`: user events.

use lictor_core::api::event::{Event, Listed, Request};
use serde::Serialize;
use uuid::Uuid;
use warp::http::Method;

use crate::ask::{Ask, Asked, Form, Shape, needed};
use crate::json::Base64;
use crate::params::Params;
use crate::reply::Refusal;

/// What a path of this subject names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint<'p> {
    Fire(&'p [u8]),
    List,
}

/// The version of the form of events.
const VERSION: u32 = 1;

/// What a request asks for.
pub(crate) fn ask<'f>(endpoint: Endpoint<'_>, form: Form<'f>) -> Result<Asked<'f>, Refusal> {
    let params = form.params;
    match endpoint {
        Endpoint::Fire(name) => {
            form.only(&Method::PUT, "PUT")?;
            let event = Event {
                name: needed(name, "Missing name")?,
                node_filter: filter(params, "node"),
                service_filter: filter(params, "service"),
                tag_filter: filter(params, "tag"),
                ..Event::default()
            };
            Ok(Asked::body(move |body| {
                let event = Event { payload: body.clone(), ..event };
                Ok(Ask::new(Request::Fire(event), Shape::Json, params))
            }))
        }
        Endpoint::List => {
            let (wait, index) = params.waiting()?;
            let request = Request::List {
                name: filter(params, "name"),
                node_filter: filter(params, "node"),
                service_filter: filter(params, "service"),
                tag_filter: filter(params, "tag"),
                index: index.0,
                wait,
            };
            Ok(Ask::here(request, Shape::Json).into())
        }
    }
}

fn filter(params: &Params<'_>, name: &str) -> String {
    params.text(name).unwrap_or_default().into_owned()
}

/// An event, as JSON.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownEvent<'e> {
    #[serde(rename = "ID")]
    id: Uuid,
    name: &'e str,
    payload: Option<Base64<'e>>,
    node_filter: &'e str,
    service_filter: &'e str,
    tag_filter: &'e str,
    version: u32,
    #[serde(rename = "LTime")]
    time: u64,
}

impl<'e> From<&'e Event> for ShownEvent<'e> {
    fn from(event: &'e Event) -> Self {
        Self {
            id: event.id,
            name: &event.name,
            payload: (!event.payload.is_empty()).then_some(Base64(&event.payload)),
            node_filter: &event.node_filter,
            service_filter: &event.service_filter,
            tag_filter: &event.tag_filter,
            version: VERSION,
            time: event.time.0,
        }
    }
}

/// The last events, as JSON.
pub(crate) fn list(listed: &Listed) -> Vec<ShownEvent<'_>> {
    listed.events.iter().map(ShownEvent::from).collect()
}
