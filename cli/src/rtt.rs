//! `lictor rtt`.

use std::process::ExitCode;

use lictor_core::coordinate::{Coordinate, DIMENSIONS, distance};
use serde_json::Value;

use crate::client::{Answer, Client, Error, Options};
use crate::failed::{self, Failed};
use crate::help;

/// Estimates the round trip between two nodes
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Estimates the round trip between two nodes, from where they believe to be in the network; the second \
                  one is the\nagent's own unless it is named. With -wan these are servers, each with its \
                  datacenter.\n\n    $ lictor rtt node1 node2\n    $ lictor rtt -wan node1.dc1 node2.dc2"
)]
pub(crate) struct Args {
    #[command(flatten)]
    client: Options,
    /// Between servers, by the coordinates of gossip between datacenters.
    #[arg(long)]
    wan: bool,
    /// The nodes.
    node: Vec<String>,
}

pub(crate) fn run(args: Args) -> ExitCode {
    failed::status(estimate(args).map(|estimate| say!("{estimate}")))
}

fn estimate(args: Args) -> Result<String, Failed> {
    let (first, second) = match &args.node[..] {
        [first] => (first, None),
        [first, second] => (first, Some(second)),
        _ => return Err(help::after("One or two node names must be specified", &["rtt"])),
    };
    if args.wan {
        for node in &args.node {
            pool_name(node)?;
        }
    }
    let client = Client::new(args.client)
        .map_err(|error: Error| Failed(format!("Error connecting to Consul agent: {error}")))?;
    let read = |path: &str, doing: &str| -> Result<Value, Failed> {
        let failed = |why: String| Failed(format!("{doing}: {why}"));
        let body = client.get(path, &[]).and_then(Answer::ok).map_err(|error| failed(error.to_string()))?;
        serde_json::from_slice(&body).map_err(|error| failed(format!("unreadable answer: {error}")))
    };
    let second = match second {
        Some(second) => second.clone(),
        None => own_name(&read("agent/self", "Unable to look up agent info")?, args.wan),
    };
    let coordinates = |path| read(path, "Error getting coordinates");
    let (found, kind) = match args.wan {
        true => (between_datacenters(&coordinates("coordinate/datacenters")?), "WAN"),
        false => (within(&coordinates("coordinate/nodes")?, None), "LAN"),
    };
    let place = |node: &str| {
        let place = found.iter().find(|(name, _)| name == node).map(|(_, place)| place);
        place.ok_or_else(|| Failed(format!("Could not find a coordinate for node \"{node}\"")))
    };
    let rtt = distance(place(first)?, place(&second)?).as_secs_f64() * 1e3;
    Ok(format!("Estimated {first} <-> {second} rtt: {rtt:.3} ms (using {kind} coordinates)"))
}

/// Refuses what is no server's name in the pool of all datacenters.
fn pool_name(node: &str) -> Result<(), Failed> {
    match node.rsplit_once('.') {
        Some((name, datacenter)) if !name.is_empty() && !datacenter.is_empty() => Ok(()),
        _ => Err(Failed("Node names must be specified as <node name>.<datacenter> with -wan".to_owned())),
    }
}

fn own_name(itself: &Value, wan: bool) -> String {
    let text = |name: &str| itself["Config"][name].as_str().unwrap_or_default();
    if wan { format!("{}.{}", text("NodeName"), text("Datacenter")) } else { text("NodeName").to_owned() }
}

/// The places of a list of nodes, by their names, which have the datacenter behind them if there is one.
fn within(nodes: &Value, datacenter: Option<&str>) -> Vec<(String, Coordinate)> {
    let name = |node: &Value| {
        let name = node["Node"].as_str()?;
        Some(datacenter.map_or_else(|| name.to_owned(), |datacenter| format!("{name}.{datacenter}")))
    };
    let nodes = nodes.as_array().into_iter().flatten();
    nodes.filter_map(|node| Some((name(node)?, coordinate(&node["Coord"])?))).collect()
}

fn between_datacenters(datacenters: &Value) -> Vec<(String, Coordinate)> {
    let datacenters = datacenters.as_array().into_iter().flatten();
    datacenters.flat_map(|datacenter| within(&datacenter["Coordinates"], datacenter["Datacenter"].as_str())).collect()
}

fn coordinate(value: &Value) -> Option<Coordinate> {
    let vector: Vec<f64> = value["Vec"].as_array()?.iter().map(Value::as_f64).collect::<Option<_>>()?;
    let place = Coordinate {
        vector: <[f64; DIMENSIONS]>::try_from(vector).ok()?,
        error: value["Error"].as_f64()?,
        adjustment: value["Adjustment"].as_f64()?,
        height: value["Height"].as_f64()?,
    };
    place.is_valid().then_some(place)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn places_are_read_from_both_lists() {
        let at = |x: f64| json!({ "Vec": [x, 0, 0, 0, 0, 0, 0, 0], "Error": 1.5, "Adjustment": 0, "Height": 0.001 });
        let nodes = json!([{ "Node": "a", "Coord": at(0.0) }, { "Node": "b", "Coord": at(0.01) }, { "Node": "c" }]);
        let places = within(&nodes, None);
        let names: Vec<_> = places.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(distance(&places[0].1, &places[1].1).as_micros(), 12_000);
        let wan = between_datacenters(&json!([{ "Datacenter": "dc1", "Coordinates": nodes }]));
        assert_eq!(wan[1].0, "b.dc1");
    }

    #[test]
    fn servers_of_all_datacenters_are_named_with_theirs() {
        assert!(pool_name("foobar.dc1").is_ok() && pool_name("a.b.dc1").is_ok());
        assert!(pool_name("foobar").unwrap_err().0.contains("<node name>.<datacenter>"));
        let itself = json!({ "Config": { "NodeName": "n", "Datacenter": "dc1" } });
        assert_eq!((own_name(&itself, true), own_name(&itself, false)), ("n.dc1".to_owned(), "n".to_owned()));
    }
}
