//! What a question finds in the catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::tables::Row;
use super::{Catalog, Name, Path, Subject};
use crate::api::catalog::{self, Check, Filter, Instance, Meta, Node, NodeServices, Service};
use crate::api::health::{self, PASSING};
use crate::coordinate::distance;
use crate::id::Index;
use crate::store::{Body, Question};
use crate::time::Duration;

impl Catalog {
    /// The last index at which what is found under a subject may have changed.
    pub(in crate::store) fn changed_at(&self, subject: &Subject) -> Index {
        self.marks.of(subject)
    }

    /// Whether nothing is found under a subject. Lists of everything are there even if they are empty.
    pub(in crate::store) fn is_vacant(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Nodes | Subject::ServiceNames | Subject::Coordinates | Subject::AnyState => false,
            Subject::Node(name) => !self.nodes.contains_key(name),
            Subject::NodeChecks(name) => self.nodes.get(name).is_none_or(|row| row.checks.is_empty()),
            Subject::Service(name) | Subject::Health(name) => !self.instances.contains_key(name),
            Subject::ServiceChecks(name) => !self.checks.contains_key(name),
            Subject::State(state) => !self.states.contains_key(state),
        }
    }

    /// What a question finds; `None` if it is not about the catalog, or a write.
    pub(in crate::store) fn find(&self, question: Question<'_>) -> Option<Body> {
        use crate::api::coordinate::Request as Coordinate;
        Some(match question {
            Question::Kv(_) | Question::Session(_) | Question::Txn(_) | Question::Prepared(_) | Question::Acl(_) => {
                return None;
            }
            Question::Catalog(request) => match request {
                catalog::Request::Nodes { filter, .. } => Body::Nodes(self.find_nodes(filter)),
                catalog::Request::Services { node_meta, .. } => Body::ServiceNames(self.find_names(node_meta)),
                catalog::Request::Service { name, tag, filter, .. } => {
                    Body::Instances(self.find_instances(name, tag.as_deref(), filter))
                }
                catalog::Request::Node { name, .. } => Body::NodeServices(self.find_node(name)),
                catalog::Request::Register(_) | catalog::Request::Deregister(_) | catalog::Request::Datacenters => {
                    return None;
                }
            },
            Question::Health(request) => match request {
                health::Request::Node { name, .. } => Body::Checks(self.checks_of(name).cloned().collect()),
                health::Request::Checks { service, filter, .. } => {
                    let paths = self.checks.get(&Name::of(service)).into_iter().flatten();
                    Body::Checks(self.find_checks(paths, filter))
                }
                health::Request::Service { name, tag, passing, filter, .. } => {
                    Body::HealthOf(self.find_health(name, tag.as_deref(), *passing, filter))
                }
                health::Request::State { state, filter, .. } if state == health::ANY => {
                    let all = self.nodes.values().filter(|row| has_meta(&row.node, &filter.node_meta));
                    let checks = all.flat_map(|row| row.checks.values().cloned()).collect();
                    Body::Checks(self.near(filter, checks, |check: &Arc<Check>| &check.node))
                }
                health::Request::State { state, filter, .. } => {
                    let paths = self.states.get(state.as_str()).into_iter().flatten();
                    Body::Checks(self.find_checks(paths, filter))
                }
            },
            Question::Coordinate(Coordinate::Nodes { .. }) => {
                Body::Places(self.places.by_node.values().map(|place| (**place).clone()).collect())
            }
            Question::Coordinate(Coordinate::Datacenters | Coordinate::Update(_)) => return None,
        })
    }

    fn find_nodes(&self, filter: &Filter) -> Vec<Arc<Node>> {
        let nodes = self.nodes().filter(|node| has_meta(node, &filter.node_meta)).cloned().collect();
        self.near(filter, nodes, |node: &Arc<Node>| &node.name)
    }

    fn find_names(&self, node_meta: &Meta) -> BTreeMap<String, Vec<String>> {
        let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for row in self.nodes.values().filter(|row| has_meta(&row.node, node_meta)) {
            for service in row.services.values() {
                let tags = names.entry(&service.name).or_default();
                tags.extend(service.tags.iter().flatten().map(String::as_str));
            }
        }
        let owned = |tags: BTreeSet<&str>| tags.into_iter().map(str::to_owned).collect();
        names.into_iter().map(|(name, tags)| (name.to_owned(), owned(tags))).collect()
    }

    fn find_node(&self, name: &str) -> Option<NodeServices> {
        let row = self.row(name)?;
        Some(NodeServices { node: Arc::clone(&row.node), services: row.services.values().cloned().collect() })
    }

    fn find_instances(&self, name: &str, tag: Option<&str>, filter: &Filter) -> Vec<Instance> {
        let found = self.rows_of(&Name::of(name), tag, filter);
        let found =
            found.map(|(row, service, _)| Instance { node: Arc::clone(&row.node), service: Arc::clone(service) });
        self.near(filter, found.collect(), |instance: &Instance| &instance.node.name)
    }

    fn find_health(&self, name: &str, tag: Option<&str>, passing: bool, filter: &Filter) -> Vec<health::Instance> {
        let (name, of_node) = (Name::of(name), Name::of(""));
        let mut found = Vec::new();
        for (row, service, id) in self.rows_of(&name, tag, filter) {
            let both = || row.checks_of(&of_node).chain(row.checks_of(id));
            if passing && both().any(|check| check.status != PASSING) {
                continue;
            }
            let mut checks: Vec<Arc<Check>> = both().cloned().collect();
            checks.sort_by(|a, b| a.id.cmp(&b.id));
            found.push(health::Instance { node: Arc::clone(&row.node), service: Arc::clone(service), checks });
        }
        self.near(filter, found, |instance: &health::Instance| &instance.node.name)
    }

    fn find_checks<'a>(&self, paths: impl Iterator<Item = &'a Path>, filter: &Filter) -> Vec<Arc<Check>> {
        let rows = paths.filter_map(|(node, id)| Some((self.nodes.get(node)?, id)));
        let rows = rows.filter(|(row, _)| has_meta(&row.node, &filter.node_meta));
        let checks = rows.filter_map(|(row, id)| row.checks.get(id).cloned()).collect();
        self.near(filter, checks, |check: &Arc<Check>| &check.node)
    }

    /// The instances of a service by node and ID, each with the row that it is in and the ID under which it is there.
    fn rows_of<'a>(
        &'a self,
        name: &Name,
        tag: Option<&str>,
        filter: &'a Filter,
    ) -> impl Iterator<Item = (&'a Row, &'a Arc<Service>, &'a Name)> + use<'a> {
        let tag = tag.map(str::to_lowercase);
        let rows = self.instances.get(name).into_iter().flatten().filter_map(|(node, id)| {
            let row = self.nodes.get(node)?;
            Some((&**row, row.services.get(id)?, id))
        });
        rows.filter(move |(row, service, _)| {
            has_meta(&row.node, &filter.node_meta) && tag.as_deref().is_none_or(|tag| has_tag(service, tag))
        })
    }

    /// Puts the nearest first if that is asked for and possible; those whose place nobody knows stay behind all others.
    /// Equally near ones keep their order.
    fn near<T>(&self, filter: &Filter, mut found: Vec<T>, node: impl Fn(&T) -> &str) -> Vec<T> {
        let Some(from) = filter.near.as_deref().and_then(|near| self.coordinate(near)) else { return found };
        let far = |item: &T| self.coordinate(node(item)).map_or(Duration::MAX, |place| distance(from, place));
        found.sort_by_cached_key(far);
        found
    }
}

fn has_meta(node: &Node, wanted: &Meta) -> bool {
    wanted.iter().all(|(key, value)| node.meta.get(key) == Some(value))
}

/// Whether a service has a tag, in whatever case; `tag` is in small letters.
fn has_tag(service: &Service, tag: &str) -> bool {
    service.tags.iter().flatten().any(|own| own.eq_ignore_ascii_case(tag) || own.to_lowercase() == tag)
}
