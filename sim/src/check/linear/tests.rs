//! Histories that are known to be good or bad. A checker that never failed is not known to work.

use std::sync::Arc;

use lictor_core::api::kv::Entry;
use lictor_core::api::{Read, ReadMeta, ReadOptions};

use super::*;
use crate::history::value_of;

const KEY: Bytes = Bytes::from_static(b"k");

/// A history under construction. Operations are numbered as they are added; times are in milliseconds.
#[derive(Default)]
struct History(Vec<Op>);

impl History {
    fn add(&mut self, request: Request, from: u64, end: Option<(u64, Outcome)>) -> OpId {
        let end = end.map(|(at, outcome)| (Instant::from_millis(at), outcome));
        let invoked = Instant::from_millis(from);
        self.0.push(Op { client: 0, host: 0, life: 1, request, invoked, fed: None, floor: Index(0), end });
        self.0.len() - 1
    }

    fn put(&mut self, mode: PutMode, from: u64, end: Option<(u64, bool)>) -> OpId {
        let value = value_of(self.0.len(), 8);
        let end = match end {
            Some((at, done)) => Some((at, Outcome::Answer(Response::Done(done)))),
            None => Some((from + 1, Outcome::Unknown("lost"))),
        };
        self.add(Request::Put { key: KEY, value, flags: 0, mode }, from, end)
    }

    fn set(&mut self, from: u64, to: u64) -> OpId {
        self.put(PutMode::Set, from, Some((to, true)))
    }

    fn delete(&mut self, from: u64, to: u64) {
        let end = Some((to, Outcome::Answer(Response::Done(true))));
        self.add(Request::Delete { key: KEY, cas: None }, from, end);
    }

    /// A read that finds what an operation wrote, with its create and modify index, or nothing.
    fn get(&mut self, found: Option<(OpId, u64, u64)>, from: u64, to: u64) {
        let entry = found.map(|(writer, created, modified)| {
            Arc::new(Entry {
                key: KEY,
                value: value_of(writer, 8),
                flags: 0,
                create_index: Index(created),
                modify_index: Index(modified),
                lock_index: 0,
                session: None,
            })
        });
        let read = Read { meta: ReadMeta::default(), value: entry.into_iter().collect() };
        let request = Request::Get { key: KEY, read: ReadOptions::default() };
        self.add(request, from, Some((to, Outcome::Answer(Response::KvEntries(read)))));
    }

    fn is_good(&self) -> bool {
        match check(&self.0) {
            Finding::Linearizable => true,
            Finding::Violated(_) => false,
            Finding::Undecided => panic!("such a small history can be decided"),
        }
    }
}

#[test]
fn a_read_after_a_write_finds_it() {
    let mut history = History::default();
    let write = history.set(0, 10);
    history.get(Some((write, 5, 5)), 11, 12);
    assert!(history.is_good());
    history.get(None, 13, 14);
    assert!(!history.is_good(), "an acknowledged write was lost");
}

#[test]
fn a_read_beside_a_write_finds_it_or_not_but_never_goes_back() {
    let mut history = History::default();
    let first = history.set(0, 10);
    let second = history.set(20, 40);
    history.get(Some((first, 5, 5)), 22, 24);
    history.get(Some((second, 5, 7)), 25, 30);
    assert!(history.is_good());
    history.get(Some((first, 5, 5)), 31, 33);
    assert!(!history.is_good(), "a later read finds an older value");
}

#[test]
fn a_stale_answer_to_a_default_read_is_found() {
    let mut history = History::default();
    let first = history.set(0, 10);
    history.set(20, 30);
    history.get(Some((first, 5, 5)), 31, 33);
    assert!(!history.is_good());
}

#[test]
fn a_write_of_unknown_outcome_may_take_place_late_or_never_but_not_twice() {
    let mut history = History::default();
    let lost = history.put(PutMode::Set, 0, None);
    let other = history.set(10, 20);
    history.get(Some((other, 5, 5)), 21, 22);
    assert!(history.is_good());
    history.get(Some((lost, 5, 9)), 100, 101);
    assert!(history.is_good());
    history.get(Some((other, 5, 5)), 102, 103);
    assert!(!history.is_good());
}

#[test]
fn a_refused_write_never_takes_place() {
    let mut history = History::default();
    let refused = history.set(0, 10);
    history.0[refused].end = Some((Instant::from_millis(10), Outcome::Refused(lictor_core::api::Error::NoLeader)));
    assert!(history.is_good());
    history.get(Some((refused, 5, 5)), 20, 21);
    assert!(!history.is_good());
}

#[test]
fn of_two_with_the_same_cas_one_wins() {
    let mut history = History::default();
    let first = history.set(0, 10);
    history.get(Some((first, 5, 5)), 11, 12);
    history.put(PutMode::Cas(Index(5)), 20, Some((30, true)));
    history.put(PutMode::Cas(Index(5)), 20, Some((30, false)));
    assert!(history.is_good());
    history.put(PutMode::Cas(Index(5)), 20, Some((30, true)));
    assert!(!history.is_good());
}

#[test]
fn a_cas_is_not_refused_without_reason() {
    let mut history = History::default();
    let first = history.set(0, 10);
    history.get(Some((first, 5, 5)), 11, 12);
    history.put(PutMode::Cas(Index(5)), 20, Some((30, false)));
    assert!(!history.is_good());
    let mut history = History::default();
    history.put(PutMode::Cas(Index(0)), 20, Some((30, false)));
    assert!(!history.is_good());
}

#[test]
fn a_delete_takes_the_value_away_and_the_create_index_starts_anew() {
    let mut history = History::default();
    let first = history.set(0, 10);
    history.get(Some((first, 5, 5)), 11, 12);
    history.delete(20, 30);
    history.get(None, 31, 32);
    let second = history.set(40, 50);
    history.get(Some((second, 9, 9)), 51, 52);
    assert!(history.is_good());
    let third = history.set(60, 70);
    history.get(Some((third, 5, 11)), 71, 72);
    assert!(!history.is_good(), "the key that was created at 5 is gone");
}

#[test]
fn indexes_order_the_writes() {
    let mut history = History::default();
    let first = history.set(0, 10);
    let second = history.set(20, 30);
    history.get(Some((second, 3, 5)), 31, 32);
    assert!(history.is_good(), "nobody was told the index of the first");
    history.get(Some((first, 3, 9)), 0, 40);
    assert!(!history.is_good(), "the first write has the later index");
}

#[test]
fn a_value_that_nobody_wrote_there_is_found() {
    let mut history = History::default();
    history.get(Some((7, 5, 5)), 0, 10);
    assert!(!history.is_good());
}

/// Against a search that tries all orders: random small histories, as they come from a single copy and from one
/// that is sometimes wrong.
#[test]
fn the_search_agrees_with_trying_all_orders() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..3_000 {
        let history = random_history(seed);
        let expected = some_order_fits(&history.0);
        // The search lets an unread write of unknown outcome take place more than once.
        let is_wild = |op: &Op| matches!((&op.request, &op.end), (Request::Put { .. }, Some((_, Outcome::Unknown(_)))));
        let same = history.is_good() == expected || !expected && history.0.iter().any(is_wild);
        assert!(same, "seed {seed}, expected {expected}: {:#?}", history.0);
        if expected { good += 1 } else { bad += 1 }
    }
    assert!(good > 300 && bad > 300, "good {good}, bad {bad}");
}

fn random_history(seed: u64) -> History {
    let mut dice = lictor_core::rng::Rng::seeded(seed);
    let mut history = History::default();
    let mut writes: Vec<OpId> = Vec::new();
    for _ in 0..3 + dice.below(4) {
        let from = dice.below(40);
        let to = from + 1 + dice.below(20);
        match dice.below(6) {
            0 | 1 => writes.push(history.set(from, to)),
            2 => writes.push(history.put(PutMode::Set, from, None)),
            3 => history.delete(from, to),
            _ => {
                // Every other write that is read created its key.
                let at = dice.below(writes.len() as u64 + 1) as usize;
                let told = |writer: &OpId| {
                    (*writer, if writer.is_multiple_of(2) { 100 + *writer as u64 } else { 1 }, 100 + *writer as u64)
                };
                history.get(writes.get(at).map(told), from, to);
            }
        }
    }
    history
}

/// Tries all orders, with the same rules as the search and none of its short cuts.
fn some_order_fits(history: &[Op]) -> bool {
    let told = indexes(history, &KEY).expect("random histories read what was written");
    let steps: Vec<Step> = history.iter().enumerate().filter_map(|(id, op)| step(id, op, &KEY)).collect();
    let start = Situation { state: State::Absent, created: None, modified: Index(0), taken: 0, wiped: 0 };
    let search = Search {
        told: &told,
        steps: &steps,
        slots: Vec::new(),
        situations: Vec::new(),
        wild_puts: false,
        wild_deletes: 0,
    };
    fits(&search, start, 0)
}

fn fits(search: &Search<'_>, from: Situation, used: u32) -> bool {
    let steps = search.steps;
    let open = |n: &usize| used & (1 << n) == 0;
    let rest: Vec<usize> = (0..steps.len()).filter(open).collect();
    if rest.iter().all(|n| steps[*n].end == Instant::NEVER) {
        return true;
    }
    rest.iter().any(|n| {
        let step = &steps[*n];
        // Nothing that was over before this began may still be waiting for its place.
        if rest.iter().any(|other| steps[*other].end < step.start) {
            return false;
        }
        let next = match step.act {
            Act::Read(None) => (from.state == State::Absent).then_some(from),
            Act::Read(Some(writer)) => (from.state == State::Written(writer)).then_some(from),
            _ => search.after(from, step),
        };
        next.is_some_and(|next| fits(search, next, used | 1 << n))
    })
}
