//! A connection to the server that Sentinels name, and whether they still do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::sentinel::SentinelClient;
use redis::{ConnectionAddr, RedisResult};
use tokio::time::Instant;

use crate::wire::{Wire, without_timeouts};

type Client = Arc<tokio::sync::Mutex<SentinelClient>>;

/// How often the Sentinels are asked whether the server is still the one, while it is used. When it steps
/// down for another, it goes on to take writes for some ten seconds, all of which are lost.
const INTERVAL: Duration = Duration::from_secs(1);

pub(crate) fn shared(client: SentinelClient) -> Client {
    Arc::new(tokio::sync::Mutex::new(client))
}

pub(crate) async fn connect(sentinels: Client) -> RedisResult<Wire> {
    let client = sentinels.lock().await.async_get_client().await?;
    let connection = client.get_multiplexed_async_connection_with_config(&without_timeouts()).await?;
    let address = client.get_connection_info().addr().clone();
    let state = State { sentinels, address, asked: Mutex::new(Instant::now()), is_replaced: AtomicBool::new(false) };
    Ok(Wire::Watched(connection, Watch(Arc::new(state))))
}

/// What the Sentinels say of the server of one connection.
#[derive(Clone)]
pub(crate) struct Watch(Arc<State>);

struct State {
    sentinels: Client,
    address: ConnectionAddr,
    /// When they were last asked.
    asked: Mutex<Instant>,
    is_replaced: AtomicBool,
}

impl Watch {
    /// Returns whether they named another server when they were last asked. Has them asked when it is time, for
    /// which nobody waits.
    pub(crate) fn is_replaced(&self) -> bool {
        let mut asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.elapsed() > INTERVAL {
            *asked = Instant::now();
            drop(tokio::spawn(self.clone().ask()));
        }
        self.0.is_replaced.load(Ordering::Relaxed)
    }

    async fn ask(self) {
        // Without an answer it stays the one.
        if let Ok(client) = self.0.sentinels.lock().await.async_get_client().await {
            let is_other = *client.get_connection_info().addr() != self.0.address;
            self.0.is_replaced.store(is_other, Ordering::Relaxed);
        }
    }
}
