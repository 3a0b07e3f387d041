//! Transactions and prepared queries, as an agent takes them.

use bytes::Bytes;

use super::Lone;
use crate::api::catalog::{Check, Node, Registration, Request as Catalog, Service};
use crate::api::prepared::{self, Query};
use crate::api::txn::{Fault, Op, Outcome, Verb};
use crate::api::{Call, Consistency, Error, ReadOptions, Reply, Response, health, kv, session, txn};
use crate::id::{Index, SessionId};
use crate::time::Duration;

fn op(verb: Verb, key: &'static str) -> Op {
    Op { verb, key: key.into(), value: Bytes::new(), flags: 0, index: Index(0), session: String::new() }
}

fn txn(ops: Vec<Op>) -> txn::Request {
    txn::Request { ops, read: ReadOptions::default() }
}

fn ask(lone: &mut Lone, request: impl Into<crate::api::Request>) -> Reply {
    let id = lone.call(request);
    lone.reply(id).expect("it is answered at once")
}

fn outcome(reply: Reply) -> Outcome {
    match reply {
        Ok(Response::Txn(outcome)) => outcome,
        other => panic!("no outcome of a transaction: {other:?}"),
    }
}

/// A node with an instance of `web` and a session on it.
fn with_session(lone: &mut Lone, lock_delay: Duration) -> SessionId {
    let node = Node { name: "n1".to_owned(), address: "10.0.0.1".to_owned(), ..Node::default() };
    let service = Some(Service { name: "web".to_owned(), ..Service::default() });
    let check = Check { id: "up".to_owned(), status: health::PASSING.to_owned(), ..Check::default() };
    let registration = Registration { node, service, checks: vec![check] };
    ask(lone, Catalog::Register(Box::new(registration))).unwrap();
    let wanted = session::Wanted { checks: Some(Vec::new()), lock_delay, ..session::Wanted::default() };
    match ask(lone, session::Request::Create(wanted)) {
        Ok(Response::SessionCreated(id)) => id,
        other => panic!("no session: {other:?}"),
    }
}

#[test]
fn a_transaction_that_only_reads_never_enters_the_log() {
    let mut lone = Lone::new();
    let written = outcome(ask(&mut lone, txn(vec![op(Verb::Set, "a"), op(Verb::Set, "b")])));
    assert_eq!((written.results.len(), written.faults, written.read), (2, vec![], None));
    let before = lone.agent.store().index();
    for consistency in [Consistency::Default, Consistency::Consistent, Consistency::Stale] {
        // It does not wait, whatever index it knows.
        let read = ReadOptions { consistency, index: Index(1 << 40), wait: None };
        let request = txn::Request { ops: vec![op(Verb::GetTree, "a"), op(Verb::Get, "b")], read };
        let found = outcome(ask(&mut lone, request.clone()));
        assert_eq!((found.results.len(), found.read.map(|meta| meta.known_leader)), (2, Some(true)));
        let from_view = lone.agent.view().answer(lone.now, &Call::new(request));
        assert_eq!(from_view.map(outcome), Some(found));
    }
    let empty = outcome(ask(&mut lone, txn(Vec::new())));
    assert!(empty.read.is_some() && empty.results.is_empty() && empty.faults.is_empty());
    let missing = outcome(ask(&mut lone, txn(vec![op(Verb::Get, "")])));
    assert_eq!(missing.faults, [Fault { op: 0, what: "Must provide key".to_owned() }]);
    assert_eq!(lone.agent.store().index(), before);
}

#[test]
fn transactions_have_limits_whether_they_read_or_write() {
    let mut lone = Lone::new();
    let many = |verb: Verb, count| txn(vec![op(verb, "a"); count]);
    for verb in [Verb::Get, Verb::Set] {
        let request = many(verb.clone(), 65);
        assert_eq!(lone.agent.view().answer(lone.now, &Call::new(request.clone())), None, "the core says why");
        assert_eq!(ask(&mut lone, request), Err(Error::TxnTooLong { count: 65, limit: 64 }));
        let key = Bytes::from(vec![b'k'; (64 << 10) + 1]);
        let long = Op { key, ..op(verb.clone(), "") };
        assert_eq!(ask(&mut lone, txn(vec![long])), Err(Error::KeyTooLarge { limit: 64 << 10 }));
    }
    let of_size = |size| Op { value: Bytes::from(vec![0; size]), ..op(Verb::Set, "k") };
    let too_large = ask(&mut lone, txn(vec![op(Verb::Set, "a"), of_size((512 << 10) + 1)])).unwrap_err();
    assert_eq!(too_large.to_string(), "Value for key \"k\" is too large (524289 > 524288 bytes)");
    let large = vec![of_size(512 << 10); 4];
    assert_eq!(ask(&mut lone, txn(large)), Err(Error::TxnTooLarge { limit: 2 << 20 }));
    assert_eq!(lone.agent.store().kv_len(), 0);
    assert_eq!(outcome(ask(&mut lone, many(Verb::Set, 64))).results.len(), 64);
}

#[test]
fn a_lock_delay_fails_a_transaction_until_it_is_over() {
    let mut lone = Lone::new();
    let lock =
        |session: SessionId| txn(vec![op(Verb::Set, "a"), Op { session: session.to_string(), ..op(Verb::Lock, "k") }]);
    let first = with_session(&mut lone, Duration::from_secs(15));
    assert_eq!(outcome(ask(&mut lone, lock(first))).faults, []);
    ask(&mut lone, session::Request::Destroy { id: first.to_string() }).unwrap();
    let second = with_session(&mut lone, Duration::ZERO);
    let index = lone.agent.store().index();
    let what = "failed to lock key \"k\" due to lock delay".to_owned();
    assert_eq!(outcome(ask(&mut lone, lock(second))).faults, [Fault { op: 1, what }]);
    assert_eq!(lone.agent.store().index(), index, "it has not even entered the log");
    lone.wait_until(lone.now + Duration::from_secs(16));
    assert_eq!(outcome(ask(&mut lone, lock(second))).faults, []);
}

fn query(name: &str, session: &str) -> prepared::Request {
    let service = prepared::Service { service: "web".to_owned(), ..prepared::Service::default() };
    let (name, session) = (name.to_owned(), session.to_owned());
    prepared::Request::Create(Box::new(Query { name, session, service, ..Query::default() }))
}

fn execute(name: &str, near: Option<&str>) -> prepared::Request {
    prepared::Request::Execute {
        name: name.to_owned(),
        limit: 0,
        near: near.map(str::to_owned),
        agent: String::new(),
        read: ReadOptions { index: Index(1 << 40), ..ReadOptions::default() },
    }
}

fn get(id: &str, index: Index) -> prepared::Request {
    prepared::Request::Get { id: id.to_owned(), read: ReadOptions { index, ..ReadOptions::default() } }
}

#[test]
fn a_prepared_query_is_kept_asked_and_gone_with_its_session() {
    let mut lone = Lone::new();
    let session = with_session(&mut lone, Duration::ZERO).to_string();
    let Ok(Response::QueryCreated(id)) = ask(&mut lone, query("q", &session)) else { panic!("it is kept") };
    let id = id.to_string();
    for name in ["q", "Q", &id] {
        let request = execute(name, Some("_agent"));
        assert_eq!(lone.agent.view().answer(lone.now, &Call::new(request.clone())), None, "a view has no dice");
        let Ok(Response::Executed(read)) = ask(&mut lone, request) else { panic!("it is asked") };
        assert_eq!((read.value.instances.len(), &*read.value.datacenter), (1, "dc1"));
    }
    assert_eq!(ask(&mut lone, execute("other", None)), Err(Error::NoSuchQuery));
    let explain = |name: &str| {
        let read = ReadOptions::default();
        prepared::Request::Explain { name: name.to_owned(), agent: String::new(), read }
    };
    let Ok(Response::Explained(read)) = ask(&mut lone, explain("q")) else { panic!("it is explained") };
    assert_eq!(read.value.id.to_string(), id);

    let Ok(Response::Queries(read)) = ask(&mut lone, get(&id, Index(0))) else { panic!("it is read") };
    let waiting = lone.call(get(&id, read.meta.index));
    ask(&mut lone, query("another", "")).unwrap();
    assert_eq!(lone.reply(waiting), None, "another query is no news of this one");
    ask(&mut lone, session::Request::Destroy { id: session }).unwrap();
    assert_eq!(lone.reply(waiting), Some(Err(Error::NoSuchQuery)));
    assert_eq!(ask(&mut lone, get(&id, Index(1 << 40))), Err(Error::NoSuchQuery), "nobody waits for what is not there");
    let Ok(Response::Queries(read)) = ask(&mut lone, prepared::Request::List { read: ReadOptions::default() }) else {
        panic!("they are listed")
    };
    assert_eq!(read.value.iter().map(|query| query.name.as_str()).collect::<Vec<_>>(), ["another"]);
}

#[test]
fn what_is_wrong_with_a_query_is_said_in_the_words_of_consul() {
    let mut lone = Lone::new();
    let mut says = |request: prepared::Request| ask(&mut lone, request).unwrap_err().to_string();
    let malformed = "failed prepared query lookup: index error: UUID must be 36 characters";
    assert_eq!(says(get("x", Index(0))), malformed);
    let nothing = || Box::<Query>::default();
    let update = |id: &str| prepared::Request::Update { id: id.to_owned(), query: nothing() };
    assert_eq!(says(update("x")), format!("Prepared Query lookup failed: {malformed}"));
    let zero = uuid::Uuid::nil().to_string();
    let missing = format!("Cannot modify non-existent prepared query: '{zero}'");
    assert_eq!(says(update(&zero)), missing, "that goes before what is wrong with it");
    assert_eq!(says(prepared::Request::Delete { id: zero }), missing);
    let unnamed = "Invalid prepared query: Must provide a Service name to query";
    assert_eq!(says(prepared::Request::Create(nothing())), unnamed);
    let large = query(&"x".repeat(1 << 20), "");
    assert!(says(large).ends_with("byte limit"));
    let key = kv::Request::Get { key: "a".into(), read: ReadOptions::default() };
    assert!(ask(&mut lone, key).is_ok(), "all of that has harmed nobody");
}
