//! What comes past the store: the agent that is asked collects it, if it can (`collector.rs`), and is asked for it all the time.
//!
//! One question is under way, and the next one follows when what the last one brought has been told: with it, the nodes hear that they
//! may send more. While the user takes his time, a question now and then says that it is still wanted. Trouble that
//! lasts ends it: then the agents write all into the store.

use super::{Initiator, LISTING_WAIT, PATIENCE, Purpose, RETRY_INTERVAL, Trouble};
use crate::api::exec::{Inbox, Piece, Progress, Request};
use crate::time::{Duration, Instant};

/// How often at least an agent hears that its collecting is wanted; it gives up after a multiple of that.
const KEEP_INTERVAL: Duration = Duration::from_secs(20);

/// Collecting, as long as there is any.
#[derive(Debug)]
pub(super) struct Collecting {
    /// When the last question was asked.
    asked: Instant,
    /// Since when there has been trouble.
    pub(super) troubled: Option<Instant>,
}

impl Initiator {
    /// Where the output of the job is collected is known, or that it is not; the job can be written.
    pub(super) fn collector_known(&mut self, now: Instant, inbox: Option<Inbox>) {
        self.collecting = inbox.map(|_| Collecting { asked: now, troubled: None });
        self.upload(inbox);
    }

    /// Asks for more, if that is due.
    pub(super) fn collect_on(&mut self, now: Instant) {
        let keeps = self.keeps_at().is_some_and(|at| at <= now);
        let wanted = keeps || (self.owed == 0 && !self.is_asking_for_more());
        if let Some(collecting) = &mut self.collecting
            && wanted
        {
            collecting.asked = now;
            self.ask_again(Purpose::Collect);
        }
    }

    /// When it is to be said, though nothing more is wanted at this time, that there will be.
    pub(super) fn keeps_at(&self) -> Option<Instant> {
        let waits = self.owed > 0 && !self.is_asking_for_more();
        self.collecting.as_ref().filter(|_| waits).map(|collecting| collecting.asked + KEEP_INTERVAL)
    }

    fn is_asking_for_more(&self) -> bool {
        let collects = |purpose: &Purpose| *purpose == Purpose::Collect;
        self.open.values().any(collects) || self.again.iter().any(|(_, purpose)| collects(purpose))
    }

    /// What is asked.
    pub(super) fn question(&self) -> Option<Request> {
        let place = self.place.as_ref()?;
        let (prefix, session) = (self.options.prefix.clone(), place.session());
        if self.owed == 0 {
            return Some(Request::Collect {
                prefix,
                session,
                progress: self.nodes.progress(),
                wait: Some(LISTING_WAIT),
            });
        }
        // Nothing is wanted: all of it is known, and none of it taken.
        let all = |(name, _)| (name, Progress { taken: 0, have: u32::MAX });
        let progress = self.nodes.progress().into_iter().map(all).collect();
        Some(Request::Collect { prefix, session, progress, wait: Some(Duration::from_nanos(1)) })
    }

    /// Something has come.
    pub(super) fn collected(&mut self, now: Instant, pieces: Vec<Piece>) {
        if let Some(collecting) = &mut self.collecting
            && collecting.troubled.take().is_some()
        {
            self.hear_again(now);
        }
        for piece in pieces {
            let news = self.nodes.collect(now, piece);
            self.hear(now, news);
        }
    }

    /// It was asked in vain.
    pub(super) fn trouble_collecting(&mut self, now: Instant, trouble: &Trouble) {
        let Some(collecting) = &mut self.collecting else { return };
        let since = *collecting.troubled.get_or_insert(now);
        if trouble.may_pass && now.since(since) < PATIENCE {
            return self.again.push((now + RETRY_INTERVAL, Purpose::Collect));
        }
        self.collecting = None;
        self.hear_again(now);
        // Should it still be there, the agents must learn that nobody asks any more.
        self.ask_again(Purpose::Uncollect);
    }
}
