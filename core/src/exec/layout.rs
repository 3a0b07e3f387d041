//! What both ends of remote execution know of each other: the keys, and the forms of what lies under them.
//!
//! | key | value |
//! |---|---|
//! | `<prefix>/<session>/job` | what to run, as JSON ([`Spec`]) |
//! | `<prefix>/<session>/<node>/ack` | nothing: the node has read the job and is about to run it |
//! | `<prefix>/<session>/<node>/out/00000` … | what it writes, up to [`CHUNK_BYTES`] at a time, numbered in five hexadecimal digits; an empty one is a heartbeat |
//! | `<prefix>/<session>/<node>/exit` | how it ended, as a decimal number ([`encode_exit`]) |
//!
//! The event that tells the agents is named [`EVENT`]; its payload is JSON (`Summons`). What others wrote is never trusted: whatever
//! is not exactly of the form is refused.

use std::fmt;
use std::net::SocketAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::exec::Inbox;
use crate::api::kv::Key;
use crate::id::{PeerId, SessionId};
use crate::time::Duration;

/// The name of the events that tell agents of a job.
pub const EVENT: &str = "_rexec";

/// The prefix of the keys, if the initiator names no other.
pub const DEFAULT_PREFIX: &str = "_rexec";

/// The most that one key takes of what a command writes.
pub const CHUNK_BYTES: usize = 4096;

/// How a command ended that could not be run, or not be followed to its end.
pub const NOT_RUN: i32 = 255;

/// How a command ended that was killed by a signal.
pub const KILLED: i32 = -1;

/// The longest payload of an event, the longest job and the longest exit that are looked at. Stores and pools of others may have
/// other limits.
const MAX_SUMMONS_BYTES: usize = 4 << 10;
const MAX_SPEC_BYTES: usize = 1 << 20;
const MAX_EXIT_BYTES: usize = 16;

/// Why something is not of the form that is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is longer than anything that is meant in earnest.
    #[error("{bytes} bytes are too many")]
    TooLong {
        /// Its size.
        bytes: usize,
    },
    /// It is no JSON, or other JSON than expected.
    #[error("{0}")]
    Json(String),
    /// The session is none.
    #[error("'{0}' is no session")]
    Session(String),
    /// A script that is no base64.
    #[error("the script is not in base64")]
    Script,
    /// There is nothing to run.
    #[error("there is no command")]
    NoCommand,
    /// A number that is none, or out of range.
    #[error("not a number")]
    Number,
}

/// Where the keys of one job are: the prefix and the session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Without slashes that mean nothing.
    prefix: String,
    session: SessionId,
}

impl Place {
    /// The place of a session's job below a prefix, which is brought into Go's shortest form (`path.Clean`), as Consul does: slashes at
    /// its end do not count. An empty prefix is fine.
    #[must_use]
    pub fn new(prefix: &str, session: SessionId) -> Self {
        Self { prefix: clean(prefix), session }
    }

    /// The session that all keys are locked with.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// What all keys begin with, slash included.
    #[must_use]
    pub fn root(&self) -> String {
        match self.prefix.as_str() {
            "" => format!("{}/", self.session),
            "/" => format!("/{}/", self.session),
            prefix => format!("{prefix}/{}/", self.session),
        }
    }

    /// The key of the job.
    #[must_use]
    pub fn job(&self) -> Key {
        (self.root() + "job").into()
    }

    /// The key of a node's acknowledgement.
    #[must_use]
    pub fn ack(&self, node: &str) -> Key {
        format!("{}{node}/ack", self.root()).into()
    }

    /// The key of a piece of a node's output, from 0.
    #[must_use]
    pub fn output(&self, node: &str, number: u32) -> Key {
        format!("{}{node}/out/{number:05x}", self.root()).into()
    }

    /// The key of how the command ended on a node.
    #[must_use]
    pub fn exit(&self, node: &str) -> Key {
        format!("{}{node}/exit", self.root()).into()
    }

    /// What a key of this job stands for; `None` if it is none of its keys.
    #[must_use]
    pub fn read<'a>(&self, key: &'a [u8]) -> Option<Track<'a>> {
        let rest = std::str::from_utf8(key.strip_prefix(self.root().as_bytes())?).ok()?;
        if rest == "job" {
            return Some(Track::Job);
        }
        let (before, last) = rest.rsplit_once('/')?;
        let track = match last {
            "ack" => Track::Ack { node: before },
            "exit" => Track::Exit { node: before },
            number => {
                let node = before.strip_suffix("/out")?;
                Track::Output { node, number: parse_number(number)? }
            }
        };
        (!track.node().is_some_and(str::is_empty)).then_some(track)
    }

    /// The payload of the event that tells of the job.
    #[must_use]
    pub fn summons(&self) -> Bytes {
        let summons = Summons { prefix: self.prefix.clone(), session: self.session.to_string() };
        serde_json::to_vec(&summons).expect("two texts are JSON").into()
    }

    /// Where the job is that an event tells of.
    ///
    /// # Errors
    /// If the payload is not of the form, or names no session.
    pub fn summoned(payload: &[u8]) -> Result<Self, Malformed> {
        let summons: Summons = from_json(payload, MAX_SUMMONS_BYTES)?;
        let session = SessionId::parse(&summons.session).filter(|id| id.to_string() == summons.session);
        let session = session.ok_or(Malformed::Session(summons.session))?;
        Ok(Self::new(&summons.prefix, session))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.root().trim_end_matches('/'))
    }
}

/// What a key of a job stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Track<'a> {
    /// The job itself.
    Job,
    /// A node has read the job.
    Ack {
        /// Which.
        node: &'a str,
    },
    /// A piece of what the command wrote on a node.
    Output {
        /// Which node.
        node: &'a str,
        /// Which piece, from 0.
        number: u32,
    },
    /// How it ended on a node.
    Exit {
        /// Which.
        node: &'a str,
    },
}

impl<'a> Track<'a> {
    /// The node that it is of.
    #[must_use]
    pub const fn node(&self) -> Option<&'a str> {
        match self {
            Self::Job => None,
            Self::Ack { node } | Self::Output { node, .. } | Self::Exit { node } => Some(node),
        }
    }
}

/// The payload of the event.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Summons {
    #[serde(default)]
    prefix: String,
    session: String,
}

/// A job: what is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// What to run.
    pub order: Order,
    /// For how long nobody must be silent (`-wait`): agents send a heartbeat when they have had nothing to tell for so long. Of
    /// what others write, nothing above about 292 years and nothing below zero is taken.
    pub wait: Duration,
    /// Where what it writes is collected, beyond the first part of it. Consul's agents do not look at it.
    pub inbox: Option<Inbox>,
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// A line for the shell.
    Command(String),
    /// A program and its arguments; at least the program.
    Program(Vec<String>),
    /// The bytes of a file that can be run; never empty. Without a line `#!` it is one for the shell.
    Script(Bytes),
}

/// The form of a job. What is empty is left out.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SpecForm {
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Vec<String>>,
    /// In base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<String>,
    /// Nanoseconds.
    wait: i64,
    /// An [`InboxForm`]. Whatever else it may be is left alone, as Consul's agents do with all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    inbox: Option<serde_json::Value>,
}

/// The form of an inbox. Its IDs go without dashes: who looks for sessions and events by their IDs shall not find these.
#[derive(Debug, Serialize, Deserialize)]
struct InboxForm {
    #[serde(rename = "ID", with = "uuid::serde::simple")]
    id: Uuid,
    #[serde(rename = "Peer", with = "uuid::serde::simple")]
    peer: Uuid,
    #[serde(rename = "Address")]
    address: SocketAddr,
}

impl Spec {
    /// The value of the job's key.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let wait = i64::try_from(self.wait.as_nanos()).unwrap_or(i64::MAX);
        let inbox = self.inbox.map(|Inbox { id, peer, address }| InboxForm { id, peer: peer.0, address });
        let inbox = inbox.map(|form| serde_json::to_value(form).expect("three texts are JSON"));
        let mut form = SpecForm { wait, inbox, ..SpecForm::default() };
        match &self.order {
            Order::Command(line) => form.command = Some(line.clone()),
            Order::Program(words) => form.args = Some(words.clone()),
            Order::Script(bytes) => form.script = Some(BASE64_STANDARD.encode(bytes)),
        }
        serde_json::to_vec(&form).expect("texts and a number are JSON").into()
    }

    /// Reads the value of a job's key. A script goes before a program with arguments, and that before a line for the shell.
    ///
    /// # Errors
    /// If it is not of the form, or there is nothing to run.
    pub fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let form: SpecForm = from_json(value, MAX_SPEC_BYTES)?;
        let wait = Duration::from_nanos(u64::try_from(form.wait).unwrap_or(0));
        let inbox = form.inbox.and_then(|inbox| serde_json::from_value(inbox).ok());
        let inbox = inbox.map(|InboxForm { id, peer, address }| Inbox { id, peer: PeerId(peer), address });
        let script = form.script.filter(|script| !script.is_empty());
        let program = form.args.filter(|words| words.first().is_some_and(|program| !program.is_empty()));
        let order = match (script, program, form.command) {
            (Some(script), _, _) => {
                Order::Script(BASE64_STANDARD.decode(script).map_err(|_| Malformed::Script)?.into())
            }
            (None, Some(words), _) => Order::Program(words),
            (None, None, Some(line)) if !line.is_empty() => Order::Command(line),
            (None, None, _) => return Err(Malformed::NoCommand),
        };
        Ok(Self { order, wait, inbox })
    }
}

/// The value of an exit's key.
#[must_use]
pub fn encode_exit(code: i32) -> Bytes {
    code.to_string().into()
}

/// Reads the value of an exit's key.
///
/// # Errors
/// If it is no decimal number of 32 bits.
pub fn decode_exit(value: &[u8]) -> Result<i32, Malformed> {
    if value.len() > MAX_EXIT_BYTES {
        return Err(Malformed::TooLong { bytes: value.len() });
    }
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(Malformed::Number)
}

/// A piece's number: five hexadecimal digits, or as many as it takes beyond that.
fn parse_number(text: &str) -> Option<u32> {
    let number = u32::from_str_radix(text, 16).ok()?;
    (format!("{number:05x}") == text).then_some(number)
}

fn from_json<T: serde::de::DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, Malformed> {
    if bytes.len() > limit {
        return Err(Malformed::TooLong { bytes: bytes.len() });
    }
    serde_json::from_slice(bytes).map_err(|error| Malformed::Json(error.to_string()))
}

/// The shortest path that means the same (`path.Clean` of Go), but empty for an empty one.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    if rooted { format!("/{joined}") } else { joined }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SESSION: &str = "adf4238a-882b-9ddc-4a9d-5b6758e4159e";

    fn place(prefix: &str) -> Place {
        Place::new(prefix, SessionId::parse(SESSION).unwrap())
    }

    fn text(bytes: &Bytes) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn keys_are_where_consul_has_them() {
        let place = place("_rexec");
        assert_eq!(text(&place.job()), format!("_rexec/{SESSION}/job"));
        assert_eq!(text(&place.ack("foobar")), format!("_rexec/{SESSION}/foobar/ack"));
        assert_eq!(text(&place.output("foobar", 0)), format!("_rexec/{SESSION}/foobar/out/00000"));
        assert_eq!(text(&place.output("foobar", 0x1f)), format!("_rexec/{SESSION}/foobar/out/0001f"));
        assert_eq!(text(&place.exit("foobar")), format!("_rexec/{SESSION}/foobar/exit"));
        assert_eq!(place.to_string(), format!("_rexec/{SESSION}"));
    }

    #[test]
    fn prefixes_are_brought_into_their_shortest_form() {
        for (prefix, root) in [
            ("jobs", "jobs/"),
            ("jobs/", "jobs/"),
            ("a//b/./c/", "a/b/c/"),
            ("a/../b", "b/"),
            ("../a", "../a/"),
            ("", ""),
            (".", ""),
            ("/", "/"),
            ("/..", "/"),
            ("/a", "/a/"),
        ] {
            assert_eq!(place(prefix).root(), format!("{root}{SESSION}/"), "{prefix:?}");
        }
    }

    #[test]
    fn keys_are_read_and_others_are_not() {
        let place = place("jobs");
        let read = |rest: &str| {
            let key = format!("jobs/{SESSION}/{rest}");
            place.read(key.as_bytes()).map(|track| format!("{track:?}"))
        };
        assert_eq!(read("job").as_deref(), Some("Job"));
        assert_eq!(read("n/ack").as_deref(), Some(r#"Ack { node: "n" }"#));
        assert_eq!(read("n/exit").as_deref(), Some(r#"Exit { node: "n" }"#));
        assert_eq!(read("n/out/0000a").as_deref(), Some(r#"Output { node: "n", number: 10 }"#));
        assert_eq!(read("n/out/1abcde").as_deref(), Some(r#"Output { node: "n", number: 1752286 }"#));
        assert_eq!(read("a/b/ack").as_deref(), Some(r#"Ack { node: "a/b" }"#), "a node may be called anything");
        for other in
            ["", "ack", "/ack", "n/out", "n/out/", "n/out/0", "n/out/0000A", "n/out/+0001", "n/other", "/out/00000"]
        {
            assert_eq!(read(other), None, "{other}");
        }
        assert_eq!(place.read(b"jobs/other/n/ack"), None);
        assert_eq!(place.read(&[b"jobs/", SESSION.as_bytes(), b"/\xff/ack"].concat()), None);
    }

    #[test]
    fn events_read_as_consuls() {
        let payload = format!(r#"{{"Prefix":"_rexec","Session":"{SESSION}"}}"#);
        assert_eq!(text(&place("_rexec/").summons()), payload);
        assert_eq!(Place::summoned(payload.as_bytes()), Ok(place("_rexec")));
        let more = format!(r#"{{"Session":"{SESSION}","Prefix":"a","More":[1]}}"#);
        assert_eq!(Place::summoned(more.as_bytes()), Ok(place("a")));
        for bad in
            ["", "{}", "[]", "null", r#"{"Prefix":"a","Session":"x"}"#, r#"{"Prefix":1,"Session":"x"}"#, "{\"Prefix\":"]
        {
            assert!(Place::summoned(bad.as_bytes()).is_err(), "{bad}");
        }
        let upper = format!(r#"{{"Prefix":"a","Session":"{}"}}"#, SESSION.to_uppercase());
        assert!(Place::summoned(upper.as_bytes()).is_err(), "its keys would have another name");
        let long = format!(r#"{{"Prefix":"{}","Session":"{SESSION}"}}"#, "a".repeat(MAX_SUMMONS_BYTES));
        assert!(matches!(Place::summoned(long.as_bytes()), Err(Malformed::TooLong { .. })));
    }

    #[test]
    fn jobs_read_as_consuls() {
        let second = Duration::from_secs(1);
        for (order, json) in [
            (Order::Command("exit 9".to_owned()), r#"{"Command":"exit 9","Wait":1000000000}"#),
            (
                Order::Program(vec!["echo".to_owned(), "$HOME".to_owned(), "a b".to_owned()]),
                r#"{"Args":["echo","$HOME","a b"],"Wait":1000000000}"#,
            ),
            (
                Order::Script(Bytes::from_static(b"sleep 0.75; echo script")),
                r#"{"Script":"c2xlZXAgMC43NTsgZWNobyBzY3JpcHQ=","Wait":1000000000}"#,
            ),
        ] {
            let spec = Spec { order, wait: second, inbox: None };
            assert_eq!(text(&spec.encode()), json);
            assert_eq!(Spec::decode(json.as_bytes()), Ok(spec));
        }
        let command = |line: &str, wait| Ok(Spec { order: Order::Command(line.to_owned()), wait, inbox: None });
        let zero = r#"{"Command":"x","Args":null,"Script":"","Wait":-5,"Other":{}}"#;
        assert_eq!(Spec::decode(zero.as_bytes()), command("x", Duration::ZERO));
        assert_eq!(Spec::decode(br#"{"Command":"x"}"#), command("x", Duration::ZERO));
        let longest = command("x", Duration::from_nanos(i64::MAX as u64));
        assert_eq!(Spec::decode(br#"{"Command":"x","Wait":9223372036854775807}"#), longest);
    }

    #[test]
    fn a_job_may_say_where_its_output_is_collected() {
        let inbox =
            Inbox { id: Uuid::from_u128(1), peer: PeerId::numbered(2), address: "127.0.0.1:8300".parse().unwrap() };
        let spec = Spec { order: Order::Command("x".to_owned()), wait: Duration::ZERO, inbox: Some(inbox) };
        let json = spec.encode();
        assert_eq!(text(&json), {
            r#"{"Command":"x","Wait":0,"Inbox":{"Address":"127.0.0.1:8300","ID":"00000000000000000000000000000001","Peer":"00000000000000000000000000000002"}}"#
        });
        assert_eq!(Spec::decode(&json), Ok(spec.clone()));
        for other in ["7", "{}", r#"{"ID":"x"}"#, "[]", "null"] {
            let json = format!(r#"{{"Command":"x","Wait":0,"Inbox":{other}}}"#);
            assert_eq!(Spec::decode(json.as_bytes()), Ok(Spec { inbox: None, ..spec.clone() }), "{other}");
        }
    }

    #[test]
    fn jobs_of_another_form_are_refused() {
        for bad in [
            "",
            "null",
            "{}",
            r#"{"Command":""}"#,
            r#"{"Args":[]}"#,
            r#"{"Args":["","x"]}"#,
            r#"{"Script":"%"}"#,
            r#"{"Command":7}"#,
            r#"{"Command":"x","Wait":"1s"}"#,
            r#"{"Command":"x","Wait":9223372036854775808}"#,
            r#"{"Command":"x"} more"#,
        ] {
            assert!(Spec::decode(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(Spec::decode(b"{}"), Err(Malformed::NoCommand));
        let deep = "[".repeat(100_000);
        assert!(Spec::decode(format!(r#"{{"X":{deep}"#).as_bytes()).is_err());
        let long = format!(r#"{{"Command":"{}"}}"#, "a".repeat(MAX_SPEC_BYTES));
        assert!(matches!(Spec::decode(long.as_bytes()), Err(Malformed::TooLong { .. })));
    }

    #[test]
    fn exits_are_decimal_numbers() {
        for code in [0, 9, 255, -1, i32::MAX, i32::MIN] {
            assert_eq!(decode_exit(&encode_exit(code)), Ok(code));
        }
        assert_eq!(encode_exit(KILLED), "-1");
        for bad in ["", "x", "1.0", " 1", "2147483648", "000000000000000001"] {
            assert!(decode_exit(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(prefix in "[a-z/.]{0,12}", node in "[a-z0-9./-]{1,8}", number: u32) {
            let place = place(&prefix);
            let (ack, exit, output) = (place.ack(&node), place.exit(&node), place.output(&node, number));
            prop_assert_eq!(place.read(&ack), Some(Track::Ack { node: &node }));
            prop_assert_eq!(place.read(&exit), Some(Track::Exit { node: &node }));
            prop_assert_eq!(place.read(&output), Some(Track::Output { node: &node, number }));
            let job = place.job();
            prop_assert_eq!(place.read(&job), Some(Track::Job));
            prop_assert_eq!(Place::summoned(&place.summons()), Ok(place));
        }

        #[test]
        fn whatever_others_write_does_no_harm(bytes: Vec<u8>) {
            let _ = (Place::summoned(&bytes), Spec::decode(&bytes), decode_exit(&bytes), place("x").read(&bytes));
        }
    }
}
