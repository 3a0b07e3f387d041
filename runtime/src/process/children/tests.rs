//! Real commands, with the core played by hand.

use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::*;
use crate::errands::ErrandsEnd;
use crate::event::Event as Told;
use crate::process::testing::{PATIENCE, errands, gone, hanging, numbers};

const ID: RunId = RunId(1);
const PLENTY: usize = 1 << 20;

struct Scene {
    children: Children,
    end: ErrandsEnd,
    inbox: Receiver<Told>,
}

impl Scene {
    fn new() -> Self {
        let (errands, end, inbox) = errands();
        Self { children: Children::new(errands), end, inbox }
    }

    fn start(&mut self, order: Order, credit: usize) {
        self.children.carry_out(Action::Start { id: ID, order, credit });
    }

    fn signal(&mut self, signal: Signal) {
        self.children.carry_out(Action::Signal { id: ID, signal });
    }

    fn told(&self, patience: Duration) -> Option<Event> {
        match self.inbox.recv_timeout(patience) {
            Ok(Told::Input(Input::Child { id: ID, event })) => Some(event),
            Ok(other) => panic!("unexpected: {other:?}"),
            Err(_) => None,
        }
    }

    /// All that it writes, and how it ends.
    fn follow_through(&mut self) -> (Vec<u8>, Ended) {
        let mut written = Vec::new();
        loop {
            match self.told(PATIENCE).expect("it goes on") {
                Event::Wrote(bytes) => {
                    assert!(!bytes.is_empty());
                    self.children.carry_out(Action::Read { id: ID, bytes: bytes.len() });
                    written.extend_from_slice(&bytes);
                }
                Event::Ended(ended) => {
                    self.children.over(ID);
                    assert!(self.children.under_way.is_empty());
                    return (written, ended);
                }
            }
        }
    }

    /// The agent ends. Nobody is told of anything any more.
    async fn close(self) {
        drop(self.children);
        self.end.end().await;
        while let Ok(told) = self.inbox.try_recv() {
            assert!(!matches!(told, Told::Input(Input::Child { event: Event::Ended(Ended::Exited { .. }), .. })));
        }
    }
}

fn line(text: &str) -> Order {
    Order::Command(text.to_owned())
}

fn exited(code: i32) -> Ended {
    Ended::Exited { code: Some(code) }
}

async fn run(order: Order) -> (String, Ended) {
    let mut scene = Scene::new();
    scene.start(order, PLENTY);
    let (written, ended) = scene.follow_through();
    scene.close().await;
    (String::from_utf8(written).unwrap(), ended)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn lines_programs_and_scripts_are_run() {
    let both = "echo out; echo err >&2; cat; exit 3";
    assert_eq!(run(line(both)).await, ("out\nerr\n".to_owned(), exited(3)), "and there is nothing to read");
    let program = Order::Program(["echo", "$HOME", "a b"].map(str::to_owned).to_vec());
    assert_eq!(run(program).await, ("$HOME a b\n".to_owned(), exited(0)));
    let script = Order::Script(Bytes::from_static(b"echo from a script\nexit 5\n"));
    assert_eq!(run(script).await, ("from a script\n".to_owned(), exited(5)));
    let shebang = Order::Script(Bytes::from_static(b"#!/bin/cat\nline\n"));
    assert_eq!(run(shebang).await, ("#!/bin/cat\nline\n".to_owned(), exited(0)));
    assert_eq!(run(line("kill -9 $$")).await, (String::new(), Ended::Exited { code: None }));
    assert_eq!(run(line("exec >&- 2>&-; sleep 0.1; exit 6")).await, (String::new(), exited(6)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_script_s_file_is_nobody_else_s_and_goes_with_it() {
    let script = Order::Script(Bytes::from_static(b"ls -ln \"$0\" | cut -c1-10; echo $0\n"));
    let (written, ended) = run(script).await;
    let (mode, path) = written.trim().split_once('\n').unwrap();
    assert_eq!((mode, ended), ("-rwx------", exited(0)));
    assert!(!Path::new(path).exists(), "{path} is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_cannot_be_started_is_told() {
    for (order, reason) in [
        (Order::Program(vec!["/no/such/program".to_owned()]), "/no/such/program: no such file or directory"),
        (Order::Program(Vec::new()), ": there is no command to run"),
        (Order::Script(Bytes::from_static(b"#!/no/such/interpreter\n")), "no such file or directory"),
        (line("nul \0 byte"), "/bin/sh: nul byte found in provided data"),
    ] {
        let (written, ended) = run(order).await;
        let Ended::Failed { reason: found } = ended else { panic!("{ended:?}") };
        assert!(written.is_empty() && found.ends_with(reason), "{found}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_more_is_read_than_is_allowed() {
    let mut scene = Scene::new();
    scene.start(line("yes"), 10_000);
    let mut count = 0;
    while count < 10_000 {
        let Some(Event::Wrote(bytes)) = scene.told(PATIENCE) else { panic!("it has ended") };
        count += bytes.len();
    }
    assert_eq!((count, scene.told(Duration::from_millis(200))), (10_000, None), "it waits");
    scene.children.carry_out(Action::Read { id: ID, bytes: 3 });
    assert_eq!(scene.told(PATIENCE).map(|event| matches!(event, Event::Wrote(bytes) if bytes.len() == 3)), Some(true));
    scene.signal(Signal::Terminate);
    // Its output is behind: without a reader nobody finds out that it has ended, and that is what killing is for.
    scene.signal(Signal::Kill);
    assert_eq!(scene.told(PATIENCE), Some(Event::Ended(Ended::Exited { code: None })));
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_nobody_wants_does_not_hold_a_command_up() {
    let mut scene = Scene::new();
    scene.start(line("head -c 10000000 /dev/zero; exit 4"), 1000);
    let Some(Event::Wrote(bytes)) = scene.told(PATIENCE) else { panic!("it has ended") };
    assert!(bytes.len() <= 1000);
    scene.children.carry_out(Action::Discard { id: ID });
    let (written, ended) = scene.follow_through();
    assert_eq!((written.len() + bytes.len() <= 1000, ended), (true, exited(4)));
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_polite_signal_reaches_the_whole_group() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("numbers");
    let mut scene = Scene::new();
    let name = file.display();
    scene.start(line(&format!("trap 'echo bye; exit 7' TERM; sleep 1000 & echo $! >{name}; wait")), PLENTY);
    let sleeper = numbers(&file, 1).await[0];
    scene.signal(Signal::Terminate);
    assert_eq!(scene.follow_through(), (b"bye\n".to_vec(), exited(7)));
    gone(sleeper).await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_minds_no_polite_signal_is_killed_with_all_offspring() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("numbers");
    let mut scene = Scene::new();
    scene.start(line(&hanging(&file)), PLENTY);
    let found = numbers(&file, 3).await;
    scene.signal(Signal::Terminate);
    assert_eq!(scene.told(Duration::from_millis(200)), None);
    scene.signal(Signal::Kill);
    assert_eq!(scene.follow_through().1, Ended::Exited { code: None });
    for number in found {
        gone(number).await;
    }
    scene.close().await;
}

/// A process that has left the group holds the output: a command that is killed is over all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_that_has_run_away_with_the_output_keeps_nobody_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("numbers");
    let mut scene = Scene::new();
    scene.start(line(&format!("setsid sh -c 'echo $$ >{}; exec sleep 1000' & exit 0", file.display())), PLENTY);
    let runaway = numbers(&file, 1).await[0];
    let begun = Instant::now();
    scene.signal(Signal::Kill);
    scene.follow_through();
    assert!(begun.elapsed() < PATIENCE);
    rustix::process::kill_process(rustix::process::Pid::from_raw(runaway).unwrap(), System::KILL).unwrap();
    gone(runaway).await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_agent_s_end_takes_commands_and_their_files_along() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("numbers");
    let mut scene = Scene::new();
    let own = directory.path().join("script");
    let text = format!("echo $0 >{}\n{}\n", own.display(), hanging(&file));
    scene.start(Order::Script(text.into()), PLENTY);
    let found = numbers(&file, 3).await;
    let script = std::fs::read_to_string(&own).unwrap();
    assert!(Path::new(script.trim()).exists());
    scene.close().await;
    for number in found {
        gone(number).await;
    }
    assert!(!Path::new(script.trim()).exists(), "{script} is left");
}
