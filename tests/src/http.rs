//! A client that sends the bytes it is given.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::wait::PATIENCE;

/// A connection to an agent.
#[derive(Debug)]
pub struct Http {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    ///
    /// # Panics
    /// If it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body that is text")
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header's value, if it is there.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// `X-Consul-Index`.
    ///
    /// # Panics
    /// If it is missing or no number.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.header("x-consul-index").and_then(|index| index.parse().ok()).expect("an answer with an index")
    }
}

impl Http {
    /// Connects.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, unread: Vec::new() })
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// If the connection breaks.
    pub fn request(&mut self, method: &str, target: &str, body: &[u8]) -> io::Result<Answer> {
        self.send(method, target, body)?;
        self.read()
    }

    /// Sends a request, and leaves its answer to be read later.
    ///
    /// # Errors
    /// If the connection breaks.
    pub fn send(&mut self, method: &str, target: &str, body: &[u8]) -> io::Result<()> {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: lictor\r\nContent-Length: {}\r\n\r\n", body.len());
        self.write(&[head.as_bytes(), body].concat())
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// If the connection breaks.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Says that nothing more will be sent.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn finish_writing(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Whether nothing has come yet, after waiting for a little.
    ///
    /// # Panics
    /// If the connection is broken.
    pub fn is_silent(&mut self, span: Duration) -> bool {
        self.stream.set_read_timeout(Some(span)).expect("a connection");
        let silent = self.fill().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a connection");
        silent
    }

    /// Reads the next answer.
    ///
    /// # Errors
    /// If the connection breaks first.
    pub fn read(&mut self) -> io::Result<Answer> {
        let end = loop {
            match self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => self.fill()?,
            }
        };
        let malformed = |_| io::Error::from(io::ErrorKind::InvalidData);
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let head = String::from_utf8(head).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        let status = head.get(9..12).unwrap_or_default().parse().map_err(malformed)?;
        let mut answer = Answer { status, head, body: Vec::new() };
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = self.read_chunks()?;
            return Ok(answer);
        }
        let length: usize = answer.header("content-length").unwrap_or("0").parse().map_err(malformed)?;
        while self.unread.len() < length {
            self.fill()?;
        }
        answer.body = self.unread.drain(..length).collect();
        Ok(answer)
    }

    /// A body in chunks. One that is cut off before its last chunk is an error.
    fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        let mut body = Vec::new();
        loop {
            let end = loop {
                match self.unread.windows(2).position(|window| window == b"\r\n") {
                    Some(at) => break at,
                    None => self.fill()?,
                }
            };
            let line: Vec<u8> = self.unread.drain(..end + 2).collect();
            let digits = std::str::from_utf8(&line).map_err(|_| malformed())?.trim();
            let length = usize::from_str_radix(digits, 16).map_err(|_| malformed())?;
            while self.unread.len() < length + 2 {
                self.fill()?;
            }
            body.extend(self.unread.drain(..length + 2).take(length));
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 << 10];
        match self.stream.read(&mut piece)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => {
                self.unread.extend_from_slice(&piece[..length]);
                Ok(())
            }
        }
    }
}
