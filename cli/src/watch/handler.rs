//! The command that is run on each change.

use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::client::go_file_reason;
use crate::lock::{in_shell, in_words};

/// A command that gets JSON.
#[derive(Debug)]
pub(super) struct Handler {
    program: Vec<String>,
}

impl Handler {
    pub(super) fn new(command: Vec<String>, shell: bool) -> Self {
        Self { program: if shell { in_shell(&command.join(" ")) } else { command } }
    }

    /// Runs it and waits for its end. The error is a text for the user.
    pub(super) async fn run(&self, index: u64, json: &str) -> Result<(), String> {
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]).env("CONSUL_INDEX", index.to_string()).stdin(Stdio::piped());
        let mut child = command.spawn().map_err(|error| go_file_reason(&error))?;
        let stdin = child.stdin.take();
        let feeding = async {
            let Some(mut stdin) = stdin else { return };
            // A command need not read what it gets.
            let _ = stdin.write_all(format!("{json}\n").as_bytes()).await;
        };
        let (status, ()) = tokio::join!(child.wait(), feeding);
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(in_words(status)),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_gets_json_and_index() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = format!("cat > {0}; echo $CONSUL_INDEX >> {0}", file.path().display());
        Handler::new(vec![line], true).run(7, "[]").await.unwrap();
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "[]\n7\n");
    }

    #[tokio::test]
    async fn a_command_that_reads_nothing_is_no_failure_one_that_fails_is() {
        let long = "x".repeat(1 << 20);
        Handler::new(vec!["true".to_owned()], false).run(1, &long).await.unwrap();
        let failed = Handler::new(vec!["exit 4".to_owned()], true).run(1, "[]").await;
        assert_eq!(failed, Err("exit status 4".to_owned()));
        assert!(
            Handler::new(vec!["/nosuch/x".to_owned()], false).run(1, "").await.unwrap_err().contains("no such file")
        );
    }
}
