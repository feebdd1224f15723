//! Sessions without any web framework.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::cookie::Scheme;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Refused;
use crate::options::{Forwarded, SessionOptions};
use crate::owner::Owner;
use crate::response::ResponseHeaders;
use crate::session::Session;
use crate::set_cookie::values;
use crate::state::Arrival;

/// How many cookies of our name and form are looked at. Another application's may come first, where it has the
/// same name and a longer path, and so may one of ours from before its path or domain was changed.
const MAX_IDS: usize = 8;

/// By this header browsers tell whether the user goes to a page (Fetch Metadata).
pub(crate) const FETCH_MODE: &str = "sec-fetch-mode";

/// Opens a session for each request and closes it with each response. A clone shares everything.
///
/// This is all that a web framework needs: [`open`](Self::open) before the handler runs,
/// [`close`](Self::close) when it has returned. [`SessionLayer`](crate::SessionLayer) does just that.
///
/// ```
/// use sosa_session::{RequestHead, ResponseHeaders, SessionOptions, Sessions};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
/// let sessions = Sessions::new(SessionOptions::memory());
///
/// // A request without a cookie; its handler stores something.
/// let session = sessions.open(RequestHead::new([]));
/// session.insert("user", "ada").await?;
/// let headers: ResponseHeaders = sessions.close(&session).await?;
/// let cookie = headers.set_cookie().expect("a new session has a cookie");
/// assert!(headers.besides([]).any(|header| header == ("cache-control", "no-store")));
///
/// // The next request brings the cookie back; nothing has to be sent again.
/// let pair = cookie.value().split(';').next().unwrap_or_default();
/// let session = sessions.open(RequestHead::new([("cookie", pair.as_bytes())]));
/// assert_eq!(session.get::<String>("user").await?.as_deref(), Some("ada"));
/// assert!(sessions.close(&session).await?.set_cookie().is_none());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Sessions(Arc<Engine>);

/// What a session needs to know of a request.
///
/// Headers come as borrowed pairs of name and value; only `Cookie` and `Sec-Fetch-Mode` are looked at, and what a trusted
/// proxy says of how the request came.
#[derive(Clone)]
#[non_exhaustive]
pub struct RequestHead<H> {
    headers: H,
    scheme: Scheme,
    peer: Option<IpAddr>,
}

impl<'a, H: IntoIterator<Item = (&'a str, &'a [u8])>> RequestHead<H> {
    /// Takes the headers of a request.
    pub fn new(headers: H) -> Self {
        Self { headers, scheme: Scheme::Unknown, peer: None }
    }

    /// Says how the request came, where the server knows. By default what the options state.
    #[must_use]
    pub fn scheme(mut self, scheme: Scheme) -> Self {
        self.scheme = scheme;
        self
    }

    /// Says who sent it: the client, or a proxy.
    #[must_use]
    pub fn peer(mut self, peer: impl Into<Option<IpAddr>>) -> Self {
        self.peer = peer.into();
        self
    }
}

// By hand: the headers hold the cookie.
impl<H> fmt::Debug for RequestHead<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { headers: _, scheme, peer } = self;
        f.debug_struct("RequestHead").field("scheme", scheme).field("peer", peer).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Makes sessions with these options; a collection alone stands for the default options.
    ///
    /// # Panics
    ///
    /// If the options contradict each other. [`try_new`](Self::try_new) returns that as an error.
    pub fn new(options: impl Into<SessionOptions>) -> Self {
        Self::try_new(options).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes sessions with these options.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Options`] or [`ErrorKind::Unsupported`] if the options contradict each other.
    pub fn try_new(options: impl Into<SessionOptions>) -> Result<Self> {
        let options = options.into();
        options.validate()?;
        Ok(Self(Arc::new(Engine::new(options))))
    }

    /// Opens the session of a request. This does no I/O: the first access loads it.
    pub fn open<'a, H: IntoIterator<Item = (&'a str, &'a [u8])>>(&self, head: RequestHead<H>) -> Session {
        self.open_within(head, None)
    }

    /// Opens the session of a request for which a layer around has opened another.
    pub(crate) fn open_within<'a, H>(&self, head: RequestHead<H>, outer: Option<Session>) -> Session
    where
        H: IntoIterator<Item = (&'a str, &'a [u8])>,
    {
        let SessionOptions { proxy, scheme, .. } = self.0.options();
        let RequestHead { headers, scheme: seen, peer } = head;
        let format = self.0.format();
        let is_believed = proxy.trusts(peer);
        let mut forwarded = Forwarded::default();
        let mut arrival = Arrival { peer, ..Arrival::default() };
        let (mut has_cookie, mut refused) = (false, None);
        let (mut looked_at, mut left) = (0, if self.0.rules().first_cookie_only { 1 } else { usize::MAX });
        for (name, value) in headers {
            if name.eq_ignore_ascii_case("cookie") {
                for value in values(value, self.cookie_name()).take(left).inspect(|_| left -= 1) {
                    let is_read = format.may_be_id(value) && looked_at < MAX_IDS;
                    looked_at += usize::from(is_read);
                    match is_read.then(|| format.read_id(value)) {
                        Some(Ok(id)) => arrival.ids.add(id),
                        Some(Err(why)) => refused = Some(why),
                        None => {}
                    }
                    has_cookie = true;
                }
            } else if name.eq_ignore_ascii_case(FETCH_MODE) {
                arrival.is_navigation = value.trim_ascii() == b"navigate";
            } else if is_believed {
                forwarded.note(name, value);
            }
        }
        arrival.has_foreign_cookie = has_cookie && arrival.ids.first.is_none();
        if has_cookie && self.0.may_take_dead(&arrival) {
            arrival.at = Some(self.0.now());
        }
        let stated = [forwarded.scheme(), seen, *scheme];
        arrival.scheme = stated.into_iter().find(|scheme| *scheme != Scheme::Unknown).unwrap_or_default();
        let refused = refused.filter(|why| *why == Refused::Class || self.0.rules().signs);
        self.0.told().note_arrival(self.0.options(), &arrival, refused, is_believed);
        Session::new(self.0.clone(), arrival, outer)
    }

    /// Saves what the request changed, and returns the headers that its response has to carry.
    ///
    /// Call it once, when the handler has returned, whatever the status, and before a byte of the
    /// response is sent. Edits that come later need [`Session::save`].
    ///
    /// # Errors
    ///
    /// If the session could not be saved, or the store was out when the handler asked for it; the response must then be
    /// an error of [`Error::status`], with [`Error::headers`] and no others of the session.
    /// [`ErrorKind::Options`] if the session was opened by other `Sessions`.
    pub async fn close(&self, session: &Session) -> Result<ResponseHeaders> {
        if !session.is_of(&self.0) {
            return Err(Error::new(ErrorKind::Options, "the session was opened by other Sessions: close it by those"));
        }
        session.close().await
    }

    /// Returns the sessions of an owner: who is signed in by [`Session::sign_in`] under this name. It does no I/O.
    pub fn owner(&self, name: impl Into<String>) -> Owner {
        Owner::new(self.0.clone(), name.into().into(), None)
    }

    /// Returns the name of the cookie, the default one included.
    pub fn cookie_name(&self) -> &str {
        self.0.options().cookie.effective_name()
    }

    /// Returns whether a header of a proxy may be believed.
    #[cfg(feature = "tower")]
    pub(crate) fn trusts_any_proxy(&self) -> bool {
        self.0.options().proxy.trusts_any()
    }

    #[cfg(feature = "tower")]
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.0
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("options", self.0.options()).finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "signed"))]
mod tests {
    use super::*;
    use crate::id::SessionId;
    use crate::signing::{SIGNATURES, SigningKey};

    /// However long the header is, so many signatures are computed for each key, and none for what cannot be signed.
    #[test]
    fn eight_signatures_are_checked() {
        let keys = ["one key of thirty-two bytes or so", "other key of thirty-two bytes, too"].map(SigningKey::from);
        let sessions = Sessions::new(SessionOptions::memory().signed(keys));
        let checks = |value: &str| {
            let header = vec![format!("__Host-id={value}"); 400_000 / (value.len() + 12)].join("; ");
            let before = SIGNATURES.get();
            drop(sessions.open(RequestHead::new([("cookie", header.as_bytes())])));
            SIGNATURES.get() - before
        };
        let (id, signature) = ("A".repeat(*SessionId::LENGTHS.start()), "B".repeat(43));
        assert_eq!(checks(&format!("s%3A{id}.{signature}")), MAX_IDS * 2);
        assert_eq!(checks(&format!("s:{id}.{signature}")), MAX_IDS * 2);
        for value in ["", "s:", &*id, &format!("s:{id}"), &format!("s:{}", "x".repeat(300_000))] {
            assert_eq!(checks(value), 0, "{} bytes", value.len());
        }
    }
}
