//! The verbs: what is encoded, where it runs, and when it is acknowledged.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use sosa::{
    Clock, Codec, Collection, Cursor, DestroyOptions, Entry, Expiry, Item, Json, Keyspace, ListOptions, LoadOptions,
    Model, Operation, Page, Result, Revision, SaveOptions,
};

use crate::database::Database;
use crate::error::BACKEND;
use crate::group_commit;
use crate::record::Record;
use crate::store::Durability;
use crate::table::{Found, Table};
use crate::thread;

/// From this size on a value is saved on a thread that may wait: the engine may write a file for it.
const LARGE: usize = 4 * 1024;

/// A collection in a database on the disk. A clone shares the data, and so does every collection of the
/// same prefix and name in this database.
pub struct SledCollection<T, C = Json> {
    place: Place,
    durability: Durability,
    codec: Arc<C>,
    model: PhantomData<fn() -> T>,
}

/// Where entries are, for a call that may run elsewhere.
#[derive(Clone)]
struct Place {
    database: Arc<Database>,
    table: Arc<Table>,
    keyspace: Keyspace,
    clock: Clock,
}

impl<T> SledCollection<T> {
    pub(crate) fn new(database: Arc<Database>, keyspace: Keyspace, clock: Clock, durability: Durability) -> Self {
        let table = database.table(keyspace.root());
        let place = Place { database, table, keyspace, clock };
        Self { place, durability, codec: Arc::new(Json), model: PhantomData }
    }
}

impl<T, C> SledCollection<T, C> {
    /// Returns the sub-collection at `path`, whose entries never show in this one. It may have
    /// sub-collections itself.
    ///
    /// ```
    /// use sosa_sled::sosa::Collection;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_sled::sosa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// let clubs = sosa_sled::open(directory.path(), "myapp")?.collection::<String>("clubs");
    /// let members = clubs.within("chess");
    /// members.save("ada", &"since 1830".to_owned()).await?;
    /// assert!(clubs.load("ada").await?.is_none());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn within(&self, path: &str) -> Self {
        let mut within = self.clone();
        within.place.keyspace = self.place.keyspace.within(path);
        within
    }

    /// Acknowledges writes so from here on, also where the store does otherwise.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Stores values as another codec encodes them; [`Json`] unless this is called.
    #[must_use]
    pub fn with_codec<D: Codec<T>>(self, codec: D) -> SledCollection<T, D> {
        let Self { place, durability, codec: _, model } = self;
        SledCollection { place, durability, codec: Arc::new(codec), model }
    }

    /// Removes at once every entry that has expired, here and in all sub-collections beside and below, and
    /// returns how many that were.
    ///
    /// There is no need to call it: new entries remove old ones. It gives room back where a collection
    /// expired and nothing new is saved to it. Dropped or failed, it may just be called again.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn purge(&self) -> Result<u64> {
        let (mut removed, mut after) = (0, Vec::new());
        loop {
            let purged = self.place.blocking(move |place, database| {
                let removed = place.table.purge(database, &place.clock, &mut after)?;
                Ok((removed, after))
            });
            let (count, last) = purged.await.map_err(|error| error.with_context(BACKEND, Operation::List))?;
            removed += count;
            if last.is_empty() {
                return Ok(removed);
            }
            after = last;
        }
    }

    /// Waits for the disk, where writes are acknowledged from there.
    async fn wait_durable(&self) -> Result<()> {
        match self.durability {
            Durability::Immediate => group_commit::wait_durable(&self.place.database).await,
            Durability::Eventual => Ok(()),
        }
    }
}

impl<T: Model, C: Codec<T>> SledCollection<T, C> {
    async fn load_now(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<T>>> {
        options.touch_deadline(0)?;
        let key = self.place.key(id)?;
        let load = move |place: &Place, database: &Database| place.table.load(database, &place.clock, &key, options);
        let Some(found) = self.place.inline(load).await? else { return Ok(None) };
        if options.touch.is_some() {
            self.wait_durable().await?;
        }
        decode(&*self.codec, &self.place.keyspace, id, &found, options.with_expiry).map(Some)
    }

    async fn save_now(&self, id: &str, value: &T, options: SaveOptions) -> Result<Revision> {
        let encoded = self.codec.encode(&self.place.keyspace.key(id)?, value)?;
        let key = self.place.key(id)?;
        let large = encoded.len() >= LARGE;
        let save =
            move |place: &Place, database: &Database| place.table.save(database, &place.clock, &key, &encoded, options);
        let (revision, looks) = if large { self.place.blocking(save).await? } else { self.place.inline(save).await? };
        if let Some(looks) = looks {
            self.place.sweep(looks);
        }
        self.wait_durable().await?;
        Ok(revision)
    }

    async fn destroy_now(&self, id: &str, options: DestroyOptions) -> Result<bool> {
        let key = self.place.key(id)?;
        let destroy =
            move |place: &Place, database: &Database| place.table.destroy(database, &place.clock, &key, options);
        let destroyed = self.place.inline(destroy).await?;
        // Also where there was nothing: it may be another's destroy that is not on the disk yet.
        self.wait_durable().await?;
        Ok(destroyed)
    }

    async fn list_now(&self, options: ListOptions) -> Result<Page<T>> {
        options.validate()?;
        let codec = self.codec.clone();
        let list = move |place: &Place, database: &Database| {
            let path = place.keyspace.path();
            let stretch = place.table.page(database, &place.clock, path, &options)?;
            let id_of = |key: &[u8]| String::from_utf8(key[path.len()..].to_vec()).ok();
            let items = stretch.found.into_iter().filter_map(|(key, bytes)| {
                // All ids are text; what is none was put there by others.
                let id = id_of(&key)?;
                if options.ids_only {
                    return Some(Item::id_only(id));
                }
                let found = Found::new(bytes);
                let entry = decode(&*codec, &place.keyspace, &id, &found, options.with_expiry)
                    .map_err(|error| error.with_context(BACKEND, Operation::List));
                Some(Item::new(id, entry))
            });
            let items = items.collect();
            Ok(Page::new(items, stretch.last.and_then(|last| id_of(&last)).map(Cursor::after)))
        };
        self.place.blocking(list).await
    }
}

impl Place {
    /// Returns the key in the tree: the path and the id.
    fn key(&self, id: &str) -> Result<Vec<u8>> {
        let key = self.keyspace.key(id)?;
        Ok([self.keyspace.path(), key.id()].concat().into_bytes())
    }

    /// Calls the engine where this is polled, if it answers quickly; else elsewhere.
    async fn inline<R: Send + 'static>(
        &self,
        call: impl FnOnce(&Self, &Database) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let timed = move |place: &Self, database: &Database| {
            let began = Instant::now();
            let result = call(place, database);
            database.pace.note(began.elapsed());
            result
        };
        if self.table.is_open() && self.database.pace.is_quick() {
            self.database.engine.call(|| timed(self, &self.database))
        } else {
            self.blocking(timed).await
        }
    }

    /// Calls the engine on a thread that may wait.
    async fn blocking<R: Send + 'static>(
        &self,
        call: impl FnOnce(&Self, &Database) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let place = self.clone();
        thread::run(move || place.database.engine.call(|| call(&place, &place.database))).await
    }

    /// Removes some of what has expired, while the caller goes on.
    fn sweep(&self, looks: usize) {
        let place = self.clone();
        // The save is done, whatever comes of this; the next sweep makes up for it.
        thread::start(move || {
            drop(place.database.engine.call(|| place.table.sweep(&place.database, &place.clock, looks)));
        });
    }
}

fn decode<T, C: Codec<T>>(
    codec: &C,
    keyspace: &Keyspace,
    id: &str,
    found: &Found,
    with_expiry: bool,
) -> Result<Entry<T>> {
    let record = Record::read(&found.bytes)?;
    let value = codec.decode(&keyspace.key(id)?, record.value)?;
    let entry = Entry::new(value, record.revision.into());
    Ok(if with_expiry { entry.with_expiry(Expiry::from(found.deadline)) } else { entry })
}

#[async_trait]
impl<T: Model, C: Codec<T>> Collection<T> for SledCollection<T, C> {
    async fn load_with(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<T>>> {
        self.load_now(id, options).await.map_err(|error| error.with_context(BACKEND, Operation::Load))
    }

    async fn save_with(&self, id: &str, value: &T, options: SaveOptions) -> Result<Revision> {
        self.save_now(id, value, options).await.map_err(|error| error.with_context(BACKEND, Operation::Save))
    }

    async fn destroy_with(&self, id: &str, options: DestroyOptions) -> Result<bool> {
        self.destroy_now(id, options).await.map_err(|error| error.with_context(BACKEND, Operation::Destroy))
    }

    async fn list_with(&self, options: ListOptions) -> Result<Page<T>> {
        self.list_now(options).await.map_err(|error| error.with_context(BACKEND, Operation::List))
    }
}

// By hand: a clone shares the data and needs no `T: Clone`.
impl<T, C> Clone for SledCollection<T, C> {
    fn clone(&self) -> Self {
        let Self { place, durability, codec, model } = self;
        Self { place: place.clone(), durability: *durability, codec: codec.clone(), model: *model }
    }
}

impl<T, C> fmt::Debug for SledCollection<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { database, table: _, keyspace, clock } = &self.place;
        f.debug_struct("SledCollection")
            .field("database", database)
            .field("keyspace", keyspace)
            .field("clock", clock)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}
