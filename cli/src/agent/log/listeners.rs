//! Those who listen in on the log. None of them may hold up the agent, nor make it remember much: who reads too slowly
//! misses lines, and is told how many.

use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::Metadata;

use super::Level;

/// The most listeners at a time.
const LISTENERS: usize = 64;
/// The most lines that wait for one of them.
const WAITING: usize = 512;

/// All who listen.
#[derive(Debug, Default)]
pub(super) struct Listeners(Mutex<Vec<Listener>>);

#[derive(Debug)]
struct Listener {
    level: Level,
    lines: Sender<String>,
    /// Lines that it could not be given since the last one that it got.
    missed: u64,
}

/// One who listens. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct Listening(Receiver<String>);

impl Listening {
    /// The next line, with its end.
    pub(crate) async fn next(&mut self) -> Option<String> {
        self.0.recv().await
    }

    /// The next line, if it is there already.
    #[cfg(test)]
    pub(super) fn try_next(&mut self) -> Option<String> {
        self.0.try_recv().ok()
    }
}

impl Listeners {
    /// Another one, if there is room.
    pub(super) fn add(&self, level: Level) -> Option<Listening> {
        let mut all = self.all();
        all.retain(|listener| !listener.lines.is_closed());
        if all.len() >= LISTENERS {
            return None;
        }
        let (lines, listening) = channel(WAITING);
        all.push(Listener { level, lines, missed: 0 });
        Some(Listening(listening))
    }

    /// The level of whoever wants most.
    pub(super) fn most(&self) -> Option<Level> {
        self.all().iter().map(|listener| listener.level).max()
    }

    /// Tells a line to whom it concerns. True if it was found that somebody has gone.
    pub(super) fn tell(&self, metadata: &Metadata<'_>, line: &str) -> bool {
        let mut all = self.all();
        let before = all.len();
        all.retain_mut(|listener| !listener.level.lets_through(metadata) || listener.tell(line));
        all.len() < before
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Listener>> {
        // What a panic left behind is a list still.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// False if it has gone.
    fn tell(&mut self, line: &str) -> bool {
        let told = match self.missed {
            0 => line.to_owned(),
            missed => format!("    ({missed} lines are left out here: they came faster than they were read)\n{line}"),
        };
        match self.lines.try_send(told) {
            Ok(()) => self.missed = 0,
            Err(TrySendError::Full(_)) => self.missed += 1,
            Err(TrySendError::Closed(_)) => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_too_slowly_is_told_what_was_missed() {
        let (lines, receiver) = channel(2);
        let mut listener = Listener { level: Level::Info, lines, missed: 0 };
        let mut listening = Listening(receiver);
        for line in ["a\n", "b\n", "c\n", "d\n"] {
            assert!(listener.tell(line));
        }
        assert_eq!(listening.try_next().as_deref(), Some("a\n"));
        assert!(listener.tell("e\n"));
        assert_eq!(listening.try_next().as_deref(), Some("b\n"));
        let last = listening.try_next().unwrap();
        assert!(last.contains("(2 lines are left out") && last.ends_with("\ne\n"), "{last}");
        drop(listening);
        assert!(!listener.tell("f\n"));
    }

    #[test]
    fn there_are_not_more_listeners_than_the_limit() {
        let listeners = Listeners::default();
        let mut all: Vec<_> = (0..LISTENERS).map(|_| listeners.add(Level::Info).unwrap()).collect();
        assert!(listeners.add(Level::Info).is_none());
        all.pop();
        assert!(listeners.add(Level::Info).is_some(), "who has gone makes room");
    }
}
