//! Changes of files beside the log, made so that they hold up its writes as little as can be.
//!
//! A file system with a journal, such as ext4, makes the log's `fdatasync` wait until the journal is on disk, and the
//! journal until the content is there of every file that was given new blocks. A snapshot of a gigabyte that the system
//! keeps in memory and writes out at its own time would thus stop all writes for as long as that takes. Therefore a
//! file that grows is given its blocks well ahead of what is written, unwritten ones, whose content the journal does
//! not wait for; and what is written is made durable a little at a time, so that there is never much on its way.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use lictor_core::io::{FileName, FileOp};

use super::Quota;
use super::system::{self, FilesError, Open, allocate_behind_end};

/// At the most so much is written before it is made durable.
const DIRTY_BYTES: usize = 1 << 20;

/// Blocks are given to a file so far ahead of what is written: as much as it has already, between these two.
const MIN_AHEAD: u64 = 1 << 20;
const MAX_AHEAD: u64 = 16 << 20;

/// A hand on a data directory, for the files beside the log.
pub(crate) struct Beside {
    directory: PathBuf,
    quota: Quota,
    /// The file that was written to last.
    current: Option<Current>,
    /// The directory's.
    _lock: Arc<File>,
}

struct Current {
    name: FileName,
    open: Open,
    /// Blocks were given to it up to here; the largest number if it is useless to ask for more.
    ahead: u64,
    /// Bytes written since the last sync.
    dirty: usize,
}

impl Beside {
    pub(super) fn new(directory: PathBuf, quota: Quota, lock: Arc<File>) -> Self {
        Self { directory, quota, current: None, _lock: lock }
    }

    /// Carries out changes in their order. All of them are durable afterwards.
    pub(super) fn apply(&mut self, ops: &[FileOp]) -> Result<(), FilesError> {
        for op in ops {
            match op {
                FileOp::Write { file, offset, bytes } => self.write(file, *offset, bytes)?,
                FileOp::Truncate { file, size } => self.truncate(file, *size)?,
                FileOp::Remove { file } => self.remove(file)?,
                FileOp::Rename { file, to } => self.rename(file, to)?,
            }
        }
        self.sync()
    }

    fn write(&mut self, name: &FileName, offset: u64, bytes: &[u8]) -> Result<(), FilesError> {
        let quota = self.quota.clone();
        let current = self.turn_to(name)?;
        let end = offset + bytes.len() as u64;
        if end > current.ahead {
            let ahead = end + end.clamp(MIN_AHEAD, MAX_AHEAD);
            current.ahead = if allocate_behind_end(&current.open, ahead)? { ahead } else { u64::MAX };
        }
        current.dirty += bytes.len();
        current.open.write_at(&quota, offset, bytes)?;
        if current.dirty >= DIRTY_BYTES { self.sync() } else { Ok(()) }
    }

    fn truncate(&mut self, name: &FileName, size: u64) -> Result<(), FilesError> {
        let current = self.turn_to(name)?;
        current.open.set_len(size)?;
        current.ahead = size;
        Ok(())
    }

    fn remove(&mut self, name: &FileName) -> Result<(), FilesError> {
        self.leave(name);
        system::remove(&self.directory.join(name))
    }

    fn rename(&mut self, name: &FileName, to: &FileName) -> Result<(), FilesError> {
        self.leave(name);
        self.leave(to);
        system::rename(&self.directory.join(name), &self.directory.join(to))
    }

    fn leave(&mut self, name: &FileName) {
        if self.current.as_ref().is_some_and(|current| current.name == *name) {
            self.current = None;
        }
    }

    /// The file, opened if need be, created if it is not there. One that is left is durable.
    fn turn_to(&mut self, name: &FileName) -> Result<&mut Current, FilesError> {
        if self.current.as_ref().is_none_or(|current| current.name != *name) {
            self.sync()?;
            let open = Open::open_or_create(&self.directory, name)?;
            self.current = Some(Current { name: name.clone(), ahead: open.size, open, dirty: 0 });
        }
        Ok(self.current.as_mut().expect("it was just opened"))
    }

    fn sync(&mut self) -> Result<(), FilesError> {
        match &mut self.current {
            Some(current) if current.dirty > 0 || !current.open.is_settled() => {
                current.open.sync()?;
                current.dirty = 0;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
