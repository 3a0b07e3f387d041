//! The whole way past the store: outlets, a collector and an initiator's nodes, over a network that does what it likes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::api::exec::{Piece, Progress};
use crate::exec::collector::{Collector, Step};
use crate::exec::layout::Place;
use crate::id::{PeerId, RunId, SessionId, Ticket};

const ID: Uuid = Uuid::from_u128(1);
/// Little: so that there is not always room.
const INBOX_BYTES: usize = 128 << 10;

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn agent(number: u64) -> (PeerId, SocketAddr) {
    (PeerId::numbered(number), ([127, 0, 0, 1], 8000 + number as u16).into())
}

fn outlet(number: u64, options: &config::Exec, wait: Duration) -> Outlet {
    let (peer, address) = agent(0);
    let source = Source { inbox: ID, node: format!("n{number}"), run: RunId(number), first: 0 };
    Outlet::new(at(0), options, wait, Some((Inbox { id: ID, peer, address }, source)))
}

fn options() -> config::Exec {
    config::Exec { enabled: true, direct_after: 8192, ..config::Exec::default() }
}

#[test]
fn the_direct_way_has_a_pace_of_its_own() {
    let options = config::Exec { direct_after: 0, direct_rate: 1 << 20, ..options() };
    let mut outlet = outlet(1, &options, Duration::from_secs(2));
    let (mut now, mut sent, mut number) = (at(0), 0, 0);
    while now < at(10_000) {
        let more = outlet.grant();
        outlet.push(now, &vec![0; if sent == 0 { CREDIT + more } else { more }]);
        while let Some(next) = outlet.next(now, false) {
            let Next::Send(_, messages) = next else { panic!("{next:?}") };
            for message in messages {
                if let Exec::Piece { number: next, bytes, .. } = message {
                    assert_eq!(next, number);
                    (sent, number) = (sent + bytes.len(), number + 1);
                }
            }
            let taken = Taken { inbox: ID, run: RunId(1), open: true, taken: number, have: number, room: 1 << 20 };
            outlet.hear(now, &taken);
        }
        now = now + Duration::from_millis(1);
    }
    let expected = DIRECT_CREDIT + (10 << 20);
    assert!(sent.abs_diff(expected) < 100 << 10, "{sent} instead of {expected}");
}

/// A command, what it has written, and what has become of that.
struct Command {
    outlet: Outlet,
    credit: usize,
    total: usize,
    written: usize,
    ended: bool,
    /// What is being written into the store.
    storing: Option<(u32, Bytes)>,
    told: Vec<u8>,
    held: BTreeMap<u32, Bytes>,
    /// What of `held` is in the store: that counts as passed on.
    stored: BTreeMap<u32, usize>,
    next: u32,
    have: u32,
}

fn byte(at: usize) -> u8 {
    (at % 251) as u8
}

/// Everything that may happen.
#[derive(Clone, Debug)]
enum Happening {
    Writes(usize, usize),
    /// The message that so many came before arrives, and is lost, doubled, or neither.
    Arrives(usize, u8),
    Stores(usize),
    Collects,
    Takes,
    Passes(u16),
    /// The agent that collects is gone, or its connections are for a while.
    Gone(bool),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (0..3usize, 1..50_000usize).prop_map(|(who, bytes)| Happening::Writes(who, bytes)),
        12 => (0..4usize, 0..12u8).prop_map(|(which, fate)| Happening::Arrives(which, fate)),
        4 => (0..3usize).prop_map(Happening::Stores),
        4 => Just(Happening::Collects),
        4 => Just(Happening::Takes),
        4 => (0..400u16).prop_map(Happening::Passes),
        1 => prop::bool::weighted(0.1).prop_map(Happening::Gone),
    ]
}

struct Play {
    now: Instant,
    collector: Collector,
    place: Place,
    commands: Vec<Command>,
    /// To the collector, and back.
    messages: Vec<(usize, Exec)>,
    is_gone: bool,
}

impl Play {
    fn new(totals: &[usize]) -> Self {
        let mut collector = Collector::new(INBOX_BYTES);
        let place = Place::new("p", SessionId(Uuid::from_u128(9)));
        collector.open(at(0), place.clone(), None, ID).unwrap();
        let command = |(number, total): (usize, &usize)| Command {
            outlet: outlet(number as u64 + 1, &options(), Duration::from_secs(3)),
            credit: CREDIT,
            total: *total,
            written: 0,
            ended: false,
            storing: None,
            told: Vec::new(),
            held: BTreeMap::new(),
            stored: BTreeMap::new(),
            next: 0,
            have: 0,
        };
        let commands = totals.iter().enumerate().map(command).collect();
        Self { now: at(0), collector, place, commands, messages: Vec::new(), is_gone: false }
    }

    fn happen(&mut self, happening: &Happening) {
        match *happening {
            Happening::Writes(who, bytes) => self.write(who % self.commands.len(), bytes),
            Happening::Arrives(which, fate) if which < self.messages.len() => self.arrive(which, fate),
            Happening::Stores(who) => self.store(who % self.commands.len()),
            Happening::Collects => self.collect(),
            Happening::Takes => self.commands.iter_mut().for_each(Command::tell),
            Happening::Passes(millis) => self.now = self.now + Duration::from_millis(millis.into()),
            Happening::Gone(for_good) => {
                self.is_gone |= for_good;
                self.messages.clear();
            }
            Happening::Arrives(..) => {}
        }
        self.run();
    }

    fn write(&mut self, who: usize, bytes: usize) {
        let command = &mut self.commands[who];
        let count = bytes.min(command.total - command.written).min(command.credit);
        let written: Vec<u8> = (command.written..command.written + count).map(byte).collect();
        command.written += count;
        command.credit -= count;
        if count > 0 {
            assert_eq!(command.outlet.push(self.now, &written), Pushed::Kept);
        }
        command.ended |= command.written == command.total;
    }

    fn arrive(&mut self, which: usize, fate: u8) {
        let (who, message) = if fate == 1 { self.messages[which].clone() } else { self.messages.remove(which) };
        if fate == 0 || self.is_gone {
            return;
        }
        match message {
            Exec::Piece { source, number, bytes } => {
                self.collector.handle_piece(agent(who as u64 + 1), &source, number, &bytes);
            }
            Exec::HowFar(source) => self.collector.handle_how_far(agent(who as u64 + 1), &source),
            Exec::Taken(taken) => self.commands[who].outlet.hear(self.now, &taken),
        }
    }

    fn store(&mut self, who: usize) {
        let command = &mut self.commands[who];
        if let Some((number, bytes)) = command.storing.take() {
            command.outlet.stored(self.now);
            command.stored.insert(number, bytes.len());
            command.bring(number, &bytes);
        }
    }

    fn collect(&mut self) {
        if self.is_gone {
            return;
        }
        let all = self.commands.iter().enumerate().filter(|(_, command)| command.have > 0);
        let progress =
            all.map(|(who, command)| (format!("n{}", who + 1), Progress { taken: command.next, have: command.have }));
        let progress = progress.collect();
        if let Some(pieces) = self.collector.collect(&self.place, None, Ticket(1), progress, self.now).unwrap() {
            self.bring(pieces);
        }
    }

    fn bring(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            let command = &mut self.commands[piece.node[1..].parse::<usize>().unwrap() - 1];
            command.have = command.have.max(piece.number + 1);
            command.bring(piece.number, &piece.output);
        }
    }

    /// Carries out what all want done.
    fn run(&mut self) {
        for (who, command) in self.commands.iter_mut().enumerate() {
            while command.storing.is_none()
                && let Some(next) = command.outlet.next(self.now, command.ended)
            {
                match next {
                    Next::Store(number, bytes) => command.storing = Some((number, bytes)),
                    Next::Send(_, messages) => self.messages.extend(messages.into_iter().map(|message| (who, message))),
                }
            }
            command.credit += command.outlet.grant();
            let in_store: usize = command.stored.range(command.next..).map(|(_, bytes)| bytes).sum();
            assert!(command.written - command.told.len() <= DIRECT_CREDIT + in_store, "it was let on too early");
        }
        while let Some(step) = self.collector.poll_step() {
            match step {
                Step::Send { peer, taken, .. } => {
                    let who = (0..3).find(|who| agent(*who as u64 + 1).0 == peer).unwrap();
                    self.messages.push((who, Exec::Taken(taken)));
                }
                Step::Answer { pieces, .. } => self.bring(pieces),
                Step::Refuse(_) => panic!("nobody closes it"),
            }
        }
        assert!(self.collector.holds().all(|bytes| bytes <= INBOX_BYTES));
    }

    fn is_over(&self) -> bool {
        self.commands.iter().all(|command| command.ended && command.outlet.is_empty() && command.storing.is_none())
    }
}

impl Command {
    fn bring(&mut self, number: u32, bytes: &Bytes) {
        if number >= self.next {
            let same = self.held.insert(number, bytes.clone());
            assert!(same.is_none_or(|same| same == *bytes), "what comes both ways is the same");
        }
    }

    fn tell(&mut self) {
        while let Some(bytes) = self.held.remove(&self.next) {
            self.told.extend_from_slice(&bytes);
            self.next += 1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever happens on the way, all of it arrives, whole and in order, and the outlet is not done before that.
    #[test]
    fn all_of_it_arrives(totals in prop::collection::vec(0..400_000usize, 1..4), happenings in prop::collection::vec(happening(), 0..300)) {
        let mut play = Play::new(&totals);
        for happening in &happenings {
            play.happen(happening);
        }
        let mut rounds = 0;
        while !play.is_over() {
            for who in 0..3 {
                play.happen(&Happening::Writes(who, 60_000));
                play.happen(&Happening::Stores(who));
            }
            for _ in 0..play.messages.len() {
                play.happen(&Happening::Arrives(0, 5));
            }
            play.happen(&Happening::Takes);
            play.happen(&Happening::Collects);
            play.happen(&Happening::Passes(100));
            rounds += 1;
            prop_assert!(rounds < 2_000, "it goes on for ever");
        }
        for (command, total) in play.commands.iter_mut().zip(&totals) {
            command.tell();
            let expected: Vec<u8> = (0..*total).map(byte).collect();
            prop_assert!(command.told == expected, "{} of {total} bytes came", command.told.len());
        }
    }
}
