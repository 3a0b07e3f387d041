//! The command that runs while the lock is held.
//!
//! It has a process group of its own, so that what it has started in turn ends with it when the lock is lost, and a signal
//! from a terminal reaches it once, by way of us. Only if it is to read from a terminal it stays in our group, as nobody
//! else may read there.
//!
//! Should this program be killed without a chance to do anything, the command's guard kills it, and what is in its group.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};

use lictor_runtime::guard::{Guard, Guarded, Order};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::Command;

use crate::recipe::Sequencer;

/// A command that was started. Killed when it is dropped.
pub(super) struct Child {
    process: Process,
    id: Option<Pid>,
    /// Whether it has a group of its own.
    grouped: bool,
    ended: bool,
}

enum Process {
    /// A child of ours.
    Own(tokio::process::Child),
    /// One of its guard's.
    Guarded(Guarded),
}

impl Child {
    /// Starts a command, with a guard if there is one.
    pub(super) async fn start(
        program: &[String],
        pass_stdin: bool,
        sequencer: Option<&Sequencer>,
        guard: Option<&Guard>,
    ) -> io::Result<Self> {
        let [name, arguments @ ..] = program else { return Err(io::ErrorKind::InvalidInput.into()) };
        let grouped = !(pass_stdin && io::stdin().is_terminal());
        let prepare = |command: &mut Command| {
            command.env("CONSUL_LOCK_HELD", "true");
            if let Some(Sequencer { key, session, index, .. }) = sequencer {
                command.env("LICTOR_LOCK_KEY", key).env("LICTOR_LOCK_SESSION", session);
                command.env("LICTOR_LOCK_INDEX", index.to_string());
            }
        };
        let Some(guard) = guard else {
            let mut command = Command::new(name);
            command.args(arguments).kill_on_drop(true);
            prepare(&mut command);
            command.stdin(if pass_stdin { Stdio::inherit() } else { Stdio::null() });
            if grouped {
                command.process_group(0);
            }
            let process = command.spawn()?;
            let id = process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
            return Ok(Self { process: Process::Own(process), id, grouped, ended: false });
        };
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let stdin = io::stdin();
        let input = pass_stdin.then(|| stdin.as_fd());
        let order = Order { program: OsStr::new(name), arguments: &arguments, group: grouped, input };
        let mut guarded = Guarded::spawn(guard, &order, prepare)?;
        guarded.started().await?;
        Ok(Self { id: guarded.number(), process: Process::Guarded(guarded), grouped, ended: false })
    }

    /// Its number; 0 if it has ended.
    pub(super) fn id(&self) -> i32 {
        self.id.map_or(0, |id| id.as_raw_nonzero().get())
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = match &mut self.process {
            Process::Own(process) => process.wait().await,
            Process::Guarded(guarded) => guarded.wait().await,
        };
        self.ended = true;
        status
    }

    /// Sends a signal to it and what it has started.
    pub(super) fn signal(&self, signal: Signal) {
        if !self.ended {
            self.send(signal);
        }
    }

    fn send(&self, signal: Signal) {
        let Some(id) = self.id else { return };
        // That there is nobody any more is no failure.
        let _ = match &self.process {
            Process::Guarded(guarded) => guarded.signal(signal),
            Process::Own(_) if self.grouped => kill_process_group(id, signal).map_err(io::Error::from),
            Process::Own(_) => kill_process(id, signal).map_err(io::Error::from),
        };
    }

    /// Tells it to end, even if it is stopped.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
    }

    /// Ends it.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// After its end: ends what it has left behind in its group. As long as there is any of that, the group's number cannot
    /// be anybody else's.
    pub(super) fn sweep(&self) {
        if self.grouped {
            self.send(Signal::KILL);
        }
    }
}

/// How a shell runs a line.
pub(crate) fn in_shell(line: &str) -> Vec<String> {
    let shell = std::env::var("SHELL").ok().filter(|shell| !shell.is_empty());
    vec![shell.unwrap_or_else(|| "/bin/sh".to_owned()), "-c".to_owned(), line.to_owned()]
}

/// How a command ended, as Go puts it.
pub(crate) fn in_words(status: ExitStatus) -> String {
    if let Some(code) = status.code() {
        return format!("exit status {code}");
    }
    let name = match status.signal().and_then(Signal::from_named_raw) {
        Some(Signal::HUP) => "hangup",
        Some(Signal::INT) => "interrupt",
        Some(Signal::QUIT) => "quit",
        Some(Signal::ILL) => "illegal instruction",
        Some(Signal::ABORT) => "aborted",
        Some(Signal::FPE) => "floating point exception",
        Some(Signal::KILL) => "killed",
        Some(Signal::USR1) => "user defined signal 1",
        Some(Signal::SEGV) => "segmentation fault",
        Some(Signal::USR2) => "user defined signal 2",
        Some(Signal::PIPE) => "broken pipe",
        Some(Signal::ALARM) => "alarm clock",
        Some(Signal::TERM) => "terminated",
        _ => return format!("signal: signal {}", status.signal().unwrap_or_default()),
    };
    let dump = if status.core_dumped() { " (core dumped)" } else { "" };
    format!("signal: {name}{dump}")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ended(line: &str) -> String {
        let program = ["/bin/sh", "-c", line].map(str::to_owned);
        let mut child = Child::start(&program, false, None, None).await.unwrap();
        in_words(child.ended().await.unwrap())
    }

    #[tokio::test]
    async fn ends_are_told_as_go_tells_them() {
        assert_eq!(ended("exit 3").await, "exit status 3");
        assert_eq!(ended("kill -TERM $$").await, "signal: terminated");
        assert_eq!(ended("test \"$CONSUL_LOCK_HELD\" = true").await, "exit status 0");
    }

    #[tokio::test]
    async fn a_signal_reaches_all_that_was_started() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display();
        // The inner shell notes that it got the signal; the outer one waits for it.
        let line = format!(
            "sh -c 'trap \"echo inner >> {path}; exit\" TERM; echo up >> {path}; while :; do sleep 0.01; done' & wait; wait"
        );
        let program = ["/bin/sh".to_owned(), "-c".to_owned(), format!("trap : TERM; {line}")];
        let mut child = Child::start(&program, false, None, None).await.unwrap();
        let read = || std::fs::read_to_string(file.path()).unwrap();
        while !read().contains("up") {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        child.terminate();
        child.ended().await.unwrap();
        assert!(read().contains("inner"));
    }
}
