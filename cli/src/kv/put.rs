//! `lictor kv put`.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use super::{Failed, path};
use crate::client::{Answer, Client, Error, Options, go_file_reason};
use crate::flags;

/// Stores a value under a key
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Stores a value under a key. The data may be @file for what is in a file, or - for what\ncomes from \
                  standard input; without data the value is empty."
)]
pub(crate) struct Args {
    #[command(flatten)]
    client: Options,
    /// Acquire the lock on the key for -session.
    #[arg(long)]
    acquire: bool,
    /// Store only if the key's modify index is -modify-index.
    #[arg(long)]
    cas: bool,
    /// A number that is stored with the value and means what you like.
    #[arg(long, value_name = "number", default_value_t = 0, value_parser = flags::number::<u64>)]
    flags: u64,
    /// The modify index for -cas.
    #[arg(long, value_name = "number", default_value_t = 0, value_parser = flags::number::<u64>)]
    modify_index: u64,
    /// Release the lock on the key for -session.
    #[arg(long)]
    release: bool,
    /// The session for -acquire and -release.
    #[arg(long, value_name = "id", default_value = "")]
    session: String,
    /// The key, and the data.
    #[arg(value_names = ["KEY", "DATA"])]
    key_data: Vec<OsString>,
}

pub(super) fn run(mut args: Args) -> Result<(), Failed> {
    let (key, value) = key_and_value(std::mem::take(&mut args.key_data))?;
    if (args.acquire || args.release) && args.session.is_empty() {
        return Err(Failed::error("Missing -session (required with -acquire and -release)"));
    }
    if args.cas && args.modify_index == 0 {
        return Err(Failed("Must specify -modify-index with -cas!".to_owned()));
    }
    let index = args.modify_index.to_string();
    let flags = args.flags.to_string();
    let mut query = match (args.cas, args.acquire, args.release) {
        (true, ..) => vec![("cas", &*index)],
        (false, true, _) => vec![("acquire", &*args.session)],
        (false, false, true) => vec![("release", &*args.session)],
        (false, false, false) => vec![],
    };
    if args.flags != 0 {
        query.push(("flags", &flags));
    }
    let failed = |error: Error| match args.cas {
        true => Failed::error(format!("Did not write to {key}: {error}")),
        false => Failed::error(format!("Failed writing data: {error}")),
    };
    if key.starts_with('/') {
        let wrong = format!("Invalid key. Key must not begin with a '/': {key}");
        return Err(failed(Error::Unsupported(wrong)));
    }
    let client = Client::new(args.client).map_err(failed)?;
    let done = client.put(&path(&key), &query, value).and_then(Answer::ok).map_err(failed)?;
    let done = done.trim_ascii() == b"true";
    let done_or = |why: String| if done { Ok(()) } else { Err(Failed::error(why)) };
    let what = match (args.cas, args.acquire, args.release) {
        (true, ..) => done_or(format!("Did not write to {key}: CAS failed")).map(|()| "Data written to"),
        (false, true, _) => done_or("Did not acquire lock".to_owned()).map(|()| "Lock acquired on"),
        (false, false, true) => done_or("Did not release lock".to_owned()).map(|()| "Lock released on"),
        (false, false, false) => done_or(format!("Did not write to {key}")).map(|()| "Data written to"),
    }?;
    say!("Success! {what}: {key}");
    Ok(())
}

/// The key, and the bytes that the data stands for.
fn key_and_value(args: Vec<OsString>) -> Result<(String, Vec<u8>), Failed> {
    let number = args.len();
    let mut args = args.into_iter();
    let (key, data) = match (args.next(), args.next(), args.next()) {
        (Some(key), data, None) => (key, data.unwrap_or_default()),
        (None, ..) => return Err(Failed::error("Missing KEY argument")),
        _ => return Err(Failed::error(format!("Too many arguments (expected 1 or 2, got {number})"))),
    };
    let key = key.into_string().map_err(|key| Failed::error(format!("The key {key:?} is not UTF-8")))?;
    Ok((key, value(data)?))
}

/// The bytes that an argument stands for.
pub(super) fn value(data: OsString) -> Result<Vec<u8>, Failed> {
    if data == "-" {
        let mut value = Vec::new();
        io::stdin().read_to_end(&mut value).map_err(|error| Failed::error(format!("Failed to read stdin: {error}")))?;
        return Ok(value);
    }
    match data.as_bytes().strip_prefix(b"@") {
        Some(file) => read_file(OsStr::from_bytes(file)),
        None => Ok(data.into_vec()),
    }
}

fn read_file(name: &OsStr) -> Result<Vec<u8>, Failed> {
    std::fs::read(name).map_err(|error| {
        let reason = go_file_reason(&error);
        Failed::error(format!("Failed to read file: open {}: {reason}", name.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(args: &[&str]) -> Result<(String, Vec<u8>), Failed> {
        key_and_value(args.iter().map(OsString::from).collect())
    }

    #[test]
    fn data_is_text_or_a_file() {
        assert_eq!(words(&["k"]).unwrap(), ("k".into(), Vec::new()));
        assert_eq!(words(&["k", "-5"]).unwrap().1, b"-5");
        assert_eq!(words(&["k", "\\@x"]).unwrap().1, b"\\@x");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"\xff\0").unwrap();
        assert_eq!(words(&["k", &format!("@{}", file.path().display())]).unwrap().1, b"\xff\0");
        assert_eq!(
            words(&["k", "@nosuch-file"]).unwrap_err().0,
            "Error! Failed to read file: open nosuch-file: no such file or directory"
        );
    }

    #[test]
    fn a_key_and_at_most_one_value_are_taken() {
        assert_eq!(words(&[]).unwrap_err().0, "Error! Missing KEY argument");
        assert_eq!(words(&["a", "b", "c"]).unwrap_err().0, "Error! Too many arguments (expected 1 or 2, got 3)");
    }
}
