//! Networks of their own, one for each agent, that can be cut and made to lose what they carry: namespaces of the Linux
//! kernel, joined by a switch that has a namespace too. Nothing of the machine's own network is touched, and with
//! the namespaces all goes that is in them.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{io, process, thread};

use rustix::fd::AsFd as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network of its own: an interface for itself (`lo`) and, in a [`Net`], one to the others (`eth0`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A command that runs a program in it.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Does something in it. Sockets that are made there belong to it for good.
    ///
    /// # Panics
    /// If the namespace is gone, or `act` panics.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let file = File::open(Path::new("/run/netns").join(&self.name)).expect("the namespace is there");
        // Only the thread moves, and it ends with this.
        let moved = || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("we may enter it");
            act()
        };
        thread::scope(|scope| scope.spawn(moved).join().expect("what is done there does not panic"))
    }
}

/// A switch and those who are connected to it. Removed when it is dropped, with all that it is made of.
#[derive(Debug)]
pub struct Net {
    switch: Namespace,
    nodes: Vec<Namespace>,
}

impl Net {
    /// A network of so many, who have the addresses that [`address`](Self::address) tells.
    ///
    /// # Errors
    /// Why there can be none here: no right to make one, no tool for it, or a kernel without it.
    pub fn new(nodes: usize) -> Result<Self, String> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("lictor-{}-{}", process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let namespace = |name: &str| Namespace { name: format!("{prefix}-{name}") };
        let switch = namespace("switch");
        ip(&["netns", "add", &switch.name])?;
        // From here on it is removed, whatever happens.
        let mut net = Self { switch, nodes: Vec::new() };
        for side in ["one", "other"] {
            net.on_switch(&["link", "add", side, "type", "bridge"])?;
            net.on_switch(&["link", "set", side, "up"])?;
        }
        for number in 0..nodes {
            let node = namespace(&number.to_string());
            ip(&["netns", "add", &node.name])?;
            net.nodes.push(node.clone());
            let (port, address) = (port(number), format!("{}/24", Self::address(number)));
            net.on_switch(&["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &node.name])?;
            net.on_switch(&["link", "set", &port, "master", "one", "up"])?;
            ip(&["-n", &node.name, "link", "set", "lo", "up"])?;
            ip(&["-n", &node.name, "addr", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &node.name, "link", "set", "eth0", "up"])?;
        }
        Ok(net)
    }

    /// The address of a node.
    #[must_use]
    pub fn address(number: usize) -> String {
        format!("10.77.0.{}", number + 1)
    }

    /// The namespace of a node.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn node(&self, number: usize) -> &Namespace {
        &self.nodes[number]
    }

    /// Cuts these off from all others. They still reach each other.
    ///
    /// # Panics
    /// If the tool fails.
    pub fn cut_off(&self, numbers: &[usize]) {
        self.connect(numbers, "other");
    }

    /// Connects these to those who are not cut off.
    ///
    /// # Panics
    /// If the tool fails.
    pub fn heal(&self, numbers: &[usize]) {
        self.connect(numbers, "one");
    }

    fn connect(&self, numbers: &[usize], side: &str) {
        for number in numbers {
            self.on_switch(&["link", "set", &port(*number), "master", side]).expect("a port can be moved");
        }
    }

    /// From now on so many percent of what each node sends get lost.
    ///
    /// # Errors
    /// Why this kernel cannot do that.
    pub fn lose(&self, percent: u32) -> Result<(), String> {
        self.nodes.iter().try_for_each(|node| lose(node, percent))
    }

    fn on_switch(&self, arguments: &[&str]) -> Result<(), String> {
        ip(&[&["-n", self.switch.name.as_str()], arguments].concat())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for namespace in self.nodes.iter().chain([&self.switch]) {
            // That it could not be made is no reason to fail again.
            let _ = ip(&["netns", "del", &namespace.name]);
        }
    }
}

/// The switch's end of a node's cable.
fn port(number: usize) -> String {
    format!("port{number}")
}

/// Has a node's interface lose what it sends: by the emulator of networks, or else by a filter that throws dice.
fn lose(node: &Namespace, percent: u32) -> Result<(), String> {
    let chance = format!("{percent}%");
    let emulator = ["-n", &node.name, "qdisc", "replace", "dev", "eth0", "root", "netem", "loss", &chance];
    let Err(why) = run("tc", &emulator) else { return Ok(()) };
    // In the words of the packet filter: load a random number (its offset is a magic one); is it at least the bound?
    // Then go on with 0 ("ok"), else with 2 ("shot").
    let bound = u64::from(percent) * (1 << 32) / 100;
    let program = format!("4,32 0 0 4294963256,53 1 0 {bound},6 0 0 2,6 0 0 0");
    let tc = |arguments: &[&str]| run("tc", &[&["-n", node.name.as_str()], arguments].concat());
    tc(&["qdisc", "replace", "dev", "eth0", "clsact"])
        .and_then(|()| tc(&["filter", "add", "dev", "eth0", "egress", "bpf", "da", "bytecode", &program]))
        .map_err(|other| format!("{why}; {other}"))
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    run("ip", arguments)
}

/// Runs a tool. What it complains of is the error.
fn run(tool: &str, arguments: &[&str]) -> Result<(), String> {
    let told = |error: io::Error| format!("{tool}: {error}");
    let output = Command::new(tool).args(arguments).output().map_err(told)?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{tool} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
