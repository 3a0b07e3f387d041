//! The return of an image, in steps that are commands of the log: see
//! [`Request::Restore`](crate::api::snapshot::Request::Restore).
//!
//! Pieces are kept as they came until all are there, as part of the replicated state: a server that gets a snapshot of
//! it midway answers the next step as all others do. Beside them each server has what it read out of them so far, so
//! that a bad piece is refused when it comes, and the last step costs little.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use uuid::Uuid;

use super::image::{Damaged, Decoder};
use super::table::after;
use super::{Applied, Store, Touch};
use crate::api::snapshot::Step;
use crate::api::{Error, Response};
use crate::id::Index;

/// Beyond this no image's index may be. An index that is restored raises all later ones, and there is none to spare
/// beyond 64 bits.
const MAX_INDEX: Index = Index(1 << 62);

/// A restoration that is under way. Invariant: `decoder` has read `pieces`, in their order and without an error.
#[derive(Clone)]
pub(super) struct Staging {
    id: Uuid,
    pieces: OrdMap<u32, Bytes>,
    /// The log's entry with the last step.
    touched: Index,
    decoder: Arc<Decoder>,
}

impl Staging {
    /// One without pieces.
    pub(super) fn new(id: Uuid, touched: Index) -> Self {
        Self { id, pieces: OrdMap::new(), touched, decoder: Arc::new(Decoder::without_staging()) }
    }

    /// Takes in the next piece.
    ///
    /// # Errors
    /// If the image cannot go on like this.
    pub(super) fn push(&mut self, bytes: Bytes) -> Result<(), Damaged> {
        Arc::make_mut(&mut self.decoder).feed(&bytes)?;
        self.pieces.insert(self.pieces(), bytes);
        Ok(())
    }

    /// Which restoration.
    pub(super) fn id(&self) -> Uuid {
        self.id
    }

    /// The log's entry with the last step.
    pub(super) fn touched(&self) -> Index {
        self.touched
    }

    /// How many pieces there are.
    pub(super) fn pieces(&self) -> u32 {
        u32::try_from(self.pieces.len()).unwrap_or(u32::MAX)
    }

    /// The pieces that follow this one; all of them without one.
    pub(super) fn after(&self, number: Option<u32>) -> impl Iterator<Item = (&u32, &Bytes)> {
        after(&self.pieces, number.as_ref())
    }

    fn is_last(&self, number: u32, bytes: &Bytes) -> bool {
        number.checked_add(1) == Some(self.pieces()) && self.pieces.get(&number) == Some(bytes)
    }
}

/// What was read out of the pieces follows from them.
impl PartialEq for Staging {
    fn eq(&self, other: &Self) -> bool {
        (self.id, self.touched, &self.pieces) == (other.id, other.touched, &other.pieces)
    }
}

impl Eq for Staging {}

impl fmt::Debug for Staging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Staging({} pieces={} touched={})", self.id, self.pieces(), self.touched)
    }
}

impl Store {
    /// The restoration that is under way: its ID, how many of its pieces are there, and the log's entry (not an index
    /// that clients see) with its last step. One that does not move for long was abandoned, and can be aborted.
    #[must_use]
    pub fn restoring(&self) -> Option<(Uuid, u32, Index)> {
        self.staging.as_ref().map(|staging| (staging.id, staging.pieces(), staging.touched))
    }

    pub(super) fn apply_restore(&mut self, id: Uuid, step: Step) -> Applied {
        let mut touched = Vec::new();
        let done = match step {
            Step::Piece { number, bytes } => self.stage(id, number, bytes),
            Step::Finish { pieces } => self.finish_restore(id, pieces, &mut touched),
            Step::Abort => {
                self.staging.take_if(|staging| staging.id == id);
                Ok(())
            }
        };
        Applied { response: done.map(|()| Response::Done(true)), touched }
    }

    fn stage(&mut self, id: Uuid, number: u32, bytes: Bytes) -> Result<(), Error> {
        let index = self.applied;
        if let Some(staging) = self.staging.as_mut().filter(|staging| staging.id == id) {
            if staging.is_last(number, &bytes) {
                // Asked twice, as the first answer was lost.
                staging.touched = index;
                return Ok(());
            }
            if number > 0 && number == staging.pieces() {
                staging.touched = index;
                let staged = staging.push(bytes);
                return self.unless_damaged(staged);
            }
        }
        if number > 0 {
            return Err(Error::RestoreInterrupted);
        }
        let mut staging = Staging::new(id, index);
        let staged = staging.push(bytes);
        self.staging = Some(staging);
        self.unless_damaged(staged)
    }

    fn finish_restore(&mut self, id: Uuid, pieces: u32, touched: &mut Vec<Touch>) -> Result<(), Error> {
        let Some(staging) = self.staging.take_if(|staging| staging.id == id && staging.pieces() == pieces) else {
            // Asked twice, if it has taken place already.
            return if self.restored == Some(id) { Ok(()) } else { Err(Error::RestoreInterrupted) };
        };
        let (_, image) = Arc::unwrap_or_clone(staging.decoder).finish().map_err(malformed)?;
        if image.visible_index() >= MAX_INDEX {
            return Err(Error::MalformedImage(format!("its index {} is too large", image.visible_index())));
        }
        self.become_image(id, image);
        touched.push(Touch::Everything);
        Ok(())
    }

    /// Forgets a restoration whose last piece cannot be read.
    fn unless_damaged(&mut self, staged: Result<(), Damaged>) -> Result<(), Error> {
        staged.map_err(|damaged| {
            self.staging = None;
            malformed(damaged)
        })
    }

    /// Takes over everything from `image` but its place in a log. The page of [`crate::store`] says what becomes of
    /// the indexes.
    fn become_image(&mut self, id: Uuid, image: Self) {
        let above = image.visible_index().next();
        let Self {
            applied: _,
            shift: _,
            restored_at: _,
            restored: _,
            staging: _,
            kv,
            catalog,
            sessions,
            queries,
            tokens,
            autopilot,
        } = image;
        self.shift = self.shift.max(above.0.saturating_sub(self.applied.0));
        let at = self.visible_index();
        self.kv = kv.restored(at);
        self.catalog = catalog.restored(at);
        self.sessions = sessions.restored(at);
        self.queries = queries.restored(at);
        self.tokens = tokens.restored(at);
        self.autopilot = autopilot;
        self.restored_at = at;
        self.restored = Some(id);
        self.staging = None;
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn malformed(damaged: Damaged) -> Error {
    Error::MalformedImage(damaged.to_string())
}
