//! What clients asked and what they were told, with the times at which they did and were, on the world's
//! clock. Checkers that trust nobody judge by this alone.

use bytes::{BufMut, Bytes, BytesMut};
use lictor_core::api::kv::{self, Request};
use lictor_core::api::{Call, Error, Response};
use lictor_core::id::{CallId, Index};
use lictor_core::time::{Duration, Instant};

/// The place of an operation in the history. It is also the operation's [`CallId`] and the beginning of the
/// value that it writes, if it does: so values are unique, and tell who wrote them.
pub(crate) type OpId = usize;

/// An operation.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) client: usize,
    pub(crate) host: usize,
    /// Which life of the host was asked.
    pub(crate) life: u64,
    pub(crate) request: Request,
    pub(crate) invoked: Instant,
    /// When the agent was told; `None` if a view answered, or nothing did yet.
    pub(crate) fed: Option<Instant>,
    /// The last index of which some client had been told when this began.
    pub(crate) floor: Index,
    pub(crate) end: Option<(Instant, Outcome)>,
}

/// How an operation ended for its client.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// With an answer.
    Answer(Response),
    /// With an error that promises that nothing was done, now or later.
    Refused(Error),
    /// With an error, a broken connection, or the end of the client's patience: a write may take place at
    /// any time from its invocation on, or never.
    Unknown(&'static str),
}

impl Op {
    pub(crate) fn call(&self) -> Call {
        Call::new(self.request.clone())
    }

    /// For how long the client asked to be blocked; `None` for reads that do not block, and writes.
    pub(crate) fn blocks(&self) -> Option<Duration> {
        let read = read_options(&self.request)?;
        (read.index > Index(0)).then(|| read.wait.expect("our clients say how long they wait"))
    }

    pub(crate) fn is_write(&self) -> bool {
        read_options(&self.request).is_none()
    }

    /// Whether the answer concerns this key.
    pub(crate) fn concerns(&self, key: &[u8]) -> bool {
        concerns(&self.request, key)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.end.is_none()
    }
}

/// Whether a request reads or writes this key.
pub(crate) fn concerns(request: &Request, key: &[u8]) -> bool {
    match request {
        Request::Get { key: own, .. } | Request::Put { key: own, .. } | Request::Delete { key: own, .. } => own == key,
        Request::List { prefix, .. } | Request::Keys { prefix, .. } | Request::DeleteTree { prefix } => {
            key.starts_with(prefix)
        }
    }
}

/// How a request reads; `None` if it writes.
pub(crate) fn read_options(request: &Request) -> Option<&lictor_core::api::ReadOptions> {
    match request {
        Request::Get { read, .. } | Request::List { read, .. } | Request::Keys { read, .. } => Some(read),
        Request::Put { .. } | Request::Delete { .. } | Request::DeleteTree { .. } => None,
    }
}

/// What an error says about a write's fate.
pub(crate) fn outcome_of_error(error: Error) -> Outcome {
    match error {
        Error::LeadershipLost => Outcome::Unknown("leadership lost"),
        Error::LeaderUnreachable => Outcome::Unknown("leader unreachable"),
        Error::ShuttingDown => Outcome::Unknown("shutting down"),
        refused => Outcome::Refused(refused),
    }
}

/// The call that carries an operation.
pub(crate) fn call_id(op: OpId) -> CallId {
    CallId(op as u64)
}

/// The operation of a call.
pub(crate) fn op_of(call: CallId) -> OpId {
    usize::try_from(call.0).expect("calls are numbered by their operations")
}

/// A value that only this operation writes, padded to a size.
pub(crate) fn value_of(op: OpId, size: usize) -> Bytes {
    let mut value = BytesMut::with_capacity(size.max(8));
    value.put_u64_le(op as u64);
    let padding = (op % 251) as u8;
    value.resize(size.max(8), padding);
    value.freeze()
}

/// Who wrote a value.
pub(crate) fn writer_of(value: &[u8]) -> Option<OpId> {
    let number = value.first_chunk::<8>()?;
    usize::try_from(u64::from_le_bytes(*number)).ok()
}

/// The entries of an answer to a read.
pub(crate) fn entries_of(response: &Response) -> Option<&kv::Entries> {
    match response {
        Response::KvEntries(read) => Some(&read.value),
        _ => None,
    }
}

/// The index of an answer to a read.
pub(crate) fn index_of(response: &Response) -> Option<Index> {
    match response {
        Response::KvEntries(read) => Some(read.meta.index),
        _ => None,
    }
}

/// One line for stories: what is asked.
pub(crate) fn describe(request: &Request) -> String {
    let text = String::from_utf8_lossy;
    match request {
        Request::Get { key, read } => format!("get {:?}{}", text(key), describe_read(read)),
        Request::List { prefix, read } => format!("list {:?}{}", text(prefix), describe_read(read)),
        Request::Keys { prefix, read, .. } => format!("keys {:?}{}", text(prefix), describe_read(read)),
        Request::Put { key, value, mode, .. } => {
            let writer = writer_of(value).unwrap_or_default();
            match mode {
                kv::PutMode::Cas(index) => format!("put {:?} = #{writer} cas={index}", text(key)),
                kv::PutMode::Acquire(session) => format!("put {:?} = #{writer} acquire={session}", text(key)),
                kv::PutMode::Release(session) => format!("put {:?} = #{writer} release={session}", text(key)),
                kv::PutMode::Set => format!("put {:?} = #{writer}", text(key)),
            }
        }
        Request::Delete { key, cas: None } => format!("delete {:?}", text(key)),
        Request::Delete { key, cas: Some(index) } => format!("delete {:?} cas={index}", text(key)),
        Request::DeleteTree { prefix } => format!("delete tree {:?}", text(prefix)),
    }
}

fn describe_read(read: &lictor_core::api::ReadOptions) -> String {
    let mode = match read.consistency {
        lictor_core::api::Consistency::Default => "",
        lictor_core::api::Consistency::Consistent => " consistent",
        lictor_core::api::Consistency::Stale => " stale",
    };
    match read.wait {
        Some(wait) if read.index > Index(0) => format!("{mode} index={} wait={wait:?}", read.index),
        _ => mode.to_owned(),
    }
}

/// One line for stories: what was answered.
pub(crate) fn describe_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answer(Response::Done(done)) => format!("{done}"),
        Outcome::Answer(Response::KvEntries(read)) => {
            let entries: Vec<String> = read
                .value
                .iter()
                .map(|entry| {
                    let writer = writer_of(&entry.value).unwrap_or_default();
                    let key = String::from_utf8_lossy(&entry.key);
                    let (created, modified) = (entry.create_index, entry.modify_index);
                    let held = entry.session.map(|holder| format!(" locked={} by {holder}", entry.lock_index));
                    format!("{key:?} = #{writer} created={created} modified={modified}{}", held.unwrap_or_default())
                })
                .collect();
            format!("[{}] index={}", entries.join(", "), read.meta.index)
        }
        Outcome::Answer(other) => format!("{other:?}"),
        Outcome::Refused(error) => format!("refused: {error}"),
        Outcome::Unknown(why) => format!("unknown: {why}"),
    }
}
