//! The files against a model, reservations, and the thread's answers.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use lictor_core::id::{JobId, WriteSeq};
use lictor_core::io::{FileOp, Input, Job, JobOutcome, Write};
use lictor_core::rng::Rng;

use super::*;

fn files(directory: &Path, quota: Quota) -> Files {
    Files::new(directory.to_owned(), quota, File::create(directory.join("lock")).unwrap())
}

fn write(file: &str, offset: u64, bytes: impl Into<Vec<u8>>) -> FileOp {
    FileOp::Write { file: file.to_owned(), offset, bytes: bytes.into().into() }
}

fn truncate(file: &str, size: u64) -> FileOp {
    FileOp::Truncate { file: file.to_owned(), size }
}

/// What files are, in the plainest way.
#[derive(Default)]
struct Model(BTreeMap<String, Vec<u8>>);

impl Model {
    fn apply(&mut self, op: &FileOp) {
        match op {
            FileOp::Write { file, offset, bytes } => {
                let content = self.0.entry(file.clone()).or_default();
                let (start, end) = (*offset as usize, *offset as usize + bytes.len());
                content.resize(content.len().max(end), 0);
                content[start..end].copy_from_slice(bytes);
            }
            FileOp::Truncate { file, size } => self.0.entry(file.clone()).or_default().resize(*size as usize, 0),
            FileOp::Remove { file } => drop(self.0.remove(file)),
            FileOp::Rename { file, to } => {
                let content = self.0.remove(file).expect("only a file that is there gets another name");
                self.0.insert(to.clone(), content);
            }
        }
    }

    fn reserve(&mut self, file: &str, size: u64) {
        let content = self.0.entry(file.to_owned()).or_default();
        content.resize(content.len().max(size as usize), 0);
    }

    fn check(&self, directory: &Path, seed: u64) {
        for n in 0..FILES {
            let name = file_name(n);
            let found = std::fs::read(directory.join(&name)).ok();
            assert!(found.as_ref() == self.0.get(&name), "seed {seed}: {name} differs from the model");
        }
    }
}

const FILES: u64 = 12;

fn file_name(n: u64) -> String {
    format!("raft/{n:02}")
}

fn draw_op(rng: &mut Rng, model: &Model) -> FileOp {
    // Mostly the same few files, so that writes follow on each other; sometimes one of more than are kept open.
    let file = file_name(if rng.one_in(4) { rng.below(FILES) } else { 3 });
    let length = model.0.get(&file).map_or(0, |content| content.len() as u64);
    match rng.below(13) {
        12 if model.0.contains_key(&file) => FileOp::Rename { file, to: file_name(rng.below(FILES)) },
        0 => FileOp::Remove { file },
        1 => FileOp::Truncate { file, size: rng.below(length + 100) },
        2 => write(&file, rng.below(length + 1), vec![rng.u64() as u8; 300 << 10]),
        3 => write(&file, rng.below(length + 5000), vec![rng.u64() as u8; 70]),
        _ => write(&file, length, vec![rng.u64() as u8; rng.below(3000) as usize]),
    }
}

#[test]
fn files_hold_what_was_written_whatever_is_gathered_on_the_way() {
    for seed in 0..8 {
        let directory = tempfile::tempdir().unwrap();
        let mut files = files(directory.path(), Quota::default());
        let mut model = Model::default();
        let mut rng = Rng::seeded(seed);
        for _ in 0..120 {
            if rng.one_in(20) {
                let (name, size) = (file_name(rng.below(FILES)), rng.below(100_000));
                assert!(files.reserve(&name, size).unwrap());
                if size > 0 {
                    model.reserve(&name, size);
                }
            }
            let op = draw_op(&mut rng, &model);
            files.apply(&op).unwrap();
            model.apply(&op);
            if rng.one_in(10) {
                files.sync().unwrap();
                model.check(directory.path(), seed);
            }
        }
        files.sync().unwrap();
        model.check(directory.path(), seed);
    }
}

#[test]
fn space_is_set_aside_as_zeros_behind_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let mut files = files(directory.path(), Quota::default());
    files.apply(&write("raft/a", 0, "abcdef")).unwrap();
    assert!(files.reserve("raft/a", 10_000).unwrap());
    files.apply(&truncate("raft/a", 3)).unwrap();
    assert!(files.reserve("raft/a", 10_000).unwrap());
    files.sync().unwrap();
    let mut expected = b"abc".to_vec();
    expected.resize(10_000, 0);
    assert_eq!(std::fs::read(directory.path().join("raft/a")).unwrap(), expected);
}

#[test]
fn a_refused_reservation_leaves_everything_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let quota = Quota::new(8192);
    let mut files = files(directory.path(), quota.clone());
    assert!(files.reserve("raft/a", 8192).unwrap());
    assert!(!files.reserve("raft/a", 8193).unwrap());
    assert!(!files.reserve("raft/b", 1).unwrap());
    assert_eq!(std::fs::metadata(directory.path().join("raft/a")).unwrap().len(), 8192);
    assert!(!directory.path().join("raft/b").exists());
    // What there is already needs no room.
    assert!(files.reserve("raft/a", 5000).unwrap());
    quota.set(10_000);
    assert!(files.reserve("raft/b", 1000).unwrap());
}

#[test]
fn one_answer_serves_all_the_writes_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let (events, inbox) = channel();
    let (mut link, thread) = DiskThreads::start(files(directory.path(), Quota::default()), events).unwrap();
    let count = 500;
    for seq in 1..=count {
        link.submit(Task::Write(Write { seq: WriteSeq(seq), ops: vec![write("raft/a", seq - 1, [seq as u8])] }));
    }
    let mut last = WriteSeq(0);
    let mut answers = 0;
    while last < WriteSeq(count) {
        match inbox.recv_timeout(Duration::from_secs(30)).expect("every write is answered") {
            Event::Input(Input::Persisted(seq)) => {
                assert!(seq > last, "{seq} came after {last}");
                last = seq;
                answers += 1;
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
    assert!(answers < count / 2, "{answers} syncs for {count} writes");
    link.submit(Task::Reserve { file: "raft/a".to_owned(), size: 1 << 20 });
    match inbox.recv_timeout(Duration::from_secs(30)).expect("a reservation is answered") {
        Event::Input(Input::Reserved { file, size, granted }) => {
            assert_eq!((file.as_str(), size, granted), ("raft/a", 1 << 20, true));
        }
        other => panic!("unexpected: {other:?}"),
    }
    drop(link);
    thread.join();
    let expected: Vec<u8> = (1..=count).map(|seq| seq as u8).collect();
    assert_eq!(std::fs::read(directory.path().join("raft/a")).unwrap()[..count as usize], expected);
}

#[test]
fn jobs_change_files_as_asked_and_set_nothing_aside_that_shows() {
    for seed in 0..8 {
        let directory = tempfile::tempdir().unwrap();
        let mut beside = files(directory.path(), Quota::default()).beside();
        let mut model = Model::default();
        let mut rng = Rng::seeded(seed);
        for _ in 0..40 {
            let ops: Vec<_> = (0..rng.below(4))
                .map(|_| {
                    let op = draw_op(&mut rng, &model);
                    model.apply(&op);
                    op
                })
                .collect();
            beside.apply(&ops).unwrap();
            model.check(directory.path(), seed);
        }
    }
}

#[test]
fn files_lie_in_folders_as_deep_as_their_names_say() {
    let directory = tempfile::tempdir().unwrap();
    let mut beside = files(directory.path(), Quota::default()).beside();
    let (file, draft) = ("agent/services/web".to_owned(), "agent/services/web.new".to_owned());
    for content in ["first", "second"] {
        let ops = [
            FileOp::Remove { file: draft.clone() },
            write(&draft, 0, content),
            FileOp::Rename { file: draft.clone(), to: file.clone() },
        ];
        beside.apply(&ops).unwrap();
        assert_eq!(std::fs::read_to_string(directory.path().join(&file)).unwrap(), content);
        assert!(!directory.path().join(&draft).exists());
    }
    beside
        .apply(&[FileOp::Remove { file: file.clone() }, FileOp::Remove { file: "agent/checks/none".into() }])
        .unwrap();
    assert!(!directory.path().join(&file).exists());
    // A data directory that has gone is not made anew: its lock and its name would be missing.
    let gone = directory.path().join("gone");
    std::fs::create_dir(&gone).unwrap();
    let mut beside = files(&gone, Quota::default()).beside();
    std::fs::remove_dir_all(&gone).unwrap();
    assert!(beside.apply(&[write("agent/pool", 0, "x")]).is_err() && !gone.exists());
}

#[test]
fn a_file_under_its_last_name_takes_no_more_room_than_it_needs() {
    let directory = tempfile::tempdir().unwrap();
    let mut beside = files(directory.path(), Quota::default()).beside();
    let blocks =
        |name| std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(directory.path().join(name)).unwrap());
    for n in 0..20 {
        beside.apply(&[write("raft/draft", n * 100_000, vec![1; 100_000])]).unwrap();
    }
    let needed = 2_000_000 / 512;
    assert!(blocks("raft/draft") > needed + 500, "nothing was set aside ahead of what is written");
    let rename = FileOp::Rename { file: "raft/draft".to_owned(), to: "raft/done".to_owned() };
    beside.apply(&[rename]).unwrap();
    assert!(blocks("raft/done") < needed + 100, "{} blocks for {needed}", blocks("raft/done"));
    assert!(!directory.path().join("raft/draft").exists());
}

fn job_done(inbox: &Receiver<Event>) -> (JobId, JobOutcome) {
    match inbox.recv_timeout(Duration::from_secs(30)).expect("every job is answered") {
        Event::Input(Input::JobDone { id, outcome }) => (id, outcome),
        other => panic!("unexpected: {other:?}"),
    }
}

#[test]
fn jobs_are_answered_one_by_one_and_one_without_room_is_not_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let (events, inbox) = channel();
    let (mut link, threads) = DiskThreads::start(files(directory.path(), Quota::new(10_000)), events).unwrap();
    let jobs = [
        vec![write("raft/draft", 0, vec![1; 6000]), write("raft/draft", 6000, vec![2; 3000])],
        vec![write("raft/draft", 9000, vec![3; 500]), write("raft/draft", 9500, vec![4; 600])],
        vec![FileOp::Remove { file: "raft/draft".to_owned() }],
        vec![
            write("raft/draft", 0, "all of it"),
            FileOp::Rename { file: "raft/draft".to_owned(), to: "raft/a".to_owned() },
        ],
    ];
    for (n, ops) in jobs.into_iter().enumerate() {
        link.submit_job(Job { id: JobId(n as u64), ops });
    }
    let answers: Vec<_> = (0..4).map(|_| job_done(&inbox)).collect();
    let outcomes = [JobOutcome::Done, JobOutcome::NoRoom, JobOutcome::Done, JobOutcome::Done];
    assert_eq!(answers, (0..4).map(JobId).zip(outcomes).collect::<Vec<_>>());
    drop(link);
    threads.join();
    assert_eq!(std::fs::read(directory.path().join("raft/a")).unwrap(), b"all of it");
    assert!(!directory.path().join("raft/draft").exists());
}

#[test]
fn a_removed_segment_of_the_log_gives_its_room_back() {
    let directory = tempfile::tempdir().unwrap();
    let (events, inbox) = channel();
    let (mut link, threads) = DiskThreads::start(files(directory.path(), Quota::default()), events).unwrap();
    link.submit(Task::Write(Write {
        seq: WriteSeq(1),
        ops: vec![write("raft/old", 0, "x"), write("raft/new", 0, "x")],
    }));
    link.submit_job(Job { id: JobId(1), ops: vec![FileOp::Remove { file: "raft/old".to_owned() }] });
    link.submit(Task::Write(Write { seq: WriteSeq(2), ops: vec![write("raft/new", 1, "x")] }));
    // Answers to the log's writes and to the job come in any order.
    let mut waiting = 2;
    while waiting > 0 {
        match inbox.recv_timeout(Duration::from_secs(30)).expect("everything is answered") {
            Event::Input(Input::Persisted(seq)) => waiting -= i32::from(seq == WriteSeq(2)),
            Event::Input(Input::JobDone { outcome: JobOutcome::Done, .. }) => waiting -= 1,
            other => panic!("unexpected: {other:?}"),
        }
    }
    let held =
        std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let root = directory.path().to_owned();
    let open: Vec<_> = held.filter(|path| path.starts_with(&root)).collect();
    assert!(open.iter().any(|path| path.ends_with("raft/new")), "{open:?}");
    assert!(!open.iter().any(|path| path.to_string_lossy().contains("raft/old")), "{open:?}");
    drop(link);
    threads.join();
}
