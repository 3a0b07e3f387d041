//! What a server answers to a request: HTTP, and HTTPS by the certificates that this system trusts. Redirects are followed
//! as Go's client does, which Consul has.

mod redirect;
mod tls;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use hyper::ext::ReasonPhrase;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use lictor_core::io::Finding;
use lictor_core::probe::OUTPUT_BYTES;
use percent_encoding::percent_decode_str;
use tokio::time::{Instant, timeout_at};
use url::{Host, Position, Url};

use super::exchange::{Answer, Stream, because, exchange};
use super::tcp;
use crate::errands::Errands;
use crate::resolve::Resolver;
use tls::Tls;

/// Requests in a row, each but the last one answered by a redirect.
const REQUESTS: usize = 10;

/// What a check asks for.
pub(super) struct Request {
    pub(super) url: String,
    pub(super) method: String,
    pub(super) header: BTreeMap<String, Vec<String>>,
    pub(super) body: String,
    pub(super) tls_skip_verify: bool,
}

/// Asks servers. Each request has a connection of its own. Clones are cheap.
#[derive(Clone)]
pub(super) struct Client {
    errands: Errands,
    resolver: Resolver,
    tls: Tls,
}

/// One request of a row of redirected ones.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    method: Method,
    url: Url,
    /// `Host`, if it is not what the URL says.
    host: Option<HeaderValue>,
    headers: HeaderMap,
    body: Bytes,
}

impl Client {
    pub(super) fn new(errands: Errands, resolver: Resolver) -> Self {
        Self { errands, resolver, tls: Tls::default() }
    }

    /// Sends a request, and those that it is redirected to. A server that takes too long over its answer's body has
    /// answered nevertheless.
    pub(super) async fn ask(&self, request: Request, deadline: Instant) -> Finding {
        let what = format!("{} {:?}", titled(&request.method), request.url);
        let skip_verify = request.tls_skip_verify;
        let asked = async { self.follow(Step::first(request)?, skip_verify).await };
        let mut answer = match timeout_at(deadline, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(reason)) => return Finding::Failed { reason: format!("{what}: {reason}") },
            Err(_) => return Finding::TimedOut,
        };
        let status = answer.response.status();
        let phrase = answer.response.extensions().get::<ReasonPhrase>();
        let reason = match phrase {
            Some(phrase) => String::from_utf8_lossy(phrase.as_bytes()).into_owned(),
            None => status.canonical_reason().unwrap_or_default().to_owned(),
        };
        let mut body = Vec::new();
        let reading = answer.read(|piece| {
            body.extend_from_slice(&piece[..piece.len().min(OUTPUT_BYTES - body.len())]);
            body.len() < OUTPUT_BYTES
        });
        match timeout_at(deadline, reading).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("{what}: the answer's body broke off: {}", because(&error)),
            Err(_) => tracing::warn!("{what}: the answer's body took too long"),
        }
        Finding::Answered { status: status.as_u16(), reason, body: body.into() }
    }

    async fn follow(&self, mut step: Step, skip_verify: bool) -> Result<Answer, String> {
        for _ in 0..REQUESTS {
            let answer = self.send(&step, skip_verify).await?;
            let Some(next) = step.redirected(answer.response.status(), answer.response.headers())? else {
                return Ok(answer);
            };
            step = next;
        }
        Err(format!("stopped after {REQUESTS} redirects"))
    }

    async fn send(&self, step: &Step, skip_verify: bool) -> Result<Answer, String> {
        let stream = self.connect(&step.url, skip_verify).await?;
        let target = &step.url[Position::BeforePath..Position::AfterQuery];
        let mut request = hyper::Request::new(Full::new(step.body.clone()));
        *request.method_mut() = step.method.clone();
        *request.uri_mut() = target.parse().map_err(|error| format!("{target:?} cannot be asked for: {error}"))?;
        *request.headers_mut() = step.headers.clone();
        let host = match &step.host {
            Some(host) => host.clone(),
            None => {
                let own = &step.url[Position::BeforeHost..Position::AfterPort];
                HeaderValue::from_str(own).map_err(|_| "a host that cannot be named in a header".to_owned())?
            }
        };
        request.headers_mut().insert(header::HOST, host);
        exchange(&self.errands, stream, request).await.map_err(|error| because(&error))
    }

    async fn connect(&self, url: &Url, skip_verify: bool) -> Result<Box<dyn Stream>, String> {
        let is_tls = match url.scheme() {
            "http" => false,
            "https" => true,
            other => return Err(format!("unsupported protocol scheme {other:?}")),
        };
        let host = match url.host().ok_or("no Host in request URL")? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        };
        let port = url.port_or_known_default().ok_or("no port in request URL")?;
        let stream = tcp::connect(&self.resolver, &host, port).await?;
        if is_tls { Ok(Box::new(self.tls.secure(stream, host, skip_verify).await?)) } else { Ok(Box::new(stream)) }
    }
}

impl Step {
    /// The request as it was meant.
    fn first(request: Request) -> Result<Self, String> {
        let method = if request.method.is_empty() { "GET" } else { &request.method };
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| "invalid method".to_owned())?;
        let url = Url::parse(&request.url).map_err(|error| error.to_string())?;
        let (mut headers, mut host) = (HeaderMap::new(), None);
        for (name, values) in &request.header {
            let field = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("invalid header name {name:?}"))?;
            for value in values {
                let value = HeaderValue::from_str(value).map_err(|_| format!("invalid value of header {name:?}"))?;
                if field == header::HOST {
                    host.get_or_insert(value);
                } else {
                    headers.append(&field, value);
                }
            }
        }
        // What is the connection's own is not for others to say.
        for own in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
            headers.remove(own);
        }
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        for (name, usual) in [(header::USER_AGENT, "Consul Health Check"), (header::ACCEPT, "text/plain, text/*, */*")]
        {
            headers.entry(name).or_insert(HeaderValue::from_static(usual));
        }
        if let Some(credentials) = credentials(&url)
            && !headers.contains_key(header::AUTHORIZATION)
        {
            headers.insert(header::AUTHORIZATION, credentials);
        }
        Ok(Self { method, url, host, headers, body: request.body.into() })
    }
}

/// The user and the password that a URL names.
fn credentials(url: &Url) -> Option<HeaderValue> {
    let password = url.password().unwrap_or_default();
    if url.username().is_empty() && password.is_empty() {
        return None;
    }
    let mut pair: Vec<u8> = percent_decode_str(url.username()).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(password));
    HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(pair))).ok()
}

/// A method as Go names it in its errors.
fn titled(method: &str) -> String {
    match method.split_at_checked(1) {
        Some((first, rest)) => first.to_owned() + &rest.to_lowercase(),
        None => "Get".to_owned(),
    }
}

#[cfg(test)]
mod tests;
