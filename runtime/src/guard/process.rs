//! The guard itself, in its own process.

use std::ffi::OsString;
use std::io::{self, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as Line;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process, kill_process_group, waitid};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};

use super::{ENDED, FAILED, GROUP, INPUT, LET_GO, STARTED, WORD_BYTES};

/// What ends others must not end a guard: it goes when its owner does, and not before. (What nobody can decline, it cannot.)
const DECLINED: [SignalKind; 4] =
    [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()];

/// Is a guard: starts the command that the arguments behind [`COMMAND`](super::COMMAND) name, and ends when its owner does, or
/// wants it to. The standard input is the line to the owner.
#[must_use]
pub fn run(arguments: &[OsString]) -> ExitCode {
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .and_then(|runtime| runtime.block_on(serve(arguments)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lictor {}: {error}", super::COMMAND);
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: &[OsString]) -> io::Result<()> {
    let [group, input, program, arguments @ ..] = arguments else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "only lictor itself starts this"));
    };
    let line = Line::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut declined = DECLINED.into_iter().map(signal).collect::<io::Result<Vec<_>>>()?;
    let mut ends = signal(SignalKind::child())?;

    let input = if input == INPUT { Stdio::from(receive_input(&line)?) } else { Stdio::null() };
    let mut command = Command::new(program);
    command.args(arguments).stdin(input);
    let has_group = group == GROUP;
    if has_group {
        command.process_group(0);
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return say(&line, FAILED, error.raw_os_error().unwrap_or_default()),
    };
    drop(command);
    let ward = Ward::of(&child, has_group)?;
    // Whoever reads what the command writes must not wait for us.
    let nowhere = std::fs::File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    rustix::stdio::dup2_stderr(&nowhere)?;
    // If it cannot be told, there is nobody any more, and reading tells so.
    let _ = say(&line, STARTED, ward.number.as_raw_nonzero().get());

    line.set_nonblocking(true)?;
    let mut reader = UnixStream::from_std(line.try_clone()?)?;
    let (mut told, mut byte) = (false, [0]);
    loop {
        tokio::select! {
            biased;
            count = reader.read(&mut byte) => match count {
                Ok(1) if byte[0] != LET_GO => ward.send(Signal::from_named_raw(byte[0].into())),
                Ok(1) if told => break,
                _ => {
                    ward.send(Some(Signal::KILL));
                    break;
                }
            },
            _ = ends.recv(), if !told => {}
        }
        if !told && let Some(status) = ward.ended()? {
            told = true;
            let _ = say(&line, ENDED, raw(&status));
        }
    }
    drop(declined.drain(..));
    child.wait().map(drop)
}

/// The command that is guarded. It is not taken note of before the guard's own end: its number stays its own until then.
struct Ward {
    number: Pid,
    has_group: bool,
}

impl Ward {
    fn of(child: &Child, has_group: bool) -> io::Result<Self> {
        let number = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(Self { number: number.ok_or_else(|| io::Error::other("the process has no number"))?, has_group })
    }

    fn send(&self, signal: Option<Signal>) {
        let Some(signal) = signal else { return };
        // That there is nobody any more is no failure.
        let _ =
            if self.has_group { kill_process_group(self.number, signal) } else { kill_process(self.number, signal) };
    }

    /// How it has ended, if it has.
    fn ended(&self) -> io::Result<Option<WaitIdStatus>> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        Ok(waitid(WaitId::Pid(self.number), look)?)
    }
}

/// How a command has ended, as `wait` puts it.
fn raw(status: &WaitIdStatus) -> i32 {
    /// A picture of its memory was kept.
    const DUMPED: i32 = 0x80;
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => (code & 0xff) << 8,
        (None, signal) => signal.unwrap_or_default() | if status.dumped() { DUMPED } else { 0 },
    }
}

fn say(mut line: &Line, letter: u8, number: i32) -> io::Result<()> {
    let mut word = [0; WORD_BYTES];
    word[0] = letter;
    word[1..].copy_from_slice(&number.to_le_bytes());
    line.write_all(&word)
}

/// What the command is to read, as the owner has handed it over.
fn receive_input(line: &Line) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(line, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let handed = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut handed) => handed.next(),
        _ => None,
    });
    handed.ok_or_else(|| io::Error::other("nothing to read was handed over"))
}
