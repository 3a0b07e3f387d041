//! What goes out to peers: for each address a bounded queue and a task that keeps one connection. Servers come, go and
//! move: a connection that has nothing to carry any more is closed, and its queue forgotten.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use lictor_core::peer::{Body, Envelope, Exec};
use lictor_core::raft::Kind;
use lictor_core::wire;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

/// What may wait for one peer, of its messages and of pieces of snapshots each. Beyond it the newest message is dropped:
/// raft sends again, and forwarded calls have their own deadline.
const QUEUE_BYTES: usize = wire::MAX_BODY_BYTES;

/// Bytes that the system may hold and has not sent. What it holds cannot be overtaken any more.
const UNSENT_BYTES: u32 = 128 << 10;

/// An address that was not spoken to for so long is forgotten.
const IDLE: Duration = Duration::from_secs(120);

const CONNECT_PATIENCE: Duration = Duration::from_secs(1);
const BACKOFF: Duration = Duration::from_millis(10);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// The peers that are spoken to. Dropping it closes the connections.
pub(crate) struct Peers {
    runtime: tokio::runtime::Handle,
    lanes: HashMap<SocketAddr, Lane>,
    /// How many lanes there may be: who answers a message believes the address in it.
    limit: usize,
}

struct Lane {
    queue: Arc<Queue>,
    task: AbortHandle,
}

impl Peers {
    /// Connections are kept by tasks on `runtime`, to so many addresses at the same time.
    pub(crate) fn new(runtime: tokio::runtime::Handle, limit: usize) -> Self {
        Self { runtime, lanes: HashMap::new(), limit }
    }

    /// Sends a message, or drops it if too many wait already. Never blocks.
    pub(crate) fn send(&mut self, to: SocketAddr, envelope: &Envelope) {
        let mut frame = wire::encode_frame(envelope);
        if frame.len() > wire::HEADER_BYTES + wire::MAX_BODY_BYTES {
            tracing::warn!("a message of {} bytes to {to} exceeds what peers accept: dropped", frame.len());
            return;
        }
        let bulk = is_bulk(&envelope.body);
        if let Some(lane) = self.lanes.get(&to) {
            match lane.queue.push(frame, bulk) {
                Ok(()) => return,
                Err(Closed(unsent)) => frame = unsent,
            }
        }
        if let Some(lane) = self.open_lane(to) {
            // A task that has just begun does not end before it has waited for long.
            let _ = lane.queue.push(frame, bulk);
        }
    }

    /// Begins to keep a connection, unless there are too many.
    fn open_lane(&mut self, to: SocketAddr) -> Option<&Lane> {
        self.lanes.retain(|_, lane| !lane.queue.is_closed());
        if self.lanes.len() >= self.limit {
            tracing::debug!("a message to {to} is dropped: {} other addresses are being spoken to", self.limit);
            return None;
        }
        let queue = Arc::new(Queue::default());
        let task = self.runtime.spawn(keep_connected(to, queue.clone())).abort_handle();
        Some(self.lanes.entry(to).insert_entry(Lane { queue, task }).into_mut())
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        for lane in self.lanes.values() {
            lane.task.abort();
        }
    }
}

/// Whether a message may wait for all others: a snapshot's pieces are many and large, as are those of what a command writes, and a
/// heartbeat that came behind them over a slow line would come too late.
fn is_bulk(body: &Body) -> bool {
    match body {
        Body::Raft(message) => matches!(message.kind, Kind::Piece(_)),
        body => matches!(body, Body::Exec(Exec::Piece { .. })),
    }
}

/// Frames that wait for a connection or for its last write to end.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Default)]
struct Waiting {
    frames: Frames,
    bulk: Frames,
    /// Nobody takes them any more.
    closed: bool,
}

/// The frame that a closed queue did not take.
#[derive(Debug)]
struct Closed(Bytes);

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a frame, or drops it if too many wait.
    fn push(&self, frame: Bytes, bulk: bool) -> Result<(), Closed> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Closed(frame));
        }
        let was_empty = waiting.is_empty();
        let frames = if bulk { &mut waiting.bulk } else { &mut waiting.frames };
        if frames.bytes + frame.len() > QUEUE_BYTES && !frames.frames.is_empty() {
            return Ok(());
        }
        frames.push(frame);
        drop(waiting);
        if was_empty {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// What should be sent next: all that waits, but of what may wait for all others only the first, and that behind them.
    /// So neither is held up by the other for longer than one frame takes.
    fn take(&self) -> Frames {
        let mut waiting = self.lock();
        let mut frames = std::mem::take(&mut waiting.frames);
        if let Some(piece) = waiting.bulk.pop() {
            frames.push(piece);
        }
        frames
    }

    fn clear(&self) {
        let mut waiting = self.lock();
        (waiting.frames, waiting.bulk) = Default::default();
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Takes no more frames, if none are waiting. Whether it is so.
    fn close_if_empty(&self) -> bool {
        let mut waiting = self.lock();
        waiting.closed = waiting.is_empty();
        waiting.closed
    }

    fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits for a frame. False if none came for long.
    async fn wait(&self) -> bool {
        while self.is_empty() {
            if timeout(IDLE, self.arrived.notified()).await.is_err() {
                return !self.is_empty();
            }
        }
        true
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.frames.frames.is_empty() && self.bulk.frames.is_empty()
    }
}

/// Frames as one buffer of many pieces, so that all that wait leave with one syscall and no copy.
#[derive(Default)]
struct Frames {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl Frames {
    fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    fn pop(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }
}

impl Buf for Frames {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.frames.front().map_or(&[], |frame| frame)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, frame) in slices.iter_mut().zip(&self.frames) {
            *slice = IoSlice::new(frame);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes -= count;
        while count > 0 {
            let front = self.frames.front_mut().expect("only bytes that are there are passed over");
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.frames.pop_front();
        }
    }
}

/// Connects whenever there is something to say, and again with growing patience if that fails. Ends when there was
/// nothing to say for long.
async fn keep_connected(to: SocketAddr, queue: Arc<Queue>) {
    let mut backoff = BACKOFF;
    loop {
        if !queue.wait().await {
            if queue.close_if_empty() {
                tracing::debug!("peer {to} was not spoken to for {IDLE:?} and is forgotten");
                return;
            }
            continue;
        }
        let begun = Instant::now();
        let ended = match timeout(CONNECT_PATIENCE, TcpStream::connect(to)).await {
            Ok(Ok(stream)) => {
                super::prepare(&stream);
                if let Err(error) = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES) {
                    tracing::debug!("TCP_NOTSENT_LOWAT could not be set on a connection between peers: {error}");
                }
                tracing::debug!("connected to peer {to}");
                converse(stream, &queue).await
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer to the attempt to connect")),
        };
        if let Err(error) = ended {
            tracing::debug!("no connection to peer {to}: {error}");
            // What waits is old by now, and its senders repeat what still matters.
            queue.clear();
        }
        // Only a connection that lasted shows that the peer is well: one that accepts and closes at once
        // must not be asked without pause.
        backoff = if begun.elapsed() > MAX_BACKOFF { BACKOFF } else { (backoff * 2).min(MAX_BACKOFF) };
        tokio::time::sleep(backoff).await;
    }
}

/// Sends what arrives until the connection breaks, the peer closes it, or there was nothing to send for long. Peers say
/// nothing on a connection that they accepted, so that anything to read is its end.
async fn converse(mut stream: TcpStream, queue: &Queue) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let mut unexpected = [0; 1];
    loop {
        let mut frames = queue.take();
        if frames.has_remaining() {
            writer.write_all_buf(&mut frames).await?;
            continue;
        }
        tokio::select! {
            biased;
            something = queue.wait() => if !something {
                return Ok(());
            },
            end = reader.read(&mut unexpected) => return end.map(|_| ()),
        }
    }
}

#[cfg(test)]
mod tests {
    use lictor_core::id::{CallId, PeerId};
    use tokio::net::TcpListener;

    use super::*;

    const LANES: usize = 256;

    fn frames(parts: &[&'static str]) -> Frames {
        Frames {
            frames: parts.iter().map(|part| Bytes::from_static(part.as_bytes())).collect(),
            bytes: parts.iter().map(|part| part.len()).sum(),
        }
    }

    #[test]
    fn frames_are_one_buffer_whatever_the_pieces_that_the_socket_takes() {
        let all = b"abcdefghij";
        for step in 1..=all.len() {
            let mut frames = frames(&["abc", "d", "efghi", "j"]);
            let mut read = Vec::new();
            while frames.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 2];
                let filled = frames.chunks_vectored(&mut slices);
                let offered: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
                let taken = offered.len().min(step);
                read.extend_from_slice(&offered[..taken]);
                frames.advance(taken);
            }
            assert_eq!(read, all);
            assert_eq!(frames.bytes, 0);
        }
    }

    fn taken(queue: &Queue) -> Vec<Bytes> {
        queue.take().frames.into()
    }

    #[test]
    fn a_full_queue_drops_the_newest_and_takes_one_of_any_size_when_empty() {
        for bulk in [false, true] {
            let queue = Queue::default();
            queue.push(Bytes::from(vec![1; QUEUE_BYTES + 1]), bulk).unwrap();
            queue.push(Bytes::from_static(b"dropped"), bulk).unwrap();
            queue.push(Bytes::from_static(b"not its matter"), !bulk).unwrap();
            let lengths: Vec<_> = taken(&queue).iter().map(Bytes::len).collect();
            assert_eq!(lengths, if bulk { [14, QUEUE_BYTES + 1] } else { [QUEUE_BYTES + 1, 14] });
            queue.push(Bytes::from_static(b"kept"), bulk).unwrap();
            assert_eq!(queue.take().bytes, 4);
        }
    }

    #[test]
    fn what_is_bulk_leaves_piece_by_piece_behind_all_else() {
        let queue = Queue::default();
        for (text, bulk) in [("piece 0", true), ("heartbeat", false), ("piece 1", true), ("append", false)] {
            queue.push(Bytes::from_static(text.as_bytes()), bulk).unwrap();
        }
        assert_eq!(taken(&queue), ["heartbeat", "append", "piece 0"]);
        queue.push(Bytes::from_static(b"heartbeat"), false).unwrap();
        assert_eq!(taken(&queue), ["heartbeat", "piece 1"]);
        assert!(taken(&queue).is_empty() && queue.is_empty());
    }

    fn hello() -> Envelope {
        let (from, to) = (PeerId::numbered(1), PeerId::numbered(2));
        let body = Body::Abandon { id: CallId(1), origin: 0 };
        Envelope { from, to, address: SocketAddr::from(([127, 0, 0, 1], 1)), cluster: 3, body }
    }

    // The clock of these tests jumps ahead whenever nothing else can happen.

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_not_used_any_more_is_left_and_forgotten() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (there, moved) = (listener.local_addr().unwrap(), SocketAddr::from(([127, 0, 0, 1], 1)));
        let mut peers = Peers::new(tokio::runtime::Handle::current(), LANES);
        for _ in 0..2 {
            // Nobody listens at the one address, and the other one says nothing more after a while.
            peers.send(moved, &hello());
            peers.send(there, &hello());
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            assert_eq!(bytes, wire::encode_frame(&hello()));
            tokio::time::sleep(IDLE + CONNECT_PATIENCE + MAX_BACKOFF).await;
            assert!(peers.lanes.values().all(|lane| lane.queue.is_closed()), "a lane is still open");
        }
        // A new one sweeps the old ones away.
        peers.send(SocketAddr::from(([127, 0, 0, 1], 2)), &hello());
        assert_eq!(peers.lanes.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_a_limit_to_the_addresses_and_room_again_when_some_are_forgotten() {
        let mut peers = Peers::new(tokio::runtime::Handle::current(), LANES);
        let address = |n: usize| SocketAddr::from(([127, 0, 0, 1], u16::try_from(n).unwrap() + 1));
        for n in 0..LANES + 10 {
            peers.send(address(n), &hello());
        }
        assert_eq!(peers.lanes.len(), LANES);
        assert!(!peers.lanes.contains_key(&address(LANES)));
        tokio::time::sleep(2 * IDLE).await;
        peers.send(address(LANES), &hello());
        assert!(peers.lanes.contains_key(&address(LANES)) && peers.lanes.len() == 1);
    }
}
