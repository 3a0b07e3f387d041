//! The files of a data directory, and the syscalls that change them and make the changes last.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use lictor_core::io::{FileName, FileOp};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::Quota;

/// Writes up to this size that follow on each other become one.
const COALESCE_BYTES: usize = 256 << 10;

/// Files kept open. The log is written at its end, so that the newest names are the ones that are used.
const OPEN_FILES: usize = 8;

/// Clients' data is nobody else's business.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// An operation on a file failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", path.display())]
pub struct FilesError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
    /// Whether it was to make changes durable. What a failed sync has lost is not known.
    is_sync: bool,
}

impl FilesError {
    /// Whether the disk had no room for what was tried, and nothing was lost by trying.
    #[must_use]
    pub fn is_full(&self) -> bool {
        !self.is_sync && is_full(&self.source)
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FilesError {
    move |source| FilesError { doing, path: path.to_owned(), source, is_sync: false }
}

fn failed_sync(path: &Path) -> impl FnOnce(io::Error) -> FilesError {
    move |source| FilesError { doing: "sync", path: path.to_owned(), source, is_sync: true }
}

/// The files of a data directory.
///
/// Invariants:
/// - at most one file has changes that are not synced: `dirty`. Changes thus reach the disk in the order in
///   which they were asked for, as far as that spans files.
/// - `tail` follows on the last write to `dirty` and is in no file yet.
pub(crate) struct Files {
    directory: PathBuf,
    quota: Quota,
    open: BTreeMap<FileName, Open>,
    dirty: Option<FileName>,
    tail: Tail,
    /// Whatever must live for as long as files may be written, such as the directory's lock.
    _lock: File,
}

struct Open {
    file: File,
    path: PathBuf,
    /// Whether the directory's entry for the file is known to survive a power loss.
    entry_durable: bool,
    size: u64,
    /// Whether its size was changed by something else than a write, so that `fdatasync` may not do.
    resized: bool,
}

/// Bytes on their way to the dirty file, gathered from writes that follow on each other.
#[derive(Default)]
struct Tail {
    offset: u64,
    bytes: Vec<u8>,
}

impl Tail {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

impl Files {
    /// The files below `directory`, whose entries, as far as they exist, are durable. Keeps `lock` open.
    pub(crate) fn new(directory: PathBuf, quota: Quota, lock: File) -> Self {
        Self { directory, quota, open: BTreeMap::new(), dirty: None, tail: Tail::default(), _lock: lock }
    }

    /// Carries out one change. It is durable after [`sync`](Self::sync).
    ///
    /// If there is no room for it ([`FilesError::is_full`]), this and [`sync`](Self::sync) may be called again until
    /// there is: unlike a failed sync, a write that found no room has lost nothing.
    pub(crate) fn apply(&mut self, op: &FileOp) -> Result<(), FilesError> {
        if self.dirty.as_ref().is_some_and(|dirty| dirty != op.file()) {
            self.sync()?;
        }
        match op {
            FileOp::Write { file, offset, bytes } => self.write(file, *offset, bytes),
            FileOp::Truncate { file, size } => self.truncate(file, *size),
            FileOp::Remove { file } => self.remove(file),
            FileOp::Rename { .. } => unreachable!("no agent asks for it yet"),
        }
    }

    /// Makes every change durable.
    pub(crate) fn sync(&mut self) -> Result<(), FilesError> {
        self.write_tail()?;
        let Some(name) = self.dirty.take() else { return Ok(()) };
        let open = self.open(&name)?;
        if open.resized || !open.entry_durable {
            open.file.sync_all().map_err(failed_sync(&open.path))?;
        } else {
            open.file.sync_data().map_err(failed_sync(&open.path))?;
        }
        open.resized = false;
        if !open.entry_durable {
            sync_directory(parent(&open.path))?;
            open.entry_durable = true;
        }
        Ok(())
    }

    fn write(&mut self, name: &FileName, offset: u64, bytes: &[u8]) -> Result<(), FilesError> {
        let follows = self.dirty.is_some() && self.tail.end() == offset;
        if !follows || self.tail.bytes.len() + bytes.len() > COALESCE_BYTES {
            self.write_tail()?;
            self.tail.offset = offset;
        }
        self.dirty = Some(name.clone());
        if bytes.len() > COALESCE_BYTES {
            self.write_at(name, offset, bytes)?;
            self.tail.offset = offset + bytes.len() as u64;
        } else {
            self.tail.bytes.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn write_tail(&mut self) -> Result<(), FilesError> {
        if self.tail.bytes.is_empty() {
            return Ok(());
        }
        let name = self.dirty.clone().expect("bytes that wait belong to the dirty file");
        let Tail { offset, bytes } = std::mem::take(&mut self.tail);
        let written = self.write_at(&name, offset, &bytes);
        self.tail = Tail { offset, bytes };
        written?;
        self.tail.offset = self.tail.end();
        self.tail.bytes.clear();
        Ok(())
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), FilesError> {
        let end = offset + bytes.len() as u64;
        let room = self.has_quota(name, end)?;
        let open = self.open(name)?;
        let written = if room { open.file.write_all_at(bytes, offset) } else { Err(Errno::DQUOT.into()) };
        written.map_err(failed("write", &open.path))?;
        open.size = open.size.max(end);
        Ok(())
    }

    /// Whether a file may be so long.
    fn has_quota(&mut self, name: &str, size: u64) -> Result<bool, FilesError> {
        let quota = self.quota.bytes();
        if quota == u64::MAX {
            return Ok(true);
        }
        let open = self.open(name)?;
        let grows = size.saturating_sub(open.size);
        Ok(grows == 0 || size_below(parent(&open.path))?.saturating_add(grows) <= quota)
    }

    fn truncate(&mut self, name: &FileName, size: u64) -> Result<(), FilesError> {
        self.write_tail()?;
        self.dirty = Some(name.clone());
        let open = self.open(name)?;
        open.file.set_len(size).map_err(failed("truncate", &open.path))?;
        (open.size, open.resized) = (size, true);
        Ok(())
    }

    /// Durable at once: it is rare, and what follows may rely on it.
    fn remove(&mut self, name: &FileName) -> Result<(), FilesError> {
        // Changes of the file itself need not reach the disk any more.
        self.tail.bytes.clear();
        self.dirty = None;
        self.open.remove(name);
        let path = self.directory.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("remove", &path)(error)),
            Ok(()) => sync_directory(parent(&path)),
        }
    }

    /// Sets disk space aside, so that a later write below `size` needs no more of it. False if there is
    /// no room; the file is as before then.
    pub(crate) fn reserve(&mut self, name: &str, size: u64) -> Result<bool, FilesError> {
        let path = self.directory.join(name);
        let is_new = !self.open.contains_key(name) && !path.exists();
        let open = self.open(name)?;
        let before = open.size;
        if size <= before {
            return Ok(true);
        }
        let allocated = if self.has_quota(name, size)? {
            let open = self.open(name)?;
            open.resized = true;
            allocate(&open.file, before, size)
        } else {
            Err(Errno::DQUOT.into())
        };
        let open = self.open(name)?;
        match allocated {
            Ok(()) => {
                open.size = size;
                Ok(true)
            }
            Err(error) if is_full(&error) => {
                open.file.set_len(before).map_err(failed("truncate", &path))?;
                if is_new {
                    self.open.remove(name);
                    std::fs::remove_file(&path).map_err(failed("remove", &path))?;
                }
                Ok(false)
            }
            Err(error) => Err(failed("set disk space aside for", &path)(error)),
        }
    }

    /// The file, opened if need be, created if it is not there.
    fn open(&mut self, name: &str) -> Result<&mut Open, FilesError> {
        if !self.open.contains_key(name) {
            self.close_some();
            let open = open_or_create(self.directory.join(name))?;
            self.open.insert(name.to_owned(), open);
        }
        Ok(self.open.get_mut(name).expect("it was just opened"))
    }

    /// Makes room among the open files. One that is not synced, or whose entry is not, must stay: what is
    /// still to be done for it is known nowhere else.
    fn close_some(&mut self) {
        while self.open.len() >= OPEN_FILES {
            let idle = self
                .open
                .iter()
                .find(|(name, open)| self.dirty.as_ref() != Some(*name) && open.entry_durable && !open.resized);
            let Some(name) = idle.map(|(name, _)| name.clone()) else { return };
            self.open.remove(&name);
        }
    }
}

fn open_or_create(path: PathBuf) -> Result<Open, FilesError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(FILE_MODE);
    match options.open(&path) {
        Ok(file) => {
            let size = file.metadata().map_err(failed("look at", &path))?.len();
            Ok(Open { file, path, entry_durable: true, size, resized: false })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_directory(parent(&path))?;
            let file = options.create_new(true).open(&path).map_err(failed("create", &path))?;
            Ok(Open { file, path, entry_durable: false, size: 0, resized: false })
        }
        Err(error) => Err(failed("open", &path)(error)),
    }
}

/// Makes a directory whose parent is there, and makes it last.
pub(crate) fn create_directory(path: &Path) -> Result<(), FilesError> {
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Ok(()) => sync_directory(parent(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("create the directory", path)(error)),
    }
}

/// Makes a directory's entries survive a power loss.
pub(crate) fn sync_directory(path: &Path) -> Result<(), FilesError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(failed_sync(path))
}

/// The directory that holds `path`.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The bytes of all files in a directory.
fn size_below(directory: &Path) -> Result<u64, FilesError> {
    let mut total = 0;
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(failed("read the directory", directory))?,
    };
    for entry in entries {
        let metadata = entry.and_then(|entry| entry.metadata()).map_err(failed("read the directory", directory))?;
        total += metadata.len();
    }
    Ok(total)
}

/// Makes a file `size` bytes long, with room on disk for all of them.
fn allocate(file: &File, before: u64, size: u64) -> io::Result<()> {
    loop {
        return match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
            Ok(()) => Ok(()),
            Err(Errno::INTR) => continue,
            // A file system that cannot: writing zeros sets space aside on most of them.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(file, before, size),
            Err(errno) => Err(errno.into()),
        };
    }
}

fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; 256 << 10];
    let mut at = from;
    while at < to {
        let length = zeros.len().min(usize::try_from(to - at).unwrap_or(usize::MAX));
        file.write_all_at(&zeros[..length], at)?;
        at += length as u64;
    }
    Ok(())
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    // To fill a real disk would take it from everybody else on the machine.
    #[test]
    fn the_systems_words_for_no_room_are_understood() {
        let path = Path::new("raft/wal-1");
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            assert!(failed("write", path)(errno.into()).is_full(), "{errno}");
            assert!(!failed_sync(path)(errno.into()).is_full(), "a failed sync is never tried again");
        }
        for errno in [Errno::IO, Errno::ACCESS, Errno::FBIG] {
            assert!(!is_full(&errno.into()), "{errno}");
        }
    }

    #[test]
    fn space_is_set_aside_by_writing_where_the_system_cannot() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "abc").unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        write_zeros(&file, 3, 700_000).unwrap();
        let found = std::fs::read(&path).unwrap();
        assert!(found.len() == 700_000 && found.starts_with(b"abc") && found[3..].iter().all(|byte| *byte == 0));
    }
}
