//! Gossip that is too large for a datagram, or must not get lost: each goes over a connection of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lictor_core::io::Input;
use lictor_core::wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::errands::Errands;
use crate::error::words;

/// Connections at the same time. A member has a few under way: one join, one exchange of all it knows.
const AT_ONCE: usize = 64;

/// How long it may take until there is a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// How long it may take from there until the other side has read all.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(30);

/// The agent's way to send gossip over streams.
#[derive(Debug)]
pub(crate) struct Streams {
    errands: Errands,
    free: Arc<Semaphore>,
}

impl Streams {
    pub(crate) fn new(errands: Errands) -> Self {
        Self { errands, free: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Sends gossip. If it cannot be delivered, the agent is told so. Never blocks.
    pub(crate) fn send(&self, to: SocketAddr, bytes: &[u8]) {
        let errands = self.errands.clone();
        let slot = match self.slot(bytes) {
            Ok(slot) => slot,
            Err(reason) => return errands.tell(Input::Unreachable { to, reason }),
        };
        let frame = wire::gossip_frame(bytes);
        self.errands.spawn(async move {
            if let Err(reason) = deliver(to, &frame).await {
                tracing::debug!("gossip could not be delivered to {to}: {reason}");
                errands.tell(Input::Unreachable { to, reason });
            }
            drop(slot);
        });
    }

    /// Leave to open one more connection. An error says why there is none.
    fn slot(&self, bytes: &[u8]) -> Result<OwnedSemaphorePermit, String> {
        if bytes.len() > wire::MAX_BODY_BYTES {
            return Err(format!("{} bytes are more than any agent takes", bytes.len()));
        }
        self.free.clone().try_acquire_owned().map_err(|_| format!("{AT_ONCE} others are being spoken to"))
    }
}

async fn deliver(to: SocketAddr, frame: &[u8]) -> Result<(), String> {
    let connected = timeout(CONNECT_PATIENCE, TcpStream::connect(to)).await;
    let connected = connected.map_err(|_| "connect: no answer".to_owned())?;
    let stream = connected.map_err(|error| format!("connect: {}", words(&error)))?;
    let delivered = timeout(DELIVERY_PATIENCE, hand_over(stream, frame)).await;
    let delivered = delivered.map_err(|_| "connected, but it does not read what it is sent".to_owned())?;
    delivered.map_err(|error| format!("connected, but then: {}", words(&error)))
}

/// Nothing is expected back: the other side closes once it has read the frame.
async fn hand_over(mut stream: TcpStream, frame: &[u8]) -> io::Result<()> {
    stream.write_all(frame).await?;
    stream.shutdown().await?;
    let closed = stream.read(&mut [0; 1]).await;
    closed.map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::errands::ErrandsEnd;
    use crate::event::Event;
    use crate::tcp::Listening;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn streams() -> (Streams, Receiver<Event>, ErrandsEnd) {
        let (events, inbox) = channel();
        let (errands, end) = Errands::new(tokio::runtime::Handle::current(), events);
        (Streams::new(errands), inbox, end)
    }

    fn unreachable(inbox: &Receiver<Event>) -> (SocketAddr, String) {
        match inbox.recv_timeout(PATIENCE) {
            Ok(Event::Input(Input::Unreachable { to, reason })) => (to, reason),
            other => panic!("unexpected: {other:?}"),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn gossip_of_any_length_arrives_at_a_listener() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let (events, theirs) = channel();
        let listening = Listening::start(listener, events, 100).unwrap();
        let (streams, mine, end) = streams();
        for length in [0, 5, 3 << 20] {
            streams.send(to, &vec![9; length]);
            match theirs.recv_timeout(PATIENCE) {
                Ok(Event::Message(Input::Stream { bytes, .. }, _)) => assert_eq!(bytes.len(), length),
                other => panic!("unexpected: {other:?}"),
            }
        }
        drop(streams);
        end.end().await;
        listening.stop().await;
        assert!(mine.try_recv().is_err(), "something is said to be unreachable");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_cannot_be_delivered_is_told() {
        let (streams, inbox, _end) = streams();
        // Nobody listens.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = free.local_addr().unwrap();
        drop(free);
        streams.send(to, b"hello");
        assert_eq!(unreachable(&inbox), (to, "connect: connection refused".to_owned()));
        // Somebody does, and hangs up without reading.
        let rude = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = rude.local_addr().unwrap();
        streams.send(to, &vec![0; 8 << 20]);
        drop(rude.accept().unwrap());
        assert_eq!(unreachable(&inbox).0, to);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn there_is_a_limit_to_what_is_under_way() {
        let (streams, inbox, end) = streams();
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = silent.local_addr().unwrap();
        for _ in 0..AT_ONCE {
            streams.send(to, b"hello");
        }
        assert!(inbox.try_recv().is_err());
        streams.send(to, b"one too many");
        assert_eq!(unreachable(&inbox).0, to);
        drop(streams);
        end.end().await;
        assert!(inbox.try_recv().is_err(), "what was given up at the end is told");
    }
}
