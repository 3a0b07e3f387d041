//! What those who use tokens must never see. Each answer is held against all versions of the token, and of what was asked for, that may
//! have counted: of all indexes from what was told to anybody before it was asked for, to what is committed by now. For stale reads, and
//! for events, any server decides by whatever it knows.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use lictor_core::api::acl::{ANONYMOUS, Request as Acl, Token};
use lictor_core::api::event;
use lictor_core::api::kv::{Entry, Request as Kv};
use lictor_core::api::txn::{Outcome as TxnOutcome, Request as Txn, Verb};
use lictor_core::api::{Consistency, Error, Reply, Request, Response};
use lictor_core::id::Index;

use super::Open;
use crate::check::acl::{Access, Rights, Subject};
use crate::check::{Verdict, ensure};
use crate::history::{Outcome, concerns, outcome_of_error};
use crate::plan::MASTER;
use crate::world::World;

impl Open {
    /// What may have counted at the earliest.
    fn low(&self) -> Index {
        match &self.request {
            Request::Event(_) => Index(0),
            request if request.read_options().is_some_and(|read| read.consistency == Consistency::Stale) => Index(0),
            _ => self.floor,
        }
    }
}

/// Whether a token allows a request, reads apart: of those, it only decides what they show.
fn permits(rights: &Rights<'_>, request: &Request) -> bool {
    match request {
        Request::Kv(Kv::Put { key, .. } | Kv::Delete { key, .. }) => rights.may_write(Subject::Key, key),
        Request::Kv(Kv::DeleteTree { prefix }) => rights.may_write_below(prefix),
        Request::Event(event::Request::Fire(event)) => rights.may_write(Subject::Event, event.name.as_bytes()),
        Request::Acl(Acl::Info { .. }) => true,
        Request::Acl(_) => rights.may_manage(),
        Request::Txn(Txn { ops, .. }) => {
            ops.iter().filter(|op| op.verb == Verb::Set).all(|op| rights.may_write(Subject::Key, &op.key))
        }
        _ => true,
    }
}

impl World {
    fn rights(&self, open: &Open, at: Index) -> Rights<'_> {
        let denies = self.plan.tokens.as_ref().is_some_and(|plan| plan.denies);
        let silent = if denies { Access::Deny } else { Access::Write };
        self.model.tokens.rights(open.token.as_deref(), at, silent)
    }

    /// Whether something held at any index from the earliest that may have counted up to `high`.
    fn ever(&self, open: &Open, high: Index, holds: impl Fn(Index) -> bool) -> bool {
        let low = open.low();
        let token = open.token.as_deref().unwrap_or(ANONYMOUS);
        holds(low) || self.model.tokens.changes(Some(token), low, high).any(holds)
    }

    /// Whether the token ever allowed it.
    fn was_permitted(&self, open: &Open, before: Index) -> bool {
        self.ever(open, Index(before.0 - 1), |at| {
            let rights = self.rights(open, at);
            rights.are_known() && permits(&rights, &open.request)
        })
    }

    pub(super) fn judge_holder(&mut self, open: &Open, reply: &Reply) -> Verdict {
        match reply {
            Ok(response) => self.judge_holder_answer(open, response),
            Err(error) => self.judge_holder_error(open, error),
        }
    }

    fn judge_holder_error(&mut self, open: &Open, error: &Error) -> Verdict {
        let applied = self.model.applied();
        match error {
            Error::PermissionDenied => {
                self.stats.tokens.denied += 1;
                let denied = self.ever(open, applied, |at| {
                    let rights = self.rights(open, at);
                    rights.are_known() && !permits(&rights, &open.request)
                });
                ensure!(denied, "what was denied is allowed by every version of the token that may have counted");
            }
            Error::UnknownToken => {
                self.stats.tokens.unknown += 1;
                let unknown = self.ever(open, applied, |at| !self.rights(open, at).are_known());
                ensure!(unknown, "a token is said not to exist that existed all the time");
            }
            Error::NoTokenToClone => {
                if let Request::Acl(Acl::Clone { id }) = &open.request {
                    let tokens = &self.model.tokens;
                    let was_gone = |at| tokens.token(id, at).is_none();
                    let gone = was_gone(open.floor) || tokens.changes(Some(id), open.floor, applied).any(was_gone);
                    ensure!(gone, "there was a token to copy all the time");
                }
            }
            _ => {}
        }
        if matches!(outcome_of_error(error.clone()), Outcome::Refused(_)) {
            self.holders.refused.push(open.request.clone());
        }
        Ok(())
    }

    fn judge_holder_answer(&mut self, open: &Open, response: &Response) -> Verdict {
        let applied = self.model.applied();
        match (&open.request, response) {
            (Request::Kv(Kv::Put { key, value, .. }), Response::Done(true)) => {
                let Some(index) = self.model.index_of(key, value) else {
                    return Err("a put was acknowledged and is not in the log".to_owned());
                };
                self.judge_written(open, index)
            }
            (Request::Kv(Kv::Delete { .. } | Kv::DeleteTree { .. }), Response::Done(true))
            | (Request::Event(_), Response::Fired(_)) => {
                self.stats.tokens.allowed += 1;
                ensure!(self.was_permitted(open, applied.next()), "it was done, and no version of the token allows it");
                Ok(())
            }
            (Request::Kv(request @ (Kv::Get { .. } | Kv::List { .. })), Response::KvEntries(read)) => {
                self.holders.all[open.holder].index = read.meta.index;
                self.judge_shown(open, request, &read.value)
            }
            (Request::Kv(request @ Kv::Keys { .. }), Response::KvKeys(read)) => {
                self.judge_named(open, request, &read.value)
            }
            (Request::Txn(request), Response::Txn(outcome)) => self.judge_txn(open, request, outcome),
            (Request::Acl(request), response) => self.judge_change(open, request, response),
            _ => Err("this is no answer to that".to_owned()),
        }
    }

    /// A write is in the log at this index: it was judged before.
    fn judge_written(&mut self, open: &Open, index: Index) -> Verdict {
        ensure!(index > open.floor, "it took place at {index}, before it was asked for");
        ensure!(
            self.was_permitted(open, index),
            "it took place at {index}, and no version of the token that may have counted allows it"
        );
        self.stats.tokens.allowed += 1;
        self.reads.tell(index);
        Ok(())
    }

    /// The indexes at which what a read shows may have been as it is, the earliest first.
    fn candidates(&self, open: &Open, request: &Kv) -> BTreeSet<Index> {
        let (low, high) = (open.low(), self.model.applied());
        let token = open.token.as_deref().unwrap_or(ANONYMOUS);
        let of_token = self.model.tokens.changes(Some(token), low, high);
        let of_keys = self.model.changes(|key| concerns(request, key), low, high);
        of_token.chain(of_keys).chain([low]).collect()
    }

    fn judge_shown(&mut self, open: &Open, request: &Kv, entries: &[Arc<Entry>]) -> Verdict {
        let candidates = self.candidates(open, request);
        let fits = |at: &Index| {
            let rights = self.rights(open, *at);
            let seen = |key: &[u8]| concerns(request, key) && rights.may_read(Subject::Key, key);
            rights.are_known() && self.model.is_shown(seen, entries, *at)
        };
        self.judge_found(open, request, find(&candidates, open, fits))
    }

    fn judge_named(&mut self, open: &Open, request: &Kv, names: &[Bytes]) -> Verdict {
        let candidates = self.candidates(open, request);
        let fits = |at: &Index| {
            let rights = self.rights(open, *at);
            let seen = |key: &[u8]| concerns(request, key) && rights.may_read(Subject::Key, key);
            rights.are_known() && self.model.keys_at(seen, *at).eq(names.iter())
        };
        self.judge_found(open, request, find(&candidates, open, fits))
    }

    fn judge_found(&mut self, open: &Open, request: &Kv, found: Option<Index>) -> Verdict {
        let Some(at) = found else {
            return Err(format!("what is shown is seen with no version of the token from index {} on", open.low()));
        };
        let rights = self.rights(open, at);
        let hidden = |key: &[u8]| concerns(request, key) && !rights.may_read(Subject::Key, key);
        let hides = self.model.keys_at(hidden, at).next().is_some();
        self.stats.tokens.read += 1;
        self.stats.tokens.filtered += u64::from(hides);
        if open.low() == open.floor {
            self.reads.tell(at);
        }
        Ok(())
    }

    fn judge_txn(&mut self, open: &Open, request: &Txn, outcome: &TxnOutcome) -> Verdict {
        let applied = self.model.applied();
        if outcome.faults.is_empty() {
            let written = request.ops.iter().filter(|op| op.verb == Verb::Set);
            let indexes: BTreeSet<Option<Index>> =
                written.map(|op| self.model.index_of(&op.key, &op.value)).filter(Option::is_some).collect();
            let Some(index) = indexes.first().copied().flatten().filter(|_| indexes.len() == 1) else {
                return Err(format!("a transaction took place at {indexes:?}"));
            };
            let shown = outcome.results.iter().map(|told| &told.entry.key);
            for key in shown {
                let seen = self.ever(open, applied, |at| self.rights(open, at).may_read(Subject::Key, key));
                ensure!(seen, "it shows {key:?}, which no version of the token lets be seen");
            }
            return self.judge_written(open, index);
        }
        self.stats.tokens.denied += 1;
        let denial = Error::PermissionDenied.to_string();
        ensure!(outcome.faults.iter().all(|fault| fault.what == denial), "a transaction failed for another reason");
        let denied = self.ever(open, applied, |at| !permits(&self.rights(open, at), &open.request));
        ensure!(denied, "a transaction was denied that every version of the token allows");
        self.holders.refused.push(open.request.clone());
        Ok(())
    }

    fn judge_change(&mut self, open: &Open, request: &Acl, response: &Response) -> Verdict {
        let tokens = &self.model.tokens;
        let index = match (request, response) {
            (Acl::Set(wanted), Response::TokenSet { id, .. }) => {
                ensure!(wanted.id.is_empty() || wanted.id == *id, "a token got another ID");
                self.stats.tokens.set += 1;
                tokens.entered(id, Some(&wanted.rules))
            }
            (Acl::Clone { .. }, Response::TokenSet { id, .. }) => {
                self.stats.tokens.cloned += 1;
                tokens.entered(id, None)
            }
            (Acl::Destroy { id }, Response::Done(true)) => {
                self.stats.tokens.destroyed += 1;
                tokens.destroyed(id, open.floor)
            }
            (Acl::Info { .. } | Acl::List { .. }, Response::Tokens(read)) => {
                return self.judge_listed(open, request, &read.value);
            }
            _ => return Err("this is no answer to that".to_owned()),
        };
        match index {
            Some(index) => self.judge_written(open, index),
            None => Err("a change of a token was acknowledged and is not in the log".to_owned()),
        }
    }

    fn judge_listed(&mut self, open: &Open, request: &Acl, listed: &[Arc<Token>]) -> Verdict {
        let (low, high) = (open.low(), self.model.applied());
        let about = if let Acl::Info { id, .. } = request { Some(id.as_str()) } else { None };
        let holder = Some(open.token.as_deref().unwrap_or(ANONYMOUS));
        let tokens = &self.model.tokens;
        let changes = tokens.changes(about, low, high).chain(tokens.changes(holder, low, high));
        let candidates: BTreeSet<Index> = changes.chain([low]).collect();
        let fits = |at: &Index| {
            let found = tokens.all(*at).filter(|token| about.is_none_or(|id| token.id == id));
            listed.iter().map(|token| &**token).eq(found) && permits(&self.rights(open, *at), &open.request)
        };
        match find(&candidates, open, fits) {
            Some(at) if open.low() == open.floor => self.reads.tell(at),
            Some(_) => {}
            None => return Err(format!("tokens were never like this from index {low} on, for whoever asks")),
        }
        Ok(())
    }

    /// At the very end: what was refused has not taken place later.
    pub(in crate::world) fn refusals_left_nothing(&self) -> Verdict {
        for request in &self.holders.refused {
            let is_there = match request {
                Request::Kv(Kv::Put { key, value, .. }) => self.model.index_of(key, value).is_some(),
                Request::Acl(Acl::Set(wanted)) => self.model.tokens.were_ever(&wanted.rules),
                Request::Txn(Txn { ops, .. }) => {
                    ops.iter().any(|op| op.verb == Verb::Set && self.model.index_of(&op.key, &op.value).is_some())
                }
                _ => false,
            };
            ensure!(!is_there, "{request:?} was refused, and took place all the same");
        }
        Ok(())
    }

    /// The tokens are there that always are.
    pub(in crate::world) fn tokens_are_provided(&self) -> Verdict {
        if self.plan.tokens.is_none() {
            return Ok(());
        }
        let applied = self.model.applied();
        for id in [ANONYMOUS, MASTER] {
            ensure!(self.model.tokens.token(id, applied).is_some(), "there is no token {id}");
        }
        Ok(())
    }
}

/// The index by which an answer is right: the first, by which others may then be judged; or any, of which the last is found soonest.
fn find(candidates: &BTreeSet<Index>, open: &Open, fits: impl Fn(&Index) -> bool) -> Option<Index> {
    if open.low() == open.floor {
        candidates.iter().copied().find(|at| fits(at))
    } else {
        candidates.iter().rev().copied().find(|at| fits(at))
    }
}
