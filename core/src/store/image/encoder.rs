//! A store → the pieces of its image.

use std::fmt;

use bytes::Bytes;

use super::frame::{HEADER_BYTES, Header, MAX_PAYLOAD_BYTES};
use super::row::{End, EntryRow, Row, State};
use crate::api::kv::Key;
use crate::id::SessionId;
use crate::store::Store;

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
                    let rows = store.sessions.after(*after).map(|id| (id, Row::Session(*id)));
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
                        Filled::All => Next::End,
                        Filled::UpTo(last) => Next::Staged(last.copied().or(*after)),
                    }
                }
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
