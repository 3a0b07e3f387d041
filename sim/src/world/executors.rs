//! Users who have commands run on many agents. Each job is carried out by the machine that `lictor exec` has; some are broken off, and
//! some users vanish without a word.

use std::collections::{BTreeMap, VecDeque};

use lictor_core::api::{Call, Error, Reply, Response};
use lictor_core::error::Busy;
use lictor_core::exec::initiator::{AskId, Initiator, News, Options, Outcome, Output, Trouble};
use lictor_core::id::{CallId, RunId};
use lictor_core::io::Input;
use lictor_core::rng::Rng;
use lictor_core::time::{Duration, Instant};
use lictor_core::wire;

use super::children::Child;
use super::{Event, Phase, World, tell};
use crate::check::exec::{Jobs, order_of};
use crate::check::{Verdict, ensure};
use crate::dice::{Concern, Dice as _, stream};
use crate::plan::ExecPlan;

/// Calls for jobs are numbered from here on.
const FIRST: u64 = 1 << 43;

/// In calm times, a job gets so long until it is broken off: some commands never end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a call is for a job.
pub(super) fn is_exec_call(id: CallId) -> bool {
    id.0 >= FIRST
}

/// All users of `exec` in one.
#[derive(Debug)]
pub(super) struct Executors {
    pub(super) plan: ExecPlan,
    pub(super) dice: Rng,
    next: u64,
    /// Jobs under way, by their numbers.
    open: BTreeMap<u64, Executor>,
    /// What their calls are about: the job, and what it asked.
    asked: BTreeMap<u64, (u64, AskId)>,
    pub(super) jobs: Jobs,
    pub(super) children: BTreeMap<(usize, RunId), Child>,
}

/// A user with a job.
#[derive(Debug)]
struct Executor {
    host: usize,
    machine: Initiator,
    /// When it is woken next.
    armed: Instant,
    /// Whether its user has other things to do now and then.
    is_slow: bool,
    /// What the user has not been told yet: the first of it will be, at a time that is known.
    untold: VecDeque<News>,
}

/// What is to happen to a job.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Another one begins.
    Begin,
    /// It is time for something.
    Wake(u64),
    /// Its user listens again.
    Listen(u64),
    /// Nobody took the call.
    Refused(u64),
    /// Its user breaks it off.
    Interrupt(u64),
    /// Its user vanishes.
    Vanish(u64),
}

impl Executors {
    pub(super) fn new(plan: &ExecPlan, seed: u64) -> Self {
        Self {
            plan: plan.clone(),
            dice: stream(seed, Concern::Executors),
            next: FIRST,
            open: BTreeMap::new(),
            asked: BTreeMap::new(),
            jobs: Jobs::new(plan.output_bytes),
            children: BTreeMap::new(),
        }
    }

    fn options(&mut self) -> Options {
        let dice = &mut self.dice;
        Options {
            node: if dice.one_in(4) { "n[1-3]".to_owned() } else { String::new() },
            service: if dice.one_in(6) { "service-0".to_owned() } else { String::new() },
            wait: Duration::from_millis(*dice.pick(&[500, 2_000, 5_000])),
            wait_repl: Duration::from_millis(*dice.pick(&[1, 50, 200])),
            stale: dice.one_in(8),
            max_parallel: dice.one_in(6).then(|| dice.between(1, 3) as usize),
            ..Options::default()
        }
    }
}

impl World {
    pub(super) fn on_exec(&mut self, step: Step) -> Verdict {
        match step {
            Step::Begin => self.begin_execution(),
            Step::Wake(job) => self.wake_job(job),
            Step::Listen(job) => self.tell_user(job),
            Step::Refused(call) => self.exec_answered(CallId(call), Err("connection refused")),
            Step::Interrupt(job) => {
                let now = self.now;
                self.with_job(job, |machine| machine.interrupt(now))
            }
            Step::Vanish(job) => {
                tell!(self, "user of job {job} vanishes");
                if let Some(executors) = &mut self.executors {
                    executors.open.remove(&job);
                    self.stats.exec.vanished += 1;
                    self.hang_up_for(job);
                }
                Ok(())
            }
        }
    }

    fn begin_execution(&mut self) -> Verdict {
        if self.phase != Phase::Trouble {
            return Ok(());
        }
        let hosts = self.hosts.len() as u64;
        let Some(executors) = &mut self.executors else { return Ok(()) };
        let pause = executors.dice.micros((executors.plan.pause_ms.0 * 1_000, executors.plan.pause_ms.1 * 1_000));
        let host = executors.dice.below(hosts) as usize;
        let fate = executors.dice.below(8);
        let fated = executors.dice.duration(Duration::from_millis(10), Duration::from_secs(8));
        let options = executors.options();
        self.after(pause, Event::Exec(Step::Begin));
        let Some(executors) = &mut self.executors else { return Ok(()) };
        if self.hosts[host].agent.is_none() || executors.open.len() >= 3 {
            return Ok(());
        }
        let job = executors.jobs.order();
        tell!(self, "user begins job {job} at {host}: {options:?}");
        let Some(executors) = &mut self.executors else { return Ok(()) };
        let machine = Initiator::new(order_of(job), options).map_err(|why| format!("job {job} is refused: {why}"))?;
        let is_slow = executors.dice.one_in(4);
        let executor = Executor { host, machine, armed: Instant::NEVER, is_slow, untold: VecDeque::new() };
        executors.open.insert(job, executor);
        self.stats.exec.begun += 1;
        match fate {
            0 => self.after(fated, Event::Exec(Step::Interrupt(job))),
            1 => self.after(fated, Event::Exec(Step::Vanish(job))),
            _ => {}
        }
        self.with_job(job, |_| ())
    }

    fn wake_job(&mut self, job: u64) -> Verdict {
        let now = self.now;
        let Some(executor) = self.executors.as_mut().and_then(|executors| executors.open.get_mut(&job)) else {
            return Ok(());
        };
        executor.armed = Instant::NEVER;
        self.with_job(job, |machine| {
            if machine.poll_timeout() <= now {
                machine.handle_timeout(now);
            }
        })
    }

    /// Does something with a job's machine, and all that follows from it.
    fn with_job(&mut self, job: u64, act: impl FnOnce(&mut Initiator)) -> Verdict {
        let Some(executor) = self.executors.as_mut().and_then(|executors| executors.open.get_mut(&job)) else {
            return Ok(());
        };
        act(&mut executor.machine);
        while let Some(executor) = self.executors.as_mut().and_then(|executors| executors.open.get_mut(&job))
            && let Some(output) = executor.machine.poll_output()
        {
            let host = executor.host;
            match output {
                Output::Ask { id, call } => self.ask_for_job(job, host, id, &call),
                Output::Forget(id) => self.forget_for_job(job, host, id),
                Output::Tell(news) => self.tell_of_job(job, news)?,
            }
        }
        let now = self.now;
        let Some(executors) = &mut self.executors else { return Ok(()) };
        let Some(executor) = executors.open.get_mut(&job) else { return Ok(()) };
        // Who has broken it off is not waited for.
        let over = executor.machine.outcome();
        if over == Some(Outcome::Interrupted) || (over.is_some() && executor.untold.is_empty()) {
            executors.open.remove(&job);
            self.hang_up_for(job);
            return Ok(());
        }
        let due = executor.machine.poll_timeout().max(now);
        if due < executor.armed {
            executor.armed = due;
            self.at(due, Event::Exec(Step::Wake(job)));
        }
        Ok(())
    }

    /// There is something to tell a user, now or when he listens again.
    fn tell_of_job(&mut self, job: u64, news: News) -> Verdict {
        let now = self.now;
        let Some(executors) = &mut self.executors else { return Ok(()) };
        let Executors { dice, open, jobs, .. } = executors;
        if let News::Session(session) = &news {
            jobs.placed(job, *session);
        }
        let Some(executor) = open.get_mut(&job) else { return Ok(()) };
        let waits = !executor.untold.is_empty();
        if waits || (executor.is_slow && dice.one_in(30)) {
            executor.untold.push_back(news);
            if !waits {
                let pause = dice.duration(Duration::from_millis(10), Duration::from_secs(15));
                self.after(pause, Event::Exec(Step::Listen(job)));
            }
            return Ok(());
        }
        executor.machine.told(now);
        self.hear_of_job(job, news)
    }

    /// A user listens again, for a while.
    fn tell_user(&mut self, job: u64) -> Verdict {
        let now = self.now;
        let Some(executor) = self.executors.as_mut().and_then(|executors| executors.open.get_mut(&job)) else {
            return Ok(());
        };
        for news in std::mem::take(&mut executor.untold) {
            self.hear_of_job(job, news)?;
            self.with_job(job, |machine| machine.told(now))?;
        }
        Ok(())
    }

    fn ask_for_job(&mut self, job: u64, host: usize, id: AskId, call: &Call) {
        let Some(executors) = &mut self.executors else { return };
        let number = executors.next;
        executors.next += 1;
        executors.asked.insert(number, (job, id));
        self.note(31, number);
        self.trace.bytes(&wire::encode(call));
        tell!(self, "job {job} asks {host}: {} {:?}", number - FIRST, call.request);
        if self.hosts[host].agent.is_none() {
            return self.after(Duration::from_millis(5), Event::Exec(Step::Refused(number)));
        }
        self.feed(host, Input::Call { id: CallId(number), call: call.clone() });
    }

    fn forget_for_job(&mut self, job: u64, host: usize, id: AskId) {
        let Some(executors) = &mut self.executors else { return };
        let Some((&number, _)) = executors.asked.iter().find(|(_, asked)| **asked == (job, id)) else { return };
        executors.asked.remove(&number);
        if self.hosts[host].agent.is_some() {
            self.feed(host, Input::Hangup { id: CallId(number) });
        }
    }

    /// Nobody waits for what a job has asked.
    fn hang_up_for(&mut self, job: u64) {
        let Some(executors) = &mut self.executors else { return };
        executors.asked.retain(|_, (of, _)| *of != job);
    }

    /// An agent has answered, or nobody did.
    pub(super) fn exec_answered(&mut self, id: CallId, reply: Result<Reply, &str>) -> Verdict {
        let now = self.now;
        let Some((job, ask)) = self.executors.as_mut().and_then(|executors| executors.asked.remove(&id.0)) else {
            return Ok(());
        };
        self.note(32, id.0);
        tell!(self, "job {job} has {}: {reply:?}", id.0 - FIRST);
        match &reply {
            Ok(Ok(Response::Collected(pieces))) => {
                self.stats.exec.collected += pieces.iter().map(|piece| piece.output.len() as u64).sum::<u64>();
            }
            Ok(Ok(Response::KvEntries(read))) => {
                self.stats.exec.read += read.value.iter().map(|entry| entry.value.len() as u64).sum::<u64>();
            }
            _ => {}
        }
        let answer = match reply {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Trouble { may_pass: may_pass(&error), text: error.to_string() }),
            Err(text) => Err(Trouble { text: text.to_owned(), may_pass: true }),
        };
        self.with_job(job, |machine| machine.handle_answer(now, ask, answer))
    }

    /// All connections to a host break.
    pub(super) fn break_exec_calls(&mut self, host: usize) {
        let Some(executors) = &self.executors else { return };
        let lost: Vec<u64> = executors
            .asked
            .iter()
            .filter(|(_, (job, _))| executors.open.get(job).is_some_and(|executor| executor.host == host))
            .map(|(number, _)| *number)
            .collect();
        for number in lost {
            self.after(Duration::from_millis(1), Event::Exec(Step::Refused(number)));
        }
    }

    fn hear_of_job(&mut self, job: u64, news: News) -> Verdict {
        tell!(self, "job {job}: {news:?}");
        self.note(33, job);
        let Some(executors) = &mut self.executors else { return Ok(()) };
        let exec = &mut self.stats.exec;
        match &news {
            News::Acknowledged(_) => exec.acknowledged += 1,
            News::Ended { .. } => exec.ended += 1,
            News::Finished(_) => exec.finished += 1,
            News::Failed(_) => exec.failed += 1,
            _ => {}
        }
        executors.jobs.heard(job, news).map_err(|why| format!("job {job}: {why}"))
    }

    /// What is collected for users is bounded.
    pub(super) fn check_collected(&self, host: usize) -> Verdict {
        let (Some(executors), Some(agent)) = (&self.executors, &self.hosts[host].agent) else { return Ok(()) };
        let most = agent.collector().holds().max().unwrap_or(0);
        ensure!(most <= executors.plan.inbox_bytes, "agent {host} holds {most} bytes of a job's output");
        Ok(())
    }

    /// All troubles are over: no further jobs begin, and those that go on are broken off after a while.
    pub(super) fn calm_executors(&mut self) {
        let Some(executors) = &self.executors else { return };
        let open: Vec<u64> = executors.open.keys().copied().collect();
        for job in open {
            self.after(PATIENCE, Event::Exec(Step::Interrupt(job)));
        }
    }

    /// By then nothing is left of jobs: they are broken off, a session of 15 seconds ends after twice as long by a leader who may be new,
    /// and who does not listen when asked to end is killed.
    pub(super) fn time_to_finish_jobs(&self) -> Duration {
        let finish = PATIENCE + Duration::from_secs(90);
        if self.executors.is_some() { self.time_to_meet() + finish } else { Duration::ZERO }
    }

    /// Once all jobs are over and all sessions of those that nobody minds any more have ended, nothing is left of them: no key, no
    /// session, no command that runs.
    pub(super) fn nothing_is_left_of_jobs(&mut self) -> Verdict {
        let Some(executors) = &self.executors else { return Ok(()) };
        ensure!(executors.open.is_empty(), "the jobs {:?} go on", executors.open.keys());
        if let Some((host, run)) = self.running().next() {
            return Err(format!("on host {host}, the command of job {} runs on", run.job));
        }
        for (host, target) in self.servers() {
            let Some(agent) = &target.agent else { continue };
            let session = agent.store().sessions().find(|session| session.name.starts_with("Remote Exec"));
            ensure!(session.is_none(), "host {host} still has the session {session:?} of a job");
        }
        executors.jobs.left_no_keys(&self.model)
    }
}

/// Whether it is worth trying again: what a front end tells by its status.
fn may_pass(error: &Error) -> bool {
    matches!(
        error,
        Error::NoLeader
            | Error::LeadershipLost
            | Error::LeaderUnreachable
            | Error::NoServers
            | Error::DiskFull
            | Error::NoAnswer
            | Error::ShuttingDown
            | Error::Leaving
            | Error::Busy { what: Busy::OpenCalls | Busy::BlockedQueries | Busy::UncommittedBytes, .. }
    )
}
