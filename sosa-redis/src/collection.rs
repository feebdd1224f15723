//! The verbs, as commands.

use std::fmt;
use std::marker::PhantomData;
use std::slice;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use sosa::{
    Clock, Codec, Collection, Condition, DestroyOptions, Entry, Error, Expiry, Item, Json, Keyspace, ListOptions,
    LoadOptions, Model, Operation, Page, Result, Revision, SaveOptions,
};

use crate::client::{Call, Client};
use crate::commands::args::{SetCondition, Ttl};
use crate::commands::entries::{self, Write};
use crate::commands::index::{self, Range};
use crate::commands::reply::Stored;
use crate::commands::script::revision;
use crate::error::{self, BACKEND};
use crate::keys::{EntryKey, Shard};
use crate::migrating;
use crate::page::{self, LexRange};

/// The most ids that one request reads, so that no page blocks the server for long.
const MAX_PAGE: usize = 1000;

/// Of how many new ids one is followed by a sweep, which looks at twice as many.
/// A dead id waits for half a round of the sweep, on average, while one new id comes for each that
/// dies; so a quarter of the index is dead, or somewhat more where the pace changes.
const SWEEP_ONE_IN: u8 = 16;

/// A collection on a Redis server. A clone shares the data, and so does every collection of the same
/// prefix and name, in whichever process.
pub struct RedisCollection<T, C = Json> {
    client: Client,
    keyspace: Keyspace,
    indexing: Indexing,
    codec: Arc<C>,
    model: PhantomData<fn() -> T>,
}

/// How the ids of a collection are kept for listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Indexing {
    /// They are not.
    None,
    /// In one index.
    Whole,
    /// In an index for each shard, beside its values.
    Sharded,
}

impl<T> RedisCollection<T> {
    pub(crate) fn new(client: Client, keyspace: Keyspace, indexing: Indexing) -> Self {
        Self { client, keyspace, indexing, codec: Arc::new(Json), model: PhantomData }
    }
}

impl<T, C> RedisCollection<T, C> {
    /// Returns the sub-collection at `path`, whose entries never show in this one. It may have
    /// sub-collections itself.
    ///
    /// ```
    /// # fn example(store: &sosa_redis::RedisStore) {
    /// let clubs = store.collection::<String>("clubs");
    /// // `save("ada", …)` writes the key `myapp:clubs/chess:ada`.
    /// let members = clubs.within("chess");
    /// # }
    /// ```
    #[must_use]
    pub fn within(&self, path: &str) -> Self {
        Self { keyspace: self.keyspace.within(path), ..self.clone() }
    }

    /// Keeps no index: a save is one plain `SET`, and listing is
    /// [`Unsupported`](sosa::ErrorKind::Unsupported).
    ///
    /// All programs that write to a collection must agree on this. On one server, an entry that was saved without the
    /// index is loaded and destroyed like any other, but is not listed before it is saved with it. On a cluster, and if
    /// the store is [`sharded`](crate::RedisStore::sharded), the keys are others, `myapp:people:ada` and no longer
    /// `myapp:people:{44--}:ada`: a collection with an index does not find entries that were saved without.
    #[must_use]
    pub fn unindexed(mut self) -> Self {
        self.indexing = Indexing::None;
        self
    }

    /// Stores values as another codec encodes them; [`Json`] unless this is called.
    #[must_use]
    pub fn with_codec<D: Codec<T>>(self, codec: D) -> RedisCollection<T, D> {
        let Self { client, keyspace, indexing, codec: _, model } = self;
        RedisCollection { client, keyspace, indexing, codec: Arc::new(codec), model }
    }

    /// Removes from the index the ids of all entries that have expired or were evicted, and returns how
    /// many they were. The server removes the entries themselves.
    ///
    /// There is no need to call it: saves of new ids remove others, so that the index stays in proportion
    /// to what lives. It gives memory back where a collection expired and nothing new is saved to it. It
    /// goes through the index in many short requests; dropped or failed, it may just be called again.
    /// Sub-collections have indexes of their own.
    ///
    /// # Errors
    ///
    /// Those of the store, and [`Unsupported`](sosa::ErrorKind::Unsupported) if there is no index.
    pub async fn purge(&self) -> Result<u64> {
        self.purge_now().await.map_err(|error| error.with_context(BACKEND, Operation::Purge))
    }

    async fn purge_now(&self) -> Result<u64> {
        let mut removed = 0;
        for shard in self.shards()? {
            let mut after = Vec::new();
            loop {
                // A call for each request: it is each of them that must end in time.
                let (count, last) = index::purge(&self.client.call()?, shard, &after).await?;
                removed += count;
                match last {
                    Some(last) => after = last,
                    None => break,
                }
            }
        }
        Ok(removed)
    }

    fn is_indexed(&self) -> bool {
        self.indexing != Indexing::None
    }

    /// Returns the key of an id.
    fn key<'a>(&'a self, id: &'a str) -> Result<EntryKey<'a>> {
        match self.indexing {
            Indexing::None | Indexing::Whole => Shard::whole(&self.keyspace).entry(id),
            Indexing::Sharded => Shard::of(&self.keyspace, id).entry(id),
        }
    }

    /// Returns all parts that have an index.
    fn shards(&self) -> Result<Vec<Shard<'_>>> {
        match self.indexing {
            Indexing::None => Err(error::not_indexed()),
            Indexing::Whole => Ok(vec![Shard::whole(&self.keyspace)]),
            Indexing::Sharded => Ok(Shard::all(&self.keyspace).collect()),
        }
    }
}

impl<T: Model, C: Codec<T>> RedisCollection<T, C> {
    fn entry(&self, key: &EntryKey<'_>, stored: &Stored, without_revision: bool) -> Result<Entry<T>> {
        let revision = if without_revision { Revision::NONE } else { revision(&stored.bytes) };
        let entry = Entry::new(self.codec.decode(key.codec_key(), &stored.bytes)?, revision);
        Ok(match stored.expiry {
            Some(expiry) => entry.with_expiry(expiry),
            None => entry,
        })
    }

    async fn load_now(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<T>>> {
        let loaded = async { self.load_by(&self.client.call()?, &self.key(id)?, options).await };
        loaded.await.map_err(|error| error.with_context(BACKEND, Operation::Load))
    }

    async fn load_by(&self, call: &Call<'_>, key: &EntryKey<'_>, options: LoadOptions) -> Result<Option<Entry<T>>> {
        options.validate()?;
        // Whatever the slack: GETEX costs what GET does.
        let touch = options.touch.map(|touch| Ttl::of(Expiry::After(touch), || Clock::system().now_millis()));
        let stored = if options.with_expiry {
            let loaded = Box::pin(entries::load_with_expiry(call, slice::from_ref(key), touch)).await?;
            loaded.into_iter().next().ok_or_else(error::unexpected)??
        } else {
            entries::load(call, key, touch).await?
        };
        stored.map(|stored| self.entry(key, &stored, options.without_revision)).transpose()
    }

    async fn save_now(&self, id: &str, value: &T, options: SaveOptions) -> Result<Revision> {
        self.save_by(id, value, options).await.map_err(|error| error.with_context(BACKEND, Operation::Save))
    }

    async fn save_by(&self, id: &str, value: &T, options: SaveOptions) -> Result<Revision> {
        let key = self.key(id)?;
        let encoded = self.codec.encode(key.codec_key(), value)?;
        let ttl = Ttl::of(options.expiry, || Clock::system().now_millis());
        let call = self.client.call()?;
        let condition = SetCondition::of(options.condition, ttl).ok_or_else(Error::conflict)?;
        let read = match options.condition {
            Condition::Revision(read) => Some(read),
            _ => None,
        };
        let write = Write { key, encoded: &encoded, ttl, condition, read };
        let is_new = match self.is_indexed() {
            true => migrating::save(&call, &write).await?,
            false => entries::save(&call, &write, false).await?,
        };
        if is_new && fastrand::u8(..SWEEP_ONE_IN) == 0 {
            // The save has succeeded; if the sweep fails, the next one makes up for it.
            drop(Box::pin(index::sweep(&call, key.shard())).await);
        }
        Ok(if options.without_revision { Revision::NONE } else { revision(&encoded) })
    }

    async fn destroy_now(&self, id: &str, options: DestroyOptions) -> Result<bool> {
        let (key, call) = (self.key(id)?, self.client.call()?);
        match self.is_indexed() {
            true => migrating::destroy(&call, &key, options.revision).await,
            false => Ok(entries::destroy(&call, &key, options.revision, false).await?),
        }
    }

    async fn list_now(&self, options: ListOptions) -> Result<Page<T>> {
        options.validate()?;
        let shards = self.shards()?;
        let call = self.client.call()?;
        let limit = options.limit.min(MAX_PAGE);
        let ids = LexRange::of(&options);
        let range = Range { ids: &ids, limit: page::share(limit, shards.len()), reverse: options.reverse };
        let pages = shards.iter().map(|shard| migrating::page(&call, *shard, &range, options.ids_only));
        let (ids, next) = page::merge(try_join_all(pages).await?, limit, options.reverse);
        // An id that is not valid here was put into the index by another program.
        let keys: Vec<_> = ids.iter().filter_map(|(shard, id)| shard.entry(id).ok()).collect();
        if options.ids_only {
            return Ok(Page::new(keys.iter().map(|key| Item::id_only(key.id())).collect(), next));
        }
        let items = keys.iter().zip(load_all(&call, &keys, options.with_expiry).await?);
        let items = items.filter_map(|(key, stored)| {
            let entry = stored
                .and_then(|stored| stored.map(|stored| self.entry(key, &stored, options.without_revision)).transpose());
            let entry = entry.map_err(|error| error.with_context(BACKEND, Operation::List));
            Some(Item::new(key.id(), entry.transpose()?))
        });
        Ok(Page::new(items.collect(), next))
    }
}

/// Loads entries of any shards, in their order.
async fn load_all(call: &Call<'_>, keys: &[EntryKey<'_>], with_expiry: bool) -> Result<Vec<Result<Option<Stored>>>> {
    let mut by_shard: Vec<_> = keys.iter().copied().enumerate().collect();
    by_shard.sort_by_key(|(_, key)| key.shard().number());
    let (positions, by_shard): (Vec<_>, Vec<_>) = by_shard.into_iter().unzip();
    let shards = by_shard.chunk_by(|a, b| a.shard().number() == b.shard().number());
    let loaded = shards.map(|keys| migrating::load_many(call, keys, with_expiry));
    let loaded = try_join_all(loaded).await?.into_iter().flatten();
    let mut in_order: Vec<_> = positions.into_iter().zip(loaded).collect();
    in_order.sort_by_key(|(position, _)| *position);
    Ok(in_order.into_iter().map(|(_, stored)| stored).collect())
}

#[async_trait]
impl<T: Model, C: Codec<T>> Collection<T> for RedisCollection<T, C> {
    async fn load_with(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<T>>> {
        self.load_now(id, options).await
    }

    async fn save_with(&self, id: &str, value: &T, options: SaveOptions) -> Result<Revision> {
        self.save_now(id, value, options).await
    }

    async fn destroy_with(&self, id: &str, options: DestroyOptions) -> Result<bool> {
        self.destroy_now(id, options).await.map_err(|error| error.with_context(BACKEND, Operation::Destroy))
    }

    async fn list_with(&self, options: ListOptions) -> Result<Page<T>> {
        self.list_now(options).await.map_err(|error| error.with_context(BACKEND, Operation::List))
    }

    // The plain forms do what the trait's do, with one boxed future less.

    async fn load(&self, id: &str) -> Result<Option<T>> {
        Ok(self.load_now(id, LoadOptions::new().without_revision()).await?.map(|entry| entry.value))
    }

    async fn save(&self, id: &str, value: &T) -> Result<()> {
        self.save_now(id, value, SaveOptions::new().without_revision()).await.map(drop)
    }
}

// By hand: a clone shares the data and needs neither `T: Clone` nor `C: Clone`.
impl<T, C> Clone for RedisCollection<T, C> {
    fn clone(&self) -> Self {
        let Self { client, keyspace, indexing, codec, model } = self;
        Self {
            client: client.clone(),
            keyspace: keyspace.clone(),
            indexing: *indexing,
            codec: codec.clone(),
            model: *model,
        }
    }
}

impl<T, C> fmt::Debug for RedisCollection<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, keyspace, indexing, codec: _, model: _ } = self;
        f.debug_struct("RedisCollection")
            .field("keyspace", keyspace)
            .field("indexing", indexing)
            .field("timeout", &client.timeout)
            .finish_non_exhaustive()
    }
}
