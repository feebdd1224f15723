//! The verbs, as commands.

use std::fmt;
use std::marker::PhantomData;
use std::slice;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use redis::{Cmd, Value};
use sosa::{
    Clock, Codec, Collection, Condition, DestroyOptions, Entry, Error, Expiry, Item, Json, Keyspace, ListOptions,
    LoadOptions, Model, Operation, Outcome, Page, Result, Revision, SaveOptions,
};

use crate::command::{Existing, Lifetime, Stretch, on_entry};
use crate::error::{self, BACKEND};
use crate::reply::{self, Stored};
use crate::script::{self, revision};
use crate::server::{Call, Effect, Server};
use crate::shard::{self, Part, Place, Shard};

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

/// What a save writes.
struct Write<'a> {
    place: Place<'a>,
    encoded: &'a [u8],
    lifetime: Lifetime,
    existing: Existing,
    /// The revision that must be there, if one must.
    read: Option<Revision>,
}

impl<T> RedisCollection<T> {
    pub(crate) fn new(server: Server, keyspace: Keyspace, indexing: Indexing) -> Self {
        Self { server, keyspace, indexing, codec: Arc::new(Json), model: PhantomData }
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
    /// All who write to a collection must agree on this. On one server, what was saved without the index is
    /// loaded and destroyed like all else, but is not listed before it is saved with it. On a cluster, and where
    /// the store is [`sharded`](crate::RedisStore::sharded), the keys are others, `myapp:people:ada` and no longer
    /// `myapp:people:{44--}:ada`: who keeps an index does not find what was saved without.
    #[must_use]
    pub fn unindexed(mut self) -> Self {
        self.indexing = Indexing::None;
        self
    }

    /// Stores values as another codec encodes them; [`Json`] unless this is called.
    #[must_use]
    pub fn with_codec<D: Codec<T>>(self, codec: D) -> RedisCollection<T, D> {
        let Self { server, keyspace, indexing, codec: _, model } = self;
        RedisCollection { server, keyspace, indexing, codec: Arc::new(codec), model }
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
                let arguments = |command: &mut Cmd| {
                    command.arg(2).arg(shard.index()).arg(shard.values()).arg(PURGE_IDS).arg(&after);
                };
                let swept = self.server.call().script(&script::SWEEP, arguments, Effect::None).await?;
                let [count, last] = reply::array(swept)?;
                removed += u64::try_from(reply::int(&count)?).map_err(|_| error::unexpected())?;
                match reply::bytes(last)? {
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

    /// Returns where the entry of an id is.
    fn place<'a>(&'a self, id: &'a str) -> Result<Place<'a>> {
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

    /// Reads what is stored in places of one shard, and touches it if asked to. What is no string is an error
    /// by itself.
    async fn read_with_expiry(
        &self,
        call: &Call<'_>,
        places: &[Place<'_>],
        touch: Option<Lifetime>,
    ) -> Result<Vec<Result<Option<Stored>>>> {
        let arguments = |command: &mut Cmd| {
            command.arg(places.len()).arg(places);
            if let Some(touch) = touch {
                touch.for_getex(command);
            }
        };
        let read = match call.script(&script::LOAD, arguments, effect(touch)).await {
            Err(error) if places.len() > 1 && error::is_moving(&error) => {
                let each = places.chunks(1).map(|place| Box::pin(self.read_with_expiry(call, place, touch)));
                return Ok(try_join_all(each).await?.into_iter().flatten().collect());
            }
            read => read?,
        };
        let [values, expires] = reply::array(read)?;
        let (values, expires) = (reply::values(values)?, reply::values(expires)?);
        if values.len() != places.len() || expires.len() != places.len() {
            return Err(error::unexpected());
        }
        values.into_iter().zip(expires).map(|(value, expires)| reply::stored(value, &expires)).collect()
    }

    /// Reads what is stored in places of one shard. What is no string is an error by itself.
    async fn read(&self, call: &Call<'_>, places: &[Place<'_>]) -> Result<Vec<Result<Option<Stored>>>> {
        let mut load = redis::cmd("MGET");
        load.arg(places);
        let values = match call.command(&load, Effect::None).await {
            Err(error) if places.len() > 1 && error::is_moving(&error) => {
                let each = places.chunks(1).map(|place| Box::pin(self.read(call, place)));
                return Ok(try_join_all(each).await?.into_iter().flatten().collect());
            }
            values => reply::values(values?)?,
        };
        if values.len() != places.len() {
            return Err(error::unexpected());
        }
        let mut read = Vec::with_capacity(places.len());
        for value in values {
            read.push(Ok(reply::bytes(value)?.map(|bytes| Stored { bytes, expiry: None })));
        }
        // It ended a moment ago, or is no string, which MGET does not tell apart.
        let is_missing = |read: &Result<Option<Stored>>| read.as_ref().is_ok_and(Option::is_none);
        let missing: Vec<_> =
            places.iter().zip(&read).filter(|(_, read)| is_missing(read)).map(|(place, _)| *place).collect();
        if !missing.is_empty() {
            let again = self.read_with_expiry(call, &missing, None).await?;
            for (read, again) in read.iter_mut().filter(|read| is_missing(read)).zip(again) {
                *read = again.map(|stored| stored.map(|Stored { bytes, .. }| Stored { bytes, expiry: None }));
            }
        }
        Ok(read)
    }

    /// Removes what has expired from the next stretch of an index.
    async fn sweep(&self, call: &Call<'_>, shard: Shard<'_>) {
        let arguments = |command: &mut Cmd| {
            command.arg(2).arg(shard.index()).arg(shard.values()).arg(SWEEP_IDS);
        };
        // The save is done, whatever comes of this; the next sweep makes up for it.
        drop(call.script(&script::SWEEP, arguments, Effect::Once).await);
    }

    /// Saves, and returns whether the id is new in the index.
    async fn write(&self, call: &Call<'_>, write: &Write<'_>, indexed: bool) -> Result<bool> {
        match write.read {
            // Boxed, here and below, so that what is seldom makes nobody else's future large.
            Some(_) => Box::pin(self.replace(call, write, indexed)).await,
            // What is not there must not come into the index either.
            None if indexed && write.existing == Existing::Yes => Box::pin(self.replace(call, write, indexed)).await,
            None => self.set(call, write, indexed).await,
        }
    }

    /// Saves whatever is there, or on a condition that SET knows.
    async fn set(&self, call: &Call<'_>, write: &Write<'_>, indexed: bool) -> Result<bool> {
        let mut set = on_entry("SET", &write.place, write.encoded.len() + ROOM);
        set.arg(write.encoded);
        write.existing.append(&mut set);
        write.lifetime.for_set(&mut set);
        if !indexed {
            reply::set(&call.command(&set, Effect::Once).await?)?;
            return Ok(false);
        }
        let [set, added] = call.transaction([set, enlist(&write.place)], Effect::Once).await?;
        reply::set(&error::answer(set)?)?;
        match added {
            Value::ServerError(error) => Err(error::not_listed(&error)),
            added => Ok(reply::int(&added)? == 1),
        }
    }

    /// Saves over what is there, if it is in the state that was read.
    async fn replace(&self, call: &Call<'_>, write: &Write<'_>, indexed: bool) -> Result<bool> {
        let arguments = |command: &mut Cmd| {
            script_keys(&write.place, indexed, command);
            let read = write.read.map_or_else(|| "*".to_owned(), |read| read.to_string());
            command.arg(read).arg(write.encoded).arg(write.place.id());
            write.lifetime.for_set(command);
        };
        Ok(reply::int_or_conflict(&call.script(&script::SAVE, arguments, Effect::Once).await?)? == 1)
    }

    /// Saves while the value may be on one node and the index on another, since their slot is moving: one after
    /// the other. The id goes first, so that no value is there without it, and again behind, since a
    /// listing may have taken it out until then.
    async fn write_apart(&self, call: &Call<'_>, write: &Write<'_>) -> Result<bool> {
        let enlist = enlist(&write.place);
        // An id without a value is nothing that anybody sees.
        call.command(&enlist, Effect::None).await?;
        self.write(call, write, false).await?;
        call.command(&enlist, Effect::Idempotent).await.map_err(|error| error.with_outcome(Outcome::Unknown))?;
        Ok(false)
    }

    async fn destroy_in(
        &self,
        call: &Call<'_>,
        place: &Place<'_>,
        options: DestroyOptions,
        indexed: bool,
    ) -> Result<bool> {
        if !indexed && options.revision.is_none() {
            return Ok(reply::int(&call.command(&on_entry("DEL", place, 0), Effect::Once).await?)? == 1);
        }
        // Never a transaction: a server that is out of memory takes none, and this gives memory back.
        let arguments = |command: &mut Cmd| {
            script_keys(place, indexed, command);
            command.arg(place.id()).arg(options.revision.map(|read| read.to_string()));
        };
        Ok(reply::int_or_conflict(&call.script(&script::DESTROY, arguments, Effect::Once).await?)? == 1)
    }

    /// Reads a stretch of the index of a shard, without those whose value is gone.
    async fn part<'a>(
        &self,
        call: &Call<'_>,
        shard: Shard<'a>,
        stretch: &Stretch,
        limit: usize,
        options: &ListOptions,
    ) -> Result<Part<'a>> {
        let range = |command: &mut Cmd| {
            match options.reverse {
                false => command.arg(&stretch.from).arg(&stretch.to).arg("BYLEX"),
                true => command.arg(&stretch.to).arg(&stretch.from).arg("BYLEX").arg("REV"),
            };
            command.arg("LIMIT").arg(0).arg(limit);
        };
        let arguments = |command: &mut Cmd| {
            command.arg(2).arg(shard.index()).arg(shard.values()).arg(limit);
            range(command);
        };
        // That it drops ids which have expired changes nothing that anybody sees.
        match call.script(&script::PAGE, arguments, Effect::None).await {
            Err(error) if error::is_moving(&error) => {
                let mut read = redis::cmd("ZRANGE");
                read.arg(shard.index());
                range(&mut read);
                let ids = reply::values(call.command(&read, Effect::None).await?)?;
                Box::pin(self.part_apart(call, shard, ids, limit, options)).await
            }
            answer => {
                let [last, ids] = reply::array(answer?)?;
                Ok(Part { shard, ids: reply::ids(ids)?, last: reply::last(last)? })
            }
        }
    }

    /// Makes a part of what an index holds, while its values may be on another node.
    async fn part_apart<'a>(
        &self,
        call: &Call<'_>,
        shard: Shard<'a>,
        ids: Vec<Value>,
        limit: usize,
        options: &ListOptions,
    ) -> Result<Part<'a>> {
        let last = ids.last().filter(|_| ids.len() == limit).cloned().unwrap_or(Value::Nil);
        let mut part = Part { shard, ids: reply::ids(Value::Array(ids))?, last: reply::last(last)? };
        // Otherwise the values tell.
        if options.ids_only {
            let lives = part.ids.iter().map(|id| async move {
                let exists = on_entry("EXISTS", &shard.entry(id)?, 0);
                reply::int(&call.command(&exists, Effect::None).await?)
            });
            let mut lives = try_join_all(lives).await?.into_iter();
            part.ids.retain(|_| lives.next() == Some(1));
        }
        Ok(part)
    }
}

/// Returns the command that puts an id into its index.
fn enlist(place: &Place<'_>) -> Cmd {
    let mut add = Cmd::with_capacity(4, place.len() + ROOM);
    add.arg("ZADD").arg(place.shard().index()).arg(0).arg(place.id());
    add
}

/// Appends the number of keys and the keys of a script that writes one entry.
fn script_keys(place: &Place<'_>, indexed: bool, command: &mut Cmd) {
    command.arg(1 + usize::from(indexed)).arg(place).arg(indexed.then(|| place.shard().index()));
}

impl<T: Model, C: Codec<T>> RedisCollection<T, C> {
    fn entry(&self, place: &Place<'_>, stored: &Stored, without_revision: bool) -> Result<Entry<T>> {
        let revision = if without_revision { Revision::NONE } else { revision(&stored.bytes) };
        let entry = Entry::new(self.codec.decode(place.key(), &stored.bytes)?, revision);
        Ok(match stored.expiry {
            Some(expiry) => entry.with_expiry(expiry),
            None => entry,
        })
    }

    async fn load_now(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<T>>> {
        let loaded = async { self.load_by(&self.server.call(), &self.place(id)?, options).await };
        loaded.await.map_err(|error| error.with_context(BACKEND, Operation::Load))
    }

    async fn load_by(&self, call: &Call<'_>, place: &Place<'_>, options: LoadOptions) -> Result<Option<Entry<T>>> {
        let touch = match options.touch {
            None => None,
            Some(touch) => {
                let now = Clock::system().now_millis();
                options.touch_deadline(now)?;
                Some(Lifetime::of(Expiry::After(touch), || now))
            }
        };
        let stored = if options.with_expiry {
            let read = Box::pin(self.read_with_expiry(call, slice::from_ref(place), touch)).await?;
            read.into_iter().next().ok_or_else(error::unexpected)??
        } else {
            let load = match touch {
                None => on_entry("GET", place, 0),
                Some(touch) => {
                    let mut load = on_entry("GETEX", place, ROOM);
                    touch.for_getex(&mut load);
                    load
                }
            };
            reply::bytes(call.command(&load, effect(touch)).await?)?.map(|bytes| Stored { bytes, expiry: None })
        };
        stored.map(|stored| self.entry(place, &stored, options.without_revision)).transpose()
    }

    async fn save_now(&self, id: &str, value: &T, options: SaveOptions) -> Result<Revision> {
        self.save_by(id, value, options).await.map_err(|error| error.with_context(BACKEND, Operation::Save))
    }

    async fn save_by(&self, id: &str, value: &T, options: SaveOptions) -> Result<Revision> {
        let place = self.place(id)?;
        let encoded = self.codec.encode(place.key(), value)?;
        let lifetime = Lifetime::of(options.expiry, || Clock::system().now_millis());
        let call = self.server.call();
        let existing = Existing::of(options.condition, lifetime).ok_or_else(Error::conflict)?;
        let read = match options.condition {
            Condition::Revision(read) => Some(read),
            _ => None,
        };
        let write = Write { place, encoded: &encoded, lifetime, existing, read };
        let added = match self.write(&call, &write, self.is_indexed()).await {
            Err(error) if self.is_indexed() && error::is_moving(&error) => {
                Box::pin(self.write_apart(&call, &write)).await?
            }
            written => written?,
        };
        if added && fastrand::u8(..SWEEP_ONE_IN) == 0 {
            Box::pin(self.sweep(&call, place.shard())).await;
        }
        Ok(if options.without_revision { Revision::NONE } else { revision(&encoded) })
    }

    async fn destroy_now(&self, id: &str, options: DestroyOptions) -> Result<bool> {
        let place = self.place(id)?;
        let call = self.server.call();
        match self.destroy_in(&call, &place, options, self.is_indexed()).await {
            // Its id stays in the index for now, like those of what has expired.
            Err(error) if error::is_moving(&error) => self.destroy_in(&call, &place, options, false).await,
            destroyed => destroyed,
        }
    }

    async fn list_now(&self, options: ListOptions) -> Result<Page<T>> {
        options.validate()?;
        let shards = self.shards()?;
        let call = self.server.call();
        let limit = options.limit.min(MAX_PAGE);
        let (stretch, share) = (Stretch::of(&options), shard::share(limit, shards.len()));
        let parts = shards.iter().map(|shard| self.part(&call, *shard, &stretch, share, &options));
        let (ids, next) = shard::merge(try_join_all(parts).await?, limit, options.reverse);
        // What is none is no id that somebody saved here.
        let places: Vec<_> = ids.iter().filter_map(|(shard, id)| shard.entry(id).ok()).collect();
        if options.ids_only {
            return Ok(Page::new(places.iter().map(|place| Item::id_only(place.id())).collect(), next));
        }
        let items = places.iter().zip(self.read_all(&call, &places, options.with_expiry).await?);
        let items = items.filter_map(|(place, stored)| {
            let entry = stored.and_then(|stored| {
                stored.map(|stored| self.entry(place, &stored, options.without_revision)).transpose()
            });
            let entry = entry.map_err(|error| error.with_context(BACKEND, Operation::List));
            Some(Item::new(place.id(), entry.transpose()?))
        });
        Ok(Page::new(items.collect(), next))
    }

    /// Reads what is stored in places of any shards, in their order.
    async fn read_all(
        &self,
        call: &Call<'_>,
        places: &[Place<'_>],
        with_expiry: bool,
    ) -> Result<Vec<Result<Option<Stored>>>> {
        let mut by_shard: Vec<_> = places.iter().copied().enumerate().collect();
        by_shard.sort_by_key(|(_, place)| place.shard().number());
        let (positions, by_shard): (Vec<_>, Vec<_>) = by_shard.into_iter().unzip();
        let shards = by_shard.chunk_by(|a, b| a.shard().number() == b.shard().number());
        let read = shards.map(|places| async move {
            match with_expiry {
                true => self.read_with_expiry(call, places, None).await,
                false => self.read(call, places).await,
            }
        });
        let read = try_join_all(read).await?.into_iter().flatten();
        let mut in_order: Vec<_> = positions.into_iter().zip(read).collect();
        in_order.sort_by_key(|(position, _)| *position);
        Ok(in_order.into_iter().map(|(_, stored)| stored).collect())
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
        let Self { server, keyspace, indexing, codec, model } = self;
        Self {
            server: server.clone(),
            keyspace: keyspace.clone(),
            indexing: *indexing,
            codec: codec.clone(),
            model: *model,
        }
    }
}

impl<T, C> fmt::Debug for RedisCollection<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, keyspace, indexing, codec: _, model: _ } = self;
        f.debug_struct("RedisCollection")
            .field("keyspace", keyspace)
            .field("indexing", indexing)
            .field("timeout", &server.timeout)
            .finish_non_exhaustive()
    }
}
