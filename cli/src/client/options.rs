//! The options of commands by which agents are reached.

use std::path::PathBuf;

/// The options that every command has which talks to an agent: where it is, and as whom it is asked.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Agent {
    /// Address of the agent. [default: $CONSUL_HTTP_ADDR or 127.0.0.1:8500]
    #[arg(long, value_name = "address")]
    pub(super) http_addr: Option<String>,
    /// ACL token. [default: $CONSUL_HTTP_TOKEN, or the agent's own]
    #[arg(long, value_name = "token")]
    pub(super) token: Option<String>,
    /// File that holds the ACL token, in place of any other. [default: $CONSUL_HTTP_TOKEN_FILE]
    #[arg(long, value_name = "path")]
    pub(super) token_file: Option<PathBuf>,
}

/// The options of commands that ask the cluster.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub(super) agent: Agent,
    /// Datacenter to ask. [default: the agent's own]
    #[arg(long, value_name = "name", default_value = "")]
    pub(super) datacenter: String,
    /// Let any server answer, leader or not: quicker, and perhaps out of date.
    #[arg(long)]
    pub(super) stale: bool,
}

impl From<Agent> for Options {
    fn from(agent: Agent) -> Self {
        Self { agent, ..Self::default() }
    }
}

impl Options {
    /// The datacenter that is meant, if one is named.
    pub fn datacenter(&self) -> Option<String> {
        (!self.datacenter.is_empty()).then(|| self.datacenter.clone())
    }

    /// Whether any server may answer.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// The same, for a client that asks an agent of its own datacenter unless a request says otherwise.
    pub fn in_its_own_datacenter(self) -> Self {
        Self { datacenter: String::new(), ..self }
    }
}

/// The options of commands that concern the very agent that they reach. Consul's older ones reached it by another protocol
/// than HTTP, at an address of its own.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct AgentOptions {
    #[command(flatten)]
    pub(super) agent: Agent,
    /// Where older commands reached the agent, which here is asked by HTTP. If nothing says where that is, then on the same
    /// host at port 8500. [default: $CONSUL_RPC_ADDR]
    #[arg(long, value_name = "address")]
    pub(super) rpc_addr: Option<String>,
}
