//! One connection that many tasks share, made again when it is lost.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{RedisError, RedisResult, Value};
use tokio::runtime::{self, Handle};
use tokio::time::{Instant, sleep, sleep_until};

use crate::link::{Connection, Fate, Progress, Request, Track};
use crate::wire::{Attempt, Connect, Wire};

/// The longest pause between two attempts, short enough to serve within a second of the server's return.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// A connection that is made when it is needed, and again when it was lost.
pub(crate) struct Shared {
    connect: Connect,
    state: Mutex<State>,
    answers: AtomicU64,
    under_way: AtomicUsize,
}

/// A request that is sent, or waits for the connection, until this is dropped.
struct UnderWay<'a>(&'a AtomicUsize);

impl<'a> UnderWay<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
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
    connection: Wire,
    number: u64,
    since: Instant,
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
        Self { connect, state: Mutex::new(state), answers: AtomicU64::default(), under_way: AtomicUsize::default() }
    }

    /// Sends a request and waits for its answer. As long as nobody serves its key, it is sent again after a
    /// pause.
    pub(crate) async fn ask(&self, request: Request<'_>, track: &Track) -> RedisResult<Value> {
        let mut unserved = 0;
        loop {
            let under_way = UnderWay::new(&self.under_way);
            let mut open = match self.opened() {
                Some(open) if open.connection.is_replaced() => {
                    self.lose(open.number);
                    continue;
                }
                Some(open) => open,
                // Boxed, as it is seldom and large, so that the futures of all verbs stay small.
                None => Box::pin(self.open()).await?,
            };
            track.set(Progress::Sent);
            let answers = self.answers();
            let answer = request.send(&mut open.connection, track).await;
            drop(under_way);
            match answer {
                Ok(answer) => {
                    self.answers.fetch_add(1, Ordering::Relaxed);
                    if open.connection.is_demoted(&answer) && open.since.elapsed() > LONGEST_PAUSE {
                        self.lose(open.number);
                    }
                    if !open.connection.is_unserved(&answer) {
                        return Ok(answer);
                    }
                }
                Err(error) => {
                    let (fate, error) = open.connection.fate(error, track.get());
                    match fate {
                        Fate::Unserved => {}
                        Fate::Unsent => track.set(Progress::Waiting),
                        Fate::Sent => {}
                        // By a timeout that the connection has of its own, as those of a pool do.
                        Fate::Late if self.answers() == answers => self.lose(open.number),
                        Fate::Late => {}
                        Fate::Lost => self.lose(open.number),
                    }
                    if fate != Fate::Unserved {
                        return Err(error);
                    }
                }
            }
            track.set(Progress::Waiting);
            unserved += 1;
            Box::pin(sleep(pause(unserved, fastrand::f64()))).await;
        }
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
                if *runtime == here && now < *began + self.connect.timeout =>
            {
                return Ok(Next::Join(attempt.clone(), *number));
            }
            // Closed for long enough; or all who waited for an attempt have left it, long ago; or it is
            // that of another runtime, which may have ended.
            Stage::Closed(..) | Stage::Opening { .. } => {}
        }
        state.attempts += 1;
        let (attempt, number) = (self.connect.attempt(), state.attempts);
        state.stage = Stage::Opening { attempt: attempt.clone(), number, began: now, runtime: here };
        Ok(Next::Join(attempt, number))
    }

    /// Notes how an attempt ended, unless somebody else did.
    fn opens(&self, number: u64, ended: RedisResult<Wire>) -> RedisResult<Open> {
        let mut state = self.state();
        let is_news = matches!(state.stage, Stage::Opening { number: current, .. } if current == number);
        match ended {
            Ok(connection) => {
                let open = Open { connection, number, since: Instant::now() };
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

    /// Returns how many requests are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Returns how many answers came in.
    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    #[cfg(feature = "cluster")]
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state().stage, Stage::Open(_))
    }

    /// Returns whether there is no connection, though it is not the first attempt at one.
    #[cfg(feature = "cluster")]
    pub(crate) fn is_failing(&self) -> bool {
        let state = self.state();
        state.attempts > 1 && !matches!(state.stage, Stage::Open(_))
    }

    /// Forgets a connection that was there at this time, and gave nobody an answer since there were so many.
    pub(crate) fn give_up(&self, began: Instant, answers: u64) {
        let mut state = self.state();
        if self.answers() == answers && matches!(&state.stage, Stage::Open(open) if open.since <= began) {
            state.stage = Stage::Closed(Instant::now(), None);
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
