//! Blocked queries that sleep too long, or not long enough.

use bytes::Bytes;
use lictor_core::api::kv::Request;
use lictor_core::api::{Read, ReadMeta, ReadOptions};
use lictor_core::store::kv;

use super::*;
use crate::history::value_of;

/// `a` is written at 1 and 3, `b` at 2.
fn model() -> Model {
    let mut model = Model::default();
    for (op, key) in ["a", "b", "a"].into_iter().enumerate() {
        let (key, value) = (Bytes::from_static(key.as_bytes()), value_of(op, 8));
        model.push(kv::Command::Put { key, value, flags: 0, mode: kv::Mode::Set }).unwrap();
    }
    model
}

/// A query for `key`, begun at one second, that may block for ten.
fn query(key: &'static str, index: u64, consistency: Consistency) -> Op {
    let read = ReadOptions { consistency, index: Index(index), wait: Some(Duration::from_secs(10)) };
    let request = Request::Get { key: Bytes::from_static(key.as_bytes()), read };
    let invoked = Instant::from_millis(1_000);
    Op { client: 0, host: 0, life: 1, request, invoked, fed: Some(invoked), floor: Index(0), end: None }
}

fn answer(index: u64) -> Response {
    let meta = ReadMeta { index: Index(index), ..ReadMeta::default() };
    Response::KvEntries(Read { meta, value: Vec::new() })
}

fn seconds(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1_000)
}

#[test]
fn a_query_may_be_woken_by_a_change_of_its_own_key_only() {
    let model = model();
    let op = query("a", 1, Consistency::Default);
    assert_eq!(answered(&op, seconds(2), &answer(3), &model), Ok(true));
    let op = query("b", 2, Consistency::Default);
    assert!(answered(&op, seconds(2), &answer(3), &model).unwrap_err().contains("nothing had changed"));
    assert_eq!(answered(&op, seconds(11), &answer(2), &model), Ok(false), "its time is over");
}

#[test]
fn who_is_woken_is_told_a_newer_index() {
    let op = query("a", 1, Consistency::Default);
    assert!(answered(&op, seconds(2), &answer(1), &model()).unwrap_err().contains("not beyond its own"));
}

#[test]
fn a_stale_query_does_not_sleep_over_what_its_server_has_applied() {
    let model = model();
    let op = query("a", 1, Consistency::Stale);
    still_open(&op, Index(2), &model).unwrap();
    assert!(still_open(&op, Index(3), &model).unwrap_err().contains("change of index 3"));
    still_open(&query("b", 2, Consistency::Stale), Index(3), &model).unwrap();
}

#[test]
fn nobody_sleeps_over_a_change_in_calm_times() {
    let model = model();
    let bound = Duration::from_secs(3);
    let committed = |_| seconds(8);
    let check = |op: &Op, now| still_open_in_calm(op, seconds(now), seconds(5), bound, &model, committed);
    let op = query("a", 1, Consistency::Default);
    check(&op, 10).unwrap();
    assert!(check(&op, 12).unwrap_err().contains("sleeps on server 0"));
    let op = query("b", 2, Consistency::Default);
    check(&op, 12).unwrap();
    assert!(check(&op, 20).unwrap_err().contains("no answer"), "its time was over long ago");
}
