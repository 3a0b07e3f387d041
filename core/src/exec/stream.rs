//! The direct way of a command's output: to the agent that its initiator asks (`collector.rs`), past the servers' log.
//!
//! Pieces may get lost, double or overtake each other. So they are kept until the other end says that they are taken, and those that
//! it does not have are sent again. It says how much may wait there; no more is on its way. If it is not heard for too long, or
//! does not collect, the way is at its end, and what is left is written into the store.

use std::collections::VecDeque;

use bytes::Bytes;

use super::collector::PIECES;
use crate::api::exec::Inbox;
use crate::peer::{Exec, MAX_PIECE_BYTES, Source, Taken};
use crate::time::{Duration, Instant};

/// What has not arrived after this is sent again; if all has, it is asked how far it is.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Whoever collects is taken to be gone after so long, or after the time for which nobody must be silent, if that is less: others
/// wait for a sign of life.
const PATIENCE: Duration = Duration::from_secs(5);

/// A piece by its number.
pub(super) type Numbered = (u32, Bytes);

/// The way. Invariants: `sent` are the pieces that were sent and are not taken, without gaps; `bytes` is what they hold; the other
/// end has all before `have`.
#[derive(Debug)]
pub(super) struct Stream {
    to: Inbox,
    source: Source,
    sent: VecDeque<Numbered>,
    bytes: usize,
    have: u32,
    room: usize,
    /// For how long the other end may be silent.
    patience: Duration,
    /// Since when it is, if anything is expected of it.
    silent_since: Instant,
    again_at: Instant,
}

impl Stream {
    /// The way to an inbox for what `source` says; nobody must be silent for longer than `wait`.
    pub(super) fn new(now: Instant, to: Inbox, source: Source, wait: Duration) -> Self {
        Self {
            to,
            have: source.first,
            source,
            sent: VecDeque::new(),
            bytes: 0,
            room: MAX_PIECE_BYTES,
            patience: wait.min(PATIENCE),
            silent_since: now,
            again_at: Instant::NEVER,
        }
    }

    /// Where it leads.
    pub(super) const fn to(&self) -> Inbox {
        self.to
    }

    /// Whether all that was sent is taken.
    pub(super) fn is_idle(&self) -> bool {
        self.sent.is_empty()
    }

    /// A piece that holds so much need not wait for more.
    pub(super) fn piece_bytes(&self) -> usize {
        self.room.clamp(1, MAX_PIECE_BYTES)
    }

    /// How much of what waits may go now as one piece; `None` if it has to wait for others to be taken. Whatever the room is, one piece
    /// is always under way.
    pub(super) fn allows(&self, waiting: usize) -> Option<usize> {
        let length = waiting.min(self.piece_bytes());
        if self.sent.is_empty() {
            return Some(length);
        }
        (self.sent.len() < PIECES as usize && self.bytes + length <= self.room).then_some(length)
    }

    /// Sends a piece; the numbers have no gaps.
    pub(super) fn send(&mut self, now: Instant, number: u32, bytes: Bytes) -> Exec {
        if self.sent.is_empty() {
            self.silent_since = now;
            self.again_at = now + self.pause();
        }
        self.bytes += bytes.len();
        self.sent.push_back((number, bytes.clone()));
        Exec::Piece { source: self.source.clone(), number, bytes }
    }

    /// The other end says how far it is. Gives how many bytes of what was sent have been taken since; `None` if it does not collect.
    pub(super) fn hear(&mut self, now: Instant, taken: &Taken) -> Option<usize> {
        if taken.inbox != self.to.id {
            return Some(0);
        }
        if !taken.open {
            return None;
        }
        self.silent_since = now;
        let mut gone = 0;
        while let Some((_, bytes)) = self.sent.pop_front_if(|(number, _)| *number < taken.taken) {
            gone += bytes.len();
            self.again_at = now + self.pause();
        }
        self.bytes -= gone;
        let end = self.sent.back().map_or(0, |(number, _)| number.saturating_add(1));
        let have = taken.have.min(end);
        if have > self.have {
            self.have = have;
            self.again_at = now + self.pause();
        }
        // Of two that have overtaken each other, either may be right: the next one is.
        self.room = taken.room as usize;
        if self.sent.is_empty() {
            self.again_at = Instant::NEVER;
        }
        Some(gone)
    }

    /// Whether the other end has been silent for too long.
    pub(super) fn is_lost(&self, now: Instant) -> bool {
        !self.sent.is_empty() && self.silent_since + self.patience <= now
    }

    /// What is to be sent again now, if that is due.
    pub(super) fn again(&mut self, now: Instant) -> Vec<Exec> {
        if self.again_at > now {
            return Vec::new();
        }
        self.again_at = now + self.pause();
        let missing = self.sent.iter().filter(|(number, _)| *number >= self.have);
        let pieces: Vec<Exec> = missing
            .map(|(number, bytes)| Exec::Piece { source: self.source.clone(), number: *number, bytes: bytes.clone() })
            .collect();
        if pieces.is_empty() { vec![Exec::HowFar(self.source.clone())] } else { pieces }
    }

    fn pause(&self) -> Duration {
        AGAIN_AFTER.min(self.patience / 3)
    }

    /// When [`again`](Self::again) or [`is_lost`](Self::is_lost) have something to say.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.sent.is_empty()).then(|| self.again_at.min(self.silent_since + self.patience))
    }

    /// What nobody has taken: another way must bring it.
    pub(super) fn into_left(self) -> VecDeque<Numbered> {
        self.sent
    }
}
