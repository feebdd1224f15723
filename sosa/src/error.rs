//! The one error of every collection: what went wrong, and whether anything was applied.

use std::error::Error as StdError;
use std::fmt;

/// The result of every verb of a collection.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a collection.
///
/// Match on [`kind`](Error::kind) to decide what to do, and ask [`outcome`](Error::outcome) whether
/// a write may have happened all the same. The driver's own error, if there is one, is the
/// [`source`](StdError::source); `Display` does not repeat it. No id and no value appears anywhere
/// in the chain, so an `Error` is safe to log.
///
/// Absence is never an error: a verb answers `None` or `false` for an entry that is not there.
///
/// ```
/// use sosa::{Error, ErrorKind, Operation, Outcome};
///
/// let error = Error::new(ErrorKind::Timeout, "no answer within 2 s")
///     .with_outcome(Outcome::Unknown)
///     .with_context("redis", Operation::Save);
/// assert_eq!(error.to_string(), "redis save: no answer within 2 s (outcome unknown)");
/// assert!(!error.is_retryable());
/// ```
// Boxed, so that a `Result` of a verb costs one word on the path where nothing fails.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    outcome: Outcome,
    message: String,
    context: Option<(&'static str, Operation)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A condition of a save or destroy was not met: the entry is there, is not there, or is no
    /// longer the one that was read. Load again and decide anew.
    Conflict,
    /// The id is empty or longer than [`MAX_ID_LEN`](crate::MAX_ID_LEN) bytes.
    InvalidId,
    /// An option makes no sense, such as a touch of zero or a page of zero entries.
    InvalidOption,
    /// The backend or this way of opening it does not offer the operation.
    Unsupported,
    /// The value could not be encoded.
    Encode,
    /// What is stored is not a value of the asked type.
    Decode,
    /// A limit of the backend is reached; room has to be made first.
    CapacityExceeded,
    /// The store cannot be reached or does not serve now.
    Unavailable,
    /// The store did not answer in time.
    Timeout,
    /// The store refuses these credentials or this operation.
    PermissionDenied,
    /// A hook of the program's own refuses the value; see [`Hooks`](crate::Hooks).
    Rejected,
    /// Anything else that the driver reports.
    Other,
}

/// Whether a failed operation may have been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing was changed, and nothing will be.
    NotApplied,
    /// The request may have reached the store: it was applied, was not, or still will be.
    Unknown,
}

/// What failed: a verb of a [`Collection`](crate::Collection), or a backend's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// [`Collection::load_with`](crate::Collection::load_with)
    Load,
    /// The same with a touch, which in many stores is a write. So an [`Observer`](crate::Observer) is told; an error
    /// names the verb, [`Load`](Self::Load).
    Touch,
    /// [`Collection::save_with`](crate::Collection::save_with)
    Save,
    /// [`Collection::destroy_with`](crate::Collection::destroy_with)
    Destroy,
    /// [`Collection::list_with`](crate::Collection::list_with)
    List,
    /// A backend's own removal of what has expired, which no collection needs.
    Purge,
}

impl Operation {
    /// Returns the verb's name, in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Touch => "touch",
            Self::Save => "save",
            Self::Destroy => "destroy",
            Self::List => "list",
            Self::Purge => "purge",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Error {
    /// Makes an error whose outcome is [`Outcome::NotApplied`].
    ///
    /// The message is read by people and must hold no id and no value.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            outcome: Outcome::NotApplied,
            message: message.into(),
            context: None,
            source: None,
        }))
    }

    /// Makes the error for a condition that was not met.
    pub fn conflict() -> Self {
        Self::new(ErrorKind::Conflict, "the condition was not met")
    }

    /// Says whether the operation may have been applied.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.0.outcome = outcome;
        self
    }

    /// Names the backend and the verb. A context that is already there stays, since it is closer
    /// to the cause.
    #[must_use]
    pub fn with_context(mut self, backend: &'static str, operation: Operation) -> Self {
        self.0.context.get_or_insert((backend, operation));
        self
    }

    /// Keeps the driver's error as the [`source`](StdError::source). It must name no id and no
    /// value.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Returns what went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns whether the operation may have been applied.
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// Returns the backend's name, where it is known.
    pub fn backend(&self) -> Option<&'static str> {
        self.0.context.map(|(backend, _)| backend)
    }

    /// Returns the verb that failed, where it is known.
    pub fn operation(&self) -> Option<Operation> {
        self.0.context.map(|(_, operation)| operation)
    }

    /// Returns whether [`kind`](Error::kind) is [`ErrorKind::Conflict`].
    pub fn is_conflict(&self) -> bool {
        self.kind() == ErrorKind::Conflict
    }

    /// Returns whether the very same call may be made again: the store was out of reach or late,
    /// and nothing was applied.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) && self.outcome() == Outcome::NotApplied
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((backend, operation)) = self.0.context {
            write!(f, "{backend} {operation}: ")?;
        }
        f.write_str(&self.0.message)?;
        match self.0.outcome {
            Outcome::NotApplied => Ok(()),
            Outcome::Unknown => f.write_str(" (outcome unknown)"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, outcome, message, context, source } = &*self.0;
        f.debug_struct("Error")
            .field("kind", kind)
            .field("outcome", outcome)
            .field("message", message)
            .field("context", context)
            .field("source", source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_applied_may_be_retried() {
        for kind in [ErrorKind::Unavailable, ErrorKind::Timeout] {
            assert!(Error::new(kind, "late").is_retryable());
            assert!(!Error::new(kind, "late").with_outcome(Outcome::Unknown).is_retryable());
        }
        assert!(!Error::conflict().is_retryable());
        assert!(!Error::new(ErrorKind::Decode, "no").is_retryable());
    }

    #[test]
    fn the_first_context_stays_and_the_source_is_not_repeated() {
        let error = Error::new(ErrorKind::Other, "the driver failed")
            .with_source("secret detail")
            .with_context("memory", Operation::List)
            .with_context("outer", Operation::Load);
        assert_eq!(error.to_string(), "memory list: the driver failed");
        assert_eq!(error.backend(), Some("memory"));
        assert_eq!(error.operation(), Some(Operation::List));
        assert_eq!(error.source().unwrap().to_string(), "secret detail");
    }
}
