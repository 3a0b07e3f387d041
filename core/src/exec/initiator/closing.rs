//! The end: nothing of the job stays in the store.
//!
//! First the session goes, and with it whatever is locked with it; from then on no agent can write anything more. What is left
//! after that is deleted, if the job was ever written: before, there is nothing that is not locked. A session that is just being
//! created is waited for, to be destroyed. At last nothing needs to be collected any more.

use super::{Initiator, News, Outcome, Output, Purpose, RETRY_INTERVAL, Stage, Trouble};
use crate::api::Response;
use crate::exec::layout::Place;
use crate::time::{Duration, Instant};

/// How long tidying up may take. What is left then goes with the session's time to live.
const LONGEST: Duration = Duration::from_secs(5);

/// Where tidying up stands.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) deadline: Instant,
    /// What is done next, once the session is known.
    next: Option<Purpose>,
    /// Whether there may be something that does not go with the session.
    sweeps: bool,
    /// What was wrong last.
    trouble: Option<String>,
}

impl Initiator {
    /// Begins to tidy up.
    pub(super) fn close(&mut self, now: Instant, outcome: Outcome) {
        if matches!(self.stage, Stage::Closing(_) | Stage::Over) {
            return;
        }
        self.outcome = Some(outcome);
        self.again.clear();
        let creating = |purpose: &Purpose| *purpose == Purpose::Create;
        for (id, _) in self.open.extract_if(.., |_, purpose| !creating(purpose)) {
            self.out.push_back(Output::Forget(id));
        }
        let next = (self.place.is_some() || !self.open.is_empty()).then_some(Purpose::Destroy);
        let deadline = now + LONGEST;
        let sweeps = !matches!(self.stage, Stage::Looking | Stage::Preparing);
        self.stage = Stage::Closing(Closing { deadline, next, sweeps, trouble: None });
    }

    /// Does the next thing, if nothing is waited for.
    pub(super) fn close_further(&mut self, now: Instant) {
        let Stage::Closing(closing) = &mut self.stage else { return };
        if now >= closing.deadline {
            let why = closing.trouble.take().unwrap_or_else(|| "no answer".to_owned());
            for id in std::mem::take(&mut self.open).into_keys() {
                self.out.push_back(Output::Forget(id));
            }
            self.again.clear();
            self.tell(News::LeftBehind(why));
            self.stage = Stage::Over;
            return;
        }
        if !self.open.is_empty() || !self.again.is_empty() {
            return;
        }
        match closing.next.take() {
            Some(purpose) if self.place.is_some() => self.ask_again(purpose),
            _ => self.stage = Stage::Over,
        }
    }

    /// Takes an answer while tidying up. Gives whether that is so.
    pub(super) fn take_closing(&mut self, purpose: &Purpose, response: &Response) -> bool {
        let Stage::Closing(closing) = &mut self.stage else { return false };
        match (purpose, response) {
            (Purpose::Create, Response::SessionCreated(id)) => {
                self.place = Some(Place::new(&self.options.prefix, *id));
            }
            (Purpose::Destroy, _) if closing.sweeps => closing.next = Some(Purpose::Sweep),
            (Purpose::Destroy | Purpose::Sweep, _) => closing.next = self.collecting.take().map(|_| Purpose::Uncollect),
            _ => {}
        }
        true
    }

    /// Takes trouble while tidying up. Gives whether that is so.
    pub(super) fn trouble_closing(&mut self, now: Instant, purpose: &Purpose, trouble: &Trouble) -> bool {
        let Stage::Closing(closing) = &mut self.stage else { return false };
        match purpose {
            // Whether it was created after all nobody can say. And what nobody asks for is not collected for long.
            Purpose::Create | Purpose::Uncollect => {}
            _ if trouble.may_pass => {
                closing.trouble = Some(trouble.text.clone());
                self.again.push((now + RETRY_INTERVAL, purpose.clone()));
            }
            Purpose::Destroy => {
                closing.next = Some(Purpose::Sweep);
                self.out.push_back(Output::Tell(News::LeftBehind(trouble.text.clone())));
            }
            _ => self.out.push_back(Output::Tell(News::LeftBehind(trouble.text.clone()))),
        }
        true
    }
}
