//! How much was written that the file may not have yet.
//!
//! The engine gives back no room before what took its place is in the file, and holds back no writer: where a program
//! writes faster than the disk, as it may if it waits for no sync, the file would grow by all of that.

use std::sync::atomic::{AtomicUsize, Ordering};

/// After so many bytes a writer waits for a sync.
const MOST: usize = 4 << 20;

/// What stands in the log beside the value, about.
const OVERHEAD: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Backlog(AtomicUsize);

impl Backlog {
    /// Takes note of a write of a key or value of so many bytes.
    pub(crate) fn note(&self, bytes: usize) {
        self.0.fetch_add(bytes + OVERHEAD, Ordering::Relaxed);
    }

    /// Returns whether the next writer should wait.
    pub(crate) fn is_long(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= MOST
    }

    /// Takes note that a sync begins, of all that was written before.
    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
