//! Reads that show what they must not.

use std::sync::Arc;

use bytes::Bytes;
use lictor_core::api::kv::{Entry, PutMode, Request};
use lictor_core::api::{Read, ReadMeta, ReadOptions};
use lictor_core::store::kv;
use lictor_core::time::Instant;

use super::*;
use crate::history::value_of;

const KEYS: [Bytes; 2] = [Bytes::from_static(b"a"), Bytes::from_static(b"b")];

/// `a` is written at 1 and 3, `b` at 2 and deleted at 4.
fn model() -> Model {
    let mut model = Model::default();
    let put = |key: usize, op| kv::Command::Put {
        key: KEYS[key].clone(),
        value: value_of(op, 8),
        flags: 0,
        mode: kv::Mode::Set,
    };
    model.push(put(0, 0)).unwrap();
    model.push(put(1, 1)).unwrap();
    model.push(put(0, 2)).unwrap();
    model.push(kv::Command::Delete { key: KEYS[1].clone(), cas: None }).unwrap();
    model
}

fn entry(key: usize, writer: usize, created: u64, modified: u64) -> Arc<Entry> {
    Arc::new(Entry {
        key: KEYS[key].clone(),
        value: value_of(writer, 8),
        flags: 0,
        create_index: Index(created),
        modify_index: Index(modified),
        lock_index: 0,
        session: None,
    })
}

fn list(consistency: Consistency, floor: u64) -> Op {
    let read = ReadOptions { consistency, index: Index(0), wait: None };
    let request = Request::List { prefix: Bytes::new(), read };
    op(request, floor)
}

fn op(request: Request, floor: u64) -> Op {
    let invoked = Instant::from_millis(1);
    Op { client: 0, host: 0, life: 1, request, invoked, fed: None, floor: Index(floor), end: None }
}

fn found(index: u64, entries: Vec<Arc<Entry>>) -> Response {
    let meta = ReadMeta { index: Index(index), ..ReadMeta::default() };
    Response::KvEntries(Read { meta, value: entries })
}

#[test]
fn a_read_shows_all_its_keys_at_one_index() {
    let (model, mut reads) = (model(), Reads::new(1));
    let op = list(Consistency::Default, 0);
    reads.answered(&op, &found(3, vec![entry(0, 2, 1, 3), entry(1, 1, 2, 2)]), &model).unwrap();
    let mixed = found(2, vec![entry(0, 0, 1, 1), entry(1, 1, 2, 2)]);
    reads.answered(&op, &mixed, &model).unwrap();
    let torn = found(3, vec![entry(0, 0, 1, 1)]);
    reads.answered(&op, &torn, &model).unwrap();
    let never = found(4, vec![entry(0, 0, 1, 1), entry(1, 1, 2, 3)]);
    assert!(reads.answered(&op, &never, &model).unwrap_err().contains("never in the store"));
}

#[test]
fn a_default_read_is_not_older_than_what_was_told_before_it_began() {
    let (model, mut reads) = (model(), Reads::new(1));
    let old = found(1, vec![entry(0, 0, 1, 1)]);
    reads.answered(&list(Consistency::Default, 1), &old, &model).unwrap();
    let why = reads.answered(&list(Consistency::Default, 2), &old, &model).unwrap_err();
    assert!(why.contains("shows the state of index 1"), "{why}");
    reads.answered(&list(Consistency::Stale, 4), &old, &model).unwrap();
}

#[test]
fn stale_reads_of_one_life_do_not_go_back() {
    let (model, mut reads) = (model(), Reads::new(1));
    let (old, new) = (found(1, vec![entry(0, 0, 1, 1)]), found(4, vec![entry(0, 2, 1, 3)]));
    let mut op = list(Consistency::Stale, 0);
    reads.answered(&op, &new, &model).unwrap();
    assert!(reads.answered(&op, &old, &model).unwrap_err().contains("went back in time"));
    op.life = 2;
    reads.answered(&op, &old, &model).unwrap();
}

#[test]
fn an_acknowledged_put_is_in_the_log_and_a_refused_one_is_not() {
    let (model, mut reads) = (model(), Reads::new(1));
    let put =
        |writer| op(Request::Put { key: KEYS[0].clone(), value: value_of(writer, 8), flags: 0, mode: PutMode::Set }, 0);
    reads.answered(&put(2), &Response::Done(true), &model).unwrap();
    assert_eq!(reads.told(), Index(3));
    assert!(reads.answered(&put(9), &Response::Done(true), &model).unwrap_err().contains("not in the committed log"));
    assert!(reads.answered(&put(2), &Response::Done(false), &model).unwrap_err().contains("took place at 3"));
}

#[test]
fn a_write_that_takes_place_twice_is_noticed() {
    let mut model = model();
    let again = kv::Command::Put { key: KEYS[0].clone(), value: value_of(2, 8), flags: 0, mode: kv::Mode::Set };
    assert!(model.push(again).unwrap_err().contains("took place twice"));
}
