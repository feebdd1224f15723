//! What a store may be made from.

use std::fmt;
use std::sync::Arc;

use redis::aio::ConnectionManager;

use crate::link::Link;

/// The connections of a store, made from the client that a program has. All tasks share them, each
/// sends without waiting for the answers of others, and none is ever checked out.
///
/// - From a [`redis::Client`]: one connection, made at the first verb and again when it is lost. For the
///   least latency over a network set `nodelay` in the client's `TcpSettings`, as
///   [`connect`](crate::connect) does; the driver's default leaves it off.
/// - From a [`ConnectionManager`]: that connection. It reconnects by its own configuration, and does not when
///   a network swallows all answers: `TcpSettings` has `keepalive` and `user_timeout` against that.
/// - From a `deadpool_redis::Pool`: as many as the pool may hold at that time, beside those that it lends
///   out; each is made by the pool's manager, when it is first needed and again when it is lost. What
///   becomes of the pool later is nothing to them.
///
/// One connection serves hundreds of thousands of operations a second. More of them help where large
/// values hold up small ones, or where one core of the program cannot keep up with the server.
#[derive(Clone)]
pub struct Connections(pub(crate) Arc<[Link]>);

impl From<redis::Client> for Connections {
    fn from(client: redis::Client) -> Self {
        Self([Link::shared(client)].into())
    }
}

impl From<ConnectionManager> for Connections {
    fn from(manager: ConnectionManager) -> Self {
        Self([Link::Managed(manager)].into())
    }
}

#[cfg(feature = "deadpool")]
impl From<deadpool_redis::Pool> for Connections {
    fn from(pool: deadpool_redis::Pool) -> Self {
        let size = pool.status().max_size.max(1);
        Self((0..size).map(|_| Link::shared(pool.clone())).collect())
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("len", &self.0.len()).finish_non_exhaustive()
    }
}
