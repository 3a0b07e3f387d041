//! Transactions, from outside: all of one takes place or nothing of it, at one index, and what they tell is of one index.
//!
//! Money is moved between accounts, so that there is always the same sum of it. Who believes nobody but clients sees from that
//! alone whether transactions are whole.

use bytes::{BufMut, Bytes, BytesMut};
use lictor_core::api::kv::Entry;
use lictor_core::api::txn::Outcome;
use lictor_core::id::Index;

use super::model::{Model, Row};
use super::{Verdict, ensure};
use crate::history::writer_of;

/// What an account holds: who wrote it, so that values are unique, and how much.
pub(crate) fn balance_of(writer: usize, balance: u64) -> Bytes {
    let mut value = BytesMut::with_capacity(16);
    value.put_u64_le(writer as u64);
    value.put_u64_le(balance);
    value.freeze()
}

/// How much an account holds.
pub(crate) fn balance(entry: &Entry) -> u64 {
    let bytes = entry.value.get(8..16).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

/// A client has read all accounts: nothing is lost, whenever that was.
pub(crate) fn nothing_is_lost(entries: &[&Entry], accounts: usize, sum: u64) -> Verdict {
    if entries.is_empty() {
        return Ok(());
    }
    let found: u64 = entries.iter().map(|entry| balance(entry)).sum();
    ensure!(
        entries.len() == accounts && found == sum,
        "{} of {accounts} accounts are seen, with {found} of {sum}",
        entries.len()
    );
    Ok(())
}

/// A transaction that was to write these values is answered. The index at which it took place, if it did.
pub(crate) fn answered(model: &Model, writes: &[(Bytes, Bytes)], outcome: &Outcome) -> Result<Option<Index>, String> {
    let mut places = writes.iter().map(|(key, value)| model.index_of(key, value));
    let first = places.next().flatten();
    ensure!(places.all(|place| place == first), "a transaction was taken apart: {writes:?}");
    let Some(index) = first else {
        ensure!(!outcome.faults.is_empty(), "a transaction was acknowledged and is not in the committed log");
        return Ok(None);
    };
    ensure!(outcome.faults.is_empty(), "a transaction failed and took place at {index}: {:?}", outcome.faults);
    for told in &outcome.results {
        // Of a key that is written by a later operation, the row before is told.
        let rows = [index, Index(index.0 - 1)].map(|at| model.row_at(&told.entry.key, at));
        let is_told = |(since, row): &(Index, &Row)| {
            row.is_told_by(&told.entry, *since) && (!told.with_value || row.value == told.entry.value)
        };
        ensure!(
            rows.iter().flatten().any(is_told),
            "a transaction of index {index} tells of {:?}, and there was {rows:?}",
            told.entry
        );
    }
    Ok(Some(index))
}

/// At the very end: what failed has left nothing behind.
pub(crate) fn left_nothing(model: &Model, writes: &[(Bytes, Bytes)]) -> Verdict {
    for (key, value) in writes {
        let writer = writer_of(value).unwrap_or_default();
        ensure!(!model.has_written(writer), "a transaction failed, and its write of {key:?} took place all the same");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
