//! The thread for the agent's jobs: changes of files beside the log, one job after the other, each durable when it is
//! answered.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use lictor_core::io::{Input, Job, JobOutcome};

use super::beside::Beside;
use crate::event::Event;
use crate::fatal;

/// Starts the thread. It ends once its queue is empty and the link to it is gone.
pub(super) fn start(
    files: Beside,
    events: Sender<Event>,
    abort: Arc<AtomicBool>,
) -> io::Result<(Sender<Job>, JoinHandle<()>)> {
    let (link, jobs) = channel();
    let thread = Builder::new().name("lictor-jobs".to_owned()).spawn(move || {
        let _guard = fatal::EndWithMe("the thread for jobs beside the log");
        run(files, &jobs, &events, &abort);
    })?;
    Ok((link, thread))
}

fn run(mut files: Beside, jobs: &Receiver<Job>, events: &Sender<Event>, abort: &AtomicBool) {
    while let Ok(Job { id, ops }) = jobs.recv() {
        if abort.load(Ordering::Acquire) {
            return;
        }
        let outcome = match files.apply(&ops) {
            Ok(()) => JobOutcome::Done,
            // Nobody relies on what was written for this job yet, so that even a sync that found no room has lost
            // nothing: what the agent still wants of it, it asks for again.
            Err(error) if error.tells_of_no_room() => {
                tracing::warn!("{error}");
                JobOutcome::NoRoom
            }
            Err(_) if abort.load(Ordering::Acquire) => return,
            Err(error) => super::give_up(&error),
        };
        // An agent that is gone needs no answer.
        let _ = events.send(Event::Input(Input::JobDone { id, outcome }));
    }
}
