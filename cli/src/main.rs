//! The binary `lictor`: the agent, and the commands for its clients.

#[macro_use]
mod out;

mod agent;
mod catalog;
mod completion;
mod configtest;
mod event;
mod exec;
mod failed;
mod flags;
mod force_leave;
mod help;
mod info;
mod join;
mod keygen;
mod keyring;
mod kv;
mod leave;
mod lock;
mod maint;
mod man;
mod members;
mod monitor;
mod operator;
mod regexp;
mod reload;
mod rtt;
mod snapshot;
mod table;
mod version;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use lictor_client::{client, recipe};
use lictor_runtime::guard;

/// Memory is asked for and given back at every request; this allocator does it at half the cost.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A cluster engine behind the Consul HTTP API.
#[derive(Debug, Parser)]
#[command(name = "lictor", disable_help_flag = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Subcommand)]
#[command(disable_help_flag = true, disable_help_subcommand = true)]
enum Commands {
    Agent(Box<agent::Args>),
    Catalog(catalog::Args),
    Completion(completion::Args),
    Configtest(configtest::Args),
    Event(event::Args),
    Exec(exec::Args),
    ForceLeave(force_leave::Args),
    Info(info::Args),
    Join(join::Args),
    Keygen(keygen::Args),
    Keyring(keyring::Args),
    Kv(kv::Args),
    Leave(leave::Args),
    Lock(lock::Args),
    Maint(maint::Args),
    Man(man::Args),
    Members(members::Args),
    Monitor(monitor::Args),
    Operator(operator::Args),
    Reload(reload::Args),
    Rtt(rtt::Args),
    Snapshot(snapshot::Args),
    Validate(configtest::Validate),
    Version(version::Args),
    Watch(watch::Args),
}

fn main() -> ExitCode {
    out::status(run(std::env::args_os().skip(1).collect()))
}

fn run(args: Vec<OsString>) -> ExitCode {
    if let Some((first, others)) = args.split_first()
        && *first == *guard::COMMAND
    {
        // No command for people: see the module.
        return guard::run(others);
    }
    if let [only] = &args[..]
        && ["-v", "-version", "--version"].iter().any(|version| *only == **version)
    {
        return version::run();
    }
    let definition = definition();
    let asked = match flags::read(&definition, args) {
        Ok(asked) => asked,
        Err(wrong) => return refuse(&wrong),
    };
    if asked.help || !asked.complete {
        return help::show(&definition, &asked.path);
    }
    let matches = match definition.try_get_matches_from(asked.args) {
        Ok(matches) => matches,
        Err(error) => return refuse(&flags::in_our_words(&error)),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return refuse(&flags::in_our_words(&error)),
    };
    match cli.command {
        Commands::Agent(args) => agent::run(&args, &agent::ignored(&matches)),
        Commands::Catalog(args) => catalog::run(args),
        Commands::Completion(args) => completion::run(&args),
        Commands::Configtest(args) => configtest::run(args),
        Commands::Event(args) => event::run(args),
        Commands::Exec(args) => exec::run(args),
        Commands::ForceLeave(args) => force_leave::run(args),
        Commands::Info(args) => info::run(args),
        Commands::Join(args) => join::run(args),
        Commands::Keygen(_) => keygen::run(),
        Commands::Keyring(args) => keyring::run(args),
        Commands::Kv(args) => kv::run(args),
        Commands::Leave(args) => leave::run(args),
        Commands::Lock(args) => lock::run(args),
        Commands::Maint(args) => maint::run(args),
        Commands::Man(args) => man::run(args),
        Commands::Members(args) => members::run(args),
        Commands::Monitor(args) => monitor::run(args),
        Commands::Operator(args) => operator::run(args),
        Commands::Reload(args) => reload::run(args),
        Commands::Rtt(args) => rtt::run(args),
        Commands::Snapshot(args) => snapshot::run(args),
        Commands::Validate(args) => configtest::validate(args),
        Commands::Version(_) => version::run(),
        Commands::Watch(args) => watch::run(args),
    }
}

/// All commands and their options.
fn definition() -> Command {
    let mut command = last_wins(Cli::command().mut_subcommand("agent", agent::with_ignored_options));
    command.build();
    command
}

/// Of an option that is given twice the last counts, as with Consul.
fn last_wins(command: Command) -> Command {
    command.args_override_self(true).mut_subcommands(last_wins)
}

/// Says what is wrong with the command line.
fn refuse(wrong: &str) -> ExitCode {
    complain!("{wrong}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_options_are_well_defined() {
        definition().debug_assert();
    }
}
