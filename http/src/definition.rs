//! Services and checks as people define them, in requests to the agent and in its configuration files alike. Names may be
//! written `ServiceID` or `service_id`, durations as texts of Go or in nanoseconds.
//!
//! What is read here has the right form and no more: whether a service has a name, or a check something to do, is for the
//! agent to say.

use std::time::Duration;

use lictor_core::api::agent::{CheckDefinition, ServiceDefinition};
use serde_json::Value;

use crate::decode::{self, Fields};

/// Reads a service with its checks: those of `Checks` and then that of `Check`.
///
/// # Errors
/// If something is of the wrong type, or a duration is none: told in Consul's words.
pub fn service(value: &Value) -> Result<ServiceDefinition, String> {
    decode::object(value, |fields| {
        let checks = fields.objects("Checks", kind_of_check).into_iter().chain(fields.object("Check", kind_of_check));
        ServiceDefinition {
            checks: checks.collect(),
            id: fields.text("ID"),
            name: fields.text("Name"),
            tags: tags(fields),
            address: fields.text("Address"),
            port: fields.number("Port"),
            enable_tag_override: fields.flag("EnableTagOverride"),
            meta: fields.pairs("Meta").unwrap_or_default(),
            token: fields.text("Token"),
        }
    })
}

/// Reads a check.
///
/// # Errors
/// As [`service`].
pub fn check(value: &Value) -> Result<CheckDefinition, String> {
    decode::object(value, |fields| CheckDefinition {
        name: fields.text("Name"),
        service_id: fields.text("ServiceID"),
        token: fields.text("Token"),
        id: if fields.has("ID") { fields.check_id("ID") } else { fields.check_id("CheckID") },
        ..kind_of_check(fields)
    })
}

/// The tags; files may still have a single one, as `tag`.
fn tags(fields: &Fields<'_>) -> Option<Vec<String>> {
    if fields.has("Tags") || !fields.has("Tag") {
        return fields.texts("Tags");
    }
    Some(vec![fields.text("Tag")])
}

/// All of a check but what it is called: a service's checks are called after it.
fn kind_of_check(fields: &Fields<'_>) -> CheckDefinition {
    CheckDefinition {
        // Of several durations that are none, the first in this order is told of.
        ttl: at_least(fields.nanos("TTL")),
        interval: at_least(fields.nanos("Interval")),
        timeout: positive(fields.nanos("Timeout")),
        deregister_critical_service_after: positive(fields.nanos("DeregisterCriticalServiceAfter")),
        notes: fields.text("Notes"),
        status: fields.text("Status"),
        script: fields.text("Script"),
        args: fields.texts(if fields.has("Args") { "Args" } else { "ScriptArgs" }).unwrap_or_default(),
        http: fields.text("HTTP"),
        method: fields.text("Method"),
        header: fields.lists("Header"),
        body: fields.text("Body"),
        tls_skip_verify: fields.flag("TLSSkipVerify"),
        tcp: fields.text("TCP"),
        docker_container_id: fields.text("DockerContainerID"),
        shell: fields.text("Shell"),
        ..CheckDefinition::default()
    }
}

/// How often, or for how long: the shortest span there is for less than zero, as that is not the same as nothing.
fn at_least(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(1))
}

/// A span that is not there if it is less than zero.
fn positive(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_is_read_with_its_checks_that_of_check_last() {
        let read = service(&json!({
            "ID": "redis1", "Name": "redis", "Tags": ["master"], "Address": "127.0.0.1", "Port": 8000,
            "EnableTagOverride": true, "Meta": {"k": "v"}, "Bogus": {"x": []},
            "Check": {"Script": "/bin/true", "Interval": "10s", "DeregisterCriticalServiceAfter": "90m"},
            "Checks": [{"TTL": "15s", "Status": "passing", "ID": "mine"}, null],
        }))
        .unwrap();
        let expected = ServiceDefinition {
            id: "redis1".into(),
            name: "redis".into(),
            tags: Some(vec!["master".into()]),
            address: "127.0.0.1".into(),
            port: 8000,
            enable_tag_override: true,
            meta: [("k".to_owned(), "v".to_owned())].into(),
            checks: vec![
                CheckDefinition {
                    ttl: Duration::from_secs(15),
                    status: "passing".into(),
                    ..CheckDefinition::default()
                },
                CheckDefinition {
                    script: "/bin/true".into(),
                    interval: Duration::from_secs(10),
                    deregister_critical_service_after: Duration::from_secs(5400),
                    ..CheckDefinition::default()
                },
            ],
            token: String::new(),
        };
        assert_eq!(read, expected);
        assert_eq!(service(&json!({"name": "a", "tag": "b"})).unwrap().tags, Some(vec!["b".to_owned()]));
        assert_eq!(service(&json!({"name": "a", "tags": null})).unwrap().tags, None);
    }

    #[test]
    fn a_check_is_read_in_either_spelling() {
        let camel = check(&json!({
            "ID": "mem", "Name": "Memory", "Notes": "n", "ServiceID": "s", "Status": "warning", "Token": "t",
            "HTTP": "http://x/", "Method": "PUT", "Header": {"A": ["b", "c"]}, "Body": "{}", "TLSSkipVerify": true,
            "Interval": 10_000_000_000_u64, "Timeout": "1.5s", "DeregisterCriticalServiceAfter": "90m",
            "DockerContainerID": "f972", "Shell": "/bin/bash", "ScriptArgs": ["/bin/true", "x"],
        }));
        let snake = check(&json!({
            "id": "mem", "name": "Memory", "notes": "n", "service_id": "s", "status": "warning", "token": "t",
            "http": "http://x/", "method": "PUT", "header": {"A": ["b", "c"]}, "body": "{}", "tls_skip_verify": true,
            "interval": "10s", "timeout": "1.5s", "deregister_critical_service_after": "90m",
            "docker_container_id": "f972", "shell": "/bin/bash", "args": ["/bin/true", "x"],
        }));
        assert_eq!(camel, snake);
        let read = camel.unwrap();
        assert_eq!((&*read.id, &*read.service_id, &*read.docker_container_id), ("mem", "s", "f972"));
        assert_eq!(read.header["A"], ["b", "c"]);
        assert_eq!((read.interval, read.timeout), (Duration::from_secs(10), Duration::from_millis(1500)));
    }

    #[test]
    fn less_than_zero_is_as_short_as_can_be_or_nothing() {
        let read =
            check(&json!({"TTL": "-5s", "Interval": -1, "Timeout": "-1s", "DeregisterCriticalServiceAfter": "-90m"}));
        let read = read.unwrap();
        assert_eq!((read.ttl, read.interval), (Duration::from_nanos(1), Duration::from_nanos(1)));
        assert_eq!((read.timeout, read.deregister_critical_service_after), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let told = |value| service(&value).unwrap_err();
        assert_eq!(told(json!({"Check": "x"})), "1 error(s) decoding:\n\n* 'Check' expected a map, got 'string'");
        assert_eq!(
            told(json!({"Checks": [{}, {"Notes": 1}], "Check": {"Script": true}})),
            "2 error(s) decoding:\n\n* 'Check.Script' expected type 'string', got unconvertible type 'bool'\n\
             * 'Checks[1].Notes' expected type 'string', got unconvertible type 'float64'"
        );
        assert_eq!(told(json!({"Name": 1, "Check": {"TTL": "abc"}})), "time: invalid duration \"abc\"");
        assert_eq!(check(&json!({"TTL": "10"})).unwrap_err(), "time: missing unit in duration \"10\"");
    }
}
