//! One shard of a table: its entries by hash, and a queue of those that will expire.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashTable;
use sosa::Deadline;

/// An entry, in one place: found by one hash, with all that is known of it beside the value.
pub(crate) struct Slot<T> {
    hash: u64,
    pub(crate) key: Arc<str>,
    pub(crate) value: T,
    pub(crate) revision: u64,
    /// Atomic, so that a touch needs no exclusive lock: milliseconds, `u64::MAX` for never.
    deadline: AtomicU64,
    /// The deadline under which the queue will look at this slot next: never later than `deadline`.
    queued: u64,
}

impl<T> Slot<T> {
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::from_millis(self.deadline.load(Ordering::Relaxed))
    }

    pub(crate) fn is_alive(&self, now: u64) -> bool {
        !self.deadline().is_past(now)
    }

    /// Moves the deadline, unless the queue would have to know: returns whether it did.
    pub(crate) fn touch(&self, deadline: Deadline) -> bool {
        let millis = millis(deadline);
        let in_time = millis >= self.queued;
        if in_time {
            self.deadline.store(millis, Ordering::Relaxed);
        }
        in_time
    }
}

/// A key in its parts, as the callers have it: it is never put together for a lookup.
pub(crate) struct Parts<'a> {
    pub(crate) path: &'a str,
    pub(crate) id: &'a str,
    pub(crate) hash: u64,
}

impl Parts<'_> {
    /// Puts the key together, for the entry that will be created.
    pub(crate) fn to_key(&self) -> Arc<str> {
        [self.path, self.id].concat().into()
    }

    fn matches(&self, key: &str) -> bool {
        key.strip_prefix(self.path) == Some(self.id)
    }
}

/// Entries and their deadlines. All of it under one lock, which the table holds.
pub(crate) struct Shard<T> {
    slots: HashTable<Slot<T>>,
    /// What expires, earliest first. An item may be early or stale: a later deadline is noticed
    /// when the item comes up, so that a touch, the most frequent change, costs nothing here.
    queue: BinaryHeap<Reverse<Due>>,
    /// The last revision that was given out: never again the same, also for a key that was removed.
    revision: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    deadline: u64,
    hash: u64,
    key: Arc<str>,
}

/// Room that a shard keeps when it is empty, and below which nothing is rebuilt.
const SPARE: usize = 16;

impl<T> Shard<T> {
    pub(crate) fn new() -> Self {
        Self { slots: HashTable::new(), queue: BinaryHeap::new(), revision: 0 }
    }

    pub(crate) fn find(&self, parts: &Parts<'_>) -> Option<&Slot<T>> {
        self.slots.find(parts.hash, |slot| parts.matches(&slot.key))
    }

    /// Returns the last revision that was given out.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Counts up: the revision of the next write.
    pub(crate) fn next_revision(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    /// Puts another value and deadline into a slot that is there, and returns the new revision and
    /// the old value.
    pub(crate) fn replace(&mut self, parts: &Parts<'_>, value: T, deadline: Deadline) -> (u64, T) {
        let revision = self.next_revision();
        let slot = self.find_mut(parts);
        slot.revision = revision;
        let old = mem::replace(&mut slot.value, value);
        self.set_deadline(parts, deadline);
        (revision, old)
    }

    /// Adds an entry that is not there, and returns its revision.
    pub(crate) fn insert(&mut self, parts: &Parts<'_>, key: Arc<str>, value: T, deadline: Deadline) -> u64 {
        let hash = parts.hash;
        let revision = self.next_revision();
        let slot = Slot { hash, key, value, revision, deadline: AtomicU64::new(u64::MAX), queued: u64::MAX };
        self.slots.insert_unique(hash, slot, |slot| slot.hash);
        self.set_deadline(parts, deadline);
        revision
    }

    /// Sets the deadline of a slot that is there, and queues it if it is earlier than the queue
    /// would notice.
    pub(crate) fn set_deadline(&mut self, parts: &Parts<'_>, deadline: Deadline) {
        let slot = self.find_mut(parts);
        if !slot.touch(deadline) {
            slot.queued = millis(deadline);
            *slot.deadline.get_mut() = millis(deadline);
            let due = Due { deadline: millis(deadline), hash: slot.hash, key: slot.key.clone() };
            self.queue.push(Reverse(due));
            self.drop_stale_items();
        }
    }

    /// Removes an entry.
    pub(crate) fn remove(&mut self, parts: &Parts<'_>) -> Option<Slot<T>> {
        let found = self.slots.find_entry(parts.hash, |slot| parts.matches(&slot.key));
        let (slot, _) = found.ok()?.remove();
        self.shrink();
        Some(slot)
    }

    /// Removes up to `most` entries that have expired, looking at no more than that many items of
    /// the queue.
    pub(crate) fn remove_expired(&mut self, now: u64, most: usize) -> Vec<Slot<T>> {
        let mut removed = Vec::new();
        for _ in 0..most {
            if self.next_due() > now {
                break;
            }
            let Some(Reverse(due)) = self.queue.pop() else { break };
            // Of a slot that was removed, or is queued again under another deadline.
            let Ok(found) = self.slots.find_entry(due.hash, |slot| Arc::ptr_eq(&slot.key, &due.key)) else { continue };
            if found.get().queued != due.deadline {
                continue;
            }
            if !found.get().is_alive(now) {
                removed.push(found.remove().0);
                continue;
            }
            let slot = found.into_mut();
            slot.queued = *slot.deadline.get_mut();
            if slot.queued != u64::MAX {
                self.queue.push(Reverse(Due { deadline: slot.queued, ..due }));
            }
        }
        if !removed.is_empty() {
            self.shrink();
        }
        removed
    }

    /// Returns when the queue has to be looked at next; `u64::MAX` if never.
    pub(crate) fn next_due(&self) -> u64 {
        self.queue.peek().map_or(u64::MAX, |Reverse(due)| due.deadline)
    }

    fn find_mut(&mut self, parts: &Parts<'_>) -> &mut Slot<T> {
        self.slots.find_mut(parts.hash, |slot| parts.matches(&slot.key)).expect("the slot was found under this lock")
    }

    /// Rebuilds the queue when most of it is stale, so that it stays in proportion to what lives.
    fn drop_stale_items(&mut self) {
        if self.queue.len() > 2 * self.slots.len() + SPARE {
            let slots = &self.slots;
            let mut items = mem::take(&mut self.queue).into_vec();
            items.retain(|Reverse(due)| {
                slots
                    .find(due.hash, |slot| Arc::ptr_eq(&slot.key, &due.key))
                    .is_some_and(|slot| slot.queued == due.deadline)
            });
            // A deadline that was moved forth and back may have been queued twice.
            items.sort_unstable();
            items.dedup();
            self.queue = items.into();
        }
    }

    /// Gives memory back once four times as much is held as is used.
    fn shrink(&mut self) {
        if self.slots.capacity() > 4 * self.slots.len() + SPARE {
            self.slots.shrink_to(2 * self.slots.len(), |slot| slot.hash);
        }
        self.drop_stale_items();
        if self.queue.capacity() > 4 * self.queue.len() + SPARE {
            self.queue.shrink_to(2 * self.queue.len());
        }
    }
}

fn millis(deadline: Deadline) -> u64 {
    deadline.as_millis().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Or else almost every change of a deadline rebuilds the queue.
    #[test]
    fn a_queue_that_was_rebuilt_has_one_item_for_each_entry() {
        const ENTRIES: u64 = 100;
        let mut shard = Shard::new();
        let far = Deadline::from_millis(1_000_000);
        let ids: Vec<_> = (0..ENTRIES).map(|n| n.to_string()).collect();
        let parts = |hash: u64| Parts { path: "", id: &ids[hash as usize], hash };
        for hash in 0..ENTRIES {
            shard.insert(&parts(hash), parts(hash).to_key(), (), far);
        }
        let mut rebuilt = 0;
        for now in 0..10 * ENTRIES {
            let parts = parts(now % ENTRIES);
            let before = shard.queue.len();
            shard.set_deadline(&parts, Deadline::from_millis(now + 1));
            if shard.queue.len() <= before {
                rebuilt += 1;
                assert!(shard.queue.len() <= ENTRIES as usize, "{} of {before} items are left", shard.queue.len());
            }
            // The early item comes up, and the entry lives: it is queued under the late deadline once more.
            shard.set_deadline(&parts, far);
            assert!(shard.remove_expired(now + 1, 8).is_empty());
        }
        assert!(rebuilt > 0);
        assert_eq!(shard.remove_expired(1_000_000, usize::MAX).len(), ENTRIES as usize);
    }
}
