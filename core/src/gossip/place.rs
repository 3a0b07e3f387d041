//! Network coordinates: how far apart are two members that never spoke to each other?
//!
//! Vivaldi (Dabek and others, 2004): every member has a place in a space of a few dimensions, and a height above it
//! for the way from the machine into the network. Each measured round trip is a spring between two places: if it is too
//! long for its distance it pushes them apart, else it pulls, and the less one trusts oneself and the more the other, the further one
//! moves. On top of it, from Ledlie and others (2007): a median of the last few round trips with each member, as
//! single ones lie; an adjustment that makes up on average for what the space cannot express; and a weak gravity
//! towards the origin, so that the whole does not drift away.

use std::collections::{BTreeMap, VecDeque};

use super::member::Name;
use crate::coordinate::{Coordinate, DIMENSIONS, ERROR_MAX, HEIGHT_MIN, difference, length};
use crate::rng::Rng;
use crate::time::Duration;

/// How much one measurement changes the error (c_e of the paper).
const ERROR_GAIN: f64 = 0.25;
/// How much one measurement moves us (c_c of the paper).
const MOVE_GAIN: f64 = 0.25;
/// How many measurements the adjustment is an average of.
const ADJUSTMENT_WINDOW: usize = 20;
/// How many round trips with one member the median is taken of.
const FILTER_SIZE: usize = 3;
/// At this distance from the origin, in seconds, gravity moves by a second.
const GRAVITY_RHO: f64 = 150.0;
/// Below this, in seconds, nothing can be measured.
const NOTHING: f64 = 1e-6;
/// A round trip that took longer says nothing about the network.
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(10);

impl Coordinate {
    /// Moves away from `other` by `force` seconds, or towards it if that is below zero.
    pub(super) fn push(&mut self, force: f64, other: &Self, rng: &mut Rng) {
        let gap = difference(&self.vector, &other.vector);
        let far = length(&gap);
        // Two in the same place must part in some direction.
        let direction = if far > NOTHING { gap.map(|value| value / far) } else { random_direction(rng) };
        for (value, towards) in self.vector.iter_mut().zip(direction) {
            *value += towards * force;
        }
        if far > NOTHING {
            self.height = ((self.height + other.height) * force / far + self.height).max(HEIGHT_MIN);
        }
    }
}

/// A member's own place, and what it learns it from.
#[derive(Clone, Debug, Default)]
pub struct Place {
    coordinate: Coordinate,
    /// The last round trips with each member, in seconds.
    filters: BTreeMap<Name, VecDeque<f64>>,
    /// How far off the last distances were, in seconds.
    samples: VecDeque<f64>,
}

impl Place {
    /// Where we believe to be.
    #[must_use]
    pub const fn coordinate(&self) -> &Coordinate {
        &self.coordinate
    }

    /// A member answered after `round_trip`, and says that it is at `other`.
    pub fn learn(&mut self, name: &Name, other: &Coordinate, round_trip: Duration, rng: &mut Rng) {
        if round_trip > LONGEST_ROUND_TRIP || !other.is_valid() {
            return;
        }
        let round_trip = self.median(name, round_trip.as_secs_f64()).max(NOTHING);
        self.spring(other, round_trip, rng);
        self.adjust(other, round_trip);
        self.fall(rng);
        if !self.coordinate.is_valid() {
            // Others may claim to be anywhere: begin anew instead of carrying nonsense on.
            self.coordinate = Coordinate::default();
            self.samples.clear();
        }
    }

    /// A member is no more.
    pub fn forget(&mut self, name: &Name) {
        self.filters.remove(name);
    }

    fn median(&mut self, name: &Name, round_trip: f64) -> f64 {
        let filter = self.filters.entry(name.clone()).or_default();
        filter.push_back(round_trip);
        if filter.len() > FILTER_SIZE {
            filter.pop_front();
        }
        let mut sorted: Vec<f64> = filter.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    fn spring(&mut self, other: &Coordinate, round_trip: f64, rng: &mut Rng) {
        let expected = self.coordinate.adjusted_distance(other);
        let wrong_by = (expected - round_trip).abs() / round_trip;
        let weight = self.coordinate.error / (self.coordinate.error + other.error.max(0.0)).max(NOTHING);
        let gain = ERROR_GAIN * weight;
        self.coordinate.error = (gain * wrong_by + self.coordinate.error * (1.0 - gain)).min(ERROR_MAX);
        self.coordinate.push(MOVE_GAIN * weight * (round_trip - expected), other, rng);
    }

    fn adjust(&mut self, other: &Coordinate, round_trip: f64) {
        self.samples.push_back(round_trip - self.coordinate.raw_distance(other));
        if self.samples.len() > ADJUSTMENT_WINDOW {
            self.samples.pop_front();
        }
        // Half of it, as both ends adjust.
        self.coordinate.adjustment = self.samples.iter().sum::<f64>() / (2.0 * ADJUSTMENT_WINDOW as f64);
    }

    fn fall(&mut self, rng: &mut Rng) {
        let origin = Coordinate::default();
        let far = origin.adjusted_distance(&self.coordinate) / GRAVITY_RHO;
        self.coordinate.push(-far * far, &origin, rng);
    }
}

fn random_direction(rng: &mut Rng) -> [f64; DIMENSIONS] {
    let drawn: [f64; DIMENSIONS] = std::array::from_fn(|_| rng.below(1 << 32) as f64 / f64::from(1 << 30) / 4.0 - 0.5);
    let far = length(&drawn);
    if far > NOTHING {
        return drawn.map(|value| value / far);
    }
    std::array::from_fn(|at| if at == 0 { 1.0 } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinate::distance;

    fn at(x: f64, height: f64, adjustment: f64) -> Coordinate {
        let mut vector = [0.0; DIMENSIONS];
        vector[0] = x;
        Coordinate { vector, error: 0.5, adjustment, height }
    }

    #[test]
    fn members_on_a_line_of_places_find_their_distances() {
        // Twelve machines in a row, ten milliseconds of round trip between neighbours.
        let names: Vec<Name> = (0..12).map(|n| Name::from(format!("n{n}").as_str())).collect();
        let mut places = vec![Place::default(); 12];
        let mut rng = Rng::seeded(1);
        for _ in 0..12 * 300 {
            let (a, b) = (rng.below(12) as usize, rng.below(12) as usize);
            if a != b {
                let round_trip = Duration::from_millis(10 * a.abs_diff(b) as u64);
                let other = places[b].coordinate().clone();
                places[a].learn(&names[b], &other, round_trip, &mut rng);
            }
        }
        let mut wrong = 0.0;
        for a in 0..12_usize {
            for b in (0..12_usize).filter(|b| *b != a) {
                let (is, found) =
                    (0.010 * a.abs_diff(b) as f64, distance(&places[a].coordinate, &places[b].coordinate));
                wrong += (found.as_secs_f64() - is).abs() / is / 132.0;
            }
        }
        assert!(wrong < 0.10, "distances are wrong by {wrong} on average");
        assert!(places.iter().all(|place| place.coordinate.error < 0.3));
    }

    #[test]
    fn one_outlier_among_three_round_trips_moves_nobody() {
        let mut rng = Rng::seeded(2);
        let (name, other) = (Name::from("n2"), at(0.010, 0.001, 0.0));
        let (mut calm, mut jolted) = (Place::default(), Place::default());
        for round in 0..60 {
            let mut steps = rng.clone();
            calm.learn(&name, &other, Duration::from_millis(12), &mut rng);
            let spike = if round % 3 == 1 { 5000 } else { 12 };
            jolted.learn(&name, &other, Duration::from_millis(spike), &mut steps);
        }
        // The very first spike meets a filter that holds one other: only that one shows, and is forgotten.
        let apart = distance(&jolted.coordinate, &other).abs_diff(distance(&calm.coordinate, &other));
        assert!(apart < Duration::from_millis(40), "{apart:?}");
    }

    #[test]
    fn nonsense_leaves_no_nonsense_behind() {
        let mut rng = Rng::seeded(3);
        let mut place = Place::default();
        place.learn(&Name::from("n2"), &at(f64::MAX, 1.0, 0.0), Duration::from_millis(1), &mut rng);
        place.learn(&Name::from("n2"), &at(-f64::MAX, f64::MAX, 0.0), Duration::from_millis(1), &mut rng);
        assert!(place.coordinate.is_valid());
        place.learn(&Name::from("n3"), &at(f64::NAN, 1.0, 0.0), Duration::from_millis(1), &mut rng);
        assert_eq!(place.filters.len(), 1, "what is no place is not looked at");
        place.forget(&Name::from("n2"));
        assert!(place.filters.is_empty());
    }
}
