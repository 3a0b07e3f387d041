//! All paths on one page.

use crate::operator::Tool;
use crate::{acl, agent, catalog, coordinate, event, health, query, session};

/// An endpoint, with what its path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint<'p> {
    Root,
    Kv(&'p [u8]),
    StatusLeader,
    StatusPeers,
    Agent(agent::Endpoint<'p>),
    Catalog(catalog::Endpoint<'p>),
    Health(health::Endpoint<'p>),
    Event(event::Endpoint<'p>),
    Coordinate(coordinate::Endpoint),
    Session(session::Endpoint<'p>),
    Operator(Tool),
    Snapshot,
    Exec,
    /// What the job of a session writes.
    Output(&'p [u8]),
    Query(query::Endpoint<'p>),
    Txn,
    Acl(acl::Endpoint<'p>),
    AclReplication,
    /// A path that means another one, below `/v1/`.
    Elsewhere(&'static str),
    Unknown,
}

/// The paths below `/v1/` that name nothing.
const PLAIN: [(&str, Endpoint<'static>); 36] = [
    ("status/leader", Endpoint::StatusLeader),
    ("status/peers", Endpoint::StatusPeers),
    ("agent/self", Endpoint::Agent(agent::Endpoint::Itself)),
    ("agent/members", Endpoint::Agent(agent::Endpoint::Members)),
    ("agent/leave", Endpoint::Agent(agent::Endpoint::Leave)),
    ("agent/reload", Endpoint::Agent(agent::Endpoint::Reload)),
    ("agent/monitor", Endpoint::Agent(agent::Endpoint::Monitor)),
    ("agent/maintenance", Endpoint::Agent(agent::Endpoint::Maintenance)),
    ("agent/services", Endpoint::Agent(agent::Endpoint::Services)),
    ("agent/service/register", Endpoint::Agent(agent::Endpoint::Service(agent::service::Endpoint::Register))),
    ("agent/checks", Endpoint::Agent(agent::Endpoint::Checks)),
    ("agent/check/register", Endpoint::Agent(agent::Endpoint::Check(agent::check::Endpoint::Register))),
    ("catalog/register", Endpoint::Catalog(catalog::Endpoint::Register)),
    ("catalog/deregister", Endpoint::Catalog(catalog::Endpoint::Deregister)),
    ("catalog/datacenters", Endpoint::Catalog(catalog::Endpoint::Datacenters)),
    ("catalog/nodes", Endpoint::Catalog(catalog::Endpoint::Nodes)),
    ("catalog/services", Endpoint::Catalog(catalog::Endpoint::Services)),
    ("event/list", Endpoint::Event(event::Endpoint::List)),
    ("coordinate/datacenters", Endpoint::Coordinate(coordinate::Endpoint::Datacenters)),
    ("coordinate/nodes", Endpoint::Coordinate(coordinate::Endpoint::Nodes)),
    ("operator/raft/configuration", Endpoint::Operator(Tool::RaftConfiguration)),
    ("operator/raft/peer", Endpoint::Operator(Tool::RaftPeer)),
    ("operator/raft/transfer-leader", Endpoint::Operator(Tool::TransferLeader)),
    ("operator/autopilot/configuration", Endpoint::Operator(Tool::AutopilotConfiguration)),
    ("operator/autopilot/health", Endpoint::Operator(Tool::AutopilotHealth)),
    ("operator/keyring", Endpoint::Operator(Tool::Keyring)),
    ("session/create", Endpoint::Session(session::Endpoint::Create)),
    ("session/list", Endpoint::Session(session::Endpoint::List)),
    ("snapshot", Endpoint::Snapshot),
    ("exec", Endpoint::Exec),
    ("query", Endpoint::Query(query::Endpoint::All)),
    ("txn", Endpoint::Txn),
    ("acl/create", Endpoint::Acl(acl::Endpoint::Create)),
    ("acl/update", Endpoint::Acl(acl::Endpoint::Update)),
    ("acl/list", Endpoint::Acl(acl::Endpoint::List)),
    ("acl/replication", Endpoint::AclReplication),
];

type Named = for<'p> fn(&'p [u8]) -> Endpoint<'p>;

/// The paths below `/v1/` that end with a name: whatever follows, slashes too, or nothing at all. Without the slash before
/// the name they lead to the path with it, if there is no such path.
const NAMED: [(&str, Named); 26] = [
    ("kv/", |key| Endpoint::Kv(key)),
    ("health/service/", |name| Endpoint::Health(health::Endpoint::Service(name))),
    ("health/node/", |name| Endpoint::Health(health::Endpoint::Node(name))),
    ("health/checks/", |name| Endpoint::Health(health::Endpoint::Checks(name))),
    ("health/state/", |state| Endpoint::Health(health::Endpoint::State(state))),
    ("catalog/service/", |name| Endpoint::Catalog(catalog::Endpoint::Service(name))),
    ("catalog/node/", |name| Endpoint::Catalog(catalog::Endpoint::Node(name))),
    ("session/destroy/", |id| Endpoint::Session(session::Endpoint::Destroy(id))),
    ("session/renew/", |id| Endpoint::Session(session::Endpoint::Renew(id))),
    ("session/info/", |id| Endpoint::Session(session::Endpoint::Info(id))),
    ("session/node/", |name| Endpoint::Session(session::Endpoint::Node(name))),
    ("event/fire/", |name| Endpoint::Event(event::Endpoint::Fire(name))),
    ("exec/output/", |session| Endpoint::Output(session)),
    ("query/", |path| Endpoint::Query(query::Endpoint::One(path))),
    ("acl/destroy/", |id| Endpoint::Acl(acl::Endpoint::Destroy(id))),
    ("acl/info/", |id| Endpoint::Acl(acl::Endpoint::Info(id))),
    ("acl/clone/", |id| Endpoint::Acl(acl::Endpoint::Clone(id))),
    ("agent/join/", |address| Endpoint::Agent(agent::Endpoint::Join(address))),
    ("agent/force-leave/", |node| Endpoint::Agent(agent::Endpoint::ForceLeave(node))),
    ("agent/service/deregister/", |id| service(agent::service::Endpoint::Deregister(id))),
    ("agent/service/maintenance/", |id| service(agent::service::Endpoint::Maintenance(id))),
    ("agent/check/deregister/", |id| check(agent::check::Endpoint::Deregister(id))),
    ("agent/check/pass/", |id| check(agent::check::Endpoint::Pass(id))),
    ("agent/check/warn/", |id| check(agent::check::Endpoint::Warn(id))),
    ("agent/check/fail/", |id| check(agent::check::Endpoint::Fail(id))),
    ("agent/check/update/", |id| check(agent::check::Endpoint::Update(id))),
];

fn service(endpoint: agent::service::Endpoint<'_>) -> Endpoint<'_> {
    Endpoint::Agent(agent::Endpoint::Service(endpoint))
}

fn check(endpoint: agent::check::Endpoint<'_>) -> Endpoint<'_> {
    Endpoint::Agent(agent::Endpoint::Check(endpoint))
}

/// The endpoint of a clean, decoded path.
pub(crate) fn endpoint(path: &[u8]) -> Endpoint<'_> {
    if path == b"/" {
        return Endpoint::Root;
    }
    let Some(path) = path.strip_prefix(b"/v1/") else { return Endpoint::Unknown };
    if let Some((_, endpoint)) = PLAIN.iter().find(|(plain, _)| plain.as_bytes() == path) {
        return *endpoint;
    }
    for (prefix, named) in NAMED {
        match path.strip_prefix(prefix.as_bytes()) {
            Some(name) => return named(name),
            None if prefix.strip_suffix('/').is_some_and(|bare| bare.as_bytes() == path) => {
                return Endpoint::Elsewhere(prefix);
            }
            None => {}
        }
    }
    Endpoint::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_its_endpoint() {
        let agent = Endpoint::Agent;
        let (local_check, local_service) = (|at| Endpoint::Agent(agent::Endpoint::Check(at)), service);
        let cases = [
            ("/", Endpoint::Root),
            ("/v1/kv/", Endpoint::Kv(b"")),
            ("/v1/kv/a/b/", Endpoint::Kv(b"a/b/")),
            ("/v1/kv", Endpoint::Elsewhere("kv/")),
            ("/v1/status/leader", Endpoint::StatusLeader),
            ("/v1/agent/self", agent(agent::Endpoint::Itself)),
            ("/v1/agent/service/register", local_service(agent::service::Endpoint::Register)),
            ("/v1/agent/service/deregister/a/b", local_service(agent::service::Endpoint::Deregister(b"a/b"))),
            ("/v1/agent/service/deregister", Endpoint::Elsewhere("agent/service/deregister/")),
            ("/v1/agent/check/pass/service:a", local_check(agent::check::Endpoint::Pass(b"service:a"))),
            ("/v1/agent/check/update/", local_check(agent::check::Endpoint::Update(b""))),
            ("/v1/agent/join/10.0.0.1:8301", agent(agent::Endpoint::Join(b"10.0.0.1:8301"))),
            ("/v1/agent/force-leave", Endpoint::Elsewhere("agent/force-leave/")),
            ("/v1/catalog/service/", Endpoint::Catalog(catalog::Endpoint::Service(b""))),
            ("/v1/catalog/services", Endpoint::Catalog(catalog::Endpoint::Services)),
            ("/v1/health/state/any", Endpoint::Health(health::Endpoint::State(b"any"))),
            ("/v1/event/fire/ev/slash", Endpoint::Event(event::Endpoint::Fire(b"ev/slash"))),
            ("/v1/session/create", Endpoint::Session(session::Endpoint::Create)),
            ("/v1/session/info/x", Endpoint::Session(session::Endpoint::Info(b"x"))),
            ("/v1/session/destroy", Endpoint::Elsewhere("session/destroy/")),
            ("/v1/coordinate/nodes", Endpoint::Coordinate(coordinate::Endpoint::Nodes)),
            ("/v1/operator/raft/peer", Endpoint::Operator(Tool::RaftPeer)),
            ("/v1/snapshot", Endpoint::Snapshot),
            ("/v1/exec", Endpoint::Exec),
            ("/v1/exec/output/x", Endpoint::Output(b"x")),
            ("/v1/txn", Endpoint::Txn),
            ("/v1/query", Endpoint::Query(query::Endpoint::All)),
            ("/v1/query/a/execute", Endpoint::Query(query::Endpoint::One(b"a/execute"))),
            ("/v1/acl/list", Endpoint::Acl(acl::Endpoint::List)),
            ("/v1/acl/info/x", Endpoint::Acl(acl::Endpoint::Info(b"x"))),
        ];
        for (path, expected) in cases {
            assert_eq!(endpoint(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn other_paths_are_unknown() {
        for path in [
            "/v1/operator/raft",
            "/v1/operator/",
            "/v1/operator",
            "/v1/snapshot/",
            "/v1/acl/nosuch",
            "/v1/status/leader/",
            "/v1/status/",
            "/v1/status",
            "/v1/agent/self/",
            "/v1/agent/services/",
            "/v1/agent/checks/x",
            "/v1/agent/members/",
            "/v1/agent/",
            "/v1/agent",
            "/v1/catalog/services/",
            "/v1/catalog/nodes/",
            "/v1/catalog",
            "/v1/health/",
            "/v1/health/nosuch",
            "/v1/session",
            "/v1/session/nosuch",
            "/v1/session/list/",
            "/v1/event",
            "/v1/event/list/",
            "/v1/coordinate/nosuch",
            "/v1/",
            "/v1",
            "/v1/kvx/a",
            "/V1/kv/a",
            "/v2/kv/a",
            "/kv/a",
            "/favicon.ico",
            "/v1/nosuch",
        ] {
            assert_eq!(endpoint(path.as_bytes()), Endpoint::Unknown, "{path}");
        }
    }

    #[test]
    fn no_path_hides_another() {
        for (path, expected) in PLAIN {
            assert_eq!(endpoint(format!("/v1/{path}").as_bytes()), expected, "{path}");
        }
        for (prefix, named) in NAMED {
            assert_eq!(endpoint(format!("/v1/{prefix}x").as_bytes()), named(b"x"), "{prefix}");
        }
    }
}
