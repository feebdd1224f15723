//! What comes back: a value, and what the store knows of it.

use std::fmt;

use crate::{Expiry, Revision};

/// A value together with what the store knows of it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry<T> {
    /// The value, a copy of what is stored.
    pub value: T,
    /// The state that was read, for a conditional save or destroy. It may be [`Revision::NONE`] if the
    /// options left it out.
    pub revision: Revision,
    /// When the entry expires: `None` unless the options asked with `with_expiry()`, and then
    /// [`Expiry::Never`] or [`Expiry::At`].
    pub expiry: Option<Expiry>,
}

impl<T> Entry<T> {
    /// Makes an entry whose expiry was not asked for.
    pub fn new(value: T, revision: Revision) -> Self {
        Self { value, revision, expiry: None }
    }

    /// Adds when the entry expires.
    #[must_use]
    pub fn with_expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = Some(expiry);
        self
    }
}

// By hand, so that a value never reaches a log by way of its entry.
impl<T> fmt::Debug for Entry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("revision", &self.revision).field("expiry", &self.expiry).finish_non_exhaustive()
    }
}
