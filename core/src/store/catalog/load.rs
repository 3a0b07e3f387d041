//! The rows of an image → the catalog, if they go together; and back, in the same order.

use std::sync::Arc;

use super::marks::Marks;
use super::tables::Row;
use super::{Catalog, Name, Path, Subject};
use crate::api::catalog::{Check, Node, Service};
use crate::api::coordinate::Place;
use crate::id::Index;
use crate::store::table::after;

const WRITTEN: &str = "a part of the catalog was written at an index that cannot be";
const ORDER: &str = "parts of the catalog do not come in their order";
const NO_NODE: &str = "something is registered on a node that is not there";

impl Catalog {
    /// A catalog without rows, as an image describes it before they come.
    pub(in crate::store) fn bare(changed: Index, floor: Index) -> Self {
        Self { marks: Marks::above(floor), changed, ..Self::default() }
    }

    /// The last of the marks that were reaped.
    pub(in crate::store) fn floor(&self) -> Index {
        self.marks.floor()
    }

    /// The nodes that follow this one, by name; all of them without one.
    pub(in crate::store) fn nodes_after(&self, name: Option<&Name>) -> impl Iterator<Item = (&Name, &Node)> {
        after(&self.nodes, name).map(|(name, row)| (name, &*row.node))
    }

    /// The services that follow this one, by node and ID; all of them without one.
    pub(in crate::store) fn services_after<'a>(
        &'a self,
        path: Option<&'a Path>,
    ) -> impl Iterator<Item = (Path, &'a Service)> {
        let rest = path.and_then(|(node, id)| Some((node, self.nodes.get(node)?, id)));
        let rest =
            rest.into_iter().flat_map(|(node, row, id)| after(&row.services, Some(id)).map(move |at| (node, at)));
        let others = after(&self.nodes, path.map(|(node, _)| node));
        let others = others.flat_map(|(node, row)| row.services.iter().map(move |at| (node, at)));
        rest.chain(others).map(|(node, (id, service))| ((node.clone(), id.clone()), &**service))
    }

    /// The checks that follow this one, by node and ID; all of them without one.
    pub(in crate::store) fn checks_after<'a>(
        &'a self,
        path: Option<&'a Path>,
    ) -> impl Iterator<Item = (Path, &'a Check)> {
        let rest = path.and_then(|(node, id)| Some((node, self.nodes.get(node)?, id)));
        let rest = rest.into_iter().flat_map(|(node, row, id)| after(&row.checks, Some(id)).map(move |at| (node, at)));
        let others = after(&self.nodes, path.map(|(node, _)| node));
        let others = others.flat_map(|(node, row)| row.checks.iter().map(move |at| (node, at)));
        rest.chain(others).map(|(node, (id, check))| ((node.clone(), id.clone()), &**check))
    }

    /// The places that follow this node's, by name; all of them without one.
    pub(in crate::store) fn places_after(&self, name: Option<&Name>) -> impl Iterator<Item = (&Name, &Place)> {
        after(&self.places.by_node, name).map(|(name, place)| (name, &**place))
    }

    /// The marks that follow this subject's; all of them without one.
    pub(in crate::store) fn marks_after(&self, subject: Option<&Subject>) -> impl Iterator<Item = (&Subject, &Index)> {
        self.marks.after(subject)
    }

    /// Takes in a node of an image.
    pub(in crate::store) fn load_node(&mut self, node: Node) -> Result<(), &'static str> {
        self.check_indexes(node.create_index, node.modify_index)?;
        let name = Name::of(&node.name);
        if name.is_empty() || self.nodes.get_max().is_some_and(|(last, _)| *last >= name) {
            return Err(ORDER);
        }
        self.nodes.insert(name, Arc::new(Row::new(Arc::new(node))));
        Ok(())
    }

    /// Takes in a service of an image. The nodes were loaded before.
    pub(in crate::store) fn load_service(&mut self, service: Service) -> Result<(), &'static str> {
        self.check_indexes(service.create_index, service.modify_index)?;
        let path = (Name::of(&service.node), Name::of(&service.id));
        let row = self.nodes.get(&path.0).ok_or(NO_NODE)?;
        if path.1.is_empty() || row.services.get_max().is_some_and(|(last, _)| *last >= path.1) {
            return Err(ORDER);
        }
        if service.name.is_empty() {
            return Err("a service has no name");
        }
        self.insert_service(path, service);
        Ok(())
    }

    /// Takes in a check of an image. The services were loaded before.
    pub(in crate::store) fn load_check(&mut self, check: Check) -> Result<(), &'static str> {
        self.check_indexes(check.create_index, check.modify_index)?;
        let path = (Name::of(&check.node), Name::of(&check.id));
        let row = self.nodes.get(&path.0).ok_or(NO_NODE)?;
        if path.1.is_empty() || row.checks.get_max().is_some_and(|(last, _)| *last >= path.1) {
            return Err(ORDER);
        }
        if !check.service_id.is_empty() && !row.services.contains_key(&Name::of(&check.service_id)) {
            return Err("a check is of a service that is not there");
        }
        self.insert_check(path, check);
        Ok(())
    }

    /// Takes in a place of an image. The nodes were loaded before.
    pub(in crate::store) fn load_place(&mut self, place: Place) -> Result<(), &'static str> {
        let name = Name::of(&place.node);
        if !self.nodes.contains_key(&name) {
            return Err("a node that is not there has a place");
        }
        if !place.coordinate.is_valid() || self.places.by_node.get_max().is_some_and(|(last, _)| *last >= name) {
            return Err("a place is none, or does not come in its order");
        }
        self.places.by_node.insert(name, Arc::new(place));
        Ok(())
    }

    /// Takes in a mark of an image. All else was loaded before.
    pub(in crate::store) fn load_mark(&mut self, subject: Subject, index: Index) -> Result<(), &'static str> {
        let vacant = self.is_vacant(&subject);
        if self.marks.last().is_some_and(|last| *last >= subject) {
            return Err(ORDER);
        }
        if index == Index(0) || (vacant && index <= self.marks.floor()) {
            return Err("a subject of the catalog was changed at an index that cannot be");
        }
        if subject != Subject::Coordinates && index > self.changed {
            return Err("a subject of the catalog was changed after all of it");
        }
        self.marks.set(subject, index, vacant);
        Ok(())
    }

    fn check_indexes(&self, created: Index, modified: Index) -> Result<(), &'static str> {
        let possible = created > Index(0) && created <= modified && modified <= self.changed;
        if possible { Ok(()) } else { Err(WRITTEN) }
    }
}
