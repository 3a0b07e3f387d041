//! What the agent answers, as status, headers and JSON: one `match` over all answers that there are.

use std::time::SystemTime;

use lictor_core::api::{ReadMeta, Reply, Response};
use warp::http::StatusCode;

use crate::acl::{ShownToken, ShownTokenId};
use crate::agent::check::ShownLocalChecks;
use crate::agent::service::ShownServices;
use crate::agent::{itself, members};
use crate::ask::Shape;
use crate::catalog::ShownNodeServices;
use crate::event::{self, ShownEvent};
use crate::exec::output::ShownInbox;
use crate::operator::{ShownAutopilot, ShownConfiguration, ShownHealth};
use crate::query::{ShownId, ShownQuery};
use crate::reply::{self, HttpResponse, Layout};
use crate::shown::ShownChecks;
use crate::{catalog, coordinate, exec, health, kv, query, session, status, txn};

/// How an answer is to be shown.
#[derive(Clone, Copy)]
pub(crate) struct View<'v> {
    pub(crate) shape: Shape,
    pub(crate) layout: Layout,
    /// The datacenter that was asked; empty if it is not known.
    pub(crate) datacenter: &'v str,
}

impl View<'_> {
    /// As JSON without more.
    pub(crate) fn json(layout: Layout) -> Self {
        Self { shape: Shape::Json, layout, datacenter: "" }
    }
}

/// The answer to a call.
pub(crate) fn respond(reply: Reply, view: View<'_>) -> HttpResponse {
    let View { shape, layout, datacenter } = view;
    let response = match (reply, shape) {
        (Ok(_), Shape::Empty) => return reply::empty(),
        (Ok(response), _) => response,
        (Err(error), Shape::Read) => return reply::failed_read(&error),
        (Err(error), _) => return reply::failed(&error),
    };
    match response {
        Response::Txn(outcome) => txn::outcome(&outcome, layout),
        Response::QueryCreated(id) => reply::json(&ShownId { id }, layout),
        Response::Queries(read) => {
            let shown: Vec<ShownQuery<'_>> = read.value.iter().map(|query| ShownQuery::from(&**query)).collect();
            reply::read(&read.meta, &shown, layout)
        }
        Response::Executed(read) => query::executed(&read, layout),
        Response::Explained(read) => query::explained(&read, layout),
        Response::TokenSet { id, index } if shape == Shape::Read => {
            let meta = ReadMeta { index, known_leader: true, ..ReadMeta::default() };
            reply::read(&meta, &ShownTokenId { id: &id }, layout)
        }
        Response::TokenSet { id, .. } => reply::json(&ShownTokenId { id: &id }, layout),
        Response::Tokens(read) => {
            let shown: Vec<ShownToken<'_>> = read.value.iter().map(|token| ShownToken::from(&**token)).collect();
            reply::read(&read.meta, &shown, layout)
        }
        Response::SessionCreated(id) => reply::json(&session::created(id), layout),
        Response::Renewed(renewed) => reply::json(&session::sessions(&[renewed]), layout),
        Response::Sessions(read) => reply::read(&read.meta, &session::sessions(&read.value), layout),
        Response::Done(done) => reply::json(&done, layout),
        Response::KvEntries(read) => kv::entries(&read, layout),
        Response::KvKeys(read) => kv::keys(&read, layout),
        Response::Leader(leader) => reply::json(&status::leader(leader), layout),
        Response::Peers(peers) => reply::json(&peers, layout),
        Response::Itself(itself) => reply::json(&itself::itself(&itself), layout),
        Response::Members(members) => reply::json(&members::members(&members), layout),
        Response::Joined(members) => reply::json(&members, layout),
        Response::LocalServices(services) => reply::json(&ShownServices(&services), layout),
        Response::LocalChecks(checks) => reply::json(&ShownLocalChecks(&checks), layout),
        Response::Datacenters(names) => reply::json(&names, layout),
        Response::Nodes(read) => reply::read(&read.meta, &catalog::nodes(&read.value, datacenter), layout),
        Response::ServiceNames(read) => reply::read(&read.meta, &read.value, layout),
        Response::Instances(read) => reply::read(&read.meta, &catalog::instances(&read.value, datacenter), layout),
        Response::NodeServices(read) => {
            let shown = read.value.as_ref().map(|services| ShownNodeServices::new(services, datacenter));
            reply::read(&read.meta, &shown, layout)
        }
        Response::Checks(read) => reply::read(&read.meta, &ShownChecks(&read.value), layout),
        Response::HealthOf(read) => reply::read(&read.meta, &health::instances(&read.value, datacenter), layout),
        Response::Fired(event) => reply::json(&ShownEvent::from(&event), layout),
        Response::Events(listed) => reply::indexed(listed.index, &event::list(&listed), layout),
        Response::Places(datacenters) => reply::json(&coordinate::datacenters(&datacenters), layout),
        Response::NodePlaces(read) => reply::read(&read.meta, &coordinate::places(&read.value), layout),
        Response::RaftConfiguration(configuration) => reply::json(&ShownConfiguration::from(&configuration), layout),
        Response::Autopilot(settings) => reply::json(&ShownAutopilot::from(&settings), layout),
        Response::Inbox(inbox) => reply::json(&ShownInbox::from(inbox), layout),
        Response::Collected(pieces) => reply::json(&exec::output::pieces(&pieces), layout),
        Response::Health(health) => {
            let mut response = reply::json(&ShownHealth::new(&health, SystemTime::now()), layout);
            if !health.healthy {
                *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            }
            response
        }
        // Images are streamed where they are asked for, and the other is for servers among themselves.
        Response::Snapshot(_) | Response::CaughtUpAt(_) => {
            reply::plain(StatusCode::INTERNAL_SERVER_ERROR, "the agent's answer cannot be shown")
        }
    }
}
