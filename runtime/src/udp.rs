//! Datagrams between the members of a gossip pool. Any of them may get lost, so that nobody ever waits for one: what finds
//! no room, on its way in or out, is dropped.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lictor_core::io::Input;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::errands::Errands;
use crate::event::Event;

/// What the system is asked to hold of datagrams in each direction. It may give less.
const SYSTEM_BYTES: usize = 2 << 20;

/// Bytes of datagrams that were received and not yet taken in by the agent, with what each of them costs beside its
/// content.
const UNREAD_BYTES: usize = 4 << 20;
const COST_BYTES: usize = 128;

/// No datagram is longer.
const LONGEST: usize = 1 << 16;

/// At most one line about datagrams that were dropped in this time.
const DROPPED_EVERY: Duration = Duration::from_secs(10);

/// The agent's end of its socket for datagrams.
#[derive(Debug)]
pub(crate) struct Datagrams {
    socket: std::net::UdpSocket,
    is_ipv6: bool,
}

impl Datagrams {
    /// Takes up a socket that is bound already.
    pub(crate) fn start(socket: std::net::UdpSocket, errands: &Errands) -> io::Result<Self> {
        for (what, result) in [
            ("SO_RCVBUF", SockRef::from(&socket).set_recv_buffer_size(SYSTEM_BYTES)),
            ("SO_SNDBUF", SockRef::from(&socket).set_send_buffer_size(SYSTEM_BYTES)),
        ] {
            if let Err(error) = result {
                tracing::debug!("{what} could not be set on the socket for gossip: {error}");
            }
        }
        socket.set_nonblocking(true)?;
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        let receiver = {
            let _entered = errands.runtime().enter();
            UdpSocket::from_std(socket.try_clone()?)?
        };
        errands.spawn(receive(receiver, errands.clone()));
        Ok(Self { socket, is_ipv6 })
    }

    /// Sends a datagram, unless the system has no room for it just now. Never blocks.
    pub(crate) fn send(&self, to: SocketAddr, bytes: &[u8]) {
        let address = match to.ip() {
            // A socket for IPv6 that also speaks IPv4 wants such an address in IPv6's clothes.
            IpAddr::V4(ip) if self.is_ipv6 => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            _ => to,
        };
        if let Err(error) = self.socket.send_to(bytes, address) {
            tracing::debug!("a datagram of {} bytes to {to} is not sent: {error}", bytes.len());
        }
    }
}

/// Hands every datagram to the agent, or drops it if the agent has too many to read.
async fn receive(socket: UdpSocket, errands: Errands) {
    let unread = Arc::new(Semaphore::new(UNREAD_BYTES));
    let mut buffer = vec![0; LONGEST];
    let mut dropped = Dropped::default();
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // To ask again at once might only burn the processor.
            Err(error) => {
                tracing::warn!("cannot receive datagrams: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let cost = u32::try_from(length + COST_BYTES).expect("no datagram is longer than its buffer");
        let Ok(share) = unread.clone().try_acquire_many_owned(cost) else {
            dropped.add_one();
            continue;
        };
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let input = Input::Datagram { from, bytes: Bytes::copy_from_slice(&buffer[..length]) };
        if errands.events().send(Event::Message(input, share)).is_err() {
            return;
        }
    }
}

/// Datagrams that the agent had no time for.
#[derive(Debug, Default)]
struct Dropped {
    unsaid: u64,
    said: Option<Instant>,
}

impl Dropped {
    fn add_one(&mut self) {
        self.unsaid += 1;
        if self.said.is_none_or(|said| said.elapsed() >= DROPPED_EVERY) {
            self.said = Some(Instant::now());
            let count = std::mem::take(&mut self.unsaid);
            tracing::warn!("dropped {count} datagrams since the last such line: they arrive faster than they are read");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::errands::ErrandsEnd;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn start(address: &str) -> (Datagrams, SocketAddr, Receiver<Event>, ErrandsEnd) {
        let socket = std::net::UdpSocket::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        let (events, inbox) = channel();
        let (errands, end) = Errands::new(tokio::runtime::Handle::current(), events);
        (Datagrams::start(socket, &errands).unwrap(), address, inbox, end)
    }

    fn next(inbox: &Receiver<Event>) -> (SocketAddr, Bytes) {
        match inbox.recv_timeout(PATIENCE) {
            Ok(Event::Message(Input::Datagram { from, bytes }, _)) => (from, bytes),
            other => panic!("unexpected: {other:?}"),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn datagrams_go_both_ways_and_of_any_length() {
        let (here, at_here, mine, _end) = start("127.0.0.1:0");
        let (there, at_there, theirs, _end) = start("127.0.0.1:0");
        for length in [1, 1400, 65_507] {
            here.send(at_there, &vec![7; length]);
            let (from, bytes) = next(&theirs);
            assert_eq!((from, bytes.len()), (at_here, length));
            there.send(from, b"yes");
            assert_eq!(next(&mine), (at_there, Bytes::from_static(b"yes")));
        }
        // What no datagram can hold, and where none can go, disturbs nobody.
        here.send(at_there, &vec![7; 70_000]);
        here.send("[::1]:9".parse().unwrap(), b"lost");
        here.send(at_there, b"and on");
        assert_eq!(next(&theirs).1, "and on");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_socket_of_both_families_has_each_address_in_its_own() {
        let (both, at_both, inbox, _end) = start("[::]:0");
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (one, at_one, answers, _end) = start(address);
            one.send(SocketAddr::new(at_one.ip(), at_both.port()), b"hello");
            let (from, _) = next(&inbox);
            assert_eq!(from, at_one);
            both.send(from, b"hello to you");
            assert_eq!(next(&answers).1, "hello to you");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_flood_is_dropped_when_the_agent_is_behind_and_taken_again_afterwards() {
        let (_here, at_here, inbox, _end) = start("127.0.0.1:0");
        let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let most = UNREAD_BYTES / (60_000 + COST_BYTES);
        let mut unread = Vec::new();
        for n in 0..most + 10 {
            stranger.send_to(&vec![1; 60_000], at_here).unwrap();
            if n < most {
                unread.push(inbox.recv_timeout(PATIENCE).unwrap());
            }
        }
        // One that is short enough for what room is left arrives when all before it were judged.
        stranger.send_to(b"short", at_here).unwrap();
        assert_eq!(next(&inbox).1, "short");
        drop(unread);
        stranger.send_to(&vec![2; 60_000], at_here).unwrap();
        assert_eq!(next(&inbox).1.len(), 60_000);
    }

    #[tokio::test]
    async fn the_socket_is_closed_at_the_end() {
        let (here, at_here, _inbox, end) = start("127.0.0.1:0");
        drop(here);
        end.end().await;
        std::net::UdpSocket::bind(at_here).unwrap();
    }
}
