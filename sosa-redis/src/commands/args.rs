//! The arguments of commands.

use redis::Cmd;
use sosa::{Condition, Deadline, Expiry};

use crate::keys::EntryKey;

/// Bytes for the options of SET and GETEX.
pub(crate) const ROOM: usize = 32;

/// Begins a command on one entry, with room for what else it takes.
pub(crate) fn on_entry(name: &str, key: &EntryKey<'_>, more: usize) -> Cmd {
    let mut command = Cmd::with_capacity(4, name.len() + key.len() + more);
    command.arg(name).arg(key);
    command
}

/// Returns the command that puts an id into its index.
pub(crate) fn enlist(key: &EntryKey<'_>) -> Cmd {
    let mut add = Cmd::with_capacity(4, key.len() + ROOM);
    add.arg("ZADD").arg(key.shard().index()).arg(0).arg(key.id());
    add
}

/// When a value expires, as SET and GETEX take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ttl {
    Never,
    /// Milliseconds from the time on the server's clock, more than zero.
    For(u64),
    /// Milliseconds of the Unix epoch, more than zero.
    Until(u64),
    Keep,
}

impl Ttl {
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
            // The server refuses a TTL of zero, and takes a time that has passed.
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

/// The conditions that SET knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetCondition {
    Always,
    /// `NX`
    Absent,
    /// `XX`
    Present,
}

impl SetCondition {
    /// Translates a condition and a TTL; `None` for those that no entry, there or absent, meets.
    /// A revision is the business of a script.
    pub(crate) fn of(condition: Condition, ttl: Ttl) -> Option<Self> {
        match (condition, ttl) {
            (Condition::Absent, Ttl::Keep) => None,
            (Condition::Absent, _) => Some(Self::Absent),
            (Condition::Present, _) | (_, Ttl::Keep) => Some(Self::Present),
            _ => Some(Self::Always),
        }
    }

    /// Appends it to SET, if there is one.
    pub(crate) fn append(self, command: &mut Cmd) {
        match self {
            Self::Always => command,
            Self::Absent => command.arg("NX"),
            Self::Present => command.arg("XX"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn ttls() {
        let at = |millis| Expiry::At(UNIX_EPOCH + Duration::from_millis(millis));
        for (expiry, ttl) in [
            (Expiry::Never, Ttl::Never),
            (Expiry::Keep, Ttl::Keep),
            (Expiry::After(Duration::ZERO), Ttl::Until(1)),
            (Expiry::After(Duration::from_nanos(1)), Ttl::For(1)),
            (Expiry::After(Duration::from_millis(1500)), Ttl::For(1500)),
            (Expiry::After(Duration::MAX), Ttl::Never),
            (Expiry::At(UNIX_EPOCH - Duration::from_secs(1)), Ttl::Until(1)),
            (at(0), Ttl::Until(1)),
            (at(7), Ttl::Until(7)),
            (at(u64::MAX), Ttl::Never),
        ] {
            assert_eq!(Ttl::of(expiry, || 1_000_000), ttl, "{expiry:?}");
        }
    }

    #[test]
    fn conditions() {
        assert_eq!(SetCondition::of(Condition::Always, Ttl::Never), Some(SetCondition::Always));
        assert_eq!(SetCondition::of(Condition::Always, Ttl::Keep), Some(SetCondition::Present));
        assert_eq!(SetCondition::of(Condition::Absent, Ttl::For(1)), Some(SetCondition::Absent));
        assert_eq!(SetCondition::of(Condition::Absent, Ttl::Keep), None);
        assert_eq!(SetCondition::of(Condition::Present, Ttl::Keep), Some(SetCondition::Present));
    }
}
