//! Commands that others have this agent run: events come in, orders go out. See [`crate::exec`].

use super::Agent;
use super::errands::Errand;
use crate::api::Call;
use crate::exec::Step;
use crate::io::{Notice, Output};

impl Agent {
    /// An event asks for remote execution, is meant for us, and will not come again, not even after a restart.
    pub(super) fn summon(&mut self, payload: &[u8]) {
        self.open_batch = true;
        self.exec.summon(self.now, payload);
    }

    /// Carries out what the news of this batch leads to for the commands that others have us run.
    pub(super) fn tend_exec(&mut self) {
        if self.pool.leaving.is_some() {
            self.exec.stop(self.now);
        }
        while let Some(step) = self.exec.poll_step() {
            match step {
                // With the agent's own token, as with Consul: who may write the job may have it run.
                Step::Ask { asked, request } => drop(self.send_errand(Errand::Exec(asked), Call::new(request))),
                Step::HangUp(asked) => self.give_up_errand(&Errand::Exec(asked)),
                Step::Child(action) => self.outputs.push_back(Output::Child(action)),
                Step::Tell(news) => self.outputs.push_back(Output::Notice(Notice::Exec(news))),
            }
        }
    }
}

#[cfg(test)]
#[path = "exec_tests.rs"]
mod tests;
