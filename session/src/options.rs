//! What sessions are made of: a collection, a lifetime, a cookie.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sosa::{Clock, Collection, Expiry};

use crate::cookie::{CookieOptions, Scheme};
use crate::data::SessionData;
use crate::error::{Error, ErrorKind, Result};
use crate::signing::{SigningKey, SigningKeys};

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
    pub(crate) keys: SigningKeys,
    signed: bool,
    pub(crate) format: Format,
    /// How long a session of Express and its cookie live after each save.
    pub(crate) max_age: Option<Duration>,
    /// Whether its cookie is sent again with every response.
    pub(crate) rolling: bool,
    /// The collection is our own in memory, which goes by the same clock.
    own_memory: bool,
}

/// Whose records and rules these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Sosa,
    Express,
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
            keys: SigningKeys::default(),
            signed: false,
            format: Format::Sosa,
            max_age: None,
            rolling: false,
            own_memory: false,
        }
    }

    /// Shares the sessions of an Express application: its records and its cookies, byte for byte, as
    /// express-session writes them over connect-redis.
    ///
    /// The secrets are the application's `secret`, in its order: the first signs, all verify. The other
    /// defaults are Express's too, and want what the application has changed of them:
    ///
    /// | there | here | default |
    /// |---|---|---|
    /// | `name`, `cookie.path`, `domain`, `httpOnly`, `secure`, `sameSite`, `partitioned`, `priority` | [`cookie`](Self::cookie), from [`CookieOptions::express`] | `connect.sid`, `/`, none, on, [`Never`](crate::Secure::Never), none, off, none |
    /// | `cookie.maxAge` | [`max_age`](Self::max_age) | none: the cookie ends with the browser's session |
    /// | `rolling` | [`rolling`](Self::rolling) | off |
    /// | connect-redis's `ttl`, for sessions without a `maxAge` | [`Lifetime::idle`], with `absolute(None)` | 1 day |
    /// | connect-redis's `prefix` | `sosa_redis::RedisStore::collection_at` | `sess:` |
    /// | `app.set("trust proxy", …)` | [`trust_proxy`](Self::trust_proxy) | nobody |
    ///
    /// ```
    /// use sosa_session::{Session, SessionLayer, SessionOptions};
    ///
    /// # fn example() -> Result<SessionLayer, Box<dyn std::error::Error>> {
    /// let client = sosa_redis::redis::Client::open("redis://127.0.0.1/")?;
    /// let sessions = sosa_redis::new(client, "").collection_at("sess:");
    /// # Ok(
    /// SessionLayer::new(SessionOptions::express(sessions, ["keyboard cat"]))
    /// # ) }
    /// ```
    ///
    /// What is different from sessions of our own:
    ///
    /// - A session is stored under its id, so that **who reads the store can take every session**.
    /// - The record's own `originalMaxAge` governs how long it lives, whatever the options say, and each request
    ///   that comes with a session's cookie touches it by a call of its own, also one that does not use it: a
    ///   route that needs no session should not be inside the layer.
    /// - There is no absolute lifetime: a stolen cookie can be kept alive for ever. `rev` and `created` are
    ///   [`Unsupported`](ErrorKind::Unsupported).
    /// - Ending a session sends no cookie. Renewing one leaves nothing behind under the old id.
    /// - The keys that Express would lose are [reserved](ErrorKind::ReservedKey): `cookie`, `id`, `req`, `save`,
    ///   `touch`, `reload`, `destroy`, `regenerate`, `resetMaxAge`, and those of every JavaScript object.
    /// - Express reads whole numbers beyond 2^53, and what else JavaScript rounds, as the nearest it has, and
    ///   writes that back.
    ///
    /// A record that is no session of Express, or whose `originalMaxAge` is neither null nor a positive integer,
    /// is an error for its requests, and stays as it is.
    ///
    /// Of two writers on this side no update is lost, and none brings back a session that either side ended.
    /// Express takes no such care: a request of its own that was under way overwrites what others saved
    /// meanwhile, and brings back what they destroyed. Deliberately otherwise than there:
    ///
    /// - nothing is saved where the cookie may not be sent, a `secure` one over plain http;
    /// - `rolling` sends no cookie of a session that ended while its request was under way;
    /// - [`Session::set_max_age`](crate::Session::set_max_age) is saved though nothing else changed;
    /// - a record that is empty or `null` is an error too, and an id of more than 1,024 bytes opens no session.
    pub fn express(
        collection: impl Collection<SessionData> + 'static,
        secrets: impl IntoIterator<Item = impl Into<SigningKey>>,
    ) -> Self {
        Self {
            format: Format::Express,
            keys: secrets.into_iter().map(Into::into).collect(),
            signed: true,
            cookie: CookieOptions::express(),
            lifetime: Lifetime::new().absolute(None),
            ..Self::new(collection)
        }
    }

    /// Signs the cookie with the first of these keys, and takes one that any of them has signed: what is
    /// refused makes no call of the store. [`SigningKey`] says how it is signed.
    ///
    /// Ids cannot be guessed without it either. It keeps those who try from reaching the store, and makes
    /// an id that leaked from elsewhere than the cookie worthless.
    #[must_use]
    pub fn signed(mut self, keys: impl IntoIterator<Item = SigningKey>) -> Self {
        self.keys = keys.into_iter().collect();
        self.signed = true;
        self
    }

    /// Lets new sessions, and their cookies, live so long after each use: Express's `cookie.maxAge`, in whole
    /// milliseconds. Of sessions that are shared with Express alone.
    #[must_use]
    pub fn max_age(mut self, max_age: impl Into<Option<Duration>>) -> Self {
        self.max_age = max_age.into();
        self
    }

    /// Sends the cookie again with every response, Express's `rolling`, so that it lives as long as the
    /// session where that has a `maxAge`. Of sessions that are shared with Express alone.
    #[must_use]
    pub fn rolling(mut self, rolling: bool) -> Self {
        self.rolling = rolling;
        self
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
    /// [`ErrorKind::Options`] with the contradiction and how to mend it; [`ErrorKind::Unsupported`] for an
    /// absolute lifetime of sessions that are shared with Express.
    pub fn validate(&self) -> Result<()> {
        match self.format {
            Format::Sosa if self.max_age.is_some() || self.rolling => {
                return Err(Error::new(
                    ErrorKind::Options,
                    "max_age and rolling are of sessions that are shared with Express: use Lifetime, whose persistent \
                     cookie need not be sent again",
                ));
            }
            _ if self.signed && self.keys.is_empty() => {
                return Err(Error::new(ErrorKind::Options, "there is no key to sign cookies with: give one or more"));
            }
            Format::Sosa => self.keys.check(SigningKey::MIN_LEN)?,
            Format::Express if self.lifetime.absolute.is_some() => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "a record of Express does not say when its session began: use Lifetime::new().absolute(None)",
                ));
            }
            Format::Express => {
                self.keys.check(1)?;
                check_max_age(self.max_age)?;
            }
        }
        self.lifetime.validate()?;
        self.cookie.validate()
    }

    /// Returns the `originalMaxAge` of new sessions.
    pub(crate) fn max_age_millis(&self) -> Option<u64> {
        self.max_age.map(|max_age| max_age.as_millis() as u64)
    }
}

/// Checks that Express can read it.
pub(crate) fn check_max_age(max_age: Option<Duration>) -> Result<()> {
    match max_age {
        Some(age) if age.is_zero() || age.subsec_nanos() % 1_000_000 != 0 || age > MAX_AGE => Err(Error::new(
            ErrorKind::Options,
            "a maxAge is one or more whole milliseconds, and 100 years at most: use None for a cookie that ends with \
             the browser's session",
        )),
        _ => Ok(()),
    }
}

/// A hundred years.
const MAX_AGE: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

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
        let validate = |lifetime| SessionOptions::memory().lifetime(lifetime).validate();
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

    #[test]
    fn options_of_express_and_of_ours_do_not_mix() {
        let express = || SessionOptions::express(memory(Clock::system()), ["keyboard cat"]);
        let day = Duration::from_secs(86_400);
        assert!(express().max_age(day).rolling(true).validate().is_ok());
        for (options, kind, word) in [
            (SessionOptions::memory().max_age(day), ErrorKind::Options, "Lifetime"),
            (SessionOptions::memory().rolling(true), ErrorKind::Options, "Lifetime"),
            (SessionOptions::memory().signed([SigningKey::from("short")]), ErrorKind::Options, "32 bytes"),
            (SessionOptions::express(memory(Clock::system()), [""]), ErrorKind::Options, "at least 1"),
            (SessionOptions::express(memory(Clock::system()), [""; 0]), ErrorKind::Options, "no key"),
            (SessionOptions::memory().signed([]), ErrorKind::Options, "no key"),
            (express().lifetime(Lifetime::new()), ErrorKind::Unsupported, "absolute(None)"),
            (express().max_age(Duration::ZERO), ErrorKind::Options, "maxAge"),
            (express().max_age(Duration::from_micros(1500)), ErrorKind::Options, "maxAge"),
            (express().max_age(Duration::MAX), ErrorKind::Options, "maxAge"),
        ] {
            let error = options.validate().unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(word), "{error}");
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
