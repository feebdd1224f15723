//! Since when a connection has answered nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use crate::transport::limits::IDLE;

/// When the last answer came in.
pub(crate) struct Idle {
    began: Instant,
    /// In milliseconds since then.
    answered: AtomicU64,
}

impl Idle {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), answered: AtomicU64::default() }
    }

    /// Notes an answer.
    pub(crate) fn answered(&self) {
        self.answered.store(self.millis(), Ordering::Relaxed);
    }

    /// Returns whether the connection may have been closed at the other end, since it was not used for a while.
    pub(crate) fn is_long(&self) -> bool {
        self.millis().saturating_sub(self.answered.load(Ordering::Relaxed)) > IDLE.as_millis() as u64
    }

    fn millis(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }
}
