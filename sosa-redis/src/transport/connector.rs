//! Attempts to connect, which all callers that need the connection share.

use std::io;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use redis::{AsyncConnectionConfig, RedisResult};
use tokio::time::timeout;

/// Makes connections.
pub(crate) struct Connector<C> {
    make: Box<dyn Fn() -> BoxFuture<'static, RedisResult<C>> + Send + Sync>,
    /// How long an attempt may take.
    pub(crate) timeout: Duration,
    /// Whether an attempt goes on if its callers are dropped.
    in_background: bool,
}

/// An attempt to connect. Each caller drives it, so that none depends on another one, which may be dropped, or kept and not
/// polled.
pub(crate) type Attempt<C> = future::Shared<BoxFuture<'static, RedisResult<C>>>;

impl<C: Clone + Send + Sync + 'static> Connector<C> {
    pub(crate) fn new<F>(timeout: Duration, make: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = RedisResult<C>> + Send + 'static,
    {
        Self { make: Box::new(move || make().boxed()), timeout, in_background: false }
    }

    /// Lets each attempt go on in a task of its own.
    #[cfg(feature = "cluster")]
    pub(crate) fn in_background(self) -> Self {
        Self { in_background: true, ..self }
    }

    /// Begins an attempt, which ends in time.
    pub(crate) fn attempt(&self) -> Attempt<C> {
        let attempt = timeout(self.timeout, (self.make)());
        let late = || Err(io::Error::from(io::ErrorKind::TimedOut).into());
        let attempt = attempt.map(move |made| made.unwrap_or_else(|_| late())).boxed().shared();
        if self.in_background {
            drop(tokio::spawn(attempt.clone()));
        }
        attempt
    }
}

/// Returns a configuration without the driver's own time limits: a verb's deadline covers its answer.
pub(crate) fn without_timeouts() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None)
}
