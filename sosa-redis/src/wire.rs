//! What makes connections, and what it makes.

use std::io;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisError, RedisResult, Value};
use tokio::time::timeout;

#[cfg(feature = "cluster")]
use crate::cluster;
use crate::error;
use crate::link::{Connection, Fate, Progress, Track};
#[cfg(feature = "sentinel")]
use crate::sentinel;

/// Makes connections.
pub(crate) struct Connect {
    make: Box<dyn Fn() -> BoxFuture<'static, RedisResult<Wire>> + Send + Sync>,
    /// How long an attempt may take.
    pub(crate) timeout: Duration,
    /// Whether an attempt goes on while nobody waits for it.
    in_background: bool,
}

/// An attempt to connect. All who wait for it drive it, so that none depends on another that is dropped,
/// or is kept and not polled.
pub(crate) type Attempt = future::Shared<BoxFuture<'static, RedisResult<Wire>>>;

impl Connect {
    pub(crate) fn new<F>(timeout: Duration, make: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = RedisResult<Wire>> + Send + 'static,
    {
        Self { make: Box::new(move || make().boxed()), timeout, in_background: false }
    }

    /// Lets each attempt go on in a task of its own.
    #[cfg(feature = "cluster")]
    pub(crate) fn in_background(self) -> Self {
        Self { in_background: true, ..self }
    }

    /// Begins an attempt, which ends in time.
    pub(crate) fn attempt(&self) -> Attempt {
        choose_cryptography();
        let attempt = timeout(self.timeout, (self.make)());
        let late = || Err(io::Error::from(io::ErrorKind::TimedOut).into());
        let attempt = attempt.map(move |made| made.unwrap_or_else(|_| late())).boxed().shared();
        if self.in_background {
            drop(tokio::spawn(attempt.clone()));
        }
        attempt
    }
}

/// Sees to it that there is one for TLS, since the driver leaves that to others, and rustls panics where the
/// program was built with two of them and chose none.
fn choose_cryptography() {
    #[cfg(feature = "tls-rustls")]
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Unless somebody was faster.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
}

/// For one server.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);

/// For several, of which some may not answer.
#[cfg(any(feature = "cluster", feature = "sentinel"))]
pub(crate) const TIMEOUT_OF_MANY: Duration = Duration::from_secs(3);

/// A connection to a server, or those to all nodes of a cluster.
#[derive(Clone)]
pub(crate) enum Wire {
    Server(MultiplexedConnection),
    #[cfg(feature = "sentinel")]
    Watched(MultiplexedConnection, sentinel::Watch),
    #[cfg(feature = "cluster")]
    Cluster(cluster::Nodes<cluster::Node>),
    /// As the driver makes it, which sends again what may have been done.
    #[cfg(all(feature = "cluster", feature = "deadpool"))]
    PooledCluster(cluster::Nodes<MultiplexedConnection>),
}

impl Wire {
    /// Returns whether nothing was done because nobody serves the key at the time, and another server soon may.
    pub(crate) fn is_unserved(&self, answer: &Value) -> bool {
        // Where there is no other, whoever asks is to know.
        !matches!(self, Self::Server(_)) && error::is_unserved(answer)
    }

    /// Returns whether another server has taken this one's place meanwhile, as far as that is known.
    pub(crate) fn is_replaced(&self) -> bool {
        match self {
            #[cfg(feature = "sentinel")]
            Self::Watched(_, watch) => watch.is_replaced(),
            _ => false,
        }
    }

    /// Returns whether the server has become a replica, so that another one is to be connected to. The
    /// client of a cluster sees to that itself.
    pub(crate) fn is_demoted(&self, answer: &Value) -> bool {
        match self {
            Self::Server(_) => error::is_read_only(answer),
            #[cfg(feature = "sentinel")]
            Self::Watched(..) => error::is_read_only(answer) || error::is_without_replicas(answer),
            #[cfg(feature = "cluster")]
            _ => false,
        }
    }
}

impl From<MultiplexedConnection> for Wire {
    fn from(connection: MultiplexedConnection) -> Self {
        Self::Server(connection)
    }
}

#[cfg(all(feature = "cluster", feature = "deadpool"))]
impl From<redis::cluster_async::ClusterConnection> for Wire {
    fn from(connection: redis::cluster_async::ClusterConnection) -> Self {
        Self::PooledCluster(cluster::Nodes::new(connection, cluster::POOLED_ROOM))
    }
}

// Only a cluster's connections have a use for how far a request got.
#[cfg_attr(not(feature = "cluster"), allow(unused_variables))]
impl Connection for Wire {
    async fn command(&mut self, command: &Cmd, track: &Track) -> RedisResult<Value> {
        match self {
            Self::Server(connection) => connection.send_packed_command(command).await,
            #[cfg(feature = "sentinel")]
            Self::Watched(connection, _) => connection.send_packed_command(command).await,
            #[cfg(feature = "cluster")]
            Self::Cluster(nodes) => Box::pin(nodes.tracked_command(command, track)).await,
            #[cfg(all(feature = "cluster", feature = "deadpool"))]
            Self::PooledCluster(nodes) => Box::pin(nodes.command(command.clone())).await,
        }
    }

    async fn commands(&mut self, commands: &Pipeline, track: &Track) -> RedisResult<Vec<Value>> {
        match self {
            Self::Server(connection) => connection.send_packed_commands(commands, 0, commands.len()).await,
            #[cfg(feature = "sentinel")]
            Self::Watched(connection, _) => connection.send_packed_commands(commands, 0, commands.len()).await,
            #[cfg(feature = "cluster")]
            Self::Cluster(nodes) => nodes.tracked_commands(commands, track).await,
            #[cfg(all(feature = "cluster", feature = "deadpool"))]
            Self::PooledCluster(nodes) => nodes.commands(commands.clone()).await,
        }
    }

    fn fate(&self, error: RedisError, progress: Progress) -> (Fate, RedisError) {
        match self {
            #[cfg(feature = "cluster")]
            Self::Cluster(_) => cluster::fate(error, progress),
            #[cfg(all(feature = "cluster", feature = "deadpool"))]
            Self::PooledCluster(_) if cluster::has_ended(&error) => (Fate::Lost, error),
            #[cfg(all(feature = "cluster", feature = "deadpool"))]
            // Once or more.
            Self::PooledCluster(_) => (Fate::Sent, error),
            _ if error.is_timeout() => (Fate::Late, error),
            _ if error.is_io_error() || error.is_unrecoverable_error() => (Fate::Lost, error),
            _ => (Fate::Sent, error),
        }
    }
}

/// Returns how connections to a server are made: a verb has a deadline, which covers the answer.
pub(crate) fn without_timeouts() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None)
}

pub(crate) fn client(client: redis::Client) -> Connect {
    Connect::new(TIMEOUT, move || {
        let client = client.clone();
        async move { client.get_multiplexed_async_connection_with_config(&without_timeouts()).await.map(Wire::Server) }
    })
}

/// By the manager and not from the pool: one that lends out all it has does not keep us waiting.
#[cfg(feature = "deadpool")]
pub(crate) fn pool<M, W>(pool: deadpool::managed::Pool<M, W>, timeout: Duration) -> Connect
where
    M: deadpool::managed::Manager<Error = RedisError, Type: Into<Wire>> + 'static,
    W: From<deadpool::managed::Object<M>> + 'static,
{
    Connect::new(timeout, move || {
        let pool = pool.clone();
        async move { pool.manager().create().await.map(Into::into) }
    })
}

#[cfg(feature = "sentinel")]
pub(crate) fn sentinel(client: redis::sentinel::SentinelClient) -> Connect {
    let client = sentinel::shared(client);
    Connect::new(TIMEOUT_OF_MANY, move || sentinel::connect(client.clone()))
}

#[cfg(feature = "cluster")]
pub(crate) fn cluster(client: redis::cluster::ClusterClient) -> Connect {
    Connect::new(TIMEOUT_OF_MANY, move || {
        let client = client.clone();
        async move { cluster::connect(&client).await.map(Wire::Cluster) }
    })
}
