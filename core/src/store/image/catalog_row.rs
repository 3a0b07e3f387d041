//! The rows of the catalog and their bytes.

use std::borrow::Cow;

use super::fields::{BadRow, Fields};
use crate::api::catalog::{Check, Meta, Node, Service};
use crate::api::coordinate::Place;
use crate::coordinate::{Coordinate, DIMENSIONS};
use crate::id::Index;
use crate::store::catalog::Subject;
use crate::time::Duration;

/// The numbers of a coordinate.
const NUMBERS: usize = DIMENSIONS + 3;

/// A row of the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CatalogRow<'a> {
    Totals { changed: Index, floor: Index },
    Node(Cow<'a, Node>),
    Service(Cow<'a, Service>),
    Check(Cow<'a, Check>),
    Place(PlaceRow<'a>),
    Mark { index: Index, subject: Cow<'a, Subject> },
}

/// A node's place, its numbers bit by bit: no two rows of other bits are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlaceRow<'a> {
    node: &'a str,
    numbers: [u64; NUMBERS],
}

impl<'a> From<&'a Place> for PlaceRow<'a> {
    fn from(place: &'a Place) -> Self {
        let Coordinate { vector, error, adjustment, height } = &place.coordinate;
        let mut numbers = [0; NUMBERS];
        for (bits, value) in numbers.iter_mut().zip(vector.iter().chain([error, adjustment, height])) {
            *bits = value.to_bits();
        }
        Self { node: &place.node, numbers }
    }
}

impl PlaceRow<'_> {
    /// The place, with a copy of its own of what the row borrows.
    pub(super) fn to_place(self) -> Place {
        let numbers = self.numbers.map(f64::from_bits);
        let vector = std::array::from_fn(|at| numbers[at]);
        let [.., error, adjustment, height] = numbers;
        Place { node: self.node.to_owned(), coordinate: Coordinate { vector, error, adjustment, height } }
    }
}

/// The numbers of the kinds. See [`super::row::kind`].
pub(super) mod kind {
    pub(in crate::store::image) const CATALOG: u8 = 9;
    pub(in crate::store::image) const NODE: u8 = 10;
    pub(in crate::store::image) const SERVICE: u8 = 11;
    pub(in crate::store::image) const CHECK: u8 = 12;
    pub(in crate::store::image) const PLACE: u8 = 13;
    pub(in crate::store::image) const MARK: u8 = 14;
}

/// Where fields go: into bytes, or into a sum of their lengths.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    fn put_index(&mut self, index: Index) {
        self.put(&index.0.to_le_bytes());
    }

    fn put_duration(&mut self, duration: Duration) {
        self.put(&duration.as_secs().to_le_bytes());
        self.put(&duration.subsec_nanos().to_le_bytes());
    }

    fn put_bool(&mut self, yes: bool) {
        self.put(&[u8::from(yes)]);
    }

    fn put_count(&mut self, count: usize) {
        let count = u32::try_from(count).expect("a registration is far below 4 GiB");
        self.put(&count.to_le_bytes());
    }

    fn put_text(&mut self, text: &str) {
        self.put_count(text.len());
        self.put(text.as_bytes());
    }

    fn put_meta(&mut self, meta: &Meta) {
        self.put_count(meta.len());
        for (key, value) in meta {
            self.put_text(key);
            self.put_text(value);
        }
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Sink for usize {
    fn put(&mut self, bytes: &[u8]) {
        *self += bytes.len();
    }
}

impl<'a> CatalogRow<'a> {
    /// The number of its kind.
    pub(super) const fn kind(&self) -> u8 {
        match self {
            Self::Totals { .. } => kind::CATALOG,
            Self::Node(_) => kind::NODE,
            Self::Service(_) => kind::SERVICE,
            Self::Check(_) => kind::CHECK,
            Self::Place(_) => kind::PLACE,
            Self::Mark { .. } => kind::MARK,
        }
    }

    /// How many bytes its fields take.
    pub(super) fn len(&self) -> usize {
        let mut length = 0;
        self.put_into(&mut length);
        length
    }

    /// Appends its fields to `out`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.put_into(out);
    }

    fn put_into(&self, out: &mut impl Sink) {
        match self {
            Self::Totals { changed, floor } => {
                out.put_index(*changed);
                out.put_index(*floor);
            }
            Self::Node(node) => put_node(node, out),
            Self::Service(service) => put_service(service, out),
            Self::Check(check) => put_check(check, out),
            Self::Place(place) => {
                out.put_text(place.node);
                place.numbers.iter().for_each(|bits| out.put(&bits.to_le_bytes()));
            }
            Self::Mark { index, subject } => {
                let (kind, name) = subject.parts();
                out.put_index(*index);
                out.put(&[kind]);
                out.put_text(name);
            }
        }
    }

    /// Takes the fields of a row of this kind.
    pub(super) fn decode(kind: u8, fields: &mut Fields<'a>) -> Result<Self, BadRow> {
        Ok(match kind {
            kind::CATALOG => Self::Totals { changed: fields.index()?, floor: fields.index()? },
            kind::NODE => Self::Node(Cow::Owned(take_node(fields)?)),
            kind::SERVICE => Self::Service(Cow::Owned(take_service(fields)?)),
            kind::CHECK => Self::Check(Cow::Owned(take_check(fields)?)),
            kind::PLACE => {
                let node = fields.text()?;
                let mut numbers = [0; NUMBERS];
                for bits in &mut numbers {
                    *bits = fields.u64()?;
                }
                Self::Place(PlaceRow { node, numbers })
            }
            kind::MARK => {
                let (index, kind, name) = (fields.index()?, fields.u8()?, fields.text()?);
                let subject = Subject::from_parts(kind, name).ok_or(BadRow::Malformed)?;
                Self::Mark { index, subject: Cow::Owned(subject) }
            }
            unknown => return Err(BadRow::Unknown(unknown)),
        })
    }
}

fn put_node(node: &Node, out: &mut impl Sink) {
    let Node { name, id, address, tagged_addresses, meta, create_index, modify_index } = node;
    out.put_index(*create_index);
    out.put_index(*modify_index);
    [name, id, address].into_iter().for_each(|text| out.put_text(text));
    out.put_bool(tagged_addresses.is_some());
    if let Some(addresses) = tagged_addresses {
        out.put_meta(addresses);
    }
    out.put_meta(meta);
}

fn take_node(fields: &mut Fields<'_>) -> Result<Node, BadRow> {
    Ok(Node {
        create_index: fields.index()?,
        modify_index: fields.index()?,
        name: fields.owned()?,
        id: fields.owned()?,
        address: fields.owned()?,
        tagged_addresses: if fields.bool()? { Some(take_meta(fields)?) } else { None },
        meta: take_meta(fields)?,
    })
}

fn put_service(service: &Service, out: &mut impl Sink) {
    let Service { node, id, name, tags, address, port, enable_tag_override, meta, create_index, modify_index } =
        service;
    out.put_index(*create_index);
    out.put_index(*modify_index);
    [node, id, name, address].into_iter().for_each(|text| out.put_text(text));
    out.put(&port.to_le_bytes());
    out.put_bool(*enable_tag_override);
    out.put_bool(tags.is_some());
    if let Some(tags) = tags {
        out.put_count(tags.len());
        tags.iter().for_each(|tag| out.put_text(tag));
    }
    out.put_meta(meta);
}

fn take_service(fields: &mut Fields<'_>) -> Result<Service, BadRow> {
    Ok(Service {
        create_index: fields.index()?,
        modify_index: fields.index()?,
        node: fields.owned()?,
        id: fields.owned()?,
        name: fields.owned()?,
        address: fields.owned()?,
        port: fields.u64()?.cast_signed(),
        enable_tag_override: fields.bool()?,
        tags: if fields.bool()? { Some(take_texts(fields)?) } else { None },
        meta: take_meta(fields)?,
    })
}

fn put_check(check: &Check, out: &mut impl Sink) {
    let Check { node, id, name, status, notes, output, service_id, service_name, create_index, modify_index } = check;
    out.put_index(*create_index);
    out.put_index(*modify_index);
    let texts = [node, id, name, status, notes, output, service_id, service_name];
    texts.into_iter().for_each(|text| out.put_text(text));
}

fn take_check(fields: &mut Fields<'_>) -> Result<Check, BadRow> {
    Ok(Check {
        create_index: fields.index()?,
        modify_index: fields.index()?,
        node: fields.owned()?,
        id: fields.owned()?,
        name: fields.owned()?,
        status: fields.owned()?,
        notes: fields.owned()?,
        output: fields.owned()?,
        service_id: fields.owned()?,
        service_name: fields.owned()?,
    })
}

pub(super) fn take_texts(fields: &mut Fields<'_>) -> Result<Vec<String>, BadRow> {
    let count = fields.u32()?;
    (0..count).map(|_| fields.owned()).collect()
}

fn take_meta(fields: &mut Fields<'_>) -> Result<Meta, BadRow> {
    let mut meta = Meta::new();
    for _ in 0..fields.u32()? {
        let (key, value) = (fields.owned()?, fields.owned()?);
        if meta.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(BadRow::Malformed);
        }
        meta.insert(key, value);
    }
    Ok(meta)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::store::catalog::Name;

    /// One row of each kind, with all fields in all forms.
    pub(in crate::store::image) fn rows() -> Vec<CatalogRow<'static>> {
        let meta = Meta::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        let node = Node {
            name: "Node".to_owned(),
            tagged_addresses: Some(meta.clone()),
            create_index: Index(3),
            ..Node::default()
        };
        let service = Service {
            id: "web".to_owned(),
            tags: Some(vec!["x".to_owned(), String::new()]),
            port: -7,
            enable_tag_override: true,
            meta,
            ..Service::default()
        };
        let check = Check { output: "out".to_owned(), modify_index: Index(u64::MAX), ..Check::default() };
        let mut numbers = [7; NUMBERS];
        numbers[3] = f64::to_bits(-0.25);
        let subject = Cow::Owned(Subject::Health(Name::of("web")));
        vec![
            CatalogRow::Totals { changed: Index(9), floor: Index(4) },
            CatalogRow::Node(Cow::Owned(node)),
            CatalogRow::Node(Cow::Owned(Node::default())),
            CatalogRow::Service(Cow::Owned(service)),
            CatalogRow::Service(Cow::Owned(Service::default())),
            CatalogRow::Check(Cow::Owned(check)),
            CatalogRow::Place(PlaceRow { node: "Node", numbers }),
            CatalogRow::Mark { index: Index(5), subject },
        ]
    }

    #[test]
    fn a_place_keeps_every_bit() {
        let vector = std::array::from_fn(|at| at as f64 / 7.0);
        let coordinate = Coordinate { vector, error: 0.1, adjustment: -1e-9, height: 1e-5 };
        let place = Place { node: "a".to_owned(), coordinate };
        assert_eq!(PlaceRow::from(&place).to_place(), place);
    }
}
