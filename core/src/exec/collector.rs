//! What commands on many nodes write, collected for whoever has them run, so that it need not go through the servers' log.
//!
//! The initiator has the agent that it asks make an *inbox* for its job, and says in the job where that is. Agents that run the
//! job send pieces there (`stream.rs`), which wait until the initiator asks for them. A piece counts as taken only when
//! the initiator says so, with its next question; until then it is kept, for the answer may have got lost; and only then
//! the command that wrote it may write more. So nothing piles up anywhere, however slow the reader is.
//!
//! All of it is bounded. An inbox holds [`config::Exec::inbox_bytes`](crate::config::Exec::inbox_bytes); each node is told of its share of that as the room that it has. There are
//! at most [`INBOXES`] at a time, and one that is not asked for anything for [`IDLE`] goes. A node that is not taken in, or not any more,
//! hears that its piece is not collected here, and goes the way through the store.
//!
//! What is in an inbox was directed there by whoever wrote the job. It is shown to no other token than the one that had the inbox made.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use uuid::Uuid;

use super::layout::Place;
use crate::api::Error;
use crate::api::exec::{Piece, Progress};
use crate::error::Busy;
use crate::id::{PeerId, RunId, Ticket};
use crate::peer::{MAX_PIECE_BYTES, Source, Taken};
use crate::time::{Duration, Instant};

/// Jobs whose output is collected at a time.
pub const INBOXES: usize = 64;

/// The least and the most room that a node is told of.
const LEAST_ROOM: usize = 4 << 10;
const MOST_ROOM: usize = 512 << 10;

/// How many pieces of one node may wait, however small they are.
pub(super) const PIECES: u32 = 64;

/// The most that one answer brings, but for a piece.
const ANSWER_BYTES: usize = 512 << 10;

/// An inbox of which nothing is wanted for so long is closed. An initiator asks twice in that time.
pub const IDLE: Duration = Duration::from_secs(75);

/// Something that the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Tell the agent that runs a command how far it has come.
    Send {
        /// The agent.
        peer: PeerId,
        /// Where it is.
        address: SocketAddr,
        /// What to say.
        taken: Taken,
    },
    /// Answer a question that waited.
    Answer {
        /// The question.
        ticket: Ticket,
        /// What there is; none if another question has taken its place.
        pieces: Vec<Piece>,
    },
    /// The same, as the inbox has been closed.
    Refuse(Ticket),
}

/// The inboxes of an agent.
///
/// Invariants: `by_id` has exactly the inboxes of `inboxes`; none holds more than `inbox_bytes`.
#[derive(Debug)]
pub struct Collector {
    inbox_bytes: usize,
    inboxes: BTreeMap<Place, Inbox>,
    by_id: BTreeMap<Uuid, Place>,
    steps: VecDeque<Step>,
}

/// What is collected of one job.
#[derive(Debug)]
struct Inbox {
    id: Uuid,
    /// The token that had it made.
    owner: Option<String>,
    /// The most that all nodes may hold.
    limit: usize,
    nodes: BTreeMap<String, Node>,
    /// What all nodes hold.
    bytes: usize,
    waiting: Option<Waiting>,
    /// When it is closed if nobody asks.
    idle_at: Instant,
    /// The node of which the last piece of the last answer was: others come first now.
    last: String,
}

/// A question that waits for something to come.
#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    progress: BTreeMap<String, Progress>,
}

/// What is collected of one node.
///
/// Invariants: `taken` ≤ `have`; all pieces from `taken` up to `have` are held, and `have` is not; `bytes` is what is held.
#[derive(Debug)]
struct Node {
    peer: PeerId,
    address: SocketAddr,
    run: RunId,
    taken: u32,
    have: u32,
    held: BTreeMap<u32, Bytes>,
    bytes: usize,
}

impl Collector {
    /// One without inboxes, each of which may hold so much, but at least two of the largest pieces.
    #[must_use]
    pub fn new(inbox_bytes: usize) -> Self {
        let inbox_bytes = inbox_bytes.max(2 * MAX_PIECE_BYTES);
        Self { inbox_bytes, inboxes: BTreeMap::new(), by_id: BTreeMap::new(), steps: VecDeque::new() }
    }

    /// Makes an inbox for a job, with this ID unless it has one already. Gives the one that it has.
    ///
    /// # Errors
    /// [`Error::Busy`] if there are too many, [`Error::PermissionDenied`] if another token has it.
    pub fn open(&mut self, now: Instant, place: Place, owner: Option<&str>, id: Uuid) -> Result<Uuid, Error> {
        if let Some(inbox) = self.inboxes.get_mut(&place) {
            inbox.is_of(owner)?;
            inbox.idle_at = now + IDLE;
            return Ok(inbox.id);
        }
        if self.inboxes.len() >= INBOXES {
            return Err(Error::Busy { what: Busy::Inboxes, limit: INBOXES as u64 });
        }
        self.by_id.insert(id, place.clone());
        let idle_at = now + IDLE;
        let (limit, nodes, last) = (self.inbox_bytes, BTreeMap::new(), String::new());
        let owner = owner.map(str::to_owned);
        let inbox = Inbox { id, owner, limit, nodes, bytes: 0, waiting: None, idle_at, last };
        self.inboxes.insert(place, inbox);
        Ok(id)
    }

    /// The initiator asks for what has come beyond `progress`, and until when it would wait. Gives it, or `None` if there is nothing:
    /// then the question waits in place of the one that waited before ([`Step::Answer`]).
    ///
    /// # Errors
    /// [`Error::NotCollected`] if there is no inbox for this job, [`Error::PermissionDenied`] if it is another token's.
    pub fn collect(
        &mut self,
        place: &Place,
        owner: Option<&str>,
        ticket: Ticket,
        progress: BTreeMap<String, Progress>,
        until: Instant,
    ) -> Result<Option<Vec<Piece>>, Error> {
        let inbox = self.inboxes.get_mut(place).ok_or(Error::NotCollected)?;
        inbox.is_of(owner)?;
        inbox.idle_at = until + IDLE;
        if let Some(Waiting { ticket, .. }) = inbox.waiting.take() {
            self.steps.push_back(Step::Answer { ticket, pieces: Vec::new() });
        }
        for (name, progress) in &progress {
            if let Some(step) = inbox.take(name, progress.taken) {
                self.steps.push_back(step);
            }
        }
        let pieces = inbox.gather(&progress);
        if pieces.is_empty() {
            inbox.waiting = Some(Waiting { ticket, progress });
            return Ok(None);
        }
        Ok(Some(pieces))
    }

    /// A question has waited for long enough.
    pub fn give_up(&mut self, place: &Place, ticket: Ticket) {
        if let Some(inbox) = self.inboxes.get_mut(place) {
            inbox.waiting.take_if(|waiting| waiting.ticket == ticket);
        }
    }

    /// Nothing of a job is wanted any more. If there is no inbox for it, that is just as well.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] if it is another token's.
    pub fn end(&mut self, place: &Place, owner: Option<&str>) -> Result<(), Error> {
        self.inboxes.get(place).map_or(Ok(()), |inbox| inbox.is_of(owner))?;
        self.close(place);
        Ok(())
    }

    /// Nothing of a job is collected any more; its agents are told.
    fn close(&mut self, place: &Place) {
        let Some(inbox) = self.inboxes.remove(place) else { return };
        self.by_id.remove(&inbox.id);
        if let Some(Waiting { ticket, .. }) = inbox.waiting {
            self.steps.push_back(Step::Refuse(ticket));
        }
        for node in inbox.nodes.into_values() {
            let Node { peer, address, run, .. } = node;
            self.steps.push_back(Step::Send { peer, address, taken: nothing(inbox.id, run) });
        }
    }

    /// A piece has come from an agent.
    pub fn handle_piece(&mut self, (peer, address): (PeerId, SocketAddr), source: &Source, number: u32, bytes: &Bytes) {
        let Some((inbox, name)) = self.source(peer, address, source) else { return };
        if bytes.len() <= MAX_PIECE_BYTES {
            inbox.keep(name, number, bytes);
        }
        let answer = inbox.say(name);
        let answered = inbox.answer(name);
        self.steps.extend(answer.into_iter().chain(answered));
    }

    /// An agent wants to know how far its output has come.
    pub fn handle_how_far(&mut self, (peer, address): (PeerId, SocketAddr), source: &Source) {
        let Some((inbox, name)) = self.source(peer, address, source) else { return };
        let answer = inbox.say(name);
        self.steps.extend(answer);
    }

    /// The inbox that is meant, in which the node has its place then. If it cannot, it is told.
    fn source<'a>(
        &'a mut self,
        peer: PeerId,
        address: SocketAddr,
        source: &'a Source,
    ) -> Option<(&'a mut Inbox, &'a str)> {
        let inbox = self.by_id.get(&source.inbox).and_then(|place| self.inboxes.get_mut(place));
        let inbox = inbox.and_then(|inbox| inbox.admit(peer, address, source).then_some(inbox));
        if inbox.is_none() {
            self.steps.push_back(Step::Send { peer, address, taken: nothing(source.inbox, source.run) });
        }
        inbox.map(|inbox| (inbox, source.node.as_str()))
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        let idle: Vec<Place> =
            self.inboxes.iter().filter(|(_, inbox)| inbox.idle_at <= now).map(|(place, _)| place.clone()).collect();
        for place in idle {
            self.close(&place);
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.inboxes.values().map(|inbox| inbox.idle_at).min()
    }

    /// The next thing to be done.
    pub fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// What each inbox holds, in bytes; for checkers and statistics.
    pub fn holds(&self) -> impl Iterator<Item = usize> {
        let held = |node: &Node| node.held.values().map(Bytes::len).sum::<usize>();
        self.inboxes.values().map(move |inbox| inbox.nodes.values().map(held).sum())
    }
}

impl Inbox {
    /// Whether it is this token's.
    fn is_of(&self, owner: Option<&str>) -> Result<(), Error> {
        if self.owner.as_deref() == owner { Ok(()) } else { Err(Error::PermissionDenied) }
    }

    /// Whether this is a node that takes part. A new one does if there is a share for it; no other agent takes its place.
    fn admit(&mut self, peer: PeerId, address: SocketAddr, source: &Source) -> bool {
        if let Some(node) = self.nodes.get_mut(&source.node) {
            let is_it = (node.peer, node.run) == (peer, source.run);
            if is_it {
                node.address = address;
            }
            return is_it;
        }
        if self.nodes.len() >= self.limit / LEAST_ROOM {
            return false;
        }
        let (run, first) = (source.run, source.first);
        let node = Node { peer, address, run, taken: first, have: first, held: BTreeMap::new(), bytes: 0 };
        self.nodes.insert(source.node.clone(), node);
        true
    }

    /// Keeps a piece, if it is new and there is room for it.
    fn keep(&mut self, name: &str, number: u32, bytes: &Bytes) {
        let share = self.room();
        let Some(node) = self.nodes.get(name) else { return };
        let (next, beyond) = (number == node.have, node.bytes + bytes.len() > share.max(MAX_PIECE_BYTES));
        let wanted = number >= node.taken && number - node.taken < PIECES && !node.held.contains_key(&number);
        // Whatever else a node has here may wait for this one.
        let needed = next && node.have == node.taken;
        if !wanted || (beyond && !needed) {
            return;
        }
        if next {
            self.make_room(bytes.len());
        }
        let Some(node) = self.nodes.get_mut(name).filter(|_| self.bytes + bytes.len() <= self.limit) else { return };
        self.bytes += bytes.len();
        node.bytes += bytes.len();
        node.held.insert(number, bytes.clone());
        while node.held.contains_key(&node.have) {
            node.have += 1;
        }
    }

    /// Makes room, if need be and as far as it goes, by dropping what waits for a piece that has not come: it will come again.
    fn make_room(&mut self, bytes: usize) {
        for node in self.nodes.values_mut() {
            while self.bytes + bytes > self.limit
                && let Some(last) = node.held.last_entry().filter(|last| *last.key() > node.have)
            {
                let length = last.remove().len();
                node.bytes -= length;
                self.bytes -= length;
            }
        }
    }

    /// The initiator has dealt with all pieces of a node before this one. Gives what the node is told, if it is news.
    fn take(&mut self, name: &str, taken: u32) -> Option<Step> {
        let node = self.nodes.get_mut(name)?;
        let taken = taken.min(node.have);
        if taken <= node.taken {
            return None;
        }
        let rest = node.held.split_off(&taken);
        let gone: usize = std::mem::replace(&mut node.held, rest).values().map(Bytes::len).sum();
        node.taken = taken;
        node.bytes -= gone;
        self.bytes -= gone;
        self.say(name)
    }

    /// What is new to whoever has come so far: of each node in turn a piece.
    fn gather(&mut self, progress: &BTreeMap<String, Progress>) -> Vec<Piece> {
        let next_of = |name: &String, node: &Node| {
            let known = progress.get(name).map_or(0, |progress| progress.have);
            (name.clone(), known.max(node.taken), node.have)
        };
        let mut rows: Vec<(String, u32, u32)> = self.nodes.iter().map(|(name, node)| next_of(name, node)).collect();
        rows.retain(|(_, next, have)| next < have);
        let after = rows.partition_point(|(name, ..)| *name <= self.last);
        rows.rotate_left(after);
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        while !rows.is_empty() {
            for (name, next, _) in &mut rows {
                if bytes >= ANSWER_BYTES {
                    return pieces;
                }
                let Some(output) = self.nodes.get(name).and_then(|node| node.held.get(next)) else { continue };
                bytes += output.len().max(1);
                pieces.push(Piece { node: name.clone(), number: *next, output: output.clone() });
                self.last.clone_from(name);
                *next += 1;
            }
            rows.retain(|(_, next, have)| next < have);
        }
        pieces
    }

    /// Answers the question that waits, if something of this node is new to it.
    fn answer(&mut self, name: &str) -> Option<Step> {
        let (waiting, node) = (self.waiting.as_ref()?, self.nodes.get(name)?);
        let known = waiting.progress.get(name).map_or(0, |progress| progress.have);
        if known.max(node.taken) >= node.have {
            return None;
        }
        let Waiting { ticket, progress } = self.waiting.take()?;
        let pieces = self.gather(&progress);
        Some(Step::Answer { ticket, pieces })
    }

    /// How much of a node's output may wait here.
    fn room(&self) -> usize {
        (self.limit / self.nodes.len().max(1)).clamp(LEAST_ROOM, MOST_ROOM)
    }

    /// Tells a node how far it is.
    fn say(&self, name: &str) -> Option<Step> {
        let room = u32::try_from(self.room()).unwrap_or(u32::MAX);
        let Node { peer, address, run, taken, have, .. } = *self.nodes.get(name)?;
        let taken = Taken { inbox: self.id, run, open: true, taken, have, room };
        Some(Step::Send { peer, address, taken })
    }
}

/// That it is not collected here.
const fn nothing(inbox: Uuid, run: RunId) -> Taken {
    Taken { inbox, run, open: false, taken: 0, have: 0, room: 0 }
}

#[cfg(test)]
#[path = "collector_tests.rs"]
mod tests;
