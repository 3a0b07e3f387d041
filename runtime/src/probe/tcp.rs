//! Whether something takes connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lictor_core::io::Finding;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::error::words;
use crate::resolve::Resolver;

/// The next address of a host is tried when the one before has not answered for so long.
const NEXT_AFTER: Duration = Duration::from_millis(300);

/// The most addresses of a host that are tried.
const ADDRESSES: usize = 16;

/// Connects to an address, and hangs up.
pub(super) async fn ask(resolver: &Resolver, address: &str) -> Finding {
    let connected = match split(address) {
        Ok((host, port)) => connect(resolver, host, port).await,
        Err(reason) => Err(format!("dial tcp: address {address}: {reason}")),
    };
    connected.map_or_else(|reason| Finding::Failed { reason }, |_| Finding::Connected)
}

/// Connects to a host by whichever of its addresses answers first. They are tried in the system's order, each a little
/// after the one before, or at once if that has failed. An error is a sentence.
pub(super) async fn connect(resolver: &Resolver, host: &str, port: u16) -> Result<TcpStream, String> {
    let addresses = resolver.addresses(host).await;
    let addresses = addresses.map_err(|error| format!("dial tcp: lookup {host}: {}", words(&error)))?;
    let connected = race(addresses.into_iter().take(ADDRESSES), port).await;
    connected.map_err(|(to, error)| format!("dial tcp {to}: connect: {}", words(&error)))
}

async fn race(addresses: impl Iterator<Item = IpAddr>, port: u16) -> Result<TcpStream, (SocketAddr, io::Error)> {
    let mut waiting = addresses.map(|ip| SocketAddr::new(ip, port)).peekable();
    let mut attempts = JoinSet::new();
    let mut failed = None;
    loop {
        if let Some(to) = waiting.next() {
            attempts.spawn(async move { TcpStream::connect(to).await.map_err(|error| (to, error)) });
        }
        let next = Instant::now() + NEXT_AFTER;
        let outcome = tokio::select! {
            outcome = attempts.join_next() => outcome,
            () = sleep_until(next), if waiting.peek().is_some() => continue,
        };
        match outcome {
            Some(Ok(Ok(stream))) => return Ok(stream),
            // The first address is the one that people think of.
            Some(Ok(Err(error))) => drop(failed.get_or_insert(error)),
            Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            None => return Err(failed.expect("a name that was found has an address")),
        }
    }
}

/// The host and the port of an address such as `localhost:80`, `[::1]:80` or `:80`.
fn split(address: &str) -> Result<(&str, u16), &'static str> {
    let (host, port) = address.rsplit_once(':').ok_or("missing port in address")?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']').ok_or("missing ']' in address")?,
        None if host.contains(':') => return Err("too many colons in address"),
        None if host.is_empty() => "localhost",
        None => host,
    };
    Ok((host, port.parse().map_err(|_| "invalid port")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_host_and_a_port() {
        assert_eq!(split("a.b:80"), Ok(("a.b", 80)));
        assert_eq!(split("[::1]:443"), Ok(("::1", 443)));
        assert_eq!(split(":1"), Ok(("localhost", 1)));
        for wrong in ["a.b", "::1:80", "[::1:80", "a:http", "a:70000", "a:"] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn what_listens_is_found_on_either_family_and_nothing_else() {
        let resolver = Resolver::new();
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let listener = std::net::TcpListener::bind(local).unwrap();
            let address = listener.local_addr().unwrap();
            assert_eq!(ask(&resolver, &address.to_string()).await, Finding::Connected);
            drop(listener);
            let expected = Finding::Failed { reason: format!("dial tcp {address}: connect: connection refused") };
            assert_eq!(ask(&resolver, &address.to_string()).await, expected);
        }
        let Finding::Failed { reason } = ask(&resolver, "no such host:80").await else { panic!() };
        assert!(reason.starts_with("dial tcp: lookup no such host: "), "{reason}");
        let expected = Finding::Failed { reason: "dial tcp: address nowhere: missing port in address".to_owned() };
        assert_eq!(ask(&resolver, "nowhere").await, expected);
    }

    #[tokio::test]
    async fn one_address_of_several_will_do() {
        let listener = std::net::TcpListener::bind("[::1]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let addresses: [IpAddr; 3] = ["127.0.0.1", "::1", "127.0.0.2"].map(|address| address.parse().unwrap());
        let stream = race(addresses.into_iter(), port).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
        // The first address does not answer at all: its queue of connections is full.
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        full.bind(&SocketAddr::new("127.0.0.3".parse().unwrap(), port).into()).unwrap();
        full.listen(0).unwrap();
        let _first = TcpStream::connect(("127.0.0.3", port)).await.unwrap();
        let stream =
            race(["127.0.0.3", "::1"].map(|address| address.parse().unwrap()).into_iter(), port).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
    }
}
