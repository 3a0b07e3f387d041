//! The pieces of an image → the store.

use std::fmt;

use bytes::Bytes;

use super::Damaged;
use super::catalog_row::CatalogRow;
use super::catalog_row::kind::CATALOG;
use super::fields::BadRow;
use super::frame::{HEADER_BYTES, Header};
use super::query_row::QueryRow;
use super::query_row::kind::{CHANGED as QUERIES, QUERY};
use super::row::{End, Row, State, kind};
use super::session_row::SessionRow;
use super::token_row::TokenRow;
use super::token_row::kind::{TOMBSTONE as DESTROYED, TOTALS as TOKENS};
use crate::api::kv::Key;
use crate::api::operator::Autopilot;
use crate::api::session::Session;
use crate::id::Index;
use crate::store::acl::Tokens;
use crate::store::catalog::{Catalog, Name};
use crate::store::prepared::Queries;
use crate::store::restore::Staging;
use crate::store::{Store, kv};

/// Reads an image, and builds the store as it comes. Holds no more of the bytes than one piece. A clone costs as much as
/// the bytes of a piece that is there in part.
#[derive(Clone)]
pub struct Decoder {
    /// A piece that is not all there yet.
    buffer: Vec<u8>,
    /// What was wrong, once something was.
    failed: Option<Damaged>,
    meta: Bytes,
    store: Store,
    /// Whether a restoration that was under way is of interest.
    keep_staging: bool,
    /// The kind of the last row.
    kind: u8,
    /// The key of the last row, if it has the kind of an entry or a tombstone.
    key: Option<Key>,
    complete: bool,
    pieces: u32,
    rows: u64,
    checksums: u32,
}

/// Why a row is refused.
enum Refused {
    Unknown(u8),
    Because(&'static str),
}

impl From<&'static str> for Refused {
    fn from(reason: &'static str) -> Self {
        Self::Because(reason)
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// One that has read nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            buffer: Vec::new(),
            failed: None,
            meta: Bytes::new(),
            store: Store::default(),
            keep_staging: true,
            kind: kind::META,
            key: None,
            complete: false,
            pieces: 0,
            rows: 0,
            checksums: 0,
        }
    }

    /// One for a restoration, which does not look at a restoration that was under way when the image was made: that one
    /// was of another log.
    pub(in crate::store) fn without_staging() -> Self {
        Self { keep_staging: false, ..Self::new() }
    }

    /// Reads on. The bytes may be cut in any way.
    ///
    /// # Errors
    /// If they cannot go on like this; then neither does anything later.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Damaged> {
        if self.failed.is_none() {
            self.failed = self.read(bytes).err();
        }
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Whether the last piece was read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete && self.failed.is_none()
    }

    /// How many pieces were read.
    #[must_use]
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// What the writer of the image added to it, and the store.
    ///
    /// # Errors
    /// If bytes are missing or were refused.
    pub fn finish(self) -> Result<(Bytes, Store), Damaged> {
        match self.failed {
            Some(damaged) => Err(damaged),
            None if !self.complete => Err(Damaged::CutShort { piece: self.pieces }),
            None => Ok((self.meta, self.store)),
        }
    }

    fn read(&mut self, mut bytes: &[u8]) -> Result<(), Damaged> {
        while !bytes.is_empty() {
            if self.complete {
                return Err(Damaged::Trailing);
            }
            if self.buffer.is_empty()
                && let Some(header) = Header::read(bytes, self.pieces)?
                && let Some((piece, rest)) = bytes.split_at_checked(header.piece_bytes())
            {
                self.piece(header, piece)?;
                bytes = rest;
                continue;
            }
            let wanted = Header::read(&self.buffer, self.pieces)?.map_or(HEADER_BYTES, Header::piece_bytes);
            let (some, rest) = bytes.split_at(bytes.len().min(wanted - self.buffer.len()));
            self.buffer.extend_from_slice(some);
            bytes = rest;
            if let Some(header) = Header::read(&self.buffer, self.pieces)?
                && self.buffer.len() == header.piece_bytes()
            {
                let mut piece = std::mem::take(&mut self.buffer);
                self.piece(header, &piece)?;
                piece.clear();
                self.buffer = piece;
            }
        }
        Ok(())
    }

    fn piece(&mut self, header: Header, piece: &[u8]) -> Result<(), Damaged> {
        let number = self.pieces;
        let (payload, checksum) = header.open(piece, number)?;
        self.rows(payload).map_err(|refused| match refused {
            Refused::Unknown(kind) => Damaged::UnknownRow { piece: number, kind },
            Refused::Because(reason) => Damaged::Row { piece: number, reason },
        })?;
        self.checksums = crc32c::crc32c_append(self.checksums, &checksum.to_le_bytes());
        self.pieces = number.checked_add(1).ok_or(Damaged::TooMany)?;
        Ok(())
    }

    fn rows(&mut self, payload: &[u8]) -> Result<(), Refused> {
        if payload.is_empty() {
            return Err("it is empty".into());
        }
        let mut rest = payload;
        let before = self.rows;
        while !rest.is_empty() {
            let row = Row::decode(&mut rest).map_err(|bad| match bad {
                BadRow::Unknown(kind) => Refused::Unknown(kind),
                BadRow::Malformed => "a row is malformed".into(),
            })?;
            if let Row::End(end) = row {
                return Ok(self.end(end, self.rows == before && rest.is_empty())?);
            }
            self.order(row.kind())?;
            self.row(row)?;
            self.rows += 1;
        }
        Ok(())
    }

    /// Checks that a row of this kind may come now.
    fn order(&mut self, next: u8) -> Result<(), &'static str> {
        let in_order = match next {
            kind::META => self.rows == 0,
            kind::STATE | kind::AUTOPILOT | kind::KV | kind::RESTORING => self.rows > 0 && next == self.kind + 1,
            CATALOG => (kind::KV..CATALOG).contains(&self.kind),
            // With or without a catalog before.
            QUERIES => (kind::KV..QUERIES).contains(&self.kind),
            QUERY => (QUERIES..=QUERY).contains(&self.kind),
            TOKENS => (kind::KV..TOKENS).contains(&self.kind),
            _ if next > TOKENS && next <= DESTROYED => (TOKENS..=next).contains(&self.kind),
            _ if next > CATALOG => (CATALOG..=next).contains(&self.kind),
            _ => self.kind >= kind::KV && next >= self.kind,
        };
        if !in_order {
            return Err("rows do not come in their order");
        }
        if next != self.kind {
            self.key = None;
        }
        self.kind = next;
        Ok(())
    }

    fn row(&mut self, row: Row<'_>) -> Result<(), &'static str> {
        match row {
            Row::Meta(meta) => self.meta = Bytes::copy_from_slice(meta),
            Row::State(state) => self.state(state)?,
            Row::Autopilot(settings) => self.autopilot(settings)?,
            Row::Kv { changed, floor } => {
                if floor > changed || changed > self.store.visible_index() {
                    return Err("keys were changed at an index that cannot be");
                }
                self.store.kv = kv::Table::bare(changed, floor);
            }
            Row::Restoring { id, touched } => {
                if touched == Index(0) || touched > self.store.applied {
                    return Err("a restoration began at an index that cannot be");
                }
                self.store.staging = self.keep_staging.then(|| Staging::new(id, touched));
            }
            Row::Session(session) => self.session(session.into_owned())?,
            Row::Entry(entry) => {
                self.ascend(entry.key)?;
                let entry = entry.to_entry();
                self.key = Some(entry.key.clone());
                self.store.kv.load(entry, &self.store.sessions)?;
            }
            Row::Tombstone { index, key } => {
                self.ascend(key)?;
                let key = Key::copy_from_slice(key);
                self.key = Some(key.clone());
                self.store.kv.load_tombstone(key, index)?;
            }
            Row::Staged { number, bytes } if self.keep_staging => {
                let staging = self.store.staging.as_mut().ok_or("a piece is staged without a restoration")?;
                if number != staging.pieces() {
                    return Err("staged pieces do not come in their order");
                }
                staging.push(Bytes::copy_from_slice(bytes)).map_err(|_| "a staged piece is damaged")?;
            }
            Row::Staged { .. } => {}
            Row::Catalog(row) => self.catalog(row)?,
            Row::Sessions(row) => self.sessions(row)?,
            Row::Queries(QueryRow::Changed(changed)) => {
                if changed == Index(0) || changed > self.store.visible_index() {
                    return Err("prepared queries were changed at an index that cannot be");
                }
                self.store.queries = Queries::bare(changed);
            }
            Row::Queries(QueryRow::Query(query)) => {
                self.store.queries.load(query.into_owned(), &self.store.sessions)?;
            }
            Row::Tokens(row) => self.tokens(row)?,
            Row::End(_) => unreachable!("the end is no row among others"),
        }
        Ok(())
    }

    fn state(&mut self, state: State) -> Result<(), &'static str> {
        let State { applied, shift, restored_at, restored } = state;
        let visible = applied.0.checked_add(shift).ok_or("its indexes are too large")?;
        if restored_at.0 > visible || restored.is_some() != (restored_at > Index(0)) {
            return Err("it was restored at an index that cannot be");
        }
        self.store = Store { applied, shift, restored_at, restored, ..Store::default() };
        Ok(())
    }

    fn autopilot(&mut self, settings: Autopilot) -> Result<(), &'static str> {
        let (created, modified) = (settings.create_index, settings.modify_index);
        if created > modified || modified > self.store.visible_index() {
            return Err("settings were made at an index that cannot be");
        }
        self.store.autopilot = settings;
        Ok(())
    }

    fn session(&mut self, session: Session) -> Result<(), &'static str> {
        if session.create_index > self.store.visible_index() {
            return Err("a session was created at an index that cannot be");
        }
        self.store.sessions.load(session)
    }

    fn sessions(&mut self, row: SessionRow<'_>) -> Result<(), &'static str> {
        let visible = self.store.visible_index();
        match row {
            SessionRow::Changed(changed) | SessionRow::Mark { index: changed, .. } if changed > visible => {
                Err("sessions were changed at an index that cannot be")
            }
            SessionRow::Changed(changed) => self.store.sessions.load_changed(changed),
            SessionRow::Mark { index, node } => self.store.sessions.load_mark(&Name::of(node), index),
            SessionRow::Delay { delay, key } => {
                self.ascend(key)?;
                if delay.since == Index(0) || delay.since > visible || delay.length.is_zero() {
                    return Err("a key was delayed at an index that cannot be");
                }
                let key = Key::copy_from_slice(key);
                self.key = Some(key.clone());
                self.store.kv.locks_mut().delay(key, delay);
                Ok(())
            }
        }
    }

    fn catalog(&mut self, row: CatalogRow<'_>) -> Result<(), &'static str> {
        let visible = self.store.visible_index();
        let catalog = &mut self.store.catalog;
        match row {
            CatalogRow::Totals { changed, floor } => {
                if changed == Index(0) || floor > changed || changed > visible {
                    return Err("the catalog was changed at an index that cannot be");
                }
                *catalog = Catalog::bare(changed, floor);
                Ok(())
            }
            CatalogRow::Node(node) => catalog.load_node(node.into_owned()),
            CatalogRow::Service(service) => catalog.load_service(service.into_owned()),
            CatalogRow::Check(check) => catalog.load_check(check.into_owned()),
            CatalogRow::Place(place) => catalog.load_place(place.to_place()),
            CatalogRow::Mark { index, .. } if index > visible => {
                Err("a subject was changed at an index that cannot be")
            }
            CatalogRow::Mark { index, subject } => catalog.load_mark(subject.into_owned(), index),
        }
    }

    fn tokens(&mut self, row: TokenRow<'_>) -> Result<(), &'static str> {
        match row {
            TokenRow::Totals { changed, floor } => {
                if changed == Index(0) || floor > changed || changed > self.store.visible_index() {
                    return Err("tokens were changed at an index that cannot be");
                }
                self.store.tokens = Tokens::bare(changed, floor);
                Ok(())
            }
            TokenRow::Token(token) => self.store.tokens.load(token.into_owned()),
            TokenRow::Tombstone { index, id } => {
                self.ascend(id.as_bytes())?;
                self.key = Some(Key::copy_from_slice(id.as_bytes()));
                self.store.tokens.load_tombstone(&id, index)
            }
        }
    }

    fn ascend(&self, key: &[u8]) -> Result<(), &'static str> {
        if self.key.as_ref().is_some_and(|last| **last >= *key) {
            return Err("keys do not come in their order");
        }
        Ok(())
    }

    fn end(&mut self, end: End, alone: bool) -> Result<(), &'static str> {
        if !alone || self.kind < kind::KV {
            return Err("it ends too early");
        }
        if end != (End { pieces: self.pieces, rows: self.rows, checksums: self.checksums }) {
            return Err("the totals at its end are of another snapshot");
        }
        if self.store.staging.as_ref().is_some_and(|staging| staging.pieces() == 0) {
            return Err("a restoration began without a piece");
        }
        self.complete = true;
        Ok(())
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("store", &self.store)
            .field("pieces", &self.pieces)
            .field("complete", &self.complete)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
