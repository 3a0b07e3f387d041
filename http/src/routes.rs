//! All paths on one page.
//!
//! One filter takes every request as a whole, and one `match` on the segments of its path finds the
//! endpoint. (A chain of warp's `or` would cost a rejection for each route before the right one.)

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Buf;
use futures_util::Stream;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use lictor_core::api::{self, Call, Reply, Response};
use tracing::{Level, debug, enabled};
use warp::Filter;
use warp::http::request::Parts;
use warp::http::{Method, Request, StatusCode, Uri};

use crate::body::{self, Announced};
use crate::hooks::Hooks;
use crate::operator::{self, ShownAutopilot, ShownConfiguration, ShownHealth, Tool};
use crate::options::Options;
use crate::params::Params;
use crate::reply::{self, HttpResponse, Layout, Refusal};
use crate::{agent, kv, path, snapshot, status};

/// An endpoint, with what its path names.
#[derive(Debug, PartialEq, Eq)]
enum Endpoint<'p> {
    Root,
    Kv(&'p [u8]),
    StatusLeader,
    StatusPeers,
    AgentSelf,
    Operator(Tool),
    Snapshot,
    /// A path that means another one.
    Elsewhere(&'static [u8]),
    Unknown,
}

/// The endpoint of a clean, decoded path.
fn endpoint(path: &[u8]) -> Endpoint<'_> {
    if path == b"/" {
        return Endpoint::Root;
    }
    let Some(path) = path.strip_prefix(b"/v1/") else { return Endpoint::Unknown };
    let slash = path.iter().position(|b| *b == b'/');
    let (subject, rest) = match slash {
        Some(at) => (&path[..at], Some(&path[at + 1..])),
        None => (path, None),
    };
    match (subject, rest) {
        (b"kv", Some(key)) => Endpoint::Kv(key),
        (b"kv", None) => Endpoint::Elsewhere(b"/v1/kv/"),

        (b"status", Some(b"leader")) => Endpoint::StatusLeader,
        (b"status", Some(b"peers")) => Endpoint::StatusPeers,

        (b"agent", Some(b"self")) => Endpoint::AgentSelf,

        (b"operator", Some(b"raft/configuration")) => Endpoint::Operator(Tool::RaftConfiguration),
        (b"operator", Some(b"raft/peer")) => Endpoint::Operator(Tool::RaftPeer),
        (b"operator", Some(b"raft/transfer-leader")) => Endpoint::Operator(Tool::TransferLeader),
        (b"operator", Some(b"autopilot/configuration")) => Endpoint::Operator(Tool::AutopilotConfiguration),
        (b"operator", Some(b"autopilot/health")) => Endpoint::Operator(Tool::AutopilotHealth),
        (b"operator", Some(b"keyring")) => Endpoint::Operator(Tool::Keyring),

        (b"snapshot", None) => Endpoint::Snapshot,

        _ => Endpoint::Unknown,
    }
}

/// What a request brings along, beside its body. It travels in the request's extensions: a filter for
/// each of its pieces would be moved about at every step of the chain.
struct Head {
    method: Method,
    uri: Uri,
    token: Option<String>,
    announced: Announced,
}

impl Head {
    fn of(parts: Parts) -> Self {
        let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let token = text("x-consul-token").map(str::to_owned);
        let announced = Announced {
            length: text("content-length").and_then(|length| length.parse().ok()),
            awaits_leave: text("expect").is_some_and(|expect| expect.eq_ignore_ascii_case("100-continue")),
        };
        Self { method: parts.method, uri: parts.uri, token, announced }
    }

    fn query(&self) -> &str {
        self.uri.query().unwrap_or_default()
    }
}

/// What answers every request.
struct Answerer<F> {
    call: Arc<F>,
    limits: body::Limits,
    snapshots: snapshot::Limits,
}

/// The service that answers every request by way of `call`.
pub(crate) fn service<F, Fut>(
    call: F,
    options: &Options,
    _hooks: Hooks,
) -> impl Service<Request<Incoming>, Response = HttpResponse, Error = Infallible, Future: Send> + Clone + Send + 'static
where
    F: Fn(Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Reply> + Send + 'static,
{
    let limits = body::Limits { bytes: options.value_bytes, stall: options.body_stall };
    let snapshots = snapshot::Limits::new(options.snapshot_bytes, options.body_stall, options.spool.clone());
    let answerer = Arc::new(Answerer { call: Arc::new(call), limits, snapshots });
    let filter = warp::ext::get::<Arc<Head>>().and(warp::body::stream()).then(move |head: Arc<Head>, body| {
        let answerer = Arc::clone(&answerer);
        async move { answerer.answer_noted(&head, body).await }
    });
    let warp = warp::service(filter);
    service_fn(move |request: Request<Incoming>| {
        let (parts, body) = request.into_parts();
        let mut request = Request::new(body);
        request.extensions_mut().insert(Arc::new(Head::of(parts)));
        tower_service::Service::call(&mut warp.clone(), request)
    })
}

impl<F, Fut> Answerer<F>
where
    F: Fn(Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Reply> + Send + 'static,
{
    /// Answers a request and tells the log. The query is left out there: it may hold a token.
    async fn answer_noted<S, B>(&self, head: &Head, body: S) -> HttpResponse
    where
        S: Stream<Item = Result<B, warp::Error>>,
        B: Buf,
    {
        if !enabled!(Level::DEBUG) {
            return self.answer(head, body).await;
        }
        let (method, path, start) = (head.method.clone(), head.uri.path().to_owned(), Instant::now());
        let response = self.answer(head, body).await;
        let (status, elapsed) = (response.status().as_u16(), start.elapsed());
        debug!("http: {method} {path} {status} ({elapsed:?})");
        response
    }

    async fn answer<S, B>(&self, head: &Head, body: S) -> HttpResponse
    where
        S: Stream<Item = Result<B, warp::Error>>,
        B: Buf,
    {
        let path = head.uri.path();
        let Some(decoded) = path::decode(path).filter(|_| path != "*") else {
            return reply::plain(StatusCode::BAD_REQUEST, "400 Bad Request: the path has a malformed escape");
        };
        if let Some(clean) = path::clean(&decoded) {
            return reply::moved(&head.method, &clean, head.query());
        }
        let params = Params::parse(head.query());
        match endpoint(&decoded) {
            Endpoint::Root => reply::plain(StatusCode::OK, "Lictor Agent: the API is under /v1/\n"),
            Endpoint::Kv(key) => self.kv(head, key, &params, body).await,
            Endpoint::StatusLeader => self.simple(api::status::Request::Leader, head, &params).await,
            Endpoint::StatusPeers => self.simple(api::status::Request::Peers, head, &params).await,
            Endpoint::AgentSelf => self.simple(api::agent::Request::Itself, head, &params).await,
            Endpoint::Operator(tool) => self.operator(head, tool, &params, body).await,
            Endpoint::Snapshot => self.snapshot(head, &params, body).await,
            Endpoint::Elsewhere(to) => reply::moved(&head.method, to, head.query()),
            Endpoint::Unknown => reply::plain(StatusCode::NOT_FOUND, "there is no such endpoint\n"),
        }
    }

    /// What needs nothing from the request but its being there. Every method will do.
    async fn simple(&self, request: impl Into<api::Request>, head: &Head, params: &Params<'_>) -> HttpResponse {
        let reply = (self.call)(params.call(request, head.token.clone())).await;
        respond(reply, params.layout())
    }

    async fn kv<S, B>(&self, head: &Head, key: &[u8], params: &Params<'_>, body: S) -> HttpResponse
    where
        S: Stream<Item = Result<B, warp::Error>>,
        B: Buf,
    {
        let request = match kv::operation(&head.method, key, params) {
            Ok(kv::Operation::Ready(request)) => request,
            Ok(kv::Operation::Put { key, flags, mode }) => match body::read(body, head.announced, self.limits).await {
                Ok(value) => api::kv::Request::Put { key, value, flags, mode },
                Err(response) => return response,
            },
            Ok(kv::Operation::WrongMethod) => return reply::wrong_method(&head.method, kv::METHODS),
            Err(refusal) => return refusal.into_response(),
        };
        let layout = kv::layout(&request, params);
        let reply = (self.call)(params.call(request, head.token.clone())).await;
        respond(reply, layout)
    }

    async fn operator<S, B>(&self, head: &Head, tool: Tool, params: &Params<'_>, body: S) -> HttpResponse
    where
        S: Stream<Item = Result<B, warp::Error>>,
        B: Buf,
    {
        let request = match operator::operation(tool, &head.method, params) {
            Ok(operator::Operation::Ready(request)) => request,
            Ok(operator::Operation::Settings { cas }) => {
                let body = match body::read(body, head.announced, self.limits).await {
                    Ok(body) => body,
                    Err(response) => return response,
                };
                match operator::settings(&body) {
                    Ok(settings) => api::operator::Request::SetAutopilotConfiguration { settings, cas },
                    Err(refusal) => return refusal.into_response(),
                }
            }
            Ok(operator::Operation::Keyring { has_body }) => {
                let body = match body::read(body, head.announced, self.limits).await {
                    Ok(body) => has_body.then_some(body),
                    Err(response) => return response,
                };
                return operator::no_keyring(body.as_deref()).into_response();
            }
            Ok(operator::Operation::WrongMethod) => return reply::wrong_method(&head.method, tool.methods()),
            Err(refusal) => return refusal.into_response(),
        };
        let reply = (self.call)(params.call(request, head.token.clone())).await;
        match (tool, reply) {
            (Tool::RaftPeer, Ok(_)) => reply::empty(),
            (Tool::TransferLeader, Ok(_)) => reply::json(&operator::transferred(), params.layout()),
            (_, reply) => respond(reply, params.layout()),
        }
    }

    async fn snapshot<S, B>(&self, head: &Head, params: &Params<'_>, body: S) -> HttpResponse
    where
        S: Stream<Item = Result<B, warp::Error>>,
        B: Buf,
    {
        let answered = match head.method {
            Method::GET => self.save(head, params).await,
            Method::PUT => self.restore(head, params, body).await,
            _ => return reply::wrong_method(&head.method, snapshot::METHODS),
        };
        answered.unwrap_or_else(|response| response)
    }

    async fn save(&self, head: &Head, params: &Params<'_>) -> Result<HttpResponse, HttpResponse> {
        let read = params.read_at_once().map_err(Refusal::into_response)?;
        let leave = self.snapshots.save().map_err(Refusal::into_response)?;
        let request = api::snapshot::Request::Save { read };
        match (self.call)(params.call(request, head.token.clone())).await {
            Ok(Response::Snapshot(read)) => Ok(snapshot::send(read, &self.snapshots, leave)),
            reply => Err(respond(reply, params.layout())),
        }
    }

    async fn restore<S, B>(&self, head: &Head, params: &Params<'_>, body: S) -> Result<HttpResponse, HttpResponse>
    where
        S: Stream<Item = Result<B, warp::Error>>,
        B: Buf,
    {
        let leave = self.snapshots.restore().map_err(Refusal::into_response)?;
        let file = snapshot::spool(body, head.announced, &self.snapshots).await?;
        // Every step has a request of its own in place of this one.
        let form = params.call(api::status::Request::Leader, head.token.clone());
        let (call, limit) = (Arc::clone(&self.call), self.snapshots.bytes);
        // Once it is all here it goes on to its end, whether or not the client waits for that.
        let restoring = tokio::spawn(async move {
            let response = snapshot::restore(file, limit, form, &*call).await;
            drop(leave);
            response
        });
        restoring.await.map_err(|_| reply::failed(&api::Error::ShuttingDown))
    }
}

/// The answer to a call.
fn respond(reply: Reply, layout: Layout) -> HttpResponse {
    let response = match reply {
        Ok(response) => response,
        Err(error) => return reply::failed(&error),
    };
    match response {
        Response::Done(done) => reply::json(&done, layout),
        Response::KvEntries(read) => kv::entries(&read, layout),
        Response::KvKeys(read) => kv::keys(&read, layout),
        Response::Leader(leader) => reply::json(&status::leader(leader), layout),
        Response::Peers(peers) => reply::json(&peers, layout),
        Response::Itself(itself) => reply::json(&agent::itself(&itself), layout),
        Response::RaftConfiguration(configuration) => reply::json(&ShownConfiguration::from(&configuration), layout),
        Response::Autopilot(settings) => reply::json(&ShownAutopilot::from(&settings), layout),
        Response::Health(health) => {
            let mut response = reply::json(&ShownHealth::new(&health, SystemTime::now()), layout);
            if !health.healthy {
                *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            }
            response
        }
        Response::Members(_)
        | Response::Joined(_)
        | Response::LocalServices(_)
        | Response::LocalChecks(_)
        | Response::Datacenters(_)
        | Response::Nodes(_)
        | Response::ServiceNames(_)
        | Response::Instances(_)
        | Response::NodeServices(_)
        | Response::Checks(_)
        | Response::HealthOf(_)
        | Response::Fired(_)
        | Response::Events(_)
        | Response::Places(_)
        | Response::NodePlaces(_) => reply::plain(StatusCode::NOT_IMPLEMENTED, "not here yet"),
        // Images are streamed where they are asked for, and the other is for servers among themselves.
        Response::Snapshot(_) | Response::CaughtUpAt(_) => {
            reply::plain(StatusCode::INTERNAL_SERVER_ERROR, "the agent's answer cannot be shown")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_its_endpoint() {
        let cases: [(&str, Endpoint<'_>); 31] = [
            ("/", Endpoint::Root),
            ("/v1/kv/", Endpoint::Kv(b"")),
            ("/v1/kv/a/b/", Endpoint::Kv(b"a/b/")),
            ("/v1/kv", Endpoint::Elsewhere(b"/v1/kv/")),
            ("/v1/status/leader", Endpoint::StatusLeader),
            ("/v1/status/peers", Endpoint::StatusPeers),
            ("/v1/agent/self", Endpoint::AgentSelf),
            ("/v1/operator/raft/configuration", Endpoint::Operator(Tool::RaftConfiguration)),
            ("/v1/operator/raft/peer", Endpoint::Operator(Tool::RaftPeer)),
            ("/v1/operator/raft/transfer-leader", Endpoint::Operator(Tool::TransferLeader)),
            ("/v1/operator/autopilot/configuration", Endpoint::Operator(Tool::AutopilotConfiguration)),
            ("/v1/operator/autopilot/health", Endpoint::Operator(Tool::AutopilotHealth)),
            ("/v1/operator/keyring", Endpoint::Operator(Tool::Keyring)),
            ("/v1/snapshot", Endpoint::Snapshot),
            ("/v1/operator/raft", Endpoint::Unknown),
            ("/v1/operator/", Endpoint::Unknown),
            ("/v1/operator", Endpoint::Unknown),
            ("/v1/snapshot/", Endpoint::Unknown),
            ("/v1/status/leader/", Endpoint::Unknown),
            ("/v1/status/", Endpoint::Unknown),
            ("/v1/status", Endpoint::Unknown),
            ("/v1/agent/self/", Endpoint::Unknown),
            ("/v1/agent", Endpoint::Unknown),
            ("/v1/", Endpoint::Unknown),
            ("/v1", Endpoint::Unknown),
            ("/v1/kvx/a", Endpoint::Unknown),
            ("/V1/kv/a", Endpoint::Unknown),
            ("/v2/kv/a", Endpoint::Unknown),
            ("/kv/a", Endpoint::Unknown),
            ("/favicon.ico", Endpoint::Unknown),
            ("/v1/nosuch", Endpoint::Unknown),
        ];
        for (path, expected) in cases {
            assert_eq!(endpoint(path.as_bytes()), expected, "{path}");
        }
    }
}
