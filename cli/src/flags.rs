//! Command lines as Consul's users write them: long options with one dash or two, `-stale=false`, and
//! nothing but arguments after the first argument. They are rewritten into the one form that clap reads.

use std::ffi::OsString;

use clap::builder::ArgAction;
use clap::{Arg, Command};

/// A command line in clap's form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The names of the subcommands, outermost first.
    pub(crate) path: Vec<String>,
    /// For clap, with the program's name in front.
    pub(crate) args: Vec<OsString>,
    /// Whether help is wanted instead.
    pub(crate) help: bool,
    /// Whether the path ends at a command that does something.
    pub(crate) complete: bool,
}

/// Reads a command line. An error is a text for the user.
pub(crate) fn read(definition: &Command, line: Vec<OsString>) -> Result<Asked, String> {
    let mut command = definition;
    let mut asked = Asked { path: Vec::new(), args: vec!["lictor".into()], help: false, complete: false };
    let mut line = line.into_iter();
    while let Some(word) = line.next() {
        let Some(text) = word.to_str().filter(|text| *text != "-") else {
            return Ok(all_arguments(asked, command, word, line));
        };
        if text == "--" {
            asked.args.push(word);
            asked.args.extend(line);
            break;
        }
        if let Some(option) = text.strip_prefix('-') {
            let option = option.strip_prefix('-').unwrap_or(option);
            if matches!(option, "h" | "help") {
                asked.help = true;
                break;
            }
            read_option(command, option, &mut line, &mut asked)?;
        } else if command.has_subcommands() {
            command = command.find_subcommand(text).ok_or_else(|| unknown_command(command, &asked.path, text))?;
            asked.path.push(text.to_owned());
            asked.args.push(word);
        } else {
            return Ok(all_arguments(asked, command, word, line));
        }
    }
    asked.complete = does_something(command);
    Ok(asked)
}

/// From the first argument on, everything is one, dashes or not: `kv put temperature -5`.
fn all_arguments(mut asked: Asked, command: &Command, first: OsString, rest: impl Iterator<Item = OsString>) -> Asked {
    asked.args.push("--".into());
    asked.args.push(first);
    asked.args.extend(rest);
    asked.complete = does_something(command);
    asked
}

/// Whether a command can be run as it is, without one of its subcommands.
fn does_something(command: &Command) -> bool {
    !command.has_subcommands() || !command.is_subcommand_required_set()
}

/// Adds one option in clap's form, with the next word if that is its value.
fn read_option(
    command: &Command,
    option: &str,
    line: &mut impl Iterator<Item = OsString>,
    asked: &mut Asked,
) -> Result<(), String> {
    let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
    let known = find(command, name).ok_or_else(|| unknown_option(command, &asked.path, name))?;
    let mut word = OsString::from(format!("--{name}"));
    if takes_value(known) {
        word.push("=");
        match value {
            Some(value) => word.push(value),
            None => word.push(line.next().ok_or_else(|| format!("-{name} needs a value: -{name}=<value>"))?),
        }
    } else {
        let on = match value {
            None => true,
            Some(value) => truth(value).ok_or_else(|| format!("-{name} is true or false, not \"{value}\""))?,
        };
        if !matches!(known.get_action(), ArgAction::SetTrue) {
            word.push(format!("={on}"));
        } else if !on {
            // Clap's plain switches can be given, not taken back.
            asked.args.retain(|given| *given != word);
            return Ok(());
        }
    }
    asked.args.push(word);
    Ok(())
}

fn find<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    command.get_arguments().find(|arg| names(arg).any(|n| n == name))
}

/// The long names of an option.
pub(crate) fn names(arg: &Arg) -> impl Iterator<Item = &str> {
    arg.get_long().into_iter().chain(arg.get_all_aliases().unwrap_or_default())
}

/// Whether an option is more than a switch.
pub(crate) fn takes_value(arg: &Arg) -> bool {
    arg.get_num_args().is_some_and(|number| number.min_values() > 0)
}

/// The words for true and false that Go knows.
pub(crate) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A whole number as Go's options take it: decimal, or with 0x, 0o, 0b or 0 in front, of 16, 8, 2 and 8.
pub(crate) fn number<N: TryFrom<i128>>(text: &str) -> Result<N, String> {
    let (sign, digits) = match text.as_bytes() {
        [b'-', ..] => (-1, &text[1..]),
        [b'+', ..] => (1, &text[1..]),
        _ => (1, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &*lower),
    };
    let plain = digits.chars().all(|digit| digit.is_digit(base));
    let read = i128::from_str_radix(digits, base).ok().filter(|_| plain);
    read.and_then(|read| N::try_from(sign * read).ok())
        .ok_or_else(|| "a whole number in its range is needed".to_owned())
}

fn unknown_option(command: &Command, path: &[String], name: &str) -> String {
    let known = command.get_arguments().filter(|arg| !arg.is_hide_set()).flat_map(names);
    let hint = nearest(name, known).map_or_else(String::new, |near| format!(" Did you mean -{near}?"));
    format!("lictor {}: there is no option -{name}.{hint}\nSee: lictor {} -h", path.join(" "), path.join(" "))
}

fn unknown_command(command: &Command, path: &[String], name: &str) -> String {
    if path == ["operator"] {
        return format!("Operator \"{name}\" subcommand failed: unknown subcommand \"{name}\"");
    }
    let known = command.get_subcommands().map(Command::get_name);
    let hint = nearest(name, known).map_or_else(String::new, |near| format!(" Did you mean \"{near}\"?"));
    let path: String = path.iter().map(|name| format!(" {name}")).collect();
    format!("lictor{path}: there is no command \"{name}\".{hint}\nSee: lictor{path} -h")
}

/// What of `known` was most likely meant by `text`.
pub(crate) fn nearest<'k>(text: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let limit = (text.chars().count() / 3).max(1);
    known.map(|k| (distance(text, k), k)).min().filter(|(distance, _)| *distance <= limit).map(|(_, k)| k)
}

/// How many letters must be changed, added or dropped to make `b` from `a`; two that changed places
/// count as one.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// Clap's complaint in one sentence, with one dash.
pub(crate) fn in_our_words(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let sentence = text.lines().next().unwrap_or_default();
    sentence.strip_prefix("error: ").unwrap_or(sentence).replace("--", "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(line: &str) -> Result<String, String> {
        let asked = read(&crate::definition(), line.split(' ').map(OsString::from).collect())?;
        let args: Vec<_> = asked.args[1..].iter().map(|arg| arg.to_str().unwrap()).collect();
        Ok(args.join(" "))
    }

    #[test]
    fn one_dash_or_two_equals_or_blank() {
        for line in [
            "kv get -http-addr=h:1 a",
            "kv get --http-addr=h:1 a",
            "kv get -http-addr h:1 a",
            "kv get --http-addr h:1 a",
        ] {
            assert_eq!(rewritten(line).unwrap(), "kv get --http-addr=h:1 -- a", "{line}");
        }
        assert_eq!(rewritten("agent -data-dir /d -dev").unwrap(), "agent --data-dir=/d --dev=true");
    }

    #[test]
    fn switches_take_no_word_but_may_be_set_by_equals() {
        assert_eq!(rewritten("kv get -stale a").unwrap(), "kv get --stale -- a");
        assert_eq!(rewritten("kv get -stale=false -keys=T a").unwrap(), "kv get --keys -- a");
        assert_eq!(rewritten("kv get -stale -keys -stale=0 a").unwrap(), "kv get --keys -- a");
        assert_eq!(rewritten("agent -server=false").unwrap(), "agent --server=false");
        assert!(rewritten("kv get -stale=maybe a").unwrap_err().contains("-stale is true or false"));
    }

    #[test]
    fn of_an_option_given_twice_the_last_counts() {
        let asked = read(&crate::definition(), ["agent", "-node=a", "-node", "b"].map(OsString::from).into()).unwrap();
        let matches = crate::definition().try_get_matches_from(asked.args).unwrap();
        let agent = matches.subcommand_matches("agent").unwrap();
        assert_eq!(agent.get_one::<String>("node").map(String::as_str), Some("b"));
    }

    #[test]
    fn all_is_argument_after_the_first() {
        assert_eq!(rewritten("kv put temperature -5").unwrap(), "kv put -- temperature -5");
        assert_eq!(rewritten("kv put a -").unwrap(), "kv put -- a -");
        assert_eq!(rewritten("kv put a -h").unwrap(), "kv put -- a -h");
        assert_eq!(rewritten("kv put - b").unwrap(), "kv put -- - b");
        assert_eq!(rewritten("kv put -cas -modify-index -5 a -b").unwrap(), "kv put --cas --modify-index=-5 -- a -b");
        assert_eq!(rewritten("kv put -- -a -b").unwrap(), "kv put -- -a -b");
    }

    #[test]
    fn what_is_unknown_is_named_with_what_may_be_meant() {
        assert!(rewritten("kv get -recures a").unwrap_err().contains("no option -recures. Did you mean -recurse?"));
        assert!(rewritten("agetn -dev").unwrap_err().contains("Did you mean \"agent\"?"));
        assert!(rewritten("nosuch").unwrap_err().ends_with("See: lictor -h"));
        assert!(rewritten("kv get -http-addr").unwrap_err().contains("-http-addr needs a value"));
    }

    #[test]
    fn help_is_for_the_command_that_was_named() {
        let asked = |line: &str| read(&crate::definition(), line.split(' ').map(OsString::from).collect()).unwrap();
        let get = asked("kv get -h");
        assert!(get.help && get.path == ["kv", "get"]);
        let kv = asked("kv");
        assert!(!kv.complete && kv.path == ["kv"]);
        assert!(asked("--help").path.is_empty());
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, expected) in
            [("42", 42), ("0", 0), ("0x2A", 42), ("052", 42), ("0o52", 42), ("0b101010", 42), ("+42", 42)]
        {
            assert_eq!(number::<u64>(text), Ok(expected), "{text}");
        }
        assert_eq!((number::<u64>("18446744073709551615"), number::<i64>("-0x10")), (Ok(u64::MAX), Ok(-16)));
        for text in ["", "-", "--5", "0x", "0x-5", "08", "5a", "-1", "18446744073709551616"] {
            assert!(number::<u64>(text).is_err(), "{text}");
        }
        let line = ["kv", "put", "-flags=0xff", "a"].map(OsString::from).into();
        let matches = crate::definition().try_get_matches_from(read(&crate::definition(), line).unwrap().args).unwrap();
        let put = matches.subcommand_matches("kv").and_then(|kv| kv.subcommand_matches("put")).unwrap();
        assert_eq!(put.get_one::<u64>("flags"), Some(&255));
    }

    #[test]
    fn distances_count_letters() {
        assert_eq!(distance("server", "server"), 0);
        assert_eq!(distance("sevrer", "server"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(nearest("datacentre", ["data_dir", "datacenter"].into_iter()), Some("datacenter"));
        assert_eq!(nearest("zzz", ["data_dir", "datacenter"].into_iter()), None);
    }
}
