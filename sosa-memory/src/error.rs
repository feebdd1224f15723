//! The only place that makes this backend's errors.

use sosa::{Error, ErrorKind};

pub(crate) const BACKEND: &str = "memory";

pub(crate) fn full(limit: usize) -> Error {
    Error::new(
        ErrorKind::CapacityExceeded,
        format!("the collection holds its limit of {limit} entries; destroy some, or raise the limit"),
    )
}

/// The error for a value that has a JSON form, but does not come back from it.
pub(crate) fn undecodable(error: Error) -> Error {
    Error::new(ErrorKind::Encode, "the value does not come back from its JSON").with_source(error)
}
