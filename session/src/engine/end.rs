//! The ends of sessions, which nothing stops: neither other requests nor what cannot be read.

use std::time::Duration;

use sosa::{Condition, DestroyOptions, Expiry, Revision, SaveOptions};
use tracing::{debug, warn};

use crate::class::Class;
use crate::data::SessionData;
use crate::error::{Error, Result};
use crate::format::Reading;
use crate::id::{PublicId, StorageKey};
use crate::owners::Login;
use crate::queue::Turn;
use crate::state::{State, Stored};

use super::{Access, Engine, Look};

/// How many renewals an end follows: more than a client makes in half a minute.
const MAX_RENEWALS: usize = 64;

/// How often the end of a device's session is refused since others change it, before it is no longer conditional.
const MAX_CONFLICTS: usize = 8;

/// How a session ends.
#[derive(Clone, Copy)]
pub(super) struct End<'a> {
    /// What has been made in its place, to which a marker leads.
    pub(super) renewed_as: Option<&'a StorageKey>,
    pub(super) follow: Follow<'a>,
}

/// A session that was ended, by which somebody was signed in.
pub(super) struct Ended {
    pub(super) login: Login,
    pub(super) session: PublicId,
}

/// Whether a session that was renewed ends under its new id.
#[derive(Clone, Copy)]
pub(super) enum Follow<'a> {
    No,
    Yes,
    /// It does if that is of this sign-in, which admits of no more renewals.
    Of(&'a Login),
}

impl Engine {
    /// Ends the session, even if it changes concurrently: for good, or with a marker that says where it goes on. With
    /// `all`, a session that was renewed ends under its new id, and so do the sessions of all other ids that the
    /// request came with. Returns who was signed in by them.
    pub(super) async fn end(&self, state: &State, renewed_as: Option<&StorageKey>, all: bool) -> Result<Vec<Ended>> {
        let mut signed_in: Vec<Ended> = Vec::new();
        if let Some(id) = state.id() {
            // Even if it is renewed by now, and nothing tells any more as what: its owner's record does.
            signed_in.extend(state.login().map(|login| Ended { login, session: id.public_id() }));
            let end = End { renewed_as, follow: if all { Follow::Yes } else { Follow::No } };
            let ended = self.end_at(self.format.storage_key(id), state.stored(), end).await?;
            signed_in.extend(ended.filter(|ended| state.login().as_ref() != Some(&ended.login)));
        }
        for other in state.others().iter().filter(|_| all) {
            let end = End { renewed_as, follow: Follow::Yes };
            signed_in.extend(self.end_at(self.format.storage_key(other), None, end).await?);
        }
        Ok(signed_in)
    }

    /// Ends what is stored under a key, and returns who was signed in by it. What was read of it before, if anything, spares
    /// a look.
    pub(super) async fn end_at(
        &self,
        mut key: StorageKey,
        read: Option<&Stored>,
        End { renewed_as, follow }: End<'_>,
    ) -> Result<Option<Ended>> {
        // What has just been made in its place is no end to follow.
        let mut passed: Vec<_> = renewed_as.iter().map(|new| new.public_id()).collect();
        // An end is never refused for the crowd: whoever waits too long ends the session out of turn.
        let mut turn = self.queues.enter_if_occupied(key.public_id()).await.unwrap_or_default();
        let mut is_patient = true;
        let (mut is_first, mut conflicts) = (true, 0);
        let mut read = read.filter(|_| turn.is_none()).cloned();
        loop {
            let left = turn.as_ref().and_then(Turn::take_left);
            let (revision, login) = match read.take().or(left) {
                Some(stored) => (stored.revision, stored.snapshot.data.login()),
                None => match self.read(&key, Access::PLAIN).await? {
                    None => return Ok(None),
                    Some(Look { reading: Reading::Renewed { renewed_as: next, .. }, .. }) => {
                        match next.filter(|_| !matches!(follow, Follow::No)) {
                            Some(_) if passed.len() > MAX_RENEWALS => {
                                return Err(Error::no_session("it was renewed too often to be found"));
                            }
                            // Markers that lead round lead to no session.
                            Some(next) if !passed.contains(&next) => {
                                passed.push(next);
                                // Of which class nobody needs to know for an end.
                                key = StorageKey::Hashed(next, Class::DEFAULT);
                                is_first = false;
                                // Who has a turn in one queue waits in no other.
                                drop(turn.take());
                                turn = self.queues.enter_if_occupied(key.public_id()).await.unwrap_or_default();
                            }
                            _ => return Ok(None),
                        }
                        continue;
                    }
                    Some(Look { reading: Reading::Live(session), revision: Some(revision), .. }) => {
                        (revision, session.data.login())
                    }
                    Some(Look { reading: Reading::Over(data), revision: Some(revision), .. }) => {
                        (revision, data.login())
                    }
                    Some(Look { revision: Some(revision), .. }) => (revision, None),
                    // Of whom it is nobody can tell.
                    Some(Look { revision: None, .. }) if !is_first && matches!(follow, Follow::Of(_)) => {
                        return Ok(None);
                    }
                    Some(Look { revision: None, .. }) => {
                        self.end_unread(&key, renewed_as).await?;
                        return Ok(None);
                    }
                },
            };
            let is_of = |of| login.as_ref() == Some(of);
            if let Follow::Of(of) = follow {
                if !is_first && !is_of(of) {
                    // It is another's by now.
                    return Ok(None);
                }
                if conflicts >= MAX_CONFLICTS {
                    // A client that saves without pause does not outlive its end: there is no renewal by which it could.
                    self.outage.note(self.now_lazily(), self.collection().destroy(key.expose()).await)?;
                    return Ok(login.map(|login| Ended { login, session: key.public_id() }));
                }
            }
            match self.end_as(&key, revision, renewed_as).await {
                Ok(()) => {
                    debug!(session = %key, "a session was ended");
                    return Ok(login.map(|login| Ended { login, session: key.public_id() }));
                }
                // Another request has changed, renewed or ended it: load it again, in turn.
                Err(error) if error.is_conflict() => {
                    conflicts += 1;
                    is_patient = is_patient && self.take_turn(&key, &mut turn).await.is_ok();
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Ends a record on condition of its revision, in one step: destroys it, or replaces it by a marker.
    pub(super) async fn end_as(
        &self,
        key: &StorageKey,
        read: Revision,
        renewed_as: Option<&StorageKey>,
    ) -> sosa::Result<()> {
        match self.marker(renewed_as) {
            None => {
                let read = DestroyOptions::new().revision(read);
                self.outage.note(self.now_lazily(), self.collection().destroy_with(key.expose(), read).await).map(drop)
            }
            Some(marker) => self.mark(key, marker, Condition::Revision(read)).await,
        }
    }

    /// Ends a record that the store cannot decode, and which so has no revision.
    async fn end_unread(&self, key: &StorageKey, renewed_as: Option<&StorageKey>) -> sosa::Result<()> {
        match self.marker(renewed_as) {
            None => self.outage.note(self.now_lazily(), self.collection().destroy(key.expose()).await).map(drop),
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
        self.outage
            .note_save(self.now_lazily(), self.collection().save_with(key.expose(), &data, options).await)
            .map(drop)
    }

    pub(super) async fn destroy_if_still(&self, key: &StorageKey, revision: Revision) -> Result<()> {
        match self.end_as(key, revision, None).await {
            Err(error) if !error.is_conflict() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Removes a record that no client was told of, and returns whether it is gone. If not, it expires by itself.
    pub(super) async fn discard(&self, key: &StorageKey) -> bool {
        let discarded = self.outage.note(self.now_lazily(), self.collection().destroy(key.expose()).await);
        if let Err(error) = &discarded {
            warn!(session = %key, %error, "a session that was never announced stays until it expires");
        }
        discarded.is_ok()
    }
}
