//! For how long keys cannot be locked, by this server's clock.
//!
//! The store knows which keys are delayed and for how long ([`crate::store::Delay`]); every server measures that from when it
//! learnt of it, be it from the log or from a snapshot. So whoever comes to lead makes a client wait at least as long as the
//! delay is, however often leaders change.

use std::collections::{BTreeMap, BTreeSet};

use super::Agent;
use crate::api::kv::Key;
use crate::id::Index;
use crate::store::{Command, Store};
use crate::time::{Duration, Instant};

/// So many delays are struck out by one entry of the log, at most.
const TOGETHER: usize = 256;

/// After so long, what was to be struck out and is not is tried again: the log may have had no room.
const RETRY: Duration = Duration::from_secs(5);

/// When each delayed key may be locked again. Invariant: `due` holds the keys of `until`, each once.
#[derive(Debug, Default)]
pub(super) struct LockDelays {
    until: BTreeMap<Key, Wait>,
    due: BTreeSet<(Instant, Key)>,
}

/// A delay that is being waited for.
#[derive(Clone, Copy, Debug)]
struct Wait {
    since: Index,
    until: Instant,
    /// When the leader is to have it struck out.
    due: Instant,
}

impl LockDelays {
    /// Looks at all delays: those that are new begin now.
    pub(super) fn observe_all(&mut self, now: Instant, store: &Store) {
        let gone: Vec<Key> = self.until.keys().filter(|key| store.lock_delay(key).is_none()).cloned().collect();
        gone.iter().for_each(|key| self.forget(key));
        for (key, _) in store.lock_delays() {
            self.observe(now, store, key);
        }
    }

    /// Looks at the delay of a key that has changed.
    pub(super) fn observe(&mut self, now: Instant, store: &Store, key: &Key) {
        match store.lock_delay(key) {
            None => self.forget(key),
            Some(delay) if self.until.get(key).is_some_and(|wait| wait.since == delay.since) => {}
            Some(delay) => {
                self.forget(key);
                let until = now + delay.length;
                self.until.insert(key.clone(), Wait { since: delay.since, until, due: until });
                self.due.insert((until, key.clone()));
            }
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some(wait) = self.until.remove(key) {
            self.due.remove(&(wait.due, key.clone()));
        }
    }

    /// Whether a key cannot be locked now, whoever wants to.
    pub(super) fn holds_back(&self, now: Instant, store: &Store, key: &Key) -> bool {
        store.lock_delay(key).is_some_and(|delay| {
            let wait = self.until.get(key).filter(|wait| wait.since == delay.since);
            wait.is_none_or(|wait| now < wait.until)
        })
    }

    /// When [`poll_command`](Self::poll_command) has something to say to a leader.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Strikes out what is over. For the leader.
    pub(super) fn poll_command(&mut self, now: Instant) -> Option<Command> {
        let mut over = Vec::new();
        while over.len() < TOGETHER
            && let Some((due, _)) = self.due.first()
            && *due <= now
        {
            let (_, key) = self.due.pop_first().expect("there is a first");
            let wait = self.until.get_mut(&key).expect("what is due is waited for");
            wait.due = now + RETRY;
            self.due.insert((wait.due, key.clone()));
            over.push((key, wait.since));
        }
        (!over.is_empty()).then_some(Command::EndLockDelays(over))
    }
}

impl Agent {
    /// Has the delays that are over struck out, if we lead.
    pub(super) fn end_lock_delays(&mut self) {
        if !self.raft.is_leader() {
            return;
        }
        while let Some(command) = self.lock_delays.poll_command(self.now) {
            if self.propose_duty(&command).is_none() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::catalog::{Node, Registration};
    use crate::api::session::{Behavior, Session};
    use crate::id::SessionId;
    use crate::store::kv;

    fn apply(store: &mut Store, command: impl Into<Command>) {
        store.apply(store.index().next(), command.into()).response.expect("it can be applied");
    }

    /// A store with a key that was held by a session that has ended.
    fn delayed() -> (Store, Key) {
        let (mut store, key) = (Store::default(), Key::from_static(b"k"));
        let node = Node { name: "n".to_owned(), address: "x".to_owned(), ..Node::default() };
        apply(&mut store, Command::Register(Box::new(Registration { node, ..Registration::default() })));
        let (id, lock_delay) = (SessionId(uuid::Uuid::from_u128(1)), Duration::from_secs(15));
        let behavior = Behavior::Delete;
        apply(&mut store, Command::CreateSession(Box::new(Session { id, lock_delay, behavior, ..Session::plain() })));
        let mode = kv::Mode::Lock { session: id, judged_at: Index(2) };
        apply(&mut store, kv::Command::Put { key: key.clone(), value: Key::new(), flags: 0, mode });
        apply(&mut store, Command::DestroySession { id, expired: false });
        (store, key)
    }

    #[test]
    fn a_delay_lasts_from_when_it_was_learnt_of_and_is_then_struck_out() {
        let (mut store, key) = delayed();
        let mut delays = LockDelays::default();
        assert!(delays.holds_back(Instant::from_millis(1 << 40), &store, &key), "not measured yet");
        let (learnt, over) = (Instant::from_millis(1000), Instant::from_millis(16_000));
        delays.observe_all(learnt, &store);
        delays.observe_all(Instant::from_millis(9000), &store);
        assert!(delays.holds_back(Instant::from_nanos(over.as_nanos() - 1), &store, &key));
        assert!(!delays.holds_back(over, &store, &key));
        assert_eq!((delays.poll_timeout(), delays.poll_command(learnt)), (Some(over), None));
        let end = delays.poll_command(over);
        assert_eq!(end, Some(Command::EndLockDelays(vec![(key.clone(), Index(4))])));
        assert_eq!(delays.poll_timeout(), Some(over + RETRY), "it is tried again if nothing comes of it");
        apply(&mut store, end.unwrap());
        delays.observe_all(over, &store);
        assert_eq!(delays.poll_timeout(), None);
        assert!(!delays.holds_back(learnt, &store, &key));
    }

    #[test]
    fn a_newer_delay_of_the_same_key_begins_anew() {
        let (store, key) = delayed();
        let mut delays = LockDelays::default();
        delays.observe(Instant::ZERO, &store, &key);
        let wait = delays.until.get_mut(&key).unwrap();
        wait.since = Index(3);
        assert!(delays.holds_back(Instant::from_millis(20_000), &store, &key), "the one that is measured is another");
        delays.observe(Instant::from_millis(20_000), &store, &key);
        assert_eq!(delays.poll_timeout(), Some(Instant::from_millis(35_000)));
        assert_eq!(delays.due.len(), 1);
    }
}
