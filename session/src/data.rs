//! The stored record of a session, as programs see it.

mod record;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::{self, Deserialize, DeserializeOwned, Deserializer};
use serde::ser::{self, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result, shown};
use crate::id::PublicId;
use crate::json::{self, text};
use crate::owners::{DeviceKey, Login};

#[cfg(test)]
pub(crate) use self::record::COMPARED;
pub(crate) use self::record::{MAX_SPLICES, NewOwn, OWN_KEY, OwnMember, Record};

/// The record of a session, as it is stored: a JSON object.
///
/// It is the record's text together with the places of its members, which all clones share; a value is decoded when
/// it is asked for, and what nobody edits keeps its bytes. Members are in the order in which they were first inserted.
///
/// The record's own member is `"sosa":{"v":1,"rev":…,"created":…}`: a count of the saves, and when
/// the session began, in milliseconds since the Unix epoch; then its `class`, unless that is the default one, and when its
/// cookie was `sent` last, if that was later. That of a session which is signed in has its `owner` and the `key` of the
/// device, too, `until` when it lives at most, and when its user was `confirmed` last. What else is in it, from a later
/// version, stays. It is not among the keys.
/// In a record of Express the own member is `"cookie":{…}`.
///
/// ```
/// use sosa_session::SessionData;
///
/// let data: SessionData = r#"{"sosa":{"v":1,"rev":3,"created":1795392000000},"user":"ada"}"#.parse()?;
/// assert_eq!(data.rev(), 3);
/// assert_eq!(data.get::<String>("user")?.as_deref(), Some("ada"));
/// assert_eq!(data.keys().collect::<Vec<_>>(), ["user"]);
/// # Ok::<(), sosa_session::Error>(())
/// ```
#[derive(Clone)]
pub struct SessionData(Arc<Record>);

impl SessionData {
    /// Returns the value of a key, `None` if there is none. It looks through the members: of a large record
    /// [`iter`](Self::iter) gives many values sooner.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] if the value is not of this type.
    pub fn get<V: DeserializeOwned>(&self, key: &str) -> Result<Option<V>> {
        self.raw(key).map(|value| decode(key, value)).transpose()
    }

    /// Returns the JSON text of a value, as it is stored.
    pub fn json(&self, key: &str) -> Option<&str> {
        self.raw(key).map(text)
    }

    /// Returns the keys, in order. A key that no Rust string can hold, with half a surrogate pair
    /// in it, is kept but not shown.
    pub fn keys(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.iter().map(|(key, _)| key)
    }

    /// Returns the keys and the JSON texts of their values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
        self.0.members().filter_map(|(key, value)| Some((json::unescape(key)?, text(value))))
    }

    /// Returns the whole record as JSON, its own member included.
    pub fn as_json(&self) -> &str {
        text(self.0.text())
    }

    /// Returns how many bytes the record has.
    pub fn size(&self) -> usize {
        self.0.text().len()
    }

    /// Returns how often the session was saved, 0 for one that was not.
    pub fn rev(&self) -> u64 {
        self.own().rev
    }

    /// Returns when the session began; `None` for one that was not saved.
    pub fn created(&self) -> Option<SystemTime> {
        Some(self.created_millis())
            .filter(|millis| *millis > 0)
            .map(|millis| UNIX_EPOCH + Duration::from_millis(millis))
    }

    /// Returns the class of the session, `None` for the default one: see
    /// [`SessionOptions::class`](crate::SessionOptions::class).
    pub fn class(&self) -> Option<&str> {
        Some(self.0.class()).filter(|class| !class.is_empty())
    }

    /// Returns who is signed in by the session, `None` if nobody is: see [`Session::sign_in`](crate::Session::sign_in).
    pub fn owner(&self) -> Option<String> {
        self.login().map(|login| login.owner.into())
    }

    /// Returns the key of the device that is signed in by the session, `None` if none is.
    pub fn device_key(&self) -> Option<DeviceKey> {
        self.login().map(|login| login.key)
    }

    /// Returns whether this is what remains of a session that was renewed under another id: for 30
    /// seconds it stands in the old record's place, opens no session, and tells late requests that
    /// theirs has ended. A listing of sessions should leave it out.
    pub fn has_ended(&self) -> bool {
        self.ended_millis() > 0
    }

    /// Returns the empty record, to be borrowed: clones would contend on its reference count.
    pub(crate) fn empty() -> &'static Self {
        static EMPTY: LazyLock<SessionData> = LazyLock::new(|| "{}".parse().expect("an empty object is a record"));
        &EMPTY
    }

    /// Makes the record that stands in the place of one that was renewed under another id: it opens
    /// no session, and tells a request that still comes with the old id what became of it.
    pub(crate) fn ended(now_millis: u64, renewed_as: PublicId) -> Self {
        Record::ended(now_millis, renewed_as.as_str()).into()
    }

    pub(crate) fn login(&self) -> Option<Login> {
        self.0.login()
    }

    /// Returns a record of these keys alone, without an own member.
    pub(crate) fn only(&self, keys: &[Cow<'static, str>]) -> Result<Self> {
        let kept = |key: &[u8]| json::unescape(key).is_some_and(|key| keys.contains(&key));
        let members: Vec<_> =
            self.0.members().filter(|(key, _)| kept(key)).map(|(key, value)| (Cow::Borrowed(key), value)).collect();
        self.0.rewrite(NewOwn::None, &members).map(Self::from)
    }

    /// Returns what an own member of ours says.
    pub(crate) fn own(&self) -> OwnMember {
        self.0.meta().ours
    }

    /// Returns the session under which one that ended goes on.
    pub(crate) fn renewed_as(&self) -> Option<PublicId> {
        self.0.renewed_as()?.parse().ok()
    }

    /// Returns when the session began; zero in a record that does not say.
    pub(crate) fn created_millis(&self) -> u64 {
        self.own().created
    }

    /// Returns when the session was renewed under another id; zero while it lives.
    pub(crate) fn ended_millis(&self) -> u64 {
        self.0.meta().ended
    }

    /// Returns the text of a value.
    pub(crate) fn raw(&self, key: &str) -> Option<&[u8]> {
        self.0.position(key).map(|index| self.0.value(index))
    }

    pub(crate) fn record(&self) -> &Record {
        &self.0
    }

    /// Returns whether it is a clone of the other.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn read(text: Box<[u8]>) -> Result<Self> {
        Record::read(text).map(Self::from)
    }
}

/// Decodes one value. The error names the key, since it is that key's alone.
pub(crate) fn decode<V: DeserializeOwned>(key: &str, value: &[u8]) -> Result<V> {
    serde_json::from_slice(value).map_err(|error| {
        Error::new(ErrorKind::Decode, format!("the value of {} is not of the asked type", shown(key)))
            .with_source(sosa::json_error(sosa::ErrorKind::Decode, &error))
    })
}

/// Encodes one value.
pub(crate) fn encode<V: Serialize>(key: &str, value: &V) -> Result<Vec<u8>> {
    sosa::to_json(value).map_err(|error| {
        Error::new(ErrorKind::Encode, format!("the value for {} has no JSON form", shown(key))).with_source(error)
    })
}

impl From<Record> for SessionData {
    fn from(record: Record) -> Self {
        Self(Arc::new(record))
    }
}

impl Default for SessionData {
    fn default() -> Self {
        Self::empty().clone()
    }
}

impl std::str::FromStr for SessionData {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        serde_json::from_str::<&RawValue>(text).map_err(|error| {
            Error::new(ErrorKind::Decode, "the record is no session: it is no JSON")
                .with_source(sosa::json_error(sosa::ErrorKind::Decode, &error))
        })?;
        Self::read(text.as_bytes().into())
    }
}

impl PartialEq for SessionData {
    fn eq(&self, other: &Self) -> bool {
        self.as_json() == other.as_json()
    }
}

impl Eq for SessionData {}

impl fmt::Debug for SessionData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionData").field("rev", &self.rev()).field("keys", &self.0.len()).finish_non_exhaustive()
    }
}

/// By `serde_json` the record is written as the object that it is, byte for byte; in a binary format as
/// a string of its JSON. Other formats for people, such as YAML, cannot hold it.
impl Serialize for SessionData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serde_json::from_str::<&RawValue>(self.as_json()).map_err(ser::Error::custom)?.serialize(serializer)
        } else {
            serializer.serialize_str(self.as_json())
        }
    }
}

impl<'de> Deserialize<'de> for SessionData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = Box::<str>::from(Box::<RawValue>::deserialize(deserializer)?);
            Self::read(text.into_boxed_bytes()).map_err(de::Error::custom)
        } else {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        }
    }
}
