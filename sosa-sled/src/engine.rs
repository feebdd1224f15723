//! The engine: its database, what it can still be asked, and the end of its panics.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

use sled::Db;
use sosa::{Error, Outcome, Result};

use crate::error;

pub(crate) struct Engine {
    /// `None` once it was closed.
    db: RwLock<Option<Db>>,
    health: AtomicU8,
    /// Why it writes no more.
    failure: OnceLock<sled::Error>,
}

/// What the engine can still be asked. It only gets worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Health {
    /// Everything.
    Working,
    /// What it has: a write failed, and it forgets what it could not write.
    ReadOnly,
    /// Nothing: it panicked, and what it has in memory may be half done.
    Broken,
    /// Nothing: it was closed.
    Closed,
}

impl Engine {
    pub(crate) fn new(db: Db) -> Self {
        let health = AtomicU8::new(Health::Working as u8);
        Self { db: RwLock::new(Some(db)), health, failure: OnceLock::new() }
    }

    pub(crate) fn health(&self) -> Health {
        match self.health.load(Ordering::Acquire) {
            0 => Health::Working,
            1 => Health::ReadOnly,
            2 => Health::Broken,
            _ => Health::Closed,
        }
    }

    /// Returns why it writes no more, if a write failed.
    pub(crate) fn failure(&self) -> Option<sled::Error> {
        self.failure.get().cloned()
    }

    fn worsen(&self, health: Health) {
        self.health.fetch_max(health as u8, Ordering::AcqRel);
    }

    /// Does something with the database, unless it was closed.
    pub(crate) fn with_db<R>(&self, work: impl FnOnce(&Db) -> R) -> Result<R> {
        // Nothing is half done under this lock.
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        db.as_ref().map(work).ok_or_else(error::closed)
    }

    /// Returns a handle of the database, for what may take long. `None` if it was closed, or is being closed.
    pub(crate) fn handle(&self) -> Option<Db> {
        self.db.try_read().ok()?.clone()
    }

    /// Asks the engine for what it has, unless it cannot be trusted any more.
    pub(crate) fn read<R>(&self, call: impl FnOnce() -> Result<R>) -> Result<R> {
        match self.health() {
            Health::Working | Health::ReadOnly => self.call(call),
            Health::Broken => Err(error::broken()),
            Health::Closed => Err(error::closed()),
        }
    }

    /// Asks the engine to write, unless a write has failed before.
    pub(crate) fn write<R>(&self, call: impl FnOnce() -> Result<R>) -> Result<R> {
        match self.failure.get() {
            Some(failure) => Err(error::engine(failure.clone(), Outcome::NotApplied)),
            None => self.read(call),
        }
    }

    /// Brings to the disk what was written, also while it is being closed.
    pub(crate) fn sync<R>(&self, call: impl FnOnce() -> Result<R>) -> Result<R> {
        match (self.failure.get(), self.health()) {
            (Some(failure), _) => Err(error::engine(failure.clone(), Outcome::Unknown)),
            (None, Health::Broken) => Err(error::panicked()),
            (None, _) => self.call(call),
        }
    }

    /// A panic ends here, and is the last.
    fn call<R>(&self, call: impl FnOnce() -> Result<R>) -> Result<R> {
        // What a panic leaves half done is never looked at again.
        catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
            self.worsen(Health::Broken);
            forget(panic);
            Err(error::panicked())
        })
    }

    /// Returns the error of a write that failed, and writes no more where its I/O failed: the engine may have
    /// dropped what it could not write, and a later sync would succeed and prove nothing.
    pub(crate) fn failed(&self, error: sled::Error) -> Error {
        if matches!(error, sled::Error::Io(_) | sled::Error::ReportableBug(_)) {
            let _ = self.failure.set(error.clone());
            self.worsen(Health::ReadOnly);
        }
        error::engine(error, Outcome::Unknown)
    }

    /// Refuses all further calls.
    pub(crate) fn close(&self) {
        self.worsen(Health::Closed);
    }

    /// Takes the database out, once nobody uses it.
    pub(crate) fn take_db(&self) -> Option<Db> {
        self.db.write().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Drops what a panic carries, which may panic again, and may be a value.
fn forget(panic: Box<dyn Any + Send>) {
    drop(catch_unwind(AssertUnwindSafe(|| drop(panic))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use sosa::ErrorKind;
    use std::io;

    fn engine() -> Engine {
        Engine::new(sled::Config::new().temporary(true).open().unwrap())
    }

    #[test]
    fn a_panic_of_the_engine_ends_here_and_is_the_last() {
        let engine = engine();
        assert!(engine.read(|| Ok(())).is_ok());
        let error = engine.write(|| -> Result<()> { panic!("by the test") }).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown));
        let error = engine.read(|| -> Result<()> { unreachable!("it is broken") }).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
    }

    #[test]
    fn after_a_write_that_failed_it_is_read_and_not_written() {
        let engine = engine();
        let full = sled::Error::Io(io::ErrorKind::StorageFull.into());
        assert_eq!(engine.failed(full).outcome(), Outcome::Unknown);
        assert!(engine.read(|| Ok(())).is_ok());
        let refused = engine.write(|| -> Result<()> { unreachable!("it writes no more") }).unwrap_err();
        assert_eq!((refused.kind(), refused.outcome()), (ErrorKind::CapacityExceeded, Outcome::NotApplied));
        let unsynced = engine.sync(|| -> Result<()> { unreachable!("it proves nothing") }).unwrap_err();
        assert_eq!((unsynced.kind(), unsynced.outcome()), (ErrorKind::CapacityExceeded, Outcome::Unknown));
    }

    #[test]
    fn once_closed_it_only_syncs() {
        let engine = engine();
        engine.close();
        assert!(engine.read(|| Ok(())).is_err() && engine.write(|| Ok(())).is_err());
        assert!(engine.sync(|| Ok(())).is_ok());
        assert!(engine.take_db().is_some() && engine.with_db(|_| ()).is_err());
    }
}
