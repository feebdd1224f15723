//! How values become the bytes that a backend stores.

use std::fmt;

use crate::{ErrorKind, Key, Model, Result, json_error, to_json};

/// Turns values into bytes and back.
///
/// It sees the key, so that a codec may bind a value to its place: one that encrypts can
/// authenticate the key, and a value that was moved elsewhere no longer decodes.
///
/// # Contract
///
/// `decode` of what `encode` made for the same key gives an equal value, and equal values should
/// give equal bytes. Errors hold no id and no value.
pub trait Codec<T>: fmt::Debug + Send + Sync + 'static {
    /// Encodes a value.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Encode`] if the value has no encoding, or one that would not give it back.
    fn encode(&self, key: &Key<'_>, value: &T) -> Result<Vec<u8>>;

    /// Decodes what is stored under the key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] if the bytes are no value of this type.
    fn decode(&self, key: &Key<'_>, bytes: &[u8]) -> Result<T>;
}

/// JSON by `serde_json`, the default: other programs read and write it.
///
/// It encodes by [`to_json`], which refuses what `serde_json` writes and does not give back, such as NaN and
/// `Some(None)`: better an error when the value is saved than a good value lost.
///
/// ```
/// use sosa::{Codec, Json, Keyspace};
///
/// let place = Keyspace::new("myapp", "scores");
/// let key = place.key("ada")?;
/// assert_eq!(Json.encode(&key, &vec![1, 2])?, b"[1,2]");
/// let error = Json.encode(&key, &f64::NAN).unwrap_err();
/// assert_eq!(error.to_string(), "the value has no JSON form: a float is NaN or infinite");
/// let error = Codec::<u32>::decode(&Json, &key, b"\"a secret\"").unwrap_err();
/// assert_eq!(error.to_string(), "the JSON has another type than asked (line 1, column 10)");
/// # Ok::<(), sosa::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl<T: Model> Codec<T> for Json {
    fn encode(&self, _key: &Key<'_>, value: &T) -> Result<Vec<u8>> {
        to_json(value)
    }

    fn decode(&self, _key: &Key<'_>, bytes: &[u8]) -> Result<T> {
        serde_json::from_slice(bytes).map_err(|error| json_error(ErrorKind::Decode, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keyspace;
    use std::collections::BTreeMap;
    use std::error::Error as _;

    #[test]
    fn errors_hold_no_value() {
        let place = Keyspace::new("p", "n");
        let key = place.key("id").unwrap();
        for bytes in [&b"\"secret\""[..], b"{\"secret\":", b"secret", b""] {
            let error = Codec::<u32>::decode(&Json, &key, bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode);
            assert!(!format!("{error} {error:?}").contains("secret"));
            assert!(error.source().is_none());
        }
        let no_text_keys = BTreeMap::from([((1, 2), "secret".to_owned())]);
        let error = Json.encode(&key, &no_text_keys).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the value has no JSON form: a map has a key that is no text, finite number or bool"
        );
    }
}
