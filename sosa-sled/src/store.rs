//! A store: what collections in one database are made from.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use sled::Db;
use sosa::{Clock, Keyspace, Result};

use crate::collection::SledCollection;
use crate::database::Database;
use crate::error;
use crate::verify::verify;

/// Makes a store in a database that the program has opened, whose collections live under this prefix.
///
/// ```
/// use sosa_sled::sosa::Collection;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path();
/// let db = sosa_sled::sled::Config::new().path(path).cache_capacity(64 << 20).open()?;
/// let people = sosa_sled::new(db, "myapp").collection("people");
/// people.save("ada", &1815).await?;
/// # Ok(()) }
/// ```
pub fn new(db: Db, prefix: impl Into<String>) -> SledStore {
    let database = Arc::new(Database::new(db));
    SledStore { database, prefix: prefix.into(), clock: Clock::system(), durability: Durability::default() }
}

/// Opens the database in this directory, or creates it, and makes a store in it.
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
/// [`Unavailable`](sosa::ErrorKind::Unavailable) if another process has it open, or this one has;
/// [`PermissionDenied`](sosa::ErrorKind::PermissionDenied) if the directory may not be written;
/// [`CapacityExceeded`](sosa::ErrorKind::CapacityExceeded) if the disk is full;
/// [`Unsupported`](sosa::ErrorKind::Unsupported) if another version of the engine, or one with other
/// settings, has written it; [`Other`](sosa::ErrorKind::Other) if it is damaged, with the place in the message.
pub fn open(path: impl AsRef<Path>, prefix: impl Into<String>) -> Result<SledStore> {
    let path = path.as_ref();
    verify(path).map_err(|finding| error::found(path, finding))?;
    // The engine panics over some kinds of damage.
    match catch_unwind(AssertUnwindSafe(|| sled::open(path))) {
        Ok(Ok(db)) => Ok(new(db, prefix)),
        Ok(Err(error)) => Err(error::not_opened(path, error)),
        Err(_) => Err(error::panicked_opening(path)),
    }
}

/// When a write is acknowledged: a save, a destroy, or a load that touches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// When it is on the disk. It outlives the process and the machine's power. The default.
    #[default]
    Immediate,
    /// When the engine has it in memory. The engine writes that to the disk by itself, every half a second
    /// unless its configuration says otherwise; what was acknowledged since is lost when the process is
    /// killed or the machine stops. A program that ends by itself, and drops the store, loses nothing.
    Eventual,
}

/// A store in a database on the disk. A clone shares it. When the last clone and the last collection are
/// dropped, all is written to the disk.
#[derive(Clone)]
pub struct SledStore {
    database: Arc<Database>,
    prefix: String,
    clock: Clock,
    durability: Durability,
}

impl SledStore {
    /// Returns the same store under another prefix, whose collections are others.
    #[must_use]
    pub fn with_prefix(&self, prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..self.clone() }
    }

    /// Takes the time from this clock; the system's is the default.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets when writes are acknowledged, for the collections made from here on.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Returns the collection of this name. Two calls with one name share their data.
    ///
    /// A name is a tree of the engine, from the first verb on; all names together are in one page. For many
    /// small collections, one for each user for example, use [`within`](SledCollection::within), which
    /// takes nothing.
    pub fn collection<T>(&self, name: &str) -> SledCollection<T> {
        let keyspace = Keyspace::new(&self.prefix, name);
        SledCollection::new(self.database.clone(), keyspace, self.clock.clone(), self.durability)
    }
}

impl fmt::Debug for SledStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, prefix, clock, durability } = self;
        f.debug_struct("SledStore")
            .field("database", database)
            .field("prefix", prefix)
            .field("clock", clock)
            .field("durability", durability)
            .finish()
    }
}
