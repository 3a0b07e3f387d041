//! The rows of an image and their bytes. The [module's page](super) has the table.

use std::borrow::Cow;

use bytes::Bytes;
use uuid::Uuid;

use super::catalog_row::{self, CatalogRow};
use super::fields::{BadRow, Fields};
use super::query_row::{self, QueryRow};
use super::session_row::{self, SessionRow, put_session, take_session};
use super::token_row::{self, TokenRow};
use crate::api::kv::Entry;
use crate::api::operator::Autopilot;
use crate::api::session::Session;
use crate::id::{Index, SessionId};
use crate::time::Duration;

/// A row. Its keys and values lie in the store, or in the piece that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Row<'a> {
    Meta(&'a [u8]),
    State(State),
    Autopilot(Autopilot),
    Kv { changed: Index, floor: Index },
    Restoring { id: Uuid, touched: Index },
    Session(Cow<'a, Session>),
    Entry(EntryRow<'a>),
    Tombstone { index: Index, key: &'a [u8] },
    Staged { number: u32, bytes: &'a [u8] },
    Catalog(CatalogRow<'a>),
    Sessions(SessionRow<'a>),
    Queries(QueryRow<'a>),
    Tokens(TokenRow<'a>),
    End(End),
}

/// What a store has beside its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) applied: Index,
    pub(super) shift: u64,
    pub(super) restored_at: Index,
    pub(super) restored: Option<Uuid>,
}

/// An entry of the key-value store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryRow<'a> {
    pub(super) create_index: Index,
    pub(super) modify_index: Index,
    pub(super) lock_index: u64,
    pub(super) flags: u64,
    pub(super) session: Option<SessionId>,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

/// What came before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) pieces: u32,
    pub(super) rows: u64,
    pub(super) checksums: u32,
}

/// The numbers of the kinds. They are on disks: new ones come at the end, before [`kind::END`].
pub(super) mod kind {
    pub(in crate::store::image) const META: u8 = 0;
    pub(in crate::store::image) const STATE: u8 = 1;
    pub(in crate::store::image) const AUTOPILOT: u8 = 2;
    pub(in crate::store::image) const KV: u8 = 3;
    pub(in crate::store::image) const RESTORING: u8 = 4;
    pub(in crate::store::image) const SESSION: u8 = 5;
    pub(in crate::store::image) const ENTRY: u8 = 6;
    pub(in crate::store::image) const TOMBSTONE: u8 = 7;
    pub(in crate::store::image) const STAGED: u8 = 8;
    pub(in crate::store::image) const END: u8 = 255;
}

/// The length of an optional UUID, which is all zeros if there is none.
const OPTION_BYTES: usize = 17;

impl<'a> Row<'a> {
    /// The number of its kind.
    pub(super) const fn kind(&self) -> u8 {
        match self {
            Self::Meta(_) => kind::META,
            Self::State(_) => kind::STATE,
            Self::Autopilot(_) => kind::AUTOPILOT,
            Self::Kv { .. } => kind::KV,
            Self::Restoring { .. } => kind::RESTORING,
            Self::Session(_) => kind::SESSION,
            Self::Entry(_) => kind::ENTRY,
            Self::Tombstone { .. } => kind::TOMBSTONE,
            Self::Staged { .. } => kind::STAGED,
            Self::Catalog(row) => row.kind(),
            Self::Sessions(row) => row.kind(),
            Self::Queries(row) => row.kind(),
            Self::Tokens(row) => row.kind(),
            Self::End(_) => kind::END,
        }
    }

    /// How many bytes it takes.
    pub(super) fn len(&self) -> usize {
        1 + match self {
            Self::Meta(meta) => 4 + meta.len(),
            Self::State(_) => 24 + OPTION_BYTES,
            Self::Autopilot(_) => 1 + 12 + 8 + 12 + 16,
            Self::Kv { .. } => 16,
            Self::Restoring { .. } => 24,
            Self::Session(session) => {
                let mut length = 0;
                put_session(session, &mut length);
                length
            }
            Self::Entry(entry) => 32 + OPTION_BYTES + 8 + entry.key.len() + entry.value.len(),
            Self::Tombstone { key, .. } => 8 + 4 + key.len(),
            Self::Staged { bytes, .. } => 4 + 4 + bytes.len(),
            Self::Catalog(row) => row.len(),
            Self::Sessions(row) => row.len(),
            Self::Queries(row) => row.len(),
            Self::Tokens(row) => row.len(),
            Self::End(_) => 16,
        }
    }

    /// Appends it to `out`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind());
        match self {
            Self::Meta(meta) => put_bytes(out, meta),
            Self::State(state) => {
                put_u64(out, state.applied.0);
                put_u64(out, state.shift);
                put_u64(out, state.restored_at.0);
                put_option(out, state.restored);
            }
            Self::Autopilot(settings) => {
                out.push(u8::from(settings.cleanup_dead_servers));
                put_duration(out, settings.last_contact_threshold);
                put_u64(out, settings.max_trailing_logs);
                put_duration(out, settings.server_stabilization_time);
                put_u64(out, settings.create_index.0);
                put_u64(out, settings.modify_index.0);
            }
            Self::Kv { changed, floor } => {
                put_u64(out, changed.0);
                put_u64(out, floor.0);
            }
            Self::Restoring { id, touched } => {
                out.extend_from_slice(id.as_bytes());
                put_u64(out, touched.0);
            }
            Self::Session(session) => put_session(session, out),
            Self::Entry(entry) => {
                put_u64(out, entry.create_index.0);
                put_u64(out, entry.modify_index.0);
                put_u64(out, entry.lock_index);
                put_u64(out, entry.flags);
                put_option(out, entry.session.map(|session| session.0));
                put_bytes(out, entry.key);
                put_bytes(out, entry.value);
            }
            Self::Tombstone { index, key } => {
                put_u64(out, index.0);
                put_bytes(out, key);
            }
            Self::Staged { number, bytes } => {
                out.extend_from_slice(&number.to_le_bytes());
                put_bytes(out, bytes);
            }
            Self::Catalog(row) => row.encode(out),
            Self::Sessions(row) => row.put_into(out),
            Self::Queries(row) => row.put_into(out),
            Self::Tokens(row) => row.put_into(out),
            Self::End(end) => {
                out.extend_from_slice(&end.pieces.to_le_bytes());
                put_u64(out, end.rows);
                out.extend_from_slice(&end.checksums.to_le_bytes());
            }
        }
    }

    /// Takes the row that `bytes` begins with.
    pub(super) fn decode(bytes: &mut &'a [u8]) -> Result<Self, BadRow> {
        let mut fields = Fields(bytes);
        let row = match fields.u8()? {
            kind::META => Self::Meta(fields.bytes()?),
            kind::STATE => Self::State(State {
                applied: fields.index()?,
                shift: fields.u64()?,
                restored_at: fields.index()?,
                restored: fields.option()?,
            }),
            kind::AUTOPILOT => Self::Autopilot(Autopilot {
                cleanup_dead_servers: fields.bool()?,
                last_contact_threshold: fields.duration()?,
                max_trailing_logs: fields.u64()?,
                server_stabilization_time: fields.duration()?,
                create_index: fields.index()?,
                modify_index: fields.index()?,
            }),
            kind::KV => Self::Kv { changed: fields.index()?, floor: fields.index()? },
            kind::RESTORING => Self::Restoring { id: fields.uuid()?, touched: fields.index()? },
            kind::SESSION => Self::Session(Cow::Owned(take_session(&mut fields)?)),
            kind::ENTRY => Self::Entry(EntryRow {
                create_index: fields.index()?,
                modify_index: fields.index()?,
                lock_index: fields.u64()?,
                flags: fields.u64()?,
                session: fields.option()?.map(SessionId),
                key: fields.bytes()?,
                value: fields.bytes()?,
            }),
            kind::TOMBSTONE => Self::Tombstone { index: fields.index()?, key: fields.bytes()? },
            kind::STAGED => Self::Staged { number: fields.u32()?, bytes: fields.bytes()? },
            kind::END => Self::End(End { pieces: fields.u32()?, rows: fields.u64()?, checksums: fields.u32()? }),
            kind @ catalog_row::kind::CATALOG..=catalog_row::kind::MARK => {
                Self::Catalog(CatalogRow::decode(kind, &mut fields)?)
            }
            kind @ session_row::kind::CHANGED..=session_row::kind::DELAY => {
                Self::Sessions(SessionRow::decode(kind, &mut fields)?)
            }
            kind @ query_row::kind::CHANGED..=query_row::kind::QUERY => {
                Self::Queries(QueryRow::decode(kind, &mut fields)?)
            }
            kind @ token_row::kind::TOTALS..=token_row::kind::TOMBSTONE => {
                Self::Tokens(TokenRow::decode(kind, &mut fields)?)
            }
            unknown => return Err(BadRow::Unknown(unknown)),
        };
        *bytes = fields.0;
        Ok(row)
    }
}

impl<'a> From<&'a Entry> for EntryRow<'a> {
    fn from(entry: &'a Entry) -> Self {
        let Entry { key, value, flags, create_index, modify_index, lock_index, session } = entry;
        Self {
            create_index: *create_index,
            modify_index: *modify_index,
            lock_index: *lock_index,
            flags: *flags,
            session: *session,
            key,
            value,
        }
    }
}

impl EntryRow<'_> {
    /// The entry, with a copy of its own of what the row borrows.
    pub(super) fn to_entry(self) -> Entry {
        Entry {
            key: Bytes::copy_from_slice(self.key),
            value: Bytes::copy_from_slice(self.value),
            flags: self.flags,
            create_index: self.create_index,
            modify_index: self.modify_index,
            lock_index: self.lock_index,
            session: self.session,
        }
    }
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("keys and values are far below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_duration(out: &mut Vec<u8>, duration: Duration) {
    put_u64(out, duration.as_secs());
    out.extend_from_slice(&duration.subsec_nanos().to_le_bytes());
}

fn put_option(out: &mut Vec<u8>, id: Option<Uuid>) {
    out.push(u8::from(id.is_some()));
    out.extend_from_slice(id.unwrap_or_default().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_takes_the_bytes_that_it_says_and_comes_back() {
        let id = Uuid::from_u128(7);
        let settings = Autopilot { max_trailing_logs: 9, modify_index: Index(4), ..Autopilot::default() };
        let (create_index, modify_index, key, value) = (Index(1), Index(2), &b"key"[..], &b"value"[..]);
        let entry = EntryRow { create_index, modify_index, lock_index: 3, flags: 4, session: None, key, value };
        let rows = [
            Row::Meta(b"meta"),
            Row::State(State { applied: Index(1), shift: 2, restored_at: Index(3), restored: Some(id) }),
            Row::Autopilot(settings),
            Row::Kv { changed: Index(5), floor: Index(6) },
            Row::Restoring { id, touched: Index(7) },
            Row::Session(Cow::Owned(Session {
                id: SessionId(id),
                checks: vec!["a".to_owned(), "b".to_owned()],
                lock_delay: Duration::from_millis(1500),
                behavior: crate::api::session::Behavior::Delete,
                ttl: crate::api::session::Ttl { text: "10s".to_owned(), nanos: 10_000_000_000 },
                ..Session::plain()
            })),
            Row::Sessions(SessionRow::Changed(Index(12))),
            Row::Sessions(SessionRow::Mark { index: Index(13), node: "n" }),
            Row::Sessions(SessionRow::Delay {
                delay: crate::store::Delay { since: Index(14), length: Duration::from_secs(15) },
                key,
            }),
            Row::Entry(entry),
            Row::Entry(EntryRow { session: Some(SessionId(id)), value: b"", ..entry }),
            Row::Tombstone { index: Index(8), key },
            Row::Staged { number: 9, bytes: b"piece" },
            Row::End(End { pieces: 10, rows: 11, checksums: 12 }),
        ];
        let rows = rows.into_iter().chain(query_row::tests::rows().into_iter().map(Row::Queries));
        let rows = rows.chain(token_row::tests::rows().into_iter().map(Row::Tokens));
        for row in rows.chain(catalog_row::tests::rows().into_iter().map(Row::Catalog)) {
            let mut bytes = Vec::new();
            row.encode(&mut bytes);
            assert_eq!(bytes.len(), row.len(), "{row:?}");
            assert_eq!(Row::decode(&mut &bytes[..bytes.len() - 1]), Err(BadRow::Malformed), "{row:?} cut short");
            bytes.push(77);
            let mut rest = &bytes[..];
            assert_eq!(Row::decode(&mut rest).as_ref(), Ok(&row));
            assert_eq!(rest, [77]);
        }
        assert_eq!(Row::decode(&mut &[99][..]), Err(BadRow::Unknown(99)));
    }

    #[test]
    fn a_field_has_one_form() {
        let mut bytes = Vec::new();
        Row::Autopilot(Autopilot::default()).encode(&mut bytes);
        let order = b"\x0a\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x01\0\0\0b\0\0\0\0\x01\0\0\0a\0\0\0\0";
        assert_eq!(Row::decode(&mut &order[..]), Err(BadRow::Malformed), "metadata out of its order");
        for (at, byte) in [(1, 2), (13, 0xff)] {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            assert_eq!(Row::decode(&mut &bytes[..]), Err(BadRow::Malformed), "byte {at}");
        }
    }
}
