//! Money that is moved between accounts: each move is a transaction on two or more of them, that takes place only if nobody
//! else has touched them. Some moves are made to fail halfway.

use bytes::Bytes;
use lictor_core::api::kv::Entry;
use lictor_core::api::txn::{Op, Outcome, Request, Verb};
use lictor_core::api::{Consistency, ReadOptions};
use lictor_core::id::{Index, SessionId};

use super::Stage;
use super::calls::{Kind, Open, Writes};
use crate::check::{Verdict, txn};
use crate::dice::Dice as _;
use crate::plan::ACCOUNTS;
use crate::world::World;

/// What each account holds at first.
const FIRST: u64 = 100;

/// What is written to accounts is numbered from here on.
const WRITERS: usize = 1 << 48;

/// The most values that one call writes.
const MOST_WRITES: usize = 32;

impl World {
    /// One of them reads all accounts.
    pub(super) fn count_money(&mut self, n: usize) -> Verdict {
        let locker = &mut self.lockers.all[n];
        let consistency = *locker.dice.pick(&[
            Consistency::Default,
            Consistency::Default,
            Consistency::Consistent,
            Consistency::Stale,
        ]);
        let read = ReadOptions { consistency, index: Index(0), wait: None };
        let ops = vec![op(Verb::GetTree, Bytes::from_static(ACCOUNTS.as_bytes()))];
        self.ask(n, Request { ops, read }, Kind::Count)
    }

    /// One of them has read all accounts, and moves money from one to another.
    pub(super) fn move_money(&mut self, n: usize, seen: &Outcome) -> Verdict {
        let accounts = self.accounts();
        let first = self.first_writer();
        let entries: Vec<&Entry> = seen.results.iter().map(|told| &*told.entry).collect();
        let locker = &mut self.lockers.all[n];
        let held = match (&locker.stage, &locker.session) {
            (Stage::Holding { key, .. }, Some(mine)) => Some((key.clone(), mine.id)),
            _ => None,
        };
        let dice = &mut locker.dice;
        let mut ops = Vec::new();
        let mut writes = Vec::new();
        let mut write = |ops: &mut Vec<Op>, verb, key: Bytes, balance, index| {
            let value = txn::balance_of(first + writes.len(), balance);
            writes.push((key.clone(), value.clone()));
            ops.push(Op { value, index, ..op(verb, key) });
        };
        if entries.is_empty() {
            for account in 0..accounts {
                let key = Bytes::from(format!("{ACCOUNTS}{account}"));
                ops.push(op(Verb::CheckNotExists, key.clone()));
                write(&mut ops, Verb::Set, key, FIRST, Index(0));
            }
        } else {
            let from = dice.below(entries.len() as u64) as usize;
            let to = (from + dice.between(1, entries.len() as u64 - 1) as usize) % entries.len();
            let (from, to) = (entries[from], entries[to]);
            let sum = dice.below(txn::balance(from) + 1);
            for (entry, balance) in [(from, txn::balance(from) - sum), (to, txn::balance(to) + sum)] {
                if dice.one_in(3) {
                    ops.push(Op { index: entry.modify_index, ..op(Verb::CheckIndex, entry.key.clone()) });
                    write(&mut ops, Verb::Set, entry.key.clone(), balance, Index(0));
                } else {
                    write(&mut ops, Verb::Cas, entry.key.clone(), balance, entry.modify_index);
                }
            }
            if dice.one_in(4) {
                ops.push(op(Verb::Get, to.key.clone()));
            }
            if let Some((key, session)) = held {
                // Only as long as it holds its lock.
                ops.push(Op { session: session.to_string(), ..op(Verb::CheckSession, key) });
            }
            if dice.one_in(8) {
                // There is no such account.
                ops.push(op(Verb::Get, Bytes::from(format!("{ACCOUNTS}none"))));
            }
        }
        self.ask(n, Request { ops, read: ReadOptions::default() }, Kind::Move { writes })
    }

    /// A lock is taken or given back in a transaction.
    pub(super) fn in_a_transaction(&self, verb: Verb, key: Bytes, session: SessionId) -> (Request, Writes) {
        let value = txn::balance_of(self.first_writer(), 0);
        let session = session.to_string();
        let ops = vec![Op { value: value.clone(), session, ..op(verb, key.clone()) }];
        (Request { ops, read: ReadOptions::default() }, vec![(key, value)])
    }

    /// The next call may write values of so many numbers from here on.
    fn first_writer(&self) -> usize {
        WRITERS + usize::try_from(self.lockers.next - super::calls::FIRST).unwrap_or(0) * MOST_WRITES
    }

    fn accounts(&self) -> usize {
        self.lockers.plan.as_ref().map_or(0, |plan| plan.accounts)
    }

    /// All accounts were read.
    pub(super) fn judge_count(&mut self, open: &Open, seen: &Outcome) -> Verdict {
        self.stats.locks.counted += 1;
        let entries: Vec<&Entry> = seen.results.iter().map(|told| &*told.entry).collect();
        txn::nothing_is_lost(&entries, self.accounts(), FIRST * self.accounts() as u64)?;
        let shared: Vec<_> = seen.results.iter().map(|told| told.entry.clone()).collect();
        let is_account = |key: &[u8]| key.starts_with(ACCOUNTS.as_bytes());
        let (low, applied) = (open.low(), self.model.applied());
        match self.model.find(is_account, &shared, low, applied) {
            Some(index) => {
                if open.request.read_options().is_some_and(|read| read.consistency != Consistency::Stale) {
                    self.reads.tell(index);
                }
                Ok(())
            }
            None => Err(format!("the accounts were read as they were at no index from {low} on")),
        }
    }

    /// A move is answered.
    pub(super) fn judge_move(&mut self, writes: &[(Bytes, Bytes)], outcome: &Outcome) -> Verdict {
        match txn::answered(&self.model, writes, outcome)? {
            Some(index) => {
                self.stats.locks.moved += 1;
                self.reads.tell(index);
            }
            None => {
                self.stats.locks.failed += 1;
                self.lockers.failed.push(writes.to_vec());
            }
        }
        Ok(())
    }

    /// At the very end: moves that failed have not taken place later.
    pub(in crate::world) fn failed_moves_left_nothing(&self) -> Verdict {
        self.lockers.failed.iter().try_for_each(|writes| txn::left_nothing(&self.model, writes))
    }
}

fn op(verb: Verb, key: Bytes) -> Op {
    Op { verb, key, value: Bytes::new(), flags: 0, index: Index(0), session: String::new() }
}
