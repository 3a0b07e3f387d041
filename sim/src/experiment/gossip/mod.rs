//! How well gossip does what it is for: news reach all, deaths are noticed, and nobody is wronged by those who are slow.
//!
//! The second part is the experiment of the Lifeguard paper (Dadgar, Phillips, Currey: "Lifeguard: Local Health Awareness for More
//! Accurate Failure Detection", 2018). What was found stands in `docs/gossip.md`.

mod anomalies;
mod network;
mod report;
mod spread;

use std::path::{Path, PathBuf};

use lictor_core::gossip::Options;
use lictor_core::time::Duration;

use super::plot::{self, Figure};
use super::sample::Sample;

pub use anomalies::{MEMBERS, Outcome, Rhythm, Total};
pub use spread::Point;

/// What the experiment may be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// All dice follow from it.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many threads work on it; as many as there are processors if absent. It changes nothing else.
    #[arg(long)]
    pub jobs: Option<usize>,
    /// The folder where the pictures are written.
    #[arg(long, value_name = "FOLDER")]
    pub svg: Option<PathBuf>,
    /// The largest pool, in members: sizes are doubled from 8 up to it. 0 leaves this part out. Memory grows with the square of it, to
    /// some 9 GB at 4,096.
    #[arg(long, default_value_t = 4_096)]
    pub largest: usize,
    /// How often each test with slow members is repeated. 0 leaves this part out.
    #[arg(long, default_value_t = 1)]
    pub repetitions: u64,
}

/// The smallest pool.
const SMALLEST: usize = 8;
/// So many members are simulated at each size, in pools of that size …
const MEMBERS_PER_SIZE: usize = 8_192;
/// … but not in more pools than this.
const MOST_POOLS: usize = 40;
/// Pools of more members than this are simulated one at a time, for want of memory.
const LARGE: usize = 2_048;

/// How many members are slow at the same time.
const SLOW: [usize; 5] = [1, 4, 8, 16, 32];
/// For how long they are silent, in milliseconds, of those in the paper.
const SILENT_MS: [u64; 3] = [2_048, 8_192, 32_768];
/// For how long they are well in between, in milliseconds, of those in the paper.
const WELL_MS: [u64; 2] = [64, 1_024];

/// One way to set gossip up.
#[derive(Clone, Debug)]
pub struct Setting {
    /// What it is called.
    pub name: String,
    /// What differs is here.
    pub options: Options,
}

/// What was measured with one setting.
#[derive(Clone, Debug)]
pub struct Row {
    /// The setting.
    pub setting: Setting,
    /// By the number of slow members.
    pub by_slow: Vec<(usize, Total)>,
    /// All of these together.
    pub total: Total,
    /// Where nobody is slow: from a death until anybody declared it, and until all knew of it.
    pub quiet: (Sample, Sample),
}

/// Runs the whole experiment.
///
/// # Errors
/// A sentence, if a picture cannot be written.
pub fn conduct(args: &Args) -> Result<String, String> {
    let jobs = args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let mut text = String::new();
    if args.largest >= SMALLEST {
        let points = sizes(args, jobs);
        write_figure(args.svg.as_deref(), "gossip-size.svg", &report::size_figure(&points))?;
        text.push_str(&report::size_tables(args, &points));
    }
    if args.repetitions > 0 {
        let rows: Vec<Row> = settings().into_iter().map(|setting| run(setting, args, jobs)).collect();
        write_figure(args.svg.as_deref(), "gossip-lifeguard.svg", &report::lifeguard_figure(&rows))?;
        text.push_str(&report::lifeguard_tables(args, &rows));
    }
    Ok(text)
}

fn sizes(args: &Args, jobs: usize) -> Vec<Point> {
    let sizes =
        std::iter::successors(Some(SMALLEST), |size| size.checked_mul(2)).take_while(|size| *size <= args.largest);
    sizes
        .map(|size| {
            let pools = (MEMBERS_PER_SIZE / size).clamp(2, MOST_POOLS) as u64;
            let jobs = if size > LARGE { 1 } else { jobs };
            eprintln!("pools of {size} members …");
            spread::measure(size, pools, args.seed, jobs, &Options::default())
        })
        .collect()
}

/// Plain SWIM, each part of Lifeguard alone, and all together; then some with other times of suspicion.
fn settings() -> Vec<Setting> {
    let lifeguard = Options::default();
    let swim = Options { awareness_max: 1, suspicion_max_mult: 1, buddy: false, ..lifeguard.clone() };
    let (awareness_max, suspicion_max_mult) = (lifeguard.awareness_max, lifeguard.suspicion_max_mult);
    let named = |name: &str, options: Options| Setting { name: name.to_owned(), options };
    let mut all = vec![
        named("SWIM", swim.clone()),
        named("LHA-Probe", Options { awareness_max, ..swim.clone() }),
        named("LHA-Suspicion", Options { suspicion_max_mult, ..swim.clone() }),
        named("Buddy System", Options { buddy: true, ..swim }),
        named("Lifeguard", lifeguard.clone()),
    ];
    for (suspicion_mult, suspicion_max_mult) in [(2, 6), (3, 6)] {
        let name = format!("Lifeguard, α={suspicion_mult} β={suspicion_max_mult}");
        all.push(named(&name, Options { suspicion_mult, suspicion_max_mult, ..lifeguard.clone() }));
    }
    all
}

fn rhythms() -> Vec<Rhythm> {
    let each = |silent: u64| {
        WELL_MS.map(|well| Rhythm { silent: Duration::from_millis(silent), well: Duration::from_millis(well) })
    };
    SILENT_MS.into_iter().flat_map(each).collect()
}

fn run(setting: Setting, args: &Args, jobs: usize) -> Row {
    eprintln!("slow members, {} …", setting.name);
    let rhythms = rhythms();
    let test = |slow: usize| anomalies::test_all(&setting.options, slow, &rhythms, args.repetitions, args.seed, jobs);
    let outcomes: Vec<(usize, Vec<Outcome>)> = SLOW.into_iter().map(|slow| (slow, test(slow))).collect();
    let total = Total::of(&outcomes.iter().flat_map(|(_, outcomes)| outcomes.clone()).collect::<Vec<_>>());
    let by_slow = outcomes.iter().map(|(slow, outcomes)| (*slow, Total::of(outcomes))).collect();
    let quiet = anomalies::quiet_deaths(&setting.options, QUIET_POOLS, args.seed, jobs);
    Row { setting, by_slow, total, quiet }
}

/// How many quiet pools there are for each setting.
const QUIET_POOLS: u64 = 40;

fn write_figure(folder: Option<&Path>, name: &str, figure: &Figure) -> Result<(), String> {
    let Some(folder) = folder else { return Ok(()) };
    let path = folder.join(name);
    std::fs::write(&path, plot::svg(figure)?).map_err(|why| format!("cannot write {}: {why}", path.display()))
}
