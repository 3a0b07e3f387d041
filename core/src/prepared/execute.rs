//! What asking a prepared query finds.

use std::sync::Arc;

use super::resolve;
use crate::api::catalog::{Filter, THIS_AGENT};
use crate::api::health::{self, CRITICAL, Instance, PASSING};
use crate::api::prepared::{Failover, Found, Query};
use crate::api::{Error, ReadOptions};
use crate::coordinate::distance;
use crate::rng::Rng;
use crate::store::{Body, Store};
use crate::time::Duration;

/// Of so many instances that come first, one on the very node that the nearest are wanted to is brought to the front: it is
/// not far behind if places are known, and searching on is of no use if not.
const SEARCH_DEPTH: usize = 10;

/// How a prepared query is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// An ID, a name, or a name that a template stands for.
    pub name: &'a str,
    /// How many instances at most; 0 for all.
    pub limit: usize,
    /// To which node the nearest are to come first, before what the query itself says.
    pub near: Option<&'a str>,
    /// The agent that the client asked.
    pub agent: &'a str,
    /// This datacenter.
    pub datacenter: &'a str,
    /// The other datacenters that are known, the nearest first.
    pub others: &'a [String],
}

/// Asks a prepared query.
///
/// # Errors
/// If there is none of this name.
pub fn execute(store: &Store, asking: Asking<'_>, rng: &mut Rng) -> Result<Found, Error> {
    let query = resolve(store, asking.name)?;
    let Query { service: wanted, dns_ttl, .. } = &*query;
    let mut instances = instances_of(store, &wanted.service);
    instances.retain(|instance| is_fit(instance, wanted.only_passing));
    if let Some(tags) = &wanted.tags {
        let tags: Vec<String> = tags.iter().map(|tag| tag.to_lowercase()).collect();
        instances.retain(|instance| has_tags(instance, &tags));
    }
    shuffle(&mut instances, rng);
    let near = asking.near.filter(|near| !near.is_empty()).unwrap_or(&wanted.near);
    let near = if near == THIS_AGENT { asking.agent } else { near };
    if !near.is_empty() {
        put_nearest_first(&mut instances, store, near);
    }
    if asking.limit > 0 {
        instances.truncate(asking.limit);
    }
    let failovers = if instances.is_empty() { candidates(&wanted.failover, asking.others).len() } else { 0 };
    Ok(Found {
        service: wanted.service.clone(),
        instances,
        dns_ttl: dns_ttl.clone(),
        datacenter: asking.datacenter.to_owned(),
        failovers,
    })
}

fn instances_of(store: &Store, service: &str) -> Vec<Instance> {
    let request = health::Request::Service {
        name: service.to_owned(),
        tag: None,
        passing: false,
        filter: Filter::default(),
        read: ReadOptions::default(),
    };
    match store.query(&request).map(|answer| answer.body) {
        Some(Body::HealthOf(instances)) => instances,
        _ => Vec::new(),
    }
}

/// Whether its checks let an instance be told.
fn is_fit(instance: &Instance, only_passing: bool) -> bool {
    instance.checks.iter().all(|check| check.status != CRITICAL && (!only_passing || check.status == PASSING))
}

/// Whether an instance has all of these tags, and none of those with a `!` before; in whatever case. `tags` are in small letters.
fn has_tags(instance: &Instance, tags: &[String]) -> bool {
    let has = |tag: &str| instance.service.tags.iter().flatten().any(|own| own.to_lowercase() == tag);
    tags.iter().all(|tag| match tag.strip_prefix('!') {
        Some(tag) => !has(tag),
        None => has(tag),
    })
}

/// Puts instances in any order, each as likely as any other (Durstenfeld 1964).
fn shuffle(instances: &mut [Instance], rng: &mut Rng) {
    for end in (1..instances.len()).rev() {
        let other = usize::try_from(rng.below(end as u64 + 1)).unwrap_or(end);
        instances.swap(end, other);
    }
}

/// The nearest to a node first; those whose place nobody knows stay behind all others.
fn put_nearest_first(instances: &mut [Instance], store: &Store, near: &str) {
    if let Some(from) = store.coordinate(near) {
        let far = |node: &str| store.coordinate(node).map_or(Duration::MAX, |place| distance(from, place));
        instances.sort_by_cached_key(|instance| far(&instance.node.name));
    }
    let own = instances.iter().take(SEARCH_DEPTH).position(|instance| instance.node.name.eq_ignore_ascii_case(near));
    if let Some(own) = own {
        instances.swap(0, own);
    }
}

/// The datacenters that are to be asked if nothing is found in this one, in their order: the nearest of those that are known,
/// then those that are named and known.
fn candidates<'a>(failover: &'a Failover, known: &'a [String]) -> Vec<&'a str> {
    let nearest = usize::try_from(failover.nearest_n).unwrap_or(0);
    let mut chosen: Vec<&str> = known.iter().take(nearest).map(String::as_str).collect();
    for name in failover.datacenters.iter().flatten() {
        if known.contains(name) && !chosen.contains(&name.as_str()) {
            chosen.push(name);
        }
    }
    chosen
}

/// What would be asked.
///
/// # Errors
/// As [`execute`].
pub fn explain(store: &Store, name: &str) -> Result<Arc<Query>, Error> {
    resolve(store, name)
}

#[cfg(test)]
#[path = "execute_tests.rs"]
mod tests;
