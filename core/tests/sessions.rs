//! The store's sessions, locks and delays beside a model that does everything the simplest way.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lictor_core::api::catalog::{Check, Deregistration, Node, Registration};
use lictor_core::api::session::{Behavior, Request, Session, Ttl};
use lictor_core::api::{Error, ReadOptions, Response, kv as api};
use lictor_core::id::{Index, SessionId};
use lictor_core::store::kv::{Command as Kv, Mode};
use lictor_core::store::{Body, Command, Question, Store, Topic, Touch};
use lictor_core::time::Duration;
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

const NODES: [&str; 2] = ["a", "B"];
const CHECKS: [&str; 2] = ["up", "Disk"];
const KEYS: [&str; 3] = ["k", "k/1", "l"];
const SESSIONS: u128 = 4;

#[derive(Clone, Debug)]
enum Step {
    /// A node, perhaps with a check in this state.
    Register(usize, Option<(usize, bool)>),
    /// A check of a node, or the node with all that is on it.
    Deregister(usize, Option<usize>),
    Create {
        id: u128,
        node: usize,
        checks: Vec<usize>,
        delete: bool,
        delay: bool,
    },
    Destroy(u128),
    /// Its judge knew of all but the last so many entries.
    Lock {
        key: usize,
        id: u128,
        behind: u64,
    },
    Unlock {
        key: usize,
        id: u128,
    },
    Put(usize),
    Delete(usize),
    EndDelay(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (node, check, key, id) = (0..NODES.len(), 0..CHECKS.len(), 0..KEYS.len(), 0..SESSIONS);
    let state = prop::option::of((check.clone(), prop::bool::weighted(0.3)));
    let checks = prop::sample::subsequence(vec![0, 1], 0..=2);
    prop_oneof![
        4 => (node.clone(), state).prop_map(|(node, check)| Step::Register(node, check)),
        1 => (node.clone(), prop::option::of(check)).prop_map(|(node, check)| Step::Deregister(node, check)),
        6 => (id.clone(), node, checks, any::<bool>(), any::<bool>())
            .prop_map(|(id, node, checks, delete, delay)| Step::Create { id, node, checks, delete, delay }),
        2 => id.clone().prop_map(Step::Destroy),
        8 => (key.clone(), id.clone(), 0..6u64).prop_map(|(key, id, behind)| Step::Lock { key, id, behind }),
        2 => (key.clone(), id).prop_map(|(key, id)| Step::Unlock { key, id }),
        2 => key.clone().prop_map(Step::Put),
        1 => key.clone().prop_map(Step::Delete),
        1 => key.prop_map(Step::EndDelay),
    ]
}

#[derive(Clone, Debug, PartialEq)]
struct Held {
    holder: Option<SessionId>,
    lock_index: u64,
    modified: Index,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    /// Whether each check of each node is critical.
    nodes: BTreeMap<String, BTreeMap<String, bool>>,
    sessions: BTreeMap<SessionId, Session>,
    keys: BTreeMap<&'static str, Held>,
    delays: BTreeMap<&'static str, Index>,
}

impl Model {
    fn examine(&self, session: &Session) -> Result<(), Error> {
        let checks = self.nodes.get(&session.node.to_lowercase()).ok_or(Error::MissingNodeRegistration)?;
        for id in &session.checks {
            match checks.get(&id.to_lowercase()) {
                None => return Err(Error::MissingCheckRegistration(id.clone())),
                Some(true) => return Err(Error::CriticalCheck(id.clone())),
                Some(false) => {}
            }
        }
        Ok(())
    }

    /// Ends all sessions that cannot be any more.
    fn sweep(&mut self, at: Index) {
        let gone: Vec<SessionId> =
            self.sessions.values().filter(|session| self.examine(session).is_err()).map(|session| session.id).collect();
        gone.into_iter().for_each(|id| self.end(at, id));
    }

    fn end(&mut self, at: Index, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        let held: Vec<_> = self.keys.iter().filter(|(_, held)| held.holder == Some(id)).map(|(key, _)| *key).collect();
        for key in held {
            match session.behavior {
                Behavior::Delete => drop(self.keys.remove(key)),
                Behavior::Release => {
                    let held = self.keys.get_mut(key).unwrap();
                    (held.holder, held.modified) = (None, at);
                }
            }
            if !session.lock_delay.is_zero() {
                self.delays.insert(key, at);
            }
        }
    }

    fn lock(&mut self, at: Index, key: &'static str, id: SessionId, judged_at: Index) -> Result<Response, Error> {
        if !self.sessions.contains_key(&id) {
            return Err(Error::InvalidSession(id.to_string()));
        }
        let before = self.keys.get(key);
        let holder = before.and_then(|held| held.holder);
        if holder.is_some_and(|holder| holder != id) || self.delays.get(key).is_some_and(|since| *since > judged_at) {
            return Ok(Response::Done(false));
        }
        let lock_index = before.map_or(0, |held| held.lock_index) + u64::from(holder.is_none());
        self.delays.remove(key);
        self.keys.insert(key, Held { holder: Some(id), lock_index, modified: at });
        Ok(Response::Done(true))
    }
}

fn session_id(id: u128) -> SessionId {
    SessionId(Uuid::from_u128(id + 1))
}

fn put(key: &'static str, mode: Mode) -> Command {
    Kv::Put { key: Bytes::from_static(key.as_bytes()), value: Bytes::new(), flags: 0, mode }.into()
}

/// Takes a step in both, and compares the answers.
fn take(store: &mut Store, model: &mut Model, step: Step) -> Vec<Touch> {
    let at = store.visible_index().next();
    let yes = Ok(Response::Done(true));
    let (command, expected) = match step {
        Step::Register(node, check) => {
            let checks = model.nodes.entry(NODES[node].to_lowercase()).or_default();
            checks.extend(check.map(|(check, critical)| (CHECKS[check].to_lowercase(), critical)));
            let check = check.map(|(check, critical)| Check {
                id: CHECKS[check].to_owned(),
                status: if critical { "critical" } else { "passing" }.to_owned(),
                ..Check::default()
            });
            let node = Node { name: NODES[node].to_owned(), address: "x".to_owned(), ..Node::default() };
            let registration = Registration { node, checks: check.into_iter().collect(), ..Registration::default() };
            model.sweep(at);
            (Command::Register(Box::new(registration)), yes)
        }
        Step::Deregister(node, check) => {
            match check {
                None => drop(model.nodes.remove(&NODES[node].to_lowercase())),
                Some(check) => {
                    if let Some(checks) = model.nodes.get_mut(&NODES[node].to_lowercase()) {
                        checks.remove(&CHECKS[check].to_lowercase());
                    }
                }
            }
            model.sweep(at);
            let check_id = check.map_or("", |check| CHECKS[check]).to_owned();
            (Command::Deregister(Deregistration { node: NODES[node].to_owned(), check_id, ..Default::default() }), yes)
        }
        Step::Create { id, .. } if model.sessions.contains_key(&session_id(id)) => return Vec::new(),
        Step::Create { id, node, checks, delete, delay } => {
            let session = Session {
                id: session_id(id),
                name: String::new(),
                node: NODES[node].to_owned(),
                checks: checks.into_iter().map(|check| CHECKS[check].to_owned()).collect(),
                lock_delay: Duration::from_secs(if delay { 15 } else { 0 }),
                behavior: if delete { Behavior::Delete } else { Behavior::Release },
                ttl: Ttl::default(),
                create_index: at,
            };
            let expected = model.examine(&session).map(|()| Response::SessionCreated(session.id));
            if expected.is_ok() {
                model.sessions.insert(session.id, session.clone());
            }
            (Command::CreateSession(Box::new(Session { create_index: Index(0), ..session })), expected)
        }
        Step::Destroy(id) => {
            model.end(at, session_id(id));
            (Command::DestroySession { id: session_id(id), expired: false }, yes)
        }
        Step::Lock { key, id, behind } => {
            let (key, session, judged_at) = (KEYS[key], session_id(id), Index(at.0.saturating_sub(behind)));
            (put(key, Mode::Lock { session, judged_at }), model.lock(at, key, session, judged_at))
        }
        Step::Unlock { key, id } => {
            let (key, session) = (KEYS[key], session_id(id));
            let held = model.keys.get_mut(key).filter(|held| held.holder == Some(session));
            let done = held.is_some();
            if let Some(held) = held {
                (held.holder, held.modified) = (None, at);
            }
            (put(key, Mode::Unlock(session)), Ok(Response::Done(done)))
        }
        Step::Put(key) => {
            let holder = model.keys.get(KEYS[key]).and_then(|held| held.holder);
            model.keys.insert(KEYS[key], Held { holder, lock_index: 0, modified: at });
            (put(KEYS[key], Mode::Set), yes)
        }
        Step::Delete(key) => {
            model.keys.remove(KEYS[key]);
            (Kv::Delete { key: Bytes::from_static(KEYS[key].as_bytes()), cas: None }.into(), yes)
        }
        Step::EndDelay(key) => {
            let since = model.delays.remove(KEYS[key]).unwrap_or(Index(1));
            (Command::EndLockDelays(vec![(Bytes::from_static(KEYS[key].as_bytes()), since)]), yes)
        }
    };
    let shown = command.to_string();
    let applied = store.apply(store.index().next(), command);
    assert_eq!(applied.response, expected, "{shown}");
    applied.touched
}

/// What the store holds, in the model's form.
fn compare(store: &Store, model: &Model) {
    let sessions: BTreeMap<SessionId, Session> =
        store.sessions().map(|session| (session.id, Session::clone(session))).collect();
    assert_eq!(sessions, model.sessions);
    let delays: Vec<_> = store.lock_delays().map(|(key, delay)| (key.to_vec(), delay.since)).collect();
    let expected: Vec<_> = model.delays.iter().map(|(key, since)| (key.as_bytes().to_vec(), *since)).collect();
    assert_eq!(delays, expected);
    let read = ReadOptions::default();
    let all = store.query(&api::Request::List { prefix: Bytes::new(), read }).unwrap();
    let Body::Entries(entries) = all.body else { panic!("a list is of entries") };
    let held = |entry: &api::Entry| {
        let Held { holder, lock_index, modified } =
            Held { holder: entry.session, lock_index: entry.lock_index, modified: entry.modify_index };
        (entry.key.to_vec(), holder, lock_index, modified)
    };
    let found: Vec<_> = entries.iter().map(|entry| held(entry)).collect();
    let expected: Vec<_> = model
        .keys
        .iter()
        .map(|(key, Held { holder, lock_index, modified })| (key.as_bytes().to_vec(), *holder, *lock_index, *modified))
        .collect();
    assert_eq!(found, expected);
}

/// All that is asked of sessions here.
fn questions() -> Vec<Request> {
    let read = ReadOptions::default;
    let info = (0..SESSIONS).map(|id| Request::Info { id: session_id(id).to_string(), read: read() });
    let nodes = NODES.iter().map(|node| Request::Node { node: node.to_uppercase(), read: read() });
    info.chain(nodes).chain([Request::List { read: read() }]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn sessions_and_locks_do_what_the_model_does_and_tell_of_it(steps in vec(step(), 1..80)) {
        let (mut store, mut model) = (Store::default(), Model::default());
        store.note_applied(Index(1));
        for step in steps {
            let (before, keys) = (store.clone(), model.keys.clone());
            let shown = format!("{step:?}");
            let touched = take(&mut store, &mut model, step);
            compare(&store, &model);
            let topics: BTreeSet<&Topic> = touched.iter().filter_map(|touch| match touch {
                Touch::Topic(topic @ Topic::Sessions(_)) => Some(topic),
                _ => None,
            }).collect();
            for question in questions() {
                let (then, now) = (before.query(&question).unwrap(), store.query(&question).unwrap());
                prop_assert!(now.index >= then.index && now.changed >= then.changed, "an index went back: {shown}");
                prop_assert!(now.index >= now.changed);
                let topic = Topic::of(Question::from(&question)).unwrap();
                if now.body != then.body {
                    prop_assert!(now.changed > then.index, "{shown}: who waits is not answered: {question:?}");
                    prop_assert!(topics.contains(&topic), "{shown}: nobody is told: {question:?}");
                } else {
                    prop_assert!(!topics.contains(&topic), "{shown}: told without need: {question:?}");
                    prop_assert!(then.body.is_empty() || now.changed == then.changed, "{shown}: woken without need");
                }
            }
            let told: BTreeSet<&[u8]> = touched.iter().filter_map(|touch| match touch {
                Touch::Key(key) => Some(&key[..]),
                _ => None,
            }).collect();
            let changed: BTreeSet<&[u8]> = KEYS.iter()
                .filter(|key| keys.get(**key) != model.keys.get(**key))
                .map(|key| key.as_bytes())
                .collect();
            prop_assert_eq!(told, changed, "{}", shown);
        }
    }
}
