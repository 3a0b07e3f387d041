//! Broadcasts: news that every member passes on a few times (SWIM, section 4.1: infection-style dissemination).
//!
//! Whatever is sent to another member carries as many broadcasts as its datagram has room for, and members that have
//! something to tell also send it to a few others in turn. The ones that were sent least go first, so that new ones spread
//! fastest; one that was sent `mult · log10(n + 1)` times has reached everybody with high probability and is dropped. News of a
//! member take the place of older news of the same one.
//!
//! There are three queues: what concerns the membership goes before intents, and those before user events, so that a
//! flood of events never delays the detection of a failure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;

use super::member::Name;
use super::message::Message;
use super::news::Transmit;
use super::packet::{self, HEADER_BYTES, Packer};
use super::{Due, Gossip, Phase};

/// After this many broadcasts that did not fit into what is left of a datagram, no more are tried.
const MISFITS: usize = 16;
/// The most packets that wait for the owner.
const OUTBOX: usize = 8192;

/// Where a broadcast stands in its queue: the least sent first, of those the newest.
type Place = (u32, Reverse<u64>);

#[derive(Clone, Debug)]
struct Item {
    subject: Option<Name>,
    bytes: Bytes,
}

/// Broadcasts of one kind.
///
/// Invariants: `by_subject` holds the places of exactly those items that have a subject; no subject is there twice.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    items: BTreeMap<Place, Item>,
    by_subject: BTreeMap<Name, Place>,
    pushed: u64,
}

impl Queue {
    /// Adds a broadcast; one of the same subject makes room for it. Beyond `depth`, the ones that were sent most often
    /// are dropped: how many were.
    pub fn push(&mut self, subject: Option<Name>, bytes: Bytes, depth: usize) -> u64 {
        self.pushed += 1;
        let place = (0, Reverse(self.pushed));
        if let Some(old) = subject.as_ref().and_then(|subject| self.by_subject.insert(subject.clone(), place)) {
            self.items.remove(&old);
        }
        self.items.insert(place, Item { subject, bytes });
        let mut dropped = 0;
        while self.items.len() > depth.max(1) {
            self.pop_last();
            dropped += 1;
        }
        dropped
    }

    fn pop_last(&mut self) {
        if let Some((_, Item { subject: Some(subject), .. })) = self.items.pop_last() {
            self.by_subject.remove(&subject);
        }
    }

    /// Fills a packet. What was sent `limit` times is done; without a limit the packet does not count, as whom it is for
    /// may not be there to pass it on.
    pub fn fill(&mut self, packer: &mut Packer, limit: Option<u32>) {
        let (mut sent, mut misfits) = (Vec::new(), 0);
        for (place, item) in &self.items {
            if packer.push(&item.bytes) {
                sent.push(*place);
            } else {
                misfits += 1;
                if misfits == MISFITS {
                    break;
                }
            }
        }
        let Some(limit) = limit else { return };
        for place in sent {
            let Some(item) = self.items.remove(&place) else { continue };
            let again = (place.0 + 1, place.1);
            if again.0 >= limit {
                if let Some(subject) = &item.subject {
                    self.by_subject.remove(subject);
                }
                continue;
            }
            if let Some(subject) = &item.subject {
                self.by_subject.insert(subject.clone(), again);
            }
            self.items.insert(again, item);
        }
    }

    /// Whether news of this member still wait.
    #[must_use]
    pub fn is_about(&self, subject: &Name) -> bool {
        self.by_subject.contains_key(subject)
    }

    /// How many broadcasts wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// The three queues.
#[derive(Clone, Debug, Default)]
pub struct Broadcasts {
    /// What concerns who is here.
    pub members: Queue,
    /// Intents.
    pub intents: Queue,
    /// User events.
    pub events: Queue,
}

impl Broadcasts {
    /// How many broadcasts wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len() + self.intents.len() + self.events.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Gossip {
    /// Passes a message on to all.
    pub(super) fn broadcast(&mut self, message: &Message) {
        let bytes = packet::encode(message);
        let depth = self.options.queue_depth;
        if bytes.len() + HEADER_BYTES > self.options.datagram_bytes {
            // It would wait for room for ever.
            self.counters.overflowed += 1;
            return;
        }
        let queues = &mut self.broadcasts;
        self.counters.overflowed += match message {
            Message::Alive { name, .. }
            | Message::Suspect { name, .. }
            | Message::Dead { name, .. }
            | Message::Left { name, .. } => queues.members.push(Some(name.clone()), bytes, depth),
            Message::Intent { name, .. } => queues.intents.push(Some(name.clone()), bytes, depth),
            _ => queues.events.push(None, bytes, depth),
        };
        if self.timers.get(&Due::Gossip).is_none() {
            self.timers.set(Due::Gossip, self.next_gossip.max(self.now));
        }
    }

    /// Sends what waits to a few members, and comes back as long as something waits.
    pub(super) fn gossip(&mut self) {
        let (to_dead, now) = (self.options.gossip_to_dead, self.now);
        let targets = self.pick(self.options.gossip_nodes, |member| member.state.is_live());
        for target in &targets {
            if self.broadcasts.is_empty() {
                break;
            }
            let to = self.members[target].address;
            self.send(to, &[]);
        }
        // One of the lately dead hears it, too, beside the living: it may be neither dead nor willing to be called so.
        let dead = if self.members.len() > self.live {
            self.pick(1, |member| !member.state.is_live() && member.age(now) < to_dead).pop()
        } else {
            None
        };
        if let Some(dead) = dead {
            let to = self.members[&dead].address;
            self.send_uncounted(to, &[]);
        }
        if targets.is_empty() {
            // There is nobody to tell. Who joins later is told all there is to know.
            self.broadcasts = Broadcasts::default();
        }
        self.next_gossip = self.now + self.options.gossip_interval;
        if !self.broadcasts.is_empty() {
            self.timers.set(Due::Gossip, self.next_gossip);
        }
        if self.phase != Phase::Here {
            self.maybe_leave_on();
        }
    }

    /// Sends messages in one datagram, and broadcasts along with them as far as there is room.
    pub(super) fn send(&mut self, to: SocketAddr, messages: &[Message]) {
        let limit = self.options.retransmit_limit(self.live);
        self.send_packed(to, messages, Some(limit));
    }

    /// As [`send`](Self::send), to one who may not be there: the broadcasts do not count as sent.
    pub(super) fn send_uncounted(&mut self, to: SocketAddr, messages: &[Message]) {
        self.send_packed(to, messages, None);
    }

    fn send_packed(&mut self, to: SocketAddr, messages: &[Message], limit: Option<u32>) {
        let mut packer = Packer::new(self.pool, self.options.datagram_bytes);
        for message in messages {
            packer.push(&packet::encode(message));
        }
        for queue in [&mut self.broadcasts.members, &mut self.broadcasts.intents, &mut self.broadcasts.events] {
            queue.fill(&mut packer, limit);
        }
        if !packer.is_empty() {
            self.put_out(Transmit::Datagram { to, bytes: packer.finish() });
        }
    }

    /// Sends messages over a stream.
    pub(super) fn send_stream(&mut self, to: SocketAddr, messages: &[Message]) {
        let mut packer = Packer::new(self.pool, packet::MAX_STREAM_BYTES);
        if messages.iter().all(|message| packer.push(&packet::encode(message))) {
            self.put_out(Transmit::Stream { to, bytes: packer.finish() });
        } else {
            self.counters.overflowed += 1;
        }
    }

    fn put_out(&mut self, transmit: Transmit) {
        if self.outbox.len() < OUTBOX {
            self.outbox.push_back(transmit);
        } else {
            self.counters.overflowed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(tag: u8, length: usize) -> Bytes {
        vec![tag; length].into()
    }

    /// The first bytes of what one packet of `room` bytes takes out.
    fn fill(queue: &mut Queue, room: usize, limit: u32) -> Vec<u8> {
        let mut packer = Packer::new(0, HEADER_BYTES + room);
        queue.fill(&mut packer, Some(limit));
        let packet = packer.finish();
        packet[HEADER_BYTES..].chunks(10).map(|item| item[0]).collect()
    }

    #[test]
    fn the_least_sent_go_first_of_those_the_newest() {
        let mut queue = Queue::default();
        queue.push(None, bytes(1, 10), 99);
        queue.push(None, bytes(2, 10), 99);
        assert_eq!(fill(&mut queue, 10, 3), [2]);
        queue.push(None, bytes(3, 10), 99);
        assert_eq!(fill(&mut queue, 20, 3), [3, 1]);
        assert_eq!(fill(&mut queue, 30, 3), [3, 2, 1]);
        assert_eq!(fill(&mut queue, 30, 3), [3, 2, 1]);
        assert!(queue.is_empty());
    }

    #[test]
    fn news_of_a_member_replace_older_ones() {
        let mut queue = Queue::default();
        let name = Name::from("n1");
        queue.push(Some(name.clone()), bytes(1, 10), 99);
        assert_eq!(fill(&mut queue, 30, 3), [1]);
        queue.push(Some(name.clone()), bytes(2, 10), 99);
        assert_eq!((queue.len(), queue.is_about(&name)), (1, true));
        for _ in 0..3 {
            assert_eq!(fill(&mut queue, 30, 3), [2], "sent as often as a new one");
        }
        assert!(queue.is_empty() && !queue.is_about(&name));
    }

    #[test]
    fn what_goes_to_the_dead_does_not_count() {
        let mut queue = Queue::default();
        queue.push(None, bytes(1, 10), 99);
        let mut packer = Packer::new(0, 100);
        queue.fill(&mut packer, None);
        assert!(!packer.is_empty());
        assert_eq!(fill(&mut queue, 10, 1), [1]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_long_one_does_not_hold_up_the_short() {
        let mut queue = Queue::default();
        queue.push(None, bytes(1, 10), 99);
        queue.push(None, bytes(2, 50), 99);
        assert_eq!(fill(&mut queue, 20, 1), [1]);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn beyond_its_depth_a_queue_drops_what_was_sent_most() {
        let mut queue = Queue::default();
        queue.push(Some(Name::from("n1")), bytes(1, 10), 2);
        fill(&mut queue, 10, 9);
        queue.push(None, bytes(2, 10), 2);
        assert_eq!(queue.push(None, bytes(3, 10), 2), 1);
        assert!(!queue.is_about(&Name::from("n1")));
        assert_eq!(fill(&mut queue, 99, 9), [3, 2]);
    }

    proptest! {
        #[test]
        fn a_queue_drains_after_as_many_packets_as_its_limit_asks(
            pushes in prop::collection::vec((prop::option::of(0..6_u8), 1..100_usize), 0..60),
            limit in 1..8_u32,
        ) {
            let mut queue = Queue::default();
            for (subject, length) in &pushes {
                let subject = subject.map(|n| Name::from(format!("n{n}").as_str()));
                queue.push(subject, bytes(0, *length), 40);
            }
            prop_assert!(queue.len() <= 40);
            // Every packet has room for the longest, and so sends at least one.
            let bound = queue.len() * limit as usize;
            for _ in 0..bound {
                queue.fill(&mut Packer::new(0, HEADER_BYTES + 100), Some(limit));
            }
            prop_assert!(queue.is_empty() && queue.by_subject.is_empty());
        }
    }
}
