//! Commands that agents run for others. They write what their checker knows, at their own pace, and end, or hang, or do not listen
//! to whoever asks them to end; none of them outlives the agent that runs it.

use bytes::Bytes;
use lictor_core::exec::child::{Action, Ended, Event as Told, Signal};
use lictor_core::exec::layout::Order;
use lictor_core::id::RunId;
use lictor_core::io::Input;
use lictor_core::rng::Rng;
use lictor_core::time::Duration;

use super::{Event, World, tell};
use crate::check::Verdict;
use crate::check::exec::{Run, job_of, text};
use crate::dice::Dice as _;

/// A command that runs.
#[derive(Debug)]
pub(super) struct Child {
    run: Run,
    life: u64,
    /// How much it writes in all.
    total: u64,
    written: u64,
    /// How much it writes at a time.
    burst: u64,
    pause: Duration,
    /// How much more it may be told of.
    credit: u64,
    /// What it writes is thrown away.
    is_unheard: bool,
    /// What it says in the end; it never ends without one.
    code: Option<i32>,
    /// It does not end when it is asked to.
    is_deaf: bool,
    /// Its next step is under way.
    is_scheduled: bool,
    /// Somebody has told it to end, and it does.
    is_ending: bool,
}

impl Child {
    fn draw(dice: &mut Rng, run: Run, life: u64, credit: u64) -> Self {
        let total = match dice.below(16) {
            0 | 1 => 0,
            2 | 3 => dice.between(20_000, 200_000),
            4 => dice.between(200_000, 1_600_000),
            _ => dice.between(1, 9_000),
        };
        // Who floods takes no time over it.
        let (burst, longest) = if total > 200_000 { (90_000, 20) } else { (20_000, 800) };
        Self {
            run,
            life,
            total,
            written: 0,
            burst: dice.between(burst / 20, burst),
            pause: dice.duration(Duration::from_micros(100), Duration::from_millis(longest)),
            credit,
            is_unheard: false,
            code: (!dice.one_in(8)).then(|| *dice.pick(&[0, 0, 0, 1, 2, 127])),
            is_deaf: dice.one_in(4),
            is_scheduled: false,
            is_ending: false,
        }
    }
}

impl World {
    /// An agent wants something of a command.
    pub(super) fn child_action(&mut self, host: usize, action: Action) -> Verdict {
        tell!(self, "{host} to its commands: {action:?}");
        match action {
            Action::Start { id, order, credit } => self.start_child(host, id, &order, credit as u64),
            Action::Read { id, bytes } => {
                self.with_child(host, id, |child| child.credit += bytes as u64);
                Ok(())
            }
            Action::Discard { id } => {
                self.with_child(host, id, |child| child.is_unheard = true);
                Ok(())
            }
            Action::Signal { id, signal } => {
                self.with_child(host, id, |child| {
                    child.is_ending |= signal == Signal::Kill || !child.is_deaf;
                });
                Ok(())
            }
        }
    }

    fn start_child(&mut self, host: usize, id: RunId, order: &Order, credit: u64) -> Verdict {
        let job = job_of(order).ok_or_else(|| format!("agent {host} runs {order:?}, which nobody ordered"))?;
        let (node, life) = (self.hosts[host].config.name.clone(), self.hosts[host].life);
        let Some(executors) = &mut self.executors else { return Err("nobody orders anything".to_owned()) };
        let run = Run { job, node };
        executors.jobs.started(&run, &self.model)?;
        self.stats.exec.started += 1;
        if executors.dice.one_in(12) {
            let ended = Ended::Failed { reason: "no such file".to_owned() };
            executors.jobs.ended(&run, None);
            self.feed(host, Input::Child { id, event: Told::Ended(ended) });
            return Ok(());
        }
        let child = Child::draw(&mut executors.dice, run, life, credit);
        executors.children.insert((host, id), child);
        self.schedule_child(host, id);
        Ok(())
    }

    fn with_child(&mut self, host: usize, id: RunId, change: impl FnOnce(&mut Child)) {
        let Some(executors) = &mut self.executors else { return };
        let Some(child) = executors.children.get_mut(&(host, id)) else { return };
        change(child);
        self.schedule_child(host, id);
    }

    fn schedule_child(&mut self, host: usize, id: RunId) {
        let Some(executors) = &mut self.executors else { return };
        let Some(child) = executors.children.get_mut(&(host, id)).filter(|child| !child.is_scheduled) else { return };
        let writes = child.written < child.total && (child.credit > 0 || child.is_unheard);
        let ends = child.written == child.total && child.code.is_some();
        if !writes && !ends && !child.is_ending {
            return;
        }
        child.is_scheduled = true;
        let pause = child.pause;
        self.after(pause, Event::Child { host, id });
    }

    /// A command does its next step.
    pub(super) fn on_child(&mut self, host: usize, id: RunId) -> Verdict {
        let Some(executors) = &mut self.executors else { return Ok(()) };
        let life = self.hosts[host].life;
        if self.hosts[host].agent.is_none() || executors.children.get(&(host, id)).is_some_and(|c| c.life != life) {
            executors.children.remove(&(host, id));
            return Ok(());
        }
        let Some(child) = executors.children.get_mut(&(host, id)) else { return Ok(()) };
        child.is_scheduled = false;
        if child.is_ending || child.written == child.total {
            let code = child.code.filter(|_| !child.is_ending);
            let Some(child) = executors.children.remove(&(host, id)) else { return Ok(()) };
            executors.jobs.ended(&child.run, code.map(|code| (code, child.total)));
            self.stats.exec.killed += u64::from(child.is_ending);
            self.feed(host, Input::Child { id, event: Told::Ended(Ended::Exited { code }) });
            return Ok(());
        }
        let wanted = child.burst.min(child.total - child.written);
        let bytes = if child.is_unheard { wanted } else { wanted.min(child.credit) };
        let written = text(&child.run, child.written, bytes);
        child.written += bytes;
        if !child.is_unheard {
            child.credit -= bytes;
            self.stats.exec.bytes += bytes;
            executors.jobs.wrote_on(&child.run, child.written, &self.model)?;
            self.feed(host, Input::Child { id, event: Told::Wrote(Bytes::from(written)) });
        }
        self.schedule_child(host, id);
        Ok(())
    }

    /// What runs on a host now.
    pub(super) fn running(&self) -> impl Iterator<Item = (usize, &Run)> {
        let children = self.executors.iter().flat_map(|executors| &executors.children);
        let alive = children
            .filter(|((host, _), child)| self.hosts[*host].agent.is_some() && self.hosts[*host].life == child.life);
        alive.map(|((host, _), child)| (*host, &child.run))
    }
}
