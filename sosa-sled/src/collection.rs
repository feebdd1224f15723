//! The verbs: what is encoded, where it runs, and when it is acknowledged.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;
use sosa::{
    Clock, Codec, Collection, Cursor, DestroyOptions, Entry, Expiry, Item, Json, Keyspace, ListOptions, LoadOptions,
    Model, Operation, Page, Result, Revision, SaveOptions,
};

use crate::database::Database;
use crate::durability::Durability;
use crate::error::{self, BACKEND};
use crate::open_database::OpenDatabase;
use crate::pieces;
use crate::record::{self, Record, Value};
use crate::scope::Scope;
use crate::table::{Found, Stored, Table};
use crate::thread::{self, Caller};
use crate::turn::Turn;

/// A collection in a database on the disk. A clone shares the data, and so does every collection of the
/// same prefix and name in this database.
pub struct SledCollection<T, C = Json> {
    database: Arc<OpenDatabase>,
    scope: Scope,
    durability: Durability,
    codec: Arc<C>,
    model: PhantomData<fn() -> T>,
}

impl<T> SledCollection<T> {
    pub(crate) fn new(open: Arc<OpenDatabase>, keyspace: Keyspace, clock: Clock, durability: Durability) -> Self {
        let scope = Scope::new(&open, keyspace, clock);
        Self { database: open, scope, durability, codec: Arc::new(Json), model: PhantomData }
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
        within.scope.keyspace = self.scope.keyspace.within(path);
        within
    }

    /// Overrides the store's durability for this collection.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Stores values as another codec encodes them; [`Json`] unless this is called.
    #[must_use]
    pub fn with_codec<D: Codec<T>>(self, codec: D) -> SledCollection<T, D> {
        let Self { database, scope, durability, codec: _, model } = self;
        SledCollection { database, scope, durability, codec: Arc::new(codec), model }
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
            let scope = self.scope.clone();
            let purged = thread::run(move |_| {
                let removed = scope.write(|table, database| table.purge(database, &scope.clock, &mut after))?;
                Ok((removed, after))
            });
            let (count, last) = purged.await.map_err(|error| error.with_context(BACKEND, Operation::Purge))?;
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
            Durability::Immediate => self.database.database().group_commit.wait_durable().await,
            Durability::Eventual => Ok(()),
        }
    }
}

impl<T: Model, C: Codec<T>> SledCollection<T, C> {
    async fn load_now(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<T>>> {
        options.validate()?;
        let mut missing = None;
        loop {
            let Some(Found { record, deadline }) = self.find(id, options).await? else { return Ok(None) };
            let revision = record::revision_of_pieces(&record);
            let pieces = match revision {
                None => None,
                Some(_) => {
                    let (scope, record) = (self.scope.clone(), record.clone());
                    thread::run(move |_| scope.read(|table, database| table.read_pieces(database, &record))).await?
                }
            };
            // Where pieces are missing, another save has taken the record's place; or they are lost, if it is still
            // the same.
            if revision.is_none() || pieces.is_some() || missing == revision {
                let entry = decode(&*self.codec, &self.scope, id, &record, pieces)?;
                return Ok(Some(if options.with_expiry { entry.with_expiry(Expiry::from(deadline)) } else { entry }));
            }
            missing = revision;
        }
    }

    /// Looks for a record, and touches it if asked to and due.
    async fn find(&self, id: &str, options: LoadOptions) -> Result<Option<Found>> {
        if options.touch.is_none() || !options.slack.is_zero() {
            let load =
                |scope: &Scope, key: &[u8]| scope.read(|table, database| table.load(database, &scope.clock, key));
            let done = self.scope.read_inline(self.scope.key(id)?, load).await?;
            let found = self.scope.tidy(done).await;
            // The time is asked for by a touch alone: it is a tenth of a load.
            let is_due = |found: &Found| {
                options.touch.is_some() && options.touched(found.deadline, self.scope.clock.now_millis()).is_some()
            };
            if !found.as_ref().is_some_and(is_due) {
                return Ok(found);
            }
        }
        let key = self.scope.key(id)?;
        let touch = move |scope: &Scope, key: &[u8], turn: &Turn<'_>| {
            scope.write(|table, database| table.touch(database, &scope.clock, key, options, turn))
        };
        let done = self.scope.write_inline(key, touch).await?;
        let found = self.scope.tidy(done).await;
        if found.is_some() {
            self.wait_durable().await?;
        }
        Ok(found)
    }

    async fn save_now(&self, id: &str, value: &T, options: SaveOptions) -> Result<Revision> {
        let encoded = self.codec.encode(&self.scope.keyspace.key(id)?, value)?;
        let key = self.scope.key(id)?;
        let in_pieces = key.len() + encoded.len() > pieces::WHOLE;
        let done = if in_pieces {
            let scope = self.scope.clone();
            let save = move |caller: &Caller| {
                scope.catch_up();
                let save = |table: &Table, database: &Database| {
                    table.save_in_pieces(database, &scope.clock, &key, &encoded, options, caller)
                };
                scope.write(save)
            };
            thread::run(save).await?
        } else {
            let save = move |scope: &Scope, key: &[u8], turn: &Turn<'_>| {
                scope.write(|table, database| table.save(database, &scope.clock, key, &encoded, options, turn))
            };
            self.scope.write_inline(key, save).await?
        };
        let saved = self.scope.tidy(done).await;
        if in_pieces || saved.looks.is_some() {
            self.scope.sweep(saved.looks);
        }
        self.wait_durable().await?;
        Ok(saved.revision)
    }

    async fn destroy_now(&self, id: &str, options: DestroyOptions) -> Result<bool> {
        let destroy = move |scope: &Scope, key: &[u8], turn: &Turn<'_>| {
            scope.write(|table, database| table.destroy(database, &scope.clock, key, options, turn))
        };
        let done = self.scope.write_inline(self.scope.key(id)?, destroy).await?;
        let destroyed = self.scope.tidy(done).await;
        // Also where there was nothing: it may be another's destroy that is not on the disk yet.
        self.wait_durable().await?;
        Ok(destroyed)
    }

    async fn list_now(&self, options: ListOptions) -> Result<Page<T>> {
        options.validate()?;
        let (scope, codec) = (self.scope.clone(), self.codec.clone());
        let list = move |_: &Caller| {
            let path = scope.keyspace.path();
            let stretch = scope.read(|table, database| table.page(database, &scope.clock, path, &options))?;
            let id_of = |key: &[u8]| String::from_utf8(key[path.len()..].to_vec()).ok();
            // Beyond the engine's guard: a panic in the model's `Deserialize` is its caller's affair.
            let items = stretch.found.into_iter().filter_map(|(key, Stored { record, pieces })| {
                // All ids are text; what is none was put there by others.
                let id = id_of(&key)?;
                if options.ids_only {
                    return Some(Item::id_only(id));
                }
                let entry = decode(&*codec, &scope, &id, &record, pieces);
                let entry = entry.map_err(|error| error.with_context(BACKEND, Operation::List)).map(|entry| {
                    let deadline = record::state(&record).1;
                    if options.with_expiry { entry.with_expiry(Expiry::from(deadline)) } else { entry }
                });
                Some(Item::new(id, entry))
            });
            let items = items.collect();
            Ok(Page::new(items, stretch.last.and_then(|last| id_of(&last)).map(Cursor::after)))
        };
        thread::run(list).await
    }
}

/// Decodes a record, whose value may lie in pieces.
fn decode<T, C: Codec<T>>(
    codec: &C,
    scope: &Scope,
    id: &str,
    record: &[u8],
    pieces: Option<Vec<u8>>,
) -> Result<Entry<T>> {
    let record = Record::read(record)?;
    let key = scope.keyspace.key(id)?;
    let value = match record.value {
        Value::Whole(value) => codec.decode(&key, value)?,
        Value::InPieces(_) => codec.decode(&key, &pieces.ok_or_else(error::pieces_missing)?)?,
    };
    Ok(Entry::new(value, record.revision.into()))
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
        let Self { database, scope, durability, codec, model } = self;
        Self {
            database: database.clone(),
            scope: scope.clone(),
            durability: *durability,
            codec: codec.clone(),
            model: *model,
        }
    }
}

impl<T, C> fmt::Debug for SledCollection<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, scope, durability, codec: _, model: _ } = self;
        f.debug_struct("SledCollection")
            .field("database", database)
            .field("keyspace", &scope.keyspace)
            .field("clock", &scope.clock)
            .field("durability", durability)
            .finish_non_exhaustive()
    }
}
