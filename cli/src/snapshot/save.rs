//! `lictor snapshot save`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufReader, Seek as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lictor_http::archive;

use super::{cannot, only_file};
use crate::client::{Answer, Client, Error, Options};
use crate::failed::{self, Failed};

/// Saves a snapshot of the cluster's state to a file
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Saves a snapshot of the cluster's state to a file. The file gets its name only once it is there as a \
                  whole and\nwas verified; one that was there before is replaced.\n\n    $ lictor snapshot save \
                  backup.snap\n    $ lictor snapshot save -stale backup.snap"
)]
pub(crate) struct Args {
    #[command(flatten)]
    client: Options,
    /// The file.
    file: Vec<OsString>,
}

pub(super) fn run(args: Args) -> ExitCode {
    failed::status(save(args))
}

fn save(args: Args) -> Result<(), Failed> {
    let failed = |error: Error| Failed(format!("Error saving snapshot: {error}"));
    let name = only_file(args.file)?;
    let name = target(&name)?;
    let mut draft = Draft::beside(&name)?;
    let client = Client::new(args.client).map_err(failed)?;
    client.download("snapshot", &mut draft.file).and_then(Answer::ok).map_err(failed)?;
    let meta = draft.verify().map_err(|error| Failed(format!("Error verifying snapshot file: {error}")))?;
    draft.keep(&name).map_err(|error| Failed(format!("Error writing snapshot file: {error}")))?;
    say!("Saved and verified snapshot to index {}", meta.index);
    Ok(())
}

/// The file that is to be replaced. A link stays one: it is what it leads to that is replaced. And what is no ordinary file, such as
/// a device, is left alone.
fn target(name: &OsStr) -> Result<OsString, Failed> {
    let refused = |why| Failed(format!("Error creating snapshot file: open {}: {why}", name.display()));
    match fs::metadata(name) {
        Ok(there) if there.is_dir() => Err(refused("is a directory")),
        Ok(there) if there.is_file() => fs::canonicalize(name)
            .map(PathBuf::into_os_string)
            .map_err(|error| Failed(cannot("creating", name, &error))),
        Ok(_) => Err(refused("is no ordinary file")),
        Err(_) => Ok(name.to_owned()),
    }
}

/// A file that is gone again unless it is kept.
struct Draft {
    path: PathBuf,
    file: File,
}

impl Draft {
    /// One in the same directory as what it is to become, so that it need only be renamed.
    fn beside(name: &OsStr) -> Result<Self, Failed> {
        let mut path = name.to_owned();
        path.push(format!(".unverified.{}", std::process::id()));
        let mut options = File::options();
        // A snapshot has all that is in the cluster, secrets among it.
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.read(true).write(true).create(true).truncate(true).open(&path);
        let file = file.map_err(|error| Failed(cannot("creating", name, &error)))?;
        Ok(Self { path: path.into(), file })
    }

    /// Verifies what is on the disk.
    fn verify(&mut self) -> Result<archive::Meta, archive::Error> {
        self.file.rewind().map_err(archive::Error::Io)?;
        archive::verify(BufReader::new(&self.file), u64::MAX)
    }

    /// Gives it its name, for good.
    fn keep(self, name: &OsStr) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, name)?;
        let directory = Path::new(name).parent().filter(|directory| !directory.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It has been renamed if it was kept.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn links_are_followed_and_devices_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().canonicalize().unwrap().join(name).into_os_string();
        fs::write(at("there"), "old").unwrap();
        std::os::unix::fs::symlink(at("there"), at("link")).unwrap();
        assert_eq!((target(&at("link")).unwrap(), target(&at("new")).unwrap()), (at("there"), at("new")));
        let refused = |name: &str| target(OsStr::new(name)).unwrap_err().0;
        assert_eq!(refused("/dev/null"), "Error creating snapshot file: open /dev/null: is no ordinary file");
        assert_eq!(refused("/"), "Error creating snapshot file: open /: is a directory");
    }

    #[test]
    fn a_draft_is_kept_or_gone() {
        let directory = tempfile::tempdir().unwrap();
        let name = directory.path().join("a.snap");
        let files =
            || fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        let draft = Draft::beside(name.as_os_str()).unwrap();
        assert_eq!(files().len(), 1);
        drop(draft);
        assert!(files().is_empty());

        fs::write(&name, "old").unwrap();
        let mut draft = Draft::beside(name.as_os_str()).unwrap();
        draft.file.write_all(b"new").unwrap();
        assert!(draft.verify().is_err());
        draft.keep(name.as_os_str()).unwrap();
        assert_eq!((files(), fs::read(&name).unwrap()), (vec![OsString::from("a.snap")], b"new".to_vec()));

        let nowhere = Draft::beside(OsStr::new("no/such/x.snap")).err().unwrap().0;
        assert_eq!(nowhere, "Error creating snapshot file: open no/such/x.snap: no such file or directory");
    }
}
