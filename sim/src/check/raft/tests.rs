//! Small lies of a server, each of which must be noticed.

use lictor_core::id::PeerId;
use lictor_core::raft::{Configuration, Entry, Message, Payload};

use super::*;
use crate::host::{address, peer};

/// A log as it is, behind a base, with the members that its owner acts on if that is to be checked.
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

fn log(terms: &[u64]) -> Vec<Entry> {
    (1..).zip(terms).map(|(index, term)| entry(index, *term, "x")).collect()
}

fn status(role: &'static str, term: u64, commit: u64, log: &[Entry]) -> Status {
    let last = log.last().map_or(Position::START, Entry::position);
    let (commit, durable) = (Index(commit), last.index);
    Status { role, term: Term(term), vote: None, leader: None, commit, applied: commit, last, durable }
}

fn vote(term: u64, to: PeerId) -> Envelope {
    let message = Message { term: Term(term), kind: Kind::VoteReply { granted: true } };
    Envelope { from: peer(0), to, cluster: 0, body: Body::Raft(message) }
}

/// Three servers with nothing in their logs.
fn three() -> Watcher {
    let mut watcher = Watcher::new(3);
    for host in 0..3 {
        watcher.started(host, &status("follower", 0, 0, &[]), [].as_slice()).unwrap();
    }
    watcher
}

/// Three servers, the first of which leads term 1 with two committed entries that the second has, too.
fn led() -> Watcher {
    let mut watcher = three();
    watcher.sent(1, &vote(1, peer(0))).unwrap();
    watcher.voted(0, 0, Term(1)).unwrap();
    let log = log(&[1, 1]);
    watcher.stepped(1, &status("follower", 1, 0, &log), log.as_slice()).unwrap();
    watcher.stepped(0, &status("leader", 1, 0, &log), log.as_slice()).unwrap();
    assert_eq!(watcher.stepped(0, &status("leader", 1, 2, &log), log.as_slice()).unwrap(), 1..3);
    watcher
}

fn says(verdict: Result<impl std::fmt::Debug, String>, word: &str) {
    let why = verdict.expect_err("this must be noticed");
    assert!(why.contains(word), "{why}");
}

#[test]
fn honest_servers_are_left_in_peace() {
    let mut watcher = led();
    let log = log(&[1, 1]);
    assert_eq!(watcher.stepped(1, &status("follower", 1, 2, &log), log.as_slice()).unwrap(), 3..3);
    assert_eq!(watcher.leader(), Some(0));
    assert_eq!(watcher.commit(), Index(2));
}

#[test]
fn a_second_vote_in_a_term_is_noticed_also_across_a_crash() {
    let mut watcher = three();
    watcher.sent(0, &vote(1, peer(1))).unwrap();
    watcher.sent(0, &vote(1, peer(1))).unwrap();
    watcher.stopped(0, Term(1), &[]).unwrap();
    watcher.started(0, &status("follower", 1, 0, &[]), [].as_slice()).unwrap();
    says(watcher.sent(0, &vote(1, peer(2))), "voted for both 1 and 2");
}

#[test]
fn a_forgotten_vote_is_noticed() {
    let mut watcher = three();
    watcher.sent(0, &vote(3, peer(1))).unwrap();
    says(watcher.stopped(0, Term(2), &[]), "lost a promise");
}

#[test]
fn two_leaders_of_a_term_and_leaders_without_votes_are_noticed() {
    let mut watcher = led();
    let log = log(&[1, 1]);
    says(watcher.stepped(1, &status("leader", 1, 0, &log), log.as_slice()), "both lead term 1");
    let mut watcher = three();
    says(watcher.stepped(0, &status("leader", 1, 0, &[]), [].as_slice()), "0 votes where 2");
}

#[test]
fn a_leader_that_lacks_what_is_committed_is_noticed() {
    let mut watcher = led();
    watcher.voted(2, 2, Term(2)).unwrap();
    watcher.voted(1, 2, Term(2)).unwrap();
    let log = log(&[1]);
    says(watcher.stepped(2, &status("leader", 2, 0, &log), log.as_slice()), "leader completeness");
}

#[test]
fn a_leader_that_rewrites_its_log_is_noticed() {
    let mut watcher = led();
    let log = log(&[1]);
    says(watcher.stepped(0, &status("leader", 1, 2, &log), log.as_slice()), "cut its own log");
}

#[test]
fn different_entries_with_one_position_are_noticed() {
    let mut watcher = led();
    let other = [entry(1, 1, "x"), entry(2, 1, "y")];
    says(watcher.stepped(2, &status("follower", 1, 0, &other), other.as_slice()), "log matching");
}

#[test]
fn different_committed_entries_are_noticed() {
    let mut watcher = led();
    let other = [entry(1, 1, "x"), entry(2, 2, "y")];
    says(watcher.stepped(2, &status("follower", 2, 2, &other), other.as_slice()), "state machine safety");
}

#[test]
fn a_commit_by_counting_an_old_entry_is_noticed() {
    let mut watcher = three();
    let log = log(&[1, 1]);
    watcher.stepped(1, &status("follower", 2, 0, &log), log.as_slice()).unwrap();
    watcher.voted(0, 0, Term(2)).unwrap();
    watcher.voted(1, 0, Term(2)).unwrap();
    watcher.stepped(0, &status("leader", 2, 0, &log), log.as_slice()).unwrap();
    says(watcher.stepped(0, &status("leader", 2, 2, &log), log.as_slice()), "by counting");
}

#[test]
fn a_committed_entry_that_a_crash_took_from_the_majority_is_noticed() {
    let mut watcher = led();
    says(watcher.stopped(1, Term(1), &log(&[1])), "durability");
}

#[test]
fn a_confirmation_before_the_disk_is_noticed() {
    let mut watcher = three();
    let log = log(&[1, 1]);
    watcher.stepped(1, &status("follower", 1, 0, &log), log.as_slice()).unwrap();
    watcher.writing(1, WriteSeq(1));
    let message = Message { term: Term(1), kind: Kind::Appended { matched: Index(2) } };
    let confirmed = Envelope { from: peer(1), to: peer(0), cluster: 0, body: Body::Raft(message) };
    says(watcher.sent(1, &confirmed), "its disk has them up to 0");
    watcher.wrote(1, WriteSeq(1));
    watcher.sent(1, &confirmed).unwrap();
}

#[test]
fn what_goes_back_is_noticed() {
    let mut watcher = led();
    let log = log(&[1, 1]);
    says(watcher.stepped(0, &status("leader", 1, 1, &log), log.as_slice()), "commit index of server 0 went back");
    says(watcher.stepped(0, &status("follower", 0, 2, &log), log.as_slice()), "term of server 0 went back");
}

#[test]
fn logs_that_differ_at_the_end_are_noticed() {
    let watcher = led();
    says(watcher.all_agree(), "differ");
}
