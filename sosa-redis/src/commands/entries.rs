//! Commands on entries.

use redis::{Cmd, Value};
use sosa::Revision;

use crate::client::Call;
use crate::commands::args::{ROOM, SetCondition, Ttl, enlist, on_entry};
use crate::commands::reply::{self, Stored};
use crate::commands::script;
use crate::error::{self, Failure};
use crate::keys::EntryKey;
use crate::transport::request::Retry;

/// A save.
pub(crate) struct Write<'a> {
    pub(crate) key: EntryKey<'a>,
    pub(crate) encoded: &'a [u8],
    pub(crate) ttl: Ttl,
    pub(crate) condition: SetCondition,
    /// The revision that must be there, if one must.
    pub(crate) read: Option<Revision>,
}

/// Reads one entry, and touches it if asked to.
pub(crate) async fn load(call: &Call<'_>, key: &EntryKey<'_>, touch: Option<Ttl>) -> Result<Option<Stored>, Failure> {
    let load = match touch {
        None => on_entry("GET", key, 0),
        Some(touch) => {
            let mut load = on_entry("GETEX", key, ROOM);
            touch.for_getex(&mut load);
            load
        }
    };
    let value = call.command(&load, retry(touch)).await?;
    Ok(reply::bytes(value)?.map(|bytes| Stored { bytes, expiry: None }))
}

/// The entries of some keys, in their order. A key that holds no string fails by itself.
pub(crate) type Loaded = Vec<sosa::Result<Option<Stored>>>;

/// Reads entries of one shard with their expiry, and touches one if asked to.
pub(crate) async fn load_with_expiry(
    call: &Call<'_>,
    keys: &[EntryKey<'_>],
    touch: Option<Ttl>,
) -> Result<Loaded, Failure> {
    let arguments = |command: &mut Cmd| {
        command.arg(keys.len()).arg(keys);
        if let Some(touch) = touch {
            touch.for_getex(command);
        }
    };
    let [values, expires] = reply::array(call.script(&script::LOAD, arguments, retry(touch)).await?)?;
    let (values, expires) = (reply::values(values)?, reply::values(expires)?);
    if values.len() != keys.len() || expires.len() != keys.len() {
        return Err(error::unexpected().into());
    }
    let stored = values.into_iter().zip(expires).map(|(value, expires)| reply::stored(value, &expires));
    Ok(stored.collect::<sosa::Result<_>>()?)
}

/// Reads entries of one shard.
pub(crate) async fn load_many(call: &Call<'_>, keys: &[EntryKey<'_>]) -> Result<Loaded, Failure> {
    let mut load = redis::cmd("MGET");
    load.arg(keys);
    let values = reply::values(call.command(&load, Retry::Read).await?)?;
    if values.len() != keys.len() {
        return Err(error::unexpected().into());
    }
    let mut loaded = Loaded::with_capacity(keys.len());
    for value in values {
        loaded.push(Ok(reply::bytes(value)?.map(|bytes| Stored { bytes, expiry: None })));
    }
    // MGET returns nil for an absent key as well as for one that holds no string.
    let is_missing = |loaded: &sosa::Result<Option<Stored>>| loaded.as_ref().is_ok_and(Option::is_none);
    let missing: Vec<_> =
        keys.iter().zip(&loaded).filter(|(_, loaded)| is_missing(loaded)).map(|(key, _)| *key).collect();
    if !missing.is_empty() {
        let again = load_with_expiry(call, &missing, None).await?;
        for (loaded, again) in loaded.iter_mut().filter(|loaded| is_missing(loaded)).zip(again) {
            *loaded = again.map(|stored| stored.map(|Stored { bytes, .. }| Stored { bytes, expiry: None }));
        }
    }
    Ok(loaded)
}

/// Saves an entry, and its id in the index if there is one. Returns whether the id is new there.
pub(crate) async fn save(call: &Call<'_>, write: &Write<'_>, indexed: bool) -> Result<bool, Failure> {
    match write.read {
        // Boxed, so that the future of the common case stays small.
        Some(_) => Box::pin(replace(call, write, indexed)).await,
        // SET XX in a transaction would add the id even if there is no entry.
        None if indexed && write.condition == SetCondition::Present => Box::pin(replace(call, write, indexed)).await,
        None => set(call, write, indexed).await,
    }
}

/// Saves, on no other condition than SET knows.
async fn set(call: &Call<'_>, write: &Write<'_>, indexed: bool) -> Result<bool, Failure> {
    let mut set = on_entry("SET", &write.key, write.encoded.len() + ROOM);
    set.arg(write.encoded);
    write.condition.append(&mut set);
    write.ttl.for_set(&mut set);
    if !indexed {
        reply::set(&call.command(&set, Retry::Never).await?)?;
        return Ok(false);
    }
    let [set, added] = call.transaction([set, enlist(&write.key)], Retry::Never).await?;
    reply::set(&error::answer(set)?)?;
    match added {
        Value::ServerError(error) => Err(error::not_listed(&error).into()),
        added => Ok(reply::int(&added)? == 1),
    }
}

/// Replaces an entry, if it has the revision that was read.
async fn replace(call: &Call<'_>, write: &Write<'_>, indexed: bool) -> Result<bool, Failure> {
    let arguments = |command: &mut Cmd| {
        keys(&write.key, indexed, command);
        let read = write.read.map_or_else(|| "*".to_owned(), |read| read.to_string());
        command.arg(read).arg(write.encoded).arg(write.key.id());
        write.ttl.for_set(command);
    };
    Ok(reply::int_or_conflict(&call.script(&script::SAVE, arguments, Retry::Never).await?)? == 1)
}

/// Destroys an entry, and its id in the index if there is one. Returns whether it was there.
pub(crate) async fn destroy(
    call: &Call<'_>,
    key: &EntryKey<'_>,
    read: Option<Revision>,
    indexed: bool,
) -> Result<bool, Failure> {
    if !indexed && read.is_none() {
        return Ok(reply::int(&call.command(&on_entry("DEL", key, 0), Retry::Never).await?)? == 1);
    }
    // Never a transaction: a server that is out of memory takes none, and this gives memory back.
    let arguments = |command: &mut Cmd| {
        keys(key, indexed, command);
        command.arg(key.id()).arg(read.map(|read| read.to_string()));
    };
    Ok(reply::int_or_conflict(&call.script(&script::DESTROY, arguments, Retry::Never).await?)? == 1)
}

/// Appends the number of keys and the keys of a script that writes one entry.
fn keys(key: &EntryKey<'_>, indexed: bool, command: &mut Cmd) {
    command.arg(1 + usize::from(indexed)).arg(key).arg(indexed.then(|| key.shard().index()));
}

fn retry(touch: Option<Ttl>) -> Retry {
    if touch.is_some() { Retry::Idempotent } else { Retry::Read }
}
