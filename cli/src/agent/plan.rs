//! From what was said to what is done: defaults, checks, addresses.

mod addresses;
mod role;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use addresses::{advertised, http_addresses, ip, joinable, port};
use lictor_core::api::agent::Settings;
use lictor_core::config::{Acl, Config, Exec, Gossip, Limits, Local};
use lictor_core::gossip;
use lictor_core::id::PeerId;
use lictor_core::raft::{self, Configuration};
use role::Role;

use super::acl;
use super::draft::Draft;
use super::log::Level;
use super::words;
use crate::version::{REVISION, VERSION};

const DNS_PORT: i32 = 8600;
const HTTP_PORT: i32 = 8500;
const RPC_PORT: i32 = 8400;
const SERF_LAN_PORT: i32 = 8301;
const SERF_WAN_PORT: i32 = 8302;
const SERVER_PORT: i32 = 8300;

/// Failed agents are remembered at least so long: rumours of them are still under way.
const MIN_RECONNECT_TIMEOUT: Duration = Duration::from_secs(8 * 3600);

/// All that is needed to start an agent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// Where other servers connect to; a client has no such place.
    pub(crate) bind: Option<SocketAddr>,
    /// Where gossip comes in.
    pub(crate) gossip_bind: SocketAddr,
    pub(crate) advertise: IpAddr,
    /// Whether this server founds a cluster of its own if it has no log.
    pub(crate) founds: bool,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) log_level: Level,
    pub(crate) node_id: Option<PeerId>,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) raft_multiplier: u32,
    /// Agents to join at the start; one must answer.
    pub(crate) start_join: Vec<String>,
    /// How the agent ends.
    pub(crate) leaving: Leaving,
    /// Its port is filled in once it is known.
    gossip: Gossip,
    /// The shortest time to live of a session.
    session_ttl_min: Duration,
    pub(crate) local: Local,
    exec: Exec,
    acl: Acl,
    /// Ports that are shown to people and not served.
    pub(crate) shown_ports: ShownPorts,
    pub(crate) settings: Settings,
    /// Why the agent cannot be started although all of it makes sense.
    pub(crate) unfit: Option<String>,
    /// Sentences that the operator should read.
    pub(crate) warnings: Vec<String>,
}

/// What signals do to the agent's membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaving {
    pub(crate) on_interrupt: bool,
    pub(crate) on_terminate: bool,
    /// How long the agent still answers after it has left.
    pub(crate) drain: Duration,
}

/// Ports of Consul's that people look for in what an agent says when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShownPorts {
    pub(crate) dns: i32,
    pub(crate) https: i32,
    pub(crate) rpc: i32,
    pub(crate) serf_wan: i32,
}

/// The ports that were found, for the core.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// A client has none.
    pub(crate) server: Option<u16>,
    pub(crate) gossip: u16,
    /// None if HTTP is off.
    pub(crate) http: Option<u16>,
}

impl Plan {
    /// Fills in the defaults and checks what was said. An error is a text for the user.
    pub(crate) fn of(draft: Draft) -> Result<Self, String> {
        let mut warnings = Vec::new();
        let dev = draft.dev.unwrap_or(false);
        role::has_directory(&draft)?;
        if let Some(key) = draft.encrypt.as_deref().filter(|key| !key.is_empty()) {
            words::encryption_key(key)?;
        }
        let datacenter = words::datacenter(draft.datacenter.as_deref())?;
        let role = Role::of(&draft, &mut warnings)?;
        let log_level = draft.log_level.clone().unwrap_or_else(|| "INFO".to_owned());
        let raft_multiplier = draft.raft_multiplier.unwrap_or(if dev { 1 } else { 5 });
        if !(1..=10).contains(&raft_multiplier) {
            return Err(format!("performance.raft_multiplier must be from 1 to 10, not {raft_multiplier}"));
        }
        let any = if dev { IpAddr::from(Ipv4Addr::LOCALHOST) } else { Ipv4Addr::UNSPECIFIED.into() };
        let bind_ip = ip("bind address", draft.bind_addr.as_deref())?.unwrap_or(any);
        let server_port = port("server", draft.server_port.unwrap_or(SERVER_PORT))?;
        let told = ip("advertise address", draft.advertise_addr.as_deref())?;
        let advertise = advertised(told, bind_ip)?;
        let gossip_ip = ip("serf_lan bind address", draft.serf_lan_bind.as_deref())?;
        let gossip_port = port("serf_lan", draft.serf_lan_port.unwrap_or(SERF_LAN_PORT))?;
        // Whoever gossips elsewhere is found there, unless another place is told.
        let gossip_advertise = gossip_ip.filter(|ip| told.is_none() && !ip.is_unspecified()).unwrap_or(advertise);
        let client_addr = draft.client_addr.as_deref().unwrap_or("127.0.0.1");
        let http_port = draft.http_port.unwrap_or(HTTP_PORT);
        let http = http_addresses(draft.http_addr.as_deref().unwrap_or(client_addr), http_port)?;
        let leaving = Leaving {
            on_interrupt: !draft.skip_leave_on_interrupt.unwrap_or(role.server),
            on_terminate: draft.leave_on_terminate.unwrap_or(!role.server),
            drain: draft.leave_drain_time.unwrap_or_default(),
        };
        let node_name = draft.node_name.clone().filter(|name| !name.is_empty()).unwrap_or_else(host_name);
        let mut data_dir = draft.data_dir.clone().unwrap_or_default();
        if dev && !data_dir.is_empty() {
            warnings.push(format!("-dev keeps everything in memory: the data directory {data_dir} is not used"));
            data_dir.clear();
        }
        let pid_file = draft.pid_file.clone().unwrap_or_default();
        let acl = draft.acl.clone().plan(&datacenter, &mut warnings)?;
        let [acl_datacenter, acl_default_policy, acl_down_policy] = acl::shown(&acl);
        let settings = Settings {
            bootstrap: role.bootstrap,
            bootstrap_expect: role.expect,
            server: role.server,
            dev_mode: dev,
            datacenter,
            node_name,
            data_dir: data_dir.clone(),
            domain: "consul.".to_owned(),
            log_level: log_level.clone(),
            client_addr: client_addr.to_owned(),
            bind_addr: bind_ip.to_string(),
            advertise_addr: advertise.to_string(),
            leave_on_term: leaving.on_terminate,
            skip_leave_on_int: !leaving.on_interrupt,
            raft_multiplier,
            pid_file: pid_file.clone(),
            acl_datacenter,
            acl_default_policy,
            acl_down_policy,
            version: VERSION.to_owned(),
            revision: REVISION.to_owned(),
            // The ID and the ports are known once the directory and the sockets are open.
            ..Settings::default()
        };
        Ok(Self {
            bind: role.server.then_some(SocketAddr::new(bind_ip, server_port)),
            gossip_bind: SocketAddr::new(gossip_ip.unwrap_or(bind_ip), gossip_port),
            advertise,
            founds: role.founds,
            data_dir: (!dev).then(|| PathBuf::from(data_dir)),
            http,
            log_level: Level::parse(&log_level)?,
            node_id: draft.node_id.as_deref().map(words::node_id).transpose()?,
            pid_file: (!pid_file.is_empty()).then(|| pid_file.into()),
            raft_multiplier,
            start_join: joinable(&draft.start_join)?,
            leaving,
            gossip: gossip(&draft, SocketAddr::new(gossip_advertise, gossip_port), &settings)?,
            session_ttl_min: session_ttl_min(&draft)?,
            shown_ports: shown_ports(&draft),
            unfit: words::protocol(draft.protocol.unwrap_or(2), role.server).err(),
            // Who tries things out alone may have anything run; others must say that they want it.
            exec: Exec { enabled: !draft.disable_remote_exec.unwrap_or(!dev), ..Exec::default() },
            local: local(draft)?,
            acl,
            settings,
            warnings,
        })
    }

    /// What the core is told, now that ID and sockets are there.
    pub(crate) fn config(&self, id: PeerId, ports: Ports) -> Config {
        // Nobody connects to a client: it is known by the place where it gossips.
        let address = SocketAddr::new(self.advertise, ports.server.unwrap_or(ports.gossip));
        let off = ["DNS", "HTTPS", "RPC", "SerfWan"].map(|name| (name.to_owned(), -1));
        let mut settings = Settings { node_id: id.0.to_string(), ports: off.into(), ..self.settings.clone() };
        let shown = [("HTTP", ports.http), ("Server", ports.server), ("SerfLan", Some(ports.gossip))];
        settings.ports.extend(shown.map(|(name, port)| (name.to_owned(), port.map_or(-1, i32::from))));
        let mut gossip = self.gossip.clone();
        gossip.address.set_port(ports.gossip);
        let time_of_day = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
        Config {
            datacenter: settings.datacenter.clone(),
            server: settings.server,
            gossip,
            local: Local { time_of_day, ..self.local.clone() },
            exec: self.exec.clone(),
            acl: self.acl.clone(),
            bootstrap: self.founds.then(|| Configuration::new([(id, address)])),
            raft: raft::Options::with_multiplier(self.raft_multiplier),
            limits: Limits { session_ttl_min: self.session_ttl_min, ..Limits::default() },
            settings: settings.clone(),
            ..Config::new(id, settings.node_name, address)
        }
    }
}

/// How other agents are found.
fn gossip(draft: &Draft, address: SocketAddr, settings: &Settings) -> Result<Gossip, String> {
    let default = Gossip::new(address, &settings.datacenter);
    let options = gossip::Options {
        probe_interval: draft.probe_interval.unwrap_or(default.options.probe_interval),
        probe_timeout: draft.probe_timeout.unwrap_or(default.options.probe_timeout),
        gossip_interval: draft.gossip_interval.unwrap_or(default.options.gossip_interval),
        gossip_nodes: draft.gossip_nodes.map_or(default.options.gossip_nodes, usize::from),
        retransmit_mult: draft.retransmit_mult.unwrap_or(default.options.retransmit_mult),
        suspicion_mult: draft.suspicion_mult.unwrap_or(default.options.suspicion_mult),
        reconnect_timeout: draft.reconnect_timeout.unwrap_or(default.options.reconnect_timeout),
        ..default.options
    };
    if options.reconnect_timeout < MIN_RECONNECT_TIMEOUT {
        return Err("reconnect_timeout must be at least 8h".to_owned());
    }
    let none = |interval: Duration| interval.is_zero();
    if none(options.probe_interval) || none(options.probe_timeout) || none(options.gossip_interval) {
        return Err("the intervals and timeouts of gossip_lan must be above zero".to_owned());
    }
    if options.probe_timeout > options.probe_interval {
        return Err("gossip_lan.probe_timeout must not be above gossip_lan.probe_interval".to_owned());
    }
    if options.gossip_nodes == 0 || options.retransmit_mult == 0 || options.suspicion_mult == 0 {
        return Err("the numbers of gossip_lan must be above zero".to_owned());
    }
    let retry_interval = draft.retry_interval.unwrap_or(default.retry_interval);
    if none(retry_interval) {
        return Err("retry_interval must be above zero".to_owned());
    }
    Ok(Gossip {
        options,
        bootstrap_expect: settings.bootstrap_expect,
        retry_join: joinable(&draft.retry_join)?,
        retry_interval,
        retry_max: draft.retry_max.unwrap_or(default.retry_max),
        rejoin_after_leave: draft.rejoin_after_leave.unwrap_or(false),
        send_coordinates: !draft.disable_coordinates.unwrap_or(false),
        ..default
    })
}

/// What is registered with this agent by files, and how its checks are run.
fn local(draft: Draft) -> Result<Local, String> {
    let default = Local::default();
    words::node_meta(&draft.node_meta)?;
    let reap_interval = draft.check_reap_interval.unwrap_or(default.reap_interval);
    if reap_interval.is_zero() {
        return Err("check_reap_interval must be above zero".to_owned());
    }
    Ok(Local {
        wan_address: ip("advertise address for other datacenters", draft.advertise_addr_wan.as_deref())?,
        definitions: draft.definitions,
        node_meta: draft.node_meta,
        script_checks: draft.enable_script_checks.unwrap_or(default.script_checks),
        output_interval: draft.check_update_interval.unwrap_or(default.output_interval),
        reap_interval,
        ..default
    })
}

/// What is not said, or nothing, means the usual time.
fn session_ttl_min(draft: &Draft) -> Result<Duration, String> {
    let default = Limits::default();
    let min = draft.session_ttl_min.filter(|min| !min.is_zero()).unwrap_or(default.session_ttl_min);
    if min > default.session_ttl_max {
        return Err("session_ttl_min must not be above 24h".to_owned());
    }
    Ok(min)
}

fn shown_ports(draft: &Draft) -> ShownPorts {
    ShownPorts {
        dns: draft.dns_port.unwrap_or(DNS_PORT),
        https: draft.https_port.unwrap_or(-1),
        rpc: draft.rpc_port.unwrap_or(RPC_PORT),
        serf_wan: draft.serf_wan_port.unwrap_or(SERF_WAN_PORT),
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: Ports = Ports { server: Some(4000), gossip: 4001, http: None };

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
        assert_eq!(plan.bind, Some("127.0.0.1:8300".parse().unwrap()));
        assert_eq!(plan.gossip_bind, "127.0.0.1:8301".parse().unwrap());
        assert_eq!(plan.http, ["127.0.0.1:8500".parse().unwrap()]);
        assert_eq!(plan.settings.datacenter, "dc1");
        let with_directory = Plan::of(Draft { data_dir: Some("/d".into()), ..dev() }).unwrap();
        assert!(with_directory.data_dir.is_none() && with_directory.warnings[0].contains("/d is not used"));
        assert!(!plan.settings.node_name.is_empty() && !plan.settings.bootstrap && plan.settings.server);
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_consul_s_words() {
        let cases: [(Draft, &str); 21] = [
            (Draft::default(), "Must specify data directory using -data-dir"),
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
            (Draft { log_level: Some("loud".into()), ..dev() }, "Invalid log level: LOUD"),
            (Draft { advertise_addr: Some("0.0.0.0".into()), ..dev() }, "cannot be advertised"),
            (Draft { bootstrap_expect: Some(3), ..dev() }, "Expect mode cannot be enabled in development mode"),
            (Draft { encrypt: Some("bad".into()), ..dev() }, "Invalid encryption key: illegal base64"),
            (Draft { serf_lan_bind: Some("host".into()), ..dev() }, "the serf_lan bind address must be"),
            (Draft { serf_lan_port: Some(-1), ..dev() }, "ports.serf_lan must be from 0 to 65535"),
            (Draft { retry_interval: Some(Duration::ZERO), ..dev() }, "retry_interval must be above zero"),
            (Draft { reconnect_timeout: Some(Duration::from_secs(60)), ..dev() }, "must be at least 8h"),
            (Draft { session_ttl_min: Some(Duration::from_secs(86_401)), ..dev() }, "must not be above 24h"),
            (Draft { probe_timeout: Some(Duration::from_secs(2)), ..dev() }, "must not be above"),
            (Draft { start_join: vec!["provider=aws".into()], ..dev() }, "by IP address or host name"),
            (Draft { node_meta: [("a b".to_owned(), String::new())].into(), ..dev() }, "node_meta"),
        ];
        for (draft, expected) in cases {
            let error = Plan::of(draft).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn of_several_mistakes_that_is_told_which_consul_tells() {
        let told = |draft| Plan::of(draft).unwrap_err();
        let name = Draft { datacenter: Some("Bad Name".into()), encrypt: Some("bad".into()), ..Draft::default() };
        assert!(told(name.clone()).starts_with("Must specify data directory"));
        assert!(told(Draft { data_dir: Some("/d".into()), ..name.clone() }).starts_with("Invalid encryption key"));
        let client = Draft { server: None, bootstrap: Some(true), bootstrap_expect: Some(3), ..server() };
        assert!(told(Draft { datacenter: name.datacenter, ..client.clone() }).starts_with("Datacenter must be"));
        assert_eq!(told(client.clone()), "Bootstrap mode cannot be enabled when server mode is not enabled");
        assert!(told(Draft { bootstrap: None, ..client }).starts_with("Expect mode cannot be enabled when"));
    }

    #[test]
    fn an_expected_server_count_of_one_is_bootstrap_mode() {
        let plan = Plan::of(Draft { bootstrap_expect: Some(1), ..server() }).unwrap();
        assert!(plan.founds && plan.settings.bootstrap);
        assert_eq!((plan.warnings.len(), plan.settings.bootstrap_expect), (2, 0));
    }

    #[test]
    fn several_servers_found_a_cluster_once_they_have_found_each_other() {
        let plan = Plan::of(Draft { bootstrap_expect: Some(3), ..server() }).unwrap();
        assert!(!plan.founds && !plan.settings.bootstrap);
        assert_eq!(plan.warnings, ["Expect Mode enabled, expecting 3 servers"]);
        let config = plan.config(PeerId::numbered(1), PORTS);
        assert_eq!((config.gossip.bootstrap_expect, config.bootstrap.is_none()), (3, true));
        assert_eq!(config.identity().tags["expect"], "3");
        let waiting = Plan::of(server()).unwrap();
        assert!(!waiting.founds && waiting.warnings.is_empty());
    }

    #[test]
    fn servers_stay_members_when_they_are_interrupted_and_clients_leave() {
        let plan = Plan::of(server()).unwrap();
        let stays = Leaving { on_interrupt: false, on_terminate: false, drain: Duration::ZERO };
        assert_eq!(plan.leaving, stays);
        assert!(plan.settings.skip_leave_on_int && !plan.settings.leave_on_term);
        let client = Plan::of(Draft { server: None, ..server() }).unwrap();
        assert!(client.leaving.on_interrupt && client.leaving.on_terminate && client.bind.is_none());
        let told = Draft { skip_leave_on_interrupt: Some(false), leave_on_terminate: Some(true), ..server() };
        let told = Plan::of(told).unwrap();
        assert!(told.leaving.on_interrupt && told.leaving.on_terminate);
    }

    #[test]
    fn commands_are_run_for_others_only_where_that_was_asked_for() {
        let enabled = |draft: Draft, disable_remote_exec| {
            let plan = Plan::of(Draft { disable_remote_exec, ..draft }).unwrap();
            plan.config(PeerId::numbered(1), PORTS).exec.enabled
        };
        assert_eq!((enabled(server(), None), enabled(dev(), None)), (false, true));
        assert_eq!((enabled(server(), Some(false)), enabled(dev(), Some(true))), (true, false));
    }

    #[test]
    fn gossip_may_have_an_address_of_its_own() {
        let elsewhere = Draft { serf_lan_bind: Some("127.0.0.2".into()), serf_lan_port: Some(9), ..server() };
        let plan = Plan::of(elsewhere.clone()).unwrap();
        assert_eq!(plan.gossip_bind, "127.0.0.2:9".parse().unwrap());
        let shown = |plan: &Plan| plan.config(PeerId::numbered(1), PORTS).gossip.address;
        assert_eq!(shown(&plan), "127.0.0.2:4001".parse().unwrap());
        let plan = Plan::of(Draft { advertise_addr: Some("127.0.0.3".into()), ..elsewhere }).unwrap();
        assert_eq!(shown(&plan), "127.0.0.3:4001".parse().unwrap());
    }

    #[test]
    fn the_shortest_life_of_a_session_can_be_told() {
        let min = |said| {
            let plan = Plan::of(Draft { session_ttl_min: said, ..dev() }).unwrap();
            plan.config(PeerId::numbered(1), PORTS).limits.session_ttl_min
        };
        assert_eq!(min(Some(Duration::from_secs(1))), Duration::from_secs(1));
        assert_eq!((min(None), min(Some(Duration::ZERO))), (Duration::from_secs(10), Duration::from_secs(10)));
    }

    #[test]
    fn the_core_is_told_the_tokens_and_those_who_ask_are_not() {
        let acl =
            acl::Draft { datacenter: Some("DC1".into()), master_token: Some("secret".into()), ..Default::default() };
        let config = Plan::of(Draft { acl, ..dev() }).unwrap().config(PeerId::numbered(1), PORTS);
        assert_eq!(
            (config.acl.datacenter.as_deref(), config.acl.master_token.as_deref()),
            (Some("dc1"), Some("secret"))
        );
        let shown = &config.settings;
        assert_eq!(
            (&*shown.acl_datacenter, &*shown.acl_default_policy, &*shown.acl_down_policy),
            ("dc1", "allow", "extend-cache")
        );
        assert!(!format!("{shown:?}").contains("secret"));
    }

    #[test]
    fn an_unknown_protocol_is_refused_at_the_start() {
        let plan = Plan::of(Draft { protocol: Some(1), ..dev() }).unwrap();
        assert!(plan.unfit.unwrap().contains("Protocol version '1' too low"));
    }

    #[test]
    fn http_may_have_an_address_of_its_own() {
        let both = Draft { client_addr: Some("0.0.0.0".into()), http_addr: Some("127.0.0.2".into()), ..dev() };
        assert_eq!(Plan::of(both).unwrap().http, ["127.0.0.2:8500".parse().unwrap()]);
    }

    #[test]
    fn the_core_is_told_the_ports_that_were_found() {
        let plan = Plan::of(Draft { datacenter: Some("DC2".into()), ..dev() }).unwrap();
        let config = plan.config(PeerId::numbered(1), PORTS);
        assert_eq!(config.check(), Ok(()));
        assert_eq!((&*config.datacenter, &*config.gossip.options.pool), ("dc2", "lan:dc2"));
        assert_eq!(config.address, "127.0.0.1:4000".parse().unwrap());
        assert_eq!(config.gossip.address, "127.0.0.1:4001".parse().unwrap());
        let ports = &config.settings.ports;
        assert_eq!((ports["HTTP"], ports["Server"], ports["SerfLan"], ports["DNS"]), (-1, 4000, 4001, -1));
        assert!(config.bootstrap.is_some_and(|founders| founders.is_voter(PeerId::numbered(1))));
    }
}
