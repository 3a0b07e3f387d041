//! Entries of the key-value store, as recipes need them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use tokio::time::timeout;

use crate::client::{Answer, Client, Error};

/// How long a read waits for something new while waiting for one's turn.
const WAIT: Duration = Duration::from_secs(15);
/// The same while holding.
const WATCH: Duration = Duration::from_secs(60);
/// How long an answer may be under way beyond that: what an agent itself waits for a leader, and more.
const UNDER_WAY: Duration = Duration::from_secs(20);

/// An entry.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) flags: u64,
    value: Option<String>,
    /// Who has locked it.
    #[serde(default)]
    pub(super) session: String,
    pub(super) lock_index: u64,
    pub(super) modify_index: u64,
}

impl Entry {
    /// Its bytes.
    pub(super) fn value(&self) -> Option<Vec<u8>> {
        self.value.as_ref().and_then(|text| STANDARD.decode(text).ok())
    }
}

/// How to read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reading {
    /// Once something is newer than this; after a while as it is. 0 for at once.
    Newer(u64),
    /// The same, as a quorum of the servers knows it.
    Certain(u64),
}

/// Reads one key, or all with a prefix; with how new they are.
pub(super) async fn read(
    client: &Client,
    key: &str,
    recurse: bool,
    reading: Reading,
) -> Result<(Vec<Entry>, u64), Error> {
    let (index, span, certain) = match reading {
        Reading::Newer(index) => (index, WAIT, false),
        Reading::Certain(index) => (index, WATCH, true),
    };
    let (index_text, wait) = (index.to_string(), format!("{}s", span.as_secs()));
    let mut query = Vec::new();
    if certain {
        query.push(("consistent", ""));
    }
    if recurse {
        query.push(("recurse", ""));
    }
    let mut patience = UNDER_WAY;
    if index > 0 {
        query.extend([("index", &*index_text), ("wait", &*wait)]);
        // The servers add up to a sixteenth.
        patience += span + span / 16;
    }
    let path = format!("kv/{key}");
    let answer = limited(patience, client.ask(&Method::GET, &path, &query, "")).await?;
    let index = answer.index.unwrap_or(0);
    if answer.status == StatusCode::NOT_FOUND {
        return Ok((Vec::new(), index));
    }
    let body = answer.ok()?;
    let entries = serde_json::from_slice(&body);
    let entries = entries.map_err(|error| Error::Unsupported(format!("unreadable answer: {error}")))?;
    Ok((entries, index))
}

/// The same for one key.
pub(super) async fn read_one(client: &Client, key: &str, reading: Reading) -> Result<(Option<Entry>, u64), Error> {
    let (entries, index) = read(client, key, false, reading).await?;
    Ok((entries.into_iter().next(), index))
}

/// Writes, and tells whether it was done.
pub(super) async fn put(client: &Client, key: &str, query: &[(&str, &str)], value: Vec<u8>) -> Result<bool, Error> {
    done(limited(UNDER_WAY, client.ask(&Method::PUT, &format!("kv/{key}"), query, value)).await?)
}

/// Deletes, and tells whether it was done.
pub(super) async fn delete(client: &Client, key: &str, query: &[(&str, &str)]) -> Result<bool, Error> {
    done(limited(UNDER_WAY, client.ask(&Method::DELETE, &format!("kv/{key}"), query, "")).await?)
}

fn done(answer: Answer) -> Result<bool, Error> {
    Ok(answer.ok()?.trim_ascii() == b"true")
}

/// Waits for an answer, but not for ever.
pub(super) async fn limited<T>(span: Duration, asking: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let slow = |_| Error::Broken { method: "Ask", url: "the agent".to_owned(), reason: "i/o timeout".to_owned() };
    timeout(span, asking).await.map_err(slow)?
}
