//! `lictor watch`: what changes is printed, or given to a command.

mod handler;
mod subject;

use std::process::ExitCode;
use std::time::Duration;

use clap::ArgAction;
use handler::Handler;
use hyper::Method;
use subject::{Subject, Words};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use crate::client::{self, Answer, Client, Error, Options};
use crate::failed::{self, Failed};
use crate::help;

/// After the first failure it is tried again so much later; after several in a row, later by the square of their number.
const PAUSE: Duration = Duration::from_secs(5);
/// But no later than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(180);

/// Watches for changes
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Watches for changes of what -type names, and runs a command on each of them, with JSON on its standard \
                  input and\nCONSUL_INDEX in its environment. Without a command it prints the JSON once, and ends.\n\n    \
                  $ lictor watch -type=key -key=config/web ./reload.sh\n    $ lictor watch -type=service -service=web \
                  -passingonly=true"
)]
pub(crate) struct Args {
    #[command(flatten)]
    client: Options,
    /// The key, for -type=key.
    #[arg(long, value_name = "key", default_value = "")]
    key: String,
    /// The name of the events, for -type=event. [default: all]
    #[arg(long, value_name = "name", default_value = "")]
    name: String,
    /// true for healthy instances only, for -type=service.
    #[arg(long, value_name = "bool", default_value = "")]
    passingonly: String,
    /// The prefix, for -type=keyprefix.
    #[arg(long, value_name = "prefix", default_value = "")]
    prefix: String,
    /// The service, for -type=service, and for -type=checks if only its checks are wanted.
    #[arg(long, value_name = "name", default_value = "")]
    service: String,
    /// Run the command with a shell. [default: true]
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    shell: Option<bool>,
    /// The state of the checks, for -type=checks. [default: any]
    #[arg(long, value_name = "state", default_value = "")]
    state: String,
    /// A tag of the instances, for -type=service.
    #[arg(long, value_name = "tag", default_value = "")]
    tag: String,
    /// key, keyprefix, services, nodes, service, checks or event.
    #[arg(long, value_name = "type", default_value = "")]
    r#type: String,
    /// The command, and its arguments.
    command: Vec<String>,
}

pub(crate) fn run(args: Args) -> ExitCode {
    failed::status(plan(args).and_then(|watch| {
        let runtime = client::runtime().map_err(|error| failed(&error))?;
        runtime.block_on(watch.run())
    }))
}

/// What is watched, and what for.
struct Watch {
    client: Client,
    subject: Subject,
    handler: Option<Handler>,
}

fn failed(error: &Error) -> Failed {
    Failed(format!("Error querying Consul agent: {error}"))
}

fn plan(args: Args) -> Result<Watch, Failed> {
    let Args { client, key, name, passingonly, prefix, service, shell, state, tag, r#type, command } = args;
    if r#type.is_empty() {
        return Err(help::after("Watch type must be specified", &["watch"]));
    }
    let words = Words { key, name, passing_only: passingonly, prefix, service, stale: client.is_stale(), state, tag };
    let subject = Subject::of(&r#type, words).map_err(Failed)?;
    let client = Client::new(client).map_err(|error| failed(&error))?;
    let handler = (!command.is_empty()).then(|| Handler::new(command, shell.unwrap_or(true)));
    Ok(Watch { client, subject, handler })
}

/// The signals that end a watch. That is what they are for: it ends well.
struct End {
    interrupt: Signal,
    terminate: Signal,
}

impl End {
    async fn comes(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

impl Watch {
    async fn run(&self) -> Result<(), Failed> {
        let cannot = |error| Failed(format!("Error watching: {error}"));
        let mut end = End {
            interrupt: signal(SignalKind::interrupt()).map_err(cannot)?,
            terminate: signal(SignalKind::terminate()).map_err(cannot)?,
        };
        tokio::select! {
            done = self.watch() => done,
            () = end.comes() => Ok(()),
        }
    }

    async fn watch(&self) -> Result<(), Failed> {
        let there = self.client.ask(&Method::GET, "agent/self", &[], "").await.and_then(Answer::ok);
        there.map_err(|error| failed(&error))?;
        let (mut index, mut known, mut failures) = (0, None, 0);
        loop {
            let (newer, answer) = match self.look(index).await {
                Ok(seen) => seen,
                Err(error) => {
                    failures += 1;
                    index = 0;
                    let pause = pause_after(failures);
                    complain!("watch (type: {}) errored: {error}, retry in {pause:?}", self.subject.kind());
                    sleep(pause).await;
                    continue;
                }
            };
            failures = 0;
            if newer == index {
                continue;
            }
            let before = std::mem::replace(&mut index, newer);
            // Of events only those count that have come since.
            let shown = self.subject.since(before, &answer).map_err(Failed)?;
            if known.as_ref() == Some(&answer) {
                continue;
            }
            known = Some(answer);
            let Some(handler) = &self.handler else {
                say!("{}", subject::for_people(&shown));
                return Ok(());
            };
            handler.run(newer, &shown).await.map_err(|why| Failed(format!("Error executing handler: {why}")))?;
        }
    }

    /// Waits until what is watched is newer than `index`; the answer's body, and how new it is.
    async fn look(&self, index: u64) -> Result<(u64, Option<bytes::Bytes>), Error> {
        let (path, mut query) = self.subject.target();
        let text = index.to_string();
        if index > 0 {
            query.push(("index", &text));
        }
        query.extend(self.client.staleness());
        let answer = self.client.ask(&Method::GET, &path, &query, "").await?;
        let newer = answer.index.unwrap_or(0);
        // An index that goes back belongs to a cluster that was begun anew.
        Ok((if newer < index && !self.subject.is_events() { 0 } else { newer }, self.subject.compared(answer.found()?)))
    }
}

fn pause_after(failures: u32) -> Duration {
    PAUSE.saturating_mul(failures.saturating_mul(failures)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        assert_eq!([1, 2, 3, 6, 7, 100_000].map(|n| pause_after(n).as_secs()), [5, 20, 45, 180, 180, 180]);
    }
}
