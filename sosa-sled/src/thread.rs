//! Threads that may wait for the disk: of a pool that no runtime joins, so that a program ends even if the engine
//! never answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sosa::Result;
use tokio::sync::oneshot;

use crate::error;

/// Does something on such a thread, and does not wait for it.
pub(crate) fn start(work: impl FnOnce() + Send + 'static) {
    blocking::unblock(work).detach();
}

/// Does something on such a thread, which learns by the [`Caller`] whether this future still exists. Dropped
/// before it began, it is not done.
pub(crate) async fn run<R: Send + 'static>(work: impl FnOnce(&Caller) -> Result<R> + Send + 'static) -> Result<R> {
    let caller = Caller::default();
    let _waits = Waits(caller.clone());
    blocking::unblock(move || work(&caller)).await
}

/// Does something on a thread of its own, which needs none of the pool to be free.
pub(crate) async fn apart<R: Send + 'static>(work: impl FnOnce() -> Result<R> + Send + 'static) -> Result<R> {
    let (send, done) = oneshot::channel();
    let thread = std::thread::Builder::new().name("sosa-sled-wait".to_owned());
    match thread.spawn(move || drop(send.send(work()))) {
        Ok(_) => done.await.unwrap_or_else(|_| Err(error::abandoned())),
        Err(_) => Err(error::abandoned()),
    }
}

/// Who asked for something that is done on another thread.
#[derive(Clone, Default)]
pub(crate) struct Caller {
    gone: Arc<AtomicBool>,
}

impl Caller {
    /// Fails if the caller has dropped the call. Asked with a [`Turn`](crate::turn::Turn) in hand, the answer stays
    /// true for as long as that is held: whoever writes the same key later waits for it.
    pub(crate) fn still_waits(&self) -> Result<()> {
        if self.gone.load(Ordering::Acquire) { Err(error::dropped()) } else { Ok(()) }
    }
}

/// Tells, when it is dropped, that nobody waits any more.
struct Waits(Caller);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.gone.store(true, Ordering::Release);
    }
}
