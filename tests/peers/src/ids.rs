//! Ids like those of sessions, made from numbers, so that no list of millions has to be held.

use std::ops::Range;

use fastrand::Rng;

/// How long an id is.
pub const LENGTH: usize = 43;

/// Returns the id of a number: base64url in no order, as the handle of a session is.
pub fn id(n: u64) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = Rng::with_seed(n);
    (0..LENGTH).map(|_| char::from(DIGITS[random.usize(..64)])).collect()
}

/// Draws ids out of those of a range, some perhaps more than once.
pub fn some_of(numbers: Range<u64>, count: usize) -> Vec<String> {
    (0..count).map(|_| id(fastrand::u64(numbers.clone()))).collect()
}

/// Returns all ids of a range.
pub fn all_of(numbers: Range<u64>) -> Vec<String> {
    numbers.map(id).collect()
}

/// Draws places in the order of ids behind which more than a third of them lie.
pub fn places(count: usize) -> Vec<String> {
    // Lower case comes last.
    (0..).map(|_| id(fastrand::u64(..))).filter(|id| id.as_bytes()[0] <= b'Z').take(count).collect()
}
