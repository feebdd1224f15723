//! Signed cookies, as npm's cookie-signature writes them for Express.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::{env, fs};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, ErrorKind, Result};

/// A secret that cookies are signed with.
///
/// A signed cookie is `s:<id>.<signature>`, percent-encoded, where the signature is the HMAC-SHA256 of the
/// id as base64 without padding: the format of npm's cookie-signature. A cookie whose signature does not fit
/// costs no call of the store.
///
/// Nothing prints a key. Of several the first signs and all verify; to rotate, put the new one first, and
/// remove the old one when the cookies that it signed have ended.
///
/// ```
/// use sosa_session::{SessionOptions, Sessions, SigningKey};
///
/// # fn example() -> sosa_session::Result<()> {
/// let keys = [SigningKey::from_env("SESSION_KEY")?, SigningKey::from_file("session.key.old")?];
/// let sessions = Sessions::new(SessionOptions::memory().signed(keys));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SigningKey {
    mac: Hmac<Sha256>,
    length: usize,
}

impl SigningKey {
    /// The least bytes that a key of one's own has: as many as the hash.
    pub const MIN_LEN: usize = 32;

    /// Takes a key: random bytes, or text that nobody can guess. `openssl rand -base64 32` makes one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Options`] if it has less than [`MIN_LEN`](Self::MIN_LEN) bytes.
    pub fn new(key: impl AsRef<[u8]>) -> Result<Self> {
        let key = Self::of_any_length(key.as_ref());
        key.check(Self::MIN_LEN).map(|()| key)
    }

    /// Takes a key from an environment variable, as it stands there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Options`] if the variable is not set, is no text, or is too short.
    pub fn from_env(variable: &str) -> Result<Self> {
        let key = env::var(variable).map_err(|error| {
            // The error holds what the variable says.
            let why = if error == env::VarError::NotPresent { "is not set" } else { "is no text" };
            Error::new(ErrorKind::Options, format!("the environment variable `{variable}` {why}"))
        })?;
        Self::new(key)
    }

    /// Takes a key from a file of text, without the line's end behind it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Options`] if the file cannot be read or is too short.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let key = fs::read(path).map_err(|error| {
            let message = format!("the key file `{}` cannot be read", path.display());
            Error::new(ErrorKind::Options, message).with_source(error)
        })?;
        let line = key.strip_suffix(b"\n").unwrap_or(&key);
        Self::new(line.strip_suffix(b"\r").unwrap_or(line))
    }

    fn of_any_length(key: &[u8]) -> Self {
        let mac = Hmac::new_from_slice(key).expect("an HMAC takes keys of any length");
        Self { mac, length: key.len() }
    }

    fn check(&self, least: usize) -> Result<()> {
        if self.length < least {
            let message = format!("a signing key has at least {least} bytes, and this one {}", self.length);
            return Err(Error::new(ErrorKind::Options, message));
        }
        Ok(())
    }

    fn signature(&self, id: &str) -> [u8; SIGNATURE_LEN] {
        #[cfg(test)]
        SIGNATURES.with(|signatures| signatures.set(signatures.get() + 1));
        let mut mac = self.mac.clone();
        mac.update(id.as_bytes());
        let mut text = [0; SIGNATURE_LEN];
        STANDARD_NO_PAD
            .encode_slice(mac.finalize().into_bytes(), &mut text)
            .expect("32 bytes are 43 characters of base64");
        text
    }
}

/// A secret as Express takes it, of any length but zero. What is short can be guessed, and with it every
/// session: a key of one's own comes from [`SigningKey::new`].
impl From<&str> for SigningKey {
    fn from(secret: &str) -> Self {
        Self::of_any_length(secret.as_bytes())
    }
}

impl From<String> for SigningKey {
    fn from(secret: String) -> Self {
        Self::from(&*secret)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

#[cfg(test)]
thread_local! {
    /// How many signatures this thread has computed.
    pub(crate) static SIGNATURES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// The keys of a server: the first signs, all verify.
#[derive(Clone, Debug, Default)]
pub(crate) struct SigningKeys(Arc<[SigningKey]>);

/// An HMAC-SHA256 as base64 without padding.
const SIGNATURE_LEN: usize = 43;

/// What JavaScript's `encodeURIComponent` encodes.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

impl SigningKeys {
    /// Checks that there are keys, and that all have so many bytes.
    pub(crate) fn check(&self, least: usize) -> Result<()> {
        if self.0.is_empty() {
            return Err(Error::new(ErrorKind::Options, "there is no key to sign cookies with: give one or more"));
        }
        self.0.iter().try_for_each(|key| key.check(least))
    }

    /// Returns the cookie's value for an id.
    pub(crate) fn sign(&self, id: &str) -> Zeroizing<String> {
        let signature = self.0.first().expect("there is a key: the options were checked").signature(id);
        let signature = std::str::from_utf8(&signature).expect("base64 is ASCII");
        let mut signed = Zeroizing::new(String::with_capacity("s:.".len() + id.len() + signature.len()));
        signed.extend(["s:", id, ".", signature]);
        // Each byte is three at most.
        let mut written = Zeroizing::new(String::with_capacity(3 * signed.len()));
        written.extend(utf8_percent_encode(&signed, COMPONENT));
        written
    }

    /// Returns whether a cookie's value has the length and the beginning of a signed id of such a length, so that its
    /// signature is worth computing. Of each character one to three may be written.
    pub(crate) fn may_have_signed(value: &[u8], lengths: RangeInclusive<usize>) -> bool {
        let around = "s:".len() + ".".len() + SIGNATURE_LEN;
        (lengths.start() + around..=3 * (lengths.end() + around)).contains(&value.len()) && value[0] == b's'
    }

    /// Reads the id in a cookie's value, if one of the keys has signed it.
    ///
    /// The signature is compared as text, and never decoded: of the texts that decode to the same bytes only
    /// the one that is written counts.
    pub(crate) fn verify<R>(&self, value: &[u8], read: impl FnOnce(&str) -> Option<R>) -> Option<R> {
        let mut text = decode(value)?;
        let id = self.signed_id(&text).and_then(read);
        if let Cow::Owned(text) = &mut text {
            text.zeroize();
        }
        id
    }

    fn signed_id<'a>(&self, text: &'a str) -> Option<&'a str> {
        let (id, signature) = text.strip_prefix("s:")?.rsplit_once('.')?;
        let is_ours = self.0.iter().any(|key| bool::from(key.signature(id).as_slice().ct_eq(signature.as_bytes())));
        is_ours.then_some(id)
    }
}

impl FromIterator<SigningKey> for SigningKeys {
    fn from_iter<I: IntoIterator<Item = SigningKey>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

/// Decodes as JavaScript's `decodeURIComponent`: all of it, or, as where that throws, nothing.
fn decode(value: &[u8]) -> Option<Cow<'_, str>> {
    if !value.contains(&b'%') {
        return std::str::from_utf8(value).ok().map(Cow::Borrowed);
    }
    // What cannot be decoded is taken as it stands; then it holds no `s:` that we wrote.
    match unescape(value).map(String::from_utf8) {
        Some(Ok(text)) => Some(Cow::Owned(text)),
        _ => std::str::from_utf8(value).ok().map(Cow::Borrowed),
    }
}

/// Puts bytes in the place of their escapes; `None` if one is malformed.
fn unescape(value: &[u8]) -> Option<Vec<u8>> {
    let mut parts = value.split(|byte| *byte == b'%');
    let mut bytes = Vec::with_capacity(value.len());
    bytes.extend_from_slice(parts.next()?);
    for part in parts {
        let ([high, low], rest) = part.split_first_chunk()?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push((digit(*high)? << 4 | digit(*low)?) as u8);
        bytes.extend_from_slice(rest);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(keys: &[&str]) -> SigningKeys {
        keys.iter().map(|key| SigningKey::from(*key)).collect()
    }

    fn verified(keys: &SigningKeys, value: &[u8]) -> Option<String> {
        keys.verify(value, |id| Some(id.to_owned()))
    }

    const ID: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

    /// Cookies that are out there depend on this: a change logs everybody out.
    #[test]
    fn golden_cookie() {
        let golden = "s%3AZr2kQ0pV7yXb3mNc8dLwTg5sHj1fAe9u.UHckYv5hsUh3YGv4ETmcQJr7A%2Bz%2FzaUl6tJPKAGOtoQ";
        let keys = keys(&["keyboard cat"]);
        assert_eq!(*keys.sign("Zr2kQ0pV7yXb3mNc8dLwTg5sHj1fAe9u"), golden);
        assert_eq!(verified(&keys, golden.as_bytes()).as_deref(), Some("Zr2kQ0pV7yXb3mNc8dLwTg5sHj1fAe9u"));
    }

    #[test]
    fn the_first_key_signs_and_all_verify() {
        let (old, both, new) = (keys(&["old"]), keys(&["new", "old"]), keys(&["new"]));
        let (before, after) = (old.sign(ID), both.sign(ID));
        assert!(verified(&both, before.as_bytes()).is_some() && verified(&both, after.as_bytes()).is_some());
        assert!(verified(&new, before.as_bytes()).is_none() && verified(&new, after.as_bytes()).is_some());
        assert!(verified(&keys(&[]), before.as_bytes()).is_none());
    }

    #[test]
    fn keys_from_everywhere_are_checked_and_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let long = "0123456789abcdef0123456789abcdef";
        for (content, good) in
            [(long.to_owned(), true), (format!("{long}\n"), true), (format!("{}\r\n", &long[1..]), false)]
        {
            fs::write(&path, content).unwrap();
            assert_eq!(SigningKey::from_file(&path).is_ok(), good);
        }
        fs::write(&path, format!("{long}\r\n")).unwrap();
        let from_file = SigningKey::from_file(&path).unwrap();
        assert_eq!(from_file.signature(ID), SigningKey::new(long).unwrap().signature(ID));
        assert_eq!(format!("{from_file:?}"), "SigningKey(..)");
        let missing = SigningKey::from_file(directory.path().join("none")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::Options);
        let unset = SigningKey::from_env("SOSA_SESSION_TEST_UNSET").unwrap_err();
        assert_eq!(unset.to_string(), "the environment variable `SOSA_SESSION_TEST_UNSET` is not set");
        let short = SigningKey::new("keyboard cat").unwrap_err();
        assert!(!format!("{short} {short:?}").contains("keyboard"));
    }

    proptest! {
        #[test]
        fn what_is_signed_is_verified_and_nothing_near_it(id in "[^\u{0}]{1,40}", at: prop::sample::Index, byte: u8) {
            let keys = keys(&["one", "other"]);
            let signed = keys.sign(&id).as_bytes().to_vec();
            prop_assert_eq!(verified(&keys, &signed), Some(id));
            let mut bytes = signed.clone();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            // Another way to write the same text is the same cookie.
            if decode(&bytes) != decode(&signed) {
                prop_assert_eq!(verified(&keys, &bytes), None);
            }
        }

        #[test]
        fn any_bytes_are_refused(bytes: Vec<u8>) {
            prop_assert_eq!(verified(&keys(&["one"]), &bytes), None);
        }
    }
}
