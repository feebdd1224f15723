//! The engine: its database, whether it can still be trusted, and the end of its panics.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use sled::Db;
use sosa::Result;

use crate::error;

pub(crate) struct Engine {
    db: Db,
    /// It panicked, or failed to write, and what it holds in memory can no longer be trusted.
    broken: AtomicBool,
}

impl Engine {
    pub(crate) fn new(db: Db) -> Self {
        Self { db, broken: AtomicBool::new(false) }
    }

    pub(crate) fn db(&self) -> &Db {
        &self.db
    }

    /// Calls the engine, unless it is broken. A panic in it ends here, and breaks it.
    pub(crate) fn call<R>(&self, call: impl FnOnce() -> Result<R>) -> Result<R> {
        if self.broken.load(Ordering::Acquire) {
            return Err(error::broken());
        }
        // What a panic leaves half done is never looked at again.
        let result = catch_unwind(AssertUnwindSafe(call));
        result.unwrap_or_else(|panic| {
            self.give_up();
            forget(panic);
            Err(error::panicked())
        })
    }

    /// Uses the engine no longer.
    pub(crate) fn give_up(&self) {
        self.broken.store(true, Ordering::Release);
    }
}

/// Drops what a panic carries, which may panic again, and may be a value.
fn forget(panic: Box<dyn Any + Send>) {
    drop(catch_unwind(AssertUnwindSafe(|| drop(panic))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use sosa::{ErrorKind, Outcome};

    #[test]
    fn a_panic_of_the_engine_ends_here_and_is_the_last() {
        let engine = Engine::new(sled::Config::new().temporary(true).open().unwrap());
        assert!(engine.call(|| Ok(())).is_ok());
        let error = engine.call(|| -> Result<()> { panic!("by the test") }).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown));
        let error = engine.call(|| -> Result<()> { unreachable!("it is broken") }).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
    }
}
