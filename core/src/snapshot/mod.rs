//! Snapshots: a store at one place of the log, together with what consensus must know to go on from there.
//!
//! A snapshot is an [`image`](mod@image) of the store with raft's [`SnapshotMeta`] in it. The very same bytes
//! are the file on a server's disk, what is sent to a server that lags behind, and the archive of
//! `GET /v1/snapshot`.
//!
//! # Format
//!
//! | | |
//! |---|---|
//! | piece 0 | the meta, encoded by [`wire`]; all that the store has once |
//! | pieces 1 … n-1 | the rows of the store, in about as many bytes each as the writer was told |
//! | piece n | how many pieces and rows there were, and a checksum over the pieces' checksums |
//!
//! Each piece begins with a header of its own, with the version, the piece's number, its length and its checksum; the page
//! of [`image`](mod@image) has the bytes. So a snapshot that was cut, damaged or put together from two
//! is always recognised, and nothing of it is ever used.
//!
//! # Files
//!
//! | name below the data directory | |
//! |---|---|
//! | `raft/snapshot-<index>-<term>` | a snapshot, whole and durable; both numbers with 20 digits, so that names sort by age |
//! | `raft/snapshot.new` | one that is being written; worth nothing after a crash |
//! | `raft/snapshot.received` | one that is coming from the leader; worth nothing after a crash |

use bytes::Bytes;

use crate::api::snapshot::Image;
use crate::file::FileName;
use crate::id::{Index, Term};
use crate::raft::{Position, SnapshotMeta};
use crate::store::{Store, image};
use crate::wire;

/// The file of a snapshot that is being written.
pub const DRAFT: &str = "raft/snapshot.new";

/// The file of a snapshot that is coming from the leader.
pub const RECEIVED: &str = "raft/snapshot.received";

const PREFIX: &str = "raft/snapshot-";
const DIGITS: usize = 20;

/// The file of the snapshot that ends at this place of the log.
#[must_use]
pub fn file_name(position: Position) -> FileName {
    format!("{PREFIX}{:0DIGITS$}-{:0DIGITS$}", position.index.0, position.term.0)
}

/// The place of the log at which the snapshot with this file name ends; `None` if it is the name of no snapshot.
#[must_use]
pub fn position_of(name: &str) -> Option<Position> {
    let (index, term) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let number = |digits: &str| {
        (digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
    };
    Some(Position { index: Index(number(index)?), term: Term(number(term)?) })
}

/// Why bytes are no snapshot. The text is for operators; what was to be read is for the caller to say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// They are no image of a store.
    #[error(transparent)]
    Image(#[from] image::Damaged),
    /// They are an image of a store, but not of one of a server.
    #[error("the snapshot does not say which part of the log it stands for; use another copy")]
    Meta,
    /// The store has not applied the part of the log that the snapshot stands for.
    #[error("the snapshot claims to stand for the log up to {claimed}, and has it up to {found}; use another copy")]
    Position {
        /// The index that it claims.
        claimed: Index,
        /// The index that its store has.
        found: Index,
    },
}

/// Writes a snapshot, piece by piece. Cloning is O(1): a clone goes on where the original is.
#[derive(Clone, Debug)]
pub struct Encoder(image::Encoder);

impl Encoder {
    /// A snapshot of `store` in pieces of about `piece_bytes`; a single larger row travels alone.
    ///
    /// # Panics
    /// If the store has not applied the log exactly up to `meta`'s position.
    #[must_use]
    pub fn new(meta: &SnapshotMeta, store: Store, piece_bytes: usize) -> Self {
        assert_eq!(meta.position.index, store.index(), "a snapshot is of one place of the log");
        Self(image::Encoder::new(wire::encode(meta).into(), store, piece_bytes))
    }

    /// The next piece; `None` after the last one.
    pub fn next_piece(&mut self) -> Option<Bytes> {
        self.0.next_piece()
    }

    /// How many pieces were written: the number of the next one, counted from 0.
    #[must_use]
    pub fn pieces(&self) -> u32 {
        self.0.pieces()
    }

    /// The store, which is not to be written any further.
    #[must_use]
    pub fn into_store(self) -> Store {
        self.0.into_store()
    }

    /// Whether the last piece was written.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Iterator for Encoder {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.next_piece()
    }
}

/// A snapshot that was read, whole and sound.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What raft must know of it.
    pub meta: SnapshotMeta,
    /// The state.
    pub store: Store,
    /// How long it was.
    pub bytes: u64,
}

/// Reads a snapshot, and builds its store as it comes. Holds no more of the bytes than one piece.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    image: image::Decoder,
    bytes: u64,
}

impl Decoder {
    /// One that has read nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads on. The bytes may be cut in any way.
    ///
    /// # Errors
    /// If they cannot go on like this; then neither does anything later.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Damaged> {
        self.bytes += bytes.len() as u64;
        Ok(self.image.feed(bytes)?)
    }

    /// Whether the last piece was read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.image.is_complete()
    }

    /// How many pieces were read: the number of the next one, counted from 0.
    #[must_use]
    pub fn pieces(&self) -> u32 {
        self.image.pieces()
    }

    /// How many bytes were fed.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The snapshot.
    ///
    /// # Errors
    /// If bytes are missing or were refused, or the meta does not go with the store.
    pub fn finish(self) -> Result<Snapshot, Damaged> {
        let (meta, store) = self.image.finish()?;
        let meta: SnapshotMeta = wire::decode(&meta).map_err(|_| Damaged::Meta)?;
        if meta.position.index != store.index() {
            return Err(Damaged::Position { claimed: meta.position.index, found: store.index() });
        }
        Ok(Snapshot { meta, store, bytes: self.bytes })
    }
}

/// A snapshot for an operator to keep. It costs nothing until its pieces are asked for.
///
/// # Panics
/// If the store has not applied the log exactly up to `meta`'s position.
#[must_use]
pub fn image(meta: &SnapshotMeta, store: Store, piece_bytes: usize) -> Image {
    let Position { index, term } = meta.position;
    let encoder = Encoder::new(meta, store, piece_bytes);
    Image::new(index, term, move || Box::new(encoder.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Configuration;

    fn meta(index: u64) -> SnapshotMeta {
        let position = Position { index: Index(index), term: Term(3) };
        SnapshotMeta { position, configuration: Configuration::default(), configuration_index: Index(1) }
    }

    #[test]
    fn names_and_positions_belong_together_and_sort_by_age() {
        let name = file_name(Position { index: Index(7), term: Term(3) });
        assert_eq!(name, "raft/snapshot-00000000000000000007-00000000000000000003");
        for (index, term) in [(0, 0), (10, 2), (u64::MAX, u64::MAX)] {
            let position = Position { index: Index(index), term: Term(term) };
            assert_eq!(position_of(&file_name(position)), Some(position));
        }
        assert!(file_name(Position { index: Index(10), term: Term(1) }) > name);
        for name in [
            DRAFT,
            RECEIVED,
            "raft/snapshot-7-3",
            "snapshot-00000000000000000007-00000000000000000003",
            "raft/snapshot-00000000000000000007-0000000000000000000x",
            "raft/snapshot-00000000000000000007-00000000000000000003-",
            "raft/snapshot-99999999999999999999-00000000000000000003",
        ] {
            assert_eq!(position_of(name), None, "{name}");
        }
    }

    #[test]
    fn a_snapshot_comes_back_with_its_meta() {
        let mut store = Store::default();
        store.note_applied(Index(9));
        let mut decoder = Decoder::new();
        for piece in image(&meta(9), store.clone(), 1000).pieces() {
            decoder.feed(&piece).unwrap();
        }
        let (pieces, bytes) = (decoder.pieces(), decoder.bytes());
        let snapshot = decoder.finish().unwrap();
        assert_eq!((pieces, bytes), (2, snapshot.bytes));
        assert_eq!(snapshot.meta, meta(9));
        assert!(snapshot.store == store);
    }

    #[test]
    fn the_meta_must_go_with_the_store() {
        let decoded = |bytes: Vec<u8>| {
            let mut decoder = Decoder::new();
            image::Encoder::new(bytes.into(), Store::default(), 100)
                .try_for_each(|piece| decoder.feed(&piece))
                .unwrap();
            decoder.finish().unwrap_err()
        };
        assert_eq!(decoded(wire::encode(&meta(5))), Damaged::Position { claimed: Index(5), found: Index(0) });
        assert_eq!(decoded(vec![1, 2, 3]), Damaged::Meta);
    }

    #[test]
    #[should_panic(expected = "one place of the log")]
    fn a_snapshot_of_another_place_is_refused_at_once() {
        drop(Encoder::new(&meta(5), Store::default(), 100));
    }
}
