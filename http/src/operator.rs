//! `/v1/operator/*`: the cluster itself, for its operators.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use lictor_core::api::Error;
use lictor_core::api::acl::Permission;
use lictor_core::api::operator::{Autopilot, Health, Peer, RaftConfiguration, Request, ServerHealth};
use lictor_core::id::{Index, PeerId};
use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;
use warp::http::{Method, StatusCode};

use crate::params::Params;
use crate::reply::Refusal;
use lictor_core::duration;

/// The raft protocol, by Consul's count: servers have IDs of their own.
const RAFT_PROTOCOL: &str = "3";
/// What stands for the name of a server that nobody knows.
const UNKNOWN: &str = "(unknown)";

/// An endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    RaftConfiguration,
    RaftPeer,
    TransferLeader,
    AutopilotConfiguration,
    AutopilotHealth,
    Keyring,
}

impl Tool {
    /// The methods of the endpoint.
    pub(crate) fn methods(self) -> &'static str {
        match self {
            Self::RaftConfiguration | Self::AutopilotHealth => "GET",
            Self::RaftPeer => "DELETE",
            Self::TransferLeader => "POST, PUT",
            Self::AutopilotConfiguration => "GET, PUT",
            Self::Keyring => "GET, POST, PUT, DELETE",
        }
    }
}

/// What a request to these endpoints asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Complete as it is.
    Ready(Request),
    /// New settings, which are still to come in the body.
    Settings { cas: Option<Index> },
    /// Something about the keys of gossip, named in the body if `has_body`.
    Keyring { has_body: bool },
    /// Nothing that this endpoint has.
    WrongMethod,
}

/// Reads method and parameters.
pub(crate) fn operation(tool: Tool, method: &Method, params: &Params<'_>) -> Result<Operation, Refusal> {
    let wrong = !tool.methods().split(", ").any(|allowed| allowed == method.as_str());
    if wrong {
        return Ok(Operation::WrongMethod);
    }
    Ok(match tool {
        Tool::RaftConfiguration => Operation::Ready(Request::RaftConfiguration { read: params.read_at_once()? }),
        Tool::RaftPeer => Operation::Ready(Request::RemovePeer(peer(params)?)),
        Tool::TransferLeader => Operation::Ready(Request::TransferLeader { to: successor(params)? }),
        Tool::AutopilotConfiguration if *method == Method::GET => {
            Operation::Ready(Request::AutopilotConfiguration { read: params.read_at_once()? })
        }
        Tool::AutopilotConfiguration => {
            let malformed = |refusal: Refusal| {
                Refusal::new(StatusCode::BAD_REQUEST, format!("Error parsing cas value: {}", refusal.text))
            };
            Operation::Settings { cas: params.number("cas").map_err(malformed)?.map(Index) }
        }
        Tool::AutopilotHealth => Operation::Ready(Request::AutopilotHealth),
        Tool::Keyring => Operation::Keyring { has_body: *method != Method::GET },
    })
}

/// The server that is to be removed. Whether there is such a one, raft knows.
fn peer(params: &Params<'_>) -> Result<Peer, Refusal> {
    let text = |name| params.first(name).map(|text| String::from_utf8_lossy(text).into_owned());
    match (text("address"), text("id")) {
        (Some(address), None) => Ok(Peer::Address(address)),
        (None, Some(id)) => Ok(Peer::Id(id)),
        (None, None) => Err(Refusal::bad_request("Must specify ?address with IP:port of peer to remove, or its ?id")),
        (Some(_), Some(_)) => Err(Refusal::bad_request("Must specify ?address or ?id of peer to remove, not both")),
    }
}

/// The server that is to lead; `None` if any will do.
fn successor(params: &Params<'_>) -> Result<Option<PeerId>, Refusal> {
    let Some(text) = params.text("id") else { return Ok(None) };
    let id = Uuid::try_parse(&text).map_err(|_| {
        Refusal::new(StatusCode::BAD_REQUEST, format!("?id={text} is not the ID of a server: it must be a UUID"))
    })?;
    Ok(Some(PeerId(id)))
}

/// Reads settings from a body. What is not there has its default, and names may be in any case.
pub(crate) fn settings(body: &[u8]) -> Result<Autopilot, Refusal> {
    let refuse = |why: String| Refusal::new(StatusCode::BAD_REQUEST, format!("Error parsing autopilot config: {why}"));
    let fields: Map<String, Value> = decoded(body).map_err(refuse)?;
    let mut settings = Autopilot::default();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let unfit = |what: &str| refuse(format!("{name} must be {what}, not {value}"));
        match &*name.to_ascii_lowercase() {
            "cleanupdeadservers" => {
                settings.cleanup_dead_servers = value.as_bool().ok_or_else(|| unfit("true or false"))?;
            }
            "lastcontactthreshold" => {
                settings.last_contact_threshold = span(value).ok_or_else(|| unfit("a duration such as \"200ms\""))?;
            }
            "maxtrailinglogs" => {
                settings.max_trailing_logs = value.as_u64().ok_or_else(|| unfit("a number from 0 on"))?;
            }
            "serverstabilizationtime" => {
                settings.server_stabilization_time = span(value).ok_or_else(|| unfit("a duration such as \"10s\""))?;
            }
            // The rest belongs to what Consul sells; clients send it along with its default.
            _ => {}
        }
    }
    Ok(settings)
}

/// A duration as text, or in nanoseconds.
fn span(value: &Value) -> Option<Duration> {
    let nanos = match value {
        Value::String(text) => u64::try_from(duration::parse_nanos(text)?).ok()?,
        other => other.as_u64()?,
    };
    Some(Duration::from_nanos(nanos))
}

/// What is said when leadership has been handed over.
pub(crate) fn transferred() -> Value {
    json!({ "Success": true })
}

/// What is said to those whose token does not allow it, in Consul's words and with its status.
pub(crate) fn keyring_denied(permission: Permission, error: &Error) -> Refusal {
    let text = match (error, permission) {
        (Error::PermissionDenied, Permission::WriteKeyring) => "Modifying keyring denied due to ACLs",
        (Error::PermissionDenied, _) => "Reading keyring denied by ACLs",
        (error, _) => return Refusal::of(error),
    };
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text)
}

/// Why nothing can be done with the keyring.
pub(crate) fn no_keyring(body: Option<&[u8]>) -> Refusal {
    if let Some(Err(why)) = body.map(decoded) {
        return Refusal::new(StatusCode::BAD_REQUEST, format!("Request decode failed: {why}"));
    }
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "there is no keyring: gossip between agents is not encrypted")
}

/// A JSON object. The error says why it is none.
fn decoded(body: &[u8]) -> Result<Map<String, Value>, String> {
    if body.trim_ascii().is_empty() {
        return Err("EOF".to_owned());
    }
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

/// Who takes part in raft, as JSON; the fields of all these in the order that people know.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownConfiguration<'c> {
    servers: Vec<ShownServer<'c>>,
    index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownServer<'c> {
    #[serde(rename = "ID")]
    id: Uuid,
    node: &'c str,
    address: SocketAddr,
    leader: bool,
    protocol_version: &'static str,
    voter: bool,
}

impl<'c> From<&'c RaftConfiguration> for ShownConfiguration<'c> {
    fn from(configuration: &'c RaftConfiguration) -> Self {
        let servers = configuration.servers.iter().map(|server| ShownServer {
            id: server.id.0,
            node: server.node.as_deref().unwrap_or(UNKNOWN),
            address: server.address,
            leader: server.leader,
            protocol_version: RAFT_PROTOCOL,
            voter: server.voter,
        });
        Self { servers: servers.collect(), index: configuration.index.0 }
    }
}

/// How the leader looks after the servers, as JSON. The fields of what Consul sells are there, and off.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownAutopilot {
    cleanup_dead_servers: bool,
    last_contact_threshold: String,
    max_trailing_logs: u64,
    server_stabilization_time: String,
    redundancy_zone_tag: &'static str,
    disable_upgrade_migration: bool,
    upgrade_version_tag: &'static str,
    create_index: u64,
    modify_index: u64,
}

impl From<&Autopilot> for ShownAutopilot {
    fn from(settings: &Autopilot) -> Self {
        Self {
            cleanup_dead_servers: settings.cleanup_dead_servers,
            last_contact_threshold: duration::format(settings.last_contact_threshold),
            max_trailing_logs: settings.max_trailing_logs,
            server_stabilization_time: duration::format(settings.server_stabilization_time),
            redundancy_zone_tag: "",
            disable_upgrade_migration: false,
            upgrade_version_tag: "",
            create_index: settings.create_index.0,
            modify_index: settings.modify_index.0,
        }
    }
}

/// How the servers are, as JSON.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownHealth<'h> {
    healthy: bool,
    failure_tolerance: usize,
    servers: Vec<ShownServerHealth<'h>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownServerHealth<'h> {
    #[serde(rename = "ID")]
    id: Uuid,
    name: &'h str,
    address: SocketAddr,
    serf_status: &'static str,
    /// Empty: servers do not tell each other what release they are.
    version: &'static str,
    leader: bool,
    last_contact: String,
    last_term: u64,
    last_index: u64,
    healthy: bool,
    voter: bool,
    stable_since: String,
}

impl<'h> ShownHealth<'h> {
    /// As it is at `now`.
    pub(crate) fn new(health: &'h Health, now: SystemTime) -> Self {
        let servers = health.servers.iter().map(|server| ShownServerHealth::new(server, now)).collect();
        Self { healthy: health.healthy, failure_tolerance: health.failure_tolerance, servers }
    }
}

impl<'h> ShownServerHealth<'h> {
    fn new(server: &'h ServerHealth, now: SystemTime) -> Self {
        let since = now.checked_sub(server.stable_for).unwrap_or(SystemTime::UNIX_EPOCH);
        Self {
            id: server.id.0,
            name: server.node.as_deref().unwrap_or(UNKNOWN),
            address: server.address,
            serf_status: if server.dead { "failed" } else { "alive" },
            version: "",
            leader: server.leader,
            last_contact: duration::format(server.last_contact),
            last_term: server.last_term.0,
            last_index: server.last_index.0,
            healthy: server.healthy,
            voter: server.voter,
            stable_since: humantime::format_rfc3339_seconds(since).to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use lictor_core::api::operator::RaftServer;
    use lictor_core::api::{Consistency, ReadOptions};
    use lictor_core::id::Term;

    use super::*;

    fn asked(tool: Tool, method: &Method, query: &str) -> Result<Operation, (u16, String)> {
        operation(tool, method, &Params::parse(query)).map_err(said)
    }

    fn said(refusal: Refusal) -> (u16, String) {
        (refusal.status.as_u16(), refusal.text.into_owned())
    }

    #[test]
    fn each_endpoint_has_its_methods() {
        let cases = [
            (Tool::RaftConfiguration, "GET"),
            (Tool::RaftPeer, "DELETE"),
            (Tool::TransferLeader, "POST PUT"),
            (Tool::AutopilotConfiguration, "GET PUT"),
            (Tool::AutopilotHealth, "GET"),
            (Tool::Keyring, "GET PUT POST DELETE"),
        ];
        for (tool, allowed) in cases {
            for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::PATCH] {
                let known = asked(tool, &method, "address=a") != Ok(Operation::WrongMethod);
                assert_eq!(known, allowed.split(' ').any(|name| name == method.as_str()), "{tool:?} {method}");
            }
        }
    }

    #[test]
    fn reads_have_their_consistency_and_never_block() {
        let read = ReadOptions { consistency: Consistency::Stale, ..ReadOptions::default() };
        let expected = Operation::Ready(Request::RaftConfiguration { read });
        assert_eq!(asked(Tool::RaftConfiguration, &Method::GET, "stale&index=5&wait=1m"), Ok(expected));
        assert_eq!(asked(Tool::RaftConfiguration, &Method::GET, "index=x").unwrap_err().0, 400);
    }

    #[test]
    fn a_peer_has_one_name() {
        let peer = |query: &str| asked(Tool::RaftPeer, &Method::DELETE, query);
        let removed = |peer| Ok(Operation::Ready(Request::RemovePeer(peer)));
        assert_eq!(peer("address=10.0.0.1:8300"), removed(Peer::Address("10.0.0.1:8300".into())));
        assert_eq!(peer("address="), removed(Peer::Address(String::new())));
        assert_eq!(peer("id=x"), removed(Peer::Id("x".into())));
        let (status, text) = peer("").unwrap_err();
        assert!(status == 400 && text.starts_with("Must specify ?address with IP:port of peer to remove"), "{text}");
        assert_eq!(peer("id=x&address=y").unwrap_err().0, 400);
    }

    #[test]
    fn a_successor_is_any_or_a_uuid() {
        let transfer = |query: &str| asked(Tool::TransferLeader, &Method::POST, query);
        assert_eq!(transfer(""), Ok(Operation::Ready(Request::TransferLeader { to: None })));
        let to = PeerId(Uuid::from_u128(0xadf4_238a_882b_9ddc_4a9d_5b67_58e4_159e));
        let expected = Operation::Ready(Request::TransferLeader { to: Some(to) });
        assert_eq!(transfer("id=adf4238a-882b-9ddc-4a9d-5b6758e4159e"), Ok(expected));
        assert_eq!(transfer("id=foobar").unwrap_err(), {
            (400, "?id=foobar is not the ID of a server: it must be a UUID".to_owned())
        });
    }

    #[test]
    fn settings_are_read_with_defaults() {
        let read = |body: &str| settings(body.as_bytes());
        assert_eq!(read("{}").unwrap(), Autopilot::default());
        let all = r#"{"CleanupDeadServers": false, "LastContactThreshold": "1.5s", "maxtrailinglogs": 7,
            "ServerStabilizationTime": 20000000000, "RedundancyZoneTag": "x", "CreateIndex": 4, "Other": [1]}"#;
        let expected = Autopilot {
            cleanup_dead_servers: false,
            last_contact_threshold: Duration::from_millis(1500),
            max_trailing_logs: 7,
            server_stabilization_time: Duration::from_secs(20),
            ..Autopilot::default()
        };
        assert_eq!(read(all).unwrap(), expected);
        assert_eq!(read(r#"{"MaxTrailingLogs": null}"#).unwrap(), Autopilot::default());
        for (wrong, why) in [
            ("", "EOF"),
            ("{", "EOF"),
            ("[]", "invalid type"),
            ("{} x", "trailing characters"),
            (r#"{"LastContactThreshold": "200"}"#, "LastContactThreshold must be a duration such as \"200ms\""),
            (r#"{"LastContactThreshold": "-1s"}"#, "not \"-1s\""),
            (r#"{"ServerStabilizationTime": -1}"#, "not -1"),
            (r#"{"MaxTrailingLogs": 1.5}"#, "MaxTrailingLogs must be a number from 0 on"),
            (r#"{"CleanupDeadServers": "yes"}"#, "CleanupDeadServers must be true or false"),
        ] {
            let (status, text) = said(read(wrong).unwrap_err());
            assert!(status == 400 && text.starts_with("Error parsing autopilot config: "), "{text}");
            assert!(text.contains(why), "{wrong}: {text}");
        }
    }

    #[test]
    fn settings_may_have_a_condition() {
        let put = |query: &str| asked(Tool::AutopilotConfiguration, &Method::PUT, query);
        assert_eq!(put(""), Ok(Operation::Settings { cas: None }));
        assert_eq!(put("cas=7"), Ok(Operation::Settings { cas: Some(Index(7)) }));
        let (status, text) = put("cas=x").unwrap_err();
        assert!(status == 400 && text.starts_with("Error parsing cas value: "), "{text}");
    }

    fn text(shown: &impl Serialize) -> String {
        serde_json::to_string(shown).unwrap()
    }

    #[test]
    fn settings_are_shown_as_consul_shows_them() {
        assert_eq!(
            text(&ShownAutopilot::from(&Autopilot::default())),
            "{\"CleanupDeadServers\":true,\"LastContactThreshold\":\"200ms\",\"MaxTrailingLogs\":250,\
             \"ServerStabilizationTime\":\"10s\",\"RedundancyZoneTag\":\"\",\"DisableUpgradeMigration\":false,\
             \"UpgradeVersionTag\":\"\",\"CreateIndex\":0,\"ModifyIndex\":0}"
        );
    }

    #[test]
    fn servers_are_shown_as_consul_shows_them() {
        let id = PeerId(Uuid::from_u128(7));
        let server = RaftServer { id, node: None, address: ([10, 0, 0, 1], 8300).into(), leader: false, voter: true };
        let configuration = RaftConfiguration { servers: vec![server], index: Index(22) };
        assert_eq!(
            text(&ShownConfiguration::from(&configuration)),
            "{\"Servers\":[{\"ID\":\"00000000-0000-0000-0000-000000000007\",\"Node\":\"(unknown)\",\
             \"Address\":\"10.0.0.1:8300\",\"Leader\":false,\"ProtocolVersion\":\"3\",\"Voter\":true}],\"Index\":22}"
        );
    }

    #[test]
    fn health_is_told_by_the_wall_clock() {
        let server = ServerHealth {
            id: PeerId(Uuid::from_u128(7)),
            node: Some("a".into()),
            address: ([10, 0, 0, 1], 8300).into(),
            leader: false,
            voter: true,
            healthy: false,
            dead: true,
            last_contact: Duration::from_millis(1500),
            last_term: Term(3),
            last_index: Index(9),
            stable_for: Duration::from_secs(60),
        };
        let all = Health { healthy: false, failure_tolerance: 0, servers: vec![server] };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_480_000_060);
        assert_eq!(
            text(&ShownHealth::new(&all, now)),
            "{\"Healthy\":false,\"FailureTolerance\":0,\"Servers\":[{\
             \"ID\":\"00000000-0000-0000-0000-000000000007\",\"Name\":\"a\",\"Address\":\"10.0.0.1:8300\",\
             \"SerfStatus\":\"failed\",\"Version\":\"\",\"Leader\":false,\"LastContact\":\"1.5s\",\"LastTerm\":3,\
             \"LastIndex\":9,\"Healthy\":false,\"Voter\":true,\"StableSince\":\"2016-11-24T15:06:40Z\"}]}"
        );
    }

    #[test]
    fn without_encryption_there_is_no_keyring() {
        let status = |body: Option<&str>| no_keyring(body.map(str::as_bytes)).status.as_u16();
        assert_eq!(status(None), 500);
        assert_eq!(status(Some(r#"{"Key": "3lg9DxVfKNzI8O+IQ5Ek+Q=="}"#)), 500);
        assert_eq!(status(Some("{}")), 500);
        assert_eq!(status(Some("")), 400);
        assert_eq!(status(Some("x")), 400);
        assert_eq!(status(Some("{")), 400);
    }
}
