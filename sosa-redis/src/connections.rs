//! The clients and pools that a store can be made from.

use std::fmt;
use std::sync::Arc;

use redis::aio::ConnectionManager;

#[cfg(feature = "cluster")]
use crate::transport::cluster;
#[cfg(feature = "deadpool")]
use crate::transport::limits;
use crate::transport::link::Link;

/// The connections of a store, made from the client that a program has. All tasks share them, each
/// sends without waiting for the answers of others, and none is ever checked out. (On a cluster that is so for 256
/// requests at once.)
///
/// - From a [`redis::Client`]: one connection, made at the first verb and again when it is lost. For the
///   least latency over a network set `nodelay` in the client's `TcpSettings`, as
///   [`from_url`](crate::from_url) does; the driver's default leaves it off.
/// - From a [`ConnectionManager`]: that connection. It reconnects by its own configuration, and does not when
///   a network swallows all answers: `TcpSettings` has `keepalive` and `user_timeout` against that.
/// - From a `deadpool_redis::Pool`: as many as the pool may hold at that time, beside those that it lends
///   out; each is made by the pool's manager, when it is first needed and again when it is lost. Resizing or closing the
///   pool later has no effect on them.
/// - From a `redis::sentinel::SentinelClient` or a `deadpool_redis::sentinel::Pool` (feature `sentinel`): as
///   from a client or a pool, to the server that the Sentinels name; they are asked again once a second, but for a
///   pool's. The client's server type must be the master.
/// - From a `redis::cluster::ClusterClient` (feature `cluster`): up to eight connections to each node. See
///   [*On a cluster*](crate#on-a-cluster), also for what becomes of the client's retries.
///
/// One connection to one server serves hundreds of thousands of operations a second. On one machine two or four brought no
/// more, nor a shorter wait behind values of 256 KiB, nor fewer failures where a network cuts connections: see *One
/// connection or several* in BENCHMARKS.md. More may help where one core of the program cannot keep up with the server. What
/// is in flight on a connection falls with it.
#[derive(Clone)]
pub struct Connections {
    pub(crate) links: Arc<[Link]>,
    pub(crate) to_cluster: bool,
    /// How many requests each takes at once, if they are few.
    pub(crate) room: Option<usize>,
}

/// How many connections to each node of a cluster there are. The driver's client is one task for all nodes, and
/// may not be given many requests at once; those that are asked for at once have place in all of these.
#[cfg(feature = "cluster")]
const CLUSTER_CONNECTIONS: usize = 8;

impl Connections {
    fn to_server(links: impl IntoIterator<Item = Link>) -> Self {
        Self { links: links.into_iter().collect(), to_cluster: false, room: None }
    }

    /// Connects to the server that any of these clients names.
    #[cfg(feature = "sentinel")]
    pub(crate) fn of_sentinels(clients: Vec<redis::sentinel::SentinelClient>) -> Self {
        Self::to_server([Link::of_sentinels(clients)])
    }

    #[cfg(feature = "cluster")]
    fn to_cluster(links: impl IntoIterator<Item = Link>, room: usize) -> Self {
        Self { links: links.into_iter().collect(), to_cluster: true, room: Some(room) }
    }
}

impl From<redis::Client> for Connections {
    fn from(client: redis::Client) -> Self {
        Self::to_server([Link::of_client(client)])
    }
}

impl From<ConnectionManager> for Connections {
    fn from(manager: ConnectionManager) -> Self {
        Self::to_server([Link::of_manager(manager)])
    }
}

#[cfg(feature = "sentinel")]
impl From<redis::sentinel::SentinelClient> for Connections {
    fn from(client: redis::sentinel::SentinelClient) -> Self {
        Self::of_sentinels(vec![client])
    }
}

#[cfg(feature = "cluster")]
impl From<redis::cluster::ClusterClient> for Connections {
    fn from(client: redis::cluster::ClusterClient) -> Self {
        let links = (0..CLUSTER_CONNECTIONS).map(|_| Link::of_cluster(client.clone()));
        Self::to_cluster(links, cluster::AT_ONCE)
    }
}

#[cfg(feature = "deadpool")]
impl From<deadpool_redis::Pool> for Connections {
    fn from(pool: deadpool_redis::Pool) -> Self {
        Self::to_server(links(pool.status(), || Link::of_pool(pool.clone(), limits::CONNECT)))
    }
}

#[cfg(all(feature = "deadpool", feature = "sentinel"))]
impl From<deadpool_redis::sentinel::Pool> for Connections {
    fn from(pool: deadpool_redis::sentinel::Pool) -> Self {
        Self::to_server(links(pool.status(), || Link::of_pool(pool.clone(), limits::CONNECT_TO_SOME)))
    }
}

/// Makes as many links as a pool may hold connections.
#[cfg(feature = "deadpool")]
fn links(pool: deadpool::Status, link: impl Fn() -> Link) -> impl Iterator<Item = Link> {
    (0..pool.max_size.max(1)).map(move |_| link())
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("len", &self.links.len()).finish_non_exhaustive()
    }
}
