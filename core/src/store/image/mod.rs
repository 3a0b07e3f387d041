//! The form of a whole store, as bytes: in snapshots on disk, on the way to other servers, and in archives that
//! operators keep.
//!
//! An image is a sequence of *rows*, cut into *pieces* that each carry their own checksum. Who writes one
//! ([`Encoder`]) holds a clone of the store, which costs nothing, and a cursor; who reads one ([`Decoder`]) puts each
//! row where it belongs as it comes. Neither ever holds the data a second time.
//!
//! The same store, meta and size of pieces give the same bytes on every server.
//!
//! # Pieces
//!
//! All numbers are little endian, all checksums CRC-32C. A piece is a header and a payload:
//!
//! | header | |
//! |---|---|
//! | 0–7 | the letters `LICTORIM` |
//! | 8–11 | version of the format |
//! | 12–15 | the piece's number, from 0 |
//! | 16–19 | length of the payload |
//! | 20–23 | checksum of bytes 0–19 and of the payload |
//!
//! The first piece holds one row of each kind up to `Restoring`, the last one holds `End` alone. Between them come
//! all other rows, in pieces of about the size that the writer was given; a row that is larger alone fills a piece.
//!
//! # Rows
//!
//! A row is the number of its kind, in one byte, and its fields. Rows come in the order of their kinds, and of their keys
//! within a kind; each of the first kinds comes exactly once, but `Restoring` only if there is a restoration; and `Catalog`
//! once, but with all that follow it only if the catalog was ever changed; `Sessions` once behind it, if there ever was one; and `Queries`
//! once, with or without those, if there ever was one; and likewise `Tokens`.
//!
//! | kind | | fields |
//! |---|---|---|
//! | 0 | `Meta` | what the writer of the image adds to it |
//! | 1 | `State` | applied index, shift, index and ID of the last restoration |
//! | 2 | `Autopilot` | settings, create and modify index |
//! | 3 | `Kv` | index of the last change of any key, floor of the tombstones |
//! | 4 | `Restoring` | ID of the restoration that is under way, log index of its last step |
//! | 5 | `Session` | ID, create index, name, node, checks, lock delay, behaviour, TTL as given and in nanoseconds |
//! | 6 | `Entry` | create, modify and lock index, flags, session, key, value |
//! | 7 | `Tombstone` | index of the deletion, key |
//! | 8 | `Staged` | number of a staged piece, its bytes |
//! | 9 | `Catalog` | index of the last change of the catalog, floor of its marks |
//! | 10 | `Node` | create and modify index, name, ID, address, tagged addresses, metadata |
//! | 11 | `Service` | create and modify index, node, ID, name, address, port, override, tags, metadata |
//! | 12 | `Check` | create and modify index, node, ID, name, status, notes, output, service's ID and name |
//! | 13 | `Place` | node, the numbers of its coordinate |
//! | 14 | `Mark` | index of the last change of a subject of the catalog, the subject's kind and name |
//! | 15 | `Sessions` | index at which any session last came or went |
//! | 16 | `SessionsOf` | index at which a session of a node last came or went, the node's name in small letters |
//! | 17 | `Delay` | index since when a key cannot be locked, for how long, key |
//! | 18 | `Queries` | index at which any prepared query last changed |
//! | 19 | `Query` | ID, create and modify index, name, session, token, template's type and expression, service, failover, passing, near, tags, TTL |
//! | 20 | `Tokens` | index at which any token last changed, floor of their tombstones |
//! | 21 | `Token` | create and modify index, whether it is a management token, ID, name, rules |
//! | 22 | `Destroyed` | index at which a token was destroyed, its ID |
//! | 255 | `End` | how many pieces and rows came before, checksum of the checksums of those pieces |
//!
//! New kinds get the next numbers, and whoever does not know one refuses the image. A new version of the format is needed
//! only if what is there changes its meaning.
//!
//! # What is checked
//!
//! The checksums find damage; numbers, order and totals find what was cut, lost, doubled or swapped. And rows must fit
//! together as a store's do: what cannot be the state of a store is refused, however well it is summed.

mod catalog_row;
mod decoder;
mod encoder;
mod fields;
mod frame;
mod query_row;
mod row;
mod session_row;
mod token_row;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub use frame::{HEADER_BYTES, MAX_PAYLOAD_BYTES};

/// Why bytes are no image of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// They do not begin as an image does.
    #[error("this is no snapshot of Lictor: it does not begin as one")]
    NotAnImage,
    /// The format has a version that this program does not know.
    #[error(
        "the snapshot is of format version {0}, and this program reads version {version} only: use the version of \
         Lictor that wrote it, or a later one", version = frame::VERSION
    )]
    Version(u32),
    /// A row of a kind that this program does not know.
    #[error(
        "piece {piece} of the snapshot has a row of kind {kind}, which this program does not know: use the version of \
         Lictor that wrote it, or a later one"
    )]
    UnknownRow {
        /// In which piece, counted from 0.
        piece: u32,
        /// The number of the kind.
        kind: u8,
    },
    /// They end before the last piece does.
    #[error("the snapshot is cut short: piece {piece} is not all there; use another copy")]
    CutShort {
        /// In which piece, counted from 0.
        piece: u32,
    },
    /// They go on behind the last piece.
    #[error("there is something behind the end of the snapshot: it is damaged; use another copy")]
    Trailing,
    /// No header is where one should be.
    #[error("piece {piece} of the snapshot does not begin as a piece does: it is damaged; use another copy")]
    Header {
        /// Which piece, counted from 0.
        piece: u32,
    },
    /// A checksum does not match.
    #[error("the checksum of piece {piece} of the snapshot does not match: it is damaged; use another copy")]
    Checksum {
        /// Which piece, counted from 0.
        piece: u32,
    },
    /// A piece is not the next one.
    #[error("piece {found} of the snapshot stands where piece {expected} should be; use another copy")]
    Order {
        /// The number that should have come, counted from 0.
        expected: u32,
        /// The number that came.
        found: u32,
    },
    /// A piece is longer than any may be.
    #[error(
        "piece {piece} of the snapshot claims to be of {bytes} bytes, more than any is: it is damaged; use another copy"
    )]
    TooLong {
        /// Which piece, counted from 0.
        piece: u32,
        /// The length that its header tells, in bytes.
        bytes: u32,
    },
    /// There are more pieces than can be counted.
    #[error("the snapshot has more pieces than any has; use another copy")]
    TooMany,
    /// A row is malformed, or does not go with the rows before it.
    #[error("piece {piece} of the snapshot is well summed and yet makes no sense: {reason}; use another copy")]
    Row {
        /// In which piece, counted from 0.
        piece: u32,
        /// What is wrong with it.
        reason: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::api::catalog::{Node, Registration};
    use crate::api::session::Session;
    use crate::api::snapshot::Step;
    use crate::api::{Error, Response};
    use crate::id::{Index, SessionId};
    use crate::store::{Command, Store, kv};
    use crate::time::Duration;

    const A: SessionId = SessionId(Uuid::from_u128(0xa));
    const B: SessionId = SessionId(Uuid::from_u128(0xb));
    const GONE: SessionId = SessionId(Uuid::from_u128(0xdead));

    fn apply(store: &mut Store, command: impl Into<Command>) -> Result<Response, Error> {
        store.apply(store.index().next(), command.into()).response
    }

    fn lock(store: &mut Store, key: &'static str, session: SessionId) -> Result<Response, Error> {
        let mode = kv::Mode::Lock { session, judged_at: store.visible_index() };
        apply(store, kv::Command::Put { key: key.into(), value: Bytes::new(), flags: 0, mode })
    }

    fn begin(store: &mut Store, id: SessionId) {
        let session = Session { id, lock_delay: Duration::from_secs(15), ..Session::plain() };
        assert_eq!(apply(store, Command::CreateSession(Box::new(session))), Ok(Response::SessionCreated(id)));
    }

    /// A store with a node, on which these sessions live.
    fn inhabited(sessions: &[SessionId]) -> Store {
        let mut store = Store::default();
        store.note_applied(Index(1));
        let node = Node { name: "n".to_owned(), address: "x".to_owned(), ..Node::default() };
        let registration = Registration { node, ..Registration::default() };
        apply(&mut store, Command::Register(Box::new(registration))).unwrap();
        sessions.iter().for_each(|id| begin(&mut store, *id));
        store
    }

    /// One with a key that `A` holds, one that `B` holds, and one that another has held.
    fn locked() -> Store {
        let mut store = inhabited(&[B, A, GONE]);
        for (key, session) in [("one", A), ("other", B), ("delayed", GONE)] {
            assert_eq!(lock(&mut store, key, session), Ok(Response::Done(true)));
        }
        apply(&mut store, Command::DestroySession { id: GONE, expired: true }).unwrap();
        store
    }

    #[test]
    fn sessions_their_locks_and_delays_come_back() {
        for piece_bytes in [0, 60, 1000] {
            let mut decoder = Decoder::new();
            Encoder::new(Bytes::new(), locked(), piece_bytes).try_for_each(|piece| decoder.feed(&piece)).unwrap();
            let (_, store) = decoder.finish().unwrap();
            assert!(store == locked());
            assert!(store.session_exists(A) && store.session_exists(B) && !store.session_exists(GONE));
            assert!(store.lock_delay(b"delayed").is_some_and(|delay| delay.length == Duration::from_secs(15)));
        }
    }

    #[test]
    fn a_restoration_replaces_the_sessions_too() {
        let own = SessionId(Uuid::from_u128(0xc));
        let mut store = inhabited(&[own]);
        assert_eq!(lock(&mut store, "one", own), Ok(Response::Done(true)));
        let pieces: Vec<Bytes> = Encoder::new(Bytes::new(), locked(), 60).collect();
        let id = Uuid::from_u128(1);
        let count = u32::try_from(pieces.len()).unwrap();
        let before = store.visible_index();
        let steps = (0..).zip(pieces).map(|(number, bytes)| Step::Piece { number, bytes });
        for step in steps.chain([Step::Finish { pieces: count }]) {
            assert_eq!(apply(&mut store, Command::Restore { id, step }), Ok(Response::Done(true)));
        }
        assert_eq!(lock(&mut store, "new", own), Err(Error::InvalidSession(own.to_string())));
        assert_eq!(lock(&mut store, "one", B), Ok(Response::Done(false)));
        let unlock = kv::Mode::Unlock(A);
        let put = kv::Command::Put { key: "one".into(), value: Bytes::new(), flags: 0, mode: unlock };
        assert_eq!(apply(&mut store, put), Ok(Response::Done(true)));
        assert_eq!(lock(&mut store, "one", B), Ok(Response::Done(true)));
        let judged_before = kv::Mode::Lock { session: B, judged_at: before };
        let put = kv::Command::Put { key: "delayed".into(), value: Bytes::new(), flags: 0, mode: judged_before };
        assert_eq!(apply(&mut store, put), Ok(Response::Done(false)), "who judged knew nothing of the image's delays");
    }

    #[test]
    fn sessions_out_of_order_or_twice_are_refused() {
        let mut pieces: Vec<Bytes> = Encoder::new(Bytes::new(), locked(), 0).collect();
        pieces[2] = {
            let mut doubled = pieces[1].to_vec();
            frame::Header::seal(2, &mut doubled);
            doubled.into()
        };
        let mut decoder = Decoder::new();
        let fed = pieces.iter().try_for_each(|piece| decoder.feed(piece));
        assert_eq!(fed, Err(Damaged::Row { piece: 2, reason: "sessions do not come in their order" }));
    }
}
