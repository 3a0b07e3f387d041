//! Commands in containers, by way of Docker's engine: a command is created, started, listened to until it has ended, and
//! then asked how.
//!
//! The engine has no means to end a command that takes too long: it is not listened to any more, and runs on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use hyper::header::{self, HeaderValue};
use lictor_core::io::Finding;
use lictor_core::probe::Command;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::net::UnixStream;

use super::exchange::{Answer, Stream, because, exchange};
use super::tail::Tail;
use super::tcp;
use crate::errands::Errands;
use crate::error::words;
use crate::resolve::Resolver;

/// Where the engine listens, if `DOCKER_HOST` does not say otherwise.
const SOCKET: &str = "/var/run/docker.sock";

/// The shell for commands that are a line, if the check names none.
const SHELL: &str = "/bin/sh";

/// The longest answer of the engine, a command's output apart.
const ANSWER_BYTES: usize = 64 << 10;

/// How soon a command whose output has ended is asked again whether it has, too.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The way to Docker's engine. Clones are cheap.
#[derive(Clone)]
pub(super) struct Docker {
    errands: Errands,
    resolver: Resolver,
    place: Arc<Result<Place, String>>,
}

/// Where the engine listens.
#[derive(Debug, PartialEq)]
enum Place {
    Unix(PathBuf),
    Tcp(String, u16),
}

impl Docker {
    /// The engine that `DOCKER_HOST` names, or that of this machine.
    pub(super) fn of_environment(errands: Errands, resolver: Resolver) -> Self {
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        Self { errands, resolver, place: Arc::new(place(&host)) }
    }

    /// Runs a command in a container.
    pub(super) async fn run(&self, container: &str, command: &Command, shell: &str) -> Finding {
        let shell = if shell.is_empty() { SHELL } else { shell };
        let words = match command {
            Command::Shell(line) => vec![shell, "-c", line],
            Command::Program(words) => words.iter().map(String::as_str).collect(),
        };
        self.try_run(container, &words).await.unwrap_or_else(|reason| Finding::Failed { reason })
    }

    async fn try_run(&self, container: &str, words: &[&str]) -> Result<Finding, String> {
        let failed = |doing: &'static str| move |error| format!("Unable to {doing} Exec, error: {error}");
        let command = json!({
            "AttachStdin": false, "AttachStdout": true, "AttachStderr": true, "Tty": false, "Cmd": words,
        });
        let created = self.ask(Method::POST, &format!("/containers/{}/exec", escaped(container)), Some(&command)).await;
        let created = parsed(created.map_err(failed("create"))?).await.map_err(failed("create"))?;
        let id = created["Id"].as_str().ok_or_else(|| failed("create")("the answer names none".to_owned()))?;
        let id = escaped(id);

        let how = json!({ "Detach": false, "Tty": false });
        let started = self.ask(Method::POST, &format!("/exec/{id}/start"), Some(&how)).await;
        let mut started = started.map_err(failed("start"))?;
        let (mut demux, mut tail) = (Demux::default(), Tail::default());
        let read = started.read(|piece| {
            demux.feed(piece, &mut tail);
            true
        });
        read.await.map_err(|error| failed("start")(because(&error)))?;
        drop(started);

        loop {
            let state = self.ask(Method::GET, &format!("/exec/{id}/json"), None).await.map_err(failed("inspect"))?;
            let state = parsed(state).await.map_err(failed("inspect"))?;
            match (&state["Running"], state["ExitCode"].as_i64()) {
                (Value::Bool(true), _) => tokio::time::sleep(AGAIN_AFTER).await,
                (_, Some(code)) => return Ok(tail.exited(i32::try_from(code).ok())),
                (_, None) => return Err(failed("inspect")("the answer names no exit code".to_owned())),
            }
        }
    }

    /// Sends a request, and waits for the head of an answer that is no refusal.
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        let mut request = hyper::Request::new(Full::new(Bytes::new()));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|error| format!("{path:?}: {error}"))?;
        if let Some(body) = body {
            *request.body_mut() = Full::new(body.to_string().into());
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("docker"));
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        let stream = self.connect().await?;
        let mut answer = exchange(&self.errands, stream, request).await.map_err(|error| because(&error))?;
        let status = answer.response.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.beginning(ANSWER_BYTES).await.unwrap_or_default();
        let why = serde_json::from_slice::<Value>(&body).ok();
        let why = why.and_then(|why| Some(why["message"].as_str()?.to_owned()));
        Err(why.unwrap_or_else(|| format!("{status}: {}", String::from_utf8_lossy(&body).trim())))
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        match &*self.place {
            Ok(Place::Unix(path)) => {
                let stream = UnixStream::connect(path).await;
                let stream = stream.map_err(|error| format!("dial unix {}: {}", path.display(), words(&error)))?;
                Ok(Box::new(stream))
            }
            Ok(Place::Tcp(host, port)) => Ok(Box::new(tcp::connect(&self.resolver, host, *port).await?)),
            Err(why) => Err(why.clone()),
        }
    }
}

/// What `DOCKER_HOST` means.
fn place(host: &str) -> Result<Place, String> {
    if host.is_empty() {
        return Ok(Place::Unix(SOCKET.into()));
    }
    if let Some(path) = host.strip_prefix("unix://") {
        return Ok(Place::Unix(path.into()));
    }
    let address = host.strip_prefix("tcp://").and_then(|address| address.trim_end_matches('/').rsplit_once(':'));
    let (name, port) = address.ok_or_else(|| format!("DOCKER_HOST must begin with unix:// or tcp://, not {host:?}"))?;
    let port = port.parse().map_err(|_| format!("DOCKER_HOST has no port: {host:?}"))?;
    Ok(Place::Tcp(name.trim_start_matches('[').trim_end_matches(']').to_owned(), port))
}

fn escaped(part: &str) -> String {
    utf8_percent_encode(part, NON_ALPHANUMERIC).to_string()
}

async fn parsed(mut answer: Answer) -> Result<Value, String> {
    let body = answer.beginning(ANSWER_BYTES).await.map_err(|error| because(&error))?;
    serde_json::from_slice(&body).map_err(|error| format!("the answer is not JSON: {error}"))
}

/// Takes apart the stream in which the engine sends a command's outputs: pieces, each behind eight bytes that name the
/// output and, in the last four of them, the piece's length.
#[derive(Debug, Default)]
struct Demux {
    head: Vec<u8>,
    left: usize,
}

impl Demux {
    const HEAD: usize = 8;

    fn feed(&mut self, mut bytes: &[u8], tail: &mut Tail) {
        while !bytes.is_empty() {
            let wanted = if self.left > 0 { self.left } else { Self::HEAD - self.head.len() };
            let (piece, rest) = bytes.split_at(wanted.min(bytes.len()));
            bytes = rest;
            if self.left > 0 {
                tail.push(piece);
                self.left -= piece.len();
                continue;
            }
            self.head.extend_from_slice(piece);
            if let Some(length) = self.head[..].last_chunk().filter(|_| self.head.len() == Self::HEAD) {
                self.left = u32::from_be_bytes(*length) as usize;
                self.head.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests;
