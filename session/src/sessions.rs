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
use crate::express::{self, RecordCookie};
use crate::id::{Place, SessionId};
use crate::options::{Format, SessionOptions};
use crate::plan::{Channel, Context, Cookie, Data, Origin, Rolling, Store, plan};
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
        let SessionOptions { cookie, proxy, format, .. } = self.options();
        let believed = proxy.trusts(head.peer);
        let mut forwarded = None;
        let (mut first, mut others) = (None, Vec::new());
        // With Express the first cookie counts, whatever is in it.
        let mut left = if *format == Format::Express { 1 } else { usize::MAX };
        for (name, value) in head.headers {
            if name.eq_ignore_ascii_case("cookie") {
                let ours = values(value, cookie.effective_name()).take(left).inspect(|_| left -= 1);
                for id in ours.filter_map(|value| self.read_id(value)) {
                    match &first {
                        None => first = Some(id),
                        Some(_) if others.len() + 1 < MAX_IDS => others.push(id),
                        Some(_) => break,
                    }
                }
            } else if believed && forwarded.is_none() && name.eq_ignore_ascii_case("x-forwarded-proto") {
                forwarded = Some(forwarded_scheme(value));
            }
        }
        let stated = [forwarded.unwrap_or_default(), head.scheme, self.options().scheme];
        let scheme = stated.into_iter().find(|scheme| *scheme != Scheme::Unknown).unwrap_or_default();
        Session::new(self.clone(), first, others, scheme)
    }

    /// Reads a cookie's value. What no server of ours gave out is `None`, so that it costs no call of the store.
    fn read_id(&self, value: &[u8]) -> Option<SessionId> {
        let SessionOptions { keys, format, .. } = self.options();
        match format {
            Format::Sosa if keys.is_empty() => SessionId::parse(value),
            Format::Sosa => SessionId::parse(keys.verify(value)?.as_bytes()),
            Format::Express => SessionId::signed(&keys.verify(value)?),
        }
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
            let Some(place) = state.place() else { break };
            let entry = self.load_and_touch(&place).await?;
            self.resume(state, &place, entry).await?;
            if state.origin == Origin::Unknown && state.next_candidate() {
                state.origin = Origin::Unloaded;
            }
        }
        if state.record.is_none() {
            self.prepare(state);
        }
        Ok(())
    }

    /// Makes the record that a new session begins with, where that is not empty.
    pub(crate) fn prepare(&self, state: &mut State) {
        let options = self.options();
        if options.format == Format::Express && state.blank.is_none() {
            let blank = express::blank(&options.cookie, options.max_age_millis(), state.scheme, self.now());
            state.blank = Some(blank);
        }
    }

    async fn load_and_touch(&self, place: &Place) -> Result<Option<Entry<SessionData>>> {
        let SessionOptions { collection, format, lifetime, .. } = self.options();
        let mut options = LoadOptions::new();
        if *format == Format::Sosa {
            options.touch = lifetime.touch();
        }
        let entry = collection.load_with(place.key(), options).await?;
        let ended = entry.as_ref().filter(|entry| entry.value.has_ended() && options.touch.is_some());
        if let Some(left) = ended.map(|entry| self.remembered_for(&entry.value)).filter(|left| !left.is_zero()) {
            // That has just prolonged what is to be forgotten.
            collection.load_with(place.key(), LoadOptions::new().touch(left).without_revision()).await?;
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
            state.touch_due = self.touches_each_request();
        }
        self.load(state).await
    }

    /// Returns whether a request touches its session by a call of its own, whatever it does with it.
    pub(crate) fn touches_each_request(&self) -> bool {
        self.options().format == Format::Express
    }

    async fn resume(&self, state: &mut State, place: &Place, entry: Option<Entry<SessionData>>) -> Result<()> {
        let now = self.now();
        state.origin = match entry {
            None => {
                debug!(session = %place, "a request came with the id of no session");
                Origin::Unknown
            }
            Some(entry) if self.options().format == Format::Express => {
                RecordCookie::of(&entry.value)?;
                trace!(session = %place, "a session was loaded");
                state.record = Some((entry.value, entry.revision));
                Origin::Resumed
            }
            Some(entry) if entry.value.has_ended() && self.remembered_for(&entry.value).is_zero() => {
                self.destroy_if_still(place, entry.revision).await?;
                Origin::Unknown
            }
            Some(entry) if entry.value.has_ended() => Origin::Ended,
            Some(entry) if entry.value.meta().created == 0 => {
                return Err(Error::no_session("it has no member `sosa` that says when it was created"));
            }
            Some(entry) if self.options().lifetime.is_over(entry.value.meta().created, now) => {
                debug!(session = %place, "a session reached the end of its absolute lifetime");
                self.destroy_if_still(place, entry.revision).await?;
                Origin::Unknown
            }
            Some(entry) => {
                trace!(session = %place, rev = entry.value.rev(), "a session was loaded");
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
    pub(crate) async fn commit(&self, state: &mut State) -> Result<()> {
        let (store, mut cookie, channel) = loop {
            match self.plan(state) {
                (Store::Load, ..) => self.load(state).await?,
                planned => break planned,
            }
        };
        match store {
            Store::Nothing | Store::Load => {}
            Store::Touch => {
                if !self.touch(state).await? {
                    // Ended meanwhile: the client may have been given another cookie since.
                    cookie = Cookie::Keep;
                }
            }
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
        state.conclude(store == Store::Destroy, cookie);
        Ok(())
    }

    /// Does what the plan says, if that needs no call of the store; returns whether it did.
    pub(crate) fn commit_at_once(&self, state: &mut State) -> bool {
        let (store, cookie, _) = self.plan(state);
        if store == Store::Nothing {
            state.conclude(false, cookie);
        }
        store == Store::Nothing
    }

    fn plan(&self, state: &State) -> (Store, Cookie, Channel) {
        let context = self.context(state);
        let (store, cookie) = plan(state.origin, state.data(), state.id_change(), context);
        (store, cookie, context.channel)
    }

    /// Returns what decides besides the session and what was asked of it.
    fn context(&self, state: &State) -> Context {
        let options = self.options();
        let cookie = state.cookie_on();
        let may_be_sent = match &cookie {
            Some(cookie) => !cookie.attributes.secure || state.scheme != Scheme::Http,
            None => options.cookie.is_allowed(state.scheme),
        };
        Context {
            touch_due: state.touch_due,
            rolling: match state.max_age.unwrap_or_else(|| cookie.and_then(|cookie| cookie.max_age)) {
                _ if options.rolling => Rolling::Always,
                Some(_) => Rolling::WhenSaved,
                None => Rolling::Never,
            },
            takes_back: options.format == Format::Sosa,
            channel: match state.closed {
                true => Channel::Closed,
                false if may_be_sent => Channel::Open,
                false => Channel::Insecure,
            },
        }
    }

    /// Writes the cookie that the session was left with.
    pub(crate) fn write_cookie(&self, state: &State) -> Option<SetCookie> {
        let options = self.options();
        match (state.cookie, &state.id, &state.record) {
            (Cookie::Send, Some(id), Some((data, _))) => {
                let value = options.keys.sign(id.expose());
                if options.format == Format::Express {
                    let cookie = RecordCookie::of(data).ok()?;
                    let name = options.cookie.effective_name();
                    return Some(cookie.attributes.write(name, &value, cookie.lives(self.now())));
                }
                let max_age = options.lifetime.max_age(data.meta().created, self.now());
                Some(options.cookie.give(&value, max_age, state.scheme))
            }
            (Cookie::Remove, ..) => Some(options.cookie.remove(state.scheme)),
            _ => None,
        }
    }

    /// Moves the deadline, and returns whether the session is still there.
    async fn touch(&self, state: &mut State) -> Result<bool> {
        let Some((place, _)) = state.stored() else { return Ok(false) };
        match self.options().format {
            Format::Sosa => Ok(self.load_and_touch(&place).await?.is_some()),
            Format::Express => {
                let mut options = LoadOptions::new().without_revision();
                options.touch = state.record.as_ref().and_then(|(data, _)| self.lifetime(data));
                Ok(self.options().collection.load_with(place.key(), options).await?.is_some())
            }
        }
    }

    /// Returns for how long a session of Express lives after a use.
    fn lifetime(&self, data: &SessionData) -> Option<Duration> {
        let default = self.options().lifetime.touch();
        // It can be read: it was, or is ours.
        RecordCookie::of(data).map_or(default, |cookie| cookie.lifetime(default))
    }

    /// Returns the record as it is to be saved, of a new session or of one that goes on.
    fn record(&self, state: &State, new: bool) -> Result<SessionData> {
        match self.options().format {
            Format::Sosa if new => state.edited(1, self.now()),
            Format::Sosa => state.edited_again(),
            Format::Express => state.edited_for_express(self.now()),
        }
    }

    /// Saves a new record under a new id.
    async fn create(&self, state: &mut State) -> Result<()> {
        let id = state.next_id()?;
        let place = state.place_of(&id);
        let data = self.record(state, true)?;
        match self.save(&place, &data, Condition::Absent).await {
            Ok(revision) => {
                debug!(session = %place, "a session was created");
                state.now_stored(id, data, revision);
                Ok(())
            }
            Err(error) => {
                if error.outcome() == Outcome::Unknown {
                    self.discard(&place).await;
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
        while let Some((place, revision)) = state.stored() {
            let data = self.record(state, false)?;
            match self.save(&place, &data, Condition::Revision(revision)).await {
                Ok(revision) => {
                    trace!(session = %place, rev = data.rev(), "a session was saved");
                    state.record = Some((data, revision));
                    return Ok(());
                }
                Err(error) if error.is_conflict() => self.catch_up(state, &place, &mut turn).await?,
                Err(error) => return Err(error.into()),
            }
            if state.origin == Origin::Resumed && state.data() == Data::Same {
                return Ok(());
            }
        }
        Err(ended(state))
    }

    /// Loads what another request saved, and does this one's edits to it.
    async fn catch_up(&self, state: &mut State, place: &Place, turn: &mut Option<Turn>) -> Result<()> {
        if turn.is_none() {
            *turn = Some(self.0.queues.enter(place.handle()).await);
        }
        let entry = self.options().collection.load_with(place.key(), LoadOptions::new()).await?;
        self.resume(state, place, entry).await?;
        if state.origin == Origin::Resumed { state.rebase() } else { Ok(()) }
    }

    /// Moves the session to a new id: first the new record, then the end of the old one.
    async fn renew(&self, state: &mut State) -> Result<()> {
        let id = SessionId::random()?;
        let (old, new) = (state.place(), state.place_of(&id));
        let mut may_have_ended = false;
        match self.try_renew(state, &new, &mut may_have_ended).await {
            Ok((data, revision)) => {
                debug!(?old, %new, "a session was renewed");
                state.now_stored(id, data, revision);
                Ok(())
            }
            Err(error) => {
                // The client will never hear of the new record. It stays, until it expires, only
                // where it may be all that is left of the session; with Express nothing tells whose
                // end it was, and what another ended must not come back.
                if !may_have_ended {
                    self.discard(&new).await;
                }
                Err(error)
            }
        }
    }

    async fn try_renew(
        &self,
        state: &mut State,
        new: &Place,
        may_have_ended: &mut bool,
    ) -> Result<(SessionData, Revision)> {
        let collection = &self.options().collection;
        let mut turn = None;
        let mut condition = Condition::Absent;
        while let Some((old, revision)) = state.stored() {
            let data = self.record(state, false)?;
            let saved = self.save(new, &data, condition).await?;
            *may_have_ended = true;
            let error = match self.end_as(&old, revision, Some(new)).await {
                Ok(()) => return Ok((data, saved)),
                Err(error) if error.is_conflict() || error.outcome() == Outcome::Unknown => error,
                Err(error) => {
                    *may_have_ended = false;
                    return Err(error.into());
                }
            };
            // Was it this very call that ended it, though its answer got lost?
            let found = collection.load_with(old.key(), LoadOptions::new()).await;
            if let Ok(entry) = &found {
                if entry.as_ref().is_some_and(|entry| entry.value.renewed_as() == Some(new.handle())) {
                    return Ok((data, saved));
                }
                // It was not, unless it is still to come: then the record is as it was.
                *may_have_ended = entry.as_ref().is_some_and(|entry| entry.revision == revision);
            }
            if !error.is_conflict() {
                return Err(error.into());
            }
            found?;
            self.catch_up(state, &old, &mut turn).await?;
            condition = Condition::Always;
        }
        Err(ended(state))
    }

    /// Starts a session under a new id: first the new record, then the end of the old one.
    async fn regenerate(&self, state: &mut State, follow: bool) -> Result<()> {
        let id = state.next_id()?;
        let new = state.place_of(&id);
        let data = self.record(state, true)?;
        let started = match self.save(&new, &data, Condition::Absent).await {
            Ok(revision) => self.end(state, Some(&new), follow).await.map(|()| revision),
            Err(error) => Err(error.into()),
        };
        match started {
            Ok(revision) => {
                debug!(session = %new, "a session was regenerated");
                state.now_stored(id, data, revision);
                Ok(())
            }
            Err(error) => {
                self.discard(&new).await;
                Err(error)
            }
        }
    }

    /// Ends the session, whatever others make of it meanwhile: for good, or with a marker that says
    /// where it goes on. If it is to `follow`, one that was renewed ends under its new id: whoever
    /// logs out means the session, whichever of its ids the request still came with.
    async fn end(&self, state: &State, renewed_as: Option<&Place>, follow: bool) -> Result<()> {
        let collection = &self.options().collection;
        let mut turn = None;
        let mut target = state.place();
        let mut read = state.stored().map(|(_, revision)| revision);
        while let Some(place) = target.clone() {
            let revision = match read.take() {
                Some(revision) => revision,
                None => match collection.load_with(place.key(), LoadOptions::new()).await? {
                    None => break,
                    Some(entry) if entry.value.has_ended() => {
                        target = entry.value.renewed_as().filter(|_| follow).map(Place::Hashed);
                        continue;
                    }
                    Some(entry) => entry.revision,
                },
            };
            match self.end_as(&place, revision, renewed_as).await {
                Ok(()) => {
                    debug!(session = %place, "a session was ended");
                    break;
                }
                // It was changed, renewed or ended: look again, in turn.
                Err(error) if error.is_conflict() => {
                    if turn.is_none() {
                        turn = Some(self.0.queues.enter(place.handle()).await);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Ends a record on condition of what was read, in one step: destroys it, or puts in its place
    /// that it was renewed; not where Express would meet that.
    async fn end_as(&self, place: &Place, read: Revision, renewed_as: Option<&Place>) -> sosa::Result<()> {
        let SessionOptions { collection, format, .. } = self.options();
        match renewed_as.filter(|_| *format == Format::Sosa) {
            None => collection.destroy_with(place.key(), DestroyOptions::new().revision(read)).await.map(drop),
            Some(new) => {
                let data = SessionData::ended(self.now(), new.handle());
                let options = SaveOptions::new()
                    .expiry(Expiry::After(RENEWED_FOR))
                    .condition(Condition::Revision(read))
                    .without_revision();
                collection.save_with(place.key(), &data, options).await.map(drop)
            }
        }
    }

    async fn save(&self, place: &Place, data: &SessionData, condition: Condition) -> sosa::Result<Revision> {
        let SessionOptions { collection, format, lifetime, .. } = self.options();
        let expiry = match format {
            Format::Sosa => lifetime.expiry(data.meta().created, self.now()),
            Format::Express => self.lifetime(data).map_or(Expiry::Never, Expiry::After),
        };
        let options = SaveOptions::new().expiry(expiry).condition(condition);
        collection.save_with(place.key(), data, options).await
    }

    async fn destroy_if_still(&self, place: &Place, revision: Revision) -> Result<()> {
        match self.end_as(place, revision, None).await {
            Err(error) if !error.is_conflict() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Removes a record that nobody was told of. If that fails, it expires by itself.
    async fn discard(&self, place: &Place) {
        if let Err(error) = self.options().collection.destroy(place.key()).await {
            warn!(session = %place, %error, "a session that was never announced stays until it expires");
        }
    }

    pub(crate) fn now(&self) -> u64 {
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
