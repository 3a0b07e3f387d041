//! What a leader knows of one follower: how far its log agrees, and what is on its way.

use std::collections::VecDeque;
use std::fmt;

use super::log::Position;
use super::options::Options;
use crate::id::{Index, Round};
use crate::time::{Duration, Instant};

/// A leader's view of one follower.
///
/// Invariants: `matched` < `next`; `matched` never goes back while the leader leads; in `Probe` mode nothing is in
/// flight; the indexes in flight grow.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The follower's log is durable and the same as ours up to here.
    matched: Index,
    /// The next entry to send.
    next: Index,
    mode: Mode,
    /// When it last answered anything (check-quorum).
    pub heard: Instant,
    /// The latest round of heartbeats that it answered.
    pub round: Round,
    /// The commit index that it was last told.
    pub commit_told: Index,
    /// The follower got nowhere since then although something is on its way.
    stalled_since: Instant,
}

#[derive(Clone, Debug)]
enum Mode {
    /// We do not know where the logs agree: one message at a time, and silence for a while after it.
    Probe { quiet_until: Instant },
    /// The logs agree at `next - 1`: messages follow each other without waiting for answers.
    Replicate { inflight: VecDeque<(Index, usize)>, bytes: usize },
    /// Our log does not hold what it needs next: it is sent a snapshot.
    Snapshot(Option<Transfer>),
}

/// A snapshot on its way to a follower. Invariant: `acked` ≤ `next` ≤ `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Which snapshot.
    pub position: Position,
    /// The piece to send next.
    pub next: u32,
    /// The follower's disk has all pieces before this one.
    pub acked: u32,
    /// How many pieces there are, once the last was sent.
    pub end: Option<u32>,
    /// Nothing was acknowledged since then.
    stalled_since: Instant,
}

impl Progress {
    /// A follower of whom nothing is known; `last` is the end of the leader's log.
    #[must_use]
    pub fn new(last: Index, now: Instant) -> Self {
        Self {
            matched: Index(0),
            next: last.next(),
            mode: Mode::Probe { quiet_until: Instant::ZERO },
            heard: now,
            round: Round(0),
            commit_told: Index(0),
            stalled_since: now,
        }
    }

    /// The follower's log is durable and the same as ours up to here.
    #[must_use]
    pub const fn matched(&self) -> Index {
        self.matched
    }

    /// The next entry to send.
    #[must_use]
    pub const fn next(&self) -> Index {
        self.next
    }

    /// Whether a message with entries (or, in probe mode, even without) may be sent now.
    #[must_use]
    pub fn may_send(&self, last: Index, now: Instant, config: &Options) -> bool {
        match &self.mode {
            Mode::Probe { quiet_until } => now >= *quiet_until && self.matched < last,
            Mode::Replicate { inflight, bytes } => {
                self.next <= last && inflight.len() < config.inflight_messages && *bytes < config.inflight_bytes
            }
            Mode::Snapshot(_) => false,
        }
    }

    /// A message with entries up to `last`, of `size` bytes, leaves.
    pub fn sent(&mut self, last: Index, size: usize, now: Instant, patience: Duration) {
        match &mut self.mode {
            Mode::Probe { quiet_until } => *quiet_until = now + patience,
            Mode::Replicate { inflight, bytes } => {
                if inflight.is_empty() {
                    self.stalled_since = now;
                }
                inflight.push_back((last, size));
                *bytes += size;
                self.next = last.next();
            }
            Mode::Snapshot(_) => {}
        }
    }

    /// Our log does not hold what the follower needs next: it gets a snapshot.
    pub fn lag_behind(&mut self) {
        self.mode = Mode::Snapshot(None);
    }

    /// Whether the follower needs a snapshot; and the one that is on its way, if any.
    #[must_use]
    pub fn snapshot(&self) -> Option<Option<&Transfer>> {
        match &self.mode {
            Mode::Snapshot(transfer) => Some(transfer.as_ref()),
            Mode::Probe { .. } | Mode::Replicate { .. } => None,
        }
    }

    /// The snapshot at `position` is sent from its first piece on; `None` gives up the one that was.
    pub fn begin_transfer(&mut self, position: Option<Position>, now: Instant) {
        if let Mode::Snapshot(transfer) = &mut self.mode {
            *transfer =
                position.map(|position| Transfer { position, next: 0, acked: 0, end: None, stalled_since: now });
        }
    }

    /// The next piece leaves.
    pub fn sent_piece(&mut self, last: bool, now: Instant) {
        if let Mode::Snapshot(Some(transfer)) = &mut self.mode {
            if transfer.acked == transfer.next {
                transfer.stalled_since = now;
            }
            transfer.next += 1;
            if last {
                transfer.end = Some(transfer.next);
            }
        }
    }

    /// The follower has all pieces before `next` of this snapshot.
    pub fn acked_piece(&mut self, position: Position, next: u32, now: Instant) {
        let Mode::Snapshot(slot) = &mut self.mode else { return };
        let Some(transfer) = slot.as_mut().filter(|transfer| transfer.position == position) else { return };
        if next > transfer.next {
            return;
        }
        if next == 0 && transfer.acked > 0 {
            // It lost what it had: a newer snapshot serves as well.
            *slot = None;
        } else if next > transfer.acked {
            transfer.acked = next;
            transfer.stalled_since = now;
        }
    }

    /// The oldest entry that the follower still needs from our log, as far as is known.
    #[must_use]
    pub fn needs_from(&self) -> Index {
        match &self.mode {
            Mode::Snapshot(Some(transfer)) => transfer.position.index.next(),
            Mode::Snapshot(None) => Index(u64::MAX),
            Mode::Probe { .. } | Mode::Replicate { .. } => self.matched.next(),
        }
    }

    /// The follower has everything up to `matched`. Returns whether that is news.
    pub fn appended(&mut self, matched: Index, now: Instant) -> bool {
        let news = matched > self.matched;
        if news {
            self.matched = matched;
            self.stalled_since = now;
        }
        self.next = self.next.max(self.matched.next());
        match &mut self.mode {
            // It may answer an old message: then the next one is no surer to fit than before, but at
            // worst it is refused.
            Mode::Probe { .. } => {
                self.next = self.matched.next();
                self.mode = Mode::Replicate { inflight: VecDeque::new(), bytes: 0 };
            }
            Mode::Replicate { inflight, bytes } => {
                while let Some((_, size)) = inflight.pop_front_if(|(last, _)| *last <= matched) {
                    *bytes -= size;
                }
            }
            // The snapshot is installed, or it turned out that the follower had more than was known: the next message
            // shows whether our log holds what it needs.
            Mode::Snapshot(transfer) => {
                if transfer.as_ref().is_none_or(|transfer| transfer.position.index <= matched) {
                    self.next = self.matched.next();
                    self.mode = Mode::Probe { quiet_until: Instant::ZERO };
                }
            }
        }
        news
    }

    /// The follower does not have the entry at `prev`; the logs may agree at `hint` (an index of ours).
    /// Stale refusals, as they come late or twice, change nothing. Returns whether it was taken.
    pub fn rejected(&mut self, prev: Index, hint: Index) -> bool {
        let stale = match self.mode {
            Mode::Probe { .. } => prev.next() != self.next,
            Mode::Replicate { .. } => false,
            Mode::Snapshot(_) => true,
        };
        // A follower that refuses what it said was durable has lost it, and would refuse again at once.
        if stale || prev <= self.matched {
            return false;
        }
        self.next = hint.next().min(prev).max(self.matched.next());
        self.mode = Mode::Probe { quiet_until: Instant::ZERO };
        true
    }

    /// Something was sent and nothing came of it for `patience`: it got lost, and is sent anew.
    pub fn retry_if_stalled(&mut self, now: Instant, patience: Duration) {
        if let Mode::Snapshot(Some(transfer)) = &mut self.mode
            && transfer.acked < transfer.next
            && now.since(transfer.stalled_since) >= patience * 2
        {
            // From where it stands: what arrived stays.
            transfer.next = transfer.acked;
            transfer.end = None;
            transfer.stalled_since = now;
        } else if let Mode::Snapshot(Some(transfer)) = &self.mode
            && transfer.end == Some(transfer.acked)
            && now.since(transfer.stalled_since) >= patience * 2
        {
            // It has every piece and does not say that it took them: the word was lost, or the follower crashed over it. The
            // entry behind the snapshot shows which; if it is refused, there will be another snapshot.
            self.next = transfer.position.index.max(self.matched).next();
            self.mode = Mode::Probe { quiet_until: Instant::ZERO };
        }
        if let Mode::Replicate { inflight, .. } = &self.mode
            && !inflight.is_empty()
            && now.since(self.stalled_since) >= patience
        {
            self.next = self.matched.next();
            self.mode = Mode::Probe { quiet_until: Instant::ZERO };
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "match={} next={} ", self.matched, self.next)?;
        match &self.mode {
            Mode::Probe { .. } => f.write_str("probe"),
            Mode::Replicate { inflight, .. } => write!(f, "replicate inflight={}", inflight.len()),
            Mode::Snapshot(None) => f.write_str("snapshot"),
            Mode::Snapshot(Some(Transfer { position, next, acked, .. })) => {
                write!(f, "snapshot={position} acked={acked} next={next}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn replicating(matched: u64, last: u64) -> Progress {
        let mut progress = Progress::new(Index(last), Instant::ZERO);
        progress.appended(Index(matched), Instant::ZERO);
        progress
    }

    #[test]
    fn a_probe_is_one_message_and_then_patience() {
        let config = Options::default();
        let mut progress = Progress::new(Index(5), Instant::ZERO);
        assert!(progress.may_send(Index(6), Instant::ZERO, &config));
        progress.sent(Index(6), 10, Instant::ZERO, SECOND);
        assert!(!progress.may_send(Index(6), Instant::from_millis(999), &config));
        assert!(progress.may_send(Index(6), Instant::from_millis(1000), &config));
    }

    #[test]
    fn replication_is_pipelined_up_to_the_window() {
        let config = Options { inflight_messages: 2, ..Options::default() };
        let mut progress = replicating(5, 5);
        progress.sent(Index(6), 10, Instant::ZERO, SECOND);
        assert!(progress.may_send(Index(9), Instant::ZERO, &config));
        progress.sent(Index(7), 10, Instant::ZERO, SECOND);
        assert!(!progress.may_send(Index(9), Instant::ZERO, &config));
        progress.appended(Index(6), Instant::ZERO);
        assert!(progress.may_send(Index(9), Instant::ZERO, &config));
        assert_eq!(progress.next(), Index(8));
    }

    #[test]
    fn a_late_refusal_changes_nothing() {
        let mut progress = replicating(5, 9);
        assert!(!progress.rejected(Index(4), Index(2)));
        assert_eq!((progress.matched(), progress.next()), (Index(5), Index(6)));
        assert!(progress.rejected(Index(8), Index(6)));
        assert_eq!(progress.next(), Index(7));
    }

    #[test]
    fn a_hint_never_leads_below_what_is_known_to_match() {
        let mut progress = replicating(5, 9);
        assert!(progress.rejected(Index(8), Index(1)));
        assert_eq!(progress.next(), Index(6));
    }

    #[test]
    fn a_follower_that_lost_its_log_is_not_asked_in_a_hot_loop() {
        let mut progress = replicating(5, 9);
        progress.sent(Index(9), 10, Instant::ZERO, SECOND);
        progress.retry_if_stalled(Instant::from_millis(1000), SECOND);
        progress.sent(Index(9), 10, Instant::from_millis(1000), SECOND);
        assert!(!progress.rejected(Index(5), Index(0)));
        assert!(!progress.may_send(Index(9), Instant::from_millis(1001), &Options::default()));
        assert!(progress.may_send(Index(9), Instant::from_millis(2000), &Options::default()));
    }

    #[test]
    fn what_gets_lost_is_sent_anew() {
        let mut progress = replicating(5, 9);
        progress.sent(Index(9), 10, Instant::ZERO, SECOND);
        assert_eq!(progress.next(), Index(10));
        progress.retry_if_stalled(Instant::from_millis(999), SECOND);
        assert_eq!(progress.next(), Index(10));
        progress.retry_if_stalled(Instant::from_millis(1000), SECOND);
        assert_eq!(progress.next(), Index(6));
    }
}
