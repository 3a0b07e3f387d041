//! The disk: a thread of its own that carries out the agent's writes in order, many with one sync (group
//! commit); or, for an agent that keeps everything in memory, the mere claim that they are done.

mod files;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use lictor_core::io::{FileName, Input, Write};

pub use files::FilesError;
pub(crate) use files::{Files, create_directory, parent, sync_directory};

use crate::event::Event;
use crate::fatal;

/// The most jobs that share one sync, so that the first of many does not wait for the last.
const BATCH: usize = 1024;

/// How soon a write that found no room is tried again.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(100);

/// A ceiling on the bytes that may be set aside for the log: this program's own, beside those that the
/// system keeps. An agent that reaches it does as on a full disk. It can be moved while the agent runs.
#[derive(Clone, Debug)]
pub struct Quota(Arc<AtomicU64>);

impl Quota {
    /// A ceiling of so many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    /// Moves the ceiling. What was set aside already stays.
    pub fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    /// Where the ceiling is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Quota {
    /// No ceiling.
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

/// What the agent's thread hands to the disk's.
pub(crate) enum Job {
    /// To be made durable.
    Write(Write),
    /// To be set aside.
    Reserve {
        /// For which file.
        file: FileName,
        /// Its size afterwards.
        size: u64,
    },
}

/// The agent's end of the line to its disk.
pub(crate) enum DiskLink {
    /// Nothing is kept, so everything is done at once. The answers wait here for the agent's thread, which
    /// is thus spared two changes of thread for each write.
    Memory(Vec<Input>),
    /// A thread writes, and answers through the agent's own queue.
    Thread(Sender<Job>),
}

impl DiskLink {
    /// Has a job done. A thread that has ended takes the process with it, so that nothing needs to be
    /// told here.
    pub(crate) fn submit(&mut self, job: Job) {
        match (self, job) {
            (Self::Memory(answers), Job::Write(write)) => answers.push(Input::Persisted(write.seq)),
            (Self::Memory(answers), Job::Reserve { file, size }) => {
                answers.push(Input::Reserved { file, size, granted: true });
            }
            (Self::Thread(jobs), job) => drop(jobs.send(job)),
        }
    }

    /// What was answered on the spot.
    pub(crate) fn take_answers(&mut self) -> Vec<Input> {
        match self {
            Self::Memory(answers) => std::mem::take(answers),
            Self::Thread(_) => Vec::new(),
        }
    }
}

/// The thread that owns the files.
pub(crate) struct DiskThread {
    /// Set to make it leave what is still queued undone.
    abort: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl DiskThread {
    /// Starts the thread. It ends once its queue is empty and the link to it is gone, and lets go of the
    /// data directory's lock then.
    pub(crate) fn start(files: Files, events: Sender<Event>) -> std::io::Result<(DiskLink, Self)> {
        let (link, jobs) = channel();
        let abort = Arc::new(AtomicBool::new(false));
        let worker = Worker { files, jobs, held: VecDeque::new(), events, abort: abort.clone() };
        let thread = Builder::new().name("lictor-disk".to_owned()).spawn(move || {
            let _guard = fatal::EndWithMe("the disk's thread");
            worker.run();
        })?;
        Ok((DiskLink::Thread(link), Self { abort, thread }))
    }

    /// Makes the thread leave what is still queued undone.
    pub(crate) fn abort(&self) {
        self.abort.store(true, Ordering::Release);
    }

    /// Waits for the thread's end. It carries out what is queued, unless it was told not to or finds no room.
    pub(crate) fn join(self) {
        // A panic has ended the process already.
        let _ = self.thread.join();
    }
}

struct Worker {
    files: Files,
    jobs: Receiver<Job>,
    /// Jobs that were received and not begun yet.
    held: VecDeque<Job>,
    events: Sender<Event>,
    abort: Arc<AtomicBool>,
}

impl Worker {
    fn run(mut self) {
        while let Some(first) = self.held.pop_front().or_else(|| self.jobs.recv().ok()) {
            if let Err(error) = self.commit(first) {
                if self.abort.load(Ordering::Acquire) {
                    return;
                }
                // Never tried again: after a failed sync the system may have dropped the very pages that it
                // could not write, and a second sync would call them safe.
                fatal::stop(&format!("{error}: the agent stops, what it has acknowledged is safe on disk"));
            }
        }
    }

    /// Carries out everything that is queued, and syncs once.
    fn commit(&mut self, first: Job) -> Result<(), FilesError> {
        let mut last = None;
        let mut next = Some(first);
        for _ in 0..BATCH {
            let job = next.take().or_else(|| self.held.pop_front()).or_else(|| self.jobs.try_recv().ok());
            let Some(job) = job else { break };
            if self.abort.load(Ordering::Acquire) {
                return Ok(());
            }
            match job {
                Job::Write(write) => {
                    for op in &write.ops {
                        self.insist(|files| files.apply(op))?;
                    }
                    last = Some(write.seq);
                }
                Job::Reserve { file, size } => {
                    let granted = self.files.reserve(&file, size)?;
                    self.answer(Input::Reserved { file, size, granted });
                }
            }
        }
        if let Some(seq) = last {
            self.insist(Files::sync)?;
            self.answer(Input::Persisted(seq));
        }
        Ok(())
    }

    /// Does something as soon as there is room for it. Writes may come faster than space can be set aside for
    /// them, and then find the disk full. They wait: nothing becomes durable, and so nothing is
    /// acknowledged, until there is room again.
    fn insist(&mut self, mut action: impl FnMut(&mut Files) -> Result<(), FilesError>) -> Result<(), FilesError> {
        let mut told = false;
        loop {
            match action(&mut self.files) {
                Err(error) if error.is_full() && !self.abort.load(Ordering::Acquire) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!("{error}. It is tried again until there is room");
                    }
                    self.refuse_reservations();
                }
                done => return done,
            }
        }
    }

    /// Lets a moment pass, and tells the agent meanwhile that there is no room, so that it takes no more writes.
    fn refuse_reservations(&mut self) {
        let until = Instant::now() + NO_ROOM_PAUSE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.jobs.recv_timeout(left) {
                Ok(Job::Reserve { file, size }) => self.answer(Input::Reserved { file, size, granted: false }),
                Ok(write) => self.held.push_back(write),
                Err(RecvTimeoutError::Timeout) => return,
                // The agent has gone, and with it the need to keep its writes that were not acknowledged.
                Err(RecvTimeoutError::Disconnected) => return self.abort.store(true, Ordering::Release),
            }
        }
    }

    fn answer(&self, input: Input) {
        // An agent that is gone needs no answer.
        let _ = self.events.send(Event::Input(input));
    }
}
