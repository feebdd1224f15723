//! How long sessions live.

use std::time::Duration;

use sosa::Expiry;

use crate::error::{Error, ErrorKind, Result};

/// How long a session lives.
///
/// | | default | |
/// |---|---|---|
/// | idle | 1 day | it ends this long after the last request that used it |
/// | absolute | 30 days | it ends this long after it began, however much it is used |
/// | cookie | of the browser session | or [`persistent`](Self::persistent) |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lifetime {
    idle: Option<Duration>,
    absolute: Option<Duration>,
    persistent: bool,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// For how long browsers keep a cookie, whatever it says (RFC 6265bis).
const MAX_COOKIE_AGE: Duration = Duration::from_secs(400 * DAY.as_secs());

impl Lifetime {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self { idle: Some(DAY), absolute: Some(30 * DAY), persistent: false }
    }

    /// Ends a session this long after the last request that used it; `None` for no such end. A
    /// request uses its session when the handler asks it anything.
    #[must_use]
    pub fn idle(mut self, idle: impl Into<Option<Duration>>) -> Self {
        self.idle = idle.into();
        self
    }

    /// Ends a session this long after it began; `None` for no such end, and then a stolen cookie
    /// can be kept alive for ever. [`Session::renew`](crate::Session::renew) does not begin anew,
    /// [`Session::regenerate`](crate::Session::regenerate) does.
    #[must_use]
    pub fn absolute(mut self, absolute: impl Into<Option<Duration>>) -> Self {
        self.absolute = absolute.into();
        self
    }

    /// Lets the cookie outlive the browser's own session: it lives as long as the session can at
    /// most, the absolute lifetime, so that it needs to be sent only once. Browsers keep no cookie for
    /// longer than 400 days.
    #[must_use]
    pub fn persistent(mut self) -> Self {
        self.persistent = true;
        self
    }

    /// Checks that it ends no session at once, and that browsers keep a cookie for as long.
    pub(super) fn validate(&self) -> Result<()> {
        let rules = [
            (
                self.idle == Some(Duration::ZERO),
                "an idle lifetime of zero ends every session at once: use None for none",
            ),
            (
                self.absolute == Some(Duration::ZERO),
                "an absolute lifetime of zero ends every session at once: use None for none",
            ),
            (
                self.persistent && self.absolute.is_none(),
                "a persistent cookie lives as long as the absolute lifetime: set one, or leave persistent() out",
            ),
            (
                self.persistent && self.absolute.is_some_and(|absolute| absolute > MAX_COOKIE_AGE),
                "browsers keep a cookie for 400 days at most: set an absolute lifetime of that or less, or leave \
                 persistent() out",
            ),
        ];
        match rules.into_iter().find(|(broken, _)| *broken) {
            Some((_, message)) => Err(Error::new(ErrorKind::Options, message)),
            None => Ok(()),
        }
    }

    /// Returns by how much a use moves the deadline.
    pub(crate) fn touch(&self) -> Option<Duration> {
        self.idle
    }

    /// Returns whether a session that began then has reached its absolute end.
    pub(crate) fn is_over(&self, created: u64, now: u64) -> bool {
        self.left(created, now).is_some_and(|left| left.is_zero())
    }

    /// Returns the expiry of a record that is saved now.
    pub(crate) fn expiry(&self, created: u64, now: u64) -> Expiry {
        match (self.idle, self.left(created, now)) {
            (Some(idle), Some(left)) => Expiry::After(idle.min(left)),
            (Some(end), None) | (None, Some(end)) => Expiry::After(end),
            (None, None) => Expiry::Never,
        }
    }

    /// Returns the age at which the client may forget the cookie; `None` ends it with the browser's
    /// session.
    pub(crate) fn max_age(&self, created: u64, now: u64) -> Option<Duration> {
        self.left(created, now).filter(|_| self.persistent)
    }

    fn left(&self, created: u64, now: u64) -> Option<Duration> {
        Some(self.absolute?.saturating_sub(Duration::from_millis(now.saturating_sub(created))))
    }
}

impl Default for Lifetime {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes() {
        let seconds = Duration::from_secs;
        let both = Lifetime::new().idle(seconds(10)).absolute(seconds(60));
        for (now, expiry, over) in [
            (0, Expiry::After(seconds(10)), false),
            (49_000, Expiry::After(seconds(10)), false),
            (55_000, Expiry::After(seconds(5)), false),
            (60_000, Expiry::After(seconds(0)), true),
            (99_000, Expiry::After(seconds(0)), true),
        ] {
            assert_eq!((both.expiry(0, now), both.is_over(0, now)), (expiry, over), "{now}");
        }
        assert_eq!(both.idle(None).expiry(0, 1_000), Expiry::After(seconds(59)));
        assert_eq!(both.absolute(None).expiry(0, 99_000), Expiry::After(seconds(10)));
        assert_eq!(both.idle(None).absolute(None).expiry(0, 99_000), Expiry::Never);
        assert_eq!(both.max_age(0, 1_000), None);
        assert_eq!(both.persistent().max_age(0, 1_000), Some(seconds(59)));
        assert!(!both.is_over(5_000, 0), "a clock behind that of who made the session ends nothing");
    }

    #[test]
    fn contradictions_are_refused() {
        let validate = |lifetime: Lifetime| lifetime.validate();
        let new = Lifetime::new;
        for (lifetime, word) in [
            (new().idle(Duration::ZERO), "None"),
            (new().absolute(Duration::ZERO), "None"),
            (new().absolute(None).persistent(), "persistent()"),
            (new().absolute(400 * DAY + Duration::from_nanos(1)).persistent(), "400 days"),
            (new().absolute(Duration::MAX).persistent(), "persistent()"),
        ] {
            let error = validate(lifetime).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Options);
            assert!(error.to_string().contains(word), "{error}");
        }
        assert!(validate(new().absolute(400 * DAY).persistent()).is_ok());
        assert!(validate(new().absolute(Duration::MAX)).is_ok(), "the cookie ends with the browser's session");
    }
}
