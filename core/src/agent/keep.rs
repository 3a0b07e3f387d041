//! Small files in which the agent keeps what it must still know after a restart: see [`crate::keep`].

use bytes::Bytes;
use serde::Serialize;

use super::Agent;
use super::jobs::{Purpose, Then};
use crate::api::{Error, Response};
use crate::file::{FileOp, JobOutcome};
use crate::keep::{DRAFT, FOLDER, seal};
use crate::local::Change;

impl Agent {
    /// Has a file keep `value`, in place of what it kept before. `name` is below [`FOLDER`], of letters, digits and `/`.
    pub(super) fn keep<T: Serialize>(&mut self, name: &str, value: &T, then: Then) {
        let (file, draft) = (format!("{FOLDER}{name}"), format!("{FOLDER}{name}{DRAFT}"));
        let ops = vec![
            FileOp::Remove { file: draft.clone() },
            FileOp::Write { file: draft.clone(), offset: 0, bytes: Bytes::from(seal(value)) },
            FileOp::Rename { file: draft, to: file },
        ];
        self.do_job(Purpose::Keep(then), ops);
    }

    /// Makes several such changes that become durable together, before `then`. Without any, it happens at once.
    pub(super) fn keep_all(&mut self, changes: Vec<Change>, then: Then) {
        if changes.is_empty() {
            return self.kept(then, JobOutcome::Done);
        }
        let mut ops = Vec::new();
        for Change { name, content } in changes {
            let (file, draft) = (format!("{FOLDER}{name}"), format!("{FOLDER}{name}{DRAFT}"));
            match content {
                None => ops.push(FileOp::Remove { file }),
                Some(bytes) => ops.extend([
                    FileOp::Remove { file: draft.clone() },
                    FileOp::Write { file: draft.clone(), offset: 0, bytes: Bytes::from(bytes) },
                    FileOp::Rename { file: draft, to: file },
                ]),
            }
        }
        self.do_job(Purpose::Keep(then), ops);
    }

    /// Removes a file that is not to be kept any more.
    pub(super) fn keep_no_more(&mut self, name: &str, then: Then) {
        self.do_job(Purpose::Keep(then), vec![FileOp::Remove { file: format!("{FOLDER}{name}") }]);
    }

    pub(super) fn kept(&mut self, then: Then, outcome: JobOutcome) {
        match (then, outcome) {
            (Then::Nothing, _) => {}
            (Then::Deliver, outcome) => self.clocks_remembered(outcome),
            // Nothing is waited for that may never come.
            (Then::Left, _) => self.leaving_remembered(),
            (Then::Pledge(number), outcome) => self.pledge_kept(number, outcome),
            (Then::States, _) => self.local.states_kept(),
            (Then::Answer(ticket), JobOutcome::Done) => self.reply(ticket, Ok(Response::Done(true))),
            (Then::Answer(ticket), JobOutcome::NoRoom) => self.reply(ticket, Err(Error::DiskFull)),
        }
    }
}
