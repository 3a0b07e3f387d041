//! What each request needs of the token it comes with.

use crate::acl::{Access, Authority};
use crate::api::{
    Request, acl, agent, catalog, coordinate, event, exec, health, kv, operator, prepared, session, snapshot, status,
    txn,
};
use crate::store::Store;
use crate::store::prepared::parse;

/// What a request needs of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need<'a> {
    /// Nothing: the token is not even looked at.
    Nothing,
    /// That it exists. What it may not see is left out of the answer; what it may not do of several things is told of each.
    Token,
    /// To write this key.
    WriteKey(&'a [u8]),
    /// To write every key that begins with this.
    WriteKeysBelow(&'a [u8]),
    /// To register this service.
    WriteService(&'a str),
    /// To fire events of this name.
    FireEvent(&'a str),
    /// To write a prepared query: under the name that it is to have, if rules apply to that, and the one with this ID as it is now.
    WriteQuery {
        /// The name that it is to have.
        name: Option<&'a str>,
        /// The ID of one that there is already.
        id: Option<&'a str>,
    },
    /// To see the cluster itself.
    ReadOperator,
    /// To change the cluster itself.
    WriteOperator,
    /// To manage tokens, if this one exists: that it does not is told to anybody.
    CopyToken(&'a str),
    /// To manage tokens, which is to be allowed everything.
    Manage,
}

impl<'a> Need<'a> {
    /// The one place that says what each request needs. A new request does not compile without an answer.
    pub(crate) fn of(request: &'a Request) -> Self {
        match request {
            Request::Kv(request) => of_kv(request),
            Request::Operator(request) => of_operator(request),
            Request::Catalog(request) => of_catalog(request),
            Request::Prepared(request) => of_prepared(request),
            Request::Acl(request) => of_acl(request),
            // It says which of its operations are not allowed.
            Request::Txn(txn::Request { .. }) => Self::Token,
            Request::Status(status::Request::Leader | status::Request::Peers) => Self::Nothing,
            // Rules for agents, nodes and sessions came later (`acl_enforce_version_8`). What is registered with an agent is
            // judged when the agent tells the catalog of it.
            Request::Agent(
                agent::Request::Itself
                | agent::Request::Members { .. }
                | agent::Request::Join { .. }
                | agent::Request::ForceLeave { .. }
                | agent::Request::Leave
                | agent::Request::Services
                | agent::Request::Checks
                | agent::Request::RegisterService(_)
                | agent::Request::DeregisterService { .. }
                | agent::Request::RegisterCheck(_)
                | agent::Request::DeregisterCheck { .. }
                | agent::Request::UpdateCheck { .. }
                | agent::Request::ServiceMaintenance { .. }
                | agent::Request::NodeMaintenance { .. }
                | agent::Request::Redefine(_),
            ) => Self::Nothing,
            Request::Snapshot(snapshot::Request::Save { .. } | snapshot::Request::Restore { .. }) => Self::Manage,
            Request::Health(
                health::Request::Node { .. }
                | health::Request::Checks { .. }
                | health::Request::Service { .. }
                | health::Request::State { .. },
            ) => Self::Token,
            Request::Event(event::Request::Fire(event)) => Self::FireEvent(&event.name),
            // What an agent has heard it tells anybody.
            Request::Event(event::Request::List { .. }) => Self::Nothing,
            // What is collected is what a job's writer has directed here, and it is shown to nobody but the token that has it
            // collected: see `exec/collector.rs`.
            Request::Exec(exec::Request::Open { .. } | exec::Request::Collect { .. } | exec::Request::Close { .. }) => {
                Self::Nothing
            }
            Request::Coordinate(coordinate::Request::Datacenters) => Self::Nothing,
            Request::Coordinate(coordinate::Request::Nodes { .. } | coordinate::Request::Update(_)) => Self::Token,
            Request::Session(
                session::Request::Create(_)
                | session::Request::Destroy { .. }
                | session::Request::Renew { .. }
                | session::Request::Info { .. }
                | session::Request::Node { .. }
                | session::Request::List { .. },
            ) => Self::Token,
        }
    }

    /// Whether this will do.
    pub(super) fn is_met(&self, authority: &Authority, store: &Store) -> bool {
        match *self {
            Self::Nothing | Self::Token => true,
            Self::WriteKey(key) => authority.may_write_key(key),
            Self::WriteKeysBelow(prefix) => authority.may_write_keys_below(prefix),
            Self::WriteService(name) => authority.may_write_service(name),
            Self::FireEvent(name) => authority.may_write_event(name),
            Self::WriteQuery { name, id } => {
                let known = id.and_then(parse).and_then(|id| store.prepared_query(id));
                let names = name.into_iter().chain(known.and_then(|query| governed_by(query)));
                names.into_iter().all(|name| authority.may_write_query(name))
            }
            Self::ReadOperator => authority.over_operator() >= Access::Read,
            Self::WriteOperator => authority.over_operator() >= Access::Write,
            Self::CopyToken(_) | Self::Manage => authority.may_manage(),
        }
    }
}

/// The name by which rules decide about a query; `None` if none does, as it can only be named by its ID.
pub(super) fn governed_by(query: &prepared::Query) -> Option<&str> {
    (!query.name.is_empty() || query.is_template()).then_some(&*query.name)
}

fn of_kv(request: &kv::Request) -> Need<'_> {
    match request {
        kv::Request::Get { .. } | kv::Request::List { .. } | kv::Request::Keys { .. } => Need::Token,
        // A lock is taken and given back by writing the key.
        kv::Request::Put { key, .. } | kv::Request::Delete { key, .. } => Need::WriteKey(key),
        kv::Request::DeleteTree { prefix } => Need::WriteKeysBelow(prefix),
    }
}

fn of_operator(request: &operator::Request) -> Need<'_> {
    match request {
        operator::Request::RaftConfiguration { .. }
        | operator::Request::AutopilotConfiguration { .. }
        | operator::Request::AutopilotHealth => Need::ReadOperator,
        operator::Request::RemovePeer(_)
        | operator::Request::AddPeer { .. }
        | operator::Request::TransferLeader { .. }
        | operator::Request::SetAutopilotConfiguration { .. } => Need::WriteOperator,
    }
}

fn of_catalog(request: &catalog::Request) -> Need<'_> {
    match request {
        catalog::Request::Register(registration) => match &registration.service {
            // That it lacks what it needs is said first.
            Some(service) if !service.name.is_empty() => Need::WriteService(&service.name),
            Some(_) | None => Need::Token,
        },
        catalog::Request::Datacenters => Need::Nothing,
        catalog::Request::Deregister(_)
        | catalog::Request::Nodes { .. }
        | catalog::Request::Services { .. }
        | catalog::Request::Service { .. }
        | catalog::Request::Node { .. } => Need::Token,
    }
}

fn of_prepared(request: &prepared::Request) -> Need<'_> {
    match request {
        prepared::Request::Create(query) => Need::WriteQuery { name: governed_by(query), id: None },
        prepared::Request::Update { id, query } => Need::WriteQuery { name: governed_by(query), id: Some(id) },
        prepared::Request::Delete { id } => Need::WriteQuery { name: None, id: Some(id) },
        prepared::Request::Get { .. } | prepared::Request::List { .. } => Need::Token,
        // Which token counts is known once the query is found: see `ask_query`.
        prepared::Request::Execute { .. } | prepared::Request::Explain { .. } => Need::Nothing,
    }
}

fn of_acl(request: &acl::Request) -> Need<'_> {
    match request {
        // Whoever knows a token's secret may see what it allows.
        acl::Request::Info { .. } => Need::Nothing,
        acl::Request::Clone { id } => Need::CopyToken(id),
        acl::Request::Set(_) | acl::Request::Destroy { .. } | acl::Request::List { .. } => Need::Manage,
        // Whether it is allowed is the answer.
        acl::Request::Permit(_) => Need::Token,
    }
}
