//! Three agents with fixed peers, over real sockets and real disks: what one of them promised, all keep,
//! whoever dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Cluster, eventually, get, get_call, put, read, soon, try_put, value};
use lictor_core::api::{Consistency, Error};
use lictor_core::id::Index;

const MODES: [Consistency; 3] = [Consistency::Default, Consistency::Consistent, Consistency::Stale];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_takes_writes_and_answers_reads_in_every_mode() {
    let cluster = Cluster::start(3).await;
    cluster.leader().await;
    for n in cluster.up() {
        let handle = cluster.handle(n);
        let (key, text) = (format!("from/{n}"), format!("value {n}"));
        put(&handle, &key, &text).await;
        for asked in cluster.up() {
            for mode in [Consistency::Default, Consistency::Consistent] {
                let found = get(&cluster.handle(asked), &key, mode).await;
                assert_eq!(found.as_deref(), Some(text.as_str()), "{mode:?} on {asked}");
            }
            eventually("a stale read catches up", || async {
                get(&cluster.handle(asked), &key, Consistency::Stale).await.filter(|found| *found == text)
            })
            .await;
        }
    }
    for mode in MODES {
        assert_eq!(get(&cluster.handle(0), "no/such/key", mode).await, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_follower_is_not_missed_and_catches_up() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    for n in 0..20 {
        put(&cluster.handle(leader), &format!("before/{n}"), "x").await;
    }
    let victim = cluster.follower().await;
    cluster.kill(victim).await;
    for n in 0..20 {
        put(&cluster.handle(leader), &format!("during/{n}"), "x").await;
    }
    cluster.restart(victim).await;
    let handle = cluster.handle(victim);
    for n in 0..20 {
        for when in ["before", "during"] {
            let key = format!("{when}/{n}");
            eventually("the restarted server has every key", || get(&handle, &key, Consistency::Stale)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_when_the_leader_is_killed_and_none_is_lost_when_all_are() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = cluster
        .up()
        .into_iter()
        .filter(|n| *n != leader)
        .map(|n| tokio::spawn(write_on(cluster.handle(n), format!("writer/{n}"), stop.clone())))
        .collect();
    let survivor = cluster.follower().await;
    let (handle, early) = (cluster.handle(survivor), format!("writer/{survivor}/5"));
    eventually("some writes are done", || get(&handle, &early, Consistency::Default)).await;
    cluster.kill(leader).await;
    assert_ne!(cluster.leader().await, leader);
    let progress = format!("writer/{survivor}/after");
    put(&cluster.handle(survivor), &progress, "x").await;

    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = vec![progress];
    for writer in writers {
        acknowledged.extend(soon("a writer stops", writer).await.unwrap());
    }
    for n in cluster.up() {
        cluster.kill(n).await;
    }
    for n in 0..3 {
        cluster.restart(n).await;
    }
    for n in 0..3 {
        let handle = cluster.handle(n);
        for key in &acknowledged {
            let found = eventually("a read finds a leader", || async {
                read(&handle, get_call(key, Consistency::Default, Index(0))).await.ok()
            })
            .await;
            assert!(value(&found).is_some(), "{key} was acknowledged and is lost on server {n}");
        }
    }
}

/// Writes keys one after the other, and returns those that were acknowledged.
async fn write_on(handle: lictor_runtime::Handle, prefix: String, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("{prefix}/{n}");
        match try_put(&handle, &key, "x").await {
            Ok(()) => acknowledged.push(key),
            // What the leader's death may bring: the write happened or not.
            Err(Error::LeaderUnreachable | Error::LeadershipLost | Error::NoLeader) => {}
            Err(other) => panic!("{key}: {other}"),
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_query_on_one_server_wakes_for_a_write_on_another() {
    let cluster = Cluster::start(3).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    put(&cluster.handle(leader), "watched", "old").await;
    for mode in MODES {
        for (asked, writer) in [(follower, leader), (leader, follower), (follower, follower)] {
            let handle = cluster.handle(asked);
            let seen = eventually("the server has the old value", || async {
                let read = read(&handle, get_call("watched", mode, Index(0))).await.ok()?;
                (value(&read).as_deref() == Some("old")).then_some(read)
            })
            .await;
            let blocked = {
                let handle = handle.clone();
                tokio::spawn(async move { read(&handle, get_call("watched", mode, seen.meta.index)).await })
            };
            put(&cluster.handle(writer), "unrelated", "x").await;
            assert!(!blocked.is_finished(), "an unrelated write woke the query ({mode:?})");
            put(&cluster.handle(writer), "watched", "new").await;
            let woken = soon("the query wakes", blocked).await.unwrap().unwrap();
            assert_eq!(value(&woken).as_deref(), Some("new"), "{mode:?}");
            assert!(woken.meta.index > seen.meta.index);
            put(&cluster.handle(writer), "watched", "old").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_value_travels_between_servers() {
    let cluster = Cluster::start(3).await;
    cluster.leader().await;
    let follower = cluster.handle(cluster.follower().await);
    let large = "v".repeat(512 << 10);
    for n in 0..8 {
        put(&follower, &format!("large/{n}"), &large).await;
    }
    for n in 0..8 {
        let found = get(&follower, &format!("large/{n}"), Consistency::Consistent).await;
        assert!(found.as_deref() == Some(large.as_str()), "large/{n} came back changed");
    }
    let refused = try_put(&follower, "larger", &"v".repeat((512 << 10) + 1)).await;
    assert_eq!(refused, Err(Error::ValueTooLarge { limit: 512 << 10 }));
}
