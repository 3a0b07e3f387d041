//! Nodes, their services, the checks of both, and where the nodes are.
//!
//! Everything hangs on its node; beside the nodes there are indexes by service and by state. `tables.rs` keeps both
//! in step, `register.rs` says what a command changes, `query.rs` what a question finds.
//!
//! # Indexes
//!
//! Each [`Subject`] has a *mark*: the index at which what is found under it last changed. A change marks
//! the subjects that it concerns and no others, so whoever asks about one service is told the same index as long as nothing
//! happens to it, whatever else is written. Marks are precise up to filters: see [`Subject`].
//!
//! Where nothing is found, the client is told the index of the catalog's last change, as with keys.

mod load;
mod marks;
mod query;
mod register;
mod subject;
mod tables;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

pub use subject::{Name, Subject};

use marks::Marks;
use tables::Row;

use crate::api::catalog::{Check, Node, Service};
use crate::api::coordinate::Place;
use crate::coordinate::Coordinate;
use crate::id::Index;

/// A service or a check by its node and its ID.
type Path = (Name, Name);

/// The catalog. Cloning is O(1). Invariants:
///
/// - `instances` and `checks` hold every service and every check with a service's name by that name, `states` every check
///   by its status; and no set in them is empty;
/// - every place is of a node that is there;
/// - for each node, service and check `1 <= create_index <= modify_index <= changed`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Catalog {
    nodes: OrdMap<Name, Arc<Row>>,
    instances: OrdMap<Name, OrdSet<Path>>,
    checks: OrdMap<Name, OrdSet<Path>>,
    states: OrdMap<Arc<str>, OrdSet<Path>>,
    places: Places,
    marks: Marks,
    /// The index of the last change of anything but coordinates.
    changed: Index,
}

/// Where nodes are.
#[derive(Clone, Debug, Default, PartialEq)]
struct Places {
    by_node: OrdMap<Name, Arc<Place>>,
}

/// All numbers of a place that is taken in are finite.
impl Eq for Places {}

impl Catalog {
    /// A node.
    pub(in crate::store) fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.row(name).map(|row| &row.node)
    }

    /// All nodes, by name.
    pub(in crate::store) fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values().map(|row| &row.node)
    }

    /// The services of a node, by ID.
    pub(in crate::store) fn services_of(&self, node: &str) -> impl Iterator<Item = &Arc<Service>> {
        self.row(node).into_iter().flat_map(|row| row.services.values())
    }

    /// The checks of a node and of its services, by ID.
    pub(in crate::store) fn checks_of(&self, node: &str) -> impl Iterator<Item = &Arc<Check>> {
        self.row(node).into_iter().flat_map(|row| row.checks.values())
    }

    /// A check of a node or of one of its services.
    pub(in crate::store) fn check(&self, node: &str, id: &str) -> Option<&Arc<Check>> {
        self.row(node)?.checks.get(&Name::of(id))
    }

    /// Where a node is.
    pub(in crate::store) fn coordinate(&self, node: &str) -> Option<&Coordinate> {
        self.places.by_node.get(&Name::of(node)).map(|place| &place.coordinate)
    }

    /// The index of the last change of anything but coordinates; 0 if there was none.
    pub(in crate::store) fn changed(&self) -> Index {
        self.changed
    }

    /// Whether it has never been changed.
    pub(in crate::store) fn is_untouched(&self) -> bool {
        self.changed == Index(0)
    }

    /// Forgets the tombstones up to and including `up_to`.
    pub(in crate::store) fn reap_tombstones(&mut self, up_to: Index) {
        self.marks.reap(up_to);
    }

    /// How many subjects are remembered that nothing is found under.
    pub(in crate::store) fn tombstone_len(&self) -> usize {
        self.marks.tombstones()
    }

    /// The index of the last tombstone.
    pub(in crate::store) fn newest_tombstone(&self) -> Option<Index> {
        self.marks.newest()
    }

    /// The index of the first tombstone.
    pub(in crate::store) fn oldest_tombstone(&self) -> Option<Index> {
        self.marks.oldest()
    }

    /// The catalog as it is after a restoration at `index`, which changes every subject. No index from before is ever
    /// reported again, so none needs to be remembered.
    pub(in crate::store) fn restored(self, index: Index) -> Self {
        Self { marks: Marks::default(), changed: index, ..self }
    }

    fn row(&self, name: &str) -> Option<&Row> {
        self.nodes.get(&Name::of(name)).map(|row| &**row)
    }
}
