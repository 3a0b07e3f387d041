//! Snapshots over real sockets and on real disks, servers that move, and the way out after the loss of a quorum.

use std::collections::BTreeSet;
use std::path::Path;

use crate::harness::{
    Cluster, eventually, get, get_call, id, itself, keys_on, leader_known_to, members, put, read, try_put, value,
};
use lictor_core::api::Consistency;
use lictor_core::config::Config;
use lictor_core::id::Index;
use lictor_runtime::{Handle, StartError};

/// Snapshots after a few writes, sent in many pieces, and logs that forget at once.
fn forgetful(config: &mut Config) {
    config.snapshots.entries = 40;
    config.snapshots.trailing_entries = 10;
    config.snapshots.kept_bytes = 0;
    config.snapshots.piece_bytes = 2 << 10;
    config.wal.segment_bytes = 64 << 10;
    config.wal.first_quantum = 16 << 10;
    config.wal.min_quantum = 4 << 10;
    config.wal.max_quantum = 16 << 10;
}

async fn fill(handle: &Handle, prefix: &str, count: usize) -> BTreeSet<String> {
    let large = "v".repeat(500);
    let mut keys = BTreeSet::new();
    for n in 0..count {
        let key = format!("{prefix}/{n:04}");
        put(handle, &key, &format!("{key} {large}")).await;
        keys.insert(key);
    }
    keys
}

async fn has_all(handle: &Handle, keys: &BTreeSet<String>) {
    eventually("a server has all keys", || async { keys.is_subset(&keys_on(handle, "").await).then_some(()) }).await;
    for key in keys {
        let found = read(handle, get_call(key, Consistency::Stale, Index(0))).await.unwrap();
        assert!(value(&found).is_some_and(|value| value.starts_with(&format!("{key} "))), "{key} holds something else");
    }
}

/// The names of the files that begin so.
fn files(directory: &Path, prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir(directory.join("raft")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut found: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
    found.sort();
    found
}

async fn snapshot_index(handle: &Handle) -> u64 {
    itself(handle).await.stats["raft"]["last_snapshot_index"].parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_missed_what_the_log_forgot_gets_a_snapshot_and_starts_from_it() {
    let mut cluster = Cluster::start_tuned(3, forgetful).await;
    let leader = cluster.leader().await;
    let mut keys = fill(&cluster.handle(leader), "before", 20).await;
    let victim = cluster.follower().await;
    cluster.kill(victim).await;
    let missed = itself(&cluster.handle(leader)).await.stats["raft"]["last_log_index"].parse::<u64>().unwrap();
    keys.extend(fill(&cluster.handle(leader), "during", 400).await);
    let directory = cluster.directory(leader);
    eventually("the leader's disk forgets the log's beginning", || async {
        let first = files(&directory, "wal-").first().cloned();
        (files(&directory, "snapshot-").len() == 2 && first? != "wal-00000000000000000001").then_some(())
    })
    .await;
    assert!(snapshot_index(&cluster.handle(leader)).await > missed);

    cluster.restart(victim).await;
    has_all(&cluster.handle(victim), &keys).await;
    assert!(snapshot_index(&cluster.handle(victim)).await > missed, "it came by another way");

    // Restarted, it goes on from the snapshot and the log behind it, alone at first.
    let leader = cluster.leader().await;
    keys.extend(fill(&cluster.handle(leader), "after", 5).await);
    has_all(&cluster.handle(victim), &keys).await;
    for n in cluster.up() {
        cluster.kill(n).await;
    }
    assert!(files(&cluster.directory(victim), "snapshot.").is_empty(), "a draft is left");
    cluster.restart(victim).await;
    assert!(snapshot_index(&cluster.handle(victim)).await > missed);
    for n in (0..3).filter(|n| *n != victim) {
        cluster.restart(n).await;
    }
    put(&cluster.handle(victim), "last", "last one").await;
    keys.insert("last".to_owned());
    for n in cluster.up() {
        has_all(&cluster.handle(n), &keys).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_snapshot_is_damaged_refuses_or_does_without_it() {
    let mut cluster = Cluster::start_tuned(1, forgetful).await;
    let keys = fill(&cluster.handle(0), "key", 300).await;
    let directory = cluster.directory(0);
    eventually("there are two snapshots", || async { (files(&directory, "snapshot-").len() == 2).then_some(()) }).await;
    cluster.stop(0).await;
    let snapshots = files(&directory, "snapshot-");
    let damage = |name: &str| {
        let path = directory.join("raft").join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    };
    // With the newest one gone bad, the older one and the log behind it hold the same.
    damage(&snapshots[1]);
    cluster.restart(0).await;
    has_all(&cluster.handle(0), &keys).await;
    assert!(!files(&directory, "snapshot-").contains(&snapshots[1]), "the damaged one is kept");
    cluster.stop(0).await;
    for name in files(&directory, "snapshot-") {
        damage(&name);
    }
    let error = cluster.try_restart(0).await.unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, StartError::Refused { .. }), "{said}");
    assert!(said.contains(directory.to_str().unwrap()) && said.contains("raft/snapshot-"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_server_of_three_goes_on_alone_if_the_operator_says_so() {
    let mut cluster = Cluster::start_tuned(3, forgetful).await;
    cluster.leader().await;
    let mut keys = fill(&cluster.handle(0), "key", 100).await;
    let survivor = cluster.follower().await;
    has_all(&cluster.handle(survivor), &keys).await;
    for n in (0..3).filter(|n| *n != survivor) {
        cluster.kill(n).await;
        std::fs::remove_dir_all(cluster.directory(n)).unwrap();
    }
    cluster.kill(survivor).await;
    let peers = cluster.directory(survivor).join("raft/peers.json");
    std::fs::write(&peers, format!("[\"{}\"]", cluster.address(survivor))).unwrap();
    cluster.restart(survivor).await;

    let handle = cluster.handle(survivor);
    assert_eq!(cluster.leader().await, survivor);
    keys.extend(fill(&handle, "alone", 10).await);
    has_all(&handle, &keys).await;
    let alone = members(&handle).await;
    assert!(alone.len() == 1 && alone[0].id == id(survivor) && alone[0].voter, "{alone:?}");
    eventually("the operator's file is removed", || async { (!peers.exists()).then_some(()) }).await;
    // The order holds without the file.
    cluster.kill(survivor).await;
    cluster.restart(survivor).await;
    assert_eq!(cluster.leader().await, survivor);
    has_all(&cluster.handle(survivor), &keys).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_come_back_on_other_ports_are_found_again() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    put(&cluster.handle(leader), "key/0", "before").await;
    let (stays, movers) = (cluster.follower().await, |stays| (0..3).filter(move |n| *n != stays));
    // One alone at first, then all but one at once, the leader among them.
    for round in 1..=2 {
        let moved: Vec<_> = if round == 1 { vec![leader] } else { movers(stays).collect() };
        for n in &moved {
            cluster.kill(*n).await;
        }
        if round == 1 {
            put(&cluster.handle(stays), "key/0", "while it was away").await;
        }
        for n in &moved {
            cluster.restart_elsewhere(*n);
        }
        let key = format!("key/{round}");
        put(&cluster.handle(stays), &key, "after").await;
        for n in 0..3 {
            let handle = cluster.handle(n);
            eventually("every server hears of it", || get(&handle, &key, Consistency::Stale)).await;
            let expected = cluster.address(n);
            eventually("the members' list has the new address", || async {
                members(&handle)
                    .await
                    .iter()
                    .any(|server| server.id == id(n) && server.address == expected)
                    .then_some(())
            })
            .await;
        }
        let leader = cluster.leader().await;
        for n in 0..3 {
            let handle = cluster.handle(n);
            let address = cluster.address(leader);
            eventually("all know where the leader is", || async {
                (leader_known_to(&handle).await == Some(address)).then_some(())
            })
            .await;
            eventually("a write is forwarded", || async { try_put(&handle, "any", "value").await.ok() }).await;
        }
    }
}
