//! The value that the rules save.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{self, Serialize, Serializer};

/// A text that the suite saves and loads. A clone is a copy of its own.
///
/// A text that starts with [`UNDECODABLE`](Probe::UNDECODABLE) can be written by serde but not read,
/// one that starts with [`UNENCODABLE`](Probe::UNENCODABLE) cannot be written.
pub struct Probe(Arc<Mutex<String>>);

impl Probe {
    /// How a text starts that cannot be decoded.
    pub const UNDECODABLE: &str = "undecodable";

    /// How a text starts that cannot be encoded.
    pub const UNENCODABLE: &str = "unencodable";

    /// Makes a probe.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Mutex::new(text.into())))
    }

    /// Returns the text.
    pub fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the text, of this probe and its aliases.
    pub fn set(&self, text: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text.into();
    }

    /// Returns the same probe, not a copy: what a collection must never keep or give out.
    #[must_use]
    pub fn alias(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Clone for Probe {
    fn clone(&self) -> Self {
        Self::new(self.text())
    }
}

impl PartialEq for Probe {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Probe {}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Probe({:?})", self.text())
    }
}

// Both errors quote the text, as those of serde do: an error of a collection must not.
impl Serialize for Probe {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.text();
        if text.starts_with(Self::UNENCODABLE) {
            return Err(ser::Error::custom(text));
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Probe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.starts_with(Self::UNDECODABLE) {
            return Err(de::Error::custom(text));
        }
        Ok(Self::new(text))
    }
}
