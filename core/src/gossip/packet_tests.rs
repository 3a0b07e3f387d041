//! Tests of the codec, apart from it for its length.

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

const POOL: u32 = 77;

fn packet(messages: &[Message]) -> Bytes {
    let mut packer = Packer::new(POOL, MAX_STREAM_BYTES);
    for message in messages {
        assert!(packer.push(&encode(message)));
    }
    packer.finish()
}

fn names() -> impl Strategy<Value = Name> {
    "[a-zé]{1,20}".prop_map(|name| Name::from(name.as_str()))
}

fn addresses() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::from((ip, port))),
        (any::<[u8; 16]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::from((ip, port))),
    ]
}

fn profiles() -> impl Strategy<Value = Profile> {
    let tags = prop::collection::btree_map("[a-z]{1,8}", "[a-z0-9]{0,20}", 0..6);
    (addresses(), tags).prop_map(|(address, tags)| Profile { address, tags: Arc::new(tags) })
}

fn counters() -> impl Strategy<Value = u64> {
    prop_oneof![0..300_u64, 0..=MAX_COUNTER]
}

fn intents() -> impl Strategy<Value = Intent> {
    let purpose = prop_oneof![Just(Purpose::Stay), Just(Purpose::Leave), Just(Purpose::Forget)];
    (counters(), purpose, counters()).prop_map(|(time, purpose, incarnation)| Intent {
        time: LamportTime(time),
        purpose,
        incarnation: Incarnation(incarnation),
    })
}

fn events() -> impl Strategy<Value = TimedEvent> {
    let payload = prop::collection::vec(any::<u8>(), 0..100);
    (counters(), any::<u128>(), "[a-z]{0,20}", payload).prop_map(|(time, id, name, payload)| TimedEvent {
        time: LamportTime(time),
        event: UserEvent { id: Uuid::from_u128(id), name, payload: payload.into() },
    })
}

fn records() -> impl Strategy<Value = Record> {
    let state = prop_oneof![Just(State::Alive), Just(State::Suspect), Just(State::Dead), Just(State::Left)];
    (names(), counters(), state, profiles(), any::<u32>(), prop::option::of(intents())).prop_map(
        |(name, incarnation, state, profile, age, intent)| Record {
            name,
            incarnation: Incarnation(incarnation),
            state,
            profile,
            age: Duration::from_millis(age.into()),
            intent,
        },
    )
}

fn push_pulls() -> impl Strategy<Value = Message> {
    let lists = (prop::collection::vec(records(), 0..5), prop::collection::vec(events(), 0..3));
    (any::<u64>(), any::<bool>(), names(), addresses(), counters(), counters(), lists).prop_map(
        |(seq, is_reply, from, reply_to, clock, event_clock, (members, events))| {
            let (clock, event_clock) = (LamportTime(clock), LamportTime(event_clock));
            Message::PushPull(Box::new(PushPull { seq, is_reply, from, reply_to, clock, event_clock, members, events }))
        },
    )
}

fn coordinates() -> impl Strategy<Value = Option<Box<Coordinate>>> {
    let floats = prop::array::uniform11(-1e3..1e3_f64);
    prop::option::of(floats.prop_map(|[vector @ .., error, adjustment, height]| {
        Box::new(Coordinate { vector, error, adjustment, height })
    }))
}

fn messages() -> impl Strategy<Value = Message> {
    let about = || (names(), counters().prop_map(Incarnation), names());
    prop_oneof![
        (any::<u64>(), names(), names(), addresses()).prop_map(|(seq, target, from, reply_to)| Message::Ping {
            seq,
            target,
            from,
            reply_to
        }),
        (any::<u64>(), coordinates()).prop_map(|(seq, coordinate)| Message::Ack { seq, coordinate }),
        (any::<u64>(), names(), addresses()).prop_map(|(seq, target, address)| Message::IndirectPing {
            seq,
            target,
            address
        }),
        any::<u64>().prop_map(|seq| Message::Nack { seq }),
        (names(), counters(), profiles()).prop_map(|(name, incarnation, profile)| Message::Alive {
            name,
            incarnation: Incarnation(incarnation),
            profile
        }),
        about().prop_map(|(name, incarnation, from)| Message::Suspect { name, incarnation, from }),
        about().prop_map(|(name, incarnation, from)| Message::Dead { name, incarnation, from }),
        about().prop_map(|(name, incarnation, _)| Message::Left { name, incarnation }),
        (names(), intents()).prop_map(|(name, intent)| Message::Intent { name, intent }),
        events().prop_map(Message::Event),
        (any::<u64>(), names()).prop_map(|(seq, name)| Message::WhoIs { seq, name }),
        (any::<u64>(), prop::option::of(addresses())).prop_map(|(seq, address)| Message::Known { seq, address }),
        push_pulls(),
    ]
}

proptest! {
    #[test]
    fn packets_come_back_as_they_went(messages in prop::collection::vec(messages(), 0..8)) {
        prop_assert_eq!(open(POOL, &packet(&messages)), Ok(messages));
    }

    #[test]
    fn a_flipped_bit_or_a_missing_byte_is_noticed(
        messages in prop::collection::vec(messages(), 1..4),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let sound = packet(&messages).to_vec();
        let at = at.index(sound.len());
        let mut flipped = sound.clone();
        flipped[at] ^= 1 << bit;
        prop_assert!(open(POOL, &flipped).is_err());
        prop_assert!(open(POOL, &sound[..at]).is_err());
    }
}

#[test]
fn each_kind_of_stranger_is_told_apart() {
    let sound = packet(&[Message::Nack { seq: 1 }]);
    let with = |at: usize, byte: u8| {
        let mut bytes = sound.to_vec();
        bytes[at] = byte;
        open(POOL, &bytes)
    };
    assert_eq!(with(0, b'X'), Err(Malformed::Magic));
    assert_eq!(with(4, 9), Err(Malformed::Version(9)));
    assert_eq!(with(6, 78), Err(Malformed::Stranger));
    assert_eq!(with(10, 0), Err(Malformed::Checksum));
    assert_eq!(open(POOL, &[]), Err(Malformed::Magic));
    assert!(open(POOL, &sound).is_ok());
}

/// A packet with this body, and a checksum that is right.
fn sealed(body: &[u8]) -> Bytes {
    let mut packer = Packer::new(POOL, MAX_STREAM_BYTES);
    assert!(packer.push(body));
    packer.finish()
}

#[test]
fn bodies_that_lie_are_refused_with_a_right_checksum() {
    let cases: [(&str, &[u8]); 9] = [
        ("an unknown kind", &[99, 0]),
        ("a length beyond the end", &[4, 200, 1]),
        ("a message with a rest", &[4, 2, 1, 1]),
        ("an empty name", &[8, 2, 0, 1]),
        ("a name that is not UTF-8", &[8, 3, 1, 0xff, 1]),
        ("a number without an end", &[4, 2, 0xff, 0xff]),
        ("a number of more than 64 bits", &[4, 10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("an incarnation that leaves no room", &[8, 11, 1, b'a', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("a list of more than there can be", &[5, 14, 1, b'a', 1, 4, 1, 2, 3, 4, 0, 0, 0xff, 0xff, 0xff, 0x7f]),
    ];
    for (what, body) in cases {
        assert_eq!(open(POOL, &sealed(body)), Err(Malformed::Body), "{what}");
    }
    let crowd = [4, 1, 1].repeat(MAX_MESSAGES + 1);
    assert_eq!(open(POOL, &sealed(&crowd)), Err(Malformed::Body), "too many messages");
    assert!(open(POOL, &sealed(&crowd[3..])).is_ok());
    let pairs = |count: u8| {
        let mut alive = Writer(vec![1, b'a', 1, 4, 1, 2, 3, 4, 0, 0]);
        alive.number(count.into());
        alive.0.resize(alive.0.len() + 2 * usize::from(count), 0);
        let mut framed = Writer(vec![5]);
        framed.bytes(&alive.0);
        sealed(&framed.0)
    };
    assert!(open(POOL, &pairs(128)).is_ok());
    assert_eq!(open(POOL, &pairs(129)), Err(Malformed::Body), "too many tags, if of nothing");
    let tags = Tags::from([("k".to_owned(), "v".repeat(MAX_TAG_BYTES))]);
    let profile = Profile { address: "127.0.0.1:1".parse().unwrap(), tags: Arc::new(tags) };
    let alive = Message::Alive { name: Name::from("a"), incarnation: Incarnation(1), profile };
    assert_eq!(open(POOL, &packet(&[alive])), Err(Malformed::Body), "too many tags");
    let coordinate = Coordinate { height: f64::NAN, ..Coordinate::default() };
    let ack = Message::Ack { seq: 1, coordinate: Some(Box::new(coordinate)) };
    assert_eq!(open(POOL, &packet(&[ack])), Err(Malformed::Body), "no place");
}

#[test]
fn random_bodies_never_break_the_reader() {
    let mut rng = Rng::seeded(4);
    let mut understood = 0;
    for _ in 0..200_000 {
        let body: Vec<u8> =
            (0..rng.below(60)).map(|_| if rng.one_in(2) { rng.below(16) } else { rng.below(256) } as u8).collect();
        understood += usize::from(open(POOL, &sealed(&body)).is_ok());
    }
    assert!(understood > 1000, "the draws are too wild to test anything: {understood}");
}

#[test]
fn a_packet_is_never_longer_than_its_limit() {
    let mut packer = Packer::new(POOL, 100);
    let message = encode(&Message::Left { name: Name::from("somebody"), incarnation: Incarnation(1) });
    while packer.push(&message) {}
    assert!(packer.room() < message.len());
    assert!(packer.finish().len() <= 100);
}
