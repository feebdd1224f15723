//! The verbs, over the table.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use sosa::{
    Clock, Codec, Collection, Cursor, DestroyOptions, Entry, ErrorKind, Expiry, Item, Json, Keyspace, ListOptions,
    LoadOptions, Model, Operation, Page, Result, Revision, SaveOptions,
};

use crate::error::{BACKEND, full, undecodable};
use crate::index::Walk;
use crate::shard::{Parts, Shard, Slot};
use crate::table::Table;

/// A collection in memory: values as they are, without any encoding, unless the store is
/// [`encoded`](crate::MemoryStore::encoded). A clone shares the data.
pub struct MemoryCollection<T> {
    table: Arc<Table<T>>,
    keyspace: Keyspace,
    clock: Clock,
    limit: Option<usize>,
    encoded: bool,
}

impl<T: Model> MemoryCollection<T> {
    pub(crate) fn new(
        table: Arc<Table<T>>,
        keyspace: Keyspace,
        clock: Clock,
        limit: Option<usize>,
        encoded: bool,
    ) -> Self {
        Self { table, keyspace, clock, limit, encoded }
    }

    /// Returns the sub-collection at `path`, whose entries never show in this one. It may have
    /// sub-collections itself, and shares this one's limit.
    ///
    /// ```
    /// use sosa_memory::sosa::Collection;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_memory::sosa::Result<()> {
    /// let clubs = sosa_memory::new("myapp").collection::<String>("clubs");
    /// let members = clubs.within("chess");
    /// members.save("ada", &"since 1830".to_owned()).await?;
    /// assert!(clubs.load("ada").await?.is_none());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn within(&self, path: &str) -> Self {
        Self { keyspace: self.keyspace.within(path), ..self.clone() }
    }

    /// Removes at once every entry that has expired, here and in all sub-collections beside and
    /// below, and returns how many that were.
    ///
    /// There is no need to call it: every save removes a few. It gives memory back where a
    /// collection expired and is no longer saved to.
    pub fn purge(&self) -> usize {
        self.table.purge(self.clock.now_millis())
    }

    /// Returns how many entries memory is held for, here and in all sub-collections: those that
    /// live, and those that have expired and are not removed yet.
    pub fn held(&self) -> usize {
        self.table.index.len()
    }

    fn parts<'a>(&'a self, id: &'a str) -> Result<Parts<'a>> {
        let key = self.keyspace.key(id)?;
        Ok(self.table.parts(self.keyspace.path(), key.id()))
    }

    // The clock is read when a call begins, and lifetimes count from then: read under the lock, it would keep the
    // processor from looking things up meanwhile.

    /// Looks at a live entry, and touches it if asked to.
    fn visit<R>(&self, parts: &Parts<'_>, options: LoadOptions, view: impl Fn(&Slot<T>) -> R) -> Result<Option<R>> {
        options.validate()?;
        let now = self.clock.now_millis();
        {
            let shard = self.table.read(parts);
            let Some(slot) = shard.find(parts) else { return Ok(None) };
            let is_alive = slot.is_alive(now);
            if is_alive && options.touched(slot.deadline(), now).is_none_or(|deadline| slot.touch(deadline)) {
                return Ok(Some(view(slot)));
            }
            // Expired, or touched to an earlier deadline than the queue knows.
        }
        let (seen, _expired) = self.table.write(parts, now, |shard| {
            let expired = self.remove_expired(shard, parts, now);
            let deadline = shard.find(parts).and_then(|slot| options.touched(slot.deadline(), now));
            if let Some(deadline) = deadline {
                shard.set_deadline(parts, deadline);
            }
            (shard.find(parts).map(&view), expired)
        });
        Ok(seen)
    }

    fn load_now(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<T>>> {
        self.visit(&self.parts(id)?, options, |slot| to_entry(slot, options.with_expiry))
    }

    fn save_now(&self, id: &str, value: &T, options: SaveOptions) -> Result<Revision> {
        let parts = self.parts(id)?;
        let now = self.clock.now_millis();
        match self.try_save(&parts, self.copy(id, value)?, now, options) {
            // The limit counts what has expired too; only if that is gone and the value still does
            // not fit, it does not fit.
            Err(error) if error.kind() == ErrorKind::CapacityExceeded => {
                self.purge();
                self.try_save(&parts, self.copy(id, value)?, now, options)
            }
            saved => saved,
        }
    }

    /// Makes the copy of a value that is held: a clone, or what comes back from its JSON.
    fn copy(&self, id: &str, value: &T) -> Result<T> {
        if !self.encoded {
            return Ok(value.clone());
        }
        let key = self.keyspace.key(id)?;
        Json.decode(&key, &Json.encode(&key, value)?).map_err(undecodable)
    }

    fn try_save(&self, parts: &Parts<'_>, value: T, now: u64, options: SaveOptions) -> Result<Revision> {
        let (result, ..) = self.table.write(parts, now, |shard| {
            let expired = self.remove_expired(shard, parts, now);
            let current = shard.find(parts).map(|slot| (slot.revision.into(), slot.deadline()));
            let (result, replaced) = match (options.check(current, now), current) {
                (Err(error), _) => (Err(error), Some(value)),
                (Ok(deadline), Some(_)) if deadline.is_past(now) => {
                    let removed = self.remove(shard, parts).map(|slot| slot.value);
                    (Ok(shard.next_revision()), removed)
                }
                (Ok(deadline), Some(_)) => {
                    let (revision, old) = shard.replace(parts, value, deadline);
                    (Ok(revision), Some(old))
                }
                (Ok(deadline), None) if deadline.is_past(now) => (Ok(shard.next_revision()), Some(value)),
                (Ok(deadline), None) => {
                    let key = parts.to_key();
                    match self.table.index.insert(key.clone(), self.limit) {
                        Ok(()) => (Ok(shard.insert(parts, key, value, deadline)), None),
                        Err(limit) => (Err(full(limit)), Some(value)),
                    }
                }
            };
            (result, replaced, expired)
        });
        result.map(Revision::from)
    }

    fn destroy_now(&self, id: &str, options: DestroyOptions) -> Result<bool> {
        let parts = self.parts(id)?;
        let now = self.clock.now_millis();
        let (result, ..) = self.table.write(&parts, now, |shard| {
            let expired = self.remove_expired(shard, &parts, now);
            let checked = options.check(shard.find(&parts).map(|slot| slot.revision.into()));
            let removed = if checked.is_ok() { self.remove(shard, &parts) } else { None };
            (checked.map(|()| removed.is_some()), removed, expired)
        });
        result
    }

    fn list_now(&self, options: ListOptions) -> Result<Page<T>> {
        options.validate()?;
        let path = self.keyspace.path();
        let prefix = [path, &options.starts_with].concat();
        let after = options.cursor.map(|cursor| [path, cursor.as_str()].concat());
        let walk = Walk { prefix: &prefix, after: after.as_deref(), reverse: options.reverse };
        let (keys, more) = self.table.index.page(&walk, options.limit);
        let next = keys.last().filter(|_| more).map(|key| Cursor::after(&key[path.len()..]));
        let items = keys.iter().filter_map(|key| {
            let id = &key[path.len()..];
            let item = |slot: &Slot<T>| match options.ids_only {
                true => Item::id_only(id),
                false => Item::new(id, Ok(to_entry(slot, options.with_expiry))),
            };
            self.visit(&self.table.parts(path, id), LoadOptions::new(), item).transpose()
        });
        Ok(Page::new(items.collect::<Result<_>>()?, next))
    }

    /// Removes an entry that has expired. Every verb that meets one does: nobody may find it alive after it was
    /// seen expired, and a call that has waited for the lock comes with an earlier time.
    fn remove_expired(&self, shard: &mut Shard<T>, parts: &Parts<'_>, now: u64) -> Option<Slot<T>> {
        let expired = shard.find(parts).is_some_and(|slot| !slot.is_alive(now));
        if expired { self.remove(shard, parts) } else { None }
    }

    fn remove(&self, shard: &mut Shard<T>, parts: &Parts<'_>) -> Option<Slot<T>> {
        let slot = shard.remove(parts)?;
        self.table.index.remove([&slot.key]);
        Some(slot)
    }
}

fn to_entry<T: Clone>(slot: &Slot<T>, with_expiry: bool) -> Entry<T> {
    let entry = Entry::new(slot.value.clone(), slot.revision.into());
    if with_expiry { entry.with_expiry(Expiry::from(slot.deadline())) } else { entry }
}

// Nothing here waits: a verb is done when it is first polled, and dropping it before that leaves
// everything as it was.
#[async_trait]
impl<T: Model> Collection<T> for MemoryCollection<T> {
    async fn load_with(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<T>>> {
        self.load_now(id, options).map_err(|error| error.with_context(BACKEND, Operation::Load))
    }

    async fn save_with(&self, id: &str, value: &T, options: SaveOptions) -> Result<Revision> {
        self.save_now(id, value, options).map_err(|error| error.with_context(BACKEND, Operation::Save))
    }

    async fn destroy_with(&self, id: &str, options: DestroyOptions) -> Result<bool> {
        self.destroy_now(id, options).map_err(|error| error.with_context(BACKEND, Operation::Destroy))
    }

    async fn list_with(&self, options: ListOptions) -> Result<Page<T>> {
        self.list_now(options).map_err(|error| error.with_context(BACKEND, Operation::List))
    }
}

// By hand: a clone shares the data and needs no `T: Clone`.
impl<T> Clone for MemoryCollection<T> {
    fn clone(&self) -> Self {
        let Self { table, keyspace, clock, limit, encoded } = self;
        Self {
            table: table.clone(),
            keyspace: keyspace.clone(),
            clock: clock.clone(),
            limit: *limit,
            encoded: *encoded,
        }
    }
}

impl<T> fmt::Debug for MemoryCollection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table: _, keyspace, clock, limit, encoded } = self;
        f.debug_struct("MemoryCollection")
            .field("keyspace", keyspace)
            .field("clock", clock)
            .field("limit", limit)
            .field("encoded", encoded)
            .finish_non_exhaustive()
    }
}
