//! How long a cluster is without a leader after a crash, depending on how its election timeouts are drawn.
//!
//! After figure 16 of Ongaro and Ousterhout's paper ("In Search of an Understandable Consensus Algorithm", 2014). What
//! was found, and how it differs from the paper, stands in `docs/elections.md`.

mod report;
mod trial;

use std::path::PathBuf;

use lictor_core::rng::Rng;
use lictor_core::time::Duration;

use super::sample::Sample;
use super::{plot, side_by_side};

pub use trial::Outcome;

/// What the experiment may be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How many elections are held for each choice of timeouts.
    #[arg(long, default_value_t = 1_000)]
    pub elections: u64,
    /// All dice follow from it.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many threads work on it; as many as there are processors if absent. It changes nothing else.
    #[arg(long)]
    pub jobs: Option<usize>,
    /// Where the picture is written.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Servers ask for votes at once, without asking first whether they would get them, as in the paper.
    #[arg(long)]
    pub without_pre_vote: bool,
    /// All servers have the same log, so that each of them can win; in the paper, their lengths differ.
    #[arg(long)]
    pub equal_logs: bool,
    /// The shortest and the longest latency of a link, in microseconds.
    #[arg(long, value_name = "A..B", default_value = "500..1500", value_parser = parse_range)]
    pub latency_us: (u64, u64),
    /// The shortest and the longest time that a disk takes for a write, in microseconds.
    #[arg(long, value_name = "A..B", default_value = "3000..8000", value_parser = parse_range)]
    pub disk_us: (u64, u64),
    /// How late, at most, a server notices that a timeout has run out, in microseconds. Without this noise, servers with
    /// equal timeouts stay in step for ever.
    #[arg(long, value_name = "MOST", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(..=LONGEST_US))]
    pub late_us: u64,
}

/// How election timeouts are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Election {
    /// The shortest timeout.
    pub timeout: Duration,
    /// How much longer one may be.
    pub spread: Duration,
    /// Whether a server asks first whether it would get the votes.
    pub pre_vote: bool,
}

/// What the servers stand in, the same for every election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// Each link's latency is drawn once from … to.
    pub latency_us: (u64, u64),
    /// What each message may take longer, at most.
    pub jitter_us: u64,
    /// Each write's time is drawn from … to.
    pub disk_us: (u64, u64),
    /// How late, at most, a server notices that a timeout has run out.
    pub late_us: u64,
    /// Whether all servers have the same log; if not, only two of four can win.
    pub equal_logs: bool,
    /// An election that takes longer is given up.
    pub patience: Duration,
}

/// All elections with the same choice of timeouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The choice.
    pub election: Election,
    /// The times without a leader.
    pub downtime: Sample,
    /// The times from the winner's step into its term to its majority.
    pub ballot: Sample,
    /// In how many of a thousand elections the first term brought no leader.
    pub more_terms_permille: u64,
    /// In how many of a thousand elections the winner's timeout had to run out more than once, or nobody won.
    pub more_attempts_permille: u64,
}

/// The paper's upper graph: the same shortest timeout, and more and more randomness. In milliseconds.
const WIDTHS: [(u64, u64); 6] = [(150, 150), (150, 151), (150, 155), (150, 175), (150, 200), (150, 300)];
/// The paper's lower graph: a timeout and its double. In milliseconds.
const SCALES: [(u64, u64); 5] = [(12, 24), (25, 50), (50, 100), (100, 200), (150, 300)];

/// Up to where the paper's upper graph goes.
const PATIENCE: Duration = Duration::from_secs(100);

/// The longest latency and the longest write that may be asked for.
const LONGEST_US: u64 = 10_000_000;

/// Runs the whole experiment.
///
/// # Errors
/// A sentence, if there is nothing to do, or the picture cannot be written.
pub fn conduct(args: &Args) -> Result<String, String> {
    if args.elections == 0 {
        return Err("no elections were asked for: give --elections a number above 0".to_owned());
    }
    let surroundings = Surroundings {
        latency_us: args.latency_us,
        jitter_us: 1_000,
        disk_us: args.disk_us,
        late_us: args.late_us,
        equal_logs: args.equal_logs,
        patience: PATIENCE,
    };
    let jobs = args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let series = |choices: &[(u64, u64)]| -> Vec<Point> {
        let choices = choices.iter().map(|(low, high)| Election::between(*low, *high, !args.without_pre_vote));
        choices.map(|election| hold_all(&election, &surroundings, args.seed, args.elections, jobs)).collect()
    };
    let (widths, scales) = (series(&WIDTHS), series(&SCALES));
    if let Some(path) = &args.svg {
        let text = plot::svg(&report::figure(&widths, &scales, !args.without_pre_vote))?;
        std::fs::write(path, text).map_err(|why| format!("cannot write {}: {why}", path.display()))?;
    }
    Ok(report::tables(args, &widths, &scales))
}

/// Holds so many elections with one choice of timeouts. The `n`th meets the same logs, links and disks whatever the choice.
#[must_use]
pub fn hold_all(election: &Election, surroundings: &Surroundings, seed: u64, elections: u64, jobs: usize) -> Point {
    let mut dice = Rng::seeded(seed);
    let seeds: Vec<u64> = (0..elections).map(|_| dice.u64()).collect();
    let outcomes = side_by_side(elections, jobs, |n| trial::hold(election, surroundings, seeds[n as usize]));
    let permille = |which: fn(&Outcome) -> bool| {
        let count = outcomes.iter().filter(|outcome| which(outcome)).count() as u64;
        (count * 1_000).div_ceil(elections.max(1))
    };
    Point {
        election: *election,
        downtime: Sample::new(outcomes.iter().map(|outcome| outcome.downtime)),
        ballot: Sample::new(outcomes.iter().filter(|outcome| outcome.ballot.is_some()).map(|outcome| outcome.ballot)),
        more_terms_permille: permille(|outcome| outcome.terms > 1),
        more_attempts_permille: permille(|outcome| outcome.attempts != 1),
    }
}

impl Election {
    /// Timeouts from `low` to `high` milliseconds.
    #[must_use]
    pub fn between(low: u64, high: u64, pre_vote: bool) -> Self {
        let (timeout, longest) = (Duration::from_millis(low), Duration::from_millis(high));
        Self { timeout, spread: longest.saturating_sub(timeout), pre_vote }
    }
}

fn parse_range(text: &str) -> Result<(u64, u64), String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is not a number of microseconds"));
    let (low, high) = text.split_once("..").ok_or("a range is given as A..B, for example 500..1500")?;
    let (low, high) = (number(low)?, number(high)?);
    match (low <= high, high <= LONGEST_US) {
        (true, true) => Ok((low, high)),
        (false, _) => Err(format!("there is nothing from {low} up to {high}")),
        (_, false) => Err(format!("{high} microseconds are more than the 10 seconds that are allowed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SURROUNDINGS: Surroundings = Surroundings {
        latency_us: (500, 1_500),
        jitter_us: 1_000,
        disk_us: (3_000, 8_000),
        late_us: 1_000,
        equal_logs: false,
        patience: PATIENCE,
    };

    fn point(low: u64, high: u64, pre_vote: bool, seed: u64) -> Point {
        hold_all(&Election::between(low, high, pre_vote), &SURROUNDINGS, seed, 300, 2)
    }

    fn median(point: &Point) -> Duration {
        point.downtime.percentile(50).expect("half of the elections end")
    }

    #[test]
    fn an_experiment_is_a_function_of_its_seed() {
        for pre_vote in [true, false] {
            let election = Election::between(150, 155, pre_vote);
            let once = hold_all(&election, &SURROUNDINGS, 7, 30, 1);
            assert_eq!(once, hold_all(&election, &SURROUNDINGS, 7, 30, 3));
            assert_ne!(once, hold_all(&election, &SURROUNDINGS, 8, 30, 1));
        }
    }

    #[test]
    fn longer_timeouts_are_longer_without_a_leader() {
        let medians = SCALES.map(|(low, high)| median(&point(low, high, true, 1)));
        assert!(medians.is_sorted_by(|shorter, longer| shorter < longer), "{medians:?}");
    }

    #[test]
    fn nobody_wins_before_the_shortest_timeout_has_run_out() {
        for pre_vote in [true, false] {
            let point = point(150, 300, pre_vote, 2);
            let least = point.downtime.percentile(0).unwrap();
            // The crash comes up to 75 ms after the heartbeat; then the rest of the timeout, two writes, two ways.
            assert!(least >= Duration::from_millis(75 + 3 + 3 + 1), "{least:?}");
            assert!(point.downtime.percentile(50).unwrap() >= least + Duration::from_millis(20));
        }
    }

    #[test]
    fn randomness_makes_split_votes_rare() {
        for (pre_vote, seed) in [(true, 3), (false, 3), (true, 4), (false, 4)] {
            let (narrow, wide) = (point(150, 151, pre_vote, seed), point(150, 300, pre_vote, seed));
            let (narrow, wide) = (narrow.more_attempts_permille, wide.more_attempts_permille);
            assert!(wide <= 60, "{wide} in a thousand needed another attempt, pre-votes: {pre_vote}");
            assert!(narrow > wide + 30, "{narrow} and {wide} in a thousand, pre-votes: {pre_vote}");
        }
    }

    /// Without a question beforehand, those too begin terms whose logs are too short to win them.
    #[test]
    fn pre_votes_save_terms_that_nobody_can_win() {
        let (with, without) = (point(150, 300, true, 6), point(150, 300, false, 6));
        assert!(with.more_terms_permille <= 30, "{} in a thousand", with.more_terms_permille);
        assert!((400..=650).contains(&without.more_terms_permille), "{} in a thousand", without.more_terms_permille);
    }

    #[test]
    fn without_randomness_pre_votes_save_the_election() {
        let (with, without) = (point(150, 150, true, 5), point(150, 150, false, 5));
        assert_eq!(with.downtime.given_up(), 0);
        let (with, without) = (median(&with), without.downtime.percentile(50).unwrap_or(PATIENCE));
        assert!(with * 10 < without, "{with:?} with pre-votes, {without:?} without");
    }

    /// With pre-votes the different logs are not the worst case: they keep two servers of four from standing.
    #[test]
    fn equal_logs_let_more_servers_stand() {
        let election = Election::between(150, 150, true);
        let equal = hold_all(&election, &Surroundings { equal_logs: true, ..SURROUNDINGS }, 8, 300, 2);
        assert_eq!(equal.downtime.given_up(), 0);
        let (equal, different) = (equal.more_attempts_permille, point(150, 150, true, 8).more_attempts_permille);
        assert!(equal > 800 && different < 250, "{equal} and {different} in a thousand");
    }

    #[test]
    fn ranges_are_read_and_nonsense_is_refused() {
        assert_eq!(parse_range("3..7"), Ok((3, 7)));
        assert_eq!(parse_range("0..0"), Ok((0, 0)));
        for nonsense in ["", "3", "7..3", "a..b", "-1..2", "1..99999999999"] {
            assert!(parse_range(nonsense).is_err(), "{nonsense}");
        }
    }
}
