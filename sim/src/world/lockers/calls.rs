//! What those that take locks ask for: of keys as all clients, in the history; of sessions and the catalog in calls of their
//! own, each with one client that waits for it.

use bytes::Bytes;
use lictor_core::api::kv::Request as Kv;
use lictor_core::api::{Call, Reply, Request};
use lictor_core::id::{CallId, Index, SessionId};
use lictor_core::io::Input;
use lictor_core::time::{Duration, Instant};
use lictor_core::wire;

use super::{Locker, Lockers, Step};
use crate::check::Verdict;
use crate::check::lock::Token;
use crate::history::{self, OpId, Outcome};
use crate::world::{Event, World, tell};

/// Calls that are not about keys are numbered from here on.
pub(super) const FIRST: u64 = 1 << 42;

/// Whether a call is one of theirs, and not about a key.
pub(in crate::world) fn is_lock_call(id: CallId) -> bool {
    id.0 >= FIRST
}

/// What a transaction is to write: keys and values.
pub(super) type Writes = Vec<(Bytes, Bytes)>;

/// What is asked for, and what it is for.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// The client's node is to be in the catalog and well, or not.
    Register { is_well: bool },
    /// A session of this name.
    Create { name: String },
    /// A session is to live on.
    Renew { id: SessionId },
    /// A session is to end.
    Destroy,
    /// All sessions, or this one: at once, or when they have changed.
    List { of: Option<SessionId> },
    /// All accounts, in one transaction.
    Count,
    /// A transaction is to write all of this or nothing.
    Move { writes: Writes },
    /// A lock, asked for when `floor` was the highest token of it that anybody knew.
    Take { key: Bytes, session: SessionId, floor: Token, writes: Writes },
    /// Who holds a lock.
    Look { key: Bytes, has_taken: bool, floor: Token },
    /// To be told when something has happened to a key.
    Wait,
    /// A lock is given back.
    Release { key: Bytes, session: SessionId, writes: Writes },
}

/// What a client waits for, renewals apart: it does one thing after the other.
#[derive(Clone, Debug)]
pub(super) enum Busy {
    /// An operation of the history.
    Key(OpId, Kind),
    /// A call of its own.
    Call,
}

/// A call under way that is not about a key.
#[derive(Clone, Debug)]
pub(in crate::world) struct Open {
    pub(super) locker: usize,
    pub(super) host: usize,
    pub(super) life: u64,
    pub(super) request: Request,
    pub(super) kind: Kind,
    pub(super) invoked: Instant,
    /// How much was known to be committed when this began.
    pub(super) floor: Index,
    /// Whether the agent has taken it in, if no view answered it.
    pub(super) is_fed: bool,
}

/// What a client was told.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) kind: Kind,
    pub(super) outcome: Outcome,
    pub(super) invoked: Instant,
}

impl Lockers {
    /// An agent has taken a call in.
    pub(in crate::world) fn fed(&mut self, id: CallId) {
        if let Some(open) = self.open.get_mut(&id.0) {
            open.is_fed = true;
        }
    }
}

impl Locker {
    fn patience(&mut self) -> Duration {
        let (low, high) = self.plan.patience_ms;
        self.dice.duration(Duration::from_millis(low), Duration::from_millis(high + 1))
    }
}

impl World {
    /// The number under which one that takes locks is in the history.
    fn first_locker(&self) -> usize {
        self.clients.len() + self.hosts.len()
    }

    /// Which of those that take locks this client of the history is.
    pub(in crate::world) fn locker_of(&self, client: usize) -> Option<usize> {
        client.checked_sub(self.first_locker())
    }

    /// One of them asks for something about a key.
    pub(super) fn ask_key(&mut self, n: usize, request: Kv, kind: Kind) -> Verdict {
        let host = self.lockers.all[n].host;
        if self.hosts[host].agent.is_none() {
            return self.no_connection(n);
        }
        let id = self.invoke(self.first_locker() + n, host, request);
        let locker = &mut self.lockers.all[n];
        locker.busy = Some(Busy::Key(id, kind));
        let blocks = self.history[id].blocks().unwrap_or_default();
        let patience = locker.patience() + blocks * 9 / 8;
        self.after(patience, Event::Impatient(id));
        self.serve(id)
    }

    /// One of them asks for something else.
    pub(super) fn ask(&mut self, n: usize, request: impl Into<Request>, kind: Kind) -> Verdict {
        let request = request.into();
        let host = self.lockers.all[n].host;
        let renewed = if let Kind::Renew { id } = &kind { Some(*id) } else { None };
        if self.hosts[host].agent.is_none() {
            // The renewal comes again by itself.
            return self.no_connection_for(n, renewed);
        }
        let id = self.lockers.next;
        self.lockers.next += 1;
        tell!(self, "locker {n} asks {host}: call {} {request:?}", id - FIRST);
        self.note(26, id);
        self.trace.bytes(&wire::encode(&request));
        let (life, floor) = (self.hosts[host].life, self.reads.told());
        let open =
            Open { locker: n, host, life, request: request.clone(), kind, invoked: self.now, floor, is_fed: false };
        self.lockers.open.insert(id, open);
        let locker = &mut self.lockers.all[n];
        match renewed {
            Some(session) => {
                locker.renewing = Some(id);
                self.lockers.promises.renewal_begins(session, id);
            }
            None => locker.busy = Some(Busy::Call),
        }
        let blocks = request.read_options().and_then(|read| read.wait).unwrap_or_default();
        let patience = self.lockers.all[n].patience() + blocks * 9 / 8;
        self.after(patience, Event::LockLate(id));
        self.serve_call(host, CallId(id), Call::new(request))
    }

    /// As in an agent's front end, whoever has it first looks at the view.
    fn serve_call(&mut self, host: usize, id: CallId, call: Call) -> Verdict {
        let target = &self.hosts[host];
        let local = target.clock.local(self.now);
        let view = target.view.as_ref().filter(|_| !target.is_paused(self.now));
        if let Some(reply) = view.and_then(|view| view.answer(local, &call)) {
            return self.lock_call_answered(id, reply);
        }
        self.feed(host, Input::Call { id, call });
        Ok(())
    }

    fn no_connection(&mut self, n: usize) -> Verdict {
        self.no_connection_for(n, None)
    }

    fn no_connection_for(&mut self, n: usize, renewed: Option<SessionId>) -> Verdict {
        self.stats.connections_refused += 1;
        let hosts = self.hosts.len() as u64;
        let locker = &mut self.lockers.all[n];
        locker.host = locker.dice.below(hosts) as usize;
        match renewed {
            Some(id) => self.renew_in(n, id, super::RENEW_AGAIN),
            None => self.act_soon(n),
        }
        Ok(())
    }

    /// A call of theirs is answered.
    pub(in crate::world) fn lock_call_answered(&mut self, id: CallId, reply: Reply) -> Verdict {
        self.note(27, id.0);
        self.trace.bytes(&wire::encode(&reply));
        tell!(self, "locker has call {}: {reply:?}", id.0 - FIRST);
        if let Some(open) = self.lockers.open.get(&id.0).cloned() {
            self.judge_reply(&open, &reply)?;
            let outcome = match reply {
                Ok(response) => Outcome::Answer(response),
                Err(error) => history::outcome_of_error(error),
            };
            self.lock_call_over(id.0, outcome);
        }
        Ok(())
    }

    /// Patience with a call is at an end.
    pub(in crate::world) fn on_lock_late(&mut self, id: u64) {
        let Some(open) = self.lockers.open.get(&id) else { return };
        let (n, host, life) = (open.locker, open.host, open.life);
        let hangs_up = self.lockers.all[n].dice.one_in(2);
        if hangs_up && self.hosts[host].agent.is_some() && self.hosts[host].life == life {
            self.feed(host, Input::Hangup { id: CallId(id) });
        }
        self.lock_call_over(id, Outcome::Unknown("no patience"));
    }

    fn lock_call_over(&mut self, id: u64, outcome: Outcome) {
        let Some(Open { locker, kind, invoked, .. }) = self.lockers.open.remove(&id) else { return };
        if let Kind::Renew { id: session } = &kind {
            self.lockers.promises.renewal_ends(*session, id, self.now);
        }
        self.tell_locker(locker, Heard { kind, outcome, invoked });
    }

    /// An operation of theirs on a key is over.
    pub(in crate::world) fn locker_told(&mut self, id: OpId) {
        let Some(n) = self.locker_of(self.history[id].client) else { return };
        let Some(Busy::Key(op, kind)) = &self.lockers.all[n].busy else { return };
        let (Some((_, outcome)), true) = (&self.history[id].end, *op == id) else { return };
        let heard = Heard { kind: kind.clone(), outcome: outcome.clone(), invoked: self.history[id].invoked };
        self.tell_locker(n, heard);
    }

    fn tell_locker(&mut self, n: usize, heard: Heard) {
        self.lockers.all[n].heard.push(heard);
        self.at(self.now, Event::Locker { locker: n, step: Step::Hear });
    }

    /// The operations on keys that are open, those of one host only if it is named.
    pub(in crate::world) fn open_on_locks(&self, at: Option<usize>) -> Vec<OpId> {
        let open = |locker: &Locker| match locker.busy {
            Some(Busy::Key(op, _)) => Some(op).filter(|op| self.history[*op].is_open()),
            _ => None,
        };
        let there = |op: &OpId| at.is_none_or(|host| self.history[*op].host == host);
        self.lockers.all.iter().filter_map(open).filter(there).collect()
    }

    /// All connections of theirs to a host break.
    pub(in crate::world) fn break_lock_calls(&mut self, host: usize) {
        let gone: Vec<u64> =
            self.lockers.open.iter().filter(|(_, open)| open.host == host).map(|(id, _)| *id).collect();
        for id in gone {
            self.lock_call_over(id, Outcome::Unknown("connection lost"));
        }
    }

    /// All connections of one of them break.
    pub(super) fn lose_connections(&mut self, n: usize) {
        let open: Vec<u64> = self.lockers.open.iter().filter(|(_, open)| open.locker == n).map(|(id, _)| *id).collect();
        for id in open {
            self.hang_up_call(id);
        }
        let hosts = self.hosts.len() as u64;
        let locker = &mut self.lockers.all[n];
        locker.host = locker.dice.below(hosts) as usize;
    }

    fn hang_up_call(&mut self, id: u64) {
        let Some(Open { host, life, .. }) = self.lockers.open.get(&id) else { return };
        let (host, life) = (*host, *life);
        if self.hosts[host].agent.is_some() && self.hosts[host].life == life {
            self.feed(host, Input::Hangup { id: CallId(id) });
        }
        self.lock_call_over(id, Outcome::Unknown("connection lost"));
    }

    /// They stop for good.
    pub(in crate::world) fn stop_lockers(&mut self) {
        for op in self.open_on_locks(None) {
            self.give_up(op, true);
        }
        let open: Vec<u64> = self.lockers.open.keys().copied().collect();
        open.into_iter().for_each(|id| self.hang_up_call(id));
    }

    /// They begin.
    pub(in crate::world) fn start_lockers(&mut self) {
        (0..self.lockers.len()).for_each(|n| self.act_soon(n));
    }
}
