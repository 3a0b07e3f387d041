//! What tokens allow, and what is told of them.

use super::*;
use crate::api::ReadOptions;
use crate::api::snapshot::Step;
use crate::store::image::{Decoder, Encoder};
use crate::store::{Command as AnyCommand, image};
use uuid::Uuid;

fn token(id: &str, rules: &str) -> Token {
    let kind = if rules == "management" { Kind::Management } else { Kind::Client };
    let (create_index, modify_index) = (Index(77), Index(78));
    Token { id: id.to_owned(), name: format!("of {id}"), kind, rules: rules.to_owned(), create_index, modify_index }
}

fn apply(store: &mut Store, command: Command) -> Applied {
    store.apply(store.index().next(), AnyCommand::Acl(command))
}

fn set(store: &mut Store, id: &str, rules: &str) {
    let response = apply(store, Command::Set(token(id, rules))).response;
    assert_eq!(response, Ok(changed(id, store.index().0)));
}

fn changed(id: &str, index: u64) -> Response {
    Response::TokenSet { id: id.to_owned(), index: Index(index) }
}

fn destroy(store: &mut Store, id: &str) -> Vec<Touch> {
    let applied = apply(store, Command::Destroy { id: id.to_owned() });
    assert_eq!(applied.response, Ok(Response::Done(true)));
    applied.touched
}

fn store() -> Store {
    let mut store = Store::default();
    store.note_applied(Index(1));
    store
}

fn info(store: &Store, id: &str) -> (u64, u64, Vec<(String, u64, u64)>) {
    ask(store, &Request::Info { id: id.to_owned(), read: ReadOptions::default() })
}

fn list(store: &Store) -> (u64, u64, Vec<(String, u64, u64)>) {
    ask(store, &Request::List { read: ReadOptions::default() })
}

fn ask(store: &Store, request: &Request) -> (u64, u64, Vec<(String, u64, u64)>) {
    let answer = store.query(request).expect("a read");
    assert_eq!(store.changed(request), Some(answer.changed));
    let Body::Tokens(tokens) = answer.body else { panic!("{:?}", answer.body) };
    let told = tokens.iter().map(|token| (token.id.clone(), token.create_index.0, token.modify_index.0));
    (answer.index.0, answer.changed.0, told.collect())
}

#[test]
fn a_token_keeps_its_beginning_and_leaves_its_end() {
    let mut store = store();
    set(&mut store, "b", "");
    set(&mut store, "a", "");
    set(&mut store, "b", "operator = \"read\"");
    assert_eq!(info(&store, "b"), (4, 4, vec![("b".to_owned(), 2, 4)]));
    assert_eq!(list(&store), (4, 4, vec![("a".to_owned(), 3, 3), ("b".to_owned(), 2, 4)]));
    assert_eq!(info(&store, "none"), (4, 0, vec![]));
    assert_eq!(destroy(&mut store, "b").len(), 2);
    assert_eq!(info(&store, "b"), (5, 5, vec![]));
    assert_eq!(info(&store, "a"), (3, 3, vec![("a".to_owned(), 3, 3)]), "another token's end is no news of it");
    assert_eq!(destroy(&mut store, "b"), [], "what is not there changes nothing");
    assert_eq!(list(&store).1, 5);
    assert_eq!(
        (store.tombstone_len(), store.newest_tombstone(), store.oldest_tombstone()),
        (1, Some(Index(5)), Some(Index(5)))
    );
    let reap = AnyCommand::ReapTombstones { up_to: Index(5) };
    store.apply(store.index().next(), reap).response.unwrap();
    assert_eq!((store.tombstone_len(), info(&store, "none")), (0, (5, 5, vec![])));
    set(&mut store, "b", "");
    assert_eq!(info(&store, "b"), (8, 8, vec![("b".to_owned(), 8, 8)]));
}

#[test]
fn what_is_provided_takes_nobodys_place() {
    let mut store = store();
    let provide = || Command::Provide(token("a", "management"));
    assert_eq!(apply(&mut store, provide()).touched, Which::all_of("a"));
    set(&mut store, "a", "");
    let index = store.index().0;
    let applied = apply(&mut store, provide());
    assert_eq!((applied.response, applied.touched), (Ok(changed("a", index)), vec![]));
    assert_eq!(store.token("a").map(|token| token.kind), Some(Kind::Client));
}

#[test]
fn a_clone_has_a_life_of_its_own() {
    let mut store = store();
    let clone = |source: &str| Command::Clone { source: source.to_owned(), id: "copy".to_owned() };
    assert_eq!(apply(&mut store, clone("a")), Applied { response: Err(Error::NoTokenToClone), touched: vec![] });
    set(&mut store, "a", "exec = \"read\"");
    assert_eq!(apply(&mut store, clone("a")).response, Ok(changed("copy", 4)));
    destroy(&mut store, "a");
    let copy = Token {
        id: "copy".to_owned(),
        create_index: Index(4),
        modify_index: Index(4),
        ..token("a", "exec = \"read\"")
    };
    assert_eq!(store.token("copy").map(|token| Token::clone(token)), Some(copy));
    assert!(store.authority(Some("copy"), false).is_ok());
}

#[test]
fn an_authority_is_that_of_the_token_as_it_is_now() {
    let mut store = store();
    let may = |store: &Store, token: Option<&str>, key: &str| {
        [false, true]
            .map(|allow| store.authority(token, allow).map(|authority| authority.may_write_key(key.as_bytes())))
    };
    assert_eq!(may(&store, None, "k"), [Ok(false), Ok(true)], "without the anonymous token the default decides");
    assert_eq!(may(&store, Some("anonymous"), "k"), [Ok(false), Ok(true)]);
    assert_eq!(may(&store, Some("t"), "k"), [Err(Error::UnknownToken), Err(Error::UnknownToken)]);
    set(&mut store, "t", "key \"k\" { policy = \"write\" } key \"r\" { policy = \"read\" }");
    assert_eq!(may(&store, Some("t"), "k"), [Ok(true), Ok(true)]);
    assert_eq!(may(&store, Some("t"), "r"), [Ok(false), Ok(false)]);
    assert_eq!(may(&store, Some("t"), "x"), [Ok(false), Ok(true)]);
    set(&mut store, "anonymous", "key \"k\" { policy = \"deny\" }");
    for nobody in [None, Some(""), Some("anonymous")] {
        assert_eq!(may(&store, nobody, "k"), [Ok(false), Ok(false)]);
        assert_eq!(may(&store, nobody, "x"), [Ok(false), Ok(true)]);
    }
    set(&mut store, "t", "management");
    assert!(store.authority(Some("t"), false).unwrap().may_manage());
    destroy(&mut store, "t");
    assert_eq!(may(&store, Some("t"), "k"), [Err(Error::UnknownToken), Err(Error::UnknownToken)]);
    for name in ["allow", "deny", "manage"] {
        assert_eq!(may(&store, Some(name), "k"), [Err(Error::RootToken), Err(Error::RootToken)]);
    }
}

#[test]
fn rules_that_cannot_be_read_allow_nothing() {
    let mut store = store();
    set(&mut store, "t", "key \"\" { policy = \"bogus\" }");
    let authority = store.authority(Some("t"), true).unwrap();
    assert!(!authority.may_read_key(b"k") && !authority.may_manage());
}

/// As an image has it, and back.
fn through_image(store: &Store, piece_bytes: usize) -> Result<Store, image::Damaged> {
    let mut decoder = Decoder::new();
    Encoder::new(Bytes::new(), store.clone(), piece_bytes).try_for_each(|piece| decoder.feed(&piece))?;
    decoder.finish().map(|(_, store)| store)
}

fn full() -> Store {
    let mut store = store();
    for id in ["b", "a", "gone", "went", "c"] {
        set(&mut store, id, "key \"k\" { policy = \"write\" }");
    }
    destroy(&mut store, "went");
    store.apply(store.index().next(), AnyCommand::ReapTombstones { up_to: Index(7) }).response.unwrap();
    destroy(&mut store, "gone");
    set(&mut store, "m", "management");
    store
}

#[test]
fn images_hold_tokens_and_their_tombstones() {
    for piece_bytes in [0, 70, 1000] {
        let store = through_image(&full(), piece_bytes).unwrap();
        assert!(store == full());
        assert!(store.authority(Some("a"), false).unwrap().may_write_key(b"k"));
        assert!(store.authority(Some("m"), false).unwrap().may_manage());
        assert_eq!(info(&store, "gone").1, 9);
    }
}

#[test]
fn a_restoration_replaces_all_tokens() {
    let mut store = store();
    set(&mut store, "own", "");
    destroy(&mut store, "a");
    let id = Uuid::from_u128(1);
    let pieces: Vec<Bytes> = Encoder::new(Bytes::new(), full(), 70).collect();
    let count = u32::try_from(pieces.len()).unwrap();
    let steps = (0..).zip(pieces).map(|(number, bytes)| Step::Piece { number, bytes });
    for step in steps.chain([Step::Finish { pieces: count }]) {
        store.apply(store.index().next(), AnyCommand::Restore { id, step }).response.unwrap();
    }
    let at = store.restored_at().0;
    assert_eq!(store.tokens().map(|token| token.id.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "m"]);
    for id in ["own", "gone", "none"] {
        assert_eq!(info(&store, id), (at, at, vec![]));
    }
    assert_eq!(info(&store, "b"), (at, at, vec![("b".to_owned(), 2, 2)]));
    assert_eq!(store.tombstone_len(), 0);
    assert_eq!(store.authority(Some("own"), true), Err(Error::UnknownToken));
}

#[test]
fn tokens_that_do_not_go_together_are_refused() {
    let mut tokens = Tokens::bare(Index(9), Index(4));
    let at = |id: &str, created, modified| Token {
        create_index: Index(created),
        modify_index: Index(modified),
        ..token(id, "")
    };
    assert_eq!(tokens.load(at("b", 2, 3)), Ok(()));
    assert_eq!(tokens.load(at("a", 2, 3)), Err("tokens do not come in their order"));
    assert_eq!(tokens.load(at("b", 2, 3)), Err("tokens do not come in their order"));
    for (created, modified) in [(0, 1), (3, 2), (2, 10)] {
        assert_eq!(tokens.load(at("c", created, modified)), Err("a token was written at an index that cannot be"));
    }
    assert_eq!(tokens.load_tombstone("b", Index(5)), Err("a token is both there and destroyed"));
    for index in [4, 10] {
        let refused = tokens.load_tombstone("d", Index(index));
        assert_eq!(refused, Err("a token was destroyed at an index that cannot be"));
    }
    assert_eq!(tokens.load_tombstone("d", Index(5)), Ok(()));
}
