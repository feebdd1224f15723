//! The state of an entry.

use std::fmt::{self, Write};

use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use crate::{Error, ErrorKind, Result};

/// The state of an entry that was read or written: up to 20 opaque bytes.
///
/// Pass it to [`Condition::Revision`](crate::Condition::Revision) to write only over that state. A
/// backend may derive it from the content, so an entry that came back to an equal content may match
/// again. Touching does not change it. It serializes as text, so that a program may hand it to a
/// client, as an `ETag` for example, and take it back.
///
/// ```
/// use sosa::Revision;
///
/// let revision = Revision::from(7_u64);
/// assert_eq!(revision.to_string(), "0000000000000007");
/// assert_eq!("0000000000000007".parse::<Revision>()?, revision);
/// # Ok::<(), sosa::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Revision {
    len: u8,
    bytes: [u8; Self::MAX_LEN],
}

impl Revision {
    /// The most bytes that a revision has.
    pub const MAX_LEN: usize = 20;

    /// The revision of no entry, in the place of one that was not asked for. A write on condition of it
    /// is a [`Conflict`](ErrorKind::Conflict), whatever is there.
    pub const NONE: Self = Self { len: 0, bytes: [0; Self::MAX_LEN] };

    /// Makes a revision of these bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if there are more than [`Revision::MAX_LEN`].
    pub fn new(bytes: &[u8]) -> Result<Self> {
        let mut revision = Self::NONE;
        let room = revision
            .bytes
            .get_mut(..bytes.len())
            .ok_or_else(|| Error::new(ErrorKind::InvalidOption, "a revision has at most 20 bytes"))?;
        room.copy_from_slice(bytes);
        revision.len = bytes.len() as u8;
        Ok(revision)
    }

    /// Returns the bytes, which mean something to the backend alone.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// For backends that count: the number in big-endian order.
impl From<u64> for Revision {
    fn from(count: u64) -> Self {
        let mut bytes = [0; Self::MAX_LEN];
        bytes[..8].copy_from_slice(&count.to_be_bytes());
        Self { len: 8, bytes }
    }
}

/// Writes the bytes in hexadecimal.
impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
        self.as_bytes().iter().try_for_each(|byte| {
            f.write_char(digit(byte >> 4))?;
            f.write_char(digit(byte & 15))
        })
    }
}

// It may be a hash of the value, and a short value can be guessed from that: `Debug` is for logs,
// `Display` for those who mean it.
impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Revision(..)")
    }
}

impl std::str::FromStr for Revision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || Error::new(ErrorKind::InvalidOption, "a revision is hexadecimal text");
        let digits = text.as_bytes().chunks(2).map(|pair| match *pair {
            [high, low] => hex_digit(high).zip(hex_digit(low)).map(|(high, low)| high << 4 | low),
            _ => None,
        });
        Self::new(&digits.collect::<Option<Vec<u8>>>().ok_or_else(invalid)?)
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

impl Serialize for Revision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Revision {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn malformed_revisions_are_refused() {
        for text in ["0", "zz", "+1", "0é", &"00".repeat(21)] {
            assert_eq!(text.parse::<Revision>().unwrap_err().kind(), ErrorKind::InvalidOption);
        }
    }

    proptest! {
        #[test]
        fn a_revision_survives_as_text_and_as_json(bytes in prop::collection::vec(any::<u8>(), 0..=20)) {
            let revision = Revision::new(&bytes).unwrap();
            prop_assert_eq!(revision.as_bytes(), &bytes[..]);
            prop_assert_eq!(revision.to_string().parse::<Revision>().unwrap(), revision);
            let json = serde_json::to_string(&revision).unwrap();
            prop_assert_eq!(serde_json::from_str::<Revision>(&json).unwrap(), revision);
        }
    }
}
