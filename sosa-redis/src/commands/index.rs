//! Commands on the index of a collection, or of one of its shards.

use redis::{Cmd, Value};

use crate::client::Call;
use crate::commands::reply;
use crate::commands::script;
use crate::error::{self, Failure};
use crate::keys::Shard;
use crate::page::{LexRange, ShardPage};
use crate::transport::request::Retry;

/// How many ids a sweep looks at: two for each new id, of which one in 16 is followed by a sweep.
const SWEEP_IDS: usize = 32;

/// How many ids a purge looks at in one request, so that none blocks the server for long.
const PURGE_IDS: usize = 500;

/// Which ids of an index are read.
pub(crate) struct Range<'a> {
    pub(crate) ids: &'a LexRange,
    pub(crate) limit: usize,
    pub(crate) reverse: bool,
}

impl Range<'_> {
    fn append(&self, command: &mut Cmd) {
        let Self { ids: LexRange { from, to }, limit, reverse } = self;
        match reverse {
            false => command.arg(from).arg(to).arg("BYLEX"),
            true => command.arg(to).arg(from).arg("BYLEX").arg("REV"),
        };
        command.arg("LIMIT").arg(0).arg(*limit);
    }
}

/// Reads ids of a shard, without those whose value is gone.
pub(crate) async fn page<'a>(call: &Call<'_>, shard: Shard<'a>, range: &Range<'_>) -> Result<ShardPage<'a>, Failure> {
    let arguments = |command: &mut Cmd| {
        command.arg(2).arg(shard.index()).arg(shard.values()).arg(range.limit);
        range.append(command);
    };
    // That it drops ids which have expired changes nothing that anybody sees.
    let [last, ids] = reply::array(call.script(&script::PAGE, arguments, Retry::Read).await?)?;
    Ok(ShardPage { shard, ids: reply::ids(ids)?, last: reply::last(last)? })
}

/// Reads ids of a shard, whether their values are there or not.
pub(crate) async fn listed<'a>(call: &Call<'_>, shard: Shard<'a>, range: &Range<'_>) -> Result<ShardPage<'a>, Failure> {
    let mut read = redis::cmd("ZRANGE");
    read.arg(shard.index());
    range.append(&mut read);
    let ids = reply::values(call.command(&read, Retry::Read).await?)?;
    let last = ids.last().filter(|_| ids.len() == range.limit).cloned().unwrap_or(Value::Nil);
    Ok(ShardPage { shard, ids: reply::ids(Value::Array(ids))?, last: reply::last(last)? })
}

/// Removes what has expired from the next part of an index.
pub(crate) async fn sweep(call: &Call<'_>, shard: Shard<'_>) -> Result<(), Failure> {
    let arguments = |command: &mut Cmd| {
        command.arg(2).arg(shard.index()).arg(shard.values()).arg(SWEEP_IDS);
    };
    call.script(&script::SWEEP, arguments, Retry::Never).await.map(drop)
}

/// Removes what has expired from the part of an index behind an id. Returns how many ids that were, and the last that
/// was looked at if there may be more.
pub(crate) async fn purge(call: &Call<'_>, shard: Shard<'_>, after: &[u8]) -> Result<(u64, Option<Vec<u8>>), Failure> {
    let arguments = |command: &mut Cmd| {
        command.arg(2).arg(shard.index()).arg(shard.values()).arg(PURGE_IDS).arg(after);
    };
    let [count, last] = reply::array(call.script(&script::SWEEP, arguments, Retry::Read).await?)?;
    let count = u64::try_from(reply::int(&count)?).map_err(|_| error::unexpected())?;
    Ok((count, reply::bytes(last)?))
}
