//! The client against an engine that only pretends.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::*;
use crate::process::testing::{PATIENCE, errands};

/// An engine that gives these answers, one after the other, and keeps what it was asked.
struct Engine {
    seen: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Engine {
    fn start(socket: &Path, answers: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let (seen, mut answers) = (Arc::new(Mutex::new(Vec::new())), answers.into_iter().collect::<VecDeque<_>>());
        let log = seen.clone();
        let task = tokio::spawn(async move {
            while let Some(answer) = answers.pop_front() {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                loop {
                    let text = String::from_utf8_lossy(&request).into_owned();
                    if let Some((head, body)) = text.split_once("\r\n\r\n") {
                        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                        if body.len() == length.map_or(0, |length| length.parse().unwrap()) {
                            log.lock().unwrap().push(text);
                            break;
                        }
                    }
                    assert!(stream.read_buf(&mut request).await.unwrap() > 0, "half a request: {text}");
                }
                for piece in answer.chunks(5) {
                    stream.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                stream.shutdown().await.unwrap();
            }
            // An engine that says no more.
            let _silent = listener.accept().await;
            std::future::pending::<()>().await;
        });
        Self { seen, task }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into()
}

/// What a command wrote, in pieces, as the engine sends it.
fn output(pieces: &[(u8, &str)]) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.docker.raw-stream\r\n\r\n".to_vec();
    for (which, text) in pieces {
        bytes.extend([*which, 0, 0, 0]);
        bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        bytes.extend(text.bytes());
    }
    bytes
}

async fn run(socket: &Path, command: &Command, shell: &str) -> Finding {
    let (errands, _end, _inbox) = errands();
    let place = Arc::new(Ok(Place::Unix(socket.to_owned())));
    let docker = Docker { errands, resolver: Resolver::new(), place };
    tokio::time::timeout(PATIENCE, docker.run("web 1", command, shell)).await.unwrap()
}

#[tokio::test]
async fn a_command_is_created_started_and_asked_how_it_ended() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let answers = [
        answer("201 Created", r#"{"Id":"e1"}"#),
        output(&[(1, "out\n"), (2, ""), (2, "err\n"), (1, "more than one read brings\n")]),
        answer("200 OK", r#"{"Running":true,"ExitCode":null}"#),
        answer("200 OK", r#"{"Running":false,"ExitCode":2}"#),
    ];
    let engine = Engine::start(&socket, answers);
    let found = run(&socket, &Command::Shell("check it".to_owned()), "/bin/bash").await;
    let text = "out\nerr\nmore than one read brings\n";
    assert_eq!(found, Finding::Exited { code: Some(2), output: text.into(), total: text.len() as u64 });

    let seen = engine.seen();
    let lines: Vec<_> = seen.iter().map(|request| request.lines().next().unwrap()).collect();
    let inspect = "GET /exec/e1/json HTTP/1.1";
    assert_eq!(lines, ["POST /containers/web%201/exec HTTP/1.1", "POST /exec/e1/start HTTP/1.1", inspect, inspect]);
    let body = |n: usize| serde_json::from_str::<Value>(seen[n].split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body(0)["Cmd"], json!(["/bin/bash", "-c", "check it"]));
    assert_eq!((&body(0)["AttachStdout"], &body(0)["AttachStderr"]), (&json!(true), &json!(true)));
    assert_eq!(body(1), json!({ "Detach": false, "Tty": false }));
}

#[tokio::test]
async fn what_the_engine_refuses_is_told_in_its_words() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let program = Command::Program(vec!["/check".to_owned(), "a b".to_owned()]);
    let absent = Finding::Failed {
        reason: format!("Unable to create Exec, error: dial unix {}: no such file or directory", socket.display()),
    };
    assert_eq!(run(&socket, &program, "").await, absent);

    let refused = |reason: &str| Finding::Failed { reason: reason.to_owned() };
    let engine = Engine::start(
        &socket,
        [
            answer("404 Not Found", r#"{"message":"No such container: web 1"}"#),
            answer("201 Created", r#"{"Id":"e1"}"#),
            answer("409 Conflict", "it is paused\n"),
            answer("201 Created", r#"{"Id":"e1"}"#),
            output(&[]),
            answer("200 OK", "nothing of use"),
        ],
    );
    let found = run(&socket, &program, "").await;
    assert_eq!(found, refused("Unable to create Exec, error: No such container: web 1"));
    let found = run(&socket, &program, "").await;
    assert_eq!(found, refused("Unable to start Exec, error: 409 Conflict: it is paused"));
    let Finding::Failed { reason } = run(&socket, &program, "").await else { panic!() };
    assert!(reason.starts_with("Unable to inspect Exec, error: the answer is not JSON"), "{reason}");
    assert!(engine.seen()[0].ends_with(r#""Cmd":["/check","a b"],"Tty":false}"#), "{}", engine.seen()[0]);
}

#[test]
fn the_environment_says_where_the_engine_is() {
    assert_eq!(place(""), Ok(Place::Unix(SOCKET.into())));
    assert_eq!(place("unix:///run/other.sock"), Ok(Place::Unix("/run/other.sock".into())));
    assert_eq!(place("tcp://10.0.0.1:2375"), Ok(Place::Tcp("10.0.0.1".to_owned(), 2375)));
    assert_eq!(place("tcp://[::1]:2375/"), Ok(Place::Tcp("::1".to_owned(), 2375)));
    for wrong in ["ssh://host", "tcp://host", "tcp://host:port", "/run/docker.sock"] {
        assert!(place(wrong).is_err(), "{wrong}");
    }
}
