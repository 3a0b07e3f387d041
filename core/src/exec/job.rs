//! One job on this agent, from the event to the exit:
//!
//! 1. *read*: from any server, and if it is not there from the leader, who must have it;
//! 2. *claimed*: it is looked whether an earlier life of this agent acknowledged it already, and if not, it is acknowledged.
//!    Only when that is certain, the command is started: whoever waits for the job knows of every agent that runs it;
//! 3. *run*: what the command writes goes out piece by piece (`outlet.rs`);
//! 4. *closed*: how it ended is written when all its output has been passed on.
//!
//! Every write is an `acquire` with the job's session, and may be repeated, as the same under the same key is the same. A write
//! that is refused says that the session has ended; so does the acknowledgement, which is watched, when it goes. Then the
//! command is asked to end, and killed if it does not.

use std::collections::VecDeque;

use bytes::Bytes;

use super::layout::{self, KILLED, NOT_RUN, Place, Spec};
use super::news::Loss;
use super::outlet::{CREDIT, Next, Outlet, Pushed};
use super::{Asked, Matter, News, Step, child};
use crate::api::{Consistency, Error, ReadOptions, Reply, Response, kv};
use crate::config;
use crate::id::{Index, RunId};
use crate::peer::{Source, Taken};
use crate::time::{Duration, Instant};

/// A command that was asked to end is killed after this.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// A write that failed is repeated after this at first, then after twice as long each time, up to …
const REPEAT_AFTER: Duration = Duration::from_millis(250);
/// … this.
const REPEAT_AFTER_AT_MOST: Duration = Duration::from_secs(4);
/// The job is given up if nothing could be written for so long: its session would have ended (twice its usual TTL).
pub(super) const OUT_OF_TOUCH: Duration = Duration::from_secs(30);

/// How long one look at the acknowledgement blocks.
const WATCH_FOR: Duration = Duration::from_secs(300);
/// Between two looks, at least.
const WATCH_PAUSE: Duration = Duration::from_secs(1);
/// After a look that failed.
const WATCH_AGAIN: Duration = Duration::from_secs(5);

/// What a job may know of the agent around it.
pub(super) struct Around<'a> {
    pub(super) now: Instant,
    /// The name of this node.
    pub(super) node: &'a str,
    pub(super) options: &'a config::Exec,
    pub(super) steps: &'a mut VecDeque<Step>,
}

impl Around<'_> {
    fn child(&mut self, action: child::Action) {
        self.steps.push_back(Step::Child(action));
    }

    fn tell(&mut self, news: News) {
        self.steps.push_back(Step::Tell(news));
    }
}

/// How far a job is.
#[derive(Debug)]
enum Stage {
    /// It is read.
    Reading { consistent: bool },
    /// Is it acknowledged already?
    Looking(Spec),
    /// It is acknowledged.
    Claiming(Spec),
    /// The command runs, or its last output is being written.
    Running,
    /// Its exit is being written.
    Closing(i32),
    /// It is given up; the command is to end.
    Dying,
    /// There is nothing left to do.
    Over,
}

/// The question or the write that the job goes on with.
#[derive(Debug)]
enum Work {
    /// There is none.
    Idle,
    /// It is on its way.
    Away(kv::Request),
    /// It failed, and is repeated then.
    Again(kv::Request, Instant),
}

/// The look at the acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    Off,
    Away,
    /// The next one is due then, and waits for something newer than this.
    Due(Instant, Index),
}

/// The command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Process {
    None,
    Runs,
    Ended(i32),
}

/// One job.
///
/// Invariants: there is at most one write under way, and one look; output waits only while `Running`; the command was started
/// at most once, and only after the acknowledgement was written.
#[derive(Debug)]
pub(super) struct Job {
    id: RunId,
    place: Place,
    stage: Stage,
    work: Work,
    /// Nothing could be written since then, and the next attempt waits for so long.
    failing: Option<(Instant, Duration)>,
    watch: Watch,
    process: Process,
    /// There as soon as the command was started.
    outlet: Option<Outlet>,
    /// When the command is killed that was asked to end.
    kill_at: Option<Instant>,
    /// It was asked to end.
    stopped: bool,
}

impl Job {
    /// A job that an event has told of. It is read.
    pub(super) fn begin(id: RunId, place: Place, around: &mut Around<'_>) -> Self {
        let mut job = Self {
            id,
            place,
            stage: Stage::Reading { consistent: false },
            work: Work::Idle,
            failing: None,
            watch: Watch::Off,
            process: Process::None,
            outlet: None,
            kill_at: None,
            stopped: false,
        };
        job.send(get(job.place.job(), Consistency::Stale), around);
        job
    }

    pub(super) const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        let work = match &self.work {
            Work::Idle if matches!(self.stage, Stage::Running) => {
                self.outlet.as_ref().and_then(|outlet| outlet.due(self.has_ended()))
            }
            Work::Idle | Work::Away(_) => None,
            Work::Again(_, at) => Some(*at),
        };
        let watch = match self.watch {
            Watch::Due(at, _) => Some(at),
            Watch::Off | Watch::Away => None,
        };
        [work, watch, self.kill_at].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, around: &mut Around<'_>) {
        let now = around.now;
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            around.child(child::Action::Signal { id: self.id, signal: child::Signal::Kill });
        }
        if let Watch::Due(at, index) = self.watch
            && at <= now
        {
            self.look(index, around);
        }
        if let Work::Again(request, at) = &self.work
            && *at <= now
        {
            let request = request.clone();
            self.send(request, around);
        }
        self.write_on(around);
    }

    /// The answer to the question or the write that the job goes on with.
    pub(super) fn handle_reply(&mut self, reply: Reply, around: &mut Around<'_>) {
        let Work::Away(request) = std::mem::replace(&mut self.work, Work::Idle) else { return };
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Reading { consistent } => self.handle_read(consistent, reply, around),
            Stage::Looking(spec) => self.handle_looked(spec, reply, around),
            stage => {
                self.stage = stage;
                self.handle_written(request, reply, around);
            }
        }
        self.write_on(around);
    }

    fn handle_read(&mut self, consistent: bool, reply: Reply, around: &mut Around<'_>) {
        let place = self.place.clone();
        match entry_of(reply) {
            Ok(Some(value)) => match Spec::decode(&value.value) {
                Ok(spec) => {
                    self.stage = Stage::Looking(spec);
                    self.send(get(self.place.ack(around.node), Consistency::Default), around);
                }
                Err(why) => around.tell(News::Malformed { place, why }),
            },
            Ok(None) | Err(_) if !consistent => {
                self.stage = Stage::Reading { consistent: true };
                self.send(get(self.place.job(), Consistency::Consistent), around);
            }
            Ok(None) => around.tell(News::NoJob { place }),
            Err(error) => around.tell(News::Unread { place, error }),
        }
    }

    fn handle_looked(&mut self, spec: Spec, reply: Reply, around: &mut Around<'_>) {
        let place = self.place.clone();
        match entry_of(reply) {
            Ok(None) => {
                self.stage = Stage::Claiming(spec);
                self.put(self.place.ack(around.node), Bytes::new(), around);
            }
            Ok(Some(_)) => around.tell(News::Known { place }),
            Err(error) => around.tell(News::Unread { place, error }),
        }
    }

    fn handle_written(&mut self, request: kv::Request, reply: Reply, around: &mut Around<'_>) {
        match reply {
            Ok(Response::Done(true)) => {
                self.failing = None;
                self.advance(around);
            }
            Ok(_)
            | Err(
                Error::InvalidSession(_)
                | Error::MalformedSession
                | Error::MissingSession
                | Error::KeyTooLarge { .. }
                | Error::ValueTooLarge { .. },
            ) => self.refused(around),
            Err(error @ (Error::PermissionDenied | Error::UnknownToken)) => self.lose(Loss::Denied(error), around),
            Err(error) => self.repeat(request, error, around),
        }
    }

    /// What was to be written is.
    fn advance(&mut self, around: &mut Around<'_>) {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Claiming(spec) => self.start(spec, around),
            Stage::Running => {
                self.stage = Stage::Running;
                if let Some(outlet) = &mut self.outlet {
                    outlet.stored(around.now);
                }
            }
            Stage::Closing(code) => {
                around.tell(News::Ended { place: self.place.clone(), code });
                self.end(around);
            }
            stage => self.stage = stage,
        }
    }

    fn start(&mut self, spec: Spec, around: &mut Around<'_>) {
        let Spec { order, wait, inbox } = spec;
        let inbox = inbox.map(|inbox| {
            let node = around.node.to_owned();
            (inbox, Source { inbox: inbox.id, node, run: self.id, first: 0 })
        });
        self.outlet = Some(Outlet::new(around.now, around.options, wait, inbox));
        self.stage = Stage::Running;
        self.process = Process::Runs;
        around.tell(News::Started { place: self.place.clone(), order: order.clone() });
        around.child(child::Action::Start { id: self.id, order, credit: CREDIT });
        self.look(Index(0), around);
    }

    /// The servers do not take what is written under this session.
    fn refused(&mut self, around: &mut Around<'_>) {
        if let Stage::Claiming(_) = self.stage {
            around.tell(News::TooLate { place: self.place.clone() });
            return self.end(around);
        }
        self.lose(Loss::SessionEnded, around);
    }

    /// It is not known whether what was to be written is.
    fn repeat(&mut self, request: kv::Request, error: Error, around: &mut Around<'_>) {
        let (since, pause) = self.failing.unwrap_or((around.now, REPEAT_AFTER));
        if around.now.since(since) >= OUT_OF_TOUCH {
            return self.lose(Loss::OutOfTouch(error), around);
        }
        self.failing = Some((since, (pause * 2).min(REPEAT_AFTER_AT_MOST)));
        self.work = Work::Again(request, around.now + pause);
    }

    /// Passes on what is to be passed on next, if nothing is being written.
    fn write_on(&mut self, around: &mut Around<'_>) {
        let ended = self.has_ended();
        while let (Stage::Running, Work::Idle) = (&self.stage, &self.work)
            && let Some(outlet) = &mut self.outlet
        {
            let next = outlet.next(around.now, ended);
            if outlet.take_turned_back() {
                around.tell(News::Uncollected { place: self.place.clone() });
            }
            let more = outlet.grant();
            if more > 0 && self.process == Process::Runs {
                around.child(child::Action::Read { id: self.id, bytes: more });
            }
            match (next, self.process) {
                (Some(Next::Store(number, piece)), _) => {
                    self.put(self.place.output(around.node, number), piece, around);
                }
                (Some(Next::Send(to, messages)), _) => {
                    let step = |message| Step::Send { peer: to.peer, address: to.address, message };
                    around.steps.extend(messages.into_iter().map(step));
                }
                (None, Process::Ended(code)) if outlet.is_empty() => {
                    self.stage = Stage::Closing(code);
                    self.put(self.place.exit(around.node), layout::encode_exit(code), around);
                }
                (None, _) => return,
            }
        }
    }

    const fn has_ended(&self) -> bool {
        matches!(self.process, Process::Ended(_))
    }

    /// The agent where its output is collected says how far that is.
    pub(super) fn handle_taken(&mut self, taken: &Taken, around: &mut Around<'_>) {
        if let Some(outlet) = &mut self.outlet {
            outlet.hear(around.now, taken);
        }
        self.write_on(around);
    }

    /// The command has written something, or is over.
    pub(super) fn handle_child(&mut self, event: child::Event, around: &mut Around<'_>) {
        match event {
            child::Event::Wrote(bytes) => self.take_output(&bytes, around),
            child::Event::Ended(ended) => {
                self.kill_at = None;
                self.process = Process::Ended(match ended {
                    child::Ended::Exited { code } => code.unwrap_or(KILLED),
                    child::Ended::Failed { reason } => {
                        around.tell(News::Failed { place: self.place.clone(), reason });
                        NOT_RUN
                    }
                });
                if let Stage::Dying = self.stage {
                    self.end(around);
                }
            }
        }
        self.write_on(around);
    }

    fn take_output(&mut self, bytes: &Bytes, around: &mut Around<'_>) {
        if !matches!(self.stage, Stage::Running) || self.process != Process::Runs {
            return;
        }
        let Some(outlet) = &mut self.outlet else { return };
        if outlet.push(around.now, bytes) == Pushed::Cut {
            around.child(child::Action::Discard { id: self.id });
            around.tell(News::Cut { place: self.place.clone(), limit: around.options.output_bytes });
        }
    }

    /// Looks whether the acknowledgement is still there and ours, once it is newer than this.
    fn look(&mut self, index: Index, around: &mut Around<'_>) {
        self.watch = Watch::Away;
        let wait = (index > Index(0)).then_some(WATCH_FOR);
        let read = ReadOptions { consistency: Consistency::Default, index, wait };
        let request = kv::Request::Get { key: self.place.ack(around.node), read };
        around.steps.push_back(Step::Ask { asked: Asked { run: self.id, matter: Matter::Watch }, request });
    }

    /// The answer to that.
    pub(super) fn handle_watched(&mut self, reply: Reply, around: &mut Around<'_>) {
        if self.watch != Watch::Away {
            return;
        }
        let index = match &reply {
            Ok(Response::KvEntries(read)) => read.meta.index,
            _ => Index(0),
        };
        self.watch = match entry_of(reply) {
            Ok(Some(entry)) if entry.session == Some(self.place.session()) => {
                Watch::Due(around.now + WATCH_PAUSE, index.max(Index(1)))
            }
            Ok(_) => {
                self.watch = Watch::Off;
                return self.lose(Loss::SessionEnded, around);
            }
            Err(_) => Watch::Due(around.now + WATCH_AGAIN, Index(0)),
        };
    }

    /// The agent leaves: the command is asked to end, and what becomes of it is told as long as there is time.
    pub(super) fn stop(&mut self, around: &mut Around<'_>) {
        match self.stage {
            Stage::Reading { .. } | Stage::Looking(_) | Stage::Claiming(_) => self.lose(Loss::Leaving, around),
            Stage::Running => self.ask_to_end(around),
            Stage::Closing(_) | Stage::Dying | Stage::Over => {}
        }
    }

    fn ask_to_end(&mut self, around: &mut Around<'_>) {
        if self.process == Process::Runs && !self.stopped {
            self.stopped = true;
            self.kill_at = Some(around.now + GRACE);
            around.child(child::Action::Signal { id: self.id, signal: child::Signal::Terminate });
        }
    }

    /// Nobody wants it any more, or nobody can be told.
    fn lose(&mut self, why: Loss, around: &mut Around<'_>) {
        around.tell(News::Lost { place: self.place.clone(), why });
        if let Some(outlet) = &mut self.outlet {
            outlet.clear();
        }
        if self.process != Process::Runs {
            return self.end(around);
        }
        self.stage = Stage::Dying;
        // It may have been about to say something before it ends: nobody reads it, and it must not wait for that.
        around.child(child::Action::Discard { id: self.id });
        self.ask_to_end(around);
        self.hang_up(around);
    }

    /// There is nothing left to do.
    fn end(&mut self, around: &mut Around<'_>) {
        self.stage = Stage::Over;
        self.hang_up(around);
    }

    /// Forgets what is under way.
    fn hang_up(&mut self, around: &mut Around<'_>) {
        let mut forget = |matter| around.steps.push_back(Step::HangUp(Asked { run: self.id, matter }));
        if let Work::Away(_) = self.work {
            forget(Matter::Work);
        }
        if self.watch == Watch::Away {
            forget(Matter::Watch);
        }
        self.work = Work::Idle;
        self.watch = Watch::Off;
    }

    fn put(&mut self, key: kv::Key, value: Bytes, around: &mut Around<'_>) {
        let mode = kv::PutMode::Acquire(self.place.session().to_string());
        self.send(kv::Request::Put { key, value, flags: 0, mode }, around);
    }

    fn send(&mut self, request: kv::Request, around: &mut Around<'_>) {
        self.work = Work::Away(request.clone());
        around.steps.push_back(Step::Ask { asked: Asked { run: self.id, matter: Matter::Work }, request });
    }
}

fn get(key: kv::Key, consistency: Consistency) -> kv::Request {
    kv::Request::Get { key, read: ReadOptions { consistency, ..ReadOptions::default() } }
}

/// What was found under a key.
fn entry_of(reply: Reply) -> Result<Option<std::sync::Arc<kv::Entry>>, Error> {
    match reply? {
        Response::KvEntries(read) => Ok(read.value.into_iter().next()),
        _ => Ok(None),
    }
}
