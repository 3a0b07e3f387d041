//! Small files in which an agent keeps what it must still know after a restart, beside the log. Each is written whole.
//!
//! | bytes | meaning |
//! |---|---|
//! | 0–3 | the letters `LCTK` |
//! | 4–5 | version of the form, little endian |
//! | 6–7 | zero |
//! | 8–11 | CRC-32C of the rest, little endian |
//! | 12– | the value, by [`wire`] |

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire;

/// The folder of these files.
pub const FOLDER: &str = "agent/";

/// What the name of an unfinished one ends with.
pub const DRAFT: &str = ".new";

/// The largest that is read.
pub const MAX_BYTES: u64 = 64 << 20;

const MAGIC: [u8; 4] = *b"LCTK";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 12;

/// Why the content of a file is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It does not begin as such files do.
    #[error("it is no file of this agent")]
    Magic,
    /// A later program wrote it.
    #[error("its form has version {0}, this agent reads version {VERSION}")]
    Version(u16),
    /// It is damaged.
    #[error("it is damaged")]
    Damaged,
}

/// The content of a file that keeps `value`.
#[must_use]
pub fn seal<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    wire::encode_into(value, &mut bytes);
    let checksum = crc32c::crc32c(&bytes[HEADER_BYTES..]);
    bytes[0..4].copy_from_slice(&MAGIC);
    bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
    bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// What a file keeps.
///
/// # Errors
/// If it is not such a file, or is damaged.
pub fn open<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    let (header, value) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(Unreadable::Magic)?;
    if header[0..4] != MAGIC {
        return Err(Unreadable::Magic);
    }
    let version = u16::from_le_bytes([header[4], header[5]]);
    if version != VERSION {
        return Err(Unreadable::Version(version));
    }
    let expected = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if crc32c::crc32c(value) != expected {
        return Err(Unreadable::Damaged);
    }
    wire::decode(value).map_err(|_| Unreadable::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_damage_is_noticed() {
        let bytes = seal(&("a".to_owned(), 7_u64));
        assert_eq!(open::<(String, u64)>(&bytes), Ok(("a".to_owned(), 7)));
        for at in (0..6).chain(8..bytes.len()) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(open::<(String, u64)>(&damaged).is_err(), "byte {at}");
        }
        for cut in 0..bytes.len() {
            assert!(open::<(String, u64)>(&bytes[..cut]).is_err(), "cut to {cut}");
        }
        let mut newer = bytes;
        newer[4] = 9;
        assert_eq!(open::<(String, u64)>(&newer), Err(Unreadable::Version(9)));
    }
}
