//! Replies, taken apart.

use redis::Value;
use sosa::{Deadline, Error, Expiry, Result};

use crate::error;

/// A stored value.
pub(crate) struct Stored {
    pub(crate) bytes: Vec<u8>,
    /// When it expires, if that was asked.
    pub(crate) expiry: Option<Expiry>,
}

/// Takes an array of this length apart.
pub(crate) fn array<const N: usize>(answer: Value) -> Result<[Value; N]> {
    values(answer)?.try_into().map_err(|_| error::unexpected())
}

/// Takes an array apart.
pub(crate) fn values(answer: Value) -> Result<Vec<Value>> {
    match answer {
        Value::Array(values) => Ok(values),
        _ => Err(error::unexpected()),
    }
}

/// Returns the number, or a conflict for nil: a condition was not met.
pub(crate) fn int_or_conflict(answer: &Value) -> Result<i64> {
    match answer {
        Value::Nil => Err(Error::conflict()),
        answer => int(answer),
    }
}

pub(crate) fn int(answer: &Value) -> Result<i64> {
    match answer {
        Value::Int(int) => Ok(*int),
        _ => Err(error::unexpected()),
    }
}

pub(crate) fn bytes(answer: Value) -> Result<Option<Vec<u8>>> {
    match answer {
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::Nil => Ok(None),
        _ => Err(error::unexpected()),
    }
}

/// Returns the id behind which a listing goes on, if it does.
pub(crate) fn last(answer: Value) -> Result<Option<String>> {
    bytes(answer)?.map(String::from_utf8).transpose().map_err(|_| error::foreign_id())
}

/// Returns ids, without those that are no text, which another program wrote.
pub(crate) fn ids(answer: Value) -> Result<Vec<String>> {
    let ids = values(answer)?.into_iter().map(bytes).collect::<Result<Vec<_>>>()?;
    Ok(ids.into_iter().flatten().filter_map(|id| String::from_utf8(id).ok()).collect())
}

/// Checks that SET did it; a conflict if its condition was not met.
pub(crate) fn set(answer: &Value) -> Result<()> {
    match answer {
        Value::Okay => Ok(()),
        Value::Nil => Err(Error::conflict()),
        _ => Err(error::unexpected()),
    }
}

/// Reads a value and the answer of PEXPIRETIME to its key; `None` if nothing is there.
pub(crate) fn stored(value: Value, expires: &Value) -> Result<Result<Option<Stored>>> {
    let expiry = match int(expires)? {
        -2 => return Ok(Ok(None)),
        -1 => Expiry::Never,
        millis => Deadline::from_millis(u64::try_from(millis).map_err(|_| error::unexpected())?).into(),
    };
    Ok(match bytes(value)? {
        Some(bytes) => Ok(Some(Stored { bytes, expiry: Some(expiry) })),
        // The key exists, and holds no string.
        None => Err(error::foreign_value()),
    })
}
