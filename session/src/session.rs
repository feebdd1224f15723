//! The session of one request, as its handler sees it.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sosa::{Outcome, Revision};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};
use tracing::warn;

use crate::cookie::{Scheme, SetCookie};
use crate::data::{NewOwn, OWN_KEY, SessionData, decode, encode};
use crate::edits::Edits;
use crate::error::{Error, ErrorKind, Result, shown};
use crate::express::{self, RecordCookie};
use crate::id::{Handle, Place, SessionId};
use crate::key::{Key, Name};
use crate::options::{Format, check_max_age};
use crate::plan::{Cookie, Data, IdChange, Origin};
use crate::sessions::Sessions;

/// The session of a request. A clone is the same session.
///
/// It is lazy: the first call of any method looks the session up, and a request that calls none
/// costs nothing. It is saved when the request ends, and what a handler sees is provisional until
/// then: other requests of the same client may change the session at the same time. Edits of
/// different keys never lose each other, of two inserts of one key the later save wins, and
/// [`update`](Self::update) reads and writes in one.
///
/// If other requests use the same session:
///
/// - **absent** or **expired**: the session is new and empty, under a new id; it is stored, and its
///   cookie sent, only once something is inserted.
/// - **malformed**: a value that is not of the asked type is an error for that key alone. A record
///   that cannot be read is an error for the request, is not overwritten, and is kept for 30 seconds after the last
///   look; an end and a new beginning need nothing of it.
/// - **raced**: the edits are done to what the others saved. If another request **ended** the
///   session meanwhile, they are dropped, and nothing brings it back.
///
/// # Errors
///
/// Every method can fail as the store can; what else is said of each.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    sessions: Sessions,
    slot: Mutex<Slot>,
}

/// What there is of a session: little until somebody asks for it, since many requests do not.
enum Slot {
    Unused(Unused),
    Used(Box<State>),
}

/// What a request came with.
#[derive(Default)]
struct Unused {
    /// The first id that may be a session's.
    id: Option<SessionId>,
    others: Vec<SessionId>,
    scheme: Scheme,
    closed: bool,
}

/// What is known of the session, and what the request did to it so far.
pub(crate) struct State {
    format: Format,
    /// How the request came.
    pub(crate) scheme: Scheme,
    pub(crate) origin: Origin,
    /// The id that the client has.
    pub(crate) id: Option<SessionId>,
    /// Others that came with it: one of them opens the session if that does not, and a logout ends them all.
    pub(crate) others: Vec<SessionId>,
    /// The id that a new session will have, once somebody asked for it.
    next: Option<SessionId>,
    /// The id of a renewal of which nobody knows whether it was made.
    pub(crate) renewing: Option<SessionId>,
    /// The record as it is stored, and its state there.
    pub(crate) record: Option<(SessionData, Revision)>,
    /// What a new session begins with, if that is anything.
    pub(crate) blank: Option<SessionData>,
    edits: Edits,
    /// Another `originalMaxAge` of Express.
    pub(crate) max_age: Option<Option<u64>>,
    id_change: IdChange,
    pub(crate) touch_due: bool,
    /// What the response's cookie will do.
    pub(crate) cookie: Cookie,
    pub(crate) closed: bool,
    /// A save failed and may have been applied all the same: it is not sent again.
    uncertain: bool,
    /// Something was asked for since the last save was tried.
    asked: bool,
}

impl Session {
    /// Opens the session of the first of these ids that is a session's.
    pub(crate) fn new(sessions: Sessions, id: Option<SessionId>, others: Vec<SessionId>, scheme: Scheme) -> Self {
        let slot = Slot::Unused(Unused { id, others, scheme, closed: false });
        Self(Arc::new(Inner { sessions, slot: Mutex::new(slot) }))
    }

    /// Returns the value of a key, `None` if there is none.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, SessionOptions, Sessions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let sessions = Sessions::new(SessionOptions::memory());
    /// # let session = sessions.open(RequestHead::new([]));
    /// session.insert("user", "ada").await?;
    /// assert_eq!(session.get::<String>("user").await?.as_deref(), Some("ada"));
    /// assert_eq!(session.get::<u8>("age").await?, None);
    /// assert!(session.get::<u8>("user").await.is_err());
    /// # sessions.close(&session).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] if the value is not a `V`; session and value stay as they are.
    pub async fn get<V: DeserializeOwned>(&self, key: impl Key<V>) -> Result<Option<V>> {
        let mut state = self.loaded().await?;
        let own = state.format == Format::Sosa && key.name() == OWN_KEY;
        let value = if own { None } else { state.look_up(key.name()) };
        value.map(|value| decode(key.name(), value)).transpose()
    }

    /// Inserts a value, whatever the key had before. A value equal to that is no change.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Encode`] if the value has no JSON form, [`ErrorKind::ReservedKey`] for the key
    /// `sosa`, and for those that [Express](crate::SessionOptions::express) loses where the session is shared
    /// with it; nothing is inserted then.
    pub async fn insert<V: Serialize>(&self, key: impl Key<V>, value: V) -> Result<()> {
        let value = encode(self.allowed(&key)?, &value)?;
        self.loaded().await?.edit().insert(key.name(), value);
        Ok(())
    }

    /// Removes a key and returns whether it was there.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, SessionOptions, Sessions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let sessions = Sessions::new(SessionOptions::memory());
    /// # let session = sessions.open(RequestHead::new([]));
    /// session.insert("user", "ada").await?;
    /// assert!(session.remove("user").await?);
    /// assert!(!session.remove("user").await?);
    /// # sessions.close(&session).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ReservedKey`] as for [`insert`](Self::insert).
    pub async fn remove(&self, key: impl Name) -> Result<bool> {
        let key = self.allowed(&key)?;
        let mut state = self.loaded().await?;
        let was_there = state.look_up(key).is_some();
        if was_there {
            state.edit().remove(key);
        }
        Ok(was_there)
    }

    /// Computes a value from the old one, without losing anybody's change, and returns it.
    ///
    /// `f` gets the value, `None` if there is none. If another request saves the session first, `f`
    /// is called again on what that request saved, so it should do nothing but compute; the value
    /// returned here is then not what is saved in the end.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, SessionOptions, Sessions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let session = Sessions::new(SessionOptions::memory()).open(RequestHead::new([]));
    /// let views = session.update("views", |views: Option<u64>| views.unwrap_or(0) + 1).await?;
    /// assert_eq!(views, 1);
    /// # session.clear().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] if the value is not a `V`, now or when the session is saved; and those
    /// of [`insert`](Self::insert).
    pub async fn update<V, F>(&self, key: impl Key<V>, f: F) -> Result<V>
    where
        V: Serialize + DeserializeOwned,
        F: Fn(Option<V>) -> V + Send + Sync + 'static,
    {
        let name: Box<str> = self.allowed(&key)?.into();
        let mut state = self.loaded().await?;
        let old = state.look_up(&name).map(|old| decode(&name, old)).transpose()?;
        let value = f(old);
        let text = encode(&name, &value)?;
        let step = {
            let name = name.clone();
            move |old: Option<&[u8]>| encode(&name, &f(old.map(|old| decode(&name, old)).transpose()?))
        };
        state.edit().update(&name, text, Arc::new(step));
        Ok(value)
    }

    /// Removes all keys. The session itself stays; to end it, use [`destroy`](Self::destroy).
    pub async fn clear(&self) -> Result<()> {
        self.loaded().await?.edit().clear();
        Ok(())
    }

    /// Returns the keys, in the order in which they were first inserted.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, SessionOptions, Sessions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let sessions = Sessions::new(SessionOptions::memory());
    /// # let session = sessions.open(RequestHead::new([]));
    /// session.insert("user", "ada").await?;
    /// session.insert("cart", [1, 2]).await?;
    /// assert_eq!(session.keys().await?, ["user", "cart"]);
    /// # sessions.close(&session).await?;
    /// # Ok(()) }
    /// ```
    pub async fn keys(&self) -> Result<Vec<String>> {
        Ok(self.data().await?.keys().map(Into::into).collect())
    }

    /// Returns everything in the session, this request's edits included.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, SessionOptions, Sessions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let sessions = Sessions::new(SessionOptions::memory());
    /// # let session = sessions.open(RequestHead::new([]));
    /// session.insert("cart", [1, 2]).await?;
    /// assert_eq!(session.data().await?.json("cart"), Some("[1,2]"));
    /// # sessions.close(&session).await?;
    /// # Ok(()) }
    /// ```
    pub async fn data(&self) -> Result<SessionData> {
        let state = self.loaded().await?;
        let base = state.base();
        if state.edits.is_empty() && state.max_age.is_none() {
            return Ok(base.clone());
        }
        let own = match (state.format, base.meta().created) {
            (Format::Express, _) if state.max_age.is_some() => {
                return state.edited_for_express(self.0.sessions.now());
            }
            (Format::Express, _) => NewOwn::Express(base.cookie().unwrap_or_default()),
            (Format::Sosa, 0) => NewOwn::None,
            (Format::Sosa, created) => NewOwn::Sosa { rev: base.rev(), created },
        };
        state.edits.apply(base, own)
    }

    /// Lets this session and its cookie live so long after each use, whatever the options say: Express's
    /// `req.session.cookie.maxAge`, in whole milliseconds, `None` for a cookie that ends with the browser's
    /// session. Of a session that is stored it is an edit by itself, where Express forgets it with the request
    /// unless some value changes too; a session that is not stored yet it does not make.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, SessionOptions, Sessions};
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let collection = sosa_memory::new("myapp").collection("sessions");
    /// # let sessions = Sessions::new(SessionOptions::express(collection, ["keyboard cat"]));
    /// # let session = sessions.open(RequestHead::new([]));
    /// session.insert("user", "ada").await?;
    /// session.set_max_age(Duration::from_secs(30 * 86_400)).await?;
    /// # sessions.close(&session).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Options`] for what Express could not read, [`ErrorKind::Unsupported`] if the session is not
    /// shared with Express: then one [`Lifetime`](crate::Lifetime) holds for all.
    pub async fn set_max_age(&self, max_age: impl Into<Option<Duration>>) -> Result<()> {
        let max_age = max_age.into();
        check_max_age(max_age)?;
        let mut state = self.loaded().await?;
        state.only_of(Format::Express, "only a session that is shared with Express has a maxAge of its own")?;
        state.asked = true;
        state.max_age = Some(max_age.map(|max_age| max_age.as_millis() as u64));
        Ok(())
    }

    /// Gives the session a new id and keeps its data, when it is saved. Do so whenever the rights of a client who
    /// is logged in change, so that an id that somebody got hold of before is worth nothing.
    ///
    /// At a login use [`regenerate`](Self::regenerate), and insert again what is to be kept: who planted the
    /// session's id may have planted what is in it as well, a token against forged requests or the page to go to. Do
    /// not renew ids by time: a client that does not get the answer has lost its session.
    ///
    /// The absolute lifetime goes on. Requests that are under way with the old id find the session
    /// ended, also some that come within 30 seconds: their edits are dropped, and they do not
    /// replace the new cookie. Of two renewals at once the second begins a session of its own if its edits replace
    /// all that it had read, as a login that is sent twice does. One that would keep any of that is
    /// [`ErrorKind::Ended`]: half a session is none. With Express, which leaves no marker, the second always is.
    ///
    /// **If the answer is lost**, the client comes with the old cookie alone, and for 30 seconds its edits are dropped:
    /// a form whose token they hold is refused. A page that begins a login should therefore call `regenerate` before
    /// it inserts a token: that always gives the client a session. A record that cannot be read is
    /// regenerated, since there is nothing that could be kept.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, SessionOptions, Sessions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let sessions = Sessions::new(SessionOptions::memory());
    /// # let session = sessions.open(RequestHead::new([]));
    /// session.insert("cart", [1, 2]).await?;
    /// session.save().await?;
    /// let before = session.handle().await?;
    /// session.renew().await?;
    /// session.insert("user", "ada").await?;
    /// session.save().await?;
    /// assert_ne!(session.handle().await?, before);
    /// assert_eq!(session.keys().await?, ["cart", "user"]);
    /// # sessions.close(&session).await?;
    /// # Ok(()) }
    /// ```
    pub async fn renew(&self) -> Result<()> {
        let mut state = self.found().await?;
        match (state.id_change, state.origin) {
            // There is nothing that could be kept.
            (IdChange::Keep, Origin::Unreadable) => self.start_over(&mut state, IdChange::Regenerate),
            (IdChange::Keep, _) => (state.id_change, state.asked) = (IdChange::Renew, true),
            _ => state.asked = true,
        }
        Ok(())
    }

    /// Starts a new session under a new id, when it is saved, and ends this one: its data is
    /// dropped at once. What to do at a login. It needs nothing of what is stored, and so works if that cannot be
    /// read, too. If nothing is inserted, there is no session then; but where it is shared with
    /// Express there is an empty one, as there.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, SessionOptions, Sessions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let sessions = Sessions::new(SessionOptions::memory());
    /// # let session = sessions.open(RequestHead::new([]));
    /// session.insert("cart", [1, 2]).await?;
    /// session.save().await?;
    /// session.regenerate().await?;
    /// session.insert("user", "ada").await?;
    /// session.save().await?;
    /// assert_eq!(session.keys().await?, ["user"]);
    /// # sessions.close(&session).await?;
    /// # Ok(()) }
    /// ```
    pub async fn regenerate(&self) -> Result<()> {
        let mut state = self.found().await?;
        if state.id_change != IdChange::Destroy {
            self.start_over(&mut state, IdChange::Regenerate);
        }
        Ok(())
    }

    /// Ends the session, when it is saved, and takes the cookie back. What is inserted afterwards
    /// is a new session under a new id.
    ///
    /// A session that another request renewed a moment ago ends under its new id. Where the request came with several
    /// cookies of sessions, all of these end. It needs nothing of what is stored, and so works if that cannot be read.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, SessionOptions, Sessions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let sessions = Sessions::new(SessionOptions::memory());
    /// # let session = sessions.open(RequestHead::new([]));
    /// session.insert("user", "ada").await?;
    /// session.save().await?;
    /// session.destroy().await?;
    /// session.save().await?;
    /// assert!(session.is_new().await? && session.keys().await?.is_empty());
    /// # sessions.close(&session).await?;
    /// # Ok(()) }
    /// ```
    pub async fn destroy(&self) -> Result<()> {
        let mut state = self.found().await?;
        self.start_over(&mut state, IdChange::Destroy);
        Ok(())
    }

    /// Counts this request as a use of the session, though it reads nothing; in a response that
    /// takes long, such as a stream, it counts as one each time that [`save`](Self::save) follows, which is
    /// [`ErrorKind::Ended`] if the session has ended elsewhere.
    pub async fn touch(&self) -> Result<()> {
        let mut state = self.state().await;
        if state.origin == Origin::Unloaded {
            return self.0.sessions.load(&mut state).await;
        }
        state.touch_due = true;
        Ok(())
    }

    /// Throws away all that this request did and did not save, and loads the session again.
    pub async fn reload(&self) -> Result<()> {
        let mut state = self.state().await;
        self.0.sessions.reload(&mut state).await
    }

    /// Saves the session now, and not only when the request ends. What was asked of it has happened
    /// when this returns, and other requests see it.
    ///
    /// Where the error is [`ErrorKind::Store`] and its [`outcome`](sosa::Error::outcome) is
    /// [`Unknown`](sosa::Outcome::Unknown), or this call is dropped before it returns, the edits may
    /// have been saved. The end of the request does not try again, and fails if more was asked for
    /// since; calling this again may do an [`update`](Self::update) twice.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, SessionOptions, Sessions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let sessions = Sessions::new(SessionOptions::memory());
    /// # let session = sessions.open(RequestHead::new([]));
    /// session.insert("user", "ada").await?;
    /// assert_eq!(session.rev().await?, 0);
    /// session.save().await?;
    /// assert_eq!(session.rev().await?, 1);
    /// # sessions.close(&session).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Ended`] if another request ended the session, [`ErrorKind::Insecure`] if its
    /// cookie must not travel over plain http, [`ErrorKind::Closed`] if the response is under way and
    /// cannot announce a new session or a new id, [`ErrorKind::Decode`] if an update met a value of another type.
    pub async fn save(&self) -> Result<()> {
        let mut state = self.state().await;
        // Should this call be dropped on the way, nobody knows what came of it.
        state.uncertain = state.has_edits();
        state.asked = false;
        let saved = self.0.sessions.commit(&mut state).await;
        state.uncertain =
            saved.as_ref().err().and_then(Error::store).is_some_and(|error| error.outcome() == Outcome::Unknown);
        saved
    }

    /// Returns the session's public name, which is safe to show and to log. It changes with the id;
    /// that of a new session is the one under which it will be stored.
    pub async fn handle(&self) -> Result<Handle> {
        Ok(self.loaded().await?.current_id()?.handle())
    }

    /// Returns the id itself, Express's `req.sessionID`, for programs that hand it to others which know the
    /// session by it. **Who has it, and the server's secret, or access to the store, has the session**: do not
    /// show or log it; for that there is [`handle`](Self::handle).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the session is not shared with Express: then the id is the cookie's alone.
    pub async fn expose_id(&self) -> Result<String> {
        let mut state = self.loaded().await?;
        state
            .only_of(Format::Express, "the id of a session that is not shared with Express is for its cookie alone")?;
        Ok(state.current_id()?.expose().to_owned())
    }

    /// Returns how often the session was saved: 0 for a new one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the session is shared with Express, whose records do not say.
    pub async fn rev(&self) -> Result<u64> {
        let state = self.loaded().await?;
        state.only_of(Format::Sosa, "a record of Express does not say how often it was saved")?;
        Ok(state.base().rev())
    }

    /// Returns when the session began; `None` for a new one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the session is shared with Express, whose records do not say.
    pub async fn created(&self) -> Result<Option<SystemTime>> {
        let state = self.loaded().await?;
        state.only_of(Format::Sosa, "a record of Express does not say when its session began")?;
        Ok(state.base().created())
    }

    /// Returns whether nothing is stored of the session yet.
    pub async fn is_new(&self) -> Result<bool> {
        Ok(!self.loaded().await?.is_stored())
    }

    /// Does as [`close`](Self::close) where nothing has to be waited for; otherwise nothing.
    pub(crate) fn close_at_once(&self) -> Option<Option<SetCookie>> {
        let Inner { sessions, slot } = &*self.0;
        let mut slot = slot.try_lock().ok()?;
        let state = match &mut *slot {
            Slot::Unused(unused) if unused.id.is_none() || !sessions.touches_each_request() => {
                unused.closed = true;
                return Some(None);
            }
            _ => slot.state(sessions),
        };
        if state.closed {
            return Some(None);
        }
        // What was edited is not looked through twice.
        if state.uncertain || state.has_edits() || !sessions.commit_at_once(state) {
            return None;
        }
        state.closed = true;
        Some(sessions.write_cookie(state))
    }

    /// Saves what is left to save, and says what the response's cookie does.
    pub(crate) async fn close(&self) -> Result<Option<SetCookie>> {
        if let Some(cookie) = self.close_at_once() {
            return Ok(cookie);
        }
        let sessions = &self.0.sessions;
        let mut state = self.state().await;
        if state.closed {
            return Ok(None);
        }
        let has_edits = state.has_edits();
        let saved = match (state.uncertain, state.asked) {
            (false, _) => sessions.commit(&mut state).await,
            // The handler was told of the save that failed.
            (true, false) => Ok(()),
            (true, true) => Err(Error::new(
                ErrorKind::Uncertain,
                "nothing was saved: an earlier save may have been applied, and to save again might repeat it",
            )),
        };
        state.closed = true;
        match saved {
            // It was used, and nothing else: that it has ended meanwhile is nobody's loss.
            Err(error) if error.kind() == ErrorKind::Ended && !has_edits => state.forget_edits(),
            // What the handler did not ask to be told of is told to whoever reads the events.
            Err(error) if matches!(error.kind(), ErrorKind::Ended | ErrorKind::Insecure) => {
                warn!(session = ?state.handle(), %error, "the edits of a request were dropped");
                state.forget_edits();
            }
            Err(error) => {
                let handle = state.handle();
                state.forget_edits();
                warn!(session = ?handle, %error, cause = error.store().map(tracing::field::display), "a session was not saved");
                return Err(error.with_cookie(sessions.write_cookie(&state)));
            }
            // Of a save that is uncertain the handler was told: nothing is left to be lost.
            Ok(()) if state.uncertain => state.forget_edits(),
            Ok(()) => {}
        }
        Ok(sessions.write_cookie(&state))
    }

    /// Returns the key's name, unless it is the record's own, or Express would lose it.
    fn allowed<'a>(&self, key: &'a impl Name) -> Result<&'a str> {
        let refuse = |why: String| Err(Error::new(ErrorKind::ReservedKey, why));
        match (self.0.sessions.options().format, key.name()) {
            (Format::Sosa, OWN_KEY) => refuse(format!("the key `{OWN_KEY}` belongs to the record itself")),
            (Format::Express, name) if express::is_reserved(name) => {
                refuse(format!("the key {} is reserved: Express would lose what is stored under it", shown(name)))
            }
            (_, name) => Ok(name),
        }
    }

    async fn state(&self) -> MappedMutexGuard<'_, State> {
        let Inner { sessions, slot } = &*self.0;
        MutexGuard::map(slot.lock().await, |slot| slot.state(sessions))
    }

    async fn loaded(&self) -> Result<MappedMutexGuard<'_, State>> {
        let mut state = self.state().await;
        self.0.sessions.load(&mut state).await?;
        Ok(state)
    }

    /// Does as [`loaded`](Self::loaded), for an end or a new beginning, which need nothing of what is stored.
    async fn found(&self) -> Result<MappedMutexGuard<'_, State>> {
        let mut state = self.state().await;
        match self.0.sessions.load(&mut state).await {
            Err(error) if state.origin != Origin::Unreadable => Err(error),
            _ => Ok(state),
        }
    }

    fn start_over(&self, state: &mut State, id_change: IdChange) {
        state.start_over(id_change);
        self.0.sessions.prepare(state);
    }
}

/// Returns the record that edits are made to.
fn base<'a>(
    record: Option<&'a (SessionData, Revision)>,
    blank: Option<&'a SessionData>,
    id_change: IdChange,
) -> &'a SessionData {
    match (id_change, record, blank) {
        (IdChange::Keep | IdChange::Renew, Some((data, _)), _) => data,
        (_, _, Some(blank)) => blank,
        _ => SessionData::empty(),
    }
}

impl Slot {
    /// Returns the state, which begins with the first use.
    fn state(&mut self, sessions: &Sessions) -> &mut State {
        if let Self::Unused(unused) = self {
            *self = Self::Used(Box::new(State::new(sessions, mem::take(unused))));
        }
        match self {
            Self::Used(state) => state,
            Self::Unused(_) => unreachable!("it is used now"),
        }
    }
}

impl State {
    fn new(sessions: &Sessions, Unused { id, others, scheme, closed }: Unused) -> Self {
        Self {
            format: sessions.options().format,
            scheme,
            origin: if id.is_some() { Origin::Unloaded } else { Origin::None },
            touch_due: id.is_some() && sessions.touches_each_request(),
            id,
            others,
            next: None,
            renewing: None,
            record: None,
            blank: None,
            edits: Edits::default(),
            max_age: None,
            id_change: IdChange::Keep,
            cookie: Cookie::Keep,
            closed,
            uncertain: false,
            asked: false,
        }
    }

    pub(crate) fn base(&self) -> &SessionData {
        base(self.record.as_ref(), self.blank.as_ref(), self.id_change)
    }

    /// Returns the value of a key as this request sees it.
    fn look_up(&mut self, key: &str) -> Option<&[u8]> {
        self.edits.look_up(base(self.record.as_ref(), self.blank.as_ref(), self.id_change), key)
    }

    fn only_of(&self, format: Format, otherwise: &str) -> Result<()> {
        if self.format == format { Ok(()) } else { Err(Error::new(ErrorKind::Unsupported, otherwise)) }
    }

    /// Returns what the edits amount to.
    pub(crate) fn data(&self) -> Data {
        if self.format == Format::Express && self.id_change == IdChange::Regenerate {
            // There it is stored, and its cookie sent, even if it holds nothing.
            return Data::Changed;
        }
        let same = self.edits.is_empty() || self.edits.change_nothing(self.base());
        let lives_on = self.max_age.is_none_or(|new| {
            !self.is_stored() || RecordCookie::of(self.base()).is_ok_and(|cookie| cookie.max_age == new)
        });
        if same && lives_on { Data::Same } else { Data::Changed }
    }

    /// Returns whether what this request asked for needs nothing of the session that it is asked of.
    pub(crate) fn stands_alone(&self) -> bool {
        self.edits.cover(self.base())
    }

    pub(crate) fn id_change(&self) -> IdChange {
        self.id_change
    }

    /// Returns the handle of the id that the client has.
    pub(crate) fn handle(&self) -> Option<Handle> {
        self.id.as_ref().map(SessionId::handle)
    }

    /// Returns where the record of the client's id is stored.
    pub(crate) fn place(&self) -> Option<Place> {
        self.id.as_ref().map(|id| self.place_of(id))
    }

    /// Returns where the record of an id is stored.
    pub(crate) fn place_of(&self, id: &SessionId) -> Place {
        match self.format {
            Format::Sosa => Place::Hashed(id.handle()),
            Format::Express => Place::Plain(id.clone()),
        }
    }

    /// Returns where the record is stored, and in which state it was read.
    pub(crate) fn stored(&self) -> Option<(Place, Revision)> {
        self.place().zip(self.record.as_ref().map(|(_, revision)| *revision))
    }

    /// Returns the cookie of a record of Express that goes on.
    pub(crate) fn cookie_on(&self) -> Option<RecordCookie<'_>> {
        let (data, _) = self.record.as_ref().filter(|_| self.is_stored() && self.format == Format::Express)?;
        RecordCookie::of(data).ok()
    }

    /// Returns the record with the edits, saved once more than before.
    pub(crate) fn edited_again(&self) -> Result<SessionData> {
        self.edited(self.base().rev().saturating_add(1), self.base().meta().created)
    }

    pub(crate) fn edited(&self, rev: u64, created: u64) -> Result<SessionData> {
        self.edits.apply(self.base(), NewOwn::Sosa { rev, created })
    }

    /// Returns the record of Express with the edits, saved now.
    pub(crate) fn edited_for_express(&self, now_millis: u64) -> Result<SessionData> {
        let base = self.base();
        let cookie = RecordCookie::of(base)?;
        let max_age = self.max_age.unwrap_or(cookie.max_age);
        let text = base.cookie().unwrap_or_default();
        let text = express::renewed(text, max_age, self.max_age.is_some(), now_millis);
        self.edits.apply(base, NewOwn::Express(&text))
    }

    /// Does the edits to the record as it is now.
    pub(crate) fn rebase(&mut self) -> Result<()> {
        self.edits.rebase(base(self.record.as_ref(), self.blank.as_ref(), self.id_change))
    }

    /// Returns the ids that the request came with, by their order.
    pub(crate) fn came_with(&self, index: usize) -> Option<&SessionId> {
        match index.checked_sub(1) {
            None => self.id.as_ref(),
            Some(other) => self.others.get(other),
        }
    }

    /// Takes one of the ids that the request came with for the client's.
    pub(crate) fn settle_on(&mut self, index: usize, origin: Origin) {
        if let (Some(other), Some(id)) = (index.checked_sub(1), &mut self.id) {
            std::mem::swap(id, &mut self.others[other]);
        }
        self.origin = origin;
    }

    /// Keeps an id that was shown, and under which nothing is stored, for another try.
    pub(crate) fn keep_for_next(&mut self, id: SessionId) {
        self.next = Some(id);
    }

    /// Returns the id of the session as it is: the client's, or that of the session that will be created.
    fn current_id(&mut self) -> Result<SessionId> {
        if let Some(id) = self.id.as_ref().filter(|_| self.is_stored()) {
            return Ok(id.clone());
        }
        let next = self.next_id()?;
        self.keep_for_next(next.clone());
        Ok(next)
    }

    /// Notes that something is asked for, and returns the edits to note it in.
    fn edit(&mut self) -> &mut Edits {
        self.asked = true;
        &mut self.edits
    }

    fn has_edits(&self) -> bool {
        !self.edits.is_empty() || (self.max_age.is_some() && self.is_stored()) || self.id_change != IdChange::Keep
    }

    /// Drops the data, for an end that may always be asked for again.
    fn start_over(&mut self, id_change: IdChange) {
        self.forget_edits();
        self.id_change = id_change;
    }

    /// Returns the id of the session that will be created.
    pub(crate) fn next_id(&mut self) -> Result<SessionId> {
        self.next.take().map_or_else(SessionId::random, Ok)
    }

    pub(crate) fn now_stored(&mut self, id: SessionId, data: SessionData, revision: Revision) {
        self.origin = Origin::Resumed;
        self.id = Some(id);
        self.record = Some((data, revision));
        self.forget_edits();
    }

    /// Notes that what was planned has been done.
    pub(crate) fn conclude(&mut self, destroyed: bool, cookie: Cookie) {
        if destroyed || cookie == Cookie::Remove {
            self.start_anew();
        }
        // Of a session that is still to be made.
        let max_age = self.max_age.filter(|_| self.record.is_none());
        self.forget_edits();
        self.max_age = max_age;
        if cookie != Cookie::Keep {
            self.cookie = cookie;
        }
    }

    /// Leaves a session that has ended for a new one.
    pub(crate) fn start_anew(&mut self) {
        self.origin = Origin::None;
        self.id = None;
        self.record = None;
        self.forget_edits();
    }

    /// Leaves nothing to be saved.
    pub(crate) fn forget_edits(&mut self) {
        self.edits = Edits::default();
        self.max_age = None;
        self.id_change = IdChange::Keep;
        self.touch_due = false;
        self.uncertain = false;
        self.asked = false;
    }

    fn is_stored(&self) -> bool {
        self.record.is_some() && matches!(self.id_change, IdChange::Keep | IdChange::Renew)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if self.has_edits() {
            warn!(
                session = ?self.handle(),
                "a session was dropped with edits that were not saved: its request was cancelled or panicked, or they \
                 came after the response and needed `save`"
            );
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}
