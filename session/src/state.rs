//! What a request knows of its session, and what it has asked of it: data and transitions, without any I/O.
//!
//! Where it stands is its [`Origin`]:
//!
//! ```text
//!   None                                         the request came without a cookie
//!    │
//!    │ moved_to                                  a session was created
//!    ▼
//!   Resumed ◀─────────────┐
//!    │ │ │ ╰─ saved ──────┤                      it was updated
//!    │ │ ╰─── moved_to ───┤                      it was renewed or regenerated
//!    │ ╰─ leave ▶ None    │                      it was destroyed
//!    ╰─── leave ▶ Ended   │                      another request has ended it
//!                         │
//!   Unloaded ─ found ─────┤                      the request came with a cookie, and looks it up
//!    ▲        ╰ not_found ┼▶ Unknown             … of no session
//!    │                    ├▶ Ended               … of one that was renewed
//!    │                    ╰▶ Unreadable          … of a record that cannot be read
//!    ╰─ unload ─ any but None                    it is to be loaded again
//!
//!   Unknown, Ended, Unreadable ─ moved_to ▶ Resumed
//!                      ╰─────── leave ────▶ None, after an end
//! ```
//!
//! A request whose cookies are none of ours begins as `Unknown`, without an id. While a session is saved over a newer
//! record, `caught_up` may meet that it was renewed or is gone; then it is left as `Ended`.

use std::borrow::Cow;
use std::net::IpAddr;

use sosa::{Deadline, Revision};
use tracing::warn;

use crate::class::Class;
use crate::cookie::Scheme;
use crate::edits::Edits;
use crate::error::{Error, Result};
use crate::format::{Changes, NewMaxAge, Rules, Snapshot};
use crate::id::{Ids, PublicId, SessionId};
use crate::owners::Login;
use crate::plan::{CookieAction, Data, IdChange, Origin};

/// The session as this request knows it, and what the request asked of it.
pub(crate) struct State {
    rules: Rules,
    scheme: Scheme,
    peer: Option<IpAddr>,
    came_at: Option<u64>,
    origin: Origin,
    /// The id that the client has.
    id: Option<SessionId>,
    /// Others that came with it: one of them opens the session if that does not, and a logout ends them all.
    others: Vec<SessionId>,
    /// The id that a new session will have, once somebody asked for it.
    next: Option<SessionId>,
    /// The id of a renewal whose outcome is unknown.
    renewing: Option<SessionId>,
    /// The record as it was last read or saved, also while it is loaded again.
    stored: Option<Stored>,
    /// What a new session begins with, if that is anything.
    blank: Option<Snapshot>,
    asked: Asked,
    /// What the response's cookie will do.
    cookie: CookieAction,
    /// The handler has called a method: the response depends on the session.
    is_used: bool,
    /// The session expired while the request was under way.
    has_expired: bool,
    /// The store failed when the session was looked up, and was not asked again since.
    failure: Option<Error>,
    /// The head of the response has been sent.
    is_closed: bool,
    /// What the request does is no use of the session.
    is_unattended: bool,
}

/// How a request came.
#[derive(Clone, Default)]
pub(crate) struct Arrival {
    pub(crate) ids: Ids,
    /// It came with a cookie of our name, and with none that a server of ours gave out.
    pub(crate) has_foreign_cookie: bool,
    pub(crate) scheme: Scheme,
    /// Who sent it, as far as the server knows.
    pub(crate) peer: Option<IpAddr>,
    /// The user goes to a page by it.
    pub(crate) is_navigation: bool,
    /// When, if its cookie may be taken back: in milliseconds since the Unix epoch.
    pub(crate) at: Option<u64>,
    /// What it does is no use of its session.
    pub(crate) is_unattended: bool,
}

/// A record, and its state in the store.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) snapshot: Snapshot,
    pub(crate) revision: Revision,
    /// When it was read, saved or touched last, in milliseconds since the Unix epoch.
    pub(crate) at: u64,
    /// When it expires in the store, if that is known.
    pub(crate) deadline: Option<Deadline>,
}

/// What is found under an id.
pub(crate) enum Found {
    Live(Stored),
    /// The marker of a session that goes on under another id.
    Renewed(Option<PublicId>),
    /// A session that has expired.
    Expired,
    Nothing,
}

impl Found {
    pub(crate) fn is_renewed_as(&self, id: PublicId) -> bool {
        matches!(self, Self::Renewed(renewed_as) if *renewed_as == Some(id))
    }

    pub(crate) fn is_still(&self, revision: Revision) -> bool {
        matches!(self, Self::Live(stored) if stored.revision == revision)
    }
}

/// What the request has asked for, and is not done yet.
#[derive(Default)]
struct Asked {
    edits: Edits,
    max_age: NewMaxAge,
    id_change: IdChange,
    /// That of the session under another id, if it is to have another.
    class: Option<Class>,
    /// The session under another id is to be signed in.
    sign_in: Option<Box<SigningIn>>,
    /// The deadline has to be moved, should nothing else move it.
    touch_due: bool,
    last_save: LastSave,
}

/// A sign-in that is asked for.
#[derive(Clone, Debug)]
pub(crate) struct SigningIn {
    pub(crate) login: Login,
    pub(crate) label: Cow<'static, str>,
    /// The record that it begins with.
    pub(crate) kept: Snapshot,
}

/// What came of the last save that the handler asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LastSave {
    /// It succeeded; or there was none.
    #[default]
    Done,
    /// It failed, and the handler was told: it is not tried again unless more is asked for.
    Failed,
    /// It failed and may have been applied all the same: it is not sent again.
    Uncertain,
    /// The same, and more was asked for since.
    UncertainAndMore,
}

impl State {
    pub(crate) fn new(rules: Rules, arrival: Arrival, is_closed: bool) -> Self {
        let Arrival { ids, has_foreign_cookie, scheme, peer, at: came_at, is_navigation: _, is_unattended } = arrival;
        let Ids { first: id, others } = ids;
        let touch_due = id.is_some() && rules.touches_each_request && !is_unattended;
        Self {
            rules,
            scheme,
            peer,
            came_at,
            origin: match id {
                Some(_) => Origin::Unloaded,
                None if has_foreign_cookie => Origin::Unknown,
                None => Origin::None,
            },
            id,
            others,
            next: None,
            renewing: None,
            stored: None,
            blank: None,
            asked: Asked { touch_due, ..Asked::default() },
            cookie: CookieAction::Keep,
            is_used: false,
            has_expired: false,
            failure: None,
            is_closed,
            is_unattended,
        }
    }

    // The session as it is known.

    pub(crate) fn rules(&self) -> Rules {
        self.rules
    }

    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme
    }

    pub(crate) fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// Returns when the request came, if its cookie may be taken back.
    pub(crate) fn came_at(&self) -> Option<u64> {
        self.came_at
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    pub(crate) fn is_used(&self) -> bool {
        self.is_used
    }

    pub(crate) fn has_expired(&self) -> bool {
        self.has_expired
    }

    /// Returns why the session could not be looked up, if the store was out and was not asked again.
    pub(crate) fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// Returns the id that the client has.
    pub(crate) fn id(&self) -> Option<&SessionId> {
        self.id.as_ref()
    }

    pub(crate) fn public_id(&self) -> Option<PublicId> {
        self.id.as_ref().map(SessionId::public_id)
    }

    /// Returns the other ids that came with it.
    pub(crate) fn others(&self) -> &[SessionId] {
        &self.others
    }

    /// Returns the ids that the request came with, by their order.
    pub(crate) fn came_with(&self, index: usize) -> Option<&SessionId> {
        match index.checked_sub(1) {
            None => self.id.as_ref(),
            Some(other) => self.others.get(other),
        }
    }

    pub(crate) fn renewing(&self) -> Option<&SessionId> {
        self.renewing.as_ref()
    }

    pub(crate) fn stored(&self) -> Option<&Stored> {
        self.stored.as_ref()
    }

    /// Returns the revision that was read or saved last.
    pub(crate) fn revision(&self) -> Option<Revision> {
        self.stored.as_ref().map(|stored| stored.revision)
    }

    /// Returns the record of a session that goes on, under this id or another.
    pub(crate) fn goes_on(&self) -> Option<&Snapshot> {
        let keeps_data = matches!(self.asked.id_change, IdChange::Keep | IdChange::Renew);
        self.stored.as_ref().filter(|_| keeps_data).map(|stored| &stored.snapshot)
    }

    /// Returns the record that edits are made to.
    pub(crate) fn base(&self) -> &Snapshot {
        let Self { stored, blank, asked, .. } = self;
        base(stored.as_ref(), blank.as_ref(), asked.id_change, asked.sign_in.as_deref())
    }

    pub(crate) fn cookie(&self) -> CookieAction {
        self.cookie
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(crate) fn is_unattended(&self) -> bool {
        self.is_unattended
    }

    /// Returns the class of the session that will be created, or renewed.
    pub(crate) fn next_class(&self) -> Class {
        let goes_on = self.asked.id_change == IdChange::Renew && matches!(self.origin, Origin::Resumed | Origin::Ended);
        let kept = self.id.as_ref().filter(|_| goes_on).map(SessionId::class);
        self.asked.class.or(kept).unwrap_or_default()
    }

    /// Returns whether the session is to begin anew under its next id, with the data kept: in a class that was asked for.
    pub(crate) fn begins_in_class(&self) -> bool {
        self.asked.id_change == IdChange::Renew && self.asked.class.is_some()
    }

    /// Returns the id of the session as it is: the client's, or that of the session that will be created.
    pub(crate) fn current_id(&mut self) -> Result<SessionId> {
        if let Some(id) = self.id.as_ref().filter(|_| self.goes_on().is_some()) {
            return Ok(id.clone());
        }
        let next = self.next_id()?;
        self.next = Some(next.clone());
        Ok(next)
    }

    /// Takes the id of the session that will be created.
    pub(crate) fn next_id(&mut self) -> Result<SessionId> {
        let class = self.next_class();
        let shown = self.next.take().filter(|id| id.class() == class);
        shown.map_or_else(|| SessionId::random(class), Ok)
    }

    // Requests of the handler.

    pub(crate) fn id_change(&self) -> IdChange {
        self.asked.id_change
    }

    pub(crate) fn is_touch_due(&self) -> bool {
        self.asked.touch_due
    }

    pub(crate) fn last_save(&self) -> LastSave {
        self.asked.last_save
    }

    pub(crate) fn changes(&self) -> Changes<'_> {
        let login = self.signing_in().map(|sign_in| &sign_in.login);
        Changes { edits: &self.asked.edits, max_age: self.asked.max_age, login }
    }

    /// Returns the value of a key as this request sees it.
    pub(crate) fn look_up(&mut self, key: &str) -> Option<&[u8]> {
        let Self { stored, blank, asked, .. } = self;
        let base = base(stored.as_ref(), blank.as_ref(), asked.id_change, asked.sign_in.as_deref());
        asked.edits.look_up(&base.data, key)
    }

    /// Returns what the changes amount to.
    pub(crate) fn data(&self) -> Data {
        let is_stored_anyway = self.rules.stores_empty && self.asked.id_change == IdChange::Regenerate;
        if is_stored_anyway || self.signing_in().is_some() {
            return Data::Changed;
        }
        let Asked { edits, max_age, .. } = &self.asked;
        let same_data = edits.is_empty() || edits.change_nothing(&self.base().data);
        let same_life = match (max_age, self.goes_on()) {
            (Some(max_age), Some(snapshot)) => snapshot.has_max_age(*max_age),
            // By itself it makes no session.
            _ => true,
        };
        if same_data && same_life { Data::Same } else { Data::Changed }
    }

    pub(crate) fn has_changes(&self) -> bool {
        let Asked { edits, max_age, id_change, .. } = &self.asked;
        !edits.is_empty() || (max_age.is_some() && self.goes_on().is_some()) || *id_change != IdChange::Keep
    }

    /// Returns whether what this request asked for needs nothing of the session that it is asked of.
    pub(crate) fn stands_alone(&self) -> bool {
        self.asked.edits.cover(&self.base().data)
    }

    /// Notes that something is asked for, and returns the edits to note it in.
    pub(crate) fn edit(&mut self) -> &mut Edits {
        self.ask_for_more();
        &mut self.asked.edits
    }

    #[cfg(feature = "express")]
    pub(crate) fn change_max_age(&mut self, max_age: Option<u64>) {
        self.ask_for_more();
        self.asked.max_age = Some(max_age);
    }

    pub(crate) fn ask_for_touch(&mut self) {
        self.asked.touch_due = !self.is_unattended;
    }

    /// Makes what the request does no use of the session. Returns whether that was in time: a look may have moved the
    /// deadline.
    pub(crate) fn set_unattended(&mut self) -> bool {
        let in_time = self.is_unattended || self.origin == Origin::Unloaded || self.id.is_none();
        if in_time {
            (self.is_unattended, self.asked.touch_due) = (true, false);
        }
        in_time
    }

    /// Asks for a new id, and for another class if one is named; not after an end or a new beginning, which give an id,
    /// too.
    pub(crate) fn ask_for_renewal(&mut self, class: Option<Class>) {
        self.ask_for_more();
        if self.asked.id_change == IdChange::Keep {
            self.asked.id_change = IdChange::Renew;
        }
        self.asked.class = class.or(self.asked.class);
    }

    /// Says the class of a session that begins after an end that was asked for.
    pub(crate) fn set_class(&mut self, class: Option<Class>) {
        self.ask_for_more();
        self.asked.class = class;
    }

    /// Asks for an end or a new beginning, in this class or the default one, and drops the data. It may always be asked for
    /// again.
    pub(crate) fn start_over(&mut self, id_change: IdChange, class: Option<Class>) {
        self.asked = Asked { id_change, class, ..Asked::default() };
    }

    /// Asks for a sign-in, which is a new beginning with what this request has inserted and what is kept.
    pub(crate) fn ask_for_sign_in(&mut self, sign_in: SigningIn, class: Option<Class>) -> Result<()> {
        if let Err(error) = self.asked.edits.rebase(&sign_in.kept.data) {
            self.rebase()?;
            return Err(error);
        }
        self.ask_for_more();
        if self.asked.id_change != IdChange::Destroy {
            self.asked.id_change = IdChange::Regenerate;
        }
        (self.asked.class, self.asked.sign_in) = (class, Some(Box::new(sign_in)));
        Ok(())
    }

    /// Returns the sign-in that was asked for.
    pub(crate) fn signing_in(&self) -> Option<&SigningIn> {
        self.asked.sign_in.as_deref()
    }

    /// Returns who is signed in by the session as it is stored.
    pub(crate) fn login(&self) -> Option<Login> {
        self.stored.as_ref()?.snapshot.data.login()
    }

    /// Drops the edits, and not what is asked for the id.
    pub(crate) fn drop_edits(&mut self) {
        (self.asked.edits, self.asked.max_age) = (Edits::default(), None);
    }

    /// Drops all that is asked for.
    pub(crate) fn drop_changes(&mut self) {
        self.asked = Asked::default();
    }

    /// Does the updates to the record as it is now.
    pub(crate) fn rebase(&mut self) -> Result<()> {
        let Self { stored, blank, asked, .. } = self;
        let base = base(stored.as_ref(), blank.as_ref(), asked.id_change, asked.sign_in.as_deref());
        asked.edits.rebase(&base.data)
    }

    fn ask_for_more(&mut self) {
        self.asked.last_save = match self.asked.last_save {
            LastSave::Done | LastSave::Failed => LastSave::Done,
            LastSave::Uncertain | LastSave::UncertainAndMore => LastSave::UncertainAndMore,
        };
    }

    // Transitions.

    pub(crate) fn set_blank(&mut self, blank: impl FnOnce() -> Option<Snapshot>) {
        if self.blank.is_none() {
            self.blank = blank();
        }
    }

    /// One of the ids that the request came with has opened its session.
    pub(crate) fn found(&mut self, index: usize, stored: Stored) {
        self.settle_on(index, Origin::Resumed, Some(stored));
    }

    /// None of the ids has; this one says why.
    pub(crate) fn not_found(&mut self, index: usize, origin: Origin) {
        self.settle_on(index, origin, None);
    }

    fn settle_on(&mut self, index: usize, origin: Origin, stored: Option<Stored>) {
        if let (Some(other), Some(id)) = (index.checked_sub(1), &mut self.id) {
            std::mem::swap(id, &mut self.others[other]);
        }
        (self.origin, self.stored) = (origin, stored);
    }

    /// The session is to be loaded again, whatever was asked for.
    pub(crate) fn unload(&mut self) {
        self.drop_changes();
        if self.origin != Origin::None {
            self.origin = Origin::Unloaded;
            self.asked.touch_due = self.rules.touches_each_request && !self.is_unattended;
        }
    }

    /// Another request has changed the session; what was asked for is done to that.
    pub(crate) fn caught_up(&mut self, found: Found) -> Result<()> {
        match found {
            Found::Live(stored) => {
                self.stored = Some(stored);
                return self.rebase();
            }
            Found::Renewed(_) => self.origin = Origin::Ended,
            Found::Expired => (self.origin, self.has_expired) = (Origin::Unknown, true),
            Found::Nothing => self.origin = Origin::Unknown,
        }
        self.stored = None;
        Ok(())
    }

    /// The record was saved under the id that it has.
    pub(crate) fn saved(&mut self, stored: Stored) {
        self.stored = Some(stored);
    }

    /// The deadline was moved, or asked for.
    pub(crate) fn touched(&mut self, at: u64, deadline: Option<Deadline>) {
        if let Some(stored) = &mut self.stored {
            (stored.at, stored.deadline) = (at, deadline);
        }
    }

    /// The session lives under another id, a new one or the old.
    pub(crate) fn moved_to(&mut self, id: SessionId, stored: Stored) {
        (self.origin, self.id, self.stored, self.renewing) = (Origin::Resumed, Some(id), Some(stored), None);
    }

    /// The id of a session that was not made is kept for the next try, since it may have been shown.
    pub(crate) fn keep_for_next(&mut self, id: SessionId) {
        self.next = Some(id);
    }

    /// A renewal has begun, or its outcome is unknown; or there is none.
    pub(crate) fn set_renewing(&mut self, id: Option<SessionId>) {
        self.renewing = id;
    }

    /// The plan has been carried out.
    pub(crate) fn done(&mut self, destroyed: bool, cookie: CookieAction) {
        let class = self.asked.class;
        if destroyed || cookie == CookieAction::Remove {
            self.leave(Origin::None);
        }
        // Of a session that is still to be made.
        let to_be_made = self.stored.is_none();
        let (max_age, class) = (self.asked.max_age.filter(|_| to_be_made), class.filter(|_| to_be_made));
        self.asked = Asked { max_age, class, ..Asked::default() };
        if cookie != CookieAction::Keep {
            self.cookie = cookie;
        }
    }

    /// The session has ended: by this request, or, with [`Origin::Ended`], by another.
    pub(crate) fn leave(&mut self, origin: Origin) {
        (self.origin, self.stored, self.cookie) = (origin, None, CookieAction::Keep);
        if origin == Origin::None {
            self.id = None;
        }
        self.drop_changes();
    }

    /// A save begins: its outcome is unknown if it is dropped on the way.
    pub(crate) fn begin_save(&mut self) {
        self.asked.last_save = if self.has_changes() { LastSave::Uncertain } else { LastSave::Done };
    }

    pub(crate) fn end_save(&mut self, last_save: LastSave) {
        self.asked.last_save = last_save;
    }

    /// The handler has called a method.
    pub(crate) fn use_it(&mut self) {
        self.is_used |= !self.is_closed;
    }

    /// The session was looked up, or the store failed and the handler may not mind.
    pub(crate) fn set_failure(&mut self, failure: Option<Error>) {
        self.failure = failure;
    }

    /// The head of the response is sent.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }
}

fn base<'a>(
    stored: Option<&'a Stored>,
    blank: Option<&'a Snapshot>,
    id_change: IdChange,
    sign_in: Option<&'a SigningIn>,
) -> &'a Snapshot {
    match (id_change, stored) {
        (IdChange::Keep | IdChange::Renew, Some(stored)) => &stored.snapshot,
        _ => sign_in.map(|sign_in| &sign_in.kept).or(blank).unwrap_or_else(|| Snapshot::empty()),
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if self.has_changes() {
            warn!(
                session = ?self.public_id(),
                "a session was dropped with edits that were not saved: its request was cancelled or panicked, or they \
                 came after the response and needed `save`"
            );
        }
    }
}
