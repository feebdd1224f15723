//! Threads that may wait, of the runtime that polls.
//!
//! Without a tokio runtime there are none, and the engine is called where the future is polled.

use std::time::Duration;

use sosa::Result;
use tokio::runtime::Handle;

use crate::error;

/// Does something on such a thread, and does not wait for it.
pub(crate) fn start(work: impl FnOnce() + Send + 'static) {
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(work)),
        Err(_) => work(),
    }
}

/// Does something on such a thread. Dropped meanwhile, it is done all the same.
pub(crate) async fn run<R: Send + 'static>(work: impl FnOnce() -> Result<R> + Send + 'static) -> Result<R> {
    match Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await.unwrap_or_else(|_| Err(error::abandoned())),
        Err(_) => work(),
    }
}

/// Waits no longer than this; `None` if it takes longer.
pub(crate) async fn within<F: Future>(time: Duration, work: F) -> Option<F::Output> {
    match Handle::try_current() {
        Ok(_) => tokio::time::timeout(time, work).await.ok(),
        Err(_) => Some(work.await),
    }
}
