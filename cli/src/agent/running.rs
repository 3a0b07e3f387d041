//! A running agent with its front end: its sockets opened, its parts put together, and taken apart again.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use lictor_core::id::PeerId;
use lictor_http::Hooks;
use lictor_runtime::guard::Guard;
use lictor_runtime::{DataDir, GossipSockets, Handle, Options, Runtime, Storage, random_seed};
use tokio::sync::{mpsc, oneshot};

use super::log::{Level, Log};
use super::pid_file::PidFile;
use super::plan::{Plan, Ports};

/// How long requests in progress may take when the agent stops.
const GRACE: Duration = Duration::from_millis(500);
/// How many clients may have asked for a reload that has not begun.
const RELOADS: usize = 16;

/// A client wants the configuration to be read again, and to hear what came of it.
pub(super) type ReloadAsked = oneshot::Sender<Result<(), String>>;

/// A running agent with its front end.
pub(super) struct Running {
    pub(super) runtime: Runtime,
    http: lictor_http::Server,
    pub(super) http_addresses: Vec<SocketAddr>,
    pub(super) ports: Ports,
    pub(super) reloads: mpsc::Receiver<ReloadAsked>,
    /// Removed when the agent is gone.
    _pid_file: Option<PidFile>,
}

impl Running {
    pub(super) fn start(plan: &Plan, log: &Log) -> Result<Self, String> {
        if let Some(why) = &plan.unfit {
            return Err(why.clone());
        }
        let (storage, id) = storage(plan)?;
        let listener = plan.bind.map(listen_to_servers).transpose()?;
        let gossip = GossipSockets::bind(plan.gossip_bind)
            .map_err(|error| format!("cannot gossip with other agents on {}: {error}", plan.gossip_bind))?;
        let listeners = plan.http.iter().map(|address| lictor_http::listen(*address)).collect::<io::Result<Vec<_>>>();
        let listeners = listeners.map_err(|error| error.to_string())?;
        let http_addresses = listeners.iter().map(tokio::net::TcpListener::local_addr).collect::<io::Result<Vec<_>>>();
        let http_addresses = http_addresses.map_err(|error| error.to_string())?;
        let port = |address: io::Result<SocketAddr>| address.map(|at| at.port()).map_err(|error| error.to_string());
        let ports = Ports {
            server: listener.as_ref().map(|listener| port(listener.local_addr())).transpose()?,
            gossip: port(gossip.address())?,
            http: http_addresses.first().map(SocketAddr::port),
        };
        let config = plan.config(id, ports);
        config.check().map_err(|error| error.to_string())?;
        lictor_core::local::check_definitions(&config.local.definitions, &config.local)
            .map_err(|error| error.to_string())?;
        let mut limits = lictor_http::Options {
            value_bytes: config.limits.value_bytes,
            datacenter: config.datacenter.clone(),
            acl_datacenter: config.acl.datacenter.clone(),
            remote_exec: config.exec.enabled,
            ..Default::default()
        };
        if let Some(directory) = &plan.data_dir {
            // What is restored needs its room there anyway, and a system's own directory may be in memory.
            limits.spool.clone_from(directory);
        }
        let pid_file = plan.pid_file.as_deref().map(PidFile::write).transpose()?;

        let guard = Guard::of_this_program().map_err(|error| format!("cannot find this very program: {error}"))?;
        let options = Options { config, storage, listener, gossip, seed: random_seed(), guard: Some(guard) };
        let runtime = Runtime::start(options).map_err(|error| error.to_string())?;
        let handle = runtime.handle();
        let call = move |call| {
            let handle = handle.clone();
            async move { handle.call(call).await }
        };
        let (asked, reloads) = mpsc::channel(RELOADS);
        let http = lictor_http::Server::start(listeners, &limits, hooks(log, asked), call);
        Ok(Self { runtime, http, http_addresses, ports, reloads, _pid_file: pid_file })
    }

    /// A way to ask the agent.
    pub(super) fn handle(&self) -> Handle {
        self.runtime.handle()
    }

    /// Stops in good order. Dropped before its end, it stops at once.
    pub(super) async fn stop(self) {
        let Self { runtime, http, _pid_file, .. } = self;
        // Blocked queries are answered by the core's end; only then can their connections close.
        tokio::join!(http.shutdown(GRACE), runtime.shutdown());
    }
}

fn listen_to_servers(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| format!("cannot serve other servers on {address}: {error}"))
}

/// Opens the data directory, if there is one, and finds out who this agent is.
fn storage(plan: &Plan) -> Result<(Storage, PeerId), String> {
    let Some(path) = &plan.data_dir else {
        let random = u128::from(random_seed()) << 64 | u128::from(random_seed());
        let made_up = PeerId(uuid::Builder::from_random_bytes(random.to_le_bytes()).into_uuid());
        return Ok((Storage::Memory, plan.node_id.unwrap_or(made_up)));
    };
    let directory = match plan.node_id {
        Some(id) => DataDir::open_as(path, id),
        None => DataDir::open(path),
    };
    let directory = directory.map_err(|error| error.to_string())?;
    let id = directory.node_id();
    Ok((directory.into(), id))
}

/// What clients may ask of the process by HTTP.
fn hooks(log: &Log, asked: mpsc::Sender<ReloadAsked>) -> Hooks {
    let log = log.clone();
    let reload = move || {
        let asked = asked.clone();
        async move {
            let busy = || Err("too many reloads are under way, or the agent is shutting down".to_owned());
            let (answer, done) = oneshot::channel();
            if asked.try_send(answer).is_err() {
                return busy();
            }
            done.await.unwrap_or_else(|_| busy())
        }
    };
    Hooks::default().on_reload(reload).on_monitor(move |level| lines(&log, level))
}

/// The log from now on, for one listener; or why there is none for it.
fn lines(log: &Log, level: tracing::Level) -> impl Stream<Item = Bytes> + Send + use<> {
    let listening = log.listen(Level::of(level));
    let refusal = listening.is_none().then_some(Bytes::from_static(b"too many listen to this agent's log already\n"));
    let lines = stream::unfold(listening, |listening| async {
        let mut listening = listening?;
        let line = listening.next().await?;
        Some((Bytes::from(line), Some(listening)))
    });
    stream::iter(refusal).chain(lines)
}
