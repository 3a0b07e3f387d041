//! Commands on this machine.
//!
//! A command is over when it has ended *and* nobody holds its output any more: what it left running in the background
//! with the same output belongs to it, as with Consul. If that takes too long, or is not wanted any more, the whole process
//! group is killed. What a command left behind on purpose, with an output or a process group of its own, is left alone.
//!
//! Should the agent itself be killed without a chance to do anything, its commands run on to their own end: to have the
//! system kill them in that moment takes a call between fork and exec, which Rust holds to be unsafe.

use std::io;
use std::process::{ExitStatus, Stdio};

use lictor_core::io::Finding;
use lictor_core::probe::Command;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::Child;

use super::tail::Tail;
use crate::errands::Errands;
use crate::error::words;

/// The shell for commands that are a line.
const SHELL: &str = "/bin/sh";

/// Room for what one read brings.
const READ_BYTES: usize = 16 << 10;

/// Runs a command and waits for its end. If this future is dropped before, the command is killed.
pub(super) async fn run(errands: &Errands, command: &Command) -> Finding {
    let outcome = match words_of(command) {
        Some(program) => match Group::start(errands, &program) {
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

/// A process group whose leader has not been waited for, so that its number cannot be anybody else's yet. Dropping it kills
/// all that is in it.
struct Group {
    leader: Option<(Child, Pid)>,
    errands: Errands,
}

impl Group {
    /// Starts a program with both its outputs in one pipe, so that they stay in order.
    fn start(errands: &Errands, program: &[&str]) -> io::Result<(Self, pipe::Receiver)> {
        let (reader, writer) = io::pipe()?;
        let reader = pipe::Receiver::from_owned_fd(reader.into())?;
        let mut command = tokio::process::Command::new(program[0]);
        command.args(&program[1..]).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let child = command.spawn()?;
        let number = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let number = number.ok_or_else(|| io::Error::other("the process has no number"))?;
        Ok((Self { leader: Some((child, number)), errands: errands.clone() }, reader))
    }

    /// Waits for the leader's end. There is nothing to kill any more then.
    async fn wait(&mut self) -> io::Result<ExitStatus> {
        let Some((child, _)) = &mut self.leader else { return Err(io::Error::other("it was waited for already")) };
        let status = child.wait().await?;
        self.leader = None;
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some((mut leader, number)) = self.leader.take() else { return };
        if let Err(error) = kill_process_group(number, Signal::KILL) {
            tracing::warn!("cannot kill the processes of a check: {error}");
        }
        // Somebody must take note of its end, or it would stay in the system's table.
        self.errands.spawn_last(async move {
            let _ = leader.wait().await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::super::tests::{PATIENCE, errands};
    use super::*;

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

    /// Waits for the numbers of processes in a file.
    async fn numbers(file: &Path, count: usize) -> Vec<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            if text.ends_with('\n') && text.lines().count() == count {
                return text.lines().map(|line| line.trim().parse().unwrap()).collect();
            }
            assert!(Instant::now() < deadline, "the command has not begun");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until no such process is left, be it as a zombie of ours.
    async fn gone(number: i32) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
            let (state, parent) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
            // Whom it belonged to may take his time; what matters is that it is dead, and that we are not to blame.
            if stat.is_empty() || (state == "Z" && parent != std::process::id().to_string()) {
                return;
            }
            assert!(Instant::now() < deadline, "process {number} is still there: {stat}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A command that hangs with a child and a grandchild, all of which hold the output and mind no polite signal.
    fn hanging(file: &Path) -> Command {
        let file = file.display();
        Command::Shell(format!(
            "trap '' TERM INT HUP; (trap '' TERM; sh -c 'echo $$ >>{file}; exec sleep 1000' & \
             sh -c 'echo $PPID >>{file}'; wait) & echo $$ >>{file}; wait"
        ))
    }

    #[tokio::test]
    async fn a_command_that_is_given_up_dies_with_all_its_offspring() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("numbers");
        let (errands, end, _inbox) = errands();
        let command = hanging(&file);
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
        let (own, command) = (errands.clone(), hanging(&file));
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
