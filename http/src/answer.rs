//! Answers every request: finds out what it asks for, asks the agent, and shows what it says.

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use bytes::Buf;
use futures_util::Stream;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use lictor_core::api::acl::Permission;
use lictor_core::api::{self, Call, Reply, Response};
use tracing::{Level, debug, enabled};
use warp::Filter;
use warp::http::header::AUTHORIZATION;
use warp::http::request::Parts;
use warp::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};

use crate::agent::process;
use crate::ask::{Ask, Asked, Form, Shape};
use crate::body::{self, Announced};
use crate::exec;
use crate::hooks::Hooks;
use crate::operator::{self, Tool};
use crate::options::Options;
use crate::params::Params;
use crate::reply::{self, HttpResponse, Refusal};
use crate::respond::{View, respond};
use crate::routes::{Endpoint, endpoint};
use crate::{acl, agent, catalog, coordinate, event, health, kv, path, query, session, snapshot, txn};

/// What stands before a token in the header of all the world.
const BEARER: &[u8] = b"Bearer ";

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
        let token = token(&parts.headers);
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

/// On whose behalf, by the header that Consul has for it, or by that of all the world, which newer clients use. Whatever cannot be a
/// token counts as one that there is not: as none it might be allowed more.
fn token(headers: &HeaderMap) -> Option<String> {
    let own = headers.get("x-consul-token").filter(|value| !value.is_empty());
    let bearer = || {
        let value = headers.get(AUTHORIZATION)?.as_bytes();
        let (scheme, token) = value.split_at_checked(BEARER.len())?;
        scheme.eq_ignore_ascii_case(BEARER).then(|| token.trim_ascii()).filter(|token| !token.is_empty())
    };
    let token = own.map(HeaderValue::as_bytes).or_else(bearer)?;
    Some(String::from_utf8_lossy(token).into_owned())
}

/// A path, as the log may tell it: without the token that it may name. The query, which may hold one, too, is left out anyway.
fn noted(path: &str) -> Cow<'_, str> {
    let Some(decoded) = path::decode(path) else { return "(malformed)".into() };
    let clean = path::clean(&decoded).map_or(decoded, Cow::Owned);
    match endpoint(&clean) {
        Endpoint::Acl(acl::Endpoint::Destroy(_)) => "/v1/acl/destroy/...".into(),
        Endpoint::Acl(acl::Endpoint::Clone(_)) => "/v1/acl/clone/...".into(),
        Endpoint::Acl(acl::Endpoint::Info(_)) => "/v1/acl/info/...".into(),
        _ => path.into(),
    }
}

/// What answers every request.
struct Answerer<F> {
    call: Arc<F>,
    hooks: Hooks,
    datacenter: String,
    acl_datacenter: Option<String>,
    limits: body::Limits,
    /// Those of transactions.
    txn_limits: body::Limits,
    snapshots: snapshot::Limits,
    jobs: exec::Jobs,
}

/// The service that answers every request by way of `call`.
pub(crate) fn service<F, Fut>(
    call: F,
    options: &Options,
    hooks: Hooks,
) -> impl Service<Request<Incoming>, Response = HttpResponse, Error = Infallible, Future: Send> + Clone + Send + 'static
where
    F: Fn(Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Reply> + Send + 'static,
{
    let limits = body::Limits { bytes: options.value_bytes, stall: options.body_stall };
    let txn_limits = body::Limits { bytes: options.txn_bytes, ..limits };
    let snapshots = snapshot::Limits::new(options.snapshot_bytes, options.body_stall, options.spool.clone());
    let datacenter = options.datacenter.clone();
    let acl_datacenter = options.acl_datacenter.clone();
    let (call, jobs) = (Arc::new(call), exec::Jobs::new(options.remote_exec));
    let answerer = Arc::new(Answerer { call, hooks, datacenter, acl_datacenter, limits, txn_limits, snapshots, jobs });
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
    /// Answers a request and tells the log, but for what may be a token.
    async fn answer_noted<S, B>(&self, head: &Head, body: S) -> HttpResponse
    where
        S: Stream<Item = Result<B, warp::Error>>,
        B: Buf,
    {
        if !enabled!(Level::DEBUG) {
            return self.answer(head, body).await;
        }
        let (method, path, start) = (head.method.clone(), noted(head.uri.path()), Instant::now());
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
            Endpoint::Operator(tool) => self.operator(head, tool, &params, body).await,
            Endpoint::Snapshot => self.snapshot(head, &params, body).await,
            Endpoint::Exec => self.exec(head, &params, body).await,
            Endpoint::Output(session) => self.asked(|form| exec::output::ask(session, form), head, &params, body).await,
            Endpoint::Agent(endpoint) => self.asked(|form| agent::ask(endpoint, form), head, &params, body).await,
            Endpoint::Catalog(endpoint) => self.asked(|form| catalog::ask(endpoint, form), head, &params, body).await,
            Endpoint::Health(endpoint) => self.asked(|form| health::ask(endpoint, form), head, &params, body).await,
            Endpoint::Event(endpoint) => self.asked(|form| event::ask(endpoint, form), head, &params, body).await,
            Endpoint::Query(endpoint) => self.asked(|form| query::ask(endpoint, form), head, &params, body).await,
            Endpoint::Txn => self.asked(txn::ask, head, &params, body).await,
            Endpoint::Session(endpoint) => self.asked(|form| session::ask(endpoint, form), head, &params, body).await,
            Endpoint::Coordinate(endpoint) => {
                self.asked(|form| coordinate::ask(endpoint, form), head, &params, body).await
            }
            Endpoint::Acl(endpoint) => self.acl(endpoint, head, &params, body).await,
            Endpoint::AclReplication if self.acl_datacenter.is_none() => reply::failed(&api::Error::AclDisabled),
            Endpoint::AclReplication => {
                acl::replication(&params, &self.datacenter).unwrap_or_else(Refusal::into_response)
            }
            Endpoint::Elsewhere(to) => reply::moved(&head.method, format!("/v1/{to}").as_bytes(), head.query()),
            Endpoint::Unknown => reply::plain(StatusCode::NOT_FOUND, "there is no such endpoint\n"),
        }
    }

    /// What needs nothing from the request but its being there. Every method will do.
    async fn simple(&self, request: impl Into<api::Request>, head: &Head, params: &Params<'_>) -> HttpResponse {
        let reply = (self.call)(params.call(request, head.token.as_deref())).await;
        respond(reply, View::json(params.layout()))
    }

    /// What its subject makes a call of, once the body is there if it needs one.
    async fn asked<S, B>(
        &self,
        ask: impl for<'f> FnOnce(Form<'f>) -> Result<Asked<'f>, Refusal>,
        head: &Head,
        params: &Params<'_>,
        body: S,
    ) -> HttpResponse
    where
        S: Stream<Item = Result<B, warp::Error>>,
        B: Buf,
    {
        let token = params.token(head.token.as_deref());
        let asked = ask(Form { method: &head.method, params, token: token.as_deref() });
        let ask = match asked {
            Ok(Asked::Ready(ask)) => Ok(ask),
            Ok(Asked::Body(complete)) => match body::read(body, head.announced, self.limits).await {
                Ok(body) => complete(&body),
                Err(response) => return response,
            },
            Ok(Asked::Transaction(complete)) => match body::read(body, head.announced, self.txn_limits).await {
                Ok(body) => complete(&body),
                Err(response) => return response,
            },
            Ok(Asked::Reload) => return process::reload(&self.hooks).await,
            Ok(Asked::Monitor(level)) => return process::monitor(&self.hooks, level),
            Err(refusal) => Err(refusal),
        };
        let Ask { request, datacenter, shape } = match ask {
            Ok(ask) => ask,
            Err(refusal) => return refusal.into_response(),
        };
        let shown =
            if shape == Shape::Read { datacenter.as_ref().unwrap_or(&self.datacenter).clone() } else { String::new() };
        let call = Call { datacenter, token: token.as_deref().map(str::to_owned), request };
        let reply = (self.call)(call).await;
        respond(reply, View { shape, layout: params.layout(), datacenter: &shown })
    }

    /// What is asked of the tokens, wherever they are kept.
    async fn acl<S, B>(&self, endpoint: acl::Endpoint<'_>, head: &Head, params: &Params<'_>, body: S) -> HttpResponse
    where
        S: Stream<Item = Result<B, warp::Error>>,
        B: Buf,
    {
        let Some(keeper) = &self.acl_datacenter else { return reply::failed(&api::Error::AclDisabled) };
        self.asked(|form| acl::ask(endpoint, keeper, form), head, params, body).await
    }

    /// Whether the token allows this; the error if not. Without access control there is nobody to ask.
    async fn permit(&self, permission: Permission, head: &Head, params: &Params<'_>) -> Result<(), api::Error> {
        if self.acl_datacenter.is_none() {
            return Ok(());
        }
        let token = params.token(head.token.as_deref()).map(Cow::into_owned);
        match (self.call)(Call { token, ..Call::new(api::acl::Request::Permit(permission)) }).await? {
            Response::Done(true) => Ok(()),
            _ => Err(api::Error::PermissionDenied),
        }
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
        let reply = (self.call)(params.call(request, head.token.as_deref())).await;
        respond(reply, View::json(layout))
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
                let permission = if has_body { Permission::WriteKeyring } else { Permission::ReadKeyring };
                if let Err(error) = self.permit(permission, head, params).await {
                    return operator::keyring_denied(permission, &error).into_response();
                }
                let body = match body::read(body, head.announced, self.limits).await {
                    Ok(body) => has_body.then_some(body),
                    Err(response) => return response,
                };
                return operator::no_keyring(body.as_deref()).into_response();
            }
            Ok(operator::Operation::WrongMethod) => return reply::wrong_method(&head.method, tool.methods()),
            Err(refusal) => return refusal.into_response(),
        };
        let reply = (self.call)(params.call(request, head.token.as_deref())).await;
        match (tool, reply) {
            (Tool::RaftPeer, Ok(_)) => reply::empty(),
            (Tool::TransferLeader, Ok(_)) => reply::json(&operator::transferred(), params.layout()),
            (_, reply) => respond(reply, View::json(params.layout())),
        }
    }

    async fn exec<S, B>(&self, head: &Head, params: &Params<'_>, body: S) -> HttpResponse
    where
        S: Stream<Item = Result<B, warp::Error>>,
        B: Buf,
    {
        let permission = match head.method {
            Method::GET => Permission::ReadExec,
            Method::PUT => Permission::WriteExec,
            _ => return reply::wrong_method(&head.method, exec::METHODS),
        };
        if let Err(error) = self.permit(permission, head, params).await {
            return reply::failed(&error);
        }
        if head.method == Method::GET {
            return reply::json(&self.jobs.ended(), params.layout());
        }
        let leave = match self.jobs.enter() {
            Ok(leave) => leave,
            Err(refusal) => return refusal.into_response(),
        };
        let body = match body::read(body, head.announced, self.limits).await {
            Ok(body) => body,
            Err(response) => return response,
        };
        let token = params.token(head.token.as_deref());
        let form = Form { method: &head.method, params, token: token.as_deref() };
        let begun = self.jobs.begin(&body, form, leave, Arc::clone(&self.call));
        begun.unwrap_or_else(Refusal::into_response)
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
        match (self.call)(params.call(request, head.token.as_deref())).await {
            Ok(Response::Snapshot(read)) => Ok(snapshot::send(read, &self.snapshots, leave)),
            reply => Err(respond(reply, View::json(params.layout()))),
        }
    }

    async fn restore<S, B>(&self, head: &Head, params: &Params<'_>, body: S) -> Result<HttpResponse, HttpResponse>
    where
        S: Stream<Item = Result<B, warp::Error>>,
        B: Buf,
    {
        self.permit(Permission::Snapshot, head, params).await.map_err(|error| reply::failed(&error))?;
        let leave = self.snapshots.restore().map_err(Refusal::into_response)?;
        let file = snapshot::spool(body, head.announced, &self.snapshots).await?;
        // Every step has a request of its own in place of this one.
        let form = params.call(api::status::Request::Leader, head.token.as_deref());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_hears_no_token_that_a_path_names() {
        for path in [
            "/v1/acl/info/secret",
            "/v1/acl/destroy/secret/",
            "/v1/acl/clone/secret",
            "//v1/acl/./info//secret",
            "/v1/%61cl/info/%73ecret",
            "/v1/acl/info/secret%zz",
        ] {
            assert!(!noted(path).contains("ecret"), "{path}: {}", noted(path));
        }
        assert_eq!(noted("/v1/kv/a%20b"), "/v1/kv/a%20b");
    }
}
