//! Sessions under new ids: created, regenerated and renewed.

use std::mem;

use sosa::{Condition, Outcome, Revision};
use tracing::debug;

use crate::error::{Error, Result};
use crate::format::Save;
use crate::id::{SessionId, StorageKey};
use crate::owners::Login;
use crate::plan::{CookieAction, Data, Origin};
use crate::state::{Found, State, Stored};

use super::{Access, Engine, Next, ended};

impl Engine {
    /// Saves a new record under a new id.
    pub(super) async fn create(&self, state: &mut State) -> Result<()> {
        let next = self.next(state, Save::Beginning(state.next_class()))?;
        let mut draft = self.draft(state.next_id()?);
        let made = self.save_draft(&mut draft, &next).await.map_err(Error::from);
        self.conclude(state, draft, next, made, "created").await
    }

    /// Starts a session under a new id: first the new record, then the end of the old one, or of all that the request
    /// came with.
    pub(super) async fn regenerate(&self, state: &mut State, all: bool) -> Result<()> {
        let next = match self.next(state, Save::Beginning(state.next_class())) {
            Ok(next) => next,
            Err(error) => {
                // An end is honoured even if what was to follow cannot be saved.
                let ended = self.end(state, None, all).await?;
                self.sign_out(ended).await;
                state.done(true, self.removal(state));
                return Err(error);
            }
        };
        let mut draft = self.draft(state.next_id()?);
        let mut signed_out = Vec::new();
        let started = match self.save_draft(&mut draft, &next).await {
            Ok(revision) => self.end(state, Some(&draft.key), all).await.map(|ended| {
                signed_out = ended;
                revision
            }),
            Err(error) => Err(error.into()),
        };
        self.conclude(state, draft, next, started, "regenerated").await?;
        // What follows may be dropped.
        state.done(false, CookieAction::Send);
        self.sign_out(signed_out).await;
        Ok(())
    }

    /// Goes on under the id of a draft that was made, or leaves nothing of it.
    async fn conclude(
        &self,
        state: &mut State,
        draft: Draft,
        next: Next,
        made: Result<Revision>,
        how: &str,
    ) -> Result<()> {
        match made {
            Ok(revision) => {
                debug!(session = %draft.key, "a session was {how}");
                state.moved_to(draft.id, self.stored_now(next, revision));
                Ok(())
            }
            Err(error) => {
                self.abandon(state, draft, None).await;
                Err(error)
            }
        }
    }

    /// Moves the session to a new id: first the new record, then the end of the old one. Returns false if another
    /// request did so first, and this one needs nothing of the session.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Ended`](crate::ErrorKind::Ended) if another request has ended the session.
    pub(super) async fn renew(&self, state: &mut State) -> Result<bool> {
        let (class, login) = (state.next_class(), state.login());
        let draft = match state.renewing().cloned() {
            Some(id) if id.class() == class => Draft { is_stored: IsStored::Maybe, ..self.draft(id) },
            other => {
                if let Some(id) = other {
                    // The next try is for another class.
                    self.settle_renewal(state, id).await?;
                }
                self.draft(SessionId::random(class)?)
            }
        };
        // Of a session that is signed in there is no second beginning: what comes second must know who it is.
        let mut renewal = Renewal { draft, may_have_ended: false, is_named: false, stands_alone: login.is_none() };
        // Before the first call: the future may be dropped, and the renewal asked for again.
        state.set_renewing(Some(renewal.draft.id.clone()));
        let renewed = self.try_renew(state, &mut renewal, login.as_ref()).await;
        let Renewal { draft, may_have_ended, is_named, stands_alone } = renewal;
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
                let remains = may_have_ended
                    || match draft.is_stored {
                        IsStored::At(_) | IsStored::Maybe => !self.discard_of(login.as_ref(), &draft.key).await,
                        IsStored::No => {
                            if let Some(login) = login.as_ref().filter(|_| is_named) {
                                self.take_out(login, draft.key.public_id()).await;
                            }
                            false
                        }
                        IsStored::Taken => false,
                    };
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

    /// Goes on with what an earlier try of this request has made, if that took the old record's place; else leaves nothing of
    /// it.
    async fn settle_renewal(&self, state: &mut State, id: SessionId) -> Result<()> {
        let (Some(old), new) = (self.key(state), self.format.storage_key(&id)) else { return Ok(()) };
        if !self.find(&old, Access::PLAIN).await?.is_renewed_as(new.public_id()) {
            self.discard_of(state.login().as_ref(), &new).await;
            return Ok(());
        }
        if let Found::Live(stored) = self.find(&new, Access::of(state)).await? {
            state.moved_to(id, stored);
            state.rebase()?;
        }
        Ok(())
    }

    /// Returns the new record; none if another request has ended the session first, or renewed it.
    async fn try_renew(
        &self,
        state: &mut State,
        renewal: &mut Renewal,
        login: Option<&Login>,
    ) -> Result<Option<Stored>> {
        let new = renewal.draft.key.public_id();
        let Some(old) = self.key(state) else { return Ok(None) };
        if renewal.draft.is_stored == IsStored::Maybe
            && let Some(revision) = state.revision()
        {
            // An earlier try may have succeeded.
            renewal.may_have_ended = true;
            let found = self.find(&old, Access::of(state)).await?;
            if found.is_renewed_as(new) {
                return self.adopt(state, &renewal.draft.key).await;
            }
            // The end that was sent may still arrive while the record has the revision that it is conditional on.
            renewal.may_have_ended = found.is_still(revision);
            if login.is_some() {
                // It may have been ended, and must not come back.
                renewal.draft.is_stored = match self.find(&renewal.draft.key, Access::PLAIN).await? {
                    Found::Live(stored) => IsStored::At(stored.revision),
                    _ => IsStored::No,
                };
            }
        }
        let begins = state.begins_in_class().then(|| Save::Beginning(renewal.draft.id.class()));
        let mut known = None;
        if let Some(login) = login {
            // What cannot be saved is not named.
            let lasts_until = self.next(state, begins.unwrap_or(Save::Renewal))?.snapshot.data.own().until;
            renewal.is_named = true;
            known = self.name_renewal(login, &old, new, lasts_until).await?;
            if known.is_none() {
                return Ok(None);
            }
        }
        let mut turn = self.queues.enter_if_occupied(old.public_id()).await?;
        // A renewal that is no use copies the deadline, which others may have moved since.
        let needs_deadline = state.is_unattended() && begins.is_none();
        if turn.is_some() || needs_deadline {
            renewal.stands_alone &= state.stands_alone();
            let found = self.find_in_turn(state, &old, turn.as_ref()).await?;
            state.caught_up(self.or_expired(state, found))?;
        }
        while let Some(revision) = state.revision() {
            renewal.stands_alone &= state.stands_alone();
            let next = self.next(state, begins.unwrap_or(Save::Renewal))?;
            let was_stored = renewal.draft.is_stored;
            let saved = match self.save_draft(&mut renewal.draft, &next).await {
                // The device was ended, and with it this.
                Err(error) if error.is_conflict() && was_stored != IsStored::No && login.is_some() => return Ok(None),
                saved => saved?,
            };
            if let Some(login) = login {
                let own = next.snapshot.data.own();
                let into = begins.map(|_| (own.class, own.until));
                if !self.confirm_renewal(login, old.public_id(), new, into, known.take()).await? {
                    return Ok(None);
                }
            }
            let before = mem::replace(&mut renewal.may_have_ended, true);
            let error = match self.end_as(&old, revision, Some(&renewal.draft.key)).await {
                Ok(()) => return Ok(Some(self.stored_now(next, saved))),
                Err(error) if error.is_conflict() || error.outcome() == Outcome::Unknown => error,
                Err(error) => {
                    renewal.may_have_ended = before;
                    return Err(error.into());
                }
            };
            let waited = if error.is_conflict() { self.take_turn(&old, &mut turn).await } else { Ok(()) };
            // Did this very call end it, and its answer got lost?
            let found = self.find_in_turn(state, &old, turn.as_ref()).await;
            if let Ok(found) = &found {
                if found.is_renewed_as(new) {
                    return Ok(Some(self.stored_now(next, saved)));
                }
                // It did not; it may still arrive if the record is as it was.
                renewal.may_have_ended = found.is_still(revision);
            }
            if !error.is_conflict() {
                return Err(error.into());
            }
            waited?;
            state.caught_up(self.or_expired(state, found?))?;
        }
        Ok(None)
    }

    /// Goes on with the record that an earlier try of this request has made, and saves the edits since.
    async fn adopt(&self, state: &mut State, new: &StorageKey) -> Result<Option<Stored>> {
        let Found::Live(stored) = self.find(new, Access::of(state)).await? else { return Ok(None) };
        let revision = stored.revision;
        state.saved(stored.clone());
        state.rebase()?;
        if state.data() == Data::Same {
            return Ok(Some(stored));
        }
        let next = self.next(state, Save::Update)?;
        let revision = self.save(new, &next, Condition::Revision(revision)).await?;
        Ok(Some(self.stored_now(next, revision)))
    }

    pub(super) fn draft(&self, id: SessionId) -> Draft {
        Draft { key: self.format.storage_key(&id), id, is_stored: IsStored::No }
    }

    pub(super) async fn save_draft(&self, draft: &mut Draft, next: &Next) -> sosa::Result<Revision> {
        let condition = match draft.is_stored {
            // Of one that is signed in: it may have been ended since, and must not come back.
            IsStored::At(revision) if next.snapshot.data.own().until > 0 => Condition::Revision(revision),
            IsStored::At(_) | IsStored::Maybe => Condition::Always,
            IsStored::No | IsStored::Taken => Condition::Absent,
        };
        let saved = self.save(&draft.key, next, condition).await;
        draft.is_stored = match &saved {
            Ok(revision) => IsStored::At(*revision),
            Err(error) if error.is_conflict() => IsStored::Taken,
            Err(error) if error.outcome() != Outcome::Unknown => draft.is_stored,
            Err(_) => IsStored::Maybe,
        };
        saved
    }

    /// Removes a record that no client was told of. An id under which nothing is stored is kept for the next try, since
    /// its public id may have been shown.
    pub(super) async fn abandon(&self, state: &mut State, draft: Draft, login: Option<Login>) {
        match draft.is_stored {
            IsStored::No => {
                if let Some(login) = login {
                    self.take_out(&login, draft.key.public_id()).await;
                }
                state.keep_for_next(draft.id);
            }
            IsStored::At(_) | IsStored::Maybe => drop(self.discard_of(login.as_ref(), &draft.key).await),
            IsStored::Taken => {}
        }
    }
}

/// A record under a new id, of which no client has been told.
pub(super) struct Draft {
    pub(super) id: SessionId,
    pub(super) key: StorageKey,
    pub(super) is_stored: IsStored,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum IsStored {
    No,
    /// It is, unless others have ended it since.
    At(Revision),
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
    /// The record of its owner may name the new one.
    is_named: bool,
    /// The edits replace everything that the session held whenever it was read.
    stands_alone: bool,
}
