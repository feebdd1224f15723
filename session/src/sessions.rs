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
use crate::plan::{Channel, Context, Cookie, Data, IdChange, Origin, Rolling, Store, plan};
use crate::queue::{Queues, Turn};
use crate::session::{Session, State};
use crate::signing::SigningKeys;

/// For how long the id of a renewed session is remembered: longer than a request that was under way
/// should take.
const RENEWED_FOR: Duration = Duration::from_secs(30);

/// For how long, at least, after a look has prolonged that.
const RENEWED_FOR_AT_LEAST: Duration = Duration::from_secs(1);

/// When what remembers it is removed, should the store have kept it.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10 * 60);

/// How long a record is kept that cannot be read, after the last look at it has prolonged it.
const UNREADABLE_FOR: Duration = Duration::from_secs(30);

/// How many cookies of our name and form are looked at. Another application's may come first, where it has the
/// same name and a longer path, and so may one of ours from before its path or domain was changed.
const MAX_IDS: usize = 8;

/// How many renewals an end follows: more than a client makes in half a minute.
const MAX_RENEWALS: usize = 64;

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
        let (mut first, mut others, mut looked_at) = (None, Vec::new(), 0);
        // With Express the first cookie counts, whatever is in it.
        let mut left = if *format == Format::Express { 1 } else { usize::MAX };
        for (name, value) in head.headers {
            if name.eq_ignore_ascii_case("cookie") {
                let ours = values(value, cookie.effective_name()).take(left).inspect(|_| left -= 1);
                for value in ours.filter(|value| self.may_be_id(value)) {
                    if looked_at == MAX_IDS {
                        break;
                    }
                    looked_at += 1;
                    match (self.read_id(value), &first) {
                        (None, _) => {}
                        (Some(id), None) => first = Some(id),
                        (Some(id), Some(same))
                            if same.is(&id) || others.iter().any(|other: &SessionId| other.is(&id)) => {}
                        (Some(id), Some(_)) => others.push(id),
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

    /// Returns whether a cookie's value has the form of ours, so that it is worth more than a look.
    fn may_be_id(&self, value: &[u8]) -> bool {
        let SessionOptions { keys, format, .. } = self.options();
        match format {
            Format::Sosa if keys.is_empty() => value.len() == SessionId::LEN,
            Format::Sosa => SigningKeys::may_have_signed(value, SessionId::LEN),
            Format::Express => true,
        }
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
    ///
    /// # Errors
    ///
    /// Besides the store's: [`Decode`](sosa::ErrorKind::Decode) of the store if the record cannot be read, with the
    /// origin [`Unreadable`](Origin::Unreadable).
    pub(crate) async fn load(&self, state: &mut State) -> Result<()> {
        match state.origin {
            Origin::Unloaded => self.look_up(state).await?,
            // What was asked to end or to begin anew goes on without it.
            Origin::Unreadable if state.id_change() == IdChange::Keep => {
                return Err(Error::no_session("it cannot be read"));
            }
            _ => {}
        }
        if state.record.is_none() {
            self.prepare(state);
        }
        Ok(())
    }

    /// Looks up the ids that the request came with, one after the other, until one of them opens a session.
    ///
    /// Of several that open none, a record that cannot be read counts before a session that was renewed, and that
    /// before an unknown id: neither is left behind for a new session without a word.
    async fn look_up(&self, state: &mut State) -> Result<()> {
        let (mut best, mut error) = ((Origin::Unknown, 0), None);
        let mut index = 0;
        // Hashed only here: every access comes by.
        while let Some(place) = state.came_with(index).map(|id| state.place_of(id)) {
            let found = match self.load_and_touch(&place).await {
                Ok(entry) => self.read(&place, entry).await,
                Err(error) => Err(error),
            };
            match found {
                Ok(Found::Live(data, revision)) => {
                    state.record = Some((data, revision));
                    state.settle_on(index, Origin::Resumed);
                    return Ok(());
                }
                Ok(Found::Renewed) if best.0 == Origin::Unknown => best = (Origin::Ended, index),
                Ok(Found::Renewed | Found::Nothing) => {}
                Err(unreadable) if is_unreadable(&unreadable) => {
                    warn!(session = %place, error = %unreadable, "a session cannot be read");
                    if error.is_none() {
                        (best, error) = ((Origin::Unreadable, index), Some(unreadable));
                    }
                }
                Err(error) => return Err(error),
            }
            index += 1;
        }
        // Not before: if a look fails, what was known still holds.
        state.record = None;
        state.settle_on(best.1, best.0);
        error.map_or(Ok(()), Err)
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
        let loaded = collection.load_with(place.key(), options).await;
        // What that has just prolonged is to be forgotten, or is of no use to anybody.
        let left = match &loaded {
            Ok(Some(entry)) if entry.value.has_ended() => Some(self.remembered_for(&entry.value)),
            Ok(Some(entry)) if entry.value.meta().created == 0 => Some(UNREADABLE_FOR),
            Err(error) if error.kind() == sosa::ErrorKind::Decode => Some(UNREADABLE_FOR),
            _ => None,
        };
        if let Some(left) = left.filter(|left| options.touch.is_some_and(|touch| touch > *left)) {
            let shortened = collection.load_with(place.key(), LoadOptions::new().touch(left).without_revision()).await;
            shortened.map(drop).or_else(|error| match error.kind() {
                sosa::ErrorKind::Decode => Ok(()),
                _ => Err(error),
            })?;
        }
        Ok(loaded?)
    }

    /// Returns for how much longer what remains of a renewed session is remembered. That it is there at all is what
    /// tells of the renewal, whatever the clocks say: two servers' differ.
    fn remembered_for(&self, data: &SessionData) -> Duration {
        RENEWED_FOR.saturating_sub(self.age_of_renewal(data)).max(RENEWED_FOR_AT_LEAST)
    }

    fn age_of_renewal(&self, data: &SessionData) -> Duration {
        Duration::from_millis(self.now().saturating_sub(data.meta().ended))
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

    /// Reads what was found under an id that a request came with.
    ///
    /// # Errors
    ///
    /// [`Decode`](sosa::ErrorKind::Decode) of the store if it is no session.
    async fn read(&self, place: &Place, entry: Option<Entry<SessionData>>) -> Result<Found> {
        let Some(Entry { value: data, revision, .. }) = entry else {
            debug!(session = %place, "a request came with the id of no session");
            return Ok(Found::Nothing);
        };
        if self.options().format == Format::Express {
            RecordCookie::of(&data)?;
        } else if data.has_ended() {
            if self.age_of_renewal(&data) > FORGOTTEN_AFTER {
                self.destroy_if_still(place, revision).await?;
            }
            return Ok(Found::Renewed);
        } else if data.meta().created == 0 {
            return Err(Error::no_session("it has no member `sosa` that says when it was created"));
        } else if self.options().lifetime.is_over(data.meta().created, self.now()) {
            debug!(session = %place, "a session reached the end of its absolute lifetime");
            self.destroy_if_still(place, revision).await?;
            return Ok(Found::Nothing);
        }
        trace!(session = %place, rev = data.rev(), "a session was loaded");
        Ok(Found::Live(data, revision))
    }

    /// Does what the plan says, and keeps in `state` what has been done.
    ///
    /// # Errors
    ///
    /// Besides the store's: [`ErrorKind::Ended`], [`ErrorKind::Insecure`] and
    /// [`ErrorKind::Closed`] if the plan is to save nothing.
    pub(crate) async fn commit(&self, state: &mut State) -> Result<()> {
        let (store, cookie, channel) = loop {
            match self.plan(state) {
                (Store::Load, ..) => self.load(state).await?,
                planned => break planned,
            }
        };
        if matches!(store, Store::Regenerate | Store::Replace | Store::Destroy)
            && let Some(id) = state.renewing.take()
        {
            // Of a renewal before that was not brought to its end; nobody will ask for it again.
            self.discard(&state.place_of(&id)).await;
        }
        match store {
            Store::Nothing | Store::Load => {}
            Store::Touch => {
                if !self.touch(state).await? {
                    return Err(ended(state));
                }
            }
            Store::Create => self.create(state).await?,
            Store::Update => self.update(state).await?,
            Store::Renew => {
                if !self.renew(state).await? {
                    // Another request was quicker. A login that is sent twice is a new one, as it is when it comes late.
                    state.rebase()?;
                    if state.data() == Data::Same {
                        return Err(ended(state));
                    }
                    self.create(state).await?;
                }
            }
            Store::Regenerate => self.regenerate(state, false).await?,
            Store::Replace => self.regenerate(state, true).await?,
            Store::Destroy => {
                self.end(state, None, state.id_change() == IdChange::Destroy).await?;
                // What was inserted afterwards would be a new session.
                if state.data() == Data::Changed {
                    state.start_anew();
                    return Err(withheld(channel));
                }
            }
            Store::Withhold => {
                if channel == Channel::Closed && state.id_change() != IdChange::Keep {
                    // There is no response left that could give the client another id; and what was to be seen under
                    // that alone must not come under the old one.
                    state.forget_edits();
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
            Format::Sosa => Ok(self.load_and_touch(&place).await?.is_some_and(|entry| !entry.value.has_ended())),
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
        let data = self.record(state, true)?;
        let id = state.next_id()?;
        let place = state.place_of(&id);
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
        (state.origin, state.record) = match self.read(place, entry).await? {
            Found::Live(data, revision) => (Origin::Resumed, Some((data, revision))),
            Found::Renewed => (Origin::Ended, None),
            Found::Nothing => (Origin::Unknown, None),
        };
        if state.origin == Origin::Resumed { state.rebase() } else { Ok(()) }
    }

    /// Moves the session to a new id: first the new record, then the end of the old one. Returns whether that was
    /// done; not if another request did it first, and this one needs nothing of the session.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Ended`] if another request has ended the session.
    async fn renew(&self, state: &mut State) -> Result<bool> {
        let again = state.renewing.clone();
        let mut renewal = Renewal { may_be_ours: again.is_some(), may_have_ended: false, stands_alone: true };
        let id = again.map_or_else(SessionId::random, Ok)?;
        // Before the first call: whoever waits for it may leave, and ask again.
        state.renewing = Some(id.clone());
        let (old, new) = (state.place(), state.place_of(&id));
        match self.try_renew(state, &new, &mut renewal).await {
            Ok(Some((data, revision))) => {
                debug!(?old, %new, "a session was renewed");
                state.renewing = None;
                state.now_stored(id, data, revision);
                Ok(true)
            }
            other => {
                // The client will never hear of the new record, unless this is asked for again. It stays, until it
                // expires, only where it may be all that is left of the session; with Express nothing tells whose
                // end it was, and what another ended must not come back.
                let remains = renewal.may_have_ended || (renewal.may_be_ours && !self.discard(&new).await);
                state.renewing = Some(id).filter(|_| remains);
                match other {
                    Err(error) => Err(error),
                    // Never a session without what this one was to keep, such as what limits it.
                    Ok(_) if state.origin == Origin::Ended && renewal.stands_alone => Ok(false),
                    Ok(_) => Err(ended(state)),
                }
            }
        }
    }

    /// Returns the new record; none if another request has ended the session first, or renewed it.
    async fn try_renew(
        &self,
        state: &mut State,
        new: &Place,
        renewal: &mut Renewal,
    ) -> Result<Option<(SessionData, Revision)>> {
        let collection = &self.options().collection;
        let mut turn = None;
        if renewal.may_be_ours
            && let Some((old, revision)) = state.stored()
        {
            // It was asked for before, and nobody knows what came of it.
            renewal.may_have_ended = true;
            let entry = collection.load_with(old.key(), LoadOptions::new()).await?;
            if is_renewed_as(entry.as_ref(), new) {
                return self.adopt(state, new).await;
            }
            // The end that was sent may still be to come, as long as it finds what it goes by.
            renewal.may_have_ended = entry.is_some_and(|entry| entry.revision == revision);
        }
        while let Some((old, revision)) = state.stored() {
            renewal.stands_alone &= state.stands_alone();
            let data = self.record(state, false)?;
            let condition = if renewal.may_be_ours { Condition::Always } else { Condition::Absent };
            let saved = match self.save(new, &data, condition).await {
                Ok(saved) => saved,
                Err(error) => {
                    // A record that is there already is another's.
                    renewal.may_be_ours |= error.outcome() == Outcome::Unknown;
                    return Err(error.into());
                }
            };
            let before = renewal.may_have_ended;
            (renewal.may_be_ours, renewal.may_have_ended) = (true, true);
            let error = match self.end_as(&old, revision, Some(new)).await {
                Ok(()) => return Ok(Some((data, saved))),
                Err(error) if error.is_conflict() || error.outcome() == Outcome::Unknown => error,
                Err(error) => {
                    renewal.may_have_ended = before;
                    return Err(error.into());
                }
            };
            // Was it this very call that ended it, though its answer got lost?
            let found = collection.load_with(old.key(), LoadOptions::new()).await;
            if let Ok(entry) = &found {
                if is_renewed_as(entry.as_ref(), new) {
                    return Ok(Some((data, saved)));
                }
                // It was not, unless it is still to come: then the record is as it was.
                renewal.may_have_ended = entry.as_ref().is_some_and(|entry| entry.revision == revision);
            }
            if !error.is_conflict() {
                return Err(error.into());
            }
            found?;
            self.catch_up(state, &old, &mut turn).await?;
        }
        Ok(None)
    }

    /// Goes on with a record that an earlier try of this request has made, with what was asked for since.
    async fn adopt(&self, state: &mut State, new: &Place) -> Result<Option<(SessionData, Revision)>> {
        let entry = self.options().collection.load_with(new.key(), LoadOptions::new()).await?;
        let Found::Live(data, revision) = self.read(new, entry).await? else { return Ok(None) };
        state.record = Some((data.clone(), revision));
        state.rebase()?;
        if state.data() == Data::Same {
            return Ok(Some((data, revision)));
        }
        let data = self.record(state, false)?;
        let revision = self.save(new, &data, Condition::Revision(revision)).await?;
        Ok(Some((data, revision)))
    }

    /// Starts a session under a new id: first the new record, then the end of the old one, or of all that the request
    /// came with.
    async fn regenerate(&self, state: &mut State, all: bool) -> Result<()> {
        let data = self.record(state, true)?;
        let id = state.next_id()?;
        let new = state.place_of(&id);
        let saved = self.save(&new, &data, Condition::Absent).await;
        // A record that is there already is another's.
        let may_be_ours = !saved.as_ref().is_err_and(sosa::Error::is_conflict);
        let started = match saved {
            Ok(revision) => self.end(state, Some(&new), all).await.map(|()| revision),
            Err(error) => Err(error.into()),
        };
        match started {
            Ok(revision) => {
                debug!(session = %new, "a session was regenerated");
                state.now_stored(id, data, revision);
                Ok(())
            }
            Err(error) => {
                if may_be_ours {
                    self.discard(&new).await;
                }
                Err(error)
            }
        }
    }

    /// Ends the session, even if it changes concurrently: for good, or with a marker that says where it goes on. If
    /// `all`, whoever asks means the session, whichever of its ids the request still came with: one that was renewed
    /// ends under its new id, and so does each other that the request came with.
    async fn end(&self, state: &State, renewed_as: Option<&Place>, all: bool) -> Result<()> {
        let read = state.stored().map(|(_, revision)| revision);
        if let Some(place) = state.place() {
            self.end_at(place, read, renewed_as, all).await?;
        }
        for other in state.others.iter().filter(|_| all) {
            self.end_at(state.place_of(other), None, renewed_as, true).await?;
        }
        Ok(())
    }

    async fn end_at(
        &self,
        mut place: Place,
        mut read: Option<Revision>,
        renewed_as: Option<&Place>,
        follow: bool,
    ) -> Result<()> {
        let collection = &self.options().collection;
        let (mut turn, mut passed) = (None, Vec::new());
        loop {
            let revision = match read.take() {
                Some(revision) => revision,
                None => match collection.load_with(place.key(), LoadOptions::new()).await {
                    Ok(None) => return Ok(()),
                    Ok(Some(entry)) if entry.value.has_ended() => {
                        match entry.value.renewed_as().filter(|_| follow) {
                            Some(_) if passed.len() == MAX_RENEWALS => {
                                return Err(Error::no_session("it was renewed too often to be found"));
                            }
                            // Markers that lead round lead to no session.
                            Some(next) if !passed.contains(&next) => {
                                passed.push(next);
                                place = Place::Hashed(next);
                            }
                            _ => return Ok(()),
                        }
                        continue;
                    }
                    Ok(Some(entry)) => entry.revision,
                    Err(error) if error.kind() == sosa::ErrorKind::Decode => {
                        return Ok(self.end_unread(&place, renewed_as).await?);
                    }
                    Err(error) => return Err(error.into()),
                },
            };
            match self.end_as(&place, revision, renewed_as).await {
                Ok(()) => {
                    debug!(session = %place, "a session was ended");
                    return Ok(());
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
    }

    /// Ends a record on condition of what was read, in one step: destroys it, or puts in its place
    /// that it was renewed; not where Express would meet that.
    async fn end_as(&self, place: &Place, read: Revision, renewed_as: Option<&Place>) -> sosa::Result<()> {
        match renewed_as.filter(|_| self.options().format == Format::Sosa) {
            None => {
                let read = DestroyOptions::new().revision(read);
                self.options().collection.destroy_with(place.key(), read).await.map(drop)
            }
            Some(new) => self.mark(place, new, Condition::Revision(read)).await,
        }
    }

    /// Ends a record that cannot be read, and so has no revision to go by: an end needs nothing of what is stored.
    async fn end_unread(&self, place: &Place, renewed_as: Option<&Place>) -> sosa::Result<()> {
        match renewed_as.filter(|_| self.options().format == Format::Sosa) {
            None => self.options().collection.destroy(place.key()).await.map(drop),
            Some(new) => match self.mark(place, new, Condition::Present).await {
                // It is gone by itself.
                Err(error) if error.is_conflict() => Ok(()),
                marked => marked,
            },
        }
    }

    /// Puts in a record's place that its session goes on under another id.
    async fn mark(&self, place: &Place, new: &Place, condition: Condition) -> sosa::Result<()> {
        let data = SessionData::ended(self.now(), new.handle());
        let options = SaveOptions::new().expiry(Expiry::After(RENEWED_FOR)).condition(condition).without_revision();
        self.options().collection.save_with(place.key(), &data, options).await.map(drop)
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

    /// Removes a record that nobody was told of, and returns whether it is gone. If not, it expires by itself.
    async fn discard(&self, place: &Place) -> bool {
        let discarded = self.options().collection.destroy(place.key()).await;
        if let Err(error) = &discarded {
            warn!(session = %place, %error, "a session that was never announced stays until it expires");
        }
        discarded.is_ok()
    }

    pub(crate) fn now(&self) -> u64 {
        self.options().clock.now_millis()
    }
}

/// What is found under an id.
enum Found {
    Live(SessionData, Revision),
    /// The marker of a session that goes on under another id.
    Renewed,
    Nothing,
}

/// How far a renewal has come.
struct Renewal {
    /// The new record may be one that this request has made, now or before; nobody else knows its id.
    may_be_ours: bool,
    /// The old record may have been ended by it.
    may_have_ended: bool,
    /// The edits replace all that any state of the session held that was read.
    stands_alone: bool,
}

fn is_renewed_as(entry: Option<&Entry<SessionData>>, new: &Place) -> bool {
    entry.is_some_and(|entry| entry.value.renewed_as() == Some(new.handle()))
}

/// Returns whether the error is about this record alone.
fn is_unreadable(error: &Error) -> bool {
    error.store().is_some_and(|error| error.kind() == sosa::ErrorKind::Decode)
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

#[cfg(test)]
mod tests {
    use super::*;
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
        let (id, signature) = ("A".repeat(SessionId::LEN), "B".repeat(43));
        assert_eq!(checks(&format!("s%3A{id}.{signature}")), MAX_IDS * 2);
        assert_eq!(checks(&format!("s:{id}.{signature}")), MAX_IDS * 2);
        for value in ["", "s:", &*id, &format!("s:{id}"), &format!("s:{}", "x".repeat(300_000))] {
            assert_eq!(checks(value), 0, "{} bytes", value.len());
        }
    }
}
