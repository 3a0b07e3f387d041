//! What the log carries. A command holds everything that its effect depends on beside the store: whatever
//! is random or timed was decided before it was proposed.
//!
//! Commands are encoded by [`wire`](crate::wire) and stay in logs on disk, so variants are only ever added
//! at the end.

use std::fmt;

use serde::{Deserialize, Serialize};

use uuid::Uuid;

use super::{acl, kv, prepared, txn};
use crate::api::catalog::{Deregistration, Registration};
use crate::api::coordinate::Place;
use crate::api::kv::Key;
use crate::api::operator::Autopilot;
use crate::api::session::Session;
use crate::api::snapshot::Step;
use crate::id::{Index, SessionId};

/// A change of the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Of the key-value store.
    Kv(kv::Command),
    /// Forget the deletions up to and including this index, as they are old enough: a client that still
    /// waits with an older index is answered once without need.
    ReapTombstones {
        /// The last deletion to forget.
        up_to: Index,
    },
    /// Changes how the leader looks after the servers.
    SetAutopilot {
        /// The new settings; their indexes are set by the store.
        settings: Autopilot,
        /// Only if this is their modify index.
        cas: Option<Index>,
    },
    /// A step of a restoration: see [`crate::api::snapshot::Request::Restore`].
    Restore {
        /// Which restoration.
        id: Uuid,
        /// The step.
        step: Step,
    },
    /// Enters a node, a service, checks in the catalog.
    Register(Box<Registration>),
    /// Strikes a node, a service or a check out of the catalog.
    Deregister(Deregistration),
    /// Where nodes are. Those that are not in the catalog are left out.
    UpdateCoordinates(Vec<Place>),
    /// Begins a session. Its create index is set by the store.
    CreateSession(Box<Session>),
    /// Ends a session.
    DestroySession {
        /// Which.
        id: SessionId,
        /// Whether it was not renewed in time; else a client wants it.
        expired: bool,
    },
    /// Keys may be locked again: each if its delay is the one since then.
    EndLockDelays(Vec<(Key, Index)>),
    /// Several operations on keys, all or none.
    Txn(Vec<txn::Op>),
    /// Of the prepared queries.
    Prepared(prepared::Command),
    /// Of the tokens.
    Acl(acl::Command),
}

impl From<kv::Command> for Command {
    fn from(command: kv::Command) -> Self {
        Self::Kv(command)
    }
}

/// One line for logs and traces, without values.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kv(command) => write!(f, "kv {command}"),
            Self::ReapTombstones { up_to } => write!(f, "reap-tombstones up_to={up_to}"),
            Self::Register(what) => {
                write!(f, "register node={}", what.node.name)?;
                if let Some(service) = &what.service {
                    write!(f, " service={}", service.id)?;
                }
                what.checks.iter().try_for_each(|check| write!(f, " check={}:{}", check.id, check.status))
            }
            Self::Deregister(Deregistration { node, service_id, check_id }) => {
                write!(f, "deregister node={node} service={service_id} check={check_id}")
            }
            Self::UpdateCoordinates(places) => write!(f, "update-coordinates nodes={}", places.len()),
            Self::CreateSession(session) => {
                write!(f, "create-session {} node={} behavior={}", session.id, session.node, session.behavior)?;
                write!(f, " ttl={:?} lock_delay={:?}", session.ttl.text, session.lock_delay)
            }
            Self::DestroySession { id, expired } => {
                write!(f, "destroy-session {id}{}", if *expired { " expired" } else { "" })
            }
            Self::EndLockDelays(keys) => write!(f, "end-lock-delays keys={}", keys.len()),
            Self::Txn(ops) => {
                f.write_str("txn")?;
                let mut between = ' ';
                ops.iter().try_for_each(|op| write!(f, "{}{op}", std::mem::replace(&mut between, ';')))
            }
            Self::Prepared(prepared::Command::Create(query)) => {
                write!(f, "create-query {} name={} service={}", query.id, query.name, query.service.service)
            }
            Self::Prepared(prepared::Command::Update(query)) => {
                write!(f, "update-query {} name={} service={}", query.id, query.name, query.service.service)
            }
            Self::Prepared(prepared::Command::Delete(id)) => write!(f, "delete-query {id}"),
            // Tokens are secrets: their names must do.
            Self::Acl(acl::Command::Set(token)) => write!(f, "set-token name={:?} {}", token.name, token.kind),
            Self::Acl(acl::Command::Provide(token)) => write!(f, "provide-token name={:?} {}", token.name, token.kind),
            Self::Acl(acl::Command::Clone { .. }) => f.write_str("clone-token"),
            Self::Acl(acl::Command::Destroy { .. }) => f.write_str("destroy-token"),
            Self::SetAutopilot { cas: None, .. } => f.write_str("set-autopilot"),
            Self::SetAutopilot { cas: Some(cas), .. } => write!(f, "set-autopilot cas={cas}"),
            Self::Restore { id, step: Step::Piece { number, bytes } } => {
                write!(f, "restore {id} piece={number} bytes={}", bytes.len())
            }
            Self::Restore { id, step: Step::Finish { pieces } } => write!(f, "restore {id} finish pieces={pieces}"),
            Self::Restore { id, step: Step::Abort } => write!(f, "restore {id} abort"),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire;

    #[test]
    fn commands_survive_the_log_and_read_well() {
        let (key, value) = (Bytes::from_static(b"a/\xff"), Bytes::from_static(b"value"));
        let session = SessionId(uuid::Uuid::from_u128(7));
        let put = |mode| kv::Command::Put { key: key.clone(), value: value.clone(), flags: u64::MAX, mode };
        let id = Uuid::from_u128(9);
        let set = |cas| Command::SetAutopilot { settings: Autopilot::default(), cas };
        let restore = |step| Command::Restore { id, step };
        let delete = || txn::Op::Write(kv::Command::Delete { key: key.clone(), cas: None });
        let token = crate::api::acl::Token {
            id: "secret".to_owned(),
            name: "app".to_owned(),
            kind: crate::api::acl::Kind::Client,
            rules: String::new(),
            create_index: Index(0),
            modify_index: Index(0),
        };
        let (secret, copy) = (token.id.clone(), "copy".to_owned());
        let commands: [(Command, &str); 20] = [
            (put(kv::Mode::Set).into(), r"kv put a/\xff bytes=5 flags=18446744073709551615"),
            (put(kv::Mode::Cas(Index(9))).into(), r"kv put a/\xff bytes=5 flags=18446744073709551615 cas=9"),
            (
                put(kv::Mode::Lock { session, judged_at: Index(8) }).into(),
                r"kv put a/\xff bytes=5 flags=18446744073709551615 lock=00000000-0000-0000-0000-000000000007 judged_at=8",
            ),
            (
                put(kv::Mode::Unlock(session)).into(),
                r"kv put a/\xff bytes=5 flags=18446744073709551615 unlock=00000000-0000-0000-0000-000000000007",
            ),
            (kv::Command::Delete { key: key.clone(), cas: None }.into(), r"kv delete a/\xff"),
            (kv::Command::Delete { key: key.clone(), cas: Some(Index(3)) }.into(), r"kv delete a/\xff cas=3"),
            (kv::Command::DeleteTree { prefix: key.clone() }.into(), r"kv delete-tree a/\xff"),
            (Command::ReapTombstones { up_to: Index(5) }, "reap-tombstones up_to=5"),
            (set(None), "set-autopilot"),
            (set(Some(Index(3))), "set-autopilot cas=3"),
            (
                restore(Step::Piece { number: 4, bytes: value.clone() }),
                "restore 00000000-0000-0000-0000-000000000009 piece=4 bytes=5",
            ),
            (restore(Step::Finish { pieces: 5 }), "restore 00000000-0000-0000-0000-000000000009 finish pieces=5"),
            (restore(Step::Abort), "restore 00000000-0000-0000-0000-000000000009 abort"),
            (Command::Txn(vec![delete(), txn::Op::Get(key.clone())]), r"txn delete a/\xff;get a/\xff"),
            (Command::Txn(vec![txn::Op::Refused("no".to_owned())]), "txn refused \"no\""),
            (Command::Prepared(prepared::Command::Delete(id)), "delete-query 00000000-0000-0000-0000-000000000009"),
            (Command::Acl(acl::Command::Set(token.clone())), "set-token name=\"app\" client"),
            (Command::Acl(acl::Command::Provide(token)), "provide-token name=\"app\" client"),
            (Command::Acl(acl::Command::Clone { source: secret.clone(), id: copy }), "clone-token"),
            (Command::Acl(acl::Command::Destroy { id: secret }), "destroy-token"),
        ];
        for (command, text) in commands {
            assert_eq!(command.to_string(), text);
            let mut bytes = wire::encode(&command);
            assert_eq!(wire::decode::<Command>(&bytes).as_ref(), Ok(&command));
            bytes.pop();
            assert_eq!(wire::decode::<Command>(&bytes), Err(wire::Malformed::Body), "{command} cut short");
        }
    }
}
