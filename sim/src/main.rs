//! `lictor-sim`: one seed, one story; many seeds, one verdict.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use lictor_sim::experiment::Experiment;
use lictor_sim::plan::{Plan, Scenario, Size};
use lictor_sim::run::{Kernel, Report, run};
use lictor_sim::swarm::{self, Options, swarm};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs Lictor's agents through seeded disasters, and checks what they promise.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one seed, or one plan from a file.
    Run(RunArgs),
    /// Runs many seeds and sums up what they exercised.
    Swarm(SwarmArgs),
    /// Prints a seed's plan as JSON, to be edited and run with `run --plan`.
    Plan {
        /// The seed.
        #[arg(long)]
        seed: u64,
        /// What is exercised: kv, members, cluster, locks, exec, acl or bench.
        #[arg(long, default_value = "kv")]
        scenario: Scenario,
    },
    /// Measures how much faster than real time five servers and five clients under faults run on one core.
    Bench {
        /// How many runs.
        #[arg(long, default_value_t = 20)]
        runs: u64,
        /// Raft's timing: 5 is an agent's default, 1 the fastest, with five times as many heartbeats.
        #[arg(long, default_value_t = 5)]
        multiplier: u32,
    },
    /// Measures again, in virtual time, what a paper has measured.
    #[command(subcommand)]
    Experiment(Experiment),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The seed.
    #[arg(long, required_unless_present = "plan", conflicts_with = "plan")]
    seed: Option<u64>,
    /// A file with a plan, as `lictor-sim plan` prints it.
    #[arg(long)]
    plan: Option<PathBuf>,
    /// What is exercised: kv, members, cluster, locks, exec, acl or bench.
    #[arg(long, default_value = "kv")]
    scenario: Scenario,
    #[command(flatten)]
    size: SizeArgs,
    /// Prints everything that happens.
    #[arg(long, short)]
    verbose: bool,
    /// Runs it again, with and without madsim, and compares.
    #[arg(long)]
    check_determinism: bool,
}

#[derive(Debug, Args)]
struct SizeArgs {
    /// How many client agents there are in a cluster, in place of what the seed says.
    #[arg(long)]
    agents: Option<usize>,
    /// How many services the files of each agent of a cluster define.
    #[arg(long, default_value_t = 0)]
    services: usize,
}

impl SizeArgs {
    const fn get(&self) -> Size {
        Size { agents: self.agents, services: self.services }
    }
}

#[derive(Debug, Args)]
struct SwarmArgs {
    /// The seeds, from … up to, not including, …
    #[arg(long, value_name = "A..B", value_parser = parse_seeds)]
    seeds: std::ops::Range<u64>,
    /// How many run at the same time; all processors if absent.
    #[arg(long)]
    jobs: Option<usize>,
    /// What is exercised: kv, members, cluster, locks, exec, acl or bench.
    #[arg(long, default_value = "kv")]
    scenario: Scenario,
    #[command(flatten)]
    size: SizeArgs,
    /// Runs each seed three times, once without madsim, and compares.
    #[arg(long)]
    check_determinism: bool,
    /// Stops after so many failures.
    #[arg(long, default_value_t = 5)]
    most_failures: usize,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run_one(&args),
        Command::Swarm(args) => run_swarm(&args),
        Command::Plan { seed, scenario } => {
            println!("{}", plan_text(&Plan::draw(seed, scenario)));
            ExitCode::SUCCESS
        }
        Command::Bench { runs, multiplier } => bench(runs, multiplier),
        Command::Experiment(experiment) => conduct(&experiment),
    }
}

fn parse_seeds(text: &str) -> Result<std::ops::Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is not a seed"));
    let (from, to) = text.split_once("..").ok_or("seeds are given as A..B, for example 0..2000")?;
    let (from, to) = (number(from)?, number(to)?);
    if from < to { Ok(from..to) } else { Err(format!("there are no seeds from {from} up to {to}")) }
}

fn plan_text(plan: &Plan) -> String {
    serde_json::to_string_pretty(plan).expect("a plan is plain data")
}

fn read_plan(path: &Path) -> Result<Plan, String> {
    let text = std::fs::read_to_string(path).map_err(|why| format!("cannot read {}: {why}", path.display()))?;
    let plan: Plan = serde_json::from_str(&text).map_err(|why| format!("{} is no plan: {why}", path.display()))?;
    plan.check().map_err(|why| format!("{}: {why}", path.display()))?;
    Ok(plan)
}

fn run_one(args: &RunArgs) -> ExitCode {
    let plan = match (&args.plan, args.seed) {
        (Some(path), _) => read_plan(path),
        (None, Some(seed)) => Ok(Plan::draw_sized(seed, args.scenario, args.size.get())),
        (None, None) => Err("give a --seed or a --plan".to_owned()),
    };
    let plan = match plan {
        Ok(plan) => plan,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::from(2);
        }
    };
    println!("{}", summary_of(&plan));
    let begin = Instant::now();
    let mut report = run(&plan, Kernel::Madsim, args.verbose);
    let wall = begin.elapsed();
    if args.check_determinism {
        report = swarm::with_determinism(&plan, report);
    }
    for line in &report.story {
        println!("{line}");
    }
    println!("{}", report.stats);
    println!(
        "speed       {:.0} simulated seconds per second",
        report.stats.simulated.as_secs_f64() / wall.as_secs_f64()
    );
    println!("trace       {}", report.trace);
    match &report.failure {
        None => {
            println!("passed");
            ExitCode::SUCCESS
        }
        Some(_) => {
            let how = args
                .plan
                .as_ref()
                .map_or_else(|| replay(&plan), |path| format!("lictor-sim run --plan {}", path.display()));
            print_failure(&plan, &report, &how);
            ExitCode::FAILURE
        }
    }
}

fn summary_of(plan: &Plan) -> String {
    format!(
        "seed {}: {} servers, {} client agents, {} clients, {} keys, raft multiplier {}, {} troubles in {} s",
        plan.seed,
        plan.servers(),
        plan.hosts.len() - plan.servers(),
        plan.clients.len(),
        plan.keys,
        plan.raft_multiplier,
        plan.troubles.len(),
        plan.trouble_ms / 1_000
    )
}

fn replay(plan: &Plan) -> String {
    let drawn = Plan::draw(plan.seed, plan.scenario).hosts.len();
    let services = plan.pool.as_ref().map_or(0, |pool| pool.services);
    match plan.scenario {
        Scenario::Cluster if (drawn, 0) != (plan.hosts.len(), services) => {
            let agents = plan.hosts.len() - plan.servers();
            let size = format!("--agents {agents} --services {services}");
            format!("lictor-sim run --seed {} --scenario cluster {size} --verbose", plan.seed)
        }
        Scenario::Kv => format!("lictor-sim run --seed {} --verbose", plan.seed),
        scenario @ (Scenario::Members
        | Scenario::Cluster
        | Scenario::Locks
        | Scenario::Exec
        | Scenario::Acl
        | Scenario::Bench) => {
            format!("lictor-sim run --seed {} --scenario {scenario} --verbose", plan.seed)
        }
    }
}

/// What was violated, what led to it, and how to see it again. The run is repeated for its story.
fn print_failure(plan: &Plan, report: &Report, how: &str) {
    let Some(failure) = &report.failure else { return };
    eprintln!("\nFAILED {}", summary_of(plan));
    eprintln!("at {}: {}", failure.at, failure.what);
    let before = plan
        .troubles
        .iter()
        .filter(|trouble| u128::from(trouble.at_ms) <= u128::from(failure.at.as_nanos()) / 1_000_000);
    let before: Vec<_> = before.collect();
    eprintln!("the last of {} troubles before it:", before.len());
    for trouble in before.iter().rev().take(8).rev() {
        eprintln!("  {:>8} ms {:?}", trouble.at_ms, trouble.fault);
    }
    let story = if report.story.is_empty() { run(plan, Kernel::Madsim, true).story } else { report.story.clone() };
    eprintln!("the last of what happened:");
    for line in story.iter().rev().take(40).rev() {
        eprintln!("  {line}");
    }
    eprintln!("replay: {how}");
}

fn run_swarm(args: &SwarmArgs) -> ExitCode {
    let jobs = args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let options = Options {
        seeds: args.seeds.clone(),
        jobs,
        scenario: args.scenario,
        size: args.size.get(),
        check_determinism: args.check_determinism,
        most_failures: args.most_failures.max(1),
    };
    let bar = ProgressBar::new(args.seeds.end - args.seeds.start);
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:40} {pos}/{len} seeds, {eta} left {msg}");
    bar.set_style(style.expect("the template is well formed"));
    let begin = Instant::now();
    let summary = swarm(&options, |report| {
        bar.inc(1);
        if let Some(failure) = &report.failure {
            let first_line = failure.what.lines().next().unwrap_or_default();
            bar.suspend(|| eprintln!("seed {} failed: {first_line}", report.seed));
        }
    });
    let wall = begin.elapsed();
    bar.finish_and_clear();
    let speed = summary.stats.simulated.as_secs_f64() / wall.as_secs_f64();
    println!("{} runs of seeds {}..{} with {jobs} jobs", summary.stats.runs, args.seeds.start, args.seeds.end);
    println!("{}", summary.stats);
    println!("speed       {speed:.0} simulated seconds per second, in {:.1} s", wall.as_secs_f64());
    for report in &summary.failures {
        let plan = Plan::draw_sized(report.seed, args.scenario, args.size.get());
        print_failure(&plan, report, &replay(&plan));
    }
    if summary.failures.is_empty() {
        println!("passed");
        ExitCode::SUCCESS
    } else {
        let seeds: Vec<String> = summary.failures.iter().map(|report| report.seed.to_string()).collect();
        println!("{} failed: seeds {}", seeds.len(), seeds.join(", "));
        ExitCode::FAILURE
    }
}

fn bench(runs: u64, multiplier: u32) -> ExitCode {
    let mut simulated = 0.0;
    let mut events = 0;
    let begin = Instant::now();
    for seed in 0..runs {
        let plan = Plan { raft_multiplier: multiplier, ..Plan::draw(seed, Scenario::Bench) };
        let report = run(&plan, Kernel::Madsim, false);
        simulated += report.stats.simulated.as_secs_f64();
        events += report.stats.events;
        if report.failure.is_some() {
            print_failure(&plan, &report, &replay(&plan));
            return ExitCode::FAILURE;
        }
    }
    let wall = begin.elapsed().as_secs_f64();
    println!("five servers and five clients under faults, raft multiplier {multiplier}, {runs} runs on one core:");
    println!("{:.0} simulated seconds per second, {:.0} events per second", simulated / wall, events as f64 / wall);
    ExitCode::SUCCESS
}

fn conduct(experiment: &Experiment) -> ExitCode {
    match experiment.conduct() {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}
