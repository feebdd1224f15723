//! The only place that makes this backend's errors.

use sosa::{Error, ErrorKind};

pub(crate) const BACKEND: &str = "memory";

pub(crate) fn full(limit: usize) -> Error {
    Error::new(
        ErrorKind::CapacityExceeded,
        format!("the collection holds its limit of {limit} entries; destroy some, or raise the limit"),
    )
}
