//! How many sessions an owner may have.

/// What a sign-in does if its owner has as many as there may be: see
/// [`SessionOptions::max_per_owner`](crate::SessionOptions::max_per_owner).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Full {
    /// It ends the one that was signed in first. The default.
    #[default]
    EndOldest,
    /// It fails with [`TooManyDevices`](crate::ErrorKind::TooManyDevices), status 409. **Users who have lost their devices can
    /// then sign in nowhere** until those sessions expire, or an administrator ends them.
    Refuse,
}

/// How many sign-ins an owner may have, and what the next one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cap {
    pub(crate) max: usize,
    pub(crate) full: Full,
}

impl Default for Cap {
    fn default() -> Self {
        Self { max: 100, full: Full::EndOldest }
    }
}
