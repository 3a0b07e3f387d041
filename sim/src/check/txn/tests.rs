//! Transactions that are not whole.

use std::sync::Arc;

use lictor_core::api::txn::{Fault, Told};
use lictor_core::store::{kv, txn::Op};

use super::*;

fn key(name: &'static str) -> Bytes {
    Bytes::from_static(name.as_bytes())
}

fn set(name: &'static str, value: Bytes) -> kv::Command {
    kv::Command::Put { key: key(name), value, flags: 0, mode: kv::Mode::Set }
}

fn cas(name: &'static str, value: Bytes, index: u64) -> Op {
    Op::Write(kv::Command::Put { key: key(name), value, flags: 0, mode: kv::Mode::Cas(Index(index)) })
}

/// Two accounts with ten each, of the indexes 1 and 2.
fn model() -> Model {
    let mut model = Model::default();
    model.push(set("a", balance_of(1, 10))).unwrap();
    model.push(set("b", balance_of(2, 10))).unwrap();
    model
}

fn entry(name: &'static str, value: Bytes, created: u64, modified: u64) -> Entry {
    Entry {
        key: key(name),
        value,
        flags: 0,
        create_index: Index(created),
        modify_index: Index(modified),
        lock_index: 0,
        session: None,
    }
}

#[test]
fn all_of_it_takes_place_or_nothing() {
    let mut model = model();
    let wrong = vec![cas("a", balance_of(3, 5), 1), cas("b", balance_of(4, 15), 1)];
    model.push_command(&lictor_core::store::Command::Txn(wrong)).unwrap();
    assert_eq!(model.row(&key("a")).map(|(since, _)| since), Some(Index(1)));
    let right = vec![cas("a", balance_of(5, 5), 1), cas("b", balance_of(6, 15), 2), Op::Get(key("b"))];
    model.push_command(&lictor_core::store::Command::Txn(right)).unwrap();
    for name in ["a", "b"] {
        assert_eq!(model.row(&key(name)).map(|(since, _)| since), Some(Index(4)));
    }
}

#[test]
fn each_operation_sees_what_those_before_it_have_done() {
    let mut model = model();
    let delete = |name| Op::Write(kv::Command::Delete { key: key(name), cas: None });
    let ops = vec![delete("a"), Op::CheckNotExists(key("a")), cas("a", balance_of(3, 7), 0), Op::Get(key("a"))];
    model.push_command(&lictor_core::store::Command::Txn(ops)).unwrap();
    assert_eq!(model.row(&key("a")).map(|(since, row)| (since, row.created)), Some((Index(3), Index(3))));
    let ops = vec![delete("b"), Op::Get(key("b"))];
    model.push_command(&lictor_core::store::Command::Txn(ops)).unwrap();
    assert!(model.row(&key("b")).is_some());
}

#[test]
fn what_is_acknowledged_is_there_and_what_failed_is_not() {
    let model = model();
    let (done, failed) = (Outcome::default(), Fault { op: 0, what: String::new() });
    let failed = Outcome { faults: vec![failed], ..Outcome::default() };
    let of_a = [(key("a"), balance_of(1, 10))];
    assert_eq!(answered(&model, &of_a, &done), Ok(Some(Index(1))));
    assert!(answered(&model, &of_a, &failed).unwrap_err().contains("failed and took place"));
    assert!(left_nothing(&model, &of_a).is_err());
    let of_none = [(key("a"), balance_of(7, 10))];
    assert_eq!((answered(&model, &of_none, &failed), left_nothing(&model, &of_none)), (Ok(None), Ok(())));
    assert!(answered(&model, &of_none, &done).unwrap_err().contains("not in the committed log"));
    let of_both = [(key("a"), balance_of(1, 10)), (key("b"), balance_of(2, 10))];
    assert!(answered(&model, &of_both, &done).unwrap_err().contains("taken apart"));
}

#[test]
fn what_is_told_is_of_the_index_at_which_it_took_place() {
    let model = model();
    let told = |modified| Outcome {
        results: vec![Told { entry: Arc::new(entry("b", balance_of(2, 10), 2, modified)), with_value: true }],
        ..Outcome::default()
    };
    let of_b = [(key("b"), balance_of(2, 10))];
    assert_eq!(answered(&model, &of_b, &told(2)), Ok(Some(Index(2))));
    assert!(answered(&model, &of_b, &told(1)).unwrap_err().contains("tells of"));
}

#[test]
fn money_is_never_lost() {
    let (a, b) = (entry("a", balance_of(1, 4), 1, 1), entry("b", balance_of(2, 16), 2, 2));
    assert_eq!(nothing_is_lost(&[], 2, 20), Ok(()), "there is none yet");
    assert_eq!(nothing_is_lost(&[&a, &b], 2, 20), Ok(()));
    assert!(nothing_is_lost(&[&a, &b], 2, 21).is_err() && nothing_is_lost(&[&a], 2, 4).is_err());
}
