//! Sessions without any web framework: the only place that awaits the store.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sosa::{Condition, DestroyOptions, Entry, Expiry, LoadOptions, Outcome, Revision, SaveOptions};
use tracing::{debug, trace, warn};

use crate::cookie::{Scheme, SetCookie, values};
use crate::data::SessionData;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Handle, SessionId};
use crate::options::SessionOptions;
use crate::plan::{Channel, Context, Cookie, Data, Origin, Store, plan};
use crate::queue::{Queues, Turn};
use crate::session::{Session, State};

/// For how long the id of a renewed session is remembered: longer than a request that was under way
/// should take.
const RENEWED_FOR: Duration = Duration::from_secs(30);

/// How many cookies of our name are looked up. Another application's may come first, where it has the
/// same name and a longer path.
const MAX_IDS: usize = 4;

/// Opens a session for each request and closes it with each response. A clone shares everything.
///
/// This is all that a web framework needs: [`open`](Self::open) before the handler runs,
/// [`close`](Self::close) when it has returned. [`SessionLayer`](crate::SessionLayer) does just that.
///
/// ```
/// use sosa_session::{RequestHead, SessionOptions, Sessions, SetCookie};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
/// let sessions = Sessions::new(SessionOptions::memory());
///
/// // A request without a cookie; its handler stores something.
/// let session = sessions.open(RequestHead::new([]));
/// session.insert("user", "ada").await?;
/// let cookie: SetCookie = sessions.close(&session).await?.expect("a new session has a cookie");
///
/// // The next request brings the cookie back; nothing has to be sent again.
/// let pair = cookie.value().split(';').next().unwrap_or_default();
/// let session = sessions.open(RequestHead::new([("cookie", pair.as_bytes())]));
/// assert_eq!(session.get::<String>("user").await?.as_deref(), Some("ada"));
/// assert!(sessions.close(&session).await?.is_none());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Sessions(Arc<Shared>);

struct Shared {
    options: SessionOptions,
    queues: Queues,
}

/// What a session needs to know of a request.
///
/// Headers come as borrowed pairs of name and value; only `Cookie`, and `X-Forwarded-Proto` of a
/// trusted proxy, are looked at.
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
    /// [`ErrorKind::Options`] if the options contradict each other.
    pub fn try_new(options: impl Into<SessionOptions>) -> Result<Self> {
        let options = options.into();
        options.validate()?;
        Ok(Self(Arc::new(Shared { options, queues: Queues::default() })))
    }

    /// Opens the session of a request. This does no I/O: the first access loads it.
    pub fn open<'a, H: IntoIterator<Item = (&'a str, &'a [u8])>>(&self, head: RequestHead<H>) -> Session {
        let SessionOptions { cookie, proxy, .. } = self.options();
        let believed = proxy.trusts(head.peer);
        let mut forwarded = None;
        let mut ids = Vec::new();
        for (name, value) in head.headers {
            if name.eq_ignore_ascii_case("cookie") {
                let room = MAX_IDS - ids.len();
                ids.extend(values(value, cookie.effective_name()).filter_map(SessionId::parse).take(room));
            } else if believed && forwarded.is_none() && name.eq_ignore_ascii_case("x-forwarded-proto") {
                forwarded = Some(forwarded_scheme(value));
            }
        }
        let stated = [forwarded.unwrap_or_default(), head.scheme, self.options().scheme];
        let scheme = stated.into_iter().find(|scheme| *scheme != Scheme::Unknown).unwrap_or_default();
        Session::new(self.clone(), ids, scheme)
    }

    /// Saves what the request changed, and returns the cookie that its response has to carry.
    ///
    /// Call it once, when the handler has returned, whatever the status, and before a byte of the
    /// response is sent. Edits that come later need [`Session::save`].
    ///
    /// # Errors
    ///
    /// If the session could not be saved; the response must then be an error of
    /// [`Error::status`], with no cookie but [`Error::set_cookie`].
    pub async fn close(&self, session: &Session) -> Result<Option<SetCookie>> {
        session.close().await
    }

    /// Returns the options that these sessions were made with.
    pub fn options(&self) -> &SessionOptions {
        &self.0.options
    }

    /// Looks the session up, unless that was done, and touches it in the same step.
    pub(crate) async fn load(&self, state: &mut State) -> Result<()> {
        while state.origin == Origin::Unloaded {
            // Hashed only here: every access comes by.
            let Some(handle) = state.handle() else { break };
            let entry = self.load_and_touch(handle).await?;
            self.resume(state, handle, entry).await?;
            if state.origin == Origin::Unknown && state.next_candidate() {
                state.origin = Origin::Unloaded;
            }
        }
        Ok(())
    }

    async fn load_and_touch(&self, handle: Handle) -> Result<Option<Entry<SessionData>>> {
        let collection = &self.options().collection;
        let mut options = LoadOptions::new();
        options.touch = self.options().lifetime.touch();
        let entry = collection.load_with(handle.as_str(), options).await?;
        let ended = entry.as_ref().filter(|entry| entry.value.has_ended() && options.touch.is_some());
        if let Some(left) = ended.map(|entry| self.remembered_for(&entry.value)).filter(|left| !left.is_zero()) {
            // That has just prolonged what is to be forgotten.
            collection.load_with(handle.as_str(), LoadOptions::new().touch(left).without_revision()).await?;
        }
        Ok(entry)
    }

    /// Returns for how much longer a session that ended is remembered.
    fn remembered_for(&self, data: &SessionData) -> Duration {
        RENEWED_FOR.saturating_sub(Duration::from_millis(self.now().saturating_sub(data.meta().ended)))
    }

    /// Throws away what the request did so far, and looks the session up again.
    pub(crate) async fn reload(&self, state: &mut State) -> Result<()> {
        state.forget_edits();
        if state.origin != Origin::None {
            state.origin = Origin::Unloaded;
        }
        self.load(state).await
    }

    async fn resume(&self, state: &mut State, handle: Handle, entry: Option<Entry<SessionData>>) -> Result<()> {
        let now = self.now();
        state.origin = match entry {
            None => {
                debug!(session = %handle, "a request came with the id of no session");
                Origin::Unknown
            }
            Some(entry) if entry.value.has_ended() && self.remembered_for(&entry.value).is_zero() => {
                self.destroy_if_still(handle, entry.revision).await?;
                Origin::Unknown
            }
            Some(entry) if entry.value.has_ended() => Origin::Ended,
            Some(entry) if entry.value.meta().created == 0 => {
                return Err(Error::new(ErrorKind::Store, "the session store failed").with_source(sosa::Error::new(
                    sosa::ErrorKind::Decode,
                    "the record is no session: it has no member `sosa` that says when it was created",
                )));
            }
            Some(entry) if self.options().lifetime.is_over(entry.value.meta().created, now) => {
                debug!(session = %handle, "a session reached the end of its absolute lifetime");
                self.destroy_if_still(handle, entry.revision).await?;
                Origin::Unknown
            }
            Some(entry) => {
                trace!(session = %handle, rev = entry.value.rev(), "a session was loaded");
                state.record = Some((entry.value, entry.revision));
                Origin::Resumed
            }
        };
        if state.origin != Origin::Resumed {
            state.record = None;
        }
        Ok(())
    }

    /// Does what the plan says, and keeps in `state` what has been done.
    ///
    /// # Errors
    ///
    /// Besides the store's: [`ErrorKind::Ended`], [`ErrorKind::Insecure`] and
    /// [`ErrorKind::Closed`] if the plan is to save nothing.
    pub(crate) async fn commit(&self, state: &mut State, scheme: Scheme) -> Result<()> {
        let channel = match state.closed {
            true => Channel::Closed,
            false if self.options().cookie.is_allowed(scheme) => Channel::Open,
            false => Channel::Insecure,
        };
        // Not rolling: the cookie lives as long as the session can, so it is sent once.
        let context = Context { touch_due: state.touch_due, rolling: false, channel };
        let (store, cookie) = loop {
            match plan(state.origin, state.data(), state.id_change(), context) {
                (Store::Load, _) => self.load(state).await?,
                planned => break planned,
            }
        };
        match store {
            Store::Nothing | Store::Load => {}
            Store::Touch => self.touch(state).await?,
            Store::Create => self.create(state).await?,
            Store::Update => self.update(state).await?,
            Store::Renew => self.renew(state).await?,
            Store::Regenerate | Store::Replace => self.regenerate(state, store == Store::Replace).await?,
            Store::Destroy => {
                self.end(state, None, true).await?;
                // What was inserted afterwards would be a new session.
                if state.data() == Data::Changed {
                    state.start_anew();
                    return Err(withheld(channel));
                }
            }
            Store::Withhold => {
                if channel == Channel::Closed {
                    // There is no response left that could give the client another id.
                    state.keep_id();
                }
                return Err(withheld(channel));
            }
            Store::Drop => return Err(ended(state)),
        }
        if store == Store::Destroy || cookie == Cookie::Remove {
            state.start_anew();
        }
        state.forget_edits();
        if cookie != Cookie::Keep {
            state.cookie = cookie;
        }
        Ok(())
    }

    /// Writes the cookie that the session was left with.
    pub(crate) fn write_cookie(&self, state: &State, scheme: Scheme) -> Option<SetCookie> {
        let options = self.options();
        match (state.cookie, &state.id, &state.record) {
            (Cookie::Send, Some(id), Some((data, _))) => {
                let max_age = options.lifetime.max_age(data.meta().created, self.now());
                Some(options.cookie.give(id.expose(), max_age, scheme))
            }
            (Cookie::Remove, ..) => Some(options.cookie.remove(scheme)),
            _ => None,
        }
    }

    async fn touch(&self, state: &mut State) -> Result<()> {
        match state.handle() {
            Some(handle) => self.load_and_touch(handle).await.map(drop),
            None => Ok(()),
        }
    }

    /// Saves a new record under a new id.
    async fn create(&self, state: &mut State) -> Result<()> {
        let id = state.next_id()?;
        let data = state.edited(1, self.now())?;
        match self.save(id.handle(), &data, Condition::Absent).await {
            Ok(revision) => {
                debug!(session = %id.handle(), "a session was created");
                state.now_stored(id, data, revision);
                Ok(())
            }
            Err(error) => {
                if error.outcome() == Outcome::Unknown {
                    self.discard(id.handle()).await;
                } else if !error.is_conflict() {
                    state.keep_for_next(id);
                }
                Err(error.into())
            }
        }
    }

    /// Saves the edits over the state that was read; over a newer one, until it wins.
    async fn update(&self, state: &mut State) -> Result<()> {
        let mut turn = None;
        while let Some((handle, revision)) = state.stored() {
            let data = state.edited_again()?;
            match self.save(handle, &data, Condition::Revision(revision)).await {
                Ok(revision) => {
                    trace!(session = %handle, rev = data.rev(), "a session was saved");
                    state.record = Some((data, revision));
                    return Ok(());
                }
                Err(error) if error.is_conflict() => self.catch_up(state, handle, &mut turn).await?,
                Err(error) => return Err(error.into()),
            }
            if state.origin == Origin::Resumed && state.data() == Data::Same {
                return Ok(());
            }
        }
        Err(ended(state))
    }

    /// Loads what another request saved, and does this one's edits to it.
    async fn catch_up(&self, state: &mut State, handle: Handle, turn: &mut Option<Turn>) -> Result<()> {
        if turn.is_none() {
            *turn = Some(self.0.queues.enter(handle).await);
        }
        let entry = self.options().collection.load_with(handle.as_str(), LoadOptions::new()).await?;
        self.resume(state, handle, entry).await?;
        if state.origin == Origin::Resumed { state.rebase() } else { Ok(()) }
    }

    /// Moves the session to a new id: first the new record, then the end of the old one.
    async fn renew(&self, state: &mut State) -> Result<()> {
        let id = SessionId::random()?;
        let (old, new) = (state.handle(), id.handle());
        let mut may_have_ended = false;
        match self.try_renew(state, new, &mut may_have_ended).await {
            Ok((data, revision)) => {
                debug!(?old, %new, "a session was renewed");
                state.now_stored(id, data, revision);
                Ok(())
            }
            Err(error) => {
                // The client will never hear of the new record. It stays, until it expires, only
                // where it may be all that is left of the session.
                if !may_have_ended {
                    self.discard(new).await;
                }
                Err(error)
            }
        }
    }

    async fn try_renew(
        &self,
        state: &mut State,
        new: Handle,
        may_have_ended: &mut bool,
    ) -> Result<(SessionData, Revision)> {
        let collection = &self.options().collection;
        let mut turn = None;
        let mut condition = Condition::Absent;
        while let Some((old, revision)) = state.stored() {
            let data = state.edited_again()?;
            let saved = self.save(new, &data, condition).await?;
            *may_have_ended = true;
            let error = match self.end_as(old, revision, Some(new)).await {
                Ok(()) => return Ok((data, saved)),
                Err(error) if error.is_conflict() || error.outcome() == Outcome::Unknown => error,
                Err(error) => {
                    *may_have_ended = false;
                    return Err(error.into());
                }
            };
            // Was it this very call that ended it, though its answer got lost?
            let found = collection.load_with(old.as_str(), LoadOptions::new()).await;
            if let Ok(entry) = &found {
                if entry.as_ref().is_some_and(|entry| entry.value.renewed_as() == Some(new)) {
                    return Ok((data, saved));
                }
                // It was not, unless it is still to come: then the record is as it was.
                *may_have_ended = entry.as_ref().is_some_and(|entry| entry.revision == revision);
            }
            if !error.is_conflict() {
                return Err(error.into());
            }
            found?;
            self.catch_up(state, old, &mut turn).await?;
            condition = Condition::Always;
        }
        Err(ended(state))
    }

    /// Starts a session under a new id: first the new record, then the end of the old one.
    async fn regenerate(&self, state: &mut State, follow: bool) -> Result<()> {
        let id = state.next_id()?;
        let new = id.handle();
        let data = state.edited(1, self.now())?;
        let started = match self.save(new, &data, Condition::Absent).await {
            Ok(revision) => self.end(state, Some(new), follow).await.map(|()| revision),
            Err(error) => Err(error.into()),
        };
        match started {
            Ok(revision) => {
                debug!(session = %new, "a session was regenerated");
                state.now_stored(id, data, revision);
                Ok(())
            }
            Err(error) => {
                self.discard(new).await;
                Err(error)
            }
        }
    }

    /// Ends the session, whatever others make of it meanwhile: for good, or with a marker that says
    /// where it goes on. If it is to `follow`, one that was renewed ends under its new id: whoever
    /// logs out means the session, whichever of its ids the request still came with.
    async fn end(&self, state: &State, renewed_as: Option<Handle>, follow: bool) -> Result<()> {
        let collection = &self.options().collection;
        let mut turn = None;
        let mut target = state.handle();
        let mut read = state.stored().map(|(_, revision)| revision);
        while let Some(handle) = target {
            let revision = match read.take() {
                Some(revision) => revision,
                None => match collection.load_with(handle.as_str(), LoadOptions::new()).await? {
                    None => break,
                    Some(entry) if entry.value.has_ended() => {
                        target = entry.value.renewed_as().filter(|_| follow);
                        continue;
                    }
                    Some(entry) => entry.revision,
                },
            };
            match self.end_as(handle, revision, renewed_as).await {
                Ok(()) => {
                    debug!(session = %handle, "a session was ended");
                    break;
                }
                // It was changed, renewed or ended: look again, in turn.
                Err(error) if error.is_conflict() => {
                    if turn.is_none() {
                        turn = Some(self.0.queues.enter(handle).await);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Ends a record on condition of what was read, in one step: destroys it, or puts in its place
    /// that it was renewed.
    async fn end_as(&self, handle: Handle, read: Revision, renewed_as: Option<Handle>) -> sosa::Result<()> {
        let collection = &self.options().collection;
        match renewed_as {
            None => collection.destroy_with(handle.as_str(), DestroyOptions::new().revision(read)).await.map(drop),
            Some(new) => {
                let data = SessionData::ended(self.now(), new);
                let options = SaveOptions::new()
                    .expiry(Expiry::After(RENEWED_FOR))
                    .condition(Condition::Revision(read))
                    .without_revision();
                collection.save_with(handle.as_str(), &data, options).await.map(drop)
            }
        }
    }

    async fn save(&self, handle: Handle, data: &SessionData, condition: Condition) -> sosa::Result<Revision> {
        let expiry = self.options().lifetime.expiry(data.meta().created, self.now());
        let options = SaveOptions::new().expiry(expiry).condition(condition);
        self.options().collection.save_with(handle.as_str(), data, options).await
    }

    async fn destroy_if_still(&self, handle: Handle, revision: Revision) -> Result<()> {
        match self.end_as(handle, revision, None).await {
            Err(error) if !error.is_conflict() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Removes a record that nobody was told of. If that fails, it expires by itself.
    async fn discard(&self, handle: Handle) {
        if let Err(error) = self.options().collection.destroy(handle.as_str()).await {
            warn!(session = %handle, %error, "a session that was never announced stays until it expires");
        }
    }

    fn now(&self) -> u64 {
        self.options().clock.now_millis()
    }
}

/// What remains when another request has ended the session: nothing to edit.
fn ended(state: &mut State) -> Error {
    state.origin = Origin::Ended;
    state.record = None;
    state.cookie = Cookie::Keep;
    state.forget_edits();
    Error::new(ErrorKind::Ended, "nothing was saved: the session was ended by another request")
}

fn withheld(channel: Channel) -> Error {
    match channel {
        Channel::Closed => Error::new(
            ErrorKind::Closed,
            "nothing was saved: the response is under way and can announce no new session",
        ),
        Channel::Open | Channel::Insecure => Error::new(
            ErrorKind::Insecure,
            "nothing was saved: the session cookie is Secure, and the request came over plain http; serve https, trust \
             the proxy that does, or use Secure::Auto or Secure::Never",
        ),
    }
}

/// Reads `X-Forwarded-Proto`: the first of a list is what the client used. Some proxies say `wss` and
/// `ws` of web sockets.
fn forwarded_scheme(value: &[u8]) -> Scheme {
    let first = value.split(|byte| *byte == b',').next().unwrap_or_default();
    match &*first.trim_ascii().to_ascii_lowercase() {
        b"https" | b"wss" => Scheme::Https,
        b"http" | b"ws" => Scheme::Http,
        _ => Scheme::Unknown,
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("options", self.options()).finish_non_exhaustive()
    }
}
