//! Who may do what: the one place where a request is held against the token it comes with.
//!
//! [`Need::of`] says what each request needs; [`judge`] finds out what the token allows, by the store of the server that evaluates
//! the request and at the moment when it does, and whether that will do. It is called by leaders for writes and for all reads but stale
//! ones, by any server for these, and by whoever answers from a [`View`](crate::view::View); and once more whenever a query that
//! waited is answered, or a write proposed again. What may be asked but not all be seen is left out of the answer: see `filter.rs`.
//!
//! Where there is no access control all of this is one comparison, and whoever manages is not held up by filters.

mod filter;
mod need;
#[cfg(test)]
mod need_tests;

use std::sync::Arc;

pub(crate) use filter::{conceal, denied_ops, filter, merge, show_query};
pub(crate) use need::Need;

use crate::acl::{Access, Authority};
use crate::api::acl::{self, Permission};
use crate::api::{Error, Reply, Request, Response};
use crate::config::{Config, DefaultPolicy, DownPolicy};
use crate::store::Store;

/// What a request may do and see, if it may be carried out at all.
///
/// # Errors
/// If its token does not exist, or does not allow it.
pub(crate) fn judge(
    config: &Config,
    store: &Store,
    token: Option<&str>,
    request: &Request,
) -> Result<Authority, Error> {
    if !config.acl.is_on() {
        return Ok(Authority::everything());
    }
    let need = Need::of(request);
    match need {
        Need::Nothing => return Ok(Authority::everything()),
        Need::CopyToken(id) if store.token(id).is_none() => return Err(Error::NoTokenToClone),
        _ => {}
    }
    let authority = authority(config, store, token)?;
    if need.is_met(&authority, store) { Ok(authority) } else { Err(Error::PermissionDenied) }
}

/// What a token allows, as far as a server with this store knows.
///
/// # Errors
/// If there is no such token.
pub(crate) fn authority(config: &Config, store: &Store, token: Option<&str>) -> Result<Authority, Error> {
    if !config.acl.is_on() {
        return Ok(Authority::everything());
    }
    if keeps_tokens(config) {
        return store.authority(token, config.acl.by_default == DefaultPolicy::Allow);
    }
    // Of a token of another datacenter nothing was ever learnt that could be held on to.
    let allows = match config.acl.when_down {
        DownPolicy::Allow => true,
        DownPolicy::Deny | DownPolicy::ExtendCache => false,
    };
    Ok(Authority::limited(Arc::default(), allows))
}

/// Whether the servers of this datacenter keep the tokens.
pub(crate) fn keeps_tokens(config: &Config) -> bool {
    config.acl.datacenter.as_ref() == Some(&config.datacenter)
}

/// What is answered to a request about tokens where nobody can say anything about them: there is no access control, or they are
/// kept elsewhere.
pub(crate) fn without_tokens(config: &Config, request: &acl::Request) -> Option<Reply> {
    let asks_for_permission = matches!(request, acl::Request::Permit(_));
    if !config.acl.is_on() {
        return Some(if asks_for_permission { Ok(Response::Done(true)) } else { Err(Error::AclDisabled) });
    }
    (!asks_for_permission && !keeps_tokens(config)).then_some(Err(Error::NoPathToDatacenter))
}

/// Whether something is allowed that no request stands for.
pub(crate) fn permits(authority: &Authority, permission: Permission) -> bool {
    match permission {
        Permission::ReadExec => authority.over_exec() >= Access::Read,
        Permission::WriteExec => authority.over_exec() >= Access::Write,
        Permission::ReadKeyring => authority.over_keyring() >= Access::Read,
        Permission::WriteKeyring => authority.over_keyring() >= Access::Write,
        Permission::Snapshot => authority.may_manage(),
    }
}
