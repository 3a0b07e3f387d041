//! Members that process no messages for a while, again and again: whom do the others, and they themselves, take for dead?
//!
//! After the "interval" experiment of the Lifeguard paper (Dadgar, Phillips, Currey, 2018): C members at once fall silent for D, are
//! well for I, and fall silent again. While they are, nothing that they send leaves them and nothing that arrives is looked at,
//! but their clocks go on.

use lictor_core::gossip::Options;
use lictor_core::rng::Rng;
use lictor_core::time::{Duration, Instant};

use super::network::{Network, Sight};
use crate::dice::{Concern, stream};
use crate::experiment::sample::Sample;
use crate::experiment::side_by_side;

/// As many members as in the paper.
pub const MEMBERS: usize = 128;
/// How long members fall silent and recover, as in the paper.
const TEST: Duration = Duration::from_secs(120);
const WARM_UP: Duration = Duration::from_secs(3);
/// When, after the beginning of the test, a sound member dies.
const DEATH_AFTER: (Duration, Duration) = (Duration::from_secs(40), Duration::from_secs(60));
/// For how long, after the test or after a death in a quiet pool, the news of a death are waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// For how long the slow members are silent, and for how long well in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// D of the paper.
    pub silent: Duration,
    /// I of the paper.
    pub well: Duration,
}

/// What came of one test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How often anybody declared a sound member dead.
    pub false_positives: u64,
    /// How often a sound member did.
    pub by_sound: u64,
    /// From the death of a sound member until a sound one declared it.
    pub first: Option<Duration>,
    /// Until all sound ones knew of it.
    pub known: Option<Duration>,
    /// Packets that were sent during the test.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What came of all tests with one setting and so many slow members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Total {
    /// The sum over all tests.
    pub false_positives: u64,
    /// The sum over all tests.
    pub by_sound: u64,
    /// One for each test.
    pub first: Sample,
    /// One for each test.
    pub known: Sample,
    /// The sum over all tests.
    pub packets: u64,
    /// The sum over all tests.
    pub bytes: u64,
}

impl Total {
    /// Adds up what came of tests.
    #[must_use]
    pub fn of(outcomes: &[Outcome]) -> Self {
        let sum = |count: fn(&Outcome) -> u64| outcomes.iter().map(count).sum();
        Self {
            false_positives: sum(|outcome| outcome.false_positives),
            by_sound: sum(|outcome| outcome.by_sound),
            first: Sample::new(outcomes.iter().map(|outcome| outcome.first)),
            known: Sample::new(outcomes.iter().map(|outcome| outcome.known)),
            packets: sum(|outcome| outcome.packets),
            bytes: sum(|outcome| outcome.bytes),
        }
    }
}

/// Runs a test of each rhythm, so many times, with `slow` slow members. The `n`th meets the same members, latencies and
/// deaths whatever the options.
#[must_use]
pub(super) fn test_all(
    options: &Options,
    slow: usize,
    rhythms: &[Rhythm],
    repetitions: u64,
    seed: u64,
    jobs: usize,
) -> Vec<Outcome> {
    let mut dice = Rng::seeded(seed ^ ((slow as u64) << 32));
    let tests = repetitions * rhythms.len() as u64;
    let seeds: Vec<u64> = (0..tests).map(|_| dice.u64()).collect();
    side_by_side(tests, jobs, |n| {
        let rhythm = rhythms[n as usize % rhythms.len()];
        test(options, slow, rhythm, seeds[n as usize])
    })
}

fn test(options: &Options, slow: usize, rhythm: Rhythm, seed: u64) -> Outcome {
    let mut dice = stream(seed, Concern::Plan);
    let mut network = Network::new(MEMBERS, options, seed);
    // Who is first in this order is slow, who is last dies.
    let mut order: Vec<usize> = (0..MEMBERS).collect();
    for last in (1..MEMBERS).rev() {
        order.swap(last, dice.below(last as u64 + 1) as usize);
    }
    let (slow, victim) = (&order[..slow.min(MEMBERS - 2)], order[MEMBERS - 1]);
    network.run(Instant::ZERO + WARM_UP);
    let (begun, sent) = (network.now, network.sent);
    let (end, death) = (begun + TEST, begun + dice.duration(DEATH_AFTER.0, DEATH_AFTER.1));
    let mut next = begun;
    while next < end {
        network.run_past(death, next, |network| network.kill(victim));
        // Cut off at the end of the test: all are well from then on.
        let until = (next + rhythm.silent).min(end);
        slow.iter().for_each(|member| network.block(*member, until));
        next = until + rhythm.well;
    }
    network.run_past(death, end, |network| network.kill(victim));
    let (packets, bytes) = (network.sent.0 - sent.0, network.sent.1 - sent.1);
    let sound = |member: usize| !slow.contains(&member);
    let wrong = network.seen.iter().filter(|seen| match seen.what {
        Sight::Failed(member) => sound(member) && (member != victim || seen.at < death),
        _ => false,
    });
    let (mut false_positives, mut by_sound) = (0, 0);
    for seen in wrong {
        false_positives += 1;
        by_sound += u64::from(sound(seen.by));
    }
    let (first, known) = network.death_noticed(victim, death, MEMBERS - 1 - slow.len(), sound, end + PATIENCE);
    Outcome { false_positives, by_sound, first, known, packets, bytes }
}

/// How many members die one after another in each quiet pool, and how long it is from when all know of one to the next.
const DEATHS: usize = 8;
const BETWEEN_DEATHS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(6));

/// How soon a death is noticed by anybody, and by all, where nobody is slow: in so many pools.
#[must_use]
pub(super) fn quiet_deaths(options: &Options, pools: u64, seed: u64, jobs: usize) -> (Sample, Sample) {
    let mut dice = Rng::seeded(seed);
    let seeds: Vec<u64> = (0..pools).map(|_| dice.u64()).collect();
    let deaths: Vec<_> = side_by_side(pools, jobs, |n| deaths(options, seeds[n as usize])).concat();
    (Sample::new(deaths.iter().map(|death| death.0)), Sample::new(deaths.iter().map(|death| death.1)))
}

fn deaths(options: &Options, seed: u64) -> Vec<(Option<Duration>, Option<Duration>)> {
    let mut dice = stream(seed, Concern::Plan);
    let mut network = Network::new(MEMBERS, options, seed);
    network.run(Instant::ZERO + WARM_UP);
    let mut all = Vec::new();
    for gone in 1..=DEATHS {
        // Names say nothing: the members might as well die in their order.
        let (victim, died) = (gone - 1, network.now);
        network.seen.clear();
        network.kill(victim);
        all.push(network.death_noticed(victim, died, MEMBERS - gone, |_| true, died + PATIENCE));
        // Until nobody speaks of it any more.
        network.run(network.now + dice.duration(BETWEEN_DEATHS.0, BETWEEN_DEATHS.1));
    }
    all
}

impl Network {
    /// Runs until `wanted` of those who `count` have noticed a death, or until `until`: how long it took for the first of them, and
    /// for all.
    fn death_noticed(
        &mut self,
        victim: usize,
        died: Instant,
        wanted: usize,
        count: impl Fn(usize) -> bool,
        until: Instant,
    ) -> (Option<Duration>, Option<Duration>) {
        let (mut noticed, mut looked_at) = (Vec::new(), 0);
        loop {
            let news = self.seen[looked_at..].iter();
            let right = news.filter(|seen| seen.what == Sight::Failed(victim) && seen.at >= died && count(seen.by));
            noticed.extend(right.map(|seen| seen.at.since(died)));
            looked_at = self.seen.len();
            if noticed.len() >= wanted || !self.step(until) {
                return (noticed.first().copied(), noticed.get(wanted - 1).copied());
            }
        }
    }

    /// Runs until `until`, and does something on the way if its time lies there.
    fn run_past(&mut self, at: Instant, until: Instant, act: impl FnOnce(&mut Self)) {
        if self.now < at && at <= until {
            self.run(at);
            act(self);
        }
        self.run(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rhythm(silent: u64, well: u64) -> Rhythm {
        Rhythm { silent: Duration::from_millis(silent), well: Duration::from_millis(well) }
    }

    #[test]
    fn without_slow_members_nobody_is_wronged_and_the_dead_are_noticed() {
        let outcomes = test_all(&Options::default(), 0, &[rhythm(8_192, 1_024)], 2, 1, 2);
        for outcome in outcomes {
            assert_eq!((outcome.false_positives, outcome.by_sound), (0, 0));
            let (first, known) = (outcome.first.expect("noticed"), outcome.known.expect("by all"));
            assert!(first > Duration::from_secs(8) && first <= known && known < Duration::from_secs(20), "{outcome:?}");
        }
    }

    #[test]
    fn slow_members_wrong_the_sound_and_lifeguard_keeps_them_from_it() {
        let rhythms = [rhythm(16_384, 64)];
        let plain = Options { awareness_max: 1, suspicion_max_mult: 1, buddy: false, ..Options::default() };
        let with = test_all(&Options::default(), 8, &rhythms, 1, 1, 1);
        let without = test_all(&plain, 8, &rhythms, 1, 1, 1);
        assert_eq!(with, test_all(&Options::default(), 8, &rhythms, 1, 1, 2));
        let (with, without) = (Total::of(&with), Total::of(&without));
        assert!(without.false_positives >= without.by_sound && without.by_sound > 100, "{without:?}");
        assert!(with.by_sound * 20 <= without.by_sound, "{} and {}", with.by_sound, without.by_sound);
    }
}
