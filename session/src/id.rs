//! The secret that a cookie carries, and the public handle under which its record is stored.

use std::fmt;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use sosa::MAX_ID_LEN;

use crate::error::{Error, ErrorKind, Result};

/// A session's id: 24 random bytes as base64url, 32 characters. Whoever has it has the session.
///
/// One that a program with Express has made may be any text.
#[derive(Clone)]
pub(crate) struct SessionId {
    text: Text,
    /// Computed when it is first asked for.
    handle: OnceLock<Handle>,
}

#[derive(Clone)]
enum Text {
    // Without an allocation, since each request with a session makes one.
    Ours([u8; ID_LEN]),
    Any(Box<str>),
}

const RANDOM_BYTES: usize = 24;
const ID_LEN: usize = 32;

impl SessionId {
    /// How many characters one of ours has.
    pub(crate) const LEN: usize = ID_LEN;

    /// Makes a new id from the system's random source.
    pub(crate) fn random() -> Result<Self> {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes)
            .map_err(|error| Error::new(ErrorKind::Random, "the system's random source failed").with_source(error))?;
        let mut text = [0; ID_LEN];
        URL_SAFE_NO_PAD.encode_slice(bytes, &mut text).expect("24 bytes are 32 characters of base64");
        Ok(Self::new(Text::Ours(text)))
    }

    /// Reads what a cookie says. Whatever cannot be one of our ids is `None`, so that it costs no
    /// call of the store.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        // Without a way out of the loop, so that it looks at many bytes at once.
        let is_ours = |byte: &u8| byte.is_ascii_alphanumeric() | (*byte == b'-') | (*byte == b'_');
        let text: [u8; ID_LEN] = value.try_into().ok()?;
        text.iter().fold(true, |ours, byte| ours & is_ours(byte)).then(|| Self::new(Text::Ours(text)))
    }

    /// Takes an id that a key has signed, as it is. What no collection takes is `None`.
    pub(crate) fn signed(id: &str) -> Option<Self> {
        (1..=MAX_ID_LEN).contains(&id.len()).then(|| Self::new(Text::Any(id.into())))
    }

    /// Returns whether both are the same. It compares what one request came with, and tells nobody how far they agree.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }

    fn new(text: Text) -> Self {
        Self { text, handle: OnceLock::new() }
    }

    /// Returns the secret itself, for the cookie alone.
    pub(crate) fn expose(&self) -> &str {
        match &self.text {
            Text::Ours(text) => std::str::from_utf8(text).expect("base64 is ASCII"),
            Text::Any(text) => text,
        }
    }

    pub(crate) fn handle(&self) -> Handle {
        *self.handle.get_or_init(|| {
            let mut text = [0; HANDLE_LEN];
            URL_SAFE_NO_PAD
                .encode_slice(Sha256::digest(self.expose()), &mut text)
                .expect("32 bytes are 43 characters of base64");
            Handle(text)
        })
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(..)")
    }
}

/// Where the record of a session is stored: what the store calls it. It prints as the handle.
#[derive(Clone)]
pub(crate) enum Place {
    /// Under the hash of its id.
    Hashed(Handle),
    /// Under the id itself, as Express does it.
    Plain(SessionId),
}

impl Place {
    /// Returns the key, which may be a secret.
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Hashed(handle) => handle.as_str(),
            Self::Plain(id) => id.expose(),
        }
    }

    pub(crate) fn handle(&self) -> Handle {
        match self {
            Self::Hashed(handle) => *handle,
            Self::Plain(id) => id.handle(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle().fmt(f)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.handle(), f)
    }
}

/// The public name of a session: the SHA-256 of its id, as base64url, 43 characters.
///
/// It is safe to show and to log, since no cookie can be made from it. The session's record is stored under
/// it, so that a store or a backup that leaks opens no session; but for sessions that are shared with
/// Express, which keeps them under their ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle([u8; HANDLE_LEN]);

const HANDLE_LEN: usize = 43;

impl Handle {
    /// Returns the handle as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a handle is ASCII")
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.is_ascii().then(|| text.as_bytes().try_into().ok().map(Self))?
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored records are found by this: a change logs everybody out.
    #[test]
    fn golden_handle() {
        let id = SessionId::parse(b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYX").unwrap();
        assert_eq!(id.handle().as_str(), GOLDEN);
        assert_eq!(Handle::parse(GOLDEN), Some(id.handle()));
    }

    const GOLDEN: &str = "v_yzzErpsb4YZGvkopAiMyhfCec-ZLiKghyU_t94hGI";

    #[test]
    fn ids_are_new_and_can_be_read_back() {
        let (one, other) = (SessionId::random().unwrap(), SessionId::random().unwrap());
        assert!(one.expose() != other.expose());
        assert_eq!(SessionId::parse(one.expose().as_bytes()).unwrap().handle(), one.handle());
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let id = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
        for value in [&id[1..], &format!("{id}A"), "", &id.replace('A', "+"), &id.replace("AA", "é")] {
            assert!(SessionId::parse(value.as_bytes()).is_none(), "{value}");
        }
    }

    #[test]
    fn debug_shows_no_id() {
        let id = SessionId::random().unwrap();
        assert!(!format!("{id:?} {:?}", id.handle()).contains(id.expose()));
    }
}
