//! The entries of a collection and of its sub-collections, in one tree of the engine. What is here may
//! wait for the disk.

use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use sled::{IVec, Tree};
use sosa::{
    Clock, Condition, Deadline, DestroyOptions, ListOptions, LoadOptions, Outcome, Result, Revision, SaveOptions,
};

use crate::database::Database;
use crate::error;
use crate::group_commit;
use crate::record::{self, Record};

/// After how many new entries a sweep starts, and how many entries it looks at for each of them. What has
/// expired waits for half a round, on average, in which one new entry comes for each that dies.
const SWEEP_AFTER: usize = 64;
const LOOKS: usize = 2;

/// How many entries a purge looks at before it lets others at its thread.
const PURGE: usize = 1000;

/// How many expired entries a page passes over before it ends early.
const PASSED_OVER: usize = 1000;

pub(crate) struct Table {
    root: String,
    tree: OnceLock<Tree>,
    /// How many entries were created since the last sweep.
    created: AtomicUsize,
    swept: Mutex<Swept>,
    /// A deadline was written, or met by a sweep, since the sweeps last began at the beginning.
    deadlines: AtomicBool,
    /// A whole round of sweeps has met none.
    is_lasting: AtomicBool,
}

/// How far the sweeps have come.
#[derive(Default)]
struct Swept {
    /// Behind which key the next one goes on; `None` before the first.
    after: Option<Vec<u8>>,
    /// This round began at the beginning.
    whole: bool,
}

/// What a load found, as it is stored.
pub(crate) struct Found {
    pub(crate) bytes: IVec,
    /// As it is after the touch, which the bytes do not show.
    pub(crate) deadline: Deadline,
}

impl Found {
    pub(crate) fn new(bytes: IVec) -> Self {
        let (_, deadline) = record::state(&bytes);
        Self { bytes, deadline }
    }
}

/// A page, as it is stored: keys and records, and the last key that was looked at, if there is more.
pub(crate) struct Stretch {
    pub(crate) found: Vec<(IVec, IVec)>,
    pub(crate) last: Option<IVec>,
}

impl Table {
    pub(crate) fn new(root: &str) -> Self {
        Self {
            root: root.to_owned(),
            tree: OnceLock::new(),
            created: AtomicUsize::new(0),
            swept: Mutex::default(),
            deadlines: AtomicBool::new(true),
            is_lasting: AtomicBool::new(false),
        }
    }

    /// Returns whether the tree and the files are open, and calls may be quick.
    pub(crate) fn is_open(&self) -> bool {
        self.tree.get().is_some()
    }

    fn tree(&self, database: &Database) -> Result<&Tree> {
        if let Some(tree) = self.tree.get() {
            return Ok(tree);
        }
        // First, so that nothing is written that could not be brought to the disk.
        database.group_commit.open(|| group_commit::stable(database.engine.db()))?;
        let tree =
            database.engine.db().open_tree(&self.root).map_err(|error| error::engine(error, Outcome::NotApplied))?;
        Ok(self.tree.get_or_init(|| tree))
    }

    /// Loads what lives, and touches it if asked to.
    pub(crate) fn load(
        &self,
        database: &Database,
        clock: &Clock,
        key: &[u8],
        options: LoadOptions,
    ) -> Result<Option<Found>> {
        let tree = self.tree(database)?;
        loop {
            let found = tree.get(key).map_err(|error| error::engine(error, Outcome::NotApplied))?;
            let Some(bytes) = found else { return Ok(None) };
            let (_, deadline) = record::state(&bytes);
            if deadline == Deadline::NEVER && options.touch.is_none() {
                // The time is not asked for where nothing depends on it: that would be a tenth of a load.
                return Ok(Some(Found { bytes, deadline }));
            }
            let now = clock.now_millis();
            if deadline.is_past(now) {
                // Whatever comes of it: the entry is absent.
                drop(tree.compare_and_swap(key, Some(bytes), None::<IVec>));
                return Ok(None);
            }
            let touch = options.touch_deadline(now)?;
            let (Some(touch), Some(record)) = (touch, Record::parse(&bytes)) else {
                return Ok(Some(Found { bytes, deadline }));
            };
            let touched = Record { deadline: touch, ..record }.to_bytes();
            if swap(tree, key, Some(&bytes), Some(touched))? {
                self.note(touch);
                return Ok(Some(Found { bytes, deadline: touch }));
            }
        }
    }

    /// Saves a value as it is encoded, and returns its revision, and how many entries a sweep
    /// should look at now, if it should.
    pub(crate) fn save(
        &self,
        database: &Database,
        clock: &Clock,
        key: &[u8],
        value: &[u8],
        options: SaveOptions,
    ) -> Result<(Revision, Option<usize>)> {
        let tree = self.tree(database)?;
        let revision = fastrand::u64(..);
        let write = |deadline: Deadline| Record { deadline, revision, value }.to_bytes();
        let unconditional = options.condition == Condition::Always;
        let (created, deadline) = loop {
            let now = clock.now_millis();
            match options.expiry.deadline(now).filter(|deadline| unconditional && !deadline.is_past(now)) {
                // Whatever is there.
                Some(deadline) => {
                    let old = tree.insert(key, write(deadline));
                    break (old.map_err(|error| error::engine(error, Outcome::Unknown))?.is_none(), deadline);
                }
                None => {
                    let old = tree.get(key).map_err(|error| error::engine(error, Outcome::NotApplied))?;
                    let current =
                        old.as_ref().map(|old| record::state(old)).filter(|(_, deadline)| !deadline.is_past(now));
                    let deadline = options.check(current, now)?;
                    let new = (!deadline.is_past(now)).then(|| write(deadline));
                    let created = old.is_none() && new.is_some();
                    if swap(tree, key, old.as_deref(), new)? {
                        break (created, deadline);
                    }
                }
            }
        };
        self.note(deadline);
        Ok((revision.into(), if created { self.count(key) } else { None }))
    }

    /// Destroys what lives, and returns whether there was something.
    pub(crate) fn destroy(
        &self,
        database: &Database,
        clock: &Clock,
        key: &[u8],
        options: DestroyOptions,
    ) -> Result<bool> {
        let tree = self.tree(database)?;
        loop {
            let old = tree.get(key).map_err(|error| error::engine(error, Outcome::NotApplied))?;
            let now = clock.now_millis();
            let current = old.as_ref().map(|old| record::state(old)).filter(|(_, deadline)| !deadline.is_past(now));
            options.check(current.map(|(revision, _)| revision))?;
            let Some(old) = old else { return Ok(false) };
            if swap(tree, key, Some(&old), None)? {
                return Ok(current.is_some());
            }
        }
    }

    /// Reads a page of what lives below a path.
    pub(crate) fn page(
        &self,
        database: &Database,
        clock: &Clock,
        path: &str,
        options: &ListOptions,
    ) -> Result<Stretch> {
        let tree = self.tree(database)?;
        let mut stretch = Stretch { found: Vec::new(), last: None };
        let Some((low, high)) = bounds(path, options) else { return Ok(stretch) };
        let range = tree.range::<Vec<u8>, _>((low, high));
        let mut entries: Box<dyn Iterator<Item = _>> =
            if options.reverse { Box::new(range.rev()) } else { Box::new(range) };
        let now = clock.now_millis();
        let mut passed_over = 0;
        let mut last = None;
        while stretch.found.len() < options.limit && passed_over < PASSED_OVER {
            let Some(entry) = entries.next() else { return Ok(stretch) };
            let (key, bytes) = entry.map_err(|error| error::engine(error, Outcome::NotApplied))?;
            last = Some(key.clone());
            if record::is_past(&bytes, now) {
                passed_over += 1;
                drop(tree.compare_and_swap(&key, Some(bytes), None::<IVec>));
            } else {
                stretch.found.push((key, bytes));
            }
        }
        // There may be no more; then the next page is empty. To find out would cost it as much.
        stretch.last = last;
        Ok(stretch)
    }

    /// Takes note of a deadline when it is written: then a sweep that begins later meets it.
    fn note(&self, deadline: Deadline) {
        if deadline != Deadline::NEVER && !self.deadlines.load(Ordering::Relaxed) {
            self.deadlines.store(true, Ordering::Relaxed);
        }
    }

    /// Counts a new entry, and returns how many a sweep should look at, if it is time for one.
    fn count(&self, key: &[u8]) -> Option<usize> {
        if self.is_lasting.load(Ordering::Relaxed) && !self.deadlines.load(Ordering::Relaxed) {
            return None;
        }
        if self.created.fetch_add(1, Ordering::Relaxed) + 1 < SWEEP_AFTER {
            return None;
        }
        let created = self.created.swap(0, Ordering::Relaxed);
        // A sweep that is under way holds it, and has begun already.
        if let Ok(mut swept) = self.swept.try_lock() {
            // The first one not at the beginning, or a program that restarts often would get no further.
            swept.after.get_or_insert_with(|| key.to_vec());
        }
        (created > 0).then_some(created * LOOKS)
    }

    /// Removes what has expired from the next stretch of the tree.
    pub(crate) fn sweep(&self, database: &Database, clock: &Clock, looks: usize) -> Result<()> {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let Swept { after, whole } = &mut *swept;
        let after = after.get_or_insert_default();
        if after.is_empty() {
            *whole = true;
            self.is_lasting.store(false, Ordering::Relaxed);
            self.deadlines.store(false, Ordering::Relaxed);
        }
        self.remove_expired(database, clock, after, looks)?;
        if after.is_empty() && *whole {
            // A deadline that is written meanwhile is noted all the same, and sets the sweeps going again.
            self.is_lasting.store(!self.deadlines.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Removes what has expired behind a key, and returns how many entries that were. The key becomes the
    /// last one that was looked at, or empty at the end of the tree.
    pub(crate) fn purge(&self, database: &Database, clock: &Clock, after: &mut Vec<u8>) -> Result<u64> {
        self.remove_expired(database, clock, after, PURGE)
    }

    fn remove_expired(&self, database: &Database, clock: &Clock, after: &mut Vec<u8>, looks: usize) -> Result<u64> {
        let tree = self.tree(database)?;
        let now = clock.now_millis();
        let mut removed = 0;
        let mut entries = tree.range::<&[u8], _>((Bound::Excluded(&after[..]), Bound::Unbounded));
        let mut last = None;
        for _ in 0..looks {
            let Some(entry) = entries.next() else {
                last = None;
                break;
            };
            let (key, bytes) = entry.map_err(|error| error::engine(error, Outcome::NotApplied))?;
            let (_, deadline) = record::state(&bytes);
            self.note(deadline);
            if deadline.is_past(now) && swap(tree, &key, Some(&bytes), None)? {
                removed += 1;
            }
            last = Some(key);
        }
        *after = last.map_or_else(Vec::new, |key| key.to_vec());
        Ok(removed)
    }
}

/// Replaces what was read by something else, or returns that another was quicker.
fn swap(tree: &Tree, key: &[u8], old: Option<&[u8]>, new: Option<Vec<u8>>) -> Result<bool> {
    let swapped = tree.compare_and_swap(key, old, new).map_err(|error| error::engine(error, Outcome::Unknown))?;
    Ok(swapped.is_ok())
}

/// Where keys begin or end.
type Key = Bound<Vec<u8>>;

/// Returns where a page begins and ends among the keys; `None` if nothing can lie between.
fn bounds(path: &str, options: &ListOptions) -> Option<(Key, Key)> {
    let prefix = [path, &options.starts_with].concat().into_bytes();
    let mut end = prefix.clone();
    // The last byte of a text can be counted up: none is 255. A path is never empty.
    *end.last_mut()? += 1;
    let (mut low, mut high, mut after) = (prefix, end, false);
    if let Some(cursor) = &options.cursor {
        let cursor = [path, cursor.as_str()].concat().into_bytes();
        match options.reverse {
            false if cursor >= low => (low, after) = (cursor, true),
            true if cursor < high => high = cursor,
            _ => {}
        }
    }
    let begins = if after { Bound::Excluded } else { Bound::Included };
    (low < high).then(|| (begins(low), Bound::Excluded(high)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::ops::RangeBounds;

    proptest! {
        #[test]
        fn a_page_is_what_a_filter_finds(
            ids in prop::collection::btree_set("[ab\u{7f}\u{10FFFF}]{0,4}", 0..30),
            starts_with in "[ab\u{7f}\u{10FFFF}]{0,2}",
            after in prop::option::of("[ab\u{7f}\u{10FFFF}]{0,4}"),
            reverse: bool,
        ) {
            let mut options = ListOptions::new().starts_with(starts_with.clone());
            options.cursor = after.clone().map(sosa::Cursor::after);
            options.reverse = reverse;
            let range = bounds("/a:", &options);
            let found: BTreeSet<_> = ids
                .iter()
                .filter(|id| range.as_ref().is_some_and(|range| range.contains(&format!("/a:{id}").into_bytes())))
                .collect();
            let expected: BTreeSet<_> = ids
                .iter()
                .filter(|id| id.starts_with(&starts_with))
                .filter(|id| after.as_ref().is_none_or(|after| if reverse { *id < after } else { *id > after }))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
