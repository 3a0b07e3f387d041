//! Reading of request bodies: within a limit, and with patience that has an end.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use lictor_core::api::Error;
use tokio::time::timeout;
use warp::http::StatusCode;

use crate::reply::{self, HttpResponse, Refusal};

/// How much of a body that is too large is read and thrown away, in multiples of the limit. A client that
/// is still sending when the connection closes may never see why it was refused.
const PATIENCE: u64 = 32;

/// How bodies are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The most bytes that are taken.
    pub(crate) bytes: usize,
    /// How long to wait for the next piece.
    pub(crate) stall: Duration,
}

/// What the headers say of a body.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Announced {
    /// `Content-Length`.
    pub(crate) length: Option<u64>,
    /// `Expect: 100-continue`: the client waits for leave before it sends anything.
    pub(crate) awaits_leave: bool,
}

/// Reads a whole body of at most `limits.bytes`. If it fails, nothing of it may be used.
pub(crate) async fn read<S, B>(body: S, announced: Announced, limits: Limits) -> Result<Bytes, HttpResponse>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let limit = limits.bytes as u64;
    let too_large = || reply::failed(&Error::ValueTooLarge { limit: limits.bytes });
    if announced.length == Some(0) {
        return Ok(Bytes::new());
    }
    if announced.length.is_some_and(|length| length > limit && (announced.awaits_leave || length > limit * PATIENCE)) {
        return Err(too_large());
    }
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    let mut total = 0;
    loop {
        let Ok(next) = timeout(limits.stall, body.next()).await else { return Err(stalled().into_response()) };
        let mut piece = match next {
            None => break,
            Some(Err(error)) => return Err(broken(&error).into_response()),
            Some(Ok(piece)) => piece,
        };
        total += piece.remaining() as u64;
        if total > limit * PATIENCE {
            return Err(too_large());
        }
        if total > limit {
            (first, all) = Default::default();
        } else if first.is_empty() && all.is_empty() {
            // Most bodies come in one piece, which is kept as it is.
            first = piece.copy_to_bytes(piece.remaining());
        } else {
            if all.is_empty() {
                all.reserve(announced.length.map_or(2 * limits.bytes.min(8192), |length| length.min(limit) as usize));
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
        }
    }
    match total {
        over if over > limit => Err(too_large()),
        _ if all.is_empty() => Ok(first),
        _ => Ok(all.freeze()),
    }
}

pub(crate) fn stalled() -> Refusal {
    Refusal::new(StatusCode::REQUEST_TIMEOUT, "the request body stopped coming: nothing was changed")
}

pub(crate) fn broken(error: &warp::Error) -> Refusal {
    // The cause says what was wrong; the outermost error only that there was one.
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let text = format!("the request body was cut short or badly encoded ({cause}): nothing was changed");
    Refusal::new(StatusCode::BAD_REQUEST, text)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    const LIMITS: Limits = Limits { bytes: 8, stall: Duration::from_secs(5) };

    async fn read_pieces(pieces: &[&'static str], announced: Announced) -> Result<Bytes, u16> {
        let body = stream::iter(pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))));
        read(body, announced, LIMITS).await.map_err(|response| response.status().as_u16())
    }

    #[tokio::test]
    async fn pieces_are_put_together_up_to_the_limit() {
        let unknown = Announced::default();
        assert_eq!(read_pieces(&[], unknown).await.unwrap(), "");
        assert_eq!(read_pieces(&["abc"], unknown).await.unwrap(), "abc");
        assert_eq!(read_pieces(&["abc", "", "de", "fgh"], unknown).await.unwrap(), "abcdefgh");
        assert_eq!(read_pieces(&["abcdefgh", "i"], unknown).await, Err(413));
        assert_eq!(read_pieces(&["abcdefghi"], unknown).await, Err(413));
        assert_eq!(read_pieces(&["abcdefgh"; 40], unknown).await, Err(413));
    }

    #[tokio::test]
    async fn a_body_that_is_announced_too_large_need_not_come() {
        let never = || stream::pending::<Result<Bytes, warp::Error>>();
        for announced in [
            Announced { length: Some(9), awaits_leave: true },
            Announced { length: Some(8 * PATIENCE + 1), awaits_leave: false },
        ] {
            assert_eq!(read(never(), announced, LIMITS).await.unwrap_err().status().as_u16(), 413);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_coming_is_given_up() {
        let body = stream::iter([Ok(Bytes::from_static(b"a"))]).chain(stream::pending());
        let response = read(body, Announced { length: Some(2), awaits_leave: false }, LIMITS).await.unwrap_err();
        assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    }
}
