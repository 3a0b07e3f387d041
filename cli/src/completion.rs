//! `lictor completion`: what shells need to complete command lines.

use std::io;
use std::process::ExitCode;

use clap_complete::Shell;

/// Writes completions for a shell
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Writes what a shell needs to complete lictor's command lines to standard output: for bash, zsh, fish, elvish \
                  or\npowershell.\n\n    $ lictor completion bash > /etc/bash_completion.d/lictor\n    $ lictor completion zsh > \
                  \"${fpath[1]}/_lictor\"\n    $ lictor completion fish > ~/.config/fish/completions/lictor.fish"
)]
pub(crate) struct Args {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let mut definition = crate::definition();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition, "lictor", &mut script);
    match io::Write::write_all(&mut io::stdout().lock(), &script) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_learns_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut crate::definition(), "lictor", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["force-leave", "max-parallel", "datacenters"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
