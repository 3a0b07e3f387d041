//! A running agent: its threads and sockets put together, and taken apart again.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, JoinHandle};

use lictor_core::agent::Agent;
use lictor_core::config::Config;
use lictor_core::io::Notice;
use lictor_core::recovery::Recovered;

use crate::clock::{self, Clock};
use crate::disk::{DiskLink, DiskThreads, Quota};
use crate::driver::{Driver, stop};
use crate::errands::{Errands, ErrandsEnd};
use crate::error::StartError;
use crate::event::Event;
use crate::fatal;
use crate::gossip::GossipSockets;
use crate::guard::Guard;
use crate::handle::{Handle, Shared};
use crate::outside::Outside;
use crate::restore::{DataDir, random_bytes};
use crate::tcp::{CONNECTIONS, Listening};

/// What an agent is started with.
#[derive(Debug)]
pub struct Options {
    /// What the core is told. With a data directory, the ID must be the directory's.
    pub config: Config,
    /// Where the log is kept.
    pub storage: Storage,
    /// Where peers connect to a server, bound already, so that its port may have been chosen by the system. An agent
    /// that is no server has none: what is for it comes to its gossip's port.
    pub listener: Option<TcpListener>,
    /// Where the members of its pool reach it, bound already.
    pub gossip: GossipSockets,
    /// From which everything random in the core follows; see [`random_seed`].
    pub seed: u64,
    /// What ends the agent's commands (of checks, and those that others have run here) should it be killed without a chance to do so
    /// itself. Without, they run on to their own end then.
    pub guard: Option<Guard>,
}

/// Where an agent keeps its log.
#[derive(Debug)]
pub enum Storage {
    /// Nowhere: all is lost when it stops. Only for development.
    Memory,
    /// In a data directory, up to a ceiling.
    Directory(DataDir, Quota),
}

impl From<DataDir> for Storage {
    fn from(directory: DataDir) -> Self {
        Self::Directory(directory, Quota::default())
    }
}

/// A seed that nobody can guess.
#[must_use]
pub fn random_seed() -> u64 {
    u64::from_le_bytes(random_bytes())
}

/// A running agent. Dropping it ends it as [`abort`](Self::abort) does, without waiting for the end.
#[derive(Debug)]
pub struct Runtime {
    handle: Handle,
    shared: Arc<Shared>,
    events: Sender<Event>,
    address: SocketAddr,
    gossip_address: SocketAddr,
    parts: Option<Parts>,
}

/// What must be waited for when the agent stops.
struct Parts {
    agent: JoinHandle<()>,
    disk: Option<DiskThreads>,
    errands: ErrandsEnd,
    listening: Vec<Listening>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

impl Runtime {
    /// Starts an agent. It reads the whole log first. Must be called within a tokio runtime, which serves
    /// the sockets.
    ///
    /// # Errors
    /// If the log cannot be read or trusted, or the system refuses a thread or a socket.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let Options { mut config, storage, listener, gossip, seed, guard } = options;
        let gossip_address = gossip.address().map_err(StartError::Gossip)?;
        let address = match &listener {
            Some(listener) => listener.local_addr().map_err(StartError::Listen)?,
            None => gossip_address,
        };
        let (events, inbox) = channel();

        let (recovered, link, disk) = match storage {
            Storage::Memory => (Recovered::default(), DiskLink::Memory(Vec::new()), None),
            Storage::Directory(directory, quota) => {
                if directory.node_id() != config.id {
                    let (path, found) = (directory.path().to_owned(), directory.node_id());
                    return Err(StartError::OtherNodeId { path, found, wanted: config.id });
                }
                let (recovered, files) = directory.restore(quota, config.server)?;
                let (link, disk) = DiskThreads::start(files, events.clone()).map_err(StartError::Thread)?;
                (recovered, link, Some(disk))
            }
        };

        let clock = Clock::start();
        config.local.time_of_day = clock::time_of_day();
        let agent = Agent::new(config, seed, recovered, clock.now());
        let shared = Arc::new(Shared::new(clock, Arc::clone(agent.view())));
        let (errands, errands_end) = Errands::new(tokio::runtime::Handle::current(), events.clone());
        let errands = errands.guarded(guard);
        let outside = Outside::start(gossip.udp, errands).map_err(StartError::Gossip)?;
        let driver = Driver::new(agent, inbox, shared.clone(), link, outside);
        let listen = |listener| Listening::start(listener, events.clone(), CONNECTIONS);
        let mut listening = vec![listen(gossip.tcp).map_err(StartError::Gossip)?];
        if let Some(listener) = listener {
            listening.push(listen(listener).map_err(StartError::Listen)?);
        }
        let agent = Builder::new()
            .name("lictor-agent".to_owned())
            .spawn(move || {
                let _guard = fatal::EndWithMe("the agent's thread");
                driver.run();
            })
            .map_err(StartError::Thread)?;

        let handle = Handle::new(shared.clone(), events.clone());
        let parts = Some(Parts { agent, disk, errands: errands_end, listening });
        Ok(Self { handle, shared, events, address, gossip_address, parts })
    }

    /// A way to call the agent.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Where peers connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the members of its pool reach it.
    #[must_use]
    pub fn gossip_address(&self) -> SocketAddr {
        self.gossip_address
    }

    /// Waits until the agent's life is over by the agent's own word, which is the answer: it has left its pool, say. It is
    /// to be stopped then; until it is, it goes on, and answers those who call it.
    pub fn ended(&self) -> impl Future<Output = Notice> + Send + use<> {
        let mut ended = self.shared.ended.subscribe();
        async move {
            let notice = ended.wait_for(Option::is_some).await.ok().and_then(|notice| notice.clone());
            match notice {
                Some(notice) => notice,
                // It was stopped by its owner.
                None => std::future::pending().await,
            }
        }
    }

    /// Stops in good order: takes no more calls, waits for the writes that the disk already has and for what
    /// they bring about, answers the other open calls with
    /// [`Error::ShuttingDown`](lictor_core::api::Error::ShuttingDown), closes the sockets and lets go of the
    /// data directory.
    pub async fn shutdown(self) {
        self.end(Event::Shutdown).await;
    }

    /// Stops as if the process had been killed, save that the data directory is free afterwards: writes
    /// that the disk has not begun are not made, and nobody is told.
    pub async fn abort(self) {
        if let Some(disk) = self.parts.as_ref().and_then(|parts| parts.disk.as_ref()) {
            disk.abort();
        }
        self.end(Event::Abort).await;
    }

    async fn end(mut self, how: Event) {
        let Some(Parts { agent, disk, errands, listening }) = self.parts.take() else { return };
        stop(&self.shared, &self.events, how);
        let joined = tokio::task::spawn_blocking(move || {
            // The agent's thread holds the line to the disk's, which ends when that is cut.
            let _ = agent.join();
            if let Some(disk) = disk {
                disk.join();
            }
        });
        // Should a thread have panicked, the process is over already.
        let _ = joined.await;
        errands.end().await;
        for listening in listening {
            listening.stop().await;
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(parts) = self.parts.take() {
            if let Some(disk) = &parts.disk {
                disk.abort();
            }
            stop(&self.shared, &self.events, Event::Abort);
        }
    }
}
