//! The system's calls on files, for both threads that make changes: how a file is opened, given room, made to last.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::Quota;

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
        !self.is_sync && self.tells_of_no_room()
    }

    /// Whether the disk had no room, whatever may be lost.
    pub(super) fn tells_of_no_room(&self) -> bool {
        is_full(&self.source)
    }
}

/// For `map_err`: the system refused to do something with a file.
pub(super) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FilesError {
    move |source| FilesError { doing, path: path.to_owned(), source, is_sync: false }
}

/// For `map_err`: the system could not make a file's changes durable.
fn failed_sync(path: &Path) -> impl FnOnce(io::Error) -> FilesError {
    move |source| FilesError { doing: "sync", path: path.to_owned(), source, is_sync: true }
}

/// An open file, and what must still be done for its changes to survive a power loss.
pub(super) struct Open {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// Whether the directory's entry for the file is known to survive a power loss.
    entry_durable: bool,
    pub(super) size: u64,
    /// Whether its size was changed by something else than a write, so that `fdatasync` may not do.
    pub(super) resized: bool,
}

impl Open {
    /// A file below `directory`, created if it is not there.
    pub(super) fn open_or_create(directory: &Path, name: &str) -> Result<Self, FilesError> {
        let path = directory.join(name);
        match Self::existing(&path) {
            Ok(open) => Ok(open),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_folders(directory, name)?;
                let file = options().create_new(true).open(&path).map_err(failed("create", &path))?;
                Ok(Self { file, path, entry_durable: false, size: 0, resized: false })
            }
            Err(error) => Err(failed("open", &path)(error)),
        }
    }

    fn existing(path: &Path) -> io::Result<Self> {
        let file = options().open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file, path: path.to_owned(), entry_durable: true, size, resized: false })
    }

    /// Whether nothing but its content may still have to be made durable.
    pub(super) fn is_settled(&self) -> bool {
        self.entry_durable && !self.resized
    }

    /// Whether it may be so long, as far as the quota is concerned.
    pub(super) fn has_quota(&self, quota: &Quota, size: u64) -> Result<bool, FilesError> {
        let ceiling = quota.bytes();
        if ceiling == u64::MAX {
            return Ok(true);
        }
        let grows = size.saturating_sub(self.size);
        Ok(grows == 0 || size_below(parent(&self.path))?.saturating_add(grows) <= ceiling)
    }

    /// Writes at a place that may lie behind the end.
    pub(super) fn write_at(&mut self, quota: &Quota, offset: u64, bytes: &[u8]) -> Result<(), FilesError> {
        let end = offset + bytes.len() as u64;
        let room = self.has_quota(quota, end)?;
        let written = if room { self.file.write_all_at(bytes, offset) } else { Err(Errno::DQUOT.into()) };
        written.map_err(failed("write", &self.path))?;
        self.size = self.size.max(end);
        Ok(())
    }

    /// Cuts the file, or fills it up with zeros. Space that was set aside behind its end is given back.
    pub(super) fn set_len(&mut self, size: u64) -> Result<(), FilesError> {
        self.file.set_len(size).map_err(failed("truncate", &self.path))?;
        (self.size, self.resized) = (size, true);
        Ok(())
    }

    /// Makes every change of it durable.
    pub(super) fn sync(&mut self) -> Result<(), FilesError> {
        if self.is_settled() {
            self.file.sync_data().map_err(failed_sync(&self.path))?;
        } else {
            self.file.sync_all().map_err(failed_sync(&self.path))?;
        }
        self.resized = false;
        if !self.entry_durable {
            sync_directory(parent(&self.path))?;
            self.entry_durable = true;
        }
        Ok(())
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(FILE_MODE);
    options
}

/// Makes a file durable, and gives it another name in the same directory, in place of whatever had that name. The name is
/// durable too. Space that was set aside behind the file's end is given back.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), FilesError> {
    let mut open = Open::existing(from).map_err(failed("open", from))?;
    open.set_len(open.size)?;
    open.file.sync_all().map_err(failed_sync(from))?;
    std::fs::rename(from, to).map_err(failed("rename", from))?;
    sync_directory(parent(to))
}

/// Removes a file, if it is there. Durable at once.
pub(super) fn remove(path: &Path) -> Result<(), FilesError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("remove", path)(error)),
        Ok(()) => sync_directory(parent(path)),
    }
}

/// Makes the directories that a file lies in, below one that must be there, and makes them last.
fn create_folders(directory: &Path, name: &str) -> Result<(), FilesError> {
    for (end, _) in name.match_indices('/') {
        let folder = directory.join(&name[..end]);
        if !folder.is_dir() {
            create_directory(&folder)?;
        }
    }
    Ok(())
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
pub(super) fn allocate(file: &File, before: u64, size: u64) -> io::Result<()> {
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

/// Sets disk space aside up to `size`, and leaves the file as long as it is. It makes writing quicker and is no promise:
/// false if the system has none, or cannot.
pub(super) fn allocate_behind_end(open: &Open, size: u64) -> Result<bool, FilesError> {
    loop {
        return match rustix::fs::fallocate(&open.file, FallocateFlags::KEEP_SIZE, 0, size) {
            Ok(()) => Ok(true),
            Err(Errno::INTR) => continue,
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOSPC | Errno::DQUOT) => Ok(false),
            Err(errno) => Err(failed("set disk space aside for", &open.path)(errno.into())),
        };
    }
}

/// Whether the system says so that there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
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
