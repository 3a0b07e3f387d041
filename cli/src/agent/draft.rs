//! What files and flags say of an agent, before it is known whether that makes sense.

/// What has been said; the rest takes its default. Later files go before earlier ones, flags before all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) advertise_addr: Option<String>,
    pub(crate) bind_addr: Option<String>,
    pub(crate) bootstrap: Option<bool>,
    pub(crate) bootstrap_expect: Option<u32>,
    pub(crate) client_addr: Option<String>,
    pub(crate) data_dir: Option<String>,
    pub(crate) datacenter: Option<String>,
    pub(crate) dev: Option<bool>,
    pub(crate) http_addr: Option<String>,
    pub(crate) http_port: Option<i32>,
    pub(crate) leave_on_terminate: Option<bool>,
    pub(crate) log_level: Option<String>,
    pub(crate) node_id: Option<String>,
    pub(crate) node_name: Option<String>,
    pub(crate) pid_file: Option<String>,
    pub(crate) raft_multiplier: Option<u32>,
    pub(crate) server: Option<bool>,
    pub(crate) server_port: Option<i32>,
    pub(crate) skip_leave_on_interrupt: Option<bool>,
}

impl Draft {
    /// This, with what `over` says going first.
    pub(crate) fn overlaid(self, over: Self) -> Self {
        macro_rules! overlay {
            ($($field:ident),* $(,)?) => { Self { $($field: over.$field.or(self.$field)),* } };
        }
        overlay! {
            advertise_addr, bind_addr, bootstrap, bootstrap_expect, client_addr, data_dir, datacenter, dev, http_addr,
            http_port, leave_on_terminate, log_level, node_id, node_name, pid_file, raft_multiplier, server,
            server_port, skip_leave_on_interrupt,
        }
    }
}
