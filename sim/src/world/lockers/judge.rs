//! What those that take locks must never see.

use bytes::Bytes;
use lictor_core::api::{Consistency, Error, Reply, Response};
use lictor_core::id::{Index, SessionId};
use lictor_core::time::{Duration, Instant};

use super::calls::{Kind, Open};
use super::{Locker, Stage};
use crate::check::lock::{Token, delay_is_over};
use crate::check::model::News;
use crate::check::session::{DRIFT_PERCENT, End};
use crate::check::{Verdict, ensure};
use crate::history::{Op, Outcome};
use crate::world::World;

/// What may pass, beyond what clocks and changes of the leader take, until a session has ended or a lock delay is over.
const SLACK: Duration = Duration::from_secs(4);

impl World {
    /// Looks at the clock for what was committed about sessions and locks.
    pub(in crate::world) fn look_at_news(&mut self) -> Verdict {
        for (index, news) in self.model.take_news() {
            let at = self.committed_at(index);
            match news {
                News::Created(id) => {
                    if let Some(life) = self.model.sessions.life(id) {
                        self.lockers.promises.created(&life.session, at);
                    }
                    self.stats.locks.sessions += 1;
                }
                News::Ended(id, why, office) => {
                    let office = self.committed_at(office);
                    self.lockers.promises.ended(id, at, why, office)?;
                    let locks = &mut self.stats.locks;
                    *(match why {
                        End::Destroyed => &mut locks.destroyed,
                        End::Expired => &mut locks.expired,
                        End::Unsound => &mut locks.unsound,
                    }) += 1;
                }
                News::Locked(key, Some(delay)) | News::Freed(key, delay) => {
                    self.stats.locks.delays += 1;
                    delay_is_over(&key, at, self.committed_at(delay.since), delay.length)?;
                }
                News::Locked(_, None) => {}
            }
        }
        Ok(())
    }

    fn committed_at(&self, index: Index) -> Instant {
        self.committed_at[index.0 as usize - 1]
    }

    /// What a call about sessions is answered with.
    pub(super) fn judge_reply(&mut self, open: &Open, reply: &Reply) -> Verdict {
        let n = open.locker;
        self.judge_call(open, reply)
            .map_err(|why| format!("{why}\n    locker {n}, since {}: {:?} -> {reply:?}", open.invoked, open.request))
    }

    fn judge_call(&mut self, open: &Open, reply: &Reply) -> Verdict {
        let sessions = &self.model.sessions;
        match (&open.kind, reply) {
            (Kind::Create { name }, Ok(Response::SessionCreated(id))) => {
                let life = sessions.life(*id).filter(|life| life.session.name == *name);
                ensure!(life.is_some(), "a client was told of a session that the log does not know");
            }
            (Kind::Create { name }, Err(error)) if is_final(error) => {
                let life = sessions.alive().find(|session| session.name == *name);
                ensure!(life.is_none(), "a session was refused, and is there");
            }
            (Kind::Renew { id }, Ok(Response::Renewed(session))) => {
                let known = sessions.life(*id).map(|life| &life.session);
                ensure!(known == Some(&**session), "a renewed session is {known:?} by the log");
                self.lockers.promises.renewed(*id, open.invoked)?;
                self.stats.locks.renewed += 1;
            }
            (Kind::Renew { id }, Err(Error::NoSuchSession(_))) => {
                let is_alive = sessions.is_alive(*id);
                ensure!(
                    !is_alive || !self.lockers.promises.lasts(*id, self.now),
                    "a session is not to be found that is there, and was promised to be"
                );
            }
            (Kind::Count, Ok(Response::Txn(seen))) => return self.judge_count(open, seen),
            (
                Kind::Move { writes } | Kind::Take { writes, .. } | Kind::Release { writes, .. },
                Ok(Response::Txn(outcome)),
            ) => return self.judge_move(writes, outcome),
            (Kind::Move { writes }, Err(error)) if is_final(error) => self.lockers.failed.push(writes.clone()),
            (Kind::List { of }, Ok(Response::Sessions(read))) => {
                let (low, high) = (open.low(), self.model.applied());
                let is_found = match of {
                    None => sessions.find(&read.value, low, high).is_some(),
                    Some(id) => sessions.find_one(*id, &read.value, low, high),
                };
                ensure!(is_found, "what was said of sessions is so at no index from {low} on");
                self.was_woken_for_something(open, *of, read.meta.index)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Somebody waited for sessions to change, and is answered.
    fn was_woken_for_something(&mut self, open: &Open, of: Option<SessionId>, told: Index) -> Verdict {
        let Some((index, wait)) = open.blocks() else { return Ok(()) };
        let took = self.now.since(open.invoked);
        if took < wait * (100 - DRIFT_PERCENT) / 100 {
            let change = self.model.sessions.may_wake(of, index, self.model.applied());
            ensure!(
                change.is_some() && told > index,
                "who waited for sessions to change after {index} was woken after {took:?} with {told}, and {change:?} changed"
            );
            self.stats.wakes += 1;
        }
        Ok(())
    }

    /// A server has taken a step: nobody on it sleeps who waits for sessions to change, and whom it must have told. In calm
    /// times, nobody sleeps for long.
    pub(in crate::world) fn nobody_sleeps(&self, host: usize) -> Verdict {
        let Some(applied) = self.hosts[host].agent.as_ref().map(|agent| agent.store().index()) else { return Ok(()) };
        let calm = self.lockers.calm_since.map(|since| since + self.settling_time());
        for open in self.lockers.open.values().filter(|open| open.host == host && open.is_fed) {
            let (Kind::List { of }, Some((index, _))) = (&open.kind, open.blocks()) else { continue };
            let up_to = if open.is_stale() { applied } else { self.model.applied() };
            let Some(change) = self.model.sessions.must_wake(*of, index, up_to) else { continue };
            let may_sleep = !open.is_stale()
                && calm.is_none_or(|calm| {
                    self.now.since(calm.max(open.invoked).max(self.committed_at(change))) <= Duration::from_secs(23)
                });
            ensure!(
                may_sleep,
                "who waits on server {host} for sessions to change after {index} sleeps through the change of {change}"
            );
        }
        Ok(())
    }

    /// What somebody is answered with who asks for a lock, or gives one back.
    pub(in crate::world) fn judge_lock(&self, op: &Op, outcome: &Outcome) -> Verdict {
        let Some(locker) = self.locker_of(op.client).and_then(|n| self.lockers.all.get(n)) else { return Ok(()) };
        match (locker.asks(), outcome) {
            (Some(Kind::Take { session, .. }), Outcome::Refused(Error::InvalidSession(_))) => {
                ensure!(!self.model.sessions.is_alive(*session), "session {session} is called invalid, and is alive");
            }
            (Some(Kind::Take { key, session, .. }), Outcome::Answer(Response::Done(false))) => {
                let Some(calm) = self.lockers.calm_since.map(|since| since + self.settling_time()) else {
                    return Ok(());
                };
                let delay = self.model.last_delay(key);
                let over = delay.map_or(Instant::ZERO, |delay| {
                    let began = self.committed_at(delay.since).max(calm);
                    began + delay.length * (100 + DRIFT_PERCENT) / 100 + SLACK
                });
                let is_free = self.model.is_free_for(key, *session, op.floor);
                ensure!(
                    op.invoked < calm || op.invoked < over || !is_free || !self.model.sessions.is_alive(*session),
                    "a lock was refused that nobody held, and whose delay was over at {over}"
                );
            }
            (Some(Kind::Release { key, session, .. }), Outcome::Answer(Response::Done(false))) => {
                let held = self.model.row(key).filter(|(since, _)| *since <= op.floor).and_then(|(_, row)| row.held());
                ensure!(
                    held.is_none_or(|(holder, _)| holder != *session),
                    "a lock was not released for the session that holds it"
                );
            }
            _ => {}
        }
        Ok(())
    }

    /// The resource refuses one that works: so it cannot hold the lock any more.
    pub(super) fn is_rightly_fenced(&self, key: &Bytes, token: Token, session: SessionId) -> Verdict {
        let held = self.model.row(key).and_then(|(_, row)| row.held());
        ensure!(
            held != Some((session, token)),
            "session {session} is fenced off from {key:?} with {token:?}, by which it holds the lock"
        );
        Ok(())
    }

    /// One of them knows that it holds a key: so nobody else may count on it, who has renewed his session in time and whose
    /// session was not ended by something else.
    pub(super) fn has_gained(
        &mut self,
        n: usize,
        key: &Bytes,
        token: Token,
        session: SessionId,
        floor: Token,
    ) -> Verdict {
        self.stats.locks.held += 1;
        self.lockers.locks.gained(key, token, session, floor)?;
        for (other, locker) in self.lockers.all.iter().enumerate().filter(|(other, _)| *other != n) {
            let Some(mine) = locker.counts_on(key, self.now) else { continue };
            let ended = self.model.sessions.life(mine).and_then(|life| life.ended);
            ensure!(
                ended.is_some_and(|(_, why)| why != End::Expired),
                "lockers {other} (session {mine}) and {n} (session {session}) both count on {key:?}"
            );
        }
        Ok(())
    }

    /// In calm times, sessions end that nobody renews.
    pub(in crate::world) fn sessions_end_in_time(&self) -> Verdict {
        // Of the sessions of jobs, it is not known here when they were renewed.
        let Some(calm) = self.lockers.calm_since.filter(|_| self.executors.is_none()) else { return Ok(()) };
        self.lockers.promises.none_outlives(self.now, calm + self.settling_time(), SLACK)
    }

    /// Nobody renews any more: by then all sessions with a TTL have ended, and all lock delays are over.
    pub(in crate::world) fn time_to_unlock(&self) -> Duration {
        let Some(plan) = &self.plan.lockers else { return self.time_to_finish_jobs() };
        let longest = plan.longest_ttl() * 2 + plan.longest_delay();
        longest * (100 + DRIFT_PERCENT) / 100 + SLACK * 2
    }

    /// All sessions with a TTL have ended, and all lock delays are over.
    pub(in crate::world) fn locks_are_over(&self) -> Verdict {
        let left = self.lockers.promises.left();
        ensure!(left == 0, "{left} sessions are left that nobody renews");
        let delayed = self.model.delays_at(self.model.applied()).next();
        ensure!(delayed.is_none(), "there still is a lock delay: {delayed:?}");
        Ok(())
    }
}

impl Open {
    fn is_stale(&self) -> bool {
        self.request.read_options().is_some_and(|read| read.consistency == Consistency::Stale)
    }

    /// The first index of which a read may show the state.
    pub(super) fn low(&self) -> Index {
        if self.is_stale() { Index(0) } else { self.floor }
    }

    /// What it waits for: something newer than this, for so long.
    fn blocks(&self) -> Option<(Index, Duration)> {
        let read = self.request.read_options().filter(|read| read.index > Index(0))?;
        Some((read.index, read.wait?))
    }
}

impl Locker {
    /// What it is waiting for, of a key.
    fn asks(&self) -> Option<&Kind> {
        match &self.busy {
            Some(super::Busy::Key(_, kind)) => Some(kind),
            _ => None,
        }
    }

    /// The session by which it believes to hold a key.
    fn counts_on(&self, wanted: &Bytes, now: Instant) -> Option<SessionId> {
        let Stage::Holding { key, .. } = &self.stage else { return None };
        let mine = self.session.as_ref().filter(|mine| key == wanted && mine.lasts(now))?;
        Some(mine.id)
    }
}

/// Whether an error says that nothing was done, now or later.
fn is_final(error: &Error) -> bool {
    matches!(crate::history::outcome_of_error(error.clone()), Outcome::Refused(_))
}
