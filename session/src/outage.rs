//! Tells once that the session store is out or full, and once that it is not any more, however many requests meet it.

use std::sync::atomic::{AtomicBool, Ordering};

use sosa::{ErrorKind, Result};
use tracing::{error, info};

/// What is known of the store by the last answers.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    is_out: AtomicBool,
    is_full: AtomicBool,
}

impl Outage {
    /// Takes note of the answer of a load or destroy.
    pub(crate) fn note<T>(&self, answer: Result<T>) -> Result<T> {
        match &answer {
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => {
                if !self.is_out.swap(true, Ordering::Relaxed) {
                    error!(%error, "the session store is out: requests that need a session are answered with 503");
                }
            }
            // Whatever it says, it answers.
            _ => {
                if self.is_out.load(Ordering::Relaxed) && self.is_out.swap(false, Ordering::Relaxed) {
                    info!("the session store answers again");
                }
            }
        }
        answer
    }

    /// Takes note of the answer of a save, which also tells whether there is room.
    pub(crate) fn note_save<T>(&self, answer: Result<T>) -> Result<T> {
        match &answer {
            Err(error)
                if error.kind() == ErrorKind::CapacityExceeded && !self.is_full.swap(true, Ordering::Relaxed) =>
            {
                error!(%error, "the session store is full: requests that change a session are answered with 503");
            }
            Ok(_) if self.is_full.load(Ordering::Relaxed) && self.is_full.swap(false, Ordering::Relaxed) => {
                info!("the session store has room again");
            }
            _ => {}
        }
        self.note(answer)
    }
}
