//! What a definition says, and whether it says enough.
//!
//! A definition with more than one kind of check in it is taken for the first of: time to live, HTTP, TCP, Docker, script
//! (Consul does so, and its own documentation shows such definitions).

use serde::Serialize;

use crate::api::Error;
use crate::api::agent::{CheckDefinition, Definitions, ServiceDefinition};
use crate::api::catalog::{Meta, Service};
use crate::api::health::{CRITICAL, PASSING, WARNING};
use crate::config;
use crate::probe::{Command, Question};
use crate::time::Duration;
use crate::wire;

/// How long an HTTP or TCP check may take, unless its interval is shorter.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// The most bytes that a definition may be of: with its output and beside others it must fit into one registration in the catalog.
const DEFINITION_BYTES: usize = 128 << 10;

const META_PAIRS: usize = 64;
const META_KEY_BYTES: usize = 128;
const META_VALUE_BYTES: usize = 512;

const NO_KIND: &str = "Must provide TTL or Script/DockerContainerID/HTTP/TCP and Interval";
const NO_SCRIPTS: &str = "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or \
                          'enable_local_script_checks' to true";

/// How the state of a check comes about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Somebody tells it; for this long what was told holds.
    Ttl(Duration),
    /// It is found out.
    Probed(Plan),
    /// It is critical as long as it is there.
    Maintenance,
}

/// How the state of a check is found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) question: Question,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
}

/// A service that can be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sound {
    /// Without checks.
    pub(super) service: ServiceDefinition,
    /// Its checks, with all their names.
    pub(super) checks: Vec<CheckDefinition>,
}

/// Whether the files define what can be registered, as far as that does not depend on what users have registered.
///
/// # Errors
/// What is wrong with the first wrong one.
pub fn check_definitions(definitions: &Definitions, options: &config::Local) -> Result<(), Error> {
    definitions.services.iter().try_for_each(|service| sound_service(service, options).map(drop))?;
    definitions.checks.iter().try_for_each(|check| sound_check(check, options).map(drop))
}

/// Fills in what a service's definition leaves out. Checks in it that are of no complete kind are left out, as Consul does.
pub(super) fn sound_service(definition: &ServiceDefinition, options: &config::Local) -> Result<Sound, Error> {
    if definition.name.is_empty() {
        return Err(bad("Missing service name"));
    }
    sound_meta(&definition.meta)?;
    let mut service = definition.clone();
    let complete: Vec<_> =
        std::mem::take(&mut service.checks).into_iter().filter(|check| kind(check, options).is_some()).collect();
    if service.id.is_empty() {
        service.id.clone_from(&service.name);
    }
    sound_size(&service)?;
    let several = complete.len() > 1;
    let mut checks = Vec::new();
    for (at, mut check) in complete.into_iter().enumerate() {
        if !is_state(&check.status) && !check.status.is_empty() {
            return Err(bad("Status for checks must 'passing', 'warning', 'critical'"));
        }
        may_run(&check, options)?;
        check.id = format!("service:{}", service.id);
        if several {
            check.id += &format!(":{}", at + 1);
        }
        check.name = format!("Service '{}' check", service.name);
        check.service_id.clone_from(&service.id);
        if check.token.is_empty() {
            check.token.clone_from(&service.token);
        }
        sound_size(&check)?;
        checks.push(check);
    }
    Ok(Sound { service, checks })
}

/// Fills in what a check's definition leaves out.
pub(super) fn sound_check(definition: &CheckDefinition, options: &config::Local) -> Result<CheckDefinition, Error> {
    if definition.name.is_empty() {
        return Err(bad("Missing check name"));
    }
    if !definition.status.is_empty() && !is_state(&definition.status) {
        return Err(bad("Bad check status"));
    }
    if kind(definition, options).is_none() {
        return Err(bad(NO_KIND));
    }
    may_run(definition, options)?;
    let mut check = definition.clone();
    if check.id.is_empty() {
        check.id.clone_from(&check.name);
    }
    sound_size(&check)?;
    Ok(check)
}

/// Whether it is a state that users may give to a check.
pub(super) fn is_state(status: &str) -> bool {
    [PASSING, WARNING, CRITICAL].contains(&status)
}

/// What kind of check a definition is of, if it is of any.
pub(super) fn kind(check: &CheckDefinition, options: &config::Local) -> Option<Kind> {
    if !check.ttl.is_zero() {
        return Some(Kind::Ttl(check.ttl));
    }
    let interval = check.interval.max(options.min_interval);
    let (question, default) = if check.interval.is_zero() {
        return None;
    } else if !check.http.is_empty() {
        (http(check), CONNECTION_TIMEOUT.min(interval))
    } else if !check.tcp.is_empty() {
        (Question::Tcp { address: check.tcp.clone() }, CONNECTION_TIMEOUT.min(interval))
    } else if check.docker_container_id.is_empty() {
        (Question::Command(command(check)?), COMMAND_TIMEOUT)
    } else {
        let shell = if check.shell.is_empty() { "/bin/sh".to_owned() } else { check.shell.clone() };
        let container = check.docker_container_id.clone();
        (Question::Docker { container, command: command(check)?, shell }, COMMAND_TIMEOUT)
    };
    let timeout = if check.timeout.is_zero() { default } else { check.timeout };
    Some(Kind::Probed(Plan { question, interval, timeout }))
}

/// How many kinds of check a definition names.
pub(super) fn kinds_named(check: &CheckDefinition) -> usize {
    let named = [
        !check.ttl.is_zero(),
        !check.http.is_empty(),
        !check.tcp.is_empty(),
        !check.script.is_empty() || !check.args.is_empty(),
    ];
    named.into_iter().filter(|named| *named).count()
}

/// After how long in the critical state a check's service is taken back.
pub(super) fn deregister_after(check: &CheckDefinition, options: &config::Local) -> Option<Duration> {
    let after = check.deregister_critical_service_after;
    (!after.is_zero()).then(|| after.max(options.min_deregister_after))
}

/// What the catalog is told of a service.
pub(super) fn shown(node: &str, definition: ServiceDefinition) -> Service {
    let ServiceDefinition { id, name, tags, address, port, enable_tag_override, meta, .. } = definition;
    let node = node.to_owned();
    Service { node, id, name, tags, address, port, enable_tag_override, meta, ..Service::default() }
}

fn http(check: &CheckDefinition) -> Question {
    Question::Http {
        url: check.http.clone(),
        method: if check.method.is_empty() { "GET".to_owned() } else { check.method.clone() },
        header: check.header.clone(),
        body: check.body.clone(),
        tls_skip_verify: check.tls_skip_verify,
    }
}

fn command(check: &CheckDefinition) -> Option<Command> {
    if !check.args.is_empty() {
        Some(Command::Program(check.args.clone()))
    } else if !check.script.is_empty() {
        Some(Command::Shell(check.script.clone()))
    } else {
        None
    }
}

/// Whether this agent runs such checks.
fn may_run(check: &CheckDefinition, options: &config::Local) -> Result<(), Error> {
    match kind(check, options) {
        Some(Kind::Probed(Plan { question: Question::Command(_) | Question::Docker { .. }, .. }))
            if !options.script_checks =>
        {
            Err(bad(NO_SCRIPTS))
        }
        _ => Ok(()),
    }
}

fn sound_size<T: Serialize>(definition: &T) -> Result<(), Error> {
    if wire::size(definition) > DEFINITION_BYTES {
        return Err(Error::BadDefinition(format!("the definition is over the limit of {DEFINITION_BYTES} bytes")));
    }
    Ok(())
}

fn sound_meta(meta: &Meta) -> Result<(), Error> {
    let wrong = |text: String| Err(Error::BadDefinition(format!("Invalid Service Meta: {text}")));
    if meta.len() > META_PAIRS {
        return wrong(format!("Node metadata cannot contain more than {META_PAIRS} key/value pairs"));
    }
    for (key, value) in meta {
        let of = |what: &str| format!("Couldn't load metadata pair ('{key}', '{value}'): {what}");
        if key.is_empty() {
            return wrong(of("Key cannot be blank"));
        }
        if !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            return wrong(of("Key contains invalid characters"));
        }
        if key.len() > META_KEY_BYTES {
            return wrong(of(&format!("Key is too long (limit: {META_KEY_BYTES} characters)")));
        }
        if value.len() > META_VALUE_BYTES {
            return wrong(of(&format!("Value is too long (limit: {META_VALUE_BYTES} characters)")));
        }
    }
    Ok(())
}

fn bad(text: &str) -> Error {
    Error::BadDefinition(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn named(name: &str) -> CheckDefinition {
        CheckDefinition { name: name.to_owned(), ..CheckDefinition::default() }
    }

    #[expect(clippy::needless_pass_by_value, reason = "it reads better where it is called")]
    fn refused(check: CheckDefinition) -> String {
        sound_check(&check, &config::Local::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_check_needs_a_name_a_state_and_one_complete_kind() {
        let ttl = CheckDefinition { ttl: seconds(10), ..CheckDefinition::default() };
        assert_eq!(refused(ttl.clone()), "Missing check name");
        assert_eq!(refused(CheckDefinition { id: "a".into(), ..ttl.clone() }), "Missing check name");
        for status in ["bogus", "unknown", "Passing"] {
            let check = CheckDefinition { name: "a".into(), status: status.into(), ..ttl.clone() };
            assert_eq!(refused(check), "Bad check status");
        }
        let incomplete = [
            named("a"),
            CheckDefinition { interval: seconds(10), ..named("a") },
            CheckDefinition { script: "/bin/true".into(), ..named("a") },
            CheckDefinition { http: "http://x/".into(), ..named("a") },
            CheckDefinition { tcp: "x:1".into(), ..named("a") },
            CheckDefinition { docker_container_id: "c".into(), interval: seconds(10), ..named("a") },
        ];
        for check in incomplete {
            assert_eq!(refused(check), NO_KIND);
        }
        let sound = sound_check(&CheckDefinition { name: "a".into(), ..ttl }, &config::Local::default()).unwrap();
        assert_eq!(sound.id, "a");
    }

    #[test]
    fn a_time_to_live_comes_before_all_other_kinds() {
        let options = config::Local::default();
        let all = CheckDefinition {
            ttl: seconds(15),
            script: "true".into(),
            http: "http://x/".into(),
            tcp: "x:1".into(),
            interval: seconds(10),
            ..named("a")
        };
        assert_eq!(kind(&all, &options), Some(Kind::Ttl(seconds(15))));
        assert_eq!(kinds_named(&all), 4);
        let without = CheckDefinition { ttl: Duration::ZERO, ..all };
        let Some(Kind::Probed(plan)) = kind(&without, &options) else { panic!("not probed") };
        assert!(matches!(plan.question, Question::Http { .. }), "{plan:?}");
    }

    #[test]
    fn intervals_have_a_minimum_and_timeouts_a_default() {
        let options = config::Local::default();
        let plan = |check: CheckDefinition| match kind(&check, &options) {
            Some(Kind::Probed(plan)) => (plan.interval, plan.timeout),
            other => panic!("not probed: {other:?}"),
        };
        let tcp = |interval| CheckDefinition { tcp: "x:1".into(), interval, ..named("a") };
        assert_eq!(plan(tcp(Duration::from_millis(10))), (seconds(1), seconds(1)));
        assert_eq!(plan(tcp(seconds(60))), (seconds(60), seconds(10)));
        assert_eq!(plan(CheckDefinition { timeout: seconds(2), ..tcp(seconds(60)) }), (seconds(60), seconds(2)));
        let script = CheckDefinition { script: "true".into(), interval: seconds(5), ..named("a") };
        assert_eq!(plan(script), (seconds(5), seconds(30)));
    }

    #[test]
    fn commands_are_refused_where_they_are_not_allowed() {
        let options = config::Local { script_checks: false, ..config::Local::default() };
        let script = CheckDefinition { script: "true".into(), interval: seconds(5), ..named("a") };
        let docker = CheckDefinition { docker_container_id: "c".into(), ..script.clone() };
        for check in [script.clone(), docker] {
            assert_eq!(sound_check(&check, &options), Err(bad(NO_SCRIPTS)));
        }
        let service = ServiceDefinition { name: "s".into(), checks: vec![script], ..ServiceDefinition::default() };
        assert_eq!(sound_service(&service, &options), Err(bad(NO_SCRIPTS)));
        let ttl = CheckDefinition { ttl: seconds(5), ..named("a") };
        assert!(sound_check(&ttl, &options).is_ok());
    }

    #[test]
    fn checks_of_a_service_are_named_after_it() {
        let options = config::Local::default();
        let ttl = |n| CheckDefinition { ttl: seconds(n), id: "mine".into(), name: "my".into(), ..named("") };
        let checks = vec![ttl(30), CheckDefinition { http: "http://x/".into(), ..named("") }];
        let one = ServiceDefinition { name: "web".into(), token: "t".into(), checks, ..ServiceDefinition::default() };
        let sound = sound_service(&one, &options).unwrap();
        assert_eq!(sound.service.id, "web");
        let names = |sound: &Sound| sound.checks.iter().map(|check| check.id.clone()).collect::<Vec<_>>();
        assert_eq!(names(&sound), ["service:web"], "what is incomplete does not count");
        assert_eq!((sound.checks[0].name.as_str(), sound.checks[0].token.as_str()), ("Service 'web' check", "t"));
        let two = ServiceDefinition { id: "w1".into(), checks: vec![ttl(1), ttl(2)], ..one.clone() };
        assert_eq!(names(&sound_service(&two, &options).unwrap()), ["service:w1:1", "service:w1:2"]);
        let bogus = CheckDefinition { status: "bogus".into(), ..ttl(1) };
        let wrong = ServiceDefinition { checks: vec![bogus], ..one };
        let text = "Status for checks must 'passing', 'warning', 'critical'";
        assert_eq!(sound_service(&wrong, &options), Err(bad(text)));
    }

    #[test]
    fn definitions_have_a_limit() {
        let notes = |bytes| CheckDefinition { ttl: seconds(1), notes: "x".repeat(bytes), ..named("a") };
        let options = config::Local::default();
        assert!(sound_check(&notes(DEFINITION_BYTES - 1_000), &options).is_ok());
        assert!(sound_check(&notes(DEFINITION_BYTES), &options).is_err());
        let service = |bytes| ServiceDefinition { name: "x".repeat(bytes), ..ServiceDefinition::default() };
        assert!(sound_service(&service(DEFINITION_BYTES), &options).is_err());
        let checks = vec![notes(DEFINITION_BYTES)];
        assert!(sound_service(&ServiceDefinition { checks, ..service(1) }, &options).is_err());
    }

    #[test]
    fn what_users_say_of_a_service_has_its_limits() {
        let with = |meta: Meta| ServiceDefinition { name: "s".into(), meta, ..ServiceDefinition::default() };
        let sound = |meta| sound_service(&with(meta), &config::Local::default());
        assert!(sound(Meta::from([("a-b_1".into(), "x".repeat(META_VALUE_BYTES))])).is_ok());
        let pair = |key: &str, value: String| Meta::from([(key.to_owned(), value)]);
        for meta in [
            pair("", String::new()),
            pair("a.b", String::new()),
            pair(&"k".repeat(META_KEY_BYTES + 1), String::new()),
            pair("a", "x".repeat(META_VALUE_BYTES + 1)),
            (0..=META_PAIRS).map(|n| (n.to_string(), String::new())).collect(),
        ] {
            assert!(matches!(sound(meta), Err(Error::BadDefinition(_))));
        }
    }
}
