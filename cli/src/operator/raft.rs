//! `lictor operator raft`: in the form of later Consuls, and in that of 0.7 (`-list-peers`, `-remove-peer`).

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use crate::client::{Answer, Client, Error, Options};
use crate::failed::{self, Failed};
use crate::help;
use crate::table::table;

/// Shows who takes part in raft, and removes those who should not
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    disable_help_subcommand = true,
    long_about = "Shows who takes part in raft, and removes those who should not. The commands are also there as \
                  options, as\nConsul 0.7 has them.\n\n    $ lictor operator raft list-peers\n    $ lictor operator \
                  raft remove-peer -address=10.0.0.5:8300\n    $ lictor operator raft -list-peers"
)]
pub(crate) struct Args {
    #[command(flatten)]
    client: Options,
    /// Show who takes part.
    #[arg(long)]
    list_peers: bool,
    /// Remove the server at -address.
    #[arg(long)]
    remove_peer: bool,
    /// With -remove-peer: the server's address, IP:port.
    #[arg(long, value_name = "address", default_value = "")]
    address: String,
    #[command(subcommand)]
    command: Option<Commands>,
}

#[derive(Debug, Subcommand)]
enum Commands {
    ListPeers(ListPeers),
    RemovePeer(RemovePeer),
    TransferLeader(TransferLeader),
}

/// Shows who takes part in raft
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Shows who takes part in raft, as the leader knows it; with -stale as any server does, for a \
                  cluster without a\nleader.\n\n    $ lictor operator raft list-peers -stale"
)]
struct ListPeers {
    #[command(flatten)]
    client: Options,
}

/// Removes a server from raft
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Removes a server from raft that will not come back. One of -address and -id says \
                  which.\n\n    $ lictor operator raft remove-peer -address=10.0.0.5:8300"
)]
struct RemovePeer {
    #[command(flatten)]
    client: Options,
    /// The server's address, IP:port.
    #[arg(long, value_name = "address", default_value = "")]
    address: String,
    /// The server's ID, as list-peers shows it.
    #[arg(long, value_name = "id", default_value = "")]
    id: String,
}

/// Hands leadership over to another server
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Hands leadership over to another server, for instance before the leader's machine is \
                  restarted.\n\n    $ lictor operator raft transfer-leader"
)]
struct TransferLeader {
    #[command(flatten)]
    client: Options,
    /// The ID of the server that is to lead, as list-peers shows it. [default: the one that is best prepared]
    #[arg(long, value_name = "id", default_value = "")]
    id: String,
}

pub(super) fn run(args: Args) -> ExitCode {
    match args.command {
        Some(command) => failed::status(run_command(command)),
        None if args.list_peers || args.remove_peer => {
            let done = run_options(args);
            failed::status(done.map_err(|Failed(why)| Failed(format!("Operator \"raft\" subcommand failed: {why}"))))
        }
        None => {
            // Not a mistake, for Consul.
            help::show(&crate::definition(), &["operator".to_owned(), "raft".to_owned()]);
            ExitCode::SUCCESS
        }
    }
}

fn run_command(command: Commands) -> Result<(), Failed> {
    match command {
        Commands::ListPeers(args) => {
            let failed = |why| Failed(format!("Error getting peers: {why}"));
            show!("{}", list_peers(args.client, true).map_err(failed)?);
        }
        Commands::RemovePeer(args) => {
            let failed = |why| Failed(format!("Error removing peer: {why}"));
            say!("{}", remove_peer(args.client, &args.address, &args.id).map_err(failed)?);
        }
        Commands::TransferLeader(args) => {
            let failed = |error: Error| Failed(format!("Error transferring leadership: {error}"));
            let query = if args.id.is_empty() { vec![] } else { vec![("id", &*args.id)] };
            let client = Client::new(args.client).map_err(failed)?;
            client.post("operator/raft/transfer-leader", &query).and_then(Answer::ok).map_err(failed)?;
            say!("Success");
        }
    }
    Ok(())
}

/// The form of Consul 0.7.
fn run_options(args: Args) -> Result<(), Failed> {
    if args.list_peers {
        show!("{}", list_peers(args.client, false).map_err(Failed)?);
    } else if args.address.is_empty() {
        return Err(Failed("an address is required for the peer to remove".to_owned()));
    } else {
        say!("{}", remove_peer(args.client, &args.address, "").map_err(Failed)?);
    }
    Ok(())
}

fn list_peers(options: Options, with_protocol: bool) -> Result<String, String> {
    let body = Client::new(options)
        .and_then(|client| client.get("operator/raft/configuration", &[]))
        .and_then(Answer::ok)
        .map_err(|error| error.to_string())?;
    let configuration = serde_json::from_slice(&body).map_err(|error| format!("unreadable answer: {error}"))?;
    Ok(shown(&configuration, with_protocol))
}

/// The servers of a configuration as a table.
fn shown(configuration: &Value, with_protocol: bool) -> String {
    let columns = if with_protocol { 6 } else { 5 };
    let title = ["Node", "ID", "Address", "State", "Voter", "RaftProtocol"].map(str::to_owned);
    let row = |server: &Value| {
        let text = |name: &str| server[name].as_str().unwrap_or_default().to_owned();
        let state = if server["Leader"] == true { "leader" } else { "follower" };
        let voter = server["Voter"] == true;
        [text("Node"), text("ID"), text("Address"), state.to_owned(), voter.to_string(), text("ProtocolVersion")]
    };
    let servers = configuration["Servers"].as_array().into_iter().flatten().map(row);
    let rows: Vec<_> = std::iter::once(title).chain(servers).map(|row| row[..columns].to_vec()).collect();
    table(&rows)
}

/// Removes the server with this address or ID; gives what is to be said then.
fn remove_peer(options: Options, address: &str, id: &str) -> Result<String, String> {
    let (name, value) = match (address, id) {
        ("", "") => return Err("an address or id is required for the peer to remove".to_owned()),
        (address, "") => ("address", address),
        ("", id) => ("id", id),
        _ => return Err("cannot give both an address and id".to_owned()),
    };
    Client::new(options)
        .and_then(|client| client.delete("operator/raft/peer", &[(name, value)]))
        .and_then(Answer::ok)
        .map_err(|error| error.to_string())?;
    Ok(format!("Removed peer with {name} \"{value}\""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn peers_are_listed_as_both_consuls_list_them() {
        let configuration = json!({ "Servers": [
            { "Node": "foobar", "ID": "adf4", "Address": "10.0.0.1:8300", "Leader": true, "Voter": true,
              "ProtocolVersion": "3" },
            { "Node": "(unknown)", "ID": "b", "Address": "10.0.0.2:8300", "Leader": false, "Voter": false,
              "ProtocolVersion": "3" },
        ], "Index": 4 });
        assert_eq!(
            shown(&configuration, false),
            "Node       ID    Address        State     Voter\n\
             foobar     adf4  10.0.0.1:8300  leader    true\n\
             (unknown)  b     10.0.0.2:8300  follower  false\n"
        );
        assert!(
            shown(&configuration, true).starts_with("Node       ID    Address        State     Voter  RaftProtocol\n")
        );
    }

    #[test]
    fn a_peer_needs_one_name() {
        let refused = |address, id| remove_peer(Options::default(), address, id).unwrap_err();
        assert_eq!(refused("", ""), "an address or id is required for the peer to remove");
        assert_eq!(refused("a", "b"), "cannot give both an address and id");
    }
}
