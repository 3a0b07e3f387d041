//! A small HTTP client: one request, one connection.

mod options;

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame};
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
pub use options::{Agent, AgentOptions, Options};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Where an agent is reached if nothing else is said.
const DEFAULT_ADDRESS: &str = "127.0.0.1:8500";
const DEFAULT_PORT: u16 = 8500;
/// The size of the pieces in which a file is sent.
const PIECE: usize = 64 << 10;

/// What is not escaped in names and values of a query besides letters and digits.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where and how to ask.
#[derive(Debug)]
pub struct Client {
    authority: String,
    token: Option<String>,
    basic_auth: Option<String>,
    datacenter: String,
    stale: bool,
    /// Where older commands would reach the agent. Looked at only if it is not reached by HTTP.
    rpc: Option<String>,
}

/// What an agent answered.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// `X-Consul-Index`, if there is one.
    pub index: Option<u64>,
    /// The body; empty if it was written elsewhere.
    pub body: Bytes,
}

/// Why there is no answer. The texts are those of Consul's own client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody is there.
    #[error("{method} {url}: dial tcp {authority}: {reason} (is an agent running there?)")]
    Dial {
        /// What was tried.
        method: &'static str,
        /// Of what.
        url: String,
        /// Where.
        authority: String,
        /// Why it failed.
        reason: String,
    },
    /// The connection ended before the answer did.
    #[error("{method} {url}: {reason}")]
    Broken {
        /// What was tried.
        method: &'static str,
        /// Of what.
        url: String,
        /// What became of it.
        reason: String,
    },
    /// The agent answered, but not as it was hoped.
    #[error("Unexpected response code: {}{}", status.as_u16(), Parenthesised(text))]
    Status {
        /// Its status code.
        status: StatusCode,
        /// What it said besides.
        text: String,
    },
    /// This client cannot do what it is asked for.
    #[error("{0}")]
    Unsupported(String),
    /// What came cannot be written where it was to go.
    #[error("cannot write what came: {0}")]
    Output(io::Error),
}

/// The body of a request, read as it is sent. Nothing else runs meanwhile that could wait for the file.
struct Upload<R>(R);

impl<R: Read + Unpin> Body for Upload<R> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let mut piece = vec![0; PIECE];
        Poll::Ready(match self.0.read(&mut piece) {
            Ok(0) => None,
            Ok(length) => {
                piece.truncate(length);
                Some(Ok(Frame::data(piece.into())))
            }
            Err(error) => Some(Err(error)),
        })
    }
}

impl Error {
    /// The error of a command that was `doing` something ("listing members"), as Consul's commands put it: if nobody is
    /// there, it does not matter what was to be done.
    pub fn told(&self, doing: &str) -> String {
        match self {
            Self::Dial { authority, reason, .. } => {
                format!("Error connecting to Consul agent: dial tcp {authority}: {reason}")
            }
            _ => format!("Error {doing}: {self}"),
        }
    }

    /// The same of a command that Consul has by HTTP: those ask the agent for its name first.
    pub fn told_by_http(&self, doing: &str) -> String {
        match self {
            Self::Dial { .. } => format!("Error querying Consul agent: {self}"),
            _ => format!("Error {doing}: {self}"),
        }
    }

    /// Whether it may be gone when the same is tried again.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Dial { .. } | Self::Broken { .. } => true,
            Self::Status { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            Self::Unsupported(_) | Self::Output(_) => false,
        }
    }

    /// What the agent said about why it did not do as it was asked.
    pub fn text(&self) -> String {
        match self {
            Self::Status { text, .. } if !text.is_empty() => text.clone(),
            _ => self.to_string(),
        }
    }
}

struct Parenthesised<'t>(&'t str);

impl fmt::Display for Parenthesised<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " ({})", self.0) }
    }
}

impl Answer {
    /// The body, if the status is 200; the error otherwise, with what the agent said.
    pub fn ok(self) -> Result<Bytes, Error> {
        if self.status == StatusCode::OK {
            return Ok(self.body);
        }
        let text = String::from_utf8_lossy(&self.body).trim_end().to_owned();
        Err(Error::Status { status: self.status, text })
    }

    /// The body, if the status is 200; `None` if it is 404. Of other errors only the status is told, as
    /// Consul's client does for reads.
    pub fn found(self) -> Result<Option<Bytes>, Error> {
        match self.status {
            StatusCode::OK => Ok(Some(self.body)),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(Error::Status { status, text: String::new() }),
        }
    }
}

impl Client {
    /// A client by the options, then the environment, then the defaults.
    pub fn new(options: Options) -> Result<Self, Error> {
        Self::with_environment(options, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// A client of the very agent that is asked.
    pub fn of_agent(options: AgentOptions) -> Result<Self, Error> {
        Self::of_agent_with(options, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn of_agent_with(options: AgentOptions, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let AgentOptions { agent, rpc_addr } = options;
        let rpc = said(rpc_addr).or_else(|| variable("CONSUL_RPC_ADDR"));
        let host = rpc.as_deref().and_then(|rpc| rpc.rsplit_once(':')).map(|(host, _)| host.to_owned());
        let http_addr = said(agent.http_addr).or_else(|| variable("CONSUL_HTTP_ADDR")).or(host);
        let options = Options::from(Agent { http_addr, ..agent });
        Ok(Self { rpc, ..Self::with_environment(options, variable)? })
    }

    fn with_environment(options: Options, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let Options { agent: Agent { http_addr, token, token_file }, datacenter, stale } = options;
        let address = said(http_addr).or_else(|| variable("CONSUL_HTTP_ADDR"));
        let address = address.unwrap_or_else(|| DEFAULT_ADDRESS.to_owned());
        let tls = variable("CONSUL_HTTP_SSL")
            .is_some_and(|value| matches!(&*value, "1" | "t" | "T" | "true" | "TRUE" | "True"));
        let file = token_file.or_else(|| variable("CONSUL_HTTP_TOKEN_FILE").map(PathBuf::from));
        let token = match file {
            Some(file) => Some(token_in(&file)?),
            None => token.or_else(|| variable("CONSUL_HTTP_TOKEN")),
        };
        Ok(Self {
            authority: authority(&address, tls)?,
            token,
            basic_auth: variable("CONSUL_HTTP_AUTH"),
            datacenter,
            stale,
            rpc: None,
        })
    }

    /// A client of the agent at an address, `host:port`.
    #[must_use]
    pub fn at(authority: impl Into<String>) -> Self {
        Self {
            authority: authority.into(),
            token: None,
            basic_auth: None,
            datacenter: String::new(),
            stale: false,
            rpc: None,
        }
    }

    /// Sends a request below `/v1/`, as it is: `-stale` has no say in it. For those who do several things at once.
    pub async fn ask(
        &self,
        method: &Method,
        path: &str,
        query: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, Error> {
        let request = self.request(method, path, query, Full::new(body.into()))?;
        let failure = self.failure(&request);
        self.exchange(request, &failure, None).await
    }

    /// `stale`, if any server may answer.
    #[must_use]
    pub fn staleness(&self) -> Option<(&'static str, &'static str)> {
        self.stale.then_some(("stale", ""))
    }

    /// Asks for something below `/v1/`.
    pub fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer, Error> {
        let query: Vec<_> = query.iter().copied().chain(self.staleness()).collect();
        let answer = self.send(&Method::GET, path, &query, Bytes::new())?;
        let mut shorter = path.to_owned();
        while shorter.contains("//") {
            shorter = shorter.replace("//", "/");
        }
        // Who asks for a path with empty parts is sent on to the one without them.
        match answer.status == StatusCode::MOVED_PERMANENTLY && shorter != path {
            true => self.send(&Method::GET, &shorter, &query, Bytes::new()),
            false => Ok(answer),
        }
    }

    /// Sends something below `/v1/`.
    pub fn put(&self, path: &str, query: &[(&str, &str)], body: impl Into<Bytes>) -> Result<Answer, Error> {
        self.send(&Method::PUT, path, query, body.into())
    }

    /// Deletes something below `/v1/`.
    pub fn delete(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer, Error> {
        self.send(&Method::DELETE, path, query, Bytes::new())
    }

    /// Asks to have something done that needs no more than to be asked for.
    pub fn post(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer, Error> {
        self.send(&Method::POST, path, query, Bytes::new())
    }

    /// Asks for something that is too large for memory, and writes it to `out`; other answers than 200 come back.
    pub fn download(&self, path: &str, out: &mut dyn Write) -> Result<Answer, Error> {
        let query = if self.stale { vec![("stale", "")] } else { vec![] };
        let request = self.request(&Method::GET, path, &query, Full::<Bytes>::default())?;
        self.run(request, Some(out))
    }

    /// Asks for something that has no end, and writes it to `out` as it comes, until the user interrupts that: then there
    /// is no answer.
    pub fn follow(&self, path: &str, query: &[(&str, &str)], out: &mut dyn Write) -> Result<Option<Answer>, Error> {
        let request = self.request(&Method::GET, path, query, Full::<Bytes>::default())?;
        let failure = self.failure(&request);
        runtime()?.block_on(async {
            tokio::select! {
                answer = self.exchange(request, &failure, Some(out)) => answer.map(Some),
                _ = tokio::signal::ctrl_c() => Ok(None),
            }
        })
    }

    /// Sends something that is too large for memory, of `length` if that is known.
    pub fn upload(
        &self,
        path: &str,
        from: impl Read + Send + Unpin + 'static,
        length: Option<u64>,
    ) -> Result<Answer, Error> {
        let mut request = self.request(&Method::PUT, path, &[], Upload(from))?;
        if let Some(length) = length {
            request.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        self.run(request, None)
    }

    /// Whether there is anybody to be asked.
    ///
    /// # Errors
    /// If there is not.
    pub fn reach(&self) -> Result<(), Error> {
        let failure = Failure { method: "Get", url: format!("http://{}/v1/", self.authority) };
        runtime()?.block_on(self.connect(&failure)).map(drop)
    }

    fn send(&self, method: &Method, path: &str, query: &[(&str, &str)], body: Bytes) -> Result<Answer, Error> {
        self.run(self.request(method, path, query, Full::new(body))?, None)
    }

    fn request<B>(&self, method: &Method, path: &str, query: &[(&str, &str)], body: B) -> Result<Request<B>, Error> {
        let target = self.target(path, query);
        let request = Request::builder().method(method).uri(&target).header(HOST, &self.authority);
        let mut request = request
            .header(CONNECTION, "close")
            .body(body)
            .map_err(|error| Error::Unsupported(format!("cannot ask for {target}: {error}")))?;
        self.set_credentials(request.headers_mut())?;
        Ok(request)
    }

    fn run<B>(&self, request: Request<B>, out: Option<&mut dyn Write>) -> Result<Answer, Error>
    where
        B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        let failure = self.failure(&request);
        runtime()?.block_on(self.exchange(request, &failure, out))
    }

    fn failure<B>(&self, request: &Request<B>) -> Failure {
        let url = format!("http://{}{}", self.authority, request.uri());
        Failure { method: go_name(request.method()), url }
    }

    /// Connects to the agent. If it is not there by HTTP, who asked for an older address is told what is there.
    async fn connect(&self, failure: &Failure) -> Result<TcpStream, Error> {
        let error = match dial(&self.authority).await {
            Ok(stream) => return Ok(stream),
            Err(reason) => failure.dial(&self.authority, reason),
        };
        let Some(rpc) = &self.rpc else { return Err(error) };
        match dial(rpc).await {
            Ok(_) => Err(error),
            Err(reason) => Err(failure.dial(rpc, reason)),
        }
    }

    async fn exchange<B>(
        &self,
        request: Request<B>,
        failure: &Failure,
        out: Option<&mut dyn Write>,
    ) -> Result<Answer, Error>
    where
        B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        let stream = self.connect(failure).await?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| failure.broken(&error))?;
        // Dropped together with this future, should nobody wait for the answer any more.
        let mut driving = JoinSet::new();
        driving.spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| failure.broken(&error))?;
        let status = response.status();
        let index = response.headers().get("x-consul-index").and_then(|index| index.to_str().ok()?.parse().ok());
        let mut incoming = response.into_body();
        let body = match out {
            Some(out) if status == StatusCode::OK => {
                while let Some(frame) = incoming.frame().await {
                    let frame = frame.map_err(|error| failure.broken(&error))?;
                    let data = frame.data_ref().map_or(&[][..], |data| data);
                    out.write_all(data).and_then(|()| out.flush()).map_err(Error::Output)?;
                }
                Bytes::new()
            }
            _ => incoming.collect().await.map_err(|error| failure.broken(&error))?.to_bytes(),
        };
        Ok(Answer { status, index, body })
    }

    /// Path and query of a request, with what is the same for all.
    fn target(&self, path: &str, query: &[(&str, &str)]) -> String {
        let dc = (!self.datacenter.is_empty()).then_some(("dc", &*self.datacenter));
        let pairs =
            query.iter().copied().chain(dc).map(|(name, value)| {
                format!("{}={}", utf8_percent_encode(name, QUERY), utf8_percent_encode(value, QUERY))
            });
        let query = pairs.collect::<Vec<_>>().join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        format!("/v1/{}{mark}{query}", lictor_http::path::encode(path.as_bytes()))
    }

    fn set_credentials(&self, headers: &mut HeaderMap) -> Result<(), Error> {
        let unfit = |what| move |_| Error::Unsupported(format!("{what} has characters that a header cannot carry"));
        if let Some(token) = &self.token {
            headers.insert("x-consul-token", token.parse().map_err(unfit("the token"))?);
        }
        if let Some(auth) = &self.basic_auth {
            // A name alone has no password.
            let colon = if auth.contains(':') { "" } else { ":" };
            let value = format!("Basic {}", STANDARD.encode(format!("{auth}{colon}")));
            headers.insert(AUTHORIZATION, value.parse().map_err(unfit("CONSUL_HTTP_AUTH"))?);
        }
        Ok(())
    }
}

/// What [`Client::ask`] needs to run in.
///
/// # Errors
/// If the system has no means left for it.
pub fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Error::Unsupported(format!("cannot use the network: {error}")))
}

/// A connection, or why there is none.
async fn dial(address: &str) -> Result<TcpStream, String> {
    match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(connected) => connected.map_err(|error| go_reason(&error)),
        Err(_) => Err("i/o timeout".to_owned()),
    }
}

/// An option's text; one without any says nothing.
fn said(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Host and port of an address as people give it.
fn authority(address: &str, tls: bool) -> Result<String, Error> {
    let unsupported = |what: &str| {
        Err(Error::Unsupported(format!("cannot reach {address}: this release has no {what}, give http://host:port")))
    };
    if tls || address.starts_with("https://") {
        return unsupported("TLS");
    }
    if address.starts_with("unix://") {
        return unsupported("unix sockets");
    }
    let authority = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
    let host_end = authority.rfind(']').unwrap_or(0);
    match authority[host_end..].contains(':') {
        true => Ok(authority.to_owned()),
        false => Ok(format!("{authority}:{DEFAULT_PORT}")),
    }
}

/// The token that a file holds. Without it nothing is asked: as somebody else one might do what was not meant.
fn token_in(file: &Path) -> Result<String, Error> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| {
        Error::Unsupported(format!("Error loading token file {name}: open {name}: {}", go_file_reason(&error)))
    })?;
    match text.trim() {
        "" => Err(Error::Unsupported(format!("Error loading token file {name}: it is empty"))),
        token => Ok(token.to_owned()),
    }
}

/// The name of a request in the errors of Go's client.
fn go_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "Get",
        Method::PUT => "Put",
        Method::POST => "Post",
        _ => "Delete",
    }
}

/// Why a file cannot be used, as Go puts it.
pub fn go_file_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}

/// Why a connection failed, as Go puts it.
fn go_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        _ => error.to_string(),
    }
}

/// What was tried, for the error.
struct Failure {
    method: &'static str,
    url: String,
}

impl Failure {
    fn dial(&self, authority: &str, reason: String) -> Error {
        Error::Dial { method: self.method, url: self.url.clone(), authority: authority.to_owned(), reason }
    }

    fn broken(&self, error: &hyper::Error) -> Error {
        let reason = if error.is_incomplete_message() { "EOF".to_owned() } else { format!("read: {error}") };
        Error::Broken { method: self.method, url: self.url.clone(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(options: Options, variables: &[(&str, &str)]) -> Client {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        Client::with_environment(options, variable).unwrap()
    }

    #[test]
    fn options_go_before_the_environment() {
        let environment = [("CONSUL_HTTP_ADDR", "env:1"), ("CONSUL_HTTP_TOKEN", "t1")];
        assert_eq!(client(Options::default(), &[]).authority, "127.0.0.1:8500");
        assert_eq!(client(Options::default(), &environment).authority, "env:1");
        let given = Agent { http_addr: Some("http://flag:2/".into()), token: Some("t2".into()), token_file: None };
        let given = client(given.into(), &environment);
        assert_eq!((&*given.authority, given.token.as_deref()), ("flag:2", Some("t2")));
        let empty = Agent { http_addr: Some(String::new()), ..Agent::default() };
        assert_eq!(client(empty.into(), &environment).authority, "env:1");
    }

    #[test]
    fn a_file_s_token_goes_before_any_other() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (flag, environment) = (file("flag", " one\n"), file("environment", "two"));
        let variables = [("CONSUL_HTTP_TOKEN", "t1"), ("CONSUL_HTTP_TOKEN_FILE", environment.to_str().unwrap())];
        let given = |token_file| Agent { token: Some("t2".into()), token_file, http_addr: None }.into();
        assert_eq!(client(given(Some(flag)), &variables).token.as_deref(), Some("one"));
        assert_eq!(client(given(None), &variables).token.as_deref(), Some("two"));
        for (file, why) in
            [(file("empty", " \n"), "it is empty"), (directory.path().join("no"), "no such file or directory")]
        {
            let refused = Client::with_environment(given(Some(file)), |_| None).unwrap_err().to_string();
            assert!(refused.starts_with("Error loading token file ") && refused.ends_with(why), "{refused}");
        }
    }

    #[test]
    fn an_address_of_older_commands_names_the_host() {
        let client = |options, variables: &[(&str, &str)]| {
            let variable =
                |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
            Client::of_agent_with(options, variable).unwrap()
        };
        let rpc = || AgentOptions { rpc_addr: Some("10.0.0.9:8400".into()), ..AgentOptions::default() };
        assert_eq!(client(rpc(), &[]).authority, "10.0.0.9:8500");
        let both = client(rpc(), &[("CONSUL_HTTP_ADDR", "h:1"), ("CONSUL_RPC_ADDR", "h:2")]);
        assert_eq!((&*both.authority, both.rpc.as_deref()), ("h:1", Some("10.0.0.9:8400")));
        assert_eq!(client(AgentOptions::default(), &[]).authority, "127.0.0.1:8500");
    }

    #[test]
    fn addresses_get_the_default_port_and_unknown_kinds_are_refused() {
        assert_eq!(authority("10.0.0.1", false).unwrap(), "10.0.0.1:8500");
        assert_eq!(authority("[::1]", false).unwrap(), "[::1]:8500");
        assert_eq!(authority("[::1]:9", false).unwrap(), "[::1]:9");
        for (address, tls) in [("https://x:1", false), ("x:1", true), ("unix:///tmp/s", false)] {
            assert!(authority(address, tls).unwrap_err().to_string().contains("this release has no"));
        }
    }

    #[test]
    fn a_name_without_a_password_is_a_name_all_the_same() {
        for (auth, sent) in [("me", "Basic bWU6"), ("me:x:y", "Basic bWU6eDp5")] {
            let mut headers = HeaderMap::new();
            client(Options::default(), &[("CONSUL_HTTP_AUTH", auth)]).set_credentials(&mut headers).unwrap();
            assert_eq!(headers[AUTHORIZATION], sent);
        }
        let tls =
            Client::with_environment(Options::default(), |name| (name == "CONSUL_HTTP_SSL").then(|| "True".to_owned()));
        assert!(tls.unwrap_err().to_string().contains("this release has no TLS"));
    }

    #[test]
    fn targets_are_escaped() {
        let client = client(Options { datacenter: "dc 1".into(), ..Options::default() }, &[]);
        assert_eq!(client.target("kv/a b/\u{e9}%?", &[("separator", "/&"), ("keys", "")]), {
            "/v1/kv/a%20b/%C3%A9%25%3F?separator=%2F%26&keys=&dc=dc%201"
        });
    }

    #[test]
    fn statuses_are_told_as_consul_tells_them() {
        let answer =
            |status, body: &'static str| Answer { status, index: None, body: Bytes::from_static(body.as_bytes()) };
        let error = answer(StatusCode::INTERNAL_SERVER_ERROR, "No cluster leader").ok().unwrap_err();
        assert_eq!(error.to_string(), "Unexpected response code: 500 (No cluster leader)");
        let error = answer(StatusCode::INTERNAL_SERVER_ERROR, "No cluster leader").found().unwrap_err();
        assert_eq!(error.to_string(), "Unexpected response code: 500");
        assert!(answer(StatusCode::NOT_FOUND, "").found().unwrap().is_none());
    }

    #[test]
    fn a_refused_connection_says_where() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let client = client(Agent { http_addr: Some(address.clone()), ..Agent::default() }.into(), &[]);
        let error = client.get("kv/x", &[]).unwrap_err();
        let dial = format!("dial tcp {address}: connect: connection refused");
        let expected = format!("Get http://{address}/v1/kv/x: {dial}");
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert_eq!(error.told("x"), format!("Error connecting to Consul agent: {dial}"));
        assert!(error.told_by_http("x").starts_with(&format!("Error querying Consul agent: {expected}")));
        assert!(matches!(client.reach(), Err(Error::Dial { .. })));
    }
}
