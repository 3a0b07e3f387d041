//! A client that says exactly what it is told, and a server to say it to.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lictor_core::api::{Call, Reply};
use lictor_http::{Hooks, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// A front end on a free port.
pub(crate) struct Server {
    address: SocketAddr,
    server: lictor_http::Server,
}

impl Server {
    pub(crate) fn start<F, Fut>(call: F) -> Self
    where
        F: Fn(Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Reply> + Send + 'static,
    {
        Self::start_with(&Options::default(), call)
    }

    pub(crate) fn start_with<F, Fut>(options: &Options, call: F) -> Self
    where
        F: Fn(Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Reply> + Send + 'static,
    {
        Self::start_hooked(options, Hooks::default(), call)
    }

    pub(crate) fn start_hooked<F, Fut>(options: &Options, hooks: Hooks, call: F) -> Self
    where
        F: Fn(Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Reply> + Send + 'static,
    {
        let listener = lictor_http::listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, server: lictor_http::Server::start(vec![listener], options, hooks, call) }
    }

    /// A new connection.
    pub(crate) fn client(&self) -> Client {
        let stream = std::net::TcpStream::connect(self.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        Client { stream: TcpStream::from_std(stream).unwrap(), unread: Vec::new() }
    }

    pub(crate) async fn shutdown(self, grace: Duration) {
        self.server.shutdown(grace).await;
    }
}

pub(crate) struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Client {
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.unwrap().unwrap();
    }

    pub(crate) async fn finish_writing(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    pub(crate) async fn send(&mut self, request: &[u8]) -> Answer {
        self.write(request).await;
        self.read().await.expect("the connection was closed without an answer")
    }

    pub(crate) async fn request(&mut self, method: &str, target: &str, body: &[u8]) -> Answer {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        self.write(&[head.as_bytes(), body].concat()).await;
        if method == "HEAD" {
            let (status, head) = self.read_head().await.unwrap();
            return Answer { status, head, body: Vec::new() };
        }
        self.read().await.expect("the connection was closed without an answer")
    }

    pub(crate) async fn get(&mut self, target: &str) -> Answer {
        self.request("GET", target, b"").await
    }

    /// Status and head of the next answer; `None` if the connection was closed.
    pub(crate) async fn read_head(&mut self) -> Option<(u16, String)> {
        loop {
            if let Some(end) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..end + 4).collect();
                let head = String::from_utf8(head).unwrap();
                return Some((head[9..12].parse().unwrap(), head));
            }
            self.fill().await?;
        }
    }

    /// The next answer; `None` if the connection was closed.
    pub(crate) async fn read(&mut self) -> Option<Answer> {
        let (status, head) = self.read_head().await?;
        let mut answer = Answer { status, head, body: Vec::new() };
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = self.read_chunks().await?;
            return Some(answer);
        }
        let length: usize = answer.header("content-length").unwrap_or("0").parse().unwrap();
        while self.unread.len() < length {
            self.fill().await?;
        }
        answer.body = self.unread.drain(..length).collect();
        Some(answer)
    }

    /// A body in chunks; `None` if the connection was closed before its end.
    async fn read_chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            match self.read_chunk().await? {
                last if last.is_empty() => return Some(body),
                chunk => body.extend(chunk),
            }
        }
    }

    /// The next chunk of a body, empty at its end; `None` if the connection was closed.
    pub(crate) async fn read_chunk(&mut self) -> Option<Vec<u8>> {
        let line = loop {
            match self.unread.windows(2).position(|w| w == b"\r\n") {
                Some(end) => break self.unread.drain(..end + 2).collect::<Vec<u8>>(),
                None => self.fill().await?,
            }
        };
        let length = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
        while self.unread.len() < length + 2 {
            self.fill().await?;
        }
        Some(self.unread.drain(..length + 2).take(length).collect())
    }

    /// Takes what has come, whatever it is; `None` if the connection was closed.
    pub(crate) async fn read_some(&mut self) -> Option<usize> {
        self.fill().await?;
        Some(std::mem::take(&mut self.unread).len())
    }

    /// Whether nothing comes for a while.
    pub(crate) async fn is_silent(&mut self, span: Duration) -> bool {
        timeout(span, self.fill()).await.is_err()
    }

    async fn fill(&mut self) -> Option<()> {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await.expect("no answer in time");
        matches!(read, Ok(1..)).then_some(())
    }
}

/// Waits until something holds.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "it did not come to hold");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
