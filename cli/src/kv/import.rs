//! `lictor kv import`.

use std::ffi::OsString;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lictor_http::parse;

use super::export::Exported;
use super::{Failed, path, put};
use crate::client::{self, Answer, Client};

/// Stores what lictor kv export has printed
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Stores entries that lictor kv export has printed. The data may be the JSON itself, @file for what is in \
                  a file, or -\nfor what comes from standard input.\n\n    $ lictor kv import @config.json"
)]
pub(crate) struct Args {
    #[command(flatten)]
    client: client::Options,
    /// What to put in front of each key.
    #[arg(long, value_name = "prefix", default_value = "")]
    prefix: String,
    /// The data.
    data: Vec<OsString>,
}

pub(super) fn run(args: Args) -> Result<(), Failed> {
    let number = args.data.len();
    let data = match <[OsString; 1]>::try_from(args.data) {
        Ok([data]) => put::value(data)?,
        Err(_) if number == 0 => return Err(Failed::error("Missing DATA argument")),
        Err(_) => return Err(Failed::error(format!("Too many arguments (expected 1, got {number})"))),
    };
    let entries = read(&data).map_err(|why| Failed(format!("Cannot unmarshal data: {why}")))?;
    let failed = |error: client::Error| Failed(format!("Error connecting to Consul agent: {error}"));
    let client = Client::new(args.client).map_err(failed)?;
    for Exported { key, flags, value } in entries {
        let value = STANDARD
            .decode(&value)
            .map_err(|error| Failed::error(format!("base 64 decoding value for key {key}: {error}")))?;
        let key = format!("{}{key}", args.prefix);
        let flags = flags.to_string();
        let query = if flags == "0" { vec![] } else { vec![("flags", &*flags)] };
        let written = client.put(&path(&key), &query, value).and_then(Answer::ok);
        written.map_err(|error| Failed::error(format!("Failed writing data for key {key}: {error}")))?;
        say!("Imported: {key}");
    }
    Ok(())
}

/// The entries; or what is wrong, where it is no JSON in Go's words.
fn read(data: &[u8]) -> Result<Vec<Exported>, String> {
    let value = parse::value(data)?;
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_of_an_entry_is_nothing() {
        let read = read(br#"[{"key": "a"}, {"key": "b", "flags": 9, "value": "MQ==", "namespace": "x"}]"#).unwrap();
        let exported = |key: &str, flags, value: &str| Exported { key: key.into(), flags, value: value.into() };
        assert_eq!(read, [exported("a", 0, ""), exported("b", 9, "MQ==")]);
    }

    #[test]
    fn what_is_no_json_is_told_in_the_words_of_go() {
        assert_eq!(read(b"not json").unwrap_err(), "invalid character 'o' in literal null (expecting 'u')");
        assert!(read(br#"{"key": "a"}"#).is_err());
    }
}
