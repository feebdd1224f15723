//! The questions that sessions of our own and those of Express answer differently.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use sosa::Expiry;

use crate::class::Class;
use crate::cookie::Scheme;
use crate::data::SessionData;
use crate::edits::Edits;
use crate::error::{Error, Result};
use crate::id::{PublicId, SessionId, StorageKey};
use crate::owners::Login;
use crate::plan::Rolling;
use crate::set_cookie::SetCookie;

#[cfg(feature = "express")]
use super::record_cookie::RecordCookie;

/// Answers for one kind of session. Times are in milliseconds since the Unix epoch.
pub(crate) trait Format: fmt::Debug + Send + Sync {
    /// Returns by which rules requests go.
    fn rules(&self) -> Rules;

    /// Returns whether a cookie's value has the form of ours, so that it is worth more than a look.
    fn may_be_id(&self, value: &[u8]) -> bool;

    /// Reads a cookie's value. What no server of ours gave out is refused, so that it costs no call of the store.
    fn read_id(&self, value: &[u8]) -> Result<SessionId, Refused>;

    /// Returns under what the session of an id is stored.
    fn storage_key(&self, id: &SessionId) -> StorageKey;

    /// Refuses a key that is the record's own, or that would be lost.
    fn check_key(&self, key: &str) -> Result<()>;

    /// Returns the class of this name.
    ///
    /// # Errors
    ///
    /// [`Options`](crate::ErrorKind::Options) if the options have none of this name.
    fn class(&self, name: &str) -> Result<Class>;

    /// Reads what was found under the id of a session of this class.
    fn read(&self, data: SessionData, class: Class, now: u64) -> Reading;

    /// Returns how the first look moves the deadline of a session of this class; `None` if it does not.
    fn touch_on_load(&self, class: Class) -> Option<Touch>;

    /// Returns how a use moves a session's deadline; `None` if it has none.
    fn touch(&self, session: &Snapshot) -> Option<Touch>;

    /// Returns for how much longer what opens no session is kept, if a look has just prolonged it; `None` for as long
    /// as the look did.
    fn kept_for(&self, reading: &Reading) -> Option<Duration>;

    /// Returns what is left in the place of a session that was renewed, and for how long; `None` for nothing.
    fn marker(&self, renewed_as: PublicId, now: u64) -> Option<(SessionData, Duration)>;

    /// Returns the record that a new session begins with, if that is not empty.
    fn blank(&self, scheme: Scheme, now: u64) -> Option<Snapshot>;

    /// Returns the record with these changes, as it looks before it is saved.
    fn preview(&self, base: &Snapshot, changes: Changes<'_>, now: u64) -> Result<SessionData>;

    /// Returns the record with these changes as it is to be saved.
    fn next(&self, base: &Snapshot, changes: Changes<'_>, save: Save, now: u64) -> Result<Snapshot>;

    /// Returns the expiry of a record that is saved now.
    fn expiry(&self, session: &Snapshot, now: u64) -> Expiry;

    /// Returns when a session ends however much it is used, if it does.
    fn absolute_end(&self, session: &Snapshot) -> Option<u64>;

    /// Returns whether the cookie of a session, or of a new one, may answer a request of this scheme.
    fn may_be_sent(&self, session: Option<&Snapshot>, scheme: Scheme) -> bool;

    /// Returns when the cookie of a session that goes on is sent again.
    fn rolling(&self, session: Option<&Snapshot>, max_age: NewMaxAge, now: u64) -> Rolling;

    /// Writes the cookie that gives the client a session.
    fn give(&self, id: &SessionId, session: &Snapshot, scheme: Scheme, now: u64) -> SetCookie;

    /// Writes the cookie that makes the client forget its session.
    fn take_back(&self, scheme: Scheme) -> SetCookie;
}

/// Why the value of a cookie opens no session, though it has the form of one that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No key has signed it, where cookies are signed; or it has not the form at a second look.
    Value,
    /// Its class is none of the options'.
    Class,
}

/// How a use moves a session's deadline: to so long from now, unless that moves it by less than the slack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Touch {
    pub(crate) by: Duration,
    pub(crate) slack: Duration,
}

/// For what a record is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Save {
    /// Its session goes on under its id.
    Update,
    /// The same, and its cookie is sent again.
    UpdateAndSend,
    /// Its session goes on under another id.
    Renewal,
    /// A session of this class begins.
    Beginning(Class),
}

/// Rules that are either so or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// The first cookie of our name counts, whatever is in it, and no other.
    pub(crate) first_cookie_only: bool,
    /// A request touches its session by a call of its own, whatever it does with it.
    pub(crate) touches_each_request: bool,
    /// A session that begins anew is stored even if it holds nothing.
    pub(crate) stores_empty: bool,
    /// The cookie of a session that ended is taken back.
    pub(crate) takes_back: bool,
    /// Cookies are signed.
    pub(crate) signs: bool,
    /// A record says how often it was saved, and when its session began.
    pub(crate) says_history: bool,
    /// A record says how long its session lives.
    #[cfg(feature = "express")]
    pub(crate) says_max_age: bool,
    /// The id is shown to the application.
    #[cfg(feature = "express")]
    pub(crate) shows_id: bool,
}

/// What was found under an id.
#[derive(Debug)]
pub(crate) enum Reading {
    /// A session.
    Live(Snapshot),
    /// The marker that is left of a session that was renewed so long ago, and its new id.
    Renewed { renewed_as: Option<PublicId>, age: Duration },
    /// A session that has reached the end of its absolute lifetime.
    Over(SessionData),
    /// A record that is no session, or that the store could not decode.
    Unreadable(Error),
}

/// When a marker is removed, should the store have kept it.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10 * 60);

impl Reading {
    /// Returns whether it is of no more use, and to be removed.
    pub(crate) fn is_spent(&self) -> bool {
        match self {
            Self::Live(_) | Self::Unreadable(_) => false,
            Self::Renewed { age, .. } => *age > FORGOTTEN_AFTER,
            Self::Over(_) => true,
        }
    }
}

/// A record, with what it says of its cookie, read once.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) data: SessionData,
    /// That of the id under which it is stored.
    pub(crate) class: Class,
    #[cfg(feature = "express")]
    pub(super) cookie: Option<Box<RecordCookie>>,
}

impl Snapshot {
    /// Makes one of a record that says nothing of its cookie.
    pub(crate) fn new(data: SessionData, class: Class) -> Self {
        Self {
            data,
            class,
            #[cfg(feature = "express")]
            cookie: None,
        }
    }

    /// Returns that of the empty record, to be borrowed.
    pub(crate) fn empty() -> &'static Self {
        static EMPTY: LazyLock<Snapshot> =
            LazyLock::new(|| Snapshot::new(SessionData::empty().clone(), Class::DEFAULT));
        &EMPTY
    }

    /// Returns whether this `originalMaxAge` is what the record says.
    pub(crate) fn has_max_age(&self, max_age: Option<u64>) -> bool {
        #[cfg(feature = "express")]
        return self.cookie.as_ref().is_some_and(|cookie| cookie.max_age == max_age);
        #[cfg(not(feature = "express"))]
        return max_age.is_none();
    }
}

/// Another `originalMaxAge`, if a request asked for one: in milliseconds, `None` for a cookie that ends with the
/// browser's session.
pub(crate) type NewMaxAge = Option<Option<u64>>;

/// What a request changes of a record.
#[derive(Clone, Copy)]
pub(crate) struct Changes<'a> {
    pub(crate) edits: &'a Edits,
    pub(crate) max_age: NewMaxAge,
    /// Who is signed in by it.
    pub(crate) login: Option<&'a Login>,
}
