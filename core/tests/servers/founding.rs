//! Servers that find each other found one cluster, and never two.

use lictor_core::api::agent;
use lictor_core::io::{Input, ServerNews};
use lictor_core::peer::{Body, Envelope, Founding};
use lictor_core::raft::Configuration;

use super::world::{SECOND, World, done, id, server};

fn founded(world: &World) -> usize {
    world.news.iter().filter(|(_, news)| matches!(news, ServerNews::Founded { .. })).count()
}

fn told(world: &World, is: impl Fn(&ServerNews) -> bool) -> usize {
    world.news.iter().filter(|(_, news)| is(news)).count()
}

#[test]
fn three_servers_found_a_cluster_once_they_have_found_each_other() {
    let mut world = World::new(1);
    (1..=3).for_each(|n| world.start(server(n, 3)));
    world.join(2, 1);
    world.run(SECOND * 20);
    assert!(world.hosts.values().all(|host| host.agent.raft().is_blank()), "two are not three");
    world.join(3, 2);
    assert!(world.run_until(SECOND * 5, |world| world.leader().is_some()), "no leader");
    world.run(SECOND * 2);
    assert_eq!((founded(&world), world.members()), (1, (vec![1, 2, 3], vec![])));
    assert_eq!(world.put(3, "a", "1"), done());
    assert!(world.hosts.values().all(|host| !host.keeps("agent/founding")), "the log says it now");
}

#[test]
fn a_server_that_expects_nobody_else_founds_its_cluster_alone() {
    let mut world = World::new(1);
    world.start(server(1, 1));
    assert!(world.run_until(SECOND, |world| world.leader().is_some() && world.catalog().len() == 1));
    assert!(world.now < lictor_core::time::Instant::from_millis(100), "at once");
}

#[test]
fn lost_messages_delay_a_foundation_and_nothing_else() {
    for seed in 0..8 {
        let mut world = World::new(seed);
        world.loss = 3;
        (1..=3).for_each(|n| world.start(server(n, 3)));
        world.join(2, 1);
        world.join(3, 1);
        for _ in 0..20 {
            if world.run_until(SECOND * 5, |world| world.leader().is_some()) {
                break;
            }
            world.join(2, 1);
            world.join(3, 1);
        }
        assert_eq!((founded(&world), world.foundations().len()), (1, 1), "seed {seed}");
    }
}

/// Two founders see others; one server is seen by both.
#[test]
fn different_views_never_make_two_clusters() {
    for seed in 0..8 {
        let mut world = World::new(seed);
        (1..=5).for_each(|n| world.start(server(n, 3)));
        world.wall(&[1, 2], &[4, 5]);
        world.loss = 4;
        for (n, other) in [(1, 2), (4, 5), (3, 1), (3, 4), (2, 3), (5, 3)] {
            world.join(n, other);
        }
        world.run(SECOND * 10);
        assert!(world.foundations().len() <= 1, "seed {seed}: {:?}", world.foundations());
        world.walls.clear();
        world.loss = 0;
        world.join(1, 4);
        world.join(2, 5);
        assert!(world.run_until(SECOND * 90, |world| world.leader().is_some()), "seed {seed}: no cluster");
        world.run(SECOND * 90);
        assert_eq!((founded(&world), world.foundations().len()), (1, 1), "seed {seed}");
        assert_eq!(world.members().0, [1, 2, 3, 4, 5], "seed {seed}");
    }
}

#[test]
fn servers_that_expect_different_numbers_found_nothing_and_say_so_once() {
    let mut world = World::new(1);
    world.start(server(1, 3));
    world.start(server(2, 3));
    world.start(server(3, 2));
    world.join(2, 1);
    world.join(3, 1);
    world.run(SECOND * 30);
    assert_eq!(founded(&world), 0);
    let disagrees = |news: &ServerNews| matches!(news, ServerNews::ExpectsOthers { .. });
    assert_eq!(told(&world, disagrees), 3, "{:?}", world.news);
    let mut alone = server(4, 0);
    alone.settings.bootstrap = true;
    world.start(alone);
    world.join(4, 1);
    world.run(SECOND * 5);
    assert_eq!(founded(&world), 0);
}

/// Its founder crashes, and may or may not have founded the cluster.
#[test]
fn a_pledge_outlives_a_restart_and_ends_when_its_founder_is_declared_gone() {
    let mut world = World::new(1);
    (1..=3).for_each(|n| world.start(server(n, 3)));
    // What is proposed to 2 arrives, what it answers does not.
    world.walls.insert((2, 1));
    world.join(2, 3);
    world.join(1, 3);
    assert!(world.run_until(SECOND * 20, |world| world.hosts[&2].keeps("agent/founding")));
    world.kill(1);
    world.walls.clear();
    world.restart(2);
    world.start(server(4, 3));
    world.join(2, 3);
    world.join(4, 3);
    world.run(SECOND * 60);
    assert_eq!(world.foundations().len(), 0);
    assert!(world.hosts[&2].keeps("agent/founding"));
    let gone = agent::Request::ForceLeave { node: "n1".into(), prune: false };
    assert_eq!(world.ask(3, gone), done());
    assert!(world.run_until(SECOND * 20, |world| world.leader().is_some()), "{:?}", world.news);
    world.run(SECOND * 2);
    assert_eq!((founded(&world), world.members().0), (1, vec![2, 3, 4]));
}

#[test]
fn a_founder_that_comes_back_with_nothing_begins_anew() {
    let mut world = World::new(1);
    (1..=3).for_each(|n| world.start(server(n, 3)));
    world.walls.insert((2, 1));
    world.join(2, 3);
    world.join(1, 3);
    assert!(world.run_until(SECOND * 20, |world| world.hosts[&2].keeps("agent/founding")));
    world.restart(1);
    world.walls.clear();
    world.join(1, 3);
    assert!(world.run_until(SECOND * 90, |world| world.leader().is_some()), "{:?}", world.news);
    world.run(SECOND * 2);
    assert_eq!((founded(&world), world.members().0), (1, vec![1, 2, 3]));
}

#[test]
fn no_cluster_is_founded_beside_one_that_there_is() {
    let mut world = World::of_three(1);
    // It has the lowest ID of those that see each other, and does not see the cluster at first.
    (4..=6).for_each(|n| world.start(server(n, 3)));
    world.wall(&[4, 5], &[1, 2, 3]);
    world.join(6, 1);
    world.run(SECOND * 2);
    world.join(4, 6);
    world.join(5, 6);
    world.run(SECOND * 20);
    world.walls.clear();
    assert!(world.run_until(SECOND * 120, |world| world.leader().is_some() && world.members().0.len() == 6));
    assert_eq!((founded(&world), world.foundations().len()), (1, 1));
}

/// The network may bring a proposal late that was withdrawn long ago.
#[test]
fn a_pledge_is_not_given_up_for_an_earlier_proposal() {
    let mut world = World::new(1);
    (1..=3).for_each(|n| world.start(server(n, 3)));
    world.wall(&[1], &[3]);
    world.join(2, 1);
    world.join(3, 2);
    assert!(world.run_until(SECOND * 20, |world| world.hosts[&2].keeps("agent/founding")), "no pledge");
    world.run(SECOND);
    let members = (1..=3).map(|n| (id(n), format!("10.0.0.{n}:8300").parse().unwrap()));
    let late = Envelope {
        from: id(1),
        to: id(2),
        address: "10.0.0.1:8300".parse().unwrap(),
        cluster: lictor_core::wire::cluster_tag("dc1"),
        body: Body::Founding(Founding::Proposed { number: 77, configuration: Configuration::new(members) }),
    };
    world.input(2, Input::Message(late));
    for _ in 0..30 {
        assert!(world.hosts[&2].keeps("agent/founding"), "the founder still counts on it");
        world.run(SECOND / 10);
    }
    world.walls.clear();
    assert!(world.run_until(SECOND * 20, |world| world.leader().is_some()), "no cluster");
}
