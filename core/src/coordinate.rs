//! A place in the network, and how far apart two places are. How a member learns its own is [gossip](crate::gossip)'s
//! business; the servers keep everybody's, to tell what is near.

use serde::{Deserialize, Serialize};

use crate::time::Duration;

/// The dimensions of the space.
pub const DIMENSIONS: usize = 8;

/// The largest error: "I have no idea where I am".
pub const ERROR_MAX: f64 = 1.5;

/// The least height, in seconds.
pub const HEIGHT_MIN: f64 = 10e-6;

/// A place. All in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coordinate {
    /// The place in the space.
    pub vector: [f64; DIMENSIONS],
    /// How wrong its distances tend to be: a share, from 0 to 1.5.
    pub error: f64,
    /// What to add to distances from here.
    pub adjustment: f64,
    /// The way into the network.
    pub height: f64,
}

impl Default for Coordinate {
    fn default() -> Self {
        Self { vector: [0.0; DIMENSIONS], error: ERROR_MAX, adjustment: 0.0, height: HEIGHT_MIN }
    }
}

impl Coordinate {
    /// Whether it is a place at all.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.vector.iter().chain([&self.error, &self.adjustment, &self.height]).all(|value| value.is_finite())
    }

    /// As [`distance`], in seconds and without adjustments.
    pub(crate) fn raw_distance(&self, other: &Self) -> f64 {
        length(&difference(&self.vector, &other.vector)) + self.height + other.height
    }

    /// As [`distance`], in seconds.
    pub(crate) fn adjusted_distance(&self, other: &Self) -> f64 {
        let raw = self.raw_distance(other);
        let adjusted = raw + self.adjustment + other.adjustment;
        // Adjustments are averages, and may be too much for the close ones.
        if adjusted > 0.0 { adjusted } else { raw }
    }
}

/// The round trip that is to be expected between two places; [`Duration::MAX`] if it is too long to tell.
#[must_use]
pub fn distance(a: &Coordinate, b: &Coordinate) -> Duration {
    let seconds = a.adjusted_distance(b);
    let beyond = if seconds > 0.0 { Duration::MAX } else { Duration::ZERO };
    Duration::try_from_secs_f64(seconds).unwrap_or(beyond)
}

/// The way from `b` to `a`.
pub(crate) fn difference(a: &[f64; DIMENSIONS], b: &[f64; DIMENSIONS]) -> [f64; DIMENSIONS] {
    std::array::from_fn(|at| a[at] - b[at])
}

/// The length of a way, in seconds.
pub(crate) fn length(vector: &[f64; DIMENSIONS]) -> f64 {
    vector.iter().map(|value| value * value).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f64, height: f64, adjustment: f64) -> Coordinate {
        let mut vector = [0.0; DIMENSIONS];
        vector[0] = x;
        Coordinate { vector, error: 0.5, adjustment, height }
    }

    #[test]
    fn a_distance_is_the_way_down_across_and_up_again() {
        assert_eq!(distance(&at(0.0, 0.001, 0.0), &at(0.010, 0.002, 0.0)), Duration::from_micros(13_000));
        assert_eq!(distance(&at(0.0, 0.001, 0.001), &at(0.010, 0.002, -0.002)), Duration::from_micros(12_000));
        let close = distance(&at(0.0, 0.001, -0.004), &at(0.0, 0.002, 0.0));
        assert_eq!(close, Duration::from_micros(3_000), "an adjustment may not make a distance vanish");
    }

    #[test]
    fn what_is_too_far_to_tell_is_far_and_not_near() {
        assert_eq!(distance(&at(0.0, 0.001, 0.0), &at(1e300, 0.001, 0.0)), Duration::MAX);
        assert_eq!(distance(&at(0.0, -1.0, 0.0), &at(0.0, -1.0, 0.0)), Duration::ZERO);
    }
}
