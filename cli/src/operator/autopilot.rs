//! `lictor operator autopilot`: how the leader looks after the servers.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{ArgAction, Subcommand};
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::client::{Answer, Client, Options};
use crate::failed::{self, Failed};

/// Shows and sets how the leader looks after the servers
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    disable_help_subcommand = true,
    long_about = "Shows and sets how the leader looks after the servers, and shows how they are.\n\n    $ lictor \
                  operator autopilot state\n    $ lictor operator autopilot set-config -cleanup-dead-servers=false"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Subcommand)]
enum Commands {
    GetConfig(GetConfig),
    SetConfig(SetConfig),
    State(State),
}

/// Shows how the leader looks after the servers
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Shows how the leader looks after the servers.\n\n    $ lictor operator autopilot get-config"
)]
struct GetConfig {
    #[command(flatten)]
    client: Options,
}

/// Changes how the leader looks after the servers
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Changes how the leader looks after the servers. What is not given stays as it is.\n\n    $ lictor \
                  operator autopilot set-config -last-contact-threshold=500ms -max-trailing-logs=1000"
)]
struct SetConfig {
    #[command(flatten)]
    client: Options,
    /// Set only if the settings' modify index is -modify-index, and not the one that they have now.
    #[arg(long)]
    cas: bool,
    /// The modify index for -cas.
    #[arg(long, value_name = "number", default_value_t = 0)]
    modify_index: u64,
    /// Whether a dead server is removed once another one can take its place.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    cleanup_dead_servers: Option<bool>,
    /// How long a healthy server may be without contact to the leader, such as 200ms.
    #[arg(long, value_name = "duration")]
    last_contact_threshold: Option<String>,
    /// How many entries of the log a healthy server may lack.
    #[arg(long, value_name = "number")]
    max_trailing_logs: Option<u64>,
    /// How long a new server must be healthy before it gets a vote, such as 10s.
    #[arg(long, value_name = "duration")]
    server_stabilization_time: Option<String>,
}

/// Shows how the servers are
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Shows how the servers are, as the leader sees them.\n\n    $ lictor operator autopilot state"
)]
struct State {
    #[command(flatten)]
    client: Options,
}

const CONFIGURATION: &str = "operator/autopilot/configuration";

pub(super) fn run(args: Args) -> ExitCode {
    failed::status(match args.command {
        Commands::GetConfig(args) => get_config(args),
        Commands::SetConfig(args) => set_config(args),
        Commands::State(args) => state(args),
    })
}

fn get_config(args: GetConfig) -> Result<(), Failed> {
    let failed = |why| Failed(format!("Error querying Autopilot configuration: {why}"));
    let client = Client::new(args.client).map_err(|error| failed(error.to_string()))?;
    show!("{}", shown(&settings(&client).map_err(failed)?));
    Ok(())
}

fn settings(client: &Client) -> Result<Value, String> {
    let body = client.get(CONFIGURATION, &[]).and_then(Answer::ok).map_err(|error| error.to_string())?;
    serde_json::from_slice(&body).map_err(|error| format!("unreadable answer: {error}"))
}

/// Settings for people. Texts that may be empty are quoted.
fn shown(settings: &Value) -> String {
    let names = [
        "CleanupDeadServers",
        "LastContactThreshold",
        "MaxTrailingLogs",
        "ServerStabilizationTime",
        "RedundancyZoneTag",
        "DisableUpgradeMigration",
        "UpgradeVersionTag",
    ];
    let mut text = String::new();
    for name in names {
        let value = match &settings[name] {
            Value::String(value) if !name.ends_with("Tag") => value.clone(),
            other => other.to_string(),
        };
        let _ = writeln!(text, "{name} = {value}");
    }
    text
}

fn set_config(args: SetConfig) -> Result<(), Failed> {
    let failed = |what: &'static str| move |why: String| Failed(format!("Error {what} Autopilot configuration: {why}"));
    let setting = failed("setting");
    if !args.cas && args.modify_index != 0 {
        return Err(Failed("Cannot specify -modify-index without -cas!".to_owned()));
    }
    let client = Client::new(args.client).map_err(|error| setting(error.to_string()))?;
    let mut settings = settings(&client).map_err(failed("querying"))?;
    let changes = [
        ("CleanupDeadServers", args.cleanup_dead_servers.map(Value::from)),
        ("LastContactThreshold", args.last_contact_threshold.map(Value::from)),
        ("MaxTrailingLogs", args.max_trailing_logs.map(Value::from)),
        ("ServerStabilizationTime", args.server_stabilization_time.map(Value::from)),
    ];
    for (name, value) in changes {
        if let Some(value) = value {
            settings[name] = json!(value);
        }
    }
    // Nobody else's change may be undone unseen: those settings are replaced that were read, or that the user means.
    let index = if args.cas { args.modify_index } else { settings["ModifyIndex"].as_u64().unwrap_or(0) };
    let done = client
        .put(CONFIGURATION, &[("cas", &index.to_string())], settings.to_string())
        .and_then(Answer::ok)
        .map_err(|error| setting(error.to_string()))?;
    if done.trim_ascii() != b"true" {
        return Err(Failed("Configuration could not be atomically updated, please try again".to_owned()));
    }
    say!("Configuration updated!");
    Ok(())
}

fn state(args: State) -> Result<(), Failed> {
    let failed = |why: String| Failed(format!("Error querying Autopilot state: {why}"));
    let client = Client::new(args.client).map_err(|error| failed(error.to_string()))?;
    let mut answer = client.get("operator/autopilot/health", &[]).map_err(|error| failed(error.to_string()))?;
    // Told of a cluster that is not healthy, with the same body. Too many open calls have a plain text.
    if answer.status == StatusCode::TOO_MANY_REQUESTS && answer.body.starts_with(b"{") {
        answer.status = StatusCode::OK;
    }
    let body = answer.ok().map_err(|error| failed(error.to_string()))?;
    let health: Value = serde_json::from_slice(&body).map_err(|error| failed(format!("unreadable answer: {error}")))?;
    show!("{}", shown_state(&health));
    Ok(())
}

/// How the servers are, for people.
fn shown_state(health: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut out = String::new();
    let _ = writeln!(out, "Healthy:            {}", health["Healthy"]);
    let _ = writeln!(out, "Failure Tolerance:  {}", health["FailureTolerance"]);
    let servers: Vec<&Value> = health["Servers"].as_array().into_iter().flatten().collect();
    let leader = servers.iter().find(|server| server["Leader"] == true);
    let _ = writeln!(out, "Leader:             {}", leader.map_or_else(|| "(none)".to_owned(), |l| text(&l["ID"])));
    let _ = writeln!(out, "Servers:");
    for server in servers {
        let status = match (server["Leader"] == true, server["Voter"] == true) {
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) => "non-voter",
        };
        let _ = writeln!(out, "    {}", text(&server["ID"]));
        let rows = [
            ("Name", text(&server["Name"])),
            ("Address", text(&server["Address"])),
            ("Status", status.to_owned()),
            ("Node Status", text(&server["SerfStatus"])),
            ("Healthy", text(&server["Healthy"])),
            ("Last Contact", text(&server["LastContact"])),
            ("Last Term", text(&server["LastTerm"])),
            ("Last Index", text(&server["LastIndex"])),
            ("Stable Since", text(&server["StableSince"])),
        ];
        for (name, value) in rows {
            let _ = writeln!(out, "        {:<14}{value}", format!("{name}:"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_shown_one_a_line() {
        let settings = json!({
            "CleanupDeadServers": true, "LastContactThreshold": "200ms", "MaxTrailingLogs": 250,
            "ServerStabilizationTime": "10s", "RedundancyZoneTag": "", "DisableUpgradeMigration": false,
            "UpgradeVersionTag": "", "CreateIndex": 0, "ModifyIndex": 0
        });
        assert_eq!(
            shown(&settings),
            "CleanupDeadServers = true\nLastContactThreshold = 200ms\nMaxTrailingLogs = 250\n\
             ServerStabilizationTime = 10s\nRedundancyZoneTag = \"\"\nDisableUpgradeMigration = false\n\
             UpgradeVersionTag = \"\"\n"
        );
    }

    #[test]
    fn the_state_names_the_leader_and_each_server() {
        let health = json!({ "Healthy": false, "FailureTolerance": 1, "Servers": [
            { "ID": "a", "Name": "one", "Address": "10.0.0.1:8300", "Leader": true, "Voter": true, "Healthy": true,
              "SerfStatus": "alive", "LastContact": "0s", "LastTerm": 3, "LastIndex": 9,
              "StableSince": "2016-11-24T15:06:40Z" },
            { "ID": "b", "Name": "(unknown)", "Leader": false, "Voter": false },
        ] });
        let text = shown_state(&health);
        assert!(
            text.starts_with("Healthy:            false\nFailure Tolerance:  1\nLeader:             a\n"),
            "{text}"
        );
        assert!(text.contains("\n    a\n        Name:         one\n"), "{text}");
        assert!(text.contains("\n        Status:       non-voter\n"), "{text}");
    }
}
