//! A run is a function of its plan and the code, and nothing else.

use lictor_sim::faults::{NAMES, WITHOUT_OPERATOR};
use lictor_sim::plan::{Plan, Scenario, Size};
use lictor_sim::run::{Kernel, run};
use lictor_sim::stats::Stats;
use lictor_sim::swarm::{Options, swarm};

/// The same seed is the same run, with and without madsim.
fn assert_deterministic(scenario: Scenario, seeds: [u64; 2]) {
    for seed in seeds {
        let plan = Plan::draw(seed, scenario);
        let first = run(&plan, Kernel::Madsim, false);
        assert_eq!(first.failure, None, "seed {seed}");
        assert_eq!(first.trace, run(&plan, Kernel::Plain, false).trace, "seed {seed}");
    }
}

/// What these seeds exercise. All of them pass.
fn passing(scenario: Scenario, seeds: std::ops::Range<u64>) -> Stats {
    let size = Size::default();
    let options = Options { seeds, jobs: 2, scenario, size, check_determinism: false, most_failures: 1 };
    let summary = swarm(&options, |_| {});
    let failures: Vec<_> = summary.failures.iter().map(|report| (report.seed, report.failure.clone())).collect();
    assert!(failures.is_empty(), "{failures:?}");
    summary.stats
}

#[test]
fn the_same_seed_is_the_same_run_with_and_without_madsim() {
    for seed in [3, 7, 11] {
        let plan = Plan::draw(seed, Scenario::Kv);
        let first = run(&plan, Kernel::Madsim, false);
        assert_eq!(first.failure, None, "seed {seed}");
        for kernel in [Kernel::Madsim, Kernel::Plain] {
            let again = run(&plan, kernel, false);
            assert_eq!(first.trace, again.trace, "seed {seed} under {kernel:?}");
            assert_eq!(first.stats, again.stats, "seed {seed} under {kernel:?}");
        }
    }
}

#[test]
fn a_run_is_the_same_beside_others_and_with_its_story_told() {
    let plan = Plan::draw(7, Scenario::Kv);
    let alone = run(&plan, Kernel::Madsim, true);
    assert!(!alone.story.is_empty());
    let traces: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| run(&plan, Kernel::Madsim, false).trace)).collect();
        runs.into_iter().map(|run| run.join().expect("no run panics")).collect()
    });
    assert!(traces.iter().all(|trace| *trace == alone.trace));
}

#[test]
fn different_seeds_are_different_runs() {
    let trace = |seed| run(&Plan::draw(seed, Scenario::Kv), Kernel::Plain, false).trace;
    assert_ne!(trace(1), trace(2));
}

#[test]
fn a_plan_read_back_from_its_text_is_the_same_run() {
    let plan = Plan::draw(5, Scenario::Kv);
    let text = serde_json::to_string(&plan).expect("a plan is plain data");
    let read: Plan = serde_json::from_str(&text).expect("what was printed can be read");
    assert_eq!(run(&plan, Kernel::Plain, false).trace, run(&read, Kernel::Plain, false).trace);
}

#[test]
fn a_few_seeds_pass_and_exercise_what_they_should() {
    let stats = passing(Scenario::Kv, 0..24);
    assert_eq!(stats.runs, 24);
    assert!(stats.elections > 24 && stats.wakes > 100 && stats.views_asked > 1_000, "{stats}");
    assert!(stats.faults[..WITHOUT_OPERATOR].iter().all(|count| *count > 0), "{stats}");
    assert!(stats.operations() > 10_000 && stats.inherited_logs > 0 && stats.messages_doubled > 0, "{stats}");
}

#[test]
fn members_and_snapshots_are_deterministic_too() {
    assert_deterministic(Scenario::Members, [2, 5]);
}

#[test]
fn a_few_hundred_seeds_of_members_pass_and_exercise_what_they_should() {
    let stats = passing(Scenario::Members, 0..200);
    // All but leaving, for which there must be a pool.
    assert!(stats.faults[..NAMES.len() - 1].iter().all(|count| *count > 0), "{stats}");
    let groups = [stats.snapshots.named(), stats.members.named(), stats.orders.named(), stats.damage.named()];
    for (name, count) in groups.concat() {
        assert!(count > 0, "{name}: {stats}");
    }
}

#[test]
fn clusters_that_found_themselves_are_deterministic_too() {
    assert_deterministic(Scenario::Cluster, [1, 4]);
}

#[test]
fn locks_are_deterministic_too() {
    assert_deterministic(Scenario::Locks, [2, 7]);
}

#[test]
fn a_few_dozen_seeds_of_locks_pass_and_exercise_what_they_should() {
    let stats = passing(Scenario::Locks, 0..40);
    for (name, count) in stats.locks.named() {
        assert!(count > 0, "{name}: {stats}");
    }
}

#[test]
fn a_few_dozen_clusters_pass_and_exercise_what_they_should() {
    let stats = passing(Scenario::Cluster, 0..60);
    for (name, count) in [stats.local.named(), stats.members.named()].concat() {
        assert!(count > 0, "{name}: {stats}");
    }
    assert!(stats.packets > 100_000 && stats.packets_lost > 0, "{stats}");
}

#[test]
fn jobs_on_many_agents_are_deterministic_too() {
    assert_deterministic(Scenario::Exec, [3, 6]);
}

#[test]
fn a_few_dozen_seeds_of_jobs_pass_and_exercise_what_they_should() {
    let stats = passing(Scenario::Exec, 0..40);
    for (name, count) in stats.exec.named() {
        assert!(count > 0, "{name}: {stats}");
    }
}
