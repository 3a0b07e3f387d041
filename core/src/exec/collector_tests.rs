//! One collector, with agents and an initiator played by hand.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::id::SessionId;

const PIECE: usize = MAX_PIECE_BYTES;
const INBOX_BYTES: usize = 4 << 20;
const NODES: usize = INBOX_BYTES / LEAST_ROOM;

fn place(number: u128) -> Place {
    Place::new("_rexec", SessionId(Uuid::from_u128(number)))
}

fn address(agent: u64) -> (PeerId, SocketAddr) {
    (PeerId::numbered(agent), ([127, 0, 0, 1], 8000 + agent as u16).into())
}

fn source(inbox: u128, agent: u64, first: u32) -> Source {
    Source { inbox: Uuid::from_u128(inbox), node: format!("n{agent}"), run: RunId(3), first }
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// One inbox, whose ID and session are 1.
fn opened() -> Collector {
    let mut collector = Collector::new(INBOX_BYTES);
    assert_eq!(collector.open(at(0), place(1), None, Uuid::from_u128(1)), Ok(Uuid::from_u128(1)));
    collector
}

fn piece(collector: &mut Collector, agent: u64, number: u32, bytes: usize) -> Vec<Step> {
    let bytes = Bytes::from(vec![number as u8; bytes]);
    collector.handle_piece(address(agent), &source(1, agent, 0), number, &bytes);
    steps(collector)
}

fn steps(collector: &mut Collector) -> Vec<Step> {
    std::iter::from_fn(|| collector.poll_step()).collect()
}

fn known(of: &[(u64, u32, u32)]) -> BTreeMap<String, Progress> {
    of.iter().map(|(agent, taken, have)| (format!("n{agent}"), Progress { taken: *taken, have: *have })).collect()
}

fn collect(
    collector: &mut Collector,
    ticket: u64,
    of: &[(u64, u32, u32)],
) -> Result<Option<Vec<(String, u32)>>, Error> {
    let found = collector.collect(&place(1), None, Ticket(ticket), known(of), at(30_000))?;
    Ok(found.map(numbers))
}

fn numbers(pieces: Vec<Piece>) -> Vec<(String, u32)> {
    pieces.into_iter().map(|piece| (piece.node, piece.number)).collect()
}

fn told(steps: &[Step]) -> Vec<(bool, u32, u32, u32)> {
    let told = steps.iter().filter_map(|step| match step {
        Step::Send { taken, .. } => Some((taken.open, taken.taken, taken.have, taken.room)),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_piece_is_taken_only_when_whoever_wants_it_says_so() {
    let mut collector = opened();
    assert_eq!(collect(&mut collector, 1, &[]), Ok(None));
    let steps = piece(&mut collector, 1, 0, 10);
    assert_eq!(told(&steps), [(true, 0, 1, MOST_ROOM as u32)]);
    let Some(Step::Answer { ticket: Ticket(1), pieces }) = steps.last() else { panic!("{steps:?}") };
    assert_eq!(numbers(pieces.clone()), [("n1".to_owned(), 0)]);
    // That answer gets lost.
    assert_eq!(collect(&mut collector, 2, &[]), Ok(Some(vec![("n1".to_owned(), 0)])));
    assert_eq!(steps_told(&mut collector), []);
    // It is known, but not dealt with.
    assert_eq!(collect(&mut collector, 3, &[(1, 0, 1)]), Ok(None));
    assert_eq!(steps_told(&mut collector), []);
    assert_eq!(collect(&mut collector, 4, &[(1, 1, 1)]), Ok(None));
    assert_eq!(steps_told(&mut collector), [(true, 1, 1, MOST_ROOM as u32)]);
    assert_eq!(collector.holds().sum::<usize>(), 0);
}

fn steps_told(collector: &mut Collector) -> Vec<(bool, u32, u32, u32)> {
    told(&steps(collector))
}

#[test]
fn pieces_come_in_any_order_and_leave_in_theirs() {
    let mut collector = opened();
    for number in [2, 1, 2, 4] {
        assert_eq!(told(&piece(&mut collector, 1, number, 5)), [(true, 0, 0, MOST_ROOM as u32)]);
    }
    assert_eq!(collect(&mut collector, 1, &[]), Ok(None), "none of them is the next one");
    assert_eq!(told(&piece(&mut collector, 1, 0, 5)), [(true, 0, 3, MOST_ROOM as u32)]);
    assert_eq!(
        collect(&mut collector, 2, &[(1, 0, 1)]).unwrap().unwrap(),
        [("n1".to_owned(), 1), ("n1".to_owned(), 2)]
    );
    assert_eq!(told(&piece(&mut collector, 1, PIECES, 5)), [(true, 0, 3, MOST_ROOM as u32)], "that is too far ahead");
    assert_eq!(collector.holds().sum::<usize>(), 20);
}

#[test]
fn who_begins_later_begins_there() {
    let mut collector = opened();
    let bytes = Bytes::from_static(b"x");
    collector.handle_how_far(address(1), &source(1, 1, 16));
    assert_eq!(steps_told(&mut collector), [(true, 16, 16, MOST_ROOM as u32)]);
    collector.handle_piece(address(1), &source(1, 1, 16), 15, &bytes);
    collector.handle_piece(address(1), &source(1, 1, 16), 16, &bytes);
    assert_eq!(collect(&mut collector, 1, &[]), Ok(Some(vec![("n1".to_owned(), 16)])));
}

#[test]
fn the_room_is_shared_and_never_more_than_there_is() {
    let mut collector = opened();
    let mut room = 0;
    for agent in 0..NODES as u64 + 1 {
        let steps = piece(&mut collector, agent, 0, 1);
        let (open, .., new) = told(&steps)[0];
        assert_eq!(open, agent < NODES as u64, "{agent}");
        if open {
            room = new;
        }
    }
    assert_eq!(room as usize, LEAST_ROOM);
    // And if nobody keeps to it:
    for agent in 0..NODES as u64 {
        for number in 1..PIECES {
            piece(&mut collector, agent, number, LEAST_ROOM);
        }
    }
    let holds = collector.holds().sum::<usize>();
    assert!((INBOX_BYTES - LEAST_ROOM..=INBOX_BYTES).contains(&holds), "{holds}");
    piece(&mut collector, 0, 1, PIECE + 1);
    assert_eq!(collector.holds().sum::<usize>(), holds);
}

#[test]
fn what_waits_for_others_makes_room_for_them() {
    let mut collector = opened();
    // Eight nodes fill the inbox, and each has lost its first piece.
    for agent in 0..8 {
        collector.handle_how_far(address(agent), &source(1, agent, 0));
    }
    for number in 1..17 {
        for agent in 0..8 {
            piece(&mut collector, agent, number, PIECE);
        }
    }
    assert_eq!(collector.holds().sum::<usize>(), INBOX_BYTES);
    assert_eq!(collect(&mut collector, 1, &[]), Ok(None));
    let steps = piece(&mut collector, 5, 0, PIECE);
    assert!(steps.iter().any(|step| matches!(step, Step::Answer { .. })), "{steps:?}");
    assert!(collector.holds().sum::<usize>() <= INBOX_BYTES);
}

#[test]
fn nobody_is_starved_by_those_who_come_first() {
    let mut collector = opened();
    let mut done: BTreeMap<String, Progress> = BTreeMap::new();
    for agent in 0..40 {
        collector.handle_how_far(address(agent), &source(1, agent, 0));
    }
    let mut next = [0; 40];
    for _ in 0..10 {
        for agent in 0..40 {
            piece(&mut collector, agent, next[agent as usize], PIECE);
        }
        let pieces = collector.collect(&place(1), None, Ticket(1), done.clone(), at(9)).unwrap().unwrap();
        assert!(pieces.len() * PIECE <= ANSWER_BYTES);
        for piece in pieces {
            let number = piece.number + 1;
            next[piece.node[1..].parse::<usize>().unwrap()] = number;
            done.insert(piece.node, Progress { taken: number, have: number });
        }
    }
    let (least, most) = (next.iter().min().unwrap(), next.iter().max().unwrap());
    assert!(*least > 0 && most - least <= 1, "{next:?}");
}

#[test]
fn who_is_not_collected_here_is_told_so() {
    let mut collector = opened();
    collector.handle_how_far(address(1), &source(2, 1, 0));
    assert_eq!(steps_told(&mut collector), [(false, 0, 0, 0)]);
    // Another agent, or another run of the same, takes nobody's place.
    piece(&mut collector, 1, 0, 1);
    collector.handle_how_far(address(1), &Source { run: RunId(4), ..source(1, 1, 0) });
    assert_eq!(steps_told(&mut collector), [(false, 0, 0, 0)]);
    collector.handle_piece(address(2), &source(1, 1, 0), 1, &Bytes::from_static(b"x"));
    assert_eq!(steps_told(&mut collector), [(false, 0, 0, 0)]);
    assert_eq!(collect(&mut collector, 7, &[(1, 0, 1)]), Ok(None));
    collector.close(&place(1));
    let steps = steps(&mut collector);
    assert!(steps.contains(&Step::Refuse(Ticket(7))), "{steps:?}");
    assert_eq!(told(&steps), [(false, 0, 0, 0)], "those who send hear it at once");
    let to = steps.iter().find_map(|step| if let Step::Send { address, .. } = step { Some(*address) } else { None });
    assert_eq!(to, Some(address(1).1), "and nobody has taken their place");
    assert_eq!(collect(&mut collector, 8, &[]), Err(Error::NotCollected));
    assert_eq!(told(&piece(&mut collector, 1, 1, 1)), [(false, 0, 0, 0)]);
}

#[test]
fn nobody_sees_what_another_token_has_collected() {
    let mut collector = opened();
    piece(&mut collector, 1, 0, 1);
    for other in [Some("other"), Some("")] {
        assert_eq!(collector.open(at(0), place(1), other, Uuid::from_u128(2)), Err(Error::PermissionDenied));
        let seen = collector.collect(&place(1), other, Ticket(1), BTreeMap::new(), at(0));
        assert_eq!(seen, Err(Error::PermissionDenied));
        assert_eq!(collector.end(&place(1), other), Err(Error::PermissionDenied));
        assert_eq!(collector.end(&place(2), other), Ok(()));
    }
    assert_eq!(collect(&mut collector, 2, &[]), Ok(Some(vec![("n1".to_owned(), 0)])));
    assert_eq!(collector.end(&place(1), None), Ok(()));
    assert_eq!(collector.holds().count(), 0);
}

#[test]
fn what_nobody_asks_for_is_closed_in_time_and_there_is_a_limit() {
    let mut collector = opened();
    assert_eq!(
        collector.open(at(1000), place(1), None, Uuid::from_u128(5)),
        Ok(Uuid::from_u128(1)),
        "it is there already"
    );
    for number in 2..=INBOXES as u128 {
        assert!(collector.open(at(2000), place(number), None, Uuid::from_u128(number)).is_ok());
    }
    let one_more = collector.open(at(2000), place(0), None, Uuid::from_u128(0));
    assert!(matches!(one_more, Err(Error::Busy { what: Busy::Inboxes, .. })));
    let idle = at(1000) + IDLE;
    assert_eq!(collector.poll_timeout(), Some(idle));
    assert_eq!(collector.collect(&place(2), None, Ticket(1), BTreeMap::new(), at(30_000)), Ok(None));
    collector.tick(idle);
    assert_eq!(collect(&mut collector, 2, &[]), Err(Error::NotCollected));
    collector.tick(at(2000) + IDLE);
    assert_eq!(collector.holds().count(), 1);
    collector.tick(at(30_000) + IDLE);
    assert_eq!((collector.holds().count(), collector.poll_timeout()), (0, None));
    assert!(collector.by_id.is_empty());
}

proptest! {
    /// Whatever comes, and in whatever order, the bounds hold and what is said is consistent.
    #[test]
    fn bounds_hold(happenings in prop::collection::vec((0u64..6, 0u32..90, 0usize..40_000, 0u8..12), 1..400)) {
        let mut collector = opened();
        let mut done: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
        for (agent, number, bytes, what) in happenings {
            let said = match what {
                0 => {
                    let all: Vec<_> = done.iter().map(|(agent, (taken, have))| (*agent, *taken, *have)).collect();
                    let found = collect(&mut collector, 1, &all).unwrap().unwrap_or_default();
                    for (node, number) in found {
                        let (_, have) = done.entry(node[1..].parse().unwrap()).or_default();
                        prop_assert_eq!(number, *have, "in order, and nothing twice");
                        *have = number + 1;
                    }
                    steps(&mut collector)
                }
                1 => {
                    if let Some((taken, have)) = done.get_mut(&agent) {
                        *taken = (*taken + 3).min(*have);
                    }
                    continue;
                }
                _ => piece(&mut collector, agent, number, bytes),
            };
            for step in said {
                match step {
                    Step::Send { taken, .. } => {
                        prop_assert!(taken.open && taken.taken <= taken.have);
                        prop_assert!(taken.room as usize <= MOST_ROOM);
                    }
                    Step::Answer { pieces, .. } => for piece in pieces {
                        let (_, have) = done.entry(piece.node[1..].parse().unwrap()).or_default();
                        prop_assert_eq!(piece.number, *have);
                        *have = piece.number + 1;
                    }
                    Step::Refuse(_) => prop_assert!(false, "nobody closes it"),
                }
            }
            let inbox = &collector.inboxes[&place(1)];
            let held: usize = inbox.nodes.values().flat_map(|node| node.held.values()).map(Bytes::len).sum();
            prop_assert_eq!((held, held), (inbox.bytes, inbox.nodes.values().map(|node| node.bytes).sum::<usize>()));
            prop_assert!(held <= INBOX_BYTES);
            for node in inbox.nodes.values() {
                prop_assert!((node.taken..node.have).all(|number| node.held.contains_key(&number)));
                prop_assert!(!node.held.contains_key(&node.have) && node.held.keys().all(|number| *number >= node.taken));
            }
        }
    }
}
