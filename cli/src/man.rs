//! `lictor man`: manual pages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::failed::{self, Failed};

/// Writes manual pages
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Writes the manual pages of all commands into a directory, which is made if it is not there: lictor.1, \
                  lictor-kv-put.1\nand so on.\n\n    $ lictor man /usr/local/share/man/man1\n    $ man lictor-exec"
)]
pub(crate) struct Args {
    /// The directory.
    directory: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> ExitCode {
    let Some(directory) = args.directory else {
        return failed::status(Err(Failed("Name a directory for the pages: lictor man DIRECTORY".to_owned())));
    };
    failed::status(write(&directory))
}

fn write(directory: &Path) -> Result<(), Failed> {
    let failed = |error: std::io::Error| Failed(format!("Cannot write pages into {}: {error}", directory.display()));
    fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(crate::definition(), directory).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_page() {
        let directory = tempfile::tempdir().unwrap();
        let pages = directory.path().join("man/man1");
        write(&pages).unwrap();
        for name in ["lictor", "lictor-agent", "lictor-exec", "lictor-catalog-nodes", "lictor-kv-put"] {
            let page = fs::read_to_string(pages.join(format!("{name}.1"))).unwrap();
            assert!(page.contains(".SH NAME"), "{name}: {page}");
        }
        assert!(fs::read_to_string(pages.join("lictor-exec.1")).unwrap().contains("canary"));
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(write(&file).is_err());
    }
}
