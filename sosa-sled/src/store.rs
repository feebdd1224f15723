//! A store: what collections in one database are made from.

use std::fmt;
use std::sync::Arc;

use sled::Db;
use sosa::{Clock, Keyspace, Result};

use crate::collection::SledCollection;
use crate::durability::Durability;
use crate::open_database::OpenDatabase;
use crate::thread;

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
    SledStore::new(OpenDatabase::new(db, false), prefix)
}

/// A store in a database on the disk. A clone shares it.
///
/// When the last clone and the last collection are dropped, the database is closed: everything is brought to the
/// disk, which the dropping thread waits for. [`close`](Self::close) waits without blocking it, and tells what failed.
#[derive(Clone)]
pub struct SledStore {
    database: Arc<OpenDatabase>,
    prefix: String,
    clock: Clock,
    durability: Durability,
}

impl SledStore {
    pub(crate) fn new(database: OpenDatabase, prefix: impl Into<String>) -> Self {
        Self {
            database: Arc::new(database),
            prefix: prefix.into(),
            clock: Clock::system(),
            durability: Durability::default(),
        }
    }

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

    /// Closes the database: brings everything to the disk, and returns when another process, or this one, may open
    /// it again.
    ///
    /// It is closed for all clones of the store, and for their collections: their calls end first, and later ones are
    /// [`Unavailable`](sosa::ErrorKind::Unavailable). A database that was opened by the program and passed to
    /// [`new`] stays open for as long as the program holds it.
    ///
    /// ```
    /// use sosa_sled::sosa::Collection;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_sled::sosa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path();
    /// let store = sosa_sled::open(path, "myapp")?;
    /// let people = store.collection("people");
    /// people.save("ada", &1815).await?;
    /// store.close().await?;
    /// assert!(people.load("ada").await.is_err());
    /// assert_eq!(sosa_sled::open(path, "myapp")?.collection("people").load("ada").await?, Some(1815));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// That of the last sync: what was acknowledged by [`Durability::Eventual`] may be lost.
    /// [`Timeout`](sosa::ErrorKind::Timeout) if it takes longer than 30 seconds, or than two where a write had failed
    /// before: then only the end of the process frees the database.
    pub async fn close(self) -> Result<()> {
        let database = self.database.clone();
        thread::apart(move || database.close()).await
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
