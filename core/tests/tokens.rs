//! The store's tokens beside a model that does everything the simplest way.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lictor_core::acl::{Access, Authority, Policy};
use lictor_core::api::acl::{ANONYMOUS, Kind, Request, Token};
use lictor_core::api::snapshot::Step as Restoring;
use lictor_core::api::{Error, ReadOptions, Response};
use lictor_core::id::Index;
use lictor_core::store::acl::Command as Change;
use lictor_core::store::image::{Decoder, Encoder};
use lictor_core::store::{Command, Question, Store, Topic, Touch};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

const IDS: [&str; 4] = [ANONYMOUS, "a", "ab", "b"];
const KEYS: [&str; 4] = ["", "x", "x/y", "z"];

/// The rules of a token, as the model knows them: what may be done with keys, by prefix.
type Rules = BTreeMap<&'static str, Access>;

#[derive(Clone, Debug)]
enum Step {
    Set {
        id: usize,
        rules: Option<Rules>,
        provide: bool,
    },
    Clone {
        source: usize,
        id: usize,
    },
    Destroy(usize),
    Reap {
        behind: u64,
    },
    /// The store becomes an image of itself, as of so many steps ago.
    Restore {
        behind: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 0..IDS.len();
    let access = select(vec![Access::Deny, Access::Read, Access::Write]);
    let rules = prop::collection::btree_map(select(KEYS.to_vec()), access, 0..3);
    prop_oneof![
        6 => (id(), prop::option::weighted(0.8, rules), prop::bool::weighted(0.3))
            .prop_map(|(id, rules, provide)| Step::Set { id, rules, provide }),
        2 => (id(), id()).prop_map(|(source, id)| Step::Clone { source, id }),
        3 => id().prop_map(Step::Destroy),
        1 => (0..8u64).prop_map(|behind| Step::Reap { behind }),
        1 => (0..5usize).prop_map(|behind| Step::Restore { behind }),
    ]
}

fn written(rules: &Rules) -> String {
    let rule = |(prefix, access): (&&str, &Access)| {
        format!("key {prefix:?} {{ policy = {:?} }}\n", format!("{access:?}").to_lowercase())
    };
    rules.iter().map(rule).collect()
}

fn token(id: &str, rules: Option<&Rules>) -> Token {
    let kind = if rules.is_some() { Kind::Client } else { Kind::Management };
    let rules = rules.map(written).unwrap_or_default();
    Token { id: id.to_owned(), name: String::new(), kind, rules, create_index: Index(0), modify_index: Index(0) }
}

/// What a token may do with a key.
fn expected(rules: Option<&Rules>, silent: Access, key: &str) -> Access {
    let Some(rules) = rules else { return Access::Write };
    let longest = rules.iter().filter(|(prefix, _)| key.starts_with(**prefix)).max_by_key(|(prefix, _)| prefix.len());
    longest.map_or(silent, |(_, access)| *access)
}

fn access(authority: &Authority, key: &str) -> Access {
    match (authority.may_read_key(key.as_bytes()), authority.may_write_key(key.as_bytes())) {
        (false, _) => Access::Deny,
        (true, false) => Access::Read,
        (true, true) => Access::Write,
    }
}

type Model = BTreeMap<&'static str, Option<Rules>>;

fn check_authorities(store: &Store, model: &Model) -> Result<(), TestCaseError> {
    let none = Rules::new();
    for (allow, silent) in [(false, Access::Deny), (true, Access::Write)] {
        for id in IDS.into_iter().chain([""]) {
            let found = store.authority(Some(id), allow);
            let nobody = id.is_empty() || id == ANONYMOUS;
            let held = model.get(if nobody { ANONYMOUS } else { id });
            let Some(rules) = held.map(Option::as_ref).or(nobody.then_some(Some(&none))) else {
                prop_assert_eq!(found, Err(Error::UnknownToken));
                continue;
            };
            let found = found.unwrap();
            prop_assert_eq!(found.may_manage(), rules.is_none());
            for key in KEYS {
                prop_assert_eq!(access(&found, key), expected(rules, silent, key), "{:?} of {:?}", key, id);
            }
        }
    }
    Ok(())
}

fn pieces(store: &Store) -> Vec<Bytes> {
    Encoder::new(Bytes::new(), store.clone(), 100).collect()
}

fn apply(store: &mut Store, command: Command) -> (Result<Response, Error>, Vec<Touch>) {
    let applied = store.apply(store.index().next(), command);
    (applied.response, applied.touched)
}

fn take(store: &mut Store, model: &mut Model, past: &[(Store, Model)], step: Step) -> Vec<Touch> {
    let set = |id: &str| Ok(Response::TokenSet { id: id.to_owned(), index: Index(0) });
    let (command, response) = match step {
        Step::Set { id, rules, provide } => {
            let (id, token) = (IDS[id], token(IDS[id], rules.as_ref()));
            if !provide || !model.contains_key(id) {
                model.insert(id, rules);
            }
            (Command::Acl(if provide { Change::Provide(token) } else { Change::Set(token) }), set(id))
        }
        Step::Clone { source, id } => {
            let (source, id) = (IDS[source], IDS[id]);
            let response = match model.get(source).cloned() {
                Some(rules) => {
                    model.insert(id, rules);
                    set(id)
                }
                None => Err(Error::NoTokenToClone),
            };
            (Command::Acl(Change::Clone { source: source.to_owned(), id: id.to_owned() }), response)
        }
        Step::Destroy(id) => {
            model.remove(IDS[id]);
            (Command::Acl(Change::Destroy { id: IDS[id].to_owned() }), Ok(Response::Done(true)))
        }
        Step::Reap { behind } => {
            let up_to = Index(store.visible_index().0.saturating_sub(behind));
            (Command::ReapTombstones { up_to }, Ok(Response::Done(true)))
        }
        Step::Restore { behind } => {
            let (image, tokens) = past[past.len().saturating_sub(behind + 1)].clone();
            *model = tokens;
            let (id, pieces) = (Uuid::from_u128(1), pieces(&image));
            let finish = Restoring::Finish { pieces: pieces.len() as u32 };
            for (number, bytes) in (0..).zip(pieces) {
                apply(store, Command::Restore { id, step: Restoring::Piece { number, bytes } }).0.unwrap();
            }
            (Command::Restore { id, step: finish }, Ok(Response::Done(true)))
        }
    };
    let shown = command.to_string();
    let (mut told, touched) = apply(store, command);
    if let Ok(Response::TokenSet { id, index }) = &mut told {
        let changed = store.token(id).map(|token| token.modify_index);
        assert_eq!(Some(std::mem::take(index)), changed, "{shown}");
    }
    assert_eq!(told, response, "{shown}");
    touched
}

/// All that is asked of tokens here.
fn questions() -> Vec<Request> {
    let read = ReadOptions::default;
    let info = IDS.into_iter().chain(["never"]).map(|id| Request::Info { id: id.to_owned(), read: read() });
    info.chain([Request::List { read: read() }]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn tokens_allow_what_the_model_does_and_tell_of_it(steps in vec(step(), 1..60)) {
        let (mut store, mut model) = (Store::default(), Model::new());
        store.note_applied(Index(1));
        let mut past = vec![(store.clone(), model.clone())];
        for step in steps {
            let shown = format!("{step:?}");
            let (restores, reaps) = (matches!(step, Step::Restore { .. }), matches!(step, Step::Reap { .. }));
            let touched = take(&mut store, &mut model, &past, step);
            prop_assert!(store.tokens().map(|token| token.id.as_str()).eq(model.keys().copied()), "{}", shown);
            check_authorities(&store, &model)?;
            prop_assert_eq!(restores, touched.contains(&Touch::Everything));
            let topics: BTreeSet<&Topic> = touched.iter().filter_map(|touch| match touch {
                Touch::Topic(topic) => Some(topic),
                Touch::Key(_) | Touch::Everything => None,
            }).collect();
            let before = &past.last().unwrap().0;
            for question in questions() {
                let (then, now) = (before.query(&question).unwrap(), store.query(&question).unwrap());
                prop_assert!(now.index >= then.index && now.changed >= then.changed, "an index went back: {}", shown);
                prop_assert!(now.index >= now.changed);
                let topic = Topic::of(Question::from(&question)).unwrap();
                if restores {
                    prop_assert!(now.changed > then.index, "{}: who waits is not answered: {:?}", shown, question);
                } else if now.body != then.body {
                    prop_assert!(now.changed > then.index, "{}: who waits is not answered: {:?}", shown, question);
                    prop_assert!(topics.contains(&topic), "{}: nobody is told: {:?}", shown, question);
                } else {
                    prop_assert!(!topics.contains(&topic), "{}: told without need: {:?}", shown, question);
                    prop_assert!(reaps || now.changed == then.changed, "{}: woken without need", shown);
                }
            }
            let mut decoder = Decoder::new();
            pieces(&store).iter().try_for_each(|piece| decoder.feed(piece)).expect("a sound image");
            prop_assert!(decoder.finish().unwrap().1 == store, "{}: an image is another store's", shown);
            past.push((store.clone(), model.clone()));
        }
    }
}

#[test]
fn rules_of_another_version_allow_nothing() {
    assert!(Policy::parse("key {").is_err());
    let mut store = Store::default();
    let bad = Token { rules: "key {".to_owned(), ..token("t", Some(&Rules::new())) };
    apply(&mut store, Command::Acl(Change::Set(bad))).0.unwrap();
    assert_eq!(access(&store.authority(Some("t"), true).unwrap(), "x"), Access::Deny);
}
