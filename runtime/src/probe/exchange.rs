//! One request and its answer over HTTP/1.1, on a connection of their own.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;

use crate::errands::Errands;

/// The longest head of an answer.
const HEAD_BYTES: usize = 64 << 10;

/// A connection that an answer comes on.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An answer whose body is still to come. Dropping it closes the connection.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    connection: AbortHandle,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Ends a connection's errand, unless there is an answer that has taken it over.
struct Guard(Option<AbortHandle>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.abort();
        }
    }
}

/// Sends a request and waits for the head of its answer.
pub(super) async fn exchange(
    errands: &Errands,
    stream: Box<dyn Stream>,
    request: Request<Full<Bytes>>,
) -> hyper::Result<Answer> {
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(stream)).await?;
    let connection = errands.spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("a check's connection broke: {error}");
        }
    });
    let mut guard = Guard(Some(connection.clone()));
    let response = sender.send_request(request).await?;
    guard.0 = None;
    Ok(Answer { response, connection })
}

impl Answer {
    /// Hands over the body piece by piece, as long as more is wanted.
    pub(super) async fn read(&mut self, mut take: impl FnMut(&[u8]) -> bool) -> hyper::Result<()> {
        while let Some(frame) = self.response.body_mut().frame().await {
            if let Ok(piece) = frame?.into_data()
                && !take(&piece)
            {
                break;
            }
        }
        Ok(())
    }

    /// The body's beginning, up to a limit.
    pub(super) async fn beginning(&mut self, limit: usize) -> hyper::Result<Vec<u8>> {
        let mut body = Vec::new();
        self.read(|piece| {
            body.extend_from_slice(&piece[..piece.len().min(limit - body.len())]);
            body.len() < limit
        })
        .await?;
        Ok(body)
    }
}

/// What went wrong, with its cause.
pub(super) fn because(error: &hyper::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}
