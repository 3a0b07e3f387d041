//! One run: a plan, a fresh thread, a verdict.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::thread;

use lictor_core::time::{Duration, Instant};

use crate::check::linear::{self, Finding};
use crate::plan::Plan;
use crate::stats::Stats;
use crate::trace::Trace;
use crate::world::World;

/// On whose time a run takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// As the only task of a madsim runtime, whose clock the world moves. Whatever asks the operating system
    /// for the time or for dice gets madsim's.
    Madsim,
    /// On its own. A run that comes out differently here leaks something from outside.
    Plain,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed of its plan.
    pub seed: u64,
    /// The fingerprint of all that happened.
    pub trace: Trace,
    /// What was exercised.
    pub stats: Stats,
    /// What was violated, if anything.
    pub failure: Option<Failure>,
    /// What happened, line by line, if that was asked for.
    pub story: Vec<String>,
}

/// What was violated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When.
    pub at: Instant,
    /// A sentence.
    pub what: String,
}

/// Carries out a plan on a fresh thread, so that nothing that a thread remembers can differ.
#[must_use]
pub fn run(plan: &Plan, kernel: Kernel, with_story: bool) -> Report {
    quieten_panics();
    let (seed, plan) = (plan.seed, plan.clone());
    let body = move || match kernel {
        Kernel::Madsim => in_madsim(&plan, with_story),
        Kernel::Plain => {
            let mut world = World::new(&plan, with_story);
            let failure = guarded(&mut world, |_| {});
            report(&plan, world, failure)
        }
    };
    let thread = thread::Builder::new().name(THREAD.to_owned());
    let handle = thread.spawn(body).expect("the system gives out a thread");
    handle.join().unwrap_or_else(|_| Report {
        seed,
        trace: Trace::default(),
        stats: Stats { runs: 1, ..Stats::default() },
        failure: Some(Failure { at: Instant::ZERO, what: "the simulator itself panicked".to_owned() }),
        story: Vec::new(),
    })
}

fn in_madsim(plan: &Plan, with_story: bool) -> Report {
    let runtime = madsim::runtime::Runtime::with_seed_and_config(plan.seed, madsim::Config::default());
    let plan = plan.clone();
    runtime.block_on(async move {
        let time = madsim::time::TimeHandle::current();
        let mut world = World::new(&plan, with_story);
        let failure = guarded(&mut world, |passed| time.advance(passed));
        report(&plan, world, failure)
    })
}

/// Runs the world to its end. A panic is a failure like any other.
fn guarded(world: &mut World, mut advance: impl FnMut(Duration)) -> Option<Failure> {
    let verdict = catch_unwind(AssertUnwindSafe(|| {
        world.begin()?;
        while let Some(at) = world.next() {
            advance(at.since(world.now()));
            world.step()?;
        }
        world.check_refused()?;
        match linear::check(&world.history) {
            Finding::Linearizable => {}
            Finding::Undecided => world.stats.undecided += 1,
            Finding::Violated(why) => return Err(why),
        }
        Ok(())
    }));
    let what = match verdict {
        Ok(Ok(())) => return None,
        Ok(Err(what)) => what,
        Err(_) => format!("panic: {}", LAST_PANIC.take().unwrap_or_else(|| "without a word".to_owned())),
    };
    Some(Failure { at: world.now(), what })
}

fn report(plan: &Plan, mut world: World, failure: Option<Failure>) -> Report {
    world.finish_stats();
    world.stats.runs = 1;
    Report {
        seed: plan.seed,
        trace: world.trace,
        stats: std::mem::take(&mut world.stats),
        failure,
        story: world.story.take().unwrap_or_default(),
    }
}

const THREAD: &str = "seed";

thread_local! {
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic in a run is reported with its seed, not printed in the middle of everything.
fn quieten_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if thread::current().name() == Some(THREAD) {
                LAST_PANIC.set(Some(info.to_string().replace('\n', " ")));
            } else {
                usual(info);
            }
        }));
    });
}
