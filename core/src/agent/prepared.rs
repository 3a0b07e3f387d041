//! Prepared queries: before they enter the log, and asked.

use super::Agent;
use super::sessions::Judge;
use crate::acl::Authority;
use crate::api::prepared::{Query, Request};
use crate::api::{Error, Read, ReadMeta, Reply, Request as AnyRequest, Response};
use crate::authorize;
use crate::id::{Index, Ticket};
use crate::prepared::{self, Asking};
use crate::store::Command;
use crate::store::prepared::{Command as Change, no_query, parse};

/// What is said of an ID that is none.
const MALFORMED: &str = "failed prepared query lookup: index error: UUID must be 36 characters";

/// Refuses the ID of a query that is none, wherever the request would run.
pub(super) fn check_query(request: &Request) -> Result<(), Error> {
    let (id, before) = match request {
        Request::Get { id, .. } => (id, ""),
        Request::Update { id, .. } | Request::Delete { id } => (id, "Prepared Query lookup failed: "),
        Request::Create(_) | Request::List { .. } | Request::Execute { .. } | Request::Explain { .. } => return Ok(()),
    };
    parse(id).map(drop).ok_or_else(|| Error::BadQuery(format!("{before}{MALFORMED}")))
}

impl Judge<'_> {
    /// The command for a write of prepared queries.
    pub(super) fn prepared(&self, request: &Request) -> Result<Command, Error> {
        check_query(request)?;
        let query = |id, query: &Query| Box::new(Query { id, ..query.clone() });
        let change = match request {
            Request::Create(wanted) => {
                prepared::check(wanted)?;
                Change::Create(query(self.fresh, wanted))
            }
            Request::Update { id, query: wanted } => {
                let id = parse(id).unwrap_or_default();
                // What does not exist is said first.
                let exists = || self.store.prepared_query(id).is_some();
                prepared::check(wanted).map_err(|wrong| if exists() { wrong } else { no_query(id) })?;
                Change::Update(query(id, wanted))
            }
            Request::Delete { id } => Change::Delete(parse(id).unwrap_or_default()),
            other => unreachable!("{other:?} is no write"),
        };
        Ok(Command::Prepared(change))
    }
}

impl Agent {
    /// Asks a prepared query, or says what would be asked. It is certain that we know all that is committed, as far as the
    /// caller wants that.
    pub(super) fn ask_query(&mut self, ticket: Ticket) {
        let Some(open) = self.calls.get(ticket) else { return };
        let judged = match &open.call.request {
            AnyRequest::Prepared(Request::Execute { name, .. }) if self.config.acl.is_on() => {
                self.authority_of_query(name, &open.call)
            }
            AnyRequest::Prepared(Request::Explain { .. }) => self.authority_of(open.call.token.as_deref()),
            _ => Ok(Authority::everything()),
        };
        let meta = ReadMeta {
            index: self.store.prepared_changed().max(self.store.restored_at()).max(Index(1)),
            known_leader: self.raft.leader().is_some(),
            last_contact: self.now.since(self.raft.last_contact()),
        };
        let reply: Reply = match &open.call.request {
            AnyRequest::Prepared(Request::Execute { name, limit, near, agent, .. }) => {
                let asking = Asking {
                    name,
                    limit: *limit,
                    near: near.as_deref(),
                    agent,
                    datacenter: &self.config.datacenter,
                    // No agent knows another datacenter than its own.
                    others: &[],
                };
                judged.and_then(|authority| {
                    let mut value = prepared::execute(&self.store, asking, &mut self.rng)?;
                    if !authority.may_read_service(&value.service) {
                        value.instances.clear();
                    }
                    Ok(Response::Executed(Read { meta, value }))
                })
            }
            AnyRequest::Prepared(Request::Explain { name, .. }) => {
                // That there is none is said first.
                prepared::explain(&self.store, name).and_then(|query| {
                    let value = authorize::show_query(&judged?, query)?;
                    Ok(Response::Explained(Read { meta, value }))
                })
            }
            other => unreachable!("{other:?} asks no prepared query"),
        };
        self.reply(ticket, reply);
    }
}
