//! `lictor lock`: a command that runs while a lock, or one of a semaphore's places, is held.

mod child;
mod signals;

use std::future::pending;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use child::Child;
pub(crate) use child::{in_shell, in_words};
use clap::ArgAction;
use lictor_core::duration;
use lictor_runtime::guard::Guard;
use signals::{Caught, Signals};
use tokio::time::sleep;

use crate::client::{self, Client, Options};
use crate::failed::Failed;
use crate::recipe::{Error, Held, Lock, Recipe, Semaphore, Terms};
use crate::{flags, help};

/// How long a command that is told to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// Whoever waits for the lock has so long to take it over before its key is removed: it stays then, and its `LockIndex`, which tells one
/// holder from the next, goes on instead of beginning anew.
const TAKEOVER: Duration = Duration::from_millis(50);
/// The status of a command that failed, with `-child-exit-code`.
const CHILD_FAILED: u8 = 2;

/// Runs a command while a lock is held
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    long_about = "Waits for the lock of a prefix, runs a command while it is held, and gives it back. If the lock is lost, \
                  the command\nis told to end (SIGTERM), and killed five seconds later. With -n it is not a lock but a \
                  semaphore, of which so many may\nhold a place at a time: all must give the same number.\n\n    $ \
                  lictor lock service/leader ./work.sh\n    $ lictor lock -n=3 backup/slots tar cf /backup.tar /data\n\n\
                  The command finds CONSUL_LOCK_HELD=true in its environment, and of a lock in LICTOR_LOCK_KEY, \
                  LICTOR_LOCK_SESSION\nand LICTOR_LOCK_INDEX what tells this tenure from others: the index grows from \
                  one to the next, so that whoever the\ncommand works on can refuse one who does not know yet that he \
                  has lost the lock."
)]
pub(crate) struct Args {
    #[command(flatten)]
    client: Options,
    /// End with status 2 if the command failed. Otherwise that it was run is all that counts.
    #[arg(long)]
    child_exit_code: bool,
    /// How long nobody else gets the lock if it is lost, not given back. [default: 15s]
    #[arg(long, value_name = "duration")]
    lock_delay: Option<String>,
    /// How many failures of the agent in a row are ridden out, a second each, before the lock is given up for lost.
    /// [default: 3]
    #[arg(long, value_name = "number", default_value_t = 3, allow_negative_numbers = true,
          value_parser = flags::number::<i64>)]
    monitor_retry: i64,
    /// How many may hold it at a time. [default: 1]
    #[arg(long, value_name = "number", default_value_t = 1, allow_negative_numbers = true,
          value_parser = flags::number::<i64>)]
    n: i64,
    /// A name for the session, for people. [default: made up of the command]
    #[arg(long, value_name = "name", default_value = "")]
    name: String,
    /// Let the command read the standard input.
    #[arg(long)]
    pass_stdin: bool,
    /// Run the command with a shell. [default: true]
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    shell: Option<bool>,
    /// How long to wait for the lock at most. [default: as long as it takes]
    #[arg(long, value_name = "duration", default_value = "", visible_alias = "timeout")]
    r#try: String,
    /// How long the lock stays ours at least if we fall silent. [default: 15s]
    #[arg(long, value_name = "duration", default_value = "15s")]
    ttl: String,
    /// Say what is done.
    #[arg(long)]
    verbose: bool,
    /// The prefix, and the command.
    #[arg(value_names = ["PREFIX", "COMMAND"])]
    prefix_command: Vec<String>,
}

/// How to hold it, once all is known to make sense.
struct Plan {
    client: Client,
    prefix: String,
    /// The command, for people.
    title: String,
    program: Vec<String>,
    terms: Terms,
    limit: u64,
    /// How long to wait.
    patience: Option<Duration>,
    pass_stdin: bool,
    child_exit_code: bool,
    verbose: bool,
}

pub(crate) fn run(args: Args) -> ExitCode {
    let held = plan(args).and_then(|plan| {
        let runtime = client::runtime().map_err(|error| Failed(format!("Lock setup failed: {error}")))?;
        runtime.block_on(plan.run())
    });
    match held {
        Ok(code) => code,
        Err(Failed(why)) => {
            complain!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn plan(args: Args) -> Result<Plan, Failed> {
    let Ok(limit @ 1..) = u64::try_from(args.n) else {
        return Err(Failed("Lock holder limit must be positive".to_owned()));
    };
    let mut words = args.prefix_command.into_iter();
    let (prefix, command) = (words.next(), words.collect::<Vec<_>>());
    let Some(prefix) = prefix.filter(|_| !command.is_empty()) else {
        return Err(help::after("Key prefix and child command must be specified", &["lock"]));
    };
    let prefix = prefix.strip_prefix('/').map(str::to_owned).unwrap_or(prefix);
    let patience = positive("try", &args.r#try)?;
    let Ok(retries) = u32::try_from(args.monitor_retry) else {
        return Err(Failed("Number for 'monitor-retry' must be >= 0".to_owned()));
    };
    let ttl = positive("ttl", &args.ttl)?.unwrap_or(Terms::default().ttl);
    let lock_delay = args.lock_delay.map(|text| span("lock-delay", &text)).transpose()?;
    let title = command.join(" ");
    let name = match args.name.is_empty() {
        true => format!("Consul lock for '{title}' at '{prefix}'"),
        false => args.name,
    };
    let program = if args.shell.unwrap_or(true) { in_shell(&title) } else { command };
    Ok(Plan {
        client: Client::new(args.client)
            .map_err(|error| Failed(format!("Error connecting to Consul agent: {error}")))?,
        prefix,
        title,
        program,
        terms: Terms { name, ttl, lock_delay: lock_delay.map(Option::unwrap_or_default), retries },
        limit,
        patience,
        pass_stdin: args.pass_stdin,
        child_exit_code: args.child_exit_code,
        verbose: args.verbose,
    })
}

/// An option's duration; `None` if it is not above zero.
fn span(option: &str, text: &str) -> Result<Option<Duration>, Failed> {
    duration::parse_positive(text)
        .ok_or_else(|| Failed(format!("Error parsing duration for '{option}' option: {}", duration::why_not(text))))
}

/// An option's duration, which is above zero if it is given.
fn positive(option: &str, text: &str) -> Result<Option<Duration>, Failed> {
    if text.is_empty() {
        return Ok(None);
    }
    match span(option, text)? {
        None => Err(Failed(format!("Value for '{option}' option must be positive"))),
        given => Ok(given),
    }
}

impl Plan {
    async fn run(&self) -> Result<ExitCode, Failed> {
        let asked = self.client.ask(&hyper::Method::GET, "agent/self", &[], "").await.and_then(client::Answer::ok);
        asked.map_err(|error| Failed(format!("Error querying Consul agent: {error}")))?;
        if self.limit == 1 {
            let lock = Lock::new(&self.client, &self.prefix, self.terms.clone());
            self.say(|| format!("Setting up lock at path: {}", lock.key()));
            self.hold(&lock).await
        } else {
            let semaphore = Semaphore::new(&self.client, &self.prefix, self.limit, self.terms.clone());
            self.say(|| format!("Setting up semaphore (limit {}) at prefix: {}", self.limit, self.prefix));
            self.hold(&semaphore).await
        }
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            say!("{}", what());
        }
    }

    /// Waits for it, runs the command, gives it back.
    async fn hold(&self, recipe: &impl Recipe) -> Result<ExitCode, Failed> {
        let mut signals = Signals::new().map_err(|error| Failed(format!("Lock setup failed: {error}")))?;
        self.say(|| "Attempting lock acquisition".to_owned());
        let given_up = async {
            let enough = async {
                match self.patience {
                    Some(patience) => sleep(patience).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = signals.end() => {}
                () = enough => {}
            }
        };
        let held =
            recipe.acquire(given_up).await.map_err(|error| Failed(format!("Lock acquisition failed: {error}")))?;
        let Some(mut held) = held else {
            return Err(Failed("Shutdown triggered or timeout during lock acquisition".to_owned()));
        };
        let guard = Guard::of_this_program().map_err(|error| Failed(format!("Lock setup failed: {error}")))?;
        // What the command prints comes after that.
        self.say(|| format!("Starting handler '{}'", self.title));
        if self.pass_stdin {
            self.say(|| "Stdin passed to handler process".to_owned());
        }
        let succeeded = match Child::start(&self.program, self.pass_stdin, held.sequencer(), Some(&guard)).await {
            Ok(child) => self.watch(&mut held, child, &mut signals).await,
            Err(error) => {
                say!("Error starting handler: {}", client::go_file_reason(&error));
                false
            }
        };
        held.release().await.map_err(|error| Failed(format!("Lock release failed: {error}")))?;
        sleep(TAKEOVER).await;
        match recipe.clean_up().await {
            Ok(()) => self.say(|| "Cleanup succeeded".to_owned()),
            Err(Error::InUse(_)) => self.say(|| "Cleanup aborted, lock in use".to_owned()),
            Err(error) => return Err(Failed(format!("Lock cleanup failed: {error}"))),
        }
        let failed = self.child_exit_code && !succeeded;
        Ok(if failed { CHILD_FAILED.into() } else { ExitCode::SUCCESS })
    }

    /// Waits for the command's end, and brings it about if the lock is lost or we are to end. Tells whether the command
    /// succeeded.
    async fn watch<R: Recipe>(&self, held: &mut Held<'_, R>, mut child: Child, signals: &mut Signals) -> bool {
        loop {
            tokio::select! {
                biased;
                ended = child.ended() => {
                    let failure = told(ended);
                    if let Some(why) = &failure {
                        // Consul says it twice, once for those who read on and once for those who only look at the end.
                        say!("{why}");
                    }
                    self.say(|| "Child terminated, releasing lock".to_owned());
                    return failure.is_none();
                }
                () = held.lost() => {
                    self.say(|| "Lock lost, killing child".to_owned());
                    return self.end(&mut child, pending()).await;
                }
                caught = signals.next() => match caught {
                    Caught::End => {
                        self.say(|| "Shutdown triggered, killing child".to_owned());
                        return self.end(&mut child, held.lost()).await;
                    }
                    Caught::Pass(signal) => child.signal(signal),
                    Caught::Stop => {
                        child.signal(signals::STOP);
                        signals::stop_ourselves();
                        child.signal(signals::CONTINUE);
                    }
                },
            }
        }
    }

    /// Has the command end: asked first, then forced. `meanwhile` is what keeps the lock for as long. Tells whether it
    /// succeeded.
    async fn end(&self, child: &mut Child, meanwhile: impl Future<Output = ()>) -> bool {
        self.say(|| format!("Terminating child pid {}", child.id()));
        child.terminate();
        let enough = async {
            // To lose the lock now changes nothing: the command is ending already.
            tokio::select! {
                () = sleep(GRACE) => {}
                () = async { meanwhile.await; pending().await } => {}
            }
        };
        tokio::select! {
            biased;
            ended = child.ended() => {
                let failure = told(ended);
                child.sweep();
                self.say(|| "Child terminated".to_owned());
                failure.is_none()
            }
            () = enough => {
                self.say(|| format!("Child did not exit after grace period of {}", duration::format(GRACE)));
                self.say(|| format!("Killing child pid {}", child.id()));
                child.kill();
                told(child.ended().await).is_none()
            }
        }
    }
}

/// Says how a command ended, and gives it, if it failed.
fn told(ended: io::Result<std::process::ExitStatus>) -> Option<String> {
    let why = match ended {
        Ok(status) if status.success() => return None,
        Ok(status) => in_words(status),
        Err(error) => error.to_string(),
    };
    say!("Error running handler: {why}");
    Some(why)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn planned(line: &[&str]) -> Result<Plan, String> {
        plan(Line::parse_from([&["lock"], line].concat()).args).map_err(|Failed(why)| why)
    }

    fn refused(line: &[&str]) -> String {
        planned(line).err().unwrap()
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anybody_is_asked() {
        assert_eq!(refused(&["--n=0", "p", "true"]), "Lock holder limit must be positive");
        assert!(refused(&["p"]).starts_with("Key prefix and child command must be specified"));
        assert_eq!(
            refused(&["--try=abc", "p", "true"]),
            "Error parsing duration for 'try' option: time: invalid duration \"abc\""
        );
        assert_eq!(refused(&["--try=-1s", "p", "true"]), "Value for 'try' option must be positive");
        assert_eq!(refused(&["--monitor-retry=-1", "p", "true"]), "Number for 'monitor-retry' must be >= 0");
    }

    #[test]
    fn a_command_is_a_line_for_the_shell_unless_told_otherwise() {
        let shell = planned(&["/p", "echo", "a  b", "$X"]).unwrap();
        assert_eq!((&*shell.prefix, &*shell.title), ("p", "echo a  b $X"));
        assert_eq!(shell.program[1..], ["-c", "echo a  b $X"]);
        assert_eq!(shell.terms.name, "Consul lock for 'echo a  b $X' at 'p'");
        assert_eq!((shell.terms.ttl, shell.terms.retries, shell.patience), (Duration::from_secs(15), 3, None));
        let plain = planned(&["--shell=false", "--name=x", "--lock-delay=0s", "p", "echo", "a  b"]).unwrap();
        assert_eq!(plain.program, ["echo", "a  b"]);
        assert_eq!((&*plain.terms.name, plain.terms.lock_delay), ("x", Some(Duration::ZERO)));
    }
}
