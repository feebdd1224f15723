//! The verbs, as commands.

use std::fmt;
use std::marker::PhantomData;
use std::slice;
use std::sync::Arc;

use async_trait::async_trait;
use redis::{Cmd, Value};
use sosa::{
    Clock, Codec, Collection, Condition, DestroyOptions, Entry, Error, Expiry, Item, Json, Key, Keyspace, ListOptions,
    LoadOptions, Model, Operation, Page, Result, Revision, SaveOptions,
};

use crate::command::{Existing, KeyArgument, Lifetime, Stretch, on_key};
use crate::error::{self, BACKEND};
use crate::reply::{self, Stored};
use crate::script::{self, revision};
use crate::server::{Call, Effect, Server};

/// The most ids that one request reads, so that no page keeps the server from others for long.
const MAX_PAGE: usize = 1000;

/// Of how many new ids one is followed by a sweep, and how many ids a sweep looks at: two for each new id.
/// A dead id waits for half a round of the sweep, on average, while one new id comes for each that
/// dies; so a quarter of the index is dead, or somewhat more where the pace changes.
const SWEEP_ONE_IN: u8 = 16;
const SWEEP_IDS: usize = 32;

/// How many ids a purge looks at in one request, so that it keeps the server from others for as short.
const PURGE_IDS: usize = 500;

/// Bytes for the options of SET and GETEX.
const ROOM: usize = 32;

/// A collection on a Redis server. A clone shares the data, and so does every collection of the same
/// prefix and name, in whichever process.
pub struct RedisCollection<T, C = Json> {
    server: Server,
    keyspace: Keyspace,
    indexed: bool,
    codec: Arc<C>,
    model: PhantomData<fn() -> T>,
}

impl<T> RedisCollection<T> {
    pub(crate) fn new(server: Server, keyspace: Keyspace, indexed: bool) -> Self {
        Self { server, keyspace, indexed, codec: Arc::new(Json), model: PhantomData }
    }
}

impl<T, C> RedisCollection<T, C> {
    /// Returns the sub-collection at `path`, whose entries never show in this one. It may have
    /// sub-collections itself.
    ///
    /// ```
    /// # fn example(store: &sosa_redis::Redis) {
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
    /// All who write to a collection must agree on this. What was saved without the index is loaded and
    /// destroyed like all else, but is not listed before it is saved with it.
    #[must_use]
    pub fn unindexed(mut self) -> Self {
        self.indexed = false;
        self
    }

    /// Stores values as another codec encodes them; [`Json`] unless this is called.
    #[must_use]
    pub fn with_codec<D: Codec<T>>(self, codec: D) -> RedisCollection<T, D> {
        let Self { server, keyspace, indexed, codec: _, model } = self;
        RedisCollection { server, keyspace, indexed, codec: Arc::new(codec), model }
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
        self.purge_now().await.map_err(|error| error.with_context(BACKEND, Operation::List))
    }

    async fn purge_now(&self) -> Result<u64> {
        let index = self.index().ok_or_else(error::not_indexed)?;
        let (mut removed, mut after) = (0, Vec::new());
        loop {
            // A call for each request: it is each of them that must end in time.
            let arguments = |command: &mut Cmd| {
                command.arg(2).arg(index).arg(self.keyspace.as_str()).arg(PURGE_IDS).arg(&after);
            };
            let swept = self.server.call().script(&script::SWEEP, arguments, Effect::None).await?;
            let [count, last] = reply::array(swept)?;
            removed += u64::try_from(reply::int(&count)?).map_err(|_| error::unexpected())?;
            match reply::bytes(last)? {
                Some(last) => after = last,
                None => return Ok(removed),
            }
        }
    }

    fn index(&self) -> Option<&str> {
        self.indexed.then(|| self.keyspace.name())
    }

    /// Appends the number of keys and the keys of a script that writes one entry.
    fn script_keys(&self, key: &Key<'_>, command: &mut Cmd) {
        command.arg(1 + usize::from(self.indexed)).arg(KeyArgument(key)).arg(self.index());
    }

    /// Reads what is stored under keys, and touches it if asked to. What is no string is an error by itself.
    async fn read_with_expiry(
        &self,
        call: &Call<'_>,
        keys: &[Key<'_>],
        touch: Option<Lifetime>,
    ) -> Result<Vec<Result<Option<Stored>>>> {
        let arguments = |command: &mut Cmd| {
            command.arg(keys.len());
            for key in keys {
                command.arg(KeyArgument(key));
            }
            if let Some(touch) = touch {
                touch.for_getex(command);
            }
        };
        let [values, expires] = reply::array(call.script(&script::LOAD, arguments, effect(touch)).await?)?;
        let (values, expires) = (reply::values(values)?, reply::values(expires)?);
        values.into_iter().zip(expires).map(|(value, expires)| reply::stored(value, &expires)).collect()
    }

    /// Reads what is stored under keys. What is no string is an error by itself.
    async fn read(&self, call: &Call<'_>, keys: &[Key<'_>]) -> Result<Vec<Result<Option<Stored>>>> {
        let mut load = redis::cmd("MGET");
        for key in keys {
            load.arg(KeyArgument(key));
        }
        let values = reply::values(call.command(&load, Effect::None).await?)?;
        if values.len() != keys.len() {
            return Err(error::unexpected());
        }
        let mut read = Vec::with_capacity(keys.len());
        for value in values {
            read.push(Ok(reply::bytes(value)?.map(|bytes| Stored { bytes, expiry: None })));
        }
        // It ended a moment ago, or is no string, which MGET does not tell apart.
        let is_missing = |read: &Result<Option<Stored>>| read.as_ref().is_ok_and(Option::is_none);
        let missing: Vec<_> =
            keys.iter().zip(&read).filter(|(_, read)| is_missing(read)).map(|(key, _)| *key).collect();
        if !missing.is_empty() {
            let again = self.read_with_expiry(call, &missing, None).await?;
            for (read, again) in read.iter_mut().filter(|read| is_missing(read)).zip(again) {
                *read = again.map(|stored| stored.map(|Stored { bytes, .. }| Stored { bytes, expiry: None }));
            }
        }
        Ok(read)
    }

    /// Removes what has expired from the next stretch of the index.
    async fn sweep(&self, call: &Call<'_>, index: &str) {
        let arguments = |command: &mut Cmd| {
            command.arg(2).arg(index).arg(self.keyspace.as_str()).arg(SWEEP_IDS);
        };
        // The save is done, whatever comes of this; the next sweep makes up for it.
        drop(call.script(&script::SWEEP, arguments, Effect::Once).await);
    }
}

impl<T: Model, C: Codec<T>> RedisCollection<T, C> {
    fn entry(&self, key: &Key<'_>, stored: &Stored, without_revision: bool) -> Result<Entry<T>> {
        let revision = if without_revision { Revision::NONE } else { revision(&stored.bytes) };
        let entry = Entry::new(self.codec.decode(key, &stored.bytes)?, revision);
        Ok(match stored.expiry {
            Some(expiry) => entry.with_expiry(expiry),
            None => entry,
        })
    }

    async fn load_now(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<T>>> {
        let loaded = async { self.load_by(&self.server.call(), &self.keyspace.key(id)?, options).await };
        loaded.await.map_err(|error| error.with_context(BACKEND, Operation::Load))
    }

    async fn load_by(&self, call: &Call<'_>, key: &Key<'_>, options: LoadOptions) -> Result<Option<Entry<T>>> {
        let touch = match options.touch {
            None => None,
            Some(touch) => {
                let now = Clock::system().now_millis();
                options.touch_deadline(now)?;
                Some(Lifetime::of(Expiry::After(touch), || now))
            }
        };
        let stored = if options.with_expiry {
            let read = Box::pin(self.read_with_expiry(call, slice::from_ref(key), touch)).await?;
            read.into_iter().next().ok_or_else(error::unexpected)??
        } else {
            let load = match touch {
                None => on_key("GET", key, 0),
                Some(touch) => {
                    let mut load = on_key("GETEX", key, ROOM);
                    touch.for_getex(&mut load);
                    load
                }
            };
            reply::bytes(call.command(&load, effect(touch)).await?)?.map(|bytes| Stored { bytes, expiry: None })
        };
        stored.map(|stored| self.entry(key, &stored, options.without_revision)).transpose()
    }

    async fn save_now(&self, id: &str, value: &T, options: SaveOptions) -> Result<Revision> {
        self.save_by(id, value, options).await.map_err(|error| error.with_context(BACKEND, Operation::Save))
    }

    async fn save_by(&self, id: &str, value: &T, options: SaveOptions) -> Result<Revision> {
        let key = self.keyspace.key(id)?;
        let encoded = self.codec.encode(&key, value)?;
        let lifetime = Lifetime::of(options.expiry, || Clock::system().now_millis());
        let call = self.server.call();
        let existing = Existing::of(options.condition, lifetime).ok_or_else(Error::conflict)?;
        let added = match options.condition {
            // Boxed, here and below, so that what is seldom makes nobody else's future large.
            Condition::Revision(read) => Box::pin(self.replace(&call, &key, &encoded, lifetime, Some(read))).await?,
            // What is not there must not come into the index either.
            _ if existing == Existing::Yes && self.indexed => {
                Box::pin(self.replace(&call, &key, &encoded, lifetime, None)).await?
            }
            _ => self.set(&call, &key, &encoded, lifetime, existing).await?,
        };
        if let Some(index) = self.index().filter(|_| added && fastrand::u8(..SWEEP_ONE_IN) == 0) {
            Box::pin(self.sweep(&call, index)).await;
        }
        Ok(if options.without_revision { Revision::NONE } else { revision(&encoded) })
    }

    /// Saves, and returns whether the id is new in the index.
    async fn set(
        &self,
        call: &Call<'_>,
        key: &Key<'_>,
        encoded: &[u8],
        lifetime: Lifetime,
        existing: Existing,
    ) -> Result<bool> {
        let mut set = on_key("SET", key, encoded.len() + ROOM);
        set.arg(encoded);
        existing.append(&mut set);
        lifetime.for_set(&mut set);
        let Some(index) = self.index() else {
            reply::set(&call.command(&set, Effect::Once).await?)?;
            return Ok(false);
        };
        let mut add = Cmd::with_capacity(4, index.len() + key.id().len() + ROOM);
        add.arg("ZADD").arg(index).arg(0).arg(key.id());
        let [set, added] = call.transaction([set, add], Effect::Once).await?;
        reply::set(&error::answer(set)?)?;
        match added {
            Value::ServerError(error) => Err(error::not_listed(&error)),
            added => Ok(reply::int(&added)? == 1),
        }
    }

    /// Saves over what is there, if it is in the state that was read, and returns whether the id is new in
    /// the index.
    async fn replace(
        &self,
        call: &Call<'_>,
        key: &Key<'_>,
        encoded: &[u8],
        lifetime: Lifetime,
        read: Option<Revision>,
    ) -> Result<bool> {
        let arguments = |command: &mut Cmd| {
            self.script_keys(key, command);
            command.arg(read.map_or_else(|| "*".to_owned(), |read| read.to_string())).arg(encoded).arg(key.id());
            lifetime.for_set(command);
        };
        Ok(reply::int_or_conflict(&call.script(&script::SAVE, arguments, Effect::Once).await?)? == 1)
    }

    async fn destroy_now(&self, id: &str, options: DestroyOptions) -> Result<bool> {
        let key = self.keyspace.key(id)?;
        let call = self.server.call();
        if !self.indexed && options.revision.is_none() {
            return Ok(reply::int(&call.command(&on_key("DEL", &key, 0), Effect::Once).await?)? == 1);
        }
        // Never a transaction: a server that is out of memory takes none, and this gives memory back.
        let arguments = |command: &mut Cmd| {
            self.script_keys(&key, command);
            command.arg(id).arg(options.revision.map(|read| read.to_string()));
        };
        Ok(reply::int_or_conflict(&call.script(&script::DESTROY, arguments, Effect::Once).await?)? == 1)
    }

    async fn list_now(&self, options: ListOptions) -> Result<Page<T>> {
        options.validate()?;
        let index = self.index().ok_or_else(error::not_indexed)?;
        let call = self.server.call();
        let limit = options.limit.min(MAX_PAGE);
        let Stretch { from, to } = Stretch::of(&options);
        let arguments = |command: &mut Cmd| {
            command.arg(2).arg(index).arg(self.keyspace.as_str()).arg(limit);
            match options.reverse {
                false => command.arg(&from).arg(&to).arg("BYLEX"),
                true => command.arg(&to).arg(&from).arg("BYLEX").arg("REV"),
            };
            command.arg("LIMIT").arg(0).arg(limit);
        };
        // That it drops ids which have expired changes nothing that anybody sees.
        let [last, ids] = reply::array(call.script(&script::PAGE, arguments, Effect::None).await?)?;
        let (next, ids) = (reply::cursor(last)?, reply::ids(ids)?);
        // Nor is this an id that somebody saved here.
        let keys = ids.iter().filter_map(|id| self.keyspace.key(id).ok()).collect::<Vec<_>>();
        if options.ids_only {
            return Ok(Page::new(keys.iter().map(|key| Item::id_only(key.id())).collect(), next));
        }
        let read = match options.with_expiry {
            _ if keys.is_empty() => Vec::new(),
            true => self.read_with_expiry(&call, &keys, None).await?,
            false => self.read(&call, &keys).await?,
        };
        let items = keys.iter().zip(read).filter_map(|(key, stored)| {
            let entry = stored
                .and_then(|stored| stored.map(|stored| self.entry(key, &stored, options.without_revision)).transpose());
            let entry = entry.map_err(|error| error.with_context(BACKEND, Operation::List));
            Some(Item::new(key.id(), entry.transpose()?))
        });
        Ok(Page::new(items.collect(), next))
    }
}

fn effect(touch: Option<Lifetime>) -> Effect {
    if touch.is_some() { Effect::Idempotent } else { Effect::None }
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
        let Self { server, keyspace, indexed, codec, model } = self;
        Self {
            server: server.clone(),
            keyspace: keyspace.clone(),
            indexed: *indexed,
            codec: codec.clone(),
            model: *model,
        }
    }
}

impl<T, C> fmt::Debug for RedisCollection<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, keyspace, indexed, codec: _, model: _ } = self;
        f.debug_struct("RedisCollection")
            .field("keyspace", keyspace)
            .field("indexed", indexed)
            .field("timeout", &server.timeout)
            .finish_non_exhaustive()
    }
}
