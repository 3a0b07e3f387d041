//! What goes out to peers: for each address a bounded queue and a task that keeps one connection.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use lictor_core::peer::Envelope;
use lictor_core::wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// What may wait for one peer. Beyond it the newest message is dropped: raft sends again, and forwarded
/// calls have their own deadline.
const QUEUE_BYTES: usize = wire::MAX_BODY_BYTES;

const CONNECT_PATIENCE: Duration = Duration::from_secs(1);
const BACKOFF: Duration = Duration::from_millis(10);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// All peers that were ever spoken to. Dropping it closes the connections.
pub(crate) struct Peers {
    runtime: tokio::runtime::Handle,
    lanes: HashMap<SocketAddr, Lane>,
}

struct Lane {
    queue: Arc<Queue>,
    task: AbortHandle,
}

impl Peers {
    /// Connections are kept by tasks on `runtime`.
    pub(crate) fn new(runtime: tokio::runtime::Handle) -> Self {
        Self { runtime, lanes: HashMap::new() }
    }

    /// Sends a message, or drops it if too many wait already. Never blocks.
    pub(crate) fn send(&mut self, to: SocketAddr, envelope: &Envelope) {
        let frame = wire::encode_frame(envelope);
        if frame.len() > wire::HEADER_BYTES + wire::MAX_BODY_BYTES {
            tracing::warn!("a message of {} bytes to {to} exceeds what peers accept: dropped", frame.len());
            return;
        }
        let lane = self.lanes.entry(to).or_insert_with(|| {
            let queue = Arc::new(Queue::default());
            let task = self.runtime.spawn(keep_connected(to, queue.clone())).abort_handle();
            Lane { queue, task }
        });
        lane.queue.push(frame);
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        for lane in self.lanes.values() {
            lane.task.abort();
        }
    }
}

/// Frames that wait for a connection or for its last write to end.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Frames>,
    arrived: Notify,
}

impl Queue {
    fn push(&self, frame: Bytes) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.bytes + frame.len() > QUEUE_BYTES && !waiting.frames.is_empty() {
            return;
        }
        let first = waiting.frames.is_empty();
        waiting.bytes += frame.len();
        waiting.frames.push_back(frame);
        drop(waiting);
        if first {
            self.arrived.notify_one();
        }
    }

    fn take(&self) -> Frames {
        std::mem::take(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_empty(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).frames.is_empty()
    }
}

/// Frames as one buffer of many pieces, so that all that wait leave with one syscall and no copy.
#[derive(Default)]
struct Frames {
    frames: VecDeque<Bytes>,
    bytes: usize,
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

/// Connects whenever there is something to say, and again with growing patience if that fails.
async fn keep_connected(to: SocketAddr, queue: Arc<Queue>) {
    let mut backoff = BACKOFF;
    loop {
        while queue.is_empty() {
            queue.arrived.notified().await;
        }
        let begun = Instant::now();
        let ended = match tokio::time::timeout(CONNECT_PATIENCE, TcpStream::connect(to)).await {
            Ok(Ok(stream)) => {
                super::prepare(&stream);
                tracing::debug!("connected to peer {to}");
                converse(stream, &queue).await
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer to the attempt to connect")),
        };
        if let Err(error) = ended {
            tracing::debug!("no connection to peer {to}: {error}");
            // What waits is old by now, and its senders repeat what still matters.
            drop(queue.take());
        }
        // Only a connection that lasted shows that the peer is well: one that accepts and closes at once
        // must not be asked without pause.
        backoff = if begun.elapsed() > MAX_BACKOFF { BACKOFF } else { (backoff * 2).min(MAX_BACKOFF) };
        tokio::time::sleep(backoff).await;
    }
}

/// Sends what arrives until the connection breaks or the peer closes it. Peers say nothing on a connection
/// that they accepted, so that anything to read is its end.
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
            () = queue.arrived.notified() => {}
            end = reader.read(&mut unexpected) => return end.map(|_| ()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_full_queue_drops_the_newest_and_takes_one_of_any_size_when_empty() {
        let queue = Queue::default();
        queue.push(Bytes::from(vec![1; QUEUE_BYTES + 1]));
        queue.push(Bytes::from_static(b"dropped"));
        let taken = queue.take();
        assert_eq!((taken.frames.len(), taken.bytes), (1, QUEUE_BYTES + 1));
        queue.push(Bytes::from_static(b"kept"));
        assert_eq!(queue.take().bytes, 4);
    }
}
