//! The events that an agent keeps: the last ones that were meant for it, in the order in which it heard of them.

use std::collections::VecDeque;

use crate::api::event::{Event, Listed, index_of};

/// How many events are kept (as Consul does).
pub const KEPT: usize = 256;

/// The index of a list without events. It is not 0, which would never block.
pub const EMPTY_INDEX: u64 = 1;

/// Which events a list is of; what is empty lets all pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection<'a> {
    /// The name, as it stands.
    pub name: &'a str,
    /// The filters, as they stand: they are not applied, but compared.
    pub node_filter: &'a str,
    /// As above.
    pub service_filter: &'a str,
    /// As above.
    pub tag_filter: &'a str,
}

impl Selection<'_> {
    /// Whether an event is among them.
    #[must_use]
    pub fn has(&self, event: &Event) -> bool {
        let same = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
        same(self.name, &event.name)
            && same(self.node_filter, &event.node_filter)
            && same(self.service_filter, &event.service_filter)
            && same(self.tag_filter, &event.tag_filter)
    }
}

/// The last events. Invariant: never more than [`KEPT`].
#[derive(Clone, Debug, Default)]
pub struct Buffer(VecDeque<Event>);

impl Buffer {
    /// Keeps an event, and returns the one that makes room for it.
    pub fn push(&mut self, event: Event) -> Option<Event> {
        let forgotten = if self.0.len() == KEPT { self.0.pop_front() } else { None };
        self.0.push_back(event);
        forgotten
    }

    /// What [`list`](Self::list) would give as the index.
    #[must_use]
    pub fn index(&self, selection: Selection<'_>) -> u64 {
        self.0.iter().rfind(|event| selection.has(event)).map_or(EMPTY_INDEX, |newest| index_of(newest.id))
    }

    /// The selected events, the newest last.
    #[must_use]
    pub fn list(&self, selection: Selection<'_>) -> Listed {
        let events = self.0.iter().filter(|event| selection.has(event)).cloned().collect();
        Listed { index: self.index(selection), events }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn event(name: &str, id: u128) -> Event {
        Event { id: Uuid::from_u128(id), name: name.to_owned(), ..Event::default() }
    }

    #[test]
    fn the_index_stands_for_the_newest_that_is_selected() {
        let mut buffer = Buffer::default();
        let a = Selection { name: "a", ..Selection::default() };
        assert_eq!(buffer.list(a), Listed { index: EMPTY_INDEX, events: Vec::new() });
        buffer.push(event("a", 11));
        buffer.push(event("b", 12));
        assert_eq!(buffer.list(a), Listed { index: 11, events: vec![event("a", 11)] });
        assert_eq!(buffer.index(Selection::default()), 12);
        let filtered = Event { node_filter: "n".to_owned(), ..event("a", 13) };
        buffer.push(filtered.clone());
        assert_eq!(buffer.list(Selection { node_filter: "n", ..a }).events, [filtered]);
        assert_eq!(buffer.list(Selection { node_filter: "m", ..a }).events, []);
        assert_eq!(buffer.list(a).events.len(), 2);
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut buffer = Buffer::default();
        for id in 0..KEPT as u128 {
            assert_eq!(buffer.push(event("a", id)), None);
        }
        assert_eq!(buffer.push(event("b", 999)), Some(event("a", 0)));
        let all = buffer.list(Selection::default());
        assert_eq!((all.events.len(), all.events[0].id, all.index), (KEPT, Uuid::from_u128(1), 999));
    }
}
