//! Transactions, before they enter the log.

use super::sessions::Judge;
use crate::api::txn::{Outcome, Request};
use crate::api::{Reply, Response};
use crate::authorize;
use crate::store::{Command, txn};

impl Judge<'_> {
    /// The command for a transaction that writes, or what to answer without one.
    #[expect(clippy::result_large_err, reason = "an answer is made once for each call, and moved on at once")]
    pub(super) fn txn(&self, request: &Request) -> Result<Command, Reply> {
        let ops = txn::prepare(&request.ops, |key, session| self.lock(key, session));
        let denied = authorize::denied_ops(self.authority, request);
        let ops = match ops {
            ops if denied.is_empty() => ops,
            ops => Err(authorize::merge(ops.err().unwrap_or_default(), denied)),
        };
        ops.map(Command::Txn).map_err(|faults| Ok(Response::Txn(Outcome { faults, ..Outcome::default() })))
    }
}
