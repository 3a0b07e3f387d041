//! A cluster of raft machines whose messages and disks move only when a script says so.

mod disk;
mod owner;
mod show;
mod walk;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use lictor_core::id::{Index, PeerId, Term, WriteSeq};
use lictor_core::raft::{Change, Configuration, Message, Options, Payload, Position, Raft, Start};
use lictor_core::rng::Rng;
use lictor_core::time::{Duration, Instant};

use disk::{Disk, Write};
use owner::Transfers;

#[derive(Default)]
struct Node {
    /// None while it is down.
    raft: Option<Raft>,
    disk: Disk,
    transfers: Transfers,
    founder: bool,
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
            cluster.nodes.insert(id, Node { founder: true, ..Node::default() });
        }
        let ids: Vec<PeerId> = cluster.nodes.keys().copied().collect();
        for id in ids {
            cluster.start(id, None);
            // Founding the cluster is not what the scripts are about.
            cluster.flush(id);
            cluster.persist(id, usize::MAX);
        }
        cluster.out.clear();
        cluster
    }

    fn start(&mut self, id: PeerId, forced: Option<Configuration>) {
        let founders = self.nodes.iter().filter(|(_, node)| node.founder).map(|(id, _)| (*id, address(*id)));
        let members = Configuration::new(founders);
        let node = self.nodes.get_mut(&id).unwrap();
        let entries = node.disk.recover();
        let start = Start {
            hard_state: node.disk.hard_state,
            entries,
            last_seq: node.disk.last_seq,
            bootstrap: node.founder.then_some(members),
            snapshot: node.disk.snapshot.as_ref().map(|snapshot| snapshot.meta.clone()),
            forced,
        };
        let rng = Rng::seeded(u64::try_from(id.0.as_u128()).unwrap());
        node.seq = node.disk.last_seq;
        node.applied = node.disk.snapshot.as_ref().map_or_else(Vec::new, |snapshot| snapshot.applied.clone());
        node.transfers = Transfers::default();
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
        let (told, installed) = node.transfers.receive(raft, &mut node.disk);
        lines.extend(told.into_iter().map(|line| format!("{id} {line}")));
        if let Some(snapshot) = installed {
            node.applied = snapshot.applied;
            assert!(
                node.applied.iter().all(|at| self.history.get(&at.index) == Some(at)),
                "{id} installs another past"
            );
        }
        node.transfers.send(raft, &node.applied);
        let seq = node.seq.next();
        let flushed = raft.flush(seq);
        if let Some(unwritten) = flushed.write {
            let entries = raft.log().from(unwritten.first).cloned().collect();
            node.disk.under_way.push_back(Write {
                seq,
                hard_state: unwritten.hard_state,
                base: unwritten.base,
                entries,
            });
            node.seq = seq;
        }
        let messages: Vec<_> = raft.drain_messages().collect();
        for news in flushed.news {
            lines.extend(self.tell(id, news));
        }
        for (to, message) in messages {
            if self.cut_off.contains(&id) == self.cut_off.contains(&to) {
                self.inboxes.entry(to).or_default().push_back((id, message));
            }
        }
        lines.iter().for_each(|line| self.say(line));
        if !self.slow_disk {
            self.persist(id, usize::MAX);
        }
    }

    pub(crate) fn persist(&mut self, id: PeerId, writes: usize) {
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(raft) = &mut node.raft else { return };
        let writes = writes.min(node.disk.under_way.len());
        for write in node.disk.under_way.drain(..writes).collect::<Vec<_>>() {
            node.disk.complete(write);
        }
        if writes > 0 {
            raft.persisted(now, node.disk.last_seq);
            self.flush(id);
        }
    }

    pub(crate) fn deliver(&mut self, chosen: &Chosen) {
        for (id, sender, message) in self.pick(chosen) {
            self.say(&format!("{sender} → {id} {message}"));
            let now = self.now;
            if let Some(raft) = self.raft(id) {
                raft.step(now, sender, message);
                self.flush(id);
            }
        }
    }

    /// Takes these messages out of the inboxes.
    fn pick(&mut self, chosen: &Chosen) -> Vec<(PeerId, PeerId, Message)> {
        let mut picked = Vec::new();
        for (id, inbox) in &mut self.inboxes {
            let (now, later): (VecDeque<_>, VecDeque<_>) =
                inbox.drain(..).partition(|(sender, message)| chosen.has(*id, *sender, message));
            *inbox = later;
            picked.extend(now.into_iter().map(|(sender, message)| (*id, sender, message)));
        }
        picked
    }

    pub(crate) fn settle(&mut self) {
        for _ in 0..1000 {
            let busy = self.inboxes.values().any(|inbox| !inbox.is_empty());
            let writing = self.nodes.values().any(|node| node.raft.is_some() && !node.disk.under_way.is_empty());
            if !busy && !writing {
                return;
            }
            let ids: Vec<PeerId> = self.nodes.keys().copied().collect();
            ids.into_iter().for_each(|id| self.persist(id, usize::MAX));
            self.deliver(&Chosen::default());
        }
        panic!("the cluster does not come to rest:\n{}", self.out);
    }

    pub(crate) fn duplicate(&mut self, id: PeerId) {
        let inbox = self.inboxes.get_mut(&id).unwrap();
        *inbox = inbox.drain(..).flat_map(|message| [message.clone(), message]).collect();
        self.deliver(&Chosen { to: vec![id], ..Chosen::default() });
    }

    pub(crate) fn reverse(&mut self, id: PeerId) {
        let inbox = self.inboxes.get_mut(&id).unwrap();
        *inbox = inbox.drain(..).rev().collect();
        self.deliver(&Chosen { to: vec![id], ..Chosen::default() });
    }

    pub(crate) fn lose(&mut self, chosen: &Chosen) {
        for (id, sender, message) in self.pick(chosen) {
            self.say(&format!("{sender} ⇥ {id} {message}"));
        }
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

    pub(crate) fn restart(&mut self, id: PeerId, voters: &[PeerId]) {
        let forced = Configuration::new(voters.iter().map(|id| (*id, address(*id))));
        self.start(id, (!voters.is_empty()).then_some(forced));
        self.flush(id);
        let status = self.raft(id).unwrap().status();
        self.say(&format!("{id} restarts {status}"));
    }

    /// A server that is new and belongs to no cluster.
    pub(crate) fn join(&mut self, id: PeerId) {
        self.inboxes.insert(id, VecDeque::new());
        self.nodes.insert(id, Node::default());
        self.start(id, None);
        self.flush(id);
    }

    pub(crate) fn change(&mut self, leader: PeerId, change: Change) {
        match self.raft(leader).map(|raft| raft.change_members(change)) {
            Some(Ok(position)) => self.say(&format!("{leader} proposes {position} members")),
            Some(Err(refused)) => self.say(&format!("{leader} refuses: {refused:?}")),
            None => {}
        }
        self.flush(leader);
    }

    pub(crate) fn transfer(&mut self, leader: PeerId, to: Option<PeerId>) {
        match self.raft(leader).and_then(|raft| raft.transfer_leadership(to)) {
            Some(to) => self.say(&format!("{leader} hands over to {to}")),
            None => self.say(&format!("{leader} does not hand over")),
        }
        self.flush(leader);
    }

    /// The owner has cut a snapshot, and it is durable.
    pub(crate) fn snapshot(&mut self, id: PeerId, trailing: u64, kept_bytes: usize) {
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(raft) = &mut node.raft else { return };
        let snapshot = owner::cut(raft, &node.applied);
        let at = snapshot.meta.position;
        let members = snapshot.meta.configuration.clone();
        node.disk.snapshot = Some(snapshot);
        raft.compact(at.index, trailing, kept_bytes);
        let base = raft.log().base();
        self.say(&format!("{id} has a snapshot at {at} {members}, its log begins behind {base}"));
        self.flush(id);
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
}

/// Which messages.
#[derive(Default)]
pub(crate) struct Chosen {
    /// To these nodes, or to any.
    pub(crate) to: Vec<PeerId>,
    /// From this node, or from any.
    pub(crate) from: Option<PeerId>,
    /// Of this kind, or of any.
    pub(crate) only: Option<String>,
    /// But not of this kind.
    pub(crate) except: Option<String>,
}

impl Chosen {
    fn has(&self, to: PeerId, from: PeerId, message: &Message) -> bool {
        let text = message.to_string();
        let is = |kind: &str| text.split(' ').next() == Some(kind);
        (self.to.is_empty() || self.to.contains(&to))
            && self.from.is_none_or(|only| only == from)
            && self.only.as_deref().is_none_or(is)
            && !self.except.as_deref().is_some_and(is)
    }
}

/// Where a node is.
pub(crate) fn address(id: PeerId) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8300 + u16::try_from(id.0.as_u128()).unwrap()))
}
