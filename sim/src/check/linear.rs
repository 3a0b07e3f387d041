//! Linearizability of each key, from the clients' histories alone: is there an order of all writes and all
//! default and consistent reads, each at some point between its beginning and its end, in which every answer
//! is right?
//!
//! The search walks through the beginnings and ends of operations in the order of time, with the set of all
//! situations that could have been reached (Wing and Gong, as Lowe made it practical: an operation is put in
//! order at the latest when it ends). Four things keep the set small:
//!
//! - Values are unique, and a read tells its value's create and modify index. Writes take place in the order of
//!   their modify indexes, and a created key was absent before.
//! - What changes nothing (a read, a refused `?cas`) is put in order as soon as it fits: waiting never helps it.
//! - A write of unknown outcome whose value nobody ever read is as good as any other of its kind.
//! - The same goes for deletes of unknown outcome.
//!
//! Keys are independent of each other, so each is searched alone; an answer about several keys counts for each. Keys that are
//! locked are left to others, `model.rs` and `lock.rs`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lictor_core::api::kv::{PutMode, Request};
use lictor_core::api::{Consistency, Response};
use lictor_core::id::Index;
use lictor_core::time::Instant;

use crate::history::{Op, OpId, Outcome, describe, describe_outcome, entries_of, read_options, writer_of};
use crate::plan::LOCKS;

/// More situations than this, and the search gives up.
const MOST_SITUATIONS: usize = 50_000;

/// What a search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// There is such an order.
    Linearizable,
    /// There is none; why is told.
    Violated(String),
    /// Too many operations were open at once to say.
    Undecided,
}

/// What an operation does to one key, or says about it.
#[derive(Clone, Copy, Debug)]
enum Act {
    Put { expected: Option<Index> },
    Delete { expected: Option<Index> },
    Read(Option<OpId>),
}

#[derive(Clone, Copy, Debug)]
struct Step {
    op: OpId,
    act: Act,
    /// Of a write, whether it took place.
    done: Option<bool>,
    start: Instant,
    /// [`Instant::NEVER`] if nobody knows.
    end: Instant,
}

/// What the key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Absent,
    /// What this operation wrote.
    Written(OpId),
    /// Something that nobody ever reads.
    Unread,
}

/// How far a possible order has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Situation {
    state: State,
    /// The key's create index, if any read tells it.
    created: Option<Index>,
    /// The highest modify index so far that any read tells.
    modified: Index,
    /// The open operations that have taken place, by their slots.
    taken: u128,
    /// How many deletes of unknown outcome have taken place.
    wiped: u32,
}

/// Checks a history.
pub(crate) fn check(history: &[Op]) -> Finding {
    let mut keys: BTreeSet<Bytes> = BTreeSet::new();
    for op in history {
        match &op.request {
            Request::Put { key, .. } | Request::Delete { key, .. } | Request::Get { key, .. } => {
                keys.insert(key.clone());
            }
            _ => {}
        }
    }
    // What is locked also changes when sessions end, which no history tells.
    keys.retain(|key| !LOCKS.iter().any(|lock| lock.as_bytes() == &key[..]));
    let mut undecided = false;
    for key in &keys {
        match check_key(history, key) {
            Finding::Linearizable => {}
            Finding::Undecided => undecided = true,
            violated @ Finding::Violated(_) => return violated,
        }
    }
    if undecided { Finding::Undecided } else { Finding::Linearizable }
}

fn check_key(history: &[Op], key: &Bytes) -> Finding {
    let told = match indexes(history, key) {
        Ok(told) => told,
        Err(why) => return Finding::Violated(why),
    };
    let steps: Vec<Step> = history.iter().enumerate().filter_map(|(id, op)| step(id, op, key)).collect();
    let mut search = Search {
        told: &told,
        steps: &steps,
        slots: Vec::new(),
        situations: vec![Situation { state: State::Absent, created: None, modified: Index(0), taken: 0, wiped: 0 }],
        wild_puts: false,
        wild_deletes: 0,
    };
    match search.run() {
        Ok(()) => Finding::Linearizable,
        Err(Stuck::TooMany) => Finding::Undecided,
        Err(Stuck::At(op)) => Finding::Violated(explain(history, key, &steps, op)),
    }
}

/// Each value's create and modify index, as reads of any kind tell them.
fn indexes(history: &[Op], key: &Bytes) -> Result<BTreeMap<OpId, (Index, Index)>, String> {
    let mut told: BTreeMap<OpId, (Index, Index)> = BTreeMap::new();
    for (id, op) in history.iter().enumerate() {
        let Some((_, Outcome::Answer(response))) = &op.end else { continue };
        for entry in entries_of(response).into_iter().flatten().filter(|entry| entry.key == *key) {
            let key = String::from_utf8_lossy(key);
            let writer = writer_of(&entry.value).filter(|writer| *writer < history.len());
            let Some(writer) = writer else {
                return Err(format!("#{id} read a value of key {key:?} that nobody wrote: {:?}", entry.value));
            };
            if !matches!(&history[writer].request, Request::Put { value, key: own, .. } if *value == entry.value && *own == entry.key)
            {
                return Err(format!("#{id} read a value of key {key:?} that #{writer} did not write there"));
            }
            let indexes = (entry.create_index, entry.modify_index);
            if *told.entry(writer).or_insert(indexes) != indexes {
                let other = told[&writer];
                return Err(format!(
                    "key {key:?} = #{writer} was read with indexes {other:?} and, by #{id}, {indexes:?}"
                ));
            }
        }
    }
    Ok(told)
}

/// What an operation means for a key; `None` if nothing.
fn step(id: OpId, op: &Op, key: &Bytes) -> Option<Step> {
    if !op.concerns(key) {
        return None;
    }
    let answered = match &op.end {
        Some((at, Outcome::Answer(response))) => Some((*at, response)),
        Some((_, Outcome::Refused(_))) => return None,
        Some((_, Outcome::Unknown(_))) | None => None,
    };
    let done = answered.map(|(_, response)| *response == Response::Done(true));
    let act = match &op.request {
        Request::Put { mode: PutMode::Cas(expected), .. } => Act::Put { expected: Some(*expected) },
        Request::Put { .. } => Act::Put { expected: None },
        Request::Delete { cas, .. } => Act::Delete { expected: *cas },
        Request::DeleteTree { .. } => Act::Delete { expected: None },
        Request::Get { .. } | Request::List { .. } | Request::Keys { .. } => {
            if read_options(&op.request)?.consistency == Consistency::Stale {
                return None;
            }
            let entries = entries_of(answered?.1)?;
            Act::Read(entries.iter().find(|entry| entry.key == *key).and_then(|entry| writer_of(&entry.value)))
        }
    };
    let end = answered.map_or(Instant::NEVER, |(at, _)| at);
    Some(Step { op: id, act, done, start: op.invoked, end })
}

/// Why a search ended early.
enum Stuck {
    /// This operation fits nowhere.
    At(OpId),
    TooMany,
}

struct Search<'a> {
    told: &'a BTreeMap<OpId, (Index, Index)>,
    steps: &'a [Step],
    /// Which step is open in which slot.
    slots: Vec<Option<usize>>,
    situations: Vec<Situation>,
    /// A put of unknown outcome has begun whose value is never read.
    wild_puts: bool,
    /// How many deletes of unknown outcome have begun.
    wild_deletes: u32,
}

impl Search<'_> {
    fn run(&mut self) -> Result<(), Stuck> {
        // At the same time beginnings come first: whether one thing was over before the other began is not
        // known then.
        let mut moments: Vec<(Instant, bool, usize)> = Vec::new();
        for (n, step) in self.steps.iter().enumerate() {
            moments.push((step.start, false, n));
            if step.end != Instant::NEVER {
                moments.push((step.end, true, n));
            }
        }
        moments.sort_unstable();
        for (_, is_end, step) in moments {
            if is_end { self.end(step)? } else { self.begin(step)? }
        }
        Ok(())
    }

    fn begin(&mut self, step: usize) -> Result<(), Stuck> {
        let Step { op, act, done, .. } = self.steps[step];
        match (act, done) {
            (Act::Put { .. }, None) if !self.told.contains_key(&op) => {
                self.wild_puts = true;
                return Ok(());
            }
            (Act::Delete { .. }, None) => {
                self.wild_deletes += 1;
                return Ok(());
            }
            _ => {}
        }
        let free = self.slots.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.slots.len());
        if slot >= 128 {
            return Err(Stuck::TooMany);
        }
        if free.is_none() {
            self.slots.push(None);
        }
        self.slots[slot] = Some(step);
        let mut situations = std::mem::take(&mut self.situations);
        for situation in &mut situations {
            self.take_what_changes_nothing(situation);
        }
        self.situations = situations;
        self.tidy()
    }

    fn end(&mut self, step: usize) -> Result<(), Stuck> {
        let slot = self.slots.iter().position(|open| *open == Some(step)).expect("what ends has begun");
        let bit = 1_u128 << slot;
        let mut seen: BTreeSet<Situation> = self.situations.iter().copied().collect();
        let mut open: Vec<Situation> = std::mem::take(&mut self.situations);
        let mut over = Vec::new();
        while let Some(situation) = open.pop() {
            if situation.taken & bit != 0 {
                over.push(Situation { taken: situation.taken & !bit, ..situation });
                continue;
            }
            self.next_situations(situation, |next| {
                if seen.insert(next) {
                    open.push(next);
                }
            });
            if seen.len() > MOST_SITUATIONS {
                return Err(Stuck::TooMany);
            }
        }
        self.slots[slot] = None;
        self.situations = over;
        self.tidy()?;
        if self.situations.is_empty() { Err(Stuck::At(self.steps[step].op)) } else { Ok(()) }
    }

    /// Of situations that differ only in how many unknown deletes they used, the thriftiest is enough.
    fn tidy(&mut self) -> Result<(), Stuck> {
        self.situations.sort_unstable();
        self.situations.dedup_by(|later, first| Situation { wiped: first.wiped, ..*later } == *first);
        if self.situations.len() > MOST_SITUATIONS { Err(Stuck::TooMany) } else { Ok(()) }
    }

    /// All situations that one more write leads to.
    fn next_situations(&self, from: Situation, mut found: impl FnMut(Situation)) {
        let mut add = |mut next: Situation| {
            self.take_what_changes_nothing(&mut next);
            found(next);
        };
        for (slot, step) in self.slots.iter().enumerate() {
            let Some(step) = step else { continue };
            if from.taken & (1 << slot) != 0 {
                continue;
            }
            if let Some(next) = self.after(from, &self.steps[*step]) {
                add(Situation { taken: from.taken | 1 << slot, ..next });
            }
        }
        if self.wild_puts && from.state != State::Unread {
            // It keeps the create index, or makes one that no read tells.
            let created = if from.state == State::Absent { None } else { from.created };
            add(Situation { state: State::Unread, created, ..from });
        }
        if from.wiped < self.wild_deletes && from.state != State::Absent {
            add(Situation { state: State::Absent, created: None, wiped: from.wiped + 1, ..from });
        }
    }

    /// The situation after a write, if the write could take place with this outcome.
    fn after(&self, from: Situation, step: &Step) -> Option<Situation> {
        match step.act {
            Act::Read(_) => None,
            _ if step.done == Some(false) => None,
            Act::Put { expected } => {
                if expected.is_some_and(|expected| !self.is_modified_at(from.state, expected)) {
                    return None;
                }
                let next = Situation { state: State::Written(step.op), ..from };
                match self.told.get(&step.op) {
                    Some((created, modified)) => {
                        let is_new = created == modified;
                        let was_absent = from.state == State::Absent;
                        let fits = is_new == was_absent && from.created.is_none_or(|known| known == *created);
                        let fits = fits && *modified > from.modified;
                        fits.then_some(Situation { created: Some(*created), modified: *modified, ..next })
                    }
                    None => Some(next),
                }
            }
            Act::Delete { expected } => {
                let takes_place = match expected {
                    None => true,
                    Some(expected) => from.state == State::Absent || self.is_modified_at(from.state, expected),
                };
                takes_place.then_some(Situation { state: State::Absent, created: None, ..from })
            }
        }
    }

    /// Reads, and writes that were refused, take place where they fit.
    fn take_what_changes_nothing(&self, situation: &mut Situation) {
        for (slot, step) in self.slots.iter().enumerate() {
            let Some(step) = step.map(|step| &self.steps[step]) else { continue };
            let fits = match (step.act, step.done) {
                (Act::Read(None), _) => situation.state == State::Absent,
                (Act::Read(Some(writer)), _) => situation.state == State::Written(writer),
                (Act::Put { expected }, Some(false)) => {
                    expected.is_some_and(|expected| !self.is_modified_at(situation.state, expected))
                }
                (Act::Delete { expected }, Some(false)) => {
                    situation.state != State::Absent
                        && expected.is_some_and(|expected| !self.is_modified_at(situation.state, expected))
                }
                _ => false,
            };
            if fits {
                situation.taken |= 1 << slot;
            }
        }
    }

    /// Whether the key was last written at this index; 0 means that it is absent. An index that a client gives
    /// was read before, so what nobody read has another.
    fn is_modified_at(&self, state: State, index: Index) -> bool {
        match state {
            State::Absent => index == Index(0),
            State::Written(writer) => self.told.get(&writer).is_some_and(|(_, modified)| *modified == index),
            State::Unread => false,
        }
    }
}

fn explain(history: &[Op], key: &Bytes, steps: &[Step], stuck: OpId) -> String {
    let at = steps.iter().find(|step| step.op == stuck).map_or(Instant::ZERO, |step| step.end);
    let mut near: Vec<&Step> = steps.iter().filter(|step| step.start <= at).collect();
    near.sort_by_key(|step| (step.start, step.op));
    let line = |step: &&Step| {
        let op = &history[step.op];
        let end = match &op.end {
            Some((at, outcome)) => format!("{at}: {}", describe_outcome(outcome)),
            None => "no answer".to_owned(),
        };
        format!(
            "    #{} client {} at server {}, {} {} -> {end}",
            step.op,
            op.client,
            op.host,
            op.invoked,
            describe(&op.request)
        )
    };
    let lines: Vec<String> = near.iter().rev().take(25).rev().map(line).collect();
    format!(
        "linearizability: no order of the operations on key {:?} explains #{stuck}; the last of them:\n{}",
        String::from_utf8_lossy(key),
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests;
