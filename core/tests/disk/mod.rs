//! A disk in memory, and what a crash may leave of it.

use std::collections::BTreeMap;

use lictor_core::io::FileOp;
use lictor_core::recovery::Files;
use lictor_core::rng::Rng;

/// Disks write these whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// The files of a host that starts.
pub(crate) struct InMemory<'a>(pub(crate) &'a BTreeMap<String, Vec<u8>>);

impl Files for InMemory<'_> {
    type Error = std::convert::Infallible;

    fn names(&mut self) -> Result<Vec<String>, Self::Error> {
        Ok(self.0.keys().cloned().collect())
    }

    fn read(&mut self, name: &str, take: &mut dyn FnMut(&[u8])) -> Result<(), Self::Error> {
        take(&self.0[name]);
        Ok(())
    }
}

/// Carries out a change.
pub(crate) fn carry_out(files: &mut BTreeMap<String, Vec<u8>>, op: &FileOp) {
    let bytes = files.entry(op.file().clone()).or_default();
    match op {
        FileOp::Write { offset, bytes: new, .. } => {
            let at = usize::try_from(*offset).unwrap();
            bytes.resize(bytes.len().max(at + new.len()), 0);
            bytes[at..at + new.len()].copy_from_slice(new);
        }
        FileOp::Truncate { size, .. } => bytes.truncate(usize::try_from(*size).unwrap()),
        FileOp::Remove { file } => drop(files.remove(file)),
        FileOp::Rename { file, to } => {
            let bytes = files.remove(file).unwrap();
            files.insert(to.clone(), bytes);
        }
    }
}

/// Some of the changes are carried out, in their order, and perhaps one in part.
pub(crate) fn break_off(files: &mut BTreeMap<String, Vec<u8>>, ops: &[&FileOp], rng: &mut Rng) {
    let done = usize::try_from(rng.below(ops.len() as u64 + 1)).unwrap();
    ops[..done].iter().for_each(|op| carry_out(files, op));
    if let Some(FileOp::Write { file, offset, bytes }) = ops.get(done) {
        let end = (offset + rng.below(bytes.len() as u64)) / SECTOR_BYTES * SECTOR_BYTES;
        let part = bytes.slice(..usize::try_from(end.saturating_sub(*offset)).unwrap());
        carry_out(files, &FileOp::Write { file: file.clone(), offset: *offset, bytes: part });
    }
}
