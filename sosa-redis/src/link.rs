//! One connection that many tasks share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisError, RedisResult, Value};
use tokio::time::{Instant, sleep_until};

/// What is sent in one go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request<'a> {
    Command(&'a Cmd),
    /// Its answer is the array of all answers.
    Commands(&'a Pipeline),
}

impl Request<'_> {
    async fn send(self, connection: &mut impl Connection) -> RedisResult<Value> {
        match self {
            Self::Command(command) => connection.command(command).await,
            Self::Commands(commands) => {
                connection.req_packed_commands(commands, 0, commands.len()).await.map(Value::Array)
            }
        }
    }
}

/// What all connections do, without the box that the driver's trait puts around a command.
trait Connection: ConnectionLike {
    fn command(&mut self, command: &Cmd) -> impl Future<Output = RedisResult<Value>> + Send;
}

impl Connection for ConnectionManager {
    fn command(&mut self, command: &Cmd) -> impl Future<Output = RedisResult<Value>> + Send {
        self.send_packed_command(command)
    }
}

impl Connection for MultiplexedConnection {
    fn command(&mut self, command: &Cmd) -> impl Future<Output = RedisResult<Value>> + Send {
        self.send_packed_command(command)
    }
}

/// How far a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing was sent.
    Waiting,
    /// It was given to the connection of this number.
    Sent(u64),
}

/// A connection that is there, or will be when it is needed.
pub(crate) enum Link {
    /// The driver reconnects.
    Managed(ConnectionManager),
    Shared(Box<Shared>),
}

impl Link {
    pub(crate) fn shared(connect: impl Into<Connect>) -> Self {
        Self::Shared(Box::new(Shared::new(connect.into())))
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask(&self, request: Request<'_>, progress: &mut Progress) -> RedisResult<Value> {
        match self {
            Self::Managed(manager) => {
                *progress = Progress::Sent(0);
                let answer = request.send(&mut manager.clone()).await;
                if answer.as_ref().is_err_and(RedisError::is_connection_refusal) {
                    *progress = Progress::Waiting;
                }
                answer
            }
            Self::Shared(shared) => shared.ask(request, progress).await,
        }
    }

    /// Returns how many answers came in, as a mark for [`give_up`](Self::give_up).
    pub(crate) fn answers(&self) -> u64 {
        match self {
            Self::Managed(_) => 0,
            Self::Shared(shared) => shared.answers.load(Ordering::Relaxed),
        }
    }

    /// Says that a request got no answer in time. A connection that gave nobody an answer since then is
    /// not used again: where the network lost it, nothing else would tell for many minutes.
    pub(crate) fn give_up(&self, progress: Progress, answers: u64) {
        if let (Self::Shared(shared), Progress::Sent(number)) = (self, progress)
            && shared.answers.load(Ordering::Relaxed) == answers
        {
            shared.lose(number);
        }
    }
}

/// What makes connections.
pub(crate) enum Connect {
    Client(redis::Client),
    #[cfg(feature = "deadpool")]
    Pool(deadpool_redis::Pool),
}

impl From<redis::Client> for Connect {
    fn from(client: redis::Client) -> Self {
        Self::Client(client)
    }
}

#[cfg(feature = "deadpool")]
impl From<deadpool_redis::Pool> for Connect {
    fn from(pool: deadpool_redis::Pool) -> Self {
        Self::Pool(pool)
    }
}

impl Connect {
    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        match self {
            Self::Client(client) => {
                // A verb has a deadline, which covers the answer.
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(CONNECTION_TIMEOUT))
                    .set_response_timeout(None);
                client.get_multiplexed_async_connection_with_config(&config).await
            }
            #[cfg(feature = "deadpool")]
            // By the manager and not from the pool: one that lends out all it has does not keep us waiting.
            Self::Pool(pool) => deadpool::managed::Manager::create(pool.manager()).await,
        }
    }
}

/// How long one attempt to connect may take.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest pause between two attempts, short enough to serve within a second of the server's return.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// A connection that is made when it is needed, and again when it was lost.
pub(crate) struct Shared {
    connect: Connect,
    open: Mutex<Option<Open>>,
    attempts: tokio::sync::Mutex<Attempts>,
    answers: AtomicU64,
}

#[derive(Clone)]
struct Open {
    connection: MultiplexedConnection,
    number: u64,
}

/// Who holds it connects, for all who wait.
#[derive(Default)]
struct Attempts {
    /// How many were made.
    count: u64,
    /// How many failed since the last that succeeded.
    failed: u32,
    /// When the last one failed, and how.
    last_failure: Option<(Instant, RedisError)>,
}

impl Shared {
    fn new(connect: Connect) -> Self {
        Self { connect, open: Mutex::default(), attempts: tokio::sync::Mutex::default(), answers: AtomicU64::default() }
    }

    async fn ask(&self, request: Request<'_>, progress: &mut Progress) -> RedisResult<Value> {
        let mut open = match self.opened() {
            Some(open) => open,
            // Boxed, as it is seldom and large, so that the futures of all verbs stay small.
            None => Box::pin(self.open()).await?,
        };
        *progress = Progress::Sent(open.number);
        let answer = request.send(&mut open.connection).await;
        match &answer {
            Err(error) if error.is_unrecoverable_error() => self.lose(open.number),
            _ => drop(self.answers.fetch_add(1, Ordering::Relaxed)),
        }
        answer
    }

    fn opened(&self) -> Option<Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns a connection, or the failure of an attempt that ended after this began.
    async fn open(&self) -> RedisResult<Open> {
        let began = Instant::now();
        let mut attempts = self.attempts.lock().await;
        if let Some(open) = self.opened() {
            return Ok(open);
        }
        if let Some((ended, error)) = &attempts.last_failure {
            if *ended > began {
                return Err(error.clone());
            }
            sleep_until(*ended + pause(attempts.failed, fastrand::f64())).await;
        }
        attempts.count += 1;
        match self.connect.connect().await {
            Ok(connection) => {
                let open = Open { connection, number: attempts.count };
                *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(open.clone());
                attempts.failed = 0;
                attempts.last_failure = None;
                Ok(open)
            }
            Err(error) => {
                attempts.failed = attempts.failed.saturating_add(1);
                attempts.last_failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Forgets a connection, unless it is another by now.
    fn lose(&self, number: u64) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take_if(|open| open.number == number);
    }
}

/// Returns how long to wait after this many failures in a row: twice as long each time, and between half
/// and all of that, so that many programs do not come back at once. `random` is from 0 to 1.
fn pause(failed: u32, random: f64) -> Duration {
    let longest = Duration::from_millis(16).saturating_mul(1 << failed.min(8)).min(LONGEST_PAUSE);
    longest.mul_f64((1.0 + random) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        assert_eq!(pause(1, 1.0), Duration::from_millis(32));
        assert_eq!(pause(1, 0.0), Duration::from_millis(16));
        for failed in 1..100 {
            assert!(pause(failed, 0.5) <= pause(failed + 1, 0.5));
            assert!(pause(failed, 1.0) <= LONGEST_PAUSE);
        }
    }
}
