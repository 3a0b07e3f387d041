//! Small lies of a server, each of which must be noticed.

use lictor_core::id::PeerId;
use lictor_core::raft::{Configuration, Entry, Message, Payload};

use super::*;
use crate::host::{address, peer};

/// A log behind a base, with the members that its owner acts on if that is to be checked.
struct Of<'a>(Position, &'a [Entry], Option<(Index, Configuration)>);

impl ReadLog for Of<'_> {
    fn base(&self) -> Position {
        self.0
    }

    fn entry(&self, index: Index) -> Option<&Entry> {
        self.1.get(usize::try_from(index.0.checked_sub(self.0.index.0 + 1)?).ok()?)
    }

    fn members(&self) -> Option<(Index, &Configuration)> {
        self.2.as_ref().map(|(at, members)| (*at, members))
    }
}

fn of(entries: &[Entry]) -> Of<'_> {
    Of(Position::START, entries, None)
}

fn at(index: u64, term: u64) -> Position {
    Position { index: Index(index), term: Term(term) }
}

fn members(of: impl IntoIterator<Item = usize>) -> Configuration {
    Configuration::new(of.into_iter().map(|n| (peer(n), address(n, 0))))
}

fn naming(index: u64, term: u64, of: impl IntoIterator<Item = usize>) -> Entry {
    Entry { index: Index(index), term: Term(term), payload: Payload::Configuration(members(of)) }
}

fn entry(index: u64, term: u64, text: &'static str) -> Entry {
    let payload = Payload::Command(bytes::Bytes::from_static(text.as_bytes()));
    Entry { index: Index(index), term: Term(term), payload }
}

/// A log that begins by naming three members, with commands of these terms behind.
fn log(terms: &[u64]) -> Vec<Entry> {
    let commands = (2..).zip(terms).map(|(index, term)| entry(index, *term, "x"));
    std::iter::once(naming(1, 1, 0..3)).chain(commands).collect()
}

fn status(role: &'static str, term: u64, commit: u64, log: &[Entry]) -> Status {
    let last = log.last().map_or(Position::START, Entry::position);
    let (commit, durable) = (Index(commit), last.index);
    Status { role, term: Term(term), vote: None, leader: None, commit, applied: commit, last, durable }
}

fn envelope(from: usize, to: PeerId, term: u64, kind: Kind) -> Envelope {
    let body = Body::Raft(Message { term: Term(term), kind });
    Envelope { from: peer(from), to, address: address(from, 0), cluster: 0, body }
}

fn vote(term: u64, to: usize) -> Envelope {
    envelope(0, peer(to), term, Kind::VoteReply { granted: true })
}

fn kept(term: u64, entries: &[Entry]) -> Kept {
    Kept { term: Term(term), base: Position::START, entries: entries.to_vec() }
}

/// All that a server has so far is on its disk.
fn persist(watcher: &mut Watcher, server: usize, seq: u64) {
    watcher.writing(server, WriteSeq(seq));
    watcher.wrote(server, WriteSeq(seq));
}

/// Three servers with nothing but the first entry in their logs.
fn three() -> Watcher {
    let mut watcher = Watcher::new(3);
    let log = log(&[]);
    for server in 0..3 {
        watcher.started(server, &status("follower", 1, 0, &log), &of(&log)).unwrap();
        persist(&mut watcher, server, 1);
    }
    watcher
}

/// Three servers, the first of which leads term 2 with three committed entries that the second has, too.
fn led() -> Watcher {
    let mut watcher = three();
    watcher.voted(0, 0, Term(2)).unwrap();
    watcher.voted(1, 0, Term(2)).unwrap();
    let log = log(&[2, 2]);
    watcher.stepped(1, &status("follower", 2, 0, &log), &of(&log)).unwrap();
    watcher.stepped(0, &status("leader", 2, 0, &log), &of(&log)).unwrap();
    persist(&mut watcher, 0, 2);
    persist(&mut watcher, 1, 2);
    assert_eq!(watcher.stepped(0, &status("leader", 2, 3, &log), &of(&log)).unwrap(), 1..4);
    watcher
}

fn says(verdict: Result<impl std::fmt::Debug, String>, word: &str) {
    let why = verdict.expect_err("this must be noticed");
    assert!(why.contains(word), "{why}");
}

#[test]
fn honest_servers_are_left_in_peace() {
    let mut watcher = led();
    let log = log(&[2, 2]);
    assert_eq!(watcher.stepped(1, &status("follower", 2, 3, &log), &of(&log)).unwrap(), 4..4);
    assert_eq!(watcher.leader(), Some(0));
    assert_eq!(watcher.commit(), Index(3));
    assert_eq!((watcher.members(), watcher.members_index()), (Some(&members(0..3)), Index(1)));
}

#[test]
fn a_second_vote_in_a_term_is_noticed_also_across_a_crash() {
    let mut watcher = three();
    watcher.sent(0, &vote(2, 1)).unwrap();
    watcher.sent(0, &vote(2, 1)).unwrap();
    let log = log(&[]);
    watcher.stopped(0, &kept(2, &log)).unwrap();
    watcher.started(0, &status("follower", 2, 0, &log), &of(&log)).unwrap();
    says(watcher.sent(0, &vote(2, 2)), "voted for both 1 and 2");
}

#[test]
fn a_forgotten_vote_is_noticed() {
    let mut watcher = three();
    watcher.sent(0, &vote(3, 1)).unwrap();
    says(watcher.stopped(0, &kept(2, &log(&[]))), "lost a promise");
}

#[test]
fn two_leaders_of_a_term_and_leaders_without_votes_are_noticed() {
    let mut watcher = led();
    let log = log(&[2, 2]);
    says(watcher.stepped(1, &status("leader", 2, 0, &log), &of(&log)), "both lead term 2");
    let mut watcher = three();
    says(watcher.stepped(0, &status("leader", 2, 0, &log), &of(&log)), "0 votes where 2");
}

#[test]
fn a_vote_of_one_who_has_none_is_noticed() {
    let mut watcher = three();
    watcher.join();
    watcher.voted(0, 0, Term(2)).unwrap();
    watcher.voted(3, 0, Term(2)).unwrap();
    let log = log(&[]);
    says(watcher.stepped(0, &status("leader", 2, 0, &log), &of(&log)), "1 votes where 2");
}

#[test]
fn a_leader_that_lacks_what_is_committed_is_noticed() {
    let mut watcher = led();
    watcher.voted(2, 2, Term(3)).unwrap();
    watcher.voted(1, 2, Term(3)).unwrap();
    let log = log(&[2]);
    says(watcher.stepped(2, &status("leader", 3, 0, &log), &of(&log)), "leader completeness");
}

#[test]
fn a_leader_that_rewrites_its_log_is_noticed() {
    let mut watcher = led();
    let log = log(&[2]);
    says(watcher.stepped(0, &status("leader", 2, 3, &log), &of(&log)), "cut its own log");
}

#[test]
fn different_entries_with_one_position_are_noticed() {
    let mut watcher = led();
    let mut other = log(&[2, 2]);
    other[2] = entry(3, 2, "y");
    says(watcher.stepped(2, &status("follower", 2, 0, &other), &of(&other)), "log matching");
}

#[test]
fn different_committed_entries_are_noticed() {
    let mut watcher = led();
    let other = log(&[2, 3]);
    says(watcher.stepped(2, &status("follower", 3, 3, &other), &of(&other)), "state machine safety");
}

#[test]
fn a_commit_by_counting_an_old_entry_is_noticed() {
    let mut watcher = three();
    let log = log(&[2, 2]);
    watcher.stepped(1, &status("follower", 3, 0, &log), &of(&log)).unwrap();
    watcher.voted(0, 0, Term(3)).unwrap();
    watcher.voted(1, 0, Term(3)).unwrap();
    watcher.stepped(0, &status("leader", 3, 0, &log), &of(&log)).unwrap();
    says(watcher.stepped(0, &status("leader", 3, 3, &log), &of(&log)), "by counting");
}

#[test]
fn a_commit_before_the_disks_of_a_majority_of_voters_is_noticed() {
    let mut watcher = three();
    // One more, which has no vote, has it all on its disk.
    watcher.join();
    watcher.voted(0, 0, Term(2)).unwrap();
    watcher.voted(1, 0, Term(2)).unwrap();
    let log = log(&[2]);
    for server in [0, 1, 3] {
        let role = if server == 0 { "leader" } else { "follower" };
        watcher.stepped(server, &status(role, 2, 0, &log), &of(&log)).unwrap();
    }
    persist(&mut watcher, 0, 2);
    persist(&mut watcher, 3, 2);
    says(watcher.stepped(0, &status("leader", 2, 2, &log), &of(&log)), "on the disks of 1 of");
}

#[test]
fn a_committed_entry_that_a_crash_took_from_the_majority_is_noticed() {
    let mut watcher = led();
    says(watcher.stopped(1, &kept(2, &log(&[2]))), "durability");
}

#[test]
fn a_lost_disk_binds_nobody_and_two_of_three_are_too_many() {
    let mut watcher = led();
    watcher.lose(0).unwrap();
    // The second still has it, and without its vote nobody is elected.
    let log = log(&[2, 2]);
    watcher.stopped(1, &kept(2, &log)).unwrap();
    says(watcher.stopped(1, &kept(2, &log[..2])), "durability");
}

#[test]
fn a_confirmation_before_the_disk_is_noticed() {
    let mut watcher = three();
    let log = log(&[2, 2]);
    watcher.stepped(1, &status("follower", 2, 0, &log), &of(&log)).unwrap();
    watcher.writing(1, WriteSeq(2));
    let confirmed = envelope(1, peer(0), 2, Kind::Appended { matched: Index(3) });
    says(watcher.sent(1, &confirmed), "its disk has them up to 1");
    watcher.wrote(1, WriteSeq(2));
    watcher.sent(1, &confirmed).unwrap();
}

#[test]
fn what_goes_back_is_noticed() {
    let mut watcher = led();
    let log = log(&[2, 2]);
    says(watcher.stepped(0, &status("leader", 2, 2, &log), &of(&log)), "commit index of server 0 went back");
    says(watcher.stepped(0, &status("follower", 0, 3, &log), &of(&log)), "term of server 0 went back");
}

#[test]
fn logs_that_differ_at_the_end_are_noticed() {
    let watcher = led();
    says(watcher.all_agree(), "differ");
}

#[test]
fn a_log_behind_a_snapshot_is_followed() {
    let mut watcher = led();
    let log = log(&[2, 2]);
    // Its own snapshot: what is behind stays.
    watcher.stepped(0, &status("leader", 2, 3, &log), &Of(at(2, 2), &log[2..], None)).unwrap();
    assert_eq!((watcher.compactions, watcher.installs), (1, 0));
    // One from elsewhere, in the place of a shorter log.
    let at_end = Status { last: at(3, 2), ..status("follower", 2, 3, &[]) };
    watcher.stepped(2, &at_end, &Of(at(3, 2), &[], Some((Index(1), members(0..3))))).unwrap();
    assert_eq!((watcher.compactions, watcher.installs), (1, 1));
    let kept = Kept { term: Term(2), base: at(3, 2), entries: Vec::new() };
    watcher.stopped(2, &kept).unwrap();
    watcher.started(2, &at_end, &Of(at(3, 2), &[], None)).unwrap();
    watcher.all_agree().unwrap_err();
}

#[test]
fn a_snapshot_of_what_is_not_committed_or_of_another_history_is_noticed() {
    let too_far = Of(at(4, 2), &[], None);
    says(led().stepped(2, &Status { last: at(4, 2), ..status("follower", 2, 4, &[]) }, &too_far), "no more than 3");
    let other = Of(at(3, 1), &[], None);
    says(led().stepped(2, &Status { last: at(3, 1), ..status("follower", 2, 3, &[]) }, &other), "is of term 2");
    says(led().stopped(2, &Kept { term: Term(2), base: at(3, 1), entries: Vec::new() }), "is of term 2");
}

#[test]
fn an_old_snapshot_over_newer_state_is_noticed() {
    let mut watcher = led();
    let log = log(&[2, 2]);
    watcher.stepped(1, &status("follower", 2, 3, &log), &Of(at(3, 2), &[], None)).unwrap();
    let back = Of(at(2, 2), &log[2..], None);
    says(watcher.stepped(1, &status("follower", 2, 3, &log), &back), "began behind 3 and now begins behind 2");
}

#[test]
fn a_server_that_forgets_the_members_of_its_snapshot_is_noticed() {
    let mut watcher = led();
    let at_end = Status { last: at(3, 2), ..status("follower", 2, 3, &[]) };
    let forgets = Of(at(3, 2), &[], Some((Index(0), members([]))));
    says(watcher.stepped(2, &at_end, &forgets), "acts on the members of entry 0");
}

/// The leader of [`led`] changes the members by this entry, with so much committed.
fn changes(watcher: &mut Watcher, by: Entry, commit: u64) -> Result<std::ops::Range<u64>, String> {
    let mut log = log(&[2, 2]);
    log.push(by);
    watcher.stepped(0, &status("leader", 2, commit, &log), &of(&log))
}

#[test]
fn changes_of_the_members_go_one_vote_at_a_time() {
    changes(&mut led(), naming(4, 2, 0..4), 3).unwrap();
    changes(&mut led(), naming(4, 2, 0..2), 3).unwrap();
    says(changes(&mut led(), naming(4, 2, 0..5), 3), "changes 2 votes at once");
    says(changes(&mut led(), naming(4, 2, [0, 1, 3]), 3), "changes 2 votes at once");
    says(changes(&mut led(), naming(4, 2, []), 3), "nobody has a vote");
}

#[test]
fn a_change_before_the_one_before_is_committed_is_noticed() {
    let mut watcher = led();
    let mut log = log(&[2, 2]);
    log.push(naming(4, 2, 0..4));
    watcher.stepped(0, &status("leader", 2, 3, &log), &of(&log)).unwrap();
    log.push(naming(5, 2, 0..5));
    says(watcher.stepped(0, &status("leader", 2, 3, &log), &of(&log)), "before the change of entry 4 is committed");
}

#[test]
fn a_change_before_anything_of_the_leaders_term_is_committed_is_noticed() {
    let mut watcher = led();
    let mut log = log(&[2, 2]);
    watcher.voted(0, 1, Term(3)).unwrap();
    watcher.voted(1, 1, Term(3)).unwrap();
    watcher.stepped(1, &status("leader", 3, 3, &log), &of(&log)).unwrap();
    log.push(naming(4, 3, 0..4));
    says(watcher.stepped(1, &status("leader", 3, 3, &log), &of(&log)), "before anything of its term is committed");
}
