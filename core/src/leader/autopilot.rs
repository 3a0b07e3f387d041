//! How the servers are, and what follows from that: votes for those that have caught up, farewell to the dead.
//!
//! A server joins without a vote and gets one once it has been healthy for a while. A server that has been silent for long
//! is dead; its seat is taken away once another server can fill it, so that a cluster never shrinks by itself below what its
//! operator gave it. (Settings and names are those of Consul's autopilot.)

use std::collections::BTreeMap;

use crate::api::operator::{Autopilot as Settings, Health, ServerHealth};
use crate::config::Config;
use crate::id::{Index, PeerId, Term};
use crate::raft::{Change, Configuration, Progress, Raft, Role, quorum};
use crate::sight::Sight;
use crate::time::{Duration, Instant};

/// How often the servers are looked at, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The servers, as a leader has seen them since it was elected.
#[derive(Debug)]
pub(super) struct Autopilot {
    next_look: Instant,
    /// We have looked in time since then. Who was not heard before may have spoken while we were not there to listen.
    awake_since: Instant,
    seen: BTreeMap<PeerId, Seen>,
}

/// What the servers are judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene<'a> {
    pub(super) now: Instant,
    pub(super) config: &'a Config,
    pub(super) raft: &'a Raft,
    pub(super) settings: &'a Settings,
    pub(super) sight: &'a Sight,
}

/// A server as it was last seen.
#[derive(Clone, Copy, Debug)]
struct Seen {
    healthy: bool,
    /// It has been so since then.
    since: Instant,
}

/// A server as it is now.
#[derive(Clone, Copy, Debug)]
struct Condition {
    contact: Duration,
    last: Index,
    healthy: bool,
    /// It does not speak: it may turn out to be dead.
    silent: bool,
    dead: bool,
}

impl Autopilot {
    pub(super) fn new(now: Instant) -> Self {
        // A leader that was just elected has heard nobody yet.
        Self { next_look: now + LONGEST_PAUSE, awake_since: now, seen: BTreeMap::new() }
    }

    /// When to look again; a server that is alone need not.
    pub(super) fn poll_timeout(&self, raft: &Raft) -> Option<Instant> {
        (raft.members().servers.len() > 1).then_some(self.next_look)
    }

    /// Looks at the servers if it is time to. Gives the change that is due, if any.
    pub(super) fn poll_change(&mut self, scene: &Scene<'_>) -> Option<Change> {
        let Scene { now, config, raft, settings, .. } = *scene;
        if self.next_look > now {
            return None;
        }
        if now.since(self.next_look) >= config.raft.election_timeout {
            self.awake_since = now;
        }
        let pause = (settings.server_stabilization_time / 4).min(LONGEST_PAUSE).max(config.raft.heartbeat_interval);
        self.next_look = now + pause;
        let members = raft.members();
        self.seen.retain(|id, _| members.is_member(*id));
        for id in members.servers.keys() {
            let healthy = condition(*id, scene).healthy;
            let seen = self.seen.entry(*id).or_insert(Seen { healthy, since: now });
            if seen.healthy != healthy {
                *seen = Seen { healthy, since: now };
            }
        }
        self.due(scene)
    }

    /// The change that is due.
    fn due(&self, scene: &Scene<'_>) -> Option<Change> {
        let Scene { now, config, raft, settings, sight } = *scene;
        let members = raft.members();
        let mut conditions: BTreeMap<PeerId, Condition> =
            members.servers.keys().map(|id| (*id, condition(*id, scene))).collect();
        // Whom we have just begun to listen to may only have had no time to speak. Where gossip says the same, that is known as
        // soon as a newcomer can have proved itself: so it takes a seat that is free, and adds none.
        let awake = now.since(self.awake_since);
        for (id, condition) in &mut conditions {
            let known = if sight.failed.contains(id) {
                settings.server_stabilization_time.min(config.limits.dead_after)
            } else {
                config.limits.dead_after
            };
            condition.dead &= settings.cleanup_dead_servers && awake >= known;
            condition.silent &= settings.cleanup_dead_servers;
        }
        let is_stable = |id: &PeerId| {
            self.seen
                .get(id)
                .is_some_and(|seen| seen.healthy && now.since(seen.since) >= settings.server_stabilization_time)
        };
        let waiting = members.servers.keys().find(|id| !members.is_voter(**id) && is_stable(id)).copied();
        due(members, &conditions, waiting, config.gossip.bootstrap_expect as usize)
    }

    /// How the servers are.
    pub(super) fn health(&self, scene: &Scene<'_>) -> Health {
        let Scene { now, config, raft, sight, .. } = *scene;
        let members = raft.members();
        let log = raft.log();
        let servers: Vec<ServerHealth> = members
            .servers
            .iter()
            .map(|(id, server)| {
                let Condition { contact, last, healthy, dead, .. } = condition(*id, scene);
                let since = self.seen.get(id).filter(|seen| seen.healthy == healthy).map_or(now, |seen| seen.since);
                ServerHealth {
                    id: *id,
                    node: sight.names.get(id).cloned(),
                    address: server.address,
                    leader: *id == config.id,
                    voter: server.voter,
                    healthy,
                    dead,
                    last_contact: contact,
                    last_term: log.term(last).unwrap_or(Term(0)),
                    last_index: last,
                    stable_for: now.since(since),
                }
            })
            .collect();
        let healthy_voters = servers.iter().filter(|server| server.voter && server.healthy).count();
        Health {
            healthy: servers.iter().all(|server| server.healthy),
            failure_tolerance: healthy_voters.saturating_sub(quorum::majority(members.voter_count())),
            servers,
        }
    }
}

/// How a server is.
fn condition(id: PeerId, scene: &Scene<'_>) -> Condition {
    let Scene { now, config, raft, settings, sight } = *scene;
    let log = raft.log();
    let Role::Leader(leader) = raft.role() else {
        return Condition { contact: Duration::ZERO, last: Index(0), healthy: false, silent: false, dead: false };
    };
    if id == config.id {
        let last = log.last().index;
        return Condition { contact: Duration::ZERO, last, healthy: true, silent: false, dead: false };
    }
    let progress = leader.progress.get(&id);
    let contact = progress.map_or(Duration::MAX, |progress| now.since(progress.heard));
    let last = progress.map_or(Index(0), Progress::matched);
    // It is heard no more often than it is spoken to. And what is not committed yet is on its way to everybody.
    let patience = settings.last_contact_threshold.max(config.raft.heartbeat_interval * 3);
    let trailing = log.commit().0.saturating_sub(last.0);
    Condition {
        contact,
        last,
        // Who has said nothing at all yet may not even exist.
        healthy: last > Index(0) && contact <= patience && trailing <= settings.max_trailing_logs,
        silent: last == Index(0) || contact > patience,
        // Gossip knows sooner. But one that it has lost sight of and we still hear lives.
        dead: contact >= config.limits.dead_after || (sight.failed.contains(&id) && contact > patience),
    }
}

/// The change that is due: the number of seats with a vote is kept odd if there is a choice, as an even one tolerates no more
/// failures than one less. Seats beyond the `expected` ones, if that is known, are not kept for the dead.
///
/// If it is not known, nothing tells two dead servers whose places were taken from two that are still waited for, once there is
/// an odd number of seats. So a newcomer does not make them odd while a server is silent that may be dead: that is settled
/// first, and from an even number the dead always go.
fn due(
    members: &Configuration,
    conditions: &BTreeMap<PeerId, Condition>,
    waiting: Option<PeerId>,
    expected: usize,
) -> Option<Change> {
    let voters: Vec<PeerId> = members.voters().collect();
    let healthy = voters.iter().filter(|id| conditions[id].healthy).count();
    let is_dead = |id: &PeerId| conditions[id].dead;
    if let Some(gone) = members.servers.keys().find(|id| !members.is_voter(**id) && is_dead(id)) {
        return Some(Change::Remove(*gone));
    }
    let is_even = voters.len().is_multiple_of(2);
    let is_spare = (1..voters.len()).contains(&expected);
    let goes = voters.iter().copied().find(is_dead).filter(|_| healthy >= quorum::majority(voters.len() - 1));
    if let Some(dead) = goes.filter(|_| is_even || waiting.is_some() || is_spare) {
        return Some(Change::Remove(dead));
    }
    let unsettled = is_even && expected == 0 && voters.iter().any(|id| conditions[id].silent || conditions[id].dead);
    waiting.filter(|_| !unsettled).map(Change::Promote)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::raft::Server;

    /// Servers by letters: `v` a healthy voter, `d` a dead one, `s` a slow one, `q` one that is quiet, `n` a healthy server without
    /// a vote, `x` a dead one.
    fn decide(servers: &str, waiting: bool) -> Option<Change> {
        decide_for(servers, waiting, 0)
    }

    fn decide_for(servers: &str, waiting: bool, expected: usize) -> Option<Change> {
        let ids = (1..).map(PeerId::numbered).zip(servers.chars());
        let address = "127.0.0.1:8300".parse().unwrap();
        let members = Configuration {
            servers: ids.clone().map(|(id, kind)| (id, Server { address, voter: "vdsq".contains(kind) })).collect(),
        };
        let conditions = ids
            .clone()
            .map(|(id, kind)| (id, condition_of("vn".contains(kind), "dxq".contains(kind), "dx".contains(kind))));
        let waiting = ids.clone().find(|(_, kind)| waiting && *kind == 'n').map(|(id, _)| id);
        due(&members, &conditions.collect(), waiting, expected)
    }

    fn condition_of(healthy: bool, silent: bool, dead: bool) -> Condition {
        Condition { contact: Duration::ZERO, last: Index(0), healthy, silent, dead }
    }

    #[test]
    fn who_has_caught_up_gets_a_vote_and_who_is_dead_goes_once_there_is_another() {
        let promote = |n| Some(Change::Promote(PeerId::numbered(n)));
        let remove = |n| Some(Change::Remove(PeerId::numbered(n)));
        assert_eq!(decide("vvvn", false), None, "not stable yet");
        assert_eq!(decide("vvvn", true), promote(4));
        assert_eq!(decide("vvd", false), None, "nobody can take its seat");
        assert_eq!(decide("vvdn", true), remove(3));
        assert_eq!(decide("vvn", true), promote(3), "then the other gets the vote");
        assert_eq!(decide("vvddv", false), None, "nobody can take their seats");
        assert_eq!(decide("vvvdd", false), None);
        assert_eq!(decide("vvvddn", true), remove(4));
        assert_eq!(decide("vvvdn", true), remove(4), "four seats with one dead are worth three");
        assert_eq!(decide("vvvd", false), remove(4));
        assert_eq!(decide("vvsd", false), remove(4), "two of three are healthy");
        assert_eq!(decide("vssd", false), None, "one of three is no majority");
        assert_eq!(decide("vvvx", false), remove(4), "no vote, no seat");
        assert_eq!(decide("vsdn", true), promote(4), "one of two healthy is no majority without the dead");
        assert_eq!(decide("v", false), None);
        assert_eq!(decide("vvvvvdd", false), None, "perhaps there are to be seven");
        assert_eq!(decide_for("vvvvvdd", false, 5), remove(6), "there are to be five");
        assert_eq!(decide_for("vvvdd", false, 5), None);
    }

    #[test]
    fn newcomers_do_not_get_seats_beside_the_dead_whose_places_they_take() {
        let promote = |n| Some(Change::Promote(PeerId::numbered(n)));
        let remove = |n| Some(Change::Remove(PeerId::numbered(n)));
        assert_eq!(decide("vvvddv", false), remove(4), "six seats with two dead are worth less than five with one");
        assert_eq!(
            decide("vvvddvn", true),
            remove(4),
            "or there would be seven, and nobody knows that five were meant"
        );
        assert_eq!(decide("vssddvn", true), None, "that goes for a moment of weakness, too");
        assert_eq!(decide("vvvqqvn", true), None, "they may be dead, which is known before long");
        assert_eq!(decide("vvvssvn", true), promote(7), "they speak");
        assert_eq!(decide("vvvqqn", true), promote(6), "an even number is mended in any case");
        assert_eq!(decide_for("vvvqqvn", true, 5), promote(7), "it is known that there are to be five");
    }

    proptest! {
        /// Servers lose their disks and come back as others, one after the other, while it is noticed sooner or later who is gone and
        /// who has caught up, and some are slow for a while. In the end there are as many seats as before, all of the living.
        #[test]
        fn as_many_seats_are_left_as_there_were(
            seats in 3_u64..8,
            gone in 1_u64..4,
            looks in proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 0..60),
        ) {
            let gone = gone.min((seats - 1) / 2);
            let address = |n: u64| ([127, 0, 0, 1], 8000 + u16::try_from(n).unwrap()).into();
            let mut members = Configuration::new((0..seats).map(|n| (PeerId::numbered(n), address(n))));
            for n in seats..seats + gone {
                members.servers.insert(PeerId::numbered(n), Server { address: address(n), voter: false });
            }
            let calm = std::iter::repeat_n((0, u8::MAX, u8::MAX), 60);
            for (slow, noticed, stable) in looks.into_iter().chain(calm) {
                let bit = |mask: u8, n: u64| mask >> (n % 8) & 1 == 1;
                let condition = |n: u64| match n {
                    n if n < gone => condition_of(false, true, bit(noticed, n)),
                    // We ourselves are always well.
                    n => condition_of(n == gone || !bit(slow, n), false, false),
                };
                let conditions: BTreeMap<PeerId, Condition> =
                    (0..seats + gone).map(|n| (PeerId::numbered(n), condition(n))).collect();
                let mut newcomers = (seats..seats + gone).map(PeerId::numbered);
                let waiting = newcomers.find(|id| !members.is_voter(*id) && conditions[id].healthy);
                let waiting = waiting.filter(|_| bit(stable, 0));
                match due(&members, &conditions, waiting, 0) {
                    Some(Change::Promote(id)) => members.servers.get_mut(&id).unwrap().voter = true,
                    Some(Change::Remove(id)) => {
                        prop_assert!(id < PeerId::numbered(gone), "one was removed that lives");
                        members.servers.remove(&id);
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(members.voter_count() as u64, seats, "{}", members);
            prop_assert!((gone..seats + gone).all(|n| members.is_voter(PeerId::numbered(n))), "{}", members);
        }
    }
}
