//! Where a verb runs: where it is polled, or on a thread that may wait.
//!
//! What the engine has in memory it answers in one to ten microseconds, which is less than it takes to
//! wake another thread. What it must read from the disk first takes as long as the disk. Nobody can ask
//! it beforehand which it will be; but it was slow a moment ago where it will be slow again: the pages are
//! cold, or the disk is busy, or a transaction of the program holds up all others.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What takes this long has waited for something.
const SLOW: Duration = Duration::from_millis(1);

/// How many calls in a row must be quick on other threads before they come back.
const PROBATION: u32 = 32;

/// How quick the engine was lately.
#[derive(Debug)]
pub(crate) struct Pace {
    /// How many calls must still be quick.
    left: AtomicU32,
}

impl Pace {
    /// Nothing is known yet.
    pub(crate) fn new() -> Self {
        Self { left: AtomicU32::new(PROBATION) }
    }

    /// Returns whether calls may run where they are polled.
    pub(crate) fn is_quick(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    /// Takes note of how long a call took.
    pub(crate) fn note(&self, took: Duration) {
        if took >= SLOW {
            self.left.store(PROBATION, Ordering::Relaxed);
        } else if !self.is_quick() {
            let count = |left: u32| left.checked_sub(1);
            // It has ended meanwhile.
            let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_call_sends_the_next_ones_away() {
        let pace = Pace::new();
        for _ in 0..PROBATION {
            assert!(!pace.is_quick());
            pace.note(SLOW / 2);
        }
        assert!(pace.is_quick());
        pace.note(SLOW / 2);
        assert!(pace.is_quick());
        pace.note(SLOW);
        for _ in 0..PROBATION {
            assert!(!pace.is_quick());
            pace.note(SLOW / 2);
        }
        assert!(pace.is_quick());
    }
}
