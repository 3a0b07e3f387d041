//! Commands that end with whoever started them, however that ends.
//!
//! A process that is killed by SIGKILL, or that the system has no memory left for, can do nothing about the commands that it has
//! started. So each has a guard: a tiny process between the two, which is this very program under another first argument
//! ([`COMMAND`]). It starts the command, and holds one end of a line to the one who wants it run. The other end goes with its
//! owner, whatever becomes of him; then the guard kills the command's whole group, and ends.
//!
//! Nothing else changes: the command leads a group of its own, its outputs are those that the guard was started with, and how it
//! ended is told as the system tells it. The guard does not take note of the command's end before the line is closed, so that the
//! group's number cannot be anybody else's as long as signals are sent to it.
//!
//! On the line, the owner says a byte at a time: the number of a signal for the command's group, or `LET_GO`. The guard says a
//! letter and four bytes: `STARTED` with the command's number, or `FAILED` with the system's number for why not; then
//! `ENDED` with the system's word for how.

mod process;

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as Line;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

pub use process::run;

/// The first argument of a program that is to be a guard: it hands the others to [`run`].
pub const COMMAND: &str = "guard-command";

/// This very program, as the system finds it even if its file has been replaced or removed meanwhile.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// The command has a group of its own.
const GROUP: &str = "group";
/// It stays in the group of whoever wants it run.
const ALONE: &str = "alone";
/// It has nothing to read.
const NO_INPUT: &str = "no-input";
/// What it reads comes over the line.
const INPUT: &str = "input";

/// No signal: what the command has left behind may stay.
const LET_GO: u8 = 0;

const STARTED: u8 = b'S';
const FAILED: u8 = b'F';
const ENDED: u8 = b'E';

/// How many bytes a word of the guard has.
const WORD_BYTES: usize = 5;

/// The program that becomes a guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    program: PathBuf,
}

impl Guard {
    /// A program that hands its arguments to [`run`] if the first one is [`COMMAND`].
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    /// This program, which must do so.
    ///
    /// # Errors
    /// If it cannot be found.
    pub fn of_this_program() -> io::Result<Self> {
        let known = Path::new(THIS_PROGRAM);
        Ok(Self::new(if known.exists() { known.to_owned() } else { std::env::current_exe()? }))
    }

    /// A command with its outputs, its environment and its folder, as the guard is to pass them on; without arguments as yet. Its
    /// standard input becomes the line.
    fn command(&self, order: &Order<'_>, line: Line) -> Command {
        let mut command = Command::new(&self.program);
        command.arg0("lictor").arg(COMMAND);
        command.arg(if order.group { GROUP } else { ALONE });
        command.arg(if order.input.is_some() { INPUT } else { NO_INPUT });
        command.arg(order.program).args(order.arguments).stdin(OwnedFd::from(line));
        if order.group {
            command.process_group(0);
        }
        command
    }
}

/// A command to be run.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The program.
    pub program: &'a OsStr,
    /// Its arguments.
    pub arguments: &'a [OsString],
    /// Whether it leads a group of its own. Otherwise it stays in ours, and only the command itself is sent signals, and killed.
    pub group: bool,
    /// What it reads; nothing if absent.
    pub input: Option<BorrowedFd<'a>>,
}

/// A command with a guard. Dropping it kills the command's group; or lets go of what is left of that, if the command's own end
/// was waited for.
#[derive(Debug)]
pub struct Guarded {
    guard: Option<Child>,
    line: UnixStream,
    group: bool,
    /// The command's own number, once it is known.
    number: Option<Pid>,
    ended: Option<ExitStatus>,
    /// What has come of the guard's next word.
    word: [u8; WORD_BYTES],
    filled: usize,
}

impl Guarded {
    /// Starts a guard; what it has done about the command, [`started`](Self::started) tells. `prepare` gives the command its outputs
    /// and its environment. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the guard cannot be started.
    pub fn spawn(guard: &Guard, order: &Order<'_>, prepare: impl FnOnce(&mut Command)) -> io::Result<Self> {
        let (ours, theirs) = Line::pair()?;
        if let Some(input) = order.input {
            // It waits in the line until the guard is there.
            send_input(&ours, input)?;
        }
        ours.set_nonblocking(true)?;
        let line = UnixStream::from_std(ours)?;
        let mut command = guard.command(order, theirs);
        prepare(&mut command);
        let guard = Some(command.spawn()?);
        Ok(Self { guard, line, group: order.group, number: None, ended: None, word: [0; WORD_BYTES], filled: 0 })
    }

    /// Waits until the command runs. If this future is dropped before, it can be asked for again.
    ///
    /// # Errors
    /// If the command cannot be started, or the guard is gone.
    pub async fn started(&mut self) -> io::Result<()> {
        match self.hear().await? {
            (STARTED, number) => self.number = Pid::from_raw(number),
            (_, reason) => return Err(io::Error::from_raw_os_error(reason)),
        }
        Ok(())
    }

    /// The command's number, once it runs.
    #[must_use]
    pub const fn number(&self) -> Option<Pid> {
        self.number
    }

    /// Sends a signal to the command's group, or to the command alone if it has none of its own. After the command's end it
    /// reaches those whom that has left behind in its group. A guard that is gone is not missed.
    ///
    /// # Errors
    /// If there is nobody whom it could reach.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let byte = u8::try_from(signal.as_raw()).map_err(io::Error::other)?;
        self.say(byte).or_else(|_| self.send_without_guard(signal))
    }

    /// Waits for the command's end. If this future is dropped before, it can be asked for again.
    ///
    /// # Errors
    /// If the guard is gone, which leaves the command to us: it is killed.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        match self.hear().await {
            Ok((_, status)) => Ok(*self.ended.insert(ExitStatus::from_raw(status))),
            Err(error) => {
                // That there is nobody any more is no failure.
                let _ = self.send_without_guard(Signal::KILL);
                Err(error)
            }
        }
    }

    /// Ends it as dropping it does. Somebody must take note of the end of the guard's own process, which this is.
    #[must_use]
    pub fn end(mut self) -> Option<Child> {
        self.part();
        self.guard.take()
    }

    fn part(&mut self) {
        if self.ended.is_some() {
            let _ = self.say(LET_GO);
        } else if self.guard.as_mut().is_some_and(|guard| matches!(guard.try_wait(), Ok(Some(_)))) {
            let _ = self.send_without_guard(Signal::KILL);
        }
    }

    fn say(&self, byte: u8) -> io::Result<()> {
        // There is always room for a few bytes; and a signal that nobody can be told of has come too late.
        self.line.try_write(&[byte]).map(drop)
    }

    /// The guard's next word.
    async fn hear(&mut self) -> io::Result<(u8, i32)> {
        while self.filled < WORD_BYTES {
            match self.line.read(&mut self.word[self.filled..]).await? {
                0 => return Err(io::Error::other("its guard is gone")),
                count => self.filled += count,
            }
        }
        self.filled = 0;
        let [letter, number @ ..] = self.word;
        Ok((letter, i32::from_le_bytes(number)))
    }

    fn send_without_guard(&self, signal: Signal) -> io::Result<()> {
        let number = self.number.ok_or(io::ErrorKind::NotFound)?;
        let sent = if self.group { kill_process_group(number, signal) } else { kill_process(number, signal) };
        sent.map_err(io::Error::from)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.part();
    }
}

/// Hands over what a command is to read.
fn send_input(line: &Line, input: BorrowedFd<'_>) -> io::Result<()> {
    let handed = [input];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&handed));
    sendmsg(line, &[IoSlice::new(&[LET_GO])], &mut ancillary, SendFlags::empty())?;
    Ok(())
}
