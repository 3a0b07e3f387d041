//! `lictor kv delete`.

use super::{Failed, only_key, path};
use crate::client::{Answer, Client, Error, Options};
use crate::flags;

/// Removes a key, or all keys below a prefix
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    #[command(flatten)]
    client: Options,
    /// Remove only if the key's modify index is -modify-index.
    #[arg(long)]
    cas: bool,
    /// The modify index for -cas.
    #[arg(long, value_name = "number", default_value_t = 0, value_parser = flags::number::<u64>)]
    modify_index: u64,
    /// Remove all keys that begin with the prefix.
    #[arg(long)]
    recurse: bool,
    /// The key or prefix.
    key: Vec<String>,
}

pub(super) fn run(args: Args) -> Result<(), Failed> {
    let key = only_key(args.key)?;
    if key.is_empty() && !args.recurse {
        return Err(Failed::error("Missing KEY argument"));
    }
    if args.cas && args.modify_index == 0 {
        return Err(Failed("Must specify -modify-index with -cas!".to_owned()));
    }
    if !args.cas && args.modify_index != 0 {
        // Consul says so and goes on, and scripts may have come to rely on it.
        say!("Cannot specify -modify-index without -cas!");
    }
    if args.cas && args.recurse {
        return Err(Failed("Cannot specify both -cas and -recurse!".to_owned()));
    }
    let index = args.modify_index.to_string();
    let query = match (args.recurse, args.cas) {
        (true, _) => vec![("recurse", "")],
        (false, true) => vec![("cas", &*index)],
        (false, false) => vec![],
    };
    let subject = if args.recurse { "prefix" } else { "key" };
    let failed = |error: Error| Failed::error(format!("Did not delete {subject} {key}: {error}"));
    let client = Client::new(args.client).map_err(failed)?;
    let done = client.delete(&path(&key), &query).and_then(Answer::ok).map_err(failed)?;
    if done.trim_ascii() != b"true" {
        let why = if args.cas { ": CAS failed" } else { "" };
        return Err(Failed::error(format!("Did not delete {subject} {key}{why}")));
    }
    match args.recurse {
        true => say!("Success! Deleted keys with prefix: {key}"),
        false => say!("Success! Deleted key: {key}"),
    }
    Ok(())
}
