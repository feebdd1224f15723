//! What all visitors of a store did, and what went wrong.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a request is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Read,
    Write,
    LogIn,
    StartOver,
    LogOut,
    LeaveBehind,
    /// With a cookie whose session has ended, one way or another.
    ComeLate,
}

/// All of them, and their names.
pub const COUNTED: [(Request, &str); 7] = [
    (Request::Read, "reads, all of the session compared"),
    (Request::Write, "writes"),
    (Request::LogIn, "logins, with a new id"),
    (Request::StartOver, "sessions begun"),
    (Request::LogOut, "logouts"),
    (Request::LeaveBehind, "sessions left to expire"),
    (Request::ComeLate, "requests with the cookie of one that ended"),
];

#[derive(Default)]
pub struct Tally {
    /// Tells the visitors to go.
    pub stop: AtomicBool,
    /// How many sessions visitors have, those that were left and have not expired included.
    pub live: AtomicU64,
    counts: [AtomicU64; COUNTED.len()],
    errors: AtomicU64,
    lost: AtomicU64,
}

/// How many errors are printed.
const PRINTED: u64 = 20;

impl Tally {
    pub fn add(&self, request: Request) {
        self.counts[request as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn fail(&self, error: impl Display) {
        if self.errors.fetch_add(1, Ordering::Relaxed) < PRINTED {
            println!("error: {error}");
        }
    }

    /// Notes a session that is not what it must be.
    pub fn lose(&self, what: &str) {
        if self.lost.fetch_add(1, Ordering::Relaxed) < PRINTED {
            println!("lost: {what}");
        }
    }

    pub fn count(&self, request: Request) -> u64 {
        self.counts[request as usize].load(Ordering::Relaxed)
    }

    pub fn requests(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Returns how many errors there were, and how many sessions that were lost or did not end.
    pub fn wrong(&self) -> (u64, u64) {
        (self.errors.load(Ordering::Relaxed), self.lost.load(Ordering::Relaxed))
    }
}
