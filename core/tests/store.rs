//! The store against a plain model: whatever commands come, every read answers as a naive scan of a
//! `BTreeMap` would, indexes never run backwards, and whoever waits is woken when its result changes and
//! only then.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lictor_core::api::kv::{Entry, Request};
use lictor_core::api::{Error, ReadOptions, Response};
use lictor_core::id::{Index, SessionId, Ticket};
use lictor_core::store::kv::{Command as Kv, Mode};
use lictor_core::store::{Answer, Applied, Body, Command, Store, Touch};
use lictor_core::watch::{Interest, Watches};
use lictor_core::wire;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Few letters, so that keys meet; among them the last byte, behind which no prefix has a successor.
const LETTERS: &[u8] = b"ab/\xff";

/// A command before it is known which indexes the store will hold.
#[derive(Clone, Debug)]
enum Step {
    Put {
        key: Bytes,
        value: Bytes,
        flags: u64,
        cas: Option<Guess>,
    },
    Lock {
        key: Bytes,
        session: SessionId,
    },
    Unlock {
        key: Bytes,
        session: SessionId,
    },
    Delete {
        key: Bytes,
        cas: Option<Guess>,
    },
    DeleteTree {
        prefix: Bytes,
    },
    Reap {
        up_to: Guess,
    },
    /// An entry of raft's own.
    Skip,
}

/// An index that a client gives.
#[derive(Clone, Debug)]
enum Guess {
    /// The key's modify index; of a missing one 0.
    Right,
    /// A little before the present.
    Ago(u64),
    Exactly(u64),
}

impl Guess {
    fn resolve(&self, model: &Model, key: &[u8]) -> Index {
        match self {
            Self::Right => model.entries.get(key).map_or(Index(0), |entry| entry.modify_index),
            Self::Ago(n) => Index(model.applied.saturating_sub(*n)),
            Self::Exactly(n) => Index(*n),
        }
    }
}

impl Step {
    /// The command, or `None` for an entry that is none.
    fn resolve(self, model: &Model) -> Option<Command> {
        Some(match self {
            Self::Put { key, value, flags, cas } => {
                let mode = cas.map_or(Mode::Set, |guess| Mode::Cas(guess.resolve(model, &key)));
                Kv::Put { key, value, flags, mode }.into()
            }
            Self::Lock { key, session } => {
                Kv::Put { key, value: Bytes::new(), flags: 0, mode: Mode::Lock { session, judged_at: Index(0) } }.into()
            }
            Self::Unlock { key, session } => {
                Kv::Put { key, value: Bytes::new(), flags: 0, mode: Mode::Unlock(session) }.into()
            }
            Self::Delete { key, cas } => {
                let cas = cas.map(|guess| guess.resolve(model, &key));
                Kv::Delete { key, cas }.into()
            }
            Self::DeleteTree { prefix } => Kv::DeleteTree { prefix }.into(),
            Self::Reap { up_to } => Command::ReapTombstones { up_to: up_to.resolve(model, b"") },
            Self::Skip => return None,
        })
    }
}

fn key() -> impl Strategy<Value = Bytes> {
    vec(select(LETTERS), 0..4).prop_map(Bytes::from)
}

fn guess() -> impl Strategy<Value = Guess> {
    prop_oneof![
        4 => Just(Guess::Right),
        2 => (0..20u64).prop_map(Guess::Ago),
        1 => Just(Guess::Exactly(0)),
        1 => any::<u64>().prop_map(Guess::Exactly),
    ]
}

fn session() -> impl Strategy<Value = SessionId> {
    (0..3u128).prop_map(|n| SessionId(uuid::Uuid::from_u128(n)))
}

fn step() -> impl Strategy<Value = Step> {
    let value = vec(any::<u8>(), 0..3).prop_map(Bytes::from);
    let cas = || prop::option::of(guess());
    prop_oneof![
        12 => (key(), value, any::<u64>(), cas())
            .prop_map(|(key, value, flags, cas)| Step::Put { key, value, flags, cas }),
        1 => (key(), session()).prop_map(|(key, session)| Step::Lock { key, session }),
        1 => (key(), session()).prop_map(|(key, session)| Step::Unlock { key, session }),
        6 => (key(), cas()).prop_map(|(key, cas)| Step::Delete { key, cas }),
        2 => key().prop_map(|prefix| Step::DeleteTree { prefix }),
        2 => prop_oneof![(0..20u64).prop_map(Guess::Ago), any::<u64>().prop_map(Guess::Exactly)]
            .prop_map(|up_to| Step::Reap { up_to }),
        1 => Just(Step::Skip),
    ]
}

/// The store as one would write it without a thought for speed.
#[derive(Clone, Debug, Default)]
struct Model {
    applied: u64,
    entries: BTreeMap<Bytes, Entry>,
    tombstones: BTreeMap<Bytes, Index>,
    floor: Index,
    changed: Index,
}

impl Model {
    /// What applying the command should answer, and the keys it should touch.
    fn apply(&mut self, index: Index, command: &Command) -> (Result<bool, Error>, BTreeSet<Bytes>) {
        self.applied = index.0;
        let mut touched = BTreeSet::new();
        let outcome = match command {
            Command::Kv(Kv::Put { key, mode: Mode::Set, value, flags }) => {
                self.put(index, key, value, *flags);
                touched.insert(key.clone());
                Ok(true)
            }
            Command::Kv(Kv::Put { key, mode: Mode::Cas(expected), value, flags }) => {
                let holds = match self.entries.get(key) {
                    None => expected.0 == 0,
                    Some(entry) => entry.modify_index == *expected,
                };
                if holds {
                    self.put(index, key, value, *flags);
                    touched.insert(key.clone());
                }
                Ok(holds)
            }
            // No session is made here, so none holds anything; `sessions.rs` is about those that are.
            Command::Kv(Kv::Put { mode: Mode::Lock { session, .. }, .. }) => {
                Err(Error::InvalidSession(session.to_string()))
            }
            Command::Kv(Kv::Put { mode: Mode::Unlock(_), .. }) => Ok(false),
            Command::Kv(Kv::Delete { key, cas }) => match self.entries.get(key) {
                Some(entry) if cas.is_some_and(|expected| expected != entry.modify_index) => Ok(false),
                Some(_) => {
                    touched.insert(key.clone());
                    Ok(true)
                }
                None => Ok(true),
            },
            Command::Kv(Kv::DeleteTree { prefix }) => {
                touched = self.entries.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
                Ok(true)
            }
            Command::ReapTombstones { up_to } => {
                let reaped = self.tombstones.values().filter(|at| *at <= up_to).max();
                self.floor = self.floor.max(reaped.copied().unwrap_or_default());
                self.tombstones.retain(|_, at| *at > *up_to);
                Ok(true)
            }
            _ => panic!("no step makes {command}"),
        };
        if matches!(command, Command::Kv(Kv::Delete { .. } | Kv::DeleteTree { .. })) {
            for key in &touched {
                self.entries.remove(key);
                self.tombstones.insert(key.clone(), index);
            }
        }
        if !touched.is_empty() {
            self.changed = index;
        }
        (outcome, touched)
    }

    fn put(&mut self, index: Index, key: &Bytes, value: &Bytes, flags: u64) {
        self.tombstones.remove(key);
        let create_index = self.entries.get(key).map_or(index, |entry| entry.create_index);
        let entry = Entry {
            key: key.clone(),
            value: value.clone(),
            flags,
            create_index,
            modify_index: index,
            lock_index: 0,
            session: None,
        };
        self.entries.insert(key.clone(), entry);
    }

    fn entries_under(&self, prefix: &[u8]) -> Vec<Entry> {
        self.entries.values().filter(|entry| entry.key.starts_with(prefix)).cloned().collect()
    }

    /// What a query should answer.
    fn query(&self, request: &Request) -> Answer {
        let (changed, body) = match request {
            Request::Get { key, .. } => match self.entries.get(key) {
                Some(entry) => (entry.modify_index, entries(vec![entry.clone()])),
                None => (self.tombstones.get(key).copied().unwrap_or_default().max(self.floor), entries(vec![])),
            },
            Request::List { prefix, .. } => (self.changed_under(prefix), entries(self.entries_under(prefix))),
            Request::Keys { prefix, separator, .. } => {
                let mut keys: Vec<Bytes> = Vec::new();
                for entry in self.entries_under(prefix) {
                    let key = fold(&entry.key, prefix.len(), separator);
                    if !keys.contains(&key) {
                        keys.push(key);
                    }
                }
                (self.changed_under(prefix), Body::Keys(keys))
            }
            _ => panic!("{request:?} is no read"),
        };
        let index = if body.is_empty() { self.changed } else { changed };
        Answer { index: index.max(Index(1)), changed, body }
    }

    fn changed_under(&self, prefix: &[u8]) -> Index {
        let written = self.entries_under(prefix).iter().map(|entry| entry.modify_index).max();
        let deleted = self.tombstones.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(_, at)| *at).max();
        self.floor.max(written.unwrap_or_default()).max(deleted.unwrap_or_default())
    }
}

fn entries(entries: Vec<Entry>) -> Body {
    Body::Entries(entries.into_iter().map(Into::into).collect())
}

fn fold(key: &Bytes, from: usize, separator: &[u8]) -> Bytes {
    let end = (from..=key.len()).find(|&at| !separator.is_empty() && key[at..].starts_with(separator));
    end.map_or(key.clone(), |at| key.slice(..at + separator.len()))
}

/// Every read of every string of up to two letters, and the keys that the steps name.
fn queries(steps: &[Step]) -> Vec<Request> {
    let mut names: BTreeSet<Bytes> = BTreeSet::from([Bytes::new()]);
    for first in LETTERS {
        names.insert(Bytes::copy_from_slice(&[*first]));
        names.extend(LETTERS.iter().map(|second| Bytes::copy_from_slice(&[*first, *second])));
    }
    names.extend(steps.iter().filter_map(|step| match step {
        Step::Put { key, .. } | Step::Delete { key, .. } => Some(key.clone()),
        _ => None,
    }));
    let read = ReadOptions::default;
    let separators: [&[u8]; 4] = [b"", b"/", b"/a", b"aa"];
    let mut queries = Vec::new();
    for name in names {
        queries.push(Request::Get { key: name.clone(), read: read() });
        queries.push(Request::List { prefix: name.clone(), read: read() });
        queries.extend(separators.map(|separator| {
            let (prefix, separator) = (name.clone(), Bytes::from_static(separator));
            Request::Keys { prefix, separator, read: read() }
        }));
    }
    queries
}

fn answer(store: &Store, query: &Request) -> Answer {
    store.query(query).expect("a read is answered")
}

fn touched_keys(applied: &Applied) -> Vec<Bytes> {
    let key = |touch: &Touch| match touch {
        Touch::Key(key) => key.clone(),
        Touch::Topic(_) | Touch::Everything => panic!("only keys are written here"),
    };
    applied.touched.iter().map(key).collect()
}

/// A store, its model, and one client for each query who waits for it to change.
struct Trial {
    store: Store,
    model: Model,
    queries: Vec<Request>,
    watches: Watches,
    /// For each query: what was last answered, and the entries that it was about.
    last: Vec<(Answer, Vec<Entry>)>,
}

impl Trial {
    fn new(queries: Vec<Request>) -> Self {
        let (mut store, mut model, mut watches) = (Store::default(), Model::default(), Watches::default());
        store.note_applied(Index(1));
        model.applied = 1;
        for (n, query) in queries.iter().enumerate() {
            watches.add(Ticket(n as u64), Interest::of(query).expect("a read waits for something"));
        }
        let last = queries.iter().map(|query| (answer(&store, query), Vec::new())).collect();
        Self { store, model, queries, watches, last }
    }

    fn apply(&mut self, step: Step) -> Result<(), TestCaseError> {
        let index = self.store.index().next();
        let Some(command) = step.resolve(&self.model) else {
            self.store.note_applied(index);
            self.model.applied = index.0;
            return self.check(index, &[], false);
        };
        let reaps = matches!(command, Command::ReapTombstones { .. });
        let (outcome, touched) = self.model.apply(index, &command);
        let applied = self.store.apply(index, command);
        prop_assert_eq!(&applied.response, &outcome.map(Response::Done));
        let keys = touched_keys(&applied);
        prop_assert_eq!(keys.iter().cloned().collect::<BTreeSet<_>>(), touched);
        prop_assert_eq!(keys.len(), keys.iter().collect::<BTreeSet<_>>().len(), "each key is touched once");
        self.check(index, &applied.touched, reaps)
    }

    /// Compares all answers with the model's and with those before the entry at `index`.
    fn check(&mut self, index: Index, touched: &[Touch], reaps: bool) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.store.index(), index);
        prop_assert_eq!(self.store.kv_len(), self.model.entries.len());
        prop_assert_eq!(self.store.kv_changed(), self.model.changed);
        prop_assert_eq!(self.store.tombstone_len(), self.model.tombstones.len());
        prop_assert_eq!(self.store.oldest_tombstone(), self.model.tombstones.values().min().copied());
        let mut woken = BTreeSet::new();
        for touch in touched {
            self.watches.touched(touch, &mut woken);
        }
        for (n, query) in self.queries.iter().enumerate() {
            let now = answer(&self.store, query);
            prop_assert_eq!(&now, &self.model.query(query), "{:?}", query);
            let about = match query {
                Request::Get { key, .. } => self.model.entries.get(key).cloned().into_iter().collect(),
                Request::List { prefix, .. } | Request::Keys { prefix, .. } => self.model.entries_under(prefix),
                _ => unreachable!("all queries are reads"),
            };
            let (before, about_before) = &self.last[n];
            prop_assert!(now.index >= before.index && now.changed >= before.changed, "backwards: {:?}", query);
            prop_assert!(now.index.0 >= 1 && now.index >= now.changed && now.changed <= index);
            let differs = about != *about_before;
            prop_assert_eq!(woken.contains(&Ticket(n as u64)), differs, "woken: {:?}", query);
            if differs {
                prop_assert_eq!(now.changed, index, "changed now: {:?}", query);
                prop_assert!(now.changed > before.index, "would sleep on: {:?}", query);
            } else if !reaps {
                prop_assert_eq!(now.changed, before.changed, "did not change: {:?}", query);
                prop_assert_eq!(&now.body, &before.body, "{:?}", query);
            }
            self.last[n] = (now, about);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 384, ..ProptestConfig::default() })]

    #[test]
    fn every_read_answers_as_a_naive_scan_and_wakes_when_its_result_changes(steps in vec(step(), 1..50)) {
        let mut trial = Trial::new(queries(&steps));
        for step in steps {
            trial.apply(step)?;
        }
    }

    #[test]
    fn a_clone_answers_as_it_did_then(before in vec(step(), 0..40), after in vec(step(), 0..40)) {
        let queries = queries(&before);
        let (mut store, mut model) = (Store::default(), Model { applied: 1, ..Model::default() });
        store.note_applied(Index(1));
        replay(&mut store, &mut model, before)?;
        let clone = store.clone();
        let then: Vec<Answer> = queries.iter().map(|query| answer(&store, query)).collect();
        let (index, tombstones) = (store.index(), store.tombstone_len());
        replay(&mut store, &mut model, after)?;
        let now: Vec<Answer> = queries.iter().map(|query| answer(&clone, query)).collect();
        prop_assert_eq!(now, then);
        prop_assert_eq!((clone.index(), clone.tombstone_len()), (index, tombstones));
    }

    #[test]
    fn replicas_that_apply_the_same_log_are_equal(steps in vec(step(), 1..80)) {
        let (mut one, mut other, mut model) = (Store::default(), Store::default(), Model::default());
        for step in steps {
            let index = one.index().next();
            let Some(command) = step.resolve(&model) else {
                one.note_applied(index);
                other.note_applied(index);
                continue;
            };
            let (outcome, _) = model.apply(index, &command);
            let decoded: Command = wire::decode(&wire::encode(&command)).expect("a command survives the log");
            // One of the two always has a clone of its last state abroad: it never changes anything in place.
            let view = other.clone();
            let applied = one.apply(index, command);
            prop_assert_eq!(&applied, &other.apply(index, decoded));
            prop_assert_eq!(applied.response, outcome.map(Response::Done));
            prop_assert!(one == other, "{:?} and {:?} differ", one, other);
            prop_assert!(view != other);
        }
    }
}

/// Applies steps without a look at anything but the responses.
fn replay(store: &mut Store, model: &mut Model, steps: Vec<Step>) -> Result<(), TestCaseError> {
    for step in steps {
        let index = store.index().next();
        match step.resolve(model) {
            None => store.note_applied(index),
            Some(command) => {
                let (outcome, _) = model.apply(index, &command);
                prop_assert_eq!(store.apply(index, command).response, outcome.map(Response::Done));
            }
        }
    }
    Ok(())
}

#[test]
fn writes_are_no_queries() {
    let store = Store::default();
    assert_eq!(store.query(&Request::Delete { key: Bytes::new(), cas: None }), None);
    assert_eq!(store.query(&Request::DeleteTree { prefix: Bytes::new() }), None);
}

/// Many keys, so that the maps grow several levels, split and merge.
#[test]
fn a_large_table_keeps_its_order_while_it_grows_and_shrinks() {
    const KEYS: u64 = 20_000;
    // An odd multiplier walks all of them in a scattered order.
    let name = |n: u64| Bytes::from(format!("k/{:05}", (n * 7_919) % KEYS));
    let all = Request::List { prefix: Bytes::from_static(b"k/"), read: ReadOptions::default() };
    let mut store = Store::default();
    for n in 0..KEYS {
        let command = Kv::Put { key: name(n), value: Bytes::new(), flags: n, mode: Mode::Set };
        store.apply(Index(n + 2), command.into());
    }
    let full = store.clone();
    for n in 0..KEYS - 1 {
        store.apply(Index(KEYS + n + 2), Kv::Delete { key: name(n), cas: None }.into());
    }
    let Body::Entries(found) = answer(&full, &all).body else { panic!("a list answers with entries") };
    assert_eq!(found.len() as u64, KEYS);
    assert!(found.is_sorted_by(|a, b| a.key < b.key));
    let left = answer(&store, &all);
    let Body::Entries(found) = &left.body else { panic!("a list answers with entries") };
    assert_eq!(found.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>(), [name(KEYS - 1)]);
    assert_eq!(left.changed, store.index());
    store.apply(Index(3 * KEYS), Command::ReapTombstones { up_to: store.index() });
    assert_eq!((store.kv_len(), store.tombstone_len(), store.oldest_tombstone()), (1, 0, None));
    assert_eq!(answer(&store, &all).changed, left.changed, "reaping moves no index back");
}
