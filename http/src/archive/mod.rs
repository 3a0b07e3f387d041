//! The archive of `/v1/snapshot`: what is sent, kept by operators for years, and verified before it is restored.
//!
//! A tar in gzip, as Consul's operators know it, with three files in this order:
//!
//! | file | what is in it |
//! |---|---|
//! | `meta.json` | a [`Meta`]: what the snapshot is of |
//! | `state.bin` | the pieces of an [`Image`](lictor_core::api::snapshot::Image), one after the other |
//! | `SHA256SUMS` | the checksums of the two above, as `sha256sum` writes them |
//!
//! Neither [`write()`] nor [`read`] ever holds the state as a whole. Any change to what is in an archive is noticed: what
//! is not under the checksums must be as a tar has it.

mod read;
mod write;

pub use read::{read, verify};
pub use write::write;

use serde::{Deserialize, Serialize};

/// The version of the archive's form that this release writes and reads.
pub const VERSION: u32 = 1;

/// The names of the files.
const META: &str = "meta.json";
const STATE: &str = "state.bin";
const SUMS: &str = "SHA256SUMS";

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Meta {
    /// The version of the archive's form.
    pub version: u32,
    /// A name for it: term, index and when it was made, in milliseconds since 1970.
    #[serde(rename = "ID")]
    pub id: String,
    /// The last log entry that it includes.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
    /// The length of the state in bytes.
    pub size: u64,
}

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no gzip, or a damaged one. Also what is cut off ends here.
    #[error("failed to decompress snapshot: {0}")]
    Gzip(String),
    /// What is in the gzip is not what it should be.
    #[error("failed to read snapshot: {0}")]
    Malformed(String),
    /// It is of another version.
    #[error("failed to read snapshot: its version is {0}, and this release knows version {VERSION} only")]
    Version(u32),
    /// A file in it is not what it was.
    #[error("failed to read snapshot: the checksum of {0} does not match, the archive is damaged")]
    Checksum(&'static str),
    /// The state in it is larger than allowed.
    #[error("the snapshot exceeds the limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The state in it is not one that can be restored, or whoever took it could not go on.
    #[error("failed to read snapshot: {0}")]
    State(String),
    /// The file cannot be read.
    #[error("failed to read snapshot: {0}")]
    Io(std::io::Error),
}
