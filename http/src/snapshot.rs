//! `/v1/snapshot`: the replicated state as a whole, out and in again.
//!
//! Neither way holds the state in memory: on its way out a thread of its own feeds a short queue, on its way in the
//! archive waits in a file until it has been verified as a whole. Only then the cluster hears of it.

use std::fs::File;
use std::future::Future;
use std::io::{self, BufReader, Seek as _, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use lictor_core::api::snapshot::{Image, Request, Step};
use lictor_core::api::{Call, Error, Read, Reply};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{info, warn};
use uuid::Uuid;
use warp::http::StatusCode;

use crate::archive;
use crate::body::{self, Announced};
use crate::reply::{self, HttpResponse, Refusal};

/// The methods of this endpoint.
pub(crate) const METHODS: &str = "GET, PUT";

/// How many snapshots may be on their way out, and in, at a time.
const SAVES: usize = 8;
const RESTORES: usize = 4;
/// The size of the pieces in the queue on the way out, and how many may wait there.
const PIECE: usize = 64 << 10;
const QUEUE: usize = 16;
/// How many pieces may wait on the way in, between the network and the disk or the disk and the cluster.
const INBOUND_QUEUE: usize = 4;
/// How much of an archive that is too large is read and thrown away, so that its sender may see why it was refused.
const PATIENCE: u64 = 64 << 20;

/// What snapshots may use.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// The most bytes of an archive, and of the state in it.
    pub(crate) bytes: u64,
    /// How long to wait for a client that neither sends nor takes anything.
    pub(crate) stall: Duration,
    /// Where an archive waits until it has been verified.
    pub(crate) spool: PathBuf,
    saves: Arc<Semaphore>,
    restores: Arc<Semaphore>,
}

impl Limits {
    pub(crate) fn new(bytes: u64, stall: Duration, spool: PathBuf) -> Self {
        Self {
            bytes,
            stall,
            spool,
            saves: Arc::new(Semaphore::new(SAVES)),
            restores: Arc::new(Semaphore::new(RESTORES)),
        }
    }

    /// Leave to send a snapshot.
    pub(crate) fn save(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.saves).try_acquire_owned().map_err(|_| busy("saved", SAVES))
    }

    /// Leave to take one in.
    pub(crate) fn restore(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.restores).try_acquire_owned().map_err(|_| busy("restored", RESTORES))
    }
}

fn busy(what: &str, limit: usize) -> Refusal {
    let text = format!("too many snapshots are being {what} (the limit is {limit}): try again later");
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text)
}

/// The answer with an image's archive.
pub(crate) fn send(read: Read<Image>, limits: &Limits, leave: OwnedSemaphorePermit) -> HttpResponse {
    let (sender, mut queue) = mpsc::channel(QUEUE);
    let mut out = Outbound { piece: BytesMut::new(), queue: sender, stall: limits.stall, runtime: Handle::current() };
    let Read { meta, value: image } = read;
    spawn_blocking(move || {
        let written = archive::write(&image, &mut out).and_then(|_| out.end());
        if let Err(error) = written {
            warn!("http: snapshot {}@{} was not sent: {error}", image.index, image.term);
            // If there is nobody left to tell, nobody needs to be told.
            let _ = out.queue.try_send(Err(error));
        }
        drop(leave);
    });
    // The end must have been said: an archive that merely stops is one that is cut short.
    let pieces = futures_util::stream::poll_fn(move |context| {
        queue.poll_recv(context).map(|next| match next {
            Some(Ok(Some(piece))) => Some(Ok(piece)),
            Some(Ok(None)) => None,
            Some(Err(error)) => Some(Err(error)),
            None => Some(Err(io::Error::other("the snapshot was interrupted"))),
        })
    });
    reply::stream(&meta, "application/x-gzip", pieces)
}

/// The queue of an archive's pieces on their way out, for a thread that may wait.
struct Outbound {
    piece: BytesMut,
    queue: mpsc::Sender<io::Result<Option<Bytes>>>,
    stall: Duration,
    runtime: Handle,
}

impl Outbound {
    fn push(&self, piece: Option<Bytes>) -> io::Result<()> {
        let pushed = self.runtime.block_on(timeout(self.stall, self.queue.send(Ok(piece))));
        match pushed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone away")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no more")),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        self.flush()?;
        self.push(None)
    }
}

impl Write for Outbound {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = self.piece.split().freeze();
        self.push(Some(piece))
    }
}

/// Takes an archive into a file that has no name and is gone when it is closed.
pub(crate) async fn spool<S, B>(body: S, announced: Announced, limits: &Limits) -> Result<File, HttpResponse>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let limit = limits.bytes;
    if announced.length.is_some_and(|length| length > limit.saturating_add(PATIENCE)) {
        return Err(refused(&archive::Error::TooLarge { limit }));
    }
    let directory = limits.spool.clone();
    let (sender, mut queue) = mpsc::channel::<Bytes>(INBOUND_QUEUE);
    let file = spawn_blocking(move || {
        let mut file = tempfile::tempfile_in(directory)?;
        while let Some(piece) = queue.blocking_recv() {
            file.write_all(&piece)?;
        }
        file.rewind()?;
        Ok::<_, io::Error>(file)
    });
    let mut body = std::pin::pin!(body);
    let mut total = 0;
    loop {
        let Ok(next) = timeout(limits.stall, body.next()).await else { return Err(body::stalled().into_response()) };
        let mut piece = match next {
            None => break,
            Some(Err(error)) => return Err(body::broken(&error).into_response()),
            Some(Ok(piece)) => piece,
        };
        total += piece.remaining() as u64;
        if total > limit.saturating_add(PATIENCE) {
            break;
        }
        // A queue that is closed belongs to a file that failed, which says so below.
        if total <= limit && sender.send(piece.copy_to_bytes(piece.remaining())).await.is_err() {
            break;
        }
    }
    drop(sender);
    if total > limit {
        return Err(refused(&archive::Error::TooLarge { limit }));
    }
    joined(file.await).map_err(|error| {
        let text = format!("cannot keep the snapshot in {}: {error}", limits.spool.display());
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
    })
}

/// The answer to an archive that cannot be read.
fn refused(error: &archive::Error) -> HttpResponse {
    let status = match error {
        archive::Error::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    reply::plain(status, error.to_string())
}

/// What came of a thread, with its own end as an error.
fn joined<T>(ended: Result<io::Result<T>, tokio::task::JoinError>) -> io::Result<T> {
    ended.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Verifies an archive as a whole, then restores what is in it: all of it, or nothing.
pub(crate) async fn restore<F, Fut>(file: File, limit: u64, form: Call, call: &F) -> HttpResponse
where
    F: Fn(Call) -> Fut,
    Fut: Future<Output = Reply>,
{
    let verifying = spawn_blocking(move || Ok((verified(&file, limit), file)));
    let (meta, file) = match joined(verifying.await) {
        Ok((Ok(meta), file)) => (meta, file),
        Ok((Err(error), _)) => return refused(&error),
        Err(error) => return refused(&archive::Error::Io(error)),
    };
    let id = match random_id() {
        Ok(id) => id,
        Err(error) => return refused(&archive::Error::Io(error)),
    };
    let step = |step| {
        let request = Request::Restore { id, step }.into();
        call(Call { request, ..form.clone() })
    };
    match feed(file, limit, &step).await {
        Ok(()) => {
            info!("http: restored snapshot {} ({} bytes)", meta.id, meta.size);
            reply::empty()
        }
        Err(response) => {
            // If this does not arrive either, the cluster forgets the pieces by and by.
            let _ = step(Step::Abort).await;
            response
        }
    }
}

fn verified(file: &File, limit: u64) -> Result<archive::Meta, archive::Error> {
    let meta = archive::verify(BufReader::new(file), limit)?;
    let mut file = file;
    file.rewind().map_err(archive::Error::Io)?;
    Ok(meta)
}

fn random_id() -> io::Result<Uuid> {
    let mut bytes = [0; 16];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}

/// Takes the state out of a verified archive, one step after the other.
async fn feed<F, Fut>(file: File, limit: u64, step: &F) -> Result<(), HttpResponse>
where
    F: Fn(Step) -> Fut,
    Fut: Future<Output = Reply>,
{
    let failed = |error: Error| reply::failed(&error);
    let (sender, mut queue) = mpsc::channel::<Bytes>(INBOUND_QUEUE);
    let reading = spawn_blocking(move || {
        Ok(archive::read(BufReader::new(file), limit, |piece| {
            let piece = Bytes::copy_from_slice(piece);
            sender.blocking_send(piece).map_err(|_| "the restoration was given up".to_owned())
        }))
    });
    let mut number = 0;
    while let Some(bytes) = queue.recv().await {
        step(Step::Piece { number, bytes }).await.map_err(failed)?;
        number += 1;
    }
    // The file was verified, but disks can fail between one reading and the next.
    joined(reading.await).map_err(archive::Error::Io).and_then(|read| read).map_err(|error| refused(&error))?;
    step(Step::Finish { pieces: number }).await.map_err(failed)?;
    Ok(())
}
