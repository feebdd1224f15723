//! How long sessions live.

use std::time::Duration;

use sosa::Expiry;

use crate::error::{Error, ErrorKind, Result};
use crate::format::Touch;

/// How long a session lives.
///
/// | | default | |
/// |---|---|---|
/// | idle | 1 day | it ends this long after the last request that used it |
/// | absolute | 30 days | it ends this long after it began, however much it is used |
/// | cookie | of the browser session | or [`persistent`](Self::persistent) |
/// | touch after | 1 minute | a use moves the deadline if that moves it by this or more: [`touch_after`](Self::touch_after) |
///
/// The chapter [*Staying signed in*](crate::staying_signed_in) says what to take for a bank, a shop or an intranet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lifetime {
    idle: Option<Duration>,
    absolute: Option<Duration>,
    persistent: bool,
    touch_after: Duration,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How far a deadline may be from where a use would move it, unless told.
const TOUCH_AFTER: Duration = Duration::from_secs(60);

/// Which part of the idle time that is at most, and after which part a cookie that rolls is sent again.
const TENTH: u32 = 10;

/// For how long browsers keep a cookie, whatever it says (RFC 6265bis).
const MAX_COOKIE_AGE: Duration = Duration::from_secs(400 * DAY.as_secs());

impl Lifetime {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self { idle: Some(DAY), absolute: Some(30 * DAY), persistent: false, touch_after: TOUCH_AFTER }
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

    /// Lets the cookie outlive the browser's own session.
    ///
    /// With an absolute lifetime it lives that long, as the session can at most, and is sent once. Without one it lives for
    /// the idle lifetime, and is sent again by the first use after a tenth of that: *signed in as long as you come once in
    /// four weeks* is `.idle(32 days).absolute(None).persistent()`, since the browser may forget it a tenth earlier than the
    /// store its session. That use saves the session, to note it; if that fails, a later one sends the cookie. Browsers keep
    /// no cookie for longer than 400 days.
    #[must_use]
    pub fn persistent(mut self) -> Self {
        self.persistent = true;
        self
    }

    /// Lets a use leave the deadline where it is if it would move it by less than this, earlier or later: one minute unless
    /// set, and a tenth of the idle lifetime at most. **A session may end that much earlier after its last use.** In
    /// exchange a store that writes for each touch, as sled does, writes once in so long for a session that is in use.
    /// Redis, where it costs nothing, moves it each time.
    #[must_use]
    pub fn touch_after(mut self, touch_after: Duration) -> Self {
        self.touch_after = touch_after;
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
                self.persistent && self.absolute.or(self.idle).is_none(),
                "a persistent cookie lives as long as the absolute lifetime, or else the idle one: set either, or leave \
                 persistent() out",
            ),
            (
                self.persistent && self.absolute.or(self.idle).is_some_and(|age| age > MAX_COOKIE_AGE),
                "browsers keep a cookie for 400 days at most: set an absolute lifetime of that or less, or an idle one \
                 without an absolute, or leave persistent() out",
            ),
        ];
        match rules.into_iter().find(|(broken, _)| *broken) {
            Some((_, message)) => Err(Error::new(ErrorKind::Options, message)),
            None => Ok(()),
        }
    }

    /// Returns how a use moves the deadline.
    pub(crate) fn touch(&self) -> Option<Touch> {
        self.idle.map(|idle| Touch { by: idle, slack: self.touch_after.min(idle / TENTH) })
    }

    /// Returns the expiry of a record that is saved now, whose session has so long until its absolute end.
    pub(crate) fn expiry(&self, left: Option<Duration>) -> Expiry {
        match (self.idle, left) {
            (Some(idle), Some(left)) => Expiry::After(idle.min(left)),
            (Some(end), None) | (None, Some(end)) => Expiry::After(end),
            (None, None) => Expiry::Never,
        }
    }

    /// Returns when a session that began then ends however much it is used, if it does.
    pub(crate) fn absolute_end(&self, created: u64) -> Option<u64> {
        Some(created.saturating_add(self.absolute?.as_millis().try_into().unwrap_or(u64::MAX)))
    }

    /// Returns how long a session that began then has until its absolute end, if it has one; one that will have begun counts
    /// as one that begins now.
    pub(crate) fn left(&self, created: u64, now: u64) -> Option<Duration> {
        Some(self.absolute?.saturating_sub(Duration::from_millis(now.saturating_sub(created))))
    }

    /// Returns the age at which the client may forget the cookie of a session that has so long until its absolute end;
    /// `None` ends it with the browser's session.
    pub(crate) fn max_age(&self, left: Option<Duration>) -> Option<Duration> {
        left.or(self.idle).filter(|_| self.persistent)
    }

    /// Returns whether its cookie is to be sent again from time to time.
    pub(crate) fn is_rolling(&self) -> bool {
        self.persistent && self.absolute.is_none()
    }

    /// Returns whether the cookie is to be sent again that was sent then.
    pub(crate) fn is_cookie_due(&self, sent: u64, now: u64) -> bool {
        let age = Duration::from_millis(now.saturating_sub(sent));
        self.is_rolling() && self.idle.is_some_and(|idle| age >= idle / TENTH)
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
        let expiry = |lifetime: Lifetime, now| lifetime.expiry(lifetime.left(0, now));
        for (now, left) in [(0, 10), (49_000, 10), (55_000, 5), (60_000, 0), (99_000, 0)] {
            assert_eq!(expiry(both, now), Expiry::After(seconds(left)), "{now}");
        }
        assert_eq!(expiry(both.idle(None), 1_000), Expiry::After(seconds(59)));
        assert_eq!(expiry(both.absolute(None), 99_000), Expiry::After(seconds(10)));
        assert_eq!(expiry(both.idle(None).absolute(None), 99_000), Expiry::Never);
        assert_eq!(both.max_age(both.left(0, 1_000)), None);
        assert_eq!(both.persistent().max_age(both.left(0, 1_000)), Some(seconds(59)));
        assert_eq!(both.left(5_000, 0), Some(seconds(60)), "a clock behind that of who made the session ends nothing");
    }

    #[test]
    fn a_deadline_moves_by_a_minute_or_more_and_that_is_a_tenth_at_most() {
        let seconds = Duration::from_secs;
        let slack = |lifetime: Lifetime| lifetime.touch().map(|touch| touch.slack);
        for (idle, slack_of_it) in [(1, Duration::from_millis(100)), (600, seconds(60)), (86_400, seconds(60))] {
            assert_eq!(slack(Lifetime::new().idle(seconds(idle))), Some(slack_of_it));
        }
        assert_eq!(slack(Lifetime::new().touch_after(Duration::MAX)), Some(DAY / 10));
        assert_eq!(slack(Lifetime::new().touch_after(Duration::ZERO)), Some(Duration::ZERO));
        assert_eq!(slack(Lifetime::new().idle(None)), None);
    }

    #[test]
    fn a_cookie_without_an_absolute_end_rolls() {
        let rolling = Lifetime::new().idle(10 * DAY).absolute(None).persistent();
        let day = DAY.as_millis() as u64;
        assert_eq!((rolling.max_age(rolling.left(0, 7 * day)), rolling.absolute_end(0)), (Some(10 * DAY), None));
        for (now, is_due) in [(0, false), (day - 1, false), (day, true), (9 * day, true)] {
            assert_eq!(rolling.is_cookie_due(0, now), is_due, "{now}");
            assert!(!rolling.absolute(30 * DAY).is_cookie_due(0, now));
        }
        assert!(!rolling.is_cookie_due(5 * day, 0), "a clock behind that of who sent it");
        assert_eq!(Lifetime::new().absolute_end(5), Some(5 + 30 * day));
        assert_eq!(Lifetime::new().absolute(Duration::MAX).absolute_end(5), Some(u64::MAX));
    }

    #[test]
    fn contradictions_are_refused() {
        let validate = |lifetime: Lifetime| lifetime.validate();
        let new = Lifetime::new;
        for (lifetime, word) in [
            (new().idle(Duration::ZERO), "None"),
            (new().absolute(Duration::ZERO), "None"),
            (new().idle(None).absolute(None).persistent(), "persistent()"),
            (new().idle(401 * DAY).absolute(None).persistent(), "400 days"),
            (new().absolute(400 * DAY + Duration::from_nanos(1)).persistent(), "400 days"),
            (new().absolute(Duration::MAX).persistent(), "persistent()"),
        ] {
            let error = validate(lifetime).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Options);
            assert!(error.to_string().contains(word), "{error}");
        }
        assert!(validate(new().absolute(400 * DAY).persistent()).is_ok());
        assert!(validate(new().idle(400 * DAY).absolute(None).persistent()).is_ok());
        assert!(validate(new().idle(None).persistent()).is_ok());
        assert!(validate(new().absolute(Duration::MAX)).is_ok(), "the cookie ends with the browser's session");
    }
}
