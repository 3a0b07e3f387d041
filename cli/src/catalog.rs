//! `lictor catalog`: what the cluster knows of its nodes and services.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use crate::client::{Answer, Client, Error, Options};
use crate::failed::{self, Failed};
use crate::table::table;

/// How much of a node's ID is shown in a table.
const SHORT_ID: usize = 8;

/// Lists datacenters, nodes and services
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    disable_help_subcommand = true,
    long_about = "Lists what the cluster knows of itself.\n\n    $ lictor catalog datacenters\n    $ lictor catalog nodes \
                  -service=web\n    $ lictor catalog services -tags"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Subcommand)]
enum Commands {
    Datacenters(Datacenters),
    Nodes(Nodes),
    Services(Services),
}

/// Lists the datacenters that are known
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Lists the datacenters that the agent knows, the nearest first.\n\n    $ lictor catalog datacenters"
)]
struct Datacenters {
    #[command(flatten)]
    client: Options,
}

/// Lists the nodes
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Lists the nodes of a datacenter.\n\n    $ lictor catalog nodes\n    $ lictor catalog nodes -service=web \
                  -near=_agent\n    $ lictor catalog nodes -node-meta=rack=a7 -detailed"
)]
struct Nodes {
    #[command(flatten)]
    client: Options,
    /// Show all addresses and what was said of each node.
    #[arg(long)]
    detailed: bool,
    /// The nearest to this node first; _agent for the agent that is asked.
    #[arg(long, value_name = "node", default_value = "")]
    near: String,
    /// Only nodes of which this was said. May be given more than once.
    #[arg(long, value_name = "key=value")]
    node_meta: Vec<String>,
    /// Only nodes on which this service runs.
    #[arg(long, value_name = "name", default_value = "")]
    service: String,
}

/// Lists the services
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Lists the services of a datacenter.\n\n    $ lictor catalog services\n    $ lictor catalog services -tags\n    $ \
                  lictor catalog services -node=web-1"
)]
struct Services {
    #[command(flatten)]
    client: Options,
    /// Only the services of this node.
    #[arg(long, value_name = "name", default_value = "")]
    node: String,
    /// Only services on nodes of which this was said. May be given more than once.
    #[arg(long, value_name = "key=value")]
    node_meta: Vec<String>,
    /// Show the tags of each service, too.
    #[arg(long)]
    tags: bool,
}

pub(crate) fn run(args: Args) -> ExitCode {
    let listed = match args.command {
        Commands::Datacenters(args) => datacenters(args),
        Commands::Nodes(args) => nodes(args),
        Commands::Services(args) => services(args),
    };
    failed::status(listed.map(|text| show!("{text}")))
}

fn datacenters(args: Datacenters) -> Result<String, Failed> {
    let names = ask(args.client, "catalog/datacenters", &[], "listing datacenters")?;
    let names = names.as_array().into_iter().flatten().filter_map(Value::as_str);
    Ok(names.map(|name| format!("{name}\n")).collect())
}

fn nodes(args: Nodes) -> Result<String, Failed> {
    let mut query = metas(&args.node_meta)?;
    if !args.near.is_empty() {
        query.push(("near", args.near));
    }
    let path = match args.service.is_empty() {
        true => "catalog/nodes".to_owned(),
        false => format!("catalog/service/{}", args.service),
    };
    let nodes = ask(args.client, &path, &query, "listing nodes")?;
    let nodes = nodes.as_array().map(Vec::as_slice).unwrap_or_default();
    if nodes.is_empty() {
        return nobody("nodes");
    }
    let mut titles = vec!["Node", "ID", "Address", "DC"];
    if args.detailed {
        titles.extend(["TaggedAddresses", "Meta"]);
    }
    let titles = titles.into_iter().map(str::to_owned).collect();
    let mut rows: Vec<Vec<String>> = nodes.iter().map(|node| row(node, args.detailed)).collect();
    // Of a node with several instances of a service there is one row.
    rows.dedup();
    Ok(table(&std::iter::once(titles).chain(rows).collect::<Vec<_>>()))
}

fn row(node: &Value, detailed: bool) -> Vec<String> {
    let text = |name: &str| node[name].as_str().unwrap_or_default();
    let id = text("ID");
    let id = if detailed { id } else { id.get(..SHORT_ID).unwrap_or(id) };
    let mut row = [text("Node"), id, text("Address"), text("Datacenter")].map(str::to_owned).to_vec();
    if detailed {
        let meta = if node["NodeMeta"].is_object() { &node["NodeMeta"] } else { &node["Meta"] };
        row.extend([pairs(&node["TaggedAddresses"]), pairs(meta)]);
    }
    row
}

fn services(args: Services) -> Result<String, Failed> {
    let query = metas(&args.node_meta)?;
    let doing = "listing services";
    let mut services: Vec<(String, Vec<String>)> = if args.node.is_empty() {
        let services = ask(args.client, "catalog/services", &query, doing)?;
        let services = services.as_object().into_iter().flatten();
        services.map(|(name, tags)| (name.clone(), texts(tags))).collect()
    } else {
        let node = ask(args.client, &format!("catalog/node/{}", args.node), &query, doing)?;
        let services = node["Services"].as_object().into_iter().flatten();
        let named = services
            .map(|(_, service)| (service["Service"].as_str().unwrap_or_default().to_owned(), texts(&service["Tags"])));
        merged(named)
    };
    if services.is_empty() {
        return nobody("services");
    }
    services.sort();
    if !args.tags {
        return Ok(services.iter().map(|(name, _)| format!("{name}\n")).collect());
    }
    let rows: Vec<Vec<String>> = services.into_iter().map(|(name, tags)| vec![name, tags.join(",")]).collect();
    Ok(table(&rows))
}

/// Each service once, with all tags of its instances.
fn merged(named: impl Iterator<Item = (String, Vec<String>)>) -> Vec<(String, Vec<String>)> {
    let mut all = std::collections::BTreeMap::<String, std::collections::BTreeSet<String>>::new();
    for (name, tags) in named {
        all.entry(name).or_default().extend(tags);
    }
    all.into_iter().map(|(name, tags)| (name, tags.into_iter().collect())).collect()
}

/// That nothing is found is no failure; but whoever looks is told.
fn nobody(what: &str) -> Result<String, Failed> {
    complain!("No {what} match the given query - try expanding your search.");
    Ok(String::new())
}

fn metas(given: &[String]) -> Result<Vec<(&'static str, String)>, Failed> {
    let meta = |text: &String| {
        let wrong = || Failed(format!("invalid value \"{text}\" for flag -node-meta: give key=value"));
        let (key, value) = text.split_once('=').ok_or_else(wrong)?;
        Ok(("node-meta", format!("{key}:{value}")))
    };
    given.iter().map(meta).collect()
}

fn ask(client: Options, path: &str, query: &[(&str, String)], doing: &str) -> Result<Value, Failed> {
    let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let failed = |error: Error| Failed(format!("Error {doing}: {error}"));
    let body = Client::new(client).and_then(|client| client.get(path, &query)).and_then(Answer::ok).map_err(failed)?;
    serde_json::from_slice(&body).map_err(|error| Failed(format!("Error {doing}: unreadable answer: {error}")))
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn pairs(value: &Value) -> String {
    let pairs = value.as_object().into_iter().flatten();
    let pairs: Vec<_> = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    pairs.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_are_rows() {
        let node = json!({ "Node": "a", "ID": "adf4238a-882b", "Address": "10.0.0.1", "Datacenter": "dc1",
            "TaggedAddresses": { "wan": "1.2.3.4", "lan": "10.0.0.1" }, "Meta": { "rack": "a7" } });
        assert_eq!(row(&node, false), ["a", "adf4238a", "10.0.0.1", "dc1"]);
        assert_eq!(row(&node, true)[4..], ["lan=10.0.0.1, wan=1.2.3.4", "rack=a7"]);
        assert_eq!(row(&json!({ "Node": "b" }), false), ["b", "", "", ""]);
    }

    #[test]
    fn what_is_said_of_nodes_is_asked_in_consuls_form() {
        assert_eq!(metas(&["a=b=c".to_owned()]).unwrap(), [("node-meta", "a:b=c".to_owned())]);
        assert!(metas(&["a".to_owned()]).unwrap_err().0.contains("-node-meta"));
    }

    #[test]
    fn a_service_of_many_instances_is_one() {
        let tagged = |name: &str, tag: &str| (name.to_owned(), vec![tag.to_owned()]);
        let merged = merged([tagged("web", "b"), tagged("db", "x"), tagged("web", "a")].into_iter());
        assert_eq!(merged, [tagged("db", "x"), ("web".to_owned(), vec!["a".to_owned(), "b".to_owned()])]);
    }
}
