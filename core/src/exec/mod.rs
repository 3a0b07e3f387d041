//! Remote execution: a command is run on many agents, and what it writes there comes back.
//!
//! Everything goes through the key-value store, below `<prefix>/<session>/`, and every key is locked with that session, whose
//! behaviour is `delete`: when it ends, nothing is left. Who wants something run (the *initiator*) writes the job there and
//! fires an event that names it; each agent that is meant acknowledges, runs it, and writes what comes of it. The layout is that
//! of Consul, so that either end may be Consul's.
//!
//! | file | subject |
//! |---|---|
//! | `layout.rs` | keys and forms, which both ends know |
//! | `job.rs` | one job on this agent, from the event to the exit |
//! | `outlet.rs` | the way of its output: into the store, or past it |
//! | `chunk.rs`, `pace.rs` | its output, in pieces, and how fast they go |
//! | `stream.rs` | the way past the store, to the agent that collects |
//! | `collector.rs` | that agent's side |
//! | `child.rs` | commands, as an owner runs them |
//! | `news.rs` | what an operator may want to know |
//! | [`initiator`] | the other end: who wants something run |
//!
//! [`Runner`] is the agent's side: one machine, pure like all others, that knows nothing of the agent around it. Its doors:
//! [`Runner::summon`] for events, [`Runner::handle_answer`], [`Runner::handle_taken`] and [`Runner::handle_child`] for news of what
//! was ordered, [`Runner::tick`] for what is due, [`Runner::poll_step`] for what is to be done. [`Collector`](collector::Collector) is
//! another one, beside it.

pub mod child;
mod chunk;
pub mod collector;
pub mod initiator;
mod job;
pub mod layout;
mod news;
mod outlet;
mod pace;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

pub use news::{Loss, News};

use crate::api::{Reply, kv};
use crate::config;
use crate::id::{PeerId, RunId};
use crate::peer;
use crate::time::Instant;
use job::{Around, Job};
use layout::Place;

/// The last jobs are remembered, so that none is taken on twice, whoever fires events twice.
const REMEMBERED: usize = 256;

/// Something that the machine wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Ask the cluster; [`Runner::handle_answer`] takes the answer.
    Ask {
        /// What the answer belongs to. Nothing else that belongs to the same is under way.
        asked: Asked,
        /// What to ask.
        request: kv::Request,
    },
    /// The answer to this is not wanted any more. What is asked may still happen.
    HangUp(Asked),
    /// Say something to the agent where a job's output is collected; [`Runner::handle_taken`] takes what it answers. It may get lost.
    Send {
        /// The agent.
        peer: PeerId,
        /// Where it is.
        address: SocketAddr,
        /// What to say.
        message: peer::Exec,
    },
    /// Something about a command; [`Runner::handle_child`] takes what becomes of it.
    Child(child::Action),
    /// Tell whoever watches.
    Tell(News),
}

/// What a job has asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which job.
    pub run: RunId,
    /// What for.
    pub matter: Matter,
}

/// What a job asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matter {
    /// To go on.
    Work,
    /// To learn when its session ends.
    Watch,
}

/// The jobs on this agent.
#[derive(Debug)]
pub struct Runner {
    options: config::Exec,
    node: String,
    last: RunId,
    jobs: BTreeMap<RunId, Job>,
    /// The last that were taken on, the newest last.
    known: VecDeque<Place>,
    /// The agent leaves: nothing is taken on any more.
    stopping: bool,
    steps: VecDeque<Step>,
}

impl Runner {
    /// None so far, on the node of this name.
    #[must_use]
    pub fn new(options: config::Exec, node: &str) -> Self {
        Self {
            options,
            node: node.to_owned(),
            last: RunId::default(),
            jobs: BTreeMap::new(),
            known: VecDeque::new(),
            stopping: false,
            steps: VecDeque::new(),
        }
    }

    /// How many jobs are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// An event with this payload, which is meant for us, tells of a job. No event may come twice.
    pub fn summon(&mut self, now: Instant, payload: &[u8]) {
        match self.judge(payload) {
            Ok(place) => {
                self.known.push_back(place.clone());
                if self.known.len() > REMEMBERED {
                    self.known.pop_front();
                }
                self.last = self.last.next();
                let id = self.last;
                let (_, mut around) = self.split(now);
                let job = Job::begin(id, place, &mut around);
                self.jobs.insert(id, job);
            }
            Err(news) => self.steps.push_back(Step::Tell(news)),
        }
    }

    /// Whether a job is taken on.
    fn judge(&self, payload: &[u8]) -> Result<Place, News> {
        if !self.options.enabled || self.stopping {
            return Err(News::Disabled);
        }
        let place = Place::summoned(payload).map_err(|why| News::NoSummons { why })?;
        if self.known.contains(&place) {
            return Err(News::Known { place });
        }
        let limit = self.options.jobs;
        if self.jobs.len() >= limit { Err(News::TooMany { place, limit }) } else { Ok(place) }
    }

    /// The answer to [`Step::Ask`].
    pub fn handle_answer(&mut self, now: Instant, asked: Asked, reply: Reply) {
        self.with(now, asked.run, |job, around| match asked.matter {
            Matter::Work => job.handle_reply(reply, around),
            Matter::Watch => job.handle_watched(reply, around),
        });
    }

    /// Something has become of a command. Of one that is over nothing is expected; it does no harm.
    pub fn handle_child(&mut self, now: Instant, id: RunId, event: child::Event) {
        self.with(now, id, |job, around| job.handle_child(event, around));
    }

    /// The answer to [`Step::Send`]. Of a job that is over it means nothing.
    pub fn handle_taken(&mut self, now: Instant, taken: &peer::Taken) {
        self.with(now, taken.run, |job, around| job.handle_taken(taken, around));
    }

    /// The agent leaves: what runs is asked to end, and nothing new is taken on.
    pub fn stop(&mut self, now: Instant) {
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        let ids: Vec<RunId> = self.jobs.keys().copied().collect();
        for id in ids {
            self.with(now, id, |job, around| job.stop(around));
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        let due: Vec<RunId> =
            self.jobs.iter().filter(|(_, job)| job.due().is_some_and(|due| due <= now)).map(|(id, _)| *id).collect();
        for id in due {
            self.with(now, id, |job, around| job.tick(around));
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.jobs.values().filter_map(Job::due).min()
    }

    /// The next thing to be done.
    pub fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    fn with(&mut self, now: Instant, id: RunId, handle: impl FnOnce(&mut Job, &mut Around<'_>)) {
        let (jobs, mut around) = self.split(now);
        let Some(job) = jobs.get_mut(&id) else { return };
        handle(job, &mut around);
        if job.is_over() {
            jobs.remove(&id);
        }
    }

    fn split(&mut self, now: Instant) -> (&mut BTreeMap<RunId, Job>, Around<'_>) {
        (&mut self.jobs, Around { now, node: &self.node, options: &self.options, steps: &mut self.steps })
    }
}
