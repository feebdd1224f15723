//! What can go wrong with a session.

use std::error::Error as StdError;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing::field::display;
use tracing::{debug, error, info};

use crate::once::Once;
use crate::response::ResponseHeaders;

/// The result of what a session is asked.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a session.
///
/// It holds no id, no cookie value and no value of the session, so it is safe to log. Where a
/// store failed, the [`source`](StdError::source) is its [`sosa::Error`]. A clone is the same error.
#[derive(Clone)]
pub struct Error(Box<Repr>);

/// In a box, so that results stay small.
#[derive(Clone)]
struct Repr {
    inner: Arc<Inner>,
    headers: ResponseHeaders,
    was_told: bool,
    /// It came about as a session was loaded or saved, and not in another collection.
    is_of_sessions: bool,
}

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// How long a client should wait for a store that is out: a fail-over takes some seconds.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A store failed, that of the sessions or, by `?`, another; see [`Error::store`].
    Store,
    /// The value of this key is not of the asked type. The session and the value stay as they are.
    Decode,
    /// The value could not be encoded. The session stays as it is.
    Encode,
    /// The key belongs to the record itself, or is one that Express would lose.
    ReservedKey,
    /// The session was ended by another request after this one loaded it, or has expired since. The edits are
    /// dropped, and nothing brings the session back.
    Ended,
    /// Nobody was signed in, because the owner has as many sign-ins as [`SessionOptions::max_per_owner`] allows. The session
    /// stays as it was.
    ///
    /// [`SessionOptions::max_per_owner`]: crate::SessionOptions::max_per_owner
    TooManyDevices,
    /// Nobody is signed in by the session.
    NotSignedIn,
    /// Nothing was saved, because the session would be larger than [`SessionOptions::max_size`] allows, and larger than
    /// it was. The edits are dropped, and the session stays as it was.
    ///
    /// [`SessionOptions::max_size`]: crate::SessionOptions::max_size
    TooLarge,
    /// Nothing was saved, because the request waited for [`SessionOptions::max_wait`] behind others that write the same
    /// session, which stays as it was. An end is never refused for that. Or it waited for ten seconds behind others that
    /// change the sign-ins of the same owner.
    ///
    /// [`SessionOptions::max_wait`]: crate::SessionOptions::max_wait
    Busy,
    /// Nothing was saved, because the cookie must not travel over plain http.
    Insecure,
    /// Nothing was saved, because the response is under way and can announce no new session.
    Closed,
    /// Nothing was saved when the request ended, because an earlier save of it may have been applied,
    /// and what was asked for since cannot be saved without repeating that.
    Uncertain,
    /// The system's random source failed.
    Random,
    /// The options contradict each other; the message says how to mend them.
    Options,
    /// A handler asks for its session, and there is no layer around its route that opens one.
    NoLayer,
    /// Sessions of this format do not have what was asked for.
    Unsupported,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let inner = Arc::new(Inner { kind, message: message.into(), source: None });
        let headers = ResponseHeaders::of_error(None);
        Self(Box::new(Repr { inner, headers, was_told: false, is_of_sessions: false }))
    }

    /// Makes the error of a record that is no session.
    pub(crate) fn no_session(why: &str) -> Self {
        sosa::Error::new(sosa::ErrorKind::Decode, format!("the record is no session: {why}")).into()
    }

    /// Makes that of the system's random source.
    pub(crate) fn of_random(error: getrandom::Error) -> Self {
        Self::new(ErrorKind::Random, "the system's random source failed").with_source(error)
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Arc::get_mut(&mut self.0.inner).expect("nobody shares it yet").source = Some(source.into());
        self
    }

    pub(crate) fn with_headers(mut self, headers: ResponseHeaders) -> Self {
        self.0.headers = headers;
        self
    }

    /// Notes that it came about as a session was loaded or saved.
    pub(crate) fn of_sessions(mut self) -> Self {
        self.0.is_of_sessions = true;
        self
    }

    /// Notes that the handler was told of it before, and may have answered with it.
    pub(crate) fn was_told(mut self) -> Self {
        self.0.was_told = true;
        self
    }

    /// Returns whether the handler was told of it, when it asked for the session.
    pub fn is_told(&self) -> bool {
        self.0.was_told
    }

    /// Returns the headers that a response with this error has to carry: it must not be cached, and where an earlier
    /// save of the request gave the session a new id, it announces that.
    pub fn headers(&self) -> &ResponseHeaders {
        &self.0.headers
    }

    /// Returns what went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.inner.kind
    }

    /// Returns the store's error, if it was the store that failed.
    pub fn store(&self) -> Option<&sosa::Error> {
        self.0.inner.source.as_deref()?.downcast_ref().filter(|_| self.kind() == ErrorKind::Store)
    }

    /// Returns whether it is about one record alone, which cannot be read.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.store().is_some_and(|error| error.kind() == sosa::ErrorKind::Decode)
    }

    /// Returns the HTTP status that tells this error: 503 if the store is or was unavailable, late or full, or too many
    /// requests write the session, 409 if the session was ended meanwhile, its owner has too many sign-ins, or what was saved has
    /// changed since it was read, 413 if it would be too large, 401 if nobody is signed in by it, and 500 otherwise.
    pub fn status(&self) -> u16 {
        use sosa::ErrorKind::{CapacityExceeded, Conflict, Timeout, Unavailable};
        match (self.kind(), self.store().map(sosa::Error::kind)) {
            (_, Some(Unavailable | Timeout | CapacityExceeded)) | (ErrorKind::Uncertain | ErrorKind::Busy, _) => 503,
            (_, Some(Conflict)) | (ErrorKind::Ended | ErrorKind::TooManyDevices, _) => 409,
            (ErrorKind::TooLarge, _) => 413,
            (ErrorKind::NotSignedIn, _) => 401,
            _ => 500,
        }
    }

    /// Returns after how long a client may try again: a response of status 503 says so in its `Retry-After` header.
    pub fn retry_after(&self) -> Option<Duration> {
        (self.status() == 503).then_some(RETRY_AFTER)
    }

    /// Logs an error with which a request is answered: as an error, unless it is what another request or the client
    /// did. What is the same for each request is told once: that the store of the sessions is out when it happens, that
    /// a layer is missing here.
    pub(crate) fn log(&self, session: Option<impl fmt::Display>, peer: Option<IpAddr>) {
        let (session, peer) = (session.map(display), peer.map(display));
        let cause = self.store().map(display);
        let is_told = self.0.is_of_sessions && cause.is_some();
        const WHAT: &str = "a request failed for its session";
        match (self.kind(), self.status()) {
            // A client that crowds a session could fill the log with it.
            (ErrorKind::Busy, _) => info!(session, peer, error = %self, "{WHAT}"),
            (ErrorKind::NoLayer, _) if !OF_NO_LAYER.is_now() => debug!(error = %self, "{WHAT}"),
            (_, 503) if is_told => debug!(session, peer, error = %self, cause, "{WHAT}"),
            (_, 500 | 503) => error!(session, peer, error = %self, cause, "{WHAT}"),
            _ => debug!(session, peer, error = %self, cause, "{WHAT}"),
        }
    }
}

static OF_NO_LAYER: Once = Once::new();

/// How a key is shown in a message. Keys may come from clients: one line, and not a long one.
pub(crate) fn shown(key: &str) -> String {
    const LONGEST: usize = 64;
    let shown: String = key.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    let more = if key.chars().nth(LONGEST).is_some() { "…" } else { "" };
    format!("`{shown}{more}`")
}

impl From<sosa::Error> for Error {
    fn from(error: sosa::Error) -> Self {
        let what = if error.is_conflict() { "the store has another state than was read" } else { "the store failed" };
        Self::new(ErrorKind::Store, what).with_source(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, message, source } = &*self.0.inner;
        f.debug_struct("Error").field("kind", kind).field("message", message).field("source", source).finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.inner.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_forges_no_line_of_a_log() {
        assert_eq!(shown("user"), "`user`");
        assert_eq!(shown("a\nERROR \u{1b}[2J\u{202e}`"), r"`a\nERROR \u{1b}[2J\u{202e}``");
        assert_eq!(shown(&"é".repeat(64)).chars().count(), 66);
        assert_eq!(shown(&"\n".repeat(1_000_000)), format!("`{}…`", r"\n".repeat(64)));
    }

    #[test]
    fn the_status_tells_whose_fault_it_is() {
        let store = |kind| Error::from(sosa::Error::new(kind, "failed")).status();
        for kind in [sosa::ErrorKind::Unavailable, sosa::ErrorKind::Timeout, sosa::ErrorKind::CapacityExceeded] {
            assert_eq!(store(kind), 503);
        }
        assert_eq!(store(sosa::ErrorKind::Conflict), 409);
        assert_eq!(store(sosa::ErrorKind::Decode), 500);
        assert_eq!(Error::new(ErrorKind::Ended, "ended").status(), 409);
        assert_eq!(Error::new(ErrorKind::TooManyDevices, "full").status(), 409);
        assert_eq!(Error::new(ErrorKind::NotSignedIn, "nobody").status(), 401);
        assert_eq!(Error::new(ErrorKind::Decode, "no").status(), 500);
    }
}
