//! How fast news spread, and how soon a death is noticed, in pools of different sizes.

use lictor_core::gossip::Options;
use lictor_core::rng::Rng;
use lictor_core::time::{Duration, Instant};

use super::network::{Network, Seen, Sight};
use crate::dice::{Concern, stream};
use crate::experiment::sample::Sample;
use crate::experiment::side_by_side;

/// How long a pool runs before anything is measured.
const WARM_UP: Duration = Duration::from_secs(3);
/// How many events are fired in each pool.
const EVENTS: usize = 10;
/// An event that has not reached all by then is given up.
const EVENT_PATIENCE: Duration = Duration::from_secs(60);
/// By then nobody broadcasts an event any more.
const BROADCASTS_END: Duration = Duration::from_secs(3);
/// A death that not all have noticed by then is given up.
const DEATH_PATIENCE: Duration = Duration::from_secs(300);
/// One death for so many members at the same time, up to [`MOST_DEATHS`].
const MEMBERS_PER_DEATH: usize = 64;
const MOST_DEATHS: usize = 8;
/// Deaths are brought about so many times in each pool.
const BURIALS: usize = 2;

/// What was measured at one size of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The number of members.
    pub size: usize,
    /// From the firing of an event until half of the members had it.
    pub half: Sample,
    /// Until 99 of a hundred had it.
    pub most: Sample,
    /// Until all had it.
    pub all: Sample,
    /// How many events took longer than broadcasts take: the last member had them by an exchange of full states.
    pub by_exchange: usize,
    /// From a death until anybody suspected it.
    pub suspected: Sample,
    /// Until anybody declared it.
    pub first: Sample,
    /// Until all knew of it.
    pub known: Sample,
    /// Packets that each member sent in a second, on average, in thousandths.
    pub packets_millis: u64,
}

/// One event: when a half, 99 of a hundred, and all had it.
type Spread = [Option<Duration>; 3];
/// One death: when anybody suspected it, anybody declared it, and all knew of it.
type Detection = [Option<Duration>; 3];

/// Measures pools of this size, so many of them.
#[must_use]
pub(super) fn measure(size: usize, pools: u64, seed: u64, jobs: usize, options: &Options) -> Point {
    let mut dice = Rng::seeded(seed ^ size as u64);
    let seeds: Vec<u64> = (0..pools).map(|_| dice.u64()).collect();
    let outcomes = side_by_side(pools, jobs, |n| observe(size, seeds[n as usize], options));
    let spread = |which: usize| Sample::new(outcomes.iter().flat_map(|(events, ..)| events).map(|event| event[which]));
    let death = |which: usize| Sample::new(outcomes.iter().flat_map(|(_, deaths, _)| deaths).map(|death| death[which]));
    let late = |event: &&Spread| event[2].is_none_or(|all| all > BROADCASTS_END);
    let by_exchange = outcomes.iter().flat_map(|(events, ..)| events).filter(late).count();
    Point {
        size,
        half: spread(0),
        most: spread(1),
        all: spread(2),
        by_exchange,
        suspected: death(0),
        first: death(1),
        known: death(2),
        packets_millis: outcomes.iter().map(|(.., packets)| packets).sum::<u64>() / pools.max(1),
    }
}

fn observe(size: usize, seed: u64, options: &Options) -> (Vec<Spread>, Vec<Detection>, u64) {
    let mut dice = stream(seed, Concern::Plan);
    let mut network = Network::new(size, options, seed);
    network.run(Instant::ZERO + WARM_UP);
    let events = (0..EVENTS).map(|_| spread_one(&mut network, &mut dice)).collect();
    let deaths = (0..BURIALS).flat_map(|_| detect_some(&mut network, &mut dice)).collect();
    let member_seconds = size as u64 * (network.now.as_nanos() / 1_000_000_000).max(1);
    (events, deaths, network.sent.0 * 1_000 / member_seconds)
}

fn spread_one(network: &mut Network, dice: &mut Rng) -> Spread {
    // At any moment, and after the last one is forgotten.
    let pause = Duration::from_secs(3) + dice.duration(Duration::ZERO, Duration::from_secs(1));
    network.run(network.now + pause);
    network.seen.clear();
    let fired = network.now;
    let size = network.size();
    network.fire(dice.below(size as u64) as usize);
    let until = fired + EVENT_PATIENCE;
    while count_events(&network.seen) < size && network.step(until) {}
    let arrivals: Vec<Duration> =
        network.seen.iter().filter(|seen| seen.what == Sight::Event).map(|seen| seen.at.since(fired)).collect();
    [50, 99, 100].map(|percent| arrivals.get((size * percent).div_ceil(100) - 1).copied())
}

/// Nothing but events happens before there are deaths, so that counting all is as good, and fast.
fn count_events(seen: &[Seen]) -> usize {
    debug_assert!(seen.iter().all(|seen| seen.what == Sight::Event));
    seen.len()
}

fn detect_some(network: &mut Network, dice: &mut Rng) -> Vec<Detection> {
    let count = (network.size() / MEMBERS_PER_DEATH).clamp(1, MOST_DEATHS);
    network.run(network.now + dice.duration(Duration::from_secs(5), Duration::from_secs(6)));
    let mut dead: Vec<usize> = Vec::new();
    while dead.len() < count {
        let member = dice.below(network.size() as u64) as usize;
        if network.is_up(member) && !dead.contains(&member) {
            dead.push(member);
        }
    }
    network.seen.clear();
    dead.iter().for_each(|member| network.kill(*member));
    let died = network.now;
    let living = (0..network.size()).filter(|member| network.is_up(*member)).count();
    let (mut looked_at, mut missing) = (0, living * count);
    while missing > 0 && network.step(died + DEATH_PATIENCE) {
        let is_one = |seen: &&Seen| matches!(seen.what, Sight::Failed(member) if dead.contains(&member));
        missing -= network.seen[looked_at..].iter().filter(is_one).count();
        looked_at = network.seen.len();
    }
    let detection = |member: &usize| {
        let times = |what: Sight| -> Vec<Duration> {
            network.seen.iter().filter(|seen| seen.what == what).map(|seen| seen.at.since(died)).collect()
        };
        let failed = times(Sight::Failed(*member));
        let known = (failed.len() == living).then(|| failed.last().copied()).flatten();
        [times(Sight::Suspected(*member)).first().copied(), failed.first().copied(), known]
    };
    dead.iter().map(detection).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_measured_and_follows_from_the_seed() {
        let options = Options::default();
        let point = measure(16, 2, 1, 2, &options);
        assert_eq!(point, measure(16, 2, 1, 1, &options));
        assert_ne!(point, measure(16, 2, 2, 1, &options));
        assert_eq!((point.all.trials(), point.known.trials()), (2 * EVENTS, 2 * BURIALS));
        for sample in [&point.half, &point.most, &point.all, &point.suspected, &point.first, &point.known] {
            assert_eq!(sample.given_up(), 0);
        }
        assert!(point.half.percentile(50) < point.all.percentile(50));
        assert!(point.suspected.percentile(50) < point.first.percentile(50));
        // A suspicion lasts at least four seconds here; nobody is declared dead sooner.
        assert!(point.first.percentile(0).is_some_and(|least| least >= Duration::from_secs(4)));
    }
}
