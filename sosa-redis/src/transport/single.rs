//! One connection to one server.

use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult, Value};
use tokio::time::timeout;

use crate::transport::connector::{Connector, without_timeouts};
use crate::transport::limits::{ALIVE, CONNECT, LONGEST_PAUSE};
use crate::transport::reconnect::{Open, Reconnecting};
use crate::transport::refusal;
use crate::transport::request::{Delivery, Request, Retry, Track, Undelivered};
use crate::transport::tls;

/// A connection to one server.
pub(crate) struct Single(pub(crate) Reconnecting<MultiplexedConnection>);

impl Single {
    /// Connects by a client.
    pub(crate) fn of_client(client: redis::Client) -> Self {
        Self::new(Connector::new(CONNECT, move || {
            let client = client.clone();
            async move {
                tls::check(client.get_connection_info().addr())?;
                client.get_multiplexed_async_connection_with_config(&without_timeouts()).await
            }
        }))
    }

    pub(crate) fn new(connector: Connector<MultiplexedConnection>) -> Self {
        Self(Reconnecting::new(connector))
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask(&self, request: Request<'_>, retry: Retry, track: &Track) -> Result<Value, Undelivered> {
        let mut open = self.0.get().await.map_err(not_sent)?;
        let answer = exchange(&self.0, &mut open, request, retry, track).await?;
        // Its name may lead to another server by now.
        if refusal::is_read_only(&answer) && open.since.elapsed() > LONGEST_PAUSE {
            self.0.lose(&open);
        }
        Ok(answer)
    }
}

/// A connection that many tasks share, whatever else is known of it.
pub(crate) trait Multiplexed: Clone + Send + Sync + 'static {
    fn connection(&mut self) -> &mut MultiplexedConnection;
}

impl Multiplexed for MultiplexedConnection {
    fn connection(&mut self) -> &mut MultiplexedConnection {
        self
    }
}

pub(crate) fn not_sent(error: RedisError) -> Undelivered {
    Undelivered::new(Delivery::NotSent, error)
}

/// Sends a request over a connection, waits for its answer, and forgets a connection that is of no more use.
pub(crate) async fn exchange<C: Multiplexed>(
    reconnecting: &Reconnecting<C>,
    open: &mut Open<C>,
    request: Request<'_>,
    retry: Retry,
    track: &Track,
) -> Result<Value, Undelivered> {
    if retry == Retry::Never && !reconnecting.is_proven(open) {
        // Boxed, since it is seldom.
        *open = Box::pin(alive(reconnecting, open.clone())).await?;
    }
    track.set_sent(true);
    let answers = reconnecting.answers();
    match send(open.connection.connection(), request).await {
        Ok(answer) => {
            reconnecting.answered();
            Ok(answer)
        }
        Err(error) => {
            let is_over = match error.is_timeout() {
                // By a timeout that the connection has of its own, as those of a pool do.
                true => reconnecting.answers() == answers,
                false => error.is_io_error() || error.is_unrecoverable_error(),
            };
            if is_over {
                reconnecting.lose(open);
            }
            Err(Undelivered::new(delivery(&error), error))
        }
    }
}

/// Returns a connection that is alive: this one if it answers, whatever it says, or else another.
async fn alive<C: Multiplexed>(reconnecting: &Reconnecting<C>, mut open: Open<C>) -> Result<Open<C>, Undelivered> {
    let ping = redis::cmd("PING");
    match timeout(ALIVE, send(open.connection.connection(), Request::Command(&ping))).await {
        Ok(Ok(_)) => {
            reconnecting.proven();
            Ok(open)
        }
        _ => {
            reconnecting.lose(&open);
            reconnecting.get().await.map_err(not_sent)
        }
    }
}

async fn send(connection: &mut MultiplexedConnection, request: Request<'_>) -> RedisResult<Value> {
    match request {
        Request::Command(command) => connection.send_packed_command(command).await,
        Request::Commands(commands) => {
            Box::pin(connection.send_packed_commands(commands, 0, commands.len())).await.map(Value::Array)
        }
    }
}

/// Tells what became of a request that was given to a connection.
pub(crate) fn delivery(error: &RedisError) -> Delivery {
    match error {
        error if error.is_timeout() => Delivery::Late,
        error if error.is_connection_dropped() => Delivery::Lost,
        _ => Delivery::Failed,
    }
}
