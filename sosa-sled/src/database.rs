//! A database as all collections of a store share it: the one seam to the engine.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sled::Db;
use sosa::Result;

use crate::disk::Disk;
use crate::error;
use crate::pace::Pace;
use crate::table::Table;

pub(crate) struct Database {
    pub(crate) db: Db,
    pub(crate) disk: Disk,
    pub(crate) pace: Pace,
    /// The engine panicked, and what it holds in memory can no longer be trusted.
    broken: AtomicBool,
    /// The tables by the root of their keys.
    tables: Mutex<HashMap<String, Arc<Table>>>,
}

impl Database {
    pub(crate) fn new(db: Db) -> Self {
        // As it is now, since the program may change its directory later.
        let path = db.context.get_path();
        let path = std::path::absolute(&path).unwrap_or(path);
        Self { disk: Disk::new(path), db, pace: Pace::new(), broken: AtomicBool::new(false), tables: Mutex::default() }
    }

    /// Returns where the database is.
    pub(crate) fn path(&self) -> &Path {
        self.disk.path()
    }

    /// Returns the table whose keys have this root.
    pub(crate) fn table(self: &Arc<Self>, root: &str) -> Arc<Table> {
        // A thread that panicked here left the map whole: it inserts in one step.
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = tables.get(root) {
            return table.clone();
        }
        let table = Arc::new(Table::new(root));
        tables.insert(root.to_owned(), table.clone());
        table
    }

    /// Calls the engine, unless it is broken. A panic in it ends here, and breaks it.
    pub(crate) fn call<R>(&self, call: impl FnOnce(&Self) -> Result<R>) -> Result<R> {
        if self.broken.load(Ordering::Acquire) {
            return Err(error::broken());
        }
        // What a panic leaves half done is never looked at again.
        let result = catch_unwind(AssertUnwindSafe(|| call(self)));
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

/// Shows where it is. The engine's own `Debug` shows all that is stored.
impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("path", &self.path()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sosa::{ErrorKind, Outcome};

    #[test]
    fn a_panic_of_the_engine_ends_at_the_seam_and_is_the_last() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let database = Database::new(db);
        assert!(database.call(|_| Ok(())).is_ok());
        let error = database.call(|_| -> Result<()> { panic!("by the test") }).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown));
        let error = database.call(|_| -> Result<()> { unreachable!("it is broken") }).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
    }
}
