//! What the verbs send, as far as it needs no server.

use redis::Cmd;
use sosa::{Condition, Cursor, Deadline, Expiry, ListOptions};

use crate::shard::Place;

/// Begins a command on one entry, with room for what else it takes.
pub(crate) fn on_entry(name: &str, place: &Place<'_>, more: usize) -> Cmd {
    let mut command = Cmd::with_capacity(4, name.len() + place.len() + more);
    command.arg(name).arg(place);
    command
}

/// The lifetime that SET and GETEX give a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    Never,
    /// Milliseconds from the time on the server's clock, more than zero.
    For(u64),
    /// Milliseconds of the Unix epoch, more than zero.
    Until(u64),
    Keep,
}

impl Lifetime {
    /// Translates an expiry. The time is only for what lies beyond the year 9999, and asked for only where
    /// it matters.
    pub(crate) fn of(expiry: Expiry, now_millis: impl FnOnce() -> u64) -> Self {
        let now_millis = match expiry {
            Expiry::Never => return Self::Never,
            Expiry::Keep => return Self::Keep,
            _ => now_millis(),
        };
        let deadline = expiry.deadline(now_millis).map(Deadline::as_millis);
        match (expiry, deadline) {
            (_, None) => Self::Keep,
            (_, Some(None)) => Self::Never,
            // The server refuses a lifetime of zero, and takes a time that has passed.
            (Expiry::After(_), Some(Some(end))) if end > now_millis => Self::For(end - now_millis),
            (Expiry::After(_), _) => Self::Until(1),
            (_, Some(Some(end))) => Self::Until(end.max(1)),
        }
    }

    /// Appends the options that SET takes.
    pub(crate) fn for_set(self, command: &mut Cmd) {
        match self {
            Self::Never => command,
            Self::For(millis) => command.arg("PX").arg(millis),
            Self::Until(millis) => command.arg("PXAT").arg(millis),
            Self::Keep => command.arg("KEEPTTL"),
        };
    }

    /// Appends the options that GETEX takes, to which no option means that the deadline stays.
    pub(crate) fn for_getex(self, command: &mut Cmd) {
        match self {
            Self::Never => {
                command.arg("PERSIST");
            }
            Self::Keep => {}
            _ => self.for_set(command),
        }
    }
}

/// What SET asks of what is there, for all conditions that it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    Any,
    /// `NX`
    No,
    /// `XX`
    Yes,
}

impl Existing {
    /// Translates a condition and a lifetime; `None` for those that no entry, there or absent, meets.
    /// A revision is the business of a script.
    pub(crate) fn of(condition: Condition, lifetime: Lifetime) -> Option<Self> {
        match (condition, lifetime) {
            (Condition::Absent, Lifetime::Keep) => None,
            (Condition::Absent, _) => Some(Self::No),
            (Condition::Present, _) | (_, Lifetime::Keep) => Some(Self::Yes),
            _ => Some(Self::Any),
        }
    }

    /// Appends it to SET, if it is asked.
    pub(crate) fn append(self, command: &mut Cmd) {
        match self {
            Self::Any => command,
            Self::No => command.arg("NX"),
            Self::Yes => command.arg("XX"),
        };
    }
}

/// A stretch of ids in ascending order, as `ZRANGE … BYLEX` takes it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) from: Vec<u8>,
    pub(crate) to: Vec<u8>,
}

impl Stretch {
    /// Returns the stretch that a listing goes through.
    pub(crate) fn of(options: &ListOptions) -> Self {
        let start = options.starts_with.as_bytes();
        let end = match start {
            [] => b"+".to_vec(),
            // No UTF-8 text has this byte, so all that starts with the text comes before it.
            _ => [b"(", start, &[0xff]].concat(),
        };
        let begin = match start {
            [] => b"-".to_vec(),
            _ => [b"[", start].concat(),
        };
        let behind = |cursor: &Cursor| [b"(", cursor.as_str().as_bytes()].concat();
        match &options.cursor {
            None => Self { from: begin, to: end },
            Some(cursor) if options.reverse => {
                let lower = start.is_empty() || *cursor.as_str().as_bytes() < *[start, &[0xff]].concat();
                Self { from: begin, to: if lower { behind(cursor) } else { end } }
            }
            Some(cursor) => {
                let higher = cursor.as_str().as_bytes() >= start;
                Self { from: if higher { behind(cursor) } else { begin }, to: end }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lifetimes() {
        let at = |millis| Expiry::At(UNIX_EPOCH + Duration::from_millis(millis));
        for (expiry, lifetime) in [
            (Expiry::Never, Lifetime::Never),
            (Expiry::Keep, Lifetime::Keep),
            (Expiry::After(Duration::ZERO), Lifetime::Until(1)),
            (Expiry::After(Duration::from_nanos(1)), Lifetime::For(1)),
            (Expiry::After(Duration::from_millis(1500)), Lifetime::For(1500)),
            (Expiry::After(Duration::MAX), Lifetime::Never),
            (Expiry::At(UNIX_EPOCH - Duration::from_secs(1)), Lifetime::Until(1)),
            (at(0), Lifetime::Until(1)),
            (at(7), Lifetime::Until(7)),
            (at(u64::MAX), Lifetime::Never),
        ] {
            assert_eq!(Lifetime::of(expiry, || 1_000_000), lifetime, "{expiry:?}");
        }
    }

    #[test]
    fn conditions() {
        assert_eq!(Existing::of(Condition::Always, Lifetime::Never), Some(Existing::Any));
        assert_eq!(Existing::of(Condition::Always, Lifetime::Keep), Some(Existing::Yes));
        assert_eq!(Existing::of(Condition::Absent, Lifetime::For(1)), Some(Existing::No));
        assert_eq!(Existing::of(Condition::Absent, Lifetime::Keep), None);
        assert_eq!(Existing::of(Condition::Present, Lifetime::Keep), Some(Existing::Yes));
    }

    /// Reads a bound as the server does.
    fn is_within(stretch: &Stretch, id: &str) -> bool {
        let id = id.as_bytes();
        let above = match stretch.from.split_first() {
            Some((b'[', from)) => id >= from,
            Some((b'(', from)) => id > from,
            _ => true,
        };
        let below = match stretch.to.split_first() {
            Some((b'(', to)) => id < to,
            _ => true,
        };
        above && below
    }

    proptest! {
        #[test]
        fn a_stretch_is_what_the_options_say(
            ids in prop::collection::btree_set("[ab\u{10ffff}é(+]{1,4}", 0..20),
            starts_with in "[ab\u{10ffff}é(+]{0,2}",
            cursor in prop::option::of("[ab\u{10ffff}é(+]{0,4}"),
            reverse: bool,
        ) {
            let mut options = ListOptions::new().starts_with(starts_with.clone());
            options.cursor = cursor.clone().map(Cursor::after);
            options.reverse = reverse;
            let stretch = Stretch::of(&options);
            let expected: BTreeSet<_> = ids.iter().filter(|id| id.starts_with(&starts_with)).filter(|id| match &cursor {
                Some(cursor) if reverse => *id < cursor,
                Some(cursor) => *id > cursor,
                None => true,
            }).collect();
            let found: BTreeSet<_> = ids.iter().filter(|id| is_within(&stretch, id)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
