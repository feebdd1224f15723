//! Who is signed in by a session, and on which of his devices.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use crate::error::{Error, ErrorKind, Result};
use crate::id::is_base64url;

/// What a session says of its sign-in.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) owner: Box<str>,
    pub(crate) key: DeviceKey,
}

// By hand: a name may be an address.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The key of a device: of one sign-in, for as long as it lasts, whatever ids its session has meanwhile.
///
/// It is 16 random bytes as base64url, 22 characters, safe to show, and opens nothing.
///
/// ```
/// use sosa_session::DeviceKey;
///
/// let key: DeviceKey = "AAECAwQFBgcICQoLDA0ODw".parse()?;
/// assert_eq!(key.to_string(), "AAECAwQFBgcICQoLDA0ODw");
/// assert!("no key".parse::<DeviceKey>().is_err());
/// # Ok::<(), sosa_session::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceKey([u8; KEY_LEN]);

const KEY_BYTES: usize = 16;
const KEY_LEN: usize = 22;

impl DeviceKey {
    pub(crate) fn random() -> Result<Self> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(Error::of_random)?;
        let mut text = [0; KEY_LEN];
        URL_SAFE_NO_PAD.encode_slice(bytes, &mut text).expect("16 bytes are 22 characters of base64");
        Ok(Self(text))
    }

    /// Returns the key as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a key is ASCII")
    }
}

impl FromStr for DeviceKey {
    type Err = Error;

    /// Reads a key that was shown.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] if the text is not 22 characters of base64url.
    fn from_str(text: &str) -> Result<Self> {
        let text = text.as_bytes().try_into().ok().filter(|text: &[u8; KEY_LEN]| is_base64url(text));
        text.map(Self).ok_or_else(|| Error::new(ErrorKind::Decode, "a device's key is 22 characters of base64url"))
    }
}

impl fmt::Display for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKey({})", self.as_str())
    }
}

impl Serialize for DeviceKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for DeviceKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_new_and_can_be_read_back() {
        let (one, other) = (DeviceKey::random().unwrap(), DeviceKey::random().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.as_str().parse::<DeviceKey>().unwrap(), one);
        assert_eq!(serde_json::to_string(&one).unwrap().parse::<serde_json::Value>().unwrap(), one.as_str());
        for text in ["", "AAECAwQFBgcICQoLDA0OD", "AAECAwQFBgcICQoLDA0O+w", "AAECAwQFBgcICQoLDA0ODww"] {
            assert_eq!(text.parse::<DeviceKey>().unwrap_err().kind(), ErrorKind::Decode);
            assert!(serde_json::from_str::<DeviceKey>(&format!("{text:?}")).is_err());
        }
    }
}
