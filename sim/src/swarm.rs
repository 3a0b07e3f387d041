//! Many runs side by side, and what they came to together.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::plan::{Plan, Scenario, Size};
use crate::run::{Kernel, Report, run};
use crate::stats::Stats;

/// What many runs came to.
#[derive(Debug, Default)]
pub struct Summary {
    /// What was exercised in all of them.
    pub stats: Stats,
    /// The runs that failed, by their seeds.
    pub failures: Vec<Report>,
}

/// How a swarm is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The seeds.
    pub seeds: Range<u64>,
    /// How many run at the same time.
    pub jobs: usize,
    /// What is exercised.
    pub scenario: Scenario,
    /// What clusters are like, in place of what the seed says.
    pub size: Size,
    /// Each seed is run three times, once without madsim, and the traces are compared.
    pub check_determinism: bool,
    /// No new run is begun after this many failures.
    pub most_failures: usize,
}

/// Runs all seeds. `on_done` hears of each, in whatever order they end.
#[must_use]
pub fn swarm(options: &Options, on_done: impl Fn(&Report) + Sync) -> Summary {
    let next = AtomicU64::new(options.seeds.start);
    let enough = AtomicBool::new(false);
    let summary = Mutex::new(Summary::default());
    thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= options.seeds.end {
                        break;
                    }
                    let report = one(seed, options);
                    on_done(&report);
                    let mut summary = summary.lock().expect("nobody panics with the summary in hand");
                    summary.stats += &report.stats;
                    if report.failure.is_some() {
                        summary.failures.push(report);
                        enough.store(summary.failures.len() >= options.most_failures, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut summary = summary.into_inner().expect("nobody panics with the summary in hand");
    summary.failures.sort_by_key(|report| report.seed);
    summary
}

fn one(seed: u64, options: &Options) -> Report {
    let plan = Plan::draw_sized(seed, options.scenario, options.size);
    let report = run(&plan, Kernel::Madsim, false);
    if options.check_determinism { with_determinism(&plan, report) } else { report }
}

/// The same run twice more: its trace must not change.
#[must_use]
pub fn with_determinism(plan: &Plan, mut report: Report) -> Report {
    for kernel in [Kernel::Madsim, Kernel::Plain] {
        let again = run(plan, kernel, false);
        if again.trace != report.trace || again.failure != report.failure {
            let what = format!(
                "not deterministic: trace {} after {} events, and again, under {kernel:?}, {} after {}",
                report.trace,
                report.trace.events(),
                again.trace,
                again.trace.events()
            );
            let at = report.failure.as_ref().map_or(lictor_core::time::Instant::ZERO, |failure| failure.at);
            report.failure = Some(crate::run::Failure { at, what });
            break;
        }
    }
    report
}
