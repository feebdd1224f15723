//! Slots that migrate from one node of a cluster to another. Meanwhile a request over several keys is refused, since they
//! may be on both nodes; its work is then done key by key.

use futures_util::future::try_join_all;
use sosa::{Outcome, Result, Revision};

use crate::client::Call;
use crate::commands::args::{enlist, on_entry};
use crate::commands::entries::{self, Loaded, Write};
use crate::commands::index::{self, Range};
use crate::commands::reply;
use crate::error::Failure;
use crate::keys::{EntryKey, Shard};
use crate::page::ShardPage;
use crate::transport::request::Retry;

/// Falls back to single keys if the slot is migrating.
async fn or_key_by_key<T>(
    at_once: impl Future<Output = Result<T, Failure>>,
    key_by_key: impl AsyncFnOnce() -> Result<T, Failure>,
) -> Result<T> {
    Ok(match at_once.await {
        // Boxed, so that the future of the common case stays small.
        Err(Failure::SlotMoving) => Box::pin(key_by_key()).await?,
        done => done?,
    })
}

/// Reads entries of one shard.
pub(crate) async fn load_many(call: &Call<'_>, keys: &[EntryKey<'_>], with_expiry: bool) -> Result<Loaded> {
    let load = async |keys: &[EntryKey<'_>]| match with_expiry {
        true => entries::load_with_expiry(call, keys, None).await,
        false => entries::load_many(call, keys).await,
    };
    or_key_by_key(load(keys), async || {
        Ok(try_join_all(keys.chunks(1).map(load)).await?.into_iter().flatten().collect())
    })
    .await
}

/// Saves an entry and its id. Returns whether the id is new in the index.
pub(crate) async fn save(call: &Call<'_>, write: &Write<'_>) -> Result<bool> {
    or_key_by_key(entries::save(call, write, true), async || {
        // The id goes first, so that no value is there without it, and again behind, since a listing may have taken it
        // out until then. An id without a value is nothing that anybody sees.
        let enlist = enlist(&write.key);
        call.command(&enlist, Retry::Read).await?;
        entries::save(call, write, false).await?;
        let enlisted = call.command(&enlist, Retry::Idempotent).await.map_err(sosa::Error::from);
        enlisted.map_err(|error| error.with_outcome(Outcome::Unknown))?;
        Ok(false)
    })
    .await
}

/// Destroys an entry. Its id stays in the index for now, like those of what has expired, if it is on another node.
pub(crate) async fn destroy(call: &Call<'_>, key: &EntryKey<'_>, read: Option<Revision>) -> Result<bool> {
    or_key_by_key(entries::destroy(call, key, read, true), async || entries::destroy(call, key, read, false).await)
        .await
}

/// Reads ids of a shard. Those whose value is gone are left out, but for ids that are read to load their values.
pub(crate) async fn page<'a>(
    call: &Call<'_>,
    shard: Shard<'a>,
    range: &Range<'_>,
    ids_only: bool,
) -> Result<ShardPage<'a>> {
    or_key_by_key(index::page(call, shard, range), async || {
        let mut page = index::listed(call, shard, range).await?;
        if ids_only {
            let lives = page.ids.iter().map(async |id| {
                let exists = on_entry("EXISTS", &shard.entry(id)?, 0);
                Ok::<_, Failure>(reply::int(&call.command(&exists, Retry::Read).await?)?)
            });
            let mut lives = try_join_all(lives).await?.into_iter();
            page.ids.retain(|_| lives.next() == Some(1));
        }
        Ok(page)
    })
    .await
}
