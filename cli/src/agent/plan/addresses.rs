//! Addresses and ports: read, filled in, and refused where nobody could use them.

use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Reads an IP address; an empty text says nothing.
pub(super) fn ip(what: &str, text: Option<&str>) -> Result<Option<IpAddr>, String> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| format!("the {what} must be an IP address, not \"{text}\""))
}

/// A port that must be one; 0 lets the system choose.
pub(super) fn port(what: &str, number: i32) -> Result<u16, String> {
    u16::try_from(number).map_err(|_| format!("ports.{what} must be from 0 to 65535, not {number}"))
}

/// What peers are told. Nobody can reach "all addresses", so one is chosen.
pub(super) fn advertised(advertise: Option<IpAddr>, bind: IpAddr) -> Result<IpAddr, String> {
    let chosen = match advertise {
        Some(address) => address,
        None if !bind.is_unspecified() => bind,
        None => outward(bind).ok_or_else(|| {
            "cannot tell by which address other agents reach this machine: say so with -advertise or -bind".to_owned()
        })?,
    };
    match chosen.is_unspecified() {
        true => Err(format!("{chosen} cannot be advertised: name the address by which other agents reach this one")),
        false => Ok(chosen),
    }
}

/// The address from which this machine speaks to others: what the system would choose as the source of a
/// packet to an address set aside for documentation. Nothing is sent.
fn outward(bind: IpAddr) -> Option<IpAddr> {
    let target = if bind.is_ipv4() { "192.0.2.1:9" } else { "[2001:db8::1]:9" };
    let socket = UdpSocket::bind(SocketAddr::new(bind, 0)).ok()?;
    socket.connect(target).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified())
}

/// Where HTTP is served: several addresses may be given, with blanks between them. None if the port is off.
pub(super) fn http_addresses(addresses: &str, http_port: i32) -> Result<Vec<SocketAddr>, String> {
    if http_port < 0 {
        return Ok(Vec::new());
    }
    let port = port("http", http_port)?;
    let one = |text: &str| match text.parse() {
        Ok(ip) => Ok(SocketAddr::new(ip, port)),
        Err(_) if text.starts_with("unix:") => Err(format!("{text}: this release has no unix sockets for clients")),
        Err(_) => Err(format!("the client address must be an IP address, not \"{text}\"")),
    };
    let found = addresses.split_whitespace().map(one).collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() { Err("the client address is empty".to_owned()) } else { Ok(found) }
}

/// Agents to join: addresses or names, which the agent resolves itself. Clouds are not asked.
pub(super) fn joinable(addresses: &[String]) -> Result<Vec<String>, String> {
    let refused = addresses.iter().find(|address| address.trim().is_empty() || address.contains("provider="));
    match refused {
        Some(address) => {
            Err(format!("\"{address}\" cannot be joined: this release finds agents by IP address or host name"))
        }
        None => Ok(addresses.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_addresses_or_none_serve_http() {
        let http = |addr: &str, port| http_addresses(addr, port).unwrap();
        assert_eq!(http("127.0.0.1 ::1", 80), ["127.0.0.1:80".parse().unwrap(), "[::1]:80".parse().unwrap()]);
        assert_eq!(http("127.0.0.1", -1), []);
    }

    #[test]
    fn clouds_are_not_asked() {
        assert!(joinable(&["provider=aws tag_key=x".into()]).unwrap_err().contains("IP address or host name"));
        assert_eq!(joinable(&["a".into(), "10.0.0.1:9".into()]).unwrap(), ["a", "10.0.0.1:9"]);
    }
}
