//! Exchange of full states: joining, repairing what broadcasts missed, and reaching out to those who failed.
//!
//! A request with all that one member knows is answered by all that the other knows; both merge what they get, so that
//! they agree afterwards. Both are messages of their own over streams: nobody keeps a connection for us. What another calls dead
//! and we do not, we only suspect, so that the member may still object; so do the halves of a partition become one.

use std::net::SocketAddr;

use super::member::{Claim, Member, Name, Purpose, State, Status};
use super::message::{Message, PushPull, Record};
use super::news::{News, NoJoin};
use super::user_event::{CannotFire, TimedEvent, UserEvent, Verdict};
use super::{Due, Gossip, Phase};
use crate::id::LamportTime;
use crate::time::Instant;

/// The most bytes of user events in a full state.
const EVENT_BYTES: usize = 512 << 10;

/// As long as so many exchanges are under way, no more are begun with strangers.
const MAX_MEETINGS: usize = 8;

/// A request that was not answered yet.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    to: SocketAddr,
    is_join: bool,
}

impl Gossip {
    /// Contacts members at these addresses, to become one pool with theirs. Each ends in [`News::JoinSucceeded`] or
    /// [`News::JoinFailed`]; our own address is left out.
    pub fn join(&mut self, now: Instant, addresses: impl IntoIterator<Item = SocketAddr>) {
        self.now = now;
        let own = self.address();
        for address in addresses {
            let under_way = self.exchanges.values().any(|exchange| exchange.is_join && exchange.to == address);
            if self.phase == Phase::Here && address != own && !under_way {
                // Events from before the join are not for us. Which those are we only know when the answer is here.
                self.awaits_events |= self.live == 1 && !self.restored;
                self.begin_exchange(address, true);
            }
        }
    }

    /// The owner could not open a stream to this address.
    pub fn handle_unreachable(&mut self, now: Instant, address: SocketAddr, reason: &str) {
        self.now = now;
        let failed: Vec<u64> =
            self.exchanges.iter().filter(|(_, exchange)| exchange.to == address).map(|(seq, _)| *seq).collect();
        for seq in failed {
            self.timers.clear(&Due::Exchange(seq));
            self.exchange_failed(seq, NoJoin::Unreachable(reason.to_owned()));
        }
        self.rival_unreachable(address);
    }

    /// Another member is asked for what it knows.
    pub(super) fn sync(&mut self) {
        if let Some(name) = self.pick(1, |member| member.state.is_live()).pop() {
            self.begin_exchange(self.members[&name].address, false);
        }
        self.timers.set(Due::PushPull, self.now + self.options.push_pull_every(self.live));
    }

    /// A member of the pool speaks to us that we do not know: the news of it have missed us, as can happen when many
    /// join at once. It is asked for what it knows, itself included.
    pub(super) fn meet(&mut self, name: &Name, address: SocketAddr) {
        let room = self.exchanges.len() < MAX_MEETINGS && self.members.len() < self.options.max_members;
        let under_way = self.exchanges.values().any(|exchange| exchange.to == address);
        if self.phase == Phase::Here && room && !under_way && !self.members.contains_key(name) {
            self.begin_exchange(address, false);
        }
    }

    /// A failed member is tried again, now and then: the fewer there are beside the living, the more rarely.
    pub(super) fn reconnect(&mut self) {
        self.timers.set(Due::Reconnect, self.now + self.options.reconnect_interval);
        if self.members.len() == self.live {
            return;
        }
        let failed: Vec<SocketAddr> = (self.members.values())
            .filter(|member| member.status() == Status::Failed)
            .map(|member| member.address)
            .collect();
        if failed.is_empty() || self.rng.below(self.live.max(1) as u64) >= failed.len() as u64 {
            return;
        }
        let to = failed[self.rng.below(failed.len() as u64) as usize];
        self.begin_exchange(to, false);
    }

    fn begin_exchange(&mut self, to: SocketAddr, is_join: bool) {
        let seq = self.exchange_seq();
        self.exchanges.insert(seq, Exchange { to, is_join });
        self.timers.set(Due::Exchange(seq), self.now + self.options.push_pull_timeout);
        let state = self.full_state(seq, false);
        self.send_stream(to, &[state]);
    }

    /// An exchange was not answered in time, or could not even begin.
    pub(super) fn exchange_failed(&mut self, seq: u64, reason: NoJoin) {
        if let Some(Exchange { to, is_join: true }) = self.exchanges.remove(&seq) {
            self.awaits_events &= self.exchanges.values().any(|exchange| exchange.is_join);
            self.news.push_back(News::JoinFailed { address: to, reason });
        }
    }

    fn full_state(&self, seq: u64, is_reply: bool) -> Message {
        let record = |member: &Member| Record {
            name: member.name.clone(),
            incarnation: member.incarnation,
            state: member.state,
            profile: member.profile(),
            age: member.age(self.now),
            intent: member.intent(),
        };
        Message::PushPull(Box::new(PushPull {
            seq,
            is_reply,
            from: self.name.clone(),
            reply_to: self.address(),
            clock: self.clock.latest(),
            event_clock: self.events.latest(),
            members: self.members.values().map(record).collect(),
            events: self.events.recent(EVENT_BYTES),
        }))
    }

    /// Another's full state is here.
    pub(super) fn handle_push_pull(&mut self, state: &PushPull) {
        let mut joined = None;
        if state.is_reply {
            let Some(exchange) = self.exchanges.remove(&state.seq) else {
                self.counters.unexpected += 1;
                return;
            };
            self.timers.clear(&Due::Exchange(state.seq));
            joined = exchange.is_join.then_some(exchange.to);
        } else {
            let reply = self.full_state(state.seq, true);
            self.send_stream(state.reply_to, &[reply]);
        }
        if joined.is_some() && self.awaits_events {
            self.events.ignore_until(state.event_clock);
            self.awaits_events = false;
        }
        self.quiet = self.live == 1;
        self.arriving = joined.is_some() && self.live == 1;
        self.clock.witness(state.clock);
        for record in &state.members {
            self.merge_record(state, record);
        }
        self.quiet = false;
        self.arriving = false;
        for event in &state.events {
            self.hear_event(event);
        }
        self.events.witness(state.event_clock);
        if let Some(address) = joined {
            self.utter(Purpose::Stay);
            // Who joined elsewhere at the same time is missing in the answer, and news of them may pass us by as long as
            // hardly anybody knows us: soon we ask once more.
            let again = self.rng.duration(self.options.probe_interval, self.options.push_pull_interval / 3);
            self.timers.set(Due::PushPull, self.now + again);
            self.news.push_back(News::JoinSucceeded { address });
        }
    }

    fn merge_record(&mut self, state: &PushPull, record: &Record) {
        let mut claim = record.claim();
        match self.members.get(&record.name) {
            None if !record.state.is_live() && self.is_forgotten(&record.name, record.incarnation) => return,
            None if !record.state.is_live() => self.take_in_gone(record),
            // What we take for alive may be: it is given the time to object, which a death sentence would not leave it.
            Some(member) if member.state.is_live() && record.state == State::Dead && record.name != self.name => {
                claim = Claim { state: State::Suspect, ..claim };
                self.hear(&record.name, &claim, &state.from);
            }
            _ => self.hear(&record.name, &claim, &state.from),
        }
        if let Some(intent) = record.intent {
            self.hear_intent(&record.name, intent);
        }
    }

    /// Takes in a member that was gone before we heard of it, so that all agree on who is missing. It is forgotten when
    /// the others forget it.
    fn take_in_gone(&mut self, record: &Record) {
        let Record { name, incarnation, state, profile, age, intent } = record;
        let mut member = Member::new(name.clone(), profile.clone(), *incarnation, *state, self.now);
        member.aged = *age;
        if let Some(intent) = intent {
            member.merge_intent(*intent);
        }
        let timeout = match member.status() {
            Status::Left => self.options.tombstone_timeout,
            _ => self.options.reconnect_timeout,
        };
        if *age < timeout {
            self.take_in(member);
        }
    }

    /// Fires an event for all, ourselves included: it comes as news like any other. Returns its time.
    ///
    /// # Errors
    /// If it is too large, or we are leaving.
    pub fn fire(&mut self, now: Instant, event: UserEvent) -> Result<LamportTime, CannotFire> {
        self.now = now;
        let (bytes, limit) = (event.name.len() + event.payload.len(), self.options.user_event_bytes);
        if bytes > limit {
            return Err(CannotFire::TooLarge { bytes, limit });
        }
        if self.phase != Phase::Here {
            return Err(CannotFire::Leaving);
        }
        let time = self.events.advance();
        let timed = TimedEvent { time, event };
        // It is new by its time, whatever others have fired.
        self.events.hear(&timed);
        self.broadcast(&Message::Event(timed.clone()));
        self.news.push_back(News::UserEvent(timed));
        Ok(time)
    }

    /// An event has come.
    pub(super) fn hear_event(&mut self, event: &TimedEvent) {
        if self.awaits_events {
            self.events.witness(event.time);
            self.counters.events_dropped += 1;
            return;
        }
        match self.events.hear(event) {
            Verdict::New => {
                self.broadcast(&Message::Event(event.clone()));
                self.news.push_back(News::UserEvent(event.clone()));
            }
            Verdict::Seen => {}
            Verdict::Old | Verdict::Crowded => self.counters.events_dropped += 1,
        }
    }
}
