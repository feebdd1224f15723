//! Classes of sessions, each with a lifetime of its own: the part of an id behind its point.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

/// The name of a class: 1 to 16 of `a` to `z`, `0` to `9` and `-`. The default class has none.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Class {
    // Without an allocation, since each request with a session has one.
    text: [u8; Self::MAX_LEN],
    len: u8,
}

impl Class {
    /// That of all sessions which have no other.
    pub(crate) const DEFAULT: Self = Self { text: [0; Self::MAX_LEN], len: 0 };

    /// How many bytes a name has at most.
    pub(crate) const MAX_LEN: usize = 16;

    /// Reads a name; `None` if it is none.
    pub(crate) fn parse(name: &[u8]) -> Option<Self> {
        let is_name = name.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-');
        let mut text = [0; Self::MAX_LEN];
        text.get_mut(..name.len()).filter(|_| is_name && !name.is_empty())?.copy_from_slice(name);
        Some(Self { text, len: name.len() as u8 })
    }

    pub(crate) fn is_default(self) -> bool {
        self.len == 0
    }

    /// Returns the same of a borrowed one, for a serializer.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    pub(crate) fn is_default_of(class: &Self) -> bool {
        class.is_default()
    }

    /// Returns the name, empty for the default class.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..usize::from(self.len)]).expect("a name is ASCII")
    }
}

impl Serialize for Class {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Class {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(name.as_bytes()).ok_or_else(|| de::Error::custom("this is no name of a class"))
    }
}

impl fmt::Debug for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["a", "remembered", "0-9", "sixteen-letters-"] {
            assert_eq!(Class::parse(name.as_bytes()).unwrap().as_str(), name);
        }
        for name in ["", "Remembered", "a.b", "a b", "é", "a\0", "seventeen-letters"] {
            assert_eq!(Class::parse(name.as_bytes()), None, "{name}");
        }
        assert!(Class::DEFAULT.is_default() && Class::DEFAULT == Class::default());
        assert!(!Class::parse(b"a").unwrap().is_default());
    }
}
