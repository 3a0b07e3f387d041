//! Where the agents are, gathered: each tells its leader every few seconds, and the log carries them together.

use std::collections::{BTreeMap, VecDeque};

use crate::api::coordinate::Place;
use crate::coordinate::Coordinate;
use crate::store::Command;
use crate::time::{Duration, Instant};

/// How long places are gathered.
const PERIOD: Duration = Duration::from_secs(5);

/// The most places in one command.
const BATCH: usize = 512;

/// The most places that wait; those of further nodes are dropped, as every agent tells its own again.
const WAITING: usize = 16 * BATCH;

/// What agents have told since the last command. Invariant: `order` holds each node of `latest` once.
#[derive(Debug, Default)]
pub(super) struct Coordinates {
    latest: BTreeMap<String, Coordinate>,
    /// Whoever told first comes first.
    order: VecDeque<String>,
    /// When the next command is due; nothing waits if there is none.
    due: Option<Instant>,
}

impl Coordinates {
    /// An agent tells where it is. A place that is none is not looked at.
    pub(super) fn gather(&mut self, now: Instant, place: Place) {
        let Place { node, coordinate } = place;
        if !coordinate.is_valid() {
            return;
        }
        if let Some(earlier) = self.latest.get_mut(&node) {
            *earlier = coordinate;
        } else if self.order.len() < WAITING {
            self.order.push_back(node.clone());
            self.latest.insert(node, coordinate);
            self.due.get_or_insert(now + PERIOD);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn poll_command(&mut self, now: Instant) -> Option<Command> {
        if self.due.is_none_or(|due| now < due) {
            return None;
        }
        let count = self.order.len().min(BATCH);
        let nodes = self.order.drain(..count);
        let place = |node| self.latest.remove_entry(&node).map(|(node, coordinate)| Place { node, coordinate });
        let places: Vec<Place> = nodes.filter_map(place).collect();
        self.due = (!self.order.is_empty()).then_some(now + PERIOD);
        Some(Command::UpdateCoordinates(places))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(node: &str, height: f64) -> Place {
        Place { node: node.to_owned(), coordinate: Coordinate { height, ..Coordinate::default() } }
    }

    #[test]
    fn what_was_told_last_goes_out_after_a_while_and_once() {
        let (start, mut coordinates) = (Instant::from_millis(1000), Coordinates::default());
        assert_eq!(coordinates.poll_timeout(), None);
        coordinates.gather(start, place("b", 1.0));
        coordinates.gather(start + PERIOD / 2, place("a", 2.0));
        coordinates.gather(start + PERIOD / 2, place("b", 3.0));
        coordinates.gather(start, place("nowhere", f64::NAN));
        let due = start + PERIOD;
        assert_eq!(coordinates.poll_timeout(), Some(due));
        assert_eq!(coordinates.poll_command(due - Duration::from_nanos(1)), None);
        let command = Command::UpdateCoordinates(vec![place("b", 3.0), place("a", 2.0)]);
        assert_eq!(coordinates.poll_command(due), Some(command));
        assert_eq!((coordinates.poll_command(due), coordinates.poll_timeout()), (None, None));
    }

    #[test]
    fn a_crowd_goes_out_in_batches_and_has_a_limit() {
        let mut coordinates = Coordinates::default();
        for n in 0..WAITING + 10 {
            coordinates.gather(Instant::ZERO, place(&format!("{n:05}"), 1.0));
        }
        let mut told = Vec::new();
        while let Some(due) = coordinates.poll_timeout() {
            let Some(Command::UpdateCoordinates(places)) = coordinates.poll_command(due) else { panic!("it is due") };
            assert!(places.len() <= BATCH);
            assert_eq!(coordinates.poll_command(due), None, "one at a time");
            told.extend(places.into_iter().map(|place| place.node));
        }
        assert_eq!(told, (0..WAITING).map(|n| format!("{n:05}")).collect::<Vec<_>>());
    }
}
