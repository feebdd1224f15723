//! The entries of a collection and of its sub-collections, in one tree of the engine, and beside it the tree with
//! the pieces of what is large. What is here may wait for the disk.

use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};

use sled::{IVec, Tree};
use sosa::{
    Clock, Condition, Deadline, DestroyOptions, ListOptions, LoadOptions, Outcome, Result, Revision, SaveOptions,
};

use crate::database::Database;
use crate::engine::{Engine, Health};
use crate::error;
use crate::pieces;
use crate::record::{self, Record, Value};
use crate::thread::Caller;
use crate::turn::Turn;

/// After how many new entries a sweep starts, and how many entries it looks at for each of them. What has
/// expired waits for half a round, on average, in which one new entry comes for each that dies.
const SWEEP_AFTER: usize = 64;
const LOOKS: usize = 2;

/// How many entries a purge looks at before it lets others at its thread.
const PURGE: usize = 1000;

/// How many expired entries a page passes over before it ends early, and after how many bytes it does.
const PASSED_OVER: usize = 1000;
const PAGE_BYTES: usize = 8 << 20;

pub(crate) struct Table {
    root: String,
    /// `None` before the first call, and after the store was closed.
    trees: RwLock<Option<Trees>>,
    is_open: AtomicBool,
    /// How many entries were created since the last sweep.
    created: AtomicUsize,
    swept: Mutex<Swept>,
    /// A deadline was written, or met by a sweep, since this round of the sweep started.
    deadlines: AtomicBool,
    /// A whole round of sweeps has met none.
    is_lasting: AtomicBool,
    /// With which revision the sweep of the pieces goes on. It begins anywhere, or a program that restarts often would
    /// look at the first ones alone.
    pieces_swept: Mutex<u64>,
}

struct Trees {
    records: Tree,
    /// Opened with the first value that is large, here or before.
    pieces: OnceLock<Tree>,
}

/// How far the sweeps have come.
#[derive(Default)]
struct Swept {
    /// Behind which key the next one goes on; `None` before the first.
    after: Option<Vec<u8>>,
    /// This round began at the beginning.
    whole: bool,
}

/// What a load found.
pub(crate) struct Found {
    /// The record, as it is stored.
    pub(crate) record: IVec,
    /// As it is after the touch, which the record does not show.
    pub(crate) deadline: Deadline,
}

/// A record, and its value where that lies elsewhere.
pub(crate) struct Stored {
    pub(crate) record: IVec,
    pub(crate) pieces: Option<Vec<u8>>,
}

/// What became of a load or a write.
pub(crate) struct Done<R> {
    pub(crate) result: R,
    /// The revision whose pieces are no longer needed.
    pub(crate) leftover: Option<u64>,
}

impl<R> Done<R> {
    fn new(result: R, replaced: Option<&[u8]>) -> Self {
        Self { result, leftover: replaced.and_then(record::revision_of_pieces) }
    }
}

/// What a save tells.
pub(crate) struct Saved {
    pub(crate) revision: Revision,
    /// There was lifetime left, and the record is there.
    is_stored: bool,
    /// How many entries a sweep should look at now, if it should.
    pub(crate) looks: Option<usize>,
}

/// A page, as it is stored: keys and records, and the last key that was looked at, if there is more.
pub(crate) struct Stretch {
    pub(crate) found: Vec<(IVec, Stored)>,
    pub(crate) last: Option<IVec>,
}

impl Table {
    pub(crate) fn new(root: &str) -> Self {
        Self {
            root: root.to_owned(),
            trees: RwLock::new(None),
            is_open: AtomicBool::new(false),
            created: AtomicUsize::new(0),
            swept: Mutex::default(),
            deadlines: AtomicBool::new(true),
            is_lasting: AtomicBool::new(false),
            pieces_swept: Mutex::new(fastrand::u64(..)),
        }
    }

    /// What all its keys have in common.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    /// Returns whether the trees and the files are open, and calls may be quick.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Lets go of the engine. Calls under way end first.
    pub(crate) fn close(&self) {
        *self.trees.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Does something with the trees, which it opens if they are not.
    fn with_trees<R>(&self, database: &Database, work: impl FnOnce(&Trees) -> Result<R>) -> Result<R> {
        // A panic leaves nothing half done that is under this lock.
        if let Some(trees) = &*self.trees.read().unwrap_or_else(PoisonError::into_inner) {
            return work(trees);
        }
        self.open(database)?;
        match &*self.trees.read().unwrap_or_else(PoisonError::into_inner) {
            Some(trees) => work(trees),
            None => Err(error::closed()),
        }
    }

    fn open(&self, database: &Database) -> Result<()> {
        // First, so that nothing is written that could not be brought to the disk.
        database.group_commit.open()?;
        let mut trees = self.trees.write().unwrap_or_else(PoisonError::into_inner);
        // Within the lock, so that nothing opens a tree behind `close`.
        if database.engine.health() == Health::Closed {
            return Err(error::closed());
        }
        let opened = database.engine.with_db(|db| {
            let open = |name: &str| db.open_tree(name).map_err(|error| error::engine(error, Outcome::NotApplied));
            let (records, pieces) = (open(&self.root)?, OnceLock::new());
            let name = pieces::tree_of(&self.root);
            if db.tree_names().iter().any(|tree| **tree == *name.as_bytes()) {
                let _ = pieces.set(open(&name)?);
            }
            Ok(Trees { records, pieces })
        })??;
        trees.get_or_insert(opened);
        self.is_open.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the tree of the pieces, which it makes if there is none. Another store in this database may have made
    /// it since.
    fn pieces<'a>(&self, database: &Database, trees: &'a Trees) -> Result<&'a Tree> {
        if let Some(pieces) = trees.pieces.get() {
            return Ok(pieces);
        }
        let opened = database.engine.with_db(|db| db.open_tree(pieces::tree_of(&self.root)))?;
        let opened = opened.map_err(|error| database.engine.failed(error).with_outcome(Outcome::NotApplied))?;
        Ok(trees.pieces.get_or_init(|| opened))
    }

    /// Loads what lives.
    pub(crate) fn load(&self, database: &Database, clock: &Clock, key: &[u8]) -> Result<Done<Option<Found>>> {
        self.with_trees(database, |trees| {
            let found = trees.records.get(key).map_err(|error| error::engine(error, Outcome::NotApplied))?;
            let Some(record) = found else { return Ok(Done::new(None, None)) };
            let (_, deadline) = record::state(&record);
            // The time is not asked for where nothing depends on it: that would be a tenth of a load.
            if deadline != Deadline::NEVER && deadline.is_past(clock.now_millis()) {
                return Ok(Done::new(None, remove_expired(trees, key, record).as_deref()));
            }
            Ok(Done::new(Some(Found { record, deadline }), None))
        })
    }

    /// Loads what lives, and moves its deadline.
    pub(crate) fn touch(
        &self,
        database: &Database,
        clock: &Clock,
        key: &[u8],
        options: LoadOptions,
        _turn: &Turn<'_>,
    ) -> Result<Done<Option<Found>>> {
        self.with_trees(database, |trees| {
            loop {
                let found = trees.records.get(key).map_err(|error| error::engine(error, Outcome::NotApplied))?;
                let Some(stored) = found else { return Ok(Done::new(None, None)) };
                let (_, deadline) = record::state(&stored);
                let now = clock.now_millis();
                if deadline.is_past(now) {
                    return Ok(Done::new(None, remove_expired(trees, key, stored).as_deref()));
                }
                let (Some(touch), Some(record)) = (options.touched(deadline, now), Record::parse(&stored)) else {
                    return Ok(Done::new(Some(Found { record: stored, deadline }), None));
                };
                let touched = Record { deadline: touch, ..record }.to_bytes();
                if swap(&database.engine, &trees.records, key, Some(&stored), Some(touched))? {
                    self.note(touch);
                    database.group_commit.backlog().note(stored.len());
                    return Ok(Done::new(Some(Found { record: stored, deadline: touch }), None));
                }
            }
        })
    }

    /// Reads the value of a record that was found, where it lies in pieces; `None` if the record has changed since.
    pub(crate) fn read_pieces(&self, database: &Database, found: &[u8]) -> Result<Option<Vec<u8>>> {
        self.with_trees(database, |trees| match Record::parse(found) {
            Some(Record { revision, value: Value::InPieces(length), .. }) => {
                pieces::read(self.pieces(database, trees)?, revision, length)
            }
            _ => Ok(None),
        })
    }

    /// Saves a value, as it is encoded, in its record.
    pub(crate) fn save(
        &self,
        database: &Database,
        clock: &Clock,
        key: &[u8],
        value: &[u8],
        options: SaveOptions,
        turn: &Turn<'_>,
    ) -> Result<Done<Saved>> {
        self.with_trees(database, |trees| {
            self.write(database, trees, clock, key, (fastrand::u64(..), Value::Whole(value)), options, turn)
        })
    }

    /// Saves a value that is too large for its record.
    pub(crate) fn save_in_pieces(
        &self,
        database: &Database,
        clock: &Clock,
        key: &[u8],
        value: &[u8],
        options: SaveOptions,
        caller: &Caller,
    ) -> Result<Done<Saved>> {
        let written = self.with_trees(database, |trees| {
            pieces::write(&database.engine, self.pieces(database, trees)?, key, value, caller)
        })?;
        database.group_commit.backlog().note(value.len());
        let revision = written.revision;
        // Never while the trees are held: who has the turn asks for them.
        let turn = database.turns.take(&self.root, key);
        let saved = caller.still_waits().and_then(|()| {
            let record = (revision, Value::InPieces(value.len() as u64));
            self.with_trees(database, |trees| self.write(database, trees, clock, key, record, options, &turn))
        });
        drop(turn);
        let is_named = match &saved {
            Ok(saved) => saved.result.is_stored,
            // Nobody knows whether a record names them: the sweep finds out.
            Err(error) => error.outcome() == Outcome::Unknown,
        };
        if !is_named {
            // What fails here is left to the sweep.
            drop(self.remove_pieces(database, revision));
        }
        drop(written);
        saved
    }

    /// Writes a record where the options allow it.
    #[allow(clippy::too_many_arguments)]
    fn write(
        &self,
        database: &Database,
        trees: &Trees,
        clock: &Clock,
        key: &[u8],
        (revision, value): (u64, Value<'_>),
        options: SaveOptions,
        _turn: &Turn<'_>,
    ) -> Result<Done<Saved>> {
        let (engine, records) = (&database.engine, &trees.records);
        let record = |deadline: Deadline| Record { deadline, revision, value }.to_bytes();
        let unconditional = options.condition == Condition::Always;
        let (old, deadline, is_stored) = loop {
            let now = clock.now_millis();
            match options.expiry.deadline(now).filter(|deadline| unconditional && !deadline.is_past(now)) {
                // Whatever is there.
                Some(deadline) => {
                    let old = records.insert(key, record(deadline)).map_err(|error| engine.failed(error))?;
                    break (old, deadline, true);
                }
                None => {
                    let old = records.get(key).map_err(|error| error::engine(error, Outcome::NotApplied))?;
                    let current =
                        old.as_ref().map(|old| record::state(old)).filter(|(_, deadline)| !deadline.is_past(now));
                    let deadline = options.check(current, now)?;
                    let new = (!deadline.is_past(now)).then(|| record(deadline));
                    let is_stored = new.is_some();
                    if swap(engine, records, key, old.as_deref(), new)? {
                        break (old, deadline, is_stored);
                    }
                }
            }
        };
        self.note(deadline);
        database.group_commit.backlog().note(match value {
            Value::Whole(value) => value.len(),
            Value::InPieces(_) => 0,
        });
        let looks = if old.is_none() && is_stored { self.count(key) } else { None };
        Ok(Done::new(Saved { revision: revision.into(), is_stored, looks }, old.as_deref()))
    }

    /// Destroys what lives, and returns whether there was something.
    pub(crate) fn destroy(
        &self,
        database: &Database,
        clock: &Clock,
        key: &[u8],
        options: DestroyOptions,
        _turn: &Turn<'_>,
    ) -> Result<Done<bool>> {
        self.with_trees(database, |trees| {
            loop {
                let old = trees.records.get(key).map_err(|error| error::engine(error, Outcome::NotApplied))?;
                let now = clock.now_millis();
                let current = old.as_ref().map(|old| record::state(old)).filter(|(_, deadline)| !deadline.is_past(now));
                options.check(current.map(|(revision, _)| revision))?;
                let Some(old) = old else { return Ok(Done::new(false, None)) };
                if swap(&database.engine, &trees.records, key, Some(&old), None)? {
                    database.group_commit.backlog().note(0);
                    return Ok(Done::new(current.is_some(), Some(&old)));
                }
            }
        })
    }

    /// Removes the pieces of a value that was replaced or destroyed.
    pub(crate) fn remove_pieces(&self, database: &Database, revision: u64) -> Result<()> {
        self.with_trees(database, |trees| pieces::remove(&database.engine, self.pieces(database, trees)?, revision))
    }

    /// Reads a page of what lives below a path.
    pub(crate) fn page(
        &self,
        database: &Database,
        clock: &Clock,
        path: &str,
        options: &ListOptions,
    ) -> Result<Stretch> {
        self.with_trees(database, |trees| {
            let mut stretch = Stretch { found: Vec::new(), last: None };
            let Some((low, high)) = bounds(path, options) else { return Ok(stretch) };
            let range = trees.records.range::<Vec<u8>, _>((low, high));
            let mut entries: Box<dyn Iterator<Item = _>> =
                if options.reverse { Box::new(range.rev()) } else { Box::new(range) };
            let now = clock.now_millis();
            let (mut passed_over, mut bytes) = (0, 0);
            let mut last = None;
            while stretch.found.len() < options.limit && passed_over < PASSED_OVER && bytes < PAGE_BYTES {
                let Some(entry) = entries.next() else { return Ok(stretch) };
                let (key, record) = entry.map_err(|error| error::engine(error, Outcome::NotApplied))?;
                last = Some(key.clone());
                if record::is_past(&record, now) {
                    passed_over += 1;
                    let leftover = remove_expired(trees, &key, record);
                    if let Some(revision) = leftover.as_deref().and_then(record::revision_of_pieces) {
                        // What fails here is left to the sweep.
                        drop(pieces::remove(&database.engine, self.pieces(database, trees)?, revision));
                    }
                } else if options.ids_only {
                    stretch.found.push((key, Stored { record, pieces: None }));
                } else if let Some(stored) = self.whole(database, trees, clock, &key, record)? {
                    bytes += stored.record.len() + stored.pieces.as_ref().map_or(0, Vec::len);
                    stretch.found.push((key, stored));
                }
            }
            // There may be no more; then the next page is empty. To find out would cost it as much.
            stretch.last = last;
            Ok(stretch)
        })
    }

    /// Returns a record of a page with its value, or with a newer one that took its place; `None` if it is gone.
    fn whole(
        &self,
        database: &Database,
        trees: &Trees,
        clock: &Clock,
        key: &[u8],
        mut record: IVec,
    ) -> Result<Option<Stored>> {
        loop {
            let Some(Record { revision, value: Value::InPieces(length), .. }) = Record::parse(&record) else {
                return Ok(Some(Stored { record, pieces: None }));
            };
            if let Some(value) = pieces::read(self.pieces(database, trees)?, revision, length)? {
                return Ok(Some(Stored { record, pieces: Some(value) }));
            }
            match trees.records.get(key).map_err(|error| error::engine(error, Outcome::NotApplied))? {
                None => return Ok(None),
                // Nobody has replaced it: the item says so.
                Some(now) if record::revision_of_pieces(&now) == Some(revision) => {
                    return Ok(Some(Stored { record, pieces: None }));
                }
                Some(now) if record::is_past(&now, clock.now_millis()) => return Ok(None),
                Some(now) => record = now,
            }
        }
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
        let Ok(mut swept) = self.swept.try_lock() else {
            // One is under way; the next makes up for this one.
            self.created.fetch_add(looks / LOOKS, Ordering::Relaxed);
            return Ok(());
        };
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

    /// Removes pieces that no record names, of which a process that died may have left some, or a call that was
    /// dropped: looks at those of so many revisions.
    pub(crate) fn sweep_pieces(&self, database: &Database, looks: usize) -> Result<()> {
        // A sweep that is under way does what this would.
        let Ok(mut swept) = self.pieces_swept.try_lock() else { return Ok(()) };
        *swept = self.remove_orphans(database, *swept, looks)?.unwrap_or(0);
        Ok(())
    }

    fn remove_orphans(&self, database: &Database, next: u64, looks: usize) -> Result<Option<u64>> {
        self.with_trees(database, |trees| {
            let Some(pieces) = trees.pieces.get() else { return Ok(None) };
            pieces::remove_orphans(&database.engine, pieces, next, looks, |entry, revision| {
                let record = trees.records.get(entry).map_err(|error| error::engine(error, Outcome::NotApplied))?;
                Ok(record.is_some_and(|record| record::revision_of_pieces(&record) == Some(revision)))
            })
        })
    }

    /// Removes what has expired behind a key, and returns how many entries that were. The key becomes the
    /// last one that was looked at, or empty at the end of the tree.
    pub(crate) fn purge(&self, database: &Database, clock: &Clock, after: &mut Vec<u8>) -> Result<u64> {
        let removed = self.remove_expired(database, clock, after, PURGE)?;
        let mut next = after.is_empty().then_some(0);
        while let Some(revision) = next {
            next = self.remove_orphans(database, revision, PURGE)?;
        }
        Ok(removed)
    }

    fn remove_expired(&self, database: &Database, clock: &Clock, after: &mut Vec<u8>, looks: usize) -> Result<u64> {
        self.with_trees(database, |trees| {
            let now = clock.now_millis();
            let mut removed = 0;
            let mut entries = trees.records.range::<&[u8], _>((Bound::Excluded(&after[..]), Bound::Unbounded));
            let mut last = None;
            for _ in 0..looks {
                let Some(entry) = entries.next() else {
                    last = None;
                    break;
                };
                let (key, record) = entry.map_err(|error| error::engine(error, Outcome::NotApplied))?;
                let (_, deadline) = record::state(&record);
                self.note(deadline);
                if deadline.is_past(now) && swap(&database.engine, &trees.records, &key, Some(&record), None)? {
                    removed += 1;
                    if let Some(revision) = record::revision_of_pieces(&record) {
                        pieces::remove(&database.engine, self.pieces(database, trees)?, revision)?;
                    }
                }
                last = Some(key);
            }
            *after = last.map_or_else(Vec::new, |key| key.to_vec());
            Ok(removed)
        })
    }
}

/// Removes a record that was met expired, and returns it if this call has done it. Whatever comes of it, the entry
/// is absent.
fn remove_expired(trees: &Trees, key: &[u8], record: IVec) -> Option<IVec> {
    let removed = trees.records.compare_and_swap(key, Some(&record), None::<IVec>);
    matches!(removed, Ok(Ok(()))).then_some(record)
}

/// Replaces what was read by something else, or returns that another was quicker.
fn swap(engine: &Engine, records: &Tree, key: &[u8], old: Option<&[u8]>, new: Option<Vec<u8>>) -> Result<bool> {
    let swapped = records.compare_and_swap(key, old, new).map_err(|error| engine.failed(error))?;
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
