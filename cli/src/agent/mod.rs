//! `lictor agent`: where the front end meets the core.

mod acl;
mod args;
mod draft;
pub(crate) mod files;
mod keys;
mod log;
mod pid_file;
mod plan;
mod running;
mod signals;
mod values;
mod words;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

pub(crate) use args::{Args, ignored, with_ignored_options};
use lictor_core::api::agent::Request;
use lictor_core::api::{Call, Response};
use lictor_core::io::Notice;
use log::Log;
use plan::Plan;
use running::Running;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signals::{Caught, Signals};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::version::VERSION;

/// How long an agent that is told to leave may take for it: gossip's two steps, each with its own limit, and the removal of
/// a server from raft.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(15);

/// How an agent came to its end.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// It left the cluster for good.
    Left,
    /// It was told to stop, and is a member still: others will find that it has failed.
    Stopped,
    /// It cannot go on.
    Failed(String),
}

/// Runs an agent until it is told to stop. As with Consul, only an agent that has left ends with status 0.
pub(crate) fn run(args: &Args, ignored: &[&'static str]) -> ExitCode {
    match try_run(args, ignored) {
        Ok(End::Left) => ExitCode::SUCCESS,
        Ok(End::Stopped) => ExitCode::FAILURE,
        Ok(End::Failed(why)) | Err(why) => {
            complain!("==> {why}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(args: &Args, ignored: &[&str]) -> Result<End, String> {
    let mut plan = args.plan()?;
    if !ignored.is_empty() {
        plan.warnings.push(format!("this release does nothing about: -{}", ignored.join(", -")));
    }
    for warning in &plan.warnings {
        say(&format!("==> WARNING: {warning}"));
    }
    // The lines from here to the banner's end are Consul's own: there are programs that wait for them.
    say("==> Starting Consul agent...");
    let log = Log::start(plan.log_level);
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("Error starting agent: {error}"))?;
    runtime.block_on(async {
        let signals = Signals::new().map_err(|error| format!("Error starting agent: {error}"))?;
        let running = Running::start(&plan, &log).map_err(|why| format!("Error starting agent: {why}"))?;
        say("==> Starting Consul agent RPC...");
        let life = Life { args, plan: &plan, log: &log, signals, running };
        Ok(life.live().await)
    })
}

/// An agent from its start to its end.
struct Life<'a> {
    args: &'a Args,
    plan: &'a Plan,
    log: &'a Log,
    signals: Signals,
    running: Running,
}

impl Life<'_> {
    async fn live(mut self) -> End {
        let mut end = self.join().await;
        if end.is_none() {
            say(&banner(self.plan, &self.running));
            info!(
                "agent: DNS, the RPC of older commands and gossip between datacenters are not served by this release"
            );
            end = Some(self.wait_for_end().await);
        }
        let end = end.unwrap_or(End::Stopped);
        if end == End::Left && !self.plan.leaving.drain.is_zero() {
            info!("agent: still answering for {:?}", self.plan.leaving.drain);
            tokio::select! {
                () = tokio::time::sleep(self.plan.leaving.drain) => {}
                _ = self.signals.next_end() => {}
            }
        }
        let Self { mut signals, running, .. } = self;
        tokio::select! {
            () = running.stop() => info!("agent: shutdown complete"),
            _ = signals.next_end() => warn!("agent: stopped at once by a second signal"),
        }
        end
    }

    /// Joins the agents that must be joined before anything else. Gives the end, if it comes to that.
    async fn join(&mut self) -> Option<End> {
        if self.plan.start_join.is_empty() {
            return None;
        }
        say("==> Joining cluster...");
        let request = Request::Join { addresses: self.plan.start_join.clone(), wan: false };
        let handle = self.running.handle();
        let joined = tokio::select! {
            joined = handle.call(Call::new(request)) => joined,
            caught = self.signals.next_end() => {
                say(&format!("==> Caught signal: {}", caught.name()));
                return Some(End::Stopped);
            }
        };
        match joined {
            Ok(Response::Joined(number)) => {
                say(&format!("    Join completed. Synced with {number} initial agents"));
                None
            }
            Ok(_) => None,
            Err(error) => Some(End::Failed(error.to_string())),
        }
    }

    /// Waits until the agent is to end, and reloads whenever it is told to.
    async fn wait_for_end(&mut self) -> End {
        loop {
            let caught = tokio::select! {
                why = self.running.runtime.ended() => return ended(&why),
                Some(asked) = self.running.reloads.recv() => {
                    let done = self.reload().await;
                    // The client may have gone.
                    let _ = asked.send(done);
                    continue;
                }
                caught = self.signals.next() => caught,
            };
            say(&format!("==> Caught signal: {}", caught.name()));
            let leave = match caught {
                Caught::Interrupt => self.plan.leaving.on_interrupt,
                Caught::Terminate => self.plan.leaving.on_terminate,
                Caught::Hangup => {
                    say("==> Reloading configuration...");
                    if let Err(why) = self.reload().await {
                        warn!("agent: the configuration stays as it was: {why}");
                    }
                    continue;
                }
            };
            return if leave { self.leave().await } else { End::Stopped };
        }
    }

    /// Leaves the cluster. A second signal cuts that short.
    async fn leave(&mut self) -> End {
        say("==> Gracefully shutting down agent...");
        let handle = self.running.handle();
        tokio::select! {
            left = timeout(LEAVE_TIMEOUT, handle.call(Call::new(Request::Leave))) => match left {
                Ok(Ok(_)) => End::Left,
                Ok(Err(error)) => End::Failed(format!("Error on leave: {error}")),
                Err(_) => End::Failed(format!("this agent could not leave within {LEAVE_TIMEOUT:?}")),
            },
            _ = self.signals.next_end() => End::Stopped,
        }
    }

    /// Reads the files again. Of what they say only the log level, the services and the checks can change while the agent
    /// runs.
    async fn reload(&self) -> Result<(), String> {
        let plan = self.args.plan()?;
        let definitions = Box::new(plan.local.definitions);
        let redefined = self.running.handle().call(Call::new(Request::Redefine(definitions))).await;
        redefined.map_err(|error| error.to_string())?;
        self.log.set_level(plan.log_level);
        info!("agent: configuration reloaded, the log level is {}", plan.settings.log_level);
        Ok(())
    }
}

/// What the agent's own word means for the process.
fn ended(why: &Notice) -> End {
    match why {
        Notice::Left => End::Left,
        Notice::Pool(news) => End::Failed(news.to_string()),
        _ => End::Stopped,
    }
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

/// The lines by which people and tools see that the agent is up.
fn banner(plan: &Plan, running: &Running) -> String {
    let addresses: Vec<_> = running.http_addresses.iter().map(|address| address.ip().to_string()).collect();
    let http = running.ports.http.map_or(-1, i32::from);
    let plan::ShownPorts { dns, https, rpc, serf_wan } = plan.shown_ports;
    let settings = &plan.settings;
    let rows = [
        ("Version", format!("'v{VERSION}'")),
        ("Node name", format!("'{}'", settings.node_name)),
        ("Datacenter", format!("'{}'", settings.datacenter)),
        ("Server", format!("{} (bootstrap: {})", settings.server, settings.bootstrap)),
        ("Client Addr", format!("{} (HTTP: {http}, HTTPS: {https}, DNS: {dns}, RPC: {rpc})", addresses.join(" "))),
        ("Cluster Addr", format!("{} (LAN: {}, WAN: {serf_wan})", plan.advertise, running.ports.gossip)),
        ("Gossip encrypt", "false, RPC-TLS: false, TLS-Incoming: false".to_owned()),
        ("Atlas", "<disabled>".to_owned()),
    ];
    let rows: String = rows.iter().map(|(name, value)| format!("{name:>18}: {value}\n")).collect();
    format!("==> Consul agent running!\n{rows}\n==> Log data will now stream in as it occurs:\n")
}

/// Prints a line for people. That nobody reads it is no reason to stop.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
