//! Ids for entries that have no name of their own.

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
