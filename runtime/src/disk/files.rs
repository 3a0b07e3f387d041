//! The files of a data directory, and the syscalls that change them and make the changes last.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use lictor_core::io::{FileName, FileOp};
use rustix::io::Errno;

use super::Quota;
use super::beside::Beside;
use super::system::{self, FilesError, Open, allocate, failed, is_full};

/// Writes up to this size that follow on each other become one.
const COALESCE_BYTES: usize = 256 << 10;

/// Files kept open. The log is written at its end, so that the newest names are the ones that are used.
const OPEN_FILES: usize = 8;

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
    lock: Arc<File>,
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
        Self { directory, quota, open: BTreeMap::new(), dirty: None, tail: Tail::default(), lock: Arc::new(lock) }
    }

    /// Another hand on the same directory, for files that this one does not touch.
    pub(crate) fn beside(&self) -> Beside {
        Beside::new(self.directory.clone(), self.quota.clone(), self.lock.clone())
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
            FileOp::Rename { file, to } => self.rename(file, to),
        }
    }

    /// Makes every change durable.
    pub(crate) fn sync(&mut self) -> Result<(), FilesError> {
        self.write_tail()?;
        let Some(name) = self.dirty.take() else { return Ok(()) };
        self.open(&name)?.sync()
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
        let quota = self.quota.clone();
        self.open(name)?.write_at(&quota, offset, bytes)
    }

    fn truncate(&mut self, name: &FileName, size: u64) -> Result<(), FilesError> {
        self.write_tail()?;
        self.dirty = Some(name.clone());
        self.open(name)?.set_len(size)
    }

    /// Durable at once: it is rare, and what follows may rely on it.
    fn remove(&mut self, name: &FileName) -> Result<(), FilesError> {
        // Changes of the file itself need not reach the disk any more.
        self.tail.bytes.clear();
        self.dirty = None;
        self.open.remove(name);
        system::remove(&self.directory.join(name))
    }

    /// Durable at once, as with a removal.
    fn rename(&mut self, name: &FileName, to: &FileName) -> Result<(), FilesError> {
        self.sync()?;
        self.open.remove(name);
        self.open.remove(to);
        system::rename(&self.directory.join(name), &self.directory.join(to))
    }

    /// Lets go of a file that another hand removes: for as long as it is open, the system keeps its content.
    pub(crate) fn close(&mut self, name: &str) {
        if self.dirty.as_deref() != Some(name) {
            self.open.remove(name);
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
        let quota = self.quota.clone();
        let open = self.open(name)?;
        let allocated = if open.has_quota(&quota, size)? {
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
            let open = Open::open_or_create(&self.directory, name)?;
            self.open.insert(name.to_owned(), open);
        }
        Ok(self.open.get_mut(name).expect("it was just opened"))
    }

    /// Makes room among the open files. One that is not synced, or whose entry is not, must stay: what is
    /// still to be done for it is known nowhere else.
    fn close_some(&mut self) {
        while self.open.len() >= OPEN_FILES {
            let idle = self.open.iter().find(|(name, open)| self.dirty.as_ref() != Some(*name) && open.is_settled());
            let Some(name) = idle.map(|(name, _)| name.clone()) else { return };
            self.open.remove(&name);
        }
    }
}
