//! Images of the store: what was written is read again, damage always shows, and a restored image takes the place of
//! all that was without any index running backwards.

use std::collections::BTreeSet;

use bytes::Bytes;
use lictor_core::api::acl::{Kind, Token};
use lictor_core::api::kv::{Entry, Request};
use lictor_core::api::operator::Autopilot;
use lictor_core::api::snapshot::Step;
use lictor_core::api::{Error, ReadOptions, Response};
use lictor_core::id::{Index, Ticket};
use lictor_core::store::acl::Command as Change;
use lictor_core::store::image::{Damaged, Decoder, Encoder, HEADER_BYTES};
use lictor_core::store::kv::{Command as Kv, Mode};
use lictor_core::store::{Answer, Applied, Body, Command, Store, Touch};
use lictor_core::time::Duration;
use lictor_core::watch::{Interest, Watches};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index as Pick, select};
use uuid::Uuid;

const META: Bytes = Bytes::from_static(b"meta");

fn key() -> impl Strategy<Value = Bytes> {
    vec(select(&b"ab/\xff"[..]), 0..4).prop_map(Bytes::from)
}

fn command() -> impl Strategy<Value = Command> {
    let index = || prop_oneof![Just(Index(0)), (0..60u64).prop_map(Index)];
    let value = || vec(any::<u8>(), 0..60).prop_map(Bytes::from);
    prop_oneof![
        12 => (key(), value(), any::<u64>())
            .prop_map(|(key, value, flags)| Kv::Put { key, value, flags, mode: Mode::Set }.into()),
        2 => (key(), value(), index())
            .prop_map(|(key, value, index)| Kv::Put { key, value, flags: 0, mode: Mode::Cas(index) }.into()),
        5 => key().prop_map(|key| Kv::Delete { key, cas: None }.into()),
        1 => key().prop_map(|prefix| Kv::DeleteTree { prefix }.into()),
        1 => index().prop_map(|up_to| Command::ReapTombstones { up_to }),
        2 => (select(&["a", "b", "c"][..]), any::<bool>()).prop_map(|(id, manages)| {
            let (id, name) = (id.to_owned(), "n".to_owned());
            let kind = if manages { Kind::Management } else { Kind::Client };
            let rules = "key \"a\" { policy = \"read\" }".to_owned();
            Command::Acl(Change::Set(Token { id, name, kind, rules, create_index: Index(0), modify_index: Index(0) }))
        }),
        1 => select(&["a", "b", "c"][..]).prop_map(|id| Command::Acl(Change::Destroy { id: id.to_owned() })),
        1 => any::<(bool, u32, u64)>().prop_map(|(cleanup_dead_servers, nanos, max_trailing_logs)| {
            let last_contact_threshold = Duration::from_nanos(nanos.into());
            let settings =
                Autopilot { cleanup_dead_servers, last_contact_threshold, max_trailing_logs, ..Autopilot::default() };
            Command::SetAutopilot { settings, cas: None }
        }),
    ]
}

/// A store that has applied these behind an entry of raft's.
fn store(commands: Vec<Command>) -> Store {
    let mut store = Store::default();
    store.note_applied(Index(1));
    for command in commands {
        apply(&mut store, command);
    }
    store
}

fn any_store() -> impl Strategy<Value = Store> {
    let plain = || vec(command(), 0..50).prop_map(store);
    let restored = (plain(), plain(), vec(command(), 0..20)).prop_map(|(mut store, image, after)| {
        restore(&mut store, Uuid::from_u128(1), &pieces(&image, 200)).expect("a sound image");
        after.into_iter().for_each(|command| drop(apply(&mut store, command)));
        store
    });
    let restoring = (plain(), plain(), any::<Pick>()).prop_map(|(mut store, image, pick)| {
        let pieces = pieces(&image, 100);
        stage(&mut store, Uuid::from_u128(2), &pieces[..=pick.index(pieces.len())]).expect("a sound image");
        store
    });
    prop_oneof![2 => plain(), 1 => restored, 1 => restoring]
}

fn apply(store: &mut Store, command: Command) -> Applied {
    store.apply(store.index().next(), command)
}

fn put(store: &mut Store, key: &'static str, value: &'static str, mode: Mode) -> bool {
    let put = Kv::Put { key: key.into(), value: value.into(), flags: 0, mode };
    apply(store, put.into()).response == Ok(Response::Done(true))
}

fn pieces(store: &Store, piece_bytes: usize) -> Vec<Bytes> {
    Encoder::new(META, store.clone(), piece_bytes).collect()
}

fn decode(chunks: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<Store, Damaged> {
    let mut decoder = Decoder::new();
    let mut complete = false;
    for chunk in chunks {
        if let Err(damaged) = decoder.feed(chunk.as_ref()) {
            assert!(!decoder.is_complete());
            assert_eq!(decoder.feed(b"more"), Err(damaged.clone()), "what is damaged stays so");
            assert_eq!(decoder.finish().map(|_| ()), Err(damaged.clone()));
            return Err(damaged);
        }
        complete = decoder.is_complete();
    }
    let (meta, store) = decoder.finish()?;
    assert!(complete, "what was finished was complete");
    assert_eq!(meta, META);
    Ok(store)
}

fn step(store: &mut Store, id: Uuid, step: Step) -> Result<Response, Error> {
    apply(store, Command::Restore { id, step }).response
}

fn stage(store: &mut Store, id: Uuid, pieces: &[Bytes]) -> Result<(), Error> {
    for (number, bytes) in (0..).zip(pieces) {
        step(store, id, Step::Piece { number, bytes: bytes.clone() })?;
    }
    Ok(())
}

fn finish(store: &mut Store, id: Uuid, pieces: &[Bytes]) -> Applied {
    apply(store, Command::Restore { id, step: Step::Finish { pieces: pieces.len() as u32 } })
}

fn restore(store: &mut Store, id: Uuid, pieces: &[Bytes]) -> Result<Applied, Error> {
    stage(store, id, pieces)?;
    Ok(finish(store, id, pieces))
}

fn queries() -> Vec<Request> {
    let names: [&[u8]; 8] = [b"", b"a", b"b", b"/", b"\xff", b"a/", b"ab", b"\xff\xff"];
    let read = ReadOptions::default;
    let of = |name| {
        let name = Bytes::from_static(name);
        let separator = Bytes::from_static(b"/");
        [
            Request::Get { key: name.clone(), read: read() },
            Request::List { prefix: name.clone(), read: read() },
            Request::Keys { prefix: name, separator, read: read() },
        ]
    };
    names.into_iter().flat_map(of).collect()
}

fn answers(store: &Store) -> Vec<Answer> {
    queries().iter().map(|query| store.query(query).expect("a read")).collect()
}

/// All entries.
fn dump(store: &Store) -> Vec<Entry> {
    let all = Request::List { prefix: Bytes::new(), read: ReadOptions::default() };
    let Some(Answer { body: Body::Entries(entries), .. }) = store.query(&all) else { panic!("a list") };
    entries.iter().map(|entry| Entry::clone(entry)).collect()
}

/// What may happen to the bytes of an image.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Pick, u8),
    Cut(Pick),
    Lose(Pick, usize),
    Add(Pick, Vec<u8>),
    Repeat(Pick),
    Swap(Pick, Pick),
    Drop(Pick),
    /// A piece of another store's image.
    Graft(Pick),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        3 => (any::<Pick>(), 1..=255u8).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        1 => any::<Pick>().prop_map(Damage::Cut),
        1 => (any::<Pick>(), 1..100usize).prop_map(|(at, count)| Damage::Lose(at, count)),
        1 => (any::<Pick>(), vec(any::<u8>(), 1..50)).prop_map(|(at, bytes)| Damage::Add(at, bytes)),
        1 => any::<Pick>().prop_map(Damage::Repeat),
        1 => any::<(Pick, Pick)>().prop_map(|(one, other)| Damage::Swap(one, other)),
        1 => any::<Pick>().prop_map(Damage::Drop),
        1 => any::<Pick>().prop_map(Damage::Graft),
    ]
}

impl Damage {
    fn to(&self, mut pieces: Vec<Bytes>, other: &[Bytes]) -> Vec<u8> {
        match self {
            Self::Repeat(at) => {
                let at = at.index(pieces.len());
                pieces.insert(at, pieces[at].clone());
            }
            Self::Swap(one, other) => {
                let (one, other) = (one.index(pieces.len()), other.index(pieces.len()));
                pieces.swap(one, other);
            }
            Self::Drop(at) => drop(pieces.remove(at.index(pieces.len()))),
            Self::Graft(at) => {
                let at = at.index(pieces.len().min(other.len()));
                pieces[at] = other[at].clone();
            }
            _ => {}
        }
        let mut bytes = pieces.concat();
        let length = bytes.len();
        match self {
            Self::Flip(at, bits) => bytes[at.index(length)] ^= bits,
            Self::Cut(at) => bytes.truncate(at.index(length)),
            Self::Lose(at, count) => {
                let at = at.index(length);
                bytes.drain(at..length.min(at + count));
            }
            Self::Add(at, added) => {
                let at = at.index(length + 1);
                bytes.splice(at..at, added.iter().copied());
            }
            _ => {}
        }
        bytes
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read_again(store in any_store(), piece_bytes in 0..500usize, chunk in 1..700usize) {
        let pieces = pieces(&store, piece_bytes);
        let decoded = decode(&pieces).expect("whole pieces");
        prop_assert!(decoded == store, "{:?} and {:?} differ", decoded, store);
        prop_assert_eq!(answers(&decoded), answers(&store));
        prop_assert_eq!(decoded.restoring(), store.restoring());
        prop_assert_eq!(decoded.autopilot(), store.autopilot());
        let whole = pieces.concat();
        prop_assert!(decode(whole.chunks(chunk)).expect("any chunks") == store);
        prop_assert!(decode([whole]).expect("all at once") == store);
        // Whoever has the same store writes the same bytes, however it came by it.
        prop_assert_eq!(self::pieces(&decoded, piece_bytes), pieces);
    }

    #[test]
    fn a_clone_of_an_encoder_goes_on_where_it_was(store in any_store(), piece_bytes in 0..500usize) {
        let all = pieces(&store, piece_bytes);
        let mut encoder = Encoder::new(META, store, piece_bytes);
        for at in 0..=all.len() {
            prop_assert_eq!(encoder.pieces() as usize, at);
            prop_assert_eq!(encoder.clone().collect::<Vec<_>>(), &all[at..]);
            prop_assert_eq!(encoder.next_piece(), all.get(at).cloned());
        }
        prop_assert_eq!(encoder.next_piece(), None);
    }

    #[test]
    fn pieces_are_as_large_as_they_may_be(store in any_store(), piece_bytes in 100..500usize) {
        let pieces = pieces(&store, piece_bytes);
        let rows = &pieces[1..pieces.len() - 1];
        // No row but a staged piece takes more than 130 bytes, and none more than 100 plus its data.
        let (largest, staged) = (130, store.restoring().is_some());
        for (n, piece) in rows.iter().enumerate() {
            let payload = piece.len() - HEADER_BYTES;
            prop_assert!(staged || payload <= piece_bytes.max(largest), "piece {} has {}", n, payload);
            prop_assert!(staged || n + 1 == rows.len() || payload + largest > piece_bytes, "piece {} has {}", n, payload);
        }
    }

    #[test]
    fn damage_always_shows(
        store in any_store(),
        other in any_store(),
        piece_bytes in 0..300usize,
        chunk in 1..700usize,
        damage in damage(),
    ) {
        let pieces = pieces(&store, piece_bytes);
        let whole = pieces.concat();
        let bytes = damage.to(pieces, &self::pieces(&other, piece_bytes));
        match decode(bytes.chunks(chunk)) {
            Ok(decoded) => {
                prop_assert_eq!(&bytes, &whole, "accepted");
                prop_assert!(decoded == store);
            }
            Err(damaged) => prop_assert_ne!(&bytes, &whole, "{}", damaged),
        }
    }

    /// Bytes whose checksums all match, and that say anything.
    #[test]
    fn whatever_is_well_summed_is_a_store_or_refused(store in any_store(), flips in vec(any::<(Pick, u8)>(), 1..4)) {
        let mut pieces = pieces(&store, 300).into_iter().map(Vec::from).collect::<Vec<_>>();
        let count = pieces.len();
        for (at, bits) in flips {
            let piece = &mut pieces[at.index(count)];
            let at = HEADER_BYTES + at.index(piece.len() - HEADER_BYTES);
            piece[at] ^= bits;
        }
        let mut decoder = Decoder::new();
        let _ = reseal(pieces).iter().try_for_each(|piece| decoder.feed(piece));
        if let Ok((_, decoded)) = decoder.finish() {
            prop_assert!(decode(self::pieces(&decoded, 100)).expect("a sound store") == decoded);
        }
    }

    #[test]
    fn no_index_goes_back_in_a_restoration(
        mut store in any_store(),
        image in any_store(),
        piece_bytes in 0..500usize,
        after in vec(command(), 0..20),
    ) {
        let pieces = pieces(&image, piece_bytes);
        let before = answers(&store);
        let (index, old) = (store.index(), store.visible_index());
        let applied = restore(&mut store, Uuid::from_u128(9), &pieces).expect("a sound image");
        prop_assert_eq!(applied.response, Ok(Response::Done(true)));
        prop_assert_eq!(applied.touched, [Touch::Everything]);
        prop_assert_eq!(store.index(), Index(index.0 + pieces.len() as u64 + 1), "the log goes on");
        let at = store.visible_index();
        prop_assert!(at > old && at > image.visible_index());
        prop_assert_eq!((store.restored_at(), store.restoring()), (at, None));
        prop_assert_eq!(dump(&store), dump(&image));
        prop_assert_eq!(store.autopilot(), image.autopilot());
        let mut last = answers(&store);
        for ((then, now), image) in before.iter().zip(&last).zip(answers(&image)) {
            prop_assert_eq!((now.index, now.changed), (at, at));
            prop_assert!(now.index > then.index && now.changed > then.index && now.index > image.index);
            prop_assert_eq!(&now.body, &image.body);
        }
        for command in after {
            let applied = apply(&mut store, command);
            let now = answers(&store);
            for (then, now) in last.iter().zip(&now) {
                prop_assert!(now.index >= then.index && now.changed >= then.changed);
                prop_assert!(now.body == then.body || now.changed == store.visible_index(), "not woken");
            }
            if applied.touched.is_empty() {
                prop_assert_eq!(dump(&store).len(), store.kv_len());
            }
            last = now;
        }
        prop_assert!(decode(self::pieces(&store, 100)).expect("a sound store") == store);
    }

    /// Two servers: one applies all steps, the other gets a snapshot of the first before each of them.
    #[test]
    fn a_restoration_goes_on_after_a_snapshot(store in any_store(), image in any_store(), piece_bytes in 0..300usize) {
        let id = Uuid::from_u128(9);
        let pieces = pieces(&image, piece_bytes);
        let steps = (0..).zip(&pieces).map(|(number, bytes)| Step::Piece { number, bytes: bytes.clone() });
        let mut one = store;
        for step in steps.chain([Step::Finish { pieces: pieces.len() as u32 }]) {
            let mut other = decode(self::pieces(&one, 100)).expect("a sound store");
            let applied = apply(&mut one, Command::Restore { id, step: step.clone() });
            prop_assert_eq!(&applied.response, &Ok(Response::Done(true)));
            prop_assert_eq!(apply(&mut other, Command::Restore { id, step }), applied);
            prop_assert!(one == other);
        }
        prop_assert_eq!(dump(&one), dump(&image));
    }
}

/// Puts numbers, lengths, checksums and totals right.
fn reseal(mut pieces: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let (mut checksums, count) = (0, pieces.len());
    for (number, piece) in (0u32..).zip(&mut pieces) {
        if number as usize == count - 1 && piece.len() == HEADER_BYTES + 17 && piece[HEADER_BYTES] == 255 {
            piece[HEADER_BYTES + 1..HEADER_BYTES + 5].copy_from_slice(&number.to_le_bytes());
            piece[HEADER_BYTES + 13..].copy_from_slice(&u32::to_le_bytes(checksums));
        }
        let length = (piece.len() - HEADER_BYTES) as u32;
        piece[12..16].copy_from_slice(&number.to_le_bytes());
        piece[16..20].copy_from_slice(&length.to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&piece[..20]), &piece[HEADER_BYTES..]);
        piece[20..24].copy_from_slice(&checksum.to_le_bytes());
        checksums = crc32c::crc32c_append(checksums, &checksum.to_le_bytes());
    }
    pieces
}

/// Two keys, one deletion.
fn small() -> Store {
    let mut store = store(vec![]);
    assert!(put(&mut store, "a", "1", Mode::Set) && put(&mut store, "b", "2", Mode::Set));
    assert!(put(&mut store, "gone", "3", Mode::Set));
    apply(&mut store, Kv::Delete { key: "gone".into(), cas: None }.into());
    store
}

#[test]
fn an_empty_store_takes_two_pieces_and_a_large_row_one_of_its_own() {
    assert_eq!(pieces(&Store::default(), 1000).len(), 2);
    let mut store = store(vec![]);
    for key in ["a", "c"] {
        assert!(put(&mut store, key, "small", Mode::Set));
    }
    let large = Kv::Put { key: "b".into(), value: vec![7; 10_000].into(), flags: 0, mode: Mode::Set };
    apply(&mut store, large.into());
    let lengths: Vec<usize> = pieces(&store, 1000).iter().map(Bytes::len).collect();
    assert_eq!(lengths.len(), 5);
    assert!(lengths[1] < 200 && lengths[2] > 10_000 && lengths[3] < 200, "{lengths:?}");
    assert_eq!(pieces(&store, usize::MAX).len(), 3);
}

/// The form of version 1 is on disks: it does not change by accident.
#[test]
fn the_bytes_of_the_first_version() {
    let bytes = pieces(&small(), 1000).concat();
    assert_eq!(&bytes[..12], b"LICTORIM\x01\0\0\0");
    assert_eq!((bytes.len(), crc32c::crc32c(&bytes)), (344, 3_667_884_568), "length and checksum of all");
}

#[test]
fn each_kind_of_damage_has_its_words() {
    let good: Vec<Vec<u8>> = pieces(&small(), 70).into_iter().map(Vec::from).collect();
    assert_eq!(good.len(), 5);
    let with = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut pieces = good.clone();
        change(&mut pieces);
        decode(&pieces).map(|_| ()).unwrap_err()
    };
    assert_eq!(with(&|p| p.truncate(4)), Damaged::CutShort { piece: 4 });
    assert_eq!(with(&|p| p[4].truncate(30)), Damaged::CutShort { piece: 4 });
    assert_eq!(with(&|p| p.clear()), Damaged::CutShort { piece: 0 });
    assert_eq!(with(&|p| p.push(vec![0])), Damaged::Trailing);
    assert_eq!(with(&|p| p[0] = b"PK".to_vec()), Damaged::NotAnImage);
    assert_eq!(with(&|p| p[0] = b"\x1f\x8b\x08 and so on, for more than a header".to_vec()), Damaged::NotAnImage);
    assert_eq!(with(&|p| p[2][0] = b'X'), Damaged::Header { piece: 2 });
    assert_eq!(with(&|p| p[1][8] = 2), Damaged::Version(2));
    assert_eq!(with(&|p| p[1][19] = 0xff), Damaged::TooLong { piece: 1, bytes: 0xff00_0000 | u32::from(good[1][16]) });
    assert_eq!(with(&|p| *p[1].last_mut().unwrap() ^= 1), Damaged::Checksum { piece: 1 });
    assert_eq!(with(&|p| p[1][12] ^= 1), Damaged::Checksum { piece: 1 });
    assert_eq!(with(&|p| drop(p.remove(1))), Damaged::Order { expected: 1, found: 2 });
    let damaged = with(&|p| {
        p[1][HEADER_BYTES] = 77;
        *p = reseal(p.clone());
    });
    assert_eq!(damaged, Damaged::UnknownRow { piece: 1, kind: 77 });
    for damaged in [Damaged::Version(2), damaged] {
        assert!(damaged.to_string().contains("use the version of Lictor that wrote it, or a later one"), "{damaged}");
    }
}

#[test]
fn rows_must_go_together() {
    let good: Vec<Vec<u8>> = pieces(&small(), 70).into_iter().map(Vec::from).collect();
    let reason = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut pieces = good.clone();
        change(&mut pieces);
        match decode(reseal(pieces)) {
            Err(Damaged::Row { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reason(&|p| p.swap(1, 2)), "keys do not come in their order");
    assert_eq!(reason(&|p| p.swap(2, 3)), "rows do not come in their order");
    assert_eq!(reason(&|p| p.swap(0, 1)), "rows do not come in their order");
    assert_eq!(reason(&|p| p[2] = p[1].clone()), "keys do not come in their order");
    assert_eq!(reason(&|p| drop(p.drain(0..4))), "it ends too early");
    assert_eq!(reason(&|p| drop(p.remove(1))), "the totals at its end are of another snapshot");
    assert_eq!(reason(&|p| p[1].truncate(HEADER_BYTES)), "it is empty");
    assert_eq!(reason(&|p| p[1].truncate(60)), "a row is malformed");
    // The create index of an entry, then its modify index.
    assert_eq!(reason(&|p| p[1][HEADER_BYTES + 1] = 0), "an entry was written at an index that cannot be");
    assert_eq!(reason(&|p| p[1][HEADER_BYTES + 9] = 99), "an entry was written at an index that cannot be");
    assert_eq!(reason(&|p| p[1][HEADER_BYTES + 33] = 1), "a lock is held by a session that does not exist");
    // The tombstone's index, then its key.
    assert_eq!(reason(&|p| p[3][HEADER_BYTES + 1] = 99), "a key was deleted at an index that cannot be");
    let buried_alive = |p: &mut Vec<Vec<u8>>| {
        p[3].truncate(HEADER_BYTES + 9);
        p[3].extend_from_slice(b"\x01\0\0\0a");
    };
    assert_eq!(reason(&buried_alive), "a key is both there and deleted");
}

#[test]
fn an_image_with_lower_indexes_is_restored_above_them_all() {
    let image = small();
    let mut store = store(vec![]);
    for _ in 0..100 {
        assert!(put(&mut store, "a", "old", Mode::Set));
    }
    let (entries, waiting) = (dump(&image), store.visible_index());
    restore(&mut store, Uuid::from_u128(1), &pieces(&image, 70)).unwrap().response.unwrap();
    assert_eq!(store.index(), store.visible_index(), "there is room above: nothing is shifted");
    assert_eq!(dump(&store), entries);
    assert!(store.restored_at() > waiting);
    // Conditions are about the entries' own indexes, which are those of the image.
    assert!(!put(&mut store, "a", "no", Mode::Cas(waiting)));
    assert!(put(&mut store, "a", "yes", Mode::Cas(entries[0].modify_index)));
    let now = &dump(&store)[0];
    assert_eq!((now.create_index, now.modify_index), (entries[0].create_index, store.visible_index()));
    assert!(put(&mut store, "gone", "new", Mode::Cas(Index(0))));
}

#[test]
fn an_image_with_higher_indexes_shifts_what_clients_see() {
    let mut image = small();
    image.note_applied(Index(1_000_000));
    assert!(put(&mut image, "late", "v", Mode::Set));
    let mut store = store(vec![]);
    assert!(put(&mut store, "old", "v", Mode::Set));
    let pieces = pieces(&image, 70);
    restore(&mut store, Uuid::from_u128(1), &pieces).unwrap().response.unwrap();
    assert_eq!(store.restored_at(), Index(1_000_002));
    assert_eq!(store.index(), Index(3 + pieces.len() as u64));
    assert!(put(&mut store, "late", "w", Mode::Cas(Index(1_000_001))));
    assert_eq!(dump(&store)[2].modify_index, Index(1_000_003));
    apply(&mut store, Kv::Delete { key: "late".into(), cas: None }.into());
    assert_eq!(store.newest_tombstone(), Some(Index(1_000_004)));
    apply(&mut store, Command::ReapTombstones { up_to: Index(1_000_004) });
    assert_eq!(store.newest_tombstone(), None);
    let settings = Autopilot { max_trailing_logs: 1, ..Autopilot::default() };
    apply(&mut store, Command::SetAutopilot { settings, cas: Some(Index(0)) });
    assert_eq!(store.autopilot().modify_index, store.visible_index());
    // Its own image comes back to it: once more, everything moves up.
    let own = self::pieces(&store, 70);
    restore(&mut store, Uuid::from_u128(2), &own).unwrap().response.unwrap();
    assert!(store.restored_at() > Index(1_000_006));
    assert_eq!(store.autopilot().max_trailing_logs, 1);
}

#[test]
fn those_who_wait_are_answered() {
    let image = small();
    let mut store = store(vec![]);
    let mut watches = Watches::default();
    let queries = queries();
    for (n, query) in queries.iter().enumerate() {
        watches.add(Ticket(n as u64), Interest::of(query).unwrap());
    }
    let asked: Vec<Index> = answers(&store).iter().map(|answer| answer.index).collect();
    let applied = restore(&mut store, Uuid::from_u128(1), &pieces(&image, 70)).unwrap();
    let mut woken = BTreeSet::new();
    applied.touched.iter().for_each(|touch| watches.touched(touch, &mut woken));
    assert_eq!(woken.len(), queries.len());
    assert!(answers(&store).iter().zip(asked).all(|(answer, asked)| answer.changed > asked));
}

#[test]
fn steps_must_follow_each_other() {
    let (id, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let image = pieces(&small(), 70);
    let piece = |number: u32| Step::Piece { number, bytes: image[number as usize].clone() };
    let end = || Step::Finish { pieces: image.len() as u32 };
    let (done, interrupted) = (Ok(Response::Done(true)), Err(Error::RestoreInterrupted));
    let mut store = store(vec![]);
    assert_eq!(step(&mut store, id, piece(1)), interrupted, "it has not begun");
    assert_eq!(step(&mut store, id, end()), interrupted);
    assert_eq!(step(&mut store, id, piece(0)), done);
    assert_eq!(store.restoring(), Some((id, 1, Index(4))));
    assert_eq!(step(&mut store, id, piece(0)), done, "the first one again");
    assert_eq!(step(&mut store, id, piece(1)), done);
    assert_eq!(step(&mut store, id, piece(1)), done, "asked twice");
    assert_eq!(store.restoring(), Some((id, 2, Index(7))));
    assert_eq!(step(&mut store, id, piece(3)), interrupted, "one is missing");
    assert_eq!(step(&mut store, id, Step::Piece { number: 1, bytes: image[2].clone() }), interrupted, "not the same");
    assert_eq!(step(&mut store, other, piece(2)), interrupted, "of another restoration");
    assert_eq!(step(&mut store, other, Step::Abort), done);
    assert_eq!(step(&mut store, id, end()), interrupted, "not all pieces are there");
    assert_eq!(store.restoring(), Some((id, 2, Index(7))), "none of this disturbs it");
    // Another one puts an end to it.
    assert_eq!(step(&mut store, other, piece(0)), done);
    assert_eq!(step(&mut store, id, piece(2)), interrupted);
    // The first piece begins anew.
    stage(&mut store, id, &image).unwrap();
    stage(&mut store, id, &image).unwrap();
    assert_eq!(store.kv_len(), 0, "nothing has changed so far");
    assert_eq!(step(&mut store, id, end()), done);
    assert_eq!((store.kv_len(), store.restoring()), (2, None));
    let at = store.restored_at();
    let again = finish(&mut store, id, &image);
    assert_eq!((again.response, again.touched.len()), (done.clone(), 0), "asked twice");
    assert_eq!(store.restored_at(), at);
    assert_eq!(step(&mut store, other, end()), interrupted);
    assert_eq!(step(&mut store, other, piece(0)), done);
    assert_eq!(step(&mut store, other, Step::Abort), done);
    assert_eq!((store.kv_len(), store.restoring()), (2, None));
}

#[test]
fn a_damaged_image_leaves_everything_as_it_was() {
    let id = Uuid::from_u128(1);
    let image = pieces(&small(), 70);
    let mut store = store(vec![]);
    assert!(put(&mut store, "kept", "v", Mode::Set));
    let before = (answers(&store), dump(&store));
    let mut bad = image.clone();
    bad[2] = image[2].iter().rev().copied().collect();
    let refused = stage(&mut store, id, &bad);
    assert!(matches!(&refused, Err(Error::MalformedImage(text)) if text.contains("piece 2")), "{refused:?}");
    assert_eq!(store.restoring(), None);
    assert_eq!(
        step(&mut store, id, Step::Piece { number: 3, bytes: image[3].clone() }),
        Err(Error::RestoreInterrupted)
    );
    // All pieces but the last.
    let short = &image[..image.len() - 1];
    let applied = restore(&mut store, id, short).unwrap();
    assert!(matches!(&applied.response, Err(Error::MalformedImage(text)) if text.contains("cut short")), "{applied:?}");
    assert!(applied.touched.is_empty());
    assert_eq!(store.restoring(), None);
    // Something behind the last.
    let long = [&image[..], &image[..1]].concat();
    assert!(matches!(restore(&mut store, id, &long), Err(Error::MalformedImage(_))));
    assert!(matches!(stage(&mut store, id, &[Bytes::from_static(b"{}")]), Err(Error::MalformedImage(_))));
    // Well-formed, and beyond what any log can count.
    let mut far = Store::default();
    far.note_applied(Index(u64::MAX - 1));
    let applied = restore(&mut store, id, &pieces(&far, 70)).unwrap();
    assert!(matches!(&applied.response, Err(Error::MalformedImage(text)) if text.contains("too large")), "{applied:?}");
    assert_eq!((answers(&store), dump(&store)), before);
    assert_eq!((store.restoring(), store.restored_at()), (None, Index(0)));
    // Nor does it stand in the way of a sound one, in whatever parts it comes.
    let whole = Bytes::from(image.concat());
    let parts: Vec<Bytes> = (0..whole.len()).step_by(33).map(|at| whole.slice(at..whole.len().min(at + 33))).collect();
    restore(&mut store, id, &parts).unwrap().response.unwrap();
    assert_eq!(dump(&store), dump(&small()));
}
