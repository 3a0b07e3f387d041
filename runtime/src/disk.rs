//! The disk: a thread of its own that carries out the agent's writes in order, many with one sync (group
//! commit), and another for its jobs beside them; or, for an agent that keeps everything in memory, the mere claim that
//! they are done.

mod beside;
mod files;
mod jobs;
mod system;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use lictor_core::io::{FileName, FileOp, Input, Job, JobOutcome, Write};

pub(crate) use files::Files;
pub use system::FilesError;
pub(crate) use system::{create_directory, parent, sync_directory};

use crate::event::Event;
use crate::fatal;

/// The most tasks that share one sync, so that the first of many does not wait for the last.
const BATCH: usize = 1024;

/// How soon a write that found no room is tried again.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(100);

/// A ceiling on the bytes that the log and its snapshots may take, with what is set aside for them: this program's own, beside those that the
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
pub(crate) enum Task {
    /// To be made durable.
    Write(Write),
    /// To be set aside.
    Reserve {
        /// For which file.
        file: FileName,
        /// Its size afterwards.
        size: u64,
    },
    /// To be let go of, as a job removes or replaces it.
    Close(FileName),
}

/// The agent's end of the line to its disk.
pub(crate) enum DiskLink {
    /// Nothing is kept, so everything is done at once. The answers wait here for the agent's thread, which
    /// is thus spared two changes of thread for each write.
    Memory(Vec<Input>),
    /// Threads write, one the log and one what is beside it, and answer through the agent's own queue.
    Threads(Sender<Task>, Sender<Job>),
}

// A thread that has ended takes the process with it, so that nothing needs to be told where none listens.
impl DiskLink {
    /// Has the log's thread do something.
    pub(crate) fn submit(&mut self, task: Task) {
        match (self, task) {
            (Self::Memory(answers), Task::Write(write)) => answers.push(Input::Persisted(write.seq)),
            (Self::Memory(answers), Task::Reserve { file, size }) => {
                answers.push(Input::Reserved { file, size, granted: true });
            }
            (Self::Memory(_), Task::Close(_)) => {}
            (Self::Threads(tasks, _), task) => drop(tasks.send(task)),
        }
    }

    /// Has a job done beside the log.
    pub(crate) fn submit_job(&mut self, job: Job) {
        match self {
            Self::Memory(answers) => answers.push(Input::JobDone { id: job.id, outcome: JobOutcome::Done }),
            Self::Threads(tasks, jobs) => {
                for op in &job.ops {
                    if let FileOp::Remove { file } = op {
                        drop(tasks.send(Task::Close(file.clone())));
                    }
                }
                drop(jobs.send(job));
            }
        }
    }

    /// What was answered on the spot.
    pub(crate) fn take_answers(&mut self) -> Vec<Input> {
        match self {
            Self::Memory(answers) => std::mem::take(answers),
            Self::Threads(..) => Vec::new(),
        }
    }
}

/// The threads that own the files.
pub(crate) struct DiskThreads {
    /// Set to make them leave what is still queued undone.
    abort: Arc<AtomicBool>,
    threads: [JoinHandle<()>; 2],
}

impl DiskThreads {
    /// Starts the threads. Each ends once its queue is empty and the link to it is gone; with both of them ends their
    /// hold on the data directory's lock.
    pub(crate) fn start(files: Files, events: Sender<Event>) -> std::io::Result<(DiskLink, Self)> {
        let (link, tasks) = channel();
        let abort = Arc::new(AtomicBool::new(false));
        let (jobs, beside) = jobs::start(files.beside(), events.clone(), abort.clone())?;
        let worker = Worker { files, tasks, held: VecDeque::new(), events, abort: abort.clone() };
        let log = Builder::new().name("lictor-disk".to_owned()).spawn(move || {
            let _guard = fatal::EndWithMe("the disk's thread");
            worker.run();
        })?;
        Ok((DiskLink::Threads(link, jobs), Self { abort, threads: [log, beside] }))
    }

    /// Makes the threads leave what is still queued undone.
    pub(crate) fn abort(&self) {
        self.abort.store(true, Ordering::Release);
    }

    /// Waits for the threads' end. They carry out what is queued, unless they were told not to or the log finds no room.
    pub(crate) fn join(self) {
        for thread in self.threads {
            // A panic has ended the process already.
            let _ = thread.join();
        }
    }
}

struct Worker {
    files: Files,
    tasks: Receiver<Task>,
    /// Tasks that were received and not begun yet.
    held: VecDeque<Task>,
    events: Sender<Event>,
    abort: Arc<AtomicBool>,
}

impl Worker {
    fn run(mut self) {
        while let Some(first) = self.held.pop_front().or_else(|| self.tasks.recv().ok()) {
            if let Err(error) = self.commit(first) {
                if self.abort.load(Ordering::Acquire) {
                    return;
                }
                give_up(&error);
            }
        }
    }

    /// Carries out everything that is queued, and syncs once.
    fn commit(&mut self, first: Task) -> Result<(), FilesError> {
        let mut last = None;
        let mut next = Some(first);
        for _ in 0..BATCH {
            let task = next.take().or_else(|| self.held.pop_front()).or_else(|| self.tasks.try_recv().ok());
            let Some(task) = task else { break };
            if self.abort.load(Ordering::Acquire) {
                return Ok(());
            }
            match task {
                Task::Write(write) => {
                    for op in &write.ops {
                        self.insist(|files| files.apply(op))?;
                    }
                    last = Some(write.seq);
                }
                Task::Reserve { file, size } => {
                    let granted = self.files.reserve(&file, size)?;
                    self.answer(Input::Reserved { file, size, granted });
                }
                Task::Close(file) => self.files.close(&file),
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
            match self.tasks.recv_timeout(left) {
                Ok(Task::Reserve { file, size }) => self.answer(Input::Reserved { file, size, granted: false }),
                // It may be the very room that is wanted.
                Ok(Task::Close(file)) => self.files.close(&file),
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

/// Ends the process. What failed is never tried again: after a failed sync the system may have dropped the very pages that
/// it could not write, and a second sync would call them safe.
fn give_up(error: &FilesError) -> ! {
    fatal::stop(&format!("{error}: the agent stops, what it has acknowledged is safe on disk"))
}
