//! A store → the pieces of its image.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use uuid::Uuid;

use super::catalog_row::CatalogRow;
use super::frame::{HEADER_BYTES, Header, MAX_PAYLOAD_BYTES};
use super::query_row::QueryRow;
use super::row::{End, EntryRow, Row, State};
use super::session_row::SessionRow;
use super::token_row::TokenRow;
use crate::api::kv::Key;
use crate::id::{Index, SessionId};
use crate::store::Store;
use crate::store::catalog::{Catalog, Name, Subject};

/// Writes the image of a store, piece by piece. Cloning is O(1): a clone goes on where the original is, so that whoever
/// sends pieces can keep one as a place to come back to.
#[derive(Clone)]
pub struct Encoder {
    meta: Bytes,
    store: Store,
    piece_bytes: usize,
    next: Next,
    pieces: u32,
    rows: u64,
    checksums: u32,
}

/// What comes next: of a table, what follows this key.
#[derive(Clone, Debug)]
enum Next {
    Head,
    Sessions(Option<SessionId>),
    Entries(Option<Key>),
    Tombstones(Option<Key>),
    Staged(Option<u32>),
    Catalog,
    Nodes(Option<Name>),
    Services(Option<(Name, Name)>),
    Checks(Option<(Name, Name)>),
    Places(Option<Name>),
    Marks(Option<Subject>),
    Sessioned,
    SessionMarks(Option<Name>),
    Delays(Option<Key>),
    Queried,
    Queries(Option<Uuid>),
    Tokened,
    Tokens(Option<String>),
    DestroyedTokens(Option<Key>),
    End,
    Nothing,
}

impl Encoder {
    /// An image of `store` in pieces of about `piece_bytes`; a row that is larger travels alone. `meta` goes along, and
    /// [`Decoder::finish`](super::Decoder::finish) gives it back.
    #[must_use]
    pub fn new(meta: Bytes, store: Store, piece_bytes: usize) -> Self {
        let piece_bytes = piece_bytes.min(MAX_PAYLOAD_BYTES);
        Self { meta, store, piece_bytes, next: Next::Head, pieces: 0, rows: 0, checksums: 0 }
    }

    /// How many pieces were written: the number of the next one.
    #[must_use]
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// The store, which is not to be written any further.
    #[must_use]
    pub fn into_store(self) -> Store {
        self.store
    }

    /// Whether the last piece was written.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.next, Next::Nothing)
    }

    /// The next piece; `None` after the last one. Takes time for what is in it, however large the store is.
    pub fn next_piece(&mut self) -> Option<Bytes> {
        let piece = match self.next {
            Next::Head => self.head(),
            Next::End => self.end(),
            Next::Nothing => return None,
            _ => self.some_rows(),
        };
        // Behind the last row of all there is nothing left to be put into a piece.
        let piece = if piece.rows == 0 { self.end() } else { piece };
        Some(self.seal(piece))
    }

    fn seal(&mut self, piece: Piece) -> Bytes {
        let Piece { mut bytes, rows, .. } = piece;
        let checksum = Header::seal(self.pieces, &mut bytes);
        self.checksums = crc32c::crc32c_append(self.checksums, &checksum.to_le_bytes());
        self.pieces += 1;
        self.rows += rows;
        bytes.into()
    }

    /// The first piece: whatever comes once.
    fn head(&mut self) -> Piece {
        let store = &self.store;
        let mut piece = Piece::new(0);
        piece.push(&Row::Meta(&self.meta));
        piece.push(&Row::State(State {
            applied: store.applied,
            shift: store.shift,
            restored_at: store.restored_at,
            restored: store.restored,
        }));
        piece.push(&Row::Autopilot(store.autopilot.clone()));
        piece.push(&Row::Kv { changed: store.kv.changed(), floor: store.kv.tombstones().floor() });
        if let Some(staging) = &store.staging {
            piece.push(&Row::Restoring { id: staging.id(), touched: staging.touched() });
        }
        self.next = Next::Sessions(None);
        piece
    }

    /// The last piece.
    fn end(&mut self) -> Piece {
        let mut piece = Piece::new(0);
        piece.push(&Row::End(End { pieces: self.pieces, rows: self.rows, checksums: self.checksums }));
        self.next = Next::Nothing;
        piece
    }

    /// As many rows as fit into one piece; none if there are no more.
    fn some_rows(&mut self) -> Piece {
        let mut piece = Piece::new(self.piece_bytes);
        let store = &self.store;
        loop {
            let next = match &self.next {
                Next::Sessions(after) => {
                    let rows =
                        store.sessions.after(*after).map(|(id, session)| (id, Row::Session(Cow::Borrowed(&**session))));
                    match piece.fill(rows) {
                        Filled::All => Next::Entries(None),
                        Filled::UpTo(last) => Next::Sessions(last.copied().or(*after)),
                    }
                }
                Next::Entries(after) => {
                    let rows = store.kv.entries_after(after.as_ref());
                    match piece.fill(rows.map(|(key, entry)| (key, Row::Entry(EntryRow::from(&**entry))))) {
                        Filled::All => Next::Tombstones(None),
                        Filled::UpTo(last) => Next::Entries(last.or(after.as_ref()).cloned()),
                    }
                }
                Next::Tombstones(after) => {
                    let rows = store.kv.tombstones().after(after.as_ref());
                    match piece.fill(rows.map(|(key, index)| (key, Row::Tombstone { index: *index, key }))) {
                        Filled::All => Next::Staged(None),
                        Filled::UpTo(last) => Next::Tombstones(last.or(after.as_ref()).cloned()),
                    }
                }
                Next::Staged(after) => {
                    let rows = store.staging.iter().flat_map(|staging| staging.after(*after));
                    match piece.fill(rows.map(|(number, bytes)| (number, Row::Staged { number: *number, bytes }))) {
                        Filled::All if store.catalog.is_untouched() => Next::Queried,
                        Filled::All => Next::Catalog,
                        Filled::UpTo(last) => Next::Staged(last.copied().or(*after)),
                    }
                }
                Next::Catalog
                | Next::Nodes(_)
                | Next::Services(_)
                | Next::Checks(_)
                | Next::Places(_)
                | Next::Marks(_) => catalog_rows(&store.catalog, &self.next, &mut piece),
                Next::Sessioned if store.sessions.changed() == Index(0) => Next::Queried,
                Next::Sessioned | Next::SessionMarks(_) | Next::Delays(_) => {
                    session_rows(store, &self.next, &mut piece)
                }
                Next::Queried if store.prepared_changed() == Index(0) => Next::Tokened,
                Next::Queried | Next::Queries(_) => query_rows(store, &self.next, &mut piece),
                Next::Tokened if store.tokens.changed() == Index(0) => Next::End,
                Next::Tokened | Next::Tokens(_) | Next::DestroyedTokens(_) => token_rows(store, &self.next, &mut piece),
                Next::Head | Next::End | Next::Nothing => return piece,
            };
            self.next = next;
            if piece.full {
                return piece;
            }
        }
    }
}

impl Iterator for Encoder {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.next_piece()
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("store", &self.store).field("pieces", &self.pieces).finish_non_exhaustive()
    }
}

/// Puts rows of the catalog into a piece while they fit, and says what comes next.
fn catalog_rows(catalog: &Catalog, next: &Next, piece: &mut Piece) -> Next {
    match next {
        Next::Catalog => {
            let totals = CatalogRow::Totals { changed: catalog.changed(), floor: catalog.floor() };
            match piece.fill([((), Row::Catalog(totals))].into_iter()) {
                Filled::All => Next::Nodes(None),
                Filled::UpTo(_) => Next::Catalog,
            }
        }
        Next::Nodes(after) => {
            let rows = catalog.nodes_after(after.as_ref());
            match piece.fill(rows.map(|(key, node)| (key, Row::Catalog(CatalogRow::Node(Cow::Borrowed(node)))))) {
                Filled::All => Next::Services(None),
                Filled::UpTo(last) => Next::Nodes(last.or(after.as_ref()).cloned()),
            }
        }
        Next::Services(after) => {
            let rows = catalog.services_after(after.as_ref());
            match piece.fill(rows.map(|(key, row)| (key, Row::Catalog(CatalogRow::Service(Cow::Borrowed(row)))))) {
                Filled::All => Next::Checks(None),
                Filled::UpTo(last) => Next::Services(last.or_else(|| after.clone())),
            }
        }
        Next::Checks(after) => {
            let rows = catalog.checks_after(after.as_ref());
            match piece.fill(rows.map(|(key, row)| (key, Row::Catalog(CatalogRow::Check(Cow::Borrowed(row)))))) {
                Filled::All => Next::Places(None),
                Filled::UpTo(last) => Next::Checks(last.or_else(|| after.clone())),
            }
        }
        Next::Places(after) => {
            let rows = catalog.places_after(after.as_ref());
            match piece.fill(rows.map(|(key, place)| (key, Row::Catalog(CatalogRow::Place(place.into()))))) {
                Filled::All => Next::Marks(None),
                Filled::UpTo(last) => Next::Places(last.or(after.as_ref()).cloned()),
            }
        }
        Next::Marks(after) => {
            let row = |subject, index: &Index| CatalogRow::Mark { index: *index, subject: Cow::Borrowed(subject) };
            let rows = catalog.marks_after(after.as_ref());
            match piece.fill(rows.map(|(subject, index)| (subject, Row::Catalog(row(subject, index))))) {
                Filled::All => Next::Sessioned,
                Filled::UpTo(last) => Next::Marks(last.or(after.as_ref()).cloned()),
            }
        }
        other => unreachable!("{other:?} is none of the catalog"),
    }
}

/// Puts rows of what there is beside the sessions into a piece while they fit, and says what comes next.
fn session_rows(store: &Store, next: &Next, piece: &mut Piece) -> Next {
    match next {
        Next::Sessioned => {
            let changed = Row::Sessions(SessionRow::Changed(store.sessions.changed()));
            match piece.fill([((), changed)].into_iter()) {
                Filled::All => Next::SessionMarks(None),
                Filled::UpTo(_) => Next::Sessioned,
            }
        }
        Next::SessionMarks(after) => {
            let rows = store.sessions.marks_after(after.as_ref());
            let rows = rows.map(|(name, index)| (name, SessionRow::Mark { index, node: name.as_str() }));
            match piece.fill(rows.map(|(name, row)| (name, Row::Sessions(row)))) {
                Filled::All => Next::Delays(None),
                Filled::UpTo(last) => Next::SessionMarks(last.or(after.as_ref()).cloned()),
            }
        }
        Next::Delays(after) => {
            let rows = store.kv.locks().delays_after(after.as_ref());
            match piece.fill(rows.map(|(key, delay)| (key, Row::Sessions(SessionRow::Delay { delay: *delay, key })))) {
                Filled::All => Next::Queried,
                Filled::UpTo(last) => Next::Delays(last.or(after.as_ref()).cloned()),
            }
        }
        other => unreachable!("{other:?} is none of the sessions"),
    }
}

/// Puts rows of the prepared queries into a piece while they fit, and says what comes next.
fn query_rows(store: &Store, next: &Next, piece: &mut Piece) -> Next {
    let Next::Queries(after) = next else {
        let changed = Row::Queries(QueryRow::Changed(store.queries.changed()));
        return match piece.fill([((), changed)].into_iter()) {
            Filled::All => Next::Queries(None),
            Filled::UpTo(_) => Next::Queried,
        };
    };
    let rows = store.queries.after(*after);
    match piece.fill(rows.map(|(id, query)| (*id, Row::Queries(QueryRow::Query(Cow::Borrowed(&**query)))))) {
        Filled::All => Next::Tokened,
        Filled::UpTo(last) => Next::Queries(last.or(*after)),
    }
}

/// Puts rows of the tokens into a piece while they fit, and says what comes next.
fn token_rows(store: &Store, next: &Next, piece: &mut Piece) -> Next {
    let tokens = &store.tokens;
    match next {
        Next::Tokened => {
            let totals = TokenRow::Totals { changed: tokens.changed(), floor: tokens.tombstones().floor() };
            match piece.fill([((), Row::Tokens(totals))].into_iter()) {
                Filled::All => Next::Tokens(None),
                Filled::UpTo(_) => Next::Tokened,
            }
        }
        Next::Tokens(after) => {
            let rows = tokens.after(after.as_ref());
            match piece.fill(rows.map(|(id, token)| (id, Row::Tokens(TokenRow::Token(Cow::Borrowed(&**token)))))) {
                Filled::All => Next::DestroyedTokens(None),
                Filled::UpTo(last) => Next::Tokens(last.or(after.as_ref()).cloned()),
            }
        }
        Next::DestroyedTokens(after) => {
            let rows = tokens.tombstones().after(after.as_ref()).map(|(id, index)| {
                let row = TokenRow::Tombstone { index: *index, id: String::from_utf8_lossy(id) };
                (id, Row::Tokens(row))
            });
            match piece.fill(rows) {
                Filled::All => Next::End,
                Filled::UpTo(last) => Next::DestroyedTokens(last.or(after.as_ref()).cloned()),
            }
        }
        other => unreachable!("{other:?} is none of the tokens"),
    }
}

/// A piece that is being filled.
struct Piece {
    bytes: Vec<u8>,
    /// How long the payload may be, unless it is of one row.
    limit: usize,
    rows: u64,
    /// Whether a row did not fit any more.
    full: bool,
}

impl Piece {
    fn new(limit: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + limit.max(128));
        bytes.resize(HEADER_BYTES, 0);
        Self { bytes, limit, rows: 0, full: false }
    }

    fn push(&mut self, row: &Row<'_>) {
        row.encode(&mut self.bytes);
        self.rows += 1;
    }

    /// Takes in rows of a table, each with its key, while they fit.
    fn fill<'a, K>(&mut self, rows: impl Iterator<Item = (K, Row<'a>)>) -> Filled<K> {
        let mut last = None;
        for (key, row) in rows {
            if self.rows > 0 && self.bytes.len() - HEADER_BYTES + row.len() > self.limit {
                self.full = true;
                return Filled::UpTo(last);
            }
            self.push(&row);
            last = Some(key);
        }
        Filled::All
    }
}

/// How much of a table went into a piece.
enum Filled<K> {
    /// All that was left of it.
    All,
    /// The rows up to the one with this key; none if there is no key.
    UpTo(Option<K>),
}
