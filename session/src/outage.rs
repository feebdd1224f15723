//! Tells once that the session store is out or full, and once that it is not any more, however many requests meet it.

use std::sync::atomic::{AtomicU64, Ordering};

use sosa::{ErrorKind, Result};
use tracing::{error, info};

/// For how long no answer may fail, in milliseconds, until a store counts as working again: where a part of it is out,
/// some answers fail and others do not.
const QUIET: u64 = 5_000;

/// What is known of the store by the last answers.
#[derive(Debug)]
pub(crate) struct Outage {
    store: &'static str,
    out: Trouble,
    full: Trouble,
}

/// When the store failed last, in milliseconds since the Unix epoch; zero if it works.
#[derive(Debug, Default)]
struct Trouble(AtomicU64);

impl Trouble {
    /// Takes note of a failure, and returns whether it is the first.
    fn begins(&self, now: u64) -> bool {
        self.0.swap(now.max(1), Ordering::Relaxed) == 0
    }

    /// Takes note of an answer that is none, and returns whether it is over by that.
    fn ends(&self, now: impl Fn() -> u64) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        last > 0
            && now().saturating_sub(last) >= QUIET
            && self.0.compare_exchange(last, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Outage {
    /// Takes how the store is called where it is told of.
    pub(crate) fn of(store: &'static str) -> Self {
        Self { store, out: Trouble::default(), full: Trouble::default() }
    }

    /// Takes note of the answer of a load or destroy.
    pub(crate) fn note<T>(&self, now: impl Fn() -> u64, answer: Result<T>) -> Result<T> {
        let failed = answer.as_ref().err();
        match failed.filter(|error| matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)) {
            Some(error) if self.out.begins(now()) => {
                error!(%error, "{} is out: requests that need it are answered with 503", self.store);
            }
            // Whatever else it says, it answers.
            None if self.out.ends(now) => info!("{} answers again", self.store),
            _ => {}
        }
        answer
    }

    /// Takes note of the answer of a save, which also tells whether there is room.
    pub(crate) fn note_save<T>(&self, now: impl Fn() -> u64, answer: Result<T>) -> Result<T> {
        let failed = answer.as_ref().err();
        match failed.filter(|error| error.kind() == ErrorKind::CapacityExceeded) {
            Some(error) if self.full.begins(now()) => {
                error!(%error, "{} is full: requests that need room in it are answered with 503", self.store);
            }
            None if failed.is_none() && self.full.ends(&now) => info!("{} has room again", self.store),
            _ => {}
        }
        self.note(now, answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_of_which_a_part_is_out_is_told_of_once() {
        let trouble = Trouble::default();
        assert!(!trouble.ends(|| 0));
        assert!(trouble.begins(1_000));
        for now in [2_000, 5_999, 6_000] {
            assert!(!trouble.ends(|| now) && !trouble.begins(now), "{now}");
        }
        assert!(!trouble.ends(|| 10_999));
        assert!(trouble.ends(|| 11_000) && !trouble.ends(|| 20_000));
        assert!(trouble.begins(20_000));
    }
}
