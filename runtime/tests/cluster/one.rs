//! One agent and its surroundings: a full disk, a damaged log, a lock, strangers, a good end.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::harness::{
    Cluster, PATIENCE, config, eventually, get, get_call, itself, put, put_call, soon, start, try_put, value,
};
use lictor_core::api::{Call, Consistency, Error, Response};
use lictor_core::id::{CallId, Index, PeerId};
use lictor_core::peer::{Body, Envelope};
use lictor_core::raft::Configuration;
use lictor_core::wire;
use lictor_runtime::{DataDir, Handle, StartError, Storage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_in_memory_serves_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let id = PeerId::numbered(1);
    let config = config(id, address, Configuration::new([(id, address)]));
    let server = start(config, Storage::Memory, listener, 1).unwrap();
    assert_eq!(server.address(), address);
    let handle = server.handle();
    put(&handle, "key", "value").await;
    // The client has its acknowledgement, so the view must have its write.
    assert_eq!(get(&handle, "key", Consistency::Stale).await.as_deref(), Some("value"));
    assert_eq!(get(&handle, "key", Consistency::Default).await.as_deref(), Some("value"));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_call_hangs_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let id = PeerId::numbered(1);
    let mut config = config(id, address, Configuration::new([(id, address)]));
    config.limits.blocked_queries = 1;
    let server = start(config, Storage::Memory, listener, 1).unwrap();
    let handle = server.handle();
    put(&handle, "key", "old").await;
    let index = crate::harness::read(&handle, get_call("key", Consistency::Stale, Index(0))).await.unwrap().meta.index;
    // Calls reach the agent in the order in which they were begun.
    let query = || Box::pin(handle.call(get_call("key", Consistency::Default, index)));
    let mut first = query();
    begin(&mut first).await;
    let refused = soon("a query is refused", query()).await;
    assert!(matches!(refused, Err(Error::Busy { .. })), "unexpected: {refused:?}");
    drop(first);
    let mut second = query();
    begin(&mut second).await;
    put(&handle, "key", "new").await;
    let woken = soon("the query wakes", second).await.unwrap();
    let Response::KvEntries(read) = woken else { panic!("unexpected: {woken:?}") };
    assert_eq!(value(&read).as_deref(), Some("new"));
    server.shutdown().await;
}

/// Has a future do what it can do at once.
async fn begin<F: Future + Unpin>(future: &mut F) {
    let once = |context: &mut Context<'_>| Poll::Ready(Pin::new(&mut *future).poll(context).is_pending());
    assert!(std::future::poll_fn(once).await, "it is over already");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_on_the_disk_writes_fail_and_reads_go_on() {
    let cluster = Cluster::start(1).await;
    let handle = cluster.handle(0);
    put(&handle, "kept", "value").await;
    cluster.quotas[0].set(0);
    let large = "v".repeat(256 << 10);
    let mut acknowledged = 0;
    eventually("writes are refused", || {
        let (handle, large) = (handle.clone(), large.clone());
        acknowledged += 1;
        let key = format!("fill/{acknowledged}");
        async move {
            match try_put(&handle, &key, &large).await {
                Ok(()) => None,
                Err(Error::DiskFull) => Some(()),
                Err(other) => panic!("{other}"),
            }
        }
    })
    .await;
    acknowledged -= 1;
    for mode in [Consistency::Default, Consistency::Consistent, Consistency::Stale] {
        assert_eq!(get(&handle, "kept", mode).await.as_deref(), Some("value"));
    }
    cluster.quotas[0].set(u64::MAX);
    put(&handle, "afterwards", &large).await;
    for n in 1..=acknowledged {
        assert!(get(&handle, &format!("fill/{n}"), Consistency::Default).await.is_some(), "fill/{n} is lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_that_finds_no_room_waits_for_it_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::start(1).await;
    let handle = cluster.handle(0);
    put(&handle, "kept", "value").await;
    // Room for what is set aside already and for little more than that.
    cluster.quotas[0].set(3 << 20);
    let large = "v".repeat(400 << 10);
    let begun = std::time::Instant::now();
    let mut flood: Vec<_> = (0..40)
        .map(|n| {
            let (handle, large) = (handle.clone(), large.clone());
            tokio::spawn(async move { (n, handle.call(put_call(&format!("flood/{n}"), large)).await) })
        })
        .collect();
    // Small ones too, until the agent has heard that there is no room; the last of those before that may wait.
    for n in 40.. {
        let call = handle.clone();
        let mut small = tokio::spawn(async move { (n, call.call(put_call(&format!("flood/{n}"), "x")).await) });
        match tokio::time::timeout(std::time::Duration::from_millis(50), &mut small).await {
            Ok(answered) if answered.as_ref().unwrap().1 == Err(Error::DiskFull) => break,
            Ok(_) => {}
            Err(_) => flood.push(small),
        }
        assert!(begun.elapsed() < PATIENCE, "the agent never said that the disk is full");
    }
    assert_eq!(get(&handle, "kept", Consistency::Default).await.as_deref(), Some("value"));
    cluster.quotas[0].set(u64::MAX);
    let mut acknowledged = Vec::new();
    for write in flood {
        match soon("every write is answered", write).await.unwrap() {
            (n, Ok(_)) => acknowledged.push(format!("flood/{n}")),
            (_, Err(error)) => assert_eq!(error, Error::DiskFull),
        }
    }
    put(&handle, "afterwards", "x").await;
    cluster.kill(0).await;
    cluster.restart(0).await;
    for key in acknowledged {
        assert!(get_once_led(&cluster.handle(0), &key).await.is_some(), "{key} is lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_does_not_start_from_a_damaged_log() {
    let mut cluster = Cluster::start(1).await;
    for n in 0..50 {
        put(&cluster.handle(0), &format!("key/{n}"), &"v".repeat(100)).await;
    }
    cluster.stop(0).await;
    let segment = cluster.directory(0).join("raft/wal-00000000000000000001");
    let intact = std::fs::read(&segment).unwrap();
    let damage = intact.windows(6).position(|bytes| bytes == b"key/25").unwrap();
    let mut damaged = intact.clone();
    damaged[damage] ^= 0x10;
    std::fs::write(&segment, &damaged).unwrap();

    let error = cluster.try_restart(0).await.unwrap_err();
    let StartError::CorruptLog { path, corrupt } = &error else { panic!("unexpected: {error}") };
    assert_eq!(*path, cluster.directory(0));
    // The damage is in the write that begins at or before it.
    let offset = usize::try_from(corrupt.offset).unwrap();
    assert!(offset <= damage && damage < offset + 512, "byte {damage} was damaged, byte {offset} is named");
    let said = error.to_string();
    assert!(said.contains("raft/wal-00000000000000000001") && said.contains(&offset.to_string()), "{said}");
    assert_eq!(std::fs::read(&segment).unwrap(), damaged, "a refusal to start changed the log");

    std::fs::write(&segment, &intact).unwrap();
    cluster.restart(0).await;
    assert!(get_once_led(&cluster.handle(0), "key/49").await.is_some());
}

async fn get_once_led(handle: &Handle, key: &str) -> Option<String> {
    eventually("there is a leader", || crate::harness::leader_known_to(handle)).await;
    get(handle, key, Consistency::Default).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_is_for_one_agent() {
    let mut cluster = Cluster::start(1).await;
    let error = DataDir::open(cluster.directory(0)).unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, StartError::Locked { .. }), "{said}");
    assert!(said.contains(cluster.directory(0).to_str().unwrap()), "{said}");
    assert!(said.contains(&format!("process {}", std::process::id())), "{said}");
    cluster.stop(0).await;
    DataDir::open(cluster.directory(0)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_agent_keeps_what_it_acknowledged_and_says_goodbye() {
    let mut cluster = Cluster::start(1).await;
    let handle = cluster.handle(0);
    put(&handle, "key", "value").await;
    let index = crate::harness::read(&handle, get_call("key", Consistency::Stale, Index(0))).await.unwrap().meta.index;
    let blocked = {
        let handle = handle.clone();
        tokio::spawn(async move { handle.call(get_call("key", Consistency::Default, index)).await })
    };
    let writes: Vec<_> = (0..100)
        .map(|n| {
            let handle = handle.clone();
            tokio::spawn(async move { (n, handle.call(put_call(&format!("late/{n}"), "x")).await) })
        })
        .collect();
    soon("the agent stops", cluster.stop(0)).await;
    assert_eq!(soon("the query ends", blocked).await.unwrap(), Err(Error::ShuttingDown));
    assert_eq!(handle.call(get_call("key", Consistency::Stale, Index(0))).await, Err(Error::ShuttingDown));
    assert_eq!(try_put(&handle, "key", "x").await, Err(Error::ShuttingDown));

    cluster.restart(0).await;
    let handle = cluster.handle(0);
    assert_eq!(get_once_led(&handle, "key").await.as_deref(), Some("value"));
    for write in writes {
        let (n, reply) = soon("a write is answered", write).await.unwrap();
        match reply {
            Ok(_) => assert!(get(&handle, &format!("late/{n}"), Consistency::Default).await.is_some(), "late/{n}"),
            Err(error) => assert_eq!(error, Error::ShuttingDown),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_counted_and_shown_the_door() {
    let cluster = Cluster::start(1).await;
    let (handle, address) = (cluster.handle(0), cluster.address(0));
    put(&handle, "key", "value").await;
    let stranger = Envelope {
        from: PeerId::numbered(77),
        to: PeerId::numbered(1),
        address,
        cluster: wire::cluster_tag("another-datacenter"),
        body: Body::Abandon { id: CallId(1), origin: 1 },
    };
    let good = wire::encode_frame(&stranger).to_vec();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut oversized = good[..wire::HEADER_BYTES].to_vec();
    oversized[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut future = good.clone();
    future[4] = 99;
    let bad = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), vec![0; 64], flipped, oversized, future];

    let mut counted = dropped(&handle).await;
    for bytes in &bad {
        let closed = talk(address, bytes);
        assert!(soon("the connection is closed", closed).await, "{bytes:?} was answered");
        counted += 1;
        eventually("the message is counted", || async { (dropped(&handle).await == counted).then_some(()) }).await;
    }
    // A well-formed message of another cluster is for the core to refuse; the connection may stay.
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&good).unwrap();
    eventually("the stranger is counted", || async { (dropped(&handle).await == counted + 1).then_some(()) }).await;
    // Half a frame, then nothing: no harm done.
    drop(TcpStream::connect(address).unwrap().write_all(&good[..20]));
    put(&handle, "key", "after").await;
    assert_eq!(get(&handle, "key", Consistency::Default).await.as_deref(), Some("after"));
}

/// Sends bytes and waits for the end. True if nothing came back.
async fn talk(address: SocketAddr, bytes: &[u8]) -> bool {
    let bytes = bytes.to_vec();
    tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        // A reset is an end too: the other side closed without reading all of it.
        let _ = stream.read_to_end(&mut answer);
        answer.is_empty()
    })
    .await
    .unwrap()
}

async fn dropped(handle: &Handle) -> u64 {
    itself(handle).await.stats["peers"]["dropped_messages"].parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_written_to_stops_the_process() {
    const MARK: &str = "LICTOR_TEST_DIES_IN";
    const TEST: &str = "one::a_log_that_cannot_be_written_to_stops_the_process";
    if let Some(directory) = std::env::var_os(MARK) {
        return write_until_it_ends(Path::new(&directory)).await;
    }
    let root = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let mut child = std::process::Command::new(program);
    child.args(["--exact", TEST, "--nocapture"]).env(MARK, root.path());
    let output = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("raft/wal-") && said.contains("the agent stops"), "{said}");
}

/// Takes the directory of the log away from under a running agent, which needs new files in it before long.
async fn write_until_it_ends(directory: &Path) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let data = DataDir::open(directory).unwrap();
    let id = data.node_id();
    let config = config(id, address, Configuration::new([(id, address)]));
    let server = start(config, data.into(), listener, 1).unwrap();
    let handle = server.handle();
    put(&handle, "key", "value").await;
    std::fs::remove_dir_all(directory.join("raft")).unwrap();
    std::fs::write(directory.join("raft"), "no directory").unwrap();
    let large = vec![1; 500 << 10];
    soon("the process ends", async {
        loop {
            let _: Result<Response, Error> = handle.call(put_call("key", large.clone())).await;
        }
    })
    .await;
}

/// `Call` is what front ends hold on to across threads.
#[test]
fn a_call_may_be_made_on_any_thread() {
    fn check<T: Send + Sync + Clone + 'static>() {}
    fn check_future<T: Send>(_: impl FnOnce(Handle, Call) -> T) {}
    check::<Handle>();
    check_future(|handle, call| async move { handle.call(call).await });
}
