//! What may not be seen is left out of answers, so that it looks as if it were not there.

use std::sync::Arc;

use super::need::governed_by;
use crate::acl::Authority;
use crate::api::prepared::{self, Queries, Query};
use crate::api::txn::{self, Fault, Outcome, Verb};
use crate::api::{Error, Request, catalog, health};
use crate::id::Index;
use crate::prepared::REDACTED;
use crate::store::txn::prepare;
use crate::store::{Answer, Body, Store};

/// Leaves out of an answer to `request` what may not be seen.
///
/// # Errors
/// If one prepared query was asked for that may not be seen: who has its ID knows that there is one.
pub(crate) fn filter(
    authority: &Authority,
    store: &Store,
    request: &Request,
    answer: &mut Answer,
) -> Result<(), Error> {
    if authority.may_manage() {
        return Ok(());
    }
    let was_there = !answer.body.is_empty();
    match &mut answer.body {
        Body::Entries(entries) => entries.retain(|entry| authority.may_read_key(&entry.key)),
        Body::Keys(keys) => keys.retain(|key| authority.may_read_key(key)),
        Body::ServiceNames(names) => names.retain(|name, _| authority.may_read_service(name)),
        Body::Instances(instances) => instances.retain(|instance| authority.may_read_service(&instance.service.name)),
        Body::NodeServices(node) => {
            if let Some(node) = node {
                node.services.retain(|service| authority.may_read_service(&service.name));
            }
        }
        Body::Checks(checks) => checks.retain(|check| authority.may_read_service(&check.service_name)),
        Body::HealthOf(instances) => instances.retain(|instance| authority.may_read_service(&instance.service.name)),
        Body::Txn(outcome) => filter_txn(authority, request, outcome),
        Body::Queries(queries) => filter_queries(authority, request, queries)?,
        // Rules for nodes and sessions came later. Nobody but who manages lists tokens; of one, who asks knows the secret.
        Body::Nodes(_) | Body::Places(_) | Body::Sessions(_) | Body::NoSuchQuery | Body::Tokens(_) => {}
    }
    if was_there && answer.body.is_empty() {
        answer.index = answer.index.max(index_of_nothing(store, request));
    }
    Ok(())
}

/// The index that is told where nothing is found. Where it is finer than what is hidden, it would give it away.
fn index_of_nothing(store: &Store, request: &Request) -> Index {
    let changed = match request {
        Request::Kv(_) => store.kv_changed(),
        Request::Catalog(catalog::Request::Service { .. })
        | Request::Health(health::Request::Checks { .. } | health::Request::Service { .. }) => store.catalog_changed(),
        _ => Index(0),
    };
    changed.max(store.restored_at())
}

/// What a transaction tells: nothing if it has operations that are not allowed, but of each of these that it is not; else what may be
/// seen.
fn filter_txn(authority: &Authority, request: &Request, outcome: &mut Outcome) {
    if let Request::Txn(txn) = request
        && let denied = denied_ops(authority, txn)
        && !denied.is_empty()
    {
        // What is wrong whatever the store holds is said beside it; nothing else was tried.
        let faults = prepare(&txn.ops, |_, _| None).err().unwrap_or_default();
        *outcome = Outcome { faults: merge(faults, denied), ..Outcome::default() };
        return;
    }
    conceal(authority, outcome);
}

/// Leaves out of a transaction's results what may not be seen.
pub(crate) fn conceal(authority: &Authority, outcome: &mut Outcome) {
    if !authority.may_manage() {
        outcome.results.retain(|told| authority.may_read_key(&told.entry.key));
    }
}

/// The operations of a transaction that are not allowed, and keep it from taking place. Reading what may not be read is none of
/// them: it tells nothing.
pub(crate) fn denied_ops(authority: &Authority, txn: &txn::Request) -> Vec<Fault> {
    if authority.may_manage() {
        return Vec::new();
    }
    let denied = |op: &txn::Op| match op.verb {
        Verb::DeleteTree => !authority.may_write_keys_below(&op.key),
        Verb::Get | Verb::GetTree => false,
        // That it lacks a key is said first.
        _ if op.key.is_empty() => false,
        // Whether they fail would tell something of the key.
        Verb::CheckIndex | Verb::CheckSession | Verb::CheckNotExists => !authority.may_read_key(&op.key),
        Verb::Set | Verb::Cas | Verb::Lock | Verb::Unlock | Verb::Delete | Verb::DeleteCas | Verb::Unknown(_) => {
            !authority.may_write_key(&op.key)
        }
    };
    let places = txn.ops.iter().enumerate().filter(|(_, op)| denied(op)).map(|(place, _)| place);
    places.map(|op| Fault { op, what: Error::PermissionDenied.to_string() }).collect()
}

/// All that is wrong with a transaction, in its order: that an operation is not allowed counts before what else is wrong with it.
pub(crate) fn merge(mut faults: Vec<Fault>, denied: Vec<Fault>) -> Vec<Fault> {
    faults.retain(|fault| denied.iter().all(|denied| denied.op != fault.op));
    faults.extend(denied);
    faults.sort_by_key(|fault| fault.op);
    faults
}

/// Leaves out queries that may not be seen, and the tokens of all others. A query that no rule applies to is listed for nobody, and
/// shown to whoever knows its ID.
fn filter_queries(authority: &Authority, request: &Request, queries: &mut Queries) -> Result<(), Error> {
    let is_list = matches!(request, Request::Prepared(prepared::Request::List { .. }));
    queries.retain(|query| governed_by(query).map_or(!is_list, |name| authority.may_read_query(name)));
    queries.iter_mut().for_each(redact);
    if queries.is_empty() && !is_list { Err(Error::PermissionDenied) } else { Ok(()) }
}

/// A query as it may be seen.
///
/// # Errors
/// If it may not.
pub(crate) fn show_query(authority: &Authority, mut query: Arc<Query>) -> Result<Arc<Query>, Error> {
    if authority.may_manage() {
        return Ok(query);
    }
    // As with Consul, rules or management must say that it may be seen.
    if !governed_by(&query).is_some_and(|name| authority.may_read_query(name)) {
        return Err(Error::PermissionDenied);
    }
    redact(&mut query);
    Ok(query)
}

fn redact(query: &mut Arc<Query>) {
    if !query.token.is_empty() {
        *query = Arc::new(Query { token: REDACTED.to_owned(), ..Query::clone(query) });
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
