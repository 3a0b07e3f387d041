//! Prepared queries by hand, and against a plain list.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::api::ReadOptions;
use crate::api::prepared::{Service, Template};
use crate::api::session::Session;
use crate::store::Command as StoreCommand;
use crate::store::image::{Decoder, Encoder};

const S: SessionId = SessionId(Uuid::from_u128(0x5e));

/// A store with a session, whose next index is 11.
fn store() -> Store {
    let mut store = Store::default();
    store.sessions.insert(Index(1), Session { id: S, ..Session::plain() });
    store.note_applied(Index(10));
    store
}

fn query(id: u128, name: &str) -> Query {
    Query {
        id: Uuid::from_u128(id),
        name: name.to_owned(),
        service: Service { service: "web".to_owned(), ..Service::default() },
        ..Query::default()
    }
}

fn template(id: u128, name: &str) -> Query {
    let kind = "name_prefix_match".to_owned();
    Query { template: Template { kind, regexp: String::new() }, ..query(id, name) }
}

fn apply(store: &mut Store, command: Command) -> Applied {
    store.apply(store.index().next(), StoreCommand::Prepared(command))
}

fn create(store: &mut Store, query: Query) -> Result<Response, String> {
    apply(store, Command::Create(Box::new(query))).response.map_err(|error| error.to_string())
}

fn update(store: &mut Store, query: Query) -> Result<Response, String> {
    apply(store, Command::Update(Box::new(query))).response.map_err(|error| error.to_string())
}

fn read(store: &Store, id: u128) -> Answer {
    let request = Request::Get { id: Uuid::from_u128(id).to_string(), read: ReadOptions::default() };
    store.query(&request).expect("it names a query")
}

fn list(store: &Store) -> (Index, Vec<u128>) {
    let answer = store.query(&Request::List { read: ReadOptions::default() }).expect("a list is a read");
    let Body::Queries(queries) = answer.body else { panic!("a list has queries") };
    (answer.index, queries.iter().map(|query| query.id.as_u128()).collect())
}

#[test]
fn queries_come_change_and_go() {
    let mut s = store();
    assert_eq!((list(&s), read(&s, 1).body), ((Index(1), vec![]), Body::NoSuchQuery));
    assert_eq!(create(&mut s, query(2, "b")), Ok(Response::QueryCreated(Uuid::from_u128(2))));
    let applied = apply(&mut s, Command::Create(Box::new(query(1, "a"))));
    let both = |id| [Part::All, Part::One(Uuid::from_u128(id))].map(|part| Touch::Topic(Topic::Queries(part)));
    assert_eq!(applied.touched, both(1));
    assert_eq!(list(&s), (Index(12), vec![1, 2]));
    assert_eq!((read(&s, 2).index, read(&s, 2).changed), (Index(11), Index(11)));
    assert_eq!(update(&mut s, query(2, "c")), Ok(Response::Done(true)));
    let Body::Queries(found) = read(&s, 2).body else { panic!("it is there") };
    assert_eq!((found[0].create_index, found[0].modify_index, &*found[0].name), (Index(11), Index(13), "c"));
    assert!(s.prepared_query_for("b").is_none() && s.prepared_query_for("C").is_some());
    assert_eq!(apply(&mut s, Command::Delete(Uuid::from_u128(2))).response, Ok(Response::Done(true)));
    assert_eq!(list(&s), (Index(14), vec![1]));
    assert_eq!(read(&s, 2), Answer { index: Index(14), changed: Index(u64::MAX), body: Body::NoSuchQuery });
    assert_eq!(read(&s, 1).changed, Index(12), "what becomes of others is no news of it");
    let missing = "Cannot modify non-existent prepared query: '00000000-0000-0000-0000-000000000002'";
    assert_eq!(update(&mut s, query(2, "c")), Err(missing.to_owned()));
    assert_eq!(apply(&mut s, Command::Delete(Uuid::from_u128(2))).response, Err(Error::BadQuery(missing.to_owned())));
    assert_eq!(list(&s).0, Index(14), "what failed has changed nothing");
}

#[test]
fn names_are_nobody_elses() {
    let mut s = store();
    create(&mut s, query(1, "Name")).unwrap();
    create(&mut s, template(2, "")).unwrap();
    create(&mut s, query(3, "")).unwrap();
    create(&mut s, query(4, "")).unwrap();
    assert_eq!(create(&mut s, query(5, "nAME")), Err("name 'nAME' aliases an existing query name".to_owned()));
    assert_eq!(create(&mut s, template(5, "name")), Err("name 'name' aliases an existing query name".to_owned()));
    assert_eq!(create(&mut s, template(5, "")), Err("a query template with an empty name already exists".to_owned()));
    let id = Uuid::from_u128(3).to_string();
    assert_eq!(create(&mut s, query(5, &id)), Err(format!("name '{id}' aliases an existing query ID")));
    assert_eq!(update(&mut s, query(3, "name")), Err("name 'name' aliases an existing query name".to_owned()));
    assert_eq!(update(&mut s, template(2, "")), Ok(Response::Done(true)), "its own name it may keep");
    assert_eq!(update(&mut s, query(2, "")), Ok(Response::Done(true)));
    assert_eq!(create(&mut s, template(5, "")), Ok(Response::QueryCreated(Uuid::from_u128(5))));
}

#[test]
fn a_query_ends_with_its_session() {
    let mut s = store();
    let tied = |id, session: &str| Query { session: session.to_owned(), ..query(id, "") };
    let gone = SessionId(Uuid::from_u128(9)).to_string();
    assert_eq!(create(&mut s, tied(1, &gone)), Err(format!("invalid session \"{gone}\"")));
    assert_eq!(
        create(&mut s, tied(1, "x")),
        Err("failed session lookup: index error: UUID must be 36 characters".to_owned())
    );
    for query in [tied(1, &S.to_string()), tied(2, &S.to_string()), query(3, "stays"), tied(4, &S.to_string())] {
        create(&mut s, query).unwrap();
    }
    update(&mut s, query(4, "set-free")).unwrap();
    let applied = s.apply(s.index().next(), StoreCommand::DestroySession { id: S, expired: true });
    let parts = [Part::All, Part::One(Uuid::from_u128(1)), Part::One(Uuid::from_u128(2))];
    let queries = applied.touched.into_iter().filter(|touch| matches!(touch, Touch::Topic(Topic::Queries(_))));
    assert_eq!(queries.collect::<Vec<_>>(), parts.map(|part| Touch::Topic(Topic::Queries(part))));
    assert_eq!(list(&s), (s.index(), vec![3, 4]));
}

#[test]
fn an_image_has_the_queries_with_and_without_a_catalog() {
    for piece_bytes in [0, 90, 10_000] {
        let mut s = Store::default();
        s.note_applied(Index(1));
        create(&mut s, template(3, "geo-")).unwrap();
        create(&mut s, query(1, "a")).unwrap();
        create(&mut s, query(2, "")).unwrap();
        for _ in 0..2 {
            let mut decoder = Decoder::new();
            Encoder::new(bytes::Bytes::new(), s.clone(), piece_bytes)
                .try_for_each(|piece| decoder.feed(&piece))
                .unwrap();
            let (_, loaded) = decoder.finish().unwrap();
            assert!(loaded == s);
            assert_eq!(loaded.prepared_query_for("geo-x").map(|query| query.id), Some(Uuid::from_u128(3)));
            // Once more with a catalog, and without the last query.
            s.apply(s.index().next(), StoreCommand::Register(Box::default()));
            apply(&mut s, Command::Delete(Uuid::from_u128(2)));
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Create(u128, &'static str, bool),
    Update(u128, &'static str, bool),
    Delete(u128),
}

fn step() -> impl Strategy<Value = Step> {
    let name = || select(vec!["", "a", "A", "ab", "abc", "b"]);
    prop_oneof![
        3 => (1..9u128, name(), any::<bool>()).prop_map(|(id, name, template)| Step::Create(id, name, template)),
        2 => (1..9u128, name(), any::<bool>()).prop_map(|(id, name, template)| Step::Update(id, name, template)),
        1 => (1..9u128).prop_map(Step::Delete),
    ]
}

proptest! {
    #[test]
    fn queries_are_found_as_in_a_plain_list(steps in vec(step(), 0..30)) {
        let mut s = store();
        let mut list: Vec<(u128, String, bool)> = Vec::new();
        for step in steps {
            let (id, row) = match &step {
                Step::Create(id, name, template) | Step::Update(id, name, template) => {
                    (*id, Some((*id, name.to_lowercase(), *template)))
                }
                Step::Delete(id) => (*id, None),
            };
            let exists = list.iter().any(|row| row.0 == id);
            if matches!(step, Step::Create(..)) && exists {
                // IDs are drawn, and never twice.
                continue;
            }
            let clashes = |other: &(u128, String, bool)| row.as_ref().is_some_and(|(id, name, template)| {
                other.0 != *id && other.1 == *name && (!name.is_empty() || *template && other.2)
            });
            let may = (exists || matches!(step, Step::Create(..))) && !list.iter().any(clashes);
            let make = |id, name: &str, is_template| if is_template { template(id, name) } else { query(id, name) };
            let command = match step {
                Step::Create(id, name, template) => Command::Create(Box::new(make(id, name, template))),
                Step::Update(id, name, template) => Command::Update(Box::new(make(id, name, template))),
                Step::Delete(id) => Command::Delete(Uuid::from_u128(id)),
            };
            let before = s.prepared_changed();
            prop_assert_eq!(apply(&mut s, command).response.is_ok(), may);
            prop_assert_eq!(s.prepared_changed(), if may { s.index() } else { before });
            if may {
                list.retain(|row| row.0 != id);
                list.extend(row);
            }
            for name in ["", "a", "AB", "abcd", "b", "c"] {
                let lower = name.to_lowercase();
                let exact = list.iter().find(|row| !lower.is_empty() && row.1 == lower);
                let templates = list.iter().filter(|row| row.2 && lower.starts_with(&row.1));
                let longest = templates.max_by_key(|row| row.1.len());
                let found = s.prepared_query_for(name).map(|query| query.id.as_u128());
                prop_assert_eq!(found, exact.or(longest).map(|row| row.0), "{}", name);
            }
        }
    }
}
