//! Where backends that keep deadlines themselves, and sessions, get the time from.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A source of the current time: the system's, or one that a test moves.
///
/// Clones of a manual clock share their time, so a test keeps one and hands out the others.
///
/// ```
/// use sosa::Clock;
/// use std::time::Duration;
///
/// let clock = Clock::manual();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(clock.now().duration_since(before)?, Duration::from_secs(3600));
/// # Ok::<(), std::time::SystemTimeError>(())
/// ```
#[derive(Clone, Default)]
pub struct Clock(Source);

#[derive(Clone, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// Returns the system's clock, the default.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// Returns a clock that starts at the system's time and moves only by
    /// [`advance`](Clock::advance).
    pub fn manual() -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(Self::system().now_millis()))))
    }

    /// Moves a manual clock, and all its clones, forward. Parts of a millisecond count as a whole
    /// one.
    ///
    /// # Panics
    ///
    /// If this is the system's clock, which nobody moves.
    pub fn advance(&self, by: Duration) {
        match &self.0 {
            Source::System => panic!("the system's clock cannot be moved; use Clock::manual()"),
            Source::Manual(now) => {
                now.fetch_add(ceil_millis(by), Ordering::SeqCst);
            }
        }
    }

    /// Returns the time in whole milliseconds since the Unix epoch, the unit of all deadlines.
    pub fn now_millis(&self) -> u64 {
        match &self.0 {
            Source::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                // A clock before 1970 is a broken one; at its epoch nothing has expired yet.
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            Source::Manual(now) => now.load(Ordering::SeqCst),
        }
    }

    /// Returns the time, to the millisecond.
    pub fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.now_millis())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::System => "Clock::System",
            Source::Manual(_) => "Clock::Manual",
        })
    }
}

/// Rounds up, so that what is to live for a moment lives at least that long.
pub(crate) fn ceil_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_manual_clock_move_together() {
        let clock = Clock::manual();
        let other = clock.clone();
        let before = other.now_millis();
        clock.advance(Duration::from_micros(1500));
        assert_eq!(other.now_millis(), before + 2);
    }

    #[test]
    #[should_panic(expected = "cannot be moved")]
    fn the_systems_clock_is_not_moved() {
        Clock::system().advance(Duration::from_secs(1));
    }
}
