//! Snapshots over real sockets, of a state that is made up.

use std::future::{Ready, ready};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lictor_core::api::snapshot::{Image, Request, Step};
use lictor_core::api::{self, Call, Error, Read, ReadMeta, Reply, Response};
use lictor_core::id::{Index, Term};
use lictor_core::raft::{Configuration, Position, SnapshotMeta};
use lictor_core::store::Store;
use lictor_http::{Options, archive};
use uuid::Uuid;

use crate::client::{self, Server};

/// What a cluster heard of restorations.
type Steps = Arc<Mutex<Vec<(Uuid, Step)>>>;

/// A cluster with this state, which notes what comes back and refuses the step with the number `refuse`.
fn cluster(image: Image, refuse: usize) -> (Steps, impl Fn(Call) -> Ready<Reply> + Send + Sync) {
    let steps = Steps::default();
    let noted = steps.clone();
    let call = move |call: Call| {
        ready(match call.request {
            api::Request::Snapshot(Request::Save { .. }) if call.datacenter.is_some() => Err(Error::NoPathToDatacenter),
            api::Request::Snapshot(Request::Save { .. }) => {
                let meta = ReadMeta { index: Index(5), known_leader: true, last_contact: Duration::ZERO };
                Ok(Response::Snapshot(Read { meta, value: image.clone() }))
            }
            api::Request::Snapshot(Request::Restore { id, step }) => {
                let mut noted = noted.lock().unwrap();
                noted.push((id, step));
                if noted.len() == refuse { Err(Error::NoLeader) } else { Ok(Response::Done(true)) }
            }
            other => panic!("{other:?}"),
        })
    };
    (steps, call)
}

/// The beginning of a state as servers make it, and more.
fn image(more: Vec<Bytes>) -> Image {
    let position = Position { index: Index(0), term: Term(0) };
    let meta = SnapshotMeta { position, configuration: Configuration::default(), configuration_index: Index(0) };
    let first = lictor_core::snapshot::image(&meta, Store::default(), 1000).pieces().next().unwrap();
    let pieces = move || Box::new(std::iter::once(first.clone()).chain(more.clone())) as api::snapshot::Pieces;
    Image::new(Index(5), Term(2), pieces)
}

fn bytes(image: &Image) -> Vec<u8> {
    image.pieces().flat_map(|piece| piece.to_vec()).collect()
}

/// A mebibyte that cannot be compressed.
fn noise() -> Bytes {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..1 << 20).map(|_| next()).collect::<Vec<u8>>().into()
}

#[tokio::test]
async fn what_is_saved_can_be_restored() {
    let image = image(vec![noise(), Bytes::from_static(b"the end")]);
    let (steps, call) = cluster(image.clone(), 0);
    let server = Server::start(call);
    let mut client = server.client();
    let saved = client.get("/v1/snapshot").await;
    assert_eq!((saved.status, saved.header("content-type")), (200, Some("application/x-gzip")));
    assert_eq!((saved.header("x-consul-index"), saved.header("x-consul-knownleader")), (Some("5"), Some("true")));
    let meta = archive::verify(&*saved.body, u64::MAX).unwrap();
    assert_eq!((meta.index, meta.term, meta.size), (5, 2, bytes(&image).len() as u64));

    let restored = client.request("PUT", "/v1/snapshot", &saved.body).await;
    assert_eq!((restored.status, restored.text()), (200, ""));
    let steps = steps.lock().unwrap();
    let (last, pieces) = steps.split_last().unwrap();
    let mut state = Vec::new();
    for (expected, (id, step)) in pieces.iter().enumerate() {
        let Step::Piece { number, bytes } = step else { panic!("{step:?}") };
        assert_eq!((*id, *number as usize), (last.0, expected));
        assert!(bytes.len() <= 256 << 10, "{}", bytes.len());
        state.extend_from_slice(bytes);
    }
    assert_eq!(last.1, Step::Finish { pieces: pieces.len() as u32 });
    assert!(state == bytes(&image), "another state came back");
}

#[tokio::test]
async fn what_is_damaged_does_not_reach_the_cluster() {
    let (steps, call) = cluster(image(vec![noise()]), 0);
    let server = Server::start(call);
    let mut client = server.client();
    let good = client.get("/v1/snapshot").await.body;
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let mut foreign = Vec::new();
    archive::write(&Image::new(Index(5), Term(2), || Box::new([noise()].into_iter())), &mut foreign).unwrap();
    let cases: [(&[u8], &str); 5] = [
        (b"not an archive", "failed to decompress snapshot: gzip: invalid header"),
        (b"", "failed to decompress snapshot: EOF"),
        (&good[..good.len() / 2], "failed to decompress snapshot: unexpected EOF: the archive is cut short"),
        (&flipped, "failed to "),
        (&foreign, "failed to read snapshot: this is no snapshot of Lictor"),
    ];
    for (body, why) in cases {
        let answer = client.request("PUT", "/v1/snapshot", body).await;
        assert_eq!(answer.status, 500);
        assert!(answer.text().starts_with(why), "{}", answer.text());
    }
    for method in ["POST", "DELETE"] {
        assert_eq!(client.request(method, "/v1/snapshot", b"").await.status, 405);
    }
    let elsewhere = client.get("/v1/snapshot?dc=nosuch").await;
    assert_eq!((elsewhere.status, elsewhere.text()), (500, "No path to datacenter"));
    assert!(steps.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_restoration_that_fails_is_given_up() {
    let image = image(vec![noise()]);
    let mut saved = Vec::new();
    archive::write(&image, &mut saved).unwrap();
    for refuse in [1, 3, 6] {
        let (steps, call) = cluster(image.clone(), refuse);
        let answer = Server::start(call).client().request("PUT", "/v1/snapshot", &saved).await;
        assert_eq!((answer.status, answer.text()), (500, "No cluster leader"));
        let steps = steps.lock().unwrap();
        assert_eq!((steps.len(), &steps[refuse].1), (refuse + 1, &Step::Abort));
    }
}

#[tokio::test]
async fn an_archive_may_not_be_too_large() {
    let (steps, call) = cluster(image(vec![noise()]), 0);
    let server = Server::start_with(&Options { snapshot_bytes: 1 << 20, ..Options::default() }, call);
    let mut client = server.client();
    let saved = client.get("/v1/snapshot").await.body;
    let refused = client.request("PUT", "/v1/snapshot", &saved).await;
    assert_eq!((refused.status, refused.text()), (413, "the snapshot exceeds the limit of 1048576 bytes"));
    let many_zeros = Bytes::from(vec![0; 1 << 20]);
    let mut small = Vec::new();
    archive::write(&image(vec![many_zeros]), &mut small).unwrap();
    assert!(small.len() < 1 << 16, "it is small while it is packed");
    assert_eq!(client.request("PUT", "/v1/snapshot", &small).await.status, 413);
    assert!(steps.lock().unwrap().is_empty());
}

/// What happened to the pieces of a state.
#[derive(Default)]
struct Counts {
    /// How often a piece was made.
    made: AtomicUsize,
    /// How often somebody was done with them, or gave up.
    ended: AtomicUsize,
}

/// The pieces of a state in the hands of somebody.
struct Taken(Arc<Counts>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// A state of 64 MiB.
fn counted() -> (Arc<Counts>, Image) {
    let counts = Arc::new(Counts::default());
    let (counting, piece) = (counts.clone(), noise());
    let image = Image::new(Index(5), Term(2), move || {
        let (taken, piece) = (Taken(counting.clone()), piece.clone());
        Box::new((0..64).map(move |_| {
            taken.0.made.fetch_add(1, Ordering::SeqCst);
            piece.clone()
        }))
    });
    (counts, image)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_a_snapshot_slowly_is_waited_for_and_who_stops_is_not() {
    let (counts, image) = counted();
    let (_, call) = cluster(image, 0);
    let server = Server::start_with(&Options { body_stall: Duration::from_millis(300), ..Options::default() }, call);
    let mut slow = server.client();
    slow.write(b"GET /v1/snapshot HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(slow.read_head().await.unwrap().0, 200);
    // They are taken once for their length and once to be sent; how many can be under way the system's buffers say.
    client::until(|| counts.ended.load(Ordering::SeqCst) == 2).await;
    let under_way = counts.made.load(Ordering::SeqCst) - 64;
    assert!(under_way < 48, "{under_way} pieces were made ahead of who takes them");
    let mut rest = 0;
    while let Some(length) = slow.read_some().await {
        rest += length;
    }
    assert!((1 << 20..60 << 20).contains(&rest), "{rest}: the snapshot of a client that stopped is cut short");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_gone_leaves_its_place_to_others() {
    let (counts, image) = counted();
    let (steps, call) = cluster(image, 0);
    let server = Server::start(call);
    for _ in 0..20 {
        let mut client = server.client();
        client.write(b"GET /v1/snapshot HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let (status, _) = client.read_head().await.unwrap();
        assert!(matches!(status, 200 | 503), "{status}");
        drop(client);
    }
    let mut last = server.client();
    let mut answer = last.get("/v1/snapshot").await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while answer.status == 503 {
        assert!(Instant::now() < deadline, "no place became free");
        tokio::time::sleep(Duration::from_millis(10)).await;
        answer = last.get("/v1/snapshot").await;
    }
    assert_eq!(archive::read(&*answer.body, u64::MAX, |_| Ok(())).unwrap().size, 64 << 20);
    client::until(|| counts.ended.load(Ordering::SeqCst).is_multiple_of(2)).await;
    assert!(steps.lock().unwrap().is_empty());
}
