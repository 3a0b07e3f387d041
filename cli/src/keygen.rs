//! `lictor keygen`.

use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Makes up a key for gossip
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Makes up a key for gossip: 16 bytes that nobody can guess, in base64, as -encrypt takes them.\n\n    $ \
                  lictor keygen"
)]
pub(crate) struct Args {
    /// Anything more is ignored.
    #[arg(hide = true)]
    _rest: Vec<String>,
}

pub(crate) fn run() -> ExitCode {
    say!("{}", key());
    ExitCode::SUCCESS
}

fn key() -> String {
    STANDARD.encode([lictor_runtime::random_seed(), lictor_runtime::random_seed()].map(u64::to_le_bytes).concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_16_bytes_and_differ() {
        let keys = [key(), key()];
        assert!(keys.iter().all(|key| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)), "{keys:?}");
        assert_ne!(keys[0], keys[1]);
    }
}
