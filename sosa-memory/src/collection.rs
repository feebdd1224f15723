//! The verbs, over the table.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use sosa::{
    Clock, Collection, Cursor, DestroyOptions, Entry, ErrorKind, Expiry, Item, Keyspace, ListOptions, LoadOptions,
    Model, Operation, Page, Result, Revision, SaveOptions,
};

use crate::error::{BACKEND, full};
use crate::index::Walk;
use crate::shard::{Parts, Shard, Slot};
use crate::table::Table;

/// A collection in memory: values as they are, without any encoding. A clone shares the data.
pub struct MemoryCollection<T> {
    table: Arc<Table<T>>,
    keyspace: Keyspace,
    clock: Clock,
    limit: Option<usize>,
}

impl<T: Model> MemoryCollection<T> {
    pub(crate) fn new(table: Arc<Table<T>>, keyspace: Keyspace, clock: Clock, limit: Option<usize>) -> Self {
        Self { table, keyspace, clock, limit }
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

    /// Looks at a live entry, and touches it if asked to.
    fn visit<R>(&self, parts: &Parts<'_>, options: LoadOptions, view: impl Fn(&Slot<T>) -> R) -> Result<Option<R>> {
        let now = self.clock.now_millis();
        {
            let shard = self.table.read(parts);
            let touch = options.touch_deadline(now)?;
            match shard.find(parts) {
                None => return Ok(None),
                Some(slot) if slot.is_alive(now) && touch.is_none_or(|deadline| slot.touch(deadline)) => {
                    return Ok(Some(view(slot)));
                }
                // Expired, or touched to an earlier deadline than the queue knows.
                Some(_) => {}
            }
        }
        let (seen, _expired) = self.table.write(parts, now, |shard| {
            match shard.find(parts).map(|slot| slot.is_alive(now)) {
                None => (Ok(None), None),
                // Nobody may find it alive after it was seen expired, so it goes now.
                Some(false) => (Ok(None), self.remove(shard, parts)),
                Some(true) => match options.touch_deadline(now) {
                    Err(error) => (Err(error), None),
                    Ok(touch) => {
                        if let Some(deadline) = touch {
                            shard.set_deadline(parts, deadline);
                        }
                        (Ok(shard.find(parts).map(&view)), None)
                    }
                },
            }
        });
        seen
    }

    fn load_now(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<T>>> {
        self.visit(&self.parts(id)?, options, |slot| to_entry(slot, options.with_expiry))
    }

    fn save_now(&self, id: &str, value: &T, options: SaveOptions) -> Result<Revision> {
        let parts = self.parts(id)?;
        let now = self.clock.now_millis();
        match self.try_save(&parts, value.clone(), now, options) {
            // The limit counts what has expired too; only if that is gone and the value still does
            // not fit, it does not fit.
            Err(error) if error.kind() == ErrorKind::CapacityExceeded => {
                self.purge();
                self.try_save(&parts, value.clone(), now, options)
            }
            saved => saved,
        }
    }

    fn try_save(&self, parts: &Parts<'_>, value: T, now: u64, options: SaveOptions) -> Result<Revision> {
        let (result, _replaced) = self.table.write(parts, now, |shard| {
            let found = shard.find(parts);
            let current = found.filter(|slot| slot.is_alive(now)).map(|slot| (slot.revision.into(), slot.deadline()));
            let deadline = match options.check(current, now) {
                Ok(deadline) => deadline,
                Err(error) => return (Err(error), Some(value)),
            };
            if found.is_some() && deadline.is_past(now) {
                let removed = self.remove(shard, parts).map(|slot| slot.value);
                (Ok(shard.next_revision()), removed)
            } else if found.is_some() {
                let (revision, old) = shard.replace(parts, value, deadline);
                (Ok(revision), Some(old))
            } else if deadline.is_past(now) {
                (Ok(shard.next_revision()), Some(value))
            } else {
                let key = parts.to_key();
                match self.table.index.insert(key.clone(), self.limit) {
                    Ok(()) => (Ok(shard.insert(parts, key, value, deadline)), None),
                    Err(limit) => (Err(full(limit)), Some(value)),
                }
            }
        });
        result.map(Revision::from)
    }

    fn destroy_now(&self, id: &str, options: DestroyOptions) -> Result<bool> {
        let parts = self.parts(id)?;
        let now = self.clock.now_millis();
        let (result, _removed) = self.table.write(&parts, now, |shard| {
            let alive = shard.find(&parts).filter(|slot| slot.is_alive(now));
            if let Err(error) = options.check(alive.map(|slot| slot.revision.into())) {
                return (Err(error), None);
            }
            let destroyed = alive.is_some();
            (Ok(destroyed), self.remove(shard, &parts))
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
        let Self { table, keyspace, clock, limit } = self;
        Self { table: table.clone(), keyspace: keyspace.clone(), clock: clock.clone(), limit: *limit }
    }
}

impl<T> fmt::Debug for MemoryCollection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table: _, keyspace, clock, limit } = self;
        f.debug_struct("MemoryCollection")
            .field("keyspace", keyspace)
            .field("clock", clock)
            .field("limit", limit)
            .finish_non_exhaustive()
    }
}
