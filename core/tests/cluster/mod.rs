//! A cluster of raft machines whose messages and disks move only when a script says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use lictor_core::id::{Index, PeerId, Term, WriteSeq};
use lictor_core::raft::{
    Configuration, Entry, HardState, Message, News, Options, Payload, Position, Raft, Role, Start,
};
use lictor_core::rng::Rng;
use lictor_core::time::{Duration, Instant};

/// A write on its way to a disk.
struct Write {
    seq: WriteSeq,
    hard_state: HardState,
    entries: Vec<Entry>,
}

/// What a node's disk holds, and what is under way to it.
#[derive(Default)]
struct Disk {
    hard_state: HardState,
    log: Vec<Entry>,
    last_seq: WriteSeq,
    under_way: VecDeque<Write>,
}

impl Disk {
    fn complete(&mut self, write: Write) {
        self.hard_state = write.hard_state;
        if let Some(first) = write.entries.first() {
            self.log.truncate(usize::try_from(first.index.0 - 1).unwrap());
        }
        self.log.extend(write.entries);
        self.last_seq = write.seq;
    }
}

struct Node {
    /// None while it is down.
    raft: Option<Raft>,
    disk: Disk,
    seq: WriteSeq,
    applied: Vec<Position>,
}

#[derive(Default)]
pub(crate) struct Cluster {
    nodes: BTreeMap<PeerId, Node>,
    inboxes: BTreeMap<PeerId, VecDeque<(PeerId, Message)>>,
    cut_off: BTreeSet<PeerId>,
    now: Instant,
    slow_disk: bool,
    one_by_one: bool,
    out: String,
    /// What the first node to apply an index applied there; all others must agree.
    history: BTreeMap<Index, Position>,
    leaders: BTreeMap<Term, PeerId>,
}

impl Cluster {
    pub(crate) fn new(nodes: u64, slow_disk: bool, one_by_one: bool) -> Self {
        let mut cluster = Self { slow_disk, one_by_one, ..Self::default() };
        for id in (1..=nodes).map(PeerId::numbered) {
            cluster.inboxes.insert(id, VecDeque::new());
            let disk = Disk::default();
            cluster.nodes.insert(id, Node { raft: None, disk, seq: WriteSeq(0), applied: Vec::new() });
        }
        let ids: Vec<PeerId> = cluster.nodes.keys().copied().collect();
        for id in ids {
            cluster.start(id);
            // Founding the cluster is not what the scripts are about.
            cluster.flush(id);
            cluster.persist(id);
        }
        cluster.out.clear();
        cluster
    }

    fn start(&mut self, id: PeerId) {
        let members = Configuration::new(self.nodes.keys().map(|id| (*id, "127.0.0.1:8300".parse().unwrap())));
        let node = self.nodes.get_mut(&id).unwrap();
        let start = Start {
            hard_state: node.disk.hard_state,
            entries: node.disk.log.clone(),
            last_seq: node.disk.last_seq,
            bootstrap: Some(members),
            snapshot: None,
            forced: None,
        };
        let rng = Rng::seeded(u64::try_from(id.0.as_u128()).unwrap());
        node.seq = node.disk.last_seq;
        node.applied.clear();
        let mut config = Options::default();
        if self.one_by_one {
            config.append_bytes = 0;
        }
        node.raft = Some(Raft::new(id, config, rng, start, self.now));
    }

    fn say(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    fn raft(&mut self, id: PeerId) -> Option<&mut Raft> {
        self.nodes.get_mut(&id).unwrap().raft.as_mut()
    }

    pub(crate) fn take_output(&mut self) -> String {
        std::mem::take(&mut self.out)
    }

    pub(crate) fn elapse(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
    }

    pub(crate) fn tick(&mut self, id: PeerId) {
        let now = self.now;
        if let Some(raft) = self.raft(id) {
            raft.tick(now);
            self.flush(id);
        }
    }

    pub(crate) fn campaign(&mut self, id: PeerId) {
        let due = self.raft(id).and_then(|raft| raft.poll_timeout());
        self.now = self.now.max(due.unwrap_or_default());
        self.tick(id);
    }

    pub(crate) fn propose(&mut self, id: PeerId, value: &str) {
        let position = self.raft(id).and_then(|raft| raft.propose(value.to_owned().into()));
        match position {
            Some(position) => self.say(&format!("{id} proposes {position} {value}")),
            None => self.say(&format!("{id} does not lead")),
        }
    }

    pub(crate) fn read(&mut self, id: PeerId) {
        let Some(round) = self.raft(id).and_then(Raft::want_round) else {
            return self.say(&format!("{id} does not lead"));
        };
        self.say(&format!("{id} waits for round {round}"));
        self.raft(id).unwrap().begin_wanted_round();
        self.flush(id);
    }

    /// Closes a node's batch, and carries out what it wants.
    pub(crate) fn flush(&mut self, id: PeerId) {
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(raft) = &mut node.raft else { return };
        let mut lines = Vec::new();
        while let Some(entry) = raft.next_to_apply() {
            node.applied.push(entry.position());
            let first = *self.history.entry(entry.index).or_insert(entry.position());
            assert_eq!(first, entry.position(), "{id} applies something else than the others");
            if let Payload::Command(value) = &entry.payload {
                lines.push(format!("{id} applies {} {}", entry.position(), String::from_utf8_lossy(value)));
            }
        }
        let seq = node.seq.next();
        let flushed = raft.flush(seq);
        if let Some(unwritten) = flushed.write {
            let entries = raft.log().from(unwritten.first).cloned().collect();
            node.disk.under_way.push_back(Write { seq, hard_state: unwritten.hard_state, entries });
            node.seq = seq;
        }
        let messages: Vec<_> = raft.drain_messages().collect();
        for news in flushed.news {
            match news {
                News::BecameLeader { term } => {
                    let first = *self.leaders.entry(term).or_insert(id);
                    assert_eq!(first, id, "two leaders in term {term}");
                    lines.push(format!("{id} leads term {term}"));
                }
                News::SteppedDown { term, reason } => {
                    lines.push(format!("{id} resigns from term {term}: {reason:?}"));
                }
                News::Campaigning { term } => lines.push(format!("{id} campaigns for term {term}")),
                _ => {}
            }
        }
        for (to, message) in messages {
            if self.cut_off.contains(&id) == self.cut_off.contains(&to) {
                self.inboxes.get_mut(&to).unwrap().push_back((id, message));
            }
        }
        lines.iter().for_each(|line| self.say(line));
        if !self.slow_disk {
            self.persist(id);
        }
    }

    pub(crate) fn persist(&mut self, id: PeerId) {
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(raft) = &mut node.raft else { return };
        let Some(last) = node.disk.under_way.back().map(|write| write.seq) else { return };
        while let Some(write) = node.disk.under_way.pop_front() {
            node.disk.complete(write);
        }
        raft.persisted(now, last);
        self.flush(id);
    }

    pub(crate) fn deliver(&mut self, to: &[PeerId], from: Option<PeerId>) {
        let mut arriving = Vec::new();
        for (id, inbox) in &mut self.inboxes {
            if to.is_empty() || to.contains(id) {
                let (now, later) = inbox.drain(..).partition(|(sender, _)| from.is_none_or(|from| from == *sender));
                *inbox = later;
                let now: VecDeque<(PeerId, Message)> = now;
                arriving.extend(now.into_iter().map(|(sender, message)| (*id, sender, message)));
            }
        }
        for (id, sender, message) in arriving {
            self.say(&format!("{sender} → {id} {message}"));
            let now = self.now;
            if let Some(raft) = self.raft(id) {
                raft.step(now, sender, message);
                self.flush(id);
            }
        }
    }

    pub(crate) fn settle(&mut self) {
        for _ in 0..1000 {
            let busy = self.inboxes.values().any(|inbox| !inbox.is_empty());
            let writing = self.nodes.values().any(|node| node.raft.is_some() && !node.disk.under_way.is_empty());
            if !busy && !writing {
                return;
            }
            let ids: Vec<PeerId> = self.nodes.keys().copied().collect();
            ids.into_iter().for_each(|id| self.persist(id));
            self.deliver(&[], None);
        }
        panic!("the cluster does not come to rest:\n{}", self.out);
    }

    pub(crate) fn duplicate(&mut self, id: PeerId) {
        let inbox = self.inboxes.get_mut(&id).unwrap();
        *inbox = inbox.drain(..).flat_map(|message| [message.clone(), message]).collect();
        self.deliver(&[id], None);
    }

    pub(crate) fn reverse(&mut self, id: PeerId) {
        let inbox = self.inboxes.get_mut(&id).unwrap();
        *inbox = inbox.drain(..).rev().collect();
        self.deliver(&[id], None);
    }

    pub(crate) fn lose(&mut self, to: &[PeerId], from: Option<PeerId>) {
        let mut lost = Vec::new();
        for (id, inbox) in &mut self.inboxes {
            if to.is_empty() || to.contains(id) {
                inbox.retain(|(sender, message)| {
                    let keep = from.is_some_and(|from| from != *sender);
                    if !keep {
                        lost.push(format!("{sender} ⇥ {id} {message}"));
                    }
                    keep
                });
            }
        }
        lost.iter().for_each(|line| self.say(line));
    }

    pub(crate) fn crash(&mut self, id: PeerId, survive: usize) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.raft = None;
        for _ in 0..survive {
            if let Some(write) = node.disk.under_way.pop_front() {
                node.disk.complete(write);
            }
        }
        let lost = node.disk.under_way.len();
        node.disk.under_way.clear();
        self.inboxes.get_mut(&id).unwrap().clear();
        self.say(&format!("{id} crashes, {lost} writes are lost"));
    }

    pub(crate) fn restart(&mut self, id: PeerId) {
        self.start(id);
        self.flush(id);
        let status = self.raft(id).unwrap().status();
        self.say(&format!("{id} restarts {status}"));
    }

    pub(crate) fn partition(&mut self, ids: &[PeerId]) {
        self.cut_off = ids.iter().copied().collect();
        let cut_off = &self.cut_off;
        for (id, inbox) in &mut self.inboxes {
            inbox.retain(|(sender, _)| cut_off.contains(sender) == cut_off.contains(id));
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut_off.clear();
    }

    pub(crate) fn show_status(&mut self) {
        let lines: Vec<String> = self
            .nodes
            .iter()
            .map(|(id, node)| match &node.raft {
                Some(raft) => format!("{id} {}", raft.status()),
                None => format!("{id} down"),
            })
            .collect();
        lines.iter().for_each(|line| self.say(line));
    }

    pub(crate) fn show_log(&mut self, id: PeerId) {
        let mut line = format!("{id}");
        let Some(raft) = self.raft(id) else { return };
        for entry in raft.log().from(Index(1)) {
            let text = match &entry.payload {
                Payload::Noop => "noop".into(),
                Payload::Configuration(_) => "members".into(),
                Payload::Command(value) => String::from_utf8_lossy(value),
            };
            let _ = write!(line, " {}:{text}", entry.position());
        }
        self.say(&line);
    }

    pub(crate) fn show_progress(&mut self, id: PeerId) {
        let Some(Role::Leader(leader)) = self.raft(id).map(|raft| raft.role().clone()) else {
            return self.say(&format!("{id} does not lead"));
        };
        for (peer, progress) in &leader.progress {
            self.say(&format!("{id} sees {peer} {progress}"));
        }
    }

    pub(crate) fn show_lease(&mut self, id: PeerId) {
        let now = self.now;
        let Some(raft) = self.raft(id) else { return };
        let (until, round) = (raft.lease_until(), raft.confirmed_round());
        let lease = match until {
            Instant::NEVER => "for ever".to_owned(),
            until if until <= now => "none".to_owned(),
            until => format!("{:?} more", until.since(now)),
        };
        let round = round.map_or("unknown".to_owned(), |round| round.to_string());
        self.say(&format!("{id} lease: {lease}, confirmed round: {round}"));
    }

    /// What must hold after every command, beside what `flush` asserts: log matching (thesis 3.5).
    pub(crate) fn check(&self) {
        let logs: Vec<(&PeerId, Vec<Position>)> = self
            .nodes
            .iter()
            .filter_map(|(id, node)| {
                Some((id, node.raft.as_ref()?.log().from(Index(1)).map(Entry::position).collect()))
            })
            .collect();
        for (a, ours) in &logs {
            for (b, theirs) in &logs {
                let shared = ours.iter().zip(theirs).rposition(|(x, y)| x == y).map_or(0, |n| n + 1);
                assert_eq!(ours[..shared], theirs[..shared], "{a} and {b} share position {shared} but not all before");
            }
        }
    }
}
