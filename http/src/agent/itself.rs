//! The agent's view of itself.

use lictor_core::api::agent::{Itself, Settings};
use serde_json::{Value, json};

use super::members::{PROTOCOL, ShownMember};
use crate::coordinate::ShownCoordinate;

/// `/v1/agent/self`.
pub(crate) fn itself(itself: &Itself) -> Value {
    let mut stats = json!(itself.stats);
    stats["runtime"] = runtime();
    json!({
        "Config": config(&itself.config),
        "Coord": ShownCoordinate::from(&itself.coordinate),
        "Member": ShownMember::from(&itself.member),
        "Stats": stats,
        "Meta": {},
    })
}

/// What the process runs on. The names are those of Go's runtime, whose light threads are the tasks of ours.
fn runtime() -> Value {
    let tasks = tokio::runtime::Handle::try_current().map_or(0, |handle| handle.metrics().num_alive_tasks());
    let threads = tokio::runtime::Handle::try_current().map_or(0, |handle| handle.metrics().num_workers());
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "arch": arch,
        "cpu_count": std::thread::available_parallelism().map_or(1, usize::from).to_string(),
        "goroutines": tasks.to_string(),
        "max_procs": threads.to_string(),
        "os": std::env::consts::OS,
        "version": concat!("lictor-", env!("CARGO_PKG_VERSION")),
    })
}

/// What is told of the configuration. Fields of features that are not there say that they are off.
fn config(settings: &Settings) -> Value {
    json!({
        "ACLDatacenter": settings.acl_datacenter,
        "ACLDefaultPolicy": settings.acl_default_policy,
        "ACLDownPolicy": settings.acl_down_policy,
        "ACLEnforceVersion8": false,
        "Bootstrap": settings.bootstrap,
        "BootstrapExpect": settings.bootstrap_expect,
        "Server": settings.server,
        "DevMode": settings.dev_mode,
        "Datacenter": settings.datacenter,
        "DataDir": settings.data_dir,
        "DNSRecursor": settings.dns_recursors.first().map_or("", String::as_str),
        "DNSRecursors": settings.dns_recursors,
        "Domain": settings.domain,
        "LogLevel": settings.log_level,
        "NodeName": settings.node_name,
        "NodeID": settings.node_id,
        "ClientAddr": settings.client_addr,
        "BindAddr": settings.bind_addr,
        "AdvertiseAddr": settings.advertise_addr,
        "Ports": settings.ports,
        "LeaveOnTerm": settings.leave_on_term,
        "SkipLeaveOnInt": settings.skip_leave_on_int,
        "Performance": { "RaftMultiplier": settings.raft_multiplier },
        "StatsiteAddr": "",
        "Protocol": PROTOCOL.2,
        "EnableDebug": false,
        "VerifyIncoming": false,
        "VerifyOutgoing": false,
        "CAFile": "",
        "CertFile": "",
        "KeyFile": "",
        "StartJoin": [],
        "UiDir": "",
        "PidFile": settings.pid_file,
        "EnableSyslog": false,
        "RejoinAfterLeave": false,
        "Version": settings.version,
        "Revision": settings.revision,
    })
}

#[cfg(test)]
mod tests {
    use lictor_core::api::agent::{Member, MemberStatus};

    use super::*;

    #[test]
    fn itself_has_the_documented_sections() {
        let shown = itself(&Itself {
            config: Settings {
                node_name: "foobar".into(),
                ports: [("HTTP".to_owned(), 8500), ("HTTPS".to_owned(), -1)].into(),
                dns_recursors: vec!["8.8.8.8".into(), "1.1.1.1".into()],
                raft_multiplier: 5,
                ..Settings::default()
            },
            member: Member {
                name: "foobar".into(),
                address: [10, 1, 10, 12].into(),
                port: 8301,
                tags: [("role".to_owned(), "consul".to_owned())].into(),
                status: MemberStatus::Alive,
            },
            coordinate: lictor_core::coordinate::Coordinate::default(),
            stats: [("raft".to_owned(), [("term".to_owned(), "3".to_owned())].into())].into(),
        });
        assert_eq!(shown["Config"]["NodeName"], "foobar");
        assert_eq!(shown["Config"]["Ports"], json!({ "HTTP": 8500, "HTTPS": -1 }));
        assert_eq!(shown["Config"]["DNSRecursor"], "8.8.8.8");
        assert_eq!(shown["Config"]["StartJoin"], json!([]));
        assert_eq!(shown["Coord"]["Vec"].as_array().map(Vec::len), Some(8));
        assert_eq!(shown["Member"]["Addr"], "10.1.10.12");
        assert_eq!(shown["Member"]["Status"], 1);
        assert_eq!(shown["Stats"]["raft"]["term"], "3");
        assert_eq!(shown["Stats"]["runtime"]["os"], std::env::consts::OS);
    }
}
