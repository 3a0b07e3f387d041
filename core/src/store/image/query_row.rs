//! The rows of prepared queries, and their bytes.

use std::borrow::Cow;

use super::catalog_row::{Sink, take_texts};
use super::fields::{BadRow, Fields};
use crate::api::prepared::{Failover, Query, Service, Template};
use crate::id::Index;

/// A row of the prepared queries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart as soon as it is there")]
pub(super) enum QueryRow<'a> {
    /// When any of them last changed.
    Changed(Index),
    /// One of them.
    Query(Cow<'a, Query>),
}

/// The numbers of the kinds. See [`super::row::kind`].
pub(super) mod kind {
    pub(in crate::store::image) const CHANGED: u8 = 18;
    pub(in crate::store::image) const QUERY: u8 = 19;
}

impl QueryRow<'_> {
    /// The number of its kind.
    pub(super) const fn kind(&self) -> u8 {
        match self {
            Self::Changed(_) => kind::CHANGED,
            Self::Query(_) => kind::QUERY,
        }
    }

    /// How many bytes its fields take.
    pub(super) fn len(&self) -> usize {
        let mut length = 0;
        self.put_into(&mut length);
        length
    }

    /// Puts its fields into `out`.
    pub(super) fn put_into(&self, out: &mut impl Sink) {
        match self {
            Self::Changed(index) => out.put_index(*index),
            Self::Query(query) => put_query(query, out),
        }
    }

    /// Takes the fields of a row of this kind.
    pub(super) fn decode(kind: u8, fields: &mut Fields<'_>) -> Result<Self, BadRow> {
        Ok(match kind {
            kind::CHANGED => Self::Changed(fields.index()?),
            kind::QUERY => Self::Query(Cow::Owned(take_query(fields)?)),
            unknown => return Err(BadRow::Unknown(unknown)),
        })
    }
}

fn put_query(query: &Query, out: &mut impl Sink) {
    let Query { id, name, session, token, template, service, dns_ttl, create_index, modify_index } = query;
    let Template { kind, regexp } = template;
    let Service { service, failover, only_passing, near, tags } = service;
    out.put(id.as_bytes());
    out.put_index(*create_index);
    out.put_index(*modify_index);
    [name, session, token, kind, regexp, service].into_iter().for_each(|text| out.put_text(text));
    out.put(&failover.nearest_n.to_le_bytes());
    put_list(failover.datacenters.as_ref(), out);
    out.put_bool(*only_passing);
    out.put_text(near);
    put_list(tags.as_ref(), out);
    out.put_text(dns_ttl);
}

fn put_list(texts: Option<&Vec<String>>, out: &mut impl Sink) {
    out.put_bool(texts.is_some());
    if let Some(texts) = texts {
        out.put_count(texts.len());
        texts.iter().for_each(|text| out.put_text(text));
    }
}

fn take_query(fields: &mut Fields<'_>) -> Result<Query, BadRow> {
    let (id, create_index, modify_index) = (fields.uuid()?, fields.index()?, fields.index()?);
    let (name, session, token) = (fields.owned()?, fields.owned()?, fields.owned()?);
    Ok(Query {
        id,
        name,
        session,
        token,
        template: Template { kind: fields.owned()?, regexp: fields.owned()? },
        service: Service {
            service: fields.owned()?,
            failover: Failover { nearest_n: fields.u64()?.cast_signed(), datacenters: take_list(fields)? },
            only_passing: fields.bool()?,
            near: fields.owned()?,
            tags: take_list(fields)?,
        },
        dns_ttl: fields.owned()?,
        create_index,
        modify_index,
    })
}

fn take_list(fields: &mut Fields<'_>) -> Result<Option<Vec<String>>, BadRow> {
    Ok(if fields.bool()? { Some(take_texts(fields)?) } else { None })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use uuid::Uuid;

    /// A row of each form.
    pub(in crate::store::image) fn rows() -> [QueryRow<'static>; 3] {
        let full = Query {
            id: Uuid::from_u128(3),
            name: "geo-".to_owned(),
            session: Uuid::from_u128(4).to_string(),
            token: "t".to_owned(),
            template: Template { kind: "name_prefix_match".to_owned(), regexp: "^geo-(.*)$".to_owned() },
            service: Service {
                service: "${match(1)}".to_owned(),
                failover: Failover { nearest_n: -3, datacenters: Some(vec!["dc2".to_owned()]) },
                only_passing: true,
                near: "_agent".to_owned(),
                tags: Some(vec!["a".to_owned(), "!b".to_owned()]),
            },
            dns_ttl: "10s".to_owned(),
            create_index: Index(5),
            modify_index: Index(6),
        };
        let rows = [full, Query::default()].map(|query| QueryRow::Query(Cow::Owned(query)));
        let [full, empty] = rows;
        [QueryRow::Changed(Index(7)), full, empty]
    }
}
