//! Where an answer sends its asker.

use bytes::Bytes;
use hyper::header::{self, HeaderMap};
use hyper::{Method, StatusCode};
use url::{Position, Url};

use super::{Step, credentials};

impl Step {
    /// The next request, if the answer is a redirect.
    pub(super) fn redirected(&self, status: StatusCode, answer: &HeaderMap) -> Result<Option<Self>, String> {
        let keeps_method = match status.as_u16() {
            301..=303 => matches!(self.method, Method::GET | Method::HEAD),
            307 | 308 => true,
            _ => return Ok(None),
        };
        let Some(location) = answer.get(header::LOCATION) else { return Ok(None) };
        let location = String::from_utf8_lossy(location.as_bytes());
        let url = self.url.join(&location);
        let url = url.map_err(|error| format!("failed to parse Location header {location:?}: {error}"))?;
        let mut next = Self { url, ..self.clone() };
        if !keeps_method {
            (next.method, next.body) = (Method::GET, Bytes::new());
            for content in [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE] {
                next.headers.remove(content);
            }
        }
        if is_elsewhere(&self.url, &next.url) {
            for secret in [header::AUTHORIZATION, header::COOKIE] {
                next.headers.remove(secret);
            }
        }
        // The name that a server was to be called by counts for as long as it speaks of itself.
        if Url::parse(&location).is_ok() {
            next.host = None;
        }
        if let Some(credentials) = credentials(&next.url) {
            next.headers.insert(header::AUTHORIZATION, credentials);
        }
        Ok(Some(next))
    }
}

/// Whether a URL leads to another server, which secrets are not for.
fn is_elsewhere(from: &Url, to: &Url) -> bool {
    from[Position::BeforeHost..Position::AfterPort] != to[Position::BeforeHost..Position::AfterPort]
        || (from.scheme() == "https" && to.scheme() != "https")
}
