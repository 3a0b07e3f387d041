//! What is heard of members, ourselves among them: believed, passed on, or denied.

use std::net::SocketAddr;

use super::member::{Claim, Intent, Member, Name, Purpose, State, Status};
use super::message::Message;
use super::news::News;
use super::suspicion::Suspicion;
use super::{Due, Gossip, Phase};
use crate::id::Incarnation;
use crate::time::{Duration, Instant};

/// The most names whose conflicts, or intents ahead of their members, are remembered.
const MAX_REMEMBERED: usize = 1024;
/// The same conflict is news again after this.
const CONFLICT_AGAIN: Duration = Duration::from_secs(60);

/// After this many probe intervals we ask again whether our name is free.
const ASK_AGAIN_PROBES: u32 = 5;

impl Gossip {
    /// Somebody claims something of a member. `from` is whoever accuses it, if it is an accusation.
    pub(super) fn hear(&mut self, name: &Name, claim: &Claim, from: &Name) {
        if *name == self.name {
            return self.hear_of_us(claim);
        }
        let Some(member) = self.members.get_mut(name) else {
            return self.hear_of_unknown(name, claim, from);
        };
        if member.conflicts_with(claim) {
            let (known, same) = (member.address, member.is_a_life_of(claim));
            // Two lives of one agent settle it among themselves.
            let claimed = claim.profile.as_ref().map(|profile| profile.address).filter(|_| !same);
            return claimed.into_iter().for_each(|claimed| self.conflict(name, known, claimed));
        }
        let before = member.status();
        let merged = member.merge(claim);
        if merged.state {
            let message = self.members.get(name).and_then(|member| self.claim_message(member, from));
            self.judge(name, claim, from);
            if let Some(message) = message {
                self.pass_on(&message);
            }
            self.announce(name, Some(before), merged.profile);
        } else {
            self.confirm(name, claim, from);
            if merged.profile {
                self.announce(name, Some(before), true);
            }
        }
    }

    /// Keeps the suspicion of a member in step with its state, which has just changed.
    fn judge(&mut self, name: &Name, claim: &Claim, from: &Name) {
        self.suspicions.remove(name);
        self.timers.clear(&Due::Suspicion(name.clone()));
        if claim.state != State::Suspect {
            return;
        }
        let bounds = self.options.suspicion_bounds(self.live);
        let wanted = self.options.confirmations(self.live);
        let suspicion = Suspicion::new(claim.incarnation, from.clone(), wanted, bounds, self.now);
        self.timers.set(Due::Suspicion(name.clone()), suspicion.deadline());
        self.suspicions.insert(name.clone(), suspicion);
        self.news.push_back(News::Suspected { name: name.clone(), from: from.clone() });
    }

    /// A suspicion that we share may be confirmed by another's.
    fn confirm(&mut self, name: &Name, claim: &Claim, from: &Name) {
        let Some(suspicion) = self.suspicions.get_mut(name) else { return };
        let same = claim.state == State::Suspect && claim.incarnation == suspicion.incarnation;
        if same && suspicion.confirm(from) {
            self.timers.set(Due::Suspicion(name.clone()), suspicion.deadline());
            let (name, incarnation, from) = (name.clone(), claim.incarnation, from.clone());
            self.pass_on(&Message::Suspect { name, incarnation, from });
        }
    }

    /// A suspected member did not object in time.
    pub(super) fn suspicion_expired(&mut self, name: &Name) {
        if let Some(suspicion) = self.suspicions.get(name) {
            let claim = Claim { incarnation: suspicion.incarnation, state: State::Dead, profile: None };
            let us = self.name.clone();
            self.hear(name, &claim, &us);
        }
    }

    /// A member that we know nothing of. Only who is here is taken in this way: of the dead, a bare name is no use.
    fn hear_of_unknown(&mut self, name: &Name, claim: &Claim, from: &Name) {
        let Some(profile) = claim.profile.clone().filter(|_| claim.state.is_live()) else { return };
        let member = Member::new(name.clone(), profile, claim.incarnation, State::Alive, self.now);
        if self.take_in(member) && claim.state == State::Suspect {
            self.hear(name, claim, from);
        }
    }

    /// Takes in a member that was not known. Whether there was room.
    pub(super) fn take_in(&mut self, mut member: Member) -> bool {
        if self.members.len() >= self.options.max_members {
            self.counters.members_refused += 1;
            return false;
        }
        let name = member.name.clone();
        if let Some((intent, _)) = self.early_intents.remove(&name) {
            member.merge_intent(intent);
        }
        if member.state.is_live() {
            self.live += 1;
            self.met.get_or_insert(self.now);
            if let Some(message) = self.claim_message(&member, &name) {
                self.pass_on(&message);
            }
        }
        self.members.insert(name.clone(), member);
        // Somewhere in the order of probing: who comes last should not always wait for a whole round.
        self.roster.push(name.clone());
        let at = self.rng.below(self.roster.len() as u64) as usize;
        let last = self.roster.len() - 1;
        self.roster.swap(at, last);
        self.announce(&name, None, false);
        true
    }

    /// The message that tells what we believe of a member; `from` is the accuser, if it is an accusation.
    pub(super) fn claim_message(&self, member: &Member, from: &Name) -> Option<Message> {
        let (name, incarnation, from) = (member.name.clone(), member.incarnation, from.clone());
        Some(match member.state {
            State::Alive => Message::Alive { name, incarnation, profile: member.profile() },
            State::Suspect => Message::Suspect { name, incarnation, from },
            State::Dead => Message::Dead { name, incarnation, from },
            State::Left => Message::Left { name, incarnation },
        })
    }

    /// Broadcasts what was heard. One who was alone has nobody to tell: all it hears, the others know.
    fn pass_on(&mut self, message: &Message) {
        if !self.quiet {
            self.broadcast(message);
        }
    }

    /// Counts and tells what has become of a member that was `before`.
    fn announce(&mut self, name: &Name, before: Option<Status>, profile_changed: bool) {
        let Some(member) = self.members.get_mut(name) else { return };
        let after = member.status();
        if let Some(before) = before
            && before.is_live() != after.is_live()
        {
            (member.since, member.aged) = (self.now, Duration::ZERO);
            if after.is_live() { self.live += 1 } else { self.live -= 1 }
        }
        let was_live = before.is_some_and(Status::is_live);
        let news = match after {
            Status::Alive | Status::Leaving if !was_live => News::Joined,
            Status::Alive | Status::Leaving if profile_changed => News::Updated,
            Status::Failed if before != Some(Status::Failed) => News::Failed,
            Status::Left if before != Some(Status::Left) => News::Left,
            _ => return,
        };
        self.news.push_back(news(member.clone()));
    }

    /// Somebody claims something of ourselves. We know better.
    fn hear_of_us(&mut self, claim: &Claim) {
        let us = &self.members[&self.name];
        if self.phase != Phase::Here || claim.incarnation < us.incarnation {
            return;
        }
        let known = us.address;
        if let Some(profile) = &claim.profile
            && profile.address != known
            && claim.state.is_live()
        {
            // Somebody else is called that, or others have not noticed yet that we moved: whether it is an earlier life of ours
            // that we may outbid, has to be found out. If it is not, and they do notice, they will call us dead, and then we speak;
            // but as they send it to where we were, we have to ask.
            let soon = self.now + self.options.probe_interval * ASK_AGAIN_PROBES;
            if self.timers.get(&Due::PushPull).is_some_and(|at| at > soon) {
                self.timers.set(Due::PushPull, soon);
            }
            let rival = profile.address;
            let former = us.is_a_life_of(claim).then_some(claim.incarnation);
            self.doubt_name(rival, former);
            if former.is_none() {
                self.conflict(&self.name.clone(), known, rival);
            }
            return;
        }
        if self.holds_tongue(claim.incarnation) {
            return;
        }
        let us = &self.members[&self.name];
        let accused = claim.state != State::Alive;
        let misquoted = claim.profile.as_ref().is_some_and(|profile| profile.tags != us.tags);
        if accused || misquoted || claim.incarnation > us.incarnation {
            self.refute(claim, accused);
        }
    }

    /// Speaks up, in an incarnation above what others have heard (SWIM, section 4.2).
    fn refute(&mut self, claim: &Claim, accused: bool) {
        let us = &self.members[&self.name];
        let incarnation = us.incarnation.max(claim.incarnation).next();
        let tags = us.tags.clone();
        self.speak(incarnation, State::Alive, tags);
        if accused {
            // They got no answer from us: perhaps we are slow (Lifeguard).
            self.health.worsen(1);
            self.news.push_back(News::Refuted { incarnation });
        }
    }

    /// Two machines have one name.
    pub(super) fn conflict(&mut self, name: &Name, known: SocketAddr, claimed: SocketAddr) {
        let told = self.conflicts.get(name);
        let is_news = told.is_none_or(|(address, at)| *address != claimed || self.now.since(*at) >= CONFLICT_AGAIN);
        if is_news && (told.is_some() || self.conflicts.len() < MAX_REMEMBERED) {
            self.conflicts.insert(name.clone(), (claimed, self.now));
            self.news.push_back(News::Conflict { name: name.clone(), known, claimed });
        }
    }

    /// Somebody says what a member is about to do.
    pub(super) fn hear_intent(&mut self, name: &Name, intent: Intent) {
        self.clock.witness(intent.time);
        if *name == self.name {
            return self.hear_intent_of_us(intent);
        }
        let Some(member) = self.members.get_mut(name) else {
            return self.hear_intent_of_unknown(name, intent);
        };
        let before = member.status();
        if member.merge_intent(intent) {
            let forgotten = member.is_to_be_forgotten();
            self.pass_on(&Message::Intent { name: name.clone(), intent });
            self.announce(name, Some(before), false);
            if forgotten {
                // Those who have not heard of it yet may still tell us of the member.
                if self.early_intents.len() < MAX_REMEMBERED {
                    self.early_intents.insert(name.clone(), (intent, self.now));
                }
                self.forget(name);
            }
        }
    }

    /// Whether nobody wants to hear of a member any more that is gone, and not in our list.
    pub(super) fn is_forgotten(&self, name: &Name, incarnation: Incarnation) -> bool {
        self.early_intents
            .get(name)
            .is_some_and(|(intent, _)| intent.purpose == Purpose::Forget && intent.incarnation >= incarnation)
    }

    fn hear_intent_of_us(&mut self, intent: Intent) {
        let us = &self.members[&self.name];
        let holds = intent.incarnation >= us.incarnation && us.intent().is_none_or(|known| known < intent);
        if self.phase == Phase::Here && intent.purpose.is_farewell() && holds {
            self.utter(Purpose::Stay);
        }
    }

    fn hear_intent_of_unknown(&mut self, name: &Name, intent: Intent) {
        let known = self.early_intents.get(name).map(|(intent, _)| *intent);
        let room = known.is_some() || self.early_intents.len() < MAX_REMEMBERED;
        if room && known.is_none_or(|known| known < intent) {
            self.early_intents.insert(name.clone(), (intent, self.now));
            self.pass_on(&Message::Intent { name: name.clone(), intent });
        }
    }

    /// Forgets who is gone for long, and what else is only kept for a while.
    pub(super) fn reap(&mut self) {
        let now = self.now;
        let options = &self.options;
        let is_due = |member: &Member| match member.status() {
            Status::Failed => member.age(now) >= options.reconnect_timeout,
            Status::Left => member.age(now) >= options.tombstone_timeout,
            Status::Alive | Status::Leaving => false,
        };
        let due: Vec<Name> = if self.members.len() > self.live {
            let others = self.members.values().filter(|member| member.name != self.name);
            others.filter(|member| is_due(member)).map(|member| member.name.clone()).collect()
        } else {
            Vec::new()
        };
        for name in due {
            self.forget(&name);
        }
        let recent = |at: &Instant, keep: Duration| now.since(*at) < keep;
        self.early_intents.retain(|_, (_, at)| recent(at, self.options.intent_timeout));
        self.conflicts.retain(|_, (_, at)| recent(at, CONFLICT_AGAIN));
        self.timers.set(Due::Reap, self.now + self.options.reap_interval);
    }

    fn forget(&mut self, name: &Name) {
        self.roster.retain(|other| other != name);
        self.coordinates.remove(name);
        self.place.forget(name);
        if let Some(member) = self.members.remove(name) {
            self.news.push_back(News::Reaped(member));
        }
    }
}
