//! User events: each at most once on every member.
//!
//! Events are ordered by Lamport time. A member remembers those of the last [`WINDOW`] times, and refuses what is
//! older: what it could have forgotten it will not hear again. Whoever joins begins after the events that the pool
//! had by then; whoever restarts begins after the last time that it had seen before, if it kept that.

use bytes::Bytes;
use uuid::Uuid;

use crate::id::LamportTime;

/// How many Lamport times back events are remembered.
pub const WINDOW: usize = 512;
/// The most events of one Lamport time. Honest members rarely share one at all.
pub const PER_TIME: usize = 16;

/// An event that somebody fired for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserEvent {
    /// Tells it from others of the same name and time. The one who fires it draws it.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// What it carries.
    pub payload: Bytes,
}

/// An event with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedEvent {
    /// When it was fired.
    pub time: LamportTime,
    /// The event.
    pub event: UserEvent,
}

/// Why an event cannot be fired.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotFire {
    /// It would not fit into a datagram.
    #[error("user event exceeds the limit of {limit} bytes for name and payload, as it has {bytes}")]
    TooLarge {
        /// The size of its name and payload.
        bytes: usize,
        /// The most it may have.
        limit: usize,
    },
    /// We are leaving, or gone.
    #[error("this agent is leaving the pool, and fires no more events")]
    Leaving,
}

/// Lamport's clock (1978): moves with what we do and what we hear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LamportClock {
    /// The latest time that we have given or heard of.
    latest: LamportTime,
}

impl LamportClock {
    /// The latest time that we have given or heard of.
    #[must_use]
    pub const fn latest(self) -> LamportTime {
        self.latest
    }

    /// A time for something new, later than all that we know.
    pub fn advance(&mut self) -> LamportTime {
        self.latest = self.latest.next();
        self.latest
    }

    /// Somebody knows of this time.
    pub fn witness(&mut self, time: LamportTime) {
        self.latest = self.latest.max(time);
    }
}

/// What an event that was heard is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// New: to be delivered and passed on.
    New,
    /// We had it.
    Seen,
    /// From before our time, or too old to tell whether we had it.
    Old,
    /// There are too many of its time.
    Crowded,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    time: LamportTime,
    events: Vec<UserEvent>,
}

/// The events of late, and the clock that orders them.
///
/// Invariants: a slot's time modulo [`WINDOW`] is its place; no slot has more than [`PER_TIME`] events; every event that
/// was ever new is in its slot, or its time is at least [`WINDOW`] behind the clock.
#[derive(Clone, Debug, Default)]
pub struct EventBuffer {
    clock: LamportClock,
    /// Events before this are from before our time.
    first: LamportTime,
    /// Grows to [`WINDOW`] with the first events.
    slots: Vec<Slot>,
}

impl EventBuffer {
    /// The latest time of an event. Kept across a restart, no event comes twice.
    #[must_use]
    pub const fn latest(&self) -> LamportTime {
        self.clock.latest()
    }

    /// A time for a new event.
    pub fn advance(&mut self) -> LamportTime {
        self.clock.advance()
    }

    /// What others know of.
    pub fn witness(&mut self, time: LamportTime) {
        self.clock.witness(time);
    }

    /// Events up to `time` are none of our business any more.
    pub fn ignore_until(&mut self, time: LamportTime) {
        self.first = self.first.max(time.next());
        self.clock.witness(time);
    }

    /// Looks at an event, and remembers it if it is new.
    pub fn hear(&mut self, heard: &TimedEvent) -> Verdict {
        self.clock.witness(heard.time);
        if heard.time < self.first || heard.time.0 + WINDOW as u64 <= self.clock.latest().0 {
            return Verdict::Old;
        }
        if self.slots.is_empty() {
            self.slots.resize(WINDOW, Slot::default());
        }
        let slot = &mut self.slots[(heard.time.0 % WINDOW as u64) as usize];
        if slot.time != heard.time {
            // What is here is a whole turn older, as newer times would have made this one old.
            *slot = Slot { time: heard.time, events: Vec::new() };
        }
        if slot.events.iter().any(|event| event.id == heard.event.id) {
            return Verdict::Seen;
        }
        if slot.events.len() >= PER_TIME {
            return Verdict::Crowded;
        }
        slot.events.push(heard.event.clone());
        Verdict::New
    }

    /// The latest events, the newest last, as many as fit into `bytes`: for one who may have missed some.
    #[must_use]
    pub fn recent(&self, bytes: usize) -> Vec<TimedEvent> {
        let mut all: Vec<TimedEvent> = (self.slots.iter())
            .flat_map(|slot| slot.events.iter().map(|event| TimedEvent { time: slot.time, event: event.clone() }))
            .collect();
        all.sort_by_key(|timed| std::cmp::Reverse(timed.time));
        let mut left = bytes;
        let fitting = all.iter().take_while(|timed| {
            let size = timed.event.name.len() + timed.event.payload.len() + 32;
            left.checked_sub(size).map(|rest| left = rest).is_some()
        });
        let fitting = fitting.count();
        all.truncate(fitting);
        all.reverse();
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(time: u64, id: u128) -> TimedEvent {
        let event = UserEvent { id: Uuid::from_u128(id), name: "deploy".to_owned(), payload: Bytes::new() };
        TimedEvent { time: LamportTime(time), event }
    }

    #[test]
    fn an_event_is_new_once() {
        let mut buffer = EventBuffer::default();
        assert_eq!(buffer.hear(&event(3, 1)), Verdict::New);
        assert_eq!(buffer.hear(&event(3, 1)), Verdict::Seen);
        assert_eq!(buffer.hear(&event(3, 2)), Verdict::New);
        assert_eq!(buffer.hear(&event(1, 3)), Verdict::New);
        assert_eq!(buffer.latest(), LamportTime(3));
        assert_eq!(buffer.advance(), LamportTime(4));
        assert_eq!(buffer.recent(1000).iter().map(|timed| timed.time.0).collect::<Vec<_>>(), [1, 3, 3]);
        assert_eq!(buffer.recent(80).iter().map(|timed| timed.time.0).collect::<Vec<_>>(), [3, 3]);
    }

    #[test]
    fn what_may_have_been_forgotten_is_refused() {
        let mut buffer = EventBuffer::default();
        assert_eq!(buffer.hear(&event(1, 1)), Verdict::New);
        assert_eq!(buffer.hear(&event(513, 2)), Verdict::New);
        assert_eq!(buffer.hear(&event(1, 1)), Verdict::Old);
        assert_eq!(buffer.hear(&event(2, 3)), Verdict::New);
    }

    #[test]
    fn events_from_before_our_time_are_ignored() {
        let mut buffer = EventBuffer::default();
        buffer.ignore_until(LamportTime(10));
        assert_eq!(buffer.hear(&event(10, 1)), Verdict::Old);
        assert_eq!(buffer.hear(&event(11, 2)), Verdict::New);
        assert_eq!(buffer.advance(), LamportTime(12));
    }

    #[test]
    fn one_time_holds_only_so_many() {
        let mut buffer = EventBuffer::default();
        for id in 0..PER_TIME as u128 {
            assert_eq!(buffer.hear(&event(1, id)), Verdict::New);
        }
        assert_eq!(buffer.hear(&event(1, 99)), Verdict::Crowded);
        assert_eq!(buffer.hear(&event(1, 0)), Verdict::Seen);
    }

    proptest! {
        #[test]
        fn no_event_is_ever_new_twice(heard in prop::collection::vec((0..2000_u64, 0..3_u128), 0..300)) {
            let mut buffer = EventBuffer::default();
            let mut delivered = std::collections::BTreeSet::new();
            for (time, id) in heard {
                if buffer.hear(&event(time, id)) == Verdict::New {
                    prop_assert!(delivered.insert((time, id)), "{time} {id} twice");
                }
            }
        }
    }
}
