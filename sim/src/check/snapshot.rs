//! A store that came from a snapshot, on the own disk or from elsewhere, is the one that the log describes: the same
//! entries with the same indexes, and the same memory of what was deleted.

use bytes::Bytes;
use lictor_core::api::kv::Request;
use lictor_core::api::{Consistency, ReadOptions};
use lictor_core::id::Index;
use lictor_core::store::{Body, Store};

use super::model::Model;
use super::{Verdict, ensure};
use crate::plan::{KEYS, PREFIXES};

/// Compares a store with the model's state at the store's index.
pub(crate) fn is_as_the_log_says(store: &Store, model: &Model) -> Verdict {
    let at = store.index();
    ensure!(at <= model.applied(), "it goes beyond what is committed, {}", model.applied());
    let read = || ReadOptions { consistency: Consistency::Stale, index: Index(0), wait: None };
    let prefixes = PREFIXES.iter().map(|prefix| (false, *prefix));
    for (is_key, about) in prefixes.chain(KEYS.iter().map(|key| (true, *key))) {
        let name = Bytes::from_static(about.as_bytes());
        let request = match is_key {
            true => Request::Get { key: name, read: read() },
            false => Request::List { prefix: name, read: read() },
        };
        let Some(answer) = store.query(&request) else { return Err(format!("it does not answer {request:?}")) };
        let Body::Entries(entries) = &answer.body else { return Err(format!("it answers {request:?} with keys")) };
        let concerns = |key: &[u8]| if is_key { key == about.as_bytes() } else { key.starts_with(about.as_bytes()) };
        ensure!(
            model.find(concerns, entries, at, at).is_some(),
            "under {about:?} it has what the log did not put there: {entries:?}"
        );
        let changed = model.last_change(concerns, at);
        ensure!(
            answer.changed == changed,
            "what is under {about:?} changed at {}, by the log at {changed}",
            answer.changed
        );
    }
    sessions_are(store, model)?;
    ensure!(
        store.tokens().map(|token| &**token).eq(model.tokens.all(at)),
        "its tokens are {:?}, by the log {:?}",
        store.tokens().collect::<Vec<_>>(),
        model.tokens.all(at).collect::<Vec<_>>()
    );
    ensure!(
        *store.autopilot() == model.autopilot(at),
        "its autopilot settings are {:?}, by the log {:?}",
        store.autopilot(),
        model.autopilot(at)
    );
    Ok(())
}

/// Compares sessions and lock delays.
fn sessions_are(store: &Store, model: &Model) -> Verdict {
    let at = store.index();
    ensure!(
        store.sessions().map(|session| &**session).eq(model.sessions.alive_at(at)),
        "its sessions are {:?}, by the log {:?}",
        store.sessions().collect::<Vec<_>>(),
        model.sessions.alive_at(at).collect::<Vec<_>>()
    );
    let delays = store.lock_delays().map(|(key, delay)| (key, delay.since, delay.length));
    ensure!(
        delays.eq(model.delays_at(at).map(|(key, delay)| (key, delay.since, delay.length))),
        "its lock delays are {:?}, by the log {:?}",
        store.lock_delays().collect::<Vec<_>>(),
        model.delays_at(at).collect::<Vec<_>>()
    );
    Ok(())
}
