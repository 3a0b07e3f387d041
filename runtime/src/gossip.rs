//! The sockets by which the members of a gossip pool reach an agent: one port, for datagrams and for streams.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

/// How often another port is asked for, if the one that the system chose for streams is not free for datagrams.
const ATTEMPTS: usize = 64;

/// The sockets by which the members of a gossip pool reach an agent, bound already.
#[derive(Debug)]
pub struct GossipSockets {
    /// For datagrams.
    pub udp: UdpSocket,
    /// For streams. Other agents' messages are taken there, too: to an agent that is no server they come nowhere else.
    pub tcp: TcpListener,
}

impl GossipSockets {
    /// Binds both sockets to one address. For port 0 the system chooses a port that is free for both.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let mut attempts = if address.port() == 0 { ATTEMPTS } else { 1 };
        loop {
            let tcp = TcpListener::bind(address)?;
            match UdpSocket::bind(tcp.local_addr()?) {
                Ok(udp) => return Ok(Self { udp, tcp }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 1 => attempts -= 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Where they are bound.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sockets_have_one_port() {
        let sockets = GossipSockets::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = sockets.address().unwrap();
        assert_eq!(sockets.tcp.local_addr().unwrap(), address);
        assert_ne!(address.port(), 0);
        assert_eq!(GossipSockets::bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
