//! Transactions against a model that is a plain map and copies all of it, and by hand.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

use super::*;
use crate::api::ReadOptions;
use crate::api::kv::Request;
use crate::api::session::Session;
use crate::store::Command;
use crate::time::Duration;

const A: SessionId = SessionId(Uuid::from_u128(0xa));
const B: SessionId = SessionId(Uuid::from_u128(0xb));
const GONE: SessionId = SessionId(Uuid::from_u128(0xdead));

/// A store in which the sessions `A` and `B` exist, and whose next index is 11.
fn store() -> Store {
    let mut store = Store::default();
    for id in [A, B] {
        let session = Session { id, lock_delay: Duration::from_secs(15), ..Session::plain() };
        store.sessions.insert(Index(1), session);
    }
    store.note_applied(Index(10));
    store
}

fn op(verb: Verb, key: &str) -> txn::Op {
    let key = Key::copy_from_slice(key.as_bytes());
    txn::Op { verb, key, value: Bytes::new(), flags: 0, index: Index(0), session: String::new() }
}

fn of_session(verb: Verb, key: &str, session: SessionId) -> txn::Op {
    txn::Op { session: session.to_string(), ..op(verb, key) }
}

fn at_index(verb: Verb, key: &str, index: u64) -> txn::Op {
    txn::Op { index: Index(index), ..op(verb, key) }
}

fn set(key: &str, value: &'static str) -> txn::Op {
    txn::Op { value: value.into(), ..op(Verb::Set, key) }
}

/// Applies a transaction whose judge has seen everything up to now.
fn transact(store: &mut Store, ops: &[txn::Op]) -> (Outcome, Vec<Touch>) {
    let judged_at = store.visible_index();
    let ops = prepare(ops, |_, session| Some(Mode::Lock { session, judged_at })).expect("it goes into the log");
    let applied = store.apply(store.index().next(), Command::Txn(ops));
    let Ok(Response::Txn(outcome)) = applied.response else { panic!("a transaction has an outcome") };
    (outcome, applied.touched)
}

fn faults(outcome: &Outcome) -> Vec<(usize, &str)> {
    outcome.faults.iter().map(|fault| (fault.op, fault.what.as_str())).collect()
}

fn failed(store: &mut Store, ops: &[txn::Op]) -> Vec<String> {
    let outcome = transact(store, ops).0;
    assert!(outcome.results.is_empty());
    outcome.faults.into_iter().map(|fault| fault.what).collect()
}

#[test]
fn what_fails_is_told_in_the_words_of_consul() {
    let mut s = store();
    transact(&mut s, &[set("k", "v"), of_session(Verb::Lock, "held", A)]);
    let lock = |key, session| of_session(Verb::Lock, key, session);
    let malformed = txn::Op { session: "x".to_owned(), ..op(Verb::Lock, "k") };
    let ops = [
        op(Verb::Unknown("bo\"gus".to_owned()), "k"),
        op(Verb::Cas, "k"),
        op(Verb::DeleteCas, "k"),
        op(Verb::Get, "no\u{e9}\n"),
        at_index(Verb::CheckIndex, "k", 1),
        op(Verb::CheckIndex, "no"),
        op(Verb::CheckSession, "no"),
        of_session(Verb::CheckSession, "k", B),
        of_session(Verb::CheckSession, "held", B),
        op(Verb::CheckNotExists, "k"),
        lock("held", B),
        lock("k", GONE),
        of_session(Verb::Unlock, "held", B),
        op(Verb::Lock, "k"),
        malformed,
        txn::Op { session: "x".to_owned(), ..op(Verb::Unlock, "k") },
    ];
    let b = "00000000-0000-0000-0000-00000000000b";
    let expected = [
        "unknown KV verb \"bo\\\"gus\"".to_owned(),
        "failed to set key \"k\", index is stale".to_owned(),
        "failed to delete key \"k\", index is stale".to_owned(),
        "key \"no\u{e9}\\n\" doesn't exist".to_owned(),
        "failed index check for key \"k\", current modify index 11 != 1".to_owned(),
        "failed to check index, key \"no\" doesn't exist".to_owned(),
        "failed to check session, key \"no\" doesn't exist".to_owned(),
        format!("failed session check for key \"k\", current session \"\" != \"{b}\""),
        format!("failed session check for key \"held\", current session \"{A}\" != \"{b}\""),
        "key \"k\" exists".to_owned(),
        "failed to lock key \"held\", lock is already held".to_owned(),
        "invalid session \"00000000-0000-0000-0000-00000000dead\"".to_owned(),
        "failed to unlock key \"held\", lock isn't held, or is held by another session".to_owned(),
        "missing session".to_owned(),
        "failed session lookup: index error: UUID must be 36 characters".to_owned(),
        "failed to unlock key \"k\", lock isn't held, or is held by another session".to_owned(),
    ];
    assert_eq!(failed(&mut s, &ops), expected);
}

#[test]
fn a_key_is_needed_but_for_a_tree_that_is_deleted() {
    let ops = [op(Verb::Set, ""), op(Verb::DeleteTree, ""), op(Verb::GetTree, ""), op(Verb::Delete, "a")];
    let faults = prepare(&ops, |_, _| None).unwrap_err();
    assert_eq!(faults, [0, 2].map(|op| Fault { op, what: "Must provide key".to_owned() }));
}

#[test]
fn a_delayed_key_fails_the_transaction_before_the_log_and_in_the_store() {
    let mut s = store();
    transact(&mut s, &[of_session(Verb::Lock, "k", A)]);
    let before = s.visible_index();
    s.apply(s.index().next(), Command::DestroySession { id: A, expired: false });
    let ops = [set("other", "v"), of_session(Verb::Lock, "k", B)];
    let delayed = Fault { op: 1, what: "failed to lock key \"k\" due to lock delay".to_owned() };
    assert_eq!(prepare(&ops, |_, _| None), Err(vec![delayed.clone()]));
    let judged = prepare(&ops, |_, session| Some(Mode::Lock { session, judged_at: before })).unwrap();
    let applied = s.apply(s.index().next(), Command::Txn(judged));
    assert_eq!(applied.response, Ok(Response::Txn(Outcome { faults: vec![delayed], ..Outcome::default() })));
    assert!(applied.touched.is_empty() && s.kv.entry(b"other").is_none());
    assert_eq!(transact(&mut s, &ops).0.faults, [], "whoever knew of the delay has waited for its end");
    assert_eq!((s.kv.entry(b"k").unwrap().session, s.lock_delay(b"k")), (Some(B), None));
}

#[test]
fn operations_see_those_before_them_and_tell_what_they_leave() {
    let mut s = store();
    transact(&mut s, &[set("t/a", "1"), set("t/b", "2")]);
    let ops = [
        set("t/c", "3"),
        op(Verb::Delete, "t/a"),
        op(Verb::CheckNotExists, "t/a"),
        of_session(Verb::Lock, "t/b", A),
        of_session(Verb::CheckSession, "t/b", A),
        at_index(Verb::CheckIndex, "t/c", 12),
        op(Verb::GetTree, "t/"),
        set("t/c", "4"),
        op(Verb::Get, "t/c"),
        op(Verb::DeleteTree, "t/c"),
    ];
    let (outcome, touched) = transact(&mut s, &ops);
    let told = outcome.results.iter().map(|told| (&told.entry.key[..], &told.entry.value[..], told.with_value));
    let told = told.collect::<Vec<_>>();
    let expected: [(&[u8], &[u8], bool); 8] = [
        (b"t/c", b"", false),
        (b"t/b", b"", false),
        (b"t/b", b"", false),
        (b"t/c", b"", false),
        (b"t/b", b"", true),
        (b"t/c", b"3", true),
        (b"t/c", b"", false),
        (b"t/c", b"4", true),
    ];
    assert_eq!(told, expected);
    let keys = ["t/c", "t/a", "t/b"].map(|key| Touch::Key(key.into()));
    assert_eq!(touched, keys, "each key is touched once");
    assert_eq!((s.kv_len(), s.kv.entry(b"t/b").unwrap().lock_index), (1, 1));
}

#[test]
fn a_transaction_that_fails_leaves_no_trace() {
    let mut s = store();
    transact(&mut s, &[set("a", "1"), of_session(Verb::Lock, "held", A), set("gone", "")]);
    transact(&mut s, &[op(Verb::Delete, "gone")]);
    let before = s.clone();
    let ops = [
        set("a", "2"),
        set("new", "3"),
        set("gone", "again"),
        of_session(Verb::Unlock, "held", A),
        of_session(Verb::Lock, "new", B),
        op(Verb::DeleteTree, ""),
        op(Verb::Get, "a"),
    ];
    let (outcome, touched) = transact(&mut s, &ops);
    assert_eq!((faults(&outcome), touched), (vec![(6, "key \"a\" doesn't exist")], vec![]));
    assert!(s.kv == before.kv, "the tables are as they were, tombstones and locks included");
}

#[test]
fn results_have_an_end() {
    let mut s = store();
    let value = Bytes::from(vec![0; 512 << 10]);
    transact(&mut s, &[txn::Op { value, ..op(Verb::Set, "big") }]);
    let fits = vec![op(Verb::Get, "big"); 63];
    assert_eq!(transact(&mut s, &fits).0.results.len(), 63);
    let over = vec![op(Verb::Get, "big"); 64];
    assert_eq!(failed(&mut s, &over), ["the results of the transaction exceed 33554432 bytes"]);
}

#[test]
fn a_transaction_that_only_reads_is_a_query() {
    let mut s = store();
    transact(&mut s, &[set("a", "1")]);
    let read = |ops: Vec<txn::Op>| {
        let request = txn::Request { ops, read: ReadOptions::default() };
        s.query(&request).map(|answer| match answer.body {
            Body::Txn(outcome) => (answer.index, outcome),
            other => panic!("{other:?}"),
        })
    };
    let (index, outcome) = read(vec![op(Verb::Get, "a"), op(Verb::GetTree, "b")]).unwrap();
    assert_eq!((index, outcome.results.len(), outcome.faults.len()), (Index(11), 1, 0));
    assert_eq!(read(Vec::new()).unwrap().1, Outcome::default());
    assert_eq!(faults(&read(vec![op(Verb::Get, "b")]).unwrap().1), [(0, "key \"b\" doesn't exist")]);
    assert_eq!(faults(&read(vec![op(Verb::Get, "")]).unwrap().1), [(0, "Must provide key")]);
    assert_eq!(read(vec![op(Verb::Get, "a"), op(Verb::Delete, "a")]), None);
}

/// The keys as a plain map: value, create index, modify index and holder.
type Plain = BTreeMap<String, (Bytes, Index, Index, Option<SessionId>)>;

/// What one operation does to a plain map; `None` if it fails.
fn play(map: &mut Plain, index: Index, op: &txn::Op) -> Option<()> {
    let key = String::from_utf8(op.key.to_vec()).expect("these tests use text");
    let there = map.get(&key).cloned();
    let holder = there.as_ref().and_then(|row| row.3);
    let session = SessionId::parse(&op.session);
    let modified = there.as_ref().map_or(Index(0), |row| row.2);
    let created = there.as_ref().map_or(index, |row| row.1);
    let mut put = |holder| {
        map.insert(key.clone(), (op.value.clone(), created, index, holder));
        Some(())
    };
    match op.verb {
        Verb::Set => put(holder),
        Verb::Cas => (modified == op.index).then(|| put(holder)).flatten(),
        Verb::Lock => {
            let may = session != Some(GONE) && (holder.is_none() || holder == session);
            may.then(|| put(session)).flatten()
        }
        Verb::Unlock => (holder.is_some() && holder == session).then(|| put(None)).flatten(),
        Verb::Get => there.map(|_| ()),
        Verb::CheckIndex => (there.is_some() && modified == op.index).then_some(()),
        Verb::CheckSession => (there.is_some() && holder == session).then_some(()),
        Verb::CheckNotExists => there.is_none().then_some(()),
        Verb::DeleteCas if there.is_some() && modified != op.index => None,
        Verb::Delete | Verb::DeleteCas => {
            map.remove(&key);
            Some(())
        }
        Verb::DeleteTree => {
            map.retain(|other, _| !other.starts_with(&key));
            Some(())
        }
        Verb::GetTree => Some(()),
        Verb::Unknown(_) => None,
    }
}

fn any_op() -> impl Strategy<Value = txn::Op> {
    let verbs = ["set", "set", "set", "cas", "lock", "unlock", "get", "get-tree", "check-index", "check-session"];
    let verbs = [&verbs[..], &["check-not-exists", "delete", "delete-cas", "delete-tree", "bogus"]].concat();
    let session = select(vec![A.to_string(), B.to_string(), GONE.to_string()]);
    (select(verbs), select(vec!["a", "ab", "b", "ba"]), "[xy]{0,2}", 10..16u64, session).prop_map(
        |(verb, key, value, index, session)| txn::Op {
            value: value.into(),
            // Among them the index of no key at all.
            index: Index(if index == 10 { 0 } else { index }),
            session,
            ..op(Verb::named(verb), key)
        },
    )
}

proptest! {
    #[test]
    fn transactions_do_what_they_do_to_a_plain_map_or_nothing(txns in vec(vec(any_op(), 0..5), 1..8)) {
        let (mut s, mut model) = (store(), Plain::new());
        for ops in txns {
            let before = s.clone();
            let index = s.index().next();
            let mut next = model.clone();
            let failing: Vec<usize> =
                ops.iter().enumerate().filter(|(_, op)| play(&mut next, index, op).is_none()).map(|(at, _)| at).collect();
            let (outcome, touched) = transact(&mut s, &ops);
            prop_assert_eq!(outcome.faults.iter().map(|fault| fault.op).collect::<Vec<_>>(), failing.clone());
            if failing.is_empty() {
                model = next;
            } else {
                prop_assert!(s.kv == before.kv && touched.is_empty() && outcome.results.is_empty());
            }
            let Some(answer) = s.query(&Request::List { prefix: Key::new(), read: ReadOptions::default() }) else {
                panic!("a list is a read")
            };
            let Body::Entries(entries) = &answer.body else { panic!("a list has entries") };
            let shown: Plain = entries.iter().map(|entry| {
                let key = String::from_utf8(entry.key.to_vec()).expect("these tests use text");
                (key, (entry.value.clone(), entry.create_index, entry.modify_index, entry.session))
            }).collect();
            prop_assert_eq!(&shown, &model);
            let changed = if touched.is_empty() { before.kv_changed() } else { index };
            prop_assert_eq!((s.kv_changed(), answer.changed), (changed, changed));
            // What differs was touched.
            for key in ["a", "ab", "b", "ba"] {
                let differs = before.kv.entry(key.as_bytes()) != s.kv.entry(key.as_bytes());
                prop_assert!(!differs || touched.contains(&Touch::Key(key.into())), "{} was not touched", key);
            }
        }
    }
}

/// The script in `testdata/txn`. `UPDATE_GOLDENFILES=1` writes its outputs anew; read the difference before you commit it.
#[test]
fn half_applied_is_impossible() {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/txn/half_applied_is_impossible.txt");
    goldenscript::run(&mut Script { store: store() }, &script).unwrap();
}

struct Script {
    store: Store,
}

impl Script {
    /// The sessions are `A`, `B`, and `C`, which does not exist.
    fn session(name: &str) -> String {
        [("A", A), ("B", B), ("C", GONE)].into_iter().find(|(known, _)| *known == name).unwrap().1.to_string()
    }

    fn op(text: &str) -> txn::Op {
        let mut words = text.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let op = op(Verb::named(word()), word());
        match op.verb {
            Verb::Set => txn::Op { value: word().to_owned().into(), ..op },
            Verb::Cas => txn::Op { index: Index(word().parse().unwrap()), value: word().to_owned().into(), ..op },
            Verb::DeleteCas => txn::Op { index: Index(word().parse().unwrap()), ..op },
            Verb::Lock | Verb::Unlock => txn::Op { session: Self::session(word()), ..op },
            _ => op,
        }
    }

    /// All that there is, with the indexes as they are told.
    fn show(&self) -> String {
        let read = ReadOptions::default;
        let mut shown = format!("keys changed at {}:", self.store.kv_changed());
        let list = self.store.query(&Request::List { prefix: Key::new(), read: read() }).expect("a list is a read");
        let Body::Entries(entries) = list.body else { panic!("a list has entries") };
        for entry in entries {
            let holder = entry.session.map(|session| if session == A { " held by A" } else { " held by B" });
            let (key, value) = (entry.key.escape_ascii(), entry.value.escape_ascii());
            shown += &format!(" {key}={value}@{}{}", entry.modify_index, holder.unwrap_or_default());
        }
        for key in ["a", "b", "c", "gone", "new"] {
            let answer = self.store.query(&Request::Get { key: key.into(), read: read() }).expect("a get is a read");
            if answer.body.is_empty() && answer.changed > Index(0) {
                shown += &format!(" {key} deleted@{}", answer.changed);
            }
        }
        shown
    }
}

impl goldenscript::Runner for Script {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        _: &goldenscript::Context,
    ) -> Result<String, Box<dyn std::error::Error>> {
        let mut args = command.consume_args();
        let ops: Vec<txn::Op> = std::iter::from_fn(|| args.next_pos()).map(Self::op).collect();
        let (outcome, touched) = transact(&mut self.store, &ops);
        let mut out = String::new();
        for Told { entry, .. } in &outcome.results {
            out += &format!("tells {}\n", entry.key.escape_ascii());
        }
        for Fault { op, what } in &outcome.faults {
            out += &format!("{op}: {what}\n");
        }
        let touched: Vec<String> = touched
            .iter()
            .map(|touch| match touch {
                Touch::Key(key) => key.escape_ascii().to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        out += &format!("touches [{}]\n{}\n", touched.join(" "), self.show());
        Ok(out)
    }
}
