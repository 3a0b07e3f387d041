//! The signals that matter while a lock is waited for or held.

use std::io;

use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What stops a process, whether it likes that or not.
pub(super) const STOP: Signal = Signal::STOP;
/// What lets it go on.
pub(super) const CONTINUE: Signal = Signal::CONT;

/// Where they come in.
pub(super) struct Signals {
    interrupt: Stream,
    terminate: Stream,
    hangup: Stream,
    quit: Stream,
    user_1: Stream,
    user_2: Stream,
    window: Stream,
    stop: Stream,
}

/// One that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caught {
    /// We are to end.
    End,
    /// It is for the command.
    Pass(Signal),
    /// We and the command are to stop for a while.
    Stop,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
            window: signal(SignalKind::window_change())?,
            stop: signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?,
        })
    }

    /// The next one while the command runs.
    pub(super) async fn next(&mut self) -> Caught {
        tokio::select! {
            _ = self.interrupt.recv() => Caught::End,
            _ = self.terminate.recv() => Caught::End,
            _ = self.hangup.recv() => Caught::Pass(Signal::HUP),
            _ = self.quit.recv() => Caught::Pass(Signal::QUIT),
            _ = self.user_1.recv() => Caught::Pass(Signal::USR1),
            _ = self.user_2.recv() => Caught::Pass(Signal::USR2),
            _ = self.window.recv() => Caught::Pass(Signal::WINCH),
            _ = self.stop.recv() => Caught::Stop,
        }
    }

    /// Waits for one that ends us as long as there is no command.
    pub(super) async fn end(&mut self) {
        loop {
            match self.next().await {
                Caught::End | Caught::Pass(Signal::HUP | Signal::QUIT) => return,
                Caught::Stop => stop_ourselves(),
                Caught::Pass(_) => {}
            }
        }
    }
}

/// Stops this process until somebody lets it go on.
pub(super) fn stop_ourselves() {
    // Nobody can be kept from stopping himself.
    let _ = kill_process(getpid(), STOP);
}
