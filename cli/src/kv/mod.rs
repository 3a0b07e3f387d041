//! `lictor kv`: the key-value store from the command line.

mod delete;
mod export;
mod get;
mod import;
mod put;

use std::process::ExitCode;

use clap::Subcommand;

use crate::failed::{self, Failed};

/// Reads and writes the key-value store
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Subcommand)]
enum Commands {
    Get(get::Args),
    Put(put::Args),
    Delete(delete::Args),
    Export(export::Args),
    Import(import::Args),
}

pub(crate) fn run(args: Args) -> ExitCode {
    let done = match args.command {
        Commands::Get(args) => get::run(args),
        Commands::Put(args) => put::run(args),
        Commands::Delete(args) => delete::run(args),
        Commands::Export(args) => export::run(args),
        Commands::Import(args) => import::run(args),
    };
    failed::status(done)
}

/// The one key that a command takes. No key begins with a slash, though people may write one.
fn only_key(args: Vec<String>) -> Result<String, Failed> {
    let number = args.len();
    match <[String; 1]>::try_from(args) {
        Ok([key]) => Ok(key.strip_prefix('/').map(str::to_owned).unwrap_or(key)),
        Err(_) if number == 0 => Ok(String::new()),
        Err(_) => Err(Failed(format!("Too many arguments (expected 1, got {number})"))),
    }
}

/// Where a key is.
fn path(key: &str) -> String {
    format!("kv/{key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_is_taken_without_its_leading_slash() {
        let key = |args: &[&str]| only_key(args.iter().map(ToString::to_string).collect());
        assert_eq!(key(&["/a/b"]).unwrap(), "a/b");
        assert_eq!(key(&[]).unwrap(), "");
        assert_eq!(key(&["a", "b"]).unwrap_err().0, "Too many arguments (expected 1, got 2)");
    }
}
