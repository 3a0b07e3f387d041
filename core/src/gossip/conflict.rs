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

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::member::Name;
use super::message::Message;
use super::news::News;
use super::{Due, Gossip, Phase};

/// How many are asked, at most: as many as are needed for a verdict that does not depend on chance.
const ELECTORS: usize = 31;

/// After this many probe intervals the answers are counted.
const COUNT_AFTER_PROBES: u32 = 2;

/// A question to the others whether our name is ours.
#[derive(Clone, Debug)]
pub(super) struct Vote {
    /// Where our name is claimed.
    rival: SocketAddr,
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
    /// Our name is claimed elsewhere. As soon as all that came along with this is heard, others are asked.
    pub(super) fn doubt_name(&mut self, rival: SocketAddr) {
        if self.phase == Phase::Here && self.vote.is_none() {
            let (newcomer, asked) = (self.arriving, BTreeMap::new());
            self.vote = Some(Vote { rival, newcomer, seq: None, asked, rival_answers: false });
            self.timers.set(Due::Vote, self.now);
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
        let Some(vote) = self.vote.take() else { return };
        let mean_rival = vote.asked.values().filter(|known| **known == Some(vote.rival)).count();
        let lost = if vote.asked.is_empty() { vote.newcomer } else { 2 * mean_rival > vote.asked.len() };
        if lost && vote.rival_answers && self.phase == Phase::Here {
            self.fall_silent();
            self.news.push_back(News::NameLost { holder: vote.rival });
        }
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
        if *from == self.name && self.vote.as_ref().is_some_and(|vote| vote.seq == Some(seq)) {
            self.vote = None;
            self.timers.clear(&Due::Vote);
        }
    }
}
