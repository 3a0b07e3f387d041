//! Runs the scripts in `testdata/raft`: each opens with the claim that it proves, then plays a scenario on a small
//! cluster of raft machines and shows all that happens. `UPDATE_GOLDENFILES=1 cargo test -p lictor-core --test golden`
//! writes the outputs anew; read the difference before you commit it.

mod cluster;

use std::error::Error;
use std::path::PathBuf;

use cluster::{Chosen, Cluster, address};
use goldenscript::{Command, Context, Runner};
use lictor_core::id::PeerId;
use lictor_core::raft::Change;

#[test]
fn scripts() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/raft");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 15, "scripts are missing: {files:?}");
    for file in files {
        println!("{}", file.display());
        goldenscript::run(&mut Script::default(), &file).unwrap();
    }
}

/// Beside what somebody thought of: whatever comes to pass at random, with messages late, lost, twice and out of order, slow
/// disks, crashes, partitions, changes of the members, transfers and snapshots.
#[test]
fn walks() {
    for seed in 0..200 {
        println!("seed {seed}");
        Cluster::walk(seed, 2000);
    }
}

#[derive(Default)]
struct Script {
    cluster: Cluster,
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let key = |args: &mut goldenscript::ArgumentConsumer<'_>, key: &str| args.take_key(key).map(str::to_owned);
        let cluster = &mut self.cluster;
        match command.name.as_str() {
            // cluster nodes=N [disk=slow] [append=one]: a new cluster; a slow disk writes only when it is told to;
            // appends carry as much as they can, or one entry.
            "cluster" => {
                let nodes = key(&mut args, "nodes").ok_or("nodes=N is missing")?.parse()?;
                let slow_disk = key(&mut args, "disk").as_deref() == Some("slow");
                let one_by_one = key(&mut args, "append").as_deref() == Some("one");
                *cluster = Cluster::new(nodes, slow_disk, one_by_one);
            }
            // elapse MS: time passes; nobody notices before its next message or tick.
            "elapse" => cluster.elapse(args.next_pos().ok_or("elapse MS")?.parse()?),
            // tick NODE...: what is due there happens.
            "tick" => nodes(&mut args)?.into_iter().for_each(|node| cluster.tick(node)),
            // campaign NODE: time passes until this node misses its leader; only it notices.
            "campaign" => nodes(&mut args)?.into_iter().for_each(|node| cluster.campaign(node)),
            // put NODE VALUE...: proposes on a node.
            "put" => {
                let node = node(args.next_pos().ok_or("put NODE VALUE")?)?;
                while let Some(value) = args.next_pos() {
                    cluster.propose(node, value);
                }
                cluster.flush(node);
            }
            // read NODE: asks for a round that confirms its leadership.
            "read" => nodes(&mut args)?.into_iter().for_each(|node| cluster.read(node)),
            // deliver [NODE...] [from=NODE] [only=KIND] [except=KIND]: the messages that wait for these nodes, or for
            // all, arrive.
            "deliver" => cluster.deliver(&chosen(&mut args)?),
            // twice NODE: the messages that wait for this node arrive two times each.
            "twice" => nodes(&mut args)?.into_iter().for_each(|node| cluster.duplicate(node)),
            // reverse NODE: the messages that wait for this node arrive in reverse.
            "reverse" => nodes(&mut args)?.into_iter().for_each(|node| cluster.reverse(node)),
            // drop [NODE...] [from=NODE] [only=KIND] [except=KIND]: the messages that wait for these nodes, or for all,
            // are lost.
            "drop" => cluster.lose(&chosen(&mut args)?),
            // persist NODE... [writes=N]: the disk completes all that it was given, or the first N writes.
            "persist" => {
                let writes = key(&mut args, "writes").map_or(Ok(usize::MAX), |n| n.parse())?;
                nodes(&mut args)?.into_iter().for_each(|node| cluster.persist(node, writes));
            }
            // settle: messages and disks, until nothing more happens.
            "settle" => cluster.settle(),
            // crash NODE... [writes=N]: what is not durable is lost, but for the first N writes under way.
            "crash" => {
                let survive = key(&mut args, "writes").map_or(Ok(0), |n| n.parse())?;
                nodes(&mut args)?.into_iter().for_each(|node| cluster.crash(node, survive));
            }
            // restart NODE... [forced=NODE,NODE]: from what is on the disk; with these as the only voters by order.
            "restart" => {
                let forced = key(&mut args, "forced").unwrap_or_default();
                let forced: Vec<PeerId> =
                    forced.split(',').filter(|n| !n.is_empty()).map(node).collect::<Result<_, _>>()?;
                nodes(&mut args)?.into_iter().for_each(|node| cluster.restart(node, &forced));
            }
            // join NODE...: servers start that are new, and no founders.
            "join" => nodes(&mut args)?.into_iter().for_each(|node| cluster.join(node)),
            // add LEADER NODE, promote LEADER NODE, remove LEADER NODE, move LEADER NODE port=N: changes the members.
            name @ ("add" | "promote" | "remove" | "move") => {
                let leader = node(args.next_pos().ok_or("LEADER NODE")?)?;
                let id = node(args.next_pos().ok_or("LEADER NODE")?)?;
                let mut address = address(id);
                if let Some(port) = key(&mut args, "port") {
                    address.set_port(port.parse()?);
                }
                let change = match name {
                    "add" => Change::Add { id, address },
                    "promote" => Change::Promote(id),
                    "remove" => Change::Remove(id),
                    _ => Change::Move { id, address },
                };
                cluster.change(leader, change);
            }
            // transfer LEADER [to=NODE]: hands leadership over.
            "transfer" => {
                let to = key(&mut args, "to").map(|name| node(&name)).transpose()?;
                cluster.transfer(node(args.next_pos().ok_or("transfer LEADER")?)?, to);
            }
            // snapshot NODE [trailing=N] [kept=BYTES]: a snapshot is cut and durable; N entries before it stay in the log, and
            // what slow followers need, within so many bytes.
            "snapshot" => {
                let trailing = key(&mut args, "trailing").map_or(Ok(0), |n| n.parse())?;
                let kept = key(&mut args, "kept").map_or(Ok(usize::MAX), |n| n.parse())?;
                nodes(&mut args)?.into_iter().for_each(|node| cluster.snapshot(node, trailing, kept));
            }
            "members" => nodes(&mut args)?.into_iter().for_each(|node| cluster.show_members(node)),
            // address NODE OTHER: where the one looks for the other.
            "address" => {
                let by = node(args.next_pos().ok_or("address NODE OTHER")?)?;
                cluster.show_address(by, node(args.next_pos().ok_or("address NODE OTHER")?)?);
            }
            // partition NODE...: these nodes and the others do not hear each other any more.
            "partition" => cluster.partition(&nodes(&mut args)?),
            "heal" => cluster.heal(),
            "status" => cluster.show_status(),
            "log" => nodes(&mut args)?.into_iter().for_each(|node| cluster.show_log(node)),
            "progress" => nodes(&mut args)?.into_iter().for_each(|node| cluster.show_progress(node)),
            "lease" => nodes(&mut args)?.into_iter().for_each(|node| cluster.show_lease(node)),
            name => return Err(format!("unknown command {name}").into()),
        }
        args.reject_next()?;
        self.cluster.check();
        Ok(self.cluster.take_output())
    }
}

fn node(name: &str) -> Result<PeerId, Box<dyn Error>> {
    let number = name.strip_prefix('n').ok_or_else(|| format!("{name} is no node: n1, n2 …"))?;
    Ok(PeerId::numbered(number.parse()?))
}

fn chosen(args: &mut goldenscript::ArgumentConsumer<'_>) -> Result<Chosen, Box<dyn Error>> {
    let from = args.take_key("from").map(node).transpose()?;
    let only = args.take_key("only").map(str::to_owned);
    let except = args.take_key("except").map(str::to_owned);
    Ok(Chosen { to: nodes(args)?, from, only, except })
}

fn nodes(args: &mut goldenscript::ArgumentConsumer<'_>) -> Result<Vec<PeerId>, Box<dyn Error>> {
    let mut nodes = Vec::new();
    while let Some(name) = args.next_pos() {
        nodes.push(node(name)?);
    }
    Ok(nodes)
}
