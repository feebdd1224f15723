//! What else an Express application states of its sessions.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::signing::{SigningKey, SigningKeys};

/// What an Express application states of its sessions, besides their cookie: to share them by
/// [`SessionOptions::express`](crate::SessionOptions::express).
///
/// ```
/// use sosa_session::ExpressOptions;
/// use std::time::Duration;
///
/// let day = Duration::from_secs(24 * 60 * 60);
/// let express = ExpressOptions::new(["new secret", "old secret"]).max_age(day).rolling(true);
/// ```
#[derive(Clone, Debug)]
pub struct ExpressOptions {
    pub(crate) keys: SigningKeys,
    pub(crate) max_age: Option<Duration>,
    pub(crate) rolling: bool,
    pub(crate) ttl: Option<Duration>,
}

/// The default of connect-redis.
const TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// A hundred years.
const LONGEST_MAX_AGE: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl ExpressOptions {
    /// Takes the application's `secret`, in its order: the first signs, all verify.
    pub fn new(secrets: impl IntoIterator<Item = impl Into<SigningKey>>) -> Self {
        let keys = secrets.into_iter().map(Into::into).collect();
        Self { keys, max_age: None, rolling: false, ttl: Some(TTL) }
    }

    /// Lets new sessions, and their cookies, live so long after each save: `cookie.maxAge`, in whole milliseconds.
    /// None by default: the cookie ends with the browser's session.
    #[must_use]
    pub fn max_age(mut self, max_age: impl Into<Option<Duration>>) -> Self {
        self.max_age = max_age.into();
        self
    }

    /// Sends the cookie again with every response, so that it lives as long as the session where that has a `maxAge`:
    /// `rolling`. Off by default.
    #[must_use]
    pub fn rolling(mut self, rolling: bool) -> Self {
        self.rolling = rolling;
        self
    }

    /// Lets sessions without a `maxAge` live so long after each use: connect-redis's `ttl`. A day by default; `None`
    /// for no end.
    #[must_use]
    pub fn ttl(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        self.ttl = ttl.into();
        self
    }

    pub(super) fn validate(&self) -> Result<()> {
        self.keys.check(1)?;
        if self.ttl == Some(Duration::ZERO) {
            return Err(Error::new(ErrorKind::Options, "a ttl of zero ends every session at once: use None for none"));
        }
        check_max_age(self.max_age)
    }
}

/// Checks that Express can read it.
pub(crate) fn check_max_age(max_age: Option<Duration>) -> Result<()> {
    match max_age {
        Some(age) if age.is_zero() || age.subsec_nanos() % 1_000_000 != 0 || age > LONGEST_MAX_AGE => Err(Error::new(
            ErrorKind::Options,
            "a maxAge is one or more whole milliseconds, and 100 years at most: use None for a cookie that ends with \
             the browser's session",
        )),
        _ => Ok(()),
    }
}
