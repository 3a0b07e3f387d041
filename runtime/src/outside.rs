//! The world outside, as the agent's thread reaches it: nothing here ever makes it wait.

use std::io;
use std::net::UdpSocket;

use lictor_core::io::Input;

use crate::errands::Errands;
use crate::probe::Probes;
use crate::process::children::Children;
use crate::resolve::Resolver;
use crate::tcp::{CONNECTIONS, Peers, Streams};
use crate::udp::Datagrams;

/// What the agent's thread sends by, and has others do things by. Dropping it ends what was begun.
pub(crate) struct Outside {
    pub(crate) peers: Peers,
    pub(crate) datagrams: Datagrams,
    pub(crate) streams: Streams,
    pub(crate) probes: Probes,
    pub(crate) children: Children,
    resolver: Resolver,
    errands: Errands,
}

impl Outside {
    /// Takes up a socket for datagrams that is bound already.
    pub(crate) fn start(udp: UdpSocket, errands: Errands) -> io::Result<Self> {
        Ok(Self {
            peers: Peers::new(errands.runtime().clone(), CONNECTIONS),
            datagrams: Datagrams::start(udp, &errands)?,
            streams: Streams::new(errands.clone()),
            probes: Probes::new(errands.clone()),
            children: Children::new(errands.clone()),
            resolver: Resolver::new(),
            errands,
        })
    }

    /// Looks for the addresses of a host, and tells the agent.
    pub(crate) fn resolve(&self, name: String) {
        let (resolver, errands) = (self.resolver.clone(), self.errands.clone());
        self.errands.spawn(async move {
            let addresses = resolver.addresses(&name).await.unwrap_or_else(|error| {
                tracing::warn!("cannot find the address of {name}: {error}");
                Vec::new()
            });
            errands.tell(Input::Resolved { name, addresses });
        });
    }
}
