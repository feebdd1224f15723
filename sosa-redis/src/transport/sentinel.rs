//! A connection to the server that Sentinels name, as long as they do.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redis::aio::MultiplexedConnection;
use redis::sentinel::SentinelClient;
use redis::{ConnectionAddr, RedisResult, Value};
use tokio::time::{Instant, timeout};

use crate::transport::connector::{Connector, without_timeouts};
use crate::transport::limits::{CONNECT_TO_SOME, LONGEST_PAUSE, SENTINEL, SENTINELS};
use crate::transport::reconnect::{self, Reconnecting};
use crate::transport::refusal;
use crate::transport::request::{Request, Retry, Track, Undelivered};
use crate::transport::single::{Multiplexed, exchange, not_sent};
use crate::transport::tls;

/// A connection to the server that Sentinels name.
pub(crate) struct Sentinel(pub(crate) Reconnecting<Watched>);

impl Sentinel {
    /// Connects to the server that these clients name, of which each may know one Sentinel or all.
    pub(crate) fn new(clients: Vec<SentinelClient>) -> Self {
        let clients = clients.into_iter().map(tokio::sync::Mutex::new).collect();
        let sentinels = Arc::new(Sentinels { clients, answered: AtomicUsize::default() });
        Self(Reconnecting::new(Connector::new(CONNECT_TO_SOME, move || connect(sentinels.clone()))))
    }

    /// Sends a request and waits for its answer. While the server is still loading, or has no primary, it is sent again
    /// after a pause.
    pub(crate) async fn ask(&self, request: Request<'_>, retry: Retry, track: &Track) -> Result<Value, Undelivered> {
        let mut unserved = 0;
        loop {
            let mut open = self.0.get().await.map_err(not_sent)?;
            if open.connection.is_replaced() {
                self.0.lose(&open);
                continue;
            }
            let answer = exchange(&self.0, &mut open, request, retry, track).await?;
            let is_demoted = refusal::is_read_only(&answer) || refusal::is_without_replicas(&answer);
            if is_demoted && open.since.elapsed() > LONGEST_PAUSE {
                self.0.lose(&open);
            }
            if !refusal::is_unserved(&answer) {
                return Ok(answer);
            }
            track.set_sent(false);
            unserved += 1;
            reconnect::wait(unserved).await;
        }
    }
}

/// Those who know which server is the one.
struct Sentinels {
    clients: Vec<tokio::sync::Mutex<SentinelClient>>,
    /// Which of them answered last.
    answered: AtomicUsize,
}

impl Sentinels {
    /// Asks them, one after the other, from the one that answered last: each has its time, so that one that the network
    /// cut off keeps nobody waiting for long.
    async fn server(&self) -> RedisResult<redis::Client> {
        let count = self.clients.len();
        let limit = if count > 1 { SENTINEL } else { CONNECT_TO_SOME };
        let first = self.answered.load(Ordering::Relaxed);
        let mut failure = None;
        for place in (0..count).map(|n| (first + n) % count) {
            let asked = async { self.clients[place].lock().await.async_get_client().await };
            match timeout(limit, asked).await {
                Ok(Ok(client)) => {
                    self.answered.store(place, Ordering::Relaxed);
                    return Ok(client);
                }
                Ok(Err(error)) => failure = Some(error),
                Err(_) => failure = Some(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        }
        Err(failure.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound).into()))
    }
}

async fn connect(sentinels: Arc<Sentinels>) -> RedisResult<Watched> {
    let client = sentinels.server().await?;
    tls::check(client.get_connection_info().addr())?;
    let connection = client.get_multiplexed_async_connection_with_config(&without_timeouts()).await?;
    let address = client.get_connection_info().addr().clone();
    let watch = Watch {
        sentinels,
        address,
        asked: Mutex::new(Instant::now()),
        is_asking: AtomicBool::new(false),
        is_replaced: AtomicBool::new(false),
    };
    Ok(Watched { connection, watch: Arc::new(watch) })
}

/// A connection, and what the Sentinels say of its server.
#[derive(Clone)]
pub(crate) struct Watched {
    connection: MultiplexedConnection,
    watch: Arc<Watch>,
}

struct Watch {
    sentinels: Arc<Sentinels>,
    address: ConnectionAddr,
    /// When they were last asked.
    asked: Mutex<Instant>,
    /// They have not answered that yet.
    is_asking: AtomicBool,
    is_replaced: AtomicBool,
}

impl Multiplexed for Watched {
    fn connection(&mut self) -> &mut MultiplexedConnection {
        &mut self.connection
    }
}

impl Watched {
    /// Returns whether the Sentinels named another server when they were last asked. Asks them again in the background when
    /// it is time.
    fn is_replaced(&self) -> bool {
        let mut asked = self.watch.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.elapsed() > SENTINELS && !self.watch.is_asking.swap(true, Ordering::Relaxed) {
            *asked = Instant::now();
            drop(tokio::spawn(self.watch.clone().ask()));
        }
        self.watch.is_replaced.load(Ordering::Relaxed)
    }
}

impl Watch {
    async fn ask(self: Arc<Self>) {
        // Without an answer the server stays the one to use.
        if let Ok(client) = self.sentinels.server().await {
            let is_other = *client.get_connection_info().addr() != self.address;
            self.is_replaced.store(is_other, Ordering::Relaxed);
        }
        self.is_asking.store(false, Ordering::Relaxed);
    }
}
