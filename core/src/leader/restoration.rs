//! Restorations that nobody goes on with.
//!
//! Who restores an image sends it in many steps, and may die between two of them. What was sent so far would lie in every
//! server's memory for ever.

use uuid::Uuid;

use crate::api::snapshot::Step;
use crate::id::Index;
use crate::store::{Command, Store};
use crate::time::{Duration, Instant};

/// How long a restoration may stand still.
const PATIENCE: Duration = Duration::from_secs(60);

/// Watches the restoration that is under way, if any.
#[derive(Debug, Default)]
pub(super) struct Restoration {
    seen: Option<(Uuid, Index)>,
    give_up: Option<Instant>,
}

impl Restoration {
    /// Takes note of its progress.
    pub(super) fn observe(&mut self, now: Instant, store: &Store) {
        let under_way = store.restoring().map(|(id, _, touched)| (id, touched));
        if under_way != self.seen {
            self.seen = under_way;
            self.give_up = under_way.map(|_| now + PATIENCE);
        }
    }

    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.give_up
    }

    pub(super) fn poll_command(&mut self, now: Instant) -> Option<Command> {
        self.give_up.take_if(|give_up| *give_up <= now)?;
        // Should the command get lost, it is due again after the same time.
        self.give_up = Some(now + PATIENCE);
        self.seen.map(|(id, _)| Command::Restore { id, step: Step::Abort })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::store::image::Encoder;

    fn step(store: &mut Store, index: u64, id: u128, number: u32) {
        let mut pieces = Encoder::new(bytes::Bytes::new(), Store::default(), 100);
        let bytes = (0..=number).filter_map(|_| pieces.next_piece()).last().unwrap();
        let step = Step::Piece { number, bytes };
        store.apply(Index(index), Command::Restore { id: Uuid::from_u128(id), step });
    }

    #[test]
    fn a_restoration_that_stands_still_is_given_up() {
        let (mut store, mut duty) = (Store::default(), Restoration::default());
        duty.observe(Instant::from_millis(0), &store);
        assert_eq!(duty.poll_timeout(), None);
        step(&mut store, 1, 7, 0);
        duty.observe(Instant::from_millis(0), &store);
        step(&mut store, 2, 7, 1);
        duty.observe(Instant::from_millis(30_000), &store);
        assert_eq!(duty.poll_command(Instant::from_millis(60_000)), None, "it went on meanwhile");
        let abort = Command::Restore { id: Uuid::from_u128(7), step: Step::Abort };
        assert_eq!(duty.poll_command(Instant::from_millis(90_000)), Some(abort.clone()));
        store.apply(Index(3), abort);
        duty.observe(Instant::from_millis(90_001), &store);
        assert_eq!(duty.poll_timeout(), None);
    }
}
