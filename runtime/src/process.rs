//! Commands on this machine, and the processes that belong to them.
//!
//! A command is over when it has ended *and* nobody holds its output any more: what it left running in the background
//! with the same output belongs to it, as with Consul. What a command left behind on purpose, with an output or a process group of
//! its own, is left alone.
//!
//! Should the agent itself be killed without a chance to do anything, their guards kill its commands ([`crate::guard`]), if it was
//! given any; without, they run on to their own end.

pub(crate) mod children;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{PoisonError, RwLock};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempPath;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use crate::errands::Errands;
use crate::guard::{Guard, Guarded, Order};

/// The shell for commands that are a line.
pub(crate) const SHELL: &str = "/bin/sh";

/// Who starts a process shares it, who writes a program has it alone: a process that is started while the program's file is
/// open for writing holds it for a moment, and the system runs no program that somebody may still write ("text file busy").
static STARTING: RwLock<()> = RwLock::new(());

/// A process group whose leader has not been waited for, so that its number cannot be anybody else's yet. Dropping it kills
/// all that is in it.
pub(crate) struct Group {
    leader: Option<Leader>,
    errands: Errands,
}

/// The process that leads a group.
enum Leader {
    /// It is a child of ours.
    Child(Child, Pid),
    /// It is one of its guard's.
    Guarded(Guarded),
}

impl Group {
    /// Starts a program with both its outputs in one pipe, so that they stay in order, and with nothing to read.
    pub(crate) async fn start(errands: &Errands, program: &[&str]) -> io::Result<(Self, pipe::Receiver)> {
        let (name, arguments) = program.split_first().ok_or_else(|| invalid("there is no command to run"))?;
        let (reader, writer) = io::pipe()?;
        let reader = pipe::Receiver::from_owned_fd(reader.into())?;
        let leader = match errands.guard() {
            None => start(name, arguments, writer)?,
            Some(guard) => Leader::Guarded(start_guarded(guard, name, arguments, writer)?),
        };
        let mut group = Self { leader: Some(leader), errands: errands.clone() };
        if let Some(Leader::Guarded(guarded)) = &mut group.leader {
            guarded.started().await?;
        }
        Ok((group, reader))
    }

    /// Sends a signal to all that are in the group.
    pub(crate) fn signal(&self, signal: Signal) {
        let sent = match &self.leader {
            Some(Leader::Child(_, number)) => kill_process_group(*number, signal).map_err(io::Error::from),
            Some(Leader::Guarded(guarded)) => guarded.signal(signal),
            None => return,
        };
        if let Err(error) = sent {
            tracing::warn!("cannot send {signal:?} to the processes of a command: {error}");
        }
    }

    /// Waits for the leader's end. There is nothing to send a signal to any more then.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = match &mut self.leader {
            Some(Leader::Child(child, _)) => child.wait().await?,
            Some(Leader::Guarded(guarded)) => guarded.wait().await?,
            None => return Err(io::Error::other("it was waited for already")),
        };
        if let Some(Leader::Guarded(guarded)) = self.leader.take() {
            self.part_from(guarded);
        }
        Ok(status)
    }

    /// A guard goes when nobody is at the other end of the line any more. Somebody must take note of its end.
    fn part_from(&self, guarded: Guarded) {
        if let Some(mut guard) = guarded.end() {
            self.errands.spawn_last(async move {
                let _ = guard.wait().await;
            });
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        match self.leader.take() {
            Some(Leader::Child(mut leader, number)) => {
                let _ = kill_process_group(number, Signal::KILL);
                // Somebody must take note of its end, or it would stay in the system's table.
                self.errands.spawn_last(async move {
                    let _ = leader.wait().await;
                });
            }
            Some(Leader::Guarded(guarded)) => self.part_from(guarded),
            None => {}
        }
    }
}

fn start(name: &str, arguments: &[&str], output: io::PipeWriter) -> io::Result<Leader> {
    let mut command = Command::new(name);
    command.args(arguments).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let child = {
        let _starting = STARTING.read().unwrap_or_else(PoisonError::into_inner);
        command.spawn()?
    };
    let number = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let number = number.ok_or_else(|| io::Error::other("the process has no number"))?;
    Ok(Leader::Child(child, number))
}

fn start_guarded(guard: &Guard, name: &str, arguments: &[&str], output: io::PipeWriter) -> io::Result<Guarded> {
    let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    let order = Order { program: OsStr::new(name), arguments: &arguments, group: true, input: None };
    let error_output = output.try_clone()?;
    let _starting = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    Guarded::spawn(guard, &order, |command| {
        command.stdout(output).stderr(error_output);
    })
}

/// Puts a program into a file that nobody else can read, and that goes when what is returned is dropped.
pub(crate) fn write_program(program: &[u8]) -> io::Result<TempPath> {
    let _alone = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    let only_we = std::fs::Permissions::from_mode(0o700);
    let mut file = tempfile::Builder::new().prefix("lictor-exec-").permissions(only_we).tempfile()?;
    file.write_all(program)?;
    Ok(file.into_temp_path())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// What tests of commands share.
#[cfg(test)]
pub(crate) mod testing {
    use std::path::Path;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::{Duration, Instant};

    use tokio::runtime::Handle;

    use crate::errands::{Errands, ErrandsEnd};
    use crate::event::Event;

    pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

    pub(crate) fn errands() -> (Errands, ErrandsEnd, Receiver<Event>) {
        let (events, inbox) = channel();
        let (errands, end) = Errands::new(Handle::current(), events);
        (errands, end, inbox)
    }

    /// Waits for the numbers of processes in a file.
    pub(crate) async fn numbers(file: &Path, count: usize) -> Vec<i32> {
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
    pub(crate) async fn gone(number: i32) {
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

    /// A line for a command that hangs with a child and a grandchild, all of which hold the output and mind no polite signal.
    /// Each writes its number into a file.
    pub(crate) fn hanging(file: &Path) -> String {
        let file = file.display();
        format!(
            "trap '' TERM INT HUP; (trap '' TERM; sh -c 'echo $$ >>{file}; exec sleep 1000' & \
             sh -c 'echo $PPID >>{file}'; wait) & echo $$ >>{file}; wait"
        )
    }
}
