//! Connections: an accept loop of our own in front of warp, with what warp does not offer: a limit on
//! connections, a time-out for headers, and an orderly end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use lictor_core::api::{Call, Reply};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::answer;
use crate::hooks::Hooks;
use crate::options::Options;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 4096;
/// How long to wait after a failed accept, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Opens a listener.
///
/// # Errors
/// If the address is taken or not one of this machine's; the message names it.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|error| io::Error::new(error.kind(), format!("cannot serve HTTP on {address}: {error}")))
}

/// A running front end. Dropping it closes all connections at once; see [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    listeners: JoinSet<JoinSet<()>>,
}

impl Server {
    /// Serves HTTP on all `listeners`. Each call is answered by `call`, whose future is dropped if the
    /// client goes away; what is asked of the process is done by `hooks`. Must be called within a tokio runtime.
    pub fn start<F, Fut>(listeners: Vec<TcpListener>, options: &Options, hooks: Hooks, call: F) -> Self
    where
        F: Fn(Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Reply> + Send + 'static,
    {
        let service = answer::service(call, options, hooks);
        let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(options.header_timeout)
            // Header names as Consul writes them; people search for them with tools that mind the case.
            .title_case_headers(true);
        let builder = Arc::new(builder);
        let places = Arc::new(Semaphore::new(options.max_connections));
        let stop = watch::Sender::new(false);
        let mut running = JoinSet::new();
        for listener in listeners {
            let (service, builder) = (service.clone(), Arc::clone(&builder));
            let connection = move |stream: TcpStream, stop| {
                let serving = builder.serve_connection(TokioIo::new(stream), service.clone()).into_owned();
                async move {
                    let mut serving = pin!(serving);
                    let ended = tokio::select! {
                        biased;
                        ended = serving.as_mut() => Some(ended),
                        () = told_to(stop) => None,
                    };
                    let ended = match ended {
                        Some(ended) => ended,
                        None => {
                            serving.as_mut().graceful_shutdown();
                            serving.await
                        }
                    };
                    if let Err(error) = ended {
                        debug!("http: connection ended: {error}");
                    }
                }
            };
            running.spawn(accept(listener, Arc::clone(&places), stop.subscribe(), connection));
        }
        Self { stop, listeners: running }
    }

    /// Stops accepting, lets requests in progress finish for at most `grace`, then closes what is left:
    /// blocked queries, above all.
    pub async fn shutdown(mut self, grace: Duration) {
        self.stop.send_replace(true);
        let finish = async {
            while let Some(Ok(mut connections)) = self.listeners.join_next().await {
                while connections.join_next().await.is_some() {}
            }
        };
        // Out of time, the future is dropped with the connections it was waiting for.
        let _ = tokio::time::timeout(grace, finish).await;
    }
}

/// Accepts connections until told to stop; gives back those that are still open.
async fn accept<C, Fut>(
    listener: TcpListener,
    places: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
    connection: C,
) -> JoinSet<()>
where
    C: Fn(TcpStream, watch::Receiver<bool>) -> Fut + Send,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut open = JoinSet::new();
    let mut stopped = pin!(told_to(stop.clone()));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            biased;
            () = &mut stopped => return open,
            next = next => next,
        };
        while open.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                // Without this, small answers wait for the client's delayed acknowledgement. If it fails,
                // the connection is gone already, which serving it will show.
                let _ = stream.set_nodelay(true);
                let serving = connection(stream, stop.clone());
                open.spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!("http: cannot accept connections: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Comes when the server is to stop, or is gone.
async fn told_to(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
