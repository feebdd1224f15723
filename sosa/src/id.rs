//! Ids for entries that have no name of their own, and names of ids for logs.

use sha2::{Digest, Sha256};

/// Makes a new id: a UUID of version 7 (RFC 9562), 36 characters.
///
/// It starts with the time in milliseconds, and ids of one process ascend even within one, so that
/// listing by id is listing by insertion. It tells when it was made and is not a secret.
///
/// ```
/// let (first, second) = (sosa::new_id(), sosa::new_id());
/// assert!(first < second);
/// ```
pub fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Returns a name of an id that may be logged: in some collections an id is a secret.
///
/// It is the first 16 bytes of the id's SHA-256 hash, as 32 hexadecimal digits: as long as a trace id, and long
/// enough that nobody finds two ids of one name. What `printf %s ID | sha256sum` prints starts with it.
///
/// It hides an id that nobody can guess, such as one made at random. Who guesses an id can see that the guess
/// is right, so a short id, a number or an e-mail address is not hidden.
///
/// ```
/// assert_eq!(sosa::log_id("abc"), "ba7816bf8f01cfea414140de5dae2223");
/// ```
pub fn log_id(id: &str) -> String {
    let hash = Sha256::digest(id);
    hash[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// People look for these names in logs: they must not change.
    #[test]
    fn golden_log_ids() {
        // As `sha256sum` has them.
        assert_eq!(log_id(""), "e3b0c44298fc1c149afbf4c8996fb924");
        assert_eq!(log_id("foobar"), "c3ab8ff13720e8ad9047dd39466b3c89");
        assert_eq!(log_id("zoë\0🙂"), "8d1c1f8e9726805ad7b30b3f625ba465");
    }
}
