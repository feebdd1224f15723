//! Sessions of our own.

use std::time::Duration;

use sosa::Expiry;

use crate::cookie::{CookieOptions, Scheme};
use crate::data::{NewOwn, OWN_KEY, SessionData};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{PublicId, SessionId, StorageKey};
use crate::options::{Lifetime, SessionOptions};
use crate::plan::Rolling;
use crate::set_cookie::SetCookie;
#[cfg(feature = "signed")]
use crate::signing::SigningKeys;

use super::questions::{Changes, Format, NewMaxAge, Reading, Rules, Snapshot};

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
            cookie: options.cookie.clone(),
            #[cfg(feature = "signed")]
            keys: options.keys.clone(),
            #[cfg(feature = "signed")]
            accept_unsigned: options.accept_unsigned,
        }
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
        let is_unsigned = value.len() == SessionId::LEN;
        #[cfg(feature = "signed")]
        if self.keys.is_some() {
            return SigningKeys::may_have_signed(value, SessionId::LEN) || (is_unsigned && self.accept_unsigned);
        }
        is_unsigned
    }

    fn read_id(&self, value: &[u8]) -> Option<SessionId> {
        #[cfg(feature = "signed")]
        if let Some(keys) = &self.keys
            && !(self.accept_unsigned && value.len() == SessionId::LEN)
        {
            return keys.verify(value, |id| SessionId::parse(id.as_bytes()));
        }
        SessionId::parse(value)
    }

    fn storage_key(&self, id: &SessionId) -> StorageKey {
        StorageKey::Hashed(id.public_id())
    }

    fn check_key(&self, key: &str) -> Result<()> {
        if key == OWN_KEY {
            let message = format!("the key `{OWN_KEY}` belongs to the record itself");
            return Err(Error::new(ErrorKind::ReservedKey, message));
        }
        Ok(())
    }

    fn read(&self, data: SessionData, now: u64) -> Reading {
        if data.has_ended() {
            let age = Duration::from_millis(now.saturating_sub(data.ended_millis()));
            Reading::Renewed { renewed_as: data.renewed_as(), age }
        } else if data.created_millis() == 0 {
            Reading::Unreadable(Error::no_session("it has no member `sosa` that says when it was created"))
        } else if self.lifetime.is_over(data.created_millis(), now) {
            Reading::Over
        } else {
            Reading::Live(Snapshot::new(data))
        }
    }

    fn touch_on_load(&self) -> Option<Duration> {
        self.lifetime.touch()
    }

    fn touch(&self, _: &Snapshot) -> Option<Duration> {
        self.lifetime.touch()
    }

    fn kept_for(&self, reading: &Reading) -> Option<Duration> {
        match reading {
            // That it is there at all is what tells of the renewal, whatever the clocks say: two servers' differ.
            Reading::Renewed { age, .. } => Some(RENEWED_FOR.saturating_sub(*age).max(RENEWED_FOR_AT_LEAST)),
            Reading::Unreadable(_) => Some(UNREADABLE_FOR),
            Reading::Live(_) | Reading::Over => None,
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
            created => NewOwn::Sosa { rev: base.data.rev(), created },
        };
        changes.edits.apply(&base.data, own)
    }

    fn next(&self, base: &Snapshot, changes: Changes<'_>, is_new: bool, now: u64) -> Result<Snapshot> {
        let own = match is_new {
            true => NewOwn::Sosa { rev: 1, created: now },
            false => NewOwn::Sosa { rev: base.data.rev().saturating_add(1), created: base.data.created_millis() },
        };
        changes.edits.apply(&base.data, own).map(Snapshot::new)
    }

    fn expiry(&self, session: &Snapshot, now: u64) -> Expiry {
        self.lifetime.expiry(session.data.created_millis(), now)
    }

    fn may_be_sent(&self, _: Option<&Snapshot>, scheme: Scheme) -> bool {
        self.cookie.is_allowed(scheme)
    }

    fn rolling(&self, _: Option<&Snapshot>, _: NewMaxAge) -> Rolling {
        Rolling::Never
    }

    fn give(&self, id: &SessionId, session: &Snapshot, scheme: Scheme, now: u64) -> SetCookie {
        let max_age = self.lifetime.max_age(session.data.created_millis(), now);
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
