//! Raft's members and the catalog follow the pool.

use std::collections::BTreeMap;

use lictor_core::api::agent::{self, ServiceDefinition};
use lictor_core::api::catalog::{self, Node, Registration};
use lictor_core::config::Config;
use lictor_core::io::ServerNews;
use lictor_core::rng::Rng;

use super::world::{SECOND, World, client, done, id, server};

fn nodes(servers: &[u64], clients: &[u64]) -> BTreeMap<String, (String, bool)> {
    let node = |n: &u64, serves| (format!("n{n}"), ("passing".to_owned(), serves));
    servers.iter().map(|n| node(n, true)).chain(clients.iter().map(|n| node(n, false))).collect()
}

#[test]
fn a_late_server_is_added_and_gets_a_vote_and_one_that_leaves_goes() {
    let mut world = World::of_three(1);
    world.start(server(4, 3));
    world.start(client(9));
    world.join(4, 1);
    world.join(9, 2);
    assert!(world.run_until(SECOND * 3, |world| world.members() == (vec![1, 2, 3], vec![4])), "not added");
    assert!(world.run_until(SECOND * 15, |world| world.members().0 == [1, 2, 3, 4]), "not promoted");
    assert_eq!(world.catalog(), nodes(&[1, 2, 3, 4], &[9]));
    let leaver = world.follower();
    world.call(leaver, agent::Request::Leave);
    world.run(SECOND * 12);
    world.kill(leaver);
    let stay: Vec<u64> = (1..=4).filter(|n| *n != leaver).collect();
    assert!(world.run_until(SECOND * 20, |world| world.leader().is_some() && world.members().0 == stay));
    assert_eq!(world.catalog(), nodes(&stay, &[9]));
    assert_eq!(world.put(9, "a", "1"), done());
}

#[test]
fn the_check_of_a_failed_agent_is_critical_until_it_is_back() {
    let mut world = World::of_three(1);
    world.start(client(9));
    world.join(9, 1);
    world.run(SECOND * 3);
    let failing = world.follower();
    for n in [failing, 9] {
        let name = format!("n{n}");
        world.cut_off(n);
        let is = |state: &'static str| {
            let name = name.clone();
            move |world: &World| world.leader().is_some_and(|_| world.catalog()[&name].0 == state)
        };
        assert!(world.run_until(SECOND * 40, is("critical")), "{name} is {:?}", world.catalog());
        assert_eq!(world.members().0, [1, 2, 3], "autopilot decides about that");
        world.walls.clear();
        assert!(world.run_until(SECOND * 60, is("passing")), "{name} is {:?}", world.catalog());
    }
}

#[test]
fn of_two_servers_that_found_alone_the_second_stays_outside() {
    let mut world = World::new(1);
    for n in [1, 2] {
        let mut config = server(n, 0);
        config.settings.bootstrap = true;
        if n == 1 {
            config.bootstrap = Some(lictor_core::raft::Configuration::new([(config.id, config.address)]));
        }
        world.start(config);
    }
    world.run(SECOND);
    world.join(2, 1);
    world.run(SECOND * 150);
    assert_eq!(world.members(), (vec![1], vec![]));
    let second = (1, ServerNews::SecondBootstrap { name: "n2".into() });
    assert_eq!(world.news.iter().filter(|told| **told == second).count(), 1);
}

/// A wiped disk makes another server of it, at the address of the former.
#[test]
fn a_server_that_lost_its_disk_takes_the_place_of_what_it_was() {
    let mut world = World::of_three(1);
    let wiped = world.follower();
    world.kill(wiped);
    world.run(SECOND * 3);
    let mut anew = server(wiped, 3);
    anew.id = super::world::id(7);
    world.start(anew);
    world.join(wiped, world.leader().unwrap());
    let mut want: Vec<u64> = (1..=3).filter(|n| *n != wiped).collect();
    want.push(7);
    assert!(world.run_until(SECOND * 120, |world| world.leader().is_some() && world.members().0 == want));
    assert_eq!(world.catalog().len(), 3);
}

/// Under another name, too, and long before all members are looked at again: once the former is known to have failed.
#[test]
fn a_server_under_another_name_takes_the_address_of_a_former_one() {
    let mut world = World::of_three(1);
    let wiped = world.follower();
    world.kill(wiped);
    let mut anew = server(wiped, 3);
    (anew.id, anew.name) = (super::world::id(7), "n7".to_owned());
    world.start(anew);
    world.join(wiped, world.leader().unwrap());
    let mut want: Vec<u64> = (1..=3).filter(|n| *n != wiped).collect();
    want.push(7);
    assert!(world.run_until(SECOND * 40, |world| world.leader().is_some() && world.members().0 == want));
}

/// Whatever comes and goes: in the end all is as the pool has it, and then nothing is written any more.
#[test]
fn the_catalog_converges_and_is_then_silent() {
    for seed in 0..4 {
        let mut dice = Rng::seeded(seed);
        let mut world = World::of_three(seed);
        for n in 10..14 {
            world.start(client(n));
            world.join(n, 1 + dice.below(3));
        }
        for _ in 0..12 {
            world.run(dice.duration(SECOND / 10, SECOND * 8));
            let n = 10 + dice.below(4);
            match dice.below(4) {
                0 => drop(world.hosts.contains_key(&n).then(|| world.call(n, agent::Request::Leave))),
                1 => world.cut_off(n),
                2 => world.walls.clear(),
                _ => {
                    world.kill(n);
                    world.run(SECOND);
                    world.start(client(n));
                    world.join(n, 1 + dice.below(3));
                }
            }
        }
        world.walls.clear();
        world.run(SECOND * 120);
        let leader = world.leader().expect("there is a leader");
        let pool = world.hosts[&leader]
            .agent
            .gossip()
            .members()
            .filter(|member| member.status() != lictor_core::gossip::Status::Left);
        let want: BTreeMap<String, (String, bool)> = pool
            .map(|member| {
                let state = if member.status().is_live() { "passing" } else { "critical" };
                (member.name.to_string(), (state.to_owned(), member.tags["role"] == "consul"))
            })
            .collect();
        assert_eq!(world.catalog(), want, "seed {seed}");
        let index = world.last_index();
        world.run(SECOND * 130);
        assert!(world.log_behind(index).is_empty(), "seed {seed}: {:?}", world.log_behind(index));
    }
}

/// The catalog does not tell names apart by their case, but the pool does, and remembers who is gone.
#[test]
fn who_is_gone_does_not_speak_for_one_that_is_called_almost_the_same() {
    for leaves in [true, false] {
        let mut world = World::of_three(1);
        world.start(Config { name: "Web".into(), ..client(8) });
        world.join(8, 1);
        world.run(SECOND * 3);
        assert_eq!(world.catalog()["Web"].0, "passing");
        if leaves {
            world.call(8, agent::Request::Leave);
            world.run(SECOND * 12);
        } else {
            world.kill(8);
            world.run(SECOND * 30);
            assert_eq!(world.catalog()["Web"].0, "critical");
        }
        world.start(Config { name: "web".into(), ..client(9) });
        world.join(9, 1);
        world.run(SECOND * 3);
        for _ in 0..200 {
            let nodes = world.catalog();
            assert_eq!(nodes.len(), 4, "{nodes:?}");
            assert_eq!(nodes["web"].0, "passing", "it is there, even if another has left: {leaves}");
            world.run(SECOND);
        }
    }
}

/// What an agent has said of itself may reach the leader after it has left, and bring its node back.
#[test]
fn words_that_come_late_bring_nobody_back() {
    let mut world = World::of_three(1);
    world.start(client(9));
    world.join(9, 1);
    world.run(SECOND * 3);
    world.call(9, agent::Request::Leave);
    assert!(world.run_until(SECOND * 10, |world| !world.hosts.contains_key(&9)), "it does not leave");
    assert!(world.run_until(SECOND * 10, |world| !world.catalog().contains_key("n9")), "it was not struck out");
    let node = Node { name: "n9".into(), id: id(9).0.to_string(), address: "10.0.0.9".into(), ..Node::default() };
    let late = catalog::Request::Register(Box::new(Registration { node, service: None, checks: Vec::new() }));
    let leader = world.leader().unwrap();
    assert_eq!(world.ask(leader, late), done());
    assert!(world.catalog().contains_key("n9"));
    assert!(world.run_until(SECOND * 10, |world| !world.catalog().contains_key("n9")), "{:?}", world.catalog());
}

/// An agent that leaves while there is no leader has things to say that nobody has heard: it keeps them for itself.
#[test]
fn what_an_agent_could_not_say_before_it_left_it_does_not_say_later() {
    let mut world = World::of_three(1);
    world.start(client(9));
    world.join(9, 1);
    world.run(SECOND * 3);
    for n in 1..=3 {
        world.cut_off(n);
    }
    world.walls.retain(|(from, to)| *from != 9 && *to != 9);
    assert!(world.run_until(SECOND * 10, |world| world.leader().is_none()), "somebody still leads");
    let service = ServiceDefinition { name: "web".into(), ..ServiceDefinition::default() };
    assert_eq!(world.ask(9, agent::Request::RegisterService(Box::new(service))), done());
    world.run(SECOND);
    let index = world.hosts[&1].agent.raft().log().last().index;
    world.call(9, agent::Request::Leave);
    world.walls.clear();
    assert!(world.run_until(SECOND * 15, |world| !world.hosts.contains_key(&9) && world.leader().is_some()));
    world.run(SECOND * 3);
    let said = world.log_behind(index);
    assert!(!said.iter().any(|command| command.contains("web")), "{said:?}");
    assert!(said.iter().any(|command| command.contains("n9")), "it was not struck out: {said:?}");
}
