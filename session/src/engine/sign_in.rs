//! Sign-ins: a new session that its owner's record names before any client hears of it.

use tracing::{debug, warn};

use crate::error::{Error, ErrorKind, Result};
use crate::format::Save;
use crate::id::PublicId;
use crate::owners::{Begun, Change, Confirmed, DeviceKey, Entry, Login};
use crate::plan::{Action, CookieAction, IdChange};
use crate::state::{SigningIn, State};

use super::end::Ended;
use super::owners::{Update, Updated};
use super::owners_store::Known;
use super::renewal::Draft;
use super::{Engine, Next, Revision};

/// A sign-in under way.
struct SignIn {
    login: Login,
    entry: Entry,
    /// The device that the session is of by now, if that is the same owner's.
    replaces: Option<DeviceKey>,
    draft: Draft,
    next: Next,
    /// The owner's record names it.
    is_named: bool,
}

/// What is left to do when the client may be told of a sign-in.
struct Rest {
    known: Known,
    /// Whose sessions it has ended.
    ended: Vec<Ended>,
}

impl Engine {
    /// Signs the session in, in the place of the one that there is.
    ///
    /// # Errors
    ///
    /// Besides the stores': [`ErrorKind::TooManyDevices`], and [`ErrorKind::Ended`] if the sign-in was ended under way. The
    /// session then stays as it was.
    pub(super) async fn sign_in(&self, state: &mut State, action: Action) -> Result<()> {
        let Some(SigningIn { login, label, .. }) = state.signing_in().cloned() else { return Ok(()) };
        let next = match self.next(state, Save::Beginning(state.next_class())) {
            Ok(next) => next,
            Err(error) => {
                self.leave_if_asked(state).await?;
                return Err(error);
            }
        };
        let draft = self.draft(state.next_id()?);
        let own = next.snapshot.data.own();
        let times = (own.created, own.until);
        let entry = Entry::new(login.key, draft.key.public_id(), next.snapshot.class, &label, times);
        let before = state.login().filter(|before| before.owner == login.owner && before.key != login.key);
        let replaces = before.map(|before| before.key);
        let mut sign_in = SignIn { login, entry, replaces, draft, next, is_named: false };
        let signed_in = self.try_sign_in(state, &mut sign_in, action).await;
        let SignIn { login, draft, next, is_named, .. } = sign_in;
        match signed_in {
            Ok((revision, rest)) => {
                debug!(session = %draft.key, device = %login.key, "a session was signed in");
                state.moved_to(draft.id, self.stored_now(next, revision));
                // What follows may be dropped, and must not make the client's session another one.
                state.done(false, CookieAction::Send);
                self.finish_sign_in(&login, replaces, rest).await;
                Ok(())
            }
            Err(error) => {
                self.abandon(state, draft, Some(login).filter(|_| is_named)).await;
                if matches!(error.kind(), ErrorKind::Ended | ErrorKind::TooManyDevices) {
                    self.leave_if_asked(state).await?;
                    // To try again would be another sign-in.
                    state.drop_changes();
                }
                Err(error)
            }
        }
    }

    /// Honours an end that was asked for before the sign-in, which came to nothing.
    async fn leave_if_asked(&self, state: &mut State) -> Result<()> {
        if state.id_change() == IdChange::Destroy {
            let ended = self.end(state, None, true).await?;
            state.done(true, self.removal(state));
            self.sign_out(ended).await;
        }
        Ok(())
    }

    async fn try_sign_in(&self, state: &State, sign_in: &mut SignIn, action: Action) -> Result<(Revision, Rest)> {
        let ended =
            || Error::new(ErrorKind::Ended, "nobody was signed in: the sign-in was ended while it was under way");
        let (begun, known, evicted) = self.begin(sign_in).await?;
        match begun {
            Begun::Done | Begun::Already => sign_in.is_named = true,
            Begun::Ended => return Err(ended()),
            Begun::Full => {
                let why = "nobody was signed in: the owner has as many sign-ins as there may be";
                return Err(Error::new(ErrorKind::TooManyDevices, why));
            }
        }
        let owner = sign_in.login.owner.clone();
        // Before the new session is made, so that there are never more than there may be.
        self.finish(&owner, &evicted).await?;
        let revision = self.save_draft(&mut sign_in.draft, &sign_in.next).await?;
        let known = self.confirm_sign_in(sign_in, &evicted, known).await?.ok_or_else(ended)?;
        let ended = match action {
            // There is nothing to end.
            Action::Create => Vec::new(),
            _ => self.end(state, Some(&sign_in.draft.key), action == Action::Replace).await?,
        };
        Ok((revision, Rest { known, ended }))
    }

    /// Names the session before it is made. Returns the record, and what is to be ended in favour of it.
    async fn begin(&self, sign_in: &SignIn) -> Result<(Begun, Known, Vec<Entry>)> {
        let SignIn { login, entry, replaces, .. } = sign_in;
        let cap = self.owners()?.cap;
        let update = Update { lasts_until: entry.until, replaces_unreadable: true, ..Update::default() };
        let begun = self.update_owner(&login.owner, update, |record, seen| {
            match &seen.there {
                // Devices whose sessions are gone make room.
                None if record.is_full(cap.max, *replaces) => return Change::Look,
                Some(there) => record.prune(there, self.now()),
                None => {}
            }
            // What an earlier try has evicted may be there still.
            let is_retry = record.entries.iter().any(|entry| entry.key == login.key);
            let before = if is_retry { 0 } else { record.ending.len() };
            match record.begin(entry.clone(), *replaces, cap) {
                begun @ Begun::Done => Change::Save((begun, before)),
                begun => Change::Keep((begun, before)),
            }
        });
        let Updated { result: (begun, before), known, .. } = begun.await?;
        let evicted = known.record.ending[before..].to_vec();
        Ok((begun, known, evicted))
    }

    /// Confirms the session before the client hears of it, and drops what was ended. Returns the record; none if the sign-in was
    /// ended.
    async fn confirm_sign_in(&self, sign_in: &SignIn, evicted: &[Entry], known: Known) -> Result<Option<Known>> {
        let SignIn { login, replaces, draft, .. } = sign_in;
        let id: PublicId = draft.key.public_id();
        let update = Update { known: Some(known), ..Update::default() };
        let confirmed = self.update_owner(&login.owner, update, |record, _| {
            let confirmed = record.confirm(login.key, id, None);
            if confirmed == Confirmed::Gone {
                return Change::Keep(confirmed);
            }
            let is_dropped = record.drop_ended(evicted);
            let replaced = record.move_to_ending(|entry| Some(entry.key) == *replaces);
            let changes = is_dropped || replaced > 0 || confirmed == Confirmed::Done;
            if changes { Change::Save(confirmed) } else { Change::Keep(confirmed) }
        });
        let confirmed = confirmed.await?;
        Ok(Some(confirmed.known).filter(|_| confirmed.result != Confirmed::Gone))
    }

    /// Ends what the sign-in has replaced. If that fails, whoever asks for the owner's devices next does it.
    async fn finish_sign_in(&self, login: &Login, replaces: Option<DeviceKey>, Rest { known, ended }: Rest) {
        let ending = known.record.ending.clone();
        match self.finish(&login.owner, &ending).await {
            Ok(()) => self.drop_ended(&login.owner, &ending, known).await,
            Err(error) => warn!(device = %login.key, %error, "what a sign-in has replaced is to be ended still"),
        }
        let is_replaced = |ended: &Ended| ended.login.owner == login.owner && Some(ended.login.key) == replaces;
        self.sign_out(ended.into_iter().filter(|ended| !is_replaced(ended)).collect()).await;
    }
}
