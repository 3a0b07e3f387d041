//! Agents that find each other by gossip: over real datagrams and streams.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::harness::{Cluster, PATIENCE, config, eventually, soon};
use lictor_core::api::agent::{Member, MemberStatus, Request};
use lictor_core::api::{Call, Error, Response};
use lictor_core::config::Config;
use lictor_core::io::Notice;
use lictor_core::raft::Configuration;
use lictor_runtime::{DataDir, GossipSockets, Handle, Options, Runtime, Storage};

async fn join(handle: &Handle, addresses: &[SocketAddr]) -> Result<usize, Error> {
    let addresses = addresses.iter().map(SocketAddr::to_string).collect();
    match soon("joining is answered", handle.call(Call::new(Request::Join { addresses, wan: false }))).await? {
        Response::Joined(count) => Ok(count),
        other => panic!("unexpected: {other:?}"),
    }
}

async fn pool(handle: &Handle) -> Vec<Member> {
    match soon("the members are told", handle.call(Call::new(Request::Members { wan: false }))).await {
        Ok(Response::Members(members)) => members,
        other => panic!("unexpected: {other:?}"),
    }
}

/// Waits until an agent sees so many members in this state, and so many in all.
async fn sees(handle: &Handle, status: MemberStatus, count: usize, of: usize) {
    eventually("the members are as they should be", || async {
        let members = pool(handle).await;
        (members.len() == of && members.iter().filter(|member| member.status == status).count() == count).then_some(())
    })
    .await;
}

/// Three servers in one pool.
async fn joined(cluster: &Cluster) {
    let addresses = [1, 2].map(|n| cluster.gossip_address(n));
    assert_eq!(join(&cluster.handle(0), &addresses).await, Ok(2));
    for n in 0..3 {
        sees(&cluster.handle(n), MemberStatus::Alive, 3, 3).await;
    }
}

/// Lost agents are noticed sooner than in production.
fn quick(config: &mut Config) {
    config.gossip.options.probe_interval = Duration::from_millis(200);
    config.gossip.options.probe_timeout = Duration::from_millis(90);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_find_each_other_and_notice_who_is_lost_and_who_leaves() {
    let mut cluster = Cluster::start_tuned(3, quick).await;
    joined(&cluster).await;
    let follower = cluster.follower().await;
    cluster.kill(follower).await;
    for n in cluster.up() {
        sees(&cluster.handle(n), MemberStatus::Failed, 1, 3).await;
    }
    // It comes back with another port, and is the one that it was.
    cluster.restart(follower).await;
    let others = cluster.up().into_iter().filter(|n| *n != follower).collect::<Vec<_>>();
    let address = cluster.gossip_address(others[0]);
    eventually("it joins again", || async { join(&cluster.handle(follower), &[address]).await.ok() }).await;
    for n in 0..3 {
        sees(&cluster.handle(n), MemberStatus::Alive, 3, 3).await;
    }

    let leaving = cluster.follower().await;
    let (handle, ended) = (cluster.handle(leaving), cluster.ended(leaving));
    soon("leaving is answered", handle.call(Call::new(Request::Leave))).await.unwrap();
    assert_eq!(soon("the agent is to be stopped", ended).await, Notice::Left);
    cluster.stop(leaving).await;
    for n in cluster.up() {
        sees(&cluster.handle(n), MemberStatus::Left, 1, 3).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_survived_and_who_is_not_there_is_said_to_be_unreachable() {
    let cluster = Cluster::start(3).await;
    let free = GossipSockets::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = free.address().unwrap();
    drop(free);
    let error = join(&cluster.handle(0), &[nobody]).await.unwrap_err();
    assert!(error.to_string().contains(&nobody.to_string()), "{error}");

    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = cluster.gossip_address(0);
    for length in (0..1500).step_by(7) {
        let bytes: Vec<u8> = (0..length).map(|n| (n * 31 + length) as u8).collect();
        stranger.send_to(&bytes, to).unwrap();
    }
    stranger.send_to(&[0xff; 65_000], to).unwrap();
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    joined(&cluster).await;
    assert_eq!(join(&cluster.handle(1), &[nobody, to]).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_no_server_has_one_port_and_no_log() {
    let cluster = Cluster::start(1).await;
    let root = tempfile::tempdir().unwrap();
    let data = DataDir::open(root.path().join("client")).unwrap();
    let id = data.node_id();
    let gossip = GossipSockets::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = gossip.address().unwrap();
    let mut config = Config { server: false, bootstrap: None, ..config(id, address, Configuration::default()) };
    config.settings.server = false;
    config.gossip.address = address;
    let client =
        Runtime::start(Options { config, storage: Storage::from(data), listener: None, gossip, seed: 9, guard: None })
            .unwrap();
    assert_eq!((client.address(), client.gossip_address()), (address, address));
    assert_eq!(join(&client.handle(), &[cluster.gossip_address(0)]).await, Ok(1));
    sees(&cluster.handle(0), MemberStatus::Alive, 2, 2).await;
    client.shutdown().await;
    assert!(!root.path().join("client/raft").exists(), "it has a log");
}
