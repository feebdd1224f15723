//! What a verb may be asked beyond its plain form.

use std::fmt;
use std::time::Duration;

use crate::{Cursor, Deadline, Error, ErrorKind, Expiry, Result, Revision};

/// Options of [`Collection::load_with`](crate::Collection::load_with).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Moves the deadline to now plus this, in the same step as the load.
    pub touch: Option<Duration>,
    /// Lets the deadline stay if a touch would move it by less than this.
    pub slack: Duration,
    /// Fills [`Entry::expiry`](crate::Entry::expiry).
    pub with_expiry: bool,
    /// Lets the backend leave out [`Entry::revision`](crate::Entry::revision).
    pub without_revision: bool,
}

impl LoadOptions {
    /// Returns the options of a plain load.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the deadline to now plus `duration` in the same step as the load, earlier or later
    /// than it was. Value and revision stay, and an expired entry stays expired. Zero is an
    /// [`ErrorKind::InvalidOption`].
    #[must_use]
    pub fn touch(mut self, duration: Duration) -> Self {
        self.touch = Some(duration);
        self
    }

    /// Lets the deadline stay where it is if a touch would move it by less than this, earlier or later; zero unless set.
    /// For entries that are touched much more often than their deadline matters: with a slack of a minute they expire up
    /// to a minute early, and a backend that writes for each touch does so once a minute. One to which a touch costs
    /// nothing may move the deadline all the same. *Never* is always moved.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use sosa::LoadOptions;
    /// let (hour, minute) = (Duration::from_secs(3600), Duration::from_secs(60));
    /// let options = LoadOptions::new().touch(hour).slack(minute);
    /// # assert_eq!((options.touch, options.slack), (Some(hour), minute));
    /// ```
    #[must_use]
    pub fn slack(mut self, slack: Duration) -> Self {
        self.slack = slack;
        self
    }

    /// Also returns when the entry expires, after the touch if there is one.
    #[must_use]
    pub fn with_expiry(mut self) -> Self {
        self.with_expiry = true;
        self
    }

    /// Lets the backend leave out the revision, which is then [`Revision::NONE`]. For callers that take
    /// the value alone: some backends work the revision out from all of the value.
    #[must_use]
    pub fn without_revision(mut self) -> Self {
        self.without_revision = true;
        self
    }

    /// Checks what no backend accepts, before any I/O. For implementors.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] for a touch of zero.
    pub fn validate(&self) -> Result<()> {
        if self.touch == Some(Duration::ZERO) {
            let why = "a touch of zero would destroy what it loads; use destroy";
            return Err(Error::new(ErrorKind::InvalidOption, why));
        }
        Ok(())
    }

    /// Returns the deadline that an entry with this one gets by the load; `None` if it keeps its own. For implementors.
    pub fn touched(&self, current: Deadline, now_millis: u64) -> Option<Deadline> {
        let touched = Deadline::after(now_millis, self.touch?);
        let is_due = match (current.as_millis(), touched.as_millis()) {
            (Some(current), Some(touched)) => Duration::from_millis(current.abs_diff(touched)) >= self.slack,
            _ => current != touched,
        };
        is_due.then_some(touched)
    }
}

/// When a save may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// Whatever is there. The default.
    #[default]
    Always,
    /// Only if there is no entry. Of several savers one wins.
    Absent,
    /// Only if there is an entry.
    Present,
    /// Only if the entry is in the state that was read. [`Revision::NONE`] is the state of no entry.
    Revision(Revision),
}

impl Condition {
    /// Checks the condition against the entry's revision, `None` if it is absent or expired. For
    /// implementors.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] if the condition does not hold. One on [`Revision::NONE`] never does, whatever
    /// is current.
    pub fn check(self, current: Option<Revision>) -> Result<()> {
        let holds = match self {
            Self::Always => true,
            Self::Absent => current.is_none(),
            Self::Present => current.is_some(),
            // A backend may have no revision to tell, such as for what others wrote. Nobody has read that state.
            Self::Revision(read) => read != Revision::NONE && current == Some(read),
        };
        if holds { Ok(()) } else { Err(Error::conflict()) }
    }
}

/// Options of [`Collection::save_with`](crate::Collection::save_with).
///
/// ```
/// use sosa::{Condition, Expiry, SaveOptions};
/// use std::time::Duration;
///
/// let hour = Expiry::After(Duration::from_secs(3600));
/// let options = SaveOptions::new().expiry(hour).condition(Condition::Absent);
/// assert_eq!(options.condition, Condition::Absent);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SaveOptions {
    /// When the entry expires.
    pub expiry: Expiry,
    /// When the save may happen.
    pub condition: Condition,
    /// Lets the backend leave out the revision that the save returns.
    pub without_revision: bool,
}

impl SaveOptions {
    /// Returns the options of a plain save: always, and never expiring.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets when the entry expires.
    #[must_use]
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    /// Sets when the save may happen; otherwise it is a
    /// [`Conflict`](crate::ErrorKind::Conflict) and changes nothing.
    #[must_use]
    pub fn condition(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }

    /// Lets the backend leave out the revision, which is then [`Revision::NONE`]: see
    /// [`LoadOptions::without_revision`].
    #[must_use]
    pub fn without_revision(mut self) -> Self {
        self.without_revision = true;
        self
    }

    /// Checks the condition against the entry's revision and deadline, `None` if it is absent or
    /// expired, and returns the deadline that the save gives it. For implementors.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] if the condition does not hold, or there is no deadline to keep.
    pub fn check(&self, current: Option<(Revision, Deadline)>, now_millis: u64) -> Result<Deadline> {
        self.condition.check(current.map(|(revision, _)| revision))?;
        let kept = current.map(|(_, deadline)| deadline);
        self.expiry.deadline(now_millis).or(kept).ok_or_else(Error::conflict)
    }
}

impl From<Expiry> for SaveOptions {
    fn from(expiry: Expiry) -> Self {
        Self::new().expiry(expiry)
    }
}

impl From<Condition> for SaveOptions {
    fn from(condition: Condition) -> Self {
        Self::new().condition(condition)
    }
}

/// Options of [`Collection::destroy_with`](crate::Collection::destroy_with).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DestroyOptions {
    /// Destroys the entry only in this state; otherwise, also if it is absent, it is a
    /// [`Conflict`](crate::ErrorKind::Conflict) and changes nothing.
    pub revision: Option<Revision>,
}

impl DestroyOptions {
    /// Returns the options of a plain destroy: whatever is there.
    pub fn new() -> Self {
        Self::default()
    }

    /// Destroys the entry only in the state that was read.
    #[must_use]
    pub fn revision(mut self, revision: Revision) -> Self {
        self.revision = Some(revision);
        self
    }

    /// Checks the revision against that of the entry, `None` if it is absent or expired. For
    /// implementors.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] if another revision was read, or [`Revision::NONE`].
    pub fn check(&self, current: Option<Revision>) -> Result<()> {
        self.revision.map_or(Condition::Always, Condition::Revision).check(current)
    }
}

/// Options of [`Collection::list_with`](crate::Collection::list_with).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListOptions {
    /// Only ids that start with this; empty means all.
    pub starts_with: String,
    /// Where the page starts, from [`Page::next`](crate::Page::next).
    pub cursor: Option<Cursor>,
    /// The most items that a page holds.
    pub limit: usize,
    /// Lists in descending order.
    pub reverse: bool,
    /// Lists ids without their entries.
    pub ids_only: bool,
    /// Fills [`Entry::expiry`](crate::Entry::expiry).
    pub with_expiry: bool,
    /// Lets the backend leave out [`Entry::revision`](crate::Entry::revision).
    pub without_revision: bool,
}

impl ListOptions {
    /// The limit of a page unless another is set.
    pub const DEFAULT_LIMIT: usize = 1000;

    /// Returns the options of a plain list: the first 1,000 entries, ascending.
    pub fn new() -> Self {
        Self {
            starts_with: String::new(),
            cursor: None,
            limit: Self::DEFAULT_LIMIT,
            reverse: false,
            ids_only: false,
            with_expiry: false,
            without_revision: false,
        }
    }

    /// Lists only ids that start with `prefix`; every byte of it is meant as it stands.
    #[must_use]
    pub fn starts_with(mut self, prefix: impl Into<String>) -> Self {
        self.starts_with = prefix.into();
        self
    }

    /// Goes on where a page ended. The other options must be those of that page, but for the limit.
    #[must_use]
    pub fn cursor(mut self, cursor: Cursor) -> Self {
        self.cursor = Some(cursor);
        self
    }

    /// Sets the most items that a page holds. Zero is an [`ErrorKind::InvalidOption`]; a large
    /// page is held in memory whole.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Lists in descending order.
    #[must_use]
    pub fn reverse(mut self) -> Self {
        self.reverse = true;
        self
    }

    /// Lists ids without their entries, which costs a backend less.
    #[must_use]
    pub fn ids_only(mut self) -> Self {
        self.ids_only = true;
        self
    }

    /// Also returns when each entry expires.
    #[must_use]
    pub fn with_expiry(mut self) -> Self {
        self.with_expiry = true;
        self
    }

    /// Lets the backend leave out the revisions, which are then [`Revision::NONE`]: see
    /// [`LoadOptions::without_revision`].
    #[must_use]
    pub fn without_revision(mut self) -> Self {
        self.without_revision = true;
        self
    }

    /// Checks what no backend accepts, before any I/O. For implementors.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] for a limit of zero.
    pub fn validate(&self) -> Result<()> {
        if self.limit == 0 {
            return Err(Error::new(ErrorKind::InvalidOption, "a page holds at least one item"));
        }
        Ok(())
    }
}

impl Default for ListOptions {
    fn default() -> Self {
        Self::new()
    }
}

// `starts_with` is a piece of an id, and in some collections an id is a secret.
impl fmt::Debug for ListOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { starts_with: _, cursor, limit, reverse, ids_only, with_expiry, without_revision } = self;
        f.debug_struct("ListOptions")
            .field("cursor", cursor)
            .field("limit", limit)
            .field("reverse", reverse)
            .field("ids_only", ids_only)
            .field("with_expiry", with_expiry)
            .field("without_revision", without_revision)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_touch_of_zero_is_refused() {
        let zero = LoadOptions::new().touch(Duration::ZERO).validate();
        assert_eq!(zero.unwrap_err().kind(), ErrorKind::InvalidOption);
        assert!(LoadOptions::new().validate().is_ok());
        assert!(LoadOptions::new().touch(Duration::from_nanos(1)).validate().is_ok());
    }

    #[test]
    fn a_deadline_moves_if_it_is_due() {
        let at = Deadline::from_millis;
        let touch = LoadOptions::new().touch(Duration::from_millis(100));
        let slack = touch.slack(Duration::from_millis(10));
        // At 1,000 a touch of 100 ms leads to 1,100.
        for (current, always, with_slack) in [
            (at(1_100), true, false),
            (at(1_091), true, false),
            (at(1_090), true, true),
            (at(1_109), true, false),
            (at(1_110), true, true),
            (Deadline::NEVER, true, true),
        ] {
            for (options, moves) in [(touch, always), (slack, with_slack)] {
                assert_eq!(options.touched(current, 1_000), moves.then_some(at(1_100)), "{current:?} {options:?}");
            }
            assert_eq!(LoadOptions::new().touched(current, 1_000), None);
        }
        let to_never = slack.touch(Duration::MAX);
        assert_eq!(to_never.touched(at(1_000), 1_000), Some(Deadline::NEVER));
        assert_eq!(to_never.touched(Deadline::NEVER, 1_000), None);
    }

    #[test]
    fn conditions_hold_or_are_conflicts() {
        let (read, other, never) = (Revision::from(1), Revision::from(2), Some(Deadline::NEVER));
        for (condition, absent, present) in [
            (Condition::Always, true, true),
            (Condition::Absent, true, false),
            (Condition::Present, false, true),
            (Condition::Revision(read), false, true),
            (Condition::Revision(other), false, false),
        ] {
            assert_eq!(condition.check(None).is_ok(), absent, "{condition:?}");
            assert_eq!(condition.check(Some(read)).is_ok(), present, "{condition:?}");
            assert!(condition.check(None).err().is_none_or(|error| error.is_conflict()));
        }
        for current in [None, Some(read), Some(Revision::NONE)] {
            assert!(Condition::Revision(Revision::NONE).check(current).unwrap_err().is_conflict());
            assert!(SaveOptions::from(Condition::Revision(Revision::NONE)).check(current.zip(never), 0).is_err());
            assert!(DestroyOptions::new().revision(Revision::NONE).check(current).unwrap_err().is_conflict());
        }
        // Without a revision to tell, an entry is there all the same.
        assert!(Condition::Present.check(Some(Revision::NONE)).is_ok());
        assert!(Condition::Absent.check(Some(Revision::NONE)).is_err());
        let (kept, keep) = (Deadline::from_millis(7), SaveOptions::from(Expiry::Keep));
        assert_eq!(keep.check(Some((read, kept)), 0).unwrap(), kept);
        assert!(keep.check(None, 0).unwrap_err().is_conflict());
        assert!(DestroyOptions::new().check(None).is_ok());
        assert!(DestroyOptions::new().revision(read).check(Some(other)).unwrap_err().is_conflict());
    }

    #[test]
    fn an_empty_page_is_refused() {
        assert!(ListOptions::new().limit(1).validate().is_ok());
        assert!(ListOptions::new().limit(0).validate().is_err());
    }

    #[test]
    fn debug_shows_no_id() {
        let options = ListOptions::new().starts_with("secret").cursor(Cursor::after("secret"));
        assert!(!format!("{options:?}").contains("secret"));
    }
}
