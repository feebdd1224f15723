//! Connections to all nodes of a cluster: the driver's client, which finds the node of a key and follows where it has
//! gone, over connections of ours, which keep it from sending again what may have been done.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{Arg, Cmd, ErrorKind, RedisError, RedisResult, Value};
use tokio::sync::Semaphore;

use crate::transport::connector::Connector;
use crate::transport::limits::CONNECT_TO_SOME;
use crate::transport::node::{LATE, LOST, Node, Registered, UNSENT, name};
use crate::transport::reconnect::{self, Reconnecting};
use crate::transport::refusal;
use crate::transport::request::{Delivery, Request, Retry, Track, Undelivered};
use crate::transport::single::{self, not_sent};

/// How many requests the driver's client gets at once.
///
/// It is a single task. If that runs out of tokio's cooperative budget while one of its requests holds the lock of the
/// slot map, a refresh of the map deadlocks (driver 1.8.1, tokio 1.54); so requests in flight are capped.
pub(crate) const AT_ONCE: usize = 32;

/// The driver's client for a cluster, made when it is needed.
pub(crate) struct Cluster {
    pub(crate) nodes: Reconnecting<Nodes>,
    in_flight: AtomicUsize,
}

/// The driver's client, one task for all nodes.
#[derive(Clone)]
pub(crate) struct Nodes {
    connection: ClusterConnection<Node>,
    room: Arc<Semaphore>,
}

/// A request that is sent, or waits for the connection, until this is dropped.
struct InFlight<'a>(&'a AtomicUsize);

impl<'a> InFlight<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Cluster {
    /// Connects to the nodes that the client names, and to all others of their cluster.
    pub(crate) fn new(client: ClusterClient) -> Self {
        let connector = Connector::new(CONNECT_TO_SOME, move || {
            let client = client.clone();
            async move {
                // Hidden from the driver's documentation, though not from its own tests, which make such connections of
                // other types as we do.
                let connection = client.get_async_generic_connection().await?;
                Ok(Nodes { connection, room: Arc::new(Semaphore::new(AT_ONCE)) })
            }
        });
        Self { nodes: Reconnecting::new(connector), in_flight: AtomicUsize::default() }
    }

    /// Returns how many requests are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Sends a request, and waits for its answer. As long as no node serves its slot, it is sent again after a pause.
    pub(crate) async fn ask(&self, request: Request<'_>, retry: Retry, track: &Track) -> Result<Value, Undelivered> {
        let mut unserved = 0;
        loop {
            let in_flight = InFlight::new(&self.in_flight);
            let mut open = self.nodes.get().await.map_err(not_sent)?;
            track.set_sent(true);
            let answer = open.connection.ask(request, retry, track).await;
            drop(in_flight);
            match answer {
                Ok(answer) => {
                    self.nodes.answered();
                    if !refusal::is_unserved(&answer) {
                        return Ok(answer);
                    }
                }
                Err(error) => {
                    if has_ended(&error) {
                        self.nodes.lose(&open);
                    }
                    if let Some(undelivered) = undelivered(error, track.is_sent()) {
                        return Err(undelivered);
                    }
                }
            }
            track.set_sent(false);
            unserved += 1;
            reconnect::wait(unserved).await;
        }
    }
}

impl Nodes {
    /// Sends a request, once at most, to the primary of its first key, even if the client was told to read from
    /// replicas: so that reads see earlier writes.
    async fn ask(&mut self, request: Request<'_>, retry: Retry, track: &Track) -> RedisResult<Value> {
        match request {
            Request::Command(command) => {
                let command = command.clone();
                let _registered = Registered::new(name(&command), retry, track);
                let _place = self.room.acquire().await.expect("it is never closed");
                let route = RoutingInfo::SingleNode(route(first_key(&command)));
                self.connection.route_command(command, route).await
            }
            Request::Commands(commands) => {
                let commands = commands.clone();
                let _registered =
                    Registered::new(commands.cmd_iter().next().map(name).unwrap_or_default(), retry, track);
                let _place = self.room.acquire().await.expect("it is never closed");
                let (count, route) = (commands.len(), route(commands.cmd_iter().find_map(first_key)));
                self.connection.route_pipeline(commands, 0, count, route).await.map(Value::Array)
            }
        }
    }
}

fn route(key: Option<&[u8]>) -> SingleNodeRoutingInfo {
    key.map_or(SingleNodeRoutingInfo::Random, |key| {
        SingleNodeRoutingInfo::SpecificNode(Route::with_key(key, SlotAddr::Master))
    })
}

/// Returns the first key of a command, as all that we send have it.
fn first_key(command: &Cmd) -> Option<&[u8]> {
    let place = match name(command) {
        // Behind the script and the number of keys.
        b"EVAL" | b"EVALSHA" => 3,
        _ => 1,
    };
    match command.args_iter().nth(place)? {
        Arg::Simple(key) => Some(key),
        _ => None,
    }
}

/// Tells what became of a request that got no answer; none if it was not sent or was rejected, as no node serves its
/// slot, so that it can be sent again.
fn undelivered(error: RedisError, is_sent: bool) -> Option<Undelivered> {
    let io_error = |kind| io::Error::new(kind, error.detail().unwrap_or_default().to_owned());
    match (error.code(), is_sent) {
        (Some(LOST), _) => Some(Undelivered::new(Delivery::Lost, io_error(io::ErrorKind::ConnectionReset).into())),
        (Some(LATE), _) => Some(Undelivered::new(Delivery::Late, io_error(io::ErrorKind::TimedOut).into())),
        (_, true) => Some(Undelivered::new(single::delivery(&error), error)),
        // Rejected by a server, or by us for a node that cannot be reached.
        (Some(UNSENT | "READONLY" | "MOVED" | "ASK"), false) => None,
        _ if error.is_io_error() || error.kind() == ErrorKind::ClusterConnectionNotFound => None,
        _ => Some(not_sent(error)),
    }
}

/// Returns whether the driver's task has ended.
fn has_ended(error: &RedisError) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<Arc<dyn Error + Send + Sync>>());
    let kind = source.and_then(|source| Some(source.downcast_ref::<io::Error>()?.kind()));
    kind == Some(io::ErrorKind::BrokenPipe)
}
