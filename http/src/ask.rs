//! What each subject makes of a request's method, path and parameters: a call, or one that still needs the body.

use bytes::Bytes;
use lictor_core::api;
use tracing::Level;
use warp::http::Method;

use crate::params::Params;
use crate::reply::Refusal;
use crate::{decode, parse};

/// What a request brings along, beside its path and its body.
#[derive(Clone, Copy)]
pub(crate) struct Form<'f> {
    pub(crate) method: &'f Method,
    pub(crate) params: &'f Params<'f>,
    /// On whose behalf, by parameter or header.
    pub(crate) token: Option<&'f str>,
}

impl Form<'_> {
    /// Insists on one method.
    pub(crate) fn only(&self, method: &Method, allowed: &'static str) -> Result<(), Refusal> {
        if self.method == method { Ok(()) } else { Err(Refusal::wrong_method(self.method, allowed)) }
    }
}

/// What makes a call of a body.
pub(crate) type Completion<'f> = Box<dyn FnOnce(&Bytes) -> Result<Ask, Refusal> + Send + 'f>;

/// What a request asks for.
pub(crate) enum Asked<'f> {
    /// Complete as it is.
    Ready(Ask),
    /// To be completed by the body.
    Body(Completion<'f>),
    /// The same, by the larger body of a transaction.
    Transaction(Completion<'f>),
    /// That the process read its configuration again.
    Reload,
    /// The log, from this level on.
    Monitor(Level),
}

impl<'f> Asked<'f> {
    /// What the body makes complete.
    pub(crate) fn body(read: impl FnOnce(&Bytes) -> Result<Ask, Refusal> + Send + 'f) -> Self {
        Self::Body(Box::new(read))
    }
}

impl From<Ask> for Asked<'_> {
    fn from(ask: Ask) -> Self {
        Self::Ready(ask)
    }
}

/// A call, and the form of its answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Ask {
    pub(crate) request: api::Request,
    /// `None` for the agent's own.
    pub(crate) datacenter: Option<String>,
    pub(crate) shape: Shape,
}

/// What an answer looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// JSON.
    Json,
    /// JSON with the headers of a read, which are there even if it fails.
    Read,
    /// Nothing but the status.
    Empty,
}

impl Ask {
    /// To the datacenter that the parameters name.
    pub(crate) fn new(request: impl Into<api::Request>, shape: Shape, params: &Params<'_>) -> Self {
        Self { request: request.into(), datacenter: params.datacenter(), shape }
    }

    /// To the agent itself, whatever datacenter the parameters name.
    pub(crate) fn here(request: impl Into<api::Request>, shape: Shape) -> Self {
        Self { request: request.into(), datacenter: None, shape }
    }
}

/// Reads a body of JSON, in Consul's loose manner.
pub(crate) fn decoded<T>(body: &Bytes, read: impl FnOnce(&decode::Fields<'_>) -> T) -> Result<T, Refusal> {
    parsed(body, |value| decode::object(value, read))
}

/// The same, with what reads objects elsewhere, too.
pub(crate) fn parsed<T>(
    body: &Bytes,
    read: impl FnOnce(&serde_json::Value) -> Result<T, String>,
) -> Result<T, Refusal> {
    let read = parse::value(body).and_then(|value| read(&value));
    read.map_err(|why| Refusal::bad_request(format!("Request decode failed: {why}")))
}

/// What a path names, as text.
pub(crate) fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// The same, where there must be a name.
pub(crate) fn needed(name: &[u8], or: &'static str) -> Result<String, Refusal> {
    if name.is_empty() { Err(Refusal::bad_request(or)) } else { Ok(text(name)) }
}
