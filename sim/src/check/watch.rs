//! Blocked queries: they miss nothing and wake for nothing.
//!
//! - Answered before its time, a query shows a change beyond the index that it gave.
//! - A stale query is answered in the very step in which its server applies such a change.
//! - Any other is answered in bounded time once the cluster is calm.
//! - Time over, it is answered, too.

use lictor_core::api::{Consistency, Response};
use lictor_core::id::Index;
use lictor_core::time::{Duration, Instant};

use super::model::Model;
use super::{Verdict, ensure};
use crate::history::{Op, index_of, read_options};

/// Clocks differ by at most this many percent from the world's: two percent each, and some rounding.
const DRIFT_PERCENT: u32 = 5;

/// A blocked query was answered. Whether it was woken.
pub(crate) fn answered(op: &Op, at: Instant, response: &Response, model: &Model) -> Result<bool, String> {
    let (Some(wait), Some(read)) = (op.blocks(), read_options(&op.request)) else { return Ok(false) };
    let took = at.since(op.invoked);
    let early = took < wait * (100 - DRIFT_PERCENT) / 100;
    let index = index_of(response).unwrap_or_default();
    let change = model.changed(|key| op.concerns(key), read.index, model.applied());
    ensure!(
        !early || change.is_some(),
        "a query with index {} and {wait:?} to wait was woken after {took:?} and nothing had changed",
        read.index
    );
    ensure!(
        !early || index > read.index,
        "a query was woken after {took:?} with index {index}, which is not beyond its own, {}",
        read.index
    );
    Ok(early)
}

/// A server has taken a step, with this query still open on it and known to it.
pub(crate) fn still_open(op: &Op, applied: Index, model: &Model) -> Verdict {
    let Some(read) = read_options(&op.request) else { return Ok(()) };
    if read.consistency != Consistency::Stale {
        return Ok(());
    }
    let change = model.changed(|key| op.concerns(key), read.index, applied);
    match change {
        Some(change) => Err(format!(
            "a stale query with index {} sleeps on server {}, which has applied the change of index {change}",
            read.index, op.host
        )),
        None => Ok(()),
    }
}

/// The cluster has been calm since `since`: does this operation still wait for what it should have had? `committed`
/// tells when an index was committed.
pub(crate) fn still_open_in_calm(
    op: &Op,
    now: Instant,
    since: Instant,
    bound: Duration,
    model: &Model,
    committed: impl Fn(Index) -> Instant,
) -> Verdict {
    let Some(read) = read_options(&op.request) else { return Ok(()) };
    let since = since.max(op.invoked);
    if op.blocks().is_some()
        && let Some(change) = model.changed(|key| op.concerns(key), read.index, model.applied())
    {
        ensure!(
            now.since(since.max(committed(change))) <= bound,
            "a query with index {} sleeps on server {} in a calm cluster, while index {change} changed what it reads",
            read.index,
            op.host
        );
    }
    let limit = op.blocks().unwrap_or_default() * 9 / 8 + bound;
    ensure!(
        now.since(since) <= limit,
        "a read has had no answer from server {} for {:?}, most of it in a calm cluster",
        op.host,
        now.since(op.invoked)
    );
    Ok(())
}

#[cfg(test)]
mod tests;
