//! Walks at random: whatever a script might do, in any order. What must hold is checked after every step.

use lictor_core::id::PeerId;
use lictor_core::raft::Change;
use lictor_core::rng::Rng;

use super::{Chosen, Cluster, address};

/// The servers of a walk; the first three are founders.
const SERVERS: u64 = 5;

impl Cluster {
    /// A walk of so many steps. Panics if anything goes wrong, and says what led to it.
    pub(crate) fn walk(seed: u64, steps: u32) -> Self {
        let mut rng = Rng::seeded(seed);
        let mut cluster = Self::new(3, rng.one_in(2), rng.one_in(4));
        (4..=SERVERS).for_each(|n| cluster.join(PeerId::numbered(n)));
        for _ in 0..steps {
            cluster.wander(&mut rng);
            cluster.check();
            cluster.take_output();
        }
        cluster.recover();
        cluster
    }

    fn wander(&mut self, rng: &mut Rng) {
        let mut below = |n: u64| rng.u64() % n;
        let id = PeerId::numbered(1 + below(SERVERS));
        let other = PeerId::numbered(1 + below(SERVERS));
        let leader = self.nodes.iter().find(|(_, node)| node.raft.as_ref().is_some_and(|raft| raft.is_leader()));
        let leader = leader.map_or(id, |(leader, _)| *leader);
        match below(200) {
            0..=49 => self.deliver_one(id, usize::try_from(below(4)).unwrap(), below(8) == 0),
            50..=99 => self.deliver(&Chosen { to: vec![id], ..Chosen::default() }),
            100..=101 => self.lose(&Chosen { to: vec![id], ..Chosen::default() }),
            102..=129 => self.persist(id, usize::try_from(1 + below(3)).unwrap()),
            130..=139 => {
                self.elapse(below(100));
                self.tick(id);
            }
            140..=154 => {
                self.elapse(50);
                self.tick(leader);
            }
            155 => self.campaign(id),
            156..=169 => {
                self.propose(leader, "x");
                self.flush(leader);
            }
            170..=171 => self.read(leader),
            172..=175 => self.change(leader, Change::Add { id: other, address: address(other) }),
            176..=179 => self.change(leader, Change::Promote(other)),
            180 => self.change(leader, Change::Remove(other)),
            181 => self.transfer(leader, None),
            182..=184 => self.snapshot(id, below(3), usize::try_from(below(2) * 1000).unwrap()),
            185 if self.nodes[&id].raft.is_some() => self.crash(id, usize::try_from(below(3)).unwrap()),
            186..=189 if self.nodes[&id].raft.is_none() => self.restart(id, &[]),
            190 => self.partition(&[id, other]),
            191..=193 => self.heal(),
            // A calm moment, or a walk would get nowhere.
            194 => self.settle(),
            _ => {}
        }
    }

    /// One message arrives, perhaps before others, and perhaps not for the last time.
    fn deliver_one(&mut self, id: PeerId, at: usize, again: bool) {
        let Some(inbox) = self.inboxes.get_mut(&id) else { return };
        let Some((sender, message)) = inbox.remove(at) else { return };
        if again {
            inbox.push_back((sender, message.clone()));
        }
        let now = self.now;
        if let Some(raft) = self.raft(id) {
            raft.step(now, sender, message);
            self.flush(id);
        }
    }

    /// All troubles end: there is a leader, and what it proposes is committed on every member.
    fn recover(&mut self) {
        self.heal();
        let down: Vec<PeerId> = self.nodes.iter().filter(|(_, node)| node.raft.is_none()).map(|(id, _)| *id).collect();
        down.into_iter().for_each(|id| self.restart(id, &[]));
        for round in 0..300 {
            self.elapse(100);
            let ids: Vec<PeerId> = self.nodes.keys().copied().collect();
            ids.iter().for_each(|id| self.tick(*id));
            self.settle();
            self.check();
            self.take_output();
            let leader = self.nodes.iter().find(|(_, node)| node.raft.as_ref().is_some_and(|raft| raft.is_leader()));
            let Some(leader) = leader.map(|(id, _)| *id) else { continue };
            if round < 200 {
                continue;
            }
            self.propose(leader, "last");
            self.flush(leader);
            self.settle();
            let raft = self.nodes[&leader].raft.as_ref().unwrap();
            let (last, members) = (raft.log().last().index, raft.members());
            let all = members.servers.keys().all(|id| self.nodes[id].raft.as_ref().unwrap().log().commit() == last);
            if all && !raft.is_handing_over() {
                return;
            }
        }
        self.show_status();
        panic!("the cluster does not recover:\n{}", self.out);
    }
}
