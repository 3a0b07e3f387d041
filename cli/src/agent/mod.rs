//! `lictor agent`: where the front end meets the core.

mod draft;
mod files;
mod keys;
mod log;
mod plan;

use std::fs;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use draft::Draft;
use lictor_core::id::PeerId;
use lictor_runtime::{DataDir, GossipSockets, Options, Runtime, Storage, random_seed};
use plan::Plan;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::version::VERSION;

/// How long requests in progress may take when the agent stops.
const GRACE: Duration = Duration::from_millis(500);

/// Runs an agent
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// The address that other servers are told. [default: the bind address]
    #[arg(long, value_name = "address")]
    advertise: Option<String>,
    /// The address for other servers to connect to. [default: 0.0.0.0]
    #[arg(long, value_name = "address")]
    bind: Option<String>,
    /// Let this server found a cluster of its own. Do not give it to two servers of one cluster.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    bootstrap: Option<bool>,
    /// The number of servers that found the cluster together. 1 is the same as -bootstrap.
    #[arg(long, value_name = "number")]
    bootstrap_expect: Option<u32>,
    /// The address at which clients are served. [default: 127.0.0.1]
    #[arg(long, value_name = "address")]
    client: Option<String>,
    /// A JSON file, or a directory of them, to configure the agent. May be given several times.
    #[arg(long, value_name = "path", visible_alias = "config-dir")]
    config_file: Vec<PathBuf>,
    /// Where the agent keeps what must survive.
    #[arg(long, value_name = "path")]
    data_dir: Option<String>,
    /// The datacenter. [default: dc1]
    #[arg(long, value_name = "name", alias = "dc")]
    datacenter: Option<String>,
    /// Development mode: a server of its own that keeps everything in memory.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    dev: Option<bool>,
    /// The port for HTTP. [default: 8500]
    #[arg(long, value_name = "port")]
    http_port: Option<i32>,
    /// trace, debug, info, warn or err. [default: info]
    #[arg(long, value_name = "level")]
    log_level: Option<String>,
    /// The node name, unique in the cluster. [default: the host's name]
    #[arg(long, value_name = "name")]
    node: Option<String>,
    /// The node ID, a UUID. [default: made up once and kept in the data directory]
    #[arg(long, value_name = "uuid")]
    node_id: Option<String>,
    /// A file to write the process ID to.
    #[arg(long, value_name = "path")]
    pid_file: Option<String>,
    /// Be a server.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    server: Option<bool>,
    /// The port for other servers. [default: 8300]
    #[arg(long, value_name = "port")]
    server_port: Option<i32>,
}

/// Options of Consul's agent that take a value and do nothing in this release.
const IGNORED: &[&str] = &[
    "advertise-wan",
    "alt-domain",
    "atlas",
    "atlas-endpoint",
    "atlas-token",
    "config-format",
    "dns-port",
    "domain",
    "encrypt",
    "grpc-port",
    "https-port",
    "join",
    "join-wan",
    "log-file",
    "node-meta",
    "primary-gateway",
    "protocol",
    "raft-protocol",
    "recursor",
    "retry-interval",
    "retry-interval-wan",
    "retry-join",
    "retry-join-wan",
    "retry-max",
    "retry-max-wan",
    "segment",
    "serf-lan-bind",
    "serf-lan-port",
    "serf-wan-bind",
    "serf-wan-port",
    "ui-content-path",
    "ui-dir",
];
/// The same for switches.
const IGNORED_SWITCHES: &[&str] = &[
    "atlas-join",
    "disable-host-node-id",
    "disable-keyring-file",
    "enable-local-script-checks",
    "enable-script-checks",
    "log-json",
    "non-voting-server",
    "rejoin",
    "syslog",
    "ui",
];

/// The command with the options that are accepted and ignored.
pub(crate) fn with_ignored_options(command: Command) -> Command {
    let option = |name: &&'static str| Arg::new(*name).long(*name).hide(true);
    let valued = IGNORED.iter().map(|name| option(name).num_args(1).action(ArgAction::Append));
    let switches = IGNORED_SWITCHES.iter().map(|name| option(name).action(ArgAction::SetTrue));
    command.args(valued).args(switches)
}

/// Which of them were given.
pub(crate) fn ignored(matches: &ArgMatches) -> Vec<&'static str> {
    let Some(matches) = matches.subcommand_matches("agent") else { return Vec::new() };
    let given = |name: &&&str| matches.value_source(name) == Some(clap::parser::ValueSource::CommandLine);
    IGNORED.iter().chain(IGNORED_SWITCHES).filter(given).copied().collect()
}

impl Args {
    fn draft(&self) -> Draft {
        let args = self;
        Draft {
            advertise_addr: args.advertise.clone(),
            bind_addr: args.bind.clone(),
            bootstrap: args.bootstrap,
            bootstrap_expect: args.bootstrap_expect,
            client_addr: args.client.clone(),
            data_dir: args.data_dir.clone(),
            datacenter: args.datacenter.clone(),
            dev: args.dev,
            http_port: args.http_port,
            log_level: args.log_level.clone(),
            node_id: args.node_id.clone(),
            node_name: args.node.clone(),
            pid_file: args.pid_file.clone(),
            server: args.server,
            server_port: args.server_port,
            ..Draft::default()
        }
    }

    /// The plan by files and flags together. Also what is read anew at a reload.
    fn plan(&self) -> Result<Plan, String> {
        let files = files::read(&self.config_file)?;
        let mut plan = Plan::of(files.draft.overlaid(self.draft()))?;
        plan.warnings.extend(files.warnings);
        Ok(plan)
    }
}

/// Runs an agent until it is told to stop.
pub(crate) fn run(args: &Args, ignored: &[&'static str]) -> ExitCode {
    match try_run(args, ignored) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("==> {why}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(args: &Args, ignored: &[&str]) -> Result<(), String> {
    let mut plan = args.plan()?;
    if !ignored.is_empty() {
        plan.warnings.push(format!("this release does nothing about: -{}", ignored.join(", -")));
    }
    for warning in &plan.warnings {
        say(&format!("==> WARNING: {warning}"));
    }
    say("==> Starting Lictor agent...");
    let log = log::start(plan.log_level);
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("Error starting agent: {error}"))?;
    runtime.block_on(async {
        let mut signals = Signals::new().map_err(|error| format!("Error starting agent: {error}"))?;
        let agent = Agent::start(&plan).map_err(|why| format!("Error starting agent: {why}"))?;
        say(&banner(&plan, &agent));
        signals.wait_for_end(args, &log).await;
        agent.stop(&mut signals).await;
        Ok(())
    })
}

/// A running agent with its front end.
struct Agent {
    runtime: Runtime,
    http: lictor_http::Server,
    http_addresses: Vec<SocketAddr>,
    id: PeerId,
    /// Removed when the agent is gone.
    _pid_file: Option<PidFile>,
}

impl Agent {
    fn start(plan: &Plan) -> Result<Self, String> {
        let (storage, id) = storage(plan)?;
        let listener = TcpListener::bind(plan.bind)
            .map_err(|error| format!("cannot serve other servers on {}: {error}", plan.bind))?;
        let server_port = listener.local_addr().map_err(|error| error.to_string())?.port();
        let listeners = plan.http.iter().map(|address| lictor_http::listen(*address)).collect::<io::Result<Vec<_>>>();
        let listeners = listeners.map_err(|error| error.to_string())?;
        let http_addresses = listeners.iter().map(tokio::net::TcpListener::local_addr).collect::<io::Result<Vec<_>>>();
        let http_addresses = http_addresses.map_err(|error| error.to_string())?;
        let mut config = plan.config(id, server_port, http_addresses.first().map(SocketAddr::port));
        // Beside a port that the system chose, the next one may be taken.
        let gossip_port = if plan.bind.port() == 0 { 0 } else { config.gossip.address.port() };
        let gossip = SocketAddr::new(plan.bind.ip(), gossip_port);
        let gossip = GossipSockets::bind(gossip).map_err(|error| format!("cannot gossip on {gossip}: {error}"))?;
        config.gossip.address.set_port(gossip.address().map_err(|error| error.to_string())?.port());
        let mut limits = lictor_http::Options { value_bytes: config.limits.value_bytes, ..Default::default() };
        if let Some(directory) = &plan.data_dir {
            // What is restored needs its room there anyway, and a system's own directory may be in memory.
            limits.spool.clone_from(directory);
        }
        let pid_file = plan.pid_file.as_deref().map(PidFile::write).transpose()?;

        let options = Options { config, storage, listener: Some(listener), gossip, seed: random_seed() };
        let runtime = Runtime::start(options).map_err(|error| error.to_string())?;
        let handle = runtime.handle();
        let call = move |call| {
            let handle = handle.clone();
            async move { handle.call(call).await }
        };
        let http = lictor_http::Server::start(listeners, &limits, lictor_http::Hooks::default(), call);
        Ok(Self { runtime, http, http_addresses, id, _pid_file: pid_file })
    }

    /// Stops in good order; at once if a second signal comes.
    async fn stop(self, signals: &mut Signals) {
        say("==> Gracefully shutting down agent...");
        let Self { runtime, http, _pid_file, .. } = self;
        let in_order = async {
            // Blocked queries are answered by the core's end; only then can their connections close.
            tokio::join!(http.shutdown(GRACE), runtime.shutdown());
        };
        tokio::select! {
            () = in_order => info!("agent: shutdown complete"),
            _ = signals.next() => warn!("agent: stopped at once by a second signal"),
        }
    }
}

/// Opens the data directory, if there is one, and finds out who this server is.
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

/// Lets the process have as many open files, connections above all, as it may.
fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        warn!("agent: cannot raise the limit of open files: {error}");
    }
}

/// The file that tells others the process ID, for as long as the agent runs.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &Path) -> Result<Self, String> {
        fs::write(path, format!("{}\n", std::process::id()))
            .map_err(|error| format!("cannot write the PID file {}: {error}", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            warn!("agent: cannot remove the PID file {}: {error}", self.0.display());
        }
    }
}

/// The signals that an agent minds.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Caught {
    Interrupt,
    Terminate,
    Hangup,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Caught {
        tokio::select! {
            _ = self.interrupt.recv() => Caught::Interrupt,
            _ = self.terminate.recv() => Caught::Terminate,
            _ = self.hangup.recv() => Caught::Hangup,
        }
    }

    /// Waits until the agent is to end, and reloads whenever it is told to.
    async fn wait_for_end(&mut self, args: &Args, log: &log::Changer) {
        loop {
            match self.next().await {
                Caught::Interrupt => return say("==> Caught signal: interrupt"),
                Caught::Terminate => return say("==> Caught signal: terminated"),
                Caught::Hangup => {
                    say("==> Caught signal: hangup");
                    say("==> Reloading configuration...");
                    reload(args, log);
                }
            }
        }
    }
}

/// Reads the files again. Of what they say only the log level can change while the agent runs.
fn reload(args: &Args, log: &log::Changer) {
    match args.plan() {
        Ok(plan) => {
            log.set(plan.log_level);
            info!("agent: configuration reloaded, the log level is {}", plan.settings.log_level);
        }
        Err(why) => warn!("agent: the configuration stays as it was: {why}"),
    }
}

/// The lines by which people and tools see that the agent is up.
fn banner(plan: &Plan, agent: &Agent) -> String {
    let addresses: Vec<_> = agent.http_addresses.iter().map(|address| address.ip().to_string()).collect();
    let port = agent.http_addresses.first().map_or(-1, |address| i32::from(address.port()));
    let data =
        plan.data_dir.as_ref().map_or_else(|| "none (development mode)".to_owned(), |dir| dir.display().to_string());
    let settings = &plan.settings;
    let rows = [
        ("Version", format!("'v{VERSION}'")),
        ("Node ID", format!("'{}'", agent.id.0)),
        ("Node name", format!("'{}'", settings.node_name)),
        ("Datacenter", format!("'{}'", settings.datacenter)),
        ("Server", format!("true (bootstrap: {})", settings.bootstrap)),
        ("Client Addr", format!("{} (HTTP: {port}, HTTPS: -1, DNS: -1)", addresses.join(" "))),
        ("Cluster Addr", format!("{} (Server: {})", plan.advertise, agent.runtime.address().port())),
        ("Data", data),
    ];
    let rows: String = rows.iter().map(|(name, value)| format!("{name:>18}: {value}\n")).collect();
    format!("==> Lictor agent running!\n{rows}\n==> Log data will now stream in as it occurs:\n")
}

/// Prints a line for people. That nobody reads it is no reason to stop.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
