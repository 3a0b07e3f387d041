//! Checks that are commands: what one says by how it ends, and by what it wrote last. If it takes too long, or is not wanted any
//! more, its whole process group is killed. See [`crate::process`] for what belongs to a command.

use std::io;

use lictor_core::io::Finding;
use lictor_core::probe::Command;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::tail::Tail;
use crate::errands::Errands;
use crate::error::words;
use crate::process::{Group, SHELL};

/// Room for what one read brings.
const READ_BYTES: usize = 16 << 10;

/// Runs a command and waits for its end. If this future is dropped before, the command is killed.
pub(super) async fn run(errands: &Errands, command: &Command) -> Finding {
    let outcome = match words_of(command) {
        Some(program) => match Group::start(errands, &program).await {
            Ok((group, output)) => follow(group, output).await,
            Err(error) => Err(io::Error::new(error.kind(), format!("{}: {}", program[0], words(&error)))),
        },
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no command to run")),
    };
    outcome.unwrap_or_else(|error| Finding::Failed { reason: words(&error) })
}

/// The program and its arguments.
fn words_of(command: &Command) -> Option<Vec<&str>> {
    match command {
        Command::Shell(line) => Some(vec![SHELL, "-c", line]),
        Command::Program(words) if words.is_empty() => None,
        Command::Program(words) => Some(words.iter().map(String::as_str).collect()),
    }
}

async fn follow(mut group: Group, mut output: pipe::Receiver) -> io::Result<Finding> {
    let mut tail = Tail::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match output.read(&mut buffer).await? {
            0 => break,
            count => tail.push(&buffer[..count]),
        }
    }
    let status = group.wait().await?;
    Ok(tail.exited(status.code()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::process::testing::{PATIENCE, errands, gone, hanging, numbers};

    async fn shell(line: &str) -> Finding {
        let (errands, _end, _inbox) = errands();
        tokio::time::timeout(PATIENCE, run(&errands, &Command::Shell(line.to_owned()))).await.unwrap()
    }

    fn exited(code: Option<i32>, output: &str) -> Finding {
        Finding::Exited { code, output: output.to_owned().into(), total: output.len() as u64 }
    }

    #[tokio::test]
    async fn a_command_s_end_and_all_that_it_wrote_are_told() {
        assert_eq!(shell("echo fine").await, exited(Some(0), "fine\n"));
        let both = "for n in 1 2 3; do echo out $n; echo err $n >&2; done; exit 2";
        assert_eq!(shell(both).await, exited(Some(2), "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n"));
        assert_eq!(shell("kill -9 $$").await, exited(None, ""));
        assert_eq!(shell("cat; echo no input").await, exited(Some(0), "no input\n"));
        // It goes on without its output.
        assert_eq!(shell("exec >/dev/null 2>&1; sleep 0.1; exit 5").await, exited(Some(5), ""));
    }

    #[tokio::test]
    async fn programs_are_run_without_a_shell() {
        let (errands, _end, _inbox) = errands();
        let program = |words: &[&str]| Command::Program(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(run(&errands, &program(&["echo", "$HOME; x"])).await, exited(Some(0), "$HOME; x\n"));
        let missing = run(&errands, &program(&["/no/such/program"])).await;
        assert_eq!(missing, Finding::Failed { reason: "/no/such/program: no such file or directory".to_owned() });
        assert!(matches!(run(&errands, &program(&[])).await, Finding::Failed { .. }));
    }

    #[tokio::test]
    async fn of_a_long_output_the_end_is_kept() {
        let Finding::Exited { code, output, total } = shell("head -c 1048576 /dev/zero; echo end").await else {
            panic!("it did not end")
        };
        assert_eq!((code, total, output.len()), (Some(0), (1 << 20) + 4, 4096));
        assert!(output.ends_with(b"\0end\n"));
    }

    #[tokio::test]
    async fn a_command_that_is_given_up_dies_with_all_its_offspring() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("numbers");
        let (errands, end, _inbox) = errands();
        let command = Command::Shell(hanging(&file));
        let running = run(&errands, &command);
        let found = tokio::select! {
            finding = running => panic!("it ended: {finding:?}"),
            found = numbers(&file, 3) => found,
        };
        drop(errands);
        end.end().await;
        for number in found {
            gone(number).await;
        }
    }

    #[tokio::test]
    async fn the_agent_s_end_takes_its_commands_along() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("numbers");
        let (errands, end, inbox) = errands();
        let (own, command) = (errands.clone(), Command::Shell(hanging(&file)));
        errands.spawn(async move {
            let finding = run(&own, &command).await;
            own.tell(lictor_core::io::Input::Probed { id: lictor_core::id::ProbeId(1), finding });
        });
        let found = numbers(&file, 3).await;
        drop(errands);
        end.end().await;
        for number in found {
            gone(number).await;
        }
        assert!(inbox.try_recv().is_err());
    }

    #[tokio::test]
    async fn what_a_command_leaves_in_the_background_with_its_output_belongs_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("numbers");
        let (errands, end, _inbox) = errands();
        let command = Command::Shell(format!("sleep 1000 & echo $! >{}; exit 0", file.display()));
        let given_up = tokio::time::timeout(Duration::from_millis(300), run(&errands, &command)).await;
        assert!(given_up.is_err(), "it ended: {given_up:?}");
        let left = numbers(&file, 1).await[0];
        drop(errands);
        end.end().await;
        gone(left).await;
    }
}
