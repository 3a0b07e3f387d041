//! The rows, and the indexes that follow them.

use std::sync::Arc;

use imbl::ordmap::Entry;
use imbl::{OrdMap, OrdSet};

use super::{Catalog, Name, Path};
use crate::api::catalog::{Check, Node, Service};

/// A node with all that is registered on it. Invariant: `by_service` holds the IDs of all checks, each behind
/// the ID of the service that it is of; an empty one for the checks of the node itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) node: Arc<Node>,
    pub(super) services: OrdMap<Name, Arc<Service>>,
    pub(super) checks: OrdMap<Name, Arc<Check>>,
    by_service: OrdSet<(Name, Name)>,
}

impl Row {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node, services: OrdMap::new(), checks: OrdMap::new(), by_service: OrdSet::new() }
    }

    /// The IDs of the checks of a service; of the node itself for an empty ID. In their order.
    pub(super) fn check_ids_of<'a>(&'a self, service_id: &'a Name) -> impl Iterator<Item = &'a Name> {
        let from = (service_id.clone(), Name::of(""));
        self.by_service.range(from..).take_while(move |(of, _)| of == service_id).map(|(_, id)| id)
    }

    /// The checks of a service; of the node itself for an empty ID. In the order of their IDs.
    pub(super) fn checks_of<'a>(&'a self, service_id: &'a Name) -> impl Iterator<Item = &'a Arc<Check>> {
        self.check_ids_of(service_id).map(|id| self.checks.get(id).expect("an index leads to a row"))
    }
}

impl Catalog {
    /// Enters a service on a node that is there, in place of the one with its ID.
    pub(super) fn insert_service(&mut self, path: Path, service: Service) -> Option<Arc<Service>> {
        let name = Name::of(&service.name);
        let row = Arc::make_mut(self.nodes.get_mut(&path.0).expect("services are entered on nodes"));
        let earlier = row.services.insert(path.1.clone(), Arc::new(service));
        if let Some(earlier) = &earlier {
            leave(&mut self.instances, Name::of(&earlier.name), &path);
        }
        join(&mut self.instances, name, path);
        earlier
    }

    /// Strikes out a service, but not its checks.
    pub(super) fn remove_service(&mut self, path: &Path) -> Option<Arc<Service>> {
        if !self.nodes.get(&path.0)?.services.contains_key(&path.1) {
            return None;
        }
        let service = Arc::make_mut(self.nodes.get_mut(&path.0)?).services.remove(&path.1)?;
        leave(&mut self.instances, Name::of(&service.name), path);
        Some(service)
    }

    /// Enters a check on a node that is there, in place of the one with its ID.
    pub(super) fn insert_check(&mut self, path: Path, check: Check) -> Option<Arc<Check>> {
        let earlier = self.remove_check(&path);
        let row = Arc::make_mut(self.nodes.get_mut(&path.0).expect("checks are entered on nodes"));
        row.by_service.insert((Name::of(&check.service_id), path.1.clone()));
        join(&mut self.states, check.status.as_str().into(), path.clone());
        if !check.service_name.is_empty() {
            join(&mut self.checks, Name::of(&check.service_name), path.clone());
        }
        row.checks.insert(path.1, Arc::new(check));
        earlier
    }

    /// Strikes out a check.
    pub(super) fn remove_check(&mut self, path: &Path) -> Option<Arc<Check>> {
        if !self.nodes.get(&path.0)?.checks.contains_key(&path.1) {
            return None;
        }
        let row = Arc::make_mut(self.nodes.get_mut(&path.0)?);
        let check = row.checks.remove(&path.1)?;
        row.by_service.remove(&(Name::of(&check.service_id), path.1.clone()));
        leave(&mut self.states, check.status.as_str().into(), path);
        if !check.service_name.is_empty() {
            leave(&mut self.checks, Name::of(&check.service_name), path);
        }
        Some(check)
    }
}

fn join<K: Ord + Clone>(sets: &mut OrdMap<K, OrdSet<Path>>, key: K, path: Path) {
    sets.entry(key).or_default().insert(path);
}

/// Takes a path out of the set under `key`, and the set with it if it was the last.
fn leave<K: Ord + Clone>(sets: &mut OrdMap<K, OrdSet<Path>>, key: K, path: &Path) {
    if let Entry::Occupied(mut set) = sets.entry(key) {
        set.get_mut().remove(path);
        if set.get().is_empty() {
            set.remove();
        }
    }
}
