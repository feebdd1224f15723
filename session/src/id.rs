//! The secret that a cookie carries, and the public id under which its record is stored.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::class::Class;
use crate::error::{Error, ErrorKind, Result};

/// A session's id: 24 random bytes as base64url, 32 characters, and behind a point the session's class, unless that is the
/// default one. Whoever has it has the session. What is hashed is all of it, so that it is another session's, and most likely
/// nobody's, with another class.
///
/// One that a program with Express has made may be any text.
#[derive(Clone)]
pub(crate) struct SessionId {
    text: Text,
    /// Computed when it is first asked for.
    public_id: OnceLock<PublicId>,
}

#[derive(Clone)]
enum Text {
    // Without an allocation, since each request with a session makes one.
    Ours {
        text: [u8; MAX_LEN],
        class: Class,
    },
    #[cfg(feature = "express")]
    Express(Box<str>),
}

const RANDOM_BYTES: usize = 24;
const RANDOM_LEN: usize = 32;
const MAX_LEN: usize = RANDOM_LEN + ".".len() + Class::MAX_LEN;

impl SessionId {
    /// How many characters one of ours has, without a class and with the longest.
    pub(crate) const LENGTHS: RangeInclusive<usize> = RANDOM_LEN..=MAX_LEN;

    /// Makes a new id from the system's random source.
    pub(crate) fn random(class: Class) -> Result<Self> {
        let mut bytes = Zeroizing::new([0; RANDOM_BYTES]);
        getrandom::fill(&mut *bytes).map_err(Error::of_random)?;
        let mut text = [0; RANDOM_LEN];
        URL_SAFE_NO_PAD.encode_slice(*bytes, &mut text).expect("24 bytes are 32 characters of base64");
        Ok(Self::ours(&text, class))
    }

    /// Reads what a cookie says. Whatever cannot be one of our ids is `None`, so that it costs no
    /// call of the store.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let (text, class) = value.split_first_chunk()?;
        let class = match class {
            [] => Class::DEFAULT,
            [b'.', class @ ..] => Class::parse(class)?,
            _ => return None,
        };
        is_base64url(text).then(|| Self::ours(text, class))
    }

    fn ours(random: &[u8; RANDOM_LEN], class: Class) -> Self {
        let mut text = [0; MAX_LEN];
        text[..RANDOM_LEN].copy_from_slice(random);
        if !class.is_default() {
            text[RANDOM_LEN] = b'.';
            text[RANDOM_LEN + 1..][..class.as_str().len()].copy_from_slice(class.as_str().as_bytes());
        }
        Self::new(Text::Ours { text, class })
    }

    /// Takes an id that a program with Express has made, as it is. What no collection takes is `None`.
    #[cfg(feature = "express")]
    pub(crate) fn of_express(id: &str) -> Option<Self> {
        (1..=sosa::MAX_ID_LEN).contains(&id.len()).then(|| Self::new(Text::Express(id.into())))
    }

    /// Returns whether both are the same. It compares what one request came with, and tells nobody how far they agree.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }

    fn new(text: Text) -> Self {
        Self { text, public_id: OnceLock::new() }
    }

    /// Returns the secret itself, for the cookie alone.
    pub(crate) fn expose(&self) -> &str {
        match &self.text {
            Text::Ours { text, class } => {
                let len = RANDOM_LEN + if class.is_default() { 0 } else { ".".len() + class.as_str().len() };
                std::str::from_utf8(&text[..len]).expect("base64 and the name of a class are ASCII")
            }
            #[cfg(feature = "express")]
            Text::Express(text) => text,
        }
    }

    /// Returns the class of its session.
    pub(crate) fn class(&self) -> Class {
        match &self.text {
            Text::Ours { class, .. } => *class,
            #[cfg(feature = "express")]
            Text::Express(_) => Class::DEFAULT,
        }
    }

    pub(crate) fn public_id(&self) -> PublicId {
        *self.public_id.get_or_init(|| PublicId::digest(self.expose()))
    }
}

/// Leaves no secret in memory that is given back.
impl Drop for SessionId {
    fn drop(&mut self) {
        match &mut self.text {
            Text::Ours { text, .. } => text.zeroize(),
            #[cfg(feature = "express")]
            Text::Express(text) => text.zeroize(),
        }
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(..)")
    }
}

/// The ids that a request came with, each of them once. Most come with one.
#[derive(Clone, Default)]
pub(crate) struct Ids {
    pub(crate) first: Option<SessionId>,
    pub(crate) others: Vec<SessionId>,
}

impl Ids {
    pub(crate) fn add(&mut self, id: SessionId) {
        match &self.first {
            None => self.first = Some(id),
            Some(first) if first.is(&id) || self.others.iter().any(|other| other.is(&id)) => {}
            Some(_) => self.others.push(id),
        }
    }
}

/// Where the record of a session is stored: what the store calls it. It prints as the public id.
#[derive(Clone)]
pub(crate) enum StorageKey {
    /// Under the hash of its id, which does not tell the class.
    Hashed(PublicId, Class),
    /// Under the id itself, as Express does it.
    #[cfg(feature = "express")]
    Plain(SessionId),
}

impl StorageKey {
    /// Returns the text itself, which may be a secret.
    pub(crate) fn expose(&self) -> &str {
        match self {
            Self::Hashed(public_id, _) => public_id.as_str(),
            #[cfg(feature = "express")]
            Self::Plain(id) => id.expose(),
        }
    }

    pub(crate) fn public_id(&self) -> PublicId {
        match self {
            Self::Hashed(public_id, _) => *public_id,
            #[cfg(feature = "express")]
            Self::Plain(id) => id.public_id(),
        }
    }

    /// Returns the class of the session, by its id: a load must know how to touch before it has read anything.
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::Hashed(_, class) => *class,
            #[cfg(feature = "express")]
            Self::Plain(id) => id.class(),
        }
    }
}

impl fmt::Display for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.public_id().fmt(f)
    }
}

impl fmt::Debug for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.public_id(), f)
    }
}

/// The public name of a session: the SHA-256 of its id, as base64url, 43 characters.
///
/// It is safe to show and to log, since no cookie can be made from it. The session's record is stored under
/// it, so that a store or a backup that leaks opens no session; but for sessions that are shared with
/// Express, which keeps them under their ids.
///
/// ```
/// use sosa_session::PublicId;
///
/// let id: PublicId = "v_yzzErpsb4YZGvkopAiMyhfCec-ZLiKghyU_t94hGI".parse()?;
/// assert_eq!(id.to_string(), id.as_str());
/// assert!("no public id".parse::<PublicId>().is_err());
/// # Ok::<(), sosa_session::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicId([u8; PUBLIC_LEN]);

const PUBLIC_LEN: usize = 43;

impl PublicId {
    /// Hashes a text.
    pub(crate) fn digest(text: &str) -> Self {
        let mut encoded = [0; PUBLIC_LEN];
        URL_SAFE_NO_PAD.encode_slice(Sha256::digest(text), &mut encoded).expect("32 bytes are 43 characters of base64");
        Self(encoded)
    }

    /// Returns the public id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a public id is ASCII")
    }
}

impl FromStr for PublicId {
    type Err = Error;

    /// Reads a public id that was shown.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] if the text is not 43 characters of base64url.
    fn from_str(text: &str) -> Result<Self> {
        let text = text.as_bytes().try_into().ok().filter(|text: &[u8; PUBLIC_LEN]| is_base64url(text));
        text.map(Self).ok_or_else(|| Error::new(ErrorKind::Decode, "a public id is 43 characters of base64url"))
    }
}

/// Without a way out of the loop, so that it looks at many bytes at once.
pub(crate) fn is_base64url(text: &[u8]) -> bool {
    text.iter().fold(true, |all, byte| all & (byte.is_ascii_alphanumeric() | (*byte == b'-') | (*byte == b'_')))
}

impl Serialize for PublicId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for PublicId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for PublicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for PublicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicId({})", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored records are found by this: a change logs everybody out.
    #[test]
    fn golden_public_id() {
        let id = SessionId::parse(b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYX").unwrap();
        assert_eq!(id.public_id().as_str(), GOLDEN);
        assert_eq!(GOLDEN.parse::<PublicId>().unwrap(), id.public_id());
        for text in ["", &GOLDEN[1..], &GOLDEN.replace('_', "+"), &GOLDEN.replace("_y", "é")] {
            assert_eq!(text.parse::<PublicId>().unwrap_err().kind(), ErrorKind::Decode);
        }
    }

    const GOLDEN: &str = "v_yzzErpsb4YZGvkopAiMyhfCec-ZLiKghyU_t94hGI";

    #[test]
    fn ids_are_new_and_can_be_read_back() {
        for class in
            [Class::DEFAULT, Class::parse(b"remembered").unwrap(), Class::parse(&[b'x'; Class::MAX_LEN]).unwrap()]
        {
            let (one, other) = (SessionId::random(class).unwrap(), SessionId::random(class).unwrap());
            assert!(one.expose() != other.expose());
            assert!(SessionId::LENGTHS.contains(&one.expose().len()));
            let read = SessionId::parse(one.expose().as_bytes()).unwrap();
            assert_eq!((read.public_id(), read.class()), (one.public_id(), class));
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let id = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
        let with = |class: &str| format!("{id}.{class}");
        for value in [
            &id[1..],
            &format!("{id}A"),
            "",
            &id.replace('A', "+"),
            &id.replace("AA", "é"),
            &with(""),
            &with("Upper"),
            &with("a.b"),
            &with("seventeen-letters"),
            &format!("{}.a", &id[1..]),
        ] {
            assert!(SessionId::parse(value.as_bytes()).is_none(), "{value}");
        }
    }

    /// The class is part of what is hashed, so that nobody chooses his own.
    #[test]
    fn another_class_is_another_session() {
        let id = |class: &str| SessionId::parse(format!("AAECAwQFBgcICQoLDA0ODxAREhMUFRYX{class}").as_bytes()).unwrap();
        let public = ["", ".a", ".b"].map(|class| id(class).public_id());
        assert!(public[0] != public[1] && public[1] != public[2]);
        assert_eq!(public[1].as_str(), "bsnsnBeRT6o8kU5B2tpJAMyrS1c4oLW9MKtj1hftmR4");
    }

    #[test]
    fn debug_shows_no_id() {
        let id = SessionId::random(Class::DEFAULT).unwrap();
        assert!(!format!("{id:?} {:?}", id.public_id()).contains(id.expose()));
    }
}
