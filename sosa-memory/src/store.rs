//! A store: what collections of one program are made from.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use sosa::{Clock, Keyspace, Model};

use crate::collection::MemoryCollection;
use crate::table::Table;

/// Makes a new, empty store whose collections live under this prefix.
///
/// ```
/// use sosa_memory::sosa::Collection;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_memory::sosa::Result<()> {
/// let store = sosa_memory::new("myapp");
/// let people = store.collection("people");
/// people.save("ada", &1815).await?;
/// assert_eq!(store.collection::<i32>("people").load("ada").await?, Some(1815));
/// # Ok(()) }
/// ```
pub fn new(prefix: impl Into<String>) -> MemoryStore {
    MemoryStore { prefix: prefix.into(), clock: Clock::system(), limit: None, encoded: false, tables: Arc::default() }
}

/// A store in memory. A clone shares its data.
///
/// Two calls of [`new`] make two stores that share nothing, also under one prefix; what they hold
/// ends with the program.
#[derive(Clone)]
pub struct MemoryStore {
    prefix: String,
    clock: Clock,
    limit: Option<usize>,
    encoded: bool,
    tables: Arc<Mutex<Tables>>,
}

/// The tables by the root of their keys and the type that they hold.
type Tables = HashMap<(String, TypeId), Arc<dyn Any + Send + Sync>>;

impl MemoryStore {
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

    /// Lets each collection made from here on, with all its sub-collections, hold this many entries
    /// at most; there is no limit by default, and then memory alone is the limit. A save of one more
    /// fails with [`CapacityExceeded`](sosa::ErrorKind::CapacityExceeded); nothing that lives is
    /// evicted.
    #[must_use]
    pub fn with_limit(mut self, entries: usize) -> Self {
        self.limit = Some(entries);
        self
    }

    /// Lets collections made from here on refuse what a store outside the program would lose: a save encodes the
    /// value with [`Json`](sosa::Json), and what that decodes to is held, not the value itself.
    ///
    /// This is for tests. A value without a JSON form, or whose JSON cannot be decoded, is
    /// [`Encode`](sosa::ErrorKind::Encode), and what was there stays. The other stores notice the latter only at a
    /// load, as [`Decode`](sosa::ErrorKind::Decode); a test should end where the fault is. A load costs what it did.
    ///
    /// ```
    /// use sosa_memory::sosa::{Collection, ErrorKind};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_memory::sosa::Result<()> {
    /// let answers = sosa_memory::new("test").encoded().collection("answers");
    /// answers.save("how many", &Some(Some(42))).await?;
    /// let error = answers.save("how many", &Some(None)).await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Encode);
    /// assert_eq!(answers.load("how many").await?, Some(Some(Some(42))));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn encoded(mut self) -> Self {
        self.encoded = true;
        self
    }

    /// Returns the collection of this name. Two calls with one name share their data.
    ///
    /// A name takes a few kilobytes for as long as the store lives; for many small collections, one for
    /// each user for example, use [`within`](MemoryCollection::within), which takes nothing.
    ///
    /// Values are held as they are and not encoded, unless [`encoded`](Self::encoded) says so; and two types
    /// under one name are two collections, where a store outside the program would mix them up.
    pub fn collection<T: Model>(&self, name: &str) -> MemoryCollection<T> {
        let keyspace = Keyspace::new(&self.prefix, name);
        // A thread that panicked here left the map whole: it inserts in one step.
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let table = tables
            .entry((keyspace.root().to_owned(), TypeId::of::<T>()))
            .or_insert_with(|| Arc::new(Table::<T>::new()))
            .clone()
            .downcast()
            .expect("a table is kept under its own type");
        MemoryCollection::new(table, keyspace, self.clock.clone(), self.limit, self.encoded)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prefix, clock, limit, encoded, tables: _ } = self;
        f.debug_struct("MemoryStore")
            .field("prefix", prefix)
            .field("clock", clock)
            .field("limit", limit)
            .field("encoded", encoded)
            .finish_non_exhaustive()
    }
}
