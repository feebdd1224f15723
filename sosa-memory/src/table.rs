//! The table of one collection and all its sub-collections: shards for the entries, one index for
//! their order.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;

use crate::index::Index;
use crate::shard::{Parts, Shard, Slot};

/// Locks are taken in one order: a shard, then the index, and never two shards. An id enters or
/// leaves the index under the lock of its shard, so that the two never part.
pub(crate) struct Table<T> {
    shards: Box<[Padded<T>]>,
    /// When each shard's queue has to be looked at next, readable without its lock.
    due: Box<[AtomicU64]>,
    pub(crate) index: Index,
    hasher: RandomState,
}

/// Kept apart, so that two cores on neighbouring shards do not share a cache line.
#[repr(align(128))]
struct Padded<T>(RwLock<Shard<T>>);

/// How many queued deadlines a save looks at, in its own shard and in one other. A save queues at
/// most one, so what has expired shrinks with every save, whichever shards the saves fall on.
const SWEEP: usize = 4;

/// How many a purge removes before it lets others at the shard.
const PURGE: usize = 1024;

impl<T> Table<T> {
    pub(crate) fn new() -> Self {
        let cores = thread::available_parallelism().map_or(4, usize::from);
        let shards = (8 * cores).next_power_of_two().clamp(16, 256);
        Self {
            shards: (0..shards).map(|_| Padded(RwLock::new(Shard::new()))).collect(),
            due: (0..shards).map(|_| AtomicU64::new(u64::MAX)).collect(),
            index: Index::default(),
            hasher: RandomState::new(),
        }
    }

    pub(crate) fn parts<'a>(&self, path: &'a str, id: &'a str) -> Parts<'a> {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(path.as_bytes());
        hasher.write(id.as_bytes());
        Parts { path, id, hash: hasher.finish() }
    }

    pub(crate) fn read(&self, parts: &Parts<'_>) -> RwLockReadGuard<'_, Shard<T>> {
        // A clone that panicked under the lock changed nothing.
        self.shards[self.place(parts)].0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the shard of a key, and removes a few entries that have expired, here and in one
    /// other shard.
    ///
    /// Values that `change` takes out it must return, so that they are dropped behind the lock: their `Drop`
    /// is not ours.
    pub(crate) fn write<R>(&self, parts: &Parts<'_>, now: u64, change: impl FnOnce(&mut Shard<T>) -> R) -> R {
        let place = self.place(parts);
        let mut shard = self.lock(place);
        let result = change(&mut shard);
        let elsewhere = shard.revision() as usize % self.shards.len();
        let removed = self.sweep(place, &mut shard, now, SWEEP);
        drop(shard);
        drop(removed);
        if elsewhere != place {
            self.sweep_if_due(elsewhere, now);
        }
        result
    }

    /// Removes all that has expired, and returns how many entries that were.
    pub(crate) fn purge(&self, now: u64) -> usize {
        let mut purged = 0;
        for place in 0..self.shards.len() {
            while self.due[place].load(Ordering::Relaxed) <= now {
                let removed = self.sweep(place, &mut self.lock(place), now, PURGE);
                purged += removed.len();
            }
        }
        purged
    }

    fn sweep_if_due(&self, place: usize, now: u64) {
        if self.due[place].load(Ordering::Relaxed) > now {
            return;
        }
        // Who is busy there sweeps it anyway.
        if let Ok(mut shard) = self.shards[place].0.try_write() {
            let removed = self.sweep(place, &mut shard, now, SWEEP);
            drop(shard);
            drop(removed);
        }
    }

    /// Removes up to `most` expired entries of a shard whose lock the caller holds, and notes when
    /// it is due again.
    fn sweep(&self, place: usize, shard: &mut Shard<T>, now: u64, most: usize) -> Vec<Slot<T>> {
        let removed = shard.remove_expired(now, most);
        if !removed.is_empty() {
            self.index.remove(removed.iter().map(|slot| &slot.key));
        }
        let due = shard.next_due();
        // Written only when it moves: all cores read this line.
        if self.due[place].load(Ordering::Relaxed) != due {
            self.due[place].store(due, Ordering::Relaxed);
        }
        removed
    }

    fn lock(&self, place: usize) -> RwLockWriteGuard<'_, Shard<T>> {
        self.shards[place].0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The upper bits choose the shard; the table within it uses the lower and the topmost ones.
    fn place(&self, parts: &Parts<'_>) -> usize {
        (parts.hash >> 40) as usize % self.shards.len()
    }
}
