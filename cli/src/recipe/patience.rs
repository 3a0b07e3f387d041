//! How much may go wrong in a row.

use super::PAUSE;
use crate::client;

/// A number of failures that are ridden out, until something succeeds.
#[derive(Debug)]
pub(super) struct Patience {
    retries: u32,
    left: u32,
}

impl Patience {
    pub(super) fn new(retries: u32) -> Self {
        Self { retries, left: retries }
    }

    /// Something succeeded.
    pub(super) fn restore(&mut self) {
        self.left = self.retries;
    }

    /// Something failed: waits a little before it is tried again, or gives the error back if that makes no sense, or was
    /// done often enough.
    pub(super) async fn ride_out(&mut self, error: client::Error) -> Result<(), client::Error> {
        if self.left == 0 || !error.may_pass() {
            return Err(error);
        }
        self.left -= 1;
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    fn failed(status: StatusCode) -> client::Error {
        client::Error::Status { status, text: String::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_ridden_out_so_often_in_a_row() {
        let mut patience = Patience::new(2);
        for _ in 0..2 {
            patience.ride_out(failed(StatusCode::INTERNAL_SERVER_ERROR)).await.unwrap();
        }
        patience.ride_out(failed(StatusCode::INTERNAL_SERVER_ERROR)).await.unwrap_err();
        patience.restore();
        patience.ride_out(failed(StatusCode::INTERNAL_SERVER_ERROR)).await.unwrap();
        patience.ride_out(failed(StatusCode::FORBIDDEN)).await.unwrap_err();
    }
}
