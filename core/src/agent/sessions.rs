//! Sessions: created and ended through the log, renewed beside it.

use uuid::Uuid;

use super::Agent;
use super::lock_delay::LockDelays;
use crate::acl::Authority;
use crate::api::health::SERF_CHECK_ID;
use crate::api::kv::Key;
use crate::api::session::{Behavior, MAX_LOCK_DELAY, Request, Session, Wanted};
use crate::api::{Error, Reply, Request as AnyRequest, Response};
use crate::config::Limits;
use crate::id::{Index, SessionId, Ticket};
use crate::store::kv::Mode;
use crate::store::{Command, Scope, Store, Topic, Touch};
use crate::time::Instant;

/// What a write is judged by before it goes into the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge<'a> {
    pub(super) now: Instant,
    pub(super) limits: &'a Limits,
    pub(super) store: &'a Store,
    pub(super) lock_delays: &'a LockDelays,
    /// On whose behalf: of several operations, not all may be allowed.
    pub(super) authority: &'a Authority,
    /// The ID of what is created, if anything is.
    pub(super) fresh: Uuid,
}

impl Judge<'_> {
    /// How a key is put for a session that wants the lock on it; `None` if nobody can have it yet.
    pub(super) fn lock(&self, key: &Key, session: SessionId) -> Option<Mode> {
        let held_back = self.lock_delays.holds_back(self.now, self.store, key);
        (!held_back).then_some(Mode::Lock { session, judged_at: self.store.visible_index() })
    }

    /// The command for a write of sessions.
    pub(super) fn session(&self, request: &Request) -> Result<Command, Error> {
        match request {
            Request::Create(wanted) => Ok(Command::CreateSession(Box::new(self.begin(wanted)?))),
            Request::Destroy { id } => {
                let id = SessionId::parse(id).ok_or(Error::MalformedSession)?;
                Ok(Command::DestroySession { id, expired: false })
            }
            other => unreachable!("{other:?} is no write"),
        }
    }

    fn begin(&self, wanted: &Wanted) -> Result<Session, Error> {
        let Wanted { name, node, checks, lock_delay, behavior, ttl } = wanted;
        let node = node.clone().filter(|node| !node.is_empty()).ok_or(Error::MissingSessionNode)?;
        let behavior = Behavior::named(behavior).ok_or_else(|| Error::BadBehavior(behavior.clone()))?;
        let (min, max) = (self.limits.session_ttl_min, self.limits.session_ttl_max);
        let in_bounds = ttl.nanos == 0 || ttl.duration().is_some_and(|ttl| (min..=max).contains(&ttl));
        if !in_bounds {
            return Err(Error::SessionTtlOutOfBounds { nanos: ttl.nanos, min, max });
        }
        Ok(Session {
            id: SessionId(self.fresh),
            name: name.clone(),
            node,
            checks: checks.clone().unwrap_or_else(|| vec![SERF_CHECK_ID.to_owned()]),
            lock_delay: (*lock_delay).min(MAX_LOCK_DELAY),
            behavior,
            ttl: ttl.clone(),
            create_index: Index(0),
        })
    }
}

/// Refuses the name of a session that is none, wherever the request would run.
pub(super) fn check_session(request: &Request) -> Result<(), Error> {
    match request {
        Request::Destroy { id } | Request::Renew { id } | Request::Info { id, .. } => {
            SessionId::parse(id).map(drop).ok_or(Error::MalformedSession)
        }
        Request::Create(_) | Request::Node { .. } | Request::List { .. } => Ok(()),
    }
}

impl Agent {
    /// Renews a session. We lead, and it is certain that nobody else does.
    pub(super) fn renew(&mut self, ticket: Ticket) {
        let Some(open) = self.calls.get(ticket) else { return };
        let AnyRequest::Session(Request::Renew { id }) = &open.call.request else { return };
        let reply = self.renewed(&id.clone());
        self.reply(ticket, reply);
    }

    fn renewed(&mut self, id: &str) -> Reply {
        let unknown = || Error::NoSuchSession(id.to_owned());
        let session = SessionId::parse(id).ok_or(Error::MalformedSession)?;
        let session = self.store.session(session).ok_or_else(unknown)?;
        // Without duties we have just been elected: every session is about to get its full time.
        let lives_on = self.duties.as_mut().is_none_or(|duties| duties.renew(self.now, session));
        if lives_on { Ok(Response::Renewed(session.clone())) } else { Err(unknown()) }
    }

    /// Measures what a command has changed of sessions and of delays.
    pub(super) fn follow_sessions(&mut self, touch: &Touch) {
        match touch {
            Touch::Key(key) => self.lock_delays.observe(self.now, &self.store, key),
            Touch::Topic(Topic::Sessions(Scope::One(id))) => {
                if let Some(duties) = &mut self.duties {
                    duties.note_session(self.now, &self.store, *id);
                }
            }
            Touch::Topic(_) => {}
            Touch::Everything => {
                self.lock_delays.observe_all(self.now, &self.store);
                if let Some(duties) = &mut self.duties {
                    duties.arm_sessions(self.now, &self.store);
                }
            }
        }
    }
}
