//! What is shown of a job: in the words of Consul's command, or as JSON.
//!
//! On standard output are the nodes' lines and the steps that Consul's command tells, in its form, which scripts know. What it
//! does not tell is on standard error: on a terminal how far it has come, and in the end who has not answered; with `-verbose` the
//! same, and who is expected to, as lines of a log.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, SystemTime};

use indicatif::{ProgressBar, ProgressStyle};
use lictor_core::exec::initiator::{Lines, News, Outcome, Summary};
use lictor_http::exec::{Narrator, over};

/// How often the picture on the terminal moves.
const TICK: Duration = Duration::from_millis(120);
/// How many names of nodes are shown at a time.
const NAMES: usize = 8;

/// The form in which it is shown.
enum Form {
    Text { lines: Lines, wrote: BTreeSet<String>, colours: bool },
    Json(Narrator),
}

/// Shows a job.
pub(super) struct Show {
    form: Form,
    verbose: bool,
    /// Whether somebody looks at standard error.
    watched: bool,
    progress: Option<Progress>,
}

/// How far it has come, on a terminal.
struct Progress {
    bar: ProgressBar,
    expected: usize,
    at_work: BTreeSet<String>,
    ended: usize,
}

impl Show {
    pub(super) fn new(verbose: bool, json: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let (seen, watched) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let form = match json {
            true => Form::Json(Narrator::default()),
            false => Form::Text { lines: Lines::default(), wrote: BTreeSet::new(), colours: seen && !plain },
        };
        let progress = (seen && watched && !json).then(Progress::new);
        Self { form, verbose, watched: watched && !json, progress }
    }

    /// Shows a piece of news.
    ///
    /// # Errors
    /// If that cannot be written: nobody reads it, perhaps.
    pub(super) fn tell(&mut self, news: &News) -> io::Result<()> {
        let mut out = Vec::new();
        match &mut self.form {
            Form::Json(narrator) => {
                for value in narrator.tell(news) {
                    let _ = writeln!(out, "{value}");
                }
            }
            Form::Text { lines, wrote, colours } => {
                let mut page = Page { out: &mut out, lines, wrote, colours: *colours, verbose: self.verbose };
                page.tell(news);
            }
        }
        let notes = self.notes(news);
        match &mut self.progress {
            Some(progress) => {
                progress.take(news);
                progress.bar.suspend(|| print(&out, &notes))
            }
            None => print(&out, &notes),
        }
    }

    /// It is over.
    ///
    /// # Errors
    /// As above.
    pub(super) fn over(&mut self, outcome: Outcome) -> io::Result<()> {
        if let Some(progress) = self.progress.take() {
            progress.bar.finish_and_clear();
        }
        match self.form {
            Form::Json(_) => print(format!("{}\n", over(outcome)).as_bytes(), &[]),
            Form::Text { .. } => Ok(()),
        }
    }

    /// What is told on standard error.
    fn notes(&self, news: &News) -> Vec<String> {
        let failure = match news {
            News::Failed(why) => Some(why.clone()),
            News::LeftBehind(why) => {
                Some(format!("Failed to remove what was written; it goes when its session ends: {why}"))
            }
            _ => None,
        };
        if let Some(why) = failure {
            return if matches!(self.form, Form::Json(_)) { Vec::new() } else { vec![why] };
        }
        if matches!(self.form, Form::Json(_)) || !(self.verbose || self.watched) {
            return Vec::new();
        }
        let notes = match news {
            News::Expected { nodes, certain } if self.verbose => vec![expectation(nodes, *certain)],
            News::Stopped { node } => vec![format!("stopped, as it did not succeed on {node}")],
            News::Finished(summary) => shortcomings(summary),
            _ => Vec::new(),
        };
        match self.verbose {
            true => notes.into_iter().map(|note| logged(&note)).collect(),
            false => notes.into_iter().map(|note| format!("! {note}")).collect(),
        }
    }
}

/// A place for lines on standard output.
struct Page<'p> {
    out: &'p mut Vec<u8>,
    lines: &'p mut Lines,
    /// The nodes whose last line had its end.
    wrote: &'p mut BTreeSet<String>,
    colours: bool,
    verbose: bool,
}

impl Page<'_> {
    fn tell(&mut self, news: &News) {
        match news {
            News::Bound { node, datacenter } if self.verbose => {
                self.say(&format!("Binding session to remote node {node}@{datacenter}"));
            }
            News::Session(id) if self.verbose => self.say(&format!("Created remote execution session: {id}")),
            News::JobWritten if self.verbose => self.say("Uploaded remote execution spec"),
            News::Fired { event, .. } if self.verbose => {
                self.say(&format!("Fired remote execution event: {event}"));
            }
            News::Acknowledged(node) if self.verbose => self.say_of(node, "acknowledged", Colour::None),
            News::Heartbeat(node) => {
                // It may be a while until there is more of the line.
                self.finish_line(node);
                if self.verbose {
                    self.say_of(node, "heartbeat received", Colour::None);
                }
            }
            News::Wrote { node, output } => {
                let front = self.front(node);
                self.lines.push(node, output, |text| line(self.out, &front, text));
                match output.ends_with(b"\n") {
                    true => self.wrote.insert(node.clone()),
                    false => self.wrote.remove(node),
                };
            }
            News::Ended { node, code } => {
                self.finish_line(node);
                if self.wrote.remove(node) {
                    // What Consul's command makes of the newline at the end of all output.
                    line(self.out, &self.front(node), b"");
                }
                let colour = if *code == 0 { Colour::Green } else { Colour::Red };
                self.say_of(node, &format!("finished with exit code {code}"), colour);
            }
            News::Finished(summary) => {
                for node in &summary.unfinished {
                    self.finish_line(node);
                }
                let Summary { completed, acknowledged, .. } = summary;
                self.say(&format!("{completed} / {acknowledged} node(s) completed / acknowledged"));
                if self.verbose {
                    self.say(&format!("Completed in {:.2} seconds", summary.took.as_secs_f64()));
                }
            }
            _ => {}
        }
    }

    fn finish_line(&mut self, node: &str) {
        if let Some(text) = self.lines.finish(node) {
            line(self.out, &self.front(node), &text);
        }
    }

    /// What stands in front of a node's lines.
    fn front(&self, node: &str) -> String {
        format!("    {}: ", coloured(node, Colour::Cyan, self.colours))
    }

    fn say(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
    }

    fn say_of(&mut self, node: &str, text: &str, colour: Colour) {
        let _ = writeln!(self.out, "==> {}", coloured(&format!("{node}: {text}"), colour, self.colours));
    }
}

fn line(out: &mut Vec<u8>, front: &str, text: &[u8]) {
    out.extend_from_slice(front.as_bytes());
    out.extend_from_slice(text);
    out.push(b'\n');
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Colour {
    None,
    Green,
    Red,
    Cyan,
}

fn coloured(text: &str, colour: Colour, colours: bool) -> String {
    let number = match colour {
        Colour::Green => 32,
        Colour::Red => 31,
        Colour::Cyan => 36,
        Colour::None => return text.to_owned(),
    };
    if colours { format!("\x1b[{number}m{text}\x1b[0m") } else { text.to_owned() }
}

impl Progress {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self { bar, expected: 0, at_work: BTreeSet::new(), ended: 0 }
    }

    fn take(&mut self, news: &News) {
        match news {
            News::Expected { nodes, .. } => self.expected = nodes.len(),
            News::Acknowledged(node) => {
                self.at_work.insert(node.clone());
            }
            News::Ended { node, .. } => {
                self.at_work.remove(node);
                self.ended += 1;
            }
            News::Finished(_) | News::Failed(_) => return self.bar.set_message("removing what was written"),
            _ => return,
        }
        let all = self.expected.max(self.ended + self.at_work.len());
        let names: Vec<&str> = self.at_work.iter().map(String::as_str).collect();
        let at_work = if names.is_empty() { String::new() } else { format!(", at work: {}", shortened(&names)) };
        self.bar.set_message(format!("{} of {all} ended{at_work}", self.ended));
    }
}

fn expectation(nodes: &[String], certain: bool) -> String {
    if nodes.is_empty() {
        return "no live node is meant".to_owned();
    }
    let sure = if certain { "" } else { ", and perhaps others" };
    format!("{} live node(s) are meant{sure}: {}", nodes.len(), nodes.join(", "))
}

/// Who has not answered as was hoped.
fn shortcomings(summary: &Summary) -> Vec<String> {
    let mut notes = Vec::new();
    for (nodes, what) in [
        (&summary.unfinished, "acknowledged, no exit"),
        (&summary.silent, "never acknowledged: remote exec disabled?"),
        (&summary.not_started, "not started"),
    ] {
        if !nodes.is_empty() {
            notes.push(format!("{what}: {}", nodes.join(", ")));
        }
    }
    notes
}

/// The first few names.
fn shortened(names: &[&str]) -> String {
    let more = names.len().saturating_sub(NAMES);
    let shown = names[..names.len() - more].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// A line of a log, as agents write them.
fn logged(note: &str) -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let now = now.trim_end_matches('Z').replace('T', " ").replace('-', "/");
    format!("{now} [INFO] exec: {note}")
}

/// Writes what the nodes have written, and what there is to be said of it. Of what is said besides nobody need take notice.
fn print(out: &[u8], notes: &[String]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = if out.is_empty() { Ok(()) } else { stdout.write_all(out).and_then(|()| stdout.flush()) };
    drop(stdout);
    let mut stderr = io::stderr().lock();
    for note in notes {
        let _ = writeln!(stderr, "{note}");
    }
    written
}

#[cfg(test)]
mod tests {
    use lictor_core::id::SessionId;

    use super::*;

    fn page(verbose: bool, colours: bool, news: &[News]) -> String {
        let (mut out, mut lines, mut wrote) = (Vec::new(), Lines::default(), BTreeSet::new());
        for news in news {
            Page { out: &mut out, lines: &mut lines, wrote: &mut wrote, colours, verbose }.tell(news);
        }
        String::from_utf8(out).unwrap()
    }

    fn wrote(output: &'static str) -> News {
        News::Wrote { node: "n".into(), output: output.into() }
    }

    #[test]
    fn a_job_looks_as_consuls() {
        let session = SessionId::parse("adf4238a-882b-9ddc-4a9d-5b6758e4159e").unwrap();
        let took = Duration::from_millis(1234);
        let news = [
            News::Session(session),
            News::JobWritten,
            News::Acknowledged("n".into()),
            wrote("hello\n"),
            News::Ended { node: "n".into(), code: 4 },
            News::Finished(Summary { completed: 1, acknowledged: 1, took, ..Summary::default() }),
        ];
        let plain = "    n: hello\n    n: \n==> n: finished with exit code 4\n1 / 1 node(s) completed / acknowledged\n";
        assert_eq!(page(false, false, &news), plain);
        let verbose = page(true, false, &news);
        assert!(
            verbose.starts_with(&format!("Created remote execution session: {session}\nUploaded remote")),
            "{verbose}"
        );
        assert!(verbose.ends_with("acknowledged\nCompleted in 1.23 seconds\n"), "{verbose}");
    }

    #[test]
    fn lines_are_put_together_and_the_last_one_need_no_newline() {
        let news = [
            wrote("on"),
            wrote("e\ntw"),
            News::Heartbeat("n".into()),
            wrote("o"),
            News::Ended { node: "n".into(), code: 0 },
        ];
        assert_eq!(page(false, false, &news), {
            "    n: one\n    n: tw\n    n: o\n==> n: finished with exit code 0\n"
        });
    }

    #[test]
    fn colours_are_for_terminals() {
        let news = [News::Ended { node: "n".into(), code: 1 }];
        assert_eq!(page(false, true, &news), "==> \x1b[31mn: finished with exit code 1\x1b[0m\n");
    }

    #[test]
    fn the_silent_are_named() {
        let summary =
            Summary { unfinished: vec!["a".into(), "b".into()], silent: vec!["c".into()], ..Summary::default() };
        let notes = shortcomings(&summary);
        assert_eq!(notes, ["acknowledged, no exit: a, b", "never acknowledged: remote exec disabled?: c"]);
        let line = logged(&notes[0]);
        assert!(line.ends_with(" [INFO] exec: acknowledged, no exit: a, b") && line.starts_with("20"), "{line}");
        assert_eq!(shortened(&["a"; 10]), "a, a, a, a, a, a, a, a and 2 more");
    }
}
