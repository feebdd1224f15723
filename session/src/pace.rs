//! How often in a row a process may win the race for one session, before it lets others try.
//!
//! A process whose client saves a session without pause can keep another process from ever saving it: between the
//! other's load and its save there is always a save of this one. None of the two can see that: one wins each time, the
//! other knows nothing of it. So a process that has saved a session several times in quick succession waits before the
//! next save, for as long as a load and what follows it take elsewhere, if the store is as near there. The pauses of three
//! processes are not at the same time, so that there it only helps by chance.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_timer::Delay;

use crate::id::{PublicId, StorageKey};

/// How many saves in quick succession are a streak that ends with a pause.
const STREAK: u64 = 12;

/// Within how many times the time of a call of the store the next save belongs to the streak, and how long the pause
/// is. A renewal elsewhere looks, makes the new record, and ends the old one: three calls, of which it may just have
/// begun the second.
const CALLS: u32 = 6;

/// A store that answers sooner is in this process alone, where the queue decides.
const QUICKEST: Duration = Duration::from_micros(20);

const LONGEST: Duration = Duration::from_secs(1);

/// So many sessions that are being saved again and again are known at once; more only share a place.
const PLACES: usize = 1024;

/// Remembers which sessions were saved in quick succession.
pub(crate) struct Pace {
    began: Instant,
    /// By chance, so that nobody can choose two sessions of one place.
    hasher: RandomState,
    /// None before a store has taken its time.
    places: OnceLock<Box<[AtomicU64]>>,
}

/// Saves of one session in quick succession.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Streak {
    tag: u64,
    saves: u64,
    /// Until when the next save belongs to it, in microseconds since these options were made into sessions.
    until: u64,
}

const TAG_BITS: u32 = 20;
const SAVES_BITS: u32 = 4;
const UNTIL_BITS: u32 = u64::BITS - TAG_BITS - SAVES_BITS;

impl Streak {
    fn from_bits(bits: u64) -> Self {
        let until = bits & ((1 << UNTIL_BITS) - 1);
        Self { tag: bits >> (u64::BITS - TAG_BITS), saves: (bits >> UNTIL_BITS) & ((1 << SAVES_BITS) - 1), until }
    }

    fn to_bits(self) -> u64 {
        self.tag << (u64::BITS - TAG_BITS) | self.saves << UNTIL_BITS | self.until & ((1 << UNTIL_BITS) - 1)
    }

    /// Returns how it goes on after a save that took so long.
    fn saved(self, tag: u64, now: u64, call: Duration) -> Self {
        let goes_on = self.goes_on(now);
        let saves = match self.tag == tag {
            true if goes_on => (self.saves + 1).min(STREAK),
            // The place is another's, who is not just passing by.
            false if goes_on && self.saves > 1 => return self,
            _ => 1,
        };
        let pause = (call * CALLS).min(LONGEST);
        Self { tag, saves, until: now + pause.as_micros() as u64 }
    }

    fn is_full(self) -> bool {
        self.saves == STREAK
    }

    /// Returns whether a save belongs to it now. What was noted before the count of microseconds began anew is over.
    fn goes_on(self, now: u64) -> bool {
        now < self.until && self.until - now <= LONGEST.as_micros() as u64
    }

    /// Returns for how long the next save has to wait.
    fn pause(self, tag: u64, now: u64) -> Option<Duration> {
        let is_due = self.tag == tag && self.is_full() && self.goes_on(now);
        is_due.then(|| Duration::from_micros(self.until - now))
    }
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), hasher: RandomState::new(), places: OnceLock::new() }
    }

    /// Waits if it is others' turn.
    pub(crate) async fn wait(&self, key: &StorageKey) {
        let Some(places) = self.places.get() else { return };
        let (place, tag) = self.find(places, key.public_id());
        let streak = Streak::from_bits(place.load(Ordering::Relaxed));
        if streak.is_full()
            && let Some(pause) = streak.pause(tag, self.now())
        {
            Delay::new(pause).await;
        }
    }

    /// Notes that a save has succeeded, and how long the store took for it.
    pub(crate) fn saved(&self, key: &StorageKey, call: Duration) {
        if call >= QUICKEST {
            let places = self.places.get_or_init(|| (0..PLACES).map(|_| AtomicU64::default()).collect());
            let (place, tag) = self.find(places, key.public_id());
            let streak = Streak::from_bits(place.load(Ordering::Relaxed));
            // Of two at once one is not counted.
            place.store(streak.saved(tag, self.now(), call).to_bits(), Ordering::Relaxed);
        }
    }

    /// Returns the place of a session, and what tells it from most others there.
    fn find<'a>(&self, places: &'a [AtomicU64], id: PublicId) -> (&'a AtomicU64, u64) {
        let hash = self.hasher.hash_one(id);
        (&places[hash as usize % PLACES], hash >> (u64::BITS - TAG_BITS))
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64 & ((1 << UNTIL_BITS) - 1)
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pace").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CALL: Duration = Duration::from_millis(5);

    #[test]
    fn after_a_streak_there_is_a_pause() {
        let (mut streak, mut now) = (Streak::default(), 0);
        for save in 0..STREAK {
            assert_eq!(streak.pause(7, now), None, "save {save}");
            streak = streak.saved(7, now, CALL);
            now += 10_000;
        }
        assert_eq!(streak.pause(7, now), Some(CALL * 4), "two of six calls have passed since");
        assert_eq!(streak.pause(8, now), None, "it is another session's");
        now += 20_000;
        assert_eq!(streak.pause(7, now), None);
        assert_eq!(streak.saved(7, now, CALL).saves, 1, "it begins anew");
    }

    #[test]
    fn who_leaves_others_their_time_never_waits() {
        let mut streak = Streak::default();
        for save in 0..100 {
            let now = save * 31_000;
            assert_eq!(streak.pause(7, now), None);
            streak = streak.saved(7, now, CALL);
        }
    }

    #[test]
    fn a_streak_is_not_broken_by_who_passes_by() {
        let streak = Streak::default().saved(7, 0, CALL);
        assert_eq!(streak.saved(8, 1, CALL).tag, 8, "it was none yet");
        let streak = streak.saved(7, 1, CALL);
        assert_eq!(streak.saved(8, 2, CALL), streak);
        assert_eq!(streak.saved(8, 40_000, CALL).tag, 8, "it is over");
    }

    /// The count of microseconds begins anew after 12 days.
    #[test]
    fn what_was_noted_long_ago_is_over() {
        let late = (1 << UNTIL_BITS) - 1_000_000;
        let old = (0..20).fold(Streak::default(), |streak, _| streak.saved(7, late, CALL));
        assert_eq!((old.saves, old.pause(7, late)), (STREAK, Some(CALL * CALLS)));
        assert_eq!(old.pause(7, 5), None);
        assert_eq!(old.saved(8, 5, CALL), Streak { tag: 8, saves: 1, until: 5 + 30_000 });
    }

    proptest! {
        #[test]
        fn bits_come_back(tag in 0..1u64 << TAG_BITS, saves in 0..=STREAK, until in 0..1u64 << UNTIL_BITS) {
            let streak = Streak { tag, saves, until };
            prop_assert_eq!(Streak::from_bits(streak.to_bits()), streak);
        }
    }
}
