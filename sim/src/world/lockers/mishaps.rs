//! What becomes of those that take locks, and what they do of a sudden: they stand still, lose connections and health, forget to
//! renew, end sessions, their own and others', and look at what sessions there are.

use bytes::Bytes;
use lictor_core::api::catalog::{self, Deregistration};
use lictor_core::api::health::CRITICAL;
use lictor_core::api::{Consistency, ReadOptions, session};
use lictor_core::id::{Index, SessionId};
use lictor_core::time::Duration;

use super::Stage;
use super::calls::Kind;
use crate::check::Verdict;
use crate::dice::Dice as _;
use crate::plan::{LOCKS, Tie};
use crate::world::{World, tell};

impl World {
    /// Something becomes of it.
    pub(super) fn mishap(&mut self, n: usize) -> Verdict {
        self.stats.locks.mishaps += 1;
        let others: Vec<SessionId> =
            self.lockers.all.iter().filter_map(|locker| locker.session.as_ref()).map(|mine| mine.id).collect();
        let locks = self.lockers.plan.as_ref().map_or(1, |plan| plan.locks);
        let locker = &mut self.lockers.all[n];
        let own = locker.session.as_ref().map(|mine| mine.id);
        let is_tied = locker.plan.tie == Tie::Own;
        match (locker.dice.below(9), own) {
            (0 | 1, _) => {
                let ttl = locker.ttl().unwrap_or(Duration::from_secs(10));
                let until = self.now + locker.dice.duration(ttl / 2, ttl * 3);
                locker.paused_until = until;
                locker.is_amid_work = matches!(locker.stage, Stage::Holding { left: 1.., .. });
                tell!(self, "locker {n} stands still until {until}");
                self.act_soon(n);
                Ok(())
            }
            (2, _) => {
                self.lose_connections(n);
                self.act_soon(n);
                Ok(())
            }
            (3, Some(_)) => {
                tell!(self, "locker {n} forgets to renew");
                if let Some(mine) = &mut self.lockers.all[n].session {
                    mine.is_forgotten = true;
                }
                self.act_soon(n);
                Ok(())
            }
            (4, _) if is_tied => {
                locker.is_registered = false;
                let registration = Box::new(locker.registration(CRITICAL));
                self.ask(n, catalog::Request::Register(registration), Kind::Register { is_well: false })
            }
            (5, _) if is_tied => {
                locker.is_registered = false;
                let node = locker.node.clone();
                let what = Deregistration { node, ..Deregistration::default() };
                self.ask(n, catalog::Request::Deregister(what), Kind::Register { is_well: false })
            }
            (6, Some(id)) => {
                locker.forget_session();
                self.ask(n, session::Request::Destroy { id: id.to_string() }, Kind::Destroy)
            }
            (7, Some(id)) => {
                // It gives back what it need not have.
                let key = Bytes::from_static(locker.dice.pick(&LOCKS[..locks]).as_bytes());
                locker.stage = Stage::Idle;
                self.release(n, key, id)
            }
            (8, _) if !others.is_empty() => {
                let id = locker.dice.pick(&others).to_string();
                self.ask(n, session::Request::Destroy { id }, Kind::Destroy)
            }
            _ => self.look_at_sessions(n, &others),
        }
    }

    /// It looks at sessions, or waits for them to change.
    fn look_at_sessions(&mut self, n: usize, sessions: &[SessionId]) -> Verdict {
        let locker = &mut self.lockers.all[n];
        let stale = ReadOptions { consistency: Consistency::Stale, ..locker.read() };
        let mut read = if locker.dice.one_in(3) { stale } else { locker.read() };
        if locker.listed > Index(0) && locker.dice.one_in(2) {
            read.index = locker.listed;
            read.wait = Some(Duration::from_millis(*locker.dice.pick(&[1_000, 5_000, 20_000])));
        }
        if !sessions.is_empty() && locker.dice.one_in(2) {
            let id = *locker.dice.pick(sessions);
            return self.ask(n, session::Request::Info { id: id.to_string(), read }, Kind::List { of: Some(id) });
        }
        self.ask(n, session::Request::List { read }, Kind::List { of: None })
    }
}
