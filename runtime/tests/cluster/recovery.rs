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

/// Fills a server's store until it has two snapshots, and no log from the beginning on.
async fn fill_until_it_forgets(handle: &Handle, directory: &Path, prefix: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for round in 0.. {
        keys.extend(fill(handle, &format!("{prefix}/{round}"), 100).await);
        let first = files(directory, "wal-").first().cloned();
        let forgot = first.is_some_and(|first| first != "wal-00000000000000000001");
        if forgot && files(directory, "snapshot-").len() == 2 {
            break;
        }
        assert!(round < 50, "the disk never forgets the log's beginning");
    }
    keys
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
    keys.extend(fill_until_it_forgets(&cluster.handle(leader), &cluster.directory(leader), "during").await);
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
    assert!(files(&cluster.directory(victim), "snapshot.received").is_empty(), "it still has its first name");
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
    let directory = cluster.directory(0);
    let keys = fill_until_it_forgets(&cluster.handle(0), &directory, "key").await;
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
    // One after the other, the leader first.
    let leader = cluster.leader().await;
    for moves in [leader, (leader + 1) % 3, (leader + 2) % 3] {
        cluster.kill(moves).await;
        let stays = cluster.up()[0];
        put(&cluster.handle(stays), &format!("away/{moves}"), "x").await;
        cluster.restart_elsewhere(moves);
        let key = format!("back/{moves}");
        put(&cluster.handle(stays), &key, "x").await;
        let moved = cluster.handle(moves);
        eventually("it is found again", || get(&moved, &key, Consistency::Stale)).await;
        for n in 0..3 {
            knows_where_all_are(&cluster, n).await;
            eventually("a write is forwarded", || async { try_put(&cluster.handle(n), "any", "x").await.ok() }).await;
        }
    }
}

/// Waits until a server knows, by itself or from the leader, where everybody is now.
async fn knows_where_all_are(cluster: &Cluster, n: usize) {
    let handle = cluster.handle(n);
    let expected: BTreeSet<_> = (0..3).map(|n| (id(n), cluster.address(n))).collect();
    eventually("the members' list has all the new addresses", || async {
        let found: BTreeSet<_> = members(&handle).await.iter().map(|server| (server.id, server.address)).collect();
        (found == expected).then_some(())
    })
    .await;
    let leader = cluster.address(cluster.leader().await);
    eventually("the leader's new address is known", || async {
        (leader_known_to(&handle).await == Some(leader)).then_some(())
    })
    .await;
}
