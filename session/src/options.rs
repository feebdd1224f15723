//! What sessions are made of: a collection, a lifetime, a cookie.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sosa::{Clock, Collection, Expiry};

use crate::cookie::{CookieOptions, Scheme};
use crate::data::SessionData;
use crate::error::{Error, ErrorKind, Result};

/// How sessions are kept, how long they live, and how their cookie travels.
///
/// Wherever options are asked for, a collection alone will do: it stands for these defaults.
///
/// ```
/// use sosa_session::{Lifetime, SessionOptions};
/// use std::time::Duration;
///
/// let collection = sosa_memory::new("myapp").collection("sessions");
/// let options = SessionOptions::new(collection)
///     .lifetime(Lifetime::new().idle(Duration::from_secs(1800)).persistent());
/// assert!(options.validate().is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct SessionOptions {
    pub(crate) collection: Arc<dyn Collection<SessionData>>,
    pub(crate) lifetime: Lifetime,
    pub(crate) cookie: CookieOptions,
    pub(crate) clock: Clock,
    pub(crate) scheme: Scheme,
    pub(crate) proxy: TrustProxy,
    /// The collection is our own in memory, which goes by the same clock.
    own_memory: bool,
}

impl SessionOptions {
    /// Keeps sessions in this collection, with all defaults.
    pub fn new(collection: impl Collection<SessionData> + 'static) -> Self {
        Self {
            collection: Arc::new(collection),
            lifetime: Lifetime::new(),
            cookie: CookieOptions::new(),
            clock: Clock::system(),
            scheme: Scheme::Unknown,
            proxy: TrustProxy::Never,
            own_memory: false,
        }
    }

    /// Keeps sessions in memory: they end with the program, and no other process sees them.
    pub fn memory() -> Self {
        Self { own_memory: true, ..Self::new(memory(Clock::system())) }
    }

    /// Sets how long sessions live.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Sets where the cookie goes, and under which name.
    #[must_use]
    pub fn cookie(mut self, cookie: CookieOptions) -> Self {
        self.cookie = cookie;
        self
    }

    /// Takes the time from this clock; the system's is the default. A collection has a clock of its
    /// own, by which it expires: give it the same.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        if self.own_memory {
            self.collection = Arc::new(memory(clock.clone()));
        }
        self.clock = clock;
        self
    }

    /// States how clients reach this server where no trusted proxy says otherwise. Unknown by
    /// default, since a proxy in front may have ended TLS.
    #[must_use]
    pub fn scheme(mut self, scheme: Scheme) -> Self {
        self.scheme = scheme;
        self
    }

    /// Believes the `X-Forwarded-Proto` header of these peers, if it says `https`, `wss`, `http` or
    /// `ws`. Nobody's by default: a client can send that header as well.
    #[must_use]
    pub fn trust_proxy(mut self, proxy: TrustProxy) -> Self {
        self.proxy = proxy;
        self
    }

    /// Checks that the options do not contradict each other.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Options`] with the contradiction and how to mend it.
    pub fn validate(&self) -> Result<()> {
        self.lifetime.validate()?;
        self.cookie.validate()
    }
}

fn memory(clock: Clock) -> sosa_memory::MemoryCollection<SessionData> {
    sosa_memory::new("sosa").with_clock(clock).collection("sessions")
}

/// A collection stands for the default options.
impl<C: Collection<SessionData> + 'static> From<C> for SessionOptions {
    fn from(collection: C) -> Self {
        Self::new(collection)
    }
}

/// Which peers are proxies whose `X-Forwarded-Proto` is believed.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum TrustProxy {
    /// None.
    #[default]
    Never,
    /// All: right only where nobody can reach the server but through the proxy.
    Always,
    /// Those that the function says yes to. A peer whose address is not known is not believed.
    When(Arc<dyn Fn(IpAddr) -> bool + Send + Sync>),
}

impl TrustProxy {
    pub(crate) fn trusts(&self, peer: Option<IpAddr>) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::When(trusts) => peer.is_some_and(|peer| trusts(peer)),
        }
    }
}

impl fmt::Debug for TrustProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Never => "Never",
            Self::Always => "Always",
            Self::When(_) => "When(..)",
        })
    }
}

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
    /// most, the absolute lifetime, so that it needs to be sent only once.
    #[must_use]
    pub fn persistent(mut self) -> Self {
        self.persistent = true;
        self
    }

    fn validate(&self) -> Result<()> {
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
        ];
        match rules.into_iter().find(|(broken, _)| *broken) {
            Some((_, message)) => Err(Error::new(ErrorKind::Options, message)),
            None => Ok(()),
        }
    }

    /// Returns by how much a load moves the deadline.
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
        for lifetime in [
            Lifetime::new().idle(Duration::ZERO),
            Lifetime::new().absolute(Duration::ZERO),
            Lifetime::new().absolute(None).persistent(),
        ] {
            let error = SessionOptions::memory().lifetime(lifetime).validate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Options);
        }
    }

    #[test]
    fn only_the_named_proxies_are_trusted() {
        let local = TrustProxy::When(Arc::new(|peer| peer.is_loopback()));
        assert!(local.trusts(Some([127, 0, 0, 1].into())));
        assert!(!local.trusts(Some([192, 0, 2, 1].into())));
        assert!(!local.trusts(None));
        assert!(TrustProxy::Always.trusts(None));
        assert!(!TrustProxy::Never.trusts(Some([127, 0, 0, 1].into())));
    }
}
