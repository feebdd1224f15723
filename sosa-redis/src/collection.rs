//! The verbs, as commands.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;
use redis::{Cmd, Value};
use sosa::{
    Clock, Codec, Collection, Condition, Cursor, Deadline, DestroyOptions, Entry, Error, Expiry, Item, Json, Key,
    Keyspace, ListOptions, LoadOptions, Model, Operation, Page, Result, Revision, SaveOptions,
};

use crate::command::{Existing, KeyArgument, Lifetime, Stretch, on_key};
use crate::error::{self, BACKEND};
use crate::script::{self, revision};
use crate::server::{Call, Effect, Server};

/// The most ids that one request reads, so that no page keeps the server from others for long.
const MAX_PAGE: usize = 1000;

/// Of how many new ids one is followed by a sweep, and how many ids a sweep looks at: two for each new id.
/// A dead id waits for half a round of the sweep, on average, while one new id comes for each that
/// dies; so about a quarter of the index is dead, and it is 4/3 of what lives.
const SWEEP_ONE_IN: u8 = 16;
const SWEEP_IDS: usize = 32;

/// How many ids a purge looks at in one request, which takes the server about a millisecond.
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
    /// looks at some 400,000 ids a second in many short requests; dropped or failed, it may just be
    /// called again. Sub-collections have indexes of their own.
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
            let (count, last) = pair(swept)?;
            removed += u64::try_from(int(&count)?).map_err(|_| error::unexpected())?;
            match last {
                Value::BulkString(last) => after = last,
                _ => return Ok(removed),
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
    fn entry(&self, key: &Key<'_>, stored: &[u8], without_revision: bool) -> Result<Entry<T>> {
        let revision = if without_revision { Revision::NONE } else { revision(stored) };
        Ok(Entry::new(self.codec.decode(key, stored)?, revision))
    }

    async fn load_now(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<T>>> {
        let loaded = async { self.load_by(&self.server.call(), &self.keyspace.key(id)?, options).await };
        loaded.await.map_err(|error| error.with_context(BACKEND, Operation::Load))
    }

    async fn load_by(&self, call: &Call<'_>, key: &Key<'_>, options: LoadOptions) -> Result<Option<Entry<T>>> {
        let (load, effect) = match options.touch {
            None => (on_key("GET", key, 0), Effect::None),
            Some(touch) => {
                let now = Clock::system().now_millis();
                options.touch_deadline(now)?;
                let mut load = on_key("GETEX", key, ROOM);
                Lifetime::of(Expiry::After(touch), now).for_getex(&mut load);
                (load, Effect::Idempotent)
            }
        };
        if !options.with_expiry {
            let stored = call.command(&load, effect).await?;
            return bytes(stored)?.map(|stored| self.entry(key, &stored, options.without_revision)).transpose();
        }
        let mut commands = redis::pipe();
        commands.atomic().add_command(load).cmd("PEXPIRETIME").arg(KeyArgument(key));
        let answers = Box::pin(call.transaction(&commands, effect)).await?;
        let [stored, expires] = <[Value; 2]>::try_from(answers).map_err(|_| error::unexpected())?;
        match (bytes(error::answer(stored)?)?, expiry(&expires)?) {
            (Some(stored), Some(expiry)) => {
                Ok(Some(self.entry(key, &stored, options.without_revision)?.with_expiry(expiry)))
            }
            // It expired between the two.
            _ => Ok(None),
        }
    }

    async fn save_now(&self, id: &str, value: &T, options: SaveOptions) -> Result<Revision> {
        self.save_by(id, value, options).await.map_err(|error| error.with_context(BACKEND, Operation::Save))
    }

    async fn save_by(&self, id: &str, value: &T, options: SaveOptions) -> Result<Revision> {
        let key = self.keyspace.key(id)?;
        let encoded = self.codec.encode(&key, value)?;
        let lifetime = Lifetime::of(options.expiry, Clock::system().now_millis());
        let call = self.server.call();
        let added = match options.condition {
            // Boxed, here and below, so that what is seldom makes nobody else's future large.
            Condition::Revision(read) => Box::pin(self.save_over(&call, &key, &encoded, lifetime, read)).await?,
            condition => {
                let existing = Existing::of(condition, lifetime).ok_or_else(Error::conflict)?;
                self.set(&call, &key, &encoded, lifetime, existing).await?
            }
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
            is_set(&call.command(&set, Effect::Once).await?)?;
            return Ok(false);
        };
        let mut add = redis::cmd("ZADD");
        add.arg(index);
        // What must be there is in the index already; if it is not there, its id must not come in.
        if existing == Existing::Yes {
            existing.append(&mut add);
        }
        add.arg(0).arg(key.id());
        let mut commands = redis::pipe();
        commands.atomic().add_command(set).add_command(add);
        let answers = call.transaction(&commands, Effect::Once).await?;
        let [set, added] = <[Value; 2]>::try_from(answers).map_err(|_| error::unexpected())?;
        is_set(&error::answer(set)?)?;
        match added {
            Value::ServerError(error) => Err(error::half_applied(&error)),
            added => Ok(int(&added)? == 1),
        }
    }

    /// Saves over the state that was read, and returns whether the id is new in the index.
    async fn save_over(
        &self,
        call: &Call<'_>,
        key: &Key<'_>,
        encoded: &[u8],
        lifetime: Lifetime,
        read: Revision,
    ) -> Result<bool> {
        let arguments = |command: &mut Cmd| {
            self.script_keys(key, command);
            command.arg(read.to_string()).arg(encoded).arg(key.id());
            lifetime.for_set(command);
        };
        match call.script(&script::SAVE, arguments, Effect::Once).await? {
            Value::Nil => Err(Error::conflict()),
            added => Ok(int(&added)? == 1),
        }
    }

    async fn destroy_now(&self, id: &str, options: DestroyOptions) -> Result<bool> {
        let key = self.keyspace.key(id)?;
        let call = self.server.call();
        if let Some(read) = options.revision {
            let arguments = |command: &mut Cmd| {
                self.script_keys(&key, command);
                command.arg(read.to_string()).arg(id);
            };
            return match call.script(&script::DESTROY, arguments, Effect::Once).await? {
                Value::Nil => Err(Error::conflict()),
                destroyed => Ok(int(&destroyed)? == 1),
            };
        }
        let destroy = on_key("DEL", &key, 0);
        let Some(index) = self.index() else {
            return Ok(int(&call.command(&destroy, Effect::Once).await?)? == 1);
        };
        let mut commands = redis::pipe();
        commands.atomic().add_command(destroy).cmd("ZREM").arg(index).arg(id);
        let answers = call.transaction(&commands, Effect::Once).await?;
        let [destroyed, removed] = <[Value; 2]>::try_from(answers).map_err(|_| error::unexpected())?;
        match removed {
            Value::ServerError(error) => Err(error::half_applied(&error)),
            _ => Ok(int(&error::answer(destroyed)?)? == 1),
        }
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
        let (last, ids) = pair(call.script(&script::PAGE, arguments, Effect::None).await?)?;
        let next = text(last).map(Cursor::after);
        let Value::Array(ids) = ids else { return Err(error::unexpected()) };
        // No id that was saved here is other than text.
        let ids: Vec<String> = ids.into_iter().filter_map(text).collect();
        let items = match options.ids_only {
            true => ids.into_iter().map(Item::id_only).collect(),
            false if ids.is_empty() => Vec::new(),
            false => self.load_all(&call, ids, &options).await?,
        };
        Ok(Page::new(items, next))
    }

    /// Loads what a page lists.
    async fn load_all(&self, call: &Call<'_>, ids: Vec<String>, options: &ListOptions) -> Result<Vec<Item<T>>> {
        let keys = ids.iter().map(|id| self.keyspace.key(id)).collect::<Result<Vec<_>>>()?;
        let mut load = redis::cmd("MGET");
        for key in &keys {
            load.arg(KeyArgument(key));
        }
        let (stored, expires) = if options.with_expiry {
            let mut commands = redis::pipe();
            commands.atomic().add_command(load);
            for key in &keys {
                commands.cmd("PEXPIRETIME").arg(KeyArgument(key));
            }
            let mut answers = call.transaction(&commands, Effect::None).await?.into_iter();
            (error::answer(answers.next().unwrap_or_default())?, answers.collect())
        } else {
            (call.command(&load, Effect::None).await?, Vec::new())
        };
        let Value::Array(stored) = stored else { return Err(error::unexpected()) };
        if stored.len() != keys.len() {
            return Err(error::unexpected());
        }
        let mut load_options = LoadOptions::new();
        (load_options.with_expiry, load_options.without_revision) = (options.with_expiry, options.without_revision);
        let mut items = Vec::with_capacity(keys.len());
        for (n, (key, stored)) in keys.iter().zip(stored).enumerate() {
            let expiry = expires.get(n).map_or(Ok(Some(Expiry::Never)), expiry)?;
            let entry = match bytes(stored)? {
                Some(stored) => self.entry(key, &stored, options.without_revision).map(|entry| match expiry {
                    Some(expiry) if options.with_expiry => Some(entry.with_expiry(expiry)),
                    None => None,
                    Some(_) => Some(entry),
                }),
                // It ended a moment ago, or is no string: rare enough to be asked for by itself.
                None => match self.load_by(call, key, load_options).await {
                    Err(error) if error.kind() != sosa::ErrorKind::Decode => return Err(error),
                    loaded => loaded,
                },
            };
            let entry = entry.map_err(|error| error.with_context(BACKEND, Operation::List));
            items.extend(entry.transpose().map(|entry| Item::new(key.id(), entry)));
        }
        Ok(items)
    }
}

/// Returns whether SET did it, or that its condition was not met.
fn is_set(answer: &Value) -> Result<()> {
    match answer {
        Value::Okay => Ok(()),
        Value::Nil => Err(Error::conflict()),
        _ => Err(error::unexpected()),
    }
}

fn int(answer: &Value) -> Result<i64> {
    match answer {
        Value::Int(int) => Ok(*int),
        _ => Err(error::unexpected()),
    }
}

fn bytes(answer: Value) -> Result<Option<Vec<u8>>> {
    match answer {
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::Nil => Ok(None),
        _ => Err(error::unexpected()),
    }
}

fn text(answer: Value) -> Option<String> {
    match answer {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        _ => None,
    }
}

fn pair(answer: Value) -> Result<(Value, Value)> {
    match answer {
        Value::Array(both) => match <[Value; 2]>::try_from(both) {
            Ok([first, second]) => Ok((first, second)),
            Err(_) => Err(error::unexpected()),
        },
        _ => Err(error::unexpected()),
    }
}

/// Reads the answer of PEXPIRETIME; `None` if nothing is there.
fn expiry(answer: &Value) -> Result<Option<Expiry>> {
    match int(answer)? {
        -2 => Ok(None),
        -1 => Ok(Some(Expiry::Never)),
        millis => match u64::try_from(millis) {
            Ok(millis) => Ok(Some(Deadline::from_millis(millis).into())),
            Err(_) => Err(error::unexpected()),
        },
    }
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
