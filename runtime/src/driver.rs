//! The owner of the agent: one thread that feeds every input at hand, carries out what the agent wants
//! done, and sleeps until something happens or the agent's time has come. It decides nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use lictor_core::agent::Agent;
use lictor_core::api::{Error, Reply};
use lictor_core::exec::child;
use lictor_core::id::{CallId, WriteSeq};
use lictor_core::io::{Input, Output};
use lictor_core::store::Store;
use lictor_core::time::{Duration, Instant};
use tokio::sync::oneshot;

use crate::disk::{DiskLink, Task};
use crate::event::Event;
use crate::handle::Shared;
use crate::notices::NoticeLog;
use crate::outside::Outside;

/// The most inputs in one batch, so that the first of many callers does not wait for the last.
const BATCH: usize = 1024;

/// For how long a stopping agent waits for the writes that the disk already has.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// Everything that the agent's thread owns.
pub(crate) struct Driver {
    agent: Agent,
    events: Receiver<Event>,
    shared: Arc<Shared>,
    disk: DiskLink,
    outside: Outside,
    callers: HashMap<CallId, oneshot::Sender<Reply>>,
    notices: NoticeLog,
    /// The last write that went to the disk, and the last that is known to be durable.
    written: WriteSeq,
    durable: WriteSeq,
    stopping: Option<Stopping>,
}

/// An agent on its way out waits for these writes, but not for ever.
#[derive(Clone, Copy)]
struct Stopping {
    flushed: WriteSeq,
    at_latest: Instant,
}

impl Driver {
    pub(crate) fn new(
        agent: Agent,
        events: Receiver<Event>,
        shared: Arc<Shared>,
        disk: DiskLink,
        outside: Outside,
    ) -> Self {
        Self {
            agent,
            events,
            shared,
            disk,
            outside,
            callers: HashMap::new(),
            notices: NoticeLog::default(),
            written: WriteSeq::default(),
            durable: WriteSeq::default(),
            stopping: None,
        }
    }

    /// Lives the agent's life. Returns once it was told to stop; whoever still waits for an answer then
    /// finds its line cut and says that the agent shuts down.
    pub(crate) fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        self.drain_outputs();
        while !self.has_stopped() {
            self.collect(&mut batch);
            // Read after the batch is complete: nothing in it may have happened later than the agent is told.
            let now = self.shared.clock.now();
            for event in batch.drain(..) {
                if !self.feed(now, event) {
                    return;
                }
            }
            if self.agent.poll_timeout().is_some_and(|due| due <= now) {
                self.agent.handle_input(now, Input::Timeout);
            }
            self.drain_outputs();
        }
        for (_, caller) in self.callers.drain() {
            let _ = caller.send(Err(Error::ShuttingDown));
        }
    }

    /// Sleeps until something happens or the agent wants to be woken, then takes all that is there.
    fn collect(&self, batch: &mut Vec<Event>) {
        let wake = [self.agent.poll_timeout(), self.stopping.map(|stopping| stopping.at_latest)];
        let first = match wake.into_iter().flatten().min() {
            Some(deadline) => self.events.recv_timeout(self.shared.clock.until(deadline)),
            None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match first {
            Ok(event) => batch.push(event),
            Err(RecvTimeoutError::Timeout) => {}
            // Nobody is left who could speak to the agent.
            Err(RecvTimeoutError::Disconnected) => batch.push(Event::Abort),
        }
        batch.extend(self.events.try_iter().take(BATCH - batch.len()));
    }

    /// Hands one event to the agent. False if it is the end.
    fn feed(&mut self, now: Instant, event: Event) -> bool {
        match event {
            Event::Call { caller, .. } if self.stopping.is_some() => {
                let _ = caller.send(Err(Error::ShuttingDown));
            }
            Event::Call { id, call, caller } => {
                self.callers.insert(id, caller);
                self.agent.handle_input(now, Input::Call { id, call });
            }
            Event::Message(input, share) => {
                self.agent.handle_input(now, input);
                drop(share);
            }
            Event::Input(input) => {
                match &input {
                    Input::Hangup { id } => {
                        self.callers.remove(id);
                    }
                    Input::Persisted(seq) => self.durable = *seq,
                    // It was called off after it had ended.
                    Input::Child { id, event: child::Event::Ended(_) } => self.outside.children.over(*id),
                    Input::Probed { id, .. } if !self.outside.probes.ended(*id) => return true,
                    _ => {}
                }
                self.agent.handle_input(now, input);
            }
            Event::Shutdown => {
                self.stopping = Some(Stopping { flushed: self.written, at_latest: now + FLUSH_PATIENCE });
            }
            Event::Abort => return false,
        }
        true
    }

    /// Carries out everything that the agent wants done. What memory-only storage answers on the spot may
    /// bring forth more.
    fn drain_outputs(&mut self) {
        loop {
            while let Some(output) = self.agent.poll_output() {
                self.carry_out(output);
            }
            let answers = self.disk.take_answers();
            if answers.is_empty() {
                return;
            }
            let now = self.shared.clock.now();
            for input in answers {
                if let Input::Persisted(seq) = &input {
                    self.durable = *seq;
                }
                self.agent.handle_input(now, input);
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            // Outputs are carried out in order, so a view is always out before the replies that follow it.
            Output::Publish(view) => self.shared.view.store(view),
            Output::Reply { id, reply } => {
                if let Some(caller) = self.callers.remove(&id) {
                    // A caller that left a moment ago has its hang-up on the way.
                    let _ = caller.send(reply);
                }
            }
            Output::Message { to, envelope } => self.outside.peers.send(to, &envelope),
            Output::Persist(write) => {
                self.written = write.seq;
                self.disk.submit(Task::Write(write));
            }
            Output::Job(job) => self.disk.submit_job(job),
            Output::Discard(store) => drop_elsewhere(store),
            Output::Reserve { file, size } => self.disk.submit(Task::Reserve { file, size }),
            Output::Datagram { to, bytes } => self.outside.datagrams.send(to, &bytes),
            Output::Stream { to, bytes } => self.outside.streams.send(to, &bytes),
            Output::Resolve { name } => self.outside.resolve(name),
            Output::Probe(probe) => self.outside.probes.start(probe),
            Output::CancelProbe(id) => self.outside.probes.cancel(id),
            Output::Child(action) => self.outside.children.carry_out(action),
            Output::Notice(notice) => {
                self.notices.log(self.shared.clock.now(), &notice);
                if notice.ends_the_agent() {
                    self.shared.ended.send_if_modified(|ended| ended.is_none() && ended.replace(notice).is_none());
                }
            }
        }
    }

    /// Whether the agent was told to stop and nothing that it began is still on its way to the disk.
    fn has_stopped(&self) -> bool {
        self.stopping.is_some_and(|stopping| {
            let late = self.shared.clock.now() >= stopping.at_latest;
            if late {
                tracing::warn!("the disk has not answered for {FLUSH_PATIENCE:?}: the agent stops without waiting");
            }
            late || self.durable >= stopping.flushed
        })
    }
}

/// Closes the door for calls, then tells the agent's thread to stop.
pub(crate) fn stop(shared: &Shared, events: &std::sync::mpsc::Sender<Event>, how: Event) {
    shared.closed.store(true, Ordering::Release);
    // Without a receiver it has stopped already.
    let _ = events.send(how);
}

/// Drops a store where nobody waits for it. That is rare enough for a thread of its own each time.
fn drop_elsewhere(store: Box<Store>) {
    let dropping = std::thread::Builder::new().name("lictor-drop".to_owned()).spawn(move || drop(store));
    // Without a thread it is dropped here, which takes a moment.
    dropping.map_or_else(|error| tracing::debug!("no thread to free memory on: {error}"), drop);
}
