//! A session, and the renewing that keeps it alive.

use std::time::Duration;

use hyper::{Method, StatusCode};
use lictor_core::duration;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::entry::limited;
use super::{PAUSE, Terms};
use crate::client::{Client, Error};

/// How long the creation or the end of a session may take.
const UNDER_WAY: Duration = Duration::from_secs(20);
/// A renewal without an answer is given up after this part of the TTL, and tried again.
const ATTEMPT: u32 = 4;

/// A session with a TTL.
#[derive(Debug)]
pub(super) struct Session<'c> {
    client: &'c Client,
    id: String,
    ttl: Duration,
    /// When the last renewal was sent that succeeded: the servers cannot have begun to count before.
    renewed: Instant,
    /// When the next one is due.
    due: Instant,
}

impl<'c> Session<'c> {
    pub(super) async fn create(client: &'c Client, terms: &Terms) -> Result<Self, Error> {
        let Terms { name, ttl, lock_delay, .. } = terms;
        let mut body = json!({ "Name": name, "TTL": duration::format(*ttl) });
        if let Some(delay) = lock_delay {
            body["LockDelay"] = duration::format(*delay).into();
        }
        let renewed = Instant::now();
        let asking = client.ask(&Method::PUT, "session/create", &[], body.to_string());
        let answer = limited(UNDER_WAY, asking).await?.ok()?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let Some(id) = answer["ID"].as_str() else {
            return Err(Error::Unsupported("unreadable answer: a session without an ID".to_owned()));
        };
        Ok(Self { client, id: id.to_owned(), ttl: *ttl, renewed, due: renewed + *ttl / 2 })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Renews it in time, until it is gone, or could be as it was not renewed for its TTL.
    pub(super) async fn keep(&mut self) {
        loop {
            let end = self.renewed + self.ttl;
            sleep_until(self.due.min(end)).await;
            let sent = Instant::now();
            if sent >= end {
                return;
            }
            let path = format!("session/renew/{}", self.id);
            let renewing = self.client.ask(&Method::PUT, &path, &[], "");
            match timeout_at(end.min(sent + self.ttl / ATTEMPT), renewing).await {
                Ok(Ok(answer)) if answer.status == StatusCode::OK => {
                    self.renewed = sent;
                    self.due = sent + self.ttl / 2;
                }
                Ok(Ok(answer)) if answer.status == StatusCode::NOT_FOUND => return,
                Ok(_) | Err(_) => self.due = Instant::now() + PAUSE.min(self.ttl / ATTEMPT),
            }
        }
    }

    /// Ends it. If that fails, it ends by itself in time.
    pub(super) async fn destroy(self) {
        let path = format!("session/destroy/{}", self.id);
        let _ = limited(UNDER_WAY, self.client.ask(&Method::PUT, &path, &[], "")).await;
    }
}
