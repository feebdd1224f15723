//! What the tests of the whole share: the `rest` example as a process, and a client that can send
//! what no well-behaved client would.

mod client;
mod log;
mod rest;

pub use client::{Client, Response};
pub use log::Log;
pub use rest::Rest;

/// The README's programs, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
