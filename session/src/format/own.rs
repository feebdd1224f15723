//! Sessions of our own.

use std::ops::RangeInclusive;
use std::time::Duration;

use sosa::Expiry;

use crate::class::Class;
use crate::cookie::{CookieOptions, Scheme};
use crate::data::{NewOwn, OWN_KEY, OwnMember, SessionData};
use crate::error::{Error, ErrorKind, Result, shown};
use crate::id::{PublicId, SessionId, StorageKey};
use crate::options::{Lifetime, SessionOptions};
use crate::plan::Rolling;
use crate::set_cookie::SetCookie;
#[cfg(feature = "signed")]
use crate::signing::SigningKeys;

use super::questions::{Changes, Format, NewMaxAge, Reading, Refused, Rules, Save, Snapshot, Touch};

/// For how long the id of a renewed session is remembered: longer than a request that was under way
/// should take.
const RENEWED_FOR: Duration = Duration::from_secs(30);

/// For how long, at least, after a look has prolonged that.
const RENEWED_FOR_AT_LEAST: Duration = Duration::from_secs(1);

/// How long a record is kept that cannot be read, after the last look at it has prolonged it.
const UNREADABLE_FOR: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Own {
    lifetime: Lifetime,
    /// Of the other classes.
    classes: Vec<(Class, Lifetime)>,
    cookie: CookieOptions,
    #[cfg(feature = "signed")]
    keys: Option<SigningKeys>,
    /// Cookies are taken that are not signed, too.
    #[cfg(feature = "signed")]
    accept_unsigned: bool,
}

impl Own {
    pub(super) fn new(options: &SessionOptions) -> Self {
        Self {
            lifetime: options.lifetime.unwrap_or_default(),
            classes: options.classes().collect(),
            cookie: options.cookie.clone(),
            #[cfg(feature = "signed")]
            keys: options.keys.clone(),
            #[cfg(feature = "signed")]
            accept_unsigned: options.accept_unsigned,
        }
    }

    /// Returns how long sessions of a class live; `None` if there is no such class.
    fn lifetime(&self, class: Class) -> Option<&Lifetime> {
        if class.is_default() {
            return Some(&self.lifetime);
        }
        self.classes.iter().find(|(known, _)| *known == class).map(|(_, lifetime)| lifetime)
    }

    /// Returns how long a session lives that was found, whose class so is known.
    fn lifetime_of(&self, session: &Snapshot) -> &Lifetime {
        self.lifetime(session.class).unwrap_or(&self.lifetime)
    }

    /// Returns how long a session has until its absolute end: by the options, or by what was fixed at its sign-in if that is
    /// sooner.
    fn left(&self, session: &Snapshot, now: u64) -> Option<Duration> {
        let OwnMember { created, until, .. } = session.data.own();
        let fixed = (until > 0).then(|| Duration::from_millis(until.saturating_sub(now)));
        self.lifetime_of(session).left(created, now).into_iter().chain(fixed).min()
    }

    /// Reads an id that is signed, where cookies are, whatever its class.
    fn verify(&self, value: &[u8]) -> Option<SessionId> {
        #[cfg(feature = "signed")]
        if let Some(keys) = &self.keys
            && !(self.accept_unsigned && self.lengths().contains(&value.len()))
        {
            return keys.verify(value, |id| SessionId::parse(id.as_bytes()));
        }
        SessionId::parse(value)
    }

    /// Returns the lengths of the ids that there can be.
    fn lengths(&self) -> RangeInclusive<usize> {
        let (shortest, longest) = (*SessionId::LENGTHS.start(), *SessionId::LENGTHS.end());
        shortest..=if self.classes.is_empty() { shortest } else { longest }
    }
}

impl Format for Own {
    fn rules(&self) -> Rules {
        Rules {
            first_cookie_only: false,
            touches_each_request: false,
            stores_empty: false,
            takes_back: true,
            #[cfg(feature = "signed")]
            signs: self.keys.is_some(),
            #[cfg(not(feature = "signed"))]
            signs: false,
            says_history: true,
            #[cfg(feature = "express")]
            says_max_age: false,
            #[cfg(feature = "express")]
            shows_id: false,
        }
    }

    fn may_be_id(&self, value: &[u8]) -> bool {
        let is_unsigned = self.lengths().contains(&value.len());
        #[cfg(feature = "signed")]
        if self.keys.is_some() {
            return SigningKeys::may_have_signed(value, self.lengths()) || (is_unsigned && self.accept_unsigned);
        }
        is_unsigned
    }

    fn read_id(&self, value: &[u8]) -> Result<SessionId, Refused> {
        let id = self.verify(value).ok_or(Refused::Value)?;
        if self.lifetime(id.class()).is_some() { Ok(id) } else { Err(Refused::Class) }
    }

    fn storage_key(&self, id: &SessionId) -> StorageKey {
        StorageKey::Hashed(id.public_id(), id.class())
    }

    fn check_key(&self, key: &str) -> Result<()> {
        if key == OWN_KEY {
            let message = format!("the key `{OWN_KEY}` belongs to the record itself");
            return Err(Error::new(ErrorKind::ReservedKey, message));
        }
        Ok(())
    }

    fn class(&self, name: &str) -> Result<Class> {
        let class = Class::parse(name.as_bytes()).filter(|class| self.lifetime(*class).is_some());
        class.ok_or_else(|| {
            let message = format!("the options have no class {}: name it by SessionOptions::class", shown(name));
            Error::new(ErrorKind::Options, message)
        })
    }

    fn read(&self, data: SessionData, class: Class, now: u64) -> Reading {
        let session = Snapshot::new(data, class);
        let data = &session.data;
        if data.has_ended() {
            let age = Duration::from_millis(now.saturating_sub(data.ended_millis()));
            Reading::Renewed { renewed_as: data.renewed_as(), age }
        } else if data.created_millis() == 0 {
            Reading::Unreadable(Error::no_session("it has no member `sosa` that says when it was created"))
        } else if self.left(&session, now).is_some_and(|left| left.is_zero()) {
            Reading::Over(session.data)
        } else {
            Reading::Live(session)
        }
    }

    fn touch_on_load(&self, class: Class) -> Option<Touch> {
        self.lifetime(class)?.touch()
    }

    fn touch(&self, session: &Snapshot) -> Option<Touch> {
        self.lifetime_of(session).touch()
    }

    fn kept_for(&self, reading: &Reading) -> Option<Duration> {
        match reading {
            // That it is there at all is what tells of the renewal, whatever the clocks say: two servers' differ.
            Reading::Renewed { age, .. } => Some(RENEWED_FOR.saturating_sub(*age).max(RENEWED_FOR_AT_LEAST)),
            Reading::Unreadable(_) => Some(UNREADABLE_FOR),
            Reading::Live(_) | Reading::Over(_) => None,
        }
    }

    fn marker(&self, renewed_as: PublicId, now: u64) -> Option<(SessionData, Duration)> {
        Some((SessionData::ended(now, renewed_as), RENEWED_FOR))
    }

    fn blank(&self, _: Scheme, _: u64) -> Option<Snapshot> {
        None
    }

    fn preview(&self, base: &Snapshot, changes: Changes<'_>, _: u64) -> Result<SessionData> {
        let own = match base.data.created_millis() {
            0 => NewOwn::None,
            _ => NewOwn::Sosa(base.data.own(), changes.login),
        };
        changes.edits.apply(&base.data, own)
    }

    fn next(&self, base: &Snapshot, changes: Changes<'_>, save: Save, now: u64) -> Result<Snapshot> {
        let class = if let Save::Beginning(class) = save { class } else { base.class };
        let is_rolling = self.lifetime(class).is_some_and(Lifetime::is_rolling);
        let old = base.data.own();
        let (created, sent) = match save {
            Save::Update => (old.created, old.sent),
            Save::UpdateAndSend | Save::Renewal => (old.created, if is_rolling { now } else { 0 }),
            // Sent when it is created.
            Save::Beginning(_) => (now, 0),
        };
        let absolute_end = || self.lifetime(class).and_then(|lifetime| lifetime.absolute_end(now)).unwrap_or(0);
        let (until, confirmed) = match (save, changes.login) {
            (_, Some(_)) => (absolute_end(), now),
            (Save::Beginning(_), None) if old.until > 0 => (absolute_end(), old.confirmed),
            _ => (old.until, old.confirmed),
        };
        let own = OwnMember { rev: old.rev.saturating_add(1), created, class, sent, until, confirmed };
        let data = changes.edits.apply(&base.data, NewOwn::Sosa(own, changes.login))?;
        Ok(Snapshot::new(data, class))
    }

    fn expiry(&self, session: &Snapshot, now: u64) -> Expiry {
        self.lifetime_of(session).expiry(self.left(session, now))
    }

    fn absolute_end(&self, session: &Snapshot) -> Option<u64> {
        let OwnMember { created, until, .. } = session.data.own();
        let fixed = Some(until).filter(|until| *until > 0);
        self.lifetime_of(session).absolute_end(created).into_iter().chain(fixed).min()
    }

    fn may_be_sent(&self, _: Option<&Snapshot>, scheme: Scheme) -> bool {
        self.cookie.is_allowed(scheme)
    }

    fn rolling(&self, session: Option<&Snapshot>, _: NewMaxAge, now: u64) -> Rolling {
        let is_due = |session: &Snapshot| {
            let OwnMember { created, sent, .. } = session.data.own();
            self.lifetime_of(session).is_cookie_due(created.max(sent), now)
        };
        if session.is_some_and(is_due) { Rolling::Due } else { Rolling::Never }
    }

    fn give(&self, id: &SessionId, session: &Snapshot, scheme: Scheme, now: u64) -> SetCookie {
        let max_age = self.lifetime_of(session).max_age(self.left(session, now));
        #[cfg(feature = "signed")]
        if let Some(keys) = &self.keys {
            return self.cookie.give(&keys.sign(id.expose()), max_age, scheme);
        }
        self.cookie.give(id.expose(), max_age, scheme)
    }

    fn take_back(&self, scheme: Scheme) -> SetCookie {
        self.cookie.remove(scheme)
    }
}
