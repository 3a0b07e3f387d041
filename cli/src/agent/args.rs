//! The options of `lictor agent`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::draft::Draft;
use super::files;
use super::plan::Plan;
use crate::{flags, help};

/// Runs an agent
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Runs an agent until it is told to stop: a server, or a client that passes what it is asked on to \
                  the servers.\n\n    $ lictor agent -dev\n    $ lictor agent -server -bootstrap-expect=3 \
                  -data-dir=/var/lib/lictor -retry-join=10.0.0.1\n    $ lictor agent -data-dir=/var/lib/lictor \
                  -join=10.0.0.1"
)]
pub(crate) struct Args {
    /// The address that other agents are told. [default: the bind address]
    #[arg(long, value_name = "address")]
    advertise: Option<String>,
    /// The address that other datacenters are told. [default: the advertised address]
    #[arg(long, value_name = "address")]
    advertise_wan: Option<String>,
    /// The address for other agents to connect to. [default: 0.0.0.0]
    #[arg(long, value_name = "address")]
    bind: Option<String>,
    /// Let this server found a cluster of its own. Do not give it to two servers of one cluster.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    bootstrap: Option<bool>,
    /// The number of servers that found the cluster together, once they have found each other. 1 is the same as
    /// -bootstrap.
    #[arg(long, value_name = "number", value_parser = flags::number::<u32>)]
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
    #[arg(long, value_name = "name")]
    datacenter: Option<String>,
    /// The same, as it was called once.
    #[arg(long, value_name = "name", default_value = "")]
    dc: String,
    /// Development mode: a server of its own that keeps everything in memory.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    dev: Option<bool>,
    /// Let checks run commands. [default: true]
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    enable_script_checks: Option<bool>,
    /// A key for gossip in base64. It is checked, but this release does not encrypt.
    #[arg(long, value_name = "key")]
    encrypt: Option<String>,
    /// The port for HTTP. [default: 8500]
    #[arg(long, value_name = "port", value_parser = flags::number::<i32>)]
    http_port: Option<i32>,
    /// An agent of the cluster to join at the start. The agent ends if none of those that are named answers. May be
    /// given several times.
    #[arg(long, value_name = "address")]
    join: Vec<String>,
    /// trace, debug, info, warn or err. [default: info]
    #[arg(long, value_name = "level")]
    log_level: Option<String>,
    /// The node name, unique in the cluster. [default: the host's name]
    #[arg(long, value_name = "name")]
    node: Option<String>,
    /// The node ID, a UUID. [default: made up once and kept in the data directory]
    #[arg(long, value_name = "uuid")]
    node_id: Option<String>,
    /// Something to say of the node in the catalog, key:value. May be given several times.
    #[arg(long, value_name = "key:value")]
    node_meta: Vec<String>,
    /// A file to write the process ID to.
    #[arg(long, value_name = "path")]
    pid_file: Option<String>,
    /// The protocol version: 2 or 3, which are the same here. [default: 2]
    #[arg(long, value_name = "number", value_parser = flags::number::<i64>)]
    protocol: Option<i64>,
    /// Join the cluster again at a restart, although the agent had left it.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    rejoin: Option<bool>,
    /// The time between two tries to join. [default: 30s]
    #[arg(long, value_name = "duration", value_parser = duration)]
    retry_interval: Option<Duration>,
    /// As -join, but tried until one answers. May be given several times.
    #[arg(long, value_name = "address")]
    retry_join: Vec<String>,
    /// How many tries there are before the agent gives up and ends. [default: 0, for any number]
    #[arg(long, value_name = "number", value_parser = flags::number::<u32>)]
    retry_max: Option<u32>,
    /// The address for the gossip of other agents. [default: the bind address]
    #[arg(long, value_name = "address")]
    serf_lan_bind: Option<String>,
    /// The port for the gossip of other agents. [default: 8301]
    #[arg(long, value_name = "port", value_parser = flags::number::<i32>)]
    serf_lan_port: Option<i32>,
    /// The port for gossip between datacenters, which comes with a later release. [default: 8302]
    #[arg(long, value_name = "port", value_parser = flags::number::<i32>)]
    serf_wan_port: Option<i32>,
    /// Be a server.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    server: Option<bool>,
    /// The port for other servers. [default: 8300]
    #[arg(long, value_name = "port", value_parser = flags::number::<i32>)]
    server_port: Option<i32>,
}

/// Options of Consul's agent that take a value and do nothing in this release.
const IGNORED: &[&str] = &[
    "alt-domain",
    "atlas",
    "atlas-endpoint",
    "atlas-token",
    "config-format",
    "dns-port",
    "domain",
    "grpc-port",
    "https-port",
    "join-wan",
    "log-file",
    "primary-gateway",
    "raft-protocol",
    "recursor",
    "retry-interval-wan",
    "retry-join-ec2-region",
    "retry-join-ec2-tag-key",
    "retry-join-ec2-tag-value",
    "retry-join-wan",
    "retry-max-wan",
    "segment",
    "serf-wan-bind",
    "ui-content-path",
    "ui-dir",
];
/// The same for switches.
const IGNORED_SWITCHES: &[&str] = &[
    "atlas-join",
    "disable-host-node-id",
    "disable-keyring-file",
    "enable-local-script-checks",
    "log-json",
    "non-voting-server",
    "syslog",
    "ui",
];

/// The command with the options that are accepted and ignored.
pub(crate) fn with_ignored_options(command: Command) -> Command {
    let option = |name: &&'static str| Arg::new(*name).long(*name).hide(true);
    let valued = IGNORED.iter().map(|name| option(name).num_args(1).action(ArgAction::Append));
    let switches = IGNORED_SWITCHES.iter().map(|name| option(name).action(ArgAction::SetTrue));
    let mut names: Vec<_> = IGNORED.iter().chain(IGNORED_SWITCHES).copied().collect();
    names.sort_unstable();
    let listed: String = names.iter().map(|name| format!("  {}\n", help::dashed("agent", name))).collect();
    let command = command.args(valued).args(switches);
    command.after_help(format!("Accepted, and without effect in this release:\n\n{listed}"))
}

/// Which of them were given.
pub(crate) fn ignored(matches: &ArgMatches) -> Vec<&'static str> {
    let Some(matches) = matches.subcommand_matches("agent") else { return Vec::new() };
    let given = |name: &&&str| matches.value_source(name) == Some(clap::parser::ValueSource::CommandLine);
    IGNORED.iter().chain(IGNORED_SWITCHES).filter(given).copied().collect()
}

impl Args {
    fn draft(&self) -> Result<Draft, String> {
        let args = self;
        Ok(Draft {
            advertise_addr: args.advertise.clone(),
            advertise_addr_wan: args.advertise_wan.clone(),
            bind_addr: args.bind.clone(),
            bootstrap: args.bootstrap,
            bootstrap_expect: args.bootstrap_expect,
            client_addr: args.client.clone(),
            data_dir: args.data_dir.clone(),
            datacenter: if args.dc.is_empty() { args.datacenter.clone() } else { Some(args.dc.clone()) },
            dev: args.dev,
            enable_script_checks: args.enable_script_checks,
            encrypt: args.encrypt.clone(),
            http_port: args.http_port,
            log_level: args.log_level.clone(),
            node_id: args.node_id.clone(),
            node_meta: node_meta(&args.node_meta)?,
            node_name: args.node.clone(),
            pid_file: args.pid_file.clone(),
            protocol: args.protocol,
            rejoin_after_leave: args.rejoin,
            retry_interval: args.retry_interval,
            retry_join: args.retry_join.clone(),
            retry_max: args.retry_max,
            serf_lan_bind: args.serf_lan_bind.clone(),
            serf_lan_port: args.serf_lan_port,
            serf_wan_port: args.serf_wan_port,
            server: args.server,
            server_port: args.server_port,
            start_join: args.join.clone(),
            ..Draft::default()
        })
    }

    /// The plan by files and flags together. Also what is read anew at a reload.
    pub(super) fn plan(&self) -> Result<Plan, String> {
        let files = files::read(&self.config_file)?;
        let mut plan = Plan::of(files.draft.overlaid(self.draft()?))?;
        if !self.dc.is_empty() {
            let warning = "the 'dc' flag has been deprecated. Use 'datacenter' instead";
            plan.warnings.insert(0, warning.to_owned());
        }
        plan.warnings.extend(files.warnings);
        if self.encrypt.is_some() {
            plan.warnings.push("-encrypt has no effect: this release does not encrypt gossip".to_owned());
        }
        Ok(plan)
    }
}

/// A duration as Go writes it.
fn duration(text: &str) -> Result<Duration, String> {
    let read = lictor_core::duration::parse_positive(text).map(Option::unwrap_or_default);
    read.ok_or_else(|| "a duration such as 30s or 1m30s is needed".to_owned())
}

fn node_meta(pairs: &[String]) -> Result<BTreeMap<String, String>, String> {
    let split = |pair: &String| {
        let (key, value) = pair.split_once(':').unwrap_or((pair, ""));
        match key.is_empty() {
            true => Err(format!("-node-meta needs key:value, not \"{pair}\"")),
            false => Ok((key.to_owned(), value.to_owned())),
        }
    };
    pairs.iter().map(split).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::FromArgMatches as _;

    use super::*;

    fn draft(line: &[&str]) -> Result<Draft, String> {
        let line = std::iter::once(&"agent").chain(line).map(OsString::from).collect();
        let asked = flags::read(&crate::definition(), line)?;
        let matches = crate::definition().try_get_matches_from(asked.args).map_err(|error| error.to_string())?;
        Args::from_arg_matches(matches.subcommand_matches("agent").unwrap()).unwrap().draft()
    }

    #[test]
    fn options_of_the_pool_are_understood() {
        let draft = draft(&[
            "-join=10.0.0.1",
            "-join",
            "10.0.0.2:9",
            "-retry-join=a",
            "-retry-join=b",
            "-retry-interval=1m30s",
            "-retry-max=2",
            "-rejoin",
            "-node-meta=rack:7:8",
            "-node-meta",
            "zone:z",
            "-serf-lan-port=1",
            "-bootstrap-expect=0x3",
            "-dc=east",
        ]);
        let expected = Draft {
            start_join: vec!["10.0.0.1".into(), "10.0.0.2:9".into()],
            retry_join: vec!["a".into(), "b".into()],
            retry_interval: Some(Duration::from_secs(90)),
            retry_max: Some(2),
            rejoin_after_leave: Some(true),
            node_meta: [("rack", "7:8"), ("zone", "z")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            serf_lan_port: Some(1),
            bootstrap_expect: Some(3),
            datacenter: Some("east".into()),
            ..Draft::default()
        };
        assert_eq!(draft, Ok(expected));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        assert!(draft(&["-retry-interval=soon"]).unwrap_err().contains("a duration such as 30s"));
        assert!(draft(&["-node-meta=:x"]).unwrap_err().contains("-node-meta needs key:value"));
    }
}
