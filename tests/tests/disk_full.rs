//! A disk without room: writes fail with a reason, reads go on, and nothing acknowledged is lost.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use lictor_tests::agent::Signal;
use lictor_tests::{Agent, until};

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` if this user or machine may not mount anything.
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=12m", "lictor-test"]).arg(directory.path()).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(directory)),
            other => {
                println!("skipped: a small file system cannot be mounted here: {other:?}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut filler = fs::File::create(self.path().join("filler")).unwrap();
        let chunk = [0; 64 << 10];
        while filler.write_all(&chunk).is_ok() {}
        while filler.write_all(&chunk[..512]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Should it fail, the system's own tools show what is left; there is nobody to tell here.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

/// Writes until the disk is full; gives the number of acknowledged writes and the refusal.
fn write_until_refused(agent: &Agent) -> (usize, String) {
    let value = vec![b'v'; 64 << 10];
    let mut http = agent.http();
    for n in 0..1000 {
        let answer = http.request("PUT", &format!("/v1/kv/n{n}"), &value).unwrap();
        match answer.status {
            200 => {}
            500 => return (n, answer.text().to_owned()),
            other => panic!("a write on a full disk is answered with {other}: {}", answer.text()),
        }
    }
    panic!("64 MB were written to a disk of 12 MB");
}

#[test]
fn a_full_disk_refuses_writes_serves_reads_and_recovers() {
    let Some(disk) = SmallDisk::mount() else { return };
    let data = disk.path().join("data");
    let agent = Agent::on(&data);
    agent.wait_for_leader();
    agent.put("/v1/kv/before", b"kept");
    disk.fill();

    let (written, refusal) = write_until_refused(&agent);
    assert!(refusal.contains("no space left on the disk"), "{refusal}");
    assert_eq!(agent.get("/v1/kv/before?raw").text(), "kept");
    assert_eq!(agent.get("/v1/kv/before?raw&consistent").text(), "kept");
    assert_ne!(agent.get("/v1/status/leader").text(), "\"\"", "a full disk is no reason to give up the lead");

    disk.free();
    until("writes are taken again", || (agent.ask("PUT", "/v1/kv/after", b"room").status == 200).then_some(()));
    agent.end(Signal::KILL);

    let agent = Agent::on(&data);
    agent.wait_for_leader();
    for key in (0..written).map(|n| format!("n{n}")) {
        assert_eq!(agent.get(&format!("/v1/kv/{key}?raw")).body.len(), 64 << 10, "{key} had been acknowledged");
    }
    assert_eq!(agent.get("/v1/kv/before?raw").text(), "kept");
    assert_eq!(agent.get("/v1/kv/after?raw").text(), "room");
    assert_eq!(agent.end(Signal::TERM).code(), Some(1));
}
