//! The door for front ends: one async function from call to reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use arc_swap::ArcSwap;
use lictor_core::agent::View;
use lictor_core::api::{Call, Error, Reply};
use lictor_core::id::CallId;
use lictor_core::io::{Input, Notice};
use tokio::sync::{oneshot, watch};

use crate::clock::Clock;
use crate::event::Event;

/// What the agent's thread shares with those who call it.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The clock by which the agent lives, so that a view's lease can be judged by it.
    pub(crate) clock: Clock,
    /// The picture that the agent published last.
    pub(crate) view: ArcSwap<View>,
    /// Set when the agent is to stop: no call is taken from then on.
    pub(crate) closed: AtomicBool,
    /// The news with which the agent's life has ended, as far as the agent is concerned.
    pub(crate) ended: watch::Sender<Option<Notice>>,
    next_call: AtomicU64,
}

impl Shared {
    pub(crate) fn new(clock: Clock, view: Arc<View>) -> Self {
        let (closed, ended, next_call) = (AtomicBool::new(false), watch::Sender::new(None), AtomicU64::new(1));
        Self { clock, view: ArcSwap::new(view), closed, ended, next_call }
    }
}

/// A way to call a running agent, for any thread and as many of them as there are. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    events: Sender<Event>,
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>, events: Sender<Event>) -> Self {
        Self { shared, events }
    }

    /// Asks the agent and waits for its answer: on this very thread if the published view has it, through
    /// the core otherwise. Dropping the future hangs up: a blocked query is forgotten, a write may still
    /// happen. An agent that has stopped answers [`Error::ShuttingDown`].
    pub async fn call(&self, call: Call) -> Reply {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(Error::ShuttingDown);
        }
        // Load first and read the clock after: a lease must hold at a moment after the call came in.
        if let Some(reply) = self.shared.view.load().answer(self.shared.clock.now(), &call) {
            return reply;
        }
        let id = CallId(self.shared.next_call.fetch_add(1, Ordering::Relaxed));
        let (caller, answer) = oneshot::channel();
        if self.events.send(Event::Call { id, call, caller }).is_err() {
            return Err(Error::ShuttingDown);
        }
        let mut line = Line { events: &self.events, id, open: true };
        let reply = answer.await;
        line.open = false;
        reply.unwrap_or(Err(Error::ShuttingDown))
    }

    /// The picture of the store that the agent published last.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.shared.view.load_full()
    }

    /// The clock by which the agent lives.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.shared.clock
    }
}

/// An open call. Dropped while open, it hangs up.
struct Line<'a> {
    events: &'a Sender<Event>,
    id: CallId,
    open: bool,
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if self.open {
            // A stopped agent has forgotten the call anyway.
            let _ = self.events.send(Event::Input(Input::Hangup { id: self.id }));
        }
    }
}
