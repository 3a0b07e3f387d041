//! Two machines with one name: who keeps it.
//!
//! To everybody else the first to come keeps its name until it fails (`Member::conflicts_with`). What remains to be settled is
//! what a member does that finds its own name elsewhere. It asks others whom they mean by it. If most of them mean
//! the other one, the name is lost: this one falls silent, and its owner stops it.
//!
//! That alone would turn out a member that has moved, whose friends still know its former address. So the rival is asked, too:
//! only if somebody answers to our name there, and it is not ourselves by another address, can the name be lost. One that
//! does not answer will be found dead by the others before long.
//!
//! One who joins and meets its own name at once may have nobody to ask. Then the one who came keeps away.
//!
//! A rival with our own ID is a life of the same agent ([`ID_TAG`](super::ID_TAG)): most likely our former one, which ended just
//! now somewhere else, and nobody has noticed. If nobody answers there any more, we speak in a higher incarnation, which all
//! others believe at once. But if somebody does, there are two with a copy of the same data, who are dealt with as above. Nor is
//! anybody outbid by who has been here for long: of two copies that cannot reach each other, the one that came last is
//! believed, and they do not outbid each other for ever.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::member::{Name, State};
use super::message::Message;
use super::news::News;
use super::{Due, Gossip, Phase};
use crate::id::Incarnation;
use crate::time::Duration;

/// How many are asked, at most: as many as are needed for a verdict that does not depend on chance.
const ELECTORS: usize = 31;

/// After this many probe intervals the answers are counted.
const COUNT_AFTER_PROBES: u32 = 2;

/// For how long after we have met the first others a former life of ours may still be taken for alive by somebody.
const FORMER_LIFE: Duration = Duration::from_secs(60);

/// A question to the others whether our name is ours.
#[derive(Clone, Debug)]
pub(super) struct Vote {
    /// Where our name is claimed.
    rival: SocketAddr,
    /// If the rival is a life of the same agent: the latest incarnation that was heard of.
    former: Option<Incarnation>,
    /// We were alone until we came and found it.
    newcomer: bool,
    /// The number of the question and of the ping to the rival, once they are on their way.
    seq: Option<u64>,
    /// Whom we have asked, by address, and where they say that our name is.
    asked: BTreeMap<SocketAddr, Option<SocketAddr>>,
    /// Somebody is there who answers to our name.
    rival_answers: bool,
}

impl Gossip {
    /// Our name is claimed elsewhere, perhaps by a life of the same agent, in this incarnation. As soon as all that came along with
    /// this is heard, others are asked.
    pub(super) fn doubt_name(&mut self, rival: SocketAddr, former: Option<Incarnation>) {
        match &mut self.vote {
            Some(vote) if vote.rival == rival => vote.former = vote.former.max(former),
            None if self.phase == Phase::Here => {
                let (newcomer, asked) = (self.arriving, BTreeMap::new());
                self.vote = Some(Vote { rival, former, newcomer, seq: None, asked, rival_answers: false });
                self.timers.set(Due::Vote, self.now);
            }
            _ => {}
        }
    }

    /// Whether we do not object to what is said of us in this incarnation, as it may be about another life of this agent, and as yet
    /// we do not know whether that goes on.
    pub(super) fn holds_tongue(&mut self, incarnation: Incarnation) -> bool {
        let former = self.vote.as_mut().and_then(|vote| vote.former.as_mut());
        former.map(|former| *former = incarnation.max(*former)).is_some()
    }

    /// Nobody could be reached at an address over a stream. If that is where our former life was, only a datagram could still
    /// find it, and is back soon.
    pub(super) fn rival_unreachable(&mut self, address: SocketAddr) {
        let concerns = |vote: &Vote| vote.rival == address && vote.former.is_some() && vote.seq.is_some();
        let soon = self.now + self.options.probe_timeout;
        if self.vote.as_ref().is_some_and(concerns) && self.timers.get(&Due::Vote).is_some_and(|at| at > soon) {
            self.timers.set(Due::Vote, soon);
        }
    }

    /// A vote begins, or is over.
    pub(super) fn advance_vote(&mut self) {
        match &self.vote {
            Some(Vote { seq: None, .. }) => self.begin_vote(),
            Some(_) => self.end_vote(),
            None => {}
        }
    }

    fn begin_vote(&mut self) {
        let seq = self.vote_seq();
        let electors = self.pick(ELECTORS, |member| member.state.is_live());
        let electors: Vec<SocketAddr> = electors.iter().map(|name| self.members[name].address).collect();
        let (name, reply_to) = (self.name.clone(), self.address());
        let Some(vote) = &mut self.vote else { return };
        vote.seq = Some(seq);
        vote.asked = electors.iter().map(|address| (*address, None)).collect();
        let rival = vote.rival;
        for elector in electors {
            self.send_uncounted(elector, &[Message::WhoIs { seq, name: name.clone() }]);
        }
        let ping = Message::Ping { seq, target: name.clone(), from: name, reply_to };
        self.send_uncounted(rival, std::slice::from_ref(&ping));
        self.send_stream(rival, &[ping]);
        self.timers.set(Due::Vote, self.now + self.options.probe_interval * COUNT_AFTER_PROBES);
    }

    fn end_vote(&mut self) {
        let Some(vote) = self.vote.take().filter(|_| self.phase == Phase::Here) else { return };
        let is_new = self.met.is_none_or(|met| self.now.since(met) < FORMER_LIFE);
        if let Some(former) = vote.former.filter(|_| is_new && !vote.rival_answers) {
            return self.outbid(former);
        }
        let mean_rival = vote.asked.values().filter(|known| **known == Some(vote.rival)).count();
        let lost = if vote.asked.is_empty() { vote.newcomer } else { 2 * mean_rival > vote.asked.len() };
        if lost && vote.rival_answers {
            self.fall_silent();
            self.news.push_back(News::NameLost { holder: vote.rival });
        } else if vote.former.is_some() {
            self.conflict(&self.name.clone(), self.address(), vote.rival);
        }
    }

    /// Our former life is over, and this is where we are now.
    fn outbid(&mut self, former: Incarnation) {
        let us = &self.members[&self.name];
        let (incarnation, tags) = (us.incarnation.max(former).next(), us.tags.clone());
        self.speak(incarnation, State::Alive, tags);
    }

    /// Somebody wants to know whom we mean by a name.
    pub(super) fn tell_whose_name(&mut self, from: SocketAddr, seq: u64, name: &Name) {
        let member = self.members.get(name).filter(|member| member.state.is_live());
        let address = member.map(|member| member.address);
        self.send_uncounted(from, &[Message::Known { seq, address }]);
    }

    /// Somebody tells whom it means by our name.
    pub(super) fn count_vote(&mut self, from: SocketAddr, seq: u64, address: Option<SocketAddr>) {
        let vote = self.vote.as_mut().filter(|vote| vote.seq == Some(seq));
        match vote.and_then(|vote| vote.asked.get_mut(&from)) {
            Some(answer) => *answer = address,
            None => self.counters.unexpected += 1,
        }
    }

    /// Whether this ack is the rival's, which then is there.
    pub(super) fn rival_answers(&mut self, seq: u64) -> bool {
        let vote = self.vote.as_mut().filter(|vote| vote.seq == Some(seq));
        vote.map(|vote| vote.rival_answers = true).is_some()
    }

    /// A ping came that is meant for us. If it is the one that we have sent to our rival, then our rival is ourselves, at
    /// another address of ours.
    pub(super) fn may_be_an_echo(&mut self, seq: u64, from: &Name) {
        if *from == self.name
            && let Some(vote) = self.vote.take_if(|vote| vote.seq == Some(seq))
        {
            self.timers.clear(&Due::Vote);
            if let Some(former) = vote.former {
                self.outbid(former);
            }
        }
    }
}
