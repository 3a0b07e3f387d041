//! What a command changes in the catalog.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::tables::Row;
use super::{Catalog, Name, Path, Subject};
use crate::api::catalog::{Check, Deregistration, Node, Registration, Service};
use crate::api::coordinate::Place;
use crate::api::health::CRITICAL;
use crate::id::Index;

/// The subjects that a command has changed.
type Touched = BTreeSet<Subject>;

impl Catalog {
    /// Enters a registration, all of it or, if any part of it cannot be (a check of a node or of a service that is not
    /// there, something without an ID), nothing. What is there already and does not differ is left as it is, with its indexes.
    /// If anything was changed, the node's modify index moves.
    pub(in crate::store) fn register(&mut self, index: Index, registration: Registration) -> Touched {
        let mut next = self.clone();
        let mut touched = Touched::new();
        if next.enter(index, registration, &mut touched).is_none() || touched.is_empty() {
            return Touched::new();
        }
        *self = next;
        self.mark(index, &touched);
        touched
    }

    /// Strikes out what is named; what is not there counts as struck out.
    pub(in crate::store) fn deregister(&mut self, index: Index, what: &Deregistration) -> Touched {
        let mut touched = Touched::new();
        let node = Name::of(&what.node);
        if !what.service_id.is_empty() {
            self.strike_service(&(node, Name::of(&what.service_id)), &mut touched);
        } else if !what.check_id.is_empty() {
            self.strike_check(&(node, Name::of(&what.check_id)), &mut touched);
        } else {
            self.strike_node(&node, &mut touched);
        }
        self.mark(index, &touched);
        touched
    }

    /// Notes where nodes are: those that are there, if the coordinate is one.
    pub(in crate::store) fn update_coordinates(&mut self, index: Index, places: Vec<Place>) -> Touched {
        let mut touched = Touched::new();
        for mut place in places {
            let name = Name::of(&place.node);
            let Some(row) = self.nodes.get(&name).filter(|_| place.coordinate.is_valid()) else { continue };
            place.node.clone_from(&row.node.name);
            if self.places.by_node.get(&name).is_none_or(|earlier| earlier.coordinate != place.coordinate) {
                self.places.by_node.insert(name, Arc::new(place));
                touched.insert(Subject::Coordinates);
            }
        }
        self.mark(index, &touched);
        touched
    }

    fn mark(&mut self, index: Index, touched: &Touched) {
        for subject in touched {
            let vacant = self.is_vacant(subject);
            self.marks.set(subject.clone(), index, vacant);
            if *subject != Subject::Coordinates {
                self.changed = index;
            }
        }
    }

    fn enter(&mut self, index: Index, registration: Registration, touched: &mut Touched) -> Option<()> {
        let Registration { node, service, checks } = registration;
        let name = Name::of(&node.name);
        if name.is_empty() {
            return None;
        }
        self.enter_node(index, name.clone(), node, touched);
        if let Some(service) = service {
            self.enter_service(index, &name, service, touched)?;
        }
        for check in checks {
            self.enter_check(index, &name, check, touched)?;
        }
        if !touched.is_empty() {
            let row = Arc::make_mut(self.nodes.get_mut(&name)?);
            Arc::make_mut(&mut row.node).modify_index = index;
        }
        Some(())
    }

    fn enter_node(&mut self, index: Index, name: Name, mut node: Node, touched: &mut Touched) {
        let Some(row) = self.nodes.get(&name) else {
            (node.create_index, node.modify_index) = (index, index);
            touched.extend([Subject::Nodes, Subject::Node(name.clone())]);
            self.nodes.insert(name, Arc::new(Row::new(Arc::new(node))));
            return;
        };
        (node.create_index, node.modify_index) = (row.node.create_index, row.node.modify_index);
        if *row.node == node {
            return;
        }
        node.modify_index = index;
        touched.extend([Subject::Nodes, Subject::Node(name.clone())]);
        touch_services(row, touched);
        if row.node.meta != node.meta {
            touch_filtered(row, touched);
        }
        Arc::make_mut(self.nodes.get_mut(&name).expect("it is there")).node = Arc::new(node);
    }

    fn enter_service(&mut self, index: Index, node: &Name, mut service: Service, touched: &mut Touched) -> Option<()> {
        let id = Name::of(&service.id);
        if id.is_empty() || service.name.is_empty() {
            return None;
        }
        let row = self.nodes.get(node)?;
        service.node.clone_from(&row.node.name);
        let earlier = row.services.get(&id);
        (service.create_index, service.modify_index) =
            earlier.map_or((index, index), |earlier| (earlier.create_index, earlier.modify_index));
        if earlier.is_some_and(|earlier| **earlier == service) {
            return Some(());
        }
        service.modify_index = index;
        if earlier.is_none_or(|earlier| (&earlier.name, &earlier.tags) != (&service.name, &service.tags)) {
            touched.insert(Subject::ServiceNames);
        }
        touch_service(node, &Name::of(&service.name), touched);
        if let Some(earlier) = self.insert_service((node.clone(), id), service) {
            touch_service(node, &Name::of(&earlier.name), touched);
        }
        Some(())
    }

    fn enter_check(&mut self, index: Index, node: &Name, mut check: Check, touched: &mut Touched) -> Option<()> {
        let node = if check.node.is_empty() { node.clone() } else { Name::of(&check.node) };
        let id = Name::of(&check.id);
        if id.is_empty() {
            return None;
        }
        let row = self.nodes.get(&node)?;
        check.node.clone_from(&row.node.name);
        if check.status.is_empty() {
            check.status = CRITICAL.to_owned();
        }
        if !check.service_id.is_empty() {
            let service = row.services.get(&Name::of(&check.service_id))?;
            check.service_name.clone_from(&service.name);
        }
        let earlier = row.checks.get(&id);
        (check.create_index, check.modify_index) =
            earlier.map_or((index, index), |earlier| (earlier.create_index, earlier.modify_index));
        if earlier.is_some_and(|earlier| **earlier == check) {
            return Some(());
        }
        check.modify_index = index;
        self.touch_check(&node, &check, touched);
        if let Some(earlier) = self.insert_check((node.clone(), id), check) {
            self.touch_check(&node, &earlier, touched);
        }
        Some(())
    }

    fn strike_check(&mut self, path: &Path, touched: &mut Touched) {
        if let Some(check) = self.remove_check(path) {
            self.touch_check(&path.0, &check, touched);
        }
    }

    fn strike_service(&mut self, path: &Path, touched: &mut Touched) {
        let Some(row) = self.nodes.get(&path.0).filter(|row| row.services.contains_key(&path.1)) else { return };
        let checks: Vec<Name> = row.check_ids_of(&path.1).cloned().collect();
        for id in checks {
            self.strike_check(&(path.0.clone(), id), touched);
        }
        if let Some(service) = self.remove_service(path) {
            touch_service(&path.0, &Name::of(&service.name), touched);
            touched.insert(Subject::ServiceNames);
        }
    }

    fn strike_node(&mut self, name: &Name, touched: &mut Touched) {
        let Some(row) = self.nodes.get(name).cloned() else { return };
        for id in row.services.keys() {
            self.strike_service(&(name.clone(), id.clone()), touched);
        }
        for id in row.checks.keys() {
            self.strike_check(&(name.clone(), id.clone()), touched);
        }
        self.nodes.remove(name);
        touched.extend([Subject::Nodes, Subject::Node(name.clone())]);
        if self.places.by_node.contains_key(name) {
            self.places.by_node.remove(name);
            touched.insert(Subject::Coordinates);
        }
    }

    /// Touches all that a check's coming, going or changing concerns.
    fn touch_check(&self, node: &Name, check: &Check, touched: &mut Touched) {
        let state = Subject::State(check.status.as_str().into());
        touched.extend([Subject::AnyState, state, Subject::NodeChecks(node.clone())]);
        if !check.service_name.is_empty() {
            touched.insert(Subject::ServiceChecks(Name::of(&check.service_name)));
        }
        let Some(row) = self.nodes.get(node) else { return };
        if check.service_id.is_empty() {
            touched.extend(row.services.values().map(|service| Subject::Health(Name::of(&service.name))));
        } else if let Some(service) = row.services.get(&Name::of(&check.service_id)) {
            // The service may have got another name since the check was entered.
            touched.insert(Subject::Health(Name::of(&service.name)));
        }
    }
}

fn touch_service(node: &Name, name: &Name, touched: &mut Touched) {
    touched.extend([Subject::Node(node.clone()), Subject::Service(name.clone()), Subject::Health(name.clone())]);
}

/// Touches the services of a node that says something else of itself.
fn touch_services(row: &Row, touched: &mut Touched) {
    for service in row.services.values() {
        let name = Name::of(&service.name);
        touched.extend([Subject::Service(name.clone()), Subject::Health(name)]);
    }
}

/// Touches what a node's metadata lets through or not: lists of names and of checks.
fn touch_filtered(row: &Row, touched: &mut Touched) {
    if !row.services.is_empty() {
        touched.insert(Subject::ServiceNames);
    }
    for check in row.checks.values() {
        touched.extend([Subject::AnyState, Subject::State(check.status.as_str().into())]);
        if !check.service_name.is_empty() {
            touched.insert(Subject::ServiceChecks(Name::of(&check.service_name)));
        }
    }
}
