//! Help texts in the form that Consul's users know: options with one dash.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Arg, Command};

use crate::failed::Failed;
use crate::{flags, out};

mod classic;

/// The titles of what Consul 0.7 does not have.
const MORE_COMMANDS: &str = "Further commands";
const MORE_OPTIONS: &str = "Further options, with one dash or two";

/// Shows the help of the command at `path`. Like Consul, it ends with status 1, and the list of all
/// commands goes to standard error.
pub(crate) fn show(definition: &Command, path: &[String]) -> ExitCode {
    let text = help(definition, path);
    if path.is_empty() {
        out::print_error(format_args!("{text}"));
    } else {
        show!("{text}");
    }
    ExitCode::FAILURE
}

fn help(definition: &Command, path: &[String]) -> String {
    let command = path.iter().fold(definition, |command, name| command.find_subcommand(name).unwrap_or(command));
    text(&program(), command, path)
}

/// What is wrong with the arguments of the command at `path`, followed by its help, as with Consul.
pub(crate) fn after(wrong: &str, path: &[&str]) -> Failed {
    let path: Vec<_> = path.iter().map(|name| (*name).to_owned()).collect();
    Failed(format!("{wrong}\n\n{}", help(&crate::definition(), &path).trim_end()))
}

/// The name by which the program was called: some call it `consul`.
fn program() -> String {
    std::env::args_os().next().map_or_else(|| "lictor".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn text(program: &str, command: &Command, path: &[String]) -> String {
    let name: String = std::iter::once(program).chain(path.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
    let mut text = format!("Usage: {name}");
    if command.has_subcommands() {
        text.push_str(" <command> [options] [arguments]");
    } else {
        text.push_str(" [options]");
        for positional in command.get_positionals().filter(|arg| !arg.is_hide_set()) {
            let _ = write!(text, " [{}]", positional.get_id().as_str().to_uppercase());
        }
    }
    text.push('\n');
    if let Some(about) = command.get_long_about().or(command.get_about()) {
        let _ = write!(text, "\n{about}\n");
    }
    if command.has_subcommands() {
        write_commands(&mut text, command, path);
    }
    write_options(&mut text, command, path);
    if let Some(more) = command.get_after_help() {
        let _ = write!(text, "\n{more}");
    }
    text
}

/// The commands. Consul's users look for those that they know, and so do their programs, which take a list with four blanks for
/// Consul's: all others have a list of their own.
fn write_commands(text: &mut String, command: &Command, path: &[String]) {
    let mut names: Vec<_> = command.get_subcommands().map(|sub| (sub.get_name(), sub.get_about())).collect();
    names.sort_unstable_by_key(|(name, _)| *name);
    let known = |name: &str| !path.is_empty() || classic::COMMANDS.contains(&name);
    let (classic, more): (Vec<_>, Vec<_>) = names.into_iter().partition(|(name, _)| known(name));
    for (title, indent, names) in [("Commands", "    ", classic), (MORE_COMMANDS, "  ", more)] {
        if names.is_empty() {
            continue;
        }
        let _ = write!(text, "\n{title}:\n\n");
        for (name, about) in names {
            let _ = writeln!(text, "{indent}{name:<12}  {}", about.map(ToString::to_string).unwrap_or_default());
        }
    }
}

/// The options, sorted. Of a command that Consul has, those that it does not know have a list of their own.
fn write_options(text: &mut String, command: &Command, path: &[String]) {
    let command_name = path.join(" ");
    let shown = |arg: &&Arg| arg.get_long().is_some() && !arg.is_hide_set();
    let mut options: Vec<_> = command.get_arguments().filter(shown).collect();
    options.sort_unstable_by_key(|arg| arg.get_long());
    let known = |arg: &&Arg| flags::names(arg).any(|name| classic::has(&command_name, name));
    let (classic, more): (Vec<_>, Vec<_>) = options.into_iter().partition(known);
    for (title, options) in [("Options", classic), (MORE_OPTIONS, more)] {
        if options.is_empty() {
            continue;
        }
        let _ = write!(text, "\n{title}:\n\n");
        for option in options {
            write_option(text, option, &command_name);
        }
    }
}

fn write_option(text: &mut String, option: &Arg, command_name: &str) {
    let value = match flags::takes_value(option) {
        true => format!("=<{}>", option.get_value_names().map_or("value", |names| &names[0]).to_lowercase()),
        false => String::new(),
    };
    let long = option.get_long().into_iter();
    for name in long.chain(option.get_visible_aliases().unwrap_or_default()) {
        let _ = writeln!(text, "  {}{value}", dashed(command_name, name));
    }
    for line in option.get_long_help().or(option.get_help()).map(ToString::to_string).unwrap_or_default().lines() {
        let _ = writeln!(text, "      {line}");
    }
}

/// An option's name as it is listed: with two dashes if Consul has the command, and not this option, so that nobody takes it for
/// one of Consul's. Either is understood with one dash or two.
pub(crate) fn dashed(command_name: &str, name: &str) -> String {
    if classic::has(command_name, name) { format!("-{name}") } else { format!("--{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_shown_with_one_dash() {
        let definition = crate::definition();
        let path = ["kv".to_owned(), "get".to_owned()];
        let get = definition.find_subcommand("kv").unwrap().find_subcommand("get").unwrap();
        let text = text("lictor", get, &path);
        assert!(text.starts_with("Usage: lictor kv get [options] [KEY]\n"), "{text}");
        assert!(text.contains("\n  -http-addr=<address>\n      "), "{text}");
        assert!(text.contains("\n  -recurse\n      "), "{text}");
    }

    #[test]
    fn what_consul_does_not_have_is_listed_apart() {
        let definition = crate::definition();
        let exec = text("lictor", definition.find_subcommand("exec").unwrap(), &["exec".to_owned()]);
        let (classic, more) = exec.split_once("\nFurther options").unwrap();
        assert!(classic.contains("\n  -wait-repl=<time>\n") && !classic.contains("canary=<"), "{exec}");
        assert!(more.contains("\n  --canary=<number>\n"), "{exec}");
        let all = text("lictor", &definition, &[]);
        let (classic, more) = all.split_once("\nFurther commands").unwrap();
        assert!(classic.contains("\n    exec    ") && more.contains("\n  catalog  "), "{all}");
    }

    #[test]
    fn what_consul_has_is_there() {
        let definition = crate::definition();
        for name in classic::COMMANDS {
            assert!(definition.find_subcommand(name).is_some(), "{name}");
        }
    }

    #[test]
    fn help_follows_what_is_wrong() {
        let Failed(told) = after("One or two", &["operator", "raft"]);
        let (wrong, help) = told.split_once("\n\n").unwrap();
        assert_eq!(wrong, "One or two");
        assert!(help.starts_with(&format!("Usage: {} operator raft ", program())), "{help}");
        assert!(help.contains("-list-peers") && !help.ends_with('\n'), "{help}");
    }

    #[test]
    fn commands_are_listed_in_order() {
        let text = text("lictor", &crate::definition(), &[]);
        let at =
            |name: &str| text.find(&format!("\n    {name}  ")).unwrap_or_else(|| panic!("{name} is not in {text}"));
        assert!(at("agent      ") < at("kv         ") && at("kv         ") < at("version    "));
    }
}
