//! What happens once for many requests.

use std::sync::atomic::{AtomicBool, Ordering};

/// Something that happens once.
#[derive(Debug, Default)]
pub(crate) struct Once(AtomicBool);

impl Once {
    pub(crate) const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Returns whether it is the first time.
    pub(crate) fn is_now(&self) -> bool {
        !self.0.load(Ordering::Relaxed) && !self.0.swap(true, Ordering::Relaxed)
    }
}
