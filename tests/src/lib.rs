//! What the tests of the whole share: servers as processes, the `rest` example as another, and a client
//! that can send what no well-behaved client would.

mod client;
mod log;
mod redis;
mod rest;

pub use client::{Client, Response};
pub use log::Log;
pub use redis::Redis;
pub use rest::Rest;

/// The README's programs, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
