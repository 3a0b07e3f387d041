//! For how long sessions live that must be renewed.
//!
//! A session with a TTL ends if it was not renewed for twice as long: the client is to count on once, so that it knows first
//! (http-api.txt, "Session"). Renewing moves a deadline here and writes nothing. So a new leader knows nothing of renewals:
//! it gives every session its full time anew, once it has applied its own first entry and thereby all that its
//! predecessors did.

use std::collections::BTreeSet;

use crate::api::session::Session;
use crate::id::SessionId;
use crate::store::{Command, Store};
use crate::time::{Deadlines, Duration, Instant};

/// A session that is to end and has not is ended again after so long: the log may have had no room.
const RETRY: Duration = Duration::from_secs(1);

/// The deadlines of sessions.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// Whether all that was before our term is applied, and all sessions have got their time.
    armed: bool,
    deadlines: Deadlines<SessionId>,
    /// Those that are about to end. They cannot be renewed any more.
    expired: BTreeSet<SessionId>,
}

impl Leases {
    /// All that was before our term is applied, or all sessions were replaced: each gets its full time.
    pub(super) fn arm(&mut self, now: Instant, store: &Store) {
        *self = Self { armed: true, ..Self::default() };
        for session in store.sessions() {
            self.set(now, session);
        }
    }

    /// Whether [`arm`](Self::arm) is still to come.
    pub(super) fn is_unarmed(&self) -> bool {
        !self.armed
    }

    /// A session has come or gone.
    pub(super) fn note(&mut self, now: Instant, store: &Store, id: SessionId) {
        if !self.armed {
            return;
        }
        match store.session(id) {
            Some(session) => self.set(now, session),
            None => {
                self.deadlines.clear(&id);
                self.expired.remove(&id);
            }
        }
    }

    /// A session is renewed. Gives whether it still can be.
    pub(super) fn renew(&mut self, now: Instant, session: &Session) -> bool {
        if self.expired.contains(&session.id) {
            return false;
        }
        if self.armed {
            self.set(now, session);
        }
        true
    }

    fn set(&mut self, now: Instant, session: &Session) {
        if let Some(ttl) = session.ttl.duration() {
            self.deadlines.set(session.id, now + ttl * 2);
        }
    }

    /// When [`poll_command`](Self::poll_command) has something to say.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Ends a session whose time is over.
    pub(super) fn poll_command(&mut self, now: Instant) -> Option<Command> {
        let id = self.deadlines.pop_due(now)?;
        self.deadlines.set(id, now + RETRY);
        self.expired.insert(id);
        Some(Command::DestroySession { id, expired: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::catalog::{Node, Registration};
    use crate::api::session::Ttl;
    use uuid::Uuid;

    const A: SessionId = SessionId(Uuid::from_u128(1));

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1000)
    }

    fn store() -> Store {
        let mut store = Store::default();
        let node = Node { name: "n".to_owned(), address: "x".to_owned(), ..Node::default() };
        let registration = Box::new(Registration { node, ..Registration::default() });
        store.apply(store.index().next(), Command::Register(registration)).response.unwrap();
        let ttl = Ttl { text: "10s".to_owned(), nanos: 10_000_000_000 };
        for session in
            [Session { id: A, ttl, ..Session::plain() }, Session { id: SessionId(Uuid::max()), ..Session::plain() }]
        {
            store.apply(store.index().next(), Command::CreateSession(Box::new(session))).response.unwrap();
        }
        store
    }

    #[test]
    fn a_session_ends_after_twice_its_ttl_unless_it_is_renewed() {
        let (mut leases, mut store) = (Leases::default(), store());
        leases.note(at(1), &store, A);
        assert_eq!(leases.poll_timeout(), None, "nothing is timed before all is known");
        leases.arm(at(2), &store);
        assert_eq!(leases.poll_timeout(), Some(at(22)), "one without a TTL has no end");
        assert!(leases.renew(at(20), &store.session(A).unwrap().clone()));
        assert_eq!(leases.poll_command(at(39)), None);
        let destroy = Command::DestroySession { id: A, expired: true };
        assert_eq!(leases.poll_command(at(40)), Some(destroy.clone()));
        assert!(!leases.renew(at(40), &store.session(A).unwrap().clone()), "it is too late");
        assert_eq!(leases.poll_command(at(41)), Some(destroy.clone()), "it is tried again until it is done");
        store.apply(store.index().next(), destroy);
        leases.note(at(41), &store, A);
        assert_eq!(leases.poll_timeout(), None);
    }
}
