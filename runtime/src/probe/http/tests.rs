//! The client against servers of its own that say what they are told to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::process::testing::{PATIENCE, errands};

/// A server that keeps what it was asked, and answers as it is told to, by the request's first line. After an answer it
/// closes the connection, save that it hangs after one that ends with "…".
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(answer: fn(&str) -> String) -> Self {
        Self::start_with(None, answer).await
    }

    async fn start_with(tls: Option<TlsAcceptor>, answer: fn(&str) -> String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, log) = (tls.clone(), log.clone());
                open.spawn(async move {
                    match tls {
                        // A client that does not like the certificate hangs up.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &log, answer).await;
                            }
                        }
                        None => serve(stream, &log, answer).await,
                    }
                });
            }
        });
        Self { address, seen, task }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, log: &Mutex<Vec<String>>, answer: fn(&str) -> String) {
    let mut bytes = Vec::new();
    let request = loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                break text;
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let answer = answer(request.lines().next().unwrap());
    log.lock().unwrap().push(request);
    let _ = stream.write_all(answer.trim_end_matches('…').as_bytes()).await;
    if answer.ends_with('…') {
        std::future::pending::<()>().await;
    }
    let _ = stream.shutdown().await;
}

fn get(url: impl Into<String>) -> Request {
    let (url, method) = (url.into(), "GET".to_owned());
    Request { url, method, header: BTreeMap::new(), body: String::new(), tls_skip_verify: false }
}

async fn ask_by(tls: Tls, request: Request, patience: Duration) -> Finding {
    let (errands, _end, _inbox) = errands();
    let client = Client { tls, ..Client::new(errands, Resolver::new()) };
    client.ask(request, Instant::now() + patience).await
}

async fn ask(request: Request) -> Finding {
    ask_by(Tls::default(), request, PATIENCE).await
}

fn answered(status: u16, reason: &str, body: &str) -> Finding {
    Finding::Answered { status, reason: reason.to_owned(), body: body.to_owned().into() }
}

fn failure(finding: Finding) -> String {
    match finding {
        Finding::Failed { reason } => reason,
        other => panic!("unexpected: {other:?}"),
    }
}

#[tokio::test]
async fn a_server_s_status_reason_and_body_are_told_as_they_are() {
    let server = Server::start(|line| match line {
        "GET /ok?a=b%20c HTTP/1.1" => "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine".to_owned(),
        "GET /odd HTTP/1.1" => "HTTP/1.1 503 Gone fishing\r\n\r\nuntil the end".to_owned(),
        "GET /none HTTP/1.1" => "HTTP/1.0 429 Too Many Requests\r\n\r\n".to_owned(),
        "GET /large HTTP/1.1" => format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(1 << 20)),
        other => panic!("unexpected: {other}"),
    })
    .await;
    assert_eq!(ask(get(server.url("/ok?a=b c#part"))).await, answered(200, "OK", "fine"));
    assert_eq!(ask(get(server.url("/odd"))).await, answered(503, "Gone fishing", "until the end"));
    assert_eq!(ask(get(server.url("/none"))).await, answered(429, "Too Many Requests", ""));
    assert_eq!(ask(get(server.url("/large"))).await, answered(200, "OK", &"x".repeat(OUTPUT_BYTES)));
}

#[tokio::test]
async fn requests_carry_what_they_are_given_and_what_is_usual() {
    let server = Server::start(|_| "HTTP/1.1 204 No Content\r\n\r\n".to_owned()).await;
    ask(get(server.url("/"))).await;
    let request = server.seen().remove(0).to_lowercase();
    for usual in [
        format!("host: {}", server.address),
        "user-agent: consul health check".to_owned(),
        "accept: text/plain, text/*, */*".to_owned(),
        "connection: close".to_owned(),
    ] {
        assert_eq!(request.lines().filter(|line| *line == usual).count(), 1, "{usual}: {request}");
    }

    let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    let header = BTreeMap::from([
        ("Host".to_owned(), values(&["web.example"])),
        ("User-Agent".to_owned(), values(&["mine"])),
        ("X-Many".to_owned(), values(&["one", "two"])),
        ("Content-Length".to_owned(), values(&["99"])),
    ]);
    let url = server.url("/submit").replace("http://", "http://us%65r:p%40ss@");
    let post = Request { method: "POST".to_owned(), header, body: "{\"a\":1}".to_owned(), ..get(url) };
    assert_eq!(ask(post).await, answered(204, "No Content", ""));
    let request = server.seen().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!((head.lines().next().unwrap(), body), ("POST /submit HTTP/1.1", "{\"a\":1}"));
    for line in ["host: web.example", "user-agent: mine", "x-many: one", "x-many: two", "content-length: 7"] {
        assert_eq!(head.lines().filter(|found| *found == line).count(), 1, "{line}: {head}");
    }
    assert!(head.contains("authorization: Basic dXNlcjpwQHNz"), "{head}");
}

#[tokio::test]
async fn a_server_that_takes_too_long_is_told_from_one_whose_body_does() {
    let server = Server::start(|line| match line {
        "GET /silent HTTP/1.1" => "…".to_owned(),
        _ => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome of it…".to_owned(),
    })
    .await;
    let patience = Duration::from_millis(300);
    assert_eq!(ask_by(Tls::default(), get(server.url("/silent")), patience).await, Finding::TimedOut);
    let slow = ask_by(Tls::default(), get(server.url("/slow")), patience).await;
    assert_eq!(slow, answered(200, "OK", "some of it"));
}

#[tokio::test]
async fn what_cannot_be_asked_is_said_to_be_so() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let reason = failure(ask(get(format!("http://{address}/x"))).await);
    assert_eq!(reason, format!("Get \"http://{address}/x\": dial tcp {address}: connect: connection refused"));
    let reason = failure(ask(get("ftp://127.0.0.1/")).await);
    assert!(reason.ends_with("unsupported protocol scheme \"ftp\""), "{reason}");
    failure(ask(get("no url")).await);
    let header = BTreeMap::from([("bad name".to_owned(), vec![String::new()])]);
    assert!(failure(ask(Request { header, ..get("http://127.0.0.1/") }).await).contains("invalid header name"));
    let rude = Server::start(|_| "what?\r\n\r\n".to_owned()).await;
    failure(ask(get(rude.url("/"))).await);
}

#[tokio::test]
async fn redirects_are_followed_and_not_for_ever() {
    let server = Server::start(|line| {
        let to = |status: u16, location: &str| format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\n\r\n");
        match line {
            "GET /a/from HTTP/1.1" => to(302, "to?x=1"),
            "GET /a/to?x=1 HTTP/1.1" | "GET /done HTTP/1.1" | "PUT /kept HTTP/1.1" => {
                "HTTP/1.1 200 OK\r\n\r\nhere".to_owned()
            }
            "PUT /see-other HTTP/1.1" => to(303, "/done"),
            "PUT /keep HTTP/1.1" => to(307, "/kept"),
            "GET /nowhere HTTP/1.1" => "HTTP/1.1 302 Found\r\n\r\n".to_owned(),
            _ => to(301, "/again"),
        }
    })
    .await;
    assert_eq!(ask(get(server.url("/a/from"))).await, answered(200, "OK", "here"));
    server.seen();
    let put = |path| Request { method: "PUT".to_owned(), body: "text".to_owned(), ..get(server.url(path)) };
    for (path, ends_with) in [("/see-other", "\r\n\r\n"), ("/keep", "\r\n\r\ntext")] {
        assert_eq!(ask(put(path)).await, answered(200, "OK", "here"));
        let last = server.seen().pop().unwrap();
        assert!(last.ends_with(ends_with), "{last}");
    }
    assert_eq!(ask(get(server.url("/nowhere"))).await, answered(302, "Found", ""));
    server.seen();
    assert!(failure(ask(get(server.url("/again"))).await).ends_with("stopped after 10 redirects"));
    assert_eq!(server.seen().len(), 10);
}

#[test]
fn secrets_and_names_stay_with_the_server_that_they_are_for() {
    let step = |to: &str| {
        let header = ["Authorization", "Cookie", "Host", "X-Other"];
        let header = header.into_iter().map(|name| (name.to_owned(), vec!["v".to_owned()])).collect();
        let first = Step::first(Request { header, ..get("https://a.example/x") }).unwrap();
        let mut answer = HeaderMap::new();
        answer.insert(header::LOCATION, HeaderValue::from_str(to).unwrap());
        first.redirected(hyper::StatusCode::FOUND, &answer).unwrap().unwrap()
    };
    let has = |step: &Step| {
        let secrets = step.headers.contains_key(header::AUTHORIZATION) && step.headers.contains_key(header::COOKIE);
        assert!(step.headers.contains_key("x-other"));
        (secrets, step.host.is_some())
    };
    assert_eq!(has(&step("/y")), (true, true));
    assert_eq!(has(&step("https://a.example/y")), (true, false));
    for elsewhere in ["https://b.example/", "https://a.example:8443/", "http://a.example/"] {
        assert_eq!(has(&step(elsewhere)), (false, false), "{elsewhere}");
    }
    assert_eq!(has(&step("//b.example/")), (false, true));
}

/// A server with a certificate that it has signed itself.
async fn self_signed(name: &str) -> (Server, CertificateDer<'static>) {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    let answer = |_: &str| "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret".to_owned();
    let server = Server::start_with(Some(TlsAcceptor::from(Arc::new(config))), answer).await;
    (server, cert.der().clone())
}

#[tokio::test]
async fn a_server_must_show_who_it_is_unless_it_does_not_matter() {
    let (server, certificate) = self_signed("127.0.0.1").await;
    let url = server.url("/").replace("http:", "https:");
    assert!(failure(ask(get(url.clone())).await).contains("certificate"));
    let skip = |url: &str| Request { tls_skip_verify: true, ..get(url) };
    assert_eq!(ask(skip(&url)).await, answered(200, "OK", "secret"));
    assert_eq!(ask_by(Tls::trusting(certificate), get(url), PATIENCE).await, answered(200, "OK", "secret"));
    // Somebody else's certificate.
    let (server, certificate) = self_signed("elsewhere.example").await;
    let url = server.url("/").replace("http:", "https:");
    assert!(failure(ask_by(Tls::trusting(certificate), get(url.clone()), PATIENCE).await).contains("certificate"));
    assert_eq!(ask(skip(&url)).await, answered(200, "OK", "secret"));
}
