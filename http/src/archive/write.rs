//! From an image to an archive.

use std::io::{self, Read, Write};
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};
use flate2::Compression;
use flate2::write::GzEncoder;
use lictor_core::api::snapshot::{Image, Pieces};
use sha2::{Digest, Sha256};

use super::{META, Meta, STATE, SUMS, VERSION};

/// Writes the archive of `image`. Its pieces are made twice, as a tar says how long a file is before it comes; they are
/// the same both times.
///
/// # Errors
/// If `out` takes no more.
pub fn write(image: &Image, out: impl Write) -> io::Result<Meta> {
    let size = image.pieces().map(|piece| piece.len() as u64).sum();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let meta = Meta {
        version: VERSION,
        id: format!("{}-{}-{}", image.term, image.index, now.as_millis()),
        index: image.index.0,
        term: image.term.0,
        size,
    };
    let mut described = serde_json::to_vec(&meta)?;
    described.push(b'\n');
    // What is stored is often small or compressed already: a better ratio would cost more than it saves.
    let mut tar = tar::Builder::new(GzEncoder::new(out, Compression::fast()));
    let mut state = Hashed::new(image.pieces());
    append(&mut tar, META, described.len() as u64, now, &*described)?;
    append(&mut tar, STATE, size, now, &mut state)?;
    if state.length != size {
        return Err(io::Error::other(format!("the image had {size} bytes, and then {}", state.length)));
    }
    let sums = format!("{:x}  {META}\n{:x}  {STATE}\n", Sha256::digest(&described), state.hash.finalize());
    append(&mut tar, SUMS, sums.len() as u64, now, sums.as_bytes())?;
    tar.into_inner()?.finish()?.flush()?;
    Ok(meta)
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, size: u64, now: Duration, from: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_mode(0o600);
    header.set_size(size);
    header.set_mtime(now.as_secs());
    header.set_cksum();
    tar.append(&header, from)
}

/// The pieces of an image as one stream, counted and hashed as they go by.
struct Hashed {
    pieces: Pieces,
    current: Bytes,
    length: u64,
    hash: Sha256,
}

impl Hashed {
    fn new(pieces: Pieces) -> Self {
        Self { pieces, current: Bytes::new(), length: 0, hash: Sha256::new() }
    }
}

impl Read for Hashed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            let Some(piece) = self.pieces.next() else { return Ok(0) };
            self.length += piece.len() as u64;
            self.hash.update(&piece);
            self.current = piece;
        }
        let length = into.len().min(self.current.len());
        self.current.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}
