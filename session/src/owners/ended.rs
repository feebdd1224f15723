//! What an end came to.

/// What [`Owner::end_all`](crate::Owner::end_all) has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "without a record it has ended nothing, though there may be sessions"]
pub struct EndedAll {
    /// How many devices.
    pub devices: usize,
    /// There was a record of the owner. If not, the owner never signed in, or not for longer than any session lives, **or
    /// the record was lost**: then [`Owner::end_all_by_scan`](crate::Owner::end_all_by_scan) finds what there is.
    pub had_record: bool,
}
