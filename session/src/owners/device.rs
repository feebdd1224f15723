//! What an owner is shown of a device.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use super::login::DeviceKey;

/// A device on which an owner is signed in: one sign-in, with the session that goes on from it.
///
/// It is plain data, to be shown; serialized, its times are in milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Device {
    /// What [`Owner::end`](crate::Owner::end) takes.
    pub key: DeviceKey,
    /// What the sign-in said of it, cut off behind 64 bytes; empty if that was nothing, or was lost.
    pub label: String,
    /// The class of its session, none for the default one.
    pub class: Option<String>,
    /// When it was signed in.
    #[serde(serialize_with = "millis")]
    pub since: SystemTime,
    /// When its session was used last, to [`touch_after`](crate::Lifetime::touch_after), by the store's clock. Not known where
    /// the deadline does not tell: without an idle lifetime, and within one of the absolute end.
    #[serde(serialize_with = "millis_if_any")]
    pub last_seen: Option<SystemTime>,
    /// When it is signed out if nobody uses it.
    #[serde(serialize_with = "millis")]
    pub expires: SystemTime,
    /// It is the one that asks: see [`Session::owner`](crate::Session::owner).
    pub this: bool,
}

pub(crate) fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}

fn millis<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    serializer.serialize_u64(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn millis_if_any<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => millis(time, serializer),
        None => serializer.serialize_none(),
    }
}
