//! Servers that have found each other found a cluster, once there are as many as they were told to expect.
//!
//! Two clusters must never come of it, whoever sees whom, and whatever gets lost or crashes. So the one with the lowest
//! ID, the founder, proposes the very members to each of them, and begins only once all of them have pledged
//! themselves to it. Two proposals that share a server cannot both be carried out, as:
//!
//! - A server is pledged to one founder at a time. It keeps its pledge on the disk before it tells, and takes part in no
//!   other founding until that founder withdraws; or has left the pool for good, or been replaced by another of its name.
//! - A founder withdraws only what it will never carry out: it forgets the proposal. If it crashes, it has either founded the
//!   cluster, and then its log says so; or its proposal is void, and it says that to whoever reminds it.
//! - A server that was ever part of a cluster pledges itself to nothing, and tells the founder, which then waits to be
//!   added to that cluster, as long as that server is in its pool.
//!
//! As a pool takes a moment to come together, a server does not pledge itself to a proposal that leaves out a server which it
//! sees. Whoever sees a failed server waits for it to come back, or to be declared gone: it may hold a cluster's log.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Agent;
use super::jobs::Then;
use crate::file::{FileName, JobOutcome};
use crate::gossip::Status;
use crate::id::PeerId;
use crate::io::{Notice, Output, ServerNews};
use crate::keep::{self, FOLDER};
use crate::peer::{Body, Founding};
use crate::raft::Configuration;
use crate::server::Server;
use crate::time::Instant;

/// The file that keeps a pledge.
const FILE: &str = "founding";

/// How far we are with founding a cluster.
#[derive(Debug, Default)]
pub(super) struct Founder {
    /// What we have proposed.
    proposal: Option<Proposal>,
    /// To what another has proposed.
    pledge: Option<Pledge>,
    /// Servers that belong to a cluster, or once did.
    settled: BTreeSet<PeerId>,
    /// When to say again what nobody has answered.
    next: Option<Instant>,
    /// What stands in the way, as the operator was told.
    told: Option<ServerNews>,
}

#[derive(Debug)]
struct Proposal {
    number: u64,
    configuration: Configuration,
    /// Who is pledged to it.
    pledged: BTreeSet<PeerId>,
}

/// That we shall be in no other cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pledge {
    founder: PeerId,
    /// The founder's node name.
    name: String,
    number: u64,
    /// It is on the disk.
    #[serde(skip)]
    kept: bool,
}

/// Why nothing is proposed.
#[derive(Debug, PartialEq, Eq)]
enum Wait {
    /// For something that comes by itself.
    Quietly,
    /// For an operator.
    Tell(ServerNews),
}

impl Founder {
    /// With what an earlier life had kept.
    pub(super) fn recovered(files: &BTreeMap<FileName, Bytes>) -> Self {
        let kept = files.get(&format!("{FOLDER}{FILE}")).map(|bytes| keep::open::<Pledge>(bytes));
        let unreadable = Pledge { founder: PeerId::default(), name: String::new(), number: 0, kept: true };
        let pledge = kept.map(|pledge| match pledge {
            Ok(pledge) => Pledge { kept: true, ..pledge },
            // To somebody. Better no cluster than two.
            Err(_) => unreadable,
        });
        Self { pledge, next: None, ..Self::default() }
    }

    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }
}

impl Agent {
    /// Does what follows for a cluster that does not exist yet.
    pub(super) fn tend_founding(&mut self, touched: bool) {
        if self.founder.pledge.is_none() && self.founder.proposal.is_none() && !self.may_found() {
            // What was withdrawn may have left a time to look.
            self.founder.next = None;
            return;
        }
        if !self.raft.is_blank() {
            return self.cease_founding();
        }
        if touched {
            self.founder_may_be_gone();
            self.reconsider();
        }
        if self.founder.next.is_some_and(|due| due <= self.now) {
            self.founder.next = None;
            self.reconsider();
            self.speak_of_founding();
        }
        let waits = self.founder.proposal.is_some() || self.founder.pledge.is_some();
        if waits && self.founder.next.is_none() && self.raft.is_blank() {
            self.founder.next = Some(self.now + self.config.raft.election_timeout);
        }
    }

    /// Whether we are to found a cluster, and belong to none.
    fn may_found(&self) -> bool {
        self.config.gossip.bootstrap_expect > 0 && self.raft.is_blank()
    }

    /// We belong to a cluster.
    fn cease_founding(&mut self) {
        self.founder.next = None;
        self.founder.proposal = None;
        // Until there is something in the log, a pledge is all that tells where we belong.
        if self.founder.pledge.is_some() && self.raft.log().last().index > crate::id::Index(0) {
            self.founder.pledge = None;
            self.keep_no_more(FILE, Then::Nothing);
        }
    }

    /// Who is to found a cluster, as far as we see, with us as the founder.
    fn first_members(&self) -> Result<Configuration, Wait> {
        let expect = self.config.gossip.bootstrap_expect;
        if !self.may_found() || self.founder.pledge.is_some() {
            return Err(Wait::Quietly);
        }
        let mut members = BTreeMap::new();
        for server in self.servers_in_pool().filter(|server| server.status != Status::Left) {
            let name = server.name.to_string();
            if server.bootstrap {
                return Err(Wait::Tell(ServerNews::FoundsAlone { name }));
            }
            if server.expect != expect {
                return Err(Wait::Tell(ServerNews::ExpectsOthers { name, expects: server.expect, we: expect }));
            }
            if self.founder.settled.contains(&server.id) {
                return Err(Wait::Tell(ServerNews::Settled { name }));
            }
            if server.status == Status::Failed {
                return Err(Wait::Tell(ServerNews::AwaitsFailed { name }));
            }
            let same = members
                .insert(server.id, if server.id == self.config.id { self.config.address } else { server.address });
            if server.status == Status::Leaving || same.is_some() {
                return Err(Wait::Quietly);
            }
        }
        let enough = members.len() >= usize::try_from(expect).unwrap_or(usize::MAX);
        let first = members.keys().next() == Some(&self.config.id);
        if enough && first { Ok(Configuration::new(members)) } else { Err(Wait::Quietly) }
    }

    /// Looks at who is there, and proposes what is to be proposed now.
    fn reconsider(&mut self) {
        let present: BTreeSet<PeerId> = self.servers_in_pool().map(|server| server.id).collect();
        self.founder.settled.retain(|id| present.contains(id));
        match self.first_members() {
            Ok(wanted) => {
                self.founder.told = None;
                if self.founder.proposal.as_ref().is_some_and(|proposal| proposal.configuration == wanted) {
                    return;
                }
                self.withdraw();
                let (number, pledged) = (self.rng.u64(), BTreeSet::from([self.config.id]));
                self.founder.proposal = Some(Proposal { number, configuration: wanted, pledged });
                self.speak_of_founding();
                self.maybe_found();
            }
            Err(wait) => {
                self.withdraw();
                let Wait::Tell(news) = wait else { return };
                if self.founder.told.as_ref() != Some(&news) {
                    self.founder.told = Some(news.clone());
                    self.outputs.push_back(Output::Notice(Notice::Servers(news)));
                }
            }
        }
    }

    /// What we have proposed will never be.
    fn withdraw(&mut self) {
        let Some(Proposal { number, configuration, .. }) = self.founder.proposal.take() else { return };
        for (id, address) in others(&configuration, self.config.id) {
            self.send_to(id, address, Body::Founding(Founding::Withdrawn { number }));
        }
    }

    /// Says what is not answered yet: what we propose, or to what we are pledged.
    fn speak_of_founding(&mut self) {
        if let Some(Proposal { number, configuration, pledged }) = &self.founder.proposal {
            let proposed = Founding::Proposed { number: *number, configuration: configuration.clone() };
            let waits: Vec<_> =
                others(configuration, self.config.id).into_iter().filter(|(id, _)| !pledged.contains(id)).collect();
            for (id, address) in waits {
                self.send_to(id, address, Body::Founding(proposed.clone()));
            }
        } else if let Some(Pledge { founder, number, kept: true, .. }) = self.founder.pledge {
            let address = self.servers_in_pool().find(|server| server.id == founder).map(|server| server.address);
            if let Some(address) = address {
                self.send_to(founder, address, Body::Founding(Founding::Pledged { number }));
            }
        }
    }

    /// Founds the cluster if all are pledged to it.
    fn maybe_found(&mut self) {
        let all = |proposal: &mut Proposal| proposal.pledged.len() == proposal.configuration.servers.len();
        let Some(proposal) = self.founder.proposal.take_if(all) else { return };
        let members = proposal.configuration.servers.len();
        if self.raft.bootstrap(self.now, proposal.configuration) {
            self.outputs.push_back(Output::Notice(Notice::Servers(ServerNews::Founded { members })));
            self.raft.tick(self.now);
        }
        self.founder.next = None;
    }

    /// Another server speaks of founding a cluster.
    pub(super) fn handle_founding(&mut self, from: PeerId, address: SocketAddr, message: Founding) {
        if !self.config.server {
            return;
        }
        match message {
            Founding::Proposed { number, configuration } => self.consider(from, address, number, &configuration),
            Founding::Pledged { number } => match &mut self.founder.proposal {
                Some(proposal) if proposal.number == number => {
                    if proposal.configuration.is_voter(from) {
                        proposal.pledged.insert(from);
                    }
                    self.maybe_found();
                }
                // We hold nothing of a cluster, so nothing came of that, and nothing will.
                _ if self.raft.is_blank() => {
                    self.send_to(from, address, Body::Founding(Founding::Withdrawn { number }));
                }
                _ => {}
            },
            Founding::Declined { number, settled } => {
                if settled && self.founder.proposal.as_ref().is_some_and(|proposal| proposal.number == number) {
                    self.founder.settled.insert(from);
                    self.reconsider();
                }
            }
            Founding::Withdrawn { number } => {
                let released = |pledge: &mut Pledge| (pledge.founder, pledge.number) == (from, number);
                if self.founder.pledge.take_if(released).is_some() {
                    self.release();
                }
            }
        }
    }

    /// Another server proposes who shall be in the cluster.
    fn consider(&mut self, from: PeerId, address: SocketAddr, number: u64, configuration: &Configuration) {
        let settled = !self.raft.is_blank();
        let Some(name) = self.acceptable(from, configuration).filter(|_| !settled) else {
            return self.send_to(from, address, Body::Founding(Founding::Declined { number, settled }));
        };
        match &self.founder.pledge {
            // Which of two proposals is the later, only the founder knows: if it has withdrawn this one, it says so, and
            // makes the other once more. Until then it may count on us.
            Some(Pledge { kept: true, number, .. }) => {
                let number = *number;
                self.send_to(from, address, Body::Founding(Founding::Pledged { number }));
            }
            // It is being written.
            Some(_) => {}
            None => {
                let pledge = Pledge { founder: from, name, number, kept: false };
                self.keep(FILE, &pledge, Then::Pledge(number));
                self.founder.pledge = Some(pledge);
            }
        }
    }

    /// The founder's name, if we can pledge ourselves to what it proposes.
    fn acceptable(&self, founder: PeerId, configuration: &Configuration) -> Option<String> {
        let expect = usize::try_from(self.config.gossip.bootstrap_expect).unwrap_or(usize::MAX);
        let free = self.founder.proposal.is_none()
            && self.founder.pledge.as_ref().is_none_or(|pledge| pledge.founder == founder);
        let fits = expect > 0
            && configuration.voter_count() >= expect
            && configuration.is_voter(founder)
            && configuration.is_voter(self.config.id);
        if !free || !fits {
            return None;
        }
        let here: Vec<Server> = self.servers_in_pool().filter(|server| server.status != Status::Left).collect();
        let all = here.iter().all(|server| configuration.is_voter(server.id));
        here.into_iter().find(|server| all && server.id == founder).map(|server| server.name.to_string())
    }

    /// A pledge is on the disk, or found no room there.
    pub(super) fn pledge_kept(&mut self, number: u64, outcome: JobOutcome) {
        match &mut self.founder.pledge {
            Some(pledge) if pledge.number == number && outcome == JobOutcome::Done => {
                pledge.kept = true;
                self.speak_of_founding();
            }
            // It was not told to anybody.
            Some(pledge) if pledge.number == number => self.founder.pledge = None,
            _ => {}
        }
    }

    /// A founder that has left for good, or has lost what it had kept, will not come back to its proposal.
    fn founder_may_be_gone(&mut self) {
        let Some(Pledge { founder, name, .. }) = &self.founder.pledge else { return };
        let gone = self.gossip.member(name).is_some_and(|member| {
            let server = Server::of(member, &self.config.datacenter);
            server.is_none_or(|server| server.id != *founder || server.status == Status::Left)
        });
        if gone {
            self.founder.pledge = None;
            self.release();
        }
    }

    /// We are not pledged any more.
    fn release(&mut self) {
        self.keep_no_more(FILE, Then::Nothing);
        self.founder.next = None;
        self.reconsider();
    }
}

fn others(configuration: &Configuration, me: PeerId) -> Vec<(PeerId, SocketAddr)> {
    configuration.servers.iter().filter(|(id, _)| **id != me).map(|(id, server)| (*id, server.address)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::id::{Index, Round, Term};
    use crate::io::Input;
    use crate::peer::Envelope;
    use crate::raft::{Kind, Message};
    use crate::recovery::Recovered;
    use crate::wire;

    /// What a founder had proposed may be withdrawn again, and leaves it with a time to look.
    #[test]
    fn who_comes_to_a_cluster_while_it_waits_to_found_one_does_not_wait_any_more() {
        let mut config = Config::new(PeerId::numbered(1), "n1", "10.0.0.1:8300".parse().unwrap());
        config.gossip.bootstrap_expect = 3;
        let mut agent = Agent::new(config, 1, Recovered::default(), Instant::ZERO);
        agent.founder.next = Some(Instant::from_millis(500));
        let kind = Kind::Heartbeat { commit: Index(0), round: Round(1) };
        let heartbeat = Envelope {
            from: PeerId::numbered(2),
            to: PeerId::numbered(1),
            address: "10.0.0.2:8300".parse().unwrap(),
            cluster: wire::cluster_tag("dc1"),
            body: Body::Raft(Message { term: Term(3), kind }),
        };
        agent.handle_input(Instant::from_millis(100), Input::Message(heartbeat));
        while agent.poll_output().is_some() {}
        agent.handle_input(Instant::from_millis(500), Input::Timeout);
        while agent.poll_output().is_some() {}
        assert_eq!(agent.founder.poll_timeout(), None, "it would be woken without end");
    }
}
