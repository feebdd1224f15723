//! The only place that makes this backend's errors.

use std::io;
use std::path::Path;
use std::time::Duration;

use sosa::{Error, ErrorKind, Outcome};

use crate::verify::Finding;

pub(crate) const BACKEND: &str = "sled";

/// What the engine reports. A write of which it does so may have been made in memory, and may still
/// reach the disk.
pub(crate) fn engine(error: sled::Error, outcome: Outcome) -> Error {
    let (kind, message) = match &error {
        sled::Error::Io(error) => io_kind(error),
        sled::Error::Corruption { .. } => (ErrorKind::Other, "the database is damaged here"),
        sled::Error::CollectionNotFound(_) => {
            (ErrorKind::Unavailable, "the tree of this collection was dropped; make the store anew")
        }
        sled::Error::Unsupported(_) => (ErrorKind::Unsupported, "the engine does not support this"),
        sled::Error::ReportableBug(_) => (ErrorKind::Unavailable, "the engine is broken; open the database anew"),
    };
    Error::new(kind, message).with_outcome(outcome).with_source(error)
}

/// Why the engine was not to open a database.
pub(crate) fn found(path: &Path, finding: Finding) -> Error {
    match finding {
        Finding::Held => held(path),
        Finding::Damaged(what) => {
            let why = format!(
                "{what}: it holds not all that was on the disk. Nothing was written. Restore it from a copy; or open \
                 it with `sled::open`, which drops what it cannot read, pass it to `sosa_sled::new`, and load something"
            );
            unopened(path, ErrorKind::Other, &why)
        }
        Finding::Unread(error) => {
            let (kind, why) = io_kind(&error);
            unopened(path, kind, why).with_source(error)
        }
    }
}

/// Another has it open.
pub(crate) fn held(path: &Path) -> Error {
    unopened(path, ErrorKind::Unavailable, "another process, or another store of this one, holds it")
}

/// Whether the engine did not open a database since another has it open. It has no kind for that, only words.
pub(crate) fn is_held(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

/// There is none, and none is to be made.
pub(crate) fn no_database(path: &Path) -> Error {
    unopened(path, ErrorKind::InvalidOption, "there is none")
}

fn unopened(path: &Path, kind: ErrorKind, why: &str) -> Error {
    Error::new(kind, format!("the database at `{}` was not opened: {why}", path.display()))
}

/// Why the engine could not open a database.
pub(crate) fn not_opened(path: &Path, error: sled::Error) -> Error {
    let (kind, why) = match &error {
        sled::Error::Io(error) => (io_kind(error).0, io_kind(error).1.to_owned()),
        sled::Error::Corruption { .. } => (ErrorKind::Other, "it is damaged".to_owned()),
        sled::Error::Unsupported(why) => (ErrorKind::Unsupported, why.clone()),
        _ => (ErrorKind::Other, "the engine failed".to_owned()),
    };
    unopened(path, kind, &why).with_source(error)
}

/// The engine panicked as it opened a database, which it does over some kinds of damage.
pub(crate) fn panicked_opening(path: &Path) -> Error {
    unopened(path, ErrorKind::Other, "it is damaged, the engine panicked")
}

/// The engine panicked in an earlier call.
pub(crate) fn broken() -> Error {
    Error::new(ErrorKind::Unavailable, "the engine failed before and is no longer used; open the database anew")
}

/// The engine panicked in this call.
pub(crate) fn panicked() -> Error {
    Error::new(ErrorKind::Unavailable, "the engine panicked; open the database anew").with_outcome(Outcome::Unknown)
}

/// The thread that was to do it ended first.
pub(crate) fn abandoned() -> Error {
    Error::new(ErrorKind::Unavailable, "no thread could be started for it").with_outcome(Outcome::Unknown)
}

/// The caller has dropped the call: nobody sees this.
pub(crate) fn dropped() -> Error {
    Error::new(ErrorKind::Unavailable, "the call was dropped")
}

/// The store was closed before this call.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "the store was closed")
}

/// The engine has not ended in time.
pub(crate) fn not_closed(within: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("the database was not closed within {within:?}"))
        .with_outcome(Outcome::Unknown)
}

/// It is closed, and what was written last may not be on the disk.
pub(crate) fn not_synced() -> Error {
    Error::new(ErrorKind::Unavailable, "the database was closed, and its last sync failed")
        .with_outcome(Outcome::Unknown)
}

/// A record names pieces that are not there.
pub(crate) fn pieces_missing() -> Error {
    Error::new(ErrorKind::Other, "the database is damaged: pieces of this value are missing")
}

/// A sync failed before it began; the next one may succeed.
pub(crate) fn postponed(error: sled::Error) -> Error {
    let kind = match &error {
        sled::Error::Io(error) => io_kind(error).0,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, "not on the disk yet; the next write tries it again")
        .with_outcome(Outcome::Unknown)
        .with_source(error)
}

/// The disk did not finish in time.
pub(crate) fn late(timeout: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("the disk has not finished a sync for {timeout:?}"))
        .with_outcome(Outcome::Unknown)
}

fn io_kind(error: &io::Error) -> (ErrorKind, &'static str) {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            (ErrorKind::CapacityExceeded, "the disk is full; make room, then open the database anew")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorKind::PermissionDenied, "the files may not be written")
        }
        _ => (ErrorKind::Unavailable, "the disk failed; open the database anew"),
    }
}
