//! What we say of ourselves, and how we, or those who failed, leave for good.
//!
//! A member that leaves says so twice: first that it is about to (an intent), so that whoever misses the rest takes its
//! silence for leaving and not for failing; and then that it is gone. Each is passed on as often as any broadcast, or for as long
//! as the leave timeout, before the next step.

use std::sync::Arc;

use super::member::{BadIdentity, Intent, Name, Purpose, State, Status, Tags, check_tags};
use super::message::Message;
use super::news::News;
use super::{Due, Gossip, Phase};
use crate::id::Incarnation;
use crate::time::Instant;

impl Gossip {
    /// Changes what we say of ourselves.
    ///
    /// # Errors
    /// If the tags are too long to travel; then nothing changes.
    pub fn set_tags(&mut self, now: Instant, tags: Tags) -> Result<(), BadIdentity> {
        self.now = now;
        check_tags(&tags)?;
        let us = &self.members[&self.name];
        if *us.tags != tags && self.phase == Phase::Here {
            let incarnation = us.incarnation.next();
            self.speak(incarnation, State::Alive, Arc::new(tags));
        }
        Ok(())
    }

    /// Begins to leave. [`News::LeaveDone`] comes when the farewell is said.
    pub fn leave(&mut self, now: Instant) {
        self.now = now;
        if self.phase != Phase::Here {
            return;
        }
        self.phase = Phase::Announcing;
        if self.live <= 1 {
            return self.be_gone();
        }
        self.utter(Purpose::Leave);
        self.timers.set(Due::Leave, self.now + self.options.leave_timeout);
    }

    /// Says that a member will not come back: if it has failed, it has left from now on; and if `forget`, nobody keeps it in
    /// mind. One that is alive will object. Whether it is known.
    pub fn force_leave(&mut self, now: Instant, name: &str, forget: bool) -> bool {
        self.now = now;
        let Some(member) = self.members.get(name).filter(|_| name != self.name.as_str()) else { return false };
        if (forget || member.status() != Status::Left) && self.phase != Phase::Gone {
            let (name, incarnation) = (member.name.clone(), member.incarnation);
            let purpose = if forget { Purpose::Forget } else { Purpose::Leave };
            let intent = Intent { time: self.clock.advance(), purpose, incarnation };
            self.hear_intent(&name, intent);
        }
        true
    }

    /// Falls silent without a farewell, and for good: nothing is sent any more, nothing heard.
    pub(super) fn fall_silent(&mut self) {
        self.phase = Phase::Gone;
        self.timers = crate::time::Deadlines::default();
        self.broadcasts = super::Broadcasts::default();
        self.exchanges.clear();
    }

    /// Takes the next step of leaving if the last one is done.
    pub(super) fn maybe_leave_on(&mut self) {
        match self.phase {
            Phase::Announcing if !self.broadcasts.intents.is_about(&self.name) => self.depart(),
            Phase::Departing if !self.broadcasts.members.is_about(&self.name) => self.be_gone(),
            _ => {}
        }
    }

    /// A step of leaving has taken too long.
    pub(super) fn leave_timed_out(&mut self) {
        match self.phase {
            Phase::Announcing => self.depart(),
            Phase::Departing => self.be_gone(),
            Phase::Here | Phase::Gone => {}
        }
    }

    fn depart(&mut self) {
        self.phase = Phase::Departing;
        let us = &self.members[&self.name];
        let (incarnation, tags) = (us.incarnation, Arc::clone(&us.tags));
        self.speak(incarnation, State::Left, tags);
        self.timers.set(Due::Leave, self.now + self.options.leave_timeout);
    }

    fn be_gone(&mut self) {
        self.phase = Phase::Gone;
        self.timers = crate::time::Deadlines::default();
        self.news.push_back(News::LeaveDone);
    }

    /// Says of ourselves what nobody else can.
    pub(super) fn speak(&mut self, incarnation: Incarnation, state: State, tags: Arc<Tags>) {
        let name: Name = self.name.clone();
        if let Some(us) = self.members.get_mut(&name) {
            us.speak(incarnation, state, tags);
            let message = self.claim_message(&self.members[&name], &name);
            message.inspect(|message| self.broadcast(message));
        }
    }

    /// Says what we are about to do.
    pub(super) fn utter(&mut self, purpose: Purpose) {
        let (name, time) = (self.name.clone(), self.clock.advance());
        if let Some(us) = self.members.get_mut(&name) {
            let intent = Intent { time, purpose, incarnation: us.incarnation };
            us.merge_intent(intent);
            self.broadcast(&Message::Intent { name, intent });
        }
    }
}
