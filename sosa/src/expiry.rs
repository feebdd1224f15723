//! When an entry ends: what a caller asks for, and the deadline that a backend keeps.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock::ceil_millis;

/// When an entry expires, to the millisecond; parts of one count as a whole one.
///
/// An expired entry is absent at once, for every verb and every condition, whether or not the
/// backend has removed it yet. A time beyond the year 9999 is [`Expiry::Never`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Expiry {
    /// It stays until it is destroyed. The default of a save: a save without an expiry clears an
    /// older one.
    #[default]
    Never,
    /// It expires this long after the save, by the store's clock. Zero succeeds and leaves nothing.
    After(Duration),
    /// It expires at this time. A time that has passed succeeds and leaves nothing.
    At(SystemTime),
    /// It keeps the deadline that it has. On an absent entry this is a
    /// [`Conflict`](crate::ErrorKind::Conflict).
    Keep,
}

/// The end of an entry as backends keep it: milliseconds since the Unix epoch, or never.
///
/// ```
/// use sosa::{Deadline, Expiry};
/// use std::time::Duration;
///
/// let now = 1_000;
/// let deadline = Expiry::After(Duration::from_millis(5)).deadline(now).unwrap();
/// assert_eq!(deadline.as_millis(), Some(1_005));
/// assert!(!deadline.is_past(1_004) && deadline.is_past(1_005));
/// assert_eq!(Expiry::Keep.deadline(now), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(u64);

/// The last millisecond of the year 9999.
const LAST_MILLIS: u64 = 253_402_300_799_999;

impl Deadline {
    /// The deadline that never passes. It is later than all others.
    pub const NEVER: Self = Self(u64::MAX);

    /// Makes a deadline from milliseconds since the Unix epoch; beyond the year 9999 is never.
    pub const fn from_millis(millis: u64) -> Self {
        if millis > LAST_MILLIS { Self::NEVER } else { Self(millis) }
    }

    /// Returns the deadline that lies `duration` after `now_millis`.
    pub fn after(now_millis: u64, duration: Duration) -> Self {
        Self::from_millis(now_millis.saturating_add(ceil_millis(duration)))
    }

    /// Returns the milliseconds since the Unix epoch, or `None` for never.
    pub const fn as_millis(self) -> Option<u64> {
        if self.0 == u64::MAX { None } else { Some(self.0) }
    }

    /// Returns whether an entry with this deadline is absent at `now_millis`.
    pub const fn is_past(self, now_millis: u64) -> bool {
        self.0 != u64::MAX && self.0 <= now_millis
    }
}

impl Expiry {
    /// Returns the deadline that is asked for, or `None` for [`Expiry::Keep`].
    pub fn deadline(self, now_millis: u64) -> Option<Deadline> {
        match self {
            Self::Never => Some(Deadline::NEVER),
            Self::After(duration) => Some(Deadline::after(now_millis, duration)),
            // What lies before the epoch lies in the past, as the epoch itself does.
            Self::At(time) => {
                Some(time.duration_since(UNIX_EPOCH).map_or(Deadline(0), |since| Deadline::after(0, since)))
            }
            Self::Keep => None,
        }
    }
}

/// Gives [`Expiry::Never`] or [`Expiry::At`].
impl From<Deadline> for Expiry {
    fn from(deadline: Deadline) -> Self {
        deadline.as_millis().map_or(Self::Never, |millis| Self::At(UNIX_EPOCH + Duration::from_millis(millis)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edges() {
        let year_10000 = UNIX_EPOCH + Duration::from_millis(LAST_MILLIS + 1);
        assert_eq!(Expiry::At(year_10000).deadline(0), Some(Deadline::NEVER));
        assert_eq!(Expiry::After(Duration::MAX).deadline(u64::MAX), Some(Deadline::NEVER));
        assert!(Expiry::After(Duration::ZERO).deadline(7).unwrap().is_past(7));
        assert!(!Expiry::After(Duration::from_nanos(1)).deadline(7).unwrap().is_past(7));
        let before_1970 = UNIX_EPOCH - Duration::from_secs(1);
        assert!(Expiry::At(before_1970).deadline(0).unwrap().is_past(0));
        assert!(!Deadline::NEVER.is_past(u64::MAX));
    }

    proptest! {
        #[test]
        fn a_deadline_survives_as_an_expiry(millis in 0..=LAST_MILLIS) {
            let deadline = Deadline::from_millis(millis);
            prop_assert_eq!(Expiry::from(deadline).deadline(0), Some(deadline));
        }

        #[test]
        fn it_lives_at_least_as_long_as_asked(now in 0..LAST_MILLIS / 2, nanos in 0u64..u64::MAX / 4) {
            let asked = Duration::from_nanos(nanos);
            let deadline = Deadline::after(now, asked).as_millis().unwrap();
            prop_assert!(Duration::from_millis(deadline - now) >= asked);
            prop_assert!(Duration::from_millis(deadline - now) < asked + Duration::from_millis(1));
        }
    }
}
