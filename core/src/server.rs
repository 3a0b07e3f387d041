//! A server of our datacenter, as what it says of itself in the gossip pool tells.

use std::net::SocketAddr;

use uuid::Uuid;

use crate::gossip::{Member, Name, Status};
use crate::id::PeerId;

/// The tag that tells what an agent is.
pub const ROLE: &str = "role";
/// What it holds for a server.
pub const ROLE_OF_SERVERS: &str = "consul";

/// A server, as gossip knows it. See [`Config::identity`](crate::config::Config::identity) for who writes the tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its node name.
    pub name: Name,
    /// Its stable ID.
    pub id: PeerId,
    /// Where peers reach it.
    pub address: SocketAddr,
    /// Whether it is there.
    pub status: Status,
    /// How many servers it waits for before a cluster is founded; 0 if it does not.
    pub expect: u32,
    /// Whether it may found a cluster all alone.
    pub bootstrap: bool,
}

impl Server {
    /// What a member's tags tell; `None` if it is no server of this datacenter, or says nothing that makes sense.
    #[must_use]
    pub fn of(member: &Member, datacenter: &str) -> Option<Self> {
        let tag = |name: &str| member.tags.get(name).map(String::as_str);
        if tag(ROLE) != Some(ROLE_OF_SERVERS) || tag("dc") != Some(datacenter) {
            return None;
        }
        let port = tag("port")?.parse().ok()?;
        Some(Self {
            name: member.name.clone(),
            id: PeerId(Uuid::try_parse(tag("id")?).ok()?),
            address: SocketAddr::new(member.address.ip(), port),
            status: member.status(),
            expect: tag("expect").and_then(|expect| expect.parse().ok()).unwrap_or(0),
            bootstrap: tag("bootstrap").is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Config;
    use crate::gossip::{Profile, State};
    use crate::id::Incarnation;
    use crate::time::Instant;

    fn member(config: &Config) -> Member {
        let identity = config.identity();
        let profile = Profile { address: identity.address, tags: Arc::new(identity.tags) };
        Member::new(Name::from(identity.name.as_str()), profile, Incarnation(1), State::Alive, Instant::ZERO)
    }

    #[test]
    fn a_server_is_known_by_what_its_configuration_says() {
        let mut config = Config::new(PeerId::numbered(3), "n3", "10.0.0.3:8300".parse().unwrap());
        config.gossip.bootstrap_expect = 5;
        let server = Server::of(&member(&config), "dc1").unwrap();
        assert_eq!((server.id, server.address), (config.id, config.address));
        assert_eq!((server.status, server.expect, server.bootstrap), (Status::Alive, 5, false));
        assert_eq!(Server::of(&member(&config), "dc2"), None, "of another datacenter");
        config.settings.bootstrap = true;
        assert!(Server::of(&member(&config), "dc1").unwrap().bootstrap);
        config.server = false;
        assert_eq!(Server::of(&member(&config), "dc1"), None, "a client");
    }

    #[test]
    fn tags_without_sense_make_no_server() {
        let config = Config::new(PeerId::numbered(3), "n3", "10.0.0.3:8300".parse().unwrap());
        for (tag, value) in [("id", "n3"), ("id", ""), ("port", "-1"), ("port", "70000"), ("port", ""), ("role", "x")] {
            let mut member = member(&config);
            Arc::make_mut(&mut member.tags).insert(tag.to_owned(), value.to_owned());
            assert_eq!(Server::of(&member, "dc1"), None, "{tag}={value}");
        }
    }
}
