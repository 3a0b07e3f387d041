//! Reads against the committed log. A read shows the state of some index, all its keys at once:
//!
//! - a stale read, of any index that the server has reached, and never of one before that of an earlier
//!   stale read from the same life of the same server;
//! - a default or consistent read, of an index that is not before anything of which some client had been told
//!   when the read began.

use lictor_core::api::{Consistency, Response};
use lictor_core::id::Index;

use super::model::Model;
use crate::history::{Op, entries_of, index_of, read_options};

/// What was read so far.
#[derive(Debug)]
pub(crate) struct Reads {
    /// For each server, its life and the index that its stale reads have reached.
    reached: Vec<(u64, Index)>,
    /// The highest index of which any client was told.
    told: Index,
}

impl Reads {
    pub(crate) fn new(servers: usize) -> Self {
        Self { reached: vec![(0, Index(0)); servers], told: Index(0) }
    }

    /// The highest index of which any client was told.
    pub(crate) fn told(&self) -> Index {
        self.told
    }

    /// A client was told of this index, otherwise than by an operation on keys.
    pub(crate) fn tell(&mut self, index: Index) {
        self.told = self.told.max(index);
    }

    /// A client was answered.
    pub(crate) fn answered(&mut self, op: &Op, response: &Response, model: &Model) -> Result<(), String> {
        let Some(read) = read_options(&op.request) else { return self.wrote(op, response, model) };
        let Some(entries) = entries_of(response) else {
            return Err(format!("a read was answered by {response:?}"));
        };
        let stale = read.consistency == Consistency::Stale;
        let low = if stale { self.reached_by(op) } else { op.floor };
        let Some(index) = model.find(|key| op.concerns(key), entries, low, model.applied()) else {
            let found = model.find(|key| op.concerns(key), entries, Index(0), model.applied());
            return Err(explain(stale, op, low, found));
        };
        // A client agent asks any server, now this one and now that.
        if let Some(reached) = self.reached.get_mut(op.host).filter(|_| stale) {
            *reached = (op.life, index);
        }
        let (told, newest) = (index_of(response).unwrap_or_default(), entries.iter().map(|e| e.modify_index).max());
        if told < newest.unwrap_or(Index(1)) || told > model.applied().max(Index(1)) {
            return Err(format!("a read says index {told}, its newest entry is of {newest:?}"));
        }
        if !stale {
            self.told = self.told.max(index);
        }
        Ok(())
    }

    fn reached_by(&self, op: &Op) -> Index {
        self.reached.get(op.host).filter(|(life, _)| *life == op.life).map_or(Index(0), |(_, index)| *index)
    }

    fn wrote(&mut self, op: &Op, response: &Response, model: &Model) -> Result<(), String> {
        use lictor_core::api::kv::Request;
        let Response::Done(done) = response else { return Err(format!("a write was answered by {response:?}")) };
        let Request::Put { key, value, .. } = &op.request else { return Ok(()) };
        match (done, model.index_of(key, value)) {
            (true, Some(index)) => {
                self.told = self.told.max(index);
                Ok(())
            }
            (false, None) => Ok(()),
            (true, None) => Err("a put was acknowledged and is not in the committed log".to_owned()),
            (false, Some(index)) => Err(format!("a put was answered with false and took place at {index}")),
        }
    }
}

fn explain(stale: bool, op: &Op, low: Index, found: Option<Index>) -> String {
    let mode = if stale { "stale" } else { "default or consistent" };
    match found {
        Some(index) if stale => format!(
            "server {} went back in time: a stale read shows index {index}, an earlier one showed {low}",
            op.host
        ),
        Some(index) => format!(
            "a {mode} read shows the state of index {index}; when it began, clients had been told of index {low}"
        ),
        None => format!("a {mode} read shows what was never in the store at any one index"),
    }
}

#[cfg(test)]
mod tests;
