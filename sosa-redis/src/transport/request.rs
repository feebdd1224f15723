//! Requests: whether they were sent, may be sent again, and may have been applied.

use std::sync::atomic::{AtomicBool, Ordering};

use redis::{Cmd, Pipeline, RedisError};
use sosa::Outcome;

/// A request, sent in one go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request<'a> {
    Command(&'a Cmd),
    /// Its answer is the array of all answers.
    Commands(&'a Pipeline),
}

/// Whether a request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// It changes nothing.
    Read,
    /// Applied twice, it changes the same as once.
    Idempotent,
    /// It must not be applied twice.
    Never,
}

/// How far a request got that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It was not sent.
    NotSent,
    /// The server executed a part of it, and refused the rest.
    RefusedInPart,
    /// It was sent, and the connection was lost before the answer.
    Lost,
    /// It was sent, and there was no answer in time.
    Late,
    /// It was sent, and its connection has answered no request for a part of the time.
    Silent,
    /// It was sent, and failed in the driver: the answer cannot be read, for example.
    Failed,
}

impl Delivery {
    /// Returns whether the data may have been changed.
    pub(crate) fn outcome(self, retry: Retry) -> Outcome {
        match (self, retry) {
            (_, Retry::Read) | (Self::NotSent, _) => Outcome::NotApplied,
            (Self::RefusedInPart | Self::Lost | Self::Late | Self::Silent | Self::Failed, _) => Outcome::Unknown,
        }
    }

    /// Returns whether the request is sent again, once: the connection may have ended long ago, which shows only when it
    /// is used.
    pub(crate) fn is_repeated(self, retry: Retry) -> bool {
        matches!(self, Self::Lost | Self::Silent) && retry != Retry::Never
    }
}

/// A request that got no answer, and why.
#[derive(Debug)]
pub(crate) struct Undelivered {
    pub(crate) delivery: Delivery,
    pub(crate) error: RedisError,
}

impl Undelivered {
    pub(crate) fn new(delivery: Delivery, error: RedisError) -> Self {
        Self { delivery, error }
    }
}

/// Whether a request in flight was sent, for a caller that stops waiting for it.
#[derive(Default)]
pub(crate) struct Track(AtomicBool);

impl Track {
    pub(crate) fn is_sent(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set_sent(&self, is_sent: bool) {
        self.0.store(is_sent, Ordering::Relaxed);
    }

    /// Returns how far the request got if it is waited for no longer.
    pub(crate) fn late(&self) -> Delivery {
        if self.is_sent() { Delivery::Late } else { Delivery::NotSent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Delivery of a request, as the README tells it, and the outcome of a write.
    const TABLE: [(&str, Delivery, &str); 6] = [
        ("it was not sent: nothing listens, no connection in time", Delivery::NotSent, "not applied"),
        ("the server refused a part of it", Delivery::RefusedInPart, "unknown"),
        ("the connection was lost before the answer", Delivery::Lost, "unknown"),
        ("no answer in time", Delivery::Late, "unknown"),
        ("no answer for half of the time, from a connection that answers nobody", Delivery::Silent, "unknown"),
        ("an answer that cannot be read, another failure of the driver's", Delivery::Failed, "unknown"),
    ];

    #[test]
    fn the_readme_says_what_may_have_been_applied_and_what_is_sent_again() {
        let readme = include_str!("../../README.md");
        for (what, delivery, of_a_write) in TABLE {
            for retry in [Retry::Idempotent, Retry::Never] {
                let is_unknown = delivery.outcome(retry) == Outcome::Unknown;
                assert_eq!(if is_unknown { "unknown" } else { "not applied" }, of_a_write, "{delivery:?}, {retry:?}");
            }
            assert_eq!(delivery.outcome(Retry::Read), Outcome::NotApplied);
            let again = [Retry::Read, Retry::Idempotent, Retry::Never].map(|retry| delivery.is_repeated(retry));
            let again = match again {
                [true, true, false] => "a load, a listing",
                [false, false, false] => "nothing",
                other => panic!("{other:?}"),
            };
            let line = format!("| {what} | {of_a_write} | {again} |\n");
            assert!(readme.contains(&line), "{line}");
        }
    }
}
