//! Transactions: several operations on keys, at one index, all or none.
//!
//! They run on a clone of the table, which costs nothing and takes the table's place only if none of them failed. All of them run
//! in any case, each upon what those before it have left, so that every one that fails is told.
//!
//! Whether a transaction takes place is decided here and nowhere before, with one exception: what is wrong with it whatever the
//! store holds, and what only clocks tell, a lock delay, keeps it out of the log altogether ([`prepare`]), as in Consul.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::kv::{self, Mode, Refusal, Table};
use super::session::Sessions;
use super::{Answer, Applied, Body, Store, Touch};
use crate::api::kv::{Entry, Key};
use crate::api::txn::{self, Fault, Outcome, Told, Verb};
use crate::api::{Error, Response};
use crate::id::{Index, SessionId};

/// The most bytes that the results of a transaction may take. An operation that would tell more fails.
const MAX_TOLD_BYTES: usize = 32 << 20;

/// What an entry takes in the results beside its key and its value, at most.
const ENTRY_BYTES: usize = 128;

/// An operation of a transaction, in the form that the log carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Changes something, as if it were asked for on its own; fails if its condition does not hold.
    Write(kv::Command),
    /// Reads a key; fails if it is not there.
    Get(Key),
    /// Reads all keys with a prefix.
    GetTree(Key),
    /// Fails unless this is the key's modify index.
    CheckIndex {
        /// The key.
        key: Key,
        /// What it must be.
        index: Index,
    },
    /// Fails unless this session holds the lock on the key; an empty text stands for nobody.
    CheckSession {
        /// The key.
        key: Key,
        /// Who must hold it, as the client wrote it.
        session: String,
    },
    /// Fails if the key is there.
    CheckNotExists(Key),
    /// Fails, for this reason.
    Refused(String),
}

/// Understands the operations of a transaction. `lock` says how a key is put for a session that wants the lock on it; nothing if
/// nobody can have it yet.
///
/// # Errors
/// If some of them cannot take place whatever the store holds, or not yet: all of those.
pub fn prepare(ops: &[txn::Op], lock: impl Fn(&Key, SessionId) -> Option<Mode>) -> Result<Vec<Op>, Vec<Fault>> {
    let (mut understood, mut faults) = (Vec::with_capacity(ops.len()), Vec::new());
    for (place, op) in ops.iter().enumerate() {
        match prepare_one(op, &lock) {
            Ok(op) => understood.push(op),
            Err(what) => faults.push(Fault { op: place, what }),
        }
    }
    if faults.is_empty() { Ok(understood) } else { Err(faults) }
}

fn prepare_one(op: &txn::Op, lock: impl Fn(&Key, SessionId) -> Option<Mode>) -> Result<Op, String> {
    let txn::Op { verb, key, value, flags, index, session } = op;
    if key.is_empty() && *verb != Verb::DeleteTree {
        return Err("Must provide key".to_owned());
    }
    let refused = |error: &Error| Ok(Op::Refused(error.to_string()));
    let key = key.clone();
    let put = |key, mode| Ok(Op::Write(kv::Command::Put { key, value: value.clone(), flags: *flags, mode }));
    match verb {
        Verb::Set => put(key, Mode::Set),
        Verb::Cas => put(key, Mode::Cas(*index)),
        Verb::Lock | Verb::Unlock if session.is_empty() => refused(&Error::MissingSession),
        Verb::Lock => match SessionId::parse(session) {
            None => refused(&Error::MalformedSession),
            Some(session) => match lock(&key, session) {
                None => Err(reason(&key, false, Refusal::Delayed)),
                Some(mode) => put(key, mode),
            },
        },
        Verb::Unlock => match SessionId::parse(session) {
            // Whatever holds the key, it is not this.
            None => Ok(Op::Refused(reason(&key, false, Refusal::NotHeld))),
            Some(session) => put(key, Mode::Unlock(session)),
        },
        Verb::Get => Ok(Op::Get(key)),
        Verb::GetTree => Ok(Op::GetTree(key)),
        Verb::CheckIndex => Ok(Op::CheckIndex { key, index: *index }),
        Verb::CheckSession => Ok(Op::CheckSession { key, session: session.clone() }),
        Verb::CheckNotExists => Ok(Op::CheckNotExists(key)),
        Verb::Delete => Ok(Op::Write(kv::Command::Delete { key, cas: None })),
        Verb::DeleteCas => Ok(Op::Write(kv::Command::Delete { key, cas: Some(*index) })),
        Verb::DeleteTree => Ok(Op::Write(kv::Command::DeleteTree { prefix: key })),
        Verb::Unknown(verb) => Ok(Op::Refused(format!("unknown KV verb {}", quoted(verb.as_bytes())))),
    }
}

impl Store {
    /// Applies a transaction.
    pub(super) fn transact(&mut self, index: Index, ops: Vec<Op>) -> Applied {
        let mut table = self.kv.clone();
        let (outcome, mut touched) = Run::all(&mut table, &self.sessions, index, ops);
        if outcome.faults.is_empty() {
            self.kv = table;
            let mut seen = BTreeSet::new();
            touched.retain(|touch| !matches!(touch, Touch::Key(key) if !seen.insert(key.clone())));
        } else {
            touched.clear();
        }
        Applied { response: Ok(Response::Txn(outcome)), touched }
    }

    /// What a transaction that only reads tells; `None` if it writes. It never waits for anything newer, so that it is news
    /// whatever index is known.
    pub(super) fn query_txn(&self, request: &txn::Request) -> Option<Answer> {
        if !request.is_read_only() {
            return None;
        }
        let outcome = match prepare(&request.ops, |_, _| None) {
            Err(faults) => Outcome { faults, ..Outcome::default() },
            Ok(ops) => Run::all(&mut self.kv.clone(), &self.sessions, self.visible_index(), ops).0,
        };
        let index = self.kv.changed().max(self.restored_at).max(Index(1));
        Some(Answer { index, changed: Index(u64::MAX), body: Body::Txn(outcome) })
    }
}

/// A transaction that is under way.
struct Run<'a> {
    table: &'a mut Table,
    sessions: &'a Sessions,
    index: Index,
    touched: Vec<Touch>,
    results: Results,
}

impl<'a> Run<'a> {
    /// Runs all operations, and says what they tell and what they have touched.
    fn all(table: &'a mut Table, sessions: &'a Sessions, index: Index, ops: Vec<Op>) -> (Outcome, Vec<Touch>) {
        let mut run = Self { table, sessions, index, touched: Vec::new(), results: Results::default() };
        let mut faults = Vec::new();
        for (place, op) in ops.into_iter().enumerate() {
            if let Err(what) = run.one(op) {
                faults.push(Fault { op: place, what });
            }
        }
        let results = if faults.is_empty() { run.results.told } else { Vec::new() };
        (Outcome { results, faults, read: None }, run.touched)
    }

    fn one(&mut self, op: Op) -> Result<(), String> {
        match op {
            Op::Write(command) => self.write(command),
            Op::Get(key) => {
                let entry = self.table.entry(&key).ok_or_else(|| format!("key {} doesn't exist", quoted(&key)))?;
                self.results.tell(entry)
            }
            Op::GetTree(prefix) => self.table.entries_under(&prefix).try_for_each(|entry| self.results.tell(entry)),
            Op::CheckIndex { key, index } => {
                let shown = || quoted(&key);
                let entry = self.table.entry(&key);
                let entry = entry.ok_or_else(|| format!("failed to check index, key {} doesn't exist", shown()))?;
                let current = entry.modify_index;
                if current != index {
                    return Err(format!(
                        "failed index check for key {}, current modify index {current} != {index}",
                        shown()
                    ));
                }
                self.results.tell_without_value(entry)
            }
            Op::CheckSession { key, session } => {
                let shown = || quoted(&key);
                let entry = self.table.entry(&key);
                let entry = entry.ok_or_else(|| format!("failed to check session, key {} doesn't exist", shown()))?;
                let current = entry.session.map(|holder| holder.to_string()).unwrap_or_default();
                if current != session {
                    let wanted = quoted(session.as_bytes());
                    return Err(format!(
                        "failed session check for key {}, current session \"{current}\" != {wanted}",
                        shown()
                    ));
                }
                self.results.tell_without_value(entry)
            }
            Op::CheckNotExists(key) => match self.table.entry(&key) {
                Some(_) => Err(format!("key {} exists", quoted(&key))),
                None => Ok(()),
            },
            Op::Refused(what) => Err(what),
        }
    }

    fn write(&mut self, command: kv::Command) -> Result<(), String> {
        let (key, deletes) = match &command {
            kv::Command::Put { key, .. } => (key.clone(), false),
            kv::Command::Delete { key, .. } | kv::Command::DeleteTree { prefix: key } => (key.clone(), true),
        };
        match self.table.write(self.index, command, self.sessions, &mut self.touched) {
            Ok(None) => Ok(()),
            Ok(Some(entry)) => self.results.tell_without_value(&entry),
            Err(refusal) => Err(reason(&key, deletes, refusal)),
        }
    }
}

/// What the operations tell, within [`MAX_TOLD_BYTES`].
#[derive(Debug, Default)]
struct Results {
    told: Vec<Told>,
    bytes: usize,
}

impl Results {
    fn tell(&mut self, entry: &Arc<Entry>) -> Result<(), String> {
        self.push(Told { entry: Arc::clone(entry), with_value: true })
    }

    /// Tells an entry without what is stored in it, which is not even carried along.
    fn tell_without_value(&mut self, entry: &Entry) -> Result<(), String> {
        let entry = Entry { value: Bytes::new(), ..entry.clone() };
        self.push(Told { entry: Arc::new(entry), with_value: false })
    }

    fn push(&mut self, told: Told) -> Result<(), String> {
        self.bytes += ENTRY_BYTES + told.entry.key.len() + told.entry.value.len();
        if self.bytes > MAX_TOLD_BYTES {
            return Err(format!("the results of the transaction exceed {MAX_TOLD_BYTES} bytes"));
        }
        self.told.push(told);
        Ok(())
    }
}

/// Why an operation did not take place, in Consul's words.
fn reason(key: &[u8], deletes: bool, refusal: Refusal) -> String {
    let shown = quoted(key);
    match refusal {
        Refusal::Stale if deletes => format!("failed to delete key {shown}, index is stale"),
        Refusal::Stale => format!("failed to set key {shown}, index is stale"),
        Refusal::NoSession(session) => Error::InvalidSession(session.to_string()).to_string(),
        Refusal::Held => format!("failed to lock key {shown}, lock is already held"),
        Refusal::Delayed => format!("failed to lock key {shown} due to lock delay"),
        Refusal::NotHeld => {
            format!("failed to unlock key {shown}, lock isn't held, or is held by another session")
        }
    }
}

/// A text in double quotes as Go shows it; what is no UTF-8, byte by byte.
fn quoted(text: &[u8]) -> String {
    let mut shown = String::with_capacity(text.len() + 2);
    shown.push('"');
    for chunk in text.utf8_chunks() {
        for sign in chunk.valid().chars() {
            match sign {
                '"' => shown.push_str("\\\""),
                '\\' => shown.push_str("\\\\"),
                '\u{7}' => shown.push_str("\\a"),
                '\u{8}' => shown.push_str("\\b"),
                '\u{b}' => shown.push_str("\\v"),
                '\u{c}' => shown.push_str("\\f"),
                '\n' => shown.push_str("\\n"),
                '\r' => shown.push_str("\\r"),
                '\t' => shown.push_str("\\t"),
                sign if sign.is_ascii_control() => shown.push_str(&format!("\\x{:02x}", u32::from(sign))),
                sign if sign.is_control() => shown.push_str(&format!("\\u{:04x}", u32::from(sign))),
                sign => shown.push(sign),
            }
        }
        chunk.invalid().iter().for_each(|byte| shown.push_str(&format!("\\x{byte:02x}")));
    }
    shown.push('"');
    shown
}

/// For logs and traces, without values.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(command) => command.fmt(f),
            Self::Get(key) => write!(f, "get {}", key.escape_ascii()),
            Self::GetTree(prefix) => write!(f, "get-tree {}", prefix.escape_ascii()),
            Self::CheckIndex { key, index } => write!(f, "check-index {} {index}", key.escape_ascii()),
            Self::CheckSession { key, session } => write!(f, "check-session {} {session:?}", key.escape_ascii()),
            Self::CheckNotExists(key) => write!(f, "check-not-exists {}", key.escape_ascii()),
            Self::Refused(what) => write!(f, "refused {what:?}"),
        }
    }
}

#[cfg(test)]
#[path = "txn_tests.rs"]
mod tests;
