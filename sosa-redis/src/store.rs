//! A store: what collections on one server are made from.

use std::fmt;
use std::time::Duration;

use sosa::{Keyspace, Result};

use crate::client::Client;
use crate::collection::{Indexing, RedisCollection};
use crate::connections::Connections;
use crate::transport::limits;
use crate::url;

/// Makes a store on the server of this client, whose keys start with the prefix.
///
/// The client is a [`redis::Client`], a [`redis::aio::ConnectionManager`], the driver's client for a cluster or for
/// Sentinels, or a pool of `deadpool-redis`, but for one to a cluster: see [`Connections`]. Nothing connects before the
/// first verb. In the prefix too, `:` `/` `%` `{` `}` are escaped: that of the keys of `myapp:prod` is `myapp%3Aprod`.
///
/// ```no_run
/// use sosa_redis::sosa::Collection;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = sosa_redis::redis::Client::open("redis://127.0.0.1/")?;
/// let people = sosa_redis::new(client, "myapp").collection("people");
/// people.save("ada", &1815).await?;
/// # Ok(()) }
/// ```
pub fn new(client: impl Into<Connections>, prefix: impl Into<String>) -> RedisStore {
    let connections = client.into();
    let sharded = connections.to_cluster;
    RedisStore { client: Client::new(connections), prefix: prefix.into(), sharded }
}

/// Makes a store on what this URL names. Nothing connects before the first verb.
///
/// - a server: `redis://[user][:password@]host[:port][/database]`;
/// - one on a Unix socket: `redis+unix:///path[?user=…&pass=…&db=…]`;
/// - the nodes of a cluster, some of them at least (feature `cluster`): `redis-cluster://[user][:password@]host[:port][,host[:port]…]`;
/// - the server that Sentinels name (feature `sentinel`):
///   `redis-sentinel://[user][:password@]host[:port][,host[:port]…][/database]?sentinelMasterId=name`, where user
///   and password are the server's.
///
/// `protocol=resp3` as a parameter makes it speak RESP3. `rediss`, `rediss-cluster` and `rediss-sentinel` are the
/// same over TLS, for which the feature `tls-rustls` is needed, and the cryptography of rustls that the program installs.
///
/// ```no_run
/// # fn main() -> sosa_redis::sosa::Result<()> {
/// let store = sosa_redis::from_url("redis-cluster://10.0.0.1,10.0.0.2,10.0.0.3", "myapp")?;
/// let people = store.collection::<String>("people");
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// [`InvalidOption`](sosa::ErrorKind::InvalidOption) if it is no such URL, of a kind whose feature is off, or over TLS while
/// no cryptography is installed. The error does not repeat the URL, since it may hold a password.
pub fn from_url(url: &str, prefix: impl Into<String>) -> Result<RedisStore> {
    Ok(new(url::connections(url)?, prefix))
}

/// A store on a Redis server. A clone shares its connections.
#[derive(Clone)]
pub struct RedisStore {
    client: Client,
    prefix: String,
    sharded: bool,
}

impl RedisStore {
    /// How long a verb may take unless [`with_timeout`](Self::with_timeout) says otherwise.
    pub const DEFAULT_TIMEOUT: Duration = limits::VERB;

    /// Returns the same store under another prefix, whose collections are others.
    #[must_use]
    pub fn with_prefix(&self, prefix: impl Into<String>) -> Self {
        Self { client: self.client.clone(), prefix: prefix.into(), sharded: self.sharded }
    }

    /// Sets how long a verb may take, connecting included; two seconds unless set. A longer one
    /// is a [`Timeout`](sosa::ErrorKind::Timeout); a write that was sent by then may still be applied. With
    /// zero nothing succeeds. A [`purge`](RedisCollection::purge) may take that long for each of its requests.
    ///
    /// A time shorter than the server's longest pauses, for a snapshot or a slow command of another
    /// client, turns each of them into errors. A client that was made with a response timeout of its
    /// own, as a [`ConnectionManager`](redis::aio::ConnectionManager) has one of half a second unless
    /// told, ends a verb by the shorter of the two.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.client.timeout = timeout;
        self
    }

    /// Spreads collections over 64 shards, on one server too, as they always are on a cluster: the
    /// keys are those of a cluster, and one may take the data over as it is when one server is no
    /// longer enough. A page of a listing and a [`purge`](RedisCollection::purge) cost more, since they ask all
    /// shards, and a key is seven bytes longer; all else costs the same.
    ///
    /// All programs that use a collection must agree on this: without it the keys are others. Collections
    /// that are not indexed have the same keys either way.
    #[must_use]
    pub fn sharded(mut self) -> Self {
        self.sharded = true;
        self
    }

    /// Returns the collection of this name, with an index of its ids for listing.
    pub fn collection<T>(&self, name: &str) -> RedisCollection<T> {
        let indexing = if self.sharded { Indexing::Sharded } else { Indexing::Whole };
        RedisCollection::new(self.client.clone(), Keyspace::new(&self.prefix, name), indexing)
    }

    /// Returns the collection whose keys are this text, as it stands, and the id: data that another
    /// program keeps, `sess:` of Express for example. It has no index and cannot be listed, and neither
    /// the store's prefix nor the rule that no two collections meet holds for it.
    ///
    /// ```
    /// # fn example(store: &sosa_redis::RedisStore) -> sosa_redis::RedisCollection<String> {
    /// // `load("abc")` reads the key `sess:abc`.
    /// store.collection_at("sess:")
    /// # }
    /// ```
    pub fn collection_at<T>(&self, literal: &str) -> RedisCollection<T> {
        RedisCollection::new(self.client.clone(), Keyspace::literal(literal), Indexing::None)
    }
}

// Not the client: what it prints is the driver's affair, and it knows the password.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, prefix, sharded } = self;
        let mut redis = f.debug_struct("RedisStore");
        redis
            .field("prefix", prefix)
            .field("sharded", sharded)
            .field("timeout", &client.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_the_password() {
        let store = from_url("redis://ada:sesame@127.0.0.1:1/7", "myapp").unwrap();
        assert!(!format!("{store:?} {:?}", store.collection::<String>("people")).contains("sesame"));
        for url in ["http://ada:sesame@host/", "redis://ada:sesame@host:port/", "sesame", "redis://h/sesame"] {
            let error = from_url(url, "myapp").unwrap_err();
            assert!(!format!("{error} {error:?}").contains("sesame"), "{error:?}");
        }
    }
}
