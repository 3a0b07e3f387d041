//! What scripts cannot say: messages that no honest peer sends, and states between two steps.

use super::*;
use crate::time::Duration;

const MS: Duration = Duration::from_millis(1);

fn peer(n: u64) -> PeerId {
    PeerId::numbered(n)
}

fn members(ids: &[u64]) -> Configuration {
    let voter = |n: &u64| (peer(*n), std::net::SocketAddr::from(([127, 0, 0, 1], 8300 + u16::try_from(*n).unwrap())));
    Configuration::new(ids.iter().map(voter))
}

fn entry(index: u64, term: u64, payload: Payload) -> Entry {
    Entry { index: Index(index), term: Term(term), payload }
}

fn position(index: u64, term: u64) -> Position {
    Position { index: Index(index), term: Term(term) }
}

fn message(term: u64, kind: Kind) -> Message {
    Message { term: Term(term), kind }
}

/// A server `n1` in term 5, of these voters, with the log 1@1 2@3.
fn server(ids: &[u64]) -> Raft {
    let start = Start {
        hard_state: HardState { term: Term(5), ..HardState::default() },
        snapshot: None,
        entries: vec![entry(1, 1, Payload::Configuration(members(ids))), entry(2, 3, Payload::Noop)],
        last_seq: WriteSeq(1),
        bootstrap: None,
        forced: None,
    };
    Raft::new(peer(1), Options::default(), Rng::seeded(1), start, Instant::ZERO)
}

/// Closes a batch whose write is durable at once, and gives the messages.
fn flush(raft: &mut Raft) -> Vec<(PeerId, Message)> {
    let mut messages = Vec::new();
    loop {
        let seq = raft.stable.persisted_seq().next();
        let written = raft.flush(seq).write.is_some();
        messages.extend(raft.drain_messages());
        if !written {
            return messages;
        }
        raft.persisted(raft.now(), seq);
    }
}

/// Has `raft` elected in term 6 with the vote of `n2`, and gives the time.
fn elect(raft: &mut Raft) -> Instant {
    let now = raft.poll_timeout().unwrap();
    raft.tick(now);
    raft.step(now, peer(2), message(6, Kind::PreVoteReply { granted: true }));
    flush(raft);
    raft.step(now, peer(2), message(6, Kind::VoteReply { granted: true }));
    flush(raft);
    assert!(raft.is_leader());
    now
}

/// Only a cluster that lost its memory has two leaders in a term. That must not stop those who still have theirs.
#[test]
fn a_second_leader_of_a_term_is_not_believed_and_stops_nobody() {
    let claims = |term| {
        let piece = Piece { snapshot: position(9, term), number: 0, last: true, bytes: bytes::Bytes::new() };
        let entries = vec![entry(3, term, Payload::Noop)];
        [
            message(term, Kind::Heartbeat { commit: Index(9), round: crate::id::Round(1) }),
            message(term, Kind::Append { prev: position(2, 3), entries, commit: Index(3) }),
            message(term, Kind::Piece(piece)),
        ]
    };
    let mut leader = server(&[1, 2, 3]);
    let now = elect(&mut leader);
    let mut follower = server(&[1, 2, 3]);
    follower.step(now, peer(2), message(6, Kind::Heartbeat { commit: Index(0), round: crate::id::Round(1) }));
    for raft in [&mut leader, &mut follower] {
        flush(raft);
        let before = raft.status();
        for claim in claims(6) {
            raft.step(now, peer(3), claim.clone());
            raft.step(now, peer(1), claim);
        }
        assert_eq!((raft.status(), flush(raft).len(), raft.take_pieces().len()), (before, 0, 0));
    }
}

/// Numbers at the ends of what can be written.
#[test]
fn hostile_numbers_are_never_a_panic() {
    let far = position(u64::MAX, 6);
    let kinds = [
        Kind::Append { prev: far, entries: vec![entry(u64::MAX, 6, Payload::Noop)], commit: far.index },
        Kind::Append { prev: position(2, 3), entries: Vec::new(), commit: far.index },
        Kind::Heartbeat { commit: far.index, round: crate::id::Round(u64::MAX) },
        Kind::Appended { matched: far.index },
        Kind::Rejected { prev: far.index, hint: far },
        Kind::Rejected { prev: Index(0), hint: position(u64::MAX, 0) },
        Kind::HeartbeatReply { round: crate::id::Round(u64::MAX) },
        Kind::PieceReply { snapshot: far, next: u32::MAX },
        Kind::Piece(Piece { snapshot: far, number: u32::MAX, last: true, bytes: bytes::Bytes::new() }),
        Kind::Vote { last: far, transfer: true },
        Kind::PreVote { last: far },
        Kind::TimeoutNow,
    ];
    for kind in kinds {
        for term in [0, 6, u64::MAX] {
            for is_leader in [false, true] {
                let mut raft = server(&[1, 2, 3]);
                let now = if is_leader { elect(&mut raft) } else { Instant::ZERO };
                for from in [2, 3, 9] {
                    raft.step(now, peer(from), message(term, kind.clone()));
                    flush(&mut raft);
                }
                raft.tick(now + 5000 * MS);
                flush(&mut raft);
                assert!(raft.log().commit() <= raft.log().last().index);
            }
        }
    }
}

/// A leader is one of those who swore themselves to it; that does not end because it was told of a higher term.
#[test]
fn a_deposed_leader_keeps_the_oath_of_its_own_lease() {
    let mut raft = server(&[1, 2, 3]);
    let start = elect(&mut raft);
    raft.step(start + 10 * MS, peer(2), message(6, Kind::HeartbeatReply { round: crate::id::Round(1) }));
    raft.step(start + 20 * MS, peer(3), message(7, Kind::VoteReply { granted: false }));
    assert_eq!((raft.status().role, raft.status().term), ("follower", Term(7)));
    let mut ask = |at| {
        raft.step(at, peer(3), message(8, Kind::Vote { last: position(9, 7), transfer: false }));
        raft.status().vote
    };
    let timeout = Options::default().election_timeout;
    assert_eq!(ask(start + timeout - MS), None);
    assert_eq!(ask(start + timeout), Some(peer(3)));
}

/// Votes were asked for by other members, and in the name of another log: they must not be counted with the new ones.
#[test]
fn a_snapshot_that_is_installed_ends_a_candidacy() {
    let mut raft = server(&[1, 2, 3, 4, 5]);
    let now = raft.poll_timeout().unwrap();
    raft.tick(now);
    raft.step(now, peer(5), message(6, Kind::PreVoteReply { granted: true }));
    raft.step(now, peer(4), message(6, Kind::PreVoteReply { granted: true }));
    flush(&mut raft);
    raft.step(now, peer(5), message(6, Kind::VoteReply { granted: true }));
    assert_eq!(raft.status().role, "candidate");
    let configuration = members(&[2, 3, 4]);
    let meta = SnapshotMeta { position: position(7, 5), configuration, configuration_index: Index(6) };
    assert!(raft.install(&meta));
    raft.step(now, peer(4), message(6, Kind::VoteReply { granted: true }));
    flush(&mut raft);
    assert_eq!((raft.status().role, raft.log().last()), ("follower", position(7, 5)));
}

/// A snapshot stands for what is applied, which may be less than what is committed.
#[test]
fn a_snapshot_names_the_members_as_of_what_is_applied() {
    let mut raft = server(&[1, 2, 3]);
    let later = members(&[1, 2]);
    let entries = vec![entry(3, 5, Payload::Configuration(later.clone()))];
    let now = Instant::ZERO;
    raft.step(now, peer(2), message(5, Kind::Append { prev: position(2, 3), entries, commit: Index(3) }));
    raft.next_to_apply();
    raft.next_to_apply();
    let meta = raft.snapshot_meta();
    assert_eq!((meta.position, meta.configuration_index), (position(2, 3), Index(1)));
    assert_eq!(meta.configuration, members(&[1, 2, 3]));
    raft.next_to_apply();
    assert_eq!(raft.snapshot_meta().configuration, later);
}
