//! The servers of our datacenter, as gossip knows them; and on an agent that is none, which of them are asked, and who
//! of them leads.
//!
//! Such an agent takes no part in raft. What any server may answer goes to the first of its list, which is in an
//! order of its own and shuffled now and then, so that all agents together ask all servers alike. What is the leader's
//! goes to the leader, and nowhere else: a write names the term of the leader that it is meant for, and so takes place
//! at most once, whatever gets lost (`forward.rs`). As long as the leader is not known, calls are held, and the servers are
//! asked who leads.
//!
//! A leader that leaves a call unanswered for half a second is doubted: the servers, itself included, are asked again, and new calls
//! wait for what they say. Gossip takes longer than that to notice a death; but what it says counts at once.

use std::net::SocketAddr;

use super::Agent;
use super::calls::Stage;
use crate::gossip::{News, Status};
use crate::id::{PeerId, Term, Ticket};
use crate::io::{Notice, Output, ServerNews};
use crate::leader::{Step, Surroundings};
use crate::peer::{Body, Leading};
use crate::raft::Refused;
use crate::rng::Rng;
use crate::server::Server;
use crate::time::{Duration, Instant};

/// The list is shuffled after at least so long, and half as much again at most.
const SHUFFLE_AFTER: Duration = Duration::from_secs(120);

/// How many agents a second may come to each server by shuffling their lists.
const SHUFFLES_PER_SERVER: usize = 64;

/// How many servers are asked at a time who leads.
const ASK_AT_ONCE: usize = 8;

/// A server that can be asked.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: PeerId,
    address: SocketAddr,
    /// When it last said anything.
    heard: Instant,
}

/// Whom a client agent asks. On a server, nothing.
#[derive(Debug)]
pub(super) struct Servers {
    rng: Rng,
    /// The live ones; the first is asked.
    list: Vec<Known>,
    /// There may be others now.
    touched: bool,
    next_shuffle: Option<Instant>,
    leader: Option<Leading>,
    /// The leader has been silent where it should have spoken.
    doubted: bool,
    /// The last one that said that it does not lead any more. Others may not have noticed.
    former: Option<Leading>,
    /// When the servers were last asked who leads.
    asked: Option<Instant>,
}

impl Servers {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            rng,
            list: Vec::new(),
            touched: true,
            next_shuffle: None,
            leader: None,
            doubted: false,
            former: None,
            asked: None,
        }
    }

    /// The leader, if one is known that is not doubted.
    pub(super) fn leader(&self) -> Option<Leading> {
        self.leader.filter(|_| !self.doubted)
    }

    /// The leader, though it may be doubted.
    pub(super) const fn last_leader(&self) -> Option<Leading> {
        self.leader
    }

    /// The server that is asked what any may answer.
    pub(super) fn first(&self) -> Option<PeerId> {
        self.list.first().map(|server| server.id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Where a server is.
    pub(super) fn address(&self, id: PeerId) -> Option<SocketAddr> {
        let leader = self.leader.filter(|leader| leader.id == id).map(|leader| leader.address);
        leader.or_else(|| self.list.iter().find(|server| server.id == id).map(|server| server.address))
    }

    /// When this server last said anything.
    pub(super) fn heard(&self, id: PeerId) -> Option<Instant> {
        self.list.iter().find(|server| server.id == id).map(|server| server.heard)
    }

    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.next_shuffle
    }

    /// It is not asked again before all others were.
    pub(super) fn pass_over(&mut self, id: PeerId) {
        if let Some(at) = self.list.iter().position(|server| server.id == id) {
            let server = self.list.remove(at);
            self.list.push(server);
        }
    }

    /// Takes over who is live. Those that stay keep their places, newcomers get one by lot. Gives those that are gone.
    fn update(&mut self, live: &[Server]) -> Vec<PeerId> {
        let mut gone = Vec::new();
        self.list.retain_mut(|known| {
            let found = live.iter().find(|server| server.id == known.id);
            gone.extend(found.is_none().then_some(known.id));
            found.inspect(|server| known.address = server.address).is_some()
        });
        for server in live {
            if self.list.iter().all(|known| known.id != server.id) {
                let place = self.rng.below(self.list.len() as u64 + 1);
                let known = Known { id: server.id, address: server.address, heard: Instant::ZERO };
                self.list.insert(usize::try_from(place).unwrap_or(0), known);
            }
        }
        self.leader.take_if(|leader| gone.contains(&leader.id));
        gone
    }

    fn shuffle(&mut self) {
        for at in (1..self.list.len()).rev() {
            let other = self.rng.below(at as u64 + 1);
            self.list.swap(at, usize::try_from(other).unwrap_or(at));
        }
    }

    /// When to shuffle next, in a pool of so many members.
    fn plan_shuffle(&mut self, now: Instant, members: usize) {
        self.next_shuffle = (self.list.len() > 1).then(|| {
            let least = self.rng.duration(SHUFFLE_AFTER, SHUFFLE_AFTER * 3 / 2);
            let seconds = members / (self.list.len() * SHUFFLES_PER_SERVER);
            now + least.max(Duration::from_secs(seconds as u64))
        });
    }

    /// Somebody says who leads. Whether that is news.
    fn hear_of_leader(&mut self, from: PeerId, said: Leading) -> bool {
        let is_news = match (self.leader, self.former) {
            // Where we look for it, nobody answers: it may have moved, and who told us of it first did not know that yet.
            (Some(known), _) if self.doubted && (said.id, said.term) == (known.id, known.term) => {
                said.address != known.address
            }
            (Some(known), _) => said.term > known.term,
            // What is told by itself is no hearsay.
            (None, Some(former)) if said.id == from => said.term >= former.term,
            (None, Some(former)) => said.term > former.term,
            (None, None) => true,
        };
        if is_news {
            (self.leader, self.doubted) = (Some(said), false);
        }
        is_news
    }
}

impl Agent {
    /// Takes note of what has happened in the pool. To be called with each piece of its news.
    pub(super) fn note_pool_news(&mut self, news: &News) {
        let (member, forgotten) = match news {
            News::Joined(member) | News::Updated(member) | News::Failed(member) | News::Left(member) => (member, false),
            News::Reaped(member) => (member, true),
            _ => return,
        };
        self.servers.touched = true;
        match &mut self.duties {
            Some(duties) if forgotten => {
                let server = Server::of(member, &self.config.datacenter).map(|server| server.id);
                duties.note_forgotten(member.name.as_str(), server);
            }
            Some(duties) => duties.note_member(member.name.as_str()),
            None => {}
        }
    }

    /// While we lead: brings what gossip knows of the members into raft and into the catalog.
    pub(super) fn reconcile(&mut self) {
        let Some(duties) = &mut self.duties else { return };
        let around = Surroundings { config: &self.config, raft: &self.raft, gossip: &self.gossip, store: &self.store };
        for step in duties.poll_steps(self.now, around) {
            let made = match step {
                Step::Command(command) => {
                    let made = self.propose_duty(&command);
                    if let (None, Some(duties)) = (made, &mut self.duties) {
                        duties.note_undone(self.now);
                    }
                    made
                }
                Step::Change(name, change) => match self.change_members(change) {
                    Ok(position) => Some(position),
                    Err(Refused::TooSoon | Refused::NotLeader) => None,
                    Err(_) => {
                        self.duties.iter_mut().for_each(|duties| duties.note_refused(name.clone()));
                        None
                    }
                },
                Step::SecondBootstrap(name) => {
                    let news = ServerNews::SecondBootstrap { name };
                    self.outputs.push_back(Output::Notice(Notice::Servers(news)));
                    None
                }
            };
            if let (Some(position), Some(duties)) = (made, &mut self.duties) {
                duties.note_proposed(position.index);
            }
        }
    }

    /// The servers of our datacenter, whatever has become of them, ourselves included if we are one.
    pub(super) fn servers_in_pool(&self) -> impl Iterator<Item = Server> + '_ {
        self.gossip.members().filter_map(|member| Server::of(member, &self.config.datacenter))
    }

    /// Does what follows from who is in the pool.
    pub(super) fn tend_servers(&mut self) {
        let touched = std::mem::take(&mut self.servers.touched);
        if self.config.server {
            return self.tend_founding(touched);
        }
        if touched {
            let live: Vec<Server> = self.servers_in_pool().filter(|server| server.status == Status::Alive).collect();
            let gone = self.servers.update(&live);
            if self.servers.next_shuffle.is_none() || self.servers.list.len() < 2 {
                self.servers.plan_shuffle(self.now, self.gossip.live());
            }
            self.leave_lost_servers(&gone);
            self.route_held();
        }
        if self.servers.next_shuffle.is_some_and(|due| due <= self.now) {
            self.servers.shuffle();
            self.servers.plan_shuffle(self.now, self.gossip.live());
        }
    }

    /// Looks again at the calls that wait for a leader, or for any server.
    pub(super) fn route_held(&mut self) {
        for ticket in self.calls.in_stage(|open| open.stage == Stage::Held) {
            self.route(ticket);
        }
    }

    /// Calls that wait for servers which are not there any more go elsewhere.
    fn leave_lost_servers(&mut self, gone: &[PeerId]) {
        let lost = |open: &super::calls::Open| matches!(open.stage, Stage::Forwarded { to, .. } if gone.contains(&to));
        for ticket in self.calls.in_stage(lost) {
            self.leave(ticket);
        }
    }

    /// A server says something to us, who are none.
    pub(super) fn hear_server(&mut self, from: PeerId) {
        if let Some(known) = self.servers.list.iter_mut().find(|known| known.id == from) {
            known.heard = self.now;
        }
        if self.servers.doubted && self.servers.leader.is_some_and(|leader| leader.id == from) {
            self.servers.doubted = false;
            self.route_held();
        }
    }

    /// Asks the servers who leads, unless they were asked a moment ago.
    pub(super) fn ask_who_leads(&mut self) {
        if self.servers.asked.is_some_and(|asked| self.now < asked + self.config.raft.heartbeat_interval) {
            return;
        }
        self.servers.asked = Some(self.now);
        // Those that are beyond the number have their turn the next time.
        let asked: Vec<PeerId> = self.servers.list.iter().take(ASK_AT_ONCE).map(|known| known.id).collect();
        if self.servers.list.len() > ASK_AT_ONCE {
            self.servers.list.rotate_left(ASK_AT_ONCE);
        }
        for id in asked {
            self.send(id, Body::WhoLeads);
        }
    }

    /// Asks a server whether it is there at all.
    pub(super) fn ask_whether_there(&mut self, id: PeerId) {
        self.send(id, Body::WhoLeads);
    }

    /// The leader should have spoken by now.
    pub(super) fn doubt_leader(&mut self) {
        self.servers.doubted = true;
        self.ask_who_leads();
    }

    /// A server says who leads, if anybody does.
    pub(super) fn hear_of_leader(&mut self, from: PeerId, said: Option<Leading>) {
        if self.config.server {
            return;
        }
        if let Some(known) = self.servers.leader
            && known.id == from
            && said.is_none_or(|said| said.id != from)
        {
            self.hear_of_no_leader(from, known.term);
        }
        if said.is_some_and(|said| self.servers.hear_of_leader(from, said)) {
            self.meet_leader();
        }
    }

    /// A server has told us that it does not lead this term, or does so no more.
    pub(super) fn hear_of_no_leader(&mut self, from: PeerId, term: Term) {
        if let Some(former) = self.servers.leader.take_if(|leader| (leader.id, leader.term) == (from, term)) {
            self.servers.former = Some(former);
            self.servers.doubted = false;
        }
    }

    /// Who leads, as far as we, a server, know.
    pub(super) fn leading(&self) -> Option<Leading> {
        let (id, address) = self.raft.leader_address()?;
        Some(Leading { id, address, term: self.raft.status().term })
    }

    /// An agent asks us who leads.
    pub(super) fn tell_who_leads(&mut self, to: PeerId, address: SocketAddr) {
        if self.config.server {
            let body = Body::Leads(self.leading());
            self.send_to(to, address, body);
        }
    }

    /// A call on an agent that is no server waits until there is one to ask, or until it is known who leads.
    pub(super) fn hold_for_server(&mut self, ticket: Ticket) {
        self.ask_who_leads();
        let Some(open) = self.calls.get(ticket) else { return };
        let look = open.patience.min(self.now + self.config.raft.heartbeat_interval);
        // With nobody to ask, there will be news of the pool first.
        let look = if self.servers.is_empty() { open.patience } else { look };
        self.calls.enter(ticket, Stage::Held, Some(look));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::Name;

    fn server(n: u64) -> Server {
        Server {
            name: Name::from(format!("n{n}").as_str()),
            id: PeerId::numbered(n),
            address: format!("10.0.0.{n}:8300").parse().unwrap(),
            status: Status::Alive,
            expect: 0,
            bootstrap: false,
        }
    }

    fn ids(servers: &Servers) -> Vec<PeerId> {
        servers.list.iter().map(|known| known.id).collect()
    }

    fn leading(n: u64, term: u64) -> Leading {
        Leading { id: PeerId::numbered(n), address: server(n).address, term: Term(term) }
    }

    #[test]
    fn those_that_stay_keep_their_places_and_the_silent_go_last() {
        let mut servers = Servers::new(Rng::seeded(1));
        servers.update(&[1, 2, 3, 4].map(server));
        let order = ids(&servers);
        servers.update(&[1, 2, 3, 4].map(server));
        assert_eq!(ids(&servers), order);
        servers.pass_over(order[0]);
        assert_eq!((servers.first(), ids(&servers)[3]), (Some(order[1]), order[0]));
        servers.update(&[1, 3].map(server));
        assert!(ids(&servers).len() == 2 && servers.address(PeerId::numbered(2)).is_none());
    }

    #[test]
    fn agents_begin_with_different_servers_and_shuffling_moves_them() {
        let firsts = (0..30).map(|seed| {
            let mut servers = Servers::new(Rng::seeded(seed));
            servers.update(&[1, 2, 3].map(server));
            let before = servers.first();
            (0..10).for_each(|_| servers.shuffle());
            (before, servers.first())
        });
        let firsts: std::collections::BTreeSet<_> = firsts.collect();
        assert!(firsts.len() >= 7, "of nine pairs: {firsts:?}");
    }

    #[test]
    fn shuffling_is_rarer_the_more_agents_there_are() {
        let mut servers = Servers::new(Rng::seeded(1));
        servers.plan_shuffle(Instant::ZERO, 10);
        assert_eq!(servers.next_shuffle, None, "nothing to shuffle");
        servers.update(&[1, 2, 3].map(server));
        servers.plan_shuffle(Instant::ZERO, 10);
        let due = servers.next_shuffle.unwrap();
        assert!(due >= Instant::ZERO + SHUFFLE_AFTER && due < Instant::ZERO + SHUFFLE_AFTER * 3 / 2);
        servers.plan_shuffle(Instant::ZERO, 192_000);
        assert_eq!(servers.next_shuffle, Some(Instant::from_millis(1_000_000)));
    }

    #[test]
    fn a_leader_that_does_not_answer_is_looked_for_where_others_say_that_it_is() {
        let mut servers = Servers::new(Rng::seeded(1));
        servers.update(&[1, 2, 3].map(server));
        let [one, two, three] = [1, 2, 3].map(PeerId::numbered);
        let moved = Leading { address: "10.1.0.1:8300".parse().unwrap(), ..leading(1, 4) };
        assert!(servers.hear_of_leader(two, leading(1, 4)));
        assert!(!servers.hear_of_leader(three, moved), "it is found where it is");
        servers.doubted = true;
        assert!(!servers.hear_of_leader(two, leading(1, 4)));
        assert!(servers.hear_of_leader(three, moved));
        assert_eq!((servers.address(one), servers.doubted), (Some(moved.address), false));
    }

    #[test]
    fn who_resigned_is_not_believed_to_lead_by_hearsay() {
        let mut servers = Servers::new(Rng::seeded(1));
        servers.update(&[1, 2, 3].map(server));
        let [one, two, three] = [1, 2, 3].map(PeerId::numbered);
        assert!(servers.hear_of_leader(three, leading(1, 4)));
        servers.doubted = true;
        let hearsay = servers.hear_of_leader(three, leading(1, 4));
        assert!(!hearsay && servers.leader().is_none(), "hearsay does not clear a doubt");
        assert!(!servers.hear_of_leader(two, leading(2, 3)));
        servers.former = servers.leader.take();
        servers.doubted = false;
        assert!(!servers.hear_of_leader(three, leading(1, 4)));
        assert!(servers.hear_of_leader(one, leading(1, 4)), "it must know");
        assert!(servers.hear_of_leader(three, leading(2, 5)));
        assert_eq!(servers.leader(), Some(leading(2, 5)));
        assert_eq!(servers.update(&[1, 3].map(server)), [two]);
        assert_eq!(servers.last_leader(), None, "gossip has lost it");
    }
}
