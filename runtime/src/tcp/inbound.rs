//! What comes in from peers and strangers: every connection is a stranger's until its first valid frame.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use lictor_core::io::Input;
use lictor_core::wire::{self, Frame, HEADER_BYTES, Malformed};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};

use crate::event::Event;

/// Bytes of messages that were read and not yet taken in by the agent, over all connections. Beyond it the
/// connections are not read from: their senders wait.
const UNREAD_BYTES: usize = 2 * wire::MAX_BODY_BYTES;

/// The unit in which [`UNREAD_BYTES`] is handed out, as a semaphore counts in 32 bits.
const SHARE_BYTES: usize = 1024;

/// How long a stranger may take over its first frame, and for how long a peer may be silent in the middle of one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Room for what one read brings.
const READ_BYTES: usize = 64 << 10;

/// The task that accepts connections, and those that read from them.
pub(crate) struct Listening {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Listening {
    /// Takes up a listener that is bound already, for so many connections at the same time. Must be called within a
    /// tokio runtime.
    pub(crate) fn start(
        listener: std::net::TcpListener,
        events: Sender<Event>,
        connections: usize,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let (stop, stopped) = oneshot::channel();
        Ok(Self { stop, task: tokio::spawn(accept(listener, events, connections, stopped)) })
    }

    /// Closes the listener and every connection that it accepted, and waits until they are.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

async fn accept(listener: TcpListener, events: Sender<Event>, limit: usize, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    let unread = Arc::new(Semaphore::new(UNREAD_BYTES / SHARE_BYTES));
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut stopped => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) if connections.len() >= limit => {
                tracing::warn!("closed a connection from {from}: {limit} are open already");
                drop(stream);
            }
            Ok((stream, from)) => {
                super::prepare(&stream);
                let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                let connection = Connection { stream, from, events: events.clone(), unread: unread.clone() };
                connections.spawn(connection.read());
            }
            // Out of file descriptors, most likely: to ask again at once would only burn the processor.
            Err(error) => {
                tracing::warn!("cannot accept a connection from a peer: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    connections.shutdown().await;
}

struct Connection {
    stream: TcpStream,
    from: SocketAddr,
    events: Sender<Event>,
    unread: Arc<Semaphore>,
}

impl Connection {
    /// Reads until the other side closes, errs or dawdles. Whatever was wrong with its bytes is the
    /// agent's to count.
    async fn read(mut self) {
        if let Err(reason) = self.read_frames().await {
            let from = Some(self.from);
            let _ = self.events.send(Event::Input(Input::Garbage { from, reason }));
        }
    }

    async fn read_frames(&mut self) -> Result<(), Malformed> {
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        let mut is_stranger = true;
        let mut deadline = Some(Instant::now() + PATIENCE);
        loop {
            while let Some((frame, length)) = next_frame(&mut buffer)? {
                is_stranger = false;
                let share = self.share(length).await;
                let input = match frame {
                    Frame::Envelope(envelope) => Input::Message(envelope),
                    Frame::Gossip(bytes) => Input::Stream { from: self.from, bytes },
                };
                if self.events.send(Event::Message(input, share)).is_err() {
                    return Ok(());
                }
            }
            if !is_stranger {
                deadline = (!buffer.is_empty()).then(|| Instant::now() + PATIENCE);
            }
            buffer.reserve(READ_BYTES);
            let read = self.stream.read_buf(&mut buffer);
            let count = match deadline {
                Some(deadline) => match timeout_at(deadline, read).await {
                    Ok(count) => count,
                    Err(_) => {
                        tracing::debug!("closed a connection from {}: nothing of use for {PATIENCE:?}", self.from);
                        return Ok(());
                    }
                },
                None => read.await,
            };
            match count {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!("lost a connection from {}: {error}", self.from);
                    return Ok(());
                }
            }
        }
    }

    /// A share of the memory for unread messages, as soon as there is one.
    async fn share(&self, length: usize) -> OwnedSemaphorePermit {
        let shares = u32::try_from(length.div_ceil(SHARE_BYTES)).expect("a frame is far below 4 TiB");
        self.unread.clone().acquire_many_owned(shares).await.expect("the semaphore is never closed")
    }
}

/// Takes the next complete frame out of what was read. Its header is judged as soon as it is there: a
/// stranger's announcement makes nobody wait for, or make room for, the body.
fn next_frame(buffer: &mut BytesMut) -> Result<Option<(Frame, usize)>, Malformed> {
    let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = HEADER_BYTES + wire::body_length(header)?;
    if buffer.len() < length {
        return Ok(None);
    }
    let frame = wire::decode_body(header, &buffer[HEADER_BYTES..length])?;
    buffer.advance(length);
    Ok(Some((frame, length)))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use lictor_core::id::{CallId, PeerId};
    use lictor_core::peer::{Body, Envelope};
    use tokio::io::AsyncWriteExt;

    use super::*;

    const CONNECTIONS: usize = 100;

    fn listen() -> (Listening, SocketAddr, Receiver<Event>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (events, inbox) = channel();
        (Listening::start(listener, events, CONNECTIONS).unwrap(), address, inbox)
    }

    fn frame(n: u64) -> Vec<u8> {
        let body = Body::Abandon { id: CallId(n), origin: 0 };
        let here = SocketAddr::from(([127, 0, 0, 1], 1));
        let envelope = Envelope { from: PeerId::numbered(1), to: PeerId::numbered(2), address: here, cluster: 3, body };
        wire::encode_frame(&envelope).to_vec()
    }

    fn messages(inbox: &Receiver<Event>) -> Vec<u64> {
        let number = |event| match event {
            Event::Message(Input::Message(Envelope { body: Body::Abandon { id, .. }, .. }), _) => id.0,
            other => panic!("unexpected: {other:?}"),
        };
        inbox.try_iter().map(number).collect()
    }

    /// Waits until the other side has closed.
    async fn closed(stream: &mut TcpStream) {
        let mut bytes = [0; 1];
        let end = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut bytes)).await;
        assert!(matches!(end, Ok(Ok(0) | Err(_))), "the connection is still open");
    }

    #[tokio::test]
    async fn frames_arrive_whole_however_they_were_cut() {
        let (listening, address, inbox) = listen();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let bytes: Vec<u8> = (0..50).flat_map(frame).collect();
        for piece in bytes.chunks(7) {
            stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        stream.shutdown().await.unwrap();
        closed(&mut stream).await;
        assert_eq!(messages(&inbox), (0..50).collect::<Vec<_>>());
        listening.stop().await;
    }

    // The clock of these tests jumps ahead whenever nothing else can happen.

    #[tokio::test(start_paused = true)]
    async fn a_silent_stranger_is_not_waited_for() {
        let (listening, address, inbox) = listen();
        let mut stream = TcpStream::connect(address).await.unwrap();
        closed(&mut stream).await;
        assert!(messages(&inbox).is_empty());
        listening.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_frame_is_not_waited_for() {
        let (listening, address, inbox) = listen();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&[frame(1), frame(2)[..20].to_vec()].concat()).await.unwrap();
        closed(&mut stream).await;
        assert_eq!(messages(&inbox), [1]);
        listening.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_with_nothing_to_say_may_stay() {
        let (listening, address, inbox) = listen();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&frame(1)).await.unwrap();
        let silence = tokio::time::timeout(PATIENCE * 100, stream.read_u8()).await;
        assert!(silence.is_err(), "the connection was closed");
        stream.write_all(&frame(2)).await.unwrap();
        stream.shutdown().await.unwrap();
        closed(&mut stream).await;
        assert_eq!(messages(&inbox), [1, 2]);
        listening.stop().await;
    }

    #[tokio::test]
    async fn there_is_a_limit_to_the_connections_and_room_again_when_some_end() {
        let (listening, address, inbox) = listen();
        let mut open = Vec::new();
        for n in 0..CONNECTIONS as u64 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&frame(n)).await.unwrap();
            open.push(stream);
        }
        closed(&mut TcpStream::connect(address).await.unwrap()).await;
        let mut leaving = open.pop().unwrap();
        leaving.shutdown().await.unwrap();
        closed(&mut leaving).await;
        let mut seen = messages(&inbox);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !seen.contains(&1_000) {
            assert!(Instant::now() < deadline, "no new connection is accepted");
            // Refused as long as the one that left is still counted.
            let mut late = TcpStream::connect(address).await.unwrap();
            let _ = late.write_all(&frame(1_000)).await;
            let _ = late.shutdown().await;
            closed(&mut late).await;
            seen.extend(messages(&inbox));
        }
        listening.stop().await;
    }
}
