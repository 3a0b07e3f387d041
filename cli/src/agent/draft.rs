//! What files and flags say of an agent, before it is known whether that makes sense.

use std::collections::BTreeMap;
use std::time::Duration;

use lictor_core::api::agent::Definitions;

use super::acl;

/// What has been said; the rest takes its default. Later files go before earlier ones, flags before all; lists and maps
/// of one are added to those of the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) acl: acl::Draft,
    pub(crate) advertise_addr: Option<String>,
    pub(crate) advertise_addr_wan: Option<String>,
    pub(crate) bind_addr: Option<String>,
    pub(crate) bootstrap: Option<bool>,
    pub(crate) bootstrap_expect: Option<u32>,
    pub(crate) check_reap_interval: Option<Duration>,
    pub(crate) check_update_interval: Option<Duration>,
    pub(crate) client_addr: Option<String>,
    pub(crate) data_dir: Option<String>,
    pub(crate) datacenter: Option<String>,
    pub(crate) definitions: Definitions,
    pub(crate) dev: Option<bool>,
    pub(crate) disable_coordinates: Option<bool>,
    pub(crate) disable_remote_exec: Option<bool>,
    pub(crate) dns_port: Option<i32>,
    pub(crate) enable_script_checks: Option<bool>,
    pub(crate) encrypt: Option<String>,
    pub(crate) gossip_interval: Option<Duration>,
    pub(crate) gossip_nodes: Option<u16>,
    pub(crate) http_addr: Option<String>,
    pub(crate) http_port: Option<i32>,
    pub(crate) https_port: Option<i32>,
    pub(crate) leave_drain_time: Option<Duration>,
    pub(crate) leave_on_terminate: Option<bool>,
    pub(crate) log_level: Option<String>,
    pub(crate) node_id: Option<String>,
    pub(crate) node_meta: BTreeMap<String, String>,
    pub(crate) node_name: Option<String>,
    pub(crate) pid_file: Option<String>,
    pub(crate) probe_interval: Option<Duration>,
    pub(crate) probe_timeout: Option<Duration>,
    pub(crate) protocol: Option<i64>,
    pub(crate) raft_multiplier: Option<u32>,
    pub(crate) reconnect_timeout: Option<Duration>,
    pub(crate) rejoin_after_leave: Option<bool>,
    pub(crate) retransmit_mult: Option<u32>,
    pub(crate) retry_interval: Option<Duration>,
    pub(crate) retry_join: Vec<String>,
    pub(crate) retry_max: Option<u32>,
    pub(crate) rpc_port: Option<i32>,
    pub(crate) serf_lan_bind: Option<String>,
    pub(crate) serf_lan_port: Option<i32>,
    pub(crate) serf_wan_port: Option<i32>,
    pub(crate) server: Option<bool>,
    pub(crate) server_port: Option<i32>,
    pub(crate) session_ttl_min: Option<Duration>,
    pub(crate) skip_leave_on_interrupt: Option<bool>,
    pub(crate) start_join: Vec<String>,
    pub(crate) suspicion_mult: Option<u32>,
}

impl Draft {
    /// This, with what `over` says going first.
    pub(crate) fn overlaid(self, over: Self) -> Self {
        let mut node_meta = self.node_meta;
        node_meta.extend(over.node_meta);
        let definitions = Definitions {
            services: [self.definitions.services, over.definitions.services].concat(),
            checks: [self.definitions.checks, over.definitions.checks].concat(),
        };
        macro_rules! overlay {
            ($($field:ident),* $(,)?) => { Self {
                $($field: over.$field.or(self.$field),)*
                acl: self.acl.overlaid(over.acl),
                definitions,
                node_meta,
                retry_join: [self.retry_join, over.retry_join].concat(),
                start_join: [self.start_join, over.start_join].concat(),
            } };
        }
        overlay! {
            advertise_addr, advertise_addr_wan, bind_addr, bootstrap, bootstrap_expect, check_reap_interval, check_update_interval,
            client_addr, data_dir, datacenter, dev, disable_coordinates, disable_remote_exec, dns_port, enable_script_checks, encrypt,
            gossip_interval, gossip_nodes, http_addr, http_port, https_port, leave_drain_time, leave_on_terminate,
            log_level, node_id, node_name, pid_file, probe_interval, probe_timeout, protocol, raft_multiplier,
            reconnect_timeout, rejoin_after_leave, retransmit_mult, retry_interval, retry_max, rpc_port, serf_lan_bind,
            serf_lan_port, serf_wan_port, server, server_port, session_ttl_min, skip_leave_on_interrupt, suspicion_mult,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_later_goes_first_and_lists_grow() {
        let meta = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let below = Draft {
            node_name: Some("a".into()),
            server: Some(true),
            retry_join: vec!["1.1.1.1".into()],
            node_meta: meta(&[("rack", "1"), ("zone", "z")]),
            ..Draft::default()
        };
        let above = Draft {
            node_name: Some("b".into()),
            retry_join: vec!["2.2.2.2".into()],
            node_meta: meta(&[("rack", "2")]),
            ..Draft::default()
        };
        let both = below.overlaid(above);
        assert_eq!((both.node_name.as_deref(), both.server), (Some("b"), Some(true)));
        assert_eq!(both.retry_join, ["1.1.1.1", "2.2.2.2"]);
        assert_eq!(both.node_meta, meta(&[("rack", "2"), ("zone", "z")]));
    }
}
