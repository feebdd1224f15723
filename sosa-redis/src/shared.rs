//! One connection that many tasks share, made again when it is lost.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError, RedisResult, Value};
use tokio::runtime::{self, Handle};
use tokio::time::{Instant, sleep_until, timeout};

use crate::link::{Progress, Request};

/// What makes connections.
#[derive(Clone)]
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
    async fn connect(self) -> RedisResult<MultiplexedConnection> {
        match self {
            Self::Client(client) => {
                // A verb has a deadline, which covers the answer.
                let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
                client.get_multiplexed_async_connection_with_config(&config).await
            }
            #[cfg(feature = "deadpool")]
            // By the manager and not from the pool: one that lends out all it has does not keep us waiting.
            Self::Pool(pool) => deadpool::managed::Manager::create(pool.manager()).await,
        }
    }

    fn attempt(self) -> Attempt {
        let attempt = async move {
            let late = || io::Error::from(io::ErrorKind::TimedOut).into();
            timeout(CONNECTION_TIMEOUT, self.connect()).await.unwrap_or_else(|_| Err(late()))
        };
        attempt.boxed().shared()
    }
}

/// An attempt to connect. All who wait for it drive it, so that none depends on another that is dropped,
/// or is kept and not polled.
type Attempt = future::Shared<BoxFuture<'static, RedisResult<MultiplexedConnection>>>;

/// How long one attempt to connect may take.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest pause between two attempts, short enough to serve within a second of the server's return.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// A connection that is made when it is needed, and again when it was lost.
pub(crate) struct Shared {
    connect: Connect,
    state: Mutex<State>,
    answers: AtomicU64,
}

struct State {
    stage: Stage,
    /// How many attempts were made.
    attempts: u64,
    /// How many attempts failed since the last that did not.
    failed: u32,
}

enum Stage {
    /// There is none, and none is to be made before this. The last attempt failed with this.
    Closed(Instant, Option<RedisError>),
    Opening {
        attempt: Attempt,
        number: u64,
        began: Instant,
        /// A socket and a timer serve as long as the runtime in which they were made.
        runtime: runtime::Id,
    },
    Open(Open),
}

#[derive(Clone)]
struct Open {
    connection: MultiplexedConnection,
    number: u64,
}

/// How to come by a connection.
enum Next {
    Use(Open),
    Wait(Instant),
    Join(Attempt, u64),
}

impl Shared {
    pub(crate) fn new(connect: Connect) -> Self {
        let state = State { stage: Stage::Closed(Instant::now(), None), attempts: 0, failed: 0 };
        Self { connect, state: Mutex::new(state), answers: AtomicU64::default() }
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask(&self, request: Request<'_>, progress: &mut Progress) -> RedisResult<Value> {
        let mut open = match self.opened() {
            Some(open) => open,
            // Boxed, as it is seldom and large, so that the futures of all verbs stay small.
            None => Box::pin(self.open()).await?,
        };
        *progress = Progress::Sent(open.number);
        let answers = self.answers();
        let answer = request.send(&mut open.connection).await;
        match &answer {
            Ok(_) => drop(self.answers.fetch_add(1, Ordering::Relaxed)),
            // By a timeout that the connection has of its own, as those of a pool do.
            Err(error) if error.is_timeout() => self.give_up(open.number, answers),
            Err(error) if error.is_io_error() || error.is_unrecoverable_error() => self.lose(open.number),
            Err(_) => {}
        }
        answer
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nobody leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self) -> Option<Open> {
        match &self.state().stage {
            Stage::Open(open) => Some(open.clone()),
            _ => None,
        }
    }

    /// Returns a connection, or how the attempt that is under way, or the next, failed.
    async fn open(&self) -> RedisResult<Open> {
        let attempts = self.state().attempts;
        loop {
            match self.next(attempts)? {
                Next::Use(open) => return Ok(open),
                Next::Wait(until) => sleep_until(until).await,
                Next::Join(attempt, number) => return self.opens(number, attempt.await),
            }
        }
    }

    /// Returns what to do for a connection, when there had been so many attempts at first.
    fn next(&self, attempts: u64) -> RedisResult<Next> {
        let mut state = self.state();
        let (now, here) = (Instant::now(), Handle::current().id());
        match &state.stage {
            Stage::Open(open) => return Ok(Next::Use(open.clone())),
            // While this waited, another's attempt failed.
            Stage::Closed(_, Some(error)) if state.attempts > attempts => return Err(error.clone()),
            Stage::Closed(until, _) if *until > now => return Ok(Next::Wait(*until)),
            Stage::Opening { attempt, number, began, runtime }
                if *runtime == here && now < *began + CONNECTION_TIMEOUT =>
            {
                return Ok(Next::Join(attempt.clone(), *number));
            }
            // Closed for long enough; or all who waited for an attempt have left it, long ago; or it is
            // that of another runtime, which may have ended.
            Stage::Closed(..) | Stage::Opening { .. } => {}
        }
        state.attempts += 1;
        let (attempt, number) = (self.connect.clone().attempt(), state.attempts);
        state.stage = Stage::Opening { attempt: attempt.clone(), number, began: now, runtime: here };
        Ok(Next::Join(attempt, number))
    }

    /// Notes how an attempt ended, unless somebody else did.
    fn opens(&self, number: u64, ended: RedisResult<MultiplexedConnection>) -> RedisResult<Open> {
        let mut state = self.state();
        let is_news = matches!(state.stage, Stage::Opening { number: current, .. } if current == number);
        match ended {
            Ok(connection) => {
                let open = Open { connection, number };
                if is_news {
                    state.stage = Stage::Open(open.clone());
                    state.failed = 0;
                }
                Ok(open)
            }
            Err(error) => {
                if is_news {
                    state.failed = state.failed.saturating_add(1);
                    let until = Instant::now() + pause(state.failed, fastrand::f64());
                    state.stage = Stage::Closed(until, Some(error.clone()));
                }
                Err(error)
            }
        }
    }

    /// Forgets a connection, unless it is another by now.
    fn lose(&self, number: u64) {
        let mut state = self.state();
        if matches!(&state.stage, Stage::Open(open) if open.number == number) {
            state.stage = Stage::Closed(Instant::now(), None);
        }
    }

    /// Returns how many answers came in.
    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Forgets a connection that gave nobody an answer since there were so many.
    pub(crate) fn give_up(&self, number: u64, answers: u64) {
        if self.answers() == answers {
            self.lose(number);
        }
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
