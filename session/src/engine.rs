//! Loads, saves and ends sessions: the only file that awaits the store.
//!
//! [`plan`] decides what is to be done, [`State`] holds what is known and was asked for, and [`Format`] answers where
//! sessions of our own and of Express differ.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use sosa::{Collection, Condition, DestroyOptions, Entry, Expiry, LoadOptions, Outcome, Revision, SaveOptions};
use tracing::{debug, trace, warn};

use crate::data::SessionData;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{self, Format, Reading, Snapshot};
use crate::id::{SessionId, StorageKey};
use crate::options::SessionOptions;
use crate::plan::{Action, Context, CookieAction, Data, IdChange, Origin, ResponseHead, plan};
use crate::queue::{Queues, Turn};
use crate::set_cookie::SetCookie;
use crate::state::{Found, LastSave, State, Stored};

/// How many renewals an end follows: more than a client makes in half a minute.
const MAX_RENEWALS: usize = 64;

/// Carries out what is planned for sessions, over one collection.
#[derive(Debug)]
pub(crate) struct Engine {
    options: SessionOptions,
    format: Arc<dyn Format>,
    queues: Queues,
}

impl Engine {
    /// Takes options that have been checked.
    pub(crate) fn new(options: SessionOptions) -> Self {
        Self { format: format::of(&options), options, queues: Queues::default() }
    }

    pub(crate) fn options(&self) -> &SessionOptions {
        &self.options
    }

    pub(crate) fn format(&self) -> &dyn Format {
        &*self.format
    }

    pub(crate) fn now(&self) -> u64 {
        self.options.clock.now_millis()
    }

    // Loading.

    /// Looks the session up, unless that was done, and touches it in the same step.
    ///
    /// # Errors
    ///
    /// Besides the store's: [`Decode`](sosa::ErrorKind::Decode) of the store if the record cannot be read, with the
    /// origin [`Unreadable`](Origin::Unreadable).
    pub(crate) async fn load(&self, state: &mut State) -> Result<()> {
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
    pub(crate) fn start_over(&self, state: &mut State, id_change: IdChange) {
        state.start_over(id_change);
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
            match self.find(&key, self.format.touch_on_load()).await {
                Ok(Found::Live(stored)) => {
                    state.found(index, stored);
                    return Ok(());
                }
                Ok(Found::Renewed(_)) if best.1 == Origin::Unknown => best = (index, Origin::Ended),
                Ok(Found::Renewed(_) | Found::Nothing) => {}
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
    async fn find(&self, key: &StorageKey, touch: Option<Duration>) -> Result<Found> {
        let Some((reading, revision)) = self.read(key, touch).await? else {
            debug!(session = %key, "a request came with the id of no session");
            return Ok(Found::Nothing);
        };
        if let Some(revision) = revision.filter(|_| reading.is_spent()) {
            self.destroy_if_still(key, revision).await?;
        }
        match (reading, revision) {
            (Reading::Live(snapshot), Some(revision)) => {
                trace!(session = %key, rev = snapshot.data.rev(), "a session was loaded");
                Ok(Found::Live(Stored { snapshot, revision }))
            }
            (Reading::Renewed { renewed_as, .. }, _) => Ok(Found::Renewed(renewed_as)),
            (Reading::Over, _) => {
                debug!(session = %key, "a session reached the end of its absolute lifetime");
                Ok(Found::Nothing)
            }
            (Reading::Unreadable(error), _) => Err(error),
            (Reading::Live(_), None) => unreachable!("what the store has decoded has a revision"),
        }
    }

    /// Reads what is stored under a key, and its revision, which what the store cannot decode does not have.
    async fn read(&self, key: &StorageKey, touch: Option<Duration>) -> Result<Option<(Reading, Option<Revision>)>> {
        let loaded = self.load_entry(key, touch).await;
        self.read_entry(key, touch, loaded).await
    }

    async fn load_entry(&self, key: &StorageKey, touch: Option<Duration>) -> sosa::Result<Option<Entry<SessionData>>> {
        let mut options = LoadOptions::new();
        options.touch = touch;
        self.collection().load_with(key.expose(), options).await
    }

    async fn read_entry(
        &self,
        key: &StorageKey,
        touch: Option<Duration>,
        loaded: sosa::Result<Option<Entry<SessionData>>>,
    ) -> Result<Option<(Reading, Option<Revision>)>> {
        let found = match loaded {
            Ok(None) => return Ok(None),
            Ok(Some(entry)) => (self.format.read(entry.value, self.now()), Some(entry.revision)),
            Err(error) if error.kind() == sosa::ErrorKind::Decode => (Reading::Unreadable(error.into()), None),
            Err(error) => return Err(error.into()),
        };
        // The touch has prolonged a record that is to be forgotten.
        if let Some((touch, left)) = touch.zip(self.format.kept_for(&found.0))
            && touch > left
        {
            let options = LoadOptions::new().touch(left).without_revision();
            match self.collection().load_with(key.expose(), options).await {
                Err(error) if error.kind() != sosa::ErrorKind::Decode => return Err(error.into()),
                _ => {}
            }
        }
        Ok(Some(found))
    }

    // Committing.

    /// Carries out the plan, and keeps the result in `state`.
    ///
    /// # Errors
    ///
    /// Besides the store's: [`ErrorKind::Ended`], [`ErrorKind::Insecure`] and
    /// [`ErrorKind::Closed`] if the plan is to save nothing.
    pub(crate) async fn commit(&self, state: &mut State) -> Result<()> {
        let (action, cookie, head) = loop {
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
            self.discard(&self.format.storage_key(&id)).await;
        }
        match action {
            Action::Nothing | Action::Load => {}
            Action::Touch => self.touch(state).await?,
            Action::Create => self.create(state).await?,
            Action::Update => self.update(state).await?,
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
                self.end(state, None, state.id_change() == IdChange::Destroy).await?;
                // Edits after the end would be a new session, which this response cannot announce.
                if state.data() == Data::Changed {
                    state.leave(Origin::None);
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
        let context = Context {
            touch_due: state.is_touch_due(),
            rolling: self.format.rolling(state.goes_on(), state.changes().max_age),
            takes_back: state.rules().takes_back,
            head,
        };
        let (action, cookie) = plan(state.origin(), state.data(), state.id_change(), context);
        (action, cookie, head)
    }

    /// Saves the session because the handler asks for it, and notes whether a failed save may have been applied.
    pub(crate) async fn save_now(&self, state: &mut State) -> Result<()> {
        state.begin_save();
        let saved = self.commit(state).await;
        let failed = saved.as_ref().err().and_then(Error::store);
        let is_unknown = failed.is_some_and(|error| error.outcome() == Outcome::Unknown);
        state.end_save(if is_unknown { LastSave::Uncertain } else { LastSave::Known });
        saved
    }

    /// Does as [`close`](Self::close) where that needs no call of the store; otherwise nothing.
    pub(crate) fn close_at_once(&self, state: &mut State) -> Option<Option<SetCookie>> {
        // Edits are compared with the record once, in `close`.
        if state.last_save() != LastSave::Known || state.has_changes() {
            return None;
        }
        let (action, cookie, _) = self.plan(state);
        if action != Action::Nothing {
            return None;
        }
        state.done(false, cookie);
        state.close();
        Some(self.write_cookie(state))
    }

    /// Saves what is left to save when the request ends, and says what the response's cookie does.
    pub(crate) async fn close(&self, state: &mut State) -> Result<Option<SetCookie>> {
        let (had_changes, last_save) = (state.has_changes(), state.last_save());
        let saved = match last_save {
            LastSave::Known => self.commit(state).await,
            // The handler was told of the save that failed.
            LastSave::Uncertain => Ok(()),
            LastSave::UncertainAndMore => Err(Error::new(
                ErrorKind::Uncertain,
                "nothing was saved: an earlier save may have been applied, and to save again might repeat it",
            )),
        };
        state.close();
        let public_id = state.public_id();
        if saved.is_err() || last_save != LastSave::Known {
            state.drop_changes();
        }
        match saved {
            Ok(()) => {}
            // The session was used and not changed, so nothing is lost.
            Err(error) if error.kind() == ErrorKind::Ended && !had_changes => {}
            // The handler has returned, so only an event can tell.
            Err(error) if matches!(error.kind(), ErrorKind::Ended | ErrorKind::Insecure) => {
                warn!(session = ?public_id, %error, "the edits of a request were dropped");
            }
            Err(error) => {
                let cause = error.store().map(tracing::field::display);
                warn!(session = ?public_id, %error, cause, "a session was not saved");
                return Err(error.with_cookie(self.write_cookie(state)));
            }
        }
        Ok(self.write_cookie(state))
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
        if let (Some((key, revision)), Some(stored)) = (self.stored(state), state.stored()) {
            let touch = self.format.touch(&stored.snapshot);
            match self.load_entry(&key, touch).await {
                // What was read before is not read again.
                Ok(Some(entry)) if entry.revision == revision => return Ok(()),
                loaded => {
                    if let Some((Reading::Live(_), _)) = self.read_entry(&key, touch, loaded).await? {
                        return Ok(());
                    }
                }
            }
        }
        Err(ended(state))
    }

    /// Saves the changes over the state that was read; over a newer one, until it wins.
    async fn update(&self, state: &mut State) -> Result<()> {
        let mut turn = None;
        while let Some((key, revision)) = self.stored(state) {
            let snapshot = self.next(state, false)?;
            match self.save(&key, &snapshot, Condition::Revision(revision)).await {
                Ok(revision) => {
                    trace!(session = %key, rev = snapshot.data.rev(), "a session was saved");
                    state.saved(Stored { snapshot, revision });
                    return Ok(());
                }
                Err(error) if error.is_conflict() => self.take_turn(&key, &mut turn).await,
                Err(error) => return Err(error.into()),
            }
            state.caught_up(self.find(&key, None).await?)?;
            if state.origin() == Origin::Resumed && state.data() == Data::Same {
                return Ok(());
            }
        }
        Err(ended(state))
    }

    // The session gets another id.

    /// Saves a new record under a new id.
    async fn create(&self, state: &mut State) -> Result<()> {
        let snapshot = self.next(state, true)?;
        let mut draft = self.draft(state.next_id()?);
        match self.save_draft(&mut draft, &snapshot).await {
            Ok(revision) => {
                debug!(session = %draft.key, "a session was created");
                state.moved_to(draft.id, Stored { snapshot, revision });
                Ok(())
            }
            Err(error) => {
                self.abandon(state, draft).await;
                Err(error.into())
            }
        }
    }

    /// Starts a session under a new id: first the new record, then the end of the old one, or of all that the request
    /// came with.
    async fn regenerate(&self, state: &mut State, all: bool) -> Result<()> {
        let snapshot = self.next(state, true)?;
        let mut draft = self.draft(state.next_id()?);
        let started = match self.save_draft(&mut draft, &snapshot).await {
            Ok(revision) => self.end(state, Some(&draft.key), all).await.map(|()| revision),
            Err(error) => Err(error.into()),
        };
        match started {
            Ok(revision) => {
                debug!(session = %draft.key, "a session was regenerated");
                state.moved_to(draft.id, Stored { snapshot, revision });
                Ok(())
            }
            Err(error) => {
                self.abandon(state, draft).await;
                Err(error)
            }
        }
    }

    /// Moves the session to a new id: first the new record, then the end of the old one. Returns false if another
    /// request did so first, and this one needs nothing of the session.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Ended`] if another request has ended the session.
    async fn renew(&self, state: &mut State) -> Result<bool> {
        let draft = match state.renewing() {
            Some(id) => Draft { is_stored: IsStored::Maybe, ..self.draft(id.clone()) },
            None => self.draft(SessionId::random()?),
        };
        let mut renewal = Renewal { draft, may_have_ended: false, stands_alone: true };
        // Before the first call: the future may be dropped, and the renewal asked for again.
        state.set_renewing(Some(renewal.draft.id.clone()));
        let renewed = self.try_renew(state, &mut renewal).await;
        let Renewal { draft, may_have_ended, stands_alone } = renewal;
        match renewed {
            Ok(Some(stored)) => {
                debug!(old = ?state.public_id(), new = %draft.key, "a session was renewed");
                state.moved_to(draft.id, stored);
                Ok(true)
            }
            other => {
                // The client never hears of the new record unless the renewal is tried again. It stays until it
                // expires only if it may be all that is left of the session. With Express nothing tells who ended the
                // old one, and a session that another request ended must not come back.
                let remains = may_have_ended || (draft.is_stored == IsStored::Maybe && !self.discard(&draft.key).await);
                state.set_renewing(Some(draft.id).filter(|_| remains));
                match other {
                    Err(error) => Err(error),
                    // The new session must not lack anything that this one was to keep, such as a limit on it.
                    Ok(_) if state.origin() == Origin::Ended && stands_alone => Ok(false),
                    Ok(_) => Err(ended(state)),
                }
            }
        }
    }

    /// Returns the new record; none if another request has ended the session first, or renewed it.
    async fn try_renew(&self, state: &mut State, renewal: &mut Renewal) -> Result<Option<Stored>> {
        let new = renewal.draft.key.public_id();
        if renewal.draft.is_stored == IsStored::Maybe
            && let Some((old, revision)) = self.stored(state)
        {
            // An earlier try may have succeeded.
            renewal.may_have_ended = true;
            let found = self.find(&old, None).await?;
            if found.is_renewed_as(new) {
                return self.adopt(state, &renewal.draft.key).await;
            }
            // The end that was sent may still arrive while the record has the revision that it is conditional on.
            renewal.may_have_ended = found.is_still(revision);
        }
        let mut turn = None;
        while let Some((old, revision)) = self.stored(state) {
            renewal.stands_alone &= state.stands_alone();
            let snapshot = self.next(state, false)?;
            let saved = self.save_draft(&mut renewal.draft, &snapshot).await?;
            let before = mem::replace(&mut renewal.may_have_ended, true);
            let error = match self.end_as(&old, revision, Some(&renewal.draft.key)).await {
                Ok(()) => return Ok(Some(Stored { snapshot, revision: saved })),
                Err(error) if error.is_conflict() || error.outcome() == Outcome::Unknown => error,
                Err(error) => {
                    renewal.may_have_ended = before;
                    return Err(error.into());
                }
            };
            if error.is_conflict() {
                self.take_turn(&old, &mut turn).await;
            }
            // Did this very call end it, and its answer got lost?
            let found = self.find(&old, None).await;
            if let Ok(found) = &found {
                if found.is_renewed_as(new) {
                    return Ok(Some(Stored { snapshot, revision: saved }));
                }
                // It did not; it may still arrive if the record is as it was.
                renewal.may_have_ended = found.is_still(revision);
            }
            if !error.is_conflict() {
                return Err(error.into());
            }
            state.caught_up(found?)?;
        }
        Ok(None)
    }

    /// Goes on with the record that an earlier try of this request has made, and saves the edits since.
    async fn adopt(&self, state: &mut State, new: &StorageKey) -> Result<Option<Stored>> {
        let Found::Live(stored) = self.find(new, None).await? else { return Ok(None) };
        let revision = stored.revision;
        state.saved(stored.clone());
        state.rebase()?;
        if state.data() == Data::Same {
            return Ok(Some(stored));
        }
        let snapshot = self.next(state, false)?;
        let revision = self.save(new, &snapshot, Condition::Revision(revision)).await?;
        Ok(Some(Stored { snapshot, revision }))
    }

    fn draft(&self, id: SessionId) -> Draft {
        Draft { key: self.format.storage_key(&id), id, is_stored: IsStored::No }
    }

    async fn save_draft(&self, draft: &mut Draft, snapshot: &Snapshot) -> sosa::Result<Revision> {
        let condition = if draft.is_stored == IsStored::Maybe { Condition::Always } else { Condition::Absent };
        let saved = self.save(&draft.key, snapshot, condition).await;
        draft.is_stored = match &saved {
            Err(error) if error.is_conflict() => IsStored::Taken,
            Err(error) if error.outcome() != Outcome::Unknown => draft.is_stored,
            _ => IsStored::Maybe,
        };
        saved
    }

    /// Removes a record that no client was told of. An id under which nothing is stored is kept for the next try, since
    /// its public id may have been shown.
    async fn abandon(&self, state: &mut State, draft: Draft) {
        match draft.is_stored {
            IsStored::No => state.keep_for_next(draft.id),
            IsStored::Maybe => drop(self.discard(&draft.key).await),
            IsStored::Taken => {}
        }
    }

    /// Removes a record that no client was told of, and returns whether it is gone. If not, it expires by itself.
    async fn discard(&self, key: &StorageKey) -> bool {
        let discarded = self.collection().destroy(key.expose()).await;
        if let Err(error) = &discarded {
            warn!(session = %key, %error, "a session that was never announced stays until it expires");
        }
        discarded.is_ok()
    }

    // The session ends.

    /// Ends the session, even if it changes concurrently: for good, or with a marker that says where it goes on. With
    /// `all`, a session that was renewed ends under its new id, and so do the sessions of all other ids that the
    /// request came with.
    async fn end(&self, state: &State, renewed_as: Option<&StorageKey>, all: bool) -> Result<()> {
        if let Some(id) = state.id() {
            let read = state.stored().map(|stored| stored.revision);
            self.end_at(self.format.storage_key(id), read, renewed_as, all).await?;
        }
        for other in state.others().iter().filter(|_| all) {
            self.end_at(self.format.storage_key(other), None, renewed_as, true).await?;
        }
        Ok(())
    }

    async fn end_at(
        &self,
        mut key: StorageKey,
        mut read: Option<Revision>,
        renewed_as: Option<&StorageKey>,
        follow: bool,
    ) -> Result<()> {
        let (mut turn, mut passed) = (None, Vec::new());
        loop {
            let revision = match read.take() {
                Some(revision) => revision,
                None => match self.read(&key, None).await? {
                    None => return Ok(()),
                    Some((Reading::Renewed { renewed_as, .. }, _)) => {
                        match renewed_as.filter(|_| follow) {
                            Some(_) if passed.len() == MAX_RENEWALS => {
                                return Err(Error::no_session("it was renewed too often to be found"));
                            }
                            // Markers that lead round lead to no session.
                            Some(next) if !passed.contains(&next) => {
                                passed.push(next);
                                key = StorageKey::Hashed(next);
                            }
                            _ => return Ok(()),
                        }
                        continue;
                    }
                    Some((_, Some(revision))) => revision,
                    Some((_, None)) => return Ok(self.end_unread(&key, renewed_as).await?),
                },
            };
            match self.end_as(&key, revision, renewed_as).await {
                Ok(()) => {
                    debug!(session = %key, "a session was ended");
                    return Ok(());
                }
                // Another request has changed, renewed or ended it: load it again, in turn.
                Err(error) if error.is_conflict() => self.take_turn(&key, &mut turn).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Ends a record on condition of its revision, in one step: destroys it, or replaces it by a marker.
    async fn end_as(&self, key: &StorageKey, read: Revision, renewed_as: Option<&StorageKey>) -> sosa::Result<()> {
        match self.marker(renewed_as) {
            None => {
                let read = DestroyOptions::new().revision(read);
                self.collection().destroy_with(key.expose(), read).await.map(drop)
            }
            Some(marker) => self.mark(key, marker, Condition::Revision(read)).await,
        }
    }

    /// Ends a record that the store cannot decode, and which so has no revision.
    async fn end_unread(&self, key: &StorageKey, renewed_as: Option<&StorageKey>) -> sosa::Result<()> {
        match self.marker(renewed_as) {
            None => self.collection().destroy(key.expose()).await.map(drop),
            Some(marker) => match self.mark(key, marker, Condition::Present).await {
                // It has expired meanwhile.
                Err(error) if error.is_conflict() => Ok(()),
                marked => marked,
            },
        }
    }

    fn marker(&self, renewed_as: Option<&StorageKey>) -> Option<(SessionData, Duration)> {
        self.format.marker(renewed_as?.public_id(), self.now())
    }

    async fn mark(&self, key: &StorageKey, marker: (SessionData, Duration), on: Condition) -> sosa::Result<()> {
        let (data, kept_for) = marker;
        let options = SaveOptions::new().expiry(Expiry::After(kept_for)).condition(on).without_revision();
        self.collection().save_with(key.expose(), &data, options).await.map(drop)
    }

    async fn destroy_if_still(&self, key: &StorageKey, revision: Revision) -> Result<()> {
        match self.end_as(key, revision, None).await {
            Err(error) if !error.is_conflict() => Err(error.into()),
            _ => Ok(()),
        }
    }

    // Helpers.

    fn collection(&self) -> &dyn Collection<SessionData> {
        &*self.options.collection
    }

    /// Returns where the record is stored, and the revision that was read or saved last.
    fn stored(&self, state: &State) -> Option<(StorageKey, Revision)> {
        Some((self.format.storage_key(state.id()?), state.stored()?.revision))
    }

    /// Returns the record as it is to be saved.
    fn next(&self, state: &State, is_new: bool) -> Result<Snapshot> {
        self.format.next(state.base(), state.changes(), is_new, self.now())
    }

    async fn save(&self, key: &StorageKey, snapshot: &Snapshot, condition: Condition) -> sosa::Result<Revision> {
        let options = SaveOptions::new().expiry(self.format.expiry(snapshot, self.now())).condition(condition);
        self.collection().save_with(key.expose(), &snapshot.data, options).await
    }

    /// Waits for a turn in the session's queue, once.
    async fn take_turn(&self, key: &StorageKey, turn: &mut Option<Turn>) {
        if turn.is_none() {
            *turn = Some(self.queues.enter(key.public_id()).await);
        }
    }
}

/// A record under a new id, of which no client has been told.
struct Draft {
    id: SessionId,
    key: StorageKey,
    is_stored: IsStored,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum IsStored {
    No,
    /// It may be, by this try or an earlier one.
    Maybe,
    /// Another record is.
    Taken,
}

/// How far a renewal has come.
struct Renewal {
    draft: Draft,
    /// The old record may have been ended by it.
    may_have_ended: bool,
    /// The edits replace everything that the session held whenever it was read.
    stands_alone: bool,
}

/// Leaves a session that another request has ended.
fn ended(state: &mut State) -> Error {
    state.leave(Origin::Ended);
    Error::new(ErrorKind::Ended, "nothing was saved: the session was ended by another request")
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
