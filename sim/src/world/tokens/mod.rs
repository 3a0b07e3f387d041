//! Those who use the cluster with tokens: managers create, change, copy and destroy them, bearers read and write keys and fire events
//! with them, or without. `judge.rs` has what they must never see.

mod judge;

use std::collections::BTreeMap;

use bytes::Bytes;
use lictor_core::api::acl::{ANONYMOUS, Request as Acl, Wanted};
use lictor_core::api::event::{self, Event as UserEvent};
use lictor_core::api::kv::{PutMode, Request as Kv};
use lictor_core::api::txn::{self, Op, Verb};
use lictor_core::api::{Call, Consistency, ReadOptions, Reply, Request, Response};
use lictor_core::id::{CallId, Index};
use lictor_core::io::Input;
use lictor_core::rng::Rng;
use lictor_core::time::Duration;
use lictor_core::wire;

use super::{Event, Phase, World, tell};
use crate::check::Verdict;
use crate::check::acl::{Access, Rule, Subject, written};
use crate::dice::{Concern, Dice as _, stream};
use crate::history::value_of;
use crate::plan::{MASTER, Plan, TokensPlan};

/// Calls of theirs are numbered from here on.
const FIRST: u64 = 1 << 44;

/// What they write is numbered from here on.
const WRITERS: usize = 1 << 50;

/// The most values that one call writes.
const MOST_WRITES: usize = 2;

/// The keys that bearers write.
const KEYS: [&str; 6] = ["t/a", "t/a/1", "t/a/2", "t/b", "t/b/x", "t/c"];

/// What bearers list and delete, and rules are about.
const PREFIXES: [&str; 6] = ["t/", "t/a", "t/a/", "t/a/1", "t/b", "t/c"];

/// The events that bearers fire.
const EVENTS: [&str; 3] = ["e", "e-a", "e-b"];

/// Whether a call is one of theirs.
pub(super) fn is_token_call(id: CallId) -> bool {
    id.0 >= FIRST
}

/// All of them, and what they know together.
#[derive(Debug)]
pub(super) struct Holders {
    plan: Option<TokensPlan>,
    all: Vec<Holder>,
    open: BTreeMap<u64, Open>,
    next: u64,
    /// The IDs of tokens that may be there.
    known: Vec<String>,
    /// What was refused, and must never take place.
    refused: Vec<Request>,
}

/// One of them. It does one thing after the other.
#[derive(Debug)]
struct Holder {
    manages: bool,
    host: usize,
    dice: Rng,
    busy: Option<u64>,
    /// The last index that it was told: it waits for something newer.
    index: Index,
}

/// A call under way.
#[derive(Clone, Debug)]
struct Open {
    holder: usize,
    host: usize,
    life: u64,
    token: Option<String>,
    request: Request,
    /// How much was known to be committed when this began.
    floor: Index,
}

impl Holders {
    pub(super) fn new(plan: &Plan) -> Self {
        let (managers, bearers) = plan.tokens.as_ref().map_or((0, 0), |plan| (plan.managers, plan.bearers));
        let holder = |n| Holder {
            manages: n < managers,
            host: n % plan.hosts.len(),
            dice: stream(plan.seed, Concern::Holder(n)),
            busy: None,
            index: Index(0),
        };
        Self {
            all: (0..managers + bearers).map(holder).collect(),
            open: BTreeMap::new(),
            next: FIRST,
            known: (0..plan.tokens.as_ref().map_or(0, |plan| plan.tokens)).map(|n| format!("own-{n}")).collect(),
            refused: Vec::new(),
            plan: plan.tokens.clone(),
        }
    }

    /// What one of them asks for next, and with which token.
    fn draw(&mut self, n: usize) -> (Option<String>, Request) {
        let number = self.next;
        let Holder { manages, dice, index, .. } = &mut self.all[n];
        let known = dice.pick(&self.known).clone();
        let token = match dice.below(20) {
            0..17 if *manages => Some(MASTER.to_owned()),
            0 => Some(MASTER.to_owned()),
            1 => Some("never".to_owned()),
            2..4 => None,
            _ => Some(known),
        };
        let about = dice.pick(&self.known).clone();
        let request = if *manages { draw_change(dice, about, number) } else { draw_use(dice, *index, about, number) };
        (token, request)
    }
}

/// Something that managers ask for.
fn draw_change(dice: &mut Rng, id: String, number: u64) -> Request {
    let request = match dice.below(16) {
        0 => Acl::Destroy { id },
        1 => Acl::Clone { id },
        2 => Acl::Info { id, read: draw_read(dice) },
        3 => Acl::List { read: draw_read(dice) },
        kind => Acl::Set(draw_wanted(dice, kind, id, number)),
    };
    request.into()
}

fn draw_wanted(dice: &mut Rng, kind: u64, id: String, number: u64) -> Wanted {
    let id = match kind {
        8 => String::new(),
        9 => ANONYMOUS.to_owned(),
        _ => id,
    };
    let count = dice.between(0, 4);
    let rules: Vec<Rule> = (0..count).map(|_| draw_rule(dice)).collect();
    let mut rules = written(&rules, number);
    if dice.one_in(20) {
        rules.push_str("key \"\" {");
    }
    let kind = if dice.one_in(12) { "management" } else { "client" };
    Wanted { id, name: format!("of {number}"), kind: kind.to_owned(), rules }
}

fn draw_rule(dice: &mut Rng) -> Rule {
    let access = *dice.pick(&[Access::Deny, Access::Read, Access::Write, Access::Write]);
    let (subject, prefix) = match dice.below(6) {
        0 => (Subject::Event, *dice.pick(&["", "e", "e-a"])),
        1 => (Subject::Key, ""),
        _ => (Subject::Key, *dice.pick(&PREFIXES)),
    };
    Rule { subject, prefix: prefix.to_owned(), access }
}

fn draw_read(dice: &mut Rng) -> ReadOptions {
    let consistency = *dice.pick(&[
        Consistency::Default,
        Consistency::Default,
        Consistency::Default,
        Consistency::Consistent,
        Consistency::Stale,
        Consistency::Stale,
    ]);
    ReadOptions { consistency, index: Index(0), wait: None }
}

/// Something that bearers ask for.
fn draw_use(dice: &mut Rng, index: Index, id: String, number: u64) -> Request {
    let key = Bytes::from_static(dice.pick(&KEYS).as_bytes());
    let prefix = Bytes::from_static(dice.pick(&PREFIXES).as_bytes());
    let mut read = draw_read(dice);
    let writer = WRITERS + usize::try_from(number - FIRST).unwrap_or(0) * MOST_WRITES;
    let kind = dice.below(20);
    if (13..16).contains(&kind) {
        (read.index, read.wait) = (index, Some(Duration::from_millis(dice.between(100, 3_000))));
    }
    match kind {
        0..4 => Kv::Put { key, value: value_of(writer, 8), flags: 0, mode: PutMode::Set }.into(),
        4 => Kv::Delete { key, cas: None }.into(),
        5 => Kv::DeleteTree { prefix }.into(),
        6..8 | 13 => Kv::Get { key, read }.into(),
        8..11 | 14..16 => Kv::List { prefix, read }.into(),
        11..13 => Kv::Keys { prefix, separator: Bytes::new(), read }.into(),
        16 => Acl::Info { id, read }.into(),
        17 => event::Request::Fire(UserEvent { name: (*dice.pick(&EVENTS)).to_owned(), ..UserEvent::default() }).into(),
        _ => {
            let other = Bytes::from_static(dice.pick(&KEYS).as_bytes());
            let set = |key, at| op(Verb::Set, key, value_of(writer + at, 8));
            let mut ops = vec![set(key, 0), op(Verb::GetTree, prefix, Bytes::new())];
            if dice.one_in(2) {
                ops.push(set(other, 1));
            }
            txn::Request { ops, read: ReadOptions::default() }.into()
        }
    }
}

fn op(verb: Verb, key: Bytes, value: Bytes) -> Op {
    Op { verb, key, value, flags: 0, index: Index(0), session: String::new() }
}

impl World {
    /// The token of all who are there for other things.
    pub(super) fn usual_token(&self) -> Option<String> {
        self.plan.tokens.as_ref().map(|_| MASTER.to_owned())
    }

    /// They begin.
    pub(super) fn start_holders(&mut self) {
        (0..self.holders.all.len()).for_each(|n| self.holder_acts_soon(n));
    }

    fn holder_acts_soon(&mut self, n: usize) {
        let Some(plan) = &self.holders.plan else { return };
        let (manager_ms, bearer_ms) = (plan.change_ms, plan.pause_ms);
        let Holder { manages, dice, .. } = &mut self.holders.all[n];
        let (low, high) = if *manages { manager_ms } else { bearer_ms };
        let pause = dice.micros((low * 1_000, high * 1_000));
        self.after(pause, Event::Holder(n));
    }

    pub(super) fn on_holder(&mut self, n: usize) -> Verdict {
        if !matches!(self.phase, Phase::Trouble | Phase::Calm { .. }) || self.holders.all[n].busy.is_some() {
            return Ok(());
        }
        let hosts = self.hosts.len() as u64;
        let holder = &mut self.holders.all[n];
        if holder.dice.one_in(4) || self.hosts[holder.host].agent.is_none() {
            holder.host = holder.dice.below(hosts) as usize;
        }
        let host = holder.host;
        if self.hosts[host].agent.is_none() {
            self.stats.connections_refused += 1;
            self.holder_acts_soon(n);
            return Ok(());
        }
        let id = self.holders.next;
        let (token, request) = self.holders.draw(n);
        self.holders.next += 1;
        tell!(self, "holder {n} asks {host}: call {} with {token:?} {request:?}", id - FIRST);
        self.note(34, id);
        let call = Call { token: token.clone(), ..Call::new(request.clone()) };
        self.trace.bytes(&wire::encode(&call));
        let (life, floor) = (self.hosts[host].life, self.reads.told());
        let blocks = request.read_options().and_then(|read| read.wait).unwrap_or_default();
        self.holders.open.insert(id, Open { holder: n, host, life, token, request, floor });
        let (low, high) = self.holders.plan.as_ref().map_or((0, 0), |plan| plan.patience_ms);
        let holder = &mut self.holders.all[n];
        holder.busy = Some(id);
        let patience = holder.dice.micros((low * 1_000, high * 1_000)) + blocks * 9 / 8;
        self.after(patience, Event::HolderLate(id));
        self.serve_holder(host, CallId(id), call)
    }

    /// As in an agent's front end, whoever has it first looks at the view.
    fn serve_holder(&mut self, host: usize, id: CallId, call: Call) -> Verdict {
        let target = &self.hosts[host];
        let local = target.clock.local(self.now);
        let view = target.view.as_ref().filter(|_| !target.is_paused(self.now));
        if let Some(reply) = view.and_then(|view| view.answer(local, &call)) {
            self.stats.views_asked += 1;
            return self.holder_answered(id, &reply);
        }
        self.feed(host, Input::Call { id, call });
        Ok(())
    }

    /// A call of theirs is answered.
    pub(super) fn holder_answered(&mut self, id: CallId, reply: &Reply) -> Verdict {
        self.note(35, id.0);
        self.trace.bytes(&wire::encode(reply));
        tell!(self, "holder has call {}: {reply:?}", id.0 - FIRST);
        let Some(open) = self.holders.open.remove(&id.0) else { return Ok(()) };
        self.judge_holder(&open, reply).map_err(|why| {
            let Open { holder, host, token, request, floor, .. } = &open;
            format!("{why}\n    holder {holder} at host {host} with {token:?}, told {floor}: {request:?} -> {reply:?}")
        })?;
        if let Ok(Response::TokenSet { id: fresh, .. }) = reply
            && fresh != ANONYMOUS
        {
            let place = self.holders.all[open.holder].dice.below(self.holders.known.len() as u64) as usize;
            if !self.holders.known.contains(fresh) {
                self.holders.known[place].clone_from(fresh);
            }
        }
        self.holder_is_free(open.holder);
        Ok(())
    }

    fn holder_is_free(&mut self, n: usize) {
        self.holders.all[n].busy = None;
        self.holder_acts_soon(n);
    }

    /// Patience with a call is at an end.
    pub(super) fn on_holder_late(&mut self, id: u64) {
        if let Some(open) = self.holders.open.get(&id) {
            let hangs_up = self.holders.all[open.holder].dice.one_in(2);
            self.give_up_call(id, hangs_up);
        }
    }

    fn give_up_call(&mut self, id: u64, hangs_up: bool) {
        let Some(Open { holder, host, life, .. }) = self.holders.open.remove(&id) else { return };
        if hangs_up && self.hosts[host].agent.is_some() && self.hosts[host].life == life {
            self.feed(host, Input::Hangup { id: CallId(id) });
        }
        self.holder_is_free(holder);
    }

    /// All connections of theirs to a host break.
    pub(super) fn break_holders_calls(&mut self, host: usize) {
        let gone: Vec<u64> =
            self.holders.open.iter().filter(|(_, open)| open.host == host).map(|(id, _)| *id).collect();
        gone.into_iter().for_each(|id| self.give_up_call(id, false));
    }

    /// They stop for good.
    pub(super) fn stop_holders(&mut self) {
        let open: Vec<u64> = self.holders.open.keys().copied().collect();
        open.into_iter().for_each(|id| self.give_up_call(id, true));
    }
}
