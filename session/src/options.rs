//! What sessions are made of: a collection, a lifetime, a cookie.

#[cfg(feature = "express")]
mod express;
mod lifetime;
mod owners;
mod proxy;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use sosa::{Clock, Collection, Model};

use crate::class::Class;
use crate::cookie::{CookieOptions, Scheme};
use crate::data::SessionData;
use crate::error::{Error, ErrorKind, Result, shown};
use crate::owners::OwnerRecord;
#[cfg(feature = "signed")]
use crate::signing::{SigningKey, SigningKeys};

#[cfg(feature = "express")]
pub use self::express::ExpressOptions;
#[cfg(feature = "express")]
pub(crate) use self::express::check_max_age;
pub use self::lifetime::Lifetime;
pub(crate) use self::owners::Cap;
pub use self::owners::Full;
pub(crate) use self::proxy::Forwarded;
pub use self::proxy::TrustProxy;

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
    /// Unless told, the default one, which sessions of Express do not have.
    pub(crate) lifetime: Option<Lifetime>,
    /// Of the other classes, by their names as they were given.
    classes: Vec<(String, Lifetime)>,
    pub(crate) cookie: CookieOptions,
    pub(crate) clock: Clock,
    pub(crate) scheme: Scheme,
    pub(crate) proxy: TrustProxy,
    #[cfg(feature = "signed")]
    pub(crate) keys: Option<SigningKeys>,
    #[cfg(feature = "signed")]
    pub(crate) accept_unsigned: bool,
    #[cfg(feature = "express")]
    pub(crate) express: Option<ExpressOptions>,
    pub(crate) dead_cookie: DeadCookie,
    pub(crate) max_size: usize,
    pub(crate) max_wait: Duration,
    pub(crate) owners: Option<Arc<dyn Collection<OwnerRecord>>>,
    pub(crate) cap: Cap,
    /// The collection is our own in memory, which goes by the same clock.
    own_memory: bool,
}

impl SessionOptions {
    /// Keeps sessions in this collection, with all defaults.
    pub fn new(collection: impl Collection<SessionData> + 'static) -> Self {
        Self {
            collection: shared(collection),
            lifetime: None,
            classes: Vec::new(),
            cookie: CookieOptions::new(),
            clock: Clock::system(),
            scheme: Scheme::Unknown,
            proxy: TrustProxy::never(),
            #[cfg(feature = "signed")]
            keys: None,
            #[cfg(feature = "signed")]
            accept_unsigned: false,
            #[cfg(feature = "express")]
            express: None,
            dead_cookie: DeadCookie::default(),
            max_size: MAX_SIZE,
            max_wait: MAX_WAIT,
            owners: None,
            cap: Cap::default(),
            own_memory: false,
        }
    }

    /// Shares the sessions of an Express application: its records and its cookies, byte for byte, as
    /// express-session writes them over connect-redis.
    ///
    /// The defaults are Express's too, and want what the application has changed of them:
    ///
    /// | there | here | default |
    /// |---|---|---|
    /// | `name`, `cookie.path`, `domain`, `httpOnly`, `secure`, `sameSite`, `partitioned`, `priority` | [`cookie`](Self::cookie), from [`CookieOptions::express`] | `connect.sid`, `/`, none, on, [`Never`](crate::Secure::Never), none, off, none |
    /// | `secret` | [`ExpressOptions::new`] | |
    /// | `cookie.maxAge` | [`ExpressOptions::max_age`] | none: the cookie ends with the browser's session |
    /// | `rolling` | [`ExpressOptions::rolling`] | off |
    /// | connect-redis's `ttl`, for sessions without a `maxAge` | [`ExpressOptions::ttl`] | 1 day |
    /// | connect-redis's `prefix` | `sosa_redis::RedisStore::collection_at` | `sess:` |
    /// | `app.set("trust proxy", …)` | [`trust_proxy`](Self::trust_proxy) | nobody |
    ///
    /// ```
    /// use sosa_session::{ExpressOptions, Session, SessionLayer, SessionOptions};
    ///
    /// # fn example() -> Result<SessionLayer, Box<dyn std::error::Error>> {
    /// let client = sosa_redis::redis::Client::open("redis://127.0.0.1/")?;
    /// let sessions = sosa_redis::new(client, "").collection_at("sess:");
    /// # Ok(
    /// SessionLayer::new(SessionOptions::express(sessions, ExpressOptions::new(["keyboard cat"])))
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
    /// A record that is no session of Express, or whose `originalMaxAge` is neither null, false nor a positive integer,
    /// is an error for its requests, and stays as it is.
    ///
    /// Of two writers on this side no update is lost, and none brings back a session that either side ended.
    /// Express takes no such care: a request of its own that was under way overwrites what others saved
    /// meanwhile, and brings back what they destroyed. Deliberately otherwise than there:
    ///
    /// - responses that used their session say `Vary: Cookie` and, unless the handler says otherwise,
    ///   `Cache-Control: private`, and those that set the cookie `no-store`;
    /// - nothing is saved where the cookie may not be sent, a `secure` one over plain http;
    /// - `rolling` sends no cookie of a session that ended while its request was under way;
    /// - [`Session::set_max_age`](crate::Session::set_max_age) is saved though nothing else changed;
    /// - a record that is empty or `null` is an error too, and an id of more than 1,024 bytes opens no session.
    #[cfg(feature = "express")]
    pub fn express(collection: impl Collection<SessionData> + 'static, express: ExpressOptions) -> Self {
        Self { express: Some(express), cookie: CookieOptions::express(), ..Self::new(collection) }
    }

    /// Signs the cookie with the first of these keys, and takes one that any of them has signed: what is
    /// refused makes no call of the store. [`SigningKey`] says how it is signed.
    ///
    /// Ids cannot be guessed without it either. It keeps guesses from reaching the store, and makes an id that leaked
    /// from elsewhere than the cookie worthless.
    ///
    /// **Clients with an unsigned cookie are logged out by this**, unless [`accept_unsigned`](Self::accept_unsigned)
    /// lets them go on for a while.
    #[cfg(feature = "signed")]
    #[must_use]
    pub fn signed(mut self, keys: impl IntoIterator<Item = SigningKey>) -> Self {
        self.keys = Some(keys.into_iter().collect());
        self
    }

    /// Opens sessions by unsigned cookies, too, beside [`signed`](Self::signed): turn it on while cookies live that were
    /// sent before signing was turned on. Off by default, since an id that leaked from elsewhere then opens its session.
    #[cfg(feature = "signed")]
    #[must_use]
    pub fn accept_unsigned(mut self, accept: bool) -> Self {
        self.accept_unsigned = accept;
        self
    }

    /// Keeps sessions in memory: they end with the program, and no other process sees them. At most 100,000, which take
    /// about 150 MB at 1 KB each: a new one beyond that is answered with 503, unless an old one has expired.
    pub fn memory() -> Self {
        Self { own_memory: true, ..Self::new(memory(Clock::system())) }
    }

    /// Adds a class of sessions, with a lifetime of its own: *stay signed in* beside the default.
    ///
    /// The name has 1 to 16 of `a` to `z`, `0` to `9` and `-`. A session is put into the class by
    /// [`renew_as`](crate::Session::renew_as) or [`regenerate_as`](crate::Session::regenerate_as), and stays in it until it
    /// ends or is put into another. The class is part of the id that the cookie carries, `<id>.remembered`, and of what the
    /// store knows the session by, so that a look knows the lifetime before it has read anything, and who changes the class
    /// in a cookie has the id of no session.
    ///
    /// **Roll out the version that has the class everywhere before a program puts sessions into it**: a process that does
    /// not know a class takes its cookies for none. To take a class out of the options logs its users out.
    ///
    /// ```
    /// use sosa_session::{Lifetime, SessionOptions};
    /// use std::time::Duration;
    ///
    /// const HOUR: Duration = Duration::from_secs(3600);
    /// let options = SessionOptions::memory()
    ///     .lifetime(Lifetime::new().idle(2 * HOUR).absolute(12 * HOUR))
    ///     .class("remembered", Lifetime::new().idle(30 * 24 * HOUR).absolute(90 * 24 * HOUR).persistent());
    /// assert!(options.validate().is_ok());
    /// ```
    #[must_use]
    pub fn class(mut self, name: impl Into<String>, lifetime: Lifetime) -> Self {
        self.classes.push((name.into(), lifetime));
        self
    }

    /// Returns the classes beside the default one; not those whose names [`validate`](Self::validate) refuses.
    pub(crate) fn classes(&self) -> impl Iterator<Item = (Class, Lifetime)> {
        self.classes.iter().filter_map(|(name, lifetime)| Some((Class::parse(name.as_bytes())?, *lifetime)))
    }

    /// Registers who is signed in by which session, in a collection with one record for each owner: for a page that lists an
    /// owner's devices, for *sign out elsewhere*, and for a limit on them. See [`Session::sign_in`](crate::Session::sign_in)
    /// and [`Sessions::owner`](crate::Sessions::owner).
    ///
    /// The collection may be in the store of the sessions or in another; it belongs in one that evicts nothing: **a session
    /// whose owner's record is lost stays alive, and is found by nobody until its next renewal**. Every class needs an absolute
    /// lifetime, since the record lasts for an hour longer than the last of its sessions can.
    ///
    /// **Roll out the version that knows owners everywhere before its options have them**: a process of before does not register
    /// what it renews, and one without this option cannot renew what is signed in.
    ///
    /// A record is stored under the SHA-256 of the owner's name, for its length and alphabet; that hides nobody.
    ///
    /// ```
    /// use sosa_session::SessionOptions;
    ///
    /// let store = sosa_memory::new("myapp");
    /// let options = SessionOptions::new(store.collection("sessions")).owners(store.collection("owners"));
    /// assert!(options.validate().is_ok());
    /// ```
    #[must_use]
    pub fn owners(mut self, collection: impl Collection<OwnerRecord> + 'static) -> Self {
        self.owners = Some(shared(collection));
        self
    }

    /// Limits how many sign-ins an owner has at once, and says what the next one does; by default 100, and
    /// [`Full::EndOldest`]. It holds however many there are at the same moment.
    ///
    /// ```
    /// # use sosa_session::{Full, SessionOptions};
    /// # let store = sosa_memory::new("myapp");
    /// let options = SessionOptions::new(store.collection("sessions"))
    ///     .owners(store.collection("owners"))
    ///     .max_per_owner(5, Full::Refuse);
    /// # assert!(options.validate().is_ok());
    /// ```
    #[must_use]
    pub fn max_per_owner(mut self, max: usize, full: Full) -> Self {
        self.cap = Cap { max, full };
        self
    }

    /// Sets how long sessions live; those of the default class, if there are others.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = Some(lifetime);
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

    /// Limits the record of a session to so many bytes of JSON; 256 KiB by default.
    ///
    /// What a client can make larger without an end is a burden on all: each look at a session moves its whole record,
    /// and a store that serves many waits for it. A save that would make a record larger than this is
    /// [`TooLarge`](crate::ErrorKind::TooLarge), status 413: the edits are dropped, and the session stays as it was. A
    /// record that is larger already, from before the limit, opens, can shrink and end, and is refused only if it would
    /// grow.
    #[must_use]
    pub fn max_size(mut self, bytes: usize) -> Self {
        self.max_size = bytes;
        self
    }

    /// Limits how long a request waits before it can save, while others write the same session; 5 seconds by default.
    ///
    /// Where requests of one session collide, those of one process line up, each with its turn in the order in which they
    /// came, so that none overtakes another. One that would wait longer than this is answered with 503:
    /// [`Busy`](crate::ErrorKind::Busy), and what it was to save is dropped. An end of the session, at a logout or by
    /// [`regenerate`](crate::Session::regenerate), waits no longer either, and then goes ahead out of turn.
    ///
    /// A turn that takes longer than a fifth of this, because a call of the store does not return or a
    /// [`close`](crate::Sessions::close) is never polled again, is passed on: **with less than some ten times what the store
    /// takes for a call there are no turns any more.** What the store itself takes is not limited by this, but by the
    /// store's own time limits.
    #[must_use]
    pub fn max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = max_wait;
        self
    }

    /// Says when a cookie that opens no session is taken back.
    #[must_use]
    pub fn dead_cookie(mut self, dead_cookie: DeadCookie) -> Self {
        self.dead_cookie = dead_cookie;
        self
    }

    /// Believes what the headers of these peers say of how a request came: the first of `X-Forwarded-Proto`,
    /// `Forwarded` (RFC 7239) and `X-Forwarded-Ssl` that says it. Nobody's by default.
    #[must_use]
    pub fn trust_proxy(mut self, proxy: TrustProxy) -> Self {
        self.proxy = proxy;
        self
    }

    /// Checks that the options do not contradict each other.
    ///
    /// # Errors
    ///
    /// [`Options`](crate::ErrorKind::Options) with the contradiction and how to mend it;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for what sessions that are shared with Express do not have: a
    /// lifetime of ours, classes, owners, or keys beside their secrets.
    pub fn validate(&self) -> Result<()> {
        #[cfg(feature = "express")]
        if let Some(express) = &self.express {
            let unsupported = |why| Err(Error::new(ErrorKind::Unsupported, why));
            if self.lifetime.is_some() {
                return unsupported(
                    "a record of Express does not say when its session began, so a Lifetime is not for sessions that \
                     are shared with it: use ExpressOptions::max_age or ExpressOptions::ttl",
                );
            }
            if !self.classes.is_empty() {
                return unsupported("sessions that are shared with Express have no classes: leave class out");
            }
            if self.owners.is_some() {
                return unsupported("sessions that are shared with Express have no owners: leave owners out");
            }
            if self.keys.is_some() {
                return unsupported("the cookies of Express are signed by its own secrets: leave signed out");
            }
            express.validate()?;
        }
        #[cfg(feature = "signed")]
        match &self.keys {
            Some(keys) => keys.check(SigningKey::MIN_LEN)?,
            None if self.accept_unsigned => {
                let why = "accept_unsigned is for cookies of before signing was turned on: use it beside signed";
                return Err(Error::new(ErrorKind::Options, why));
            }
            None => {}
        }
        self.lifetime.unwrap_or_default().validate()?;
        for (index, (name, lifetime)) in self.classes.iter().enumerate() {
            let is_twice = self.classes[..index].iter().any(|(other, _)| other == name);
            if is_twice || Class::parse(name.as_bytes()).is_none() {
                let why = if is_twice { "is there twice" } else { "has not 1 to 16 of a to z, 0 to 9 and -" };
                return Err(Error::new(ErrorKind::Options, format!("the class {} {why}", shown(name))));
            }
            lifetime.validate()?;
        }
        if self.owners.is_some() {
            let has_end = |lifetime: &Lifetime| lifetime.absolute_end(0).is_some();
            let lifetimes = self.lifetime.iter().chain(self.classes.iter().map(|(_, lifetime)| lifetime));
            if !lifetimes.into_iter().all(has_end) {
                let why = "with owners every class needs an absolute lifetime, or their records would never end";
                return Err(Error::new(ErrorKind::Options, why));
            }
            if self.cap.max == 0 {
                let why = "with max_per_owner(0) nobody could sign in; leave owners out";
                return Err(Error::new(ErrorKind::Options, why));
            }
        }
        self.cookie.validate()
    }
}

/// When a cookie that opens no session is taken back, so that the browser does not send it with each request: one whose
/// session has expired or was ended, or whose signature was refused.
///
/// It is done where a handler uses the session within 20 seconds of the request's arrival: later another request may
/// have renewed the session under the same cookie. Sessions that are shared with Express leave such cookies alone, as it
/// does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadCookie {
    /// Never.
    Keep,
    /// When the user goes to a page, which browsers say by `Sec-Fetch-Mode: navigate`. The default. If two pages are
    /// loaded at the same moment with such a cookie, and one begins a session, the other may take its cookie back.
    #[default]
    RemoveOnNavigation,
    /// With each response. **Of several requests at once with such a cookie, one may begin a session, a login for
    /// example, and another take the new cookie back.** For clients that send one request after the other.
    Remove,
}

/// Shares a collection, unless it is shared already.
fn shared<T: Model, C: Collection<T> + 'static>(collection: C) -> Arc<dyn Collection<T>> {
    match (&collection as &dyn Any).downcast_ref::<Arc<dyn Collection<T>>>() {
        Some(shared) => shared.clone(),
        None => Arc::new(collection),
    }
}

/// How many bytes a record has at most, unless told.
const MAX_SIZE: usize = 256 * 1024;

/// How long a request waits for its turn, unless told.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// How many sessions are kept in memory where the program has no store of its own.
const MAX_IN_MEMORY: usize = 100_000;

fn memory(clock: Clock) -> sosa_memory::MemoryCollection<SessionData> {
    sosa_memory::new("sosa").with_clock(clock).with_limit(MAX_IN_MEMORY).collection("sessions")
}

/// A collection stands for the default options.
impl<C: Collection<SessionData> + 'static> From<C> for SessionOptions {
    fn from(collection: C) -> Self {
        Self::new(collection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_collection_is_not_shared_once_more() {
        let collection: Arc<dyn Collection<SessionData>> = Arc::new(memory(Clock::system()));
        let options = SessionOptions::new(collection.clone());
        assert!(Arc::ptr_eq(&options.collection, &collection));
    }

    #[test]
    fn with_owners_there_is_an_end_and_a_place() {
        let owners = || {
            let owners = sosa_memory::new("test").collection::<OwnerRecord>("owners");
            SessionOptions::memory().owners(owners)
        };
        let endless = Lifetime::new().absolute(None);
        assert!(owners().validate().is_ok());
        for (options, word) in [
            (owners().lifetime(endless), "absolute lifetime"),
            (owners().class("endless", endless), "absolute lifetime"),
            (owners().max_per_owner(0, Full::EndOldest), "nobody could sign in"),
        ] {
            let error = options.validate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Options);
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[cfg(feature = "signed")]
    #[test]
    fn keys_are_checked() {
        for (options, word) in [
            (SessionOptions::memory().signed([SigningKey::from("short")]), "32 bytes"),
            (SessionOptions::memory().signed([]), "no key"),
            (SessionOptions::memory().accept_unsigned(true), "beside signed"),
        ] {
            let error = options.validate().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Options);
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[cfg(feature = "express")]
    #[test]
    fn options_of_express_and_of_ours_do_not_mix() {
        let new = || ExpressOptions::new(["keyboard cat"]);
        let express = |express| SessionOptions::express(memory(Clock::system()), express);
        let owners = sosa_memory::new("test").collection::<OwnerRecord>("owners");
        let day = Duration::from_secs(86_400);
        assert!(express(new().max_age(day).rolling(true).ttl(None)).validate().is_ok());
        for (options, kind, word) in [
            (express(ExpressOptions::new([""])), ErrorKind::Options, "at least 1"),
            (express(ExpressOptions::new([""; 0])), ErrorKind::Options, "no key"),
            (express(new()).lifetime(Lifetime::new()), ErrorKind::Unsupported, "ExpressOptions::ttl"),
            (express(new()).class("a", Lifetime::new()), ErrorKind::Unsupported, "leave class out"),
            (express(new()).owners(owners), ErrorKind::Unsupported, "leave owners out"),
            (express(new()).signed([SigningKey::from("x")]), ErrorKind::Unsupported, "leave signed out"),
            (express(new().max_age(Duration::ZERO)), ErrorKind::Options, "maxAge"),
            (express(new().max_age(Duration::from_micros(1500))), ErrorKind::Options, "maxAge"),
            (express(new().max_age(Duration::MAX)), ErrorKind::Options, "maxAge"),
            (express(new().ttl(Duration::ZERO)), ErrorKind::Options, "ttl"),
        ] {
            let error = options.validate().unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
