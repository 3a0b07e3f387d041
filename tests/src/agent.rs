//! The binary as a process: started on ports that the system chooses, gone when it is dropped.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, kill_process};

pub use rustix::process::Signal;

use crate::binary::lictor;
use crate::http::{Answer, Http};
use crate::netns::Namespace;
use crate::wait::until;

/// The options that every agent of these tests has unless it says otherwise: its own machine, and ports that are free.
const OPTIONS: [&str; 5] =
    ["-bind=127.0.0.1", "-client=127.0.0.1", "-http-port=0", "-server-port=0", "-serf-lan-port=0"];

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    address: SocketAddr,
    gossip: SocketAddr,
    namespace: Option<Namespace>,
}

impl Agent {
    /// An agent with further options, once it serves HTTP.
    ///
    /// # Panics
    /// If it does not come up; with what it said.
    #[must_use]
    pub fn start<S: AsRef<str>>(options: &[S]) -> Self {
        Self::up(Process::agent(options), None)
    }

    /// The same, with a network of its own.
    ///
    /// # Panics
    /// If it does not come up; with what it said.
    #[must_use]
    pub fn start_in<S: AsRef<str>>(namespace: &Namespace, options: &[S]) -> Self {
        let mut command = namespace.command(lictor());
        command.arg("agent").args(with_defaults(options));
        Self::up(Process::run(command), Some(namespace.clone()))
    }

    /// Waits until a process is up.
    fn up(process: Process, namespace: Option<Namespace>) -> Self {
        let (address, gossip) = until("the agent serves HTTP", || {
            let lines = process.output();
            if let Some(addresses) = http_address(&lines).zip(gossip_address(&lines)) {
                return Some(addresses);
            }
            assert!(!process.has_ended(), "the agent did not start:\n{lines}");
            None
        });
        Self { process, address, gossip, namespace }
    }

    /// An agent that keeps everything in memory.
    #[must_use]
    pub fn dev() -> Self {
        Self::start(&["-dev"])
    }

    /// A server of its own on a data directory.
    #[must_use]
    pub fn on(directory: &Path) -> Self {
        Self::start(&server_options(directory))
    }

    /// Where it serves HTTP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it gossips: what others may join.
    #[must_use]
    pub fn gossip(&self) -> SocketAddr {
        self.gossip
    }

    /// A new connection to it.
    ///
    /// # Panics
    /// If it does not take it.
    #[must_use]
    pub fn http(&self) -> Http {
        let connection = match &self.namespace {
            Some(namespace) => namespace.within(|| Http::connect(self.address)),
            None => Http::connect(self.address),
        };
        connection.expect("the agent takes connections")
    }

    /// Asks once, on a connection of its own.
    ///
    /// # Panics
    /// If no answer comes.
    pub fn ask(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        self.http().request(method, target, body).unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    }

    /// Reads once.
    pub fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, b"")
    }

    /// Writes once, and sees that it was written.
    ///
    /// # Panics
    /// If it was not.
    pub fn put(&self, target: &str, body: &[u8]) {
        let answer = self.ask("PUT", target, body);
        assert_eq!((answer.status, answer.text()), (200, "true"), "PUT {target}");
    }

    /// Waits until it has a leader, which is itself.
    pub fn wait_for_leader(&self) {
        until("there is a leader", || (self.get("/v1/status/leader").text() != "\"\"").then_some(()));
    }

    /// What it printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// The process ID.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Ends it by a signal and waits for its end.
    pub fn end(self, signal: Signal) -> ExitStatus {
        self.process.signal(signal);
        self.wait()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> ExitStatus {
        self.process.wait()
    }
}

/// The options of a server of its own on a data directory.
#[must_use]
pub fn server_options(directory: &Path) -> Vec<String> {
    vec!["-server".into(), "-bootstrap".into(), format!("-data-dir={}", directory.display())]
}

/// The address in the line `Client Addr: 127.0.0.1 (HTTP: 40123, …`.
fn http_address(output: &str) -> Option<SocketAddr> {
    let line = output.lines().find_map(|line| line.trim_start().strip_prefix("Client Addr: "))?;
    let (ip, ports) = line.split_once(" (HTTP: ")?;
    let port = ports.split(',').next()?;
    format!("{ip}:{port}").parse().ok()
}

/// The address in the line `Cluster Addr: 127.0.0.1 (LAN: 40124, …`.
fn gossip_address(output: &str) -> Option<SocketAddr> {
    let line = output.lines().find_map(|line| line.trim_start().strip_prefix("Cluster Addr: "))?;
    let (ip, ports) = line.split_once(" (LAN: ")?;
    let port = ports.split(',').next()?;
    format!("{ip}:{port}").parse().ok()
}

/// Options, and those of all tests that they do not name.
fn with_defaults<S: AsRef<str>>(options: &[S]) -> Vec<String> {
    let given = |key: &str| options.iter().any(|option| option.as_ref().split('=').next() == Some(key));
    let defaults = OPTIONS.iter().filter(|option| !option.split('=').next().is_some_and(given));
    defaults.copied().chain(options.iter().map(AsRef::as_ref)).map(str::to_owned).collect()
}

/// A process of the binary, and what it prints. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    output: Arc<Mutex<String>>,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Process {
    /// `lictor agent` with these options besides those of all tests.
    ///
    /// # Panics
    /// If the binary cannot be run.
    #[must_use]
    pub fn agent<S: AsRef<str>>(options: &[S]) -> Self {
        let mut command = Command::new(lictor());
        command.arg("agent").args(with_defaults(options));
        Self::run(command)
    }

    /// Runs a command that becomes the binary.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn run(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("lictor can be run");
        let output = Arc::new(Mutex::new(String::new()));
        let readers = vec![
            follow(child.stdout.take().expect("a pipe"), &output),
            follow(child.stderr.take().expect("a pipe"), &output),
        ];
        Self { child, output, readers }
    }

    /// What it printed so far.
    ///
    /// # Panics
    /// If a reading thread did.
    #[must_use]
    pub fn output(&self) -> String {
        self.output.lock().expect("the readers do not panic").clone()
    }

    /// Whether it closed its output, as it does when it ends.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.readers.iter().all(thread::JoinHandle::is_finished)
    }

    /// The process ID.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If there is no such process any more.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn wait(&mut self) -> ExitStatus {
        let status = until("the process ends", || self.child.try_wait().expect("a child can be waited for"));
        for reader in self.readers.drain(..) {
            reader.join().expect("the readers do not panic");
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already: then there is nothing to kill, and nothing wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Collects what comes from a pipe, line by line.
fn follow(pipe: impl Read + Send + 'static, output: &Arc<Mutex<String>>) -> thread::JoinHandle<()> {
    let output = Arc::clone(output);
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut output = output.lock().expect("the other reader does not panic");
            output.push_str(&line);
            output.push('\n');
        }
    })
}
