//! What is known of every node: what it has written into the store, what of it has been read, and what has been told.
//!
//! A listing of the keys says what there is. What is new in it is read, a limited number of pieces at a time, and told in order: the
//! acknowledgement, the output without gaps, the end. Listings repeat all that was there before; nothing is told twice. Pieces may also
//! come past the store; one that comes both ways is the same.
//!
//! Invariants: of a node's pieces, those below `told` have been told; each other one that was listed is either in `todo`, or
//! being read, or in `held`, where those are that came past the store, too. No more than [`WINDOW`] are being read.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::news::News;
use crate::api::exec::{Piece, Progress};
use crate::exec::layout::{Place, Track, decode_exit};
use crate::time::Instant;

/// How many keys are read at a time.
const WINDOW: usize = 16;
/// Nodes beyond these are not looked at: no cluster has as many.
const MOST_NODES: usize = 65_536;

/// A key that is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A piece of what the command wrote.
    Output { node: String, number: u32 },
    /// How it ended.
    Exit { node: String },
}

/// All nodes.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    all: BTreeMap<String, Node>,
    /// How many keys are being read.
    reading: usize,
    pub(super) acknowledged: usize,
    pub(super) completed: usize,
    /// Those that ended without success.
    pub(super) failed: usize,
}

/// A node that has written something.
#[derive(Debug)]
struct Node {
    acknowledged: bool,
    /// Pieces that were listed and are still to be read.
    todo: BTreeSet<u32>,
    /// Pieces that are being read.
    reading: BTreeSet<u32>,
    /// Pieces that wait for those before them.
    held: BTreeMap<u32, Bytes>,
    /// The next piece to be told.
    told: u32,
    /// The next one to come past the store, if any came.
    collected: Option<u32>,
    exit: Exit,
    /// When it was last heard of.
    heard: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Unknown,
    Listed,
    Reading,
    Known(i32),
    Told(i32),
}

impl Node {
    fn new(now: Instant) -> Self {
        Self {
            acknowledged: false,
            todo: BTreeSet::new(),
            reading: BTreeSet::new(),
            held: BTreeMap::new(),
            told: 0,
            collected: None,
            exit: Exit::Unknown,
            heard: now,
        }
    }

    fn has(&self, number: u32) -> bool {
        number < self.told
            || self.todo.contains(&number)
            || self.reading.contains(&number)
            || self.held.contains_key(&number)
    }

    /// Keeps a piece until it can be told, unless that has been done.
    fn hold(&mut self, number: u32, output: Bytes) {
        self.todo.remove(&number);
        if number >= self.told && !matches!(self.exit, Exit::Told(_)) {
            self.held.entry(number).or_insert(output);
        }
    }
}

impl Nodes {
    /// Takes a listing of the job's keys. Gives whether the job itself is among them, and what is new.
    pub(super) fn take_keys(&mut self, now: Instant, place: &Place, keys: &[Bytes]) -> (bool, Vec<News>) {
        let (mut has_job, mut news) = (false, Vec::new());
        for key in keys {
            let Some(track) = place.read(key) else { continue };
            let Some(name) = track.node() else {
                has_job = true;
                continue;
            };
            if !self.all.contains_key(name) && self.all.len() >= MOST_NODES {
                continue;
            }
            let node = self.all.entry(name.to_owned()).or_insert_with(|| Node::new(now));
            match track {
                Track::Job => {}
                Track::Ack { .. } if !node.acknowledged => {
                    node.acknowledged = true;
                    node.heard = now;
                    self.acknowledged += 1;
                    news.push(News::Acknowledged(name.to_owned()));
                }
                Track::Output { number, .. } if !node.has(number) && !matches!(node.exit, Exit::Told(_)) => {
                    node.todo.insert(number);
                    node.heard = now;
                }
                Track::Exit { .. } if node.exit == Exit::Unknown => {
                    node.exit = Exit::Listed;
                    node.heard = now;
                }
                Track::Ack { .. } | Track::Output { .. } | Track::Exit { .. } => {}
            }
        }
        (has_job, news)
    }

    /// What is to be read now; to be called until there is nothing.
    pub(super) fn next_to_read(&mut self) -> Option<Wanted> {
        if self.reading >= WINDOW {
            return None;
        }
        // Each node's pieces in turn: a talkative one does not hold up the others.
        let name = self.all.iter().filter(|(_, node)| !node.todo.is_empty()).min_by_key(|(_, node)| node.reading.len());
        if let Some((name, _)) = name {
            let name = name.clone();
            let node = self.all.get_mut(&name)?;
            let number = node.todo.pop_first()?;
            node.reading.insert(number);
            self.reading += 1;
            return Some(Wanted::Output { node: name, number });
        }
        let (name, node) = self.all.iter_mut().find(|(_, node)| node.exit == Exit::Listed)?;
        node.exit = Exit::Reading;
        self.reading += 1;
        Some(Wanted::Exit { node: name.clone() })
    }

    /// Whether nothing is being read or waits for that.
    pub(super) fn is_idle(&self) -> bool {
        self.reading == 0
    }

    /// Takes a key that was read. Gives what is to be told.
    pub(super) fn take(&mut self, now: Instant, wanted: &Wanted, value: &Bytes) -> Vec<News> {
        self.reading = self.reading.saturating_sub(1);
        let (Wanted::Output { node: name, .. } | Wanted::Exit { node: name }) = wanted;
        let Some(node) = self.all.get_mut(name) else { return Vec::new() };
        node.heard = now;
        match wanted {
            Wanted::Output { number, .. } => {
                node.reading.remove(number);
                node.hold(*number, value.clone());
            }
            Wanted::Exit { .. } => {
                // If it says anything else, it is no success.
                node.exit = Exit::Known(decode_exit(value).unwrap_or(crate::exec::layout::NOT_RUN));
            }
        }
        self.tell(name)
    }

    /// Takes a piece that came past the store. Gives what is to be told.
    pub(super) fn collect(&mut self, now: Instant, piece: Piece) -> Vec<News> {
        let Piece { node: name, number, output } = piece;
        if !self.all.contains_key(&name) && self.all.len() >= MOST_NODES {
            return Vec::new();
        }
        let node = self.all.entry(name.clone()).or_insert_with(|| Node::new(now));
        node.heard = now;
        node.collected = node.collected.max(Some(number.saturating_add(1)));
        node.hold(number, output);
        self.tell(&name)
    }

    /// How far those nodes are whose pieces come past the store: what has been told of them counts as taken.
    pub(super) fn progress(&self) -> BTreeMap<String, Progress> {
        let collected = self.all.iter().filter_map(|(name, node)| {
            let have = node.collected?;
            Some((name.clone(), Progress { taken: node.told, have: have.max(node.told) }))
        });
        collected.collect()
    }

    /// What can be told of a node by now.
    fn tell(&mut self, name: &str) -> Vec<News> {
        let Some(node) = self.all.get_mut(name) else { return Vec::new() };
        let mut news = Vec::new();
        let ended = matches!(node.exit, Exit::Known(_)) && node.todo.is_empty() && node.reading.is_empty();
        while let Some((number, output)) = node.held.pop_first() {
            // Who has ended writes no more: a gap stays one.
            if number != node.told && !ended {
                node.held.insert(number, output);
                break;
            }
            node.told = number.saturating_add(1);
            if !node.acknowledged {
                // It is known by its output before its keys have been listed.
                node.acknowledged = true;
                self.acknowledged += 1;
                news.push(News::Acknowledged(name.to_owned()));
            }
            news.push(match output.is_empty() {
                true => News::Heartbeat(name.to_owned()),
                false => News::Wrote { node: name.to_owned(), output },
            });
        }
        if let (Exit::Known(code), true) = (node.exit, ended) {
            node.exit = Exit::Told(code);
            self.completed += 1;
            self.failed += usize::from(code != 0);
            if !node.acknowledged {
                // It has no more to say, and counts all the same.
                node.acknowledged = true;
                self.acknowledged += 1;
                news.push(News::Acknowledged(name.to_owned()));
            }
            news.push(News::Ended { node: name.to_owned(), code });
        }
        news
    }

    /// How the command ended on a node, if that has been told.
    pub(super) fn ended(&self, name: &str) -> Option<i32> {
        self.all.get(name).and_then(|node| if let Exit::Told(code) = node.exit { Some(code) } else { None })
    }

    /// Whether a node has acknowledged the job.
    pub(super) fn has_acknowledged(&self, name: &str) -> bool {
        self.all.get(name).is_some_and(|node| node.acknowledged)
    }

    /// When a node was last heard of.
    pub(super) fn heard(&self, name: &str) -> Option<Instant> {
        self.all.get(name).map(|node| node.heard)
    }

    /// The nodes that have acknowledged the job and not told how it ended.
    pub(super) fn unfinished(&self) -> Vec<String> {
        let open = |node: &Node| node.acknowledged && !matches!(node.exit, Exit::Told(_));
        self.all.iter().filter(|(_, node)| open(node)).map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::id::SessionId;

    fn place() -> Place {
        Place::new("_rexec", SessionId(Uuid::from_u128(5)))
    }

    fn list(nodes: &mut Nodes, keys: &[Bytes]) -> Vec<News> {
        nodes.take_keys(Instant::ZERO, &place(), keys).1
    }

    fn read_all(nodes: &mut Nodes, value: impl Fn(&Wanted) -> Bytes) -> Vec<News> {
        let mut news = Vec::new();
        while let Some(wanted) = nodes.next_to_read() {
            news.extend(nodes.take(Instant::ZERO, &wanted, &value(&wanted)));
        }
        news
    }

    fn value(wanted: &Wanted) -> Bytes {
        match wanted {
            Wanted::Output { number, .. } => format!("{number}.").into(),
            Wanted::Exit { .. } => "3".into(),
        }
    }

    #[test]
    fn an_end_is_told_after_all_output() {
        let (mut nodes, at) = (Nodes::default(), place());
        let keys = [at.ack("a"), at.exit("a"), at.output("a", 0), at.output("a", 1)];
        assert_eq!(list(&mut nodes, &keys), [News::Acknowledged("a".into())]);
        let wrote = |output: &'static str| News::Wrote { node: "a".into(), output: output.into() };
        let news = read_all(&mut nodes, value);
        assert_eq!(news, [wrote("0."), wrote("1."), News::Ended { node: "a".into(), code: 3 }]);
        assert_eq!(list(&mut nodes, &keys), []);
        assert_eq!(nodes.next_to_read(), None, "nothing is told twice");
        assert_eq!((nodes.acknowledged, nodes.completed, nodes.failed), (1, 1, 1));
        assert_eq!(nodes.ended("a"), Some(3));
    }

    #[test]
    fn an_empty_piece_is_a_sign_of_life() {
        let (mut nodes, at) = (Nodes::default(), place());
        list(&mut nodes, &[at.ack("a"), at.output("a", 0)]);
        assert_eq!(read_all(&mut nodes, |_| Bytes::new()), [News::Heartbeat("a".into())]);
        assert_eq!(nodes.unfinished(), ["a"]);
    }

    #[test]
    fn a_gap_holds_up_what_follows_until_the_end() {
        let (mut nodes, at) = (Nodes::default(), place());
        list(&mut nodes, &[at.ack("a"), at.output("a", 1)]);
        assert_eq!(read_all(&mut nodes, value), []);
        list(&mut nodes, &[at.output("a", 0), at.output("a", 1)]);
        assert_eq!(read_all(&mut nodes, value).len(), 2);
        list(&mut nodes, &[at.output("a", 4), at.exit("a")]);
        let told = read_all(&mut nodes, value);
        assert_eq!(told.len(), 2, "{told:?}");
    }

    #[test]
    fn numbers_out_of_this_world_cost_nothing() {
        let (mut nodes, at) = (Nodes::default(), place());
        list(&mut nodes, &[at.output("a", u32::MAX), at.exit("a")]);
        assert_eq!(read_all(&mut nodes, value).len(), 3, "acknowledged, written, ended");
        list(&mut nodes, &[at.output("a", 7)]);
        assert_eq!(nodes.next_to_read(), None);
    }

    #[test]
    fn an_exit_that_is_no_number_is_no_success() {
        let (mut nodes, at) = (Nodes::default(), place());
        list(&mut nodes, &[at.ack("a"), at.exit("a")]);
        read_all(&mut nodes, |_| "zero".into());
        assert_eq!(nodes.ended("a"), Some(255));
    }

    #[test]
    fn a_piece_that_is_being_read_may_come_the_other_way_before() {
        let (mut nodes, at) = (Nodes::default(), place());
        list(&mut nodes, &[at.ack("a"), at.output("a", 0), at.output("a", 1)]);
        let (first, second) = (nodes.next_to_read().unwrap(), nodes.next_to_read().unwrap());
        let piece = |number: u32| Piece { node: "a".into(), number, output: format!("{number}.").into() };
        let wrote = |output: &'static str| News::Wrote { node: "a".into(), output: output.into() };
        assert_eq!(nodes.collect(Instant::ZERO, piece(0)), [wrote("0.")]);
        assert_eq!(nodes.collect(Instant::ZERO, piece(0)), []);
        assert_eq!(nodes.take(Instant::ZERO, &second, &"1.".into()), [wrote("1.")]);
        assert_eq!(nodes.take(Instant::ZERO, &first, &"0.".into()), []);
        list(&mut nodes, &[at.output("a", 0), at.exit("a")]);
        assert_eq!(read_all(&mut nodes, value), [News::Ended { node: "a".into(), code: 3 }]);
        assert_eq!(nodes.progress()["a"], Progress { taken: 2, have: 2 });
    }

    proptest! {
        /// Each piece comes by way of the store, past it, or both ways; those past the store in their order.
        #[test]
        fn whatever_way_pieces_come_they_are_told_once_and_in_order(ways in prop::collection::vec(0..3u8, 1..40), picks in prop::collection::vec(0..4u8, 300)) {
            let (mut nodes, at) = (Nodes::default(), place());
            let (mut told, mut open): (Vec<String>, Vec<Wanted>) = (Vec::new(), Vec::new());
            let (mut listed, mut collected) = (0, 0);
            let mut note = |news: Vec<News>| for news in news {
                if let News::Wrote { output, .. } = news {
                    told.push(String::from_utf8_lossy(&output).into_owned());
                }
            };
            for pick in picks.into_iter().chain((0..200).map(|n| n % 4)) {
                match pick {
                    0 if listed < ways.len() => {
                        listed += 1;
                        let stored = (0..listed).filter(|n| ways[*n] != 1);
                        let keys: Vec<Bytes> = stored.map(|n| at.output("a", n as u32)).collect();
                        list(&mut nodes, &keys);
                    }
                    1 if collected < ways.len() => {
                        if ways[collected] != 0 {
                            let output = format!("{collected}.").into();
                            note(nodes.collect(Instant::ZERO, Piece { node: "a".into(), number: collected as u32, output }));
                        }
                        collected += 1;
                    }
                    2 => open.extend(nodes.next_to_read()),
                    _ if !open.is_empty() => {
                        let wanted = open.swap_remove(open.len() / 2);
                        note(nodes.take(Instant::ZERO, &wanted, &value(&wanted)));
                    }
                    _ => {}
                }
            }
            let expected: Vec<String> = (0..ways.len()).map(|n| format!("{n}.")).collect();
            prop_assert_eq!(told, expected);
            prop_assert!(nodes.all["a"].held.is_empty() && nodes.is_idle());
        }
    }

    proptest! {
        /// Listings show any part of what is there, answers come in any order: each node's output is told whole and in order.
        #[test]
        fn output_is_told_in_order(counts in prop::collection::vec(0u32..30, 1..4), picks in prop::collection::vec(any::<usize>(), 400)) {
            let (mut nodes, at) = (Nodes::default(), place());
            let names = ["a", "b", "c"];
            let mut shown = vec![0; counts.len()];
            let mut open: Vec<Wanted> = Vec::new();
            let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
            let mut note = |news: Vec<News>| for news in news {
                match news {
                    News::Wrote { node, output } => told.entry(node).or_default().push(String::from_utf8_lossy(&output).into_owned()),
                    News::Ended { node, .. } => told.entry(node).or_default().push("end".into()),
                    _ => {}
                }
            };
            let mut picks = picks.into_iter().chain(std::iter::repeat(1));
            for _ in 0..400 {
                let pick = picks.next().unwrap_or(0);
                let which = pick % counts.len();
                shown[which] = (shown[which] + (pick / 7 % 3) as u32).min(counts[which] + 1);
                let keys: Vec<Bytes> = shown.iter().zip(names).flat_map(|(shown, name)| {
                    (0..*shown).map(move |n| (n, name))
                }).map(|(n, name)| {
                    let count = counts[names.iter().position(|other| *other == name).unwrap_or(0)];
                    if n < count { at.output(name, n) } else { at.exit(name) }
                }).collect();
                note(list(&mut nodes, &keys));
                while let Some(wanted) = nodes.next_to_read() {
                    open.push(wanted);
                }
                prop_assert!(open.len() <= WINDOW);
                if !open.is_empty() {
                    let wanted = open.swap_remove(pick % open.len());
                    note(nodes.take(Instant::ZERO, &wanted, &value(&wanted)));
                }
            }
            for (which, name) in names.iter().enumerate().take(counts.len()) {
                let told = told.get(*name).cloned().unwrap_or_default();
                let expected: Vec<String> = (0..counts[which]).map(|n| format!("{n}.")).chain(["end".to_owned()]).collect();
                prop_assert!(expected.starts_with(&told), "{told:?}");
            }
        }
    }
}
