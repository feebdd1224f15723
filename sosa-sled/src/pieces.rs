//! Values that are too large for one page, cut into pieces.
//!
//! The engine writes a page of more than 128 KiB as a file of its own, and keeps that file until the part of its
//! log that names it is used again: values saved over and over would fill the disk. So what does not fit into a
//! page among fifteen others is cut into pieces, in a tree of their own beside the collection's. The key of a piece is
//! the revision of its save and its index, both big-endian; index 0 holds the key of the entry, and the value begins
//! at 1. So a reader sees the value of one revision, whole, or finds pieces missing and looks at the record again.
//!
//! Pieces are written before the record that names their revision, and removed after it is gone. A process that
//! dies in between leaves pieces that no record names: [`remove_orphans`] finds them.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sled::Tree;
use sosa::{Outcome, Result};

use crate::engine::Engine;
use crate::error;
use crate::thread::Caller;

/// The longest key and value together that are kept in one record. A page holds up to 16 records, and some more
/// before it is split.
pub(crate) const WHOLE: usize = 4 * 1024;

/// How long a piece is.
const PIECE: usize = 4 * 1024;

/// The name of the tree beside the one of a collection. No name of a collection contains braces.
pub(crate) fn tree_of(root: &str) -> String {
    format!("{root}{{pieces}}")
}

fn key(revision: u64, index: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&revision.to_be_bytes());
    key[8..].copy_from_slice(&index.to_be_bytes());
    key
}

fn parse(key: &[u8]) -> Option<(u64, u32)> {
    let (revision, index) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*revision), u32::from_be_bytes(index.try_into().ok()?)))
}

/// The revisions whose pieces are being written in this process, and which no record names yet. One process has a
/// database open at a time.
static WRITING: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

fn writing() -> MutexGuard<'static, BTreeSet<u64>> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pieces of a value that no record names yet. Dropped, they are orphans, if they are still unnamed.
pub(crate) struct Written {
    pub(crate) revision: u64,
}

impl Drop for Written {
    fn drop(&mut self) {
        writing().remove(&self.revision);
    }
}

/// Writes a value's pieces under a revision of its own, for the entry of this key. What fails, or is given up since its
/// caller has left, is removed.
pub(crate) fn write(engine: &Engine, pieces: &Tree, entry: &[u8], value: &[u8], caller: &Caller) -> Result<Written> {
    let written = begin(engine, pieces, entry)?;
    let revision = written.revision;
    let mut indexed = (1..).zip(value.chunks(PIECE));
    let done = indexed.try_for_each(|(index, piece)| {
        caller.still_waits()?;
        pieces.insert(key(revision, index), piece).map(drop).map_err(|error| engine.failed(error))
    });
    match done {
        Ok(()) => Ok(written),
        Err(error) => {
            // Nobody knows of them.
            drop(remove(engine, pieces, revision));
            // Nothing of it is seen by anybody, now or later.
            Err(error.with_outcome(Outcome::NotApplied))
        }
    }
}

/// Takes a revision that no other value has: a machine that was copied may draw the same one twice.
fn begin(engine: &Engine, pieces: &Tree, entry: &[u8]) -> Result<Written> {
    loop {
        let revision = fastrand::u64(..);
        writing().insert(revision);
        let written = Written { revision };
        let taken = pieces.compare_and_swap(key(revision, 0), None::<&[u8]>, Some(entry));
        let taken = taken.map_err(|error| engine.failed(error).with_outcome(Outcome::NotApplied))?;
        if taken.is_ok() {
            return Ok(written);
        }
    }
}

/// Reads the value of a revision; `None` if pieces are missing, since another save has taken its place.
pub(crate) fn read(pieces: &Tree, revision: u64, length: u64) -> Result<Option<Vec<u8>>> {
    // It says how much there should be, and not how much to believe.
    let mut value = Vec::with_capacity(usize::try_from(length).unwrap_or(0).min(1 << 20));
    for (expected, piece) in (1..).zip(pieces.range(key(revision, 1)..=key(revision, u32::MAX))) {
        let (key, piece) = piece.map_err(|error| error::engine(error, Outcome::NotApplied))?;
        if parse(&key) != Some((revision, expected)) {
            return Ok(None);
        }
        value.extend_from_slice(&piece);
    }
    Ok((value.len() as u64 == length).then_some(value))
}

/// Removes all pieces of a revision, the one that names the entry last.
pub(crate) fn remove(engine: &Engine, pieces: &Tree, revision: u64) -> Result<()> {
    for found in pieces.range(key(revision, 1)..=key(revision, u32::MAX)).keys() {
        let found = found.map_err(|error| error::engine(error, Outcome::Unknown))?;
        pieces.remove(found).map_err(|error| engine.failed(error))?;
    }
    pieces.remove(key(revision, 0)).map(drop).map_err(|error| engine.failed(error))
}

/// Looks at the pieces of so many revisions from this one on, and removes those that no record names. Returns the
/// revision to go on with, or `None` at the end.
///
/// Pieces without the one that names their entry stay, since a record may name them: it is written first and removed
/// last, and so is missing only where the database was damaged.
pub(crate) fn remove_orphans(
    engine: &Engine,
    pieces: &Tree,
    mut next: u64,
    looks: usize,
    is_named: impl Fn(&[u8], u64) -> Result<bool>,
) -> Result<Option<u64>> {
    for _ in 0..looks {
        let first = pieces.range(key(next, 0)..).next().transpose();
        let first = first.map_err(|error| error::engine(error, Outcome::NotApplied))?;
        // There is nothing else in this tree.
        let Some((revision, index, entry)) = first.and_then(|(key, piece)| {
            let (revision, index) = parse(&key)?;
            Some((revision, index, piece))
        }) else {
            return Ok(None);
        };
        // In this order: a record that is written meanwhile is written before its revision leaves the set.
        if index == 0 && !writing().contains(&revision) && !is_named(&entry, revision)? {
            remove(engine, pieces, revision)?;
        }
        let Some(following) = revision.checked_add(1) else { return Ok(None) };
        next = following;
    }
    Ok(Some(next))
}
