//! Why an agent could not be started, in words for the person who started it.

use std::io;
use std::path::{Path, PathBuf};

use lictor_core::id::PeerId;
use lictor_core::wal::Corrupt;

use crate::disk::FilesError;

/// Why an agent could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process holds the lock.
    #[error(
        "the data directory {} is in use by another agent{}: stop that agent, or choose another directory",
        path.display(),
        pid.map_or(String::new(), |pid| format!(" (process {pid})"))
    )]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// The process that wrote the lock file, if it could be read.
        pid: Option<u32>,
    },
    /// The system refused something.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried, as in "cannot … the file".
        doing: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file that holds the stable ID does not hold one.
    #[error(
        "{} does not hold a UUID: restore the file, or remove it if this server may rejoin its cluster as a new one",
        path.display()
    )]
    MalformedNodeId {
        /// The file.
        path: PathBuf,
    },
    /// The directory belongs to a server with another ID.
    #[error("the data directory {} belongs to the server {found}, not to {wanted}", path.display())]
    OtherNodeId {
        /// The data directory.
        path: PathBuf,
        /// The ID that it holds.
        found: PeerId,
        /// The ID that the agent was to have.
        wanted: PeerId,
    },
    /// The log is there, but not whose it is.
    #[error(
        "{} is missing, although there is a raft log beside it: restore the file, or move the whole directory away if \
         this server may rejoin its cluster as a new one",
        path.display()
    )]
    MissingNodeId {
        /// The file.
        path: PathBuf,
    },
    /// The log cannot be trusted.
    #[error("cannot start from {}: {corrupt}", path.display())]
    CorruptLog {
        /// The data directory.
        path: PathBuf,
        /// What is wrong, in which file and where.
        corrupt: Corrupt,
    },
    /// Something else that the server had kept cannot be trusted, or `raft/peers.json` cannot be understood.
    #[error("cannot start from {}: {why}", path.display())]
    Refused {
        /// The data directory.
        path: PathBuf,
        /// What is wrong with which file, and what can be done about it.
        why: String,
    },
    /// A file could not be changed.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The socket for peers cannot be used.
    #[error("cannot listen to peers: {0}")]
    Listen(io::Error),
    /// The sockets for gossip cannot be used.
    #[error("cannot use the sockets for gossip: {0}")]
    Gossip(io::Error),
}

impl StartError {
    /// For `map_err`: the system refused to do something with a file.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

/// What the system said, as a part of a sentence.
pub(crate) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_parts_of_sentences() {
        let refused = io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
        assert_eq!(words(&refused), "connection refused");
    }
}
