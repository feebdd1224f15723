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
        Finding::Held => unopened(path, ErrorKind::Unavailable, HELD),
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

const HELD: &str = "another process, or another store of this one, holds it";

fn unopened(path: &Path, kind: ErrorKind, why: &str) -> Error {
    Error::new(kind, format!("the database at `{}` was not opened: {why}", path.display()))
}

/// Why the engine could not open a database.
pub(crate) fn not_opened(path: &Path, error: sled::Error) -> Error {
    let (kind, why) = match &error {
        // The engine's own words, which it has no kind for.
        sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => {
            (ErrorKind::Unavailable, HELD.to_owned())
        }
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

/// The thread that was to do it ended first, with its runtime.
pub(crate) fn abandoned() -> Error {
    Error::new(ErrorKind::Unavailable, "the runtime shut down").with_outcome(Outcome::Unknown)
}

/// What the file system reports of the files beside the engine.
pub(crate) fn files(error: io::Error) -> Error {
    let (kind, message) = io_kind(&error);
    Error::new(kind, message).with_source(error)
}

/// The disk did not finish in time.
pub(crate) fn late(timeout: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("not on the disk within {timeout:?}")).with_outcome(Outcome::Unknown)
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
