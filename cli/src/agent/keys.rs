//! The keys of Consul's configuration files: which are known, and what is done about the others.

use serde_json::{Map, Value};

use super::draft::Draft;
use crate::flags::nearest;

/// Keys that act in this release. Those with a dot are in the object before it.
const ACTING: &[&str] = &[
    "addresses.http",
    "advertise_addr",
    "bind_addr",
    "bootstrap",
    "bootstrap_expect",
    "client_addr",
    "data_dir",
    "datacenter",
    "leave_on_terminate",
    "log_level",
    "node_id",
    "node_name",
    "performance.raft_multiplier",
    "pid_file",
    "ports.http",
    "ports.server",
    "server",
    "skip_leave_on_interrupt",
];

/// Objects whose keys are looked at one by one.
const OBJECTS: &[&str] = &["addresses", "performance", "ports"];

/// Keys that Consul knows and this release does not act on.
const WITHOUT_EFFECT: &[&str] = &[
    "acl",
    "acl_agent_master_token",
    "acl_agent_token",
    "acl_datacenter",
    "acl_default_policy",
    "acl_down_policy",
    "acl_enforce_version_8",
    "acl_master_token",
    "acl_replication_token",
    "acl_token",
    "acl_ttl",
    "addresses.dns",
    "addresses.grpc",
    "addresses.https",
    "addresses.rpc",
    "advertise_addr_ipv4",
    "advertise_addr_ipv6",
    "advertise_addr_wan",
    "advertise_addrs",
    "advertise_reconnect_timeout",
    "alt_domain",
    "atlas_acl_token",
    "atlas_endpoint",
    "atlas_infrastructure",
    "atlas_join",
    "atlas_token",
    "audit",
    "auto_config",
    "auto_encrypt",
    "autopilot",
    "ca_file",
    "ca_path",
    "cache",
    "cert_file",
    "check",
    "check_output_max_size",
    "check_reap_interval",
    "check_update_interval",
    "checks",
    "cloud",
    "config_entries",
    "connect",
    "data_dir_mode",
    "default_query_time",
    "disable_anonymous_signature",
    "disable_coordinates",
    "disable_host_node_id",
    "disable_http_unprintable_char_filter",
    "disable_keyring_file",
    "disable_remote_exec",
    "disable_update_check",
    "discard_check_output",
    "discovery_max_stale",
    "dns_config",
    "dogstatsd_addr",
    "dogstatsd_tags",
    "domain",
    "enable_acl_replication",
    "enable_agent_tls_for_checks",
    "enable_central_service_config",
    "enable_debug",
    "enable_local_script_checks",
    "enable_script_checks",
    "enable_syslog",
    "encrypt",
    "encrypt_verify_incoming",
    "encrypt_verify_outgoing",
    "experiments",
    "gossip_lan",
    "gossip_wan",
    "http_api_response_headers",
    "http_config",
    "key_file",
    "license_path",
    "limits",
    "log_file",
    "log_json",
    "log_rotate_bytes",
    "log_rotate_duration",
    "log_rotate_max_files",
    "max_query_time",
    "node_meta",
    "non_voting_server",
    "peering",
    "performance.grpc_keepalive_interval",
    "performance.grpc_keepalive_timeout",
    "performance.leave_drain_time",
    "performance.rpc_hold_timeout",
    "ports.dns",
    "ports.expose_max_port",
    "ports.expose_min_port",
    "ports.grpc",
    "ports.grpc_tls",
    "ports.https",
    "ports.rpc",
    "ports.serf_lan",
    "ports.serf_wan",
    "ports.sidecar_max_port",
    "ports.sidecar_min_port",
    "primary_datacenter",
    "primary_gateways",
    "primary_gateways_interval",
    "protocol",
    "raft_boltdb",
    "raft_logstore",
    "raft_protocol",
    "raft_snapshot_interval",
    "raft_snapshot_threshold",
    "raft_trailing_logs",
    "read_replica",
    "reap",
    "reconnect_timeout",
    "reconnect_timeout_wan",
    "recursor",
    "recursors",
    "rejoin_after_leave",
    "reporting",
    "retry_interval",
    "retry_interval_wan",
    "retry_join",
    "retry_join_ec2",
    "retry_join_gce",
    "retry_join_wan",
    "retry_max",
    "retry_max_wan",
    "rpc",
    "rpc_streaming",
    "segment",
    "segments",
    "serf_lan",
    "serf_lan_bind",
    "serf_wan",
    "serf_wan_bind",
    "server_name",
    "service",
    "services",
    "session_ttl_min",
    "start_join",
    "start_join_wan",
    "statsd_addr",
    "statsite_addr",
    "statsite_prefix",
    "syslog_facility",
    "telemetry",
    "tls",
    "tls_cipher_suites",
    "tls_min_version",
    "tls_prefer_server_cipher_suites",
    "translate_wan_addrs",
    "ui",
    "ui_config",
    "ui_content_path",
    "ui_dir",
    "unix_sockets",
    "use_streaming_backend",
    "verify_incoming",
    "verify_incoming_https",
    "verify_incoming_rpc",
    "verify_outgoing",
    "verify_server_hostname",
    "watches",
    "xds",
];

/// What a file says, and what is to be said about the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) draft: Draft,
    /// Keys of Consul's that do nothing here.
    pub(crate) without_effect: Vec<String>,
    /// Keys that nobody knows, each with the one that may have been meant.
    pub(crate) unknown: Vec<(String, Option<&'static str>)>,
}

impl Reading {
    /// Reads the object that a file holds. An error names the key and what it should have been.
    pub(crate) fn of(object: &Map<String, Value>) -> Result<Self, String> {
        let mut reading = Self::default();
        for (key, value) in object {
            if !OBJECTS.contains(&&**key) {
                reading.take(key, value)?;
                continue;
            }
            let Some(inner) = value.as_object() else { return Err(wrong(key, "an object", value)) };
            for (inner_key, value) in inner {
                reading.take(&format!("{key}.{inner_key}"), value)?;
            }
        }
        Ok(reading)
    }

    fn take(&mut self, key: &str, value: &Value) -> Result<(), String> {
        let draft = &mut self.draft;
        match key {
            "addresses.http" => draft.http_addr = text(key, value)?,
            "advertise_addr" => draft.advertise_addr = text(key, value)?,
            "bind_addr" => draft.bind_addr = text(key, value)?,
            "bootstrap" => draft.bootstrap = truth(key, value)?,
            "bootstrap_expect" => draft.bootstrap_expect = number(key, value)?,
            "client_addr" => draft.client_addr = text(key, value)?,
            "data_dir" => draft.data_dir = text(key, value)?,
            "datacenter" => draft.datacenter = text(key, value)?,
            "leave_on_terminate" => draft.leave_on_terminate = truth(key, value)?,
            "log_level" => draft.log_level = text(key, value)?,
            "node_id" => draft.node_id = text(key, value)?,
            "node_name" => draft.node_name = text(key, value)?,
            "performance.raft_multiplier" => draft.raft_multiplier = number(key, value)?,
            "pid_file" => draft.pid_file = text(key, value)?,
            "ports.http" => draft.http_port = number(key, value)?,
            "ports.server" => draft.server_port = number(key, value)?,
            "server" => draft.server = truth(key, value)?,
            "skip_leave_on_interrupt" => draft.skip_leave_on_interrupt = truth(key, value)?,
            _ if WITHOUT_EFFECT.contains(&key) => self.without_effect.push(key.to_owned()),
            _ => {
                let known = ACTING.iter().chain(WITHOUT_EFFECT).chain(OBJECTS).copied();
                self.unknown.push((key.to_owned(), nearest(key, known)));
            }
        }
        Ok(())
    }
}

/// `null` says nothing, as with Consul.
fn said<T>(
    key: &str,
    value: &Value,
    expected: &str,
    read: impl FnOnce(&Value) -> Option<T>,
) -> Result<Option<T>, String> {
    if value.is_null() {
        return Ok(None);
    }
    read(value).map(Some).ok_or_else(|| wrong(key, expected, value))
}

fn text(key: &str, value: &Value) -> Result<Option<String>, String> {
    said(key, value, "a text", |value| value.as_str().map(str::to_owned))
}

fn truth(key: &str, value: &Value) -> Result<Option<bool>, String> {
    said(key, value, "true or false", Value::as_bool)
}

fn number<N: TryFrom<i64>>(key: &str, value: &Value) -> Result<Option<N>, String> {
    said(key, value, "a whole number in its range", |value| N::try_from(value.as_i64()?).ok())
}

fn wrong(key: &str, expected: &str, value: &Value) -> String {
    format!("'{key}' must be {expected}, not {value}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(object: &Value) -> Result<Reading, String> {
        Reading::of(object.as_object().unwrap())
    }

    #[test]
    fn a_harness_s_file_is_understood() {
        let reading = read(&json!({
            "node_name": "node1", "performance": { "raft_multiplier": 1 }, "bootstrap": true, "server": true,
            "data_dir": "/d", "disable_update_check": true, "log_level": "debug", "bind_addr": "127.0.0.1",
            "addresses": {}, "segments": null, "acl": { "enabled": true },
            "ports": { "dns": 1, "http": 2, "https": -1, "rpc": 3, "serf_lan": 4, "serf_wan": 5, "server": 6 }
        }))
        .unwrap();
        let expected = Draft {
            node_name: Some("node1".into()),
            raft_multiplier: Some(1),
            bootstrap: Some(true),
            server: Some(true),
            data_dir: Some("/d".into()),
            log_level: Some("debug".into()),
            bind_addr: Some("127.0.0.1".into()),
            http_port: Some(2),
            server_port: Some(6),
            ..Draft::default()
        };
        assert_eq!(reading.draft, expected);
        assert_eq!(reading.unknown, []);
        assert!(reading.without_effect.contains(&"ports.https".to_owned()));
    }

    #[test]
    fn misspelt_keys_are_named_with_what_may_be_meant() {
        let reading = read(&json!({ "datacentre": "x", "ports": { "htpp": 1 }, "zzzzzz": 1 })).unwrap();
        let named = |key: &str, meant| (key.to_owned(), meant);
        let expected =
            [named("datacentre", Some("datacenter")), named("ports.htpp", Some("ports.http")), named("zzzzzz", None)];
        assert_eq!(reading.unknown, expected);
    }

    #[test]
    fn every_acting_key_is_taken_and_checks_its_type() {
        for key in ACTING {
            let wrong = json!([]);
            let object = match key.split_once('.') {
                Some((outer, inner)) => json!({ outer: { inner: wrong } }),
                None => json!({ *key: wrong }),
            };
            let error = read(&object).unwrap_err();
            assert!(error.starts_with(&format!("'{key}' must be ")) && error.ends_with(", not []"), "{error}");
        }
        assert!(read(&json!({ "ports": 1 })).unwrap_err().contains("'ports' must be an object"));
        assert!(read(&json!({ "bootstrap_expect": -1 })).unwrap_err().contains("whole number"));
    }
}
