//! Reads what a server had kept on its disk, and makes the disk fit for being written on.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use lictor_core::file::FileName;
use lictor_core::keep;
use lictor_core::recovery::{self, Failure, PEERS_INFO, Recovered};
use lictor_core::wal;

use crate::disk::{Files, create_directory, sync_directory};
use crate::error::StartError;

/// Files are read in blocks of this size.
const BLOCK_BYTES: usize = 1 << 20;

/// How many folders there may be in each other below the agent's own.
const AGENT_DEPTH: usize = 4;

const PEERS_INFO_TEXT: &str = "\
raft/peers.json is the way out when so many servers are lost for good that the others find no quorum.
It is not there as long as it is not needed: the servers keep the list of members in their logs.

To use it, stop all servers that are left. Write the same raft/peers.json into the data directory of each of them: a list
of the servers that are left,

[
  { \"id\": \"adf4238a-882b-9ddc-4a9d-5b6758e4159e\", \"address\": \"10.1.0.1:8300\", \"non_voter\": false }
]

where \"id\" is what that server's file node-id holds. A list of nothing but addresses, [\"10.1.0.1:8300\"], does too, if they
are those that the servers had before. Then start them again. Each says in its log what it made of the file, and removes
it when that is done.

All that a server had on its disk counts as committed then, and what none of those that are left has is lost. A server
that is not in the list must not come back with the data that it had.
";

/// Reads what is in a data directory, carries out what recovery asks for, and says what the operator should know.
/// Nothing is changed if it refuses. An agent that is no server has no log: `raft/` is neither made nor looked at.
pub(crate) fn recover(directory: &Path, files: &mut Files, server: bool) -> Result<Recovered, StartError> {
    let raft = directory.join(wal::DIRECTORY);
    if server {
        create_directory(&raft)?;
    }
    let mut on_disk = OnDisk { directory, server, folders: Vec::new() };
    let recovered = recovery::recover(&mut on_disk).map_err(|failure| {
        let path = directory.to_owned();
        match failure {
            Failure::Files(error) => error,
            Failure::Corrupt(corrupt) => StartError::CorruptLog { path, corrupt },
            other => StartError::Refused { path, why: other.to_string() },
        }
    })?;
    // A process that was killed may have made these entries without waiting for the disk.
    for folder in &on_disk.folders {
        sync_directory(folder)?;
    }
    sync_directory(directory)?;
    for warning in &recovered.warnings {
        tracing::warn!("{warning}");
    }
    for repair in &recovered.repairs {
        tracing::debug!("repairing the server's files: {}", repair.file());
        files.apply(repair)?;
    }
    files.sync()?;
    if server {
        write_peers_info(&directory.join(PEERS_INFO))?;
    }
    Ok(recovered)
}

/// Tells operators, where they will look for it, how to recover from the loss of most servers.
fn write_peers_info(path: &Path) -> Result<(), StartError> {
    match File::create_new(path) {
        Ok(mut file) => file.write_all(PEERS_INFO_TEXT.as_bytes()).map_err(StartError::io("write", path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StartError::io("create", path)(error)),
    }
}

/// The files of an agent that is about to start.
struct OnDisk<'a> {
    directory: &'a Path,
    server: bool,
    /// The folders that were listed.
    folders: Vec<PathBuf>,
}

impl OnDisk<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Adds all that is in a folder, and, as far as `depth` allows, in those below it. Whatever is no folder counts as a
    /// file, and a folder too deep down.
    fn list(&mut self, folder: &str, depth: usize, names: &mut Vec<FileName>) -> Result<(), StartError> {
        let path = self.path(folder);
        let failed = || StartError::io("read the directory", &path);
        let entries = match path.read_dir() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed())?,
        };
        for entry in entries {
            let entry = entry.map_err(failed())?;
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if depth > 0 && entry.file_type().map_err(failed())?.is_dir() {
                self.list(&name, depth - 1, names)?;
            } else {
                names.push(name);
            }
        }
        self.folders.push(path);
        Ok(())
    }
}

impl recovery::Files for OnDisk<'_> {
    type Error = StartError;

    fn names(&mut self) -> Result<Vec<FileName>, StartError> {
        let mut names = Vec::new();
        if self.server {
            self.list(wal::DIRECTORY, 0, &mut names)?;
        }
        self.list(keep::FOLDER.trim_end_matches('/'), AGENT_DEPTH, &mut names)?;
        Ok(names)
    }

    fn read(&mut self, name: &str, take: &mut dyn FnMut(&[u8])) -> Result<(), StartError> {
        let path = self.path(name);
        let mut file = File::open(&path).map_err(StartError::io("open", &path))?;
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            match file.read(&mut block) {
                Ok(0) => return Ok(()),
                Ok(count) => take(&block[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StartError::io("read", &path)(error)),
            }
        }
    }

    fn size(&mut self, name: &str) -> Result<u64, StartError> {
        let path = self.path(name);
        let metadata = path.metadata().map_err(StartError::io("look at", &path))?;
        Ok(metadata.len())
    }
}

#[cfg(test)]
mod tests {
    use lictor_core::id::{Index, Term};
    use lictor_core::raft::Position;
    use lictor_core::snapshot;

    use super::*;
    use crate::disk::Quota;

    fn attempt(directory: &Path) -> Result<Recovered, StartError> {
        let lock = File::create(directory.join("lock")).unwrap();
        recover(directory, &mut Files::new(directory.to_owned(), Quota::default(), lock), true)
    }

    #[test]
    fn an_agent_without_a_log_has_its_small_files_and_no_folder_for_one() {
        let directory = tempfile::tempdir().unwrap();
        let lock = File::create(directory.path().join("lock")).unwrap();
        let mut files = Files::new(directory.path().to_owned(), Quota::default(), lock);
        assert!(recover(directory.path(), &mut files, false).unwrap().files.is_empty());
        let services = directory.path().join("agent/services");
        std::fs::create_dir_all(&services).unwrap();
        for name in ["agent/pool", "agent/services/web", "agent/services/db.new"] {
            std::fs::write(directory.path().join(name), name).unwrap();
        }
        let recovered = recover(directory.path(), &mut files, false).unwrap();
        assert_eq!(recovered.files.keys().collect::<Vec<_>>(), ["agent/pool", "agent/services/web"]);
        assert_eq!(recovered.files["agent/services/web"], "agent/services/web");
        assert!(!services.join("db.new").exists() && !directory.path().join(wal::DIRECTORY).exists());
        // What it had kept, it keeps as a server.
        assert_eq!(recover(directory.path(), &mut files, true).unwrap().files, recovered.files);
    }

    #[test]
    fn a_new_directory_explains_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        attempt(directory.path()).unwrap();
        let info = directory.path().join(PEERS_INFO);
        assert!(std::fs::read_to_string(&info).unwrap().contains("raft/peers.json"));
        // The operator's own notes are left alone, and are no stranger to recovery.
        std::fs::write(&info, "mine").unwrap();
        assert_eq!(attempt(directory.path()).unwrap().warnings, Vec::<String>::new());
        assert_eq!(std::fs::read_to_string(&info).unwrap(), "mine");
    }

    #[test]
    fn the_form_that_is_explained_is_the_one_that_is_understood() {
        let directory = tempfile::tempdir().unwrap();
        attempt(directory.path()).unwrap();
        let (from, to) = (PEERS_INFO_TEXT.find("[\n").unwrap(), PEERS_INFO_TEXT.find("\n]").unwrap() + 2);
        std::fs::write(directory.path().join(recovery::PEERS), &PEERS_INFO_TEXT[from..to]).unwrap();
        let forced = attempt(directory.path()).unwrap().forced.unwrap();
        assert_eq!(
            forced.voters().map(|id| id.to_string()).collect::<Vec<_>>(),
            ["adf4238a-882b-9ddc-4a9d-5b6758e4159e"]
        );
    }

    #[test]
    fn leftovers_go_and_strangers_stay() {
        let directory = tempfile::tempdir().unwrap();
        let raft = directory.path().join(wal::DIRECTORY);
        std::fs::create_dir(&raft).unwrap();
        let stranger = raft.join("notes.txt");
        for path in
            [directory.path().join(snapshot::DRAFT), directory.path().join(snapshot::RECEIVED), stranger.clone()]
        {
            std::fs::write(path, "some bytes").unwrap();
        }
        let warnings = attempt(directory.path()).unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].contains("raft/notes.txt"), "{warnings:?}");
        assert!(stranger.exists() && !directory.path().join(snapshot::DRAFT).exists());
        assert!(!directory.path().join(snapshot::RECEIVED).exists());
    }

    #[test]
    fn a_refusal_names_the_directory_and_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let raft = directory.path().join(wal::DIRECTORY);
        std::fs::create_dir(&raft).unwrap();
        let name = snapshot::file_name(Position { index: Index(7), term: Term(1) });
        std::fs::write(directory.path().join(&name), "no snapshot").unwrap();
        let said = attempt(directory.path()).unwrap_err().to_string();
        assert!(
            said.contains(directory.path().to_str().unwrap()) && said.contains("the raft log is missing"),
            "{said}"
        );
        std::fs::remove_file(directory.path().join(&name)).unwrap();
        let peers = directory.path().join(recovery::PEERS);
        std::fs::write(&peers, "10.1.0.1:8300").unwrap();
        let said = attempt(directory.path()).unwrap_err().to_string();
        assert!(said.contains("raft/peers.json") && said.contains("not JSON"), "{said}");
        assert_eq!(std::fs::read_dir(&raft).unwrap().count(), 1);
    }
}
