//! The commands that others have this agent run (`exec`): started, read and ended as the core says. It decides nothing.
//!
//! Each command is an errand of its own that takes what the core wants done with it from a queue. It reads no more of the output
//! than the core allows, so that a command which writes a lot waits in its own pipe. When the errand is dropped, with the agent's end
//! at the latest, the whole process group is killed.

use std::collections::HashMap;
use std::io;

use bytes::Bytes;
use lictor_core::exec::child::{Action, Ended, Event, Signal};
use lictor_core::exec::layout::Order;
use lictor_core::id::RunId;
use lictor_core::io::Input;
use rustix::process::Signal as System;
use tempfile::TempPath;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{Group, SHELL, write_program};
use crate::errands::Errands;
use crate::error::words;

/// Room for what one read brings.
const READ_BYTES: usize = 16 << 10;

/// What a script begins with that says itself by what it is run.
const SHEBANG: &[u8] = b"#!";

/// The commands that are not over.
pub(crate) struct Children {
    errands: Errands,
    /// The queue of each. The core asks for a few things at most before it hears of them again.
    under_way: HashMap<RunId, UnboundedSender<Wish>>,
}

/// What is wanted of a command that runs.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Read(usize),
    Discard,
    Signal(Signal),
}

impl Children {
    pub(crate) fn new(errands: Errands) -> Self {
        Self { errands, under_way: HashMap::new() }
    }

    /// Does what the core wants done.
    pub(crate) fn carry_out(&mut self, action: Action) {
        match action {
            Action::Start { id, order, credit } => self.start(id, order, credit),
            Action::Read { id, bytes } => self.wish(id, Wish::Read(bytes)),
            Action::Discard { id } => self.wish(id, Wish::Discard),
            Action::Signal { id, signal } => self.wish(id, Wish::Signal(signal)),
        }
    }

    /// Takes note that a command is over.
    pub(crate) fn over(&mut self, id: RunId) {
        self.under_way.remove(&id);
    }

    fn start(&mut self, id: RunId, order: Order, credit: usize) {
        let (queue, wishes) = unbounded_channel();
        self.under_way.insert(id, queue);
        let errands = self.errands.clone();
        self.errands.spawn(async move {
            let outcome = match Command::start(&errands, id, order, credit).await {
                Ok(command) => command.follow(wishes).await,
                Err(error) => Err(error),
            };
            let ended = outcome.unwrap_or_else(|error| Ended::Failed { reason: words(&error) });
            errands.tell(Input::Child { id, event: Event::Ended(ended) });
        });
    }

    fn wish(&self, id: RunId, wish: Wish) {
        if let Some(queue) = self.under_way.get(&id) {
            // One that is over has its end on the way.
            let _ = queue.send(wish);
        }
    }
}

/// A command that runs.
struct Command {
    id: RunId,
    errands: Errands,
    group: Group,
    output: pipe::Receiver,
    /// How much may be told.
    credit: usize,
    /// Whether it is thrown away instead.
    discards: bool,
    /// The file that it is run from is there as long as it runs.
    _program: Option<TempPath>,
}

/// What became of reading.
enum Reading {
    /// Nobody holds the output any more.
    Ended,
    /// The group was killed: it does not matter who holds it.
    Killed,
    /// The agent has ended.
    Unwanted,
}

impl Command {
    async fn start(errands: &Errands, id: RunId, order: Order, credit: usize) -> io::Result<Self> {
        let (program, file) = match order {
            Order::Command(line) => (shell(line), None),
            Order::Program(words) => (words, None),
            Order::Script(bytes) => {
                let (program, file) = script(bytes).await?;
                (program, Some(file))
            }
        };
        let program: Vec<&str> = program.iter().map(String::as_str).collect();
        let named = |error: io::Error| {
            let name = program.first().copied().unwrap_or_default();
            io::Error::new(error.kind(), format!("{name}: {}", words(&error)))
        };
        let (group, output) = Group::start(errands, &program).await.map_err(named)?;
        Ok(Self { id, errands: errands.clone(), group, output, credit, discards: false, _program: file })
    }

    /// Follows it to its end.
    async fn follow(mut self, mut wishes: UnboundedReceiver<Wish>) -> io::Result<Ended> {
        match self.read_all(&mut wishes).await? {
            Reading::Unwanted => return Err(io::Error::other("the agent has ended")),
            Reading::Killed | Reading::Ended => {}
        }
        let Self { group, output, _program, .. } = self;
        // Whoever was killed may have left somebody behind who still writes: he has no reader any more.
        drop(output);
        let mut group = group;
        let status = loop {
            // It may go on without its output.
            let signal = tokio::select! {
                biased;
                status = group.wait() => break status?,
                wish = wishes.recv() => match wish {
                    Some(Wish::Signal(signal)) => signal,
                    Some(Wish::Read(_) | Wish::Discard) => continue,
                    None => return Err(io::Error::other("the agent has ended")),
                },
            };
            group.signal(system(signal));
        };
        Ok(Ended::Exited { code: status.code() })
    }

    /// Tells of what it writes, until nobody holds the output any more.
    async fn read_all(&mut self, wishes: &mut UnboundedReceiver<Wish>) -> io::Result<Reading> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let room = if self.discards { READ_BYTES } else { self.credit.min(READ_BYTES) };
            tokio::select! {
                biased;
                wish = wishes.recv() => match wish {
                    Some(Wish::Read(bytes)) => self.credit = self.credit.saturating_add(bytes),
                    Some(Wish::Discard) => self.discards = true,
                    Some(Wish::Signal(signal)) => {
                        self.group.signal(system(signal));
                        if signal == Signal::Kill {
                            return Ok(Reading::Killed);
                        }
                    }
                    None => return Ok(Reading::Unwanted),
                },
                count = self.output.read(&mut buffer[..room]), if room > 0 => match count? {
                    0 => return Ok(Reading::Ended),
                    _ if self.discards => {}
                    count => {
                        self.credit -= count;
                        let event = Event::Wrote(Bytes::copy_from_slice(&buffer[..count]));
                        self.errands.tell(Input::Child { id: self.id, event });
                    }
                },
            }
        }
    }
}

/// A line, as the shell is given it.
fn shell(line: String) -> Vec<String> {
    vec![SHELL.to_owned(), "-c".to_owned(), line]
}

/// What runs a script, and the file that it is put into.
async fn script(bytes: Bytes) -> io::Result<(Vec<String>, TempPath)> {
    let says_itself = bytes.starts_with(SHEBANG);
    let writing = tokio::task::spawn_blocking(move || write_program(&bytes));
    let file = writing.await.map_err(io::Error::other)??;
    let path =
        file.to_str().ok_or_else(|| super::invalid("the folder of temporary files has no proper name"))?.to_owned();
    let program = if says_itself { vec![path] } else { vec![SHELL.to_owned(), path] };
    Ok((program, file))
}

fn system(signal: Signal) -> System {
    match signal {
        Signal::Terminate => System::TERM,
        Signal::Kill => System::KILL,
    }
}

#[cfg(test)]
mod tests;
