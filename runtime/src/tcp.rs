//! Framed TCP between peers: each agent listens, and opens one connection to each peer that it has
//! something to say to. Answers come back on a connection of the other's making. Gossip that goes over a stream has a
//! short-lived connection of its own each time.

mod inbound;
mod once;
mod outbound;

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

pub(crate) use inbound::Listening;
pub(crate) use once::Streams;
pub(crate) use outbound::Peers;

/// Connections at the same time, and addresses that are spoken to. A cluster has a handful of servers, but each of them
/// speaks with a share of all clients.
pub(crate) const CONNECTIONS: usize = 4096;

/// A peer's machine that vanished without a word is noticed after this long on an idle connection.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Bytes that a peer's machine has not acknowledged for this long end the connection. Without it, TCP's own
/// patience would keep a healed partition silent for up to as long as it lasted.
const UNACKNOWLEDGED: Duration = Duration::from_secs(3);

/// Sets what every connection between peers needs. A socket that refuses works without it, only slower to
/// notice trouble.
fn prepare(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
    for (what, result) in [
        ("TCP_NODELAY", socket.set_tcp_nodelay(true)),
        ("SO_KEEPALIVE", socket.set_tcp_keepalive(&keepalive)),
        ("TCP_USER_TIMEOUT", socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))),
    ] {
        if let Err(error) = result {
            tracing::debug!("{what} could not be set on a connection between peers: {error}");
        }
    }
}
