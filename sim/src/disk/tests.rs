//! What a disk keeps and what it forgets.

use lictor_core::id::JobId;
use lictor_core::io::JobOutcome;

use super::*;

const LOG: &str = "log";

fn write(seq: u64, offset: u64, bytes: &[u8]) -> Write {
    let bytes = Bytes::copy_from_slice(bytes);
    Write { seq: WriteSeq(seq), ops: vec![FileOp::Write { file: LOG.into(), offset, bytes }] }
}

fn settle(disk: &mut Disk) -> Option<WriteSeq> {
    disk.begin();
    disk.complete().expect("the disk is not limited")
}

fn contents(disk: &mut Disk) -> Option<Bytes> {
    disk.contents(LOG)
}

#[test]
fn a_group_takes_all_that_waits_and_completes_with_its_last_write() {
    let mut disk = Disk::default();
    assert!(disk.submit(write(1, 0, b"a")));
    assert_eq!(disk.begin(), Some(1));
    assert!(!disk.submit(write(2, 1, b"b")));
    assert!(!disk.submit(write(3, 2, b"c")));
    assert_eq!(disk.complete().unwrap(), Some(WriteSeq(1)));
    assert_eq!(settle(&mut disk), Some(WriteSeq(3)));
    assert_eq!(disk.begin(), None);
    assert_eq!(contents(&mut disk).unwrap().as_ref(), b"abc");
}

#[test]
fn what_was_synced_survives_every_power_loss() {
    for seed in 0..200 {
        let mut disk = Disk::default();
        disk.submit(write(1, 0, &[1; 2000]));
        settle(&mut disk);
        disk.submit(write(2, 2000, &[2; 2000]));
        disk.begin();
        disk.lose_power(&mut Rng::seeded(seed));
        assert_eq!(&contents(&mut disk).expect("the file was synced")[..2000], &[1; 2000]);
    }
}

#[test]
fn an_unsynced_write_may_be_lost_or_kept_or_torn_at_sectors() {
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..400 {
        let mut disk = Disk::default();
        disk.submit(write(1, 0, &[1; 512]));
        settle(&mut disk);
        disk.submit(write(2, 512, &[2; 2048]));
        disk.begin();
        disk.lose_power(&mut Rng::seeded(seed));
        let bytes = contents(&mut disk).expect("the file was synced");
        let tail = &bytes[512..];
        for sector in tail.chunks(512) {
            assert!(sector.iter().all(|b| *b == sector[0]), "a sector is written as a whole");
        }
        match tail.iter().filter(|b| **b == 2).count() {
            0 => lost += 1,
            2048 => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(lost > 20 && kept > 20 && torn > 20, "lost {lost}, kept {kept}, torn {torn}");
}

#[test]
fn a_later_write_may_survive_an_earlier_one_of_the_same_group() {
    let overtaken = (0..400).filter(|seed| {
        let mut disk = Disk::default();
        disk.submit(write(1, 0, &[0; 2048]));
        settle(&mut disk);
        disk.submit(write(2, 0, &[2; 512]));
        disk.submit(write(3, 1024, &[3; 512]));
        disk.begin();
        disk.lose_power(&mut Rng::seeded(*seed));
        let bytes = contents(&mut disk).expect("the file was synced");
        bytes[0] == 0 && bytes[1024] == 3
    });
    assert!(overtaken.count() > 10);
}

#[test]
fn a_file_that_was_never_synced_may_be_gone_and_a_removed_one_may_be_back() {
    let (mut gone, mut back) = (0, 0);
    for seed in 0..200 {
        let mut dice = Rng::seeded(seed);
        let mut disk = Disk::default();
        disk.submit(write(1, 0, b"new"));
        disk.begin();
        disk.lose_power(&mut dice);
        gone += usize::from(contents(&mut disk).is_none());

        let mut disk = Disk::default();
        disk.submit(write(1, 0, b"old"));
        settle(&mut disk);
        disk.submit(Write { seq: WriteSeq(2), ops: vec![FileOp::Remove { file: LOG.into() }] });
        disk.begin();
        disk.lose_power(&mut dice);
        back += usize::from(contents(&mut disk).is_some_and(|bytes| bytes.as_ref() == b"old"));
    }
    assert!((20..180).contains(&gone), "{gone}");
    assert!((20..180).contains(&back), "{back}");
}

#[test]
fn a_process_that_dies_leaves_what_it_had_handed_over() {
    let mut all = 0;
    for seed in 0..100 {
        let mut disk = Disk::default();
        disk.submit(write(1, 0, b"a"));
        disk.submit(write(2, 1, b"b"));
        disk.begin();
        disk.submit(write(3, 2, b"c"));
        disk.crash_process(&mut Rng::seeded(seed));
        let bytes = contents(&mut disk).unwrap_or_default();
        assert!(b"ab".starts_with(&bytes), "the queue dies with the process");
        all += usize::from(bytes.len() == 2);
    }
    assert!((40..100).contains(&all), "{all}");
}

#[test]
fn room_is_reserved_only_if_there_is_any() {
    let mut disk = Disk::default();
    assert!(disk.reserve(&LOG.into(), 4096));
    disk.limit(Some(100));
    assert!(disk.reserve(&LOG.into(), 4096), "it is long enough already");
    assert!(!disk.reserve(&LOG.into(), 4197));
    disk.submit(write(1, 0, &[1; 4096]));
    assert_eq!(settle(&mut disk), Some(WriteSeq(1)));
    disk.submit(write(2, 4096, &[1; 101]));
    disk.begin();
    assert!(disk.complete().is_err());
    disk.limit(None);
    assert!(disk.reserve(&LOG.into(), 8192));
    assert_eq!(contents(&mut disk).unwrap().len(), 8192);
}

fn job(id: u64, ops: Vec<FileOp>) -> Job {
    Job { id: JobId(id), ops }
}

fn put(file: &str, bytes: &[u8]) -> FileOp {
    FileOp::Write { file: file.into(), offset: 0, bytes: Bytes::copy_from_slice(bytes) }
}

fn rename(file: &str, to: &str) -> FileOp {
    FileOp::Rename { file: file.into(), to: to.into() }
}

fn do_job(disk: &mut Disk, job: Job) -> JobOutcome {
    assert!(disk.submit_job(job));
    disk.begin_job();
    disk.complete_job().expect("a job was under way").1
}

#[test]
fn a_renamed_file_is_whole_under_one_name_or_the_other() {
    let (mut old, mut new) = (0, 0);
    for seed in 0..400 {
        let mut dice = Rng::seeded(seed);
        let mut disk = Disk::default();
        assert_eq!(do_job(&mut disk, job(1, vec![put("snap", b"old")])), JobOutcome::Done);
        disk.submit_job(job(2, vec![put("tmp", &[7; 1500]), rename("tmp", "snap")]));
        disk.begin_job();
        disk.lose_power(&mut dice);
        let snap = disk.contents("snap").expect("one of the two is always there");
        if snap.as_ref() == b"old" {
            old += 1;
        } else {
            assert_eq!(snap.as_ref(), [7; 1500], "what was renamed was durable before");
            assert_eq!(disk.list(), ["snap"]);
            new += 1;
        }
    }
    assert!(old > 100 && new > 50, "old {old}, new {new}");
}

#[test]
fn what_a_job_did_survives_once_it_is_answered() {
    for seed in 0..200 {
        let mut dice = Rng::seeded(seed);
        let mut disk = Disk::default();
        do_job(&mut disk, job(1, vec![put("snap", b"old")]));
        do_job(&mut disk, job(2, vec![put("tmp", b"new"), rename("tmp", "snap")]));
        disk.lose_power(&mut dice);
        assert_eq!(disk.list(), ["snap"]);
        assert_eq!(disk.contents("snap").unwrap().as_ref(), b"new");
        do_job(&mut disk, job(3, vec![FileOp::Remove { file: "snap".into() }]));
        disk.lose_power(&mut dice);
        assert!(disk.list().is_empty());
    }
}

#[test]
fn a_job_that_is_broken_off_leaves_a_part_of_it() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let mut disk = Disk::default();
        disk.submit_job(job(1, vec![put("a", &[1; 100]), put("b", &[2; 100])]));
        disk.submit_job(job(2, vec![put("c", &[3; 100])]));
        disk.begin_job();
        disk.crash_process(&mut Rng::seeded(seed));
        let mut length = |name| disk.contents(name).map_or(0, |bytes| bytes.len());
        assert_eq!(length("c"), 0, "it had not begun");
        assert!(length("b") == 0 || length("a") == 100, "changes are made in their order");
        lengths.insert(length("a") + length("b"));
    }
    assert!(lengths.len() > 20, "{lengths:?}");
}

#[test]
fn a_job_without_room_says_so_and_leaves_the_log_its_reserve() {
    let mut disk = Disk::default();
    assert!(disk.reserve(&LOG.into(), 4096));
    disk.limit(Some(100));
    assert_eq!(do_job(&mut disk, job(1, vec![put("a", &[1; 60]), put("b", &[1; 60])])), JobOutcome::NoRoom);
    assert_eq!(disk.contents("b").unwrap().len(), 40, "the part that fits was written");
    assert_eq!(do_job(&mut disk, job(2, vec![put("b", &[1; 41])])), JobOutcome::NoRoom);
    disk.submit(write(1, 0, &[1; 4096]));
    assert_eq!(settle(&mut disk), Some(WriteSeq(1)));
    let remove = |file: &str| FileOp::Remove { file: file.into() };
    assert_eq!(do_job(&mut disk, job(3, vec![remove("a"), put("b", &[1; 90])])), JobOutcome::Done);
}

#[test]
fn rot_turns_one_durable_bit() {
    let mut disk = Disk::default();
    do_job(&mut disk, job(1, vec![put("snap", &[0; 64]), put("other", &[0; 64])]));
    let mut dice = Rng::seeded(1);
    assert!(disk.rot(|name| name == "snap", &mut dice).is_some_and(|what| what.ends_with("of snap")));
    assert_eq!(disk.contents("snap").unwrap().iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    assert!(disk.rot(|name| name == "nothing", &mut dice).is_none());
}
