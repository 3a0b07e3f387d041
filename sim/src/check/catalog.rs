//! The catalog, once all is well: it says of every agent what gossip and the agent itself say, and of nobody else anything
//! but that it has failed.

use std::collections::{BTreeMap, BTreeSet};

use lictor_core::agent::Agent;
use lictor_core::api::catalog::{Check, Service};
use lictor_core::api::health::{CRITICAL, PASSING, SERF_CHECK_ID, SERVER_SERVICE};
use lictor_core::api::{Consistency, ReadOptions, Request, catalog, health};
use lictor_core::config::Config;
use lictor_core::gossip::Status;
use lictor_core::id::Index;
use lictor_core::local::Local;
use lictor_core::store::{Answer, Body, Question, Store};

use super::{Verdict, ensure};

/// What was last told of each question, and as of which entry of the log.
#[derive(Debug, Default)]
pub(crate) struct Indexes {
    seen: BTreeMap<String, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    applied: Index,
    index: Index,
    changed: Index,
}

impl Indexes {
    /// No index of a store that has come further goes back, whatever was deleted: neither the one that clients are told nor the one by
    /// which those who wait are judged.
    pub(crate) fn never_go_back(&mut self, store: &Store, node: &str, services: &[&str]) -> Verdict {
        let read = || ReadOptions { consistency: Consistency::Stale, index: Index(0), wait: None };
        let filter = catalog::Filter::default;
        let mut questions: Vec<Request> = vec![
            catalog::Request::Nodes { filter: filter(), read: read() }.into(),
            catalog::Request::Services { node_meta: BTreeMap::new(), read: read() }.into(),
            catalog::Request::Node { name: node.to_owned(), read: read() }.into(),
            health::Request::Node { name: node.to_owned(), read: read() }.into(),
            health::Request::State { state: CRITICAL.to_owned(), filter: filter(), read: read() }.into(),
        ];
        for name in services.iter().map(|&name| name.to_owned()) {
            let (name, service) = (name.clone(), name);
            let of = health::Request::Service {
                name: name.clone(),
                tag: None,
                passing: false,
                filter: filter(),
                read: read(),
            };
            questions.push(of.into());
            questions.push(catalog::Request::Service { name, tag: None, filter: filter(), read: read() }.into());
            questions.push(health::Request::Checks { service, filter: filter(), read: read() }.into());
        }
        questions.iter().try_for_each(|question| self.goes_on(store, question))
    }

    fn goes_on(&mut self, store: &Store, question: &Request) -> Verdict {
        let answer = Question::of(question).and_then(|question| store.query(question));
        let Some(Answer { index, changed, .. }) = answer else {
            return Err(format!("the store does not answer {question:?}"));
        };
        let now = Seen { applied: store.index(), index, changed };
        let seen = self.seen.entry(format!("{question:?}")).or_insert(now);
        if now.applied < seen.applied {
            return Ok(());
        }
        ensure!(
            now.index >= seen.index && now.changed >= seen.changed,
            "an index went back: {seen:?}, then {now:?}, of {question:?}"
        );
        *seen = now;
        Ok(())
    }
}

/// The catalog agrees with all agents that are there, each with its configuration.
pub(crate) fn agrees(store: &Store, agents: &[(&Config, &Agent)]) -> Verdict {
    let mut passing = BTreeSet::new();
    for (config, agent) in agents {
        let name = config.name.as_str();
        is_known(store, config)?;
        services_agree(store, config, agent.local())?;
        checks_agree(store, name, agent.local())?;
        ensure!(agent.local().is_in_sync(), "{name} does not know that the catalog agrees with it");
        passing.extend(passing_of(agent.local()).map(|id| (name.to_owned(), id)));
    }
    nobody_else(store, agents)?;
    only_passing_are_found(store, &passing)
}

fn is_known(store: &Store, config: &Config) -> Verdict {
    let name = config.name.as_str();
    let Some(node) = store.node(name) else { return Err(format!("the catalog does not know {name}")) };
    let (address, id) = (config.gossip.address.ip().to_string(), config.id.0.to_string());
    ensure!(node.address == address, "the catalog has {name} at {}, and it is at {address}", node.address);
    ensure!(node.id == id, "the catalog gives {name} the ID {}, and it has {id}", node.id);
    let serf = store.checks_of(name).find(|check| check.id == SERF_CHECK_ID);
    let status = serf.map_or("unknown", |check| check.status.as_str());
    ensure!(status == PASSING, "the catalog says that {name}, which is there, is {status}");
    Ok(())
}

fn services_agree(store: &Store, config: &Config, local: &Local) -> Verdict {
    let name = config.name.as_str();
    let shape = |service: &Service| (service.name.clone(), service.port, service.tags.clone().unwrap_or_default());
    let mine: BTreeMap<String, _> = local.services().map(|service| (service.id.clone(), shape(service))).collect();
    let mut theirs: BTreeMap<String, _> =
        store.services_of(name).map(|service| (service.id.clone(), shape(service))).collect();
    let is_server = theirs.remove(SERVER_SERVICE).is_some();
    ensure!(
        is_server == config.server,
        "by the catalog, {name} {} the service {SERVER_SERVICE}",
        if is_server { "has" } else { "lacks" }
    );
    ensure!(mine == theirs, "{name} has the services {mine:?}, by the catalog {theirs:?}");
    Ok(())
}

fn checks_agree(store: &Store, name: &str, local: &Local) -> Verdict {
    let shape = |check: &Check| (check.status.clone(), check.service_id.clone(), check.service_name.clone());
    let mine: BTreeMap<String, _> = local.checks().map(|check| (check.id.clone(), shape(check))).collect();
    let theirs = store.checks_of(name).filter(|check| check.id != SERF_CHECK_ID);
    let theirs: BTreeMap<String, _> = theirs.map(|check| (check.id.clone(), shape(check))).collect();
    ensure!(mine == theirs, "{name} has the checks {mine:?}, by the catalog {theirs:?}");
    Ok(())
}

/// Nodes whose agents are not there are those of agents that failed; who has left is not in the catalog.
fn nobody_else(store: &Store, agents: &[(&Config, &Agent)]) -> Verdict {
    let names: BTreeSet<&str> = agents.iter().map(|(config, _)| config.name.as_str()).collect();
    for node in store.nodes().filter(|node| !names.contains(node.name.as_str())) {
        let name = &node.name;
        for (config, agent) in agents {
            let status = agent.gossip().member(name).map(lictor_core::gossip::Member::status);
            ensure!(
                status == Some(Status::Failed),
                "the catalog knows {name}, who is not there, and whom {} takes for {status:?}",
                config.name
            );
        }
        let serf = store.checks_of(name).find(|check| check.id == SERF_CHECK_ID);
        ensure!(serf.is_some_and(|check| check.status == CRITICAL), "the catalog does not say that {name} has failed");
    }
    Ok(())
}

/// The services of an agent that may be found by who looks for healthy ones: neither they nor their node are in maintenance,
/// and no check of theirs says anything but "passing".
fn passing_of(local: &Local) -> impl Iterator<Item = String> {
    let fails = |service: &str| {
        local
            .checks()
            .any(|check| check.status != PASSING && (check.service_id.is_empty() || check.service_id == service))
    };
    local.services().map(|service| service.id.clone()).filter(move |id| !fails(id))
}

/// Who looks for healthy services finds just those.
fn only_passing_are_found(store: &Store, expected: &BTreeSet<(String, String)>) -> Verdict {
    let names: BTreeSet<String> = store
        .nodes()
        .flat_map(|node| store.services_of(&node.name))
        .map(|service| service.name.clone())
        .filter(|name| name != SERVER_SERVICE)
        .collect();
    let mut found = BTreeSet::new();
    for name in names {
        let read = ReadOptions { consistency: Consistency::Stale, index: Index(0), wait: None };
        let request =
            health::Request::Service { name, tag: None, passing: true, filter: catalog::Filter::default(), read };
        let Some(Body::HealthOf(instances)) = store.query(&request).map(|answer| answer.body) else {
            return Err("the store does not say which services are healthy".to_owned());
        };
        found.extend(instances.iter().map(|instance| (instance.node.name.clone(), instance.service.id.clone())));
    }
    ensure!(found == *expected, "who looks for healthy services finds {found:?}, and the agents say {expected:?}");
    Ok(())
}
