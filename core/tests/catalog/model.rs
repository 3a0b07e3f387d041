//! The catalog as one would write it without a thought for speed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lictor_core::api::catalog::{self, Check, Filter, Meta, Node, NodeServices, Registration, Service};
use lictor_core::api::coordinate::Place;
use lictor_core::api::{coordinate, health};
use lictor_core::coordinate::{Coordinate, distance};
use lictor_core::id::Index;
use lictor_core::store::{Body, Command, Question};

/// Nodes, services and checks by node and ID, all in small letters.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Model {
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) services: BTreeMap<(String, String), Service>,
    pub(crate) checks: BTreeMap<(String, String), Check>,
    pub(crate) places: BTreeMap<String, Coordinate>,
    pub(crate) changed: Index,
}

/// What a question is about, whatever its filter; a node's modify index does not belong to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct About {
    nodes: Vec<Node>,
    services: Vec<Service>,
    checks: Vec<Check>,
    metas: Vec<Meta>,
    names: Vec<(String, String, Option<Vec<String>>)>,
    places: BTreeMap<String, Coordinate>,
}

fn small(text: &str) -> String {
    text.to_lowercase()
}

impl Model {
    pub(crate) fn apply(&mut self, index: Index, command: &Command) {
        let before = self.clone();
        match command {
            Command::Register(registration) => {
                if self.register(index, registration).is_none() {
                    *self = before.clone();
                } else if *self != before {
                    let node = self.nodes.get_mut(&small(&registration.node.name)).unwrap();
                    node.modify_index = index;
                }
            }
            Command::Deregister(what) => {
                let node = small(&what.node);
                let (service, check) = (small(&what.service_id), small(&what.check_id));
                if !service.is_empty() {
                    if self.services.remove(&(node.clone(), service.clone())).is_some() {
                        self.checks.retain(|(of, _), check| *of != node || small(&check.service_id) != service);
                    }
                } else if !check.is_empty() {
                    self.checks.remove(&(node, check));
                } else {
                    self.nodes.remove(&node);
                    self.services.retain(|(of, _), _| *of != node);
                    self.checks.retain(|(of, _), _| *of != node);
                    self.places.remove(&node);
                }
            }
            Command::UpdateCoordinates(places) => {
                for place in places {
                    if self.nodes.contains_key(&small(&place.node)) && place.coordinate.is_valid() {
                        self.places.insert(small(&place.node), place.coordinate.clone());
                    }
                }
            }
            Command::ReapTombstones { .. } => {}
            _ => panic!("no step makes {command}"),
        }
        if (&self.nodes, &self.services, &self.checks) != (&before.nodes, &before.services, &before.checks) {
            self.changed = index;
        }
    }

    fn register(&mut self, index: Index, registration: &Registration) -> Option<()> {
        let Registration { node, service, checks } = registration;
        let name = small(&node.name);
        let earlier = self.nodes.get(&name);
        let created = earlier.map_or(index, |node| node.create_index);
        let as_it_is = earlier.is_some_and(|old| {
            *old == Node { create_index: old.create_index, modify_index: old.modify_index, ..node.clone() }
        });
        if !as_it_is {
            self.nodes.insert(name.clone(), Node { create_index: created, modify_index: index, ..node.clone() });
        }
        if let Some(service) = service {
            if service.id.is_empty() || service.name.is_empty() {
                return None;
            }
            let key = (name.clone(), small(&service.id));
            let mut service = Service { node: node.name.clone(), ..service.clone() };
            let earlier = self.services.get(&key);
            service.create_index = earlier.map_or(index, |earlier| earlier.create_index);
            service.modify_index = earlier.map_or(index, |earlier| earlier.modify_index);
            if earlier != Some(&service) {
                service.modify_index = index;
                self.services.insert(key, service);
            }
        }
        for check in checks {
            let of = if check.node.is_empty() { name.clone() } else { small(&check.node) };
            let key = (of.clone(), small(&check.id));
            let mut check = Check { node: self.nodes.get(&of)?.name.clone(), ..check.clone() };
            if check.id.is_empty() {
                return None;
            }
            if check.status.is_empty() {
                check.status = "critical".to_owned();
            }
            if !check.service_id.is_empty() {
                check.service_name = self.services.get(&(of, small(&check.service_id)))?.name.clone();
            }
            let earlier = self.checks.get(&key);
            check.create_index = earlier.map_or(index, |earlier| earlier.create_index);
            check.modify_index = earlier.map_or(index, |earlier| earlier.modify_index);
            if earlier != Some(&check) {
                check.modify_index = index;
                self.checks.insert(key, check);
            }
        }
        Some(())
    }

    fn instances(&self, name: &str) -> Vec<(&Node, &Service)> {
        let of = self.services.iter().filter(|(_, service)| small(&service.name) == small(name));
        of.map(|((node, _), service)| (&self.nodes[node], service)).collect()
    }

    fn checks_of(&self, service: &Service) -> Vec<Check> {
        let id = small(&service.id);
        let of = |check: &Check| {
            small(&check.node) == small(&service.node) && ["", &id].contains(&small(&check.service_id).as_str())
        };
        self.checks.values().filter(|check| of(check)).cloned().collect()
    }

    fn near<T>(&self, filter: &Filter, mut found: Vec<T>, node: impl Fn(&T) -> String) -> Vec<T> {
        if let Some(from) = filter.near.as_ref().and_then(|near| self.places.get(&small(near))) {
            let place = |item: &T| self.places.get(&small(&node(item)));
            found.sort_by_key(|item| place(item).map_or((true, None), |place| (false, Some(distance(from, place)))));
        }
        found
    }

    fn has_meta(&self, node: &str, meta: &Meta) -> bool {
        let node = &self.nodes[&small(node)];
        meta.iter().all(|(key, value)| node.meta.get(key) == Some(value))
    }

    fn checks_where(&self, filter: &Filter, which: impl Fn(&Check) -> bool) -> Body {
        let found = self.checks.values().filter(|check| which(check) && self.has_meta(&check.node, &filter.node_meta));
        Body::Checks(self.near(filter, found.cloned().map(Arc::new).collect(), |check| check.node.clone()))
    }

    /// What a question should find.
    pub(crate) fn find(&self, question: Question<'_>) -> Body {
        let tagged = |service: &Service, tag: &Option<String>| match tag {
            None => true,
            Some(tag) => service.tags.iter().flatten().any(|own| small(own) == small(tag)),
        };
        match question {
            Question::Catalog(catalog::Request::Nodes { filter, .. }) => {
                let found = self.nodes.values().filter(|node| self.has_meta(&node.name, &filter.node_meta));
                Body::Nodes(self.near(filter, found.cloned().map(Arc::new).collect(), |node| node.name.clone()))
            }
            Question::Catalog(catalog::Request::Services { node_meta, .. }) => {
                let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
                for ((node, _), service) in self.services.iter().filter(|((node, _), _)| self.has_meta(node, node_meta))
                {
                    assert!(self.nodes.contains_key(node));
                    names.entry(service.name.clone()).or_default().extend(service.tags.iter().flatten().cloned());
                }
                let sorted = names.into_iter().map(|(name, tags)| (name, tags.into_iter().collect()));
                Body::ServiceNames(sorted.collect())
            }
            Question::Catalog(catalog::Request::Service { name, tag, filter, .. }) => {
                let found = self.instances(name).into_iter();
                let found = found
                    .filter(|(node, service)| tagged(service, tag) && self.has_meta(&node.name, &filter.node_meta));
                let found = found.map(|(node, service)| catalog::Instance {
                    node: Arc::new(node.clone()),
                    service: Arc::new(service.clone()),
                });
                Body::Instances(self.near(filter, found.collect(), |found| found.node.name.clone()))
            }
            Question::Catalog(catalog::Request::Node { name, .. }) => {
                let name = small(name);
                let of = self.services.iter().filter(|((node, _), _)| *node == name);
                let services = of.map(|(_, service)| Arc::new(service.clone())).collect();
                let node = self.nodes.get(&name).cloned().map(Arc::new);
                Body::NodeServices(node.map(|node| NodeServices { node, services }))
            }
            Question::Health(health::Request::Node { name, .. }) => {
                self.checks_where(&Filter::default(), |check| small(&check.node) == small(name))
            }
            Question::Health(health::Request::Checks { service, filter, .. }) => {
                self.checks_where(filter, |check| small(&check.service_name) == small(service))
            }
            Question::Health(health::Request::State { state, filter, .. }) => {
                self.checks_where(filter, |check| state == "any" || check.status == *state)
            }
            Question::Health(health::Request::Service { name, tag, passing, filter, .. }) => {
                let mut found = Vec::new();
                for (node, service) in self.instances(name) {
                    let mut checks = self.checks_of(service);
                    checks.sort_by_key(|check| check.id.clone());
                    let fits = tagged(service, tag) && self.has_meta(&node.name, &filter.node_meta);
                    if fits && (!passing || checks.iter().all(|check| check.status == "passing")) {
                        found.push(health::Instance {
                            node: Arc::new(node.clone()),
                            service: Arc::new(service.clone()),
                            checks: checks.into_iter().map(Arc::new).collect(),
                        });
                    }
                }
                Body::HealthOf(self.near(filter, found, |found| found.node.name.clone()))
            }
            Question::Coordinate(coordinate::Request::Nodes { .. }) => {
                let place = |(name, coordinate): (&String, &Coordinate)| (small(name), coordinate.clone());
                let places = self.places.iter().map(place).map(|(node, coordinate)| Place { node, coordinate });
                Body::Places(places.collect())
            }
            question => panic!("{question:?} is none of the catalog"),
        }
    }

    /// What a question is about: it must be woken exactly when this changes.
    pub(crate) fn about(&self, question: Question<'_>) -> About {
        let mut about = About {
            nodes: Vec::new(),
            services: Vec::new(),
            checks: Vec::new(),
            metas: Vec::new(),
            names: Vec::new(),
            places: BTreeMap::new(),
        };
        let plain = |node: &Node| Node { modify_index: Index(0), ..node.clone() };
        let with_metas = |about: &mut About, checks: Vec<Check>| {
            about.metas = checks.iter().map(|check| self.nodes[&small(&check.node)].meta.clone()).collect();
            about.checks = checks;
        };
        let checks =
            |which: &dyn Fn(&Check) -> bool| self.checks.values().filter(|check| which(check)).cloned().collect();
        match question {
            Question::Catalog(catalog::Request::Nodes { .. }) => about.nodes = self.nodes.values().map(plain).collect(),
            Question::Catalog(catalog::Request::Services { .. }) => {
                for ((node, id), service) in &self.services {
                    about.names.push((format!("{node}/{id}"), service.name.clone(), service.tags.clone()));
                    about.metas.push(self.nodes[node].meta.clone());
                }
            }
            Question::Catalog(catalog::Request::Service { name, .. }) => {
                for (node, service) in self.instances(name) {
                    about.nodes.push(plain(node));
                    about.services.push(service.clone());
                }
            }
            Question::Catalog(catalog::Request::Node { name, .. }) => {
                let name = small(name);
                about.nodes.extend(self.nodes.get(&name).map(plain));
                let of = self.services.iter().filter(|((node, _), _)| *node == name);
                about.services.extend(of.map(|(_, service)| service.clone()));
            }
            Question::Health(health::Request::Node { name, .. }) => {
                about.checks = checks(&|check| small(&check.node) == small(name));
            }
            Question::Health(health::Request::Checks { service, .. }) => {
                with_metas(&mut about, checks(&|check| small(&check.service_name) == small(service)));
            }
            Question::Health(health::Request::State { state, .. }) => {
                with_metas(&mut about, checks(&|check| state == "any" || check.status == *state));
            }
            Question::Health(health::Request::Service { name, .. }) => {
                for (node, service) in self.instances(name) {
                    about.nodes.push(plain(node));
                    about.services.push(service.clone());
                    about.checks.extend(self.checks_of(service));
                }
            }
            Question::Coordinate(_) => about.places.clone_from(&self.places),
            question => panic!("{question:?} is none of the catalog"),
        }
        about
    }

    /// Whether nothing is found, filters apart. Lists of everything are there even if they are empty.
    pub(crate) fn is_vacant(&self, question: Question<'_>) -> bool {
        let about = self.about(question);
        let listed = matches!(
            question,
            Question::Catalog(catalog::Request::Nodes { .. } | catalog::Request::Services { .. })
                | Question::Coordinate(_)
        );
        let any = matches!(question, Question::Health(health::Request::State { state, .. }) if state == "any");
        !listed && !any && about.nodes.is_empty() && about.services.is_empty() && about.checks.is_empty()
    }
}
