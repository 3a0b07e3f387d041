//! From an archive to its state, verified on the way.
//!
//! The blocks of the tar are read by hand: its library would take names and attributes of any length into memory, and
//! pass over what is not in order.

use std::io::{self, BufRead as _, BufReader, Read};

use flate2::bufread::GzDecoder;
use lictor_core::snapshot::Decoder;
use lictor_core::store::image::HEADER_BYTES;
use sha2::{Digest, Sha256};

use super::{Error, META, Meta, STATE, SUMS, VERSION};

/// A tar consists of blocks of so many bytes.
const BLOCK: usize = 512;
/// The most bytes of the two small files.
const SMALL: u64 = 64 << 10;
/// How much of the state is handed on at a time.
const STEP: usize = 256 << 10;
/// How many zeros may follow the last file: tars are padded, some to whole tape records.
const PADDING: u64 = 1 << 20;

/// The gzip's own header is so long at least.
const GZIP_HEADER: usize = 10;

/// Verifies an archive as a whole, with a state of at most `limit` bytes. What is sound and of a version that this
/// release knows is what some server once saved.
///
/// # Errors
/// Whatever is wrong with it.
pub fn verify(archive: impl Read, limit: u64) -> Result<Meta, Error> {
    // Of the state only the beginning is decoded, which tells its version: all of it would be a second store.
    let mut state = Decoder::new();
    let mut left = HEADER_BYTES;
    let meta = read(archive, limit, |piece| {
        let head = &piece[..piece.len().min(left)];
        left -= head.len();
        state.feed(head).map_err(|damaged| damaged.to_string())
    })?;
    match left {
        0 => Ok(meta),
        _ => Err(Error::State("its state is too short to be one".to_owned())),
    }
}

/// Reads an archive with a state of at most `limit` bytes and hands the state to `take`, piece by piece. Only when this
/// function has returned without an error is it known that what was handed over is what was once saved.
///
/// # Errors
/// Whatever is wrong with the archive, and what `take` did not like.
pub fn read(archive: impl Read, limit: u64, mut take: impl FnMut(&[u8]) -> Result<(), String>) -> Result<Meta, Error> {
    let mut tar = Tar::open(archive)?;
    let described = tar.small(META)?;
    let meta: Meta = serde_json::from_slice(&described)
        .map_err(|error| Error::Malformed(format!("{META} does not describe a snapshot: {error}")))?;
    if meta.version != VERSION {
        return Err(Error::Version(meta.version));
    }
    if meta.size > limit {
        return Err(Error::TooLarge { limit });
    }
    let size = tar.enter(STATE)?;
    if size != meta.size {
        return Err(Error::Malformed(format!("{STATE} has {size} bytes instead of {}", meta.size)));
    }
    let mut hash = Sha256::new();
    tar.contents(size, |piece| {
        hash.update(piece);
        take(piece).map_err(Error::State)
    })?;
    let sums = tar.small(SUMS)?;
    tar.finish()?;
    compare(&sums, [(META, Sha256::digest(&described).into()), (STATE, hash.finalize().into())])?;
    Ok(meta)
}

/// Compares the sums that an archive brings with those of its files.
fn compare(sums: &[u8], files: [(&'static str, [u8; 32]); 2]) -> Result<(), Error> {
    let sums = std::str::from_utf8(sums).map_err(|_| Error::Malformed(format!("{SUMS} is not text")))?;
    let lines: Vec<(&str, &str)> = sums.lines().filter_map(|line| line.split_once("  ")).collect();
    if lines.len() != files.len() || sums.lines().count() != files.len() {
        return Err(Error::Malformed(format!("{SUMS} does not have one line for each file")));
    }
    for (name, hash) in files {
        let expected: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let sum = lines.iter().find(|(_, file)| *file == name).map(|(sum, _)| *sum);
        let sum = sum.ok_or_else(|| Error::Malformed(format!("{SUMS} lacks {name}")))?;
        if sum != expected {
            return Err(Error::Checksum(name));
        }
    }
    Ok(())
}

/// A tar in a gzip, read from its beginning to its end.
struct Tar<R: Read> {
    gzip: GzDecoder<BufReader<io::Chain<io::Cursor<Vec<u8>>, R>>>,
}

impl<R: Read> Tar<R> {
    fn open(mut archive: R) -> Result<Self, Error> {
        let mut header = Vec::with_capacity(GZIP_HEADER);
        archive.by_ref().take(GZIP_HEADER as u64).read_to_end(&mut header).map_err(Error::Io)?;
        let wrong = match header.len() {
            0 => "EOF",
            length if length < GZIP_HEADER => "unexpected EOF",
            _ if !header.starts_with(&[0x1f, 0x8b, 8]) => "gzip: invalid header",
            _ => {
                let whole = io::Cursor::new(header).chain(archive);
                return Ok(Self { gzip: GzDecoder::new(BufReader::with_capacity(64 << 10, whole)) });
            }
        };
        Err(Error::Gzip(wrong.to_owned()))
    }

    /// Goes to the next file, which must have this name; gives its length.
    fn enter(&mut self, name: &'static str) -> Result<u64, Error> {
        let mut block = [0; BLOCK];
        self.gzip.read_exact(&mut block).map_err(|error| broken(&error))?;
        let header = tar::Header::from_byte_slice(&block);
        let malformed = |what: &str| Error::Malformed(format!("{what} where {name} should begin"));
        if block.iter().all(|byte| *byte == 0) {
            return Err(malformed("the archive ends"));
        }
        // The checksum is that of the header with blanks in the checksum's own place.
        let summed = block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
        if header.cksum().ok() != Some(summed.map(u32::from).sum()) {
            return Err(malformed("there is no header of a tar"));
        }
        if *header.path_bytes() != *name.as_bytes() || !header.entry_type().is_file() {
            return Err(malformed(&format!("there is {:?}", String::from_utf8_lossy(&header.path_bytes()))));
        }
        header.entry_size().map_err(|_| malformed("the header has no length"))
    }

    /// Reads what is in the file that was entered last, and the padding behind it.
    fn contents(&mut self, size: u64, mut take: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let mut buffer = vec![0; STEP.min(usize::try_from(size).unwrap_or(STEP))];
        let mut left = size;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(STEP).min(STEP);
            self.gzip.read_exact(&mut buffer[..length]).map_err(|error| broken(&error))?;
            take(&buffer[..length])?;
            left -= length as u64;
        }
        let mut padding = [0; BLOCK];
        let padding = &mut padding[..(BLOCK - (size % BLOCK as u64) as usize) % BLOCK];
        self.gzip.read_exact(padding).map_err(|error| broken(&error))?;
        all_zero(padding)
    }

    /// A file that is small.
    fn small(&mut self, name: &'static str) -> Result<Vec<u8>, Error> {
        let size = self.enter(name)?;
        if size > SMALL {
            return Err(Error::Malformed(format!("{name} has {size} bytes, which is too much")));
        }
        let mut contents = Vec::new();
        self.contents(size, |piece| {
            contents.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(contents)
    }

    /// Sees that nothing follows but padding, and that the gzip's own checksum matches.
    fn finish(mut self) -> Result<(), Error> {
        let mut buffer = [0; 4096];
        let mut padding = 0;
        loop {
            let length = self.gzip.read(&mut buffer).map_err(|error| broken(&error))?;
            if length == 0 {
                break;
            }
            padding += length as u64;
            all_zero(&buffer[..length])?;
            if padding > PADDING {
                return Err(Error::Malformed("it goes on behind its end".to_owned()));
            }
        }
        if padding < 2 * BLOCK as u64 {
            return Err(Error::Malformed("it has no end".to_owned()));
        }
        let mut rest = self.gzip.into_inner();
        match rest.fill_buf().map_err(Error::Io)? {
            [] => Ok(()),
            _ => Err(Error::Malformed("something follows the archive".to_owned())),
        }
    }
}

fn all_zero(padding: &[u8]) -> Result<(), Error> {
    match padding.iter().all(|byte| *byte == 0) {
        true => Ok(()),
        false => Err(Error::Malformed("there is something where only padding should be".to_owned())),
    }
}

/// What went wrong while decompressing: with the gzip, or with the file it comes from.
fn broken(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::Gzip("unexpected EOF: the archive is cut short".to_owned()),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => Error::Gzip(error.to_string()),
        kind => Error::Io(io::Error::new(kind, error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use bytes::Bytes;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use lictor_core::api::snapshot::Image;
    use lictor_core::id::{Index, Term};
    use proptest::prelude::*;

    use super::*;
    use crate::archive::write;

    const LIMIT: u64 = 1 << 30;

    fn image(pieces: Vec<Bytes>) -> Image {
        Image::new(Index(77), Term(3), move || Box::new(pieces.clone().into_iter()))
    }

    fn archive(pieces: &[&[u8]]) -> Vec<u8> {
        let mut archive = Vec::new();
        write(&image(pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect()), &mut archive).unwrap();
        archive
    }

    fn unpacked(archive: &[u8]) -> Vec<u8> {
        let mut tar = Vec::new();
        GzDecoder::new(archive).read_to_end(&mut tar).unwrap();
        tar
    }

    fn packed(tar: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(tar).unwrap();
        gzip.finish().unwrap()
    }

    /// Looks at all but the state.
    fn form(archive: &[u8]) -> Result<Meta, Error> {
        read(archive, LIMIT, |_| Ok(()))
    }

    fn refused(archive: &[u8]) -> String {
        form(archive).unwrap_err().to_string()
    }

    /// A tar of such files, each with the checksum that belongs to it.
    fn made_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, contents) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(contents.len() as u64);
            tar.append_data(&mut header, name, *contents).unwrap();
        }
        packed(&tar.into_inner().unwrap())
    }

    #[test]
    fn what_is_written_is_read() {
        let large = vec![7; STEP + 1];
        let written = archive(&[b"ab", b"", b"c", &large]);
        let mut state = Vec::new();
        let meta = read(&*written, LIMIT, |piece| {
            state.extend_from_slice(piece);
            Ok(())
        });
        let meta = meta.unwrap();
        assert_eq!((meta.version, meta.index, meta.term, meta.size), (1, 77, 3, large.len() as u64 + 3));
        assert!(meta.id.starts_with("3-77-"), "{meta:?}");
        assert_eq!(state, [b"abc", &large[..]].concat());
        assert_eq!(form(&archive(&[])).unwrap().size, 0);
    }

    #[test]
    fn the_files_are_those_of_the_table() {
        let unpacked = unpacked(&archive(&[b"state"]));
        let mut tar = tar::Archive::new(&*unpacked);
        let mut contents = Vec::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            contents.push((entry.path().unwrap().display().to_string(), text));
        }
        let names: Vec<_> = contents.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["meta.json", "state.bin", "SHA256SUMS"]);
        assert_eq!(contents[1].1, "state");
        // As `printf state | sha256sum` has it.
        let sum = "4ba69735ca53765ed6a709edb56c6ea236b7193a3b29a6b390c346f0f4340e4e  state.bin";
        assert_eq!(contents[2].1.lines().nth(1), Some(sum));
    }

    #[test]
    fn what_is_no_gzip_is_refused_in_consul_s_words() {
        assert_eq!(refused(b""), "failed to decompress snapshot: EOF");
        assert_eq!(refused(b"short"), "failed to decompress snapshot: unexpected EOF");
        assert_eq!(refused(b"not an archive"), "failed to decompress snapshot: gzip: invalid header");
    }

    #[test]
    fn a_cut_anywhere_is_noticed() {
        let whole = archive(&[b"some state", b"and more"]);
        for end in 0..whole.len() {
            assert!(form(&whole[..end]).is_err(), "cut at {end}");
        }
        let tar = unpacked(&whole);
        for end in (0..tar.len() - 2 * BLOCK).step_by(7) {
            assert!(form(&packed(&tar[..end])).is_err(), "the tar cut at {end}");
        }
        assert!(refused(&[&whole[..], b"x"].concat()).contains("something follows"));
    }

    #[test]
    fn every_byte_counts() {
        let tar = unpacked(&archive(&[b"some state"]));
        for at in 0..tar.len() {
            // Of a header's own checksum the filling bytes do not count.
            if (148..156).contains(&(at % BLOCK)) {
                continue;
            }
            let mut damaged = tar.clone();
            damaged[at] ^= 0x10;
            assert!(form(&packed(&damaged)).is_err(), "byte {at}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let meta = br#"{"Version":2,"ID":"x","Index":1,"Term":1,"Size":0}"#;
        assert_eq!(
            refused(&made_of(&[(META, meta), (STATE, b""), (SUMS, b"")])),
            "failed to read snapshot: its version is 2, and this release knows version 1 only"
        );
    }

    #[test]
    fn files_must_be_there_in_order_and_with_their_sums() {
        let meta: &[u8] = br#"{"Version":1,"ID":"x","Index":1,"Term":1,"Size":1}"#;
        let sums = |meta: &[u8], state: &[u8]| {
            format!("{:x}  {META}\n{:x}  {STATE}\n", Sha256::digest(meta), Sha256::digest(state))
        };
        let good = sums(meta, b"s");
        assert!(form(&made_of(&[(META, meta), (STATE, b"s"), (SUMS, good.as_bytes())])).is_ok());
        type Files<'a> = &'a [(&'a str, &'a [u8])];
        let cases: [(Files<'_>, &str); 8] = [
            (&[], "the archive ends where meta.json should begin"),
            (&[(STATE, b"s"), (META, meta)], "there is \"state.bin\" where meta.json should begin"),
            (&[(META, b"{}")], "meta.json does not describe a snapshot"),
            (&[(META, meta), (STATE, b"ss")], "state.bin has 2 bytes instead of 1"),
            (&[(META, meta), (STATE, b"s")], "the archive ends where SHA256SUMS should begin"),
            (&[(META, meta), (STATE, b"t"), (SUMS, good.as_bytes())], "the checksum of state.bin does not match"),
            (&[(META, meta), (STATE, b"s"), (SUMS, b"")], "does not have one line for each file"),
            (
                &[(META, meta), (STATE, b"s"), (SUMS, good.as_bytes()), ("more", b"")],
                "there is something where only padding should be",
            ),
        ];
        for (files, why) in cases {
            let said = refused(&made_of(files));
            assert!(said.contains(why), "{why}: {said}");
        }
    }

    #[test]
    fn a_state_begins_as_one_of_this_release() {
        let head = |version: u8| {
            let mut head = [b"LICTORIM", &[version, 0, 0, 0][..]].concat();
            // A piece of some length follows.
            head.resize(HEADER_BYTES, 1);
            head[18..20].fill(0);
            head
        };
        let verified = |state: &[u8]| verify(&*archive(&[&state[..5], &state[5..]]), LIMIT).map_err(|e| e.to_string());
        assert!(verified(&[&head(1), &b"and so on"[..]].concat()).is_ok());
        let refused = verified(&head(9)).unwrap_err();
        assert!(refused.starts_with("failed to read snapshot: the snapshot is of format version 9"), "{refused}");
        let consul_s = [0x85; 40];
        assert!(verified(&consul_s).unwrap_err().contains("no snapshot of Lictor"));
        assert!(verified(&head(1)[..20]).unwrap_err().contains("too short"));
    }

    #[test]
    fn what_is_too_large_is_not_read() {
        let written = archive(&[b"12345"]);
        assert!(matches!(read(&*written, 4, |_| Ok(())), Err(Error::TooLarge { limit: 4 })));
        assert!(read(&*written, 5, |_| Ok(())).is_ok());
    }

    #[test]
    fn who_takes_the_state_may_stop_it() {
        let stopped = read(&*archive(&[b"12345"]), LIMIT, |_| Err("no more".to_owned()));
        assert_eq!(stopped.unwrap_err().to_string(), "failed to read snapshot: no more");
    }

    proptest! {
        #[test]
        fn what_is_damaged_is_noticed_or_is_still_the_same(at in 0usize..600, bit in 0u8..8) {
            let state = b"some state that is not so very long, and some more of it";
            let mut damaged = archive(&[state]);
            let at = at % damaged.len();
            damaged[at] ^= 1 << bit;
            // There is more than one way to compress the same, and nobody minds the time in a gzip's header.
            let mut seen = Vec::new();
            let read = read(&*damaged, LIMIT, |piece| {
                seen.extend_from_slice(piece);
                Ok(())
            });
            prop_assert!(read.is_err() || seen == state);
        }

        #[test]
        fn anything_is_read_without_panic(tar in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = verify(&*tar, LIMIT);
            let _ = verify(&*packed(&tar), LIMIT);
        }
    }
}
