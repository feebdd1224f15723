//! Loads, saves and ends sessions: only this file and those below it await a store.
//!
//! [`plan`] decides what is to be done, [`State`] holds what is known and was asked for, and [`Format`] answers where
//! sessions of our own and of Express differ.

mod end;
mod owners;
mod owners_store;
mod renewal;
mod sign_in;

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sosa::{Collection, Condition, Deadline, Entry, Expiry, LoadOptions, Outcome, Revision, SaveOptions};
use tracing::field::display;
use tracing::{debug, info, trace, warn};

use crate::class::Class;
use crate::data::SessionData;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{self, Format, Reading, Rules, Save, Snapshot, Touch};
use crate::id::StorageKey;
use crate::options::{DeadCookie, SessionOptions};
use crate::outage::Outage;
use crate::pace::Pace;
use crate::plan::{Action, Context, CookieAction, Data, IdChange, Origin, ResponseHead, Rolling, plan};
use crate::queue::{Queues, Turn};
use crate::response::ResponseHeaders;
use crate::set_cookie::SetCookie;
use crate::state::{Arrival, Found, LastSave, State, Stored};
use crate::told::Told;

use self::owners_store::Owners;

/// For how long after a request came the cookie of no session is taken back: for less than a renewed session's id is
/// remembered, so that no request that was sent before a renewal takes the new cookie back.
const DEAD_WITHIN: Duration = Duration::from_secs(20);

/// By how many bytes a record grows that is only saved once more: by those of the count of its saves, and of when its cookie
/// was sent.
const MAX_GROWTH: usize = 20 + r#","sent":"#.len() + 20;

/// Carries out what is planned for sessions, over one collection.
#[derive(Debug)]
pub(crate) struct Engine {
    options: SessionOptions,
    format: Arc<dyn Format>,
    rules: Rules,
    queues: Queues<Stored>,
    owners: Option<Owners>,
    pace: Pace,
    outage: Outage,
    told: Told,
}

impl Engine {
    /// Takes options that have been checked.
    pub(crate) fn new(options: SessionOptions) -> Self {
        let format = format::of(&options);
        let (rules, queues) = (format.rules(), Queues::new(options.max_wait));
        let owners = options.owners.clone().map(|collection| Owners::new(collection, options.cap));
        let (pace, outage, told) = (Pace::new(), Outage::of("the session store"), Told::default());
        Self { options, format, rules, queues, owners, pace, outage, told }
    }

    pub(crate) fn options(&self) -> &SessionOptions {
        &self.options
    }

    pub(crate) fn format(&self) -> &dyn Format {
        &*self.format
    }

    pub(crate) fn rules(&self) -> Rules {
        self.rules
    }

    pub(crate) fn now(&self) -> u64 {
        self.options.clock.now_millis()
    }

    pub(crate) fn told(&self) -> &Told {
        &self.told
    }

    // Loading.

    /// Looks the session up, unless that was done, and touches it in the same step.
    ///
    /// # Errors
    ///
    /// Besides the store's: [`Decode`](sosa::ErrorKind::Decode) of the store if the record cannot be read, with the
    /// origin [`Unreadable`](Origin::Unreadable).
    pub(crate) async fn load(&self, state: &mut State) -> Result<()> {
        let loaded = self.try_load(state).await.map_err(Error::of_sessions);
        let failure = loaded.as_ref().err().filter(|error| error.store().is_some() && !error.is_unreadable());
        state.set_failure(failure.cloned());
        loaded
    }

    async fn try_load(&self, state: &mut State) -> Result<()> {
        match state.origin() {
            Origin::Unloaded => self.look_up(state).await?,
            // An end or a new beginning needs nothing of it.
            Origin::Unreadable if state.id_change() == IdChange::Keep => {
                return Err(Error::no_session("it cannot be read"));
            }
            _ => {}
        }
        if state.stored().is_none() {
            self.prepare(state);
        }
        Ok(())
    }

    /// Looks the session up as [`load`](Self::load) does, for an end or a new beginning: it may be unreadable.
    pub(crate) async fn load_to_leave(&self, state: &mut State) -> Result<()> {
        match self.load(state).await {
            Err(error) if state.origin() != Origin::Unreadable => Err(error),
            _ => Ok(()),
        }
    }

    /// Throws away what the request did so far, and looks the session up again.
    pub(crate) async fn reload(&self, state: &mut State) -> Result<()> {
        state.unload();
        self.load(state).await
    }

    /// Asks for an end or a new beginning, and drops the data.
    pub(crate) fn start_over(&self, state: &mut State, id_change: IdChange, class: Option<Class>) {
        state.start_over(id_change, class);
        self.prepare(state);
    }

    fn prepare(&self, state: &mut State) {
        let scheme = state.scheme();
        state.set_blank(|| self.format.blank(scheme, self.now()));
    }

    /// Looks up the ids that the request came with, one after the other, until one of them opens a session.
    ///
    /// Of several that open none, a record that cannot be read counts before a session that was renewed, and that
    /// before an unknown id: neither is left behind for a new session without a word.
    async fn look_up(&self, state: &mut State) -> Result<()> {
        let (mut best, mut error) = ((0, Origin::Unknown), None);
        let mut index = 0;
        // The id is hashed here, and not at every access.
        while let Some(key) = state.came_with(index).map(|id| self.format.storage_key(id)) {
            // A look back in a response that is under way is no use, or an open stream would keep its session alive.
            let touch = match state.is_closed() || state.is_unattended() {
                true => None,
                false => self.format.touch_on_load(key.class()),
            };
            match self.find(&key, Access { touch, ..Access::of(state) }).await {
                Ok(Found::Live(stored)) => {
                    state.found(index, stored);
                    return Ok(());
                }
                Ok(Found::Renewed(_)) if best.1 == Origin::Unknown => best = (index, Origin::Ended),
                Ok(Found::Renewed(_)) => {}
                Ok(Found::Expired) => {
                    let peer = state.peer().map(display);
                    info!(session = %key, peer, "a session has reached the end of its absolute lifetime");
                }
                Ok(Found::Nothing) => {
                    // Which of these, nobody knows any more.
                    let peer = state.peer().map(display);
                    info!(session = %key, peer, "a request came with the id of no session: it expired, ended, or never was");
                }
                Err(unreadable) if unreadable.is_unreadable() => {
                    warn!(session = %key, error = %unreadable, "a session cannot be read");
                    if error.is_none() {
                        (best, error) = ((index, Origin::Unreadable), Some(unreadable));
                    }
                }
                Err(error) => return Err(error),
            }
            index += 1;
        }
        // Not before: if a load fails, the state as it was known still holds.
        state.not_found(best.0, best.1);
        error.map_or(Ok(()), Err)
    }

    /// Finds a session, and removes a record that is of no more use.
    ///
    /// # Errors
    ///
    /// Besides the store's: [`Decode`](sosa::ErrorKind::Decode) of the store if it is no session.
    async fn find(&self, key: &StorageKey, access: Access) -> Result<Found> {
        let Some(look) = self.read(key, access).await? else { return Ok(Found::Nothing) };
        let Look { reading, revision, at, deadline } = look;
        if let Some(revision) = revision.filter(|_| reading.is_spent()) {
            self.destroy_if_still(key, revision).await?;
        }
        match (reading, revision) {
            (Reading::Live(snapshot), Some(revision)) => {
                trace!(session = %key, rev = snapshot.data.rev(), "a session was loaded");
                Ok(Found::Live(Stored { snapshot, revision, at, deadline }))
            }
            (Reading::Renewed { renewed_as, .. }, _) => Ok(Found::Renewed(renewed_as)),
            (Reading::Over(_), _) => Ok(Found::Expired),
            (Reading::Unreadable(error), _) => Err(error),
            (Reading::Live(_), None) => unreachable!("what the store has decoded has a revision"),
        }
    }

    /// Reads what is stored under a key, and touches it in the same step.
    async fn read(&self, key: &StorageKey, access: Access) -> Result<Option<Look>> {
        let loaded = self.load_entry(key, access).await;
        self.read_entry(key, access.touch, loaded).await
    }

    async fn load_entry(&self, key: &StorageKey, access: Access) -> sosa::Result<Option<Entry<SessionData>>> {
        let mut options = LoadOptions::new();
        if let Some(Touch { by, slack }) = access.touch {
            options = options.touch(by).slack(slack);
        }
        options.with_expiry = access.with_expiry;
        self.outage.note(self.now_lazily(), self.collection().load_with(key.expose(), options).await)
    }

    async fn read_entry(
        &self,
        key: &StorageKey,
        touch: Option<Touch>,
        loaded: sosa::Result<Option<Entry<SessionData>>>,
    ) -> Result<Option<Look>> {
        let (at, mut deadline) = (self.now(), None);
        let (reading, revision) = match loaded {
            Ok(None) => return Ok(None),
            Ok(Some(entry)) => {
                deadline = entry.expiry.and_then(|expiry| expiry.deadline(at));
                (self.format.read(entry.value, key.class(), at), Some(entry.revision))
            }
            Err(error) if error.kind() == sosa::ErrorKind::Decode => (Reading::Unreadable(error.into()), None),
            Err(error) => return Err(error.into()),
        };
        // The touch has prolonged a record that is to be forgotten.
        if let Some((touch, left)) = touch.zip(self.format.kept_for(&reading))
            && touch.by > left
        {
            let options = LoadOptions::new().touch(left).without_revision();
            match self.outage.note(self.now_lazily(), self.collection().load_with(key.expose(), options).await) {
                Err(error) if error.kind() != sosa::ErrorKind::Decode => return Err(error.into()),
                _ => {}
            }
        }
        Ok(Some(Look { reading, revision, at, deadline }))
    }

    /// Returns when the session ends if nobody uses it, in milliseconds since the Unix epoch; `None` if it does not, or is
    /// not stored yet.
    ///
    /// # Errors
    ///
    /// Besides the store's: [`ErrorKind::Ended`] if it has ended by now.
    pub(crate) async fn expires(&self, state: &mut State) -> Result<Option<u64>> {
        let (Some(key), Some(stored)) = (self.key(state), state.stored().filter(|_| state.goes_on().is_some())) else {
            return Ok(None);
        };
        let absolute_end = self.format.absolute_end(&stored.snapshot);
        let deadline = match stored.deadline {
            Some(deadline) => deadline,
            // It may have been moved, or left within the slack.
            None => {
                let found = self.find(&key, Access::WITH_EXPIRY).await?;
                let Found::Live(Stored { at, deadline, .. }) = self.or_expired(state, found) else {
                    return Err(Error::new(
                        ErrorKind::Ended,
                        "the session was ended by another request, or has expired",
                    ));
                };
                state.touched(at, deadline);
                deadline.unwrap_or(Deadline::NEVER)
            }
        };
        Ok(deadline.as_millis().into_iter().chain(absolute_end).min())
    }

    // Committing.

    /// Carries out the plan, and keeps the result in `state`.
    ///
    /// # Errors
    ///
    /// Besides the store's: [`ErrorKind::Ended`], [`ErrorKind::Insecure`] and
    /// [`ErrorKind::Closed`] if the plan is to save nothing.
    pub(crate) async fn commit(&self, state: &mut State) -> Result<()> {
        self.try_commit(state).await.map_err(Error::of_sessions)
    }

    async fn try_commit(&self, state: &mut State) -> Result<()> {
        let (action, mut cookie, head) = loop {
            match self.plan(state) {
                (Action::Load, ..) => self.load(state).await?,
                planned => break planned,
            }
        };
        if matches!(action, Action::Regenerate | Action::Replace | Action::Destroy)
            && let Some(id) = state.renewing().cloned()
        {
            // An earlier renewal is incomplete, and will not be tried again.
            state.set_renewing(None);
            self.discard_of(state.login().as_ref(), &self.format.storage_key(&id)).await;
        }
        match action {
            Action::Nothing | Action::Load => {}
            Action::Touch => self.touch(state).await?,
            Action::Create | Action::Regenerate | Action::Replace if state.signing_in().is_some() => {
                self.sign_in(state, action).await?;
            }
            Action::Create => self.create(state).await?,
            Action::Update => self.update(state, cookie).await?,
            Action::Resend => {
                if !self.note_cookie(state).await {
                    cookie = CookieAction::Keep;
                }
            }
            Action::Renew => {
                if !self.renew(state).await? {
                    // Another request was quicker. The second of two logins is a new session, as a late one is.
                    state.rebase()?;
                    if state.data() == Data::Same {
                        return Err(ended(state));
                    }
                    self.create(state).await?;
                }
            }
            Action::Regenerate => self.regenerate(state, false).await?,
            Action::Replace => self.regenerate(state, true).await?,
            Action::Destroy => {
                let ended = self.end(state, None, state.id_change() == IdChange::Destroy).await?;
                // Edits after the end would be a new session, which this response cannot announce.
                let is_withheld = state.data() == Data::Changed;
                match is_withheld {
                    true => state.leave(Origin::None),
                    false => state.done(true, cookie),
                }
                self.sign_out(ended).await;
                if is_withheld {
                    return Err(withheld(head));
                }
            }
            Action::Withhold => {
                if head == ResponseHead::Sent && state.id_change() != IdChange::Keep {
                    // No response is left that could give the client another id, and edits meant for that id must not
                    // be saved under the old one.
                    state.drop_changes();
                }
                return Err(withheld(head));
            }
            Action::Drop => return Err(ended(state)),
        }
        state.done(action == Action::Destroy, cookie);
        Ok(())
    }

    fn plan(&self, state: &State) -> (Action, CookieAction, ResponseHead) {
        let head = match state.is_closed() {
            true => ResponseHead::Sent,
            false if self.format.may_be_sent(state.goes_on(), state.scheme()) => ResponseHead::Open,
            false => ResponseHead::Insecure,
        };
        let max_age = state.changes().max_age;
        let rolls = !state.is_unattended() || max_age.is_some();
        let context = Context {
            touch_due: state.is_touch_due(),
            rolling: if rolls { self.format.rolling(state.goes_on(), max_age, self.now()) } else { Rolling::Never },
            takes_back: state.rules().takes_back,
            takes_dead: self.takes_dead(state),
            head,
        };
        let (action, cookie) = plan(state.origin(), state.data(), state.id_change(), context);
        (action, cookie, head)
    }

    /// Returns what becomes of the cookie of a session that has ended without another in its place.
    fn removal(&self, state: &State) -> CookieAction {
        if self.rules.takes_back && !state.is_closed() { CookieAction::Remove } else { CookieAction::Keep }
    }

    /// Returns whether a cookie of no session is taken back, if it is looked up soon.
    pub(crate) fn may_take_dead(&self, arrival: &Arrival) -> bool {
        match self.options.dead_cookie {
            DeadCookie::Keep => false,
            DeadCookie::RemoveOnNavigation => arrival.is_navigation,
            DeadCookie::Remove => true,
        }
    }

    fn takes_dead(&self, state: &State) -> bool {
        let came = state.came_at();
        came.is_some_and(|came| self.now().saturating_sub(came) <= DEAD_WITHIN.as_millis() as u64)
    }

    /// Saves the session because the handler asks for it, and notes whether a failed save may have been applied.
    pub(crate) async fn save_now(&self, state: &mut State) -> Result<()> {
        // What could not be looked up could not be changed either.
        if let Some(failure) = state.failure().cloned() {
            state.set_failure(None);
            state.end_save(LastSave::Failed);
            return Err(failure);
        }
        state.begin_save();
        let saved = self.commit(state).await;
        let failed = saved.as_ref().err().and_then(Error::store);
        let is_unknown = failed.is_some_and(|error| error.outcome() == Outcome::Unknown);
        state.end_save(match &saved {
            Ok(()) => LastSave::Done,
            Err(_) if is_unknown => LastSave::Uncertain,
            Err(_) => LastSave::Failed,
        });
        // Of what failed the handler is told by this.
        state.set_failure(None);
        if saved.as_ref().is_err_and(|error| error.kind() == ErrorKind::TooLarge) {
            // But not what was asked for the id.
            state.drop_edits();
        }
        saved
    }

    /// Does as [`close`](Self::close) where that needs no call of the store; otherwise nothing.
    pub(crate) fn close_at_once(&self, state: &mut State) -> Option<ResponseHeaders> {
        // Edits are compared with the record once, in `close`.
        if state.last_save() != LastSave::Done || state.has_changes() || state.failure().is_some() {
            return None;
        }
        let (action, cookie, _) = self.plan(state);
        if action != Action::Nothing {
            return None;
        }
        state.done(false, cookie);
        state.close();
        Some(self.headers(state))
    }

    /// Closes the session of a request one of whose tasks has panicked: what was not saved before is dropped, since it
    /// may be half of what was meant.
    pub(crate) fn close_after_panic(&self, state: &mut State) -> ResponseHeaders {
        if state.has_changes() {
            let peer = state.peer().map(display);
            warn!(session = ?state.public_id(), peer, "the edits of a request were dropped: a task that had the session panicked");
        }
        state.drop_changes();
        state.close();
        self.headers(state)
    }

    /// Saves what is left to save when the request ends, and says what the response has to carry.
    pub(crate) async fn close(&self, state: &mut State) -> Result<ResponseHeaders> {
        let (had_changes, last_save) = (state.has_changes(), state.last_save());
        let was_to_sign_in = state.signing_in().is_some();
        let saved = match (state.failure(), last_save) {
            // To look it up again would only fail again.
            (Some(failure), _) => Err(failure.clone().was_told()),
            (None, LastSave::Done) => self.commit(state).await,
            // The handler was told of the save that failed.
            (None, LastSave::Failed | LastSave::Uncertain) => Ok(()),
            (None, LastSave::UncertainAndMore) => Err(Error::new(
                ErrorKind::Uncertain,
                "nothing was saved: an earlier save may have been applied, and to save again might repeat it",
            )),
        };
        state.close();
        if saved.is_err() || last_save != LastSave::Done {
            state.drop_changes();
        }
        match saved {
            Ok(()) => Ok(self.headers(state)),
            // The session was used and not changed, so nothing is lost.
            Err(error) if error.kind() == ErrorKind::Ended && !had_changes => Ok(self.headers(state)),
            // The handler has returned, so only an event can tell.
            Err(error) if matches!(error.kind(), ErrorKind::Ended | ErrorKind::Insecure) && !was_to_sign_in => {
                let (session, peer) = (state.public_id(), state.peer().map(display));
                warn!(?session, peer, %error, "the edits of a request were dropped");
                Ok(self.headers(state))
            }
            Err(error) => {
                if !error.is_told() {
                    error.log(state.public_id(), state.peer());
                }
                Err(error.with_headers(ResponseHeaders::of_error(self.write_cookie(state))))
            }
        }
    }

    fn headers(&self, state: &State) -> ResponseHeaders {
        ResponseHeaders::new(state.is_used(), self.write_cookie(state))
    }

    /// Writes the cookie of the session as it is now.
    fn write_cookie(&self, state: &State) -> Option<SetCookie> {
        match (state.cookie(), state.id(), state.stored()) {
            (CookieAction::Send, Some(id), Some(stored)) => {
                Some(self.format.give(id, &stored.snapshot, state.scheme(), self.now()))
            }
            (CookieAction::Remove, ..) => Some(self.format.take_back(state.scheme())),
            _ => None,
        }
    }

    // The session goes on.

    /// Moves the deadline.
    async fn touch(&self, state: &mut State) -> Result<()> {
        if let (Some(key), Some(stored)) = (self.key(state), state.stored()) {
            let touch = self.format.touch(&stored.snapshot);
            match self.load_entry(&key, Access { touch, ..Access::PLAIN }).await {
                // What was read before is not read again.
                Ok(Some(entry)) if entry.revision == stored.revision => {
                    state.touched(self.now(), None);
                    return Ok(());
                }
                loaded => match self.read_entry(&key, touch, loaded).await? {
                    Some(Look { reading: Reading::Live(_), at, .. }) => {
                        state.touched(at, None);
                        return Ok(());
                    }
                    Some(Look { reading: Reading::Unreadable(error), .. }) => return Err(error),
                    None | Some(Look { reading: Reading::Over(_), .. }) if self.has_expired(stored) => {
                        state.caught_up(Found::Expired)?;
                    }
                    _ => {}
                },
            }
        }
        Err(ended(state))
    }

    /// Notes in the record that the cookie is sent again, and returns whether it is. Nothing depends on it: if another
    /// request saves meanwhile, or the store takes no writes, a later request sends it.
    async fn note_cookie(&self, state: &mut State) -> bool {
        let (Some(key), Some(revision)) = (self.key(state), state.revision()) else { return false };
        let Ok(next) = self.next(state, Save::UpdateAndSend) else { return false };
        match self.save(&key, &next, Condition::Revision(revision)).await {
            Ok(revision) => {
                state.saved(self.stored_now(next, revision));
                true
            }
            Err(error) => {
                debug!(session = %key, %error, "a cookie that is due is not sent again yet");
                false
            }
        }
    }

    /// Saves the changes over the state that was read; over a newer one, until it wins.
    async fn update(&self, state: &mut State, cookie: CookieAction) -> Result<()> {
        let Some(key) = self.key(state) else { return Err(ended(state)) };
        let save = if cookie == CookieAction::Send { Save::UpdateAndSend } else { Save::Update };
        let mut turn = self.queues.enter_if_occupied(key.public_id()).await?;
        let mut is_behind = turn.is_some();
        while let Some(revision) = state.revision() {
            if mem::take(&mut is_behind) {
                let left = turn.as_ref().and_then(Turn::take_left);
                let is_certain = left.is_none();
                let found = match left {
                    Some(stored) => Found::Live(stored),
                    None => self.find(&key, Access::of(state)).await?,
                };
                state.caught_up(self.or_expired(state, found))?;
                if state.origin() == Origin::Resumed && state.data() == Data::Same {
                    if is_certain {
                        return Ok(());
                    }
                    // Another process may have saved since: only the store tells that there is nothing to do.
                    is_behind = true;
                }
                continue;
            }
            let next = self.next(state, save)?;
            self.pace.wait(&key).await;
            // The pause is none of the turn's time. If the turn has passed on all the same, the condition decides.
            if let Some(turn) = &turn {
                turn.go_on();
            }
            let began = Instant::now();
            match self.save(&key, &next, Condition::Revision(revision)).await {
                Ok(revision) => {
                    self.pace.saved(&key, began.elapsed());
                    trace!(session = %key, rev = next.snapshot.data.rev(), "a session was saved");
                    let stored = self.stored_now(next, revision);
                    if let Some(turn) = turn {
                        turn.leave(stored.clone());
                    }
                    state.saved(stored);
                    return Ok(());
                }
                Err(error) if error.is_conflict() => {
                    self.take_turn(&key, &mut turn).await?;
                    is_behind = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(ended(state))
    }

    // Helpers.

    fn now_lazily(&self) -> impl Fn() -> u64 {
        || self.now()
    }

    fn collection(&self) -> &dyn Collection<SessionData> {
        &*self.options.collection
    }

    /// Returns where the record is stored.
    fn key(&self, state: &State) -> Option<StorageKey> {
        state.id().map(|id| self.format.storage_key(id))
    }

    /// Returns the record as it is to be saved, and until when.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooLarge`] if it would grow beyond what is allowed.
    fn next(&self, state: &State, save: Save) -> Result<Next> {
        let (base, now) = (state.base(), self.now());
        let snapshot = self.format.next(base, state.changes(), save, now)?;
        let (size, max) = (snapshot.data.size(), self.options.max_size);
        if size > max && size > base.data.size() + MAX_GROWTH {
            let message = format!("nothing was saved: the session would have {size} bytes, and may have {max}");
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        let deadline = state.stored().and_then(|stored| stored.deadline).filter(|_| state.is_unattended());
        let is_new_age = state.changes().max_age.is_some();
        let kept = match save {
            Save::Update | Save::UpdateAndSend if state.is_unattended() && !is_new_age => Some(Expiry::Keep),
            Save::Renewal => deadline.map(Expiry::from),
            _ => None,
        };
        let deadline = deadline.filter(|_| kept.is_some());
        let expiry = kept.unwrap_or_else(|| self.format.expiry(&snapshot, now));
        Ok(Next { snapshot, expiry, deadline })
    }

    async fn save(&self, key: &StorageKey, next: &Next, condition: Condition) -> sosa::Result<Revision> {
        let options = SaveOptions::new().expiry(next.expiry).condition(condition);
        self.outage
            .note_save(self.now_lazily(), self.collection().save_with(key.expose(), &next.snapshot.data, options).await)
    }

    fn stored_now(&self, next: Next, revision: Revision) -> Stored {
        Stored { snapshot: next.snapshot, revision, at: self.now(), deadline: next.deadline }
    }

    /// Tells a session that has expired since this request read or saved it from one that another request has ended.
    fn or_expired(&self, state: &State, found: Found) -> Found {
        match (found, state.stored()) {
            (Found::Nothing, Some(stored)) if self.has_expired(stored) => Found::Expired,
            (found, _) => found,
        }
    }

    fn has_expired(&self, stored: &Stored) -> bool {
        // A touch may have left the deadline within its slack.
        let slack = self.format.touch(&stored.snapshot).map_or(0, |touch| touch.slack.as_millis() as u64);
        let at_least = || {
            let expiry = self.format.expiry(&stored.snapshot, stored.at);
            expiry.deadline(stored.at.saturating_sub(slack))
        };
        stored.deadline.or_else(at_least).is_some_and(|deadline| deadline.is_past(self.now()))
    }

    // Turns.

    /// Waits for a turn, unless it is this request's: another has changed the session.
    async fn take_turn(&self, key: &StorageKey, turn: &mut Option<Turn<Stored>>) -> Result<()> {
        if !turn.as_ref().is_some_and(Turn::go_on) {
            // One that has passed on is given up first.
            drop(turn.take());
            *turn = Some(self.queues.enter(key.public_id()).await?);
        }
        Ok(())
    }

    /// Finds a session as whoever had the turn before has left it.
    async fn find_in_turn(&self, state: &State, key: &StorageKey, turn: Option<&Turn<Stored>>) -> Result<Found> {
        let access = Access::of(state);
        // Who had the turn before does not know when it expires by the store's clock.
        match turn.filter(|_| !access.with_expiry).and_then(Turn::take_left) {
            Some(stored) => Ok(Found::Live(stored)),
            None => self.find(key, access).await,
        }
    }
}

/// How a record is read.
#[derive(Clone, Copy)]
struct Access {
    touch: Option<Touch>,
    with_expiry: bool,
}

impl Access {
    const PLAIN: Self = Self { touch: None, with_expiry: false };
    const WITH_EXPIRY: Self = Self { touch: None, with_expiry: true };

    /// Returns how a request reads what it may save: one that is no use of the session must know the deadline that a
    /// renewal copies.
    fn of(state: &State) -> Self {
        if state.is_unattended() { Self::WITH_EXPIRY } else { Self::PLAIN }
    }
}

/// A record as it is to be saved, and until when.
struct Next {
    snapshot: Snapshot,
    expiry: Expiry,
    /// By the store's clock, if that is known: one that is kept, unless others move it.
    deadline: Option<Deadline>,
}

/// What is stored under a key.
struct Look {
    reading: Reading,
    /// None if the store could not decode it.
    revision: Option<Revision>,
    /// When it was read, in milliseconds since the Unix epoch.
    at: u64,
    /// When it expires, if that was asked for.
    deadline: Option<Deadline>,
}

/// Leaves a session that has ended without this request.
fn ended(state: &mut State) -> Error {
    state.leave(Origin::Ended);
    Error::new(
        ErrorKind::Ended,
        match state.has_expired() {
            true => "nothing was saved: the session has expired while its request was under way",
            false => "nothing was saved: the session was ended by another request",
        },
    )
}

fn withheld(head: ResponseHead) -> Error {
    match head {
        ResponseHead::Sent => Error::new(
            ErrorKind::Closed,
            "nothing was saved: the response is under way and can announce no new session",
        ),
        ResponseHead::Open | ResponseHead::Insecure => Error::new(
            ErrorKind::Insecure,
            "nothing was saved: the session cookie is Secure, and the request came over plain http; serve https, trust \
             the proxy that does, or use Secure::Auto or Secure::Never",
        ),
    }
}
