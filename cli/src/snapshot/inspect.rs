//! `lictor snapshot inspect`.

use std::ffi::OsString;
use std::io::BufReader;
use std::process::ExitCode;

use lictor_http::archive::{self, Meta};

use super::{only_file, open};
use crate::failed;
use crate::table::table;

/// The status for a file that is there and is no sound snapshot, as Consul 0.7 has it.
const UNSOUND: u8 = 2;

/// Shows what a snapshot is of
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Verifies a snapshot as a whole and shows what it is of. Needs no agent.\n\n    $ lictor snapshot \
                  inspect backup.snap"
)]
pub(crate) struct Args {
    /// The file.
    file: Vec<OsString>,
}

pub(super) fn run(args: Args) -> ExitCode {
    let file = match only_file(args.file).and_then(|file| open(&file)) {
        Ok(file) => file,
        Err(why) => return failed::status(Err(why)),
    };
    match archive::verify(BufReader::new(file), u64::MAX) {
        Ok(meta) => {
            say!("{}", shown(&meta));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain!("Error verifying snapshot: {error}");
            ExitCode::from(UNSOUND)
        }
    }
}

fn shown(meta: &Meta) -> String {
    let rows = [
        ("ID", meta.id.clone()),
        ("Size", meta.size.to_string()),
        ("Index", meta.index.to_string()),
        ("Term", meta.term.to_string()),
        ("Version", meta.version.to_string()),
    ];
    table(&rows.map(|(name, value)| vec![format!("{name:<11}"), value]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_shown_line_by_line() {
        let meta = Meta { version: 1, id: "2-9-148".into(), index: 9, term: 2, size: 77 };
        assert_eq!(
            shown(&meta),
            "ID           2-9-148\nSize         77\nIndex        9\nTerm         2\nVersion      1\n"
        );
    }
}
