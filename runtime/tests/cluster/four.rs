//! Servers that come and go under a steady load: what was acknowledged stays, and writes hardly pause.

use std::time::Duration;

use crate::harness::{Cluster, eventually, id, itself, keys_on, members, operate};
use crate::load::Load;
use lictor_core::api::operator::{Autopilot, Peer, Request};
use lictor_core::config::Config;
use lictor_core::raft;

/// No change of the members keeps writers waiting for longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// As in production, where an election takes its time.
fn as_in_production(config: &mut Config) {
    config.raft = raft::Options::default();
}

/// As in production, but whoever comes late needs a snapshot.
fn with_short_memory(config: &mut Config) {
    as_in_production(config);
    config.snapshots.entries = 200;
    config.snapshots.trailing_entries = 50;
    config.snapshots.kept_bytes = 0;
    config.snapshots.piece_bytes = 4 << 10;
}

/// New servers get their vote soon.
async fn hurry(cluster: &Cluster) {
    let settings = Autopilot { server_stabilization_time: Duration::from_millis(200), ..Autopilot::default() };
    operate(&cluster.handle(0), Request::SetAutopilotConfiguration { settings, cas: None }).await;
}

/// Has a server join by way of another one, and waits until it has a vote.
async fn join(cluster: &Cluster, new: usize, by_way_of: usize) {
    let handle = cluster.handle(by_way_of);
    operate(&handle, Request::AddPeer { id: id(new), address: cluster.address(new) }).await;
    eventually("the new server gets a vote", || async {
        members(&handle).await.iter().any(|server| server.id == id(new) && server.voter).then_some(())
    })
    .await;
}

/// Removes a server by way of another one, and stops it.
async fn remove(cluster: &mut Cluster, load: &Load, old: usize, by_way_of: usize) {
    let handle = cluster.handle(by_way_of);
    operate(&handle, Request::RemovePeer(Peer::Address(cluster.address(old).to_string()))).await;
    let left = members(&handle).await;
    assert!(left.iter().all(|server| server.id != id(old)), "{left:?}");
    // It stays up for a while, as nobody stops it in the same moment, and may disturb whom it likes.
    load.goes_on().await;
    load.turn_to(cluster.up().into_iter().filter(|n| *n != old).map(|n| cluster.handle(n)).collect());
    load.goes_on().await;
    cluster.stop(old).await;
}

/// A fourth server joins from an empty disk, an old one is removed, and then the leader itself.
async fn members_change_under_load(mut cluster: Cluster) {
    hurry(&cluster).await;
    let handles = |cluster: &Cluster| cluster.up().into_iter().map(|n| cluster.handle(n)).collect();
    let load = Load::start(6, handles(&cluster)).await;
    while load.count() < 1000 {
        load.goes_on().await;
    }

    let new = cluster.start_another();
    join(&cluster, new, 0).await;
    load.turn_to(handles(&cluster));
    load.goes_on().await;

    let old = (0..3).find(|n| *n != 0).unwrap();
    remove(&mut cluster, &load, old, 0).await;
    let leader = cluster.leader().await;
    let other = cluster.up().into_iter().find(|n| *n != leader).unwrap();
    remove(&mut cluster, &load, leader, other).await;
    assert_ne!(cluster.leader().await, leader);
    load.goes_on().await;

    let outcome = load.stop().await;
    assert_eq!(members(&cluster.handle(new)).await.len(), 2);
    for n in cluster.up() {
        outcome.is_all_on(&cluster.handle(n)).await;
    }
    let pause = outcome.longest_pause;
    println!("{} writes, the longest pause {pause:?}", outcome.acknowledged.len());
    assert!(pause < LONGEST_PAUSE, "nothing was acknowledged for {pause:?}");

    // The disks have it, too.
    let left = cluster.up();
    for n in &left {
        cluster.kill(*n).await;
    }
    for n in left {
        cluster.restart(n).await;
    }
    for n in cluster.up() {
        outcome.is_all_on(&cluster.handle(n)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fourth_server_joins_and_others_go_without_a_loss_or_a_long_pause() {
    members_change_under_load(Cluster::start_tuned(3, as_in_production).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fourth_server_joins_by_a_snapshot_and_others_go_without_a_loss_or_a_long_pause() {
    members_change_under_load(Cluster::start_tuned(3, with_short_memory).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_nobody_knows_disturbs_nobody_and_has_nothing() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let load = Load::start(2, vec![cluster.handle(leader)]).await;
    let stranger = cluster.start_another();
    load.goes_on().await;
    let term = |itself: &lictor_core::api::agent::Itself| itself.stats["raft"]["term"].clone();
    let before = term(&itself(&cluster.handle(leader)).await);
    load.goes_on().await;
    load.stop().await;
    assert_eq!(term(&itself(&cluster.handle(leader)).await), before);
    assert!(keys_on(&cluster.handle(stranger), "").await.is_empty());
}
