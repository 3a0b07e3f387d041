//! The clients. Each does one thing after the other and remembers what it last saw, for its `?cas=` and
//! `?index=`.

use std::collections::BTreeMap;

use bytes::Bytes;
use lictor_core::api::kv::{PutMode, Request};
use lictor_core::api::{Consistency, ReadOptions};
use lictor_core::id::Index;
use lictor_core::rng::Rng;
use lictor_core::time::Duration;

use crate::dice::Dice as _;
use crate::history::{self, OpId, Outcome};
use crate::plan::{ClientPlan, KEYS, PREFIXES};

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    plan: ClientPlan,
    dice: Rng,
    keys: usize,
    /// The host that it talks to.
    pub(crate) host: usize,
    /// What it waits for.
    pub(crate) current: Option<OpId>,
    /// The last modify index that it saw of each key.
    modified: BTreeMap<Bytes, Index>,
    /// The last index that it was told for a key (true) or a prefix (false).
    watched: BTreeMap<(bool, Bytes), Index>,
}

impl Client {
    pub(crate) fn new(plan: &ClientPlan, keys: usize, dice: Rng) -> Self {
        Self {
            plan: plan.clone(),
            dice,
            keys,
            host: plan.host,
            current: None,
            modified: BTreeMap::new(),
            watched: BTreeMap::new(),
        }
    }

    /// The pause before the next operation.
    pub(crate) fn think(&mut self) -> Duration {
        self.dice.micros(self.plan.think_us)
    }

    /// How long it waits for an answer.
    pub(crate) fn patience(&mut self, blocks: Option<Duration>) -> Duration {
        let (low, high) = self.plan.patience_ms;
        let patience = self.dice.duration(Duration::from_millis(low), Duration::from_millis(high + 1));
        match blocks {
            // Some hang up early. The jitter may add a sixteenth.
            Some(wait) if !self.dice.one_in(5) => patience + wait * 9 / 8,
            _ => patience,
        }
    }

    /// Whether it tells the agent when its patience ends, or just never looks again.
    pub(crate) fn hangs_up(&mut self) -> bool {
        !self.dice.one_in(5)
    }

    /// It goes to another server, always after a broken connection.
    pub(crate) fn maybe_move(&mut self, hosts: usize, broken: bool) {
        if broken || self.dice.percent(self.plan.roams_percent) {
            self.host = self.dice.below(hosts as u64) as usize;
        }
    }

    /// What it asks next.
    pub(crate) fn next_request(&mut self, op: OpId) -> Request {
        let mix = &self.plan.mix;
        let weights = [mix.put, mix.cas, mix.delete, mix.delete_tree, mix.get, mix.list, mix.watch];
        let mut left = self.dice.below(weights.iter().map(|w| u64::from(*w)).sum());
        let mut kind = 0;
        while left >= u64::from(weights[kind]) {
            left -= u64::from(weights[kind]);
            kind += 1;
        }
        match kind {
            0 => self.put(op, PutMode::Set),
            1 => {
                let mut put = self.put(op, PutMode::Set);
                if let Request::Put { key, mode, .. } = &mut put {
                    *mode = PutMode::Cas(self.modified.get(key).copied().unwrap_or_default());
                }
                put
            }
            2 => {
                let key = self.key();
                let cas = self.modified.get(&key).copied().filter(|_| self.dice.one_in(2));
                Request::Delete { key, cas }
            }
            3 => Request::DeleteTree { prefix: self.prefix() },
            4 => Request::Get { key: self.key(), read: self.read() },
            5 => Request::List { prefix: self.prefix(), read: self.read() },
            _ => self.watch(),
        }
    }

    /// It remembers what it was told.
    pub(crate) fn learn(&mut self, request: &Request, outcome: &Outcome) {
        let Outcome::Answer(response) = outcome else { return };
        let Some(entries) = history::entries_of(response) else { return };
        for entry in entries {
            self.modified.insert(entry.key.clone(), entry.modify_index);
        }
        let index = history::index_of(response).unwrap_or_default();
        match request {
            Request::Get { key, .. } => {
                if entries.is_empty() {
                    self.modified.remove(key);
                }
                self.watched.insert((true, key.clone()), index);
            }
            Request::List { prefix, .. } => {
                self.watched.insert((false, prefix.clone()), index);
            }
            _ => {}
        }
    }

    fn put(&mut self, op: OpId, mode: PutMode) -> Request {
        // Now and then a value that takes several sectors of the log.
        let size = if self.dice.one_in(8) { self.dice.below(3_000) as usize } else { 8 };
        Request::Put { key: self.key(), value: history::value_of(op, size), flags: op as u64, mode }
    }

    fn watch(&mut self) -> Request {
        let mut request = if self.dice.one_in(2) {
            Request::Get { key: self.key(), read: self.read() }
        } else {
            Request::List { prefix: self.prefix(), read: self.read() }
        };
        let (is_key, about, read) = match &mut request {
            Request::Get { key, read } => (true, key.clone(), read),
            Request::List { prefix, read } => (false, prefix.clone(), read),
            _ => unreachable!("a watch reads"),
        };
        let seen = self.watched.get(&(is_key, about));
        // The first time, it only looks.
        read.index = seen.copied().unwrap_or_default();
        let wait = *self.dice.pick(&[50, 300, 2_000, 10_000, 60_000]);
        read.wait = Some(Duration::from_millis(self.dice.between(wait / 2, wait)));
        request
    }

    fn key(&mut self) -> Bytes {
        Bytes::from_static(self.dice.pick(&KEYS[..self.keys]).as_bytes())
    }

    fn prefix(&mut self) -> Bytes {
        Bytes::from_static(self.dice.pick(&PREFIXES).as_bytes())
    }

    fn read(&mut self) -> ReadOptions {
        let roll = self.dice.below(100);
        let (stale, consistent) = (self.plan.mix.stale_percent, self.plan.mix.consistent_percent);
        let consistency = if roll < stale {
            Consistency::Stale
        } else if roll < stale + consistent {
            Consistency::Consistent
        } else {
            Consistency::Default
        };
        ReadOptions { consistency, index: Index(0), wait: None }
    }
}
