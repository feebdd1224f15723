//! A store: what collections on one server are made from.

use std::fmt;
use std::time::Duration;

use redis::IntoConnectionInfo;
use redis::io::tcp::TcpSettings;
use sosa::{Keyspace, Result};

use crate::collection::RedisCollection;
use crate::connections::Connections;
use crate::error;
use crate::server::Server;

/// Makes a store on the server of this client, whose keys start with the prefix.
///
/// The client is a [`redis::Client`], a [`redis::aio::ConnectionManager`] or a `deadpool_redis::Pool`:
/// see [`Connections`]. Nothing connects before the first verb. In the prefix too, `:` `/` `%` `{` `}` are
/// escaped: that of the keys of `myapp:prod` is `myapp%3Aprod`.
///
/// ```no_run
/// use sosa_redis::sosa::Collection;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = sosa_redis::redis::Client::open("redis://127.0.0.1/")?;
/// let people = sosa_redis::new(client, "myapp").collection("people");
/// people.save("ada", &1815).await?;
/// # Ok(()) }
/// ```
pub fn new(client: impl Into<Connections>, prefix: impl Into<String>) -> Redis {
    Redis { server: Server::new(client.into()), prefix: prefix.into() }
}

/// Makes a store on the server of this URL: `redis://[user][:password@]host[:port][/database]`, or
/// `redis+unix:///path[?user=…&pass=…&db=…]` for a Unix socket. `protocol=resp3` as a parameter makes
/// it speak RESP3. Nothing connects before the first verb.
///
/// # Errors
///
/// [`InvalidOption`](sosa::ErrorKind::InvalidOption) if it is no such URL. The error does not repeat it,
/// since it may hold a password.
pub fn connect(url: &str, prefix: impl Into<String>) -> Result<Redis> {
    let info = url.into_connection_info().map_err(|_| error::invalid_url(url))?;
    // Requests of many tasks are gathered before they are written; none waits for more to come.
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let client = redis::Client::open(info).map_err(|_| error::invalid_url(url))?;
    Ok(new(client, prefix))
}

/// A store on a Redis server. A clone shares its connections.
#[derive(Clone)]
pub struct Redis {
    server: Server,
    prefix: String,
}

impl Redis {
    /// How long a verb may take unless [`with_timeout`](Self::with_timeout) says otherwise.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);

    /// Returns the same store under another prefix, whose collections are others.
    #[must_use]
    pub fn with_prefix(&self, prefix: impl Into<String>) -> Self {
        Self { server: self.server.clone(), prefix: prefix.into() }
    }

    /// Sets how long a verb may take, connecting included; two seconds unless set. What takes longer
    /// is a [`Timeout`](sosa::ErrorKind::Timeout); a write that was sent by then may still be applied. With
    /// zero nothing succeeds. A [`purge`](RedisCollection::purge) may take that long for each of its requests.
    ///
    /// A time shorter than the server's longest pauses, for a snapshot or a slow command of another
    /// client, turns each of them into errors. A client that was made with a response timeout of its
    /// own, as a [`ConnectionManager`](redis::aio::ConnectionManager) has one of half a second unless
    /// told, ends a verb by the shorter of the two.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.server.timeout = timeout;
        self
    }

    /// Returns the collection of this name, with an index of its ids for listing.
    pub fn collection<T>(&self, name: &str) -> RedisCollection<T> {
        RedisCollection::new(self.server.clone(), Keyspace::new(&self.prefix, name), true)
    }

    /// Returns the collection whose keys are this text, as it stands, and the id: data that another
    /// program keeps, `sess:` of Express for example. It has no index and cannot be listed, and neither
    /// the store's prefix nor the rule that no two collections meet holds for it.
    ///
    /// ```
    /// # fn example(store: &sosa_redis::Redis) -> sosa_redis::RedisCollection<String> {
    /// // `load("abc")` reads the key `sess:abc`.
    /// store.collection_at("sess:")
    /// # }
    /// ```
    pub fn collection_at<T>(&self, literal: &str) -> RedisCollection<T> {
        RedisCollection::new(self.server.clone(), Keyspace::literal(literal), false)
    }
}

// Not the client: what it prints is the driver's affair, and it knows the password.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, prefix } = self;
        f.debug_struct("Redis").field("prefix", prefix).field("timeout", &server.timeout).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_the_password() {
        let store = connect("redis://ada:sesame@127.0.0.1:1/7", "myapp").unwrap();
        assert!(!format!("{store:?} {:?}", store.collection::<String>("people")).contains("sesame"));
        for url in ["http://ada:sesame@host/", "redis://ada:sesame@host:port/", "sesame", "redis://h/sesame"] {
            let error = connect(url, "myapp").unwrap_err();
            assert!(!format!("{error} {error:?}").contains("sesame"), "{error:?}");
        }
    }
}
