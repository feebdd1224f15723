//! One connection that many tasks share, made when it is needed, and again when it was lost.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{RedisError, RedisResult};
use tokio::runtime::{self, Handle};
use tokio::time::{Instant, sleep_until};

use crate::transport::connector::{Attempt, Connector};
use crate::transport::idle::Idle;
use crate::transport::limits::{FIRST_PAUSE, IDLE, LONGEST_PAUSE};

/// A connection that is made when it is needed, and again when it was lost.
pub(crate) struct Reconnecting<C> {
    connector: Connector<C>,
    state: Mutex<State<C>>,
    answers: AtomicU64,
    idle: Idle,
}

struct State<C> {
    stage: Stage<C>,
    /// How many attempts were made.
    attempts: u64,
    /// How many attempts failed since the last that did not.
    failed: u32,
    /// The runtimes in which the connection was proven to be alive: a new one may come after that of the connection has
    /// ended, and the connection with it.
    runtimes: Vec<runtime::Id>,
}

enum Stage<C> {
    /// None, and none is made before this time. The last attempt failed with this error.
    Closed(Instant, Option<RedisError>),
    Opening {
        attempt: Attempt<C>,
        number: u64,
        began: Instant,
        /// A socket and a timer serve as long as the runtime in which they were made.
        runtime: runtime::Id,
    },
    Open(Open<C>),
}

/// A connection that is there.
#[derive(Clone)]
pub(crate) struct Open<C> {
    pub(crate) connection: C,
    pub(crate) since: Instant,
    number: u64,
}

/// How to come by a connection.
enum Next<C> {
    Use(Open<C>),
    Wait(Instant),
    Join(Attempt<C>, u64),
}

impl<C: Clone + Send + Sync + 'static> Reconnecting<C> {
    pub(crate) fn new(connector: Connector<C>) -> Self {
        let state = State { stage: Stage::Closed(Instant::now(), None), attempts: 0, failed: 0, runtimes: Vec::new() };
        Self { connector, state: Mutex::new(state), answers: AtomicU64::default(), idle: Idle::new() }
    }

    /// Returns the connection. If there is none, joins the attempt in flight or begins one, and fails if that does.
    pub(crate) async fn get(&self) -> RedisResult<Open<C>> {
        if let Stage::Open(open) = &self.state().stage {
            return Ok(open.clone());
        }
        // Boxed, as it is seldom and large, so that the futures of all verbs stay small.
        Box::pin(self.open()).await
    }

    async fn open(&self) -> RedisResult<Open<C>> {
        let attempts = self.state().attempts;
        loop {
            match self.next(attempts)? {
                Next::Use(open) => return Ok(open),
                Next::Wait(until) => sleep_until(until).await,
                Next::Join(attempt, number) => return self.opens(number, attempt.await),
            }
        }
    }

    /// Returns the next step towards a connection, for a caller that came when so many attempts had been made.
    fn next(&self, attempts: u64) -> RedisResult<Next<C>> {
        let mut state = self.state();
        let (now, here) = (Instant::now(), Handle::current().id());
        match &state.stage {
            Stage::Open(open) => return Ok(Next::Use(open.clone())),
            // While this waited, another's attempt failed.
            Stage::Closed(_, Some(error)) if state.attempts > attempts => return Err(error.clone()),
            Stage::Closed(until, _) if *until > now => return Ok(Next::Wait(*until)),
            Stage::Opening { attempt, number, began, runtime }
                if *runtime == here && now < *began + self.connector.timeout * 3 / 4 =>
            {
                return Ok(Next::Join(attempt.clone(), *number));
            }
            // Starts a new attempt: the pause is over, the last one was abandoned or is nearly over, so that who comes now
            // would fail for another's patience, or it belongs to another runtime, which may have ended.
            Stage::Closed(..) | Stage::Opening { .. } => {}
        }
        state.attempts += 1;
        let (attempt, number) = (self.connector.attempt(), state.attempts);
        state.stage = Stage::Opening { attempt: attempt.clone(), number, began: now, runtime: here };
        Ok(Next::Join(attempt, number))
    }

    /// Notes how an attempt ended, unless another caller has.
    fn opens(&self, number: u64, ended: RedisResult<C>) -> RedisResult<Open<C>> {
        let mut state = self.state();
        let is_news = matches!(state.stage, Stage::Opening { number: current, .. } if current == number);
        match ended {
            Ok(connection) => {
                let open = Open { connection, number, since: Instant::now() };
                if is_news {
                    state.stage = Stage::Open(open.clone());
                    state.failed = 0;
                    state.runtimes.clear();
                    state.note_runtime();
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

    /// Drops a connection, unless it was replaced already.
    pub(crate) fn lose(&self, open: &Open<C>) {
        let mut state = self.state();
        if matches!(&state.stage, Stage::Open(current) if current.number == open.number) {
            state.stage = Stage::Closed(Instant::now(), None);
        }
    }

    /// Notes that an answer came in.
    pub(crate) fn answered(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.idle.answered();
    }

    /// Returns whether a connection is certain enough to be alive: it was used a moment ago, and in this runtime.
    pub(crate) fn is_proven(&self, open: &Open<C>) -> bool {
        let is_idle = self.idle.is_long() && open.since.elapsed() > IDLE;
        !is_idle && self.state().runtimes.contains(&Handle::current().id())
    }

    /// Notes that the connection is alive, and in this runtime.
    pub(crate) fn proven(&self) {
        self.answered();
        self.state().note_runtime();
    }

    /// Returns how many answers came in.
    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Drops a connection that was open at this time and has answered no request since the count of answers was this. If
    /// the network dropped it silently, nothing else would tell for many minutes. Returns whether it is gone, by this or
    /// before.
    pub(crate) fn give_up(&self, began: Instant, answers: u64) -> bool {
        let mut state = self.state();
        match &state.stage {
            Stage::Open(open) if open.since > began => true,
            Stage::Open(_) if self.answers() != answers => false,
            Stage::Open(_) => {
                state.stage = Stage::Closed(Instant::now(), None);
                true
            }
            Stage::Closed(..) => true,
            // It may be the first that a request waits for.
            Stage::Opening { began: since, .. } => *since > began,
        }
    }

    #[cfg(feature = "cluster")]
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state().stage, Stage::Open(_))
    }

    /// Returns whether there is no connection, though there was one, or it is not the first attempt at one.
    #[cfg(feature = "cluster")]
    pub(crate) fn is_failing(&self) -> bool {
        let state = self.state();
        match state.stage {
            Stage::Open(_) => false,
            // Without an error if it was lost.
            Stage::Closed(_, None) => state.attempts > 0,
            Stage::Closed(_, Some(_)) | Stage::Opening { .. } => state.attempts > 1,
        }
    }

    fn state(&self) -> MutexGuard<'_, State<C>> {
        // It is never left half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> State<C> {
    fn note_runtime(&mut self) {
        let here = Handle::current().id();
        if !self.runtimes.contains(&here) {
            self.runtimes.push(here);
        }
    }
}

/// Waits after this many failures in a row.
#[cfg(any(feature = "cluster", feature = "sentinel"))]
pub(crate) async fn wait(failed: u32) {
    Box::pin(sleep_until(Instant::now() + pause(failed, fastrand::f64()))).await;
}

/// Returns how long to wait after this many failures in a row: twice as long each time, and between half and all of
/// that, so that many programs do not come back at once. `random` is from 0 to 1.
fn pause(failed: u32, random: f64) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << failed.saturating_sub(1).min(8)).min(LONGEST_PAUSE);
    longest.mul_f64((1.0 + random) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the moment on at which it is lost, and not only from the next attempt on: who waits for the node until then
    /// holds up all others.
    #[cfg(feature = "cluster")]
    #[tokio::test]
    async fn a_connection_that_was_lost_is_failing_until_it_is_made_again() {
        let connection = Reconnecting::new(Connector::new(Duration::from_secs(1), || async { Ok(()) }));
        assert!(!connection.is_failing(), "none was asked for");
        let open = connection.get().await.unwrap();
        assert!(!connection.is_failing());
        connection.lose(&open);
        assert!(connection.is_failing());
        connection.get().await.unwrap();
        assert!(!connection.is_failing());

        // Who has none yet is told why there is none.
        let refused = Reconnecting::<()>::new(Connector::new(Duration::from_secs(1), || async {
            Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into())
        }));
        for is_failing in [false, true] {
            assert!(refused.get().await.is_err());
            assert_eq!(refused.is_failing(), is_failing);
        }
    }

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
