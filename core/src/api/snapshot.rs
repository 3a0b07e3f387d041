//! Point-in-time copies of the replicated state, and their return (`/v1/snapshot`).

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ReadOptions;
use crate::id::{Index, Term};

/// An operation on the state as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// A copy of it. Any server can make one: other than with `?stale`, one that does not lead first asks the leader how
    /// far the log goes, and waits until it has got there itself.
    Save {
        /// How; it never blocks.
        read: ReadOptions,
    },
    /// Replaces it, in steps, as it may be larger than any message or log entry. Nothing changes before the last step.
    Restore {
        /// Chosen anew for each restoration, so that two cannot get mixed up.
        id: Uuid,
        /// The step.
        step: Step,
    },
}

/// A step of a restoration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// The next piece of the image, in their order, numbered from 0. The first one begins the restoration and puts an end
    /// to any other.
    Piece {
        /// Its number.
        number: u32,
        /// As the image had it.
        bytes: Bytes,
    },
    /// All pieces are there: from this entry of the log on, the state is that of the image.
    Finish {
        /// How many pieces there were.
        pieces: u32,
    },
    /// It is given up: its pieces may be forgotten.
    Abort,
}

/// A copy of the state. It costs nothing until its pieces are asked for, which any thread may do.
#[derive(Clone)]
pub struct Image {
    /// The last log entry that it includes.
    pub index: Index,
    /// The term of that entry.
    pub term: Term,
    pieces: Arc<dyn Fn() -> Pieces + Send + Sync>,
}

/// The pieces of an image, in their order. Together they are what [`crate::snapshot`] describes.
pub type Pieces = Box<dyn Iterator<Item = Bytes> + Send>;

impl Image {
    /// A copy that ends with the entry at `index`, of `term`, and whose pieces `pieces` begins to tell.
    pub fn new(index: Index, term: Term, pieces: impl Fn() -> Pieces + Send + Sync + 'static) -> Self {
        Self { index, term, pieces: Arc::new(pieces) }
    }

    /// Its pieces, from the first on.
    #[must_use]
    pub fn pieces(&self) -> Pieces {
        (self.pieces)()
    }
}

/// Two images of one place of one log are the same.
impl PartialEq for Image {
    fn eq(&self, other: &Self) -> bool {
        (self.index, self.term) == (other.index, other.term)
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({}@{})", self.index, self.term)
    }
}
