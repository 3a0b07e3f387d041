//! Times that were measured, and what is said about them.

use lictor_core::time::Duration;

/// The times that a number of trials took. A trial that was given up counts as one that took longer than all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Those that came to an end, from the shortest to the longest.
    ended: Vec<Duration>,
    /// How many trials there were.
    trials: usize,
}

impl Sample {
    /// One trial each; `None` for one that was given up.
    pub fn new(trials: impl IntoIterator<Item = Option<Duration>>) -> Self {
        let all: Vec<Option<Duration>> = trials.into_iter().collect();
        let trials = all.len();
        let mut ended: Vec<Duration> = all.into_iter().flatten().collect();
        ended.sort_unstable();
        Self { ended, trials }
    }

    /// How many trials there were.
    #[must_use]
    pub const fn trials(&self) -> usize {
        self.trials
    }

    /// How many were given up.
    #[must_use]
    pub const fn given_up(&self) -> usize {
        self.trials - self.ended.len()
    }

    /// The shortest time within which so many percent of the trials ended; `None` if so many did not end at all.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.trials * percent).div_ceil(100).max(1);
        self.ended.get(rank - 1).copied()
    }

    /// The mean; `None` if a trial was given up, or there was none.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        let count = u32::try_from(self.trials).ok().filter(|count| *count > 0)?;
        (self.given_up() == 0).then(|| self.ended.iter().sum::<Duration>() / count)
    }

    /// The cumulative distribution, to be drawn: by when, in milliseconds, how many percent had ended. There are
    /// about `steps` points, and always those of the shortest and the longest time.
    #[must_use]
    pub fn distribution(&self, steps: usize) -> Vec<(f64, f64)> {
        let point = |at: usize| (self.ended[at].as_secs_f64() * 1e3, 100.0 * (at + 1) as f64 / self.trials as f64);
        let stride = self.ended.len().div_ceil(steps.max(1)).max(1);
        let start = self.ended.first().map(|first| (first.as_secs_f64() * 1e3, 0.0));
        let last = self.ended.len().checked_sub(1).map(point);
        start.into_iter().chain((0..self.ended.len()).step_by(stride).map(point)).chain(last).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(times: &[u64]) -> Vec<Option<Duration>> {
        times.iter().map(|ms| Some(Duration::from_millis(*ms))).collect()
    }

    #[test]
    fn percentiles_are_times_that_occurred() {
        let sample = Sample::new(millis(&[40, 10, 30, 20]));
        let at = |percent| sample.percentile(percent).map(|time| time.as_millis());
        assert_eq!([at(0), at(25), at(50), at(51), at(100)], [Some(10), Some(10), Some(20), Some(30), Some(40)]);
        assert_eq!(sample.mean(), Some(Duration::from_millis(25)));
    }

    #[test]
    fn what_was_given_up_took_longest() {
        let mut trials = millis(&[10, 20, 30]);
        trials.push(None);
        let sample = Sample::new(trials);
        assert_eq!(sample.percentile(75), Some(Duration::from_millis(30)));
        assert_eq!((sample.percentile(76), sample.mean(), sample.given_up()), (None, None, 1));
        assert_eq!(sample.distribution(100).last(), Some(&(30.0, 75.0)));
    }

    #[test]
    fn a_distribution_keeps_its_ends_however_thinned() {
        let sample = Sample::new(millis(&(1..=1000).collect::<Vec<_>>()));
        let points = sample.distribution(10);
        assert!(points.len() <= 13);
        assert_eq!((points[0], points[points.len() - 1]), ((1.0, 0.0), (1000.0, 100.0)));
        assert!(points.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1));
    }

    #[test]
    fn nothing_measured_is_nothing_said() {
        let sample = Sample::new([]);
        assert_eq!((sample.percentile(50), sample.mean(), sample.distribution(10)), (None, None, vec![]));
    }
}
