//! A store's connection, of whichever kind: the only file that knows all of them.

#[cfg(feature = "deadpool")]
use std::time::Duration;

use redis::Value;
use redis::aio::ConnectionManager;
use tokio::time::Instant;

#[cfg(feature = "cluster")]
use crate::transport::cluster::Cluster;
#[cfg(feature = "deadpool")]
use crate::transport::connector::Connector;
use crate::transport::manager::Manager;
use crate::transport::request::{Request, Retry, Track, Undelivered};
#[cfg(feature = "sentinel")]
use crate::transport::sentinel::Sentinel;
use crate::transport::single::Single;

/// A connection, made when it is needed.
pub(crate) enum Link {
    Single(Box<Single>),
    #[cfg(feature = "sentinel")]
    Sentinel(Box<Sentinel>),
    #[cfg(feature = "cluster")]
    Cluster(Box<Cluster>),
    /// The driver reconnects.
    Managed(Box<Manager>),
}

impl Link {
    pub(crate) fn of_client(client: redis::Client) -> Self {
        Self::Single(Box::new(Single::of_client(client)))
    }

    pub(crate) fn of_manager(manager: ConnectionManager) -> Self {
        Self::Managed(Box::new(Manager::new(manager)))
    }

    #[cfg(feature = "sentinel")]
    pub(crate) fn of_sentinels(clients: Vec<redis::sentinel::SentinelClient>) -> Self {
        Self::Sentinel(Box::new(Sentinel::new(clients)))
    }

    #[cfg(feature = "cluster")]
    pub(crate) fn of_cluster(client: redis::cluster::ClusterClient) -> Self {
        Self::Cluster(Box::new(Cluster::new(client)))
    }

    /// Connects by a pool's manager, within this time limit; not from the pool, whose connections may all be checked out.
    #[cfg(feature = "deadpool")]
    pub(crate) fn of_pool<M, W>(pool: deadpool::managed::Pool<M, W>, limit: Duration) -> Self
    where
        M: deadpool::managed::Manager<Type = redis::aio::MultiplexedConnection, Error = redis::RedisError> + 'static,
        W: From<deadpool::managed::Object<M>> + 'static,
    {
        Self::Single(Box::new(Single::new(Connector::new(limit, move || {
            let pool = pool.clone();
            async move { pool.manager().create().await }
        }))))
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask(&self, request: Request<'_>, retry: Retry, track: &Track) -> Result<Value, Undelivered> {
        match self {
            Self::Single(single) => single.ask(request, retry, track).await,
            // Boxed, so that they make the futures of others no larger.
            #[cfg(feature = "sentinel")]
            Self::Sentinel(sentinel) => Box::pin(sentinel.ask(request, retry, track)).await,
            #[cfg(feature = "cluster")]
            Self::Cluster(cluster) => Box::pin(cluster.ask(request, retry, track)).await,
            Self::Managed(manager) => manager.ask(request, retry, track).await,
        }
    }

    /// Returns how many requests are in flight, if that is counted.
    pub(crate) fn in_flight(&self) -> usize {
        match self {
            #[cfg(feature = "cluster")]
            Self::Cluster(cluster) => cluster.in_flight(),
            _ => 0,
        }
    }

    /// Returns the count of answers so far, for [`give_up`](Self::give_up).
    pub(crate) fn answers(&self) -> u64 {
        match self {
            Self::Single(single) => single.0.answers(),
            #[cfg(feature = "sentinel")]
            Self::Sentinel(sentinel) => sentinel.0.answers(),
            #[cfg(feature = "cluster")]
            Self::Cluster(cluster) => cluster.nodes.answers(),
            Self::Managed(_) => 0,
        }
    }

    /// Returns whether a request that gets no answer can be sent over another connection soon. A cluster sees to that
    /// itself, node by node, and a manager does not let go of its connection.
    pub(crate) fn can_be_replaced(&self) -> bool {
        match self {
            Self::Single(_) => true,
            #[cfg(feature = "sentinel")]
            Self::Sentinel(_) => true,
            #[cfg(feature = "cluster")]
            Self::Cluster(_) => false,
            Self::Managed(_) => false,
        }
    }

    /// Tells that a request which began at this time timed out. A connection that has answered no request since then is
    /// not used again. Returns whether it is gone.
    pub(crate) fn give_up(&self, began: Instant, answers: u64) -> bool {
        match self {
            Self::Single(single) => single.0.give_up(began, answers),
            #[cfg(feature = "sentinel")]
            Self::Sentinel(sentinel) => sentinel.0.give_up(began, answers),
            #[cfg(feature = "cluster")]
            Self::Cluster(cluster) => cluster.nodes.give_up(began, answers),
            Self::Managed(_) => false,
        }
    }
}
