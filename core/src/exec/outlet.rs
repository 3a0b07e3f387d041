//! The way of a command's output out of the agent that runs it: which way the next piece goes, and when.
//!
//! At first each piece is written into the store, as Consul's agents do it, so that whoever has written the job can read it there.
//! If that is an initiator that has an inbox for it (`collector.rs`), then what a command writes beyond
//! [`config::Exec::direct_after`] goes there directly (`stream.rs`), for the servers' log is there for others, too. Should that way
//! fail, all that was not taken there, and all the rest, is written into the store after all.
//!
//! All pieces have one row of numbers, whichever way they go: a piece that came both ways is the same. When there has been nothing
//! to tell for too long, an empty piece says that the command is still there.
//!
//! The command may write as much as was passed on, and a little more: then it waits.

use std::collections::VecDeque;

use bytes::Bytes;

use super::chunk::Chunks;
use super::layout;
use super::pace::Pace;
use super::stream::{Numbered, Stream};
use crate::api::exec::Inbox;
use crate::config;
use crate::peer::{Exec, Source, Taken};
use crate::time::{Duration, Instant};

/// How much of a command's output waits here for the servers, at most (sixteen pieces, as with Consul) …
pub(super) const CREDIT: usize = 16 * layout::CHUNK_BYTES;

/// … and for whoever collects it.
pub(super) const DIRECT_CREDIT: usize = 256 << 10;

/// So much is told as fast as the servers take it; then at [`config::Exec::output_rate`].
const BURST: u64 = 1 << 20;

/// Who names no time for which nobody must be silent gets Consul's default; nobody gets less or more than the bounds.
const DEFAULT_WAIT: Duration = Duration::from_secs(2);
const MIN_WAIT: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A piece is to be written into the store; [`Outlet::stored`] says that it is.
    Store(u32, Bytes),
    /// This is to be said to the agent that collects.
    Send(Inbox, Vec<Exec>),
}

/// What became of what a command wrote.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It will be told.
    Kept,
    /// It was too much: it ends with a line that says so, and nothing more is taken.
    Cut,
    /// Nothing more is taken.
    Dropped,
}

/// The way of a job's output.
///
/// Invariants: `ahead` is what the command has written and is not passed on, and what it may still write; no number stands for two
/// pieces.
#[derive(Debug)]
pub(super) struct Outlet {
    options: config::Exec,
    output: Chunks,
    /// The number of the next piece.
    next: u32,
    /// What the command has written, as far as it is told.
    written: u64,
    /// It has written more than that.
    cut: bool,
    ahead: usize,
    /// For how long it may have nothing to tell.
    wait: Duration,
    heartbeat_at: Instant,
    way: Way,
    /// It was direct, and is not any more; nobody has been told.
    turned_back: bool,
    store_pace: Pace,
    direct_pace: Pace,
}

#[derive(Debug)]
enum Way {
    /// Into the store: in time to an inbox, if there is one. What is `left` has its numbers, and is to be written before all
    /// else; the first of it is, if it is `away`.
    Store { inbox: Option<(Inbox, Source)>, away: bool, left: VecDeque<Numbered> },
    /// Directly.
    Direct(Stream),
}

impl Outlet {
    /// The way of a command that begins now, to an inbox in time if there is one; `source` is what the command is called there.
    pub(super) fn new(now: Instant, options: &config::Exec, wait: Duration, inbox: Option<(Inbox, Source)>) -> Self {
        let wait = if wait.is_zero() { DEFAULT_WAIT } else { wait.clamp(MIN_WAIT, MAX_WAIT) };
        Self {
            options: options.clone(),
            output: Chunks::default(),
            next: 0,
            written: 0,
            cut: false,
            ahead: CREDIT,
            wait,
            heartbeat_at: now + wait,
            way: Way::Store { inbox, away: false, left: VecDeque::new() },
            turned_back: false,
            store_pace: Pace::new(options.output_rate, BURST),
            direct_pace: Pace::new(options.direct_rate, DIRECT_CREDIT as u64),
        }
    }

    /// The command has written this.
    pub(super) fn push(&mut self, now: Instant, bytes: &[u8]) -> Pushed {
        if self.cut {
            return Pushed::Dropped;
        }
        let limit = self.options.output_bytes;
        let room = usize::try_from(limit.saturating_sub(self.written)).unwrap_or(usize::MAX);
        let told = &bytes[..bytes.len().min(room)];
        self.output.push(now, told);
        self.written += told.len() as u64;
        if told.len() == bytes.len() {
            return Pushed::Kept;
        }
        self.cut = true;
        self.output.push(now, marker(limit).as_bytes());
        Pushed::Cut
    }

    /// What is to be done next, if it is due; `ended` says that the command will write no more. To be called until there is
    /// nothing, but not while a piece is being written into the store.
    pub(super) fn next(&mut self, now: Instant, ended: bool) -> Option<Next> {
        self.turn(now, ended);
        match &mut self.way {
            Way::Store { .. } => self.next_to_store(now, ended),
            Way::Direct(stream) => {
                let (to, again) = (stream.to(), stream.again(now));
                if !again.is_empty() {
                    return Some(Next::Send(to, again));
                }
                self.next_to_send(now, ended).map(|message| Next::Send(to, vec![message]))
            }
        }
    }

    /// Changes the way, if it is time for that.
    fn turn(&mut self, now: Instant, ended: bool) {
        match &mut self.way {
            Way::Store { inbox, left, .. } => {
                let waits = self.output.due(layout::CHUNK_BYTES).is_some_and(|due| due <= now || ended);
                let passed = self.written.saturating_sub(self.output.len() as u64);
                if left.is_empty()
                    && waits
                    && passed >= self.options.direct_after
                    && let Some((to, source)) = inbox.take()
                {
                    let source = Source { first: self.next, ..source };
                    self.way = Way::Direct(Stream::new(now, to, source, self.wait));
                }
            }
            Way::Direct(stream) if stream.is_lost(now) => self.turn_back(),
            Way::Direct(_) => {}
        }
    }

    /// The direct way has come to its end.
    fn turn_back(&mut self) {
        let store = Way::Store { inbox: None, away: false, left: VecDeque::new() };
        if let Way::Direct(stream) = std::mem::replace(&mut self.way, store)
            && let Way::Store { left, .. } = &mut self.way
        {
            *left = stream.into_left();
            self.turned_back = true;
        }
    }

    /// Whether the direct way has come to its end since this was asked last.
    pub(super) const fn take_turned_back(&mut self) -> bool {
        std::mem::replace(&mut self.turned_back, false)
    }

    fn next_to_store(&mut self, now: Instant, ended: bool) -> Option<Next> {
        let due = self.piece_due(ended).is_some_and(|due| due <= now);
        let Way::Store { away, left, .. } = &mut self.way else { return None };
        let silent = self.heartbeat_at <= now && left.is_empty() && !(ended && self.output.is_empty());
        if !due && !silent {
            return None;
        }
        if left.is_empty() {
            // Without any output it is a heartbeat.
            left.push_back((self.next, self.output.take(layout::CHUNK_BYTES)));
            self.next = self.next.saturating_add(1);
        }
        let (number, bytes) = left.front()?.clone();
        *away = true;
        self.store_pace.spend(now, bytes.len());
        Some(Next::Store(number, bytes))
    }

    fn next_to_send(&mut self, now: Instant, ended: bool) -> Option<Exec> {
        let due = self.piece_due(ended).is_some_and(|due| due <= now);
        let Way::Direct(stream) = &mut self.way else { return None };
        let silent = self.heartbeat_at <= now && stream.is_idle() && !(ended && self.output.is_empty());
        if !due && !silent {
            return None;
        }
        let length = stream.allows(self.output.len())?;
        let piece = self.output.take(length);
        self.direct_pace.spend(now, piece.len());
        let number = self.next;
        self.next = number.saturating_add(1);
        self.heartbeat_at = now + self.wait;
        Some(stream.send(now, number, piece))
    }

    /// The piece that was to be written into the store is there.
    pub(super) fn stored(&mut self, now: Instant) {
        self.heartbeat_at = now + self.wait;
        if let Way::Store { away, left, .. } = &mut self.way
            && std::mem::take(away)
            && let Some((_, bytes)) = left.pop_front()
        {
            self.ahead = self.ahead.saturating_sub(bytes.len());
        }
    }

    /// The agent that collects says how far it is.
    pub(super) fn hear(&mut self, now: Instant, taken: &Taken) {
        let Way::Direct(stream) = &mut self.way else { return };
        match stream.hear(now, taken) {
            Some(0) => {}
            Some(gone) => {
                self.ahead = self.ahead.saturating_sub(gone);
                self.heartbeat_at = now + self.wait;
            }
            None => self.turn_back(),
        }
    }

    /// How much more the command may write by now than it was told before.
    pub(super) fn grant(&mut self) -> usize {
        let credit = match self.way {
            Way::Store { .. } => CREDIT,
            Way::Direct(_) => DIRECT_CREDIT,
        };
        let more = if self.cut { 0 } else { credit.saturating_sub(self.ahead) };
        self.ahead += more;
        more
    }

    /// When [`next`](Self::next) has something to say, if nothing else happens before.
    pub(super) fn due(&self, ended: bool) -> Option<Instant> {
        let silent = match &self.way {
            _ if ended && self.output.is_empty() => None,
            Way::Store { left, .. } => left.is_empty().then_some(self.heartbeat_at),
            Way::Direct(stream) => stream.is_idle().then_some(self.heartbeat_at),
        };
        let (piece, stream) = match &self.way {
            Way::Store { .. } => (self.piece_due(ended), None),
            Way::Direct(stream) => {
                let piece = self.piece_due(ended).filter(|_| stream.allows(self.output.len()).is_some());
                (piece, stream.due())
            }
        };
        [silent, piece, stream].into_iter().flatten().min()
    }

    /// When the next piece of output is to be told.
    fn piece_due(&self, ended: bool) -> Option<Instant> {
        let (full, until, left) = match &self.way {
            Way::Store { left, .. } => (layout::CHUNK_BYTES, self.store_pace.until(), !left.is_empty()),
            Way::Direct(stream) => (stream.piece_bytes(), self.direct_pace.until(), false),
        };
        if left {
            return Some(until);
        }
        let due = self.output.due(full)?;
        Some(if ended { until } else { due.max(until) })
    }

    /// Whether all that was written has been passed on.
    pub(super) fn is_empty(&self) -> bool {
        self.output.is_empty()
            && match &self.way {
                Way::Store { left, .. } => left.is_empty(),
                Way::Direct(stream) => stream.is_idle(),
            }
    }

    /// Nobody wants it any more.
    pub(super) fn clear(&mut self) {
        self.output.clear();
        self.way = Way::Store { inbox: None, away: false, left: VecDeque::new() };
    }
}

/// What takes the place of output that is not told.
fn marker(limit: u64) -> String {
    format!("\n[lictor: the output is cut off here, after {limit} bytes]\n")
}

#[cfg(test)]
#[path = "outlet_tests.rs"]
mod tests;
