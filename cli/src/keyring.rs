//! `lictor keyring`: the keys with which gossip is encrypted.

use std::fmt::Write as _;
use std::process::ExitCode;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::client::{self, AgentOptions, Answer, Client, Error};
use crate::failed::{self, Failed};
use crate::help;

/// What an agent says that has no keyring begins with this.
const NO_KEYRING: &str = "there is no keyring";

/// Manages the keys of encrypted gossip
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Manages the keys with which gossip between agents is encrypted. A new key is first installed everywhere, then \
                  used;\nthen the old one can be removed. One of -list, -install, -use and -remove is needed.\n\n    $ lictor keyring \
                  -list\n    $ lictor keyring -install=\"$(lictor keygen)\""
)]
pub(crate) struct Args {
    #[command(flatten)]
    client: AgentOptions,
    /// List all keys, and how many members have each.
    #[arg(long)]
    list: bool,
    /// Install a new key. It is not used yet.
    #[arg(long, value_name = "key", default_value = "")]
    install: String,
    /// Encrypt with this key from now on. It must be installed.
    #[arg(long = "use", value_name = "key", default_value = "")]
    used: String,
    /// Remove a key that is not used.
    #[arg(long, value_name = "key", default_value = "")]
    remove: String,
    /// Anything more is ignored.
    #[arg(hide = true)]
    _rest: Vec<String>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
struct Task {
    method: Method,
    title: &'static str,
    key: Option<String>,
}

pub(crate) fn run(args: Args) -> ExitCode {
    match task(&args) {
        Ok(Some(task)) => failed::status(announce(args.client, &task)),
        Ok(None) => help::show(&crate::definition(), &["keyring".to_owned()]),
        Err(failed) => failed::status(Err(failed)),
    }
}

/// Does it, and tells people about it: not before there is anybody to do it.
fn announce(options: AgentOptions, task: &Task) -> Result<(), Failed> {
    let client = Client::of_agent(options).and_then(|client| client.reach().map(|()| client));
    let client = client.map_err(|error| unanswered(&error))?;
    say!("==> {}...", task.title);
    let text = carry_out(&client, task)?;
    say!("==> Done!\n{text}");
    Ok(())
}

fn unanswered(error: &Error) -> Failed {
    Failed(error.told("asking for the keyring"))
}

/// The one thing that is to be done, if anything is.
fn task(args: &Args) -> Result<Option<Task>, Failed> {
    let keyed = |method, title, key: &String| (!key.is_empty()).then(|| Task { method, title, key: Some(key.clone()) });
    let list = Task { method: Method::GET, title: "Gathering installed encryption keys", key: None };
    let tasks = [
        args.list.then_some(list),
        keyed(Method::POST, "Installing new gossip encryption key", &args.install),
        keyed(Method::PUT, "Changing primary gossip encryption key", &args.used),
        keyed(Method::DELETE, "Removing gossip encryption key", &args.remove),
    ];
    let mut tasks = tasks.into_iter().flatten();
    let task = tasks.next();
    match tasks.next() {
        Some(_) => Err(Failed("Only a single action is allowed".to_owned())),
        None => Ok(task),
    }
}

/// Does it. Gives what there is to show.
fn carry_out(client: &Client, task: &Task) -> Result<String, Failed> {
    let body = task.key.as_ref().map(|key| json!({ "Key": key }).to_string()).unwrap_or_default();
    let runtime = client::runtime().map_err(|error| unanswered(&error))?;
    let answer = runtime.block_on(client.ask(&task.method, "operator/keyring", &[], body));
    match answer.and_then(Answer::ok) {
        Ok(body) if task.key.is_none() => {
            let pools: Value = serde_json::from_slice(&body)
                .map_err(|error| Failed(format!("error: unreadable answer to operator/keyring: {error}")))?;
            Ok(rings(&pools))
        }
        Ok(_) => Ok(String::new()),
        Err(Error::Status { status: StatusCode::INTERNAL_SERVER_ERROR, text }) if text.starts_with(NO_KEYRING) => {
            let why = match task.key {
                None => "Keyring is empty (encryption not enabled)",
                Some(_) => "No keyring to modify (encryption not enabled)",
            };
            Err(Failed(without_keyring(client, why).map_err(|error| unanswered(&error))?))
        }
        Err(error @ Error::Dial { .. }) => Err(unanswered(&error)),
        Err(error) => Err(Failed(format!("error: {error}"))),
    }
}

/// The keys of each pool, with the number of its members that have them.
fn rings(pools: &Value) -> String {
    let mut text = String::new();
    for pool in pools.as_array().into_iter().flatten() {
        let name = pool_name(pool["WAN"].as_bool() == Some(true), pool["Datacenter"].as_str().unwrap_or_default());
        let _ = write!(text, "\n{name}:\n");
        for (key, members) in pool["Keys"].as_object().into_iter().flatten() {
            let _ = writeln!(text, "  {key} [{members}/{}]", pool["NumNodes"]);
        }
    }
    text
}

/// Where gossip is not encrypted, no member of a pool has a keyring: who had one could not talk to the others.
fn without_keyring(client: &Client, why: &str) -> Result<String, Error> {
    let ask = |path: &str, query: &[(&str, &str)]| -> Result<Value, Error> {
        let body = client.get(path, query).and_then(Answer::ok)?;
        serde_json::from_slice(&body).map_err(|error| Error::Unsupported(format!("unreadable answer: {error}")))
    };
    let this = ask("agent/self", &[])?;
    let datacenter = this["Config"]["Datacenter"].as_str().unwrap_or_default();
    let mut text = String::new();
    for (wan, query) in [(true, &[("wan", "1")][..]), (false, &[][..])] {
        let members = ask("agent/members", query)?;
        let members = members.as_array().into_iter().flatten().filter(|member| member["Status"] == 1);
        let names: Vec<&str> = members.filter_map(|member| member["Name"].as_str()).collect();
        if names.is_empty() {
            continue;
        }
        let (name, number) = (pool_name(wan, datacenter), names.len());
        let _ = write!(text, "\n{name} error: {number}/{number} nodes reported failure\n");
        for name in names {
            let _ = writeln!(text, "  {name}: {why}");
        }
    }
    Ok(text)
}

fn pool_name(wan: bool, datacenter: &str) -> String {
    if wan { "WAN".to_owned() } else { format!("{datacenter} (LAN)") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(list: bool, keys: [&str; 3]) -> Args {
        let [install, used, remove] = keys.map(str::to_owned);
        Args { client: AgentOptions::default(), list, install, used, remove, _rest: Vec::new() }
    }

    #[test]
    fn one_thing_is_done_at_a_time() {
        let task = |list, keys| task(&args(list, keys));
        assert_eq!(task(true, ["", "", ""]).unwrap().unwrap().method, Method::GET);
        assert_eq!(task(false, ["", "k", ""]).unwrap().unwrap().key.as_deref(), Some("k"));
        assert_eq!(task(false, ["", "", "k"]).unwrap().unwrap().method, Method::DELETE);
        assert_eq!(task(false, ["", "", ""]), Ok(None));
        for several in [task(true, ["k", "", ""]), task(false, ["k", "k", ""]), task(false, ["", "k", "k"])] {
            assert_eq!(several, Err(Failed("Only a single action is allowed".to_owned())));
        }
    }

    #[test]
    fn rings_are_shown_by_pool() {
        let pools = json!([
            { "WAN": true, "Datacenter": "dc1", "Keys": { "a==": 1 }, "NumNodes": 1 },
            { "WAN": false, "Datacenter": "dc1", "Keys": { "a==": 2, "b==": 3 }, "NumNodes": 3 },
        ]);
        assert_eq!(rings(&pools), "\nWAN:\n  a== [1/1]\n\ndc1 (LAN):\n  a== [2/3]\n  b== [3/3]\n");
    }
}
