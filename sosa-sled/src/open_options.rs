//! How a database is opened.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use sosa::Result;

use crate::error;
use crate::open_database::{OpenDatabase, wait_until_free};
use crate::store::SledStore;
use crate::verify::{Finding, verify};

/// Opens the database in this directory, or creates it, and makes a store in it: [`OpenOptions`] as they are.
///
/// It reads what was written since the database was last opened, which may take a while: call it before the
/// program serves, or on a thread that may wait. What was on the disk, and is damaged or missing now, it
/// refuses to open, and writes nothing: the engine by itself would cut it off.
///
/// ```
/// use sosa_sled::sosa::Collection;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_sled::sosa::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path();
/// let people = sosa_sled::open(path, "myapp")?.collection("people");
/// people.save("ada", &1815).await?;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// Those of [`OpenOptions::open`].
pub fn open(path: impl AsRef<Path>, prefix: impl Into<String>) -> Result<SledStore> {
    OpenOptions::new().open(path, prefix)
}

/// Opens the database in this directory, and makes a store in it. Where there is none, it makes none, for programs
/// that only look: a mistyped path is an error.
///
/// ```
/// # let directory = tempfile::tempdir().unwrap();
/// let path = directory.path().join("mistyped");
/// assert!(sosa_sled::open_existing(&path, "myapp").is_err());
/// assert!(!path.exists());
/// ```
///
/// # Errors
///
/// Those of [`OpenOptions::open`].
pub fn open_existing(path: impl AsRef<Path>, prefix: impl Into<String>) -> Result<SledStore> {
    OpenOptions::new().create(false).open(path, prefix)
}

/// How a database is opened.
///
/// ```
/// use std::time::Duration;
/// # fn main() -> sosa_sled::sosa::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path();
/// let options = sosa_sled::OpenOptions::new().lock_timeout(Duration::from_secs(10));
/// let store = options.open(path, "myapp")?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct OpenOptions {
    lock_timeout: Duration,
    create: bool,
}

impl OpenOptions {
    /// How long an open waits for the database unless [`lock_timeout`](Self::lock_timeout) says otherwise.
    pub const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(1);

    /// Returns the options of [`open`]: it waits a second, and creates what is not there.
    pub fn new() -> Self {
        Self { lock_timeout: Self::DEFAULT_LOCK_TIMEOUT, create: true }
    }

    /// Sets how long to wait for another who has the database open: a process that is about to end, or a store of
    /// this one whose last handle was just dropped. A second unless set; with zero it fails at once.
    ///
    /// The thread that opens is blocked meanwhile.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Sets whether to create a database where there is none; it does so unless told.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Opens the database in this directory, and makes a store in it, whose collections live under this prefix.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](sosa::ErrorKind::Unavailable) if another process has it open, or this one has;
    /// [`InvalidOption`](sosa::ErrorKind::InvalidOption) if there is none and it is not to be created;
    /// [`PermissionDenied`](sosa::ErrorKind::PermissionDenied) if the directory may not be written;
    /// [`CapacityExceeded`](sosa::ErrorKind::CapacityExceeded) if the disk is full;
    /// [`Unsupported`](sosa::ErrorKind::Unsupported) if another version of the engine, or one with other
    /// settings, has written it; [`Other`](sosa::ErrorKind::Other) if it is damaged, with the place in the message.
    pub fn open(&self, path: impl AsRef<Path>, prefix: impl Into<String>) -> Result<SledStore> {
        let path = path.as_ref();
        if !self.create && !path.join("db").is_file() {
            return Err(error::no_database(path));
        }
        let (began, timeout) = (Instant::now(), self.lock_timeout);
        loop {
            match try_open(path) {
                // The engine's threads hold the lock for a moment after all else has ended.
                Err(Refused::Held) if wait_until_free(path, || began.elapsed() < timeout) => {}
                Err(Refused::Held) => return Err(error::held(path)),
                Err(Refused::Other(error)) => return Err(error),
                Ok(db) => return Ok(SledStore::new(OpenDatabase::new(db, true), prefix)),
            }
        }
    }
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

enum Refused {
    /// Another has it open.
    Held,
    Other(sosa::Error),
}

fn try_open(path: &Path) -> Result<sled::Db, Refused> {
    verify(path).map_err(|finding| match finding {
        Finding::Held => Refused::Held,
        finding => Refused::Other(error::found(path, finding)),
    })?;
    // The engine panics over some kinds of damage.
    match catch_unwind(AssertUnwindSafe(|| sled::open(path))) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(error)) if error::is_held(&error) => Err(Refused::Held),
        Ok(Err(error)) => Err(Refused::Other(error::not_opened(path, error))),
        Err(_) => Err(Refused::Other(error::panicked_opening(path))),
    }
}
