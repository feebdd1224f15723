//! Sessions as Express keeps them: the record and the rules of express-session 1.19 over connect-redis 9.
//!
//! A record is `{"cookie":{…},…}`, and what `cookie` holds governs the session.

use std::time::Duration;

use sosa::Expiry;

use crate::class::Class;
use crate::cookie::{CookieOptions, Scheme};
use crate::data::{NewOwn, SessionData};
use crate::error::{Error, ErrorKind, Result, shown};
use crate::id::{PublicId, SessionId, StorageKey};
use crate::options::ExpressOptions;
use crate::plan::Rolling;
use crate::set_cookie::SetCookie;

use super::questions::{Changes, Format, NewMaxAge, Reading, Refused, Rules, Save, Snapshot, Touch};
use super::record_cookie::{RecordCookie, renewed};

#[derive(Debug)]
pub(super) struct Express {
    options: ExpressOptions,
    cookie: CookieOptions,
}

impl Express {
    pub(super) fn new(options: ExpressOptions, cookie: CookieOptions) -> Self {
        Self { options, cookie }
    }

    /// Returns how long a session lives after a use: whole seconds, as connect-redis counts.
    fn lifetime(&self, session: &Snapshot) -> Option<Duration> {
        match session.cookie.as_ref().and_then(|cookie| cookie.max_age) {
            Some(millis) => Some(Duration::from_secs(millis.div_ceil(1000))),
            None => self.options.ttl,
        }
    }
}

impl Format for Express {
    fn rules(&self) -> Rules {
        Rules {
            first_cookie_only: true,
            touches_each_request: true,
            stores_empty: true,
            takes_back: false,
            signs: true,
            says_history: false,
            says_max_age: true,
            shows_id: true,
        }
    }

    fn may_be_id(&self, _: &[u8]) -> bool {
        true
    }

    fn read_id(&self, value: &[u8]) -> Result<SessionId, Refused> {
        self.options.keys.verify(value, SessionId::of_express).ok_or(Refused::Value)
    }

    fn storage_key(&self, id: &SessionId) -> StorageKey {
        StorageKey::Plain(id.clone())
    }

    fn check_key(&self, key: &str) -> Result<()> {
        if is_reserved(key) {
            let message = format!("the key {} is reserved: Express would lose what is stored under it", shown(key));
            return Err(Error::new(ErrorKind::ReservedKey, message));
        }
        Ok(())
    }

    fn class(&self, _: &str) -> Result<Class> {
        Err(Error::new(ErrorKind::Unsupported, "sessions that are shared with Express have no classes"))
    }

    fn read(&self, data: SessionData, class: Class, _: u64) -> Reading {
        let Some(cookie) = data.record().cookie() else {
            return Reading::Unreadable(Error::no_session("it has no member `cookie`"));
        };
        match RecordCookie::read(cookie) {
            Ok(cookie) => Reading::Live(Snapshot { data, class, cookie: Some(Box::new(cookie)) }),
            Err(error) => Reading::Unreadable(error),
        }
    }

    fn touch_on_load(&self, _: Class) -> Option<Touch> {
        // How long it lives stands in the record.
        None
    }

    fn touch(&self, session: &Snapshot) -> Option<Touch> {
        self.lifetime(session).map(|by| Touch { by, slack: Duration::ZERO })
    }

    fn kept_for(&self, _: &Reading) -> Option<Duration> {
        None
    }

    fn marker(&self, _: PublicId, _: u64) -> Option<(SessionData, Duration)> {
        // Express would take it for a session.
        None
    }

    fn blank(&self, scheme: Scheme, now: u64) -> Option<Snapshot> {
        let max_age = self.options.max_age.map(|max_age| max_age.as_millis() as u64);
        let cookie = RecordCookie { max_age, attributes: self.cookie.attributes(scheme).into_owned() };
        let own = cookie.write(self.cookie.says_secure(), now);
        let record = SessionData::empty().record().rewrite(NewOwn::Express(own.as_bytes()), &[]);
        let data = record.expect("a short text is a record").into();
        Some(Snapshot { data, class: Class::DEFAULT, cookie: Some(Box::new(cookie)) })
    }

    fn preview(&self, base: &Snapshot, changes: Changes<'_>, now: u64) -> Result<SessionData> {
        if changes.max_age.is_some() {
            return self.next(base, changes, Save::Update, now).map(|next| next.data);
        }
        changes.edits.apply(&base.data, NewOwn::Express(base.data.record().cookie().unwrap_or_default()))
    }

    fn next(&self, base: &Snapshot, changes: Changes<'_>, _: Save, now: u64) -> Result<Snapshot> {
        let (Some(own), Some(cookie)) = (base.data.record().cookie(), &base.cookie) else {
            return Err(Error::no_session("it has no member `cookie`"));
        };
        let max_age = changes.max_age.unwrap_or(cookie.max_age);
        let own = renewed(own, max_age, changes.max_age.is_some(), now);
        let data = changes.edits.apply(&base.data, NewOwn::Express(&own))?;
        let cookie = Some(Box::new(RecordCookie { max_age, ..(**cookie).clone() }));
        Ok(Snapshot { data, class: base.class, cookie })
    }

    fn expiry(&self, session: &Snapshot, _: u64) -> Expiry {
        self.lifetime(session).map_or(Expiry::Never, Expiry::After)
    }

    fn absolute_end(&self, _: &Snapshot) -> Option<u64> {
        None
    }

    fn may_be_sent(&self, session: Option<&Snapshot>, scheme: Scheme) -> bool {
        match session.and_then(|session| session.cookie.as_ref()) {
            Some(cookie) => !cookie.attributes.secure || scheme != Scheme::Http,
            None => self.cookie.is_allowed(scheme),
        }
    }

    fn rolling(&self, session: Option<&Snapshot>, max_age: NewMaxAge, _: u64) -> Rolling {
        let of_record = || session.and_then(|session| session.cookie.as_ref()?.max_age);
        match max_age.unwrap_or_else(of_record) {
            _ if self.options.rolling => Rolling::Always,
            Some(_) => Rolling::WhenSaved,
            None => Rolling::Never,
        }
    }

    fn give(&self, id: &SessionId, session: &Snapshot, scheme: Scheme, now: u64) -> SetCookie {
        let (name, value) = (self.cookie.effective_name(), self.options.keys.sign(id.expose()));
        match &session.cookie {
            Some(cookie) => cookie.attributes.write(name, &value, cookie.persistence(now)),
            None => self.cookie.give(&value, None, scheme),
        }
    }

    fn take_back(&self, scheme: Scheme) -> SetCookie {
        self.cookie.remove(scheme)
    }
}

/// The keys that Express loses: those of its own session object and of every object of JavaScript.
const RESERVED: [&str; 21] = [
    "__defineGetter__",
    "__defineSetter__",
    "__lookupGetter__",
    "__lookupSetter__",
    "__proto__",
    "constructor",
    "cookie",
    "destroy",
    "hasOwnProperty",
    "id",
    "isPrototypeOf",
    "propertyIsEnumerable",
    "regenerate",
    "reload",
    "req",
    "resetMaxAge",
    "save",
    "toLocaleString",
    "toString",
    "touch",
    "valueOf",
];

/// Returns whether Express would lose what is stored under this key.
fn is_reserved(key: &str) -> bool {
    RESERVED.binary_search(&key).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserved_names_are_sorted() {
        assert!(RESERVED.is_sorted());
        assert!(is_reserved("cookie") && is_reserved("__proto__") && !is_reserved("user") && !is_reserved("sosa"));
    }

    #[test]
    fn what_is_no_session_is_not_read() {
        let express = Express::new(ExpressOptions::new(["keyboard cat"]), CookieOptions::express());
        for data in [r#"{"cookie":null}"#, r#"{"cookie":[]}"#, r#"{"cookie":1}"#, r#"{"a":{}}"#, "{}"] {
            assert!(matches!(express.read(data.parse().unwrap(), Class::DEFAULT, 0), Reading::Unreadable(_)), "{data}");
        }
    }

    /// Whatever a request does, it reads the cookie of its record once; of a session that it makes, never.
    #[tokio::test]
    async fn the_cookie_of_a_record_is_read_once_a_request() {
        use crate::format::record_cookie::READ;
        use crate::{RequestHead, Session, SessionOptions, Sessions};

        let records = sosa_memory::new("test").collection("sessions");
        let options = ExpressOptions::new(["keyboard cat"]).max_age(Duration::from_secs(60)).rolling(true);
        let sessions = Sessions::new(SessionOptions::express(records, options));
        let mut pair = String::new();
        let mut request = async |acts: &[&str]| {
            READ.set(0);
            let session: Session = sessions.open(RequestHead::new([("cookie", pair.as_bytes())]));
            for act in acts {
                match *act {
                    "read" => drop(session.get::<u8>("n").await.unwrap()),
                    "write" => drop(session.update("n", |n: Option<u8>| n.unwrap_or(0) + 1).await.unwrap()),
                    "set max age" => session.set_max_age(Duration::from_secs(90)).await.unwrap(),
                    "save" => session.save().await.unwrap(),
                    _ => session.renew().await.unwrap(),
                }
            }
            let cookie = sessions.close(&session).await.unwrap().into_set_cookie().expect("it rolls");
            pair = cookie.value().split(';').next().unwrap().to_owned();
            READ.get()
        };
        assert_eq!(request(&["write"]).await, 0);
        for acts in [&[][..], &["read"], &["write"], &["write", "save", "set max age", "write"], &["renew", "write"]] {
            assert_eq!(request(acts).await, 1, "{acts:?}");
        }
    }

    #[test]
    fn a_session_lives_whole_seconds() {
        let ttl = Duration::from_secs(7);
        let express = Express::new(ExpressOptions::new(["keyboard cat"]).ttl(ttl), CookieOptions::express());
        for (max_age, lifetime) in [("1500", Duration::from_secs(2)), ("null", ttl)] {
            let data = format!(r#"{{"cookie":{{"originalMaxAge":{max_age}}}}}"#).parse().unwrap();
            let Reading::Live(session) = express.read(data, Class::DEFAULT, 0) else { panic!("it is a session") };
            assert_eq!(express.touch(&session).map(|touch| touch.by), Some(lifetime));
            assert_eq!(express.expiry(&session, 0), Expiry::After(lifetime));
        }
    }
}
