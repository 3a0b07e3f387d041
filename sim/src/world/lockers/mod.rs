//! Clients that take locks: each has a session, renews it, takes a lock, works, gives it back. What they work on is outside of
//! the cluster and knows only the tokens that come with a lock. Some stand still for longer than their session lives, lose
//! their connections, forget to renew, have their check fail, end each other's sessions.
//!
//! `calls.rs` has what they ask for and how they are told, this file what they do with locks, `mishaps.rs` what becomes
//! of them, `money.rs` what they do in transactions, `judge.rs` what they must never see.

mod calls;
mod judge;
mod mishaps;
mod money;

use bytes::Bytes;
use lictor_core::api::catalog::{self, Check, Node, Registration};
use lictor_core::api::health::PASSING;
use lictor_core::api::kv::{PutMode, Request as Kv};
use lictor_core::api::session::{self, Ttl, Wanted};
use lictor_core::api::txn::Verb;
use lictor_core::api::{Consistency, Error, ReadOptions, Response};
use lictor_core::id::{Index, SessionId};
use lictor_core::rng::Rng;
use lictor_core::time::{Duration, Instant};

use super::{Event, Phase, World, tell};
use crate::check::Verdict;
use crate::check::lock::{Locks, Token};
use crate::check::session::Promises;
use crate::dice::{Concern, Dice as _, stream};
use crate::history::{Outcome, entries_of, index_of, value_of};
use crate::plan::{LOCKS, LockerPlan, LockersPlan, Plan, Tie};
pub(super) use calls::is_lock_call;
use calls::{Busy, Heard, Kind, Open};

/// The check on which sessions rely that have a node of their own.
const CHECK: &str = "alive";

/// A renewal that was not answered as hoped is tried again after this.
const RENEW_AGAIN: Duration = Duration::from_millis(500);

/// All that take locks, and what they know together.
#[derive(Debug)]
pub(super) struct Lockers {
    plan: Option<LockersPlan>,
    all: Vec<Locker>,
    /// Calls that are not about keys, by their numbers.
    open: std::collections::BTreeMap<u64, Open>,
    next: u64,
    locks: Locks,
    pub(super) promises: Promises,
    /// What was to be written by transactions that failed.
    failed: Vec<Vec<(Bytes, Bytes)>>,
    /// When all troubles were over.
    pub(super) calm_since: Option<Instant>,
}

/// What is to happen to one of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// It does the next thing, if this is the last time it was told to.
    Act(u64),
    /// It is time to renew this session.
    Renew(SessionId),
    /// It takes in what it was told.
    Hear,
}

/// One that takes locks.
#[derive(Debug)]
struct Locker {
    plan: LockerPlan,
    dice: Rng,
    host: usize,
    /// The node of its own, if it has one.
    node: String,
    /// Its node and its check are in the catalog, and all is well with them, as far as it knows.
    is_registered: bool,
    session: Option<Mine>,
    stage: Stage,
    busy: Option<Busy>,
    renewing: Option<u64>,
    /// It stands still until then.
    paused_until: Instant,
    /// It stands still just before it works, and looks at no clock before it goes on.
    is_amid_work: bool,
    /// What it was told and has not taken in.
    heard: Vec<Heard>,
    /// How often it was told to do the next thing.
    acts: u64,
    /// How many sessions it has asked for.
    sessions: u64,
    /// The index that it was last told with a list of sessions.
    listed: Index,
}

/// A session as its client knows it.
#[derive(Clone, Debug)]
struct Mine {
    id: SessionId,
    /// When it asked for the last renewal that came about.
    renewed: Instant,
    ttl: Option<Duration>,
    /// It renews it no more.
    is_forgotten: bool,
}

impl Mine {
    /// Whether the client may count on it.
    fn lasts(&self, now: Instant) -> bool {
        self.ttl.is_none_or(|ttl| now < self.renewed + ttl)
    }
}

/// What one of them is about.
#[derive(Clone, Debug)]
enum Stage {
    /// To get a lock, any.
    Idle,
    /// To see what is with a key that it could not lock.
    Curious(Bytes),
    /// To wait until something happens to a key.
    Patient(Bytes, Index),
    /// To work: it has the lock.
    Holding { key: Bytes, token: Token, left: u64 },
}

impl Lockers {
    pub(super) fn new(plan: &Plan) -> Self {
        let clients = plan.lockers.as_ref().map(|lockers| &lockers.clients[..]).unwrap_or_default();
        let locker = |(n, locker): (usize, &LockerPlan)| Locker {
            plan: locker.clone(),
            dice: stream(plan.seed, Concern::Locker(n)),
            host: locker.host,
            node: format!("m{n}"),
            is_registered: false,
            session: None,
            stage: Stage::Idle,
            busy: None,
            renewing: None,
            paused_until: Instant::ZERO,
            is_amid_work: false,
            heard: Vec::new(),
            acts: 0,
            sessions: 0,
            listed: Index(0),
        };
        Self {
            plan: plan.lockers.clone(),
            all: clients.iter().enumerate().map(locker).collect(),
            open: std::collections::BTreeMap::new(),
            next: calls::FIRST,
            locks: Locks::default(),
            promises: Promises::default(),
            failed: Vec::new(),
            calm_since: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}

impl Locker {
    /// The session that it would have.
    fn wanted(&mut self) -> Wanted {
        self.sessions += 1;
        let LockerPlan { ttl_s, lock_delay_ms, ephemeral, tie, .. } = self.plan;
        let text = if ttl_s == 0 { String::new() } else { format!("{ttl_s}s") };
        Wanted {
            name: format!("{}-{}", self.node, self.sessions),
            node: (tie == Tie::Own).then(|| self.node.clone()),
            checks: match tie {
                Tie::Nothing => Some(Vec::new()),
                Tie::Agent => None,
                Tie::Own => Some(vec![CHECK.to_owned()]),
            },
            lock_delay: Duration::from_millis(lock_delay_ms),
            behavior: if ephemeral { "delete" } else { "release" }.to_owned(),
            ttl: Ttl { text, nanos: i64::try_from(ttl_s * 1_000_000_000).expect("plans are checked") },
        }
    }

    fn ttl(&self) -> Option<Duration> {
        (self.plan.ttl_s > 0).then(|| Duration::from_secs(self.plan.ttl_s))
    }

    /// How long until its next step.
    fn pause(&mut self) -> Duration {
        let (low, high) = self.plan.step_ms;
        let hurries = self.plan.hammers && matches!(self.stage, Stage::Idle);
        let (low, high) = if hurries { (2, 40) } else { (low, high) };
        self.dice.duration(Duration::from_millis(low), Duration::from_millis(high + 1))
    }

    fn registration(&self, status: &str) -> Registration {
        let node = Node { name: self.node.clone(), address: "elsewhere".to_owned(), ..Node::default() };
        let check = Check { id: CHECK.to_owned(), status: status.to_owned(), ..Check::default() };
        Registration { node, service: None, checks: vec![check] }
    }

    /// It has no session any more, and so no lock.
    fn forget_session(&mut self) {
        self.session = None;
        self.stage = Stage::Idle;
    }

    fn read(&mut self) -> ReadOptions {
        let consistency = *self.dice.pick(&[Consistency::Default, Consistency::Consistent]);
        ReadOptions { consistency, index: Index(0), wait: None }
    }
}

impl World {
    /// Something happens to one that takes locks.
    pub(super) fn on_locker(&mut self, n: usize, step: Step) -> Verdict {
        let still = self.lockers.all[n].paused_until;
        if still > self.now {
            self.at(still, Event::Locker { locker: n, step });
            return Ok(());
        }
        match step {
            Step::Act(number) if number == self.lockers.all[n].acts => self.act(n),
            Step::Act(_) => Ok(()),
            Step::Renew(id) => self.renew_session(n, id),
            Step::Hear => {
                for heard in std::mem::take(&mut self.lockers.all[n].heard) {
                    self.take_in(n, heard)?;
                }
                Ok(())
            }
        }
    }

    pub(super) fn act_soon(&mut self, n: usize) {
        let locker = &mut self.lockers.all[n];
        locker.acts += 1;
        let (step, pause) = (Step::Act(locker.acts), locker.pause());
        self.after(pause, Event::Locker { locker: n, step });
    }

    fn act(&mut self, n: usize) -> Verdict {
        if !matches!(self.phase, Phase::Trouble | Phase::Calm { .. }) || self.lockers.all[n].busy.is_some() {
            return Ok(());
        }
        let now = self.now;
        let locker = &mut self.lockers.all[n];
        let is_amid_work = std::mem::take(&mut locker.is_amid_work);
        if locker.session.as_ref().is_some_and(|mine| !mine.lasts(now)) && !is_amid_work {
            tell!(self, "locker {n} gives its session up");
            self.stats.locks.given_up += 1;
            self.lockers.all[n].forget_session();
        }
        let locker = &mut self.lockers.all[n];
        if !is_amid_work && locker.dice.percent(locker.plan.mishaps_percent) {
            return self.mishap(n);
        }
        if !is_amid_work && locker.dice.percent(locker.plan.moves_percent) {
            return self.count_money(n);
        }
        let Some(mine) = &locker.session else { return self.want_session(n) };
        let id = mine.id;
        match locker.stage.clone() {
            Stage::Idle => {
                let locks = self.lockers.plan.as_ref().map_or(1, |plan| plan.locks);
                let key = Bytes::from_static(self.lockers.all[n].dice.pick(&LOCKS[..locks]).as_bytes());
                self.take(n, key, id)
            }
            Stage::Curious(key) => self.look(n, key, false),
            Stage::Patient(key, index) => self.wait(n, key, index),
            Stage::Holding { key, token, left } => self.work(n, key, token, left, id),
        }
    }

    fn want_session(&mut self, n: usize) -> Verdict {
        let locker = &mut self.lockers.all[n];
        if locker.plan.tie == Tie::Own && !locker.is_registered {
            let registration = Box::new(locker.registration(PASSING));
            return self.ask(n, catalog::Request::Register(registration), Kind::Register { is_well: true });
        }
        let wanted = locker.wanted();
        let name = wanted.name.clone();
        self.ask(n, session::Request::Create(wanted), Kind::Create { name })
    }

    fn take(&mut self, n: usize, key: Bytes, session: SessionId) -> Verdict {
        let floor = self.lockers.locks.known(&key);
        if self.lockers.all[n].dice.one_in(6) {
            let (request, writes) = self.in_a_transaction(Verb::Lock, key.clone(), session);
            return self.ask(n, request, Kind::Take { key, session, floor, writes });
        }
        let mode = PutMode::Acquire(session.to_string());
        let value = value_of(self.history.len(), 8);
        let put = Kv::Put { key: key.clone(), value, flags: 0, mode };
        self.ask_key(n, put, Kind::Take { key, session, floor, writes: Vec::new() })
    }

    fn look(&mut self, n: usize, key: Bytes, has_taken: bool) -> Verdict {
        let read = self.lockers.all[n].read();
        let floor = self.lockers.locks.known(&key);
        let get = Kv::Get { key: key.clone(), read };
        self.ask_key(n, get, Kind::Look { key, has_taken, floor })
    }

    fn wait(&mut self, n: usize, key: Bytes, index: Index) -> Verdict {
        let locker = &mut self.lockers.all[n];
        let wait = *locker.dice.pick(&[2_000, 10_000, 60_000]);
        let consistency = *locker.dice.pick(&[Consistency::Default, Consistency::Consistent, Consistency::Stale]);
        let read = ReadOptions { consistency, index, wait: Some(Duration::from_millis(wait)) };
        self.ask_key(n, Kv::Get { key, read }, Kind::Wait)
    }

    fn release(&mut self, n: usize, key: Bytes, session: SessionId) -> Verdict {
        if self.lockers.all[n].dice.one_in(6) {
            let (request, writes) = self.in_a_transaction(Verb::Unlock, key.clone(), session);
            return self.ask(n, request, Kind::Release { key, session, writes });
        }
        let mode = PutMode::Release(session.to_string());
        let value = value_of(self.history.len(), 8);
        let put = Kv::Put { key: key.clone(), value, flags: 0, mode };
        self.ask_key(n, put, Kind::Release { key, session, writes: Vec::new() })
    }

    /// It holds the lock, and does something that nobody else must be doing.
    fn work(&mut self, n: usize, key: Bytes, token: Token, left: u64, session: SessionId) -> Verdict {
        if left == 0 {
            self.lockers.all[n].stage = Stage::Idle;
            return self.release(n, key, session);
        }
        if self.lockers.locks.work(&key, token) {
            self.stats.locks.worked += 1;
            self.lockers.all[n].stage = Stage::Holding { key: key.clone(), token, left: left - 1 };
            if self.lockers.all[n].dice.one_in(8) {
                return self.look(n, key, false);
            }
        } else {
            self.stats.locks.fenced += 1;
            self.is_rightly_fenced(&key, token, session)?;
            tell!(self, "locker {n} is fenced off");
            self.lockers.all[n].stage = Stage::Idle;
        }
        self.act_soon(n);
        Ok(())
    }

    fn renew_session(&mut self, n: usize, id: SessionId) -> Verdict {
        if !matches!(self.phase, Phase::Trouble | Phase::Calm { .. }) {
            return Ok(());
        }
        let locker = &mut self.lockers.all[n];
        let Some(mine) = locker.session.as_ref().filter(|mine| mine.id == id && !mine.is_forgotten) else {
            return Ok(());
        };
        let Some(ttl) = mine.ttl else { return Ok(()) };
        if locker.renewing.is_some() {
            self.renew_in(n, id, RENEW_AGAIN);
            return Ok(());
        }
        let next = ttl * u32::try_from(locker.plan.renews_percent).unwrap_or(50) / 100;
        self.renew_in(n, id, next);
        self.ask(n, session::Request::Renew { id: id.to_string() }, Kind::Renew { id })
    }

    fn renew_in(&mut self, n: usize, id: SessionId, wait: Duration) {
        self.after(wait, Event::Locker { locker: n, step: Step::Renew(id) });
    }

    /// It takes in what it was told.
    fn take_in(&mut self, n: usize, heard: Heard) -> Verdict {
        let Heard { kind, mut outcome, invoked } = heard;
        let is_renewal = matches!(kind, Kind::Renew { .. });
        if is_renewal {
            self.take_in_renewal(n, &kind, &outcome, invoked);
            return Ok(());
        }
        let locker = &mut self.lockers.all[n];
        locker.busy = None;
        if matches!(outcome, Outcome::Unknown(_)) && locker.dice.one_in(2) {
            locker.host = locker.dice.below(self.hosts.len() as u64) as usize;
        }
        if let (Kind::Take { .. } | Kind::Release { .. }, Outcome::Answer(Response::Txn(done))) = (&kind, &outcome) {
            outcome = Outcome::Answer(Response::Done(done.faults.is_empty()));
        }
        match (kind, outcome) {
            (Kind::Register { is_well }, outcome) => locker.is_registered = is_well && is_done(&outcome),
            (Kind::Create { .. }, Outcome::Answer(Response::SessionCreated(id))) => {
                let ttl = locker.ttl();
                locker.session = Some(Mine { id, renewed: invoked, ttl, is_forgotten: false });
                self.renew_in(n, id, Duration::ZERO);
            }
            // Its node or its check may have gone.
            (Kind::Create { .. }, Outcome::Refused(_)) => locker.is_registered = false,
            (Kind::List { .. }, Outcome::Answer(Response::Sessions(read))) => locker.listed = read.meta.index,
            (Kind::Take { key, session, floor, .. }, outcome) => {
                return self.has_asked_for_lock(n, key, session, floor, &outcome);
            }
            (Kind::Look { key, has_taken, floor }, outcome) => {
                return self.has_looked(n, key, has_taken, floor, &outcome);
            }
            (Kind::Count, Outcome::Answer(Response::Txn(seen))) => return self.move_money(n, &seen),
            (Kind::Wait, _) => locker.stage = Stage::Idle,
            (Kind::Release { .. }, Outcome::Unknown(_)) => {
                // It may yet take place, when this session has locked the key once more.
                let id = locker.session.as_ref().map(|mine| mine.id);
                locker.forget_session();
                if let Some(id) = id {
                    return self.ask(n, session::Request::Destroy { id: id.to_string() }, Kind::Destroy);
                }
            }
            // What became of it is seen when the money is counted.
            (Kind::Count | Kind::Move { .. }, _) => {}
            (
                Kind::Release { .. } | Kind::Create { .. } | Kind::Destroy | Kind::List { .. } | Kind::Renew { .. },
                _,
            ) => {}
        }
        self.act_soon(n);
        Ok(())
    }

    fn take_in_renewal(&mut self, n: usize, kind: &Kind, outcome: &Outcome, invoked: Instant) {
        let Kind::Renew { id } = kind else { return };
        let locker = &mut self.lockers.all[n];
        locker.renewing = None;
        let Some(mine) = locker.session.as_mut().filter(|mine| mine.id == *id) else { return };
        match outcome {
            Outcome::Answer(_) => mine.renewed = mine.renewed.max(invoked),
            Outcome::Refused(Error::NoSuchSession(_)) => {
                locker.forget_session();
                tell!(self, "locker {n} has lost its session");
            }
            Outcome::Refused(_) | Outcome::Unknown(_) => self.renew_in(n, *id, RENEW_AGAIN),
        }
    }

    fn has_asked_for_lock(
        &mut self,
        n: usize,
        key: Bytes,
        session: SessionId,
        floor: Token,
        outcome: &Outcome,
    ) -> Verdict {
        let locker = &mut self.lockers.all[n];
        if locker.session.as_ref().is_none_or(|mine| mine.id != session) {
            // It has lost its session meanwhile.
            self.act_soon(n);
            return Ok(());
        }
        match outcome {
            Outcome::Answer(Response::Done(true)) => {
                self.stats.locks.taken += 1;
                let read = self.lockers.all[n].read();
                let get = Kv::Get { key: key.clone(), read };
                return self.ask_key(n, get, Kind::Look { key, has_taken: true, floor });
            }
            Outcome::Answer(_) if !locker.plan.hammers => locker.stage = Stage::Curious(key),
            Outcome::Refused(Error::InvalidSession(_)) => locker.forget_session(),
            _ => {}
        }
        self.act_soon(n);
        Ok(())
    }

    fn has_looked(&mut self, n: usize, key: Bytes, has_taken: bool, floor: Token, outcome: &Outcome) -> Verdict {
        let Outcome::Answer(response) = outcome else {
            self.lockers.all[n].stage = Stage::Idle;
            self.act_soon(n);
            return Ok(());
        };
        let entry = entries_of(response).and_then(|entries| entries.first());
        let index = index_of(response).unwrap_or_default();
        let holder = entry.and_then(|entry| entry.session);
        let locker = &mut self.lockers.all[n];
        let own = locker.session.as_ref().map(|mine| mine.id);
        let was_holding = matches!(locker.stage, Stage::Holding { .. });
        match (entry, holder) {
            (Some(entry), Some(holder)) if Some(holder) == own => {
                let token = Token::of(entry);
                if has_taken || !was_holding {
                    let left = locker.dice.between(1, 12);
                    locker.stage = Stage::Holding { key: key.clone(), token, left };
                    tell!(self, "locker {n} holds {key:?} with {token:?}");
                    self.has_gained(n, &key, token, holder, floor)?;
                }
            }
            _ if has_taken || was_holding => locker.stage = Stage::Idle,
            (_, Some(_)) => locker.stage = Stage::Patient(key, index),
            // It is free, or delayed.
            (_, None) => locker.stage = Stage::Idle,
        }
        self.act_soon(n);
        Ok(())
    }
}

fn is_done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Answer(_))
}
