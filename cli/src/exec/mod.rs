//! `lictor exec`: runs a command on many nodes.

mod ask;
mod show;

use std::future::Future;
use std::io::{self, Read as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use clap::ArgAction;
use lictor_core::api::Call;
use lictor_core::duration;
use lictor_core::exec::initiator::{self, Canary, Initiator, News, Outcome, Wrong};
use lictor_core::exec::layout::Order;
use lictor_http::exec::drive;
use tokio::sync::{oneshot, watch};

use crate::client::{self, Client};
use crate::failed::{self, Failed};
use crate::help;
use show::Show;

/// The most bytes of a script. The store takes less: this is to be told by it, and not by a machine without memory.
const SCRIPT_BYTES: u64 = 16 << 20;

/// How long the last word may take, if it was broken off.
const LAST_WORD: Duration = Duration::from_millis(500);

/// Runs a command on many nodes
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Runs a command on many nodes, or the script that is read from standard input if the command is -. Each line that \
                  it\nwrites there is shown with the node's name in front. Ends with status 0 if it succeeded everywhere, with 2 if \
                  not, and\nwith 1 if it could not be run. Agents take part unless disable_remote_exec is set, as it is unless \
                  the\nconfiguration says otherwise.\n\n    $ lictor exec uptime\n    $ lictor exec -service=web -tag=canary \
                  'systemctl restart web'\n    $ lictor exec -node='^db' -max-parallel=1 - < upgrade.sh\n    $ lictor exec \
                  -canary=10% -json ./deploy 1.2.3"
)]
pub(crate) struct Args {
    #[command(flatten)]
    client: client::Options,
    /// Only on nodes whose names match this regular expression.
    #[arg(long, value_name = "regexp", default_value = "")]
    node: String,
    /// Only on nodes with a service whose ID matches this regular expression.
    #[arg(long, value_name = "regexp", default_value = "")]
    service: String,
    /// With -service: only on nodes where a tag of it matches this regular expression.
    #[arg(long, value_name = "regexp", default_value = "")]
    tag: String,
    /// What the keys begin with under which the nodes write what they have to tell.
    #[arg(long, value_name = "prefix", default_value = "_rexec")]
    prefix: String,
    /// Whether a shell runs the command. Without one, its words are a program and its arguments, as they stand.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true)]
    shell: bool,
    /// How long all must be silent before it is taken to be over, if it is not certain who answers; twice as long while some are at
    /// work. [default: 2s]
    #[arg(long, value_name = "time", default_value = "2s", hide_default_value = true)]
    wait: String,
    /// How long the servers have for handing the job on to each other. [default: 200ms]
    #[arg(long, value_name = "time", default_value = "200ms", hide_default_value = true)]
    wait_repl: String,
    /// Tell of each step, too; and who is expected to answer, on standard error.
    #[arg(long)]
    verbose: bool,
    /// One JSON object for each line and each step, for programs.
    #[arg(long)]
    json: bool,
    /// On no more nodes at a time than so many. If it fails on one, no others follow.
    #[arg(long, value_name = "number")]
    max_parallel: Option<String>,
    /// On so many nodes first, or on so many of a hundred: 3, or 10%. All others follow if it succeeds there.
    #[arg(long, value_name = "number")]
    canary: Option<String>,
    /// The command; - for a script on standard input.
    command: Vec<String>,
}

pub(crate) fn run(args: Args) -> ExitCode {
    let show = Show::new(args.verbose, args.json);
    let initiator = match prepare(&args) {
        Ok(initiator) => initiator,
        Err(Refused::NoCommand) => {
            // Both on one stream, as with Consul.
            say!("{}\n", Wrong::NoCommand);
            return help::show(&crate::definition(), &["exec".to_owned()]);
        }
        Err(Refused::Other(why)) => return failed::status(Err(why)),
    };
    let asking = Client::new(args.client.in_its_own_datacenter()).and_then(|client| Ok((client, client::runtime()?)));
    let (client, runtime) = match asking {
        Ok(asking) => asking,
        Err(error) => return failed::status(Err(Failed(format!("Error querying Consul agent: {error}")))),
    };
    let client = Arc::new(client);
    let ask = |call: Call| {
        let client = Arc::clone(&client);
        async move { ask::ask(&client, call).await }
    };
    let outcome = runtime.block_on(async {
        let interruption = Interruption::begin();
        let shown = Shown::begin(show, interruption.clone());
        let outcome = drive(initiator, ask, |news| shown.tell(news), interruption.comes()).await;
        shown.over(outcome, &interruption).await;
        outcome
    });
    match outcome {
        Outcome::Success => ExitCode::SUCCESS,
        Outcome::Unsuccessful => ExitCode::from(2),
        Outcome::Failed | Outcome::Interrupted => ExitCode::FAILURE,
    }
}

/// What is shown of a job, on a thread of its own: standard output may be a pipe that nobody reads, or a terminal that is paused, and the
/// job is to be looked after all the same.
struct Shown {
    to_show: Sender<(Told, oneshot::Sender<()>)>,
}

/// What is to be shown.
enum Told {
    News(News),
    Over(Outcome),
}

impl Shown {
    /// Who has closed the pipe does not want the job any more, as with every other command.
    fn begin(mut show: Show, interruption: Interruption) -> Self {
        let (to_show, told) = channel::<(Told, oneshot::Sender<()>)>();
        std::thread::spawn(move || {
            for (told, done) in told {
                let written = match told {
                    Told::News(news) => show.tell(&news),
                    Told::Over(outcome) => show.over(outcome),
                };
                if let Err(error) = written
                    && interruption.break_off()
                    && error.kind() != io::ErrorKind::BrokenPipe
                {
                    eprintln!("Failed to write what the nodes write: {error}");
                }
                // Whether anybody waited for it.
                let _ = done.send(());
            }
        });
        Self { to_show }
    }

    /// Shows something; comes when that is done.
    fn show(&self, told: Told) -> impl Future<Output = ()> + use<> {
        let (done, shown) = oneshot::channel();
        let _ = self.to_show.send((told, done));
        async move {
            let _ = shown.await;
        }
    }

    fn tell(&self, news: News) -> impl Future<Output = ()> + use<> {
        self.show(Told::News(news))
    }

    /// The last word. Who breaks it off, before or now, is not waited for: he may not listen any more.
    async fn over(&self, outcome: Outcome, interruption: &Interruption) {
        let patience = async {
            interruption.comes().await;
            tokio::time::sleep(LAST_WORD).await;
        };
        tokio::select! {
            () = self.show(Told::Over(outcome)) => {}
            () = patience => {}
        }
    }
}

/// Whether the job is to be broken off: a signal wants an end, or what there is to show cannot be shown.
#[derive(Clone)]
struct Interruption {
    wanted: watch::Sender<bool>,
}

impl Interruption {
    /// From now on signals are heeded. With a second one, nothing is tidied up any more. Must be called within a tokio runtime.
    fn begin() -> Self {
        let interruption = Self { wanted: watch::Sender::new(false) };
        let own = interruption.clone();
        tokio::spawn(async move {
            next_signal().await;
            own.break_off();
            next_signal().await;
            std::process::exit(1);
        });
        interruption
    }

    /// Breaks it off. Gives whether that is news.
    fn break_off(&self) -> bool {
        !self.wanted.send_replace(true)
    }

    /// Comes when it is broken off.
    fn comes(&self) -> impl Future<Output = ()> + use<> {
        let mut wanted = self.wanted.subscribe();
        async move {
            if wanted.wait_for(|wanted| *wanted).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

async fn next_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// Why there is nothing to be asked.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    NoCommand,
    Other(Failed),
}

impl From<Wrong> for Refused {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::NoCommand => Self::NoCommand,
            other => Self::Other(Failed(other.to_string())),
        }
    }
}

fn prepare(args: &Args) -> Result<Initiator, Refused> {
    let refused = |why: String| Refused::Other(Failed(why));
    let options = initiator::Options {
        prefix: args.prefix.clone(),
        node: args.node.clone(),
        service: args.service.clone(),
        tag: args.tag.clone(),
        wait: time("wait", &args.wait).map_err(refused)?,
        wait_repl: time("wait-repl", &args.wait_repl).map_err(refused)?,
        datacenter: args.client.datacenter(),
        // The client itself has it.
        token: None,
        stale: args.client.is_stale(),
        max_parallel: number(args.max_parallel.as_deref()).map_err(refused)?,
        canary: canary(args.canary.as_deref()).map_err(refused)?,
    };
    let order = order(args, || read_script().map_err(|why| Failed(format!("Failed to read stdin: {why}"))))?;
    Ok(Initiator::new(order, options)?)
}

/// What is to be run.
fn order(args: &Args, script: impl FnOnce() -> Result<Vec<u8>, Failed>) -> Result<Order, Refused> {
    match &args.command[..] {
        [only] if only == "-" && !args.shell => {
            Err(Refused::Other(Failed("Cannot configure -shell=false when reading from stdin".to_owned())))
        }
        [only] if only == "-" => Ok(Order::Script(script().map_err(Refused::Other)?.into())),
        words if args.shell => Ok(Order::Command(words.join(" "))),
        words => Ok(Order::Program(words.to_vec())),
    }
}

fn read_script() -> io::Result<Vec<u8>> {
    let mut script = Vec::new();
    io::stdin().lock().take(SCRIPT_BYTES + 1).read_to_end(&mut script)?;
    if script.len() as u64 > SCRIPT_BYTES {
        return Err(io::Error::other("that is no script: it has more than 16 MiB"));
    }
    Ok(script)
}

fn time(name: &str, text: &str) -> Result<Duration, String> {
    let wrong = || format!("invalid value \"{text}\" for flag -{name}: {}", duration::why_not(text));
    duration::parse_positive(text).map(Option::unwrap_or_default).ok_or_else(wrong)
}

fn number(text: Option<&str>) -> Result<Option<usize>, String> {
    let Some(text) = text else { return Ok(None) };
    let number = text.parse().ok().filter(|number| *number > 0);
    number.map(Some).ok_or_else(|| format!("invalid value \"{text}\" for flag -max-parallel: give a number above 0"))
}

fn canary(text: Option<&str>) -> Result<Option<Canary>, String> {
    let Some(text) = text else { return Ok(None) };
    let wrong = || format!("invalid value \"{text}\" for flag -canary: give a number above 0, or 1% to 100%");
    Canary::parse(text).map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    #[command(disable_help_flag = true)]
    struct Alone {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &[&str]) -> Args {
        let matches = Alone::command().get_matches_from(["exec"].iter().chain(words));
        Alone::from_arg_matches(&matches).unwrap().args
    }

    fn ordered(words: &[&str]) -> Result<Order, Refused> {
        order(&args(words), || Ok(b"echo".to_vec()))
    }

    fn refused(words: &[&str]) -> String {
        match prepare(&args(words)).unwrap_err() {
            Refused::NoCommand => "usage".to_owned(),
            Refused::Other(Failed(why)) => why,
        }
    }

    #[test]
    fn commands_are_for_the_shell_unless_there_is_none() {
        assert_eq!(ordered(&["--", "echo", "a  b"]), Ok(Order::Command("echo a  b".into())));
        assert_eq!(
            ordered(&["--shell=false", "--", "echo", "a  b"]),
            Ok(Order::Program(vec!["echo".into(), "a  b".into()]))
        );
        assert_eq!(ordered(&["--", "-"]), Ok(Order::Script("echo".into())));
        assert_eq!(ordered(&["--", "-", "x"]), Ok(Order::Command("- x".into())));
        let without = ordered(&["--shell=false", "--", "-"]).unwrap_err();
        assert_eq!(without, Refused::Other(Failed("Cannot configure -shell=false when reading from stdin".into())));
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anybody_is_asked() {
        assert_eq!(refused(&[]), "usage");
        assert_eq!(refused(&["--shell=false"]), "usage");
        assert_eq!(refused(&["--tag=x", "--", "a"]), "Cannot provide tag filter without service filter.");
        assert!(
            refused(&["--service=(", "--", "a"]).starts_with("Failed to compile service filter regexp: error parsing")
        );
        assert!(refused(&["--wait=abc", "--", "a"]).starts_with("invalid value \"abc\" for flag -wait: time: invalid"));
        assert!(refused(&["--max-parallel=0", "--", "a"]).contains("-max-parallel"));
        assert!(refused(&["--canary=0%", "--", "a"]).contains("-canary"));
        assert!(prepare(&args(&["--wait=-1s", "--", "a"])).is_ok());
    }
}
