//! A database that is open: what stores and collections hold, and how it is closed.

use std::collections::HashMap;
use std::fmt;
use std::fs::{File, TryLockError};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sled::Db;
use sosa::{Outcome, Result};

use crate::database::Database;
use crate::engine::Health;
use crate::error;
use crate::table::Table;

/// How often the lock of a database is looked at while somebody waits for it. No event tells.
const LOCK_POLL: Duration = Duration::from_millis(2);

/// How long a working engine has to write what is left, and to end its threads, as it is closed.
const CLOSED_WITHIN: Duration = Duration::from_secs(30);

/// How long the lock may still be held once the engine was let go of; then it is another who waited for it.
const FREE_WITHIN: Duration = Duration::from_secs(1);

/// How long one has that has failed, and that may never end.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(2);

/// What stores and collections hold. Dropped with the last of them, the database is closed, even if calls that
/// were dropped are still under way.
pub(crate) struct OpenDatabase(Arc<Opened>);

struct Opened {
    database: Arc<Database>,
    /// The tables by the root of their keys.
    tables: Mutex<HashMap<String, Arc<Table>>>,
    /// It was opened here, so that nobody else has a handle of it.
    is_own: bool,
    closed: Closed,
}

/// Whether the database was closed: what became of it, for all who close it.
#[derive(Default)]
struct Closed {
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    Open,
    /// Since when, and how long those who wait for it do so.
    Closing(Instant, Duration),
    /// And whether all was on the disk.
    Closed(bool),
}

impl OpenDatabase {
    pub(crate) fn new(db: Db, is_own: bool) -> Self {
        let database = Arc::new(Database::new(db));
        Self(Arc::new(Opened { database, tables: Mutex::default(), is_own, closed: Closed::default() }))
    }

    pub(crate) fn database(&self) -> &Arc<Database> {
        &self.0.database
    }

    /// Returns the table whose keys have this root.
    pub(crate) fn table(&self, root: &str) -> Arc<Table> {
        self.0.tables().entry(root.to_owned()).or_insert_with(|| Arc::new(Table::new(root))).clone()
    }

    /// Brings everything to the disk, lets go of the engine, and waits until another may open the database. Of several
    /// who close it one does so, and all wait for it.
    pub(crate) fn close(&self) -> Result<()> {
        self.0.close()
    }
}

impl Drop for OpenDatabase {
    fn drop(&mut self) {
        match self.0.database.engine.health() {
            // Who closed it may not have waited for that.
            Health::Working | Health::Closed => drop(self.0.close()),
            // Nothing can be saved any more, and nobody should wait for it.
            Health::ReadOnly | Health::Broken => self.0.start_closing(),
        }
    }
}

impl Opened {
    fn tables(&self) -> MutexGuard<'_, HashMap<String, Arc<Table>>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(self: &Arc<Self>) -> Result<()> {
        self.start_closing();
        let progress = self.closed.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let left = match *progress {
            Progress::Closing(began, within) => within.saturating_sub(began.elapsed()),
            Progress::Open | Progress::Closed(_) => Duration::ZERO,
        };
        let is_under_way = |progress: &mut Progress| matches!(progress, Progress::Closing(..));
        let waited = self.closed.changed.wait_timeout_while(progress, left, is_under_way);
        let (progress, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match (*progress, self.database.engine.failure()) {
            (Progress::Closed(true), _) => Ok(()),
            (Progress::Closed(false), Some(failure)) => Err(error::engine(failure, Outcome::Unknown)),
            (Progress::Open | Progress::Closed(false), _) => Err(error::not_synced()),
            (Progress::Closing(_, within), _) => Err(error::not_closed(within)),
        }
    }

    /// Does so on a thread that nobody has to wait for: a failed engine may never end.
    fn start_closing(self: &Arc<Self>) {
        let mut progress = self.closed.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if *progress != Progress::Open {
            return;
        }
        let within = if self.database.engine.health() == Health::Working { CLOSED_WITHIN } else { GIVEN_UP_WITHIN };
        *progress = Progress::Closing(Instant::now(), within);
        self.database.engine.close();
        let opened = self.clone();
        let close = move || {
            // The engine panics where its own last sync fails.
            let is_synced = panic::catch_unwind(AssertUnwindSafe(|| opened.let_go())).unwrap_or(false);
            *opened.closed.progress.lock().unwrap_or_else(PoisonError::into_inner) = Progress::Closed(is_synced);
            opened.closed.changed.notify_all();
        };
        if thread::Builder::new().name("sosa-sled-close".to_owned()).spawn(close).is_err() {
            *progress = Progress::Closed(false);
        }
    }

    /// Returns whether everything is on the disk.
    fn let_go(self: &Arc<Self>) -> bool {
        // Calls under way end first; no other opens a tree any more, and nothing is written.
        let tables: Vec<_> = self.tables().values().cloned().collect();
        tables.iter().for_each(|table| table.close());
        let is_synced = self.database.group_commit.sync_now().is_ok();
        drop(self.database.engine.take_db());
        if self.is_own {
            let began = Instant::now();
            wait_until_free(self.database.path(), || began.elapsed() < FREE_WITHIN);
        }
        is_synced
    }
}

/// Waits until nobody holds the lock of the database, and returns whether that came about in time. The engine's
/// threads hold it for a moment after its last handle was dropped.
pub(crate) fn wait_until_free(path: &Path, is_in_time: impl Fn() -> bool) -> bool {
    // What cannot be opened is not held either.
    let Ok(file) = File::open(path.join("db")) else { return true };
    while let Err(TryLockError::WouldBlock) = file.try_lock() {
        if !is_in_time() {
            return false;
        }
        thread::sleep(LOCK_POLL);
    }
    true
}

/// Shows where it is. The engine's own `Debug` shows all that is stored.
impl fmt::Debug for OpenDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("path", &self.0.database.path()).finish_non_exhaustive()
    }
}
