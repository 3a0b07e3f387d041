//! The keys of Consul's configuration files: which are known, and what is done about the others.

use lictor_http::definition;
use serde_json::{Map, Value};

use super::acl;
use super::draft::Draft;
use super::values::{duration, number, secret, text, texts, texts_by_name, truth, wrong};
use crate::flags::nearest;

/// Keys that act in this release. Those with a dot are in the object before it.
const ACTING: &[&str] = &[
    "addresses.http",
    "advertise_addr",
    "advertise_addr_wan",
    "bind_addr",
    "bootstrap",
    "bootstrap_expect",
    "check",
    "check_reap_interval",
    "check_update_interval",
    "checks",
    "client_addr",
    "data_dir",
    "datacenter",
    "disable_coordinates",
    "disable_remote_exec",
    "enable_script_checks",
    "encrypt",
    "gossip_lan.gossip_interval",
    "gossip_lan.gossip_nodes",
    "gossip_lan.probe_interval",
    "gossip_lan.probe_timeout",
    "gossip_lan.retransmit_mult",
    "gossip_lan.suspicion_mult",
    "leave_on_terminate",
    "log_level",
    "node_id",
    "node_meta",
    "node_name",
    "performance.leave_drain_time",
    "performance.raft_multiplier",
    "pid_file",
    "ports.dns",
    "ports.http",
    "ports.https",
    "ports.rpc",
    "ports.serf_lan",
    "ports.serf_wan",
    "ports.server",
    "protocol",
    "reconnect_timeout",
    "rejoin_after_leave",
    "retry_interval",
    "retry_join",
    "retry_max",
    "serf_lan",
    "serf_lan_bind",
    "server",
    "service",
    "services",
    "session_ttl_min",
    "skip_leave_on_interrupt",
    "start_join",
];

/// Objects whose keys are looked at one by one.
const OBJECTS: &[&str] = &["acl", "acl.tokens", "addresses", "gossip_lan", "performance", "ports"];

/// Keys that Consul knows and this release does not act on.
const WITHOUT_EFFECT: &[&str] = &[
    "acl.enable_key_list_policy",
    "acl.enable_token_persistence",
    "acl.enable_token_replication",
    "acl.tokens.agent_master",
    "acl.tokens.agent_recovery",
    "acl.tokens.config_file_service_registration",
    "acl.tokens.dns",
    "acl.tokens.managed_service_provider",
    "acl.tokens.replication",
    "acl_agent_master_token",
    "acl_replication_token",
    "addresses.dns",
    "addresses.grpc",
    "addresses.https",
    "addresses.rpc",
    "advertise_addr_ipv4",
    "advertise_addr_ipv6",
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
    "check_output_max_size",
    "cloud",
    "config_entries",
    "connect",
    "data_dir_mode",
    "default_query_time",
    "disable_anonymous_signature",
    "disable_host_node_id",
    "disable_http_unprintable_char_filter",
    "disable_keyring_file",
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
    "enable_syslog",
    "encrypt_verify_incoming",
    "encrypt_verify_outgoing",
    "experiments",
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
    "non_voting_server",
    "peering",
    "performance.grpc_keepalive_interval",
    "performance.grpc_keepalive_timeout",
    "performance.rpc_hold_timeout",
    "ports.expose_max_port",
    "ports.expose_min_port",
    "ports.grpc",
    "ports.grpc_tls",
    "ports.sidecar_max_port",
    "ports.sidecar_min_port",
    "primary_gateways",
    "primary_gateways_interval",
    "raft_boltdb",
    "raft_logstore",
    "raft_protocol",
    "raft_snapshot_interval",
    "raft_snapshot_threshold",
    "raft_trailing_logs",
    "read_replica",
    "reap",
    "reconnect_timeout_wan",
    "recursor",
    "recursors",
    "reporting",
    "retry_interval_wan",
    "retry_join_ec2",
    "retry_join_gce",
    "retry_join_wan",
    "retry_max_wan",
    "rpc",
    "rpc_streaming",
    "segment",
    "segments",
    "serf_wan",
    "serf_wan_bind",
    "server_name",
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
            reading.take_all(key, value)?;
        }
        Ok(reading)
    }

    /// A key, or all of an object's that are looked at one by one.
    fn take_all(&mut self, key: &str, value: &Value) -> Result<(), String> {
        if !OBJECTS.contains(&key) {
            return self.take(key, value);
        }
        let Some(inner) = value.as_object() else { return Err(wrong(key, "an object", value)) };
        inner.iter().try_for_each(|(inner_key, value)| self.take_all(&format!("{key}.{inner_key}"), value))
    }

    fn take(&mut self, key: &str, value: &Value) -> Result<(), String> {
        let draft = &mut self.draft;
        match key {
            "addresses.http" => draft.http_addr = text(key, value)?,
            "advertise_addr" => draft.advertise_addr = text(key, value)?,
            "advertise_addr_wan" => draft.advertise_addr_wan = text(key, value)?,
            "bind_addr" => draft.bind_addr = text(key, value)?,
            "bootstrap" => draft.bootstrap = truth(key, value)?,
            "bootstrap_expect" => draft.bootstrap_expect = number(key, value)?,
            "check_reap_interval" => draft.check_reap_interval = duration(key, value)?,
            "check_update_interval" => draft.check_update_interval = duration(key, value)?,
            "client_addr" => draft.client_addr = text(key, value)?,
            "data_dir" => draft.data_dir = text(key, value)?,
            "datacenter" => draft.datacenter = text(key, value)?,
            "disable_coordinates" => draft.disable_coordinates = truth(key, value)?,
            "disable_remote_exec" => draft.disable_remote_exec = truth(key, value)?,
            "enable_script_checks" => draft.enable_script_checks = truth(key, value)?,
            "gossip_lan.gossip_interval" => draft.gossip_interval = duration(key, value)?,
            "gossip_lan.gossip_nodes" => draft.gossip_nodes = number(key, value)?,
            "gossip_lan.probe_interval" => draft.probe_interval = duration(key, value)?,
            "gossip_lan.probe_timeout" => draft.probe_timeout = duration(key, value)?,
            "gossip_lan.retransmit_mult" => draft.retransmit_mult = number(key, value)?,
            "gossip_lan.suspicion_mult" => draft.suspicion_mult = number(key, value)?,
            "leave_on_terminate" => draft.leave_on_terminate = truth(key, value)?,
            "log_level" => draft.log_level = text(key, value)?,
            "node_id" => draft.node_id = text(key, value)?,
            "node_meta" => draft.node_meta = texts_by_name(key, value)?,
            "node_name" => draft.node_name = text(key, value)?,
            "performance.leave_drain_time" => draft.leave_drain_time = duration(key, value)?,
            "performance.raft_multiplier" => draft.raft_multiplier = number(key, value)?,
            "pid_file" => draft.pid_file = text(key, value)?,
            "ports.http" => draft.http_port = number(key, value)?,
            "ports.serf_lan" => draft.serf_lan_port = number(key, value)?,
            "ports.server" => draft.server_port = number(key, value)?,
            "protocol" => draft.protocol = number(key, value)?,
            "reconnect_timeout" => draft.reconnect_timeout = duration(key, value)?,
            "rejoin_after_leave" => draft.rejoin_after_leave = truth(key, value)?,
            "retry_interval" => draft.retry_interval = duration(key, value)?,
            "retry_join" => draft.retry_join = texts(key, value)?,
            "retry_max" => draft.retry_max = number(key, value)?,
            // The former is later Consuls' name for it.
            "serf_lan" | "serf_lan_bind" => draft.serf_lan_bind = text(key, value)?,
            "server" => draft.server = truth(key, value)?,
            "session_ttl_min" => draft.session_ttl_min = duration(key, value)?,
            "skip_leave_on_interrupt" => draft.skip_leave_on_interrupt = truth(key, value)?,
            "start_join" => draft.start_join = texts(key, value)?,
            "check" | "checks" | "service" | "services" => self.take_definitions(key, value)?,
            "encrypt" | "ports.dns" | "ports.https" | "ports.rpc" | "ports.serf_wan" => self.take_shown(key, value)?,
            _ if draft.acl.take(key, value)? => {}
            _ if WITHOUT_EFFECT.contains(&key) => self.without_effect.push(key.to_owned()),
            _ => {
                let known = ACTING.iter().chain(acl::KEYS).chain(WITHOUT_EFFECT).chain(OBJECTS).copied();
                self.unknown.push((key.to_owned(), nearest(key, known)));
            }
        }
        Ok(())
    }

    /// Services and checks, told of in Consul's words if they have not the right form.
    fn take_definitions(&mut self, key: &str, value: &Value) -> Result<(), String> {
        let all = match value {
            Value::Null => return Ok(()),
            Value::Array(all) if key.ends_with('s') => &all[..],
            _ if key.ends_with('s') => return Err(wrong(key, "a list of objects", value)),
            Value::Object(_) => std::slice::from_ref(value),
            _ => return Err(wrong(key, "an object", value)),
        };
        let definitions = &mut self.draft.definitions;
        for value in all {
            match key {
                "check" | "checks" => definitions.checks.push(definition::check(value)?),
                _ => definitions.services.push(definition::service(value)?),
            }
        }
        Ok(())
    }

    /// Keys that are checked and shown, and have no effect.
    fn take_shown(&mut self, key: &str, value: &Value) -> Result<(), String> {
        let draft = &mut self.draft;
        match key {
            "encrypt" => draft.encrypt = secret(key, value)?,
            "ports.dns" => draft.dns_port = number(key, value)?,
            "ports.https" => draft.https_port = number(key, value)?,
            "ports.rpc" => draft.rpc_port = number(key, value)?,
            _ => draft.serf_wan_port = number(key, value)?,
        }
        self.without_effect.push(key.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
            "addresses": {}, "segments": null, "audit": { "enabled": true },
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
            dns_port: Some(1),
            https_port: Some(-1),
            rpc_port: Some(3),
            serf_lan_port: Some(4),
            serf_wan_port: Some(5),
            ..Draft::default()
        };
        assert_eq!(reading.draft, expected);
        assert_eq!(reading.unknown, []);
        assert!(reading.without_effect.contains(&"ports.https".to_owned()));
    }

    #[test]
    fn keys_of_the_pool_are_understood() {
        let draft = read(&json!({
            "start_join": ["10.0.0.1"], "retry_join": ["a", "b:9"], "retry_interval": "5s", "retry_max": 3,
            "rejoin_after_leave": true, "serf_lan": "10.0.0.2", "gossip_lan": { "probe_interval": "100ms" },
            "node_meta": { "rack": "7" }, "performance": { "leave_drain_time": "0s" }, "reconnect_timeout": "9h"
        }))
        .unwrap()
        .draft;
        let expected = Draft {
            start_join: vec!["10.0.0.1".into()],
            retry_join: vec!["a".into(), "b:9".into()],
            retry_interval: Some(Duration::from_secs(5)),
            retry_max: Some(3),
            rejoin_after_leave: Some(true),
            serf_lan_bind: Some("10.0.0.2".into()),
            probe_interval: Some(Duration::from_millis(100)),
            node_meta: [("rack".to_owned(), "7".to_owned())].into(),
            leave_drain_time: Some(Duration::ZERO),
            reconnect_timeout: Some(Duration::from_secs(9 * 3600)),
            ..Draft::default()
        };
        assert_eq!(draft, expected);
    }

    #[test]
    fn services_and_checks_are_collected() {
        let definitions = read(&json!({
            "service": { "name": "a", "check": { "ttl": "10s" } }, "services": [{ "name": "b" }, { "name": "c" }],
            "check": { "name": "d", "tcp": "x:1", "interval": "10s" }, "checks": [{ "id": "e" }]
        }))
        .unwrap()
        .draft
        .definitions;
        let services: Vec<_> =
            definitions.services.iter().map(|service| (&*service.name, service.checks.len())).collect();
        assert_eq!(services, [("a", 1), ("b", 0), ("c", 0)]);
        let checks: Vec<_> = definitions.checks.iter().map(|check| (&*check.id, &*check.name)).collect();
        assert_eq!(checks, [("", "d"), ("e", "")]);
        assert_eq!(
            read(&json!({ "service": { "name": "x", "port": "a" } })).unwrap_err(),
            "1 error(s) decoding:\n\n* 'Port' expected type 'int', got unconvertible type 'string'"
        );
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
        for key in ACTING.iter().chain(acl::KEYS) {
            let object = key.rsplit('.').fold(json!([7]), |value, word| json!({ word: value }));
            let error = read(&object).unwrap_err();
            // Secrets are not told, and a list of services begins with what is none.
            let told = error.starts_with(&format!("'{key}' must be "))
                && (error.ends_with(", not [7]") || error.ends_with("must be a text"));
            let mistyped = error.starts_with(&format!("1 error(s) decoding:\n\n* '{key}' expected type '"))
                && error.ends_with("', got unconvertible type '[]interface {}'");
            assert!(told || mistyped || error.contains("expected a map, got 'float64'"), "{key}: {error}");
        }
        assert!(read(&json!({ "ports": 1 })).unwrap_err().contains("'ports' must be an object"));
        assert!(read(&json!({ "bootstrap_expect": -1 })).unwrap_err().contains("whole number"));
    }
}
