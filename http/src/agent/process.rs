//! What the process does and not the agent in it: `/v1/agent/reload` and `/v1/agent/monitor`.

use std::io;
use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;
use tracing::Level;
use warp::http::StatusCode;

use crate::ask::text;
use crate::hooks::{Hooks, Lines};
use crate::params::Params;
use crate::reply::{self, HttpResponse, Refusal};

/// `?loglevel`: INFO if there is none.
pub(super) fn level(params: &Params<'_>) -> Result<Level, Refusal> {
    let name = params.first("loglevel").map(text).unwrap_or_default().to_uppercase();
    match &*name {
        "TRACE" => Ok(Level::TRACE),
        "DEBUG" => Ok(Level::DEBUG),
        "" | "INFO" => Ok(Level::INFO),
        "WARN" => Ok(Level::WARN),
        "ERR" | "ERROR" => Ok(Level::ERROR),
        _ => Err(Refusal::bad_request(format!("Unknown log level: {name}"))),
    }
}

/// Reads the configuration again, to the end, whether or not the client waits for it.
pub(crate) async fn reload(hooks: &Hooks) -> HttpResponse {
    let Some(reloading) = hooks.reload() else { return nobody("reads configuration files again") };
    match tokio::spawn(reloading).await {
        Ok(Ok(())) => reply::empty(),
        Ok(Err(why)) => reply::plain(StatusCode::INTERNAL_SERVER_ERROR, why),
        Err(_) => reply::plain(StatusCode::INTERNAL_SERVER_ERROR, "the reload was broken off"),
    }
}

/// The log from now on, as long as the client listens.
pub(crate) fn monitor(hooks: &Hooks, level: Level) -> HttpResponse {
    let Some(lines) = hooks.monitor(level) else { return nobody("shows its log") };
    reply::log(shared(lines).map(io::Result::Ok))
}

/// The same stream in a form that threads may share: only one at a time ever looks at it.
fn shared(lines: Lines) -> impl futures_util::Stream<Item = bytes::Bytes> + Send + Sync {
    let mut lines = Mutex::new(lines);
    poll_fn(move |context| lines.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll_next(context))
}

fn nobody(does_what: &str) -> HttpResponse {
    reply::plain(StatusCode::NOT_IMPLEMENTED, format!("nothing here {does_what}"))
}
