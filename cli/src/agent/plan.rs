//! From what was said to what is done: defaults, checks, addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use lictor_core::api::agent::Settings;
use lictor_core::config::Config;
use lictor_core::id::PeerId;
use lictor_core::raft::{self, Configuration};
use uuid::Uuid;

use super::draft::Draft;
use super::log::Level;
use crate::version::{REVISION, VERSION};

const HTTP_PORT: i32 = 8500;
const SERVER_PORT: i32 = 8300;

/// All that is needed to start an agent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) bind: SocketAddr,
    pub(crate) advertise: IpAddr,
    /// Whether this server founds a cluster of its own if it has no log.
    pub(crate) founds: bool,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) log_level: Level,
    pub(crate) node_id: Option<PeerId>,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) raft_multiplier: u32,
    pub(crate) settings: Settings,
    /// Sentences that the operator should read.
    pub(crate) warnings: Vec<String>,
}

impl Plan {
    /// Fills in the defaults and checks what was said. An error is a text for the user.
    pub(crate) fn of(draft: Draft) -> Result<Self, String> {
        let mut warnings = Vec::new();
        let dev = draft.dev.unwrap_or(false);
        let datacenter = datacenter(draft.datacenter.as_deref())?;
        let role = Role::of(&draft, dev, &mut warnings)?;
        let log_level = draft.log_level.clone().unwrap_or_else(|| "INFO".to_owned());
        let raft_multiplier = draft.raft_multiplier.unwrap_or(if dev { 1 } else { 5 });
        if !(1..=10).contains(&raft_multiplier) {
            return Err(format!("performance.raft_multiplier must be from 1 to 10, not {raft_multiplier}"));
        }
        let any = if dev { IpAddr::from(Ipv4Addr::LOCALHOST) } else { Ipv4Addr::UNSPECIFIED.into() };
        let bind_ip = ip("bind address", draft.bind_addr.as_deref())?.unwrap_or(any);
        let bind = SocketAddr::new(bind_ip, port("server", draft.server_port.unwrap_or(SERVER_PORT))?);
        let advertise = advertised(ip("advertise address", draft.advertise_addr.as_deref())?, bind_ip)?;
        let client_addr = draft.client_addr.as_deref().unwrap_or("127.0.0.1");
        let http_port = draft.http_port.unwrap_or(HTTP_PORT);
        let http = http_addresses(draft.http_addr.as_deref().unwrap_or(client_addr), http_port)?;
        let node_id = draft.node_id.as_deref().map(node_id).transpose()?;
        let node_name = draft.node_name.filter(|name| !name.is_empty()).unwrap_or_else(host_name);
        let (mut data_dir, pid_file) = (draft.data_dir.unwrap_or_default(), draft.pid_file.unwrap_or_default());
        if dev && !data_dir.is_empty() {
            warnings.push(format!("-dev keeps everything in memory: the data directory {data_dir} is not used"));
            data_dir.clear();
        }
        let settings = Settings {
            bootstrap: role.bootstrap,
            bootstrap_expect: draft.bootstrap_expect.unwrap_or(0),
            server: true,
            dev_mode: dev,
            datacenter,
            node_name,
            data_dir: data_dir.clone(),
            domain: "consul.".to_owned(),
            log_level: log_level.clone(),
            client_addr: client_addr.to_owned(),
            bind_addr: bind_ip.to_string(),
            advertise_addr: advertise.to_string(),
            leave_on_term: draft.leave_on_terminate.unwrap_or(false),
            skip_leave_on_int: draft.skip_leave_on_interrupt.unwrap_or(true),
            raft_multiplier,
            pid_file: pid_file.clone(),
            version: VERSION.to_owned(),
            revision: REVISION.to_owned(),
            // The ID and the ports are known once the directory and the sockets are open.
            ..Settings::default()
        };
        Ok(Self {
            bind,
            advertise,
            founds: role.founds,
            data_dir: (!dev).then(|| PathBuf::from(data_dir)),
            http,
            log_level: Level::parse(&log_level)?,
            node_id,
            pid_file: (!pid_file.is_empty()).then(|| pid_file.into()),
            raft_multiplier,
            settings,
            warnings,
        })
    }

    /// What the core is told, now that ID and sockets are there. `http` is the port, if there is one.
    pub(crate) fn config(&self, id: PeerId, server_port: u16, http: Option<u16>) -> Config {
        let address = SocketAddr::new(self.advertise, server_port);
        let off = ["DNS", "HTTPS", "RPC", "SerfLan", "SerfWan"].map(|name| (name.to_owned(), -1));
        let mut settings = Settings { node_id: id.0.to_string(), ports: off.into(), ..self.settings.clone() };
        settings.ports.insert("HTTP".to_owned(), http.map_or(-1, i32::from));
        settings.ports.insert("Server".to_owned(), server_port.into());
        Config {
            datacenter: settings.datacenter.clone(),
            bootstrap: self.founds.then(|| Configuration::new([(id, address)])),
            raft: raft::Options::with_multiplier(self.raft_multiplier),
            settings: settings.clone(),
            ..Config::new(id, settings.node_name, address)
        }
    }
}

/// As what the agent takes part.
struct Role {
    /// What `/v1/agent/self` shows.
    bootstrap: bool,
    founds: bool,
}

impl Role {
    fn of(draft: &Draft, dev: bool, warnings: &mut Vec<String>) -> Result<Self, String> {
        let expect = draft.bootstrap_expect.unwrap_or(0);
        let bootstrap = draft.bootstrap.unwrap_or(false);
        let server = draft.server.unwrap_or(false) || dev;
        if !dev && draft.data_dir.as_deref().unwrap_or_default().is_empty() {
            return Err("Must specify data directory using -data-dir".to_owned());
        }
        if expect > 0 && !server {
            return Err("Expect mode cannot be enabled when server mode is not enabled".to_owned());
        }
        if expect > 0 && bootstrap {
            return Err("Bootstrap cannot be provided with an expected server count".to_owned());
        }
        if bootstrap && !server {
            return Err("Bootstrap mode cannot be enabled when server mode is not enabled".to_owned());
        }
        if !server {
            return Err("this release runs servers only: a client finds its servers by gossip, which comes with a \
                        later release. Start with -server, or with -dev to try things out"
                .to_owned());
        }
        if expect == 1 {
            warnings.push("BootstrapExpect Mode is specified as 1; this is the same as Bootstrap mode.".to_owned());
        }
        if expect == 1 || bootstrap {
            warnings.push("Bootstrap mode enabled! Do not enable unless necessary".to_owned());
        }
        if expect > 1 {
            warnings.push(format!(
                "-bootstrap-expect={expect} waits for other servers to join, which this release has no means for: \
                 there will be no leader unless the data directory already belongs to a cluster. For a single \
                 server use -bootstrap"
            ));
        } else if expect == 0 && !bootstrap && !dev {
            warnings.push(
                "without -bootstrap this server waits to be taken into a cluster, which this release has no means \
                 for: there will be no leader unless the data directory already belongs to a cluster"
                    .to_owned(),
            );
        }
        let bootstrap = bootstrap || expect == 1;
        Ok(Self { bootstrap, founds: bootstrap || dev })
    }
}

/// Consul keeps datacenters in lower case.
fn datacenter(name: Option<&str>) -> Result<String, String> {
    let name = name.filter(|name| !name.is_empty()).unwrap_or("dc1").to_lowercase();
    match name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        true => Ok(name),
        false => Err("Datacenter must be alpha-numeric with underscores and hypens only".to_owned()),
    }
}

fn node_id(text: &str) -> Result<PeerId, String> {
    let id = Uuid::try_parse(text).ok().filter(|_| text.len() == 36);
    id.map(PeerId).ok_or_else(|| format!("the node ID must be a UUID, not \"{text}\""))
}

fn ip(what: &str, text: Option<&str>) -> Result<Option<IpAddr>, String> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| format!("the {what} must be an IP address, not \"{text}\""))
}

fn port(what: &str, number: i32) -> Result<u16, String> {
    u16::try_from(number).map_err(|_| format!("ports.{what} must be from 0 to 65535, not {number}"))
}

/// What peers are told. Nobody can reach "all addresses", so one is chosen.
fn advertised(advertise: Option<IpAddr>, bind: IpAddr) -> Result<IpAddr, String> {
    let chosen = match advertise {
        Some(address) => address,
        None if !bind.is_unspecified() => bind,
        None => outward(bind).ok_or_else(|| {
            "cannot tell by which address other servers reach this machine: say so with -advertise or -bind".to_owned()
        })?,
    };
    match chosen.is_unspecified() {
        true => Err(format!("{chosen} cannot be advertised: name the address by which other servers reach this one")),
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
fn http_addresses(addresses: &str, http_port: i32) -> Result<Vec<SocketAddr>, String> {
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

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dev() -> Draft {
        Draft { dev: Some(true), ..Draft::default() }
    }

    fn server() -> Draft {
        let bind_addr = Some("127.0.0.1".into());
        Draft { server: Some(true), data_dir: Some("/d".into()), bind_addr, ..Draft::default() }
    }

    #[test]
    fn dev_needs_nothing_and_keeps_nothing() {
        let plan = Plan::of(dev()).unwrap();
        assert!(plan.founds && plan.data_dir.is_none() && plan.warnings.is_empty());
        assert_eq!(plan.bind, "127.0.0.1:8300".parse().unwrap());
        assert_eq!(plan.http, ["127.0.0.1:8500".parse().unwrap()]);
        assert_eq!(plan.settings.datacenter, "dc1");
        let with_directory = Plan::of(Draft { data_dir: Some("/d".into()), ..dev() }).unwrap();
        assert!(with_directory.data_dir.is_none() && with_directory.warnings[0].contains("/d is not used"));
        assert!(!plan.settings.node_name.is_empty() && !plan.settings.bootstrap && plan.settings.server);
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_consul_s_words() {
        let cases: [(Draft, &str); 12] = [
            (Draft::default(), "Must specify data directory using -data-dir"),
            (Draft { server: None, ..server() }, "this release runs servers only"),
            (Draft { server: None, bootstrap_expect: Some(1), ..server() }, "Expect mode cannot be enabled"),
            (
                Draft { bootstrap: Some(true), bootstrap_expect: Some(3), ..server() },
                "Bootstrap cannot be provided with an expected server count",
            ),
            (Draft { datacenter: Some("Bad Name".into()), ..dev() }, "Datacenter must be alpha-numeric"),
            (Draft { node_id: Some("x".into()), ..dev() }, "the node ID must be a UUID"),
            (Draft { bind_addr: Some("host".into()), ..dev() }, "the bind address must be an IP address"),
            (Draft { client_addr: Some("unix:///s".into()), ..dev() }, "no unix sockets"),
            (Draft { server_port: Some(-1), ..dev() }, "ports.server must be from 0 to 65535"),
            (Draft { raft_multiplier: Some(11), ..dev() }, "raft_multiplier must be from 1 to 10"),
            (Draft { log_level: Some("loud".into()), ..dev() }, "Invalid log level: loud"),
            (Draft { advertise_addr: Some("0.0.0.0".into()), ..dev() }, "cannot be advertised"),
        ];
        for (draft, expected) in cases {
            let error = Plan::of(draft).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_expected_server_count_of_one_is_bootstrap_mode() {
        let plan = Plan::of(Draft { bootstrap_expect: Some(1), ..server() }).unwrap();
        assert!(plan.founds && plan.settings.bootstrap);
        assert_eq!(plan.warnings.len(), 2);
        for draft in [server(), Draft { bootstrap_expect: Some(3), ..server() }] {
            let plan = Plan::of(draft).unwrap();
            assert!(!plan.founds && plan.warnings[0].contains("there will be no leader"));
        }
    }

    #[test]
    fn several_addresses_or_none_serve_http() {
        let http = |addr: &str, port| http_addresses(addr, port).unwrap();
        assert_eq!(http("127.0.0.1 ::1", 80), ["127.0.0.1:80".parse().unwrap(), "[::1]:80".parse().unwrap()]);
        assert_eq!(http("127.0.0.1", -1), []);
        let both = Draft { client_addr: Some("0.0.0.0".into()), http_addr: Some("127.0.0.2".into()), ..dev() };
        assert_eq!(Plan::of(both).unwrap().http, ["127.0.0.2:8500".parse().unwrap()]);
    }

    #[test]
    fn the_core_is_told_the_ports_that_were_found() {
        let plan = Plan::of(Draft { datacenter: Some("DC2".into()), ..dev() }).unwrap();
        let config = plan.config(PeerId::numbered(1), 4000, None);
        assert_eq!(config.datacenter, "dc2");
        assert_eq!(config.address, "127.0.0.1:4000".parse().unwrap());
        assert_eq!(config.settings.ports["HTTP"], -1);
        assert_eq!(config.settings.ports["Server"], 4000);
        assert!(config.bootstrap.is_some_and(|founders| founders.is_voter(PeerId::numbered(1))));
    }
}
