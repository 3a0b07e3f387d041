//! The data directory: taking possession of it, and who this server is. What it had written before is for `recover.rs` to read.
//!
//! | name | what it holds |
//! |---|---|
//! | `lock` | locked by the agent that uses the directory; its process id, for the reader |
//! | `node-id` | the server's stable ID, written once |
//! | `raft/` | a server's log and its snapshots, see [`lictor_core::recovery`] |
//! | `agent/` | small files that the agent keeps beside the log, see [`lictor_core::keep`] |

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use lictor_core::id::PeerId;
use lictor_core::recovery::Recovered;
use lictor_core::wal;
use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use crate::disk::{Files, Quota, create_directory, parent, sync_directory};
use crate::error::StartError;
use crate::recover::recover;

const LOCK: &str = "lock";
const NODE_ID: &str = "node-id";
const NODE_ID_DRAFT: &str = "node-id.new";

/// A data directory that this process has for itself, until it is dropped or the agent that uses it stops.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: File,
    node_id: PeerId,
}

impl DataDir {
    /// Takes possession of a data directory, and makes it, with a new node ID, if it is not there.
    ///
    /// # Errors
    /// If another agent uses it, or it cannot be read and written.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StartError> {
        Self::open_with(path.into(), None)
    }

    /// As [`open`](Self::open), for a server whose ID was chosen beforehand.
    ///
    /// # Errors
    /// As with [`open`](Self::open), and if the directory belongs to a server with another ID.
    pub fn open_as(path: impl Into<PathBuf>, node_id: PeerId) -> Result<Self, StartError> {
        Self::open_with(path.into(), Some(node_id))
    }

    fn open_with(path: PathBuf, wanted: Option<PeerId>) -> Result<Self, StartError> {
        create_all(&path)?;
        let lock = lock(&path)?;
        let node_id = match read_node_id(&path)? {
            Some(found) if wanted.is_some_and(|wanted| wanted != found) => {
                return Err(StartError::OtherNodeId { path, found, wanted: wanted.unwrap_or(found) });
            }
            Some(found) => found,
            // Under a new name, the server could vote a second time in a term in which it has voted.
            None if wanted.is_none() && path.join(wal::DIRECTORY).exists() => {
                return Err(StartError::MissingNodeId { path: path.join(NODE_ID) });
            }
            None => {
                let node_id = wanted.unwrap_or_else(random_id);
                write_node_id(&path, node_id)?;
                node_id
            }
        };
        Ok(Self { path, lock, node_id })
    }

    /// The stable ID of the server that the directory belongs to.
    #[must_use]
    pub fn node_id(&self) -> PeerId {
        self.node_id
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what is in it, of the log only for a server, and makes it fit for being written on. The files keep the lock from here on.
    pub(crate) fn restore(self, quota: Quota, server: bool) -> Result<(Recovered, Files), StartError> {
        let mut files = Files::new(self.path.clone(), quota, self.lock);
        let recovered = recover(&self.path, &mut files, server)?;
        Ok((recovered, files))
    }
}

/// Makes a directory and all above it that are missing, so that each survives a power loss.
fn create_all(path: &Path) -> Result<(), StartError> {
    if path.exists() {
        return Ok(());
    }
    create_all(parent(path))?;
    create_directory(path)?;
    Ok(())
}

/// Locks the directory against other agents. The system lets go of the lock when the process ends, however
/// it ends, so that a file left behind locks nobody out.
fn lock(directory: &Path) -> Result<File, StartError> {
    let path = directory.join(LOCK);
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(StartError::io("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(errno) if errno == rustix::io::Errno::WOULDBLOCK => {
            let mut text = String::new();
            // Who it is, is good to know and no more.
            let _ = file.take(32).read_to_string(&mut text);
            return Err(StartError::Locked { path: directory.to_owned(), pid: text.trim().parse().ok() });
        }
        Err(errno) => return Err(StartError::io("lock", &path)(errno.into())),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(StartError::io("write", &path))?;
    Ok(file)
}

fn read_node_id(directory: &Path) -> Result<Option<PeerId>, StartError> {
    let path = directory.join(NODE_ID);
    match std::fs::read_to_string(&path) {
        Ok(text) => match Uuid::try_parse(text.trim()) {
            Ok(id) => Ok(Some(PeerId(id))),
            Err(_) => Err(StartError::MalformedNodeId { path }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(StartError::MalformedNodeId { path }),
        Err(error) => Err(StartError::io("read", &path)(error)),
    }
}

/// All of it or nothing survives a power loss: the file gets its name once its content is on disk.
fn write_node_id(directory: &Path, id: PeerId) -> Result<(), StartError> {
    let (draft, path) = (directory.join(NODE_ID_DRAFT), directory.join(NODE_ID));
    File::create(&draft)
        .and_then(|mut file| {
            writeln!(file, "{}", id.0)?;
            file.sync_all()
        })
        .map_err(StartError::io("write", &draft))?;
    std::fs::rename(&draft, &path).map_err(StartError::io("write", &path))?;
    sync_directory(directory)?;
    Ok(())
}

fn random_id() -> PeerId {
    PeerId(uuid::Builder::from_random_bytes(random_bytes()).into_uuid())
}

/// Random bytes from the system.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            // Every Linux that this program runs on has the call.
            Err(errno) => panic!("the system gives no random bytes: {errno}"),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_belongs_to_one_agent_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep/down");
        let first = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, StartError::Locked { pid: Some(pid), .. } if pid == std::process::id()), "{said}");
        assert!(said.contains(path.to_str().unwrap()) && said.contains("in use by another agent"), "{said}");
        let id = first.node_id();
        drop(first);
        assert_eq!(DataDir::open(&path).unwrap().node_id(), id);
    }

    #[test]
    fn a_server_keeps_its_name() {
        let root = tempfile::tempdir().unwrap();
        let (mine, other) = (PeerId(Uuid::from_u128(1 << 100)), PeerId(Uuid::from_u128(2 << 100)));
        assert_eq!(DataDir::open_as(root.path(), mine).unwrap().node_id(), mine);
        assert_eq!(DataDir::open(root.path()).unwrap().node_id(), mine);
        let error = DataDir::open_as(root.path(), other).unwrap_err();
        assert!(matches!(error, StartError::OtherNodeId { found, wanted, .. } if found == mine && wanted == other));
    }

    #[test]
    fn a_damaged_name_is_not_replaced() {
        let root = tempfile::tempdir().unwrap();
        for text in [b"not a uuid".as_slice(), b"", b"\xff\xfe"] {
            std::fs::write(root.path().join(NODE_ID), text).unwrap();
            let error = DataDir::open(root.path()).unwrap_err();
            assert!(matches!(error, StartError::MalformedNodeId { .. }), "{error}");
        }
    }

    #[test]
    fn a_log_without_a_name_is_not_taken_for_a_new_server() {
        let root = tempfile::tempdir().unwrap();
        drop(DataDir::open(root.path()).unwrap().restore(Quota::default(), true).unwrap());
        std::fs::remove_file(root.path().join(NODE_ID)).unwrap();
        let error = DataDir::open(root.path()).unwrap_err();
        assert!(matches!(error, StartError::MissingNodeId { .. }), "{error}");
        // Whoever knows the name may give it back.
        let id = PeerId(Uuid::from_u128(7 << 90));
        assert_eq!(DataDir::open_as(root.path(), id).unwrap().node_id(), id);
    }

    #[test]
    fn names_are_drawn_anew_for_each_server() {
        assert_ne!(random_id(), random_id());
        assert_eq!(random_id().0.get_version_num(), 4);
    }
}
