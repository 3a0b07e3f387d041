//! Agents on networks of their own, which lose what they carry, fall apart and come together again.
//!
//! Needs Linux, the right to make network namespaces, and the tools `ip` and `tc`. Where something of that is missing, the
//! tests say so and do nothing.

use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use lictor_tests::cluster::{client, server_of, status, wait_for_voters};
use lictor_tests::netns::Net;
use lictor_tests::wait::until_within;
use lictor_tests::{Agent, until};

/// Under loss everything may take its time.
const LONG: Duration = Duration::from_secs(90);

/// Agents of a network, each at its own address: three servers, then clients.
struct Agents {
    // Ended before their network goes.
    all: Vec<Agent>,
    net: Net,
    names: Vec<String>,
}

impl Agents {
    /// Starts so many agents; nothing if there can be no network for them here, which is told.
    fn start(number: usize, directory: &Path) -> Option<Self> {
        let net = match Net::new(number) {
            Ok(net) => net,
            Err(why) => {
                println!("skipped, as networks cannot be made here: {why}");
                return None;
            }
        };
        // Ports as they are by default: each agent has a machine of its own, as it were.
        let names: Vec<_> = (0..number).map(|n| if n < 3 { format!("s{n}") } else { format!("c{n}") }).collect();
        let mut all = Vec::new();
        for (n, name) in names.iter().enumerate() {
            let mut options = if n < 3 { server_of(3, name, directory) } else { client(name, directory) };
            options.push(format!("-bind={}", Net::address(n)));
            options.extend(["-http-port=8500", "-server-port=8300", "-serf-lan-port=8301"].map(str::to_owned));
            if n > 0 {
                options.push(format!("-join={}", Net::address(0)));
            }
            all.push(Agent::start_in(net.node(n), &options));
        }
        let agents = Self { all, net, names };
        for agent in &agents.all {
            agents.wait_for(agent, "alive", 0..number);
            agent.wait_for_leader();
        }
        wait_for_voters(&agents.all[number - 1], &agents.all[..3].iter().collect::<Vec<_>>());
        Some(agents)
    }

    /// Waits until an agent sees all of these so.
    fn wait_for(&self, agent: &Agent, wanted: &str, whom: impl IntoIterator<Item = usize>) {
        for name in whom.into_iter().map(|n| &self.names[n]) {
            until_within(LONG, &format!("{name} is {wanted}"), || (status(agent, name) == Some(wanted)).then_some(()));
        }
    }

    /// How often any of them has found that another one failed.
    fn failures(&self) -> usize {
        self.all.iter().map(|agent| agent.output().matches("EventMemberFailed").count()).sum()
    }
}

fn write(agent: &Agent, key: &str) {
    until_within(LONG, &format!("{key} is written"), || {
        (agent.ask("PUT", &format!("/v1/kv/{key}"), b"x").status == 200).then_some(())
    });
}

#[test]
fn a_network_that_loses_a_fifth_makes_nobody_fail() {
    const WRITES: usize = 30;
    const AT_LEAST: Duration = Duration::from_secs(15);
    let directory = tempfile::tempdir().unwrap();
    let Some(agents) = Agents::start(5, directory.path()) else { return };
    if let Err(why) = agents.net.lose(20) {
        return println!("skipped, as this kernel loses nothing: {why}");
    }
    a_fifth_gets_lost(&agents.net);
    // Each member is probed about once a second: enough of them for what is lost to show.
    let (start, mut written, mut slowest) = (Instant::now(), 0, Duration::ZERO);
    while written < WRITES || start.elapsed() < AT_LEAST {
        let before = Instant::now();
        write(&agents.all[3 + written % 2], &format!("lossy/{written}"));
        slowest = slowest.max(before.elapsed());
        written += 1;
        // No more than a few writes in a round trip that TCP has to repeat: this is about members.
        agents.all[4].http().is_silent(Duration::from_millis(100));
    }
    println!("{written} writes in {:?} with a fifth lost, the slowest in {slowest:?}", start.elapsed());
    assert_eq!(agents.failures(), 0, "a live member was taken for dead");
    for agent in &agents.all {
        agents.wait_for(agent, "alive", 0..5);
    }
}

/// Sees that the network does what it was told to, as the test would otherwise prove nothing.
fn a_fifth_gets_lost(net: &Net) {
    const SENT: usize = 200;
    let bind = |n: usize| net.node(n).within(|| UdpSocket::bind((Net::address(n).as_str(), 0)).unwrap());
    let (from, to) = (bind(0), bind(1));
    to.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let target = to.local_addr().unwrap();
    for _ in 0..SENT {
        from.send_to(b"x", target).unwrap();
    }
    let mut arrived = 0;
    while arrived < SENT && to.recv(&mut [0; 8]).is_ok() {
        arrived += 1;
    }
    // 160, and five standard deviations to each side.
    assert!((132..=188).contains(&arrived), "{arrived} of {SENT} arrived");
}

#[test]
fn a_cluster_that_fell_apart_comes_together_again() {
    let directory = tempfile::tempdir().unwrap();
    let Some(agents) = Agents::start(5, directory.path()) else { return };
    write(&agents.all[3], "before");
    // One server and one client on the smaller side.
    let (smaller, larger) = ([0, 4], [1, 2, 3]);
    let start = Instant::now();
    agents.net.cut_off(&smaller);
    write(&agents.all[3], "meanwhile");
    println!("the larger side wrote {:?} after the cut", start.elapsed());
    for n in larger {
        agents.wait_for(&agents.all[n], "failed", smaller);
    }
    for n in smaller {
        agents.wait_for(&agents.all[n], "failed", larger);
    }
    println!("both sides had failed for each other {:?} after the cut", start.elapsed());
    let refused = agents.all[4].ask("PUT", "/v1/kv/smaller", b"x");
    assert_eq!(refused.status, 500, "{refused:?}");

    let start = Instant::now();
    agents.net.heal(&smaller);
    for agent in &agents.all {
        agents.wait_for(agent, "alive", 0..5);
    }
    println!("all were alive again {:?} after the cut was healed", start.elapsed());
    wait_for_voters(&agents.all[4], &agents.all[..3].iter().collect::<Vec<_>>());
    write(&agents.all[4], "after");
    for key in ["before", "meanwhile", "after"] {
        until("everybody reads it", || {
            let read = |agent: &Agent| agent.get(&format!("/v1/kv/{key}?stale&raw")).text() == "x";
            agents.all.iter().all(read).then_some(())
        });
    }
    assert_eq!(agents.all[3].get("/v1/kv/smaller").status, 404, "what was refused has not happened");
}
